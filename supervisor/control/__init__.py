"""The control socket: who may come in, what may be asked, and who does it."""
