"""Who may come in: so many at once, so many of one user, and root before all others, but not without end."""

from contextlib import ExitStack

from supervisor.control.door import NOBODY, Gate


def let_in(gate, *uids):
    """How many of these come in while all of them stay."""
    with ExitStack() as stack:
        return sum(stack.enter_context(gate.enter(uid)) for uid in uids)


def test_one_user_does_not_keep_the_others_out():
    assert let_in(Gate(total=8, per_user=3, descriptors=1000), *[7] * 10, *[8] * 10) == 6


def test_there_are_so_many_places_for_all():
    assert let_in(Gate(total=8, per_user=3, descriptors=1000), *range(100, 200)) == 8


def test_root_comes_in_when_the_places_are_taken():
    gate = Gate(total=4, per_user=4, descriptors=1000)
    assert let_in(gate, *[7] * 4, *[0] * 20, 8) == 24


def test_where_there_are_no_users_all_places_are_for_everybody():
    assert let_in(Gate(total=8, per_user=3, descriptors=1000), *[NOBODY] * 20) == 8


def test_half_of_the_descriptors_are_for_starting_what_has_died_and_not_for_clients_root_neither():
    assert let_in(Gate(total=64, per_user=16, descriptors=100), *[0] * 200) == 50
    assert let_in(Gate(total=64, per_user=16, descriptors=100), *[0] * 49, *range(1, 50)) == 50


def test_a_place_is_free_again_when_its_holder_has_gone():
    gate = Gate(total=2, per_user=1, descriptors=4)
    for _ in range(3):
        assert let_in(gate, 5, 6, 7) == 2
