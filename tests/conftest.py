"""What all unit tests share."""

from __future__ import annotations

from hypothesis import settings

# A busy machine must not fail a test that is right: how long one example takes is no property of the code.
settings.register_profile("ocelot", deadline=None)
settings.load_profile("ocelot")
