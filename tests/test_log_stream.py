"""Where a stream of lines goes on after it was cut: a little before the last time, without what was seen."""

from __future__ import annotations

import json

from ocelot.verbs.log_stream import go_on, is_new
from ocelot.wire.place import OVERLAP, Place


def line(at: float, text: str, name: str = "web") -> bytes:
    return json.dumps({"at": at, "name": name, "stream": "stdout", "text": text}).encode()


def test_lines_that_were_seen_are_not_seen_twice() -> None:
    place = Place()
    for at, text in ((10.0, "old"), (11.0, "a"), (11.0005, "b"), (11.001, "b")):
        assert is_new(place, line(at, text))
    (_, (key, since)) = go_on(place, [("n", "5"), ("follow", "true")])
    assert key == "since"
    assert float(since) == 11.001 - OVERLAP
    again = [(11.0, "a"), (11.0004, "b"), (11.0004, "b"), (11.0009, "b"), (11.0009, "c"), (12.0, "a"), (12.0, "b")]
    assert [is_new(place, line(at, text)) for at, text in again] == [False, False, False, True, True, True, True]


def test_the_same_text_of_another_process_is_another_line() -> None:
    place = Place()
    is_new(place, line(11.0, "a"))
    go_on(place, [])
    assert is_new(place, line(11.0, "a", name="db"))
    assert not is_new(place, line(11.0, "a"))


def test_a_stream_that_was_cut_before_it_said_anything_goes_on_from_its_beginning() -> None:
    place = Place()
    place.begin("11.5")
    place.begin("99.0")  # that of the next connection
    assert go_on(place, [("n", "0"), ("follow", "true")]) == [("follow", "true"), ("since", "11.5")]


def test_a_stream_that_was_cut_before_it_began_is_asked_for_as_before() -> None:
    assert go_on(Place(), [("n", "5"), ("follow", "true")]) == [("n", "5"), ("follow", "true")]
