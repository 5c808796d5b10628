"""ocelot: an init for microVMs and containers.

One process boots the machine, lives on as PID 1, supervises, answers on a control socket and powers off in order.
"""

__version__ = "0.1.0"
