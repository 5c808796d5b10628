"""Reading an ``environmentFile``: lines of ``KEY=value``.

The dialect is the one that `docker --env-file` and systemd share: blank lines and lines that start with ``#`` mean nothing, a
leading ``export`` is allowed, nothing is expanded. A value that is quoted as a whole loses its quotes; within double quotes
backslash escapes ``\\"``, ``\\\\``, ``\\$`` and ``\\n``. Everything else is taken as it stands.
"""

from __future__ import annotations

import errno

import trio

from ocelot.errors import SpawnError
from ocelot.linux.threads import make_sure_of_room

TIMEOUT = 10.0
_LIMIT = 1 << 20
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\", "$": "$", "`": "`"}


async def read_environment_file(path: str) -> dict[str, str]:
    """The variables in the file. Raises SpawnError, which names the line, or the file that cannot be read."""
    try:
        make_sure_of_room()
        with trio.move_on_after(TIMEOUT):
            return parse(await trio.to_thread.run_sync(_read, path, abandon_on_cancel=True), path)
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
        f'cannot read the environment file "{path}": no answer within {TIMEOUT:g}s', step="environmentFile"
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


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise OSError(27, "File too large", path)
    return data
