"""Files, folders, links, pipes and device nodes of the configuration, in the manner of tmpfiles.d(5).

Everything happens below a descriptor of the root with openat2(2) RESOLVE_IN_ROOT: a link in the tree, absolute or
with dots, resolves within that root and nowhere else. The last component is never followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bootstrap.steps import Machine, Step
from ocelot.config.structs import OnFailure, Tmpfile
from ocelot.errors import OcelotError
from ocelot.linux import accounts
from ocelot.linux.links import held, may_be_planted
from ocelot.linux.syscalls import RESOLVE_IN_ROOT, openat2

_KINDS = {
    "f": "file",
    "F": "file",
    "d": "folder",
    "L": "link",
    "p": "pipe",
    "c": "character device",
    "b": "block device",
}
_DEFAULT_MODES = {"d": 0o755}

Warn = Callable[[str], None]
Create = Callable[[], None]


@dataclass(frozen=True, slots=True)
class MakeTmpfile:
    """Bring one entry of the file into being, or into shape."""

    item: Tmpfile
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None

    @property
    def name(self) -> str:
        return f"tmpfile {self.item.path}"

    def describe(self) -> str:
        item = self.item
        words = [f"make {_KINDS[item.type]} {item.path}"]
        if item.type == "F":
            words.append("emptied first")
        if item.target is not None:
            words.append(f"-> {item.target}" if item.type == "L" else item.target)
        if item.content is not None:
            words.append(item.content if item.type in ("c", "b") else f"{len(item.content.encode())} bytes")
        if item.type != "L":
            words.append(f"mode {_mode(item):04o}")
        if item.owner is not None or item.group is not None:
            words.append(f"owner {item.owner or '-'}:{item.group or '-'}")
        return ", ".join(words)

    async def apply(self, machine: Machine) -> None:
        """Raises OcelotError when something else is in the way, OSError from the file system."""
        if machine.trial and self.item.type in "cb":
            machine.info(f"not done in a trial, it reaches a device of the host: {self.describe()}")
            return
        make(self.item, machine.root or "/", warn=machine.warn)


def plan_tmpfiles(items: Sequence[Tmpfile]) -> tuple[Step, ...]:
    return tuple(MakeTmpfile(item, item.on_failure or OnFailure.WARN, item.timeout) for item in items)


def make(item: Tmpfile, root: str, *, warn: Warn) -> None:
    """Make ``item`` in the file system at ``root``. An existing entry of its kind gets the mode and owner asked for."""
    owner, group = _owner(item, "" if root == "/" else root)
    parent_path, name = os.path.split(os.path.normpath("/" + item.path.lstrip("/")))
    if not name:
        raise OcelotError(f'cannot make "{item.path}": it is the root itself')
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parent = open_folder(root_fd, parent_path)
        try:
            created = _create(item, parent, name, warn)
            _dress(item, parent, name, owner, group, created)
        finally:
            os.close(parent)
    finally:
        os.close(root_fd)


def open_folder(root_fd: int, path: str) -> int:
    """A descriptor of the folder ``path`` below ``root_fd``, made with its parents (mode 0755) where it is missing."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return openat2(root_fd, path, flags, resolve=RESOLVE_IN_ROOT)
    except FileNotFoundError:
        above, name = os.path.split(path)
        if not name:
            raise
    parent = open_folder(root_fd, above)
    try:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            # A link whose destination is missing: making the destination is not what was asked for.
            raise OcelotError(f'cannot use "{path}": it is not a folder, or a link that leads nowhere') from None
        return openat2(root_fd, path, flags, resolve=RESOLVE_IN_ROOT)
    finally:
        os.close(parent)


def _create(item: Tmpfile, parent: int, name: str, warn: Warn) -> bool:
    match item.type:
        case "f" | "F":
            return _create_file(item, parent, name)
        case "d":
            return _create_node(item, parent, name, stat.S_IFDIR, lambda: os.mkdir(name, _mode(item), dir_fd=parent))
        case "p":
            return _create_node(item, parent, name, stat.S_IFIFO, lambda: os.mkfifo(name, _mode(item), dir_fd=parent))
        case "L":
            return _create_link(item, parent, name, warn)
    kind = stat.S_IFCHR if item.type == "c" else stat.S_IFBLK
    device = device_number(item)
    created = _create_node(item, parent, name, kind, lambda: os.mknod(name, _mode(item) | kind, device, dir_fd=parent))
    if not created and os.stat(name, dir_fd=parent, follow_symlinks=False).st_rdev != device:
        raise OcelotError(f'cannot make "{item.path}": another device node is there', hint="remove it first")
    return created


def _create_file(item: Tmpfile, parent: int, name: str) -> bool:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    created = True
    try:
        fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, _mode(item), dir_fd=parent)
    except FileExistsError:
        _require(item, parent, name, stat.S_IFREG)
        created = False
        if item.type == "f":
            return created
        fd = os.open(name, flags | os.O_TRUNC, dir_fd=parent)
    try:
        data = memoryview((item.content or "").encode())
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    return created


def _create_node(item: Tmpfile, parent: int, name: str, kind: int, create: Create) -> bool:
    try:
        create()
    except FileExistsError:
        _require(item, parent, name, kind)
        return False
    return True


def _create_link(item: Tmpfile, parent: int, name: str, warn: Warn) -> bool:
    source = item.target if item.target is not None else item.content
    if not source:
        raise OcelotError(f'cannot make "{item.path}": a link needs a target')
    try:
        os.symlink(source, name, dir_fd=parent)
    except FileExistsError:
        _require(item, parent, name, stat.S_IFLNK)
        there = os.readlink(name, dir_fd=parent)
        if there != source:
            warn(f'left "{item.path}" as it is: it points to "{there}" (symlinks replaces links, tmpfiles does not)')
        return False
    return True


def _require(item: Tmpfile, parent: int, name: str, kind: int) -> None:
    there = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_IFMT(there.st_mode) != kind:
        raise OcelotError(
            f'cannot make {_KINDS[item.type]} "{item.path}": something of another kind is in the way',
            hint="remove it first or choose another path",
        )
    # A boot before this one may have let a user link /etc/shadow there, to have it as its own after this one
    if may_be_planted(there, os.fstat(parent)):
        raise OcelotError(
            f'cannot make {_KINDS[item.type]} "{item.path}": what is there has other names too, and others may write to its folder',
            hint="remove it first",
        )


def _dress(item: Tmpfile, parent: int, name: str, owner: int, group: int, created: bool) -> None:
    if owner != -1 or group != -1:
        os.chown(name, owner, group, dir_fd=parent, follow_symlinks=False)
    # After chown, which takes the set-id bits away. A new entry gets its mode here too: the umask is in the way before.
    if item.type == "L" or not (created or item.mode is not None):
        return
    with held(name, dir_fd=parent) as (same, _):
        os.chmod(same, _mode(item))


def _owner(item: Tmpfile, root: str) -> tuple[int, int]:
    if item.owner is None and item.group is None:
        return -1, -1
    known = accounts.read(root)
    uid = known.uid(item.owner) if item.owner is not None else -1
    gid = known.gid(item.group) if item.group is not None else -1
    return uid, gid


def _mode(item: Tmpfile) -> int:
    return item.mode if item.mode is not None else _DEFAULT_MODES.get(item.type, 0o644)


def device_number(item: Tmpfile) -> int:
    """The number of a device node, from ``target`` (or ``content``) ``MAJOR:MINOR``. Raises OcelotError."""
    text = item.target or item.content or ""
    major, _, minor = text.partition(":")
    if not (major.strip().isdigit() and minor.strip().isdigit()):
        raise OcelotError(
            f'cannot make "{item.path}": "{text}" is not a device number', hint='give it as target: "MAJOR:MINOR"'
        )
    return os.makedev(int(major), int(minor))
