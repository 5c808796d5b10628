"""Modules that packages import at their top and that next to nobody uses: imported when the first name of them is asked for.

trio imports ``ssl``, and ``hmac`` with all of ``hashlib``, for streams that only https probes open. With them comes OpenSSL: a
sixth of the memory of a supervisor, and 15 ms of its start. ``idna`` is for host names that are not ASCII, ``unicodedata`` for
classes of attrs whose fields are not. ``ctypes.util`` is asked by trio for one library, and brings subprocess, tempfile and three
compressions. msgspec takes from ``typing_extensions`` what Python has itself by now. ``importlib.util.LazyLoader`` defers
modules too, but costs an import itself.

Only on a desk: a runtime of ours has stand-ins instead (``ocelot.image.runtime``), and this module stays out of it. There a library
that is looked for by its name could be that of another root.
"""

import os
import sys
from types import ModuleType

NAMES = ("ssl", "hmac", "idna", "unicodedata")
_HIDDEN = "typing_extensions"


def defer() -> None:
    """From now on, ``import ssl`` gives a module that is loaded when it is used; one that is loaded already stays.

    Until :func:`imported`, ``import typing_extensions`` is an ImportError.
    """
    for name in NAMES:
        if name not in sys.modules:
            sys.modules[name] = _Deferred(name)
    if "ctypes.util" not in sys.modules:
        from ocelot.linux import syscalls  # noqa: F401 (which is the one to import ctypes)

        # a module that is there already is not made an attribute of its package by an import
        sys.modules["ctypes.util"] = sys.modules["ctypes"].util = _CtypesUtil("ctypes.util")  # type: ignore[attr-defined]
    sys.modules.setdefault(_HIDDEN, None)  # type: ignore[arg-type]


def imported() -> None:
    """The imports of the start are done."""
    if sys.modules.get(_HIDDEN, sys) is None:
        del sys.modules[_HIDDEN]


class _Deferred(ModuleType):
    """A module that becomes the real one. Raises ImportError, when it is used, if there is no such module."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)  # the import machinery and inspect look for these: that is no use
        own = self.__name__
        if sys.modules.get(own) is self:
            del sys.modules[own]
        try:
            __import__(own)
            real = sys.modules[own]
        except BaseException:
            sys.modules[own] = self
            raise
        vars(self).update(vars(real))
        return getattr(real, name)


class _CtypesUtil(_Deferred):
    """``ctypes.util``, whose ``find_library`` would run ldconfig for what trio wants to know: where threads get their names."""

    def find_library(self, name: str) -> str | None:
        """The file name of a library, None if it is not found."""
        if name == "pthread" and _is_glibc():
            return "libpthread.so.0"
        found: str | None = self.__getattr__("find_library")(name)  # type: ignore[operator]
        return found


def _is_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (OSError, ValueError):
        return False
