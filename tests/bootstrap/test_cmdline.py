"""The kernel command line is read as the kernel reads it."""

from __future__ import annotations

import pytest

from bootstrap.cmdline import parse
from ocelot.config.structs import FatalAction
from ocelot.states import LogLevel


def test_quotes_join_words_and_are_taken_off() -> None:
    line = parse('a b="c d" "e=f g" h="" i=\n')
    assert line.words == (("a", None), ("b", "c d"), ("e", "f g"), ("h", ""), ("i", ""))


def test_words_after_two_dashes_are_the_arguments_of_init() -> None:
    line = parse('quiet -- single "two words"')
    assert line.words == (("quiet", None),)
    assert line.arguments == ("single", "two words")


def test_the_last_value_counts_and_dashes_are_underscores() -> None:
    line = parse("ocelot.config=/a x-y=1 ocelot.config=/b x_y=2")
    assert line.config == "/b"
    assert line.value("x-y") == "2"
    assert line.values("x_y") == ("1", "2")


def test_own_keys_are_read_in_any_case() -> None:
    line = parse("ocelot.log=DEBUG ocelot.onfatal=Shell")
    assert (line.log_level, line.on_fatal) == (LogLevel.DEBUG, FatalAction.SHELL)
    assert line.warnings == ()


def test_nothing_said_is_nothing_known() -> None:
    line = parse("")
    assert (line.words, line.config, line.log_level, line.on_fatal, line.value("ip")) == ((), None, None, None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ocelot.confg=/x", '"ocelot.confg" is unknown'),
        ("ocelot.config", '"ocelot.config" needs a value'),
        ("ocelot.log=loud", '"ocelot.log=loud": not one of trace, debug'),
        ("ocelot.onfatal=panic", '"ocelot.onfatal=panic": not one of poweroff'),
    ],
)
def test_what_is_strange_is_a_warning(text: str, said: str) -> None:
    [warning] = parse(text).warnings
    assert said in warning
    assert parse(text).log_level is None
    assert parse(text).on_fatal is None


def test_parameters_are_collected_by_module() -> None:
    line = parse('virtio-net.a=1 ext4.x virtio_net.b="c d" ocelot.log=info plain=1 .odd=1')
    assert line.module_parameters() == {"virtio_net": 'a=1 b="c d"', "ext4": "x"}


def test_an_open_quote_reaches_to_the_end() -> None:
    assert parse('a="b c').words == (("a", "b c"),)
