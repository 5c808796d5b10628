"""What processes write: from their pipes to files, syslog, the kernel log, the console, and to who reads along."""
