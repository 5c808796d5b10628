"""Stands in for ``platform``, which compiles regular expressions about other systems when it is imported.

attrs asks which Python this is; psutil and prometheus-client ask about the machine.
"""

from __future__ import annotations

import os
import sys


def python_implementation() -> str:
    return "CPython"


def python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def python_version_tuple() -> tuple[str, ...]:
    return tuple(map(str, sys.version_info[:3]))


def system() -> str:
    return os.uname().sysname


def release() -> str:
    return os.uname().release


def machine() -> str:
    return os.uname().machine


def node() -> str:
    return os.uname().nodename
