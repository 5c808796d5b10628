"""What ``ocelotctl`` can do, one module a group of commands.

Each has ``COMMANDS``: by the name of a command, what adds its arguments to a parser and sets ``run``. ``ocelot.ctl`` holds the
tree and imports the module of the command that was called, and no other.
"""
