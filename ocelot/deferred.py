"""Modules that packages import at their top and that next to nobody uses: imported when the first name of them is asked for.

trio imports ``ssl``, and ``hmac`` with all of ``hashlib``, for streams that only https probes open. With them comes OpenSSL: a
sixth of the memory of a supervisor, and 15 ms of its start. ``importlib.util.LazyLoader`` does the same, but costs an import itself.

A runtime of ours needs none of this: it has stand-ins instead (``ocelot.image.runtime``).
"""

import sys
from types import ModuleType

NAMES = ("ssl", "hmac")


def defer() -> None:
    """From now on, ``import ssl`` gives a module that is loaded when it is used; one that is loaded already stays."""
    for name in NAMES:
        if name not in sys.modules:
            sys.modules[name] = _Deferred(name)


class _Deferred(ModuleType):
    """A module that becomes the real one. Raises ImportError, when it is used, if there is no such module."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import machinery and inspect look for these; they are not a use
            raise AttributeError(name)
        own = self.__name__
        if sys.modules.get(own) is self:
            del sys.modules[own]
        try:
            real = __import__(own)
        except BaseException:
            sys.modules[own] = self
            raise
        vars(self).update(vars(real))
        return getattr(real, name)
