"""What a configuration means once it is read: frozen records with every default filled in.

The keys in the file are the camelCase forms of these names. Nothing here reads or checks a file: ``loading`` turns YAML
into these records and knows the positions, ``checks`` looks at what several keys mean together.

Annotations are real objects, not strings, since ``loading`` and ``schema`` read them.
"""

import enum
from typing import Literal

import msgspec
from msgspec import Struct

from ocelot.config.base import Base as Base
from ocelot.config.base import Duration as Duration
from ocelot.config.base import Mode as Mode
from ocelot.config.base import SignalNumber as SignalNumber
from ocelot.config.base import Size as Size
from ocelot.config.base import Text as Text
from ocelot.config.ordering import *
from ocelot.config.privileges import *
from ocelot.config.probes import *
from ocelot.config.process import *
from ocelot.states import LogLevel


class OnFailure(enum.StrEnum):
    """What the failure of one item does; read in any case."""

    WARN = "Warn"
    ABORT = "Abort"
    RETRY = "Retry"


class Atime(enum.StrEnum):
    DEFAULT = "default"
    NO_ATIME = "noAtime"
    REL_ATIME = "relAtime"
    STRICT_ATIME = "strictAtime"
    LAZY_TIME = "lazyTime"


class Item(Base, frozen=True, kw_only=True):
    """One piece of work in a phase. ``on_failure`` None: the default of its kind (``Abort`` for mounts, else ``Warn``)."""

    on_failure: OnFailure | None = None
    timeout: Duration | None = None


# -- mounts ----------------------------------------------------------------------------------------


class MountBase(Item, frozen=True, kw_only=True):
    """What every kind of mount has. ``target`` None stands for ``/`` in switchRoot and is an error elsewhere."""

    target: Text | None = None
    overlay: bool = False
    options: Text = ""
    read_only: bool = False
    no_exec: bool = False
    no_suid: bool = False
    no_dev: bool = False
    sync: bool = False
    dir_sync: bool = False
    mandatory_locks: bool = False
    posix_acl: bool = False
    atime: Atime = Atime.DEFAULT


class VirtiofsMount(MountBase, frozen=True, kw_only=True, tag_field="type", tag="virtiofs"):
    tag: Text


class DeviceMount(MountBase, frozen=True, kw_only=True, tag_field="type", tag="device"):
    """``device``: a path, or LABEL=, UUID=, PARTUUID=, PARTLABEL=. ``fstype`` None: read from the superblock."""

    device: Text
    fstype: Text | None = None


class NinePMount(MountBase, frozen=True, kw_only=True, tag_field="type", tag="9p"):
    tag: Text


class NfsMount(MountBase, frozen=True, kw_only=True, tag_field="type", tag="nfs"):
    server: Text
    export: Text


class OverlayMount(MountBase, frozen=True, kw_only=True, tag_field="type", tag="overlay"):
    """``lower`` may name several folders, top first, separated by colons."""

    lower: Text
    upper: Text
    work: Text


class VirtualMount(MountBase, frozen=True, kw_only=True, tag_field="type", tag="virtual"):
    """A file system without a device: tmpfs, bpf, configfs, securityfs, ..."""

    fstype: Text
    source: Text | None = None


class BindMount(MountBase, frozen=True, kw_only=True, tag_field="type", tag="bind"):
    source: Text


Mount = VirtiofsMount | DeviceMount | NinePMount | NfsMount | OverlayMount | VirtualMount | BindMount


# -- phases ----------------------------------------------------------------------------------------


class Modules(Item, frozen=True, kw_only=True):
    """Kernel modules to load. ``names``: paths below ``directory`` (mode list), or bare module names too (mode scan)."""

    mode: Literal["list", "scan"] = "list"
    directory: Text = "/lib/modules"
    names: tuple[Text, ...] = ()
    dep_file_path: Text | None = None
    parameters: dict[str, Text] = {}


class Hook(Item, frozen=True, kw_only=True):
    name: Text
    command: Text
    arguments: tuple[Text, ...] = ()
    timeout: Duration | None = 300.0
    environment: dict[str, Text] = {}
    working_directory: Text | None = None


class Symlink(Item, frozen=True, kw_only=True):
    """``source`` is what the link points to, ``target`` is where it is made."""

    source: Text
    target: Text


class Tmpfile(Item, frozen=True, kw_only=True):
    """tmpfiles.d(5) types: f file, F file truncated, d directory, L symlink, p fifo, c b device nodes."""

    path: Text
    type: Literal["f", "F", "d", "L", "p", "c", "b"] = "f"
    mode: Mode | None = None
    owner: Text | None = None
    group: Text | None = None
    content: Text | None = None
    target: Text | None = None


class Phase(Base, frozen=True, kw_only=True):
    """What may be done before or after the switch."""

    modules: Modules | None = None
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    symlinks: tuple[Symlink, ...] = ()
    sysctl: dict[str, Text] = {}
    tmpfiles: tuple[Tmpfile, ...] = ()
    environment: dict[str, Text] = {}


class SwitchRoot(Base, frozen=True, kw_only=True):
    root_file_system: Mount


# -- hand-off --------------------------------------------------------------------------------------


class BootScript(Base, frozen=True, kw_only=True):
    path: Text
    arguments: tuple[Text, ...] = ()
    working_directory: Text | None = None
    environment: dict[str, Text] = {}
    timeout: Duration = 300.0
    on_failure: OnFailure | None = None


class Supervise(Base, frozen=True, kw_only=True, tag_field="mode", tag="supervise"):
    processes: dict[str, Process] = {}
    shutdown_timeout: Duration | None = None
    boot_script: BootScript | None = None


class Shell(Base, frozen=True, kw_only=True, tag_field="mode", tag="shell"):
    program: Text = "/bin/sh"
    arguments: tuple[Text, ...] = ()
    boot_script: BootScript | None = None


class Exec(Base, frozen=True, kw_only=True, tag_field="mode", tag="exec"):
    program: Text
    arguments: tuple[Text, ...] = ()
    boot_script: BootScript | None = None


Handoff = Supervise | Shell | Exec


class PostSwitch(Phase, frozen=True, kw_only=True):
    handoff: Handoff | None = None


# -- sections of both files ------------------------------------------------------------------------


class Roles(Base, frozen=True, kw_only=True):
    """Who may do what on the control socket: user and group names or numbers, groups with a leading ``@``."""

    read: tuple[Text, ...] = ()
    operate: tuple[Text, ...] = ()
    admin: tuple[Text, ...] = ()


class Vsock(Base, frozen=True, kw_only=True):
    """The same server for the host of a virtual machine, over vsock(7): nobody else gets an answer there.

    ``role``: of all who may use vsock on the host. Commands (exec, shell) need the unix socket.
    """

    port: int = 9465
    role: Literal["read", "operate", "admin"] = "read"


class Control(Base, frozen=True, kw_only=True):
    """``vsock`` None: off. ``socket``: where another user than root runs ocelot, XDG_RUNTIME_DIR/ocelot/control.sock is the default."""

    socket: Text = "/run/ocelot/control.sock"
    mode: Mode = 0o600
    group: Text | None = None
    roles: Roles = Roles()
    vsock: Vsock | None = None


class Metrics(Base, frozen=True, kw_only=True):
    """``listen``: ``HOST:PORT`` of a TCP listener that serves only metrics and health; None: off."""

    listen: Text | None = None


class Host(Base, frozen=True, kw_only=True):
    """``exit_port``: the name of the virtio-serial port that the exit report is written to."""

    exit_port: Text = "org.ocelot.exit"


class FatalAction(enum.StrEnum):
    POWEROFF = "poweroff"
    REBOOT = "reboot"
    HOLD = "hold"
    SHELL = "shell"


class OnFatal(Base, frozen=True, kw_only=True):
    """What PID 1 does when it cannot go on. ``timeout``: how long the rescue shell may last; None: without limit."""

    action: FatalAction = FatalAction.POWEROFF
    shell: Text = "/bin/sh"
    timeout: Duration | None = None


class Shutdown(Base, frozen=True, kw_only=True):
    """What follows after the processes were stopped: kill the rest, sync, unmount, the power verb."""

    timeout: Duration = 30.0
    action: Literal["auto", "poweroff", "reboot", "halt"] = "auto"


class Sections(Base, frozen=True, kw_only=True):
    """The keys that bootstrap and supervise files share."""

    log_level: LogLevel = LogLevel.INFO
    control: Control = Control()
    metrics: Metrics = Metrics()
    host: Host = Host()
    on_fatal: OnFatal = OnFatal()
    shutdown: Shutdown = Shutdown()
    hostname: Text | None = None


class Bootstrap(Sections, frozen=True, kw_only=True):
    """A bootstrap file."""

    console: Text = "console"
    pre_switch: Phase = Phase()
    switch_root: SwitchRoot | None = None
    post_switch: PostSwitch = PostSwitch()


class SuperviseFile(Sections, frozen=True, kw_only=True):
    """A standalone file for ``ocelot supervise``."""

    version: Literal["1.0"] = "1.0"
    processes: dict[str, Process] = {}
    shutdown_timeout: Duration | None = None


def to_builtins(record: Struct) -> object:
    """The record as plain dicts and lists with the file's key names, for printing and for the control socket."""
    return msgspec.to_builtins(record)
