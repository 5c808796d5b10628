"""The runtime: one folder with an interpreter, what ocelot can import, and every shared library, for a fixed path.

PID 1 keeps it across switch_root, into roots that hold no Python and no libc, or another one. So nothing in it looks
outside: the interpreter's ELF header names the folder's own loader, its DT_RPATH the folder's own libraries. Both are
absolute, since ``$ORIGIN`` needs /proc, which the first instruction of PID 1 does not have. It is made from the
interpreter that runs this module and from the packages that this interpreter sees.

Two layers: the base (interpreter, standard library, packages) changes rarely and is kept in a cache; ocelot's own
modules are compiled each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.machinery import FrozenImporter

import ocelot
from ocelot import bundle
from ocelot.errors import OcelotError, describe
from ocelot.image import elf
from ocelot.image.closure import Module, closure, imports_of, submodules

PREFIX = "/run/ocelot/runtime"
"""Where the runtime of a machine lies, before and after the switch."""

FLAGS = "-ISB"
"""No environment, no user's or system's site folder, nothing written. One word: a shebang takes one argument."""

FIRST_LINE = 256
"""How much of a script the kernel looks at for its interpreter, in bytes."""

OWN = ("ocelot", "bootstrap", "supervisor")
_DESCRIBED = ("ocelot.config", "ocelot.wire")

STAND_INS = {
    # what trio, attrs, msgspec and prometheus-client import at their top and use in functions that are not called here.
    # Python runs some 25 times slower in an emulated guest: the milliseconds are those of a guest, at every boot.
    "ssl": "absent",  # and 5 MB of libcrypto and libssl
    "trio._dtls": "absent",  # 86 ms, with hmac and hashlib
    "trio._ssl": "absent",
    "trio._highlevel_ssl_helpers": "absent",
    "trio._path": "absent",  # 75 ms, with pathlib and urllib
    "trio._subprocess": "absent",  # 69 ms; only supervisor.children.spawn starts processes
    "idna": "absent",  # 60 ms; for host names that are not ASCII
    "ast": "ast_nodes",  # 45 ms, these two for inspect, to read sources that are not there
    "tokenize": "absent",  # 45 ms
    "decimal": "absent",  # msgspec looks up the types when it is loaded
    "attr.converters": "absent",  # 70 ms
    "yaml.constructor": "absent",  # these five for loading to Python's values, and for writing
    "yaml.resolver": "absent",
    "yaml.representer": "absent",
    "yaml.serializer": "absent",
    "yaml.emitter": "absent",
    "http.server": "absent",
    "urllib.request": "absent",
    "wsgiref.simple_server": "absent",
    # what is used, but costs more than it must
    "platform": "platform",  # 34 ms, nearly all of it regular expressions
    "ctypes.util": "ctypes_util",
    "unicodedata": "unicodedata",  # 30 ms and 1.1 MB
    "attr.validators": "attr_validators",  # 60 ms
    "yaml.__init__": "yaml_package",
    "importlib.resources": "importlib_resources",  # zoneinfo asks it for tzdata
    "sysconfig": "sysconfig",  # zoneinfo asks it for one path; the real one reads a module with a generated name
}

TLS = frozenset(("ssl", "trio._ssl", "trio._highlevel_ssl_helpers"))
"""Stand-ins, unless the runtime is to speak TLS: only https probes do."""

_DROPPED = """
    ocelot.image ocelot.client ocelot.convert ocelot.manual ocelot.verbs.live ocelot.deferred
    anyio asyncio hypothesis pytest _pytest pygments snappy trio.testing trio._tests trio._tools
    prometheus_client.bridge prometheus_client.twisted prometheus_client.aiohttp prometheus_client.django
    typing_extensions setuptools packaging pkg_resources zstandard._cffi zstandard.backend_cffi
    psutil._psaix psutil._psbsd psutil._psosx psutil._pssunos psutil._pswindows
    _ssl _hashlib _decimal _pydecimal email http.client
    test unittest doctest pydoc pydoc_data pdb tkinter _tkinter lib2to3 distutils idlelib ensurepip webbrowser turtle
    tracemalloc plistlib _testcapi _testinternalcapi multiprocessing concurrent xml pyexpat xmlrpc sqlite3
    yaml.loader yaml.dumper yaml.cyaml
    curses readline zipfile tarfile bz2 _bz2 pickle statistics fractions csv importlib.metadata
    importlib.readers _zoneinfo nturl2path _osx_support ctypes.macholib
"""
DROP = frozenset(_DROPPED.split())
"""Modules that stay out, with all below them, unless a module of ocelot's names them itself. Line by line: ours that a
running machine has no use for; what packages ask for in functions that are not called here; what only the real modules
behind the stand-ins need; the standard library's tools and corners."""

_REQUIRED = """
    os encodings encodings.utf_8 encodings.ascii encodings.latin_1 encodings.idna runpy
    _strptime datetime traceback linecache threading warnings uuid copyreg
    yaml.composer yaml.parser yaml.scanner yaml.reader yaml.nodes yaml.tokens
"""
ALWAYS = tuple(_REQUIRED.split())
"""Imported by the interpreter itself, by C extensions, or by a name that is made at run time."""


@dataclass(frozen=True)
class Runtime:
    """A runtime that was built: where it lies now, the path it is made for, and what is in it."""

    folder: str
    prefix: str
    python: str
    modules: int
    size: int
    stripped: bool


def build_runtime(
    destination: str,
    *,
    prefix: str = PREFIX,
    tls: bool = False,
    cache: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Runtime:
    """Build a runtime for the absolute path ``prefix`` in the new folder ``destination``.

    ``tls``: with what https probes need, some 6 MiB.
    ``cache`` is a folder for the layer that rarely changes; None keeps nothing. ``say`` is told what is going on.
    Raises OcelotError if ``destination`` is in use, a module or library is missing, or a tool fails.
    """
    _check_prefix(prefix)
    if not destination or (os.path.lexists(destination) and not _is_empty_folder(destination)):
        raise OcelotError(
            f'cannot build a runtime in "{destination}": it is no empty folder',
            hint="name a new folder, or an empty one",
        )
    with ExitStack() as undo:
        scratch = undo.enter_context(tempfile.TemporaryDirectory(prefix="ocelot-runtime-"))
        undone = undo.enter_context(ExitStack())
        undone.callback(_empty, destination, keep=os.path.isdir(destination))
        _copy(base_layer(prefix, cache or scratch, say, tls=tls), destination)
        own_layer(destination, prefix)
        add_bundle(destination, (destination,), prefix)
        _settle(destination)
        undone.pop_all()
    modules = sum(name.endswith((".pyc", ".so")) for _, _, names in os.walk(library(destination)) for name in names)
    return Runtime(
        destination,
        prefix,
        python_version(),
        modules,
        folder_size(destination),
        elf.tool("strip") is not None,
    )


def _check_prefix(prefix: str) -> None:
    """OcelotError unless scripts can name an interpreter there (execve(2)), and the loader a folder (ld.so(8))."""
    if not prefix.isprintable() or set(" :$").intersection(prefix):
        hint = "it may hold no blanks, no colons and no dollar signs"
    elif not os.path.isabs(prefix) or not prefix.strip("/"):
        hint = "the prefix is an absolute path to a folder of its own"
    elif len(os.fsencode(shebang(prefix))) > FIRST_LINE:
        hint = f"name a shorter one: the first line of a script may have {FIRST_LINE} bytes"
    else:
        return
    raise OcelotError(f'cannot build a runtime for "{prefix}"', hint=hint)


def _is_empty_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.listdir(path)


def library(folder: str) -> str:
    """The folder of the modules in the runtime at ``folder``."""
    return os.path.join(folder, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")


def python_version() -> str:
    """Of the interpreter that runs this, and so of the runtimes that it builds: "3.11.7"."""
    return ".".join(map(str, sys.version_info[:3]))


def search_path() -> tuple[str, ...]:
    """Where modules are looked for: our own checkout first, the standard library, then the packages."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(ocelot.__file__)))
    standard = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    standard = [path for path in standard if os.path.isfile(os.path.join(path, "os.py"))]
    extensions = sysconfig.get_config_var("DESTSHARED")
    if not standard:
        raise OcelotError("cannot find the standard library of this interpreter")
    base = [standard[0], extensions or os.path.join(standard[0], "lib-dynload")]
    beside = os.path.isdir(os.path.join(own, "trio"))  # installed, not a checkout: the packages lie there too
    packages = [path for path in sys.path if path and os.path.isdir(path) and (beside or path != own)]
    return (own, *dict.fromkeys([*base, *packages]))


def own_modules() -> tuple[Module, ...]:
    """ocelot's own modules that belong into a runtime."""
    search = search_path()
    names = [name for package in OWN for name in submodules(package, search[:1])]
    return tuple(module for module in closure(names, search[:1], DROP) if module.name.split(".")[0] in OWN)


def base_modules(*, tls: bool = False) -> tuple[Module, ...]:
    """What ocelot's modules import from elsewhere, and what that imports in turn."""
    outside = _outside()
    search = search_path()
    drop = {*DROP, *_stand_ins(tls=tls)} - (outside - TLS)
    if tls:
        drop -= {"_ssl"}
    return closure([*ALWAYS, *sorted(outside)], search[1:], drop, optional=outside)


def _outside() -> set[str]:
    """What ocelot's own modules name in an import: modules, and names in modules, that are not ocelot's."""
    return {name for module in own_modules() for name in imports_of(module) if name.split(".")[0] not in OWN}


def _stand_ins(*, tls: bool) -> dict[str, str]:
    """The stand-ins, but for modules that ocelot itself has come to import."""
    real = _outside() - TLS | (TLS if tls else frozenset())
    return {name: source for name, source in STAND_INS.items() if name not in real}


def base_layer(prefix: str, cache: str, say: Callable[[str], None], *, tls: bool = False) -> str:
    """The folder of the base layer for ``prefix``, made in ``cache`` if it is not there yet."""
    key = _base_key(prefix, tls=tls)
    layer = os.path.join(cache, f"base-{key}")
    if os.path.isdir(layer):
        return layer
    say("collecting the interpreter and its libraries")
    unfinished = ""
    try:
        os.makedirs(cache, exist_ok=True)
        unfinished = tempfile.mkdtemp(prefix=f"base-{key}-", dir=cache)
        _make_base(unfinished, prefix, tls=tls)
        os.rename(unfinished, layer)
    except OSError as error:
        if not os.path.isdir(layer):  # else somebody else was faster
            raise OcelotError(
                f'cannot make the base of a runtime in "{cache}": {describe(error)}', hint="see --cache and --no-cache"
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return layer


def _base_key(prefix: str, *, tls: bool) -> str:
    """Changes when anything does that goes into the base layer: interpreter, packages, builder, what is imported."""
    state = hashlib.sha256()
    outside = sorted(_outside())
    facts: list[object] = [prefix, tls, sys.version, os.path.realpath(sys.executable), outside, search_path()[1:]]
    facts.append(elf.tool("strip") is not None)
    for path in search_path()[1:]:
        facts.append(sorted(name for name in os.listdir(path) if name.endswith((".dist-info", ".egg-info"))))
    facts.append(os.stat(os.path.realpath(sys.executable)).st_mtime_ns)
    state.update(json.dumps(facts).encode())
    for folder, _, names in sorted(os.walk(os.path.dirname(__file__))):
        for name in sorted(names):
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as file:
                    state.update(file.read())
    return state.hexdigest()[:24]


def _make_base(folder: str, prefix: str, *, tls: bool) -> None:
    modules = base_modules(tls=tls)
    target = library(folder)
    os.makedirs(os.path.join(target, "lib-dynload"))  # without it the interpreter complains of a missing exec_prefix
    os.makedirs(os.path.join(folder, "bin"))
    sources = [
        (module.origin, module.destination, False)
        for module in modules
        if module.kind == "source" and not _in_interpreter(module.name)
    ]
    for name, standin in _stand_ins(tls=tls).items():
        path = os.path.join(os.path.dirname(__file__), "standins", f"{standin}.py")
        sources.append((path, f"{name.replace('.', '/')}.pyc", False))
    compile_sources(sources, target, library(prefix))

    python = os.path.join(folder, "bin", "python3")
    interpreter = os.path.realpath(sys.executable)
    extensions = [module for module in modules if module.kind == "extension"]
    libraries = elf.shared_libraries([interpreter, *(module.origin for module in extensions)])
    loader = _loader(interpreter, [entry.name for entry in libraries])
    _take(interpreter, python)
    for module in extensions:
        _take(module.origin, os.path.join(target, module.destination))
    for entry in libraries:
        _take(entry.path, os.path.join(folder, "lib", entry.name), touch=entry.name != loader)
    elf.patch(python, interpreter=f"{prefix}/lib/{loader}", rpath=f"{prefix}/lib")


def _in_interpreter(name: str) -> bool:
    """Whether the interpreter has the module frozen in itself. It tells by the file of ``os`` where its library is."""
    return name != "os" and FrozenImporter.find_spec(name) is not None


def _loader(interpreter: str, libraries: Sequence[str]) -> str:
    path = elf.read_elf(interpreter).interpreter
    if path is None or os.path.basename(path) not in libraries:
        raise OcelotError(f'cannot use "{interpreter}": it is linked statically', hint="use another Python")
    return os.path.basename(path)


def _take(source: str, destination: str, *, touch: bool = True) -> None:
    """Copy an ELF file, without what only a debugger reads, and without a search path of its own."""
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    shutil.copyfile(source, destination)
    os.chmod(destination, 0o755)
    if touch:
        elf.strip(destination)
        found = elf.read_elf(source)
        if found.rpath or found.runpath:
            elf.patch(destination, rpath="")


def own_layer(folder: str, prefix: str) -> None:
    """Add ocelot's own modules, their data files and the two programs to the runtime at ``folder``."""
    modules = own_modules()
    # Those of the records are shown, by ``schema`` and openapi.json; other docstrings only lie in memory, of PID 1 too.
    sources = [(module.origin, module.destination, module.name.startswith(_DESCRIBED)) for module in modules]
    compile_sources(sources, library(folder), library(prefix))
    for module in modules:
        if module.package:
            _copy_data(os.path.dirname(module.origin), os.path.join(library(folder), module.name.replace(".", "/")))
    for name, door in (("ocelot", "cli"), ("ocelotctl", "ctl")):
        path = os.path.join(folder, "bin", name)
        with open(path, "w") as file:
            file.write(f"{shebang(prefix)}import sys\nfrom ocelot.{door} import main\nsys.exit(main())\n")


def add_bundle(folder: str, layers: Sequence[str], prefix: str) -> None:
    """Add to the runtime at ``folder`` the file from which a boot imports (``ocelot.bundle``)."""
    program = os.path.join(os.path.dirname(__file__), "rehearsal.py")
    output = os.path.join(folder, "lib", bundle.NAME)
    result = subprocess.run(
        [sys.executable, "-ISB", program, output, library(prefix), *map(library, layers)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C"},
    )
    if "failed to map segment" in result.stderr:  # the loader's words
        hint = f'is "{folder}" on a file system with noexec? TMPDIR names another for what is built on the way'
        raise OcelotError(f"cannot rehearse the imports of a boot: {result.stderr.splitlines()[-1]}", hint=hint)
    if result.returncode:
        raise OcelotError(f"cannot rehearse the imports of a boot: {result.stderr.strip()}")


def shebang(prefix: str) -> str:
    """The first line of a script that the runtime at ``prefix`` runs."""
    return f"#!{prefix}/bin/python3 {FLAGS}\n"


def _copy_data(source: str, destination: str) -> None:
    """Files of a package that are no code, and folders that are no packages (templates)."""
    for entry in sorted(os.scandir(source), key=lambda found: found.name):
        if entry.name.startswith((".", "__")) or entry.name == "py.typed" or entry.name.endswith((".py", ".pyc")):
            continue
        if entry.is_dir() and os.path.exists(os.path.join(entry.path, "__init__.py")):
            continue
        if entry.is_dir():
            _copy_data(entry.path, os.path.join(destination, entry.name))
        else:
            os.makedirs(destination, exist_ok=True)
            shutil.copyfile(entry.path, os.path.join(destination, entry.name))


def compile_sources(sources: Sequence[tuple[str, str, bool]], folder: str, shown: str) -> None:
    """Compile (source, destination below ``folder``, docstrings) with paths in tracebacks beginning with ``shown``."""
    work = [[source, name, f"{shown}/{name.removesuffix('c')}", docs] for source, name, docs in sources]
    program = os.path.join(os.path.dirname(__file__), "bytecode.py")
    result = subprocess.run(
        [sys.executable, "-SPB", program],
        input=json.dumps(work),
        text=True,
        capture_output=True,
        check=False,
        cwd=folder,
        env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C"},
    )
    if result.returncode:
        raise OcelotError(f"cannot compile the runtime's modules: {result.stderr.strip()}")


def _copy(source: str, destination: str) -> None:
    """The files of a layer; it has no links. The first that cannot be copied ends it, unlike with ``shutil.copytree``."""
    for path, _, names in os.walk(source):
        folder = os.path.normpath(os.path.join(destination, os.path.relpath(path, source)))
        os.makedirs(folder, exist_ok=True)
        for name in names:
            target = os.path.join(folder, name)
            try:
                shutil.copyfile(os.path.join(path, name), target)
            except OSError as error:
                raise OcelotError(f'cannot copy to "{target}": {os.strerror(error.errno or 0)}') from error


def _empty(folder: str, *, keep: bool) -> None:
    """Take away what there is of a runtime that was not finished; ``keep``: the folder itself was there before."""
    if not os.path.isdir(folder):
        return
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    if not keep:
        os.rmdir(folder)


def _settle(folder: str) -> None:
    """Modes that do not depend on whoever builds."""
    for path, _, names in os.walk(folder):
        os.chmod(path, 0o755)
        for name in names:
            program = path == os.path.join(folder, "bin") or ".so" in name
            os.chmod(os.path.join(path, name), 0o755 if program else 0o644)


def folder_size(folder: str) -> int:
    """Bytes in the files of a folder."""
    return sum(os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(folder) for name in names)
