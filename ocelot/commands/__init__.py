"""What ``ocelot`` can do, one module a group of commands.

Each has ``add``, which adds its commands to the tree; ``run`` of a command's options is its function. ``ocelot.cli`` imports the
module of the command that was called, and each function what it needs when it runs.
"""
