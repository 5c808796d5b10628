"""What all records of the configuration are made of: the base record and the kinds of scalars."""

from typing import Annotated

from msgspec import Meta, Struct

Duration = Annotated[float, Meta(extra={"format": "duration"})]
"""Seconds. In the file: humantime text such as ``1m 30s``, ``250ms``, ``1.5s``."""

Size = Annotated[int, Meta(extra={"format": "size"})]
"""Bytes. In the file: ``10MB``, ``512KiB`` or a plain number."""

Mode = Annotated[int, Meta(extra={"format": "mode"})]
"""Permission bits. In the file: octal, with or without the leading zero, quoted or not."""

SignalNumber = Annotated[int, Meta(extra={"format": "signal"})]
"""A signal number. In the file: ``SIGTERM``, ``TERM``, 15, or the ``{type, value}`` forms."""

LimitValue = Annotated[int, Meta(extra={"format": "limit"})]
"""A resource limit, -1 for none. In the file: a number, a size, or ``unlimited``."""

Cpus = Annotated[float, Meta(extra={"format": "cpus"})]
"""Processors' worth of time. In the file: ``1.5``, or ``150%``."""

Text = Annotated[str, Meta(extra={"format": "text"})]
"""Text that keeps the scalar's source: ``6379``, ``on`` and ``0644`` stay as they are written."""


class Base(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What every record of the configuration has in common."""
