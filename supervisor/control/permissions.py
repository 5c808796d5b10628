"""Who may do what on the control socket, by the credentials that the kernel vouches for (unix(7), SO_PEERCRED).

Names are looked up in /etc/passwd and /etc/group themselves: glibc's NSS would load modules of the new root into PID 1.
They are read anew for each connection that needs them, since another root or another day brings other accounts.

Root and the user that ocelot runs as are admin. Others have the highest role that ``control.roles`` gives to them or to
one of their groups, and without one they have none, even if the socket's mode let them in.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import trio

from ocelot.config.structs import Roles
from ocelot.errors import ControlError
from ocelot.wire.protocol import Role

SO_PEERGROUPS = 59
"""socket(7); not in Python's socket module. Python reads at most 1024 bytes of an option: 256 groups."""

_RANK = {Role.READ: 1, Role.OPERATE: 2, Role.ADMIN: 3}


@dataclass(frozen=True)
class Peer:
    """The process at the other end. ``groups`` holds its primary and supplementary groups."""

    uid: int
    groups: frozenset[int] = frozenset()
    pid: int = 0


def peer_of(sock: socket.socket | trio.socket.SocketType) -> Peer:
    """The peer of a connected unix socket, as it was when it connected. Raises OSError."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("iII", credentials)
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
    except OSError:  # more than 256 groups, or a kernel before 4.13: the primary group only
        raw = b""
    groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Peer(uid, frozenset((gid, *groups)), pid)


@dataclass(frozen=True)
class Accounts:
    """Users and groups by name."""

    users: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, root: str = "") -> Accounts:
        """Read passwd(5) and group(5) below ``root``; what is missing or malformed names nobody."""
        return cls(_numbers(f"{root}/etc/passwd"), _numbers(f"{root}/etc/group"))


def _numbers(path: str) -> dict[str, int]:
    """Third field by first field; both files have that much in common."""
    numbers: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                if len(fields) >= 3 and fields[2].isascii() and fields[2].isdigit():
                    numbers.setdefault(fields[0], int(fields[2]))
    except OSError:
        pass
    return numbers


def role_of(peer: Peer, roles: Roles, *, own_uid: int, accounts: Accounts | None = None) -> Role | None:
    """The highest role of ``peer``, or None. ``accounts`` None: those of the running system, read only if needed."""
    if peer.uid in (0, own_uid):
        return Role.ADMIN
    for role in (Role.ADMIN, Role.OPERATE, Role.READ):
        wanted: tuple[str, ...] = getattr(roles, role.value)
        if wanted:
            accounts = accounts or Accounts.load()
            if _named(peer, wanted, accounts):
                return role
    return None


def _named(peer: Peer, wanted: Iterable[str], accounts: Accounts) -> bool:
    for name in wanted:
        if name.startswith("@"):
            if number(name[1:], accounts.groups) in peer.groups:
                return True
        elif number(name, accounts.users) == peer.uid:
            return True
    return False


def number(name: str, known: Mapping[str, int]) -> int | None:
    """The id of a user or group that is given by name or by number."""
    if name.isascii() and name.isdigit():
        return int(name)
    return known.get(name)


def require(role: Role | None, needed: Role | None, deed: str, *, local: bool = True) -> None:
    """Raise ControlError (403) unless ``role`` is at least ``needed``. ``local``: it is that of a user of this machine."""
    if needed is None or (role is not None and _RANK[role] >= _RANK[needed]):
        return
    have = f'only "{role}"' if role else "none"
    where = f'add your user, or "@" and one of your groups, to control.roles.{needed} of the configuration'
    raise ControlError(
        f'cannot {deed}: it needs the role "{needed}", and you have {have}',
        hint=where
        if local
        else f"control.vsock.role of the configuration says what the host may do: {needed}, for example",
        status=403,
        kind="permission-denied",
    )


def socket_group(name: str | None) -> int:
    """The group id for the socket's file, -1 for none. Raises ControlError if nobody is called so."""
    if name is None:
        return -1
    gid = number(name.removeprefix("@"), _numbers("/etc/group"))
    if gid is None:
        raise ControlError(
            f'cannot give the control socket to the group "{name}": there is no such group',
            hint="check control.group against /etc/group of the running root",
        )
    return gid
