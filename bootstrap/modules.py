"""Load kernel modules: find the folder, resolve the order, finit_module(2) one after the other.

The order is computed when the step runs, from the files that are there then; ``module_order`` does it and is pure. A
module's own init function runs within the system call, so each call has a deadline and a worker thread: one for the whole
list, since waking a thread costs an emulated machine as much as loading a small module.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from bootstrap import module_loading
from bootstrap.module_order import Resolution, module_name, resolve, stem
from bootstrap.steps import Machine, Step
from ocelot import log
from ocelot.config.structs import (
    DeviceMount,
    Modules,
    Mount,
    NfsMount,
    NinePMount,
    OnFailure,
    OverlayMount,
    VirtiofsMount,
)
from ocelot.errors import OcelotError, describe
from ocelot.linux.identity import Identity

__all__ = ["Resolution", "module_name", "plan_carried", "plan_modules", "resolve"]

CALL = 60.0
"""Seconds that loading one module may take, unless ``timeout`` says otherwise."""

MODPROBE = "/proc/sys/kernel/modprobe"

_BUS = ("kernel/drivers/virtio/", "kernel/drivers/pci/")
_DISKS = (*(f"kernel/drivers/{kind}/" for kind in ("ata", "block", "md", "mmc", "nvme", "scsi", "usb")), "kernel/fs/")
_NINE_P = ("kernel/fs/9p/", "kernel/net/9p/")
_NFS = ("kernel/fs/nfs/", "kernel/net/sunrpc/", "kernel/drivers/net/", "kernel/net/packet/")


def plan_modules(
    modules: Modules | None,
    *,
    root: Mount | None = None,
    cmdline: Mapping[str, str] | None = None,
    after_switch: bool = False,
) -> tuple[Step, ...]:
    """The steps that load ``modules``; none if there are none.

    ``root``: the root file system that these modules lead to, whose own modules may not fail. ``cmdline``: parameters
    from the kernel command line, by module name. ``after_switch``: what the new root lacks is
    taken from what the initramfs carried.
    """
    if modules is None or not modules.names:
        return ()
    return (LoadModules(modules, needs_of(root), dict(cmdline or {}), after_switch),)


def plan_carried(paths: Sequence[str], cmdline: Mapping[str, str] | None = None) -> tuple[Step, ...]:
    """The step for the modules that the image builder put in for ocelot's own needs: in load order, none essential.

    Also good after the switch (a file system that is first mounted then): they are looked for where they went.
    """
    if not paths:
        return ()
    listed = Modules(names=tuple(paths), on_failure=OnFailure.WARN)
    return (LoadModules(listed, (), dict(cmdline or {}), after_switch=True, name="carried modules"),)


def needs_of(root: Mount | None) -> tuple[str, ...]:
    """Beginnings of the paths of modules that ``root`` cannot do without."""
    match root:
        case None:
            return ()
        case VirtiofsMount():
            needs: tuple[str, ...] = (*_BUS, "kernel/fs/fuse/")
        case NinePMount():
            needs = (*_BUS, *_NINE_P)
        case NfsMount():
            needs = (*_BUS, *_NFS)
        case DeviceMount():
            needs = (*_BUS, *_DISKS)
        case OverlayMount():
            needs = ("kernel/fs/overlayfs/",)
        case _:
            needs = ()
    return (*needs, "kernel/fs/overlayfs/") if root.overlay else needs


@dataclass(frozen=True)
class Place:
    """The module directories that exist, the load order found in them, and the file of each module in it."""

    directories: tuple[str, ...]
    files: Mapping[str, str]
    resolution: Resolution
    dep_text: str | None


@dataclass(frozen=True)
class LoadModules:
    """Load the modules of one list with what they depend on."""

    modules: Modules
    essential: tuple[str, ...] = ()
    cmdline: Mapping[str, str] = field(default_factory=dict)
    after_switch: bool = False
    name: str = "modules"
    load: Callable[[str, str], None] = module_loading.load

    @property
    def on_failure(self) -> OnFailure:
        """Without a policy, only the failure of a module that the root needs ends the boot."""
        return self.modules.on_failure or (OnFailure.ABORT if self._may_lead_to_the_root() else OnFailure.WARN)

    @property
    def timeout(self) -> float | None:
        return self.modules.timeout

    def describe(self) -> str:
        text = f"load {', '.join(self.modules.names)} from {self.modules.directory}, and what they depend on"
        named = dict.fromkeys((*map(module_name, self.modules.names), *self._own_parameters()))
        given = [f"{name} {words}" for name in named if (words := self._parameters_of(name))]
        if given:
            text += f"; with {', '.join(given)}"
        if self.modules.on_failure is None and self._may_lead_to_the_root():
            text += "; one that the root does not need may fail"
        return text

    async def apply(self, machine: Machine) -> None:
        if machine.trial:
            machine.info(f"not done in a trial: {self.describe()}")
            return
        place = await trio.to_thread.run_sync(self.find, machine, abandon_on_cancel=True)
        for line in place.resolution.warnings:
            machine.warn(line)
        failures = [(name, self._not_found(name, place, machine)) for name in place.resolution.missing]
        parameters = self._parameters(place.resolution, machine)
        jobs = tuple(
            module_loading.Job(path, file, parameters.get(module_name(path), "")) for path, file in place.files.items()
        )
        for path, failure in await self._load(jobs, place):
            if path in place.resolution.soft:
                log.debug(f"{failure} (a soft dependency: not needed)")
            else:
                failures.append((path, failure))
        self._judge(failures, place.resolution, machine)

    def find(self, machine: Machine) -> Place:
        """The files of the modules, wherever each of them is found first, and their order. Reads files: may block."""
        release = os.uname().release
        roots = self._roots(machine)
        places = dict.fromkeys(path for root in roots for path in (f"{root}/{release}", root))
        directories = tuple(filter(os.path.isdir, places))
        if not directories:
            raise OcelotError(
                f'cannot load modules: there is no folder "{roots[0]}"',
                hint=f"this kernel is {release}: put its modules into the image, or set directory",
            )
        place = self._place(directories, machine)
        others = sorted({name for root in roots for name in _releases(root)} - {release})
        if others and not place.files and not any(directory.endswith(release) for directory in directories):
            raise OcelotError(
                f"cannot load modules: those that are here are for kernel {' and '.join(others)}, this is {release}",
                hint="build the initramfs for this kernel (--kernel-version), or start the machine with that one",
            )
        return place

    def _roots(self, machine: Machine) -> tuple[str, ...]:
        own = machine.path(self.modules.directory)
        return tuple(dict.fromkeys((own, machine.initramfs_modules))) if self.after_switch else (own,)

    def _place(self, directories: tuple[str, ...], machine: Machine) -> Place:
        """What depmod(8) wrote for several folders is read as one, in which the first of them that knows a module counts."""
        dep_path = self.modules.dep_file_path or "modules.dep"
        if dep_path.startswith("/"):
            dep_text = _read(machine.path(dep_path))
        else:
            found = [text for each in directories if (text := _read(f"{each}/{dep_path}")) is not None]
            dep_text = "\n".join(reversed(found)) if found else None  # of two lines for a module the later one counts

        def read(name: str) -> str:
            return "\n".join(_read(f"{each}/{name}") or "" for each in directories)

        softdep = read("modules.softdep")
        resolution = resolve(
            self.modules.names,
            dep_text=dep_text,
            softdep_text=softdep,
            builtin_text=read("modules.builtin"),
            alias_text=read("modules.alias") if softdep.strip() else "",
            exists=lambda path: _file_of(path, directories) is not None,
        )
        files = {path: file for path in resolution.order if (file := _file_of(path, directories)) is not None}
        return Place(directories, files, resolution, dep_text)

    async def _load(self, jobs: tuple[module_loading.Job, ...], place: Place) -> list[tuple[str, OcelotError]]:
        """Load ``jobs`` one after the other, in one worker thread unless a module hangs; what failed, by path."""
        limit = self.modules.timeout or CALL
        failures: list[tuple[str, OcelotError]] = []
        while jobs:
            progress = module_loading.Progress()
            load_all = partial(module_loading.load_all, jobs, progress, self.load, place.dep_text)
            finished = await _finishes(load_all, progress, limit)
            for job in progress.loaded:
                log.debug(f"loaded {job.file}{' with ' + job.parameters if job.parameters else ''}")
            if finished:
                return failures + progress.failures
            stuck = jobs[progress.done]
            error = OcelotError(f'cannot load the module "{stuck.file}": its init did not return within {limit:g}s')
            failures += [*progress.failures, (stuck.path, error)]
            jobs = jobs[progress.done + 1 :]
        return failures

    def _parameters(self, resolution: Resolution, machine: Machine) -> dict[str, str]:
        """Parameters by module name: the file's, then those of the kernel command line, which the kernel lets win."""
        loaded = {module_name(path) for path in resolution.order}
        for name in self._own_parameters().keys() - loaded:
            machine.warn(f'parameters for the module "{name}" have no effect: it is not loaded here')
        return {name: self._parameters_of(name) for name in loaded}

    def _own_parameters(self) -> dict[str, str]:
        return {module_name(name): text for name, text in self.modules.parameters.items()}

    def _parameters_of(self, name: str) -> str:
        return " ".join(filter(None, (self._own_parameters().get(name), self.cmdline.get(name))))

    def _not_found(self, name: str, place: Place, machine: Machine) -> OcelotError:
        release = os.uname().release
        own, *carried = self._roots(machine)
        searched = f'below "{_most_exact(own, place.directories)}"'
        if carried:
            there = _most_exact(carried[0], place.directories)
            searched += f', nor below "{there}", where the modules of the initramfs are'
        hint = "check the path: it is relative to directory or to its folder for this kernel release"
        if f"{own}/{release}" not in place.directories:
            hint += f" ({release}, which has none here)"
        if carried:
            hint += "; else put the module into the new root or, when building it, into the initramfs"
        return OcelotError(f'cannot find the module "{name}" {searched}', hint=hint)

    def _judge(self, failures: list[tuple[str, OcelotError]], resolution: Resolution, machine: Machine) -> None:
        if not failures:
            return
        if self.modules.on_failure is None:
            fatal = [error for path, error in failures if self._is_essential(path, resolution)]
            for path, error in failures:
                if not self._is_essential(path, resolution):
                    machine.warn(describe(error))
        else:
            fatal = [error for _, error in failures]
        if len(fatal) == 1:
            raise fatal[0]
        if fatal:
            raise OcelotError("; ".join(error.message for error in fatal), hint=fatal[0].hint)

    def _may_lead_to_the_root(self) -> bool:
        """Whether the root may need one of them: a bare name does not tell."""
        return bool(self.essential) and any(
            "/" not in name or stem(name).startswith(self.essential) for name in self.modules.names
        )

    def _is_essential(self, path: str, resolution: Resolution) -> bool:
        wanting = (path, *resolution.required_by.get(path, ()))
        return any(stem(each).startswith(self.essential) for each in wanting) if self.essential else False


@dataclass(frozen=True)
class SetModprobe:
    """Tell the kernel a modprobe that exists, or that there is none: it would run a missing program at each request.

    Once on the initramfs, and again after the switch, when another root answers.
    """

    name: str = "modprobe"
    on_failure: OnFailure = OnFailure.WARN
    timeout: float | None = None
    candidates: tuple[str, ...] = ("/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe", "/usr/bin/modprobe")

    def describe(self) -> str:
        return f"set {MODPROBE} to a modprobe that exists, or to nothing"

    async def apply(self, machine: Machine) -> None:
        if not machine.trial and machine.identity is Identity.MACHINE:
            self.write(machine)

    def write(self, machine: Machine) -> None:
        present = next((path for path in self.candidates if os.access(machine.path(path), os.X_OK)), "")
        try:
            with open(MODPROBE, "w", encoding="utf-8") as file:
                file.write(f"{present}\n")
        except OSError as error:
            if error.errno != errno.ENOENT:  # a kernel without loadable modules
                raise


async def _finishes(work: Callable[[], None], progress: module_loading.Progress, limit: float) -> bool:
    """Run ``work`` in a thread, which is left behind, and told so, when ``progress`` stands still for ``limit`` seconds."""

    async def watch(scope: trio.CancelScope) -> None:
        seen = -1
        while progress.done != seen:
            seen = progress.done
            await trio.sleep(limit)
        scope.cancel()

    finished = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, nursery.cancel_scope)
        try:
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)
            finished = True
        finally:
            progress.abandoned = True
        nursery.cancel_scope.cancel()
    return finished


def _file_of(path: str, directories: Sequence[str]) -> str | None:
    """The first file that ``path`` is below one of ``directories``."""
    return next((file for each in directories if os.path.exists(file := f"{each}/{path}")), None)


def _most_exact(root: str, directories: Sequence[str]) -> str:
    """Where the modules of this kernel are below ``root``, to be shown to somebody."""
    return next((each for each in directories if each.startswith(f"{root}/")), root)


def _releases(root: str) -> list[str]:
    """The kernels that a module directory has folders for: each holds a folder ``kernel``."""
    with suppress(OSError):
        return [name for name in os.listdir(root) if os.path.isdir(f"{root}/{name}/kernel")]
    return []


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
