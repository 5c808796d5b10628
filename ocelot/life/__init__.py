"""PID 1's life, a chapter a module; ``ocelot.pid1`` tells the story."""
