"""Reading an ``environmentFile``: lines of ``KEY=value``.

The dialect is the one that `docker --env-file` and systemd share: blank lines and lines that start with ``#`` mean nothing, a
leading ``export`` is allowed, nothing is expanded. A value that is quoted as a whole loses its quotes; within double quotes
backslash escapes ``\\"``, ``\\\\``, ``\\$`` and ``\\n``. Everything else is taken as it stands.
"""

from __future__ import annotations

import errno
import os
import stat

import trio

from ocelot.errors import SpawnError
from ocelot.linux.threads import make_sure_of_room

TIMEOUT = 10.0
_LIMIT = 1 << 20
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\", "$": "$", "`": "`"}


async def read_environment_file(path: str, timeout: float = TIMEOUT) -> dict[str, str]:
    """The variables in the file. Raises SpawnError, which names the line, or the file that cannot be read within ``timeout`` seconds."""
    try:
        make_sure_of_room()
        with trio.move_on_after(timeout):
            data = await trio.to_thread.run_sync(_read, path, abandon_on_cancel=True, limiter=_limiters()[path])
            return parse(data, path)
    except OSError as error:
        raise SpawnError(
            f'cannot read the environment file "{path}": {error.strerror}',
            step="environmentFile",
            errno=error.errno or 0,
        ) from error
    except RuntimeError as error:  # what threading makes of EAGAIN
        raise SpawnError(
            f'cannot read the environment file "{path}": {error}',
            hint="check the pids limit, RLIMIT_NPROC and the free memory",
            step="fork",
            errno=errno.EAGAIN,
        ) from error
    raise SpawnError(
        f'cannot read the environment file "{path}": no answer within {timeout:g}s', step="environmentFile"
    )


def parse(data: bytes, path: str) -> dict[str, str]:
    """Raises SpawnError for a line that is not ``KEY=value``."""
    variables = {}
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.removeprefix("export ").lstrip().partition("=")
        if not equals or not key or any(c.isspace() or c == "\0" for c in key) or "\0" in value:
            raise SpawnError(
                f'cannot read the environment file "{path}": line {number} is not KEY=value',
                hint="write one KEY=value a line",
                step="environmentFile",
            )
        variables[key] = _unquoted(value)
    return variables


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) < 2 or not value[0] == value[-1] == '"':
        return value
    parts = value[1:-1].split("\\")
    text = parts[0]
    rest = iter(parts[1:])
    for part in rest:
        if part:
            text += _ESCAPES.get(part[0], "\\" + part[0]) + part[1:]
        else:  # a backslash before a backslash: the next part is plain text
            text += "\\" + next(rest, "")
    return text


def is_reading() -> bool:
    """Whether a file is being read, or does not answer."""
    return any(limiter.borrowed_tokens for limiter in _limiters().values())


class _Limiters(dict[str, trio.CapacityLimiter]):
    """One thread a path: of each file that does not answer a single one hangs, however often its processes are started."""

    def __missing__(self, path: str) -> trio.CapacityLimiter:
        self[path] = trio.CapacityLimiter(1)
        return self[path]


def _limiters() -> _Limiters:
    try:
        return _shared.get()
    except LookupError:
        _shared.set(_Limiters())
        return _shared.get()


_shared: trio.lowlevel.RunVar[_Limiters] = trio.lowlevel.RunVar("threads that read environment files")


def _read(path: str) -> bytes:
    with open(path, "rb", opener=_open) as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise OSError(27, "File too large", path)
    return data


def _open(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ESPIPE, "it is a fifo, whose writer might never come", path)
    os.set_blocking(fd, True)
    return fd
