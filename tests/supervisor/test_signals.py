"""What each signal means where."""

import signal

from ocelot.linux.identity import Identity
from ocelot.states import PowerVerb
from supervisor.signals import ELSEWHERE, MACHINE, Action, markdown, responses


def meaning(identity, number):
    (found,) = [r for r in responses(identity) if r.number == number]
    return found.action, found.verb


def test_the_machine_knows_systemds_and_busyboxs_signals():
    for number, verb in [
        (signal.SIGTERM, None),
        (signal.SIGINT, None),
        (signal.SIGPWR, PowerVerb.POWEROFF),
        (signal.SIGUSR1, PowerVerb.HALT),
        (signal.SIGUSR2, PowerVerb.POWEROFF),
        (signal.SIGRTMIN + 3, PowerVerb.HALT),
        (signal.SIGRTMIN + 4, PowerVerb.POWEROFF),
        (signal.SIGRTMIN + 5, PowerVerb.REBOOT),
    ]:
        assert meaning(Identity.MACHINE, number) == (Action.SHUT_DOWN, verb)


def test_a_container_forwards_what_is_meant_for_its_main_program():
    for identity in (Identity.CONTAINER, Identity.PROCESS):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            assert meaning(identity, number) == (Action.FORWARD, None)
        assert meaning(identity, signal.SIGTERM) == (Action.SHUT_DOWN, None)


def test_both_tables_answer_the_same_signals_once_each():
    assert [r.number for r in MACHINE] == [r.number for r in ELSEWHERE]
    assert len({r.number for r in MACHINE}) == len(MACHINE)
    assert markdown().count("\n") == len(MACHINE) + 3
