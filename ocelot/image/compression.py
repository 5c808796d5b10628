"""Compressing an archive for the kernel, and recognising what was compressed.

The same input gives the same bytes: no names, no times, one thread. zstd is written at level 19, with a
smaller window; xz with CRC32, the only check that the kernel's decoder knows.
"""

from __future__ import annotations

import subprocess
from typing import Any, Literal

from ocelot.errors import OcelotError
from ocelot.image.elf import tool

Compression = Literal["zstd", "xz", "gzip", "none"]
COMPRESSIONS: tuple[Compression, ...] = ("zstd", "xz", "gzip", "none")
ZSTD_LEVEL = 19
ZSTD_WINDOW = 21
"""As a power of two: 2 MiB. The kernel takes as much memory while it unpacks, the moment when a small machine has least of it;
8 MiB, which the level would have, make the file 3% smaller."""

_MAGIC: dict[Compression, bytes] = {"zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ\0", "gzip": b"\x1f\x8b"}


def compress(data: bytes, how: Compression, *, level: int = ZSTD_LEVEL) -> bytes:
    """``data`` compressed for the kernel, padded with zeros to a multiple of 4 as the kernel wants between archives.

    ``level`` is for zstd. OcelotError when neither the package zstandard nor the program zstd is installed.
    """
    match how:
        case "none":
            packed = data
        case "gzip":
            import gzip

            packed = gzip.compress(data, 9, mtime=0)
        case "xz":
            import lzma

            packed = lzma.compress(data, check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME)
        case "zstd":
            packed = _zstd(data, level)
    return packed + b"\0" * (-len(packed) % 4)


def _zstd(data: bytes, level: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        return _run(
            "zstd", ["-q", "-c", f"-{level}", f"--zstd=wlog={ZSTD_WINDOW}", "--single-thread", "--no-check"], data
        )
    chosen = zstandard.ZstdCompressionParameters.from_level(level, source_size=len(data))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(data), window_log=min(chosen.window_log, ZSTD_WINDOW), write_content_size=True
    )
    return bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(data))


def _run(name: str, arguments: list[str], data: bytes) -> bytes:
    program = tool(name)
    if program is None:
        raise OcelotError(
            f"cannot use {name}: it is not installed", hint='install the "image" extra, or choose --compress gzip'
        )
    result = subprocess.run([program, *arguments], input=data, capture_output=True, check=False)
    if result.returncode:
        raise OcelotError(f"cannot run {name}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def recognise(data: bytes) -> Compression:
    """How ``data`` is compressed, by its first bytes."""
    return next((name for name, magic in _MAGIC.items() if data.startswith(magic)), "none")


def decompress_first(data: bytes) -> tuple[bytes, int]:
    """The first compressed stream in ``data``, and how many bytes of ``data`` it took. OcelotError when it is damaged."""
    how = recognise(data)
    if how == "none":
        raise OcelotError("cannot read the archive: neither cpio nor a known compression")
    try:
        stream = _stream(how)
    except ImportError as error:
        raise OcelotError(f"cannot read a {how} archive", hint='install the "image" extra') from error
    try:
        plain: bytes = stream.decompress(data)
    except Exception as error:  # each library has an error type of its own for damaged data
        raise OcelotError(f"cannot read the archive: {error}") from error
    if not stream.eof:
        raise OcelotError(f"cannot read the archive: its {how} stream ends early")
    return plain, len(data) - len(stream.unused_data)


def _stream(how: Compression) -> Any:
    """What undoes one compressed stream, with ``decompress``, ``eof`` and ``unused_data``."""
    if how == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    if how == "xz":
        import lzma

        return lzma.LZMADecompressor(lzma.FORMAT_XZ)
    import zlib

    return zlib.decompressobj(16 + zlib.MAX_WBITS)
