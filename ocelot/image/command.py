"""``ocelot initramfs build|inspect`` and ``ocelot runtime build``: options, and what is shown."""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import sys
from typing import TypeAlias

from ocelot.errors import OcelotError, UsageError
from ocelot.help import Formatter
from ocelot.image.compression import COMPRESSIONS, ZSTD_LEVEL
from ocelot.image.needs import FEATURES

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_arguments(commands: Commands) -> None:
    """Add the commands ``initramfs`` and ``runtime``; each sets ``run`` to its function."""
    initramfs = _group(commands, "initramfs", "build or inspect an initramfs with ocelot as its init")
    verbs = initramfs.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(verbs)
    inspect = verbs.add_parser(
        "inspect",
        help="show what an initramfs holds",
        description="Show what an initramfs holds.",
        formatter_class=Formatter,
    )
    inspect.add_argument("file", metavar="FILE", help="the initramfs")
    inspect.add_argument("--json", action="store_true", help="print JSON, for programs")
    inspect.add_argument("--list", action="store_true", help="every file in it")
    inspect.set_defaults(run=_inspect)

    runtime = _group(commands, "runtime", "build the folder that ocelot runs from, for images and disks")
    verbs = runtime.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = verbs.add_parser(
        "build",
        help="build a runtime in a new folder",
        description="Build a runtime in a new folder: ocelot with its interpreter and all libraries, for images without any.",
        epilog="example:\n  ocelot runtime build rootfs/usr/lib/ocelot --prefix /usr/lib/ocelot",
        formatter_class=Formatter,
    )
    build.add_argument("folder", metavar="DIR", help="where to build it: a new or empty folder")
    build.add_argument(
        "--prefix",
        default="/usr/lib/ocelot",
        help="the path it will have when it runs (/usr/lib/ocelot; /run/ocelot/runtime where a switchRoot follows)",
    )
    build.add_argument("--tls", action="store_true", help="with what https probes need (6 MiB more)")
    _add_cache(build)
    build.set_defaults(run=_build_runtime)


def _group(commands: Commands, name: str, help: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", formatter_class=Formatter)


def _add_build(verbs: Commands) -> None:
    build = verbs.add_parser(
        "build",
        help="build an initramfs from a bootstrap file",
        description="Build an initramfs from a bootstrap file. Needs no root; the same inputs give the same bytes.",
        epilog="example, with the modules of the kernel that runs here:\n"
        "  ocelot initramfs build -f bootstrap.yaml -o initramfs.img \\\n"
        "      --kernel-version $(uname -r)",
        formatter_class=Formatter,
    )
    build.add_argument("-f", "--file", required=True, help="the bootstrap file")
    build.add_argument("-o", "--output", required=True, metavar="FILE", help="where to write the initramfs")
    build.add_argument("--kernel-version", metavar="V", help="take in modules of this kernel")
    build.add_argument("--modules-root", metavar="DIR", help="folder that holds lib/modules/V (/)")
    build.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="SRC[:DEST]",
        help="take in a file or folder (a folder to / goes on top of all); of a program its libraries too; modes become 0755 or 0644. May be repeated",
    )
    build.add_argument("--compress", choices=COMPRESSIONS, default="zstd", help="how it is compressed (zstd)")
    build.add_argument(
        "--level", type=int, default=ZSTD_LEVEL, choices=range(1, 20), metavar="1..19", help="of zstd (19)"
    )
    build.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FEATURE",
        help=f"leave out the modules of a feature: {', '.join(FEATURES)}. May be repeated, or a list with commas",
    )
    _add_cache(build)
    build.set_defaults(run=_build_initramfs)


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", metavar="DIR", help="folder for what rarely changes (ocelot/image in the XDG cache)")
    parser.add_argument("--no-cache", action="store_true", help="keep nothing, use nothing kept")


def _cache(options: argparse.Namespace) -> str | None:
    if options.no_cache:
        return None
    if options.cache:
        return str(options.cache)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "ocelot", "image")


def _say(line: str) -> None:
    """Progress, for somebody who watches."""
    if sys.stderr.isatty():
        print(f"ocelot: {line} ...", file=sys.stderr, flush=True)


def _clean_up_when_terminated() -> None:
    """SIGTERM ends a build as Ctrl-C does, so that nothing half-made stays behind."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _build_initramfs(options: argparse.Namespace) -> int:
    from ocelot.image.initramfs import Recipe, build

    _clean_up_when_terminated()
    image = build(
        Recipe(
            options.file,
            options.output,
            options.kernel_version,
            options.modules_root,
            tuple(_include(text) for text in options.include),
            options.compress,
            options.level,
            tuple(name for text in options.without for name in text.split(",") if name),
            _cache(options),
        ),
        say=_say,
    )
    for note in image.notes:
        print(f"ocelot: note: {note}", file=sys.stderr)
    parts = ", ".join(f"{name} {_mib(size)}" for name, size in image.parts.items() if size)
    print(f"{image.output}: {_mib(image.size)} ({options.compress}; unpacked: {parts})")
    return 0


def _include(text: str) -> tuple[str, str]:
    source, _, destination = text.partition(":")
    destination = destination or os.path.abspath(source)
    if not source or not destination.startswith("/"):
        raise UsageError(f'cannot include "{text}"', hint="write SRC or SRC:DEST, where DEST is an absolute path")
    return source, destination


def _inspect(options: argparse.Namespace) -> int:
    from ocelot.image.initramfs import inspect

    contents = inspect(options.file)
    files = sorted(contents.entries, key=lambda entry: entry.path)
    if options.json:
        listed = [{"path": f"/{e.path}", "mode": f"{e.mode:o}", "size": len(e.data)} for e in files]
        print(json.dumps({"marker": contents.marker, "files": listed}, indent=1))
        return 0
    if options.list:
        for entry in files:
            print(f"{stat.filemode(entry.mode)} {len(entry.data):>9} /{entry.path}")
        return 0
    if contents.marker is None:
        raise OcelotError(f'cannot find ocelot in "{options.file}": it is another initramfs', hint="--list shows it")
    _print_summary(options.file, contents.marker, {entry.path: len(entry.data) for entry in files})
    return 0


def _print_summary(path: str, marker: dict[str, object], sizes: dict[str, int]) -> None:
    groups = {
        "runtime": ("run/ocelot/runtime/",),
        "modules": ("lib/modules/",),
    }
    print(f"{path}: {_mib(os.path.getsize(path))}, {_mib(sum(sizes.values()))} unpacked, {len(sizes)} entries")
    print(f"  ocelot {marker['ocelot']}, Python {marker['python']}, kernel {marker['kernel'] or 'any'}")
    for name, starts in groups.items():
        members = [size for member, size in sizes.items() if member.startswith(starts)]
        print(f"  {name}: {_mib(sum(members))} in {len(members)} entries")
    early = marker["modules"]
    systems = marker["fileSystems"]
    assert isinstance(early, list)
    assert isinstance(systems, dict)
    print(f"  loaded first: {' '.join(os.path.basename(name).removesuffix('.ko') for name in early) or 'nothing'}")
    print(f"  file systems: {' '.join(systems) or 'those of the kernel'}")


def _build_runtime(options: argparse.Namespace) -> int:
    from ocelot.image.runtime import build_runtime

    _clean_up_when_terminated()
    built = build_runtime(options.folder, prefix=options.prefix, tls=options.tls, cache=_cache(options), say=_say)
    if not built.stripped:
        print("ocelot: note: strip is not installed (package binutils): the runtime is larger", file=sys.stderr)
    print(f"{built.folder}: {_mib(built.size)}, {built.modules} modules, Python {built.python}, for {built.prefix}")
    return 0


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
