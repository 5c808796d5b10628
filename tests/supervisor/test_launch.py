"""From a configured process to what is spawned."""

from types import SimpleNamespace

import pytest

from ocelot.config import structs
from ocelot.errors import SpawnError
from ocelot.linux.inherited import Inherited
from supervisor.children.spawn import SpawnSpec
from supervisor.output.process_output import ChildEnds
from supervisor.process import launch

INHERITED = Inherited({7: (10, 20)}, {"PATH": "/bin", "HOME": "/", "A": "inherited", "B": "inherited"})
ENDS = SimpleNamespace(stdout=11, stderr=12)


def specification(config, **more):
    return launch.specification(config, {"PATH": "/bin"}, ENDS, INHERITED, **more)


def test_a_plain_process_asks_for_nothing_that_the_plain_path_lacks():
    config = structs.Process(program="p", arguments=("-x",), working_directory="/w")
    assert specification(config) == SpawnSpec(
        argv=("p", "-x"),
        environment={"PATH": "/bin"},
        working_directory="/w",
        stdout=11,
        stderr=12,
        limits={7: (10, 20)},
    )


def test_later_layers_of_the_environment_win():
    config = structs.Process(program="p", environment_variables={"D": "own"})
    phase, from_file = {"B": "phase", "C": "phase"}, {"C": "file", "D": "file"}
    found = launch.environment(config, INHERITED, phase, from_file)
    assert {key: found[key] for key in "ABCD"} == {"A": "inherited", "B": "phase", "C": "file", "D": "own"}


def test_a_user_is_between_the_phase_and_the_process():
    config = structs.Process(program="p", user="root", environment_variables={"SHELL": "own"})
    found = launch.environment(config, INHERITED, {"HOME": "/phase", "USER": "phase"}, {"LOGNAME": "file"})
    expected = {"HOME": "/root", "USER": "root", "LOGNAME": "file", "SHELL": "own"}
    assert {key: found[key] for key in expected} == expected


def test_what_is_handed_over_comes_with_its_variables():
    health = SimpleNamespace(environment={"NOTIFY_SOCKET": "@x"}, descriptors={})
    sockets = SimpleNamespace(environment={"LISTEN_FDS": "2"}, descriptors={3: 20, 4: 21})
    spec = specification(structs.Process(program="p"), handles=(health, sockets))
    assert spec.environment == {"PATH": "/bin", "NOTIFY_SOCKET": "@x", "LISTEN_FDS": "2"}
    assert (spec.descriptors, spec.listen_pid) == ({3: 20, 4: 21}, True)
    spec = specification(structs.Process(program="p"), handles=(health,))
    assert (spec.descriptors, spec.listen_pid) == (None, False)


def test_another_command_runs_as_the_process_would_but_never_on_its_terminal():
    config = structs.Process(program="p", arguments=("-x",), umask=0o27, nice=5, stdin="tty")
    spec = specification(config, argv=("check",), terminal="/dev/ttyS0")
    assert (spec.argv, spec.umask, spec.terminal) == (("check",), 0o27, None)
    assert spec.privileges is not None
    assert spec.privileges.nice == 5


def test_the_console_is_input_and_what_is_not_led_elsewhere():
    to_file = structs.Stream(destination=structs.File(path="/log"))
    config = structs.Process(program="p", stdin="tty", log=structs.Log(stderr=to_file))
    spec = specification(config, terminal="/dev/ttyS0")
    assert (spec.terminal, spec.stdout, spec.stderr, spec.session) == ("/dev/ttyS0", -1, 12, True)
    assert spec.environment["TERM"] == "vt220"


@pytest.mark.parametrize(
    ("terminal", "given", "term"), [("/dev/tty1", "linux", "linux"), ("/dev/ttyS0", "xterm", "xterm")]
)
def test_a_terminal_type_that_fits_stays(terminal, given, term):
    config = structs.Process(program="p", stdin="tty")
    spec = launch.specification(config, {"TERM": given}, ENDS, INHERITED, terminal=terminal)
    assert spec.environment["TERM"] == term


def test_names_that_nobody_has_are_a_failed_start():
    with pytest.raises(SpawnError, match='cannot start "p": cannot find the user "no such user"') as caught:
        specification(structs.Process(program="p", user="no such user"))
    assert caught.value.step == "user"


def test_only_a_process_with_resources_has_a_cgroup():
    assert launch.leaf("web", structs.Process(program="p")) is None
    assert launch.joined("web", structs.Process(program="p")) is None
    leaf = launch.leaf("web", structs.Process(program="p", resources=structs.Resources()))
    assert leaf is not None
    assert leaf.name == "web"


@pytest.mark.parametrize(
    ("inherited", "own", "term"),
    [
        ({}, {}, "xterm"),
        ({"TERM": "linux"}, {"TERM": "linux"}, "xterm"),
        ({"TERM": "linux"}, {"TERM": "vt100"}, "vt100"),
    ],
)
def test_a_terminal_of_its_own_is_all_of_its_streams_and_controls_it(inherited, own, term):
    ends = ChildEnds(20, 21, stdin=20)
    config = structs.Process(program="p", stdin="pty")
    spec = launch.specification(config, {"A": "b", **own}, ends, Inherited({}, inherited))
    assert (spec.stdin, spec.stdout, spec.stderr, spec.session, spec.controlling) == (20, 20, 21, True, True)
    assert spec.environment == {"A": "b", "TERM": term}
    command = launch.specification(config, own, ends, Inherited({}, inherited), argv=("before",))
    assert (command.stdin, command.controlling, command.environment) == (None, False, own)
