"""Children: spawned, signalled, reaped, and what they may do and use."""
