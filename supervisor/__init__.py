"""Processes: spawn, reap, restart, probe, log, control, measure."""
