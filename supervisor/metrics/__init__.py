"""Figures for Prometheus, read when it asks."""
