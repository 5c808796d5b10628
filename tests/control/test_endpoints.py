"""Every endpoint on a fake machine: what it answers, to whom, and what it makes of nonsense."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import jsonschema
import pytest
import trio
from trio.testing import MockClock

from ocelot.errors import ControlError
from ocelot.states import PowerVerb, State
from ocelot.wire import routes
from ocelot.wire.openapi import document
from ocelot.wire.protocol import Role
from supervisor.control.actions import resolve, unknown
from supervisor.control.connection import Request
from supervisor.control.endpoints import OPERATIONS, control_answer, metrics_answer
from tests.control.fakes import FakeMachine, FakeSupervisor, body_of, request, status_of, talk


def ask(
    machine: FakeMachine, method: str, target: str, body: bytes = b"", role: Role | None = Role.ADMIN, **headers: str
):
    """The status and the body of one answer; JSON is decoded."""
    return trio.run(asking, machine, method, target, body, role, headers, clock=MockClock(autojump_threshold=0))


async def asking(machine, method, target, body=b"", role=Role.ADMIN, headers=None):
    answer = await talk(control_answer(machine, lambda: role), request(method, target, body, **(headers or {})))
    content = body_of(answer)
    return status_of(answer), json.loads(content) if b"application/json" in answer.partition(b"\r\n\r\n")[
        0
    ] else content


def example(route: routes.Route) -> str:
    return route.path.replace("{name}", "web").replace("{verb}", "reboot")


BODIES = {"start": b'{"names": ["web"], "wait": false}', "signal": b'{"names": ["web"], "signal": "HUP"}'}
BODIES |= {"stop": BODIES["start"], "restart": BODIES["start"], "signalOne": BODIES["signal"]}
BODIES |= dict.fromkeys(("rotate", "reload"), b'{"names": ["web"]}')
BODIES |= {f"{verb}One": b'{"wait": false}' for verb in ("start", "stop", "restart")}
BODIES |= {"scale": b'{"replicas": 0}'}
BODIES |= {"wait": b'{"names": ["web"], "timeout": 0}', "waitOne": b""}
RANK = {None: 0, Role.READ: 1, Role.OPERATE: 2, Role.ADMIN: 3}


def test_every_route_has_an_operation_and_every_operation_a_route() -> None:
    assert {route.operation for route in routes.ROUTES} == set(OPERATIONS)


@pytest.mark.parametrize("role", [None, Role.READ, Role.OPERATE, Role.ADMIN])
@pytest.mark.parametrize("route", routes.ROUTES, ids=lambda route: route.operation)
def test_the_matrix_of_permissions(route: routes.Route, role: Role | None) -> None:
    machine = FakeMachine()
    status, answer = ask(machine, route.method, example(route), BODIES.get(route.operation, b""), role)
    if RANK[role] >= RANK[route.role]:
        # 101 is for clients that ask for another protocol; the fake machine refuses to be replaced, its processes have no terminal
        refused = {"exec": 426, "execOne": 426, "reexec": 409, "terminal": 409, "attach": 409}
        assert status == refused.get(route.operation, route.status)
    else:
        assert status == 403
        assert answer["kind"] == "permission-denied"
        assert f"control.roles.{route.role}" in answer["hint"]
        assert not machine.verbs
        assert not machine.supervisor.asked
        assert not machine.supervisor.signals


@pytest.mark.parametrize("route", [route for route in routes.ROUTES if route.role], ids=lambda route: route.operation)
def test_the_host_is_told_of_the_role_that_it_has(route: routes.Route) -> None:
    answer = trio.run(
        lambda: talk(
            control_answer(FakeMachine(), lambda: None, local=False), request(route.method, example(route), b"")
        ),
        clock=MockClock(autojump_threshold=0),
    )
    assert status_of(answer) == 403
    assert f"control.vsock.role of the configuration says what the host may do: {route.role}".encode() in answer


@pytest.mark.parametrize("path", ["/v1/exec", "/v1/processes/web/exec"])
def test_no_commands_for_who_cannot_hand_over_descriptors(path: str) -> None:
    answer = trio.run(
        lambda: talk(
            control_answer(FakeMachine(), lambda: Role.ADMIN, local=False),
            request("POST", path, b'{"argv": ["true"]}', Connection="Upgrade", Upgrade="ocelot-session"),
        ),
        clock=MockClock(autojump_threshold=0),
    )
    assert status_of(answer) == 409
    assert b'"kind":"not-local"' in answer


def test_a_role_that_is_taken_away_counts_for_the_next_request_of_a_connection() -> None:
    machine, roles = FakeMachine(), [Role.READ, None]
    again = request("GET", "/v1/status")
    first = again.replace(b"Connection: close\r\n", b"")
    answer = trio.run(
        lambda: talk(control_answer(machine, lambda: roles.pop(0)), first, again),
        clock=MockClock(autojump_threshold=0),
    )
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.count(b"HTTP/1.1 403") == 1


VERBS = ("start", "stop", "restart", "signal", "reload", "rotate")
ASKED_FOR = {
    None: {"version", "health", "openapi"},
    Role.READ: {
        "status",
        "processes",
        "process",
        "wait",
        "waitOne",
        "events",
        "logs",
        "boot",
        "figures",
        "metrics",
        "terminal",
    },
    Role.OPERATE: {*VERBS, *(f"{verb}One" for verb in VERBS), "scale"},
    Role.ADMIN: {"attach", "exec", "execOne", "power", "reloadFile", "reexec"},
}
"""Written down a second time, so that no role changes by accident; a new operation is to be put here too."""


def test_what_each_operation_asks_for() -> None:
    found: dict[Role | None, set[str]] = {}
    for route in routes.ROUTES:
        found.setdefault(route.role, set()).add(route.operation)
    assert found == ASKED_FOR


def test_status_can_be_narrowed_to_names_and_patterns() -> None:
    _, everything = ask(FakeMachine(), "GET", "/v1/status")
    assert [process["name"] for process in everything["processes"]] == ["web", "web-2", "db"]
    _, some = ask(FakeMachine(), "GET", "/v1/status?name=web*")
    assert [process["name"] for process in some["processes"]] == ["web", "web-2"]


def test_names_stand_for_processes_in_the_order_of_the_set() -> None:
    known = ["db", "web[0]", "web[1]", "web-2"]
    assert resolve(known, ["web-2", "web", "db"]) == known
    assert resolve(known, ["web[*]"]) == ["web[0]", "web[1]"]
    assert resolve(known, ["w*", "web[1]", "w*"]) == ["web[0]", "web[1]", "web-2"]
    with pytest.raises(ControlError):
        resolve(known, ["db[*]"])


def test_many_names_are_fine_and_many_patterns_are_not() -> None:
    known = [f"p{number}" for number in range(1000)]
    assert resolve(known, known * 10) == known
    assert resolve(known, ["*"] * 10_000) == known
    with pytest.raises(ControlError, match="at most 100") as caught:
        resolve(known, [f"p{number}*" for number in range(101)])
    assert caught.value.status == 400


def test_status_as_a_table_fits_the_width_and_says_whether_all_are_up() -> None:
    machine = FakeMachine()

    def page(target: str) -> tuple[bytes, bytes]:
        answer = trio.run(
            lambda: talk(control_answer(machine, lambda: Role.READ), request("GET", target, Accept="text/plain")),
            clock=MockClock(autojump_threshold=0),
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.lower(), body

    head, body = page("/v1/status?name=web*")
    assert b"content-type: text/plain" in head
    assert b"ocelot-all-up: true" in head
    assert [line.split()[0] for line in body.splitlines()[2:5]] == [b"NAME", b"web", b"web-2"]
    machine.supervisor.become("db", State.FATAL, pid=None)
    assert b"ocelot-all-up: false" in page("/v1/status")[0]
    assert max(len(line) for line in page("/v1/status?columns=60")[1].splitlines()[2:]) <= 60
    assert b"\x1b[31mfatal" in page("/v1/status?colour=true")[1]


def test_an_unknown_process_is_404_with_the_nearest_name() -> None:
    status, answer = ask(FakeMachine(), "GET", "/v1/processes/wbe")
    assert status == 404
    assert answer == {
        "kind": "no-such-process",
        "message": 'cannot find the process "wbe"',
        "hint": 'did you mean "web"?',
    }


def test_who_names_an_entry_where_one_process_is_meant_is_told_its_replicas() -> None:
    error = unknown("web", ["other", "web[0]", "web[1]", "webs"])
    assert error.hint == 'it has replicas: name one of them, such as "web[0]"'
    assert unknown("wbe", ["web[0]", "web"]).hint == 'did you mean "web"?'


@pytest.mark.parametrize(
    ("method", "target", "status", "kind"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/v1/nothing", 404, "not-found"),
        ("GET", "/v1/processes/web/start", 405, "method-not-allowed"),
        ("POST", "/v1/status", 405, "method-not-allowed"),
        ("POST", "/v1/power/explode", 404, "not-found"),
        ("GET", "/v1/logs?n=many", 400, "bad-request"),
        ("GET", "/v1/logs?since=inf", 400, "bad-request"),
        ("POST", "/v1/processes/start", 400, "bad-request"),
    ],
)
def test_nonsense_is_a_problem_with_a_hint_or_a_reason(method: str, target: str, status: int, kind: str) -> None:
    got, answer = ask(FakeMachine(), method, target)
    assert (got, answer["kind"]) == (status, kind)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"names": "web"}', b'{"names": [1]}', b'"\xff"', b'{"timeout": "x"}', b"[" * 9000]
)
def test_a_body_that_is_not_the_right_json_is_refused(body: bytes) -> None:
    machine = FakeMachine()
    status, answer = ask(machine, "POST", "/v1/processes/start", body)
    assert (status, answer["kind"]) == (400, "bad-request")
    assert not machine.supervisor.asked


def test_before_the_hand_off_there_is_nothing_to_act_on() -> None:
    status, answer = ask(FakeMachine(supervisor=None), "POST", "/v1/processes/web/stop")
    assert (status, answer["kind"]) == (503, "not-ready")


def play(machine: FakeMachine, target: str, body: bytes, *later: Callable[[], Awaitable[None] | None]):
    """Ask, and let things happen a second apart meanwhile. Returns the answer and how long it took."""

    async def main():
        async def happen() -> None:
            for deed in later:
                await trio.sleep(1.0)
                deed()

        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(happen)
            status, answer = await asking(machine, "POST", target, body)
            took = trio.current_time() - start
            nursery.cancel_scope.cancel()
        return status, answer, took

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def test_start_waits_until_all_are_running() -> None:
    machine = FakeMachine()
    fake = machine.supervisor
    status, answer, took = play(
        machine,
        "/v1/processes/start",
        b'{"names": ["web", "db"]}',
        lambda: fake.become("web", State.RUNNING),
        lambda: fake.become("db", State.RUNNING),
    )
    assert (status, answer["settled"], answer["failed"]) == (200, True, [])
    assert took >= 2.0
    assert fake.asked == [("start", ("web", "db"))]


def test_a_start_that_ends_badly_names_the_process() -> None:
    machine = FakeMachine()
    _, answer, _ = play(
        machine,
        "/v1/processes/web/start",
        b"",
        lambda: machine.supervisor.become("web", State.FATAL, pid=None, status=7),
    )
    assert (answer["settled"], answer["failed"]) == (True, ["web"])


def test_a_program_that_is_done_with_success_has_started_well() -> None:
    machine = FakeMachine()
    _, answer, _ = play(
        machine,
        "/v1/processes/web/start",
        b"",
        lambda: machine.supervisor.become("web", State.EXITED, pid=None, status=0),
    )
    assert (answer["settled"], answer["failed"]) == (True, [])


def test_restart_is_not_done_while_the_old_process_still_runs() -> None:
    machine = FakeMachine()
    fake = machine.supervisor
    _, answer, took = play(
        machine,
        "/v1/processes/web/restart",
        b"",
        lambda: fake.become("web", State.RUNNING),
        lambda: fake.become("web", State.RUNNING, pid=999),
    )
    assert answer["processes"][0]["pid"] == 999
    assert took >= 2.0


def test_what_is_asked_again_after_a_cut_is_not_done_again() -> None:
    """The image before this one was asked by the same client, with the process that had the pid 100."""
    machine = FakeMachine()
    fake = machine.supervisor
    fake.under_way = {"t": {"web": 100.0}, "other": {}}
    _, answer, took = play(
        machine,
        "/v1/processes/web/restart",
        b'{"token": "t"}',
        lambda: fake.become("web", State.STARTING, pid=None),
        lambda: fake.become("web", State.RUNNING, pid=999),
    )
    assert answer["processes"][0]["pid"] == 999
    assert (fake.asked, answer["failed"], answer["settled"]) == ([], [], True)
    assert took >= 2.0
    assert list(fake.under_way) == ["other"]


def test_a_request_with_a_new_token_is_noted_while_it_waits() -> None:
    machine = FakeMachine()
    fake = machine.supervisor
    noted = []

    def look() -> None:
        noted.append(dict(fake.under_way))
        fake.become("web", State.RUNNING, pid=999)

    play(machine, "/v1/processes/web/restart", b'{"token": "t"}', look)
    assert noted == [{"t": {"web": 100}}]
    assert fake.asked == [("restart", ("web",))]
    assert fake.under_way == {}


def test_waiting_ends_with_its_timeout_and_says_so() -> None:
    status, answer, took = play(FakeMachine(), "/v1/processes/web/stop", b'{"timeout": 5}')
    assert (status, answer["settled"], answer["failed"]) == (200, False, [])
    assert 5.0 <= took < 6.0


@pytest.mark.parametrize("verb", ["stop", "scale"])
def test_what_was_asked_for_is_done_though_nobody_waits_for_it_any_more(verb: str) -> None:
    machine = FakeMachine()
    answer = control_answer(machine, lambda: Role.OPERATE)
    asked = Request("POST", f"/v1/processes/web/{verb}", "", {}, b'{"replicas": 2, "timeout": 3600}')
    if verb == "scale":
        machine.supervisor.add("web[0]")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            with pytest.raises(ControlError, match="nobody waits"):
                await answer(asked)

    async def hang_up() -> None:
        await trio.testing.wait_all_tasks_blocked()
        asked.patience.cancel()

    trio.run(main)
    assert [verb_ for verb_, _ in machine.supervisor.asked] == [verb]


def test_one_may_wait_for_days() -> None:
    _, answer, took = play(FakeMachine(), "/v1/processes/web/wait", b'{"condition": "stopped", "timeout": 172800}')
    assert not answer["settled"]
    assert took == pytest.approx(172800)


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("stop", b'{"names": ["web", "db"]}', 200),
        ("wait", b'{"names": ["web", "db"], "condition": "stopped"}', 200),
        ("restart", b'{"names": ["web", "db"]}', 404),
        ("wait", b'{"names": ["web", "db"], "condition": "exited"}', 404),
    ],
)
def test_what_is_taken_away_meanwhile_has_stopped_and_no_more(target: str, body: bytes, status: int) -> None:
    fake = FakeSupervisor("web", "web-2", "db")
    later = [lambda: fake.take_away("db"), lambda: fake.become("web", State.STOPPED, pid=None)]
    found, answer, _ = play(FakeMachine(supervisor=fake), f"/v1/processes/{target}", body, *later)
    assert found == status
    if status == 200:
        assert (answer["settled"], [each["name"] for each in answer["processes"]]) == (True, ["web"])


def test_no_wait_answers_at_once() -> None:
    _, answer, took = play(FakeMachine(), "/v1/processes/web/stop", b'{"wait": false}')
    assert answer["settled"] is False
    assert took < 1.5


@pytest.mark.parametrize(
    ("condition", "state", "status", "settled", "failed"),
    [
        ("ready", State.RUNNING, None, True, []),
        ("running", State.RUNNING, None, True, []),
        ("ready", State.FATAL, 1, True, ["web"]),
        ("running", State.EXITED, 0, True, ["web"]),  # a service: it will not run by itself any more
        ("ready", State.BACKOFF, 1, False, []),  # it will be tried again
        ("exited", State.EXITED, 7, True, []),
        ("exited", State.FATAL, 1, True, []),
        ("completed", State.EXITED, 0, True, []),
        ("completed", State.EXITED, 7, True, ["web"]),
        ("completed", State.FATAL, 1, True, ["web"]),
        ("stopped", State.STOPPED, None, True, []),
        ("stopped", State.STOPPING, None, False, []),
    ],
)
def test_waiting_ends_when_it_has_come_or_cannot_come_any_more(
    condition: str, state: State, status: int | None, settled: bool, failed: list[str]
) -> None:
    machine = FakeMachine()
    machine.supervisor.become("web", State.STARTING)
    body = json.dumps({"condition": condition, "timeout": 5}).encode()
    _, answer, took = play(
        machine, "/v1/processes/web/wait", body, lambda: machine.supervisor.become("web", state, status=status)
    )
    assert (answer["settled"], answer["failed"]) == (settled, failed)
    assert took >= 5.0 if not settled else 1.0 <= took < 2.0


def test_what_runs_without_being_ready_is_waited_for() -> None:
    machine = FakeMachine()
    machine.supervisor.status("web").ready = False
    _, answer = ask(machine, "POST", "/v1/processes/web/wait", b'{"condition": "running", "timeout": 5}')
    assert answer["settled"]
    _, answer = ask(machine, "POST", "/v1/processes/web/wait", b'{"condition": "ready", "timeout": 5}')
    assert not answer["settled"]
    body = b'{"condition": "ready", "timeout": 5}'
    become_ready = [lambda: machine.supervisor.become("web", State.RUNNING)]
    assert play(machine, "/v1/processes/web/wait", body, *become_ready)[1]["settled"]


def test_waiting_for_several_ends_with_the_first_that_fails() -> None:
    machine = FakeMachine()
    machine.supervisor.become("web", State.STARTING)
    machine.supervisor.become("db", State.STARTING)
    body = b'{"names": ["web", "db"], "condition": "ready"}'
    fail = [lambda: machine.supervisor.become("db", State.FATAL, status=1)]
    _, answer, took = play(machine, "/v1/processes/wait", body, *fail)
    assert answer["failed"] == ["db"]
    assert took < 2.0


def test_an_operator_who_stopped_it_is_not_waited_for() -> None:
    machine = FakeMachine()
    machine.supervisor.become("web", State.STOPPED, pid=None)
    machine.supervisor.status("web").goal = "down"
    status, answer = ask(machine, "POST", "/v1/processes/web/wait")
    assert (status, answer["failed"]) == (200, ["web"])


@pytest.mark.parametrize(("text", "number"), [("HUP", 1), ("sigterm", 15), ("9", 9), ("SIGRTMIN+3", 37)])
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    machine = FakeMachine()
    status, _ = ask(machine, "POST", "/v1/processes/web/signal", json.dumps({"signal": text}).encode())
    assert status == 200
    assert machine.supervisor.signals == [(("web",), number)]


@pytest.mark.parametrize(
    "text", ["", "NOPE", "0", "65", "9" * 5000, "RTMIN+" + "9" * 5000, "١", "RTMIN+99", "RTMIN+x", None]
)
def test_what_is_no_signal_is_refused(text: str | None) -> None:
    machine = FakeMachine()
    status, _ = ask(machine, "POST", "/v1/processes/web/signal", json.dumps({"signal": text}).encode())
    assert status == 400
    assert not machine.supervisor.signals


def test_rotating_asks_the_outputs_and_needs_a_log_file() -> None:
    machine = FakeMachine()
    outputs = machine.supervisor.outputs
    outputs["db"].files = 0
    status, answer = ask(machine, "POST", "/v1/processes/rotate", b'{"names": ["*"]}')
    assert (status, [process["name"] for process in answer["processes"]]) == (200, ["web", "web-2", "db"])
    assert (outputs["web"].rotated, outputs["db"].rotated) == (1, 1)
    status, answer = ask(machine, "POST", "/v1/processes/db/rotate")
    assert (status, answer["kind"]) == (409, "no-log-file")
    outputs["web"].refusal = OSError(28, "No space left on device")
    status, answer = ask(machine, "POST", "/v1/processes/web/rotate")
    assert (status, answer["kind"]) == (500, "not-rotated")
    assert "No space left" in answer["message"]


def test_a_signal_to_what_does_not_run_is_a_conflict() -> None:
    machine = FakeMachine()
    machine.supervisor.become("db", State.STOPPED, pid=None)
    status, answer = ask(machine, "POST", "/v1/processes/signal", b'{"names": ["*"], "signal": "HUP"}')
    assert (status, answer["kind"]) == (409, "not-running")
    assert not machine.supervisor.signals


def test_power_reaches_the_machine() -> None:
    machine = FakeMachine()
    assert ask(machine, "POST", "/v1/power/halt") == (202, {"verb": "halt", "identity": "container"})
    assert machine.verbs == [PowerVerb.HALT]


def test_health_is_503_when_a_process_has_failed_for_good() -> None:
    machine = FakeMachine()
    assert ask(machine, "GET", "/v1/health", role=None)[0] == 200
    machine.supervisor.become("db", State.FATAL, pid=None)
    status, answer = ask(machine, "GET", "/v1/health", role=None)
    assert (status, answer["failed"]) == (503, ["db"])


def test_logs_are_merged_by_time_and_bounded_over_all() -> None:
    machine = FakeMachine()
    machine.supervisor.outputs["web"].write(1.0, "one")
    machine.supervisor.outputs["db"].write(2.0, "two", "stderr")
    machine.supervisor.outputs["web"].write(3.0, "three")
    _, body = ask(machine, "GET", "/v1/logs?n=2")
    assert [json.loads(line)["text"] for line in body.splitlines()] == ["two", "three"]
    _, body = ask(machine, "GET", "/v1/logs?name=web&since=2")
    assert [json.loads(line)["text"] for line in body.splitlines()] == ["three"]


def test_followers_get_old_lines_then_new_ones_and_are_forgotten_when_they_leave() -> None:
    from supervisor.control.loglines import follow

    machine = FakeMachine()
    output = machine.supervisor.outputs["web"]
    output.write(1.0, "old")

    async def main() -> None:
        lines = follow(machine.supervisor, ["web"], None, None)
        assert b'"old"' in await anext(lines)
        output.write(2.0, "new")
        output.write(3.0, "newer")
        block = await anext(lines)
        assert b'"new"' in block
        assert b'"newer"' in block
        await lines.aclose()
        assert output.watchers == []

    trio.run(main)


def test_a_follower_of_one_start_hears_all_of_it_and_nothing_of_the_next() -> None:
    from supervisor.control.loglines import follow

    supervisor = FakeMachine().supervisor
    output = supervisor.outputs["web"]

    async def hear(pid: int) -> bytes:
        heard = b""
        async for block in follow(supervisor, ["web"], 1, None, ["web"], pid):
            heard += block
            if b'"more"' in block:
                output.write(4.0, "last")
                supervisor.become("web", State.BACKOFF, None, 3)
                output.write(5.0, "next")
            elif b'"one"' in block:
                supervisor.become("db", State.EXITED)
                output.write(3.0, "more")
        return heard

    async def main() -> None:
        output.write(1.0, "one")
        texts = [json.loads(line)["text"] for line in (await hear(100)).splitlines()]
        assert texts == ["one", "more", "last"]
        assert output.watchers == supervisor.listeners == []
        supervisor.become("web", State.STARTING, None)
        output.write(6.0, "one")
        texts = [json.loads(line)["text"] for line in (await hear(0)).splitlines()]
        assert texts == ["one", "more", "last"]
        assert b'"next"' in await hear(100)  # it has ended by now: the last line, and no more

    trio.run(main)


def test_a_follower_of_a_pattern_hears_processes_that_come_later() -> None:
    from supervisor.control.loglines import follow

    machine = FakeMachine()
    supervisor = machine.supervisor

    async def main() -> None:
        lines = follow(supervisor, ["web", "web-2"], None, None, ["web*"])
        supervisor.outputs["web"].write(1.0, "one")  # kept, so that the first block comes at once
        assert b'"one"' in await anext(lines)
        other, web = supervisor.add("other"), supervisor.add("web-3")
        supervisor.become("web", State.RUNNING)
        web.write(2.0, "two")
        assert b'"two"' in await anext(lines)
        assert (len(other.watchers), len(web.watchers), len(supervisor.outputs["web"].watchers)) == (0, 1, 1)
        await lines.aclose()
        assert web.watchers == supervisor.listeners == []

    trio.run(main)


@pytest.mark.parametrize(("length", "kept"), [(1, 10_000), (64 * 1024, 16)])
def test_a_follower_that_falls_behind_is_told_how_much_it_missed(length: int, kept: int) -> None:
    """By lines, and by what is in them: ten thousand long ones would fill the memory of a small machine."""
    from supervisor.control import loglines

    machine = FakeMachine()
    output = machine.supervisor.outputs["web"]
    output.write(0.0, "first")

    async def main() -> bytes:
        lines = loglines.follow(machine.supervisor, ["web"], None, None)
        await anext(lines)
        for count in range(kept + 5):
            output.write(float(count), "x" * length)
        heard = b""
        while b"left out" not in heard:
            heard += await anext(lines)
        await lines.aclose()
        return heard

    assert b"[5 lines left out" in trio.run(main)


def test_the_boot_is_json_text_or_a_picture() -> None:
    machine = FakeMachine()
    _, timeline = ask(machine, "GET", "/v1/boot")
    assert timeline["spans"][0]["name"] == "mount /data"
    _, text = ask(machine, "GET", "/v1/boot", b"", Role.READ, Accept="text/plain")
    assert "warned: it failed" in text.decode()
    _, picture = ask(machine, "GET", "/v1/boot", b"", Role.READ, Accept="image/svg+xml")
    from xml.etree import ElementTree

    titles = [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}title")]
    assert "preSwitch: hook <a&b>: 1.00 s, warned: it failed" in titles


def test_a_name_with_odd_characters_reaches_its_process() -> None:
    from tests.control.fakes import FakeSupervisor

    machine = FakeMachine(FakeSupervisor("a/b c%", "start"))
    status, answer = ask(machine, "GET", "/v1/processes/a%2Fb%20c%25")
    assert (status, answer["name"]) == (200, "a/b c%")
    assert ask(machine, "GET", "/v1/processes/start")[1]["name"] == "start"


def test_the_openapi_document_tells_the_truth_about_every_json_answer() -> None:
    spec = document()
    for route in routes.ROUTES:
        if route.reply is None or route.media[0] != routes.JSON or route.operation == "reexec":
            continue
        machine = FakeMachine()
        _, answer = ask(machine, route.method, example(route), BODIES.get(route.operation, b""))
        operation = spec["paths"][route.path][route.method.lower()]
        schema = operation["responses"][str(route.status)]["content"][routes.JSON]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": spec["components"]}).validate(answer)


def test_the_metrics_listener_serves_figures_and_health_and_nothing_else() -> None:
    def status(method: str, target: str) -> int:
        answer = metrics_answer(FakeMachine())
        return status_of(trio.run(lambda: talk(answer, request(method, target)), clock=MockClock(autojump_threshold=0)))

    assert status("GET", "/metrics") == 200
    assert status("GET", "/health") == 200
    assert status("POST", "/metrics") == 405
    for route in routes.ROUTES:
        if route.path != "/metrics":
            assert status(route.method, example(route)) == 404


def test_processes_that_have_a_reload_signal_get_it() -> None:
    machine = FakeMachine()
    status, _ = ask(machine, "POST", "/v1/processes/reload", b'{"names": ["web*"]}')
    assert status == 200
    assert machine.supervisor.signals == [(("web",), 1), (("web-2",), 1)]


def test_without_a_reload_signal_nobody_gets_any() -> None:
    machine = FakeMachine()
    status, answer = ask(machine, "POST", "/v1/processes/reload", b'{"names": ["*"]}')
    assert (status, answer["kind"]) == (409, "no-reload-signal")
    assert "restart db" in answer["hint"]
    assert machine.supervisor.signals == []


def test_who_says_when_it_has_reloaded_is_waited_for() -> None:
    machine = FakeMachine()
    fake = machine.supervisor
    fake.notifies.add("web")
    _, answer, took = play(
        machine,
        "/v1/processes/reload",
        b'{"names": ["web"], "timeout": 10}',
        lambda: fake.reloading("web", "reloading"),
        lambda: fake.reloading("web", "done"),
    )
    assert fake.signals == [(("web",), 1)]
    assert (answer["settled"], answer["failed"]) == (True, [])
    assert 2.0 <= took < 3.0


@pytest.mark.parametrize("state", [State.BACKOFF, State.RUNNING])
def test_who_ends_instead_has_not_reloaded(state: State) -> None:
    """Whether or not it has come back meanwhile."""
    machine = FakeMachine()
    fake = machine.supervisor
    fake.notifies.add("web")

    def end() -> None:
        fake.become("web", state, pid=None if state is State.BACKOFF else 101, started_at=2000.0)

    _, answer, took = play(machine, "/v1/processes/reload", b'{"names": ["web"], "timeout": 10}', end)
    assert (answer["settled"], answer["failed"]) == (True, ["web"])
    assert took < 2.0


def test_who_says_nothing_is_given_up_after_the_timeout() -> None:
    machine = FakeMachine()
    machine.supervisor.notifies.add("web")
    _, answer, took = play(machine, "/v1/processes/reload", b'{"names": ["web"], "timeout": 10}')
    assert (answer["settled"], answer["failed"]) == (False, [])
    assert 10.0 <= took < 11.0
