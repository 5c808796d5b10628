"""Whether processes are ready and alive: probes, and what they say about themselves."""
