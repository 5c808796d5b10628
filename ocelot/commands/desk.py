"""What is of use on a desk: files of others converted, what monitoring, shells and readers of manuals need, and images."""

from __future__ import annotations

import argparse
import os
import sys

import ocelot
from ocelot.commands.arguments import Commands, command, not_here
from ocelot.errors import UsageError


def add(commands: Commands, *, images: bool) -> None:
    """``images``: with what is below ``initramfs`` and ``runtime``. Raises OcelotError where that is left out."""
    _add_convert(commands)
    _add_texts(commands)
    _add_images(commands, whole=images)


def _add_convert(commands: Commands) -> None:
    convert = command(
        commands,
        "convert",
        _convert,
        "turn files of supervisord, systemd, foreman or compose into a file for ocelot supervise",
        epilog="What has no counterpart becomes a comment in the result.\n\nexamples:\n"
        "  ocelot convert /etc/supervisor/supervisord.conf -o supervise.yaml\n"
        "  ocelot convert nginx.service redis.service > supervise.yaml",
    )
    convert.add_argument("files", nargs="+", metavar="FILE", help="the file; for systemd several, or folders of units")
    convert.add_argument(
        "--from",
        dest="format",
        choices=["supervisord", "systemd", "procfile", "compose"],
        help="what it is (found out from its name and content)",
    )
    convert.add_argument("-o", "--output", metavar="FILE", help="write there instead of on standard output")
    convert.add_argument("--strict", action="store_true", help="exit with 1 if anything was lost")


def _add_texts(commands: Commands) -> None:
    monitoring = command(
        commands,
        "monitoring",
        _monitoring,
        "print what to load into Grafana and Prometheus: a dashboard, alert rules",
        epilog="examples:\n  ocelot monitoring dashboard > ocelot.json\n  ocelot monitoring alerts > ocelot-alerts.yml",
    )
    monitoring.add_argument("what", choices=["dashboard", "alerts"], help="for Grafana, or for Prometheus")
    command(commands, "version", _version, "print the version")
    completions = command(
        commands,
        "completions",
        _completions,
        "print shell completions of ocelot and ocelotctl",
        epilog="For this shell, or in the file that it reads at its start:\n"
        "  bash: source <(ocelot completions bash)\n"
        "  zsh:  source <(ocelot completions zsh)   (after compinit)\n"
        "  fish: ocelot completions fish | source",
    )
    completions.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell that is to read them")
    manual = command(
        commands,
        "man",
        _man,
        "print a manual page",
        epilog="examples:\n  ocelot man ocelotctl.1 | man -l -\n  ocelot man -d ~/.local/share/man",
    )
    manual.add_argument("page", nargs="?", metavar="PAGE", help="ocelot.1, ocelotctl.1 or ocelot-bootstrap.5")
    manual.add_argument("-d", "--directory", metavar="DIR", help="write all of them below DIR, in man1 and man5")


def _add_images(commands: Commands, *, whole: bool) -> None:
    """The image tools bring their own options, but their module is imported only when one of them is asked for."""
    if not whole:
        commands.add_parser("initramfs", help="build or inspect an initramfs with ocelot as its init")
        commands.add_parser("runtime", help="build the folder that ocelot runs from, for images and disks")
        return
    try:
        from ocelot.image.command import add_arguments
    except ModuleNotFoundError as error:
        raise not_here("build or inspect images", error) from error
    add_arguments(commands)


def _convert(options: argparse.Namespace) -> int:
    try:
        from ocelot.convert.command import run
    except ModuleNotFoundError as error:
        raise not_here("convert files", error) from error

    return run(options)


def _monitoring(options: argparse.Namespace) -> int:
    name = "grafana.json" if options.what == "dashboard" else "alerts.yml"
    path = os.path.join(os.path.dirname(ocelot.__file__), "dashboards", name)
    if not os.path.exists(path):
        raise not_here("print it")
    with open(path, encoding="utf-8") as file:
        sys.stdout.write(file.read())
    return 0


def _version(_options: argparse.Namespace) -> int:
    print(f"ocelot {ocelot.__version__} (Python {sys.version.split()[0]})")
    return 0


def _completions(options: argparse.Namespace) -> int:
    from ocelot.complete import script

    sys.stdout.write(script(options.shell, options.trees()))
    return 0


def _man(options: argparse.Namespace) -> int:
    try:
        from ocelot.manual import PAGES, install, page
    except ImportError:
        raise not_here("print it") from None
    if options.directory is not None and options.page is None:
        install(options.directory, options.trees())
    elif options.page in PAGES and options.directory is None:
        sys.stdout.write(page(options.page, options.trees()))
    else:
        which = "no page was named" if options.page is None else f'there is no page "{options.page}"'
        if options.page in PAGES:
            which = "both a page and a directory were given"
        raise UsageError(f"cannot print a page: {which}", hint=f"name one of {', '.join(PAGES)}, or give --directory")
    return 0
