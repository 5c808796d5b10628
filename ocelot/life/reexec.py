"""PID 1 becomes another image of ocelot: execve(2) keeps the pid, the children, and every descriptor that is told to stay.

Nothing is undone and nothing is given away before: all that the new image needs stands in a sealed memory file
(``statefile``, ``supervisor.snapshots``), which a child of the new runtime has read first, in an earlier state, to say whether it
understands it. The last look at the state and execve(2) are one step without any waiting, with all signals blocked: nothing
can happen in between, and if execve(2) fails, this image simply goes on. Who dies meanwhile waits as a zombie, and whoever connects
waits in the queue of the socket.

Where the new image begins: ``resume``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ocelot import log
from ocelot.config import structs
from ocelot.errors import ControlError, SpawnError, describe
from ocelot.life.statefile import State, read, write
from ocelot.linux.identity import Identity, identity
from ocelot.states import signal_name
from supervisor import snapshots
from supervisor.children.spawn import SpawnSpec
from supervisor.process.environment_file import is_reading
from supervisor.snapshots import InheritedSnapshot, LifeSnapshot, MeasuresSnapshot, NotNow, pack_environment

if TYPE_CHECKING:
    from ocelot.life.life import Life

PATIENCE = 5.0
"""Seconds to wait for a moment in which nothing is half done."""

CLIENTS = 1.0
"""Seconds for the clients of the sockets to get their answers; who is told something without end is cut off."""

CHECK_TIMEOUT = 120.0
"""Seconds for the new image to read the state first. In an emulated machine its start takes several."""

BASE_MEMORY = 24 * 1024 * 1024
"""Bytes: what the child takes that reads the state, about."""

_AGAIN = 0.02

_READER = "ocelot "
"""How an image begins that has read the state: another program, which heeds no arguments, may end well too."""


@dataclass(frozen=True)
class Image:
    """A program that is ocelot. ``argv`` is followed by a command and its arguments."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return self.argv[-1] if self.argv[-1].startswith("/") else " ".join(self.argv)


def find_image(runtime: str | None) -> Image:
    """The image in the folder ``runtime``; None: the one that runs, as it is on disk now. Raises ControlError."""
    if runtime is not None:
        return in_folder(runtime)
    return as_started(sys.executable, sys.orig_argv, sys.argv, machine=identity() is Identity.MACHINE)


def as_started(executable: str, original: Sequence[str], arguments: Sequence[str], *, machine: bool) -> Image:
    """The image of a process with this interpreter, this whole command line, and of it these words for the program itself."""
    started = original[: len(original) - len(arguments) + 1]
    folder = os.path.dirname(os.path.dirname(executable))
    by_hand = "-m" in started or not os.path.exists(os.path.join(folder, "bin", "ocelot"))
    # In a machine it was /init, which is gone, or that of another
    return Image((executable, *started[1:])) if by_hand and not machine else in_folder(folder)


def in_folder(folder: str) -> Image:
    """The image whose program is ``bin/ocelot`` in ``folder``. Raises ControlError."""
    script = os.path.join(folder, "bin", "ocelot")
    hint = "name the folder that ocelot runtime build has made, or an environment that ocelot is installed in"
    if not os.path.isabs(folder):
        raise _refused(f'cannot use the runtime "{folder}": it is not an absolute path', hint, status=400)
    try:
        with open(script, "rb") as file:
            line = file.readline(4096)
    except OSError as error:
        raise _refused(f'cannot use the runtime "{folder}": {describe(error)}', hint, status=400) from None
    words = os.fsdecode(line.rstrip(b"\n")).removeprefix("#!").split(" ", 1)
    if not line.startswith(b"#!/") or not os.access(words[0], os.X_OK):
        raise _refused(f'cannot use the runtime "{folder}": {script} cannot be executed', hint, status=400)
    interpreter = words[0]
    if os.path.dirname(interpreter) != os.path.dirname(script):
        built_for = os.path.dirname(os.path.dirname(interpreter))
        raise _refused(
            f'cannot use the runtime "{folder}": it was built for {built_for}',
            f"build it with ocelot runtime build --prefix {folder}",
            status=400,
        )
    return Image((*words, script))


def _refused(message: str, hint: str = "", *, status: int = 409, kind: str = "cannot-replace") -> ControlError:
    return ControlError(message, hint=hint, status=status, kind=kind)


async def replace(life: Life, runtime: str | None, descriptor: int) -> None:
    """Become the image in ``runtime``, which then answers the client on ``descriptor``. Returns only by raising ControlError."""
    if life.trial:
        raise _refused("cannot replace ocelot: a trial ends with the processes that it tries")
    if life.supervisor is None or life.phase != "running":
        raise _refused("cannot replace ocelot: it does not supervise", "wait until the boot is over", kind="not-ready")
    if life.leaving:
        raise _refused("cannot replace ocelot: it is being replaced", "wait for that")
    image = find_image(runtime)
    _check_memory(life.supervisor.kept_bytes)
    life.leaving = True
    try:
        await _ask(life, image)
        log.info(f"to be replaced by {image}")
        for door in life.doors.values():
            door.close()
        await _leave(life, image, descriptor)
    finally:
        life.leaving = False
        for door in life.doors.values():
            door.open()


def _check_memory(kept: int) -> None:
    """What is kept of the logs exists several times for a moment: as it is, as a record, in the memory file, and in the new image."""
    needed = 4 * kept + BASE_MEMORY
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            left = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return
    if left < needed:
        raise _refused(
            f"cannot replace ocelot: it takes {needed >> 20} MiB of memory, and {left >> 20} MiB are left",
            "log.stdout.ring and log.stderr.ring say how much is kept of the logs of a process",
        )


async def _ask(life: Life, image: Image) -> None:
    """Let a child of the new image read the state. Raises ControlError if it does not understand it."""
    deadline = trio.current_time() + PATIENCE
    while True:
        try:
            state = write(state_of(describe_life(life), image))
            break
        except NotNow as reason:
            if trio.current_time() > deadline:
                raise _busy(reason) from None
            await trio.sleep(_AGAIN)
        except OSError as error:
            raise _refused(f"cannot replace ocelot: no memory for its state: {describe(error)}") from None
    words = os.memfd_create("ocelot-words", os.MFD_CLOEXEC)
    try:
        argv = (*image.argv, "reexec", "--check")
        spec = SpawnSpec(argv, dict(os.environ), stdin=state, stdout=words, stderr=words)
        child = await life.reaper.spawn_in_thread(spec, timeout=PATIENCE)
        status = None
        with trio.move_on_after(CHECK_TIMEOUT):
            status = await child.wait()
        child.signal_group(signal.SIGKILL)
        said = os.pread(words, 4096, 0).decode("utf-8", "replace").strip()
    except SpawnError as error:
        raise _refused(f"cannot replace ocelot by {image}: {error.message}", error.hint) from None
    finally:
        os.close(state)
        os.close(words)
    why = ""
    if status is None or not status.success:
        why = gist(said) or str(status or "it takes too long")
    elif not any(line.startswith(_READER) for line in said.splitlines()):
        why = "it did not say that it is ocelot"
    if why:
        raise _refused(
            f"cannot replace ocelot by {image}: it does not take over the state: {why}",
            "everything goes on as before; another version may understand it",
        )
    log.info(f"{image} can take over: {said}")


def gist(said: str) -> str:
    """The error of a command line of ours, else the last line, which is the error of a traceback."""
    lines = said.splitlines() or [""]
    own = [line.removeprefix("ocelot: ") for line in lines if line.startswith("ocelot: ")]
    return own[0] if own else lines[-1]


async def _leave(life: Life, image: Image, descriptor: int) -> None:
    began = trio.current_time()
    while True:
        # Those who were let in before the doors closed are counted after a turn of the loop
        await trio.sleep(_AGAIN)
        try:
            if trio.current_time() < began + CLIENTS and sum(door.inside for door in life.doors.values()) > 1:
                raise NotNow("clients are being answered")
            _become(life, image, descriptor)
        except NotNow as reason:
            if trio.current_time() > began + PATIENCE:
                raise _busy(reason) from None
        except OSError as error:
            raise _refused(
                f"cannot replace ocelot by {image}: {describe(error)}", "everything goes on as before"
            ) from None


def _busy(reason: NotNow) -> ControlError:
    return _refused(f"cannot replace ocelot now: {reason}", "everything goes on as before: try again", kind="busy")


def _become(life: Life, image: Image, descriptor: int) -> None:
    """The step without return. Raises NotNow or OSError, and then nothing has changed."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        kept = describe_life(life)
        kept.mask = sorted(mask)
        kept.answer = descriptor
        kept.left = time.monotonic()
        state = write(state_of(kept, image))
        try:
            execute(image, [*kept.descriptors(), state], state)
        finally:
            os.close(state)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def execute(image: Image, descriptors: list[int], state: int) -> None:
    """Become ``image``, which keeps ``descriptors`` and begins with ``state``. Raises OSError, and then nothing has changed."""
    try:
        for fd in descriptors:
            os.set_inheritable(fd, True)
        argv = (*image.argv, "reexec", "--restore", str(state))
        os.execve(argv[0], argv, os.environ)
    finally:
        for fd in descriptors:
            with suppress(OSError):
                os.set_inheritable(fd, False)


def state_of(kept: LifeSnapshot, image: Image) -> State:
    """What ``image`` begins with."""
    try:
        back = find_image(None).argv
    except ControlError:
        back = image.argv
    return State(snapshots.VERSION, back, snapshots.encode(kept))


def describe_life(life: Life, *, salvage: bool = False) -> LifeSnapshot:
    """All that another image needs to go on from here. Raises NotNow while something is half done.

    ``salvage``: this one cannot bring anything to its end any more; what is half done is to be done anew, or killed.
    """
    if not salvage:
        _look_at(life)
    assert life.supervisor is not None
    supervised = life.supervisor.salvage() if salvage else life.supervisor.snapshot()
    owned = {each.child.pid for each in supervised.processes if each.child is not None}
    reaper = life.reaper.snapshot()
    strangers = life.reaper.pids - owned - set(reaper.passing)
    if salvage:
        reaper.passing += [*strangers, *life.reaper.unsettled]
        strangers = frozenset()
    for pid in strangers:
        raise NotNow(f"a program runs that is no supervised process: {_command_of(pid)} (pid {pid})")
    return LifeSnapshot(
        pid=os.getpid(),
        kind=life.kind,
        file=os.fsencode(life.file) if life.file is not None else None,
        born=life.born,
        inherited=InheritedSnapshot(
            limits=dict(life.inherited.limits),
            environment=pack_environment(life.inherited.environment),
            mask=sorted(life.inherited.mask),
        ),
        environment=pack_environment(life.machine.environment),
        supervisor=supervised,
        reaper=reaper,
        timeline=life.timeline(),
        bootstrap=life.config if isinstance(life.config, structs.Bootstrap) else None,
        supervise=life.config if isinstance(life.config, structs.SuperviseFile) else None,
        socket=life.socket,
        sockets={name: door.descriptor for name, door in life.doors.items() if door.listens},
        stdout=life.stdout.snapshot(),
        stderr=life.stderr.snapshot() if life.stderr is not life.stdout else b"",
        turn=life.turn,
        colour=log.chosen_colour(),
        measures=_measured(life),
        requested=(life.verb, life.why) if life.requested.is_set() else None,
        breaks=life.breaks,
    )


def _look_at(life: Life) -> None:
    """Raises NotNow while something is half done."""
    if life.supervisor is None or life.phase != "running" or life.requested.is_set():
        raise NotNow("it is going down")
    if life.reloading:
        raise NotNow("a reload is under way")
    if life.arrived:
        raise NotNow(f"{signal_name(min(life.arrived))} has just come")
    in_threads = trio.to_thread.current_default_thread_limiter().borrowed_tokens or is_reading()
    if life.reaper.spawning or in_threads:
        raise NotNow("something is being done in a thread")


def _measured(life: Life) -> MeasuresSnapshot | None:
    if life.measures is None:
        return None
    from supervisor.metrics.collector import Measures

    assert isinstance(life.measures, Measures)
    return life.measures.snapshot()


def _command_of(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return "it has just ended"


def check(fd: int) -> str:
    """For the image before: whether the state in ``fd`` would be understood here. Who says so. Raises OcelotError."""
    from ocelot import __version__

    state = read(fd)
    snapshots.understand(state.version, state.body)
    return f"{_READER}{__version__} (Python {sys.version.split()[0]})"
