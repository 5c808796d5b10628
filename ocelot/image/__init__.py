"""Builds what PID 1 runs in: the runtime folder and the initramfs. Runs on a desk, never in PID 1."""
