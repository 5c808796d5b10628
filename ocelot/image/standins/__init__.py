"""Modules that take the place of standard ones in a runtime, because the real ones cost much and are never used there.

They are installed under other names and never imported from here.
"""
