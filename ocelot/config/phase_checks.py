"""What the keys of a phase mean together: mounts, modules, hooks, links, files, sysctls, environment."""

from __future__ import annotations

import os.path

from ocelot.config import structs
from ocelot.config.findings import Path, quoted, suggest
from ocelot.config.places import Places, present
from ocelot.config.program_checks import check_environment, check_program, check_time, check_working_directory
from ocelot.linux.mountinfo import is_below

KERNEL_FILE_SYSTEMS = ("/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/sys/fs/cgroup")
"""Where ocelot mounts something itself."""
_SYSROOT = "/sysroot"
"""Where it puts the new root together, before the switch."""
_MARKER = "/etc/ocelot/initramfs"
"""By what it knows the initramfs that it may leave and empty."""

_BLOCK_FILE_SYSTEMS = ("ext4", "ext3", "ext2", "xfs", "btrfs", "squashfs", "erofs", "f2fs", "vfat", "iso9660")
_OTHERS = """
    affs bcachefs bfs cramfs efs exfat gfs2 hfs hfsplus jffs2 jfs minix msdos nilfs2 ntfs ntfs3 ocfs2 omfs ubifs udf ufs zfs
"""
_OTHER_FILE_SYSTEMS = frozenset(_OTHERS.split())
"""Names that look like a slip in one of the former and are none."""
_DEVICE_NAMES = ("vd", "sd", "nvme", "hd", "mmcblk", "loop", "xvd", "sr", "md", "dm-", "mapper/", "disk/")
_DEVICE_TAGS = ("LABEL=", "UUID=", "PARTUUID=", "PARTLABEL=")

MODULE_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")

_MODULE_NEEDS = {
    "virtio": ("virtio_ring",),
    "virtio_pci": ("virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev"),
    "virtio_mmio": ("virtio", "virtio_ring"),
    "virtio_blk": ("virtio", "virtio_ring"),
    "virtio_console": ("virtio", "virtio_ring"),
    "virtio_net": ("virtio", "virtio_ring", "net_failover", "failover"),
    "net_failover": ("failover",),
    "virtiofs": ("virtio", "virtio_ring", "fuse"),
    "9pnet_virtio": ("9pnet", "virtio", "virtio_ring"),
    "9pnet_fd": ("9pnet",),
    "9p": ("9pnet", "netfs", "fscache"),
    "ext4": ("jbd2", "mbcache", "crc16", "crc32c_generic"),
    "nfs": ("sunrpc", "lockd", "grace", "netfs", "fscache"),
    "nfsv4": ("nfs", "sunrpc", "lockd", "grace"),
    "lockd": ("sunrpc", "grace"),
}
"""Modules that are often listed by hand, and what has to be loaded before them where it is a module at all."""


def check_phase(phase: structs.Phase, path: Path, places: Places) -> None:
    check_environment(phase.environment, (*path, "environment"), places)
    if phase.modules is not None:
        _modules(phase.modules, (*path, "modules"), places)
    _sysctl(phase.sysctl, (*path, "sysctl"), places)
    _mounts(phase.mounts, (*path, "mounts"), places)
    for index, item in present(phase.tmpfiles):
        _tmpfile(item, (*path, "tmpfiles", index), places)
    _symlinks(phase.symlinks, (*path, "symlinks"), places)
    _hooks(phase.hooks, (*path, "hooks"), places)


def _absolute(name: str, path: Path, places: Places) -> bool:
    if name.startswith("/"):
        return True
    places.error(path, f"{quoted(name)} is not an absolute path" if name else "must not be empty")
    return False


# -- mounts ----------------------------------------------------------------------------------------


def check_root(root: structs.Mount, path: Path, places: Places) -> None:
    if root.target is not None and root.target != "/":
        places.error((*path, "target"), f'the root file system goes to "/", not {quoted(root.target)}', 'write "/"')
    if isinstance(root, structs.VirtualMount):
        message = f"a {root.fstype} as the root is empty: nothing in it can be started"
        places.warn((*path, "type"), message, "mount it elsewhere")
    if root.on_failure is structs.OnFailure.WARN:
        places.warn((*path, "onFailure"), "the boot cannot go on without its root: Warn is taken as Abort", "remove it")
    _mount(root, path, places)


def _mounts(mounts: tuple[structs.Mount, ...], path: Path, places: Places) -> None:
    seen: dict[str, Path] = {}
    for index, mount in present(mounts):
        here = (*path, index)
        _mount(mount, here, places)
        if mount.target is None:
            if not places.broken((*here, "target")):
                places.error(here, '"target" is missing')
            continue
        target_path = (*here, "target")
        if not _absolute(mount.target, target_path, places):
            continue
        target = os.path.normpath("/" + mount.target.lstrip("/"))
        if target == "/":
            places.error(target_path, '"/" cannot be mounted here', 'the root file system belongs to "switchRoot"')
        elif target in KERNEL_FILE_SYSTEMS:
            places.error(target_path, f"{quoted(target)} is mounted by ocelot itself", "remove this item")
        elif is_below(target, "/run/ocelot"):
            places.error(target_path, f"{quoted(target)} belongs to ocelot", "choose another target")
        elif path[0] == "preSwitch" and is_below(target, _SYSROOT) and places.given(("switchRoot",)):
            message = f"{quoted(target)} would be hidden: the root file system is mounted on {quoted(_SYSROOT)}"
            places.error(target_path, message, "choose another target, or mount it in postSwitch")
        elif path[0] == "preSwitch" and is_below(_MARKER, target) and places.given(("switchRoot",)):
            message = f"{quoted(target)} would hide {_MARKER}, without which there is no switch to another root"
            places.error(target_path, message, "mount it in postSwitch")
        elif target in seen:
            message = f"{quoted(target)} is mounted twice: this one hides the one in line {places.line(seen[target])}"
            places.warn(target_path, message, "remove one of them", also=seen[target])
        else:
            seen[target] = target_path


def _mount(mount: structs.Mount, path: Path, places: Places) -> None:
    check_time(mount.timeout, (*path, "timeout"), places)
    if mount.mandatory_locks:
        places.warn((*path, "mandatoryLocks"), "has no effect since Linux 5.15", "remove it")
    words = mount.options.split(",")
    for flag, key, word in (
        (mount.read_only, "readOnly", "rw"),
        (mount.no_exec, "noExec", "exec"),
        (mount.no_suid, "noSuid", "suid"),
        (mount.no_dev, "noDev", "dev"),
    ):
        if flag and word in words:
            places.warn((*path, "options"), f'"{word}" contradicts {key} in line {places.line((*path, key))}')
    if isinstance(mount, structs.DeviceMount):
        _device(mount.device, (*path, "device"), places)
        _file_system(mount.fstype, (*path, "fstype"), places)
    elif isinstance(mount, (structs.VirtiofsMount, structs.NinePMount)):
        _tag(mount, path, places)
    elif isinstance(mount, structs.NfsMount):
        _nfs(mount, path, places)
    elif isinstance(mount, structs.OverlayMount):
        _overlay(mount, path, places)
    elif isinstance(mount, structs.VirtualMount):
        _virtual(mount, path, places)
    else:
        _bind(mount, path, places)


def _device(device: str, path: Path, places: Places) -> None:
    if device.startswith("/"):
        kind = device.removeprefix("/dev/disk/by-").partition("/")[0]
        if device.startswith("/dev/disk/by-") and f"{kind.upper()}=" not in _DEVICE_TAGS:
            hint = "write what the kernel calls it, or LABEL=, UUID=, PARTUUID=, PARTLABEL="
            places.warn(path, f"{quoted(device)} is made by udev, which does not run before the root is there", hint)
        return
    for tag in _DEVICE_TAGS:
        if device.upper().startswith(tag):
            if len(device) == len(tag):
                places.error(path, f"{quoted(device)} names no device", f"write what stands after {tag}")
            elif not device.startswith(tag):
                places.error(path, f"{quoted(device)} is no device", f'write "{tag}{device[len(tag) :]}"')
            return
    hint = "write a path below /dev, or LABEL=, UUID=, PARTUUID=, PARTLABEL="
    if device.startswith(_DEVICE_NAMES):
        hint = f'write "/dev/{device}"'
    places.error(path, f"{quoted(device)} is no device" if device else "must not be empty", hint)


def _file_system(fstype: str | None, path: Path, places: Places) -> None:
    if fstype is None or fstype in _BLOCK_FILE_SYSTEMS or fstype in _OTHER_FILE_SYSTEMS:
        return
    meant = suggest(fstype, _BLOCK_FILE_SYSTEMS)
    if meant:
        places.warn(path, f"{quoted(fstype)} is no file system that ocelot has heard of", f'did you mean "{meant}"?')


def _tag(mount: structs.VirtiofsMount | structs.NinePMount, path: Path, places: Places) -> None:
    if not mount.tag:
        places.error((*path, "tag"), "must not be empty", "write the tag that the host gave the share")
    elif isinstance(mount, structs.VirtiofsMount) and len(mount.tag.encode()) > 36:
        places.error((*path, "tag"), "is longer than 36 bytes, the limit of virtiofs")


def _nfs(mount: structs.NfsMount, path: Path, places: Places) -> None:
    if not mount.server:
        places.error((*path, "server"), "must not be empty")
    elif "/" in mount.server:
        server, _, export = mount.server.partition(":")
        hint = f'write server "{server}" and export "{export}"' if export else 'the path belongs to "export"'
        places.error((*path, "server"), f"{quoted(mount.server)} is not a host", hint)
    _absolute(mount.export, (*path, "export"), places)


def _overlay(mount: structs.OverlayMount, path: Path, places: Places) -> None:
    for folder in mount.lower.split(":"):
        _absolute(folder, (*path, "lower"), places)
    upper = _absolute(mount.upper, (*path, "upper"), places)
    work = _absolute(mount.work, (*path, "work"), places)
    if not (upper and work):
        return
    hint = "choose a folder beside it on the same file system"
    if mount.upper == mount.work or mount.work.startswith(mount.upper.rstrip("/") + "/"):
        places.error((*path, "work"), "must be outside of upper", hint)
    elif mount.upper.startswith(mount.work.rstrip("/") + "/"):
        places.error((*path, "upper"), "must be outside of work", hint)
    elif mount.upper in mount.lower.split(":"):
        places.error((*path, "upper"), "must not be a lower layer as well")


def _virtual(mount: structs.VirtualMount, path: Path, places: Places) -> None:
    here = (*path, "fstype")
    if not mount.fstype:
        places.error(here, "must not be empty", "write for example tmpfs")
    elif mount.fstype in _BLOCK_FILE_SYSTEMS:
        places.error(here, f"{quoted(mount.fstype)} needs a device", "write `type: device` with a device")
    elif mount.fstype in ("virtiofs", "9p", "nfs", "overlay"):
        places.error(here, f"{quoted(mount.fstype)} is not virtual", f"write `type: {mount.fstype}`")


def _bind(mount: structs.BindMount, path: Path, places: Places) -> None:
    if _absolute(mount.source, (*path, "source"), places) and mount.source == mount.target:
        places.warn((*path, "source"), f"{quoted(mount.source)} is bound onto itself")
    whole = [("sync", mount.sync), ("dirSync", mount.dir_sync), ("posixAcl", mount.posix_acl)]
    whole += [("atime", mount.atime is structs.Atime.LAZY_TIME)]
    for key in [key for key, given in whole if given and not mount.overlay]:
        message = "has no effect on a bind: it belongs to the file system as a whole"
        places.warn((*path, key), message, "set it where that is mounted")


# -- modules ---------------------------------------------------------------------------------------


def module_name(path: str) -> str:
    """The kernel's name of the module in a file: no folder, no suffix, underscores for hyphens."""
    return os.path.basename(path).partition(".")[0].replace("-", "_")


def _modules(modules: structs.Modules, path: Path, places: Places) -> None:
    check_time(modules.timeout, (*path, "timeout"), places)
    _absolute(modules.directory, (*path, "directory"), places)
    if modules.dep_file_path == "":
        places.error((*path, "depFilePath"), "must not be empty", "leave it out")
    seen: dict[str, int] = {}
    for index, name in present(modules.names):
        here = (*path, "names", index)
        if not _module_path(name, modules, here, places):
            continue
        module = module_name(name)
        if module in seen:
            first = (*path, "names", seen[module])
            places.warn(here, f"{quoted(module)} is already in line {places.line(first)}", "remove one", also=first)
        else:
            seen[module] = index
    for module in modules.parameters:
        if module_name(module) not in seen and not places.broken((*path, "names")):
            places.warn(
                (*path, "parameters", module), f'{quoted(module)} is not among "names"', "add it there", key=True
            )
    if modules.mode == "list" and modules.dep_file_path is None and not places.booting:
        _module_order(seen, (*path, "names"), places)


def _module_path(name: str, modules: structs.Modules, path: Path, places: Places) -> bool:
    if not name:
        places.error(path, "must not be empty")
    elif name.startswith("/"):
        relative = os.path.relpath(name, modules.directory)
        hint = f'write "{relative}"' if not relative.startswith("..") else ""
        places.error(path, f'{quoted(name)} is not relative to "directory"', hint)
    elif modules.mode == "list" and "/" not in name and "." not in name and not places.broken((*path[:-2], "mode")):
        places.error(path, f"{quoted(name)} is a module's name, not a path", "write `mode: scan` for names")
    elif ("/" in name or "." in name) and not name.endswith(MODULE_SUFFIXES):
        places.error(path, f"{quoted(name)} is not a kernel module", "its name ends in .ko, .ko.xz, .ko.gz or .ko.zst")
    else:
        return True
    return False


def _module_order(indexes: dict[str, int], path: Path, places: Places) -> None:
    for module, index in indexes.items():
        late = [need for need in _MODULE_NEEDS.get(module, ()) if indexes.get(need, -1) > index]
        if late:
            last = max(late, key=lambda need: indexes[need])
            line = places.line((*path, indexes[last]))
            places.warn(
                (*path, index),
                f"{quoted(module)} is loaded before {', '.join(quoted(need) for need in late)}, which it needs",
                f"move it below line {line}, or set depFilePath",
            )


# -- the rest of a phase ---------------------------------------------------------------------------


def _hooks(hooks: tuple[structs.Hook, ...], path: Path, places: Places) -> None:
    for index, hook in present(hooks):
        here = (*path, index)
        if not hook.name:
            places.error((*here, "name"), "must not be empty")
        check_program(hook.command, (*here, "command"), places)
        check_time(hook.timeout, (*here, "timeout"), places)
        check_working_directory(hook.working_directory, here, places)
        check_environment(hook.environment, (*here, "environment"), places)


def _symlinks(links: tuple[structs.Symlink, ...], path: Path, places: Places) -> None:
    seen: dict[str, Path] = {}
    for index, link in present(links):
        here = (*path, index)
        check_time(link.timeout, (*here, "timeout"), places)
        if not link.source:
            places.error((*here, "source"), "must not be empty", "write what the link points to")
        if not _absolute(link.target, (*here, "target"), places):
            continue
        target = os.path.normpath(link.target)
        if target == "/":
            places.error((*here, "target"), '"/" cannot be a link')
        elif link.source == target:
            places.error((*here, "source"), "the link points to itself")
        elif target in seen:
            message = f"{quoted(target)} is made twice: this link replaces the one in line {places.line(seen[target])}"
            places.warn((*here, "target"), message, "remove one of them", also=seen[target])
        else:
            seen[target] = (*here, "target")


def _tmpfile(item: structs.Tmpfile, path: Path, places: Places) -> None:
    check_time(item.timeout, (*path, "timeout"), places)
    if _absolute(item.path, (*path, "path"), places) and os.path.normpath("/" + item.path.lstrip("/")) == "/":
        places.error((*path, "path"), "is the root itself", "name something in it")
    if places.broken((*path, "type")) or places.broken((*path, "target")) or places.broken((*path, "content")):
        return
    source, key = (item.target, "target") if item.target is not None else (item.content, "content")
    if item.type == "L" and not source:
        places.error(path, '"target" is missing', "write where the link points to")
    elif item.type in "cb" and not _is_device_number(source):
        what = f"{quoted(source)} is not a device number" if source else '"target" is missing'
        places.error((*path, key) if source else path, what, 'write MAJOR:MINOR, for example "1:3"')
    elif item.type in "fFdp" and item.target is not None:
        places.warn((*path, "target"), f'has no effect for type "{item.type}"', "remove it")
    if item.content is not None and item.type in "dp":
        places.warn((*path, "content"), f'has no effect for type "{item.type}"', "remove it, or write `type: f`")
    if item.mode is not None and item.type == "L":
        places.warn((*path, "mode"), "has no effect: a link has no mode of its own", "remove it")


def _is_device_number(text: str | None) -> bool:
    major, colon, minor = (text or "").partition(":")
    return bool(colon) and all(part.isascii() and part.isdigit() and len(part) < 8 for part in (major, minor))


def _sysctl(settings: dict[str, str], path: Path, places: Places) -> None:
    seen: dict[str, str] = {}
    for key in settings:
        here = (*path, key)
        if key.startswith("/"):
            name = key.removeprefix("/proc/sys/").strip("/").replace("/", ".")
            places.error(here, f"{quoted(key)} is a path", f'write "{name}"', key=True)
            continue
        plain = _sysctl_path(key)
        parts = plain.split("/")
        if len(parts) < 2 or not all(part.strip() and part not in (".", "..") for part in parts):
            places.error(here, f"{quoted(key)} is not a sysctl", 'write for example "net.core.somaxconn"', key=True)
        elif plain in seen:
            message = f"is the same sysctl as {quoted(seen[plain])}"
            places.warn(here, message, "remove one of them", also=(*path, seen[plain]), key=True)
        else:
            seen[plain] = key


def _sysctl_path(key: str) -> str:
    """The path below /proc/sys: the first separator decides which of the two it is (sysctl.d(5))."""
    first = next((letter for letter in key if letter in "./"), ".")
    return key if first == "/" else key.translate(str.maketrans("./", "/."))
