"""PID 1's life, from the first mount to the power-off, told in order.

One ``trio.run`` holds all of it: the reaper, the signals, the boot, the hand-off, the shutdown. The process that mounts
/proc is the one that supervises. Both wings meet here and only here: ``bootstrap`` gets to run programs through the
supervisor's spawn, so that one reaper owns every exit status.

What fails is caught once, in :meth:`Pid1.run`, told to the console, the kernel log and the host, and then the
``onFatal`` policy runs. Side tasks (control, metrics, the power button) may fail without taking the rest with them.

``beginning`` begins it, or, in an image that replaces another, ``resume``. What it is made of is ``life.life``, and its chapters lie
beside that: ``booting``, ``failure`` and ``ending``; and, imported when somebody asks for them, ``reload`` and ``reexec``.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from ocelot import bundle, log
from ocelot.config import structs
from ocelot.errors import BootError, OcelotError, describe, starved
from ocelot.life import configuration
from ocelot.life.ending import Ending, chosen_verb, go_down, only_one
from ocelot.life.life import Life
from ocelot.linux.identity import Identity, proc_is_ours
from ocelot.states import Cause, signal_name
from supervisor import signals

if TYPE_CHECKING:
    from ocelot.wire.protocol import ReloadReply


class Pid1(Life):
    """PID 1, from the beginning to the end."""

    # -- the story ---------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Everything, to the point where only the power verb or the exit is left. Does not raise for what it can tell."""
        return await self._with_tasks(self._boot if self.kind == "bootstrap" else self._supervise_file)

    async def run_on(self, resume: Callable[[], Collection[int]], begun: Callable[[], None]) -> Ending:
        """As :meth:`run`, from where another image was. ``resume`` makes this life what that one was, with a supervisor, and
        returns the signals that are to be blocked; what it raises is raised, since nothing has happened yet.

        ``begun`` is called when everything is in order.
        """
        return await self._with_tasks(lambda: self._run_supervisor(begun), resume)

    async def run_after(self, error: OcelotError) -> Ending:
        """What is left of a life whose exec failed: the policy for failures, and the shutdown."""

        async def fail() -> Ending:
            raise BootError(error.message, hint=error.hint, phase="postSwitch.handoff") from error

        return await self._with_tasks(fail)

    async def _with_tasks(
        self, story: Callable[[], Awaitable[Ending]], resume: Callable[[], Collection[int]] | None = None
    ) -> Ending:
        self.clock = trio.lowlevel.current_clock()
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            mask = resume() if resume is not None else None
            if self.who is not Identity.MACHINE:  # whose init the kernel spares anyway
                self.reaper.spare_ourselves()
            await nursery.start(self.reaper.run)
            await nursery.start(signals.listen, self._heed, self.who, self.arrived)
            if mask is not None:  # what has come since the other image blocked everything is delivered here
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            try:
                ending = await self._until_requested(story)
            except Exception as error:
                if self.phase == "running" and starved(error):
                    raise  # whoever acts is gone, but everything else stands: see ``recovery``
                ending = await self._fail(error)
            if ending.program is None:
                await go_down(self, ending)
            nursery.cancel_scope.cancel()
        return ending

    async def _until_requested(self, story: Callable[[], Awaitable[Ending]]) -> Ending:
        """Run ``story``, but let a request to go down end it: in order if processes are supervised, else at once."""
        result: list[Ending] = []

        async def tell() -> None:
            result.append(await story())
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell)
                await self.requested.wait()
                if self.supervisor is not None:
                    await self.supervisor.stop_all(Cause.SHUTDOWN, reason=self.why)
                    await trio.sleep_forever()  # the story ends now, with what the supervisor says
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only_one(group) from None
        if self.requested.is_set():
            status = result[0].status if result else 0
            return Ending(status, self.why, verb=chosen_verb(self))
        return result[0]

    async def _boot(self) -> Ending:
        from ocelot.life.booting import boot

        return await boot(self, self._supervise)

    async def _fail(self, error: Exception) -> Ending:
        from ocelot.life.failure import fail

        return await fail(self, error)

    async def _supervise_file(self) -> Ending:
        self.begin_timeline()
        self.open_console("console")
        config = configuration.load(self.path, self.kind)
        assert isinstance(config, structs.SuperviseFile)
        self.config = config
        log.configure(level=config.log_level)
        if self.who is Identity.CONTAINER:
            self.set_hostname()
            if not proc_is_ours():
                log.warn(
                    "/proc is not that of this PID namespace: what is told of processes is wrong (unshare --mount-proc)"
                )
        return await self._supervise(config.processes, config.shutdown_timeout)

    async def _supervise(self, processes: Mapping[str, structs.Process], timeout: float | None) -> Ending:
        self.supervisor = self.new_supervisor(processes, timeout)
        return await self._run_supervisor(self.finish_boot)

    async def _run_supervisor(self, begun: Callable[[], None]) -> Ending:
        """Until it is over. ``begun`` is called once everything has been told to start."""
        assert self.supervisor is not None
        async with trio.open_nursery() as nursery:
            await self._open_control()
            self.start_side("metrics", self._serve_metrics)
            if self.config.control.vsock is not None:
                from ocelot.life.doors import serve_vsock

                self.start_side("control.vsock", partial(serve_vsock, self))

            async def finish() -> None:
                await trio.lowlevel.checkpoint()
                begun()
                bundle.leave()  # also of a life that goes on from another image

            nursery.start_soon(finish)
            end = await self.supervisor.run()
            nursery.cancel_scope.cancel()
        return Ending(end.status, end.reason, process=end.process, verb=chosen_verb(self))

    # -- what the world asks -----------------------------------------------------------------------

    def _heed(self, response: signals.Response) -> None:
        try:
            self._respond(response)
        except OSError as error:  # EPERM for one that runs as another user
            log.error(f"{signal_name(response.number)}: {describe(error)}")

    def _respond(self, response: signals.Response) -> None:
        name = signal_name(response.number)
        match response.action:
            case signals.Action.SHUT_DOWN:
                log.info(f"{name}: {response.meaning}")
                self.request(response.verb, f"asked by {name}")
            case signals.Action.HURRY:
                log.warn(f"{name}: {response.meaning}")
                self.hurried.set()
                if self.supervisor is not None:
                    self.supervisor.hurry()
            case signals.Action.FORWARD:
                to = self.supervisor.forward(response.number) if self.supervisor is not None else None
                log.info(f"{name}: {f'passed to {to}' if to else 'nobody to pass it to'}")
            case signals.Action.RELOAD:
                log.info(f"{name}: {response.meaning}")
                self.start_side("the reload", self._reload_by_signal)
            case signals.Action.NOTHING:
                log.debug(f"{name}: ignored")

    async def reload(self, file: str | None, *, dry_run: bool, keep_scale: bool) -> ReloadReply:
        """Let a changed configuration file take effect (``ocelotctl reload``). Raises ControlError."""
        from ocelot.life.reload import reload

        return await reload(self, file, dry_run=dry_run, keep_scale=keep_scale)

    async def _reload_by_signal(self) -> None:
        from ocelot.life.reload import reload_by_signal

        await reload_by_signal(self)

    async def replace(self, runtime: str | None, descriptor: int) -> None:
        """Become another image of ocelot (``ocelotctl reexec``); returns only by raising ControlError."""
        from ocelot.life.reexec import replace

        await replace(self, runtime, descriptor)

    # -- pieces ------------------------------------------------------------------------------------

    async def _open_control(self) -> None:
        """Open the control socket. A machine goes on without it; elsewhere another ocelot behind it is an error."""
        from supervisor.control.door import Door
        from supervisor.control.server import open_control

        config = configuration.control(self.config, self.socket)
        door = self.doors.setdefault("control", Door())
        await open_control(self, config, self.nursery, door=door, required=self.who is not Identity.MACHINE)

    async def _serve_metrics(self) -> None:
        if self.config.metrics.listen is None:
            return
        from supervisor.control.door import Door
        from supervisor.control.server import serve_metrics

        await serve_metrics(self, self.config.metrics, door=self.doors.setdefault("metrics", Door()))
