"""Keys as other supervisors call them get a hint that names ours."""

import re

import pytest

from ocelot.config import foreign
from ocelot.config.converting import record_fields
from ocelot.config.loading import load

WORDS = [(record, word, hint) for record, words in foreign._BY_RECORD.items() for word, hint in words.items()]
KEYS = {key for record in foreign._BY_RECORD for key in record_fields(record)}


@pytest.mark.parametrize(("record", "word", "hint"), WORDS, ids=[f"{each[0].__name__}.{each[1]}" for each in WORDS])
def test_a_foreign_word_is_no_key_of_ours_and_its_hint_names_keys(record, word, hint):
    assert word not in record_fields(record)
    assert set(re.findall(r'"(\w+)"', hint)) <= KEYS
    assert foreign.meaning(record, word) == hint


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("healthcheck: {}", '"healthcheck" is not a key here (write "readinessProbe", or '),
        ("readinessProbe: {httpGet: {port: 80}}", '"httpGet" is not a key here (write `handler: {type: TYPE, ...}`)'),
        ("zwiebel: {}", 'unknown key "zwiebel" (`ocelot supervise config-template` shows all keys)'),
        ("log: {stdout: /var/log/x}", "(write {destination: {type: file, path: /var/log/x}})"),
        ("log: {stdout: {destination: /x}}", "(write {type: file, path: /x})"),
        ("memoryMax: 1", '"memoryMax" is not a key here (it belongs to "resources")'),
    ],
)
def test_it_is_said_at_its_place(line, expected):
    found = load(f"processes:\n  web:\n    program: sh\n    {line}\n".encode(), "f", "supervise").errors
    assert any(expected in finding.located("f") and finding.line == 4 for finding in found), found


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [
        ("supervise", "web: {program: sh}\n", "processes"),
        ("bootstrap", "web: {program: sh}\n", "postSwitch.handoff.processes"),
        ("bootstrap", "postSwitch:\n  web: {program: sh}\n", "handoff.processes"),
    ],
)
def test_a_process_beside_the_processes_is_sent_there(kind, text, place):
    said = [finding.located("f") for finding in load(text.encode(), "f", kind).errors]
    assert any(f'"web" is not a key here (a process belongs below "{place}")' in line for line in said), said
