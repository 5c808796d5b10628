"""What the tests of the supervision core do as PID 1 of a throw-away namespace: ``python -m integration.scenarios NAME``.

Each scenario prints one JSON document on its last line; :func:`in_namespace` runs one and returns that.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import trio

from bootstrap.shutdown import other_processes
from ocelot import log
from ocelot.config import structs
from ocelot.config.structs import Log, Null, RestartPolicy, RestartType, Stream
from ocelot.errors import SpawnError
from ocelot.linux import syscalls
from ocelot.linux.descriptors import Writer
from ocelot.linux.inherited import Inherited, raise_own_limits
from ocelot.states import LogLevel, State
from supervisor.children.reaper import Reaper
from supervisor.children.spawn import SpawnSpec
from supervisor.manager import Supervisor
from supervisor.process.programs import Programs

QUIET = Log(stdout=Stream(destination=Null()), stderr=Stream(destination=Null()))
SLEEP = "/bin/sleep"
INHERITED = Inherited.capture()


def in_namespace(name, *arguments, timeout=100, python=sys.executable):
    """Run a scenario as PID 1 of a PID namespace with its own /proc, and return what it printed."""
    command = [
        "unshare",
        "--fork",
        "--pid",
        "--mount-proc",
        "--kill-child",
        python,
        "-m",
        "integration.scenarios",
        name,
    ]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


@asynccontextmanager
async def reaping():
    async with trio.open_nursery() as nursery:
        reaper = Reaper()
        await nursery.start(reaper.run)
        yield reaper
        nursery.cancel_scope.cancel()


def spec(*argv, **kwargs):
    return SpawnSpec(argv=argv, environment=INHERITED.child_environment(), limits=INHERITED.limits, **kwargs)


def perl(text, **kwargs):
    return spec("/usr/bin/perl", "-e", text, **kwargs)


def zombies():
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                found += file.read().rpartition(b") ")[2][:1] == b"Z"
        except OSError:
            continue
    return found


def supervisor_of(processes, reaper, **kwargs):
    nowhere = Writer.nowhere()
    return Supervisor(
        processes, reaper=reaper, inherited=INHERITED, environment={}, stdout=nowhere, stderr=nowhere, **kwargs
    )


def process(program, *arguments, **kwargs):
    return structs.Process(program=program, arguments=arguments, **kwargs)


async def until(supervisor, condition):
    while True:
        change = supervisor.changed()
        if condition():
            return
        await change.wait()


# -- the reaper


async def statuses():
    """Every exit code and every signal that ends a process."""
    wrong = []
    ending = sorted(
        set(signal.valid_signals())
        - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
        - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    )
    async with reaping() as reaper:

        async def check(text, expected):
            status = await reaper.spawn(spec("/bin/sh", "-c", text)).wait()
            if (status.code, status.signal) != expected:
                wrong.append([text, str(status)])

        async with trio.open_nursery() as nursery:
            for code in range(256):
                nursery.start_soon(check, f"exit {code}", (code, None))
                await trio.lowlevel.checkpoint()
            for number in ending:
                nursery.start_soon(check, f"kill -{int(number)} $$; sleep 9", (None, int(number)))
                await trio.lowlevel.checkpoint()
        return {
            "wrong": wrong,
            "reaped": reaper.children_reaped,
            "orphans": reaper.orphans_reaped,
            "signals": len(ending),
        }


async def crowd(count):
    """Children with mixed ends among dying orphans."""
    count = int(count)
    wrong = []
    orphans_each = 20
    async with reaping() as reaper:
        limit = trio.CapacityLimiter(50)

        async def child(index):
            async with limit:
                kind = index % 3
                if kind == 0:
                    text, expected = f"exit {index % 256}", (index % 256, None)
                elif kind == 1:
                    number = (1, 2, 6, 9, 11, 15)[index % 6]
                    text, expected = f"kill {number}, $$; sleep 9", (None, number)
                else:
                    text, expected = f"select(undef, undef, undef, 0.01); exit {index % 256}", (index % 256, None)
                status = await reaper.spawn(perl(text)).wait()
                if (status.code, status.signal) != expected:
                    wrong.append([index, text, str(status)])

        async def maker():
            async with limit:
                text = f"for (1..{orphans_each}) {{ if (!fork) {{ if (!fork) {{ exit 77 }} exit 78 }} wait }}"
                await reaper.spawn(perl(text)).wait()

        async with trio.open_nursery() as nursery:
            for index in range(count):
                nursery.start_soon(child, index)
                if index % 20 == 0:
                    nursery.start_soon(maker)
        expected = (count // 20) * orphans_each
        with trio.move_on_after(10):
            while reaper.orphans_reaped < expected:
                await trio.sleep(0.01)
        return {
            "wrong": wrong,
            "children": reaper.children_reaped,
            "orphans": reaper.orphans_reaped,
            "expected_orphans": expected,
            "zombies": zombies(),
            "parked": len(reaper._parked),
            "living": reaper.living,
        }


async def orphans(count):
    """Many zombies of one parent, which become ours at once when it goes."""
    count = int(count)
    async with reaping() as reaper:
        ready, told = os.pipe()
        text = f"for (1..{count}) {{ $p = fork; exit 0 if !$p }} syswrite STDOUT, 'x'; sleep 1000"
        child = reaper.spawn(perl(text, stdout=told))
        os.close(told)
        await trio.to_thread.run_sync(os.read, ready, 1)
        began = time.monotonic()
        child.signal(signal.SIGKILL)
        longest = 0.0
        while reaper.orphans_reaped < count:
            before = time.monotonic()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.monotonic() - before)
        took = time.monotonic() - began
        return {"seconds": took, "orphans": reaper.orphans_reaped, "zombies": zombies(), "longest_lag": longest}


async def early_deaths():
    """Children that die before anybody could have looked at them, from this thread and from others."""
    seen = []
    async with reaping() as reaper:
        for code in range(100):
            child = reaper.spawn(perl(f"exit {code}"))
            # The kernel has long queued its SIGCHLD when we come to wait
            while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                time.sleep(0.0005)
            seen.append((await child.wait()).code == code)
        for code in range(100):
            seen.append((await (await reaper.spawn_in_thread(perl(f"exit {code}"), timeout=10)).wait()).code == code)
        return {"right": sum(seen), "of": len(seen), "parked": len(reaper._parked), "orphans": reaper.orphans_reaped}


async def stopped_child():
    """A child that is only stopped and continued has not ended."""
    async with reaping() as reaper:
        child = reaper.spawn(spec(SLEEP, "1000"))
        for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGSTOP):
            child.signal(number)
        probe = await reaper.spawn(perl("exit 4")).wait()
        alive = child.status is None
        child.signal_group(signal.SIGKILL)
        return {"probe": probe.code, "alive": alive, "status": str(await child.wait())}


async def leftovers():
    """The group of a leader that ends by itself goes with it; a daemon that left the group stays."""
    async with reaping() as reaper:
        text = (
            "use POSIX; pipe(R, W);"
            " if (!fork) { sleep 1000 }"
            " if (!fork) { POSIX::setsid(); syswrite W, 'x'; sleep 1000 }"
            " sysread R, $x, 1; exit 5"
        )
        child = reaper.spawn(perl(text))
        status = await child.wait()
        with trio.move_on_after(10):
            while reaper.orphans_reaped < 1:
                await trio.sleep(0.01)
        alive = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
        return {"status": status.code, "alive": len(alive)}


async def end_all():
    """All that is left goes: one that ends on SIGTERM with what it has started, one that does not, and one that is stopped."""
    async with reaping() as reaper:
        ready, told = os.pipe()
        ignores = "trap '' TERM; echo >&3; while :; do sleep 1; done"
        reaper.spawn(spec("/bin/sh", "-c", "sleep 1000 & echo >&3; exec sleep 1000", descriptors={3: told}))
        reaper.spawn(spec("/bin/sh", "-c", ignores, descriptors={3: told}))
        stopped = reaper.spawn(spec(SLEEP, "1000"))
        stopped.signal(signal.SIGSTOP)
        for _ in range(2):
            await trio.lowlevel.wait_readable(ready)
            os.read(ready, 1)
        began = trio.current_time()
        await reaper.end_all(0.5)
        took = trio.current_time() - began
        with trio.move_on_after(5):  # their orphans are reaped a moment later
            while other_processes():
                await trio.sleep(0.01)
        return {"took": took, "left": len(other_processes()), "living": reaper.living}


# -- spawn


async def failures():
    """Failed starts leave no zombie, no descriptor and no child behind."""
    async with reaping() as reaper:
        await reaper.spawn(spec("/bin/true")).wait()  # what is opened once for all is open now
        before = len(os.listdir("/proc/self/fd"))
        messages = []
        for argv, kwargs in [
            (("/nowhere",), {}),
            (("/etc/passwd",), {}),
            (("/bin/true",), {"working_directory": "/nowhere"}),
            (("/bin/true",), {"terminal": "/dev/nowhere"}),
            (("/bin/true",), {"terminal": "/dev/null"}),
            (("/bin/true", "x" * (1 << 20)), {}),
        ]:
            try:
                reaper.spawn(spec(*argv, **kwargs))
                messages.append("started")
            except SpawnError as error:
                messages.append([error.step, error.errno, str(error)])
        with trio.move_on_after(10):
            while reaper.living:
                await trio.sleep(0.01)
        return {
            "messages": messages,
            "descriptors": len(os.listdir("/proc/self/fd")) - before,
            "zombies": zombies(),
            "orphans": reaper.orphans_reaped,
        }


async def silent_server():
    """A program on a file system whose server never answers: nothing else is held up, and nothing is left behind."""
    server = os.open("/dev/fuse", os.O_RDWR)
    syscalls.mount("none", "/mnt", "fuse", 0, f"fd={server},rootmode=40000,user_id=0,group_id=0")
    log.configure(level=LogLevel.ERROR)
    lag = 0.0
    async with reaping() as reaper, trio.open_nursery() as nursery:
        supervisor = supervisor_of(
            {"p": process("/mnt/prog", log=QUIET), "q": process(SLEEP, "1000", log=QUIET)}, reaper
        )

        async def watch():
            nonlocal lag
            while True:
                before = time.monotonic()
                await trio.sleep(0.01)
                lag = max(lag, time.monotonic() - before)

        await nursery.start(supervisor.run)
        nursery.start_soon(watch)
        await until(supervisor, lambda: supervisor.status("q").state == State.RUNNING)
        await trio.sleep(0.5)
        hanging = supervisor.status("p").state
        began = time.monotonic()
        await supervisor.stop(["p"])
        stopped = supervisor.status("p").state
        took = time.monotonic() - began
        began = time.monotonic()
        try:
            await reaper.spawn_in_thread(spec("/mnt/prog"), timeout=0.5)
        except SpawnError as error:
            message = str(error)
        waited = time.monotonic() - began
        os.close(server)  # now the server is gone for good: the late children fail and are reaped
        with trio.move_on_after(10):
            while reaper._spawning or reaper.living > 1:
                await trio.sleep(0.01)
        state = {
            "spawning": reaper._spawning,
            "living": reaper.living,
            "zombies": zombies(),
            "parked": len(reaper._parked),
        }
        await supervisor.stop_all()
        nursery.cancel_scope.cancel()
    syscalls.umount2("/mnt", syscalls.MNT_DETACH)
    return {
        "hanging": hanging,
        "stopped": stopped,
        "took": took,
        "waited": waited,
        "message": message,
        "lag": lag,
        **state,
    }


# -- supervision


async def restart_latency(count):
    """From kill -9 to the new program's execve, with no backoff."""
    policy = RestartPolicy(type=RestartType.ALWAYS, backoff=0.0)
    figures = []
    async with reaping() as reaper, trio.open_nursery() as nursery:
        supervisor = supervisor_of({"p": process(SLEEP, "1000", restart_policy=policy, log=QUIET)}, reaper)
        await nursery.start(supervisor.run)
        await until(supervisor, lambda: supervisor.status("p").state == State.RUNNING)
        for _ in range(int(count)):
            old = supervisor.status("p").pid
            began = time.monotonic()
            os.kill(old, signal.SIGKILL)
            await until(supervisor, lambda old=old: supervisor.status("p").pid not in (None, old))
            figures.append(time.monotonic() - began)
        restarts = supervisor.status("p").restarts_by_cause
        nursery.cancel_scope.cancel()
    figures.sort()
    return {"median_ms": figures[len(figures) // 2] * 1000, "worst_ms": figures[-1] * 1000, "restarts": restarts}


async def thousand(count, relayed):
    """Start many, watch them idle, stop them."""
    count = int(count)
    log.configure(level=LogLevel.ERROR)
    raise_own_limits()
    settings = Log() if relayed == "relayed" else QUIET
    names = [f"p{index}" for index in range(count)]
    rss_before = _memory()
    async with reaping() as reaper, trio.open_nursery() as nursery:
        supervisor = supervisor_of({name: process(SLEEP, "100000", log=settings) for name in names}, reaper)
        running = 0

        def count_up(change):
            nonlocal running
            running += change.after is State.RUNNING

        supervisor.subscribe(count_up)
        began = time.monotonic()
        nursery.start_soon(supervisor.run)
        await until(supervisor, lambda: running == count)
        started = time.monotonic() - began
        memory = _memory() - rss_before
        read = (
            "sub n { open F, '/proc/1/status'; my $n = 0; while (<F>) { $n += $1 if /ctxt_switches:\\s+(\\d+)/ } $n }"
        )
        with open("/tmp/.wakeups", "wb") as out:
            text = f"{read} sleep 1; $a = n(); sleep 2; print n() - $a"
            await reaper.spawn(perl(text, stdout=out.fileno())).wait()
        with open("/tmp/.wakeups") as file:
            wakeups = int(file.read())
        os.unlink("/tmp/.wakeups")
        began = time.monotonic()
        await supervisor.stop_all()
        stopped = time.monotonic() - began
        left = sum(status.state != State.STOPPED for status in supervisor.statuses())
        nursery.cancel_scope.cancel()
    return {
        "start_seconds": started,
        "stop_seconds": stopped,
        "kib_each": memory / count,
        "wakeups_in_2s": wakeups,
        "left": left,
        "zombies": zombies(),
    }


def _memory():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


async def stubborn():
    """Stopping: who ignores SIGTERM, who outlives the leader, who daemonised."""
    grace = {"termination_grace_period": 1.5, "log": QUIET}
    ready = "open F, '>', '/tmp/.ready-' . $ARGV[0]; close F;"
    processes = {
        "ignores": process("/usr/bin/perl", "-e", f"$SIG{{TERM}} = 'IGNORE'; {ready} sleep 1000 while 1", "a", **grace),
        "outlived": process(
            "/usr/bin/perl",
            "-e",
            f"if (!fork) {{ $SIG{{TERM}} = 'IGNORE'; {ready} sleep 1000 while 1 }} sleep 1000",
            "b",
            **grace,
        ),
        "slow": process(
            "/usr/bin/perl",
            "-e",
            f"if (!fork) {{ $SIG{{TERM}} = sub {{ select undef, undef, undef, 0.3; open F, '>', '/tmp/.graceful';"
            f" exit 0 }}; {ready} sleep 1000 while 1 }} sleep 1000",
            "c",
            **grace,
        ),
        "frozen": process("/usr/bin/perl", "-e", f"{ready} kill 'STOP', $$; sleep 1000", "d", **grace),
    }
    for name in os.listdir("/tmp"):
        if name.startswith((".ready-", ".graceful")):
            os.unlink(f"/tmp/{name}")
    log.configure(level=LogLevel.ERROR)
    took = {}
    async with reaping() as reaper, trio.open_nursery() as nursery:
        supervisor = supervisor_of(processes, reaper)
        await nursery.start(supervisor.run)
        with trio.fail_after(20):
            while not all(os.path.exists(f"/tmp/.ready-{letter}") for letter in "abcd"):
                await trio.sleep(0.01)
        for name in processes:
            began = time.monotonic()
            await supervisor.stop([name])
            await until(supervisor, lambda name=name: supervisor.status(name).state == State.STOPPED)
            took[name] = time.monotonic() - began
        with trio.move_on_after(5):
            while len([n for n in os.listdir("/proc") if n.isdigit()]) > 1:
                await trio.sleep(0.01)
        left = len([name for name in os.listdir("/proc") if name.isdigit()]) - 1
        graceful = os.path.exists("/tmp/.graceful")
        nursery.cancel_scope.cancel()
    return {"took": took, "left": left, "graceful": graceful, "zombies": zombies()}


async def failed_exec():
    """A program that appears while its start is being retried."""
    path = "/tmp/.appears-later"
    if os.path.exists(path):
        os.unlink(path)
    policy = RestartPolicy(type=RestartType.ON_FAILURE, backoff=0.05, multiplier=1.0)
    log.configure(level=LogLevel.ERROR)
    async with reaping() as reaper, trio.open_nursery() as nursery:
        supervisor = supervisor_of(
            {
                "later": process(path, restart_policy=policy, log=QUIET),
                "never": process(
                    "/nowhere", restart_policy=RestartPolicy(type=RestartType.ALWAYS, backoff=0.0, max_retries=3)
                ),
            },
            reaper,
        )
        nursery.start_soon(supervisor.run)
        await until(supervisor, lambda: supervisor.status("later").restarts >= 3)
        os.symlink(SLEEP, path)
        with open(path + ".new", "w") as file:
            file.write("#!/bin/sh\nexec sleep 1000\n")
            os.fchmod(file.fileno(), 0o755)
        os.rename(path + ".new", path)
        await until(supervisor, lambda: supervisor.status("later").state == State.RUNNING)
        later, never = supervisor.status("later"), supervisor.status("never")
        os.unlink(path)
        await supervisor.stop_all()
        nursery.cancel_scope.cancel()
    return {
        "later": later.restarts_by_cause,
        "never": [never.state, never.restarts, never.last_exit.status, never.last_exit.cause],
        "zombies": zombies(),
    }


async def endings(*commands):
    """Run shell commands as processes, the first one essential if it starts with "!": the ending."""
    processes = {}
    for index, command in enumerate(commands):
        text = command.removeprefix("!")
        processes[f"p{index}"] = process("/bin/sh", "-c", text, essential=text != command, log=QUIET)
    log.configure(level=LogLevel.ERROR)
    async with reaping() as reaper:
        ending = await supervisor_of(processes, reaper).run()
    return {"status": ending.status, "process": ending.process, "reason": ending.reason, "zombies": zombies()}


# -- programs


async def programs():
    """Hooks and scripts: their output, their time limit, what they leave behind, a controlling terminal."""
    reader, writer = os.pipe()
    results = {}
    environment = INHERITED.child_environment({"PYTHONPATH": "x", "MARK": "1"})
    async with reaping() as reaper:
        runner = Programs(reaper, inherited=INHERITED, stdout=Writer.attach(writer), stderr=Writer.attach(writer))

        async def sh(text, **kwargs):
            return await runner.run(["sh", "-c", text], name="hook", environment=environment, **kwargs)

        results["status"] = str(await sh("echo said; echo also >&2; pwd; exit 3", working_directory="/proc"))
        began = time.monotonic()
        try:
            await sh("trap '' TERM; echo hangs; sleep 1000 & sleep 1000", timeout=0.5)
        except trio.TooSlowError:
            results["too_slow"] = time.monotonic() - began
        began = time.monotonic()
        with trio.move_on_after(0.5):
            await sh("sleep 1000 & sleep 1000")
        results["cancelled"] = time.monotonic() - began
        results["left"] = len([name for name in os.listdir("/proc") if name.isdigit()]) - 1
        await sh("sleep 1000 >/dev/null 2>&1 &")
        results["background"] = len([name for name in os.listdir("/proc") if name.isdigit()]) - 1
        master, slave = os.openpty()
        script = "tty; ps -o pid=,pgid=,sid=,tpgid= -p $$ | tr -s ' '; trap 'echo interrupted; exit 9' INT; echo ready; read x"
        terminal = os.ttyname(slave)
        said = b""

        async def talk():
            nonlocal said
            while b"ready" not in said:
                said += await trio.to_thread.run_sync(os.read, master, 1000)
            os.write(master, b"\x03")
            while b"interrupted" not in said:
                said += await trio.to_thread.run_sync(os.read, master, 1000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            status = await runner.run(["sh", "-c", script], name="shell", environment=environment, terminal=terminal)
        results["terminal"] = [str(status), terminal, said.decode()]
        # A second one on the same tty: the first has given it up
        os.close(slave)
        status = await runner.run(
            ["sh", "-c", "exec 3</dev/tty; exit 6"], name="shell", environment=environment, terminal=terminal
        )
        results["again"] = str(status)
    os.close(writer)
    os.set_blocking(reader, False)
    results["output"] = os.read(reader, 65536).decode()
    return results


SCENARIOS = {
    f.__name__: f
    for f in (
        statuses,
        crowd,
        orphans,
        early_deaths,
        stopped_child,
        leftovers,
        end_all,
        failures,
        silent_server,
        restart_latency,
        thousand,
        stubborn,
        failed_exec,
        endings,
        programs,
    )
}

if __name__ == "__main__":
    print(json.dumps(trio.run(SCENARIOS[sys.argv[1]], *sys.argv[2:])))
