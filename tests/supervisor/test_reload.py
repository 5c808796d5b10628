"""What a reload finds and decides: every difference once, nothing without a difference, and what depends on others in order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocelot.config import structs
from ocelot.config.dependencies import edges
from ocelot.config.schema import schema
from ocelot.wire.differences import told
from ocelot.wire.protocol import ReloadReply
from supervisor.reload import (
    LIVE,
    LIVE_SECTIONS,
    compare_processes,
    compare_sections,
    differences,
    processes_of,
    ranks,
    shutdown_timeout_of,
    with_live_sections,
    without_processes,
)

names = st.sampled_from(["a", "b", "c", "d", "e"])
streams = st.builds(
    structs.Stream,
    destination=st.sampled_from([structs.Inherit(), structs.Null(), structs.File(path="/x"), structs.File(path="/y")]),
    ring=st.sampled_from([0, 65536]),
)
entries = st.builds(
    structs.Process,
    program=st.sampled_from(["/bin/a", "/bin/b"]),
    arguments=st.lists(st.sampled_from(["-x", "-y"]), max_size=2).map(tuple),
    environment_variables=st.dictionaries(st.sampled_from(["HOME", "PORT"]), st.sampled_from(["1", "2"])),
    restart_policy=st.builds(
        structs.RestartPolicy, type=st.sampled_from(structs.RestartType), backoff=st.sampled_from([0.0, 2.0, 90.5])
    ),
    shutdown_signal=st.sampled_from([1, 15]),
    umask=st.sampled_from([None, 0o22, 0o77]),
    log=st.builds(structs.Log, stdout=streams),
    replicas=st.sampled_from([None, 1, 2]),
    user=st.sampled_from([None, "www-data"]),
)


@st.composite
def sets(draw: st.DrawFn) -> dict[str, structs.Process]:
    """Some entries; each depends only on later ones, so there is no circle."""
    found = draw(st.dictionaries(names, entries))
    places = list(found)
    for index, name in enumerate(places):
        others = draw(st.sets(st.sampled_from(places[index + 1 :]))) if places[index + 1 :] else set()
        depends = {other: structs.Dependency() for other in sorted(others)}
        found[name] = msgspec.structs.replace(found[name], depends_on=depends)
    return found


def leaves(value: object, path: str = "") -> dict[str, object]:
    """A record as its scalars by path, for comparison with what was found."""
    if isinstance(value, dict):
        return {k: v for key, each in value.items() for k, v in leaves(each, f"{path}.{key}" if path else key).items()}
    return {path: value}


@given(entries, entries)
def test_every_difference_is_found_and_nothing_else(before: structs.Process, after: structs.Process) -> None:
    found = differences(before, after)
    assert bool(found) == (before != after)
    assert len({each.path for each in found}) == len(found)
    old, new = leaves(msgspec.to_builtins(before)), leaves(msgspec.to_builtins(after))
    for path in {*old, *new}:
        if old.get(path) != new.get(path):
            assert any(path == each.path or path.startswith(f"{each.path}.") for each in found), path
    for each in found:
        assert each.before != each.after
        touched = {path for path in {*old, *new} if path == each.path or path.startswith(f"{each.path}.")}
        assert any(old.get(path) != new.get(path) for path in touched), each.path


@given(sets(), sets())
def test_every_entry_is_new_gone_different_or_left_alone(
    running: dict[str, structs.Process], wanted: dict[str, structs.Process]
) -> None:
    found = {each.name: each for each in compare_processes(running, wanted)}
    assert {name for name, each in found.items() if each.change == "added"} == wanted.keys() - running.keys()
    assert {name for name, each in found.items() if each.change == "removed"} == running.keys() - wanted.keys()
    for name in running.keys() & wanted.keys():
        assert (name in found) == (running[name] != wanted[name])
        if name in found:
            effects = {field.effect for field in found[name].fields}
            assert found[name].effect == ("restart" if "restart" in effects else "live")
            for field in found[name].fields:
                renamed = field.path == "replicas" and None in (running[name].replicas, wanted[name].replicas)
                assert (field.effect == "live") == (field.path.split(".")[0] in LIVE and not renamed)


@given(sets(), sets())
def test_what_depends_on_others_comes_after_them_and_goes_before_them(
    running: dict[str, structs.Process], wanted: dict[str, structs.Process]
) -> None:
    order = [each.name for each in compare_processes(running, wanted) if each.change != "removed"]
    for name in order:
        for other in edges(wanted)[name]:
            assert other not in order or order.index(other) < order.index(name)
    gone = [each.name for each in compare_processes(running, wanted) if each.change == "removed"]
    for name in gone:
        for other in edges(running)[name]:
            assert other not in gone or gone.index(name) < gone.index(other)


@given(sets(), st.sets(names))
def test_ranks_hold_everything_once_and_no_dependency_goes_first(
    processes: dict[str, structs.Process], chosen: set[str]
) -> None:
    chosen &= processes.keys()
    found = ranks(chosen, edges(processes))
    assert sorted(name for rank in found for name in rank) == sorted(chosen)
    place = {name: index for index, rank in enumerate(found) for name in rank}

    def below(name: str) -> set[str]:
        return {each for other in edges(processes)[name] for each in (other, *below(other))}

    for name in chosen:
        for other in below(name) & chosen:
            assert place[name] < place[other]


@given(sets(), sets())
def test_a_second_reload_of_the_same_file_finds_nothing(
    running: dict[str, structs.Process], wanted: dict[str, structs.Process]
) -> None:
    assert compare_processes(wanted, dict(reversed(wanted.items()))) == []
    before = structs.SuperviseFile(processes=running)
    after = structs.SuperviseFile(processes=wanted, shutdown_timeout=7.0, log_level=structs.LogLevel.DEBUG)
    assert [each.path for each in compare_sections(before, after)] == ["logLevel", "shutdownTimeout"]
    assert compare_sections(with_live_sections(before, after), after) == []


def shown(before: structs.Process, after: structs.Process) -> list[tuple[str, str | None, str | None]]:
    return [(each.path, each.before, each.after) for each in differences(before, after)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"environment_variables": {"PORT": "81"}}, ("environmentVariables.PORT", "80", "81")),
        ({"environment_variables": {}}, ("environmentVariables.PORT", "80", None)),
        ({"environment_variables": {"PORT": "80", "A": ""}}, ("environmentVariables.A", None, "")),
        ({"restart_policy": structs.RestartPolicy(backoff=90.0)}, ("restartPolicy.backoff", "2s", "1m 30s")),
        ({"shutdown_signal": 3}, ("shutdownSignal", "SIGTERM", "SIGQUIT")),
        ({"reload_signal": 1}, ("reloadSignal", None, "SIGHUP")),
        ({"umask": 0o27}, ("umask", None, "0027")),
        ({"essential": True}, ("essential", "false", "true")),
        ({"arguments": ("-a", "b")}, ("arguments", "[]", '["-a","b"]')),
        (
            {"log": structs.Log(stderr=structs.Stream(destination=structs.File(path="/x")))},
            ("log.stderr.destination", '{"type":"inherit"}', '{"path":"/x","type":"file"}'),
        ),
        ({"replicas": 3}, ("replicas", None, "3")),
    ],
)
def test_values_are_shown_as_in_a_file(change: dict[str, object], expected: tuple[str, str, str]) -> None:
    before = structs.Process(program="/bin/web", environment_variables={"PORT": "80"})
    ((path, old, new),) = shown(before, msgspec.structs.replace(before, **change))
    if old is not None and old.startswith("{"):
        assert path == expected[0]
        assert [msgspec.json.decode(each) for each in (old, new)] == [
            msgspec.json.decode(each) for each in expected[1:]
        ]
    else:
        assert (path, old, new) == expected


def test_records_of_a_list_are_compared_by_their_name_or_their_place() -> None:
    sockets = (structs.Socket(name="web", listen=":80"), structs.Socket(name="old", listen=":81"))
    commands = (structs.Command(command="/bin/one"), structs.Command(command="/bin/two", timeout=90.0))
    before = structs.Process(
        program="/bin/web", sockets=sockets, pre_start=commands, depends_on={"a": structs.Dependency()}
    )
    after = msgspec.structs.replace(
        before,
        sockets=(structs.Socket(name="new", listen="/run/x", mode=0o640), structs.Socket(name="web", listen=":8080")),
        pre_start=(commands[0], structs.Command(command="/bin/two", arguments=("-v",)), commands[1]),
        depends_on={"b": structs.Dependency(condition=structs.Condition.STARTED, required=False)},
    )
    assert shown(before, after) == [
        ("sockets.web.listen", ":80", ":8080"),
        ("sockets.old", '{"name":"old","listen":":81"}', None),
        ("sockets.new", None, '{"name":"new","listen":"/run/x","mode":"0640"}'),
        ("dependsOn.a", "{}", None),
        ("dependsOn.b", None, '{"condition":"Started","required":false}'),
        ("preStart.1.arguments", "[]", '["-v"]'),
        ("preStart.1.timeout", "1m 30s", "5m"),
        ("preStart.2", None, '{"command":"/bin/two","timeout":"1m 30s"}'),
    ]
    probed = structs.Process(program="/bin/web", readiness_probe=structs.Probe(handler=structs.TcpSocket(port=80)))
    assert shown(structs.Process(program="/bin/web"), probed) == [
        ("readinessProbe", None, '{"handler":{"type":"tcpSocket","port":80}}')
    ]


def boot_file(**handoff: object) -> structs.Bootstrap:
    return structs.Bootstrap(post_switch=structs.PostSwitch(handoff=structs.Supervise(**handoff)))


def test_a_bootstrap_file() -> None:
    web = structs.Process(program="/bin/web")
    before = boot_file(processes={"web": web})
    after = msgspec.structs.replace(
        boot_file(processes={}, shutdown_timeout=5.0),
        control=structs.Control(socket="/run/x"),
        switch_root=structs.SwitchRoot(root_file_system=structs.VirtiofsMount(tag="root")),
        on_fatal=structs.OnFatal(action=structs.FatalAction.HOLD),
    )
    assert processes_of(before) == {"web": web}
    found = {each.path: each.effect for each in compare_sections(before, after)}
    assert found == {
        "control.socket": "live",
        "switchRoot": "reboot",
        "onFatal.action": "live",
        "postSwitch.handoff.shutdownTimeout": "live",
    }
    now = with_live_sections(before, after)
    assert {each.path for each in compare_sections(now, after)} == {"switchRoot"}
    assert shutdown_timeout_of(now) == 5.0
    assert processes_of(without_processes(now)) == {}


def test_a_file_that_hands_off_to_something_else_has_no_processes_to_compare() -> None:
    assert processes_of(structs.Bootstrap(post_switch=structs.PostSwitch(handoff=structs.Shell()))) is None


def test_the_tables_name_keys_that_exist() -> None:
    properties = set(schema("supervise")["properties"]) | set(schema("bootstrap")["properties"])
    assert properties >= LIVE_SECTIONS
    keys = {field.encode_name for field in msgspec.structs.fields(structs.Process)}
    assert keys >= LIVE


def test_what_people_read() -> None:
    before = {"web": structs.Process(program="/bin/web", environment_variables={"PORT": "80"}), "old": ENTRY}
    after = {
        "web": structs.Process(program="/bin/web", restart_policy=structs.RestartPolicy(backoff=0.0)),
        "new": ENTRY,
    }
    sections = compare_sections(structs.SuperviseFile(), structs.SuperviseFile(metrics=structs.Metrics(listen=":1")))
    reply = ReloadReply(
        file="f", applied=True, entries=compare_processes(before, after), sections=sections, restarted=["web"]
    )
    assert list(told(msgspec.to_builtins(reply))) == [
        "- old: removed",
        "~ web: environmentVariables.PORT: 80 -> (not set) (restart)",
        "~ web: restartPolicy.backoff: 2s -> 0s (no restart)",
        "+ new: added",
        "~ metrics.listen: (not set) -> :1 (no restart)",
        "restarted: web",
    ]
    assert list(told(msgspec.to_builtins(ReloadReply(file="f", applied=True)))) == ["nothing has changed"]


ENTRY = structs.Process(program="/bin/true")
