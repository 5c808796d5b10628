"""Tools for the files that ocelot reads: ``validate``, ``config-template`` and ``schema``, for both kinds of them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ocelot.commands.arguments import Commands, command

if TYPE_CHECKING:
    from ocelot.config.loading import Kind


def add_file_tools(sub: Commands, kind: Kind, modes: list[str]) -> None:
    """Add them for files of ``kind``. ``modes``: the hand-offs that there are templates for, if these differ."""
    validate = command(
        sub,
        "validate",
        lambda options: _validate(options, kind),
        f"check a {kind} file and show every problem in it",
        epilog="exit status:\n  0  valid\n  1  not valid (with --strict: or there are warnings)\n  2  usage",
    )
    validate.add_argument("file", metavar="FILE", help="the file to check")
    validate.add_argument("--output", choices=["human", "json"], default="human", help="how to print (human)")
    validate.add_argument("--strict", action="store_true", help="warnings are errors")
    validate.add_argument("--root", metavar="DIR", help="where paths of the file are looked up")
    template = command(
        sub, "config-template", lambda options: _template(options, kind), f"print a commented {kind} file to start from"
    )
    if modes:
        template.add_argument("--mode", choices=modes, default="supervise", help="kind of hand-off (supervise)")
    command(sub, "schema", lambda options: _schema(options, kind), f"print the JSON Schema of {kind} files")


def _validate(options: argparse.Namespace, kind: Kind) -> int:
    from ocelot.config import report
    from ocelot.config.loading import load_file
    from ocelot.log import wants_colour

    loaded = load_file(options.file, kind, root=options.root, files=True)
    if options.output == "json":
        sys.stdout.write(report.to_json(loaded, strict=options.strict).decode() + "\n")
        return 0 if loaded.valid(strict=options.strict) else 1
    text = report.render(loaded, options.file, colour=wants_colour(2))
    if text:
        print(text.rstrip("\n"), file=sys.stderr)
    print(report.summary(loaded, strict=options.strict))
    return 0 if loaded.valid(strict=options.strict) else 1


def _template(options: argparse.Namespace, kind: Kind) -> int:
    from ocelot.config.templates import text

    sys.stdout.write(text(kind, getattr(options, "mode", "supervise")))
    return 0


def _schema(_options: argparse.Namespace, kind: Kind) -> int:
    import json

    from ocelot.config.schema import schema

    print(json.dumps(schema(kind), indent=2))
    return 0
