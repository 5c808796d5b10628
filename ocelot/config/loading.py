"""A file's bytes to its configuration, with everything that is wrong with it.

The one door to the other modules here: nodes from text, records from nodes, then what several keys mean together.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Literal

from msgspec import Struct

from ocelot.config import nodes, structs
from ocelot.config.converting import read_record
from ocelot.config.findings import Finding, Findings, quoted
from ocelot.config.nodes import Mapping, Node
from ocelot.config.scalars import INVALID, describe

Kind = Literal["bootstrap", "supervise"]


class Loaded(Struct, kw_only=True, weakref=True):
    """A file that was read. ``config`` is None when there are errors."""

    filename: str
    config: structs.Bootstrap | structs.SuperviseFile | None
    errors: list[Finding]
    warnings: list[Finding]

    def valid(self, *, strict: bool = False) -> bool:
        """Whether the file can be run; ``strict`` counts warnings as errors."""
        return not self.errors and not (strict and self.warnings)


def load(
    data: bytes,
    filename: str,
    kind: Kind,
    *,
    root: str | None = None,
    check: bool = True,
    files: bool = False,
    booting: bool = False,
) -> Loaded:
    """Read a configuration. Never raises for what is in ``data``: all problems are in the result.

    ``check`` also looks at what several keys mean together. ``files`` also looks for the programs, scripts and modules that
    the file names, on this machine, where a missing one is a warning; ``root`` does so below that folder, where a
    missing one is an error. ``booting``: leave out what the boot itself will find out and tell.
    """
    try:
        text = nodes.decode(data)
    except nodes.Flaw as flaw:
        findings = Findings(data.decode("utf-8", "replace") if len(data) <= nodes.MAX_BYTES else "")
        findings.error_at(flaw.line, flaw.column, flaw.message, flaw.hint)
        return _loaded(filename, findings, None)
    findings = Findings(text)
    try:
        document, duplicates = nodes.parse(text)
    except nodes.Flaw as flaw:
        findings.error_at(flaw.line, flaw.column, flaw.message, flaw.hint)
        return _loaded(filename, findings, None)
    for duplicate in duplicates:
        first = duplicate.first
        message = f"duplicate key {quoted(first.text)}, first given in line {first.line}"
        findings.error(duplicate.path, duplicate.second, message, "keep one of them", also=first)
    config = _read(document, kind, findings)
    if config is not None and check:
        from ocelot.config.checks import check as check_meaning

        check_meaning(config, document, findings, booting=booting)
    if config is not None and (files or root is not None):
        from ocelot.config.files import check_files

        check_files(config, document, findings, root)
    return _loaded(filename, findings, config)


def load_file(
    path: str,
    kind: Kind,
    *,
    root: str | None = None,
    check: bool = True,
    files: bool = False,
    booting: bool = False,
) -> Loaded:
    """Read the configuration file at ``path``; what keeps it from being read is an error in the result. See :func:`load`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            os.set_blocking(fd, True)
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(nodes.MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        findings = Findings()
        reason = error.strerror if error.errno == errno.EINVAL else os.strerror(error.errno or 0)
        findings.error_at(0, 0, f"cannot read the file: {reason}", _unreadable_hint(error))
        return _loaded(path, findings, None)
    return load(data, path, kind, root=root, check=check, files=files, booting=booting)


def _unreadable_hint(error: OSError) -> str:
    if error.errno == errno.EISDIR:
        return "name the file in it"
    if error.errno == errno.ENOENT:
        return "check the path"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "check its permissions"
    return ""


def _read(document: Node | None, kind: Kind, findings: Findings) -> structs.Bootstrap | structs.SuperviseFile | None:
    if document is None:
        command = "bootstrap" if kind == "bootstrap" else "supervise"
        findings.error_at(0, 0, "the file is empty", f"`ocelot {command} config-template` prints a start")
        return None
    if not isinstance(document, Mapping):
        findings.error(
            (), document, f"the file must hold a mapping, not {describe(document)}", "write `key: value` lines"
        )
        return None
    cls = structs.Bootstrap if kind == "bootstrap" else structs.SuperviseFile
    config = read_record(findings, cls, document, ())
    if config is INVALID or not isinstance(config, (structs.Bootstrap, structs.SuperviseFile)):
        return None
    return config


def _loaded(filename: str, findings: Findings, config: structs.Bootstrap | structs.SuperviseFile | None) -> Loaded:
    def place(finding: Finding) -> tuple[int, int]:
        return finding.line, finding.column

    return Loaded(
        filename=filename,
        config=None if findings.errors else config,
        errors=sorted(findings.errors, key=place),
        warnings=sorted(findings.warnings, key=place),
    )
