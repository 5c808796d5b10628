"""From mount keys and option words to the arguments of mount(2): pure.

mount(2) takes some options as flag bits and hands the rest to the file system as text. People write both kinds in one
list, so the words that are bits are taken out here, as mount(8) does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ocelot.config.structs import Atime, MountBase
from ocelot.linux import syscalls as sc

# word -> (bits to set, bits to clear)
_WORDS: Mapping[str, tuple[int, int]] = {
    "defaults": (0, 0),
    "ro": (sc.MS_RDONLY, 0),
    "rw": (0, sc.MS_RDONLY),
    "nosuid": (sc.MS_NOSUID, 0),
    "suid": (0, sc.MS_NOSUID),
    "nodev": (sc.MS_NODEV, 0),
    "dev": (0, sc.MS_NODEV),
    "noexec": (sc.MS_NOEXEC, 0),
    "exec": (0, sc.MS_NOEXEC),
    "nosymfollow": (sc.MS_NOSYMFOLLOW, 0),
    "symfollow": (0, sc.MS_NOSYMFOLLOW),
    "sync": (sc.MS_SYNCHRONOUS, 0),
    "async": (0, sc.MS_SYNCHRONOUS),
    "dirsync": (sc.MS_DIRSYNC, 0),
    "mand": (sc.MS_MANDLOCK, 0),
    "nomand": (0, sc.MS_MANDLOCK),
    "noatime": (sc.MS_NOATIME, sc.MS_RELATIME | sc.MS_STRICTATIME),
    "atime": (0, sc.MS_NOATIME),
    "nodiratime": (sc.MS_NODIRATIME, 0),
    "diratime": (0, sc.MS_NODIRATIME),
    "relatime": (sc.MS_RELATIME, sc.MS_NOATIME | sc.MS_STRICTATIME),
    "norelatime": (0, sc.MS_RELATIME),
    "strictatime": (sc.MS_STRICTATIME, sc.MS_NOATIME | sc.MS_RELATIME),
    "nostrictatime": (0, sc.MS_STRICTATIME),
    "lazytime": (sc.MS_LAZYTIME, 0),
    "nolazytime": (0, sc.MS_LAZYTIME),
    "silent": (sc.MS_SILENT, 0),
    "loud": (0, sc.MS_SILENT),
    "rbind": (sc.MS_BIND | sc.MS_REC, 0),
    "bind": (sc.MS_BIND, 0),
}

# Changed by a mount(2) call of their own, after the mount.
_PROPAGATION: Mapping[str, int] = {
    name: flag | recursive
    for word, flag in (
        ("shared", sc.MS_SHARED),
        ("private", sc.MS_PRIVATE),
        ("slave", sc.MS_SLAVE),
        ("unbindable", sc.MS_UNBINDABLE),
    )
    for name, recursive in ((word, 0), (f"r{word}", sc.MS_REC))
}

# Words for mount(8) and fstab(5) that no file system understands.
_FOR_FSTAB = frozenset(("auto", "noauto", "nofail", "user", "nouser", "users", "owner", "group", "_netdev", "loop"))

_FLAG_KEYS = (
    ("read_only", sc.MS_RDONLY),
    ("no_exec", sc.MS_NOEXEC),
    ("no_suid", sc.MS_NOSUID),
    ("no_dev", sc.MS_NODEV),
    ("sync", sc.MS_SYNCHRONOUS),
    ("dir_sync", sc.MS_DIRSYNC),
    ("mandatory_locks", sc.MS_MANDLOCK),
    ("posix_acl", sc.MS_POSIXACL),
)

_ATIME = {
    Atime.DEFAULT: 0,
    Atime.NO_ATIME: sc.MS_NOATIME,
    Atime.REL_ATIME: sc.MS_RELATIME,
    Atime.STRICT_ATIME: sc.MS_STRICTATIME,
    Atime.LAZY_TIME: sc.MS_LAZYTIME,
}

PER_MOUNT = (
    sc.MS_RDONLY
    | sc.MS_NOSUID
    | sc.MS_NODEV
    | sc.MS_NOEXEC
    | sc.MS_NOSYMFOLLOW
    | sc.MS_NOATIME
    | sc.MS_NODIRATIME
    | sc.MS_RELATIME
    | sc.MS_STRICTATIME
)
"""The flags of one mount, which a bind may have apart from its source; the others belong to the file system."""

RESTRICTIONS = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
"""What an overlay must repeat: on its lower layer alone these have no effect on what is seen through it."""

_ST_RELATIME, _ST_NOSYMFOLLOW = 4096, 8192  # statvfs(3)
_ATIME_BITS = sc.MS_NOATIME | sc.MS_RELATIME | sc.MS_STRICTATIME

_FLAG_WORDS = (
    (sc.MS_RDONLY, "ro"),
    (sc.MS_NOSUID, "nosuid"),
    (sc.MS_NODEV, "nodev"),
    (sc.MS_NOEXEC, "noexec"),
    (sc.MS_NOSYMFOLLOW, "nosymfollow"),
    (sc.MS_SYNCHRONOUS, "sync"),
    (sc.MS_DIRSYNC, "dirsync"),
    (sc.MS_MANDLOCK, "mand"),
    (sc.MS_NOATIME, "noatime"),
    (sc.MS_NODIRATIME, "nodiratime"),
    (sc.MS_RELATIME, "relatime"),
    (sc.MS_STRICTATIME, "strictatime"),
    (sc.MS_LAZYTIME, "lazytime"),
    (sc.MS_POSIXACL, "posixacl"),
    (sc.MS_SILENT, "silent"),
    (sc.MS_BIND, "bind"),
    (sc.MS_REC, "rec"),
    (sc.MS_REMOUNT, "remount"),
)


@dataclass(frozen=True)
class Options:
    """Arguments for mount(2): flag bits, text for the file system, propagation flags for later calls."""

    flags: int = 0
    data: str = ""
    propagation: tuple[int, ...] = ()


def of_mount(mount: MountBase, defaults: str = "") -> Options:
    """The options of ``mount``: its flag keys and ``atime``, then ``defaults``, then its ``options`` text, which wins."""
    flags = _ATIME[mount.atime]
    for key, bit in _FLAG_KEYS:
        if getattr(mount, key):
            flags |= bit
    return split(_merge(defaults, mount.options), flags)


def split(text: str, flags: int = 0) -> Options:
    """Sort the comma-separated ``text`` into bits (added to or taken from ``flags``) and words for the file system."""
    rest: list[str] = []
    propagation: list[int] = []
    for word in words(text):
        if word in _WORDS:
            setting, clearing = _WORDS[word]
            flags = flags & ~clearing | setting
        elif word in _PROPAGATION:
            propagation.append(_PROPAGATION[word])
        elif word not in _FOR_FSTAB and not word.startswith(("x-", "X-", "comment=")):
            rest.append(word)
    return Options(flags, ",".join(rest), tuple(propagation))


def words(text: str) -> list[str]:
    """The options in ``text``: commas within double quotes (SELinux contexts) do not separate."""
    found, current, quoted = [], "", False
    for character in text:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted:
            found.append(current)
            current = ""
        else:
            current += character
    found.append(current)
    return [word for word in (piece.strip() for piece in found) if word]


def keys(text: str) -> set[str]:
    """The names of the options in ``text``, without their values."""
    return {word.partition("=")[0] for word in words(text)}


def render(options: Options) -> str:
    """The options as one would write them for mount(8)."""
    named = [word for bit, word in _FLAG_WORDS if options.flags & bit]
    named += [word for flag in options.propagation for word, bits in _PROPAGATION.items() if bits == flag]
    return ",".join([*named, *words(options.data)])


def bind_remount_flags(wanted: int, existing: int) -> int:
    """Flags for the call that remounts a bind: what is asked for, and what the source's mount already forbids.

    Remounting replaces all flags of the mount, so a source that is nosuid would become suid by asking for ro.
    """
    flags = wanted & PER_MOUNT
    kept = existing & (PER_MOUNT & ~_ATIME_BITS)
    if not flags & _ATIME_BITS:
        kept |= existing & _ATIME_BITS
    return flags | kept | sc.MS_BIND | sc.MS_REMOUNT


def flags_of_mount(statvfs_flags: int) -> int:
    """The f_flag of statvfs(3) as flags of mount(2): they agree but for relatime and nosymfollow."""
    flags = statvfs_flags & (sc.MS_RDONLY | RESTRICTIONS | sc.MS_NOATIME | sc.MS_NODIRATIME)
    flags |= sc.MS_NOSYMFOLLOW if statvfs_flags & _ST_NOSYMFOLLOW else 0
    return flags | (sc.MS_RELATIME if statvfs_flags & _ST_RELATIME else 0)


def _merge(defaults: str, own: str) -> str:
    named = keys(own)
    return ",".join([word for word in words(defaults) if word.partition("=")[0] not in named] + words(own))
