"""Modules that are loaded when they are used: in an interpreter of its own, where none of them is loaded yet."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from integration.lab import cache

BEGIN = """
import sys
sys.path.insert(0, {checkout!r})
for name in ("ssl", "_ssl", "hmac", "_hashlib"):
    assert name not in sys.modules, name
from ocelot.deferred import defer, imported
defer()
"""


def run(text: str) -> None:
    program = BEGIN.format(checkout=str(cache.CHECKOUT)) + textwrap.dedent(text)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_trio_does_not_load_openssl() -> None:
    run("""
        import trio
        loaded = {"_ssl", "_hashlib"} & set(sys.modules)
        assert not loaded, loaded
    """)


@pytest.mark.parametrize("first", ["ssl.SSLContext", "ssl.PROTOCOL_TLS_CLIENT", "ssl.SSLError"])
def test_the_first_use_loads_it_for_everybody_who_has_it(first: str) -> None:
    run(f"""
        import ssl as early
        import trio
        assert "_ssl" not in sys.modules
        {first.replace("ssl.", "early.", 1)}
        import ssl
        assert "_ssl" in sys.modules
        assert early.SSLContext is ssl.SSLContext
        assert early.SSLWantReadError is ssl.SSLWantReadError
        assert trio._ssl._stdlib_ssl.SSLContext is ssl.SSLContext
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    """)


def test_names_can_be_imported_from_it() -> None:
    run("""
        from ssl import SSLContext
        from hmac import compare_digest
        import ssl
        assert SSLContext is ssl.SSLContext
        assert compare_digest(b"a", b"a")
    """)


def test_what_it_lacks_is_an_attribute_error() -> None:
    run("""
        import ssl
        assert not hasattr(ssl, "no_such_name")
        assert not hasattr(ssl, "nor_this")
        assert ssl.OP_ALL
    """)


def test_what_is_loaded_already_stays() -> None:
    run("""
        del sys.modules["ssl"]
        import ssl
        defer()
        assert sys.modules["ssl"] is ssl
        assert type(ssl) is type(sys)
    """)


def test_one_that_cannot_be_loaded_says_so_at_every_use() -> None:
    run("""
        import ssl
        sys.modules["_ssl"] = None
        for _ in range(2):
            try:
                ssl.SSLContext
            except ImportError:
                pass
            else:
                raise SystemExit("it was loaded")
        del sys.modules["_ssl"]
        ssl.SSLContext
    """)


def test_what_only_lends_a_few_names_is_hidden_until_all_is_imported() -> None:
    run("""
        import msgspec
        assert msgspec.json.decode(b'{"a": 1}', type=dict[str, int]) == {"a": 1}
        assert sys.modules["typing_extensions"] is None
        imported()
        import typing_extensions
        imported()
        assert sys.modules["typing_extensions"] is typing_extensions
    """)


def test_a_package_is_loaded_by_the_import_of_a_module_in_it() -> None:
    run("""
        import idna as early
        assert "idna.core" not in sys.modules
        import idna.core
        assert early.encode("b\u00fccher") == idna.core.encode("b\u00fccher") == b"xn--bcher-kva"
    """)


def test_trio_names_its_threads_without_a_search_for_the_library() -> None:
    run("""
        import trio
        assert "shutil" not in sys.modules
        async def name():
            return await trio.to_thread.run_sync(lambda: open("/proc/thread-self/comm").read())
        assert "lambda" in trio.run(name)
    """)


def test_the_search_for_libraries_is_the_real_one_for_any_other() -> None:
    run("""
        import ctypes.util
        assert ctypes.util.find_library("pthread") == "libpthread.so.0"
        assert "shutil" not in sys.modules
        assert ctypes.util.find_library("no-such-library") is None
        import ctypes
        assert ctypes.util.find_library.__module__ == "ctypes.util"
    """)
