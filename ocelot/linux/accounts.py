"""Users and groups of a root file system, read from its own files.

The C library's lookups (NSS) are never used: they would load the new root's modules, linked against the new root's C
library, into PID 1. See passwd(5) and group(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ocelot.errors import OcelotError

_LAST_ID = 2**32 - 2  # (uid_t) -1 means "leave it" to chown(2) and setresuid(2)


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: int
    gid: int
    home: str = "/"
    shell: str = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accounts:
    """What one root file system knows. ``source`` names it in messages."""

    users: Mapping[str, User] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    source: str = "/etc"

    def uid(self, text: str) -> int:
        """The number of a user given by name or number. Raises OcelotError."""
        if text in self.users:
            return self.users[text].uid
        return self._number(text, "user", "passwd", list(self.users))

    def gid(self, text: str) -> int:
        """The number of a group given by name or number. Raises OcelotError."""
        if text in self.groups:
            return self.groups[text].gid
        return self._number(text, "group", "group", list(self.groups))

    def user(self, text: str) -> User | None:
        """The entry of a user given by name or number, if there is one."""
        if text in self.users:
            return self.users[text]
        if text.isascii() and text.isdigit():
            return next((user for user in self.users.values() if user.uid == int(text)), None)
        return None

    def supplementary(self, name: str) -> tuple[int, ...]:
        """The numbers of the groups that list ``name`` as a member, in the file's order."""
        return tuple(group.gid for group in self.groups.values() if name in group.members)

    def _number(self, text: str, what: str, file: str, known: list[str]) -> int:
        if _is_id(text):
            return int(text)
        hint = f"add it to {self.source}/{file} or give its number"
        if not known:
            hint = f"{self.source}/{file} has no entries: give the number"
        raise OcelotError(f'cannot find the {what} "{text}"', hint=hint)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LAST_ID


def parse_passwd(text: str) -> dict[str, User]:
    """passwd(5). Lines that mean nothing are left out; of two entries with one name the first counts, as in libc."""
    users: dict[str, User] = {}
    for line in text.split("\n"):
        parts = line.split(":")
        if len(parts) >= 4 and parts[0] and not line.startswith("#") and _is_id(parts[2]) and _is_id(parts[3]):
            home = parts[5] if len(parts) > 5 and parts[5] else "/"
            shell = parts[6] if len(parts) > 6 and parts[6] else "/bin/sh"
            users.setdefault(parts[0], User(parts[0], int(parts[2]), int(parts[3]), home, shell))
    return users


def parse_group(text: str) -> dict[str, Group]:
    """group(5), with the same leniency."""
    groups: dict[str, Group] = {}
    for line in text.split("\n"):
        parts = line.split(":")
        if len(parts) >= 3 and parts[0] and not line.startswith("#") and _is_id(parts[2]):
            members = tuple(name for name in parts[3].split(",") if name) if len(parts) > 3 else ()
            groups.setdefault(parts[0], Group(parts[0], int(parts[2]), members))
    return groups


def read(root: str = "") -> Accounts:
    """The accounts of the file system at ``root``; a missing file means that there are none."""
    return Accounts(parse_passwd(_text(f"{root}/etc/passwd")), parse_group(_text(f"{root}/etc/group")), f"{root}/etc")


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
