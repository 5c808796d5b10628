"""The initramfs: ocelot as /init, its runtime, a checked configuration, and what that configuration needs.

Two archives follow each other in one file, as the kernel allows: the base of the runtime, which rarely changes and takes
long to compress, and all the rest. Every byte comes from the inputs: no times, no owners, no host name, so the same
inputs give the same file, wherever and by whomever it is built. No root is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocelot import __version__
from ocelot.config.structs import Bootstrap, Phase
from ocelot.errors import OcelotError, UsageError
from ocelot.image import cpio, kernel_modules, packages, runtime
from ocelot.image.compression import ZSTD_WINDOW, Compression, compress, decompress_first
from ocelot.image.needs import Need, check_features, needs
from ocelot.image.programs import complete_program, find, named_programs, places, take_libraries, take_program

CONFIG = "etc/ocelot/bootstrap.yaml"
MARKER = "etc/ocelot/initramfs"
"""Says that this file system is an initramfs of ocelot and may be deleted after the switch; JSON, see :func:`build`."""

_FOLDERS = ("dev", "proc", "sys", "run", "sysroot", "etc")


@dataclass(frozen=True)
class Recipe:
    """What to build. ``file`` is the bootstrap file; ``includes`` are (source, absolute destination) pairs.

    ``kernel_version`` None: the only kernel below ``modules_root`` if the configuration or a feature wants modules
    and ``modules_root`` is given, else no modules. ``without``: see ``needs.FEATURES``.
    """

    file: str
    output: str
    kernel_version: str | None = None
    modules_root: str | None = None
    includes: tuple[tuple[str, str], ...] = ()
    compression: Compression = "zstd"
    level: int = 19
    without: tuple[str, ...] = ()
    cache: str | None = None


@dataclass(frozen=True)
class Image:
    """What was built: sizes in bytes, uncompressed by part, and the size of the file."""

    output: str
    size: int
    parts: dict[str, int]
    notes: tuple[str, ...]
    marker: dict[str, Any]


@dataclass
class _Modules:
    """The modules that were chosen: ``paths`` all of them, ``early`` those that PID 1 loads before preSwitch.

    ``kept``: those that the configuration names with their compression, which they keep.
    """

    tree: kernel_modules.Tree | None = None
    paths: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()
    file_systems: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build(recipe: Recipe, *, say: Callable[[str], None] = lambda _: None) -> Image:
    """Build the initramfs that ``recipe`` describes; the output appears whole or not at all.

    The marker file in it is JSON: ``ocelot`` and ``python`` (versions), ``kernel`` (version or null), ``modules`` (paths
    below /lib/modules/VERSION to load before preSwitch, in order), ``fileSystems`` (for a type, the modules to load
    before it is first mounted, in order), ``features``. OcelotError when the configuration is not valid or something
    that it names is missing. ``say`` is told what is going on.
    """
    say("checking the configuration")
    check_features(recipe.without)
    config, text, warnings = _load(recipe.file)
    modules = _choose_modules(config, recipe)
    modules.notes[:0] = warnings
    with tempfile.TemporaryDirectory(prefix="ocelot-initramfs-") as scratch:
        cache = recipe.cache or scratch
        layer = runtime.base_layer(runtime.PREFIX, cache, say, tls=packages.speaks_tls(config))
        say("compiling ocelot")
        own = os.path.join(scratch, "own")
        os.makedirs(runtime.library(own))
        os.makedirs(os.path.join(own, "bin"))
        runtime.own_layer(own, runtime.PREFIX)
        runtime.add_bundle(own, (own, layer), runtime.PREFIX)
        useless = _useless(config, modules)
        base = [entry for entry in _runtime_entries(layer) if _package(entry.path) not in useless]
        code = list(_runtime_entries(own))
        rest = list(_skeleton())
        marker = _marker(modules, recipe)
        rest += [cpio.file(CONFIG, text), cpio.file(MARKER, f"{json.dumps(marker, indent=1)}\n".encode())]
        kernel = list(_module_entries(modules, config))
        included = list(_includes(recipe.includes))
        extra = [*included, *_programs(config, included)]
        size = _write(recipe, [base, code, [*rest, *kernel, *extra]], cache, say)
    parts = {
        "runtime": _total(base),
        "ocelot": _total(code) + _total(rest),
        "modules": _total(kernel),
        "programs": _total(extra),
    }
    return Image(recipe.output, size, parts, tuple(modules.notes), marker)


def _load(path: str) -> tuple[Bootstrap, bytes, list[str]]:
    """The configuration, its text, and what validation warns of."""
    from ocelot.config.loading import load

    try:
        with open(path, "rb") as opened:
            text = opened.read()
    except OSError as error:
        raise OcelotError(f'cannot read "{path}": {os.strerror(error.errno or 0)}') from error
    loaded = load(text, path, "bootstrap")
    if not isinstance(loaded.config, Bootstrap) or loaded.errors:
        lines = "".join(f"\n  {path}:{found.line}:{found.column}: {found.message}" for found in loaded.errors)
        raise OcelotError(f'cannot use "{path}": it is not valid{lines}', hint=f"see: ocelot bootstrap validate {path}")
    return loaded.config, text, [warning.located(path) for warning in loaded.warnings]


def _useless(config: Bootstrap, modules: _Modules) -> frozenset[str]:
    """The packages of the runtime that are of no use here."""
    compressed = config.post_switch.modules is not None or any(name.endswith(".zst") for name in modules.kept)
    return packages.left_out(config, compressed_modules=compressed)


def _package(path: str) -> str:
    """The top-level package that a file of the runtime belongs to: the folder below ``lib/pythonX.Y``, or ""."""
    below = path.removeprefix(f"{runtime.library(runtime.PREFIX).lstrip('/')}/")
    return below.split("/", 1)[0] if below != path else ""


# -- modules ---------------------------------------------------------------------------------------


def _choose_modules(config: Bootstrap, recipe: Recipe) -> _Modules:
    named = _names(config.pre_switch)
    later = _names(config.post_switch)
    version = _version(recipe, named if config.switch_root is not None else (*named, *later))
    if version is None:
        note = "no kernel modules taken in: the kernel must have built in what the configuration needs"
        return _Modules(notes=[note])
    tree = kernel_modules.read_tree(recipe.modules_root or "/", version)
    chosen = _Modules(tree)
    wanted = list(_named(tree, named, "preSwitch"))
    if config.switch_root is None:
        wanted += _named(tree, later, "postSwitch")
    else:
        wanted += _perhaps(tree, later, chosen.notes)
    paths = list(tree.load_order(wanted))
    named = (*named, *later)
    chosen.kept = frozenset(wanted).intersection(name.removeprefix(f"{version}/") for name in named)
    early: list[str] = []
    for need in needs(config, recipe.without):
        found = tree.load_order(_needed(tree, need, chosen.notes))
        paths += found
        if need.file_system is None:
            early += found
        elif found:
            known = chosen.file_systems.get(need.file_system, ())
            chosen.file_systems[need.file_system] = tuple(dict.fromkeys((*known, *found)))
    chosen.paths = tuple(dict.fromkeys(paths))
    chosen.early = tuple(dict.fromkeys(early))
    return chosen


def _version(recipe: Recipe, named: Sequence[str]) -> str | None:
    if recipe.kernel_version is not None:
        return recipe.kernel_version
    if recipe.modules_root is None:
        if named:
            raise UsageError(
                "cannot tell which kernel the modules that the file names are for",
                hint="add --kernel-version, and --modules-root if they are not below /lib/modules",
            )
        return None
    known = kernel_modules.versions(recipe.modules_root)
    if len(known) != 1:
        raise UsageError(
            f'cannot tell which kernel below "{recipe.modules_root}" is meant',
            hint=f"add --kernel-version; there are: {', '.join(known) or 'none'}",
        )
    return known[0]


def _names(phase: Phase) -> tuple[str, ...]:
    return phase.modules.names if phase.modules is not None else ()


def _named(tree: kernel_modules.Tree, names: Sequence[str], phase: str) -> Iterator[str]:
    for name in names:
        path = tree.find(name.removeprefix(f"{tree.version}/"))
        if path is not None:
            yield path
        elif not tree.is_builtin(name):
            raise OcelotError(
                f'cannot find the module "{name}" that {phase}.modules.names asks for',
                hint=f"kernel {tree.version} neither has it in {tree.folder} nor built in",
            )


def _perhaps(tree: kernel_modules.Tree, names: Sequence[str], notes: list[str]) -> Iterator[str]:
    """What postSwitch names: the root file system may bring them, but those of most containers have no modules."""
    for name in names:
        path = tree.find(name.removeprefix(f"{tree.version}/"))
        if path is not None:
            yield path
        elif not tree.is_builtin(name):
            notes.append(f"kernel {tree.version} has no module {name}: the root file system must bring it")


def _needed(tree: kernel_modules.Tree, need: Need, notes: list[str]) -> Iterator[str]:
    for name in need.modules:
        path = tree.find(name)
        if path is not None:
            yield path
        elif not tree.is_builtin(name):
            notes.append(f"kernel {tree.version} has no module {name} (for {need.feature})")


def _module_entries(modules: _Modules, config: Bootstrap) -> Iterator[cpio.Entry]:
    if modules.tree is None or not modules.paths:
        return
    yield from kernel_modules.entries(modules.tree, modules.paths, modules.kept)
    listed = config.pre_switch.modules
    if listed is None:
        return
    if listed.directory.rstrip("/") != "/lib/modules":
        yield cpio.link(f"{listed.directory.strip('/')}/{modules.tree.version}", f"/lib/modules/{modules.tree.version}")
    if listed.dep_file_path not in (None, "modules.dep"):
        dep = listed.dep_file_path or ""
        place = dep if dep.startswith("/") else f"/lib/modules/{modules.tree.version}/{dep}"
        yield cpio.file(place.lstrip("/"), kernel_modules.reduced_dep(modules.tree, modules.paths, modules.kept))


def _marker(modules: _Modules, recipe: Recipe) -> dict[str, Any]:
    def placed(paths: Sequence[str]) -> list[str]:
        return [kernel_modules.placed(path, modules.kept) for path in paths]

    return {
        "ocelot": __version__,
        "python": runtime.python_version(),
        "kernel": modules.tree.version if modules.tree else None,
        "modules": placed(modules.early),
        "fileSystems": {name: placed(paths) for name, paths in sorted(modules.file_systems.items())},
        "without": sorted(recipe.without),
    }


# -- files -----------------------------------------------------------------------------------------


def _runtime_entries(folder: str) -> Iterator[cpio.Entry]:
    for entry in cpio.take_folder(folder, runtime.PREFIX.lstrip("/")):
        # what may be executed is decided here, not by the umask of a copy
        program = "/bin/" in entry.path or ".so" in entry.path
        yield cpio.file(entry.path, entry.data, 0o755 if program else 0o644) if entry.is_file else entry


def _skeleton() -> Iterator[cpio.Entry]:
    script = f"{runtime.shebang(runtime.PREFIX)}from ocelot.init import init\ninit()\n"
    yield cpio.file("init", script.encode(), 0o755)
    yield from (cpio.folder(name) for name in _FOLDERS)
    yield cpio.folder("tmp", 0o1777)
    yield cpio.folder("root", 0o700)
    yield cpio.character_device("dev/console", 5, 1)  # without it the kernel starts /init without descriptors
    yield cpio.character_device("dev/null", 1, 3, 0o666)
    # A processor without a random number generator leaves getrandom(2) empty this early: the interpreter then asks this
    # one, and ends, in a panic, when it is not there.
    yield cpio.character_device("dev/urandom", 1, 9, 0o666)


def _includes(includes: Sequence[tuple[str, str]]) -> Iterator[cpio.Entry]:
    from ocelot.image.elf import is_elf

    ours = {entry.path for entry in _skeleton() if stat.S_ISDIR(entry.mode)}
    for source, destination in includes:
        if not os.path.exists(source):
            raise OcelotError(f'cannot include "{source}": there is no such file')
        real = os.path.realpath(source)
        if os.path.isdir(real) and not destination.strip("/"):
            for name in sorted(os.listdir(real)):  # on top of our own, whose folders have the right modes
                taken = cpio.take(os.path.join(real, name), name)
                yield from (entry for entry in taken if entry.is_file or entry.path not in ours)
            continue
        if destination.endswith("/") and not os.path.isdir(real):
            destination += os.path.basename(source)
        yield from cpio.take(real, destination.strip("/"))
        if os.path.isfile(real) and is_elf(real):
            yield from take_libraries(real)


def _programs(config: Bootstrap, included: Sequence[cpio.Entry]) -> Iterator[cpio.Entry]:
    """What the configuration runs from the initramfs, and what that needs, but for what was included by hand."""
    present = {f"/{entry.path}": entry for entry in included}
    for name, user, path in named_programs(config):
        brought = next((present[place] for place in places(name, path) if place in present), None)
        if brought is not None:
            taken = complete_program(brought, search=path, present=present)
        else:
            found = find(name, path)
            if found is None:
                raise OcelotError(
                    f'cannot find the program "{name}" of {user} on this machine',
                    hint="install it here, or bring it with --include SRC:DEST",
                )
            taken = take_program(found, search=path, present=present)
        yield from (entry for entry in taken if f"/{entry.path}" not in present)


# -- the archive -----------------------------------------------------------------------------------


def _write(recipe: Recipe, archives: Sequence[Sequence[cpio.Entry]], cache: str, say: Callable[[str], None]) -> int:
    """The size in bytes. What is no file (/dev/null, a pipe) is written to and stays what it is."""
    target = os.path.realpath(recipe.output)
    replaced = os.path.isfile(target) or not os.path.exists(target)
    unfinished = f"{target}.unfinished-{os.getpid()}" if replaced else target
    size = 0
    try:
        with open(unfinished, "wb") as output:
            for entries in archives:
                plain = b"".join(cpio.write(cpio.arrange(entries)))
                size += output.write(_compressed(plain, recipe, cache, say))
        if replaced:
            os.replace(unfinished, target)
    except OSError as error:
        raise OcelotError(f'cannot write "{recipe.output}": {os.strerror(error.errno or 0)}') from error
    finally:
        if replaced and os.path.exists(unfinished):
            os.unlink(unfinished)
    return size


def _compressed(plain: bytes, recipe: Recipe, cache: str, say: Callable[[str], None]) -> bytes:
    """``plain`` compressed, from the cache if it was there before."""
    if recipe.compression == "none":
        return compress(plain, "none")
    key = hashlib.sha256(f"{recipe.compression} {recipe.level} {ZSTD_WINDOW} ".encode() + plain).hexdigest()[:24]
    path = os.path.join(cache, f"archive-{key}")
    try:
        with open(path, "rb") as opened:
            return opened.read()
    except FileNotFoundError:
        say(f"compressing {len(plain) / 2**20:.1f} MiB")
    packed = compress(plain, recipe.compression, level=recipe.level)
    unfinished = ""
    try:
        descriptor, unfinished = tempfile.mkstemp(dir=cache)
        with os.fdopen(descriptor, "wb") as output:
            output.write(packed)
        os.rename(unfinished, path)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OcelotError(f'cannot write to "{cache}": {reason}', hint="see --cache and --no-cache") from error
    finally:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
    return packed


def _total(entries: Sequence[cpio.Entry]) -> int:
    return sum(len(entry.data) for entry in {entry.path: entry for entry in entries}.values())


@dataclass(frozen=True)
class Contents:
    """What an initramfs holds: every entry, and the marker if it is one of ocelot's."""

    entries: tuple[cpio.Entry, ...]
    marker: dict[str, Any] | None


def inspect(path: str) -> Contents:
    """Read an initramfs of any of the known compressions. OcelotError when it is damaged or something else."""
    try:
        with open(path, "rb") as opened:
            data = opened.read()
    except OSError as error:
        raise OcelotError(f'cannot read "{path}": {os.strerror(error.errno or 0)}') from error
    entries: list[cpio.Entry] = []
    while data := data.lstrip(b"\0"):
        if data.startswith(cpio.MAGIC):
            found, end = cpio.read(data)
            entries += found
            data = data[end:]
        else:
            plain, end = decompress_first(data)
            while plain := plain.lstrip(b"\0"):
                found, length = cpio.read(plain)
                entries += found
                plain = plain[length:]
            data = data[end:]
    known = {entry.path: entry for entry in entries}
    return Contents(tuple(known.values()), _read_marker(known[MARKER].data) if MARKER in known else None)


def _read_marker(data: bytes) -> dict[str, Any]:
    try:
        marker = json.loads(data)
    except ValueError as error:
        raise OcelotError(f"cannot read /{MARKER} in the archive: {error}") from error
    if not isinstance(marker, dict) or not {"ocelot", "python", "kernel", "modules", "fileSystems"} <= marker.keys():
        raise OcelotError(f"cannot read /{MARKER} in the archive: it is not what ocelot writes")
    return marker
