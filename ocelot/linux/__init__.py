"""The kernel as ocelot sees it: system calls, the mount table, the kernel log."""
