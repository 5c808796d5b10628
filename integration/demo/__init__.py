"""The demonstration: a web server, a process that crashes, a oneshot, in a microVM whose PID 1 is ocelot."""
