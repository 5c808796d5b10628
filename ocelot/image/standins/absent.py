"""Stands in for a module that a package imports at its top and uses only in functions that ocelot never calls.

Every name of it is a class, so that ``from ssl import SSLContext``, base classes, annotations and ``except`` clauses
work; making an instance says what is missing.
"""

from __future__ import annotations


class Absent(Exception):
    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(f"{type(self).__module__}.{type(self).__name__} is not part of this runtime")


def __getattr__(name: str) -> type[Absent]:
    if name.startswith("__"):
        raise AttributeError(name)
    made = type(name, (Absent,), {"__module__": __name__})
    globals()[name] = made
    return made
