"""Run by test_switch_root as PID 1 of namespaces of its own: makes a pretended initramfs, switches, and reports.

The root of this mount namespace becomes a tmpfs in which the folders that Python needs are bound, read-only: whatever
the code under test does, no file of the host can be written or removed.

Arguments: a scratch folder, the name of a scenario. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from typing import Any

import trio

from bootstrap import old_root, phases
from bootstrap.guards import MARKER, Guards
from bootstrap.steps import RUNTIME, Machine
from bootstrap.timeline import Timeline
from ocelot.config.structs import (
    BindMount,
    Bootstrap,
    Modules,
    OverlayMount,
    Phase,
    PostSwitch,
    SwitchRoot,
    VirtualMount,
)
from ocelot.errors import OcelotError, describe
from ocelot.linux import mountinfo, syscalls
from ocelot.linux.identity import identity, require_pid1
from ocelot.states import ExitStatus

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUARDS = Guards(require=require_pid1)


class NoPrograms:
    async def run(self, argv: Sequence[str], **_options: Any) -> ExitStatus:
        raise AssertionError(f"a switch of the root starts no program: {argv}")


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def write(path: str, text: str = "x") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


def bind_read_only(path: str, stage: str) -> None:
    target = stage + path
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    os.makedirs(target, exist_ok=True)
    syscalls.mount(path, target, None, syscalls.MS_BIND)
    syscalls.mount(None, target, None, syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)


def needed_by_python() -> list[str]:
    wanted = [path for path in ("/usr", "/bin", "/sbin", "/lib", "/lib64") if os.path.lexists(path)]
    for path in (os.path.realpath(sys.base_prefix), sys.base_prefix, CHECKOUT, sys.prefix):
        if not any(mountinfo.is_below(path, other) for other in wanted):
            wanted.append(path)
    return wanted


def enter_initramfs(stage: str) -> None:
    """Make the pretended initramfs and stand in it as the kernel would leave us there, kernel file systems mounted."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    os.makedirs(stage, exist_ok=True)
    syscalls.mount("initramfs", stage, "tmpfs", 0, "mode=755")
    for path in needed_by_python():
        bind_read_only(path, stage)
    write(f"{stage}{MARKER}", "{}")
    write(f"{stage}/init")
    write(f"{stage}/lib-of-ours/deep/down/file", "y" * 100_000)
    write(f"{stage}{RUNTIME}/bin/python3", "the runtime")
    for name in ("proc", "sys", "dev", "tmp", "sysroot", ".run", ".old"):
        os.makedirs(f"{stage}/{name}", exist_ok=True)
    os.chdir(stage)
    syscalls.pivot_root(".", ".old")
    os.chdir("/")
    syscalls.mount("proc", "/proc", "proc")
    syscalls.mount("sysfs", "/sys", "sysfs", syscalls.MS_RDONLY)
    syscalls.mount("dev", "/dev", "tmpfs")
    syscalls.mount("tmp", "/tmp", "tmpfs")
    syscalls.umount2("/.old", syscalls.MNT_DETACH)
    os.rmdir("/.old")
    # As on a real machine: the runtime is bound into the tmpfs that becomes /run.
    syscalls.mount("run", "/.run", "tmpfs")
    os.makedirs(f"/.run{RUNTIME.removeprefix('/run')}")
    syscalls.mount(RUNTIME, f"/.run{RUNTIME.removeprefix('/run')}", None, syscalls.MS_BIND)
    syscalls.mount("/.run", "/run", None, syscalls.MS_MOVE)
    write("/dev/null-of-ours")


def remaining(fd: int, below: str = "") -> list[str]:
    """What is left on the old root, without crossing into the runtime."""
    found = []
    for name in sorted(os.listdir(fd)):
        path = f"{below}/{name}"
        found.append(path)
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            if old_root.mount_id(child) == old_root.mount_id(fd):
                found += remaining(child, path)
            os.close(child)
    return found


def user_namespace() -> str:
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return "works" if code == 0 else os.strerror(code)


def report(old_fd: int, machine: Machine, warnings: list[str], extra: Callable[[], dict[str, object]]) -> None:
    table = mountinfo.mounts()
    root = mountinfo.mount_at("/", table)
    assert root is not None
    more = extra()
    print(
        json.dumps(
            {
                "identity": identity(),
                "targets": [mount.target for mount in table],
                "root_type": root.fstype,
                "root_shared": bool(root.propagation),
                "root_read_only": root.read_only,
                "runtime": read(f"{RUNTIME}/bin/python3"),
                "dev": os.path.exists("/dev/null-of-ours"),
                "remaining": remaining(old_fd),
                "warnings": warnings,
                "user_namespace": user_namespace(),
                "initramfs_modules": machine.initramfs_modules,
                **more,
            }
        )
    )


def switch(
    config: Bootstrap,
    extra: Callable[[], dict[str, object]],
    guards: Guards = GUARDS,
    modules: str = "/nowhere",
) -> None:
    warnings: list[str] = []
    machine = Machine(NoPrograms(), identity(), warnings.append, to_stderr, initramfs_modules=modules)
    plan = phases.plan(config, guards=guards)
    old_fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)

    async def story() -> None:
        timeline = Timeline()
        await phases.run_phase(plan.pre_switch, machine, timeline)
        await phases.run_phase(plan.switch_root, machine, timeline)
        await phases.run_phase(plan.post_switch, machine, timeline)

    try:
        trio.run(story)
    except OcelotError as error:
        print(json.dumps({"error": describe(error), "targets": [mount.target for mount in mountinfo.mounts()]}))
        return
    report(old_fd, machine, warnings, extra)


def on_tmpfs(**changes: object) -> Bootstrap:
    root = VirtualMount(fstype="tmpfs", options="mode=755")
    return Bootstrap(switch_root=SwitchRoot(root_file_system=root), **changes)  # type: ignore[arg-type]


def prepared(fill: Callable[[str], None], *, read_only: bool) -> Bootstrap:
    """A root file system that was filled before: a tmpfs at /source, which the root is a bind of."""
    os.mkdir("/source")
    syscalls.mount("source", "/source", "tmpfs", 0, "mode=755")
    fill("/source")
    if read_only:
        syscalls.mount(None, "/source", None, syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
    return Bootstrap(switch_root=SwitchRoot(root_file_system=BindMount(source="/source", read_only=read_only)))


def nothing() -> dict[str, object]:
    return {}


def plain() -> None:
    write("/lib-of-ours/modules/some.ko", "module")
    data = VirtualMount(fstype="tmpfs", target="/data")
    switch(
        on_tmpfs(pre_switch=Phase(mounts=(data, VirtualMount(fstype="tmpfs", target="/data/inner")))),
        lambda: {"made": sorted(os.listdir("/"))},
    )


def overlay_layers() -> None:
    write("/layers/lower/etc/name", "from the lower layer")
    os.makedirs("/layers/upper")
    os.makedirs("/layers/work")
    root = OverlayMount(lower="/layers/lower", upper="/layers/upper", work="/layers/work")

    def look() -> dict[str, object]:
        write("/etc/new", "written after the switch")
        return {"lower": read("/etc/name"), "upper": read("/etc/new")}

    switch(Bootstrap(switch_root=SwitchRoot(root_file_system=root)), look)


def overlay_on_a_disk() -> None:
    """The lower layer lies on a mount of preSwitch, which the new root needs for as long as it lives."""
    os.mkdir("/disk")
    syscalls.mount("disk", "/disk", "tmpfs")
    write("/disk/lower/etc/name", "from the disk")
    root = OverlayMount(lower="/disk/lower", upper="/run/layers/upper", work="/run/layers/work")
    os.makedirs("/run/layers/upper")
    os.makedirs("/run/layers/work")
    config = Bootstrap(pre_switch=Phase(), switch_root=SwitchRoot(root_file_system=root))
    switch(config, lambda: {"lower": read("/etc/name"), "disk": read("/run/ocelot/mounts/disk/lower/etc/name")})


def bind_of_the_initramfs() -> None:
    write("/newroot/etc/name", "on the initramfs")
    switch(
        Bootstrap(switch_root=SwitchRoot(root_file_system=BindMount(source="/newroot"))),
        lambda: {"name": read("/etc/name")},
    )


def links_in_the_new_root() -> None:
    write("/var/tmp/of-the-initramfs")

    def fill(root: str) -> None:
        os.makedirs(f"{root}/var/tmp")
        os.symlink("/var/tmp", f"{root}/tmp")

    switch(prepared(fill, read_only=False), lambda: {"tmp_is_mount": os.path.ismount("/var/tmp")})


def read_only_with_mount_points() -> None:
    def fill(root: str) -> None:
        for path in (*(f"/{name}" for name in ("proc", "sys", "dev", "run", "tmp")), *needed_by_python()):
            if os.path.islink(path):
                os.makedirs(os.path.dirname(root + path), exist_ok=True)
                os.symlink(os.readlink(path), root + path)
            else:
                os.makedirs(root + path, exist_ok=True)

    switch(prepared(fill, read_only=True), nothing)


def read_only_without_mount_points() -> None:
    def look() -> dict[str, object]:
        write("/written")
        return {"written": read("/written"), "name": read("/etc/name")}

    switch(prepared(lambda root: write(f"{root}/etc/name", "read-only"), read_only=True), look)


def modules_are_kept() -> None:
    write("/carried/kernel/some.ko", "module")
    config = on_tmpfs(post_switch=PostSwitch(modules=Modules(names=())))
    switch(config, lambda: {"module": read("/run/ocelot/modules/kernel/some.ko")}, modules="/carried")


def without_marker() -> None:
    os.unlink(MARKER)
    switch(on_tmpfs(), nothing)


def default_guards() -> None:
    switch(on_tmpfs(), nothing, Guards())


def freeing() -> None:
    """The deletion alone, on a throw-away tmpfs that holds one of everything that must not be touched."""
    os.mkdir("/old")
    syscalls.mount("old", "/old", "tmpfs")
    write(f"/old{MARKER}")
    write("/old/junk/a/b/c")
    os.symlink("/precious-outside", "/old/junk/link")
    os.mkfifo("/old/junk/pipe")
    write("/precious-outside/file", "outside")
    write("/old/mounted/hidden-below")
    syscalls.mount("m", "/old/mounted", "tmpfs")
    write("/old/mounted/file", "on another file system")
    write("/old/source/file", "the source of a bind, seen elsewhere")
    os.makedirs("/elsewhere")
    syscalls.mount("/old/source", "/elsewhere", None, syscalls.MS_BIND)
    # A bind of a folder of the tmpfs inside the same tmpfs: nothing but the mount id to tell. What it shows lies in a
    # layer and must stay, and "by-mount-id" takes away the second protection, that sources of binds are spared.
    write("/old/layers/upper/file", "a layer")
    write("/old/layers/upper/sub/file", "same device, mounted inside")
    os.makedirs("/old/inside")
    syscalls.mount("/old/layers/upper/sub", "/old/inside", None, syscalls.MS_BIND)
    write("/old/point", "")
    write("/old/boundfile", "a file that is bound")
    syscalls.mount("/old/boundfile", "/old/point", None, syscalls.MS_BIND)
    old_fd = os.open("/old", os.O_RDONLY | os.O_DIRECTORY)
    table = mountinfo.mounts()
    spared = old_root.spared_inodes(old_fd, table, ["/old/layers/upper"])
    if "by-mount-id" in sys.argv:
        source = os.stat("/old/layers/upper/sub")
        spared -= {(source.st_dev, source.st_ino)}
    freed = old_root.free(old_fd, GUARDS, spared)
    paths = ("/old/mounted/file", "/elsewhere/file", "/old/inside/file", "/old/point", "/old/layers/upper/file")
    print(
        json.dumps(
            {
                "contents": {path: read(path) for path in (*paths, "/precious-outside/file")},
                "remaining": remaining(old_fd),
                "entries": freed.entries,
                "problems": freed.problems,
            }
        )
    )


def main() -> None:
    stage, scenario = sys.argv[1:3]
    enter_initramfs(stage)
    globals()[scenario]()


if __name__ == "__main__":
    main()
