"""Stands in for ``attr.validators``: of its many classes, each made when it is imported, one is used here, by outcome."""

from __future__ import annotations


class instance_of:  # noqa: N801 (as it is called there)
    __slots__ = ("type",)

    def __init__(self, type: type) -> None:
        self.type = type

    def __call__(self, instance: object, attribute: object, value: object) -> None:
        if not isinstance(value, self.type):
            raise TypeError(f"{value!r} is not {self.type!r}")


def __getattr__(name: str) -> object:
    raise AttributeError(f"attr.validators.{name} is not part of this runtime")
