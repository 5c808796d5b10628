"""The outermost frame of PID 1, around trio: what still works when everything inside it is broken.

PID 1 that exits is a kernel panic, an uncaught exception included. So this module imports next to nothing, calls the
story in ``pid1``, and when that fails in a way the story did not foresee (a module that cannot be imported, a broken
event loop, no memory) it says so on every channel left, reaps, and takes the machine down.
"""

from __future__ import annotations

import gc
import os
import sys
import time

BORN = time.monotonic()
"""When our first instructions ran, in seconds of the kernel's clock: what is imported later costs time after it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ocelot.life.ending import Ending


def init() -> NoReturn:
    """What the kernel starts as /init or ``init=``: words of the kernel command line in argv are not for us."""
    status = bootstrap(None, called_by_kernel=True)
    sys.exit(status)


def bootstrap(file: str | None, *, in_place: bool = False, called_by_kernel: bool = False, trial: bool = False) -> int:
    """Boot from ``file`` (None: search), supervise, go down. Returns an exit status, but never in a machine's init."""

    def story() -> Ending:
        with _undisturbed():
            from ocelot import beginning

            beginning.import_boot()
        return beginning.boot(file, in_place=in_place, called_by_kernel=called_by_kernel, trial=trial, born=BORN)

    return _framed(story)


def supervise(file: str, *, socket: str | None = None) -> int:
    """Supervise the processes of ``file`` until they end; returns the exit status."""

    def story() -> Ending:
        with _undisturbed():
            from ocelot import beginning

        return beginning.supervise(file, socket=socket)

    return _framed(story)


def _framed(story: Callable[[], Ending]) -> int:
    """The exit status of ``story``. Of a machine's init nothing gets out, whatever it raises: that would be a kernel panic."""
    ending = None
    try:
        _never_interrupted()
        ending = story()
    except BaseException as error:
        if os.getpid() != 1 or not is_machine():
            raise
        _last_words(error)
    return _end(ending)


def resume(fd: int, *, back: bool = False) -> int:
    """Go on from where another image was, whose state is in the memory file ``fd``; returns as :func:`bootstrap` does.

    If that cannot be done, the image that was there gets it back. ``back``: this is that image, and there is none before it.
    """
    began: list[bool] = []
    try:
        _never_interrupted()
        with _undisturbed():
            from ocelot import resume

        ending = resume.run(fd, lambda: began.append(True), back=back)
    except BaseException as error:
        if began and (os.getpid() != 1 or not is_machine()):
            raise
        _last_words(error)
        if not began and not back:
            _go_back(fd)
        ending = None
    return _end(ending)


def _go_back(fd: int) -> None:
    """Become the image again that has written the state; returns if that cannot be done either."""
    try:
        from ocelot.life.statefile import read

        argv = (*read(fd).back, "reexec", "--back", str(fd))
        os.execve(argv[0], argv, os.environ)
    except BaseException as error:
        _last_words(error)


def _never_interrupted() -> None:
    """For a machine: Ctrl-Alt-Del is SIGINT, of which Python makes a KeyboardInterrupt, and here nobody would catch it.

    A handler, and not SIG_IGN, which children would inherit.
    """
    if os.getpid() == 1 and is_machine():
        import signal

        signal.signal(signal.SIGINT, lambda *_: None)


class _undisturbed:  # noqa: N801 (reads as a word; contextlib would have to be imported)
    """No garbage collection while modules are imported: they stay, so looking through them is for nothing.

    It saves a little (some 2% of an emulated guest's instructions up to the end of the imports). Afterwards they are frozen,
    so that no later collection looks at them either. Next to nothing of a supervisor is in cycles: it is looked for more
    rarely than Python would, which is a tenth of a restart.
    """

    def __enter__(self) -> None:
        gc.disable()
        from ocelot import bundle

        bundle.use()
        try:
            from ocelot.deferred import defer
        except ImportError:
            return  # a runtime, which has stand-ins, whether its bundle is still there or not
        defer()

    def __exit__(self, *_: object) -> None:
        if "ocelot.deferred" in sys.modules:
            from ocelot.deferred import imported

            imported()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


def _end(ending: Ending | None) -> int:
    """The last act: in a machine the power verb, which does not return; elsewhere the exit status."""
    if os.getpid() == 1 and is_machine():
        try:
            from bootstrap.shutdown import emergency, power

            if ending is None:
                from ocelot.wire.protocol import ExitReport

                report = ExitReport(status=70, reason="ocelot itself failed", verb="poweroff", phase="failed")
                emergency(report, port="org.ocelot.exit")
            else:
                power(ending.verb)
        except BaseException as error:
            _last_words(error)
        _power_off()
        _hold()
    return 70 if ending is None else ending.status


def _power_off() -> None:
    """As good as exiting, where nothing tells whose init this is: of a PID namespace the kernel ends only that (reboot(2))."""
    try:
        from ocelot.linux import syscalls

        os.sync()
        syscalls.reboot(syscalls.RB_POWER_OFF)
    except BaseException as error:
        _last_words(error)


def is_machine() -> bool:
    """As ``linux.identity`` decides, without importing it: it may be what is broken."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == 0xEFFFFFFC
    except OSError:
        return True  # a PID 1 that cannot know must not exit


def _last_words(error: BaseException) -> None:
    """Say what happened, on whatever is left: standard error, the console, the kernel log."""
    lines = [f"ocelot: cannot go on: {type(error).__name__}: {error}"]
    try:
        import traceback

        lines += [line for entry in traceback.format_exception(error) for line in entry.rstrip().splitlines()]
    except BaseException:
        lines.append("ocelot: (no traceback: the runtime is gone)")
    init = os.getpid() == 1 and is_machine()
    channels = (("/dev/console", ""), ("/dev/kmsg", "<2>")) if init else (("/proc/self/fd/2", ""),)
    told = False
    for path, prefix in channels:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        told = True
        _write_lines(fd, prefix, lines)
        os.close(fd)
    if not told:  # a root without /dev, or without /proc
        _write_lines(2, "", lines)


def _write_lines(fd: int, prefix: str, lines: list[str]) -> None:
    for line in lines:
        try:
            os.write(fd, f"{prefix}{line}\n".encode(errors="replace"))
        except OSError:
            return


def _hold() -> NoReturn:
    """Nothing is left to do but to reap. Reached only when the power verb failed; the kernel may still be told by hand."""
    while True:
        try:
            while os.waitpid(-1, 0):
                pass
        except OSError:
            time.sleep(1)
        except BaseException:
            continue
