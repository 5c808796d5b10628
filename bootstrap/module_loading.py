"""Load one module file, compressed or not, and say what is wrong when the kernel refuses it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bootstrap.module_order import module_name, parse_dep
from ocelot.errors import OcelotError
from ocelot.linux import syscalls
from ocelot.linux.kmsg import Tail

COMPRESSION = "/sys/module/compression"
"""Which compression the kernel itself undoes (Linux 5.17, CONFIG_MODULE_DECOMPRESS); absent if none."""

_INIT_COMPRESSED_FILE = 4  # finit_module(2)
_KERNEL_NAMES = {".xz": "xz", ".gz": "gzip", ".zst": "zstd"}
_UNKNOWN_SYMBOL = re.compile(r"Unknown symbol (\S+)")


@dataclass(frozen=True)
class Job:
    """One module to load: its path below the module directory, its file, its parameters."""

    path: str
    file: str
    parameters: str = ""


@dataclass
class Progress:
    """What a thread that loads modules tells about itself, and is told.

    ``done`` counts the jobs behind it. ``abandoned``: nobody waits any more, and another thread goes on with the rest.
    """

    done: int = 0
    abandoned: bool = False
    loaded: list[Job] = field(default_factory=list)
    failures: list[tuple[str, OcelotError]] = field(default_factory=list)


def load_all(
    jobs: Sequence[Job], progress: Progress, load: Callable[[str, str], None], dep_text: str | None = None
) -> None:
    """Load ``jobs`` in order, those that fail aside. Raises nothing. Blocks."""
    with Tail() as tail:
        for job in jobs:
            try:
                if not is_loaded(module_name(job.path)):
                    load(job.file, job.parameters)
                    progress.loaded.append(job)
            except OcelotError as error:
                failure: OcelotError | None = error
            except OSError as error:
                failure = explain(job.file, error, tail.lines(limit=20), dep_text)
            else:
                failure = None
            if progress.abandoned:
                return
            if failure is not None:
                progress.failures.append((job.path, failure))
            progress.done += 1


def is_loaded(name: str) -> bool:
    """Whether the module is in the kernel: loaded, or built in with parameters."""
    return os.path.exists(f"/sys/module/{name}/initstate")


def load(path: str, parameters: str = "") -> None:
    """Load the module file at ``path``. One that is loaded already is fine. Raises OSError, OcelotError. Blocks."""
    suffix = os.path.splitext(path)[1]
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if suffix not in _KERNEL_NAMES:
            syscalls.finit_module(fd, parameters)
        elif kernel_decompresses(suffix):
            syscalls.finit_module(fd, parameters, _INIT_COMPRESSED_FILE)
        else:
            with os.fdopen(os.dup(fd), "rb") as file:
                image = decompress(file.read(), suffix, path)
            syscalls.init_module(image, parameters)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    finally:
        os.close(fd)


def kernel_decompresses(suffix: str, path: str = COMPRESSION) -> bool:
    """Whether the kernel takes files with ``suffix`` as they are."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() == _KERNEL_NAMES[suffix]
    except OSError:
        return False


def decompress(content: bytes, suffix: str, path: str) -> bytes:
    """The module in ``content``. Raises OcelotError if it is damaged, or if nothing here can read it."""
    try:
        return _DECOMPRESS[suffix](content)
    except ImportError:
        raise OcelotError(
            f'cannot decompress the module "{path}": neither the kernel nor this runtime reads {suffix}',
            hint="put the uncompressed .ko into the image: the same name in the configuration finds it",
        ) from None
    except OSError:
        raise
    except Exception as error:  # each library has an error type of its own for a damaged file
        raise OcelotError(f'cannot decompress the module "{path}": {error}') from error


def _xz(content: bytes) -> bytes:
    import lzma

    return lzma.decompress(content)


def _gzip(content: bytes) -> bytes:
    import zlib

    return zlib.decompress(content, 16 + zlib.MAX_WBITS)


def _zstd(content: bytes) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        import zstandard

        # zstd(1) in a pipe does not write the size into the frame, so the one-call interface would refuse it.
        stream = zstandard.ZstdDecompressor().decompressobj()
        image = bytes(stream.decompress(content))
        if not stream.eof:
            raise ValueError("it ends early") from None
        return image
    return bytes(zstd.decompress(content))


_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {".xz": _xz, ".gz": _gzip, ".zst": _zstd}


def explain(path: str, error: OSError, kernel_lines: Sequence[str] = (), dep_text: str | None = None) -> OcelotError:
    """Why the kernel refused the module at ``path``, with what it logged."""
    mine = [line for line in dict.fromkeys(kernel_lines) if line.replace("-", "_").startswith(f"{module_name(path)}:")]
    if error.errno == errno.EPERM and f"Module {module_name(path)} is blacklisted" in kernel_lines:
        cause = f'cannot load the module "{path}": the kernel command line forbids it'
        return OcelotError(cause, hint=f"remove {module_name(path)} from module_blacklist=, or from names")
    cause, hint = _cause(path, error.errno or 0, mine, dep_text)
    own = [line for line in mine if not _UNKNOWN_SYMBOL.search(line)]  # the cause names the symbols
    said = f"; the kernel says: {' | '.join(own)}" if own else ""
    return OcelotError(f'cannot load the module "{path}": {cause}{said}', hint=hint)


def _cause(path: str, number: int, kernel_lines: Sequence[str], dep_text: str | None) -> tuple[str, str]:
    if number == errno.ENOENT and not os.path.exists(path):
        return "there is no such file", ""
    if number in (errno.ENOENT, errno.EINVAL):
        symbols = [found.group(1) for line in kernel_lines if (found := _UNKNOWN_SYMBOL.search(line))]
        if symbols or number == errno.ENOENT:
            return _unknown_symbol(path, symbols, dep_text)
    if number == errno.ENOEXEC:
        return (
            "it is no module for this kernel",
            f"this kernel is {os.uname().release}: take the modules of that release",
        )
    if number == errno.ENODEV:
        return "it finds no device that it could drive", ""
    if number == errno.EPERM:
        return os.strerror(number), "loading modules needs CAP_SYS_MODULE, and a kernel that is not locked down"
    if number in (errno.EKEYREJECTED, errno.ENOKEY):
        return "the kernel does not accept its signature", "sign it with a key of this kernel"
    return os.strerror(number), ""


def _unknown_symbol(path: str, symbols: Sequence[str], dep_text: str | None) -> tuple[str, str]:
    cause = f"unknown symbol {', '.join(dict.fromkeys(symbols))}" if symbols else "unknown symbol"
    if dep_text is None:
        return cause, "it needs a module that is not loaded: list that before it, or give depFilePath a modules.dep"
    name = module_name(path)
    listed = next((needs for module, needs in parse_dep(dep_text).items() if module_name(module) == name), ())
    absent = [needed for needed in listed if not is_loaded(module_name(needed))]
    if absent:
        return f"{cause}, which comes from {' or '.join(absent)}", "add it to names, and to the image"
    return cause, "modules.dep names nothing more that it needs: is it of this kernel?"
