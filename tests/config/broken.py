"""The table of broken files, read from ``broken.txt``.

A case starts with ``### its name``, then the file, then a line ``>>> `` for each problem in file order. Words at the end
of the name: ``supervise`` is a supervise file; ``raw`` is a bootstrap file as it stands, any other gets a hand-off
added at its end, so that the missing one is not a problem of its own.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from ocelot.config.loading import Loaded, load

HANDOFF = "postSwitch: {handoff: {mode: shell}}\n"


class Case(NamedTuple):
    name: str
    kind: Literal["bootstrap", "supervise"]
    text: str
    expected: list[str]


def read_cases(path: Path) -> list[Case]:
    cases = []
    for block in path.read_bytes().decode().split("### ")[1:]:
        lines = block.splitlines(keepends=True)
        name = lines[0].strip()
        text = "".join(line for line in lines[1:] if not line.startswith(">>> "))
        expected = [line.removeprefix(">>> ").rstrip("\n") for line in lines[1:] if line.startswith(">>> ")]
        if name.endswith(" supervise"):
            cases.append(Case(name, "supervise", text, expected))
        else:
            ending = "" if name.endswith(" raw") or "handoff: {mode" in text.partition("postSwitch")[2] else HANDOFF
            cases.append(Case(name, "bootstrap", text + ending, expected))
    return cases


def problems(loaded: Loaded) -> list[str]:
    """The findings as lines, in file order."""
    found = sorted((*loaded.errors, *loaded.warnings), key=lambda finding: (finding.line, finding.column))
    return [f"{finding.severity}: {finding.located('f')}" for finding in found]


def load_case(case: Case) -> Loaded:
    return load(case.text.encode(), "f", case.kind)


CASES = read_cases(Path(__file__).with_name("broken.txt"))
