"""The errors of ocelot: one voice, a message that says what could not be done, and a hint that says what to do next.

Messages start with "cannot ...", lower case, and quote names with double quotes. A hint is one imperative sentence.
"""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class OcelotError(Exception):
    """Something ocelot could not do, in words for the person who runs it.

    ``message`` says what failed and why; ``hint`` says what to do next, or is empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(OcelotError):
    """The command line was wrong; the exit status is 2."""


class BootError(OcelotError):
    """A boot step failed and its policy says Abort. ``phase`` is where: "preSwitch.modules", "switchRoot", ..."""

    def __init__(self, message: str, *, hint: str = "", phase: str = "") -> None:
        super().__init__(message, hint=hint)
        self.phase = phase


class SpawnError(OcelotError):
    """A program could not be started. ``step`` is where the child's set-up failed ("exec", "chdir", "setrlimit", ...).

    ``errno`` is the kernel's number for it, 0 if there is none. ``shell_status`` is what a shell would show (POSIX, sh).
    """

    def __init__(self, message: str, *, hint: str = "", step: str = "exec", errno: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = errno
        self.shell_status = 127 if errno in (ENOENT, ENOTDIR) else 126


class ControlError(OcelotError):
    """A control request failed. ``status`` is the HTTP status (0: no answer), ``kind`` a stable word for programs."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0, kind: str = "error") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.kind = kind


def no_command(program: str, words: Sequence[str], commands: Collection[str]) -> UsageError:
    """Why ``words`` cannot be understood, whose first is none of ``commands``."""
    if not words:
        return UsageError("cannot tell what to do: no command was given", hint=f"{program} --help lists the commands")
    from difflib import get_close_matches

    near = get_close_matches(words[0], commands, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"{program} --help lists them"
    return UsageError(f'cannot find the command "{words[0]}"', hint=hint)


def refused(error: BaseException) -> bool:
    """Whether ``error`` is what the kernel could not give or do (a call, memory, a thread), and not a mistake of ours."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(refused, error.exceptions))
    if isinstance(error, RuntimeError):
        return str(error) == "can't start new thread"  # what threading makes of EAGAIN
    return isinstance(error, OcelotError | OSError | MemoryError)


def starved(error: BaseException | None) -> bool:
    """Whether want of memory is behind ``error``, however it shows."""
    seen: set[int] = set()  # of a group, a member may have the group itself for its context
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, MemoryError):
            return True
        seen.add(id(one))
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)
        waiting += (one.__cause__, one.__context__)
    return False


def describe(error: BaseException) -> str:
    """One line for any exception: ocelot's own in its voice, OSError as the C library words it, others with their type."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in error.exceptions)
    if isinstance(error, OcelotError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        name = f': "{error.filename}"' if error.filename is not None else ""
        return f"{error.strerror or os.strerror(error.errno)}{name}"
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
