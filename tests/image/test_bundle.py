"""The bundle: what was put in comes out, what was not goes the usual way, and a wrong one is left alone."""

from __future__ import annotations

import importlib.util
import marshal
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocelot import bundle
from ocelot.image import rehearsal

SOURCE = {
    "lamb/__init__.pyc": "from lamb import leg",
    "lamb/leg.pyc": "import sys\nlength = 3",
    "calf.pyc": "answer = 42",
}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[bundle.Bundle]:
    files = {}
    for path, text in SOURCE.items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\0" * 16 + marshal.dumps(compile(text, path, "exec")))
        name = path.removesuffix(".pyc").removesuffix("/__init__").replace("/", ".")
        files[name] = (str(tmp_path), path)
    files["_horn"] = (str(tmp_path), "_horn.so")
    record = rehearsal.Record()
    record.texts.add("x = 1")
    record.named.add(("y = 2", "<attrs generated>"))
    record.during(lambda: re._compiler.compile("a[b-d]+(?P<rest>.*)", re.IGNORECASE))  # type: ignore[attr-defined]
    data = rehearsal.archive(files, str(tmp_path), record.compiled(), bundle.version())
    place = tmp_path / bundle.NAME
    place.write_bytes(data)
    opened = bundle.Bundle(str(place))
    sys.meta_path.insert(0, opened)
    yield opened
    opened.close()
    for name in files:
        sys.modules.pop(name, None)


def test_modules_are_found_through_the_bundle(made: bundle.Bundle, tmp_path: Path) -> None:
    import calf  # type: ignore[import-not-found]
    import lamb  # type: ignore[import-not-found]

    assert (calf.answer, lamb.leg.length) == (42, 3)
    assert calf.__file__ == str(tmp_path / "calf.pyc")
    assert lamb.__path__ == [str(tmp_path / "lamb")]
    assert lamb.leg.__package__ == "lamb"


def test_an_extension_is_loaded_as_one(made: bundle.Bundle, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("_horn")
    assert spec is not None
    assert spec.origin == str(tmp_path / "_horn.so")
    assert type(spec.loader).__name__ == "ExtensionFileLoader"


def test_other_modules_go_the_usual_way(made: bundle.Bundle) -> None:
    assert made.find_spec("trio") is None
    made.close()
    assert made.find_spec("calf") is None
    assert made not in sys.meta_path


def test_what_was_compiled_is_used_and_the_rest_is_compiled(made: bundle.Bundle) -> None:
    compiled = made._texts()
    assert "x = 1" in compiled.code
    for text in ("x = 1", "x = 7"):
        scope: dict[str, int] = {}
        compiled.run(text, {}, scope)
        assert scope == {"x": int(text[-1])}
    for text in ("y = 2", "y = 8"):
        scope = {}
        exec(compiled.compile(text, "<attrs generated>", "exec"), {}, scope)
        assert scope == {"y": int(text[-1])}
    assert compiled.compile("y = 2", "<attrs generated>", "exec") is compiled.named["y = 2", "<attrs generated>"]
    asked = []
    compiled.compile_pattern = lambda *what: asked.append(what)
    found = compiled.pattern("a[b-d]+(?P<rest>.*)", re.IGNORECASE).fullmatch("ABcx")
    assert found["rest"] == "x"
    assert not asked
    compiled.pattern("other", 0)
    assert asked == [("other", 0)]


def test_the_bundle_of_another_interpreter_is_left_alone(
    made: bundle.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "version", lambda: "2.7")
    with pytest.raises(ValueError, match="another interpreter"):
        bundle.Bundle(str(tmp_path / bundle.NAME))


@pytest.mark.parametrize("content", [b"", b"\xff" * 30, (4).to_bytes(8, "little") + b"nope"])
def test_a_damaged_bundle_is_left_alone(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / bundle.NAME).write_bytes(content)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    bundle.use()
    assert bundle.opened is None
