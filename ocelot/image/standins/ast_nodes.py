"""Stands in for ``ast``, which is 45 ms of importing: from Python 3.14 on annotationlib makes some operator nodes when it is loaded.

Nodes (``Add``) can be made, and hold nothing. Functions (``parse``) are classes whose making says what is missing, as in ``absent``.
"""

from __future__ import annotations


class AST:
    def __init__(self, *args: object, **kwargs: object) -> None: ...


class Absent(Exception):
    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(f"{type(self).__module__}.{type(self).__name__} is not part of this runtime")


def __getattr__(name: str) -> type[AST] | type[Absent]:
    if name.startswith("__"):
        raise AttributeError(name)
    made: type[AST] | type[Absent] = type(name, (AST if name[:1].isupper() else Absent,), {"__module__": __name__})
    globals()[name] = made
    return made
