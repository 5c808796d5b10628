"""Looking for the files that a configuration names: below a root they must be there, here they should."""

from pathlib import Path

import pytest

from ocelot.config.files import resolve
from ocelot.config.loading import Kind, load


def problems(text: str, root: Path | None, kind: Kind = "bootstrap") -> list[tuple[str, str, str]]:
    loaded = load(text.encode(), "f", kind, root=str(root) if root else None, files=True)
    below = f' below "{root}"'
    return [
        (finding.severity, finding.path, finding.message.replace(below, " below ROOT"))
        for finding in (*loaded.errors, *loaded.warnings)
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a program, a script that is not executable, and an absolute link to a folder of it."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("/usr/bin")
    (tmp_path / "usr/bin/busybox").write_text("")
    (tmp_path / "usr/bin/busybox").chmod(0o755)
    (tmp_path / "usr/bin/sh").symlink_to("/bin/busybox")
    (tmp_path / "usr/bin/script").write_text("")
    return tmp_path


def shell(program: str) -> str:
    return f"postSwitch: {{handoff: {{mode: shell, program: {program}}}}}\n"


@pytest.mark.parametrize("program", ["/bin/sh", "sh", "/usr/bin/busybox", "/run/later", "/tmp/x"])
def test_finds_what_is_there(root: Path, program: str) -> None:
    assert problems(shell(program), root) == []


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("/bin/nginx", '"/bin/nginx" does not exist below ROOT'),
        ("nginx", '"nginx" is in no folder of PATH below ROOT'),
        ("script", '"script" is in no folder of PATH below ROOT'),
        ("/bin/script", '"/bin/script" is not executable below ROOT'),
        ("/usr/bin", '"/usr/bin" is a folder below ROOT'),
    ],
)
def test_what_a_given_root_lacks_is_an_error(root: Path, program: str, message: str) -> None:
    assert problems(shell(program), root) == [("error", "postSwitch.handoff.program", message)]


def test_what_this_machine_lacks_is_a_warning() -> None:
    assert problems(shell("/no/such/program"), None) == [
        ("warning", "postSwitch.handoff.program", '"/no/such/program" does not exist on this machine')
    ]


def test_a_boot_does_not_look() -> None:
    assert load(shell("/no/such/program").encode(), "f", "bootstrap").warnings == []


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    assert problems(shell("/bin/sh"), tmp_path / "none") == [("error", "", f'there is no folder "{tmp_path}/none"')]


def test_the_path_of_the_file_is_used(root: Path) -> None:
    (root / "opt").mkdir()
    (root / "opt/app").write_text("")
    (root / "opt/app").chmod(0o755)
    assert problems("preSwitch: {environment: {PATH: /opt}}\n" + shell("app"), root) == []
    assert problems("preSwitch: {environment: {PATH: /opt}}\n" + shell("sh"), root) != []


def test_what_the_file_itself_makes_is_not_missed(root: Path) -> None:
    text = (
        "postSwitch:\n"
        "  mounts: [{type: device, device: /dev/vdb, target: /data}]\n"
        "  symlinks: [{source: /bin/sh, target: /etc/boot}]\n"
        "  handoff: {mode: exec, program: /data/app, bootScript: {path: /etc/boot}}\n"
    )
    assert problems(text, root) == []


def test_processes_and_their_environment_files(root: Path) -> None:
    text = "processes:\n  a: {program: /bin/a, environmentFile: /etc/a.env}\n  b: {program: /bin/sh}\n"
    assert problems(text, root, "supervise") == [
        ("error", "processes.a.program", '"/bin/a" does not exist below ROOT'),
        ("error", "processes.a.environmentFile", '"/etc/a.env" does not exist below ROOT'),
    ]


def test_hooks_before_the_switch_may_come_from_this_machine(root: Path) -> None:
    text = (
        "switchRoot: {rootFileSystem: {type: virtiofs, tag: a}}\n"
        "preSwitch: {hooks: [{name: a, command: /usr/bin/env}, {name: b, command: /no/such}]}\n" + shell("/bin/sh")
    )
    assert problems(text, root) == [("error", "preSwitch.hooks[1].command", '"/no/such" does not exist below ROOT')]


def test_modules_in_the_folder_of_a_kernel_compressed_or_built_in(root: Path) -> None:
    folder = root / "lib/modules/6.1.0-test/kernel/fs"
    folder.mkdir(parents=True)
    (folder / "ocelot_a.ko.zst").write_text("")
    (root / "lib/modules/6.1.0-test/modules.builtin").write_text("kernel/fs/ocelot_b.ko\n")
    (root / "lib/modules/6.1.0-test/modules.dep").write_text("")
    text = (
        "preSwitch:\n  modules:\n    depFilePath: modules.dep\n"
        "    names: [kernel/fs/ocelot_a.ko, kernel/fs/ocelot_b.ko.xz, kernel/fs/ocelot_c.ko]\n" + shell("/bin/sh")
    )
    assert problems(text, root) == [
        (
            "error",
            "preSwitch.modules.names[2]",
            '"kernel/fs/ocelot_c.ko" is not below "/lib/modules" below ROOT',
        )
    ]


def test_links_never_lead_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("../../../../../../etc")
    (tmp_path / "etc").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert resolve(str(tmp_path), "/out/passwd") == f"{tmp_path}/etc/passwd"
    assert resolve(str(tmp_path), "/../../x") == f"{tmp_path}/x"
    assert resolve(str(tmp_path), "/loop") is None


def test_programs_before_and_after_a_process_are_looked_for(tmp_path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "app"
    program.touch(mode=0o755)
    text = """
processes:
  app: {program: /bin/app, preStart: {command: /bin/gone}, postStop: [{command: /bin/app}, {command: lost}]}
"""
    loaded = load(text.encode(), "f", "supervise", root=str(tmp_path))
    assert [(finding.path, finding.message.partition(" below ")[0]) for finding in loaded.errors] == [
        ("processes.app.preStart.command", '"/bin/gone" does not exist'),
        ("processes.app.postStop[1].command", '"lost" is in no folder of PATH'),
    ]


def test_programs_of_probes_are_looked_for() -> None:
    text = """\
version: "1.0"
processes:
  web:
    program: /bin/sh
    readinessProbe: {handler: {type: exec, command: [/no/such/check, -q]}}
"""
    loaded = load(text.encode(), "f", "supervise", files=True)
    assert [warning.located("f") for warning in loaded.warnings] == [
        'f:5:54: processes.web.readinessProbe.handler.command[0]: "/no/such/check" does not exist on this machine'
        " (--root DIR looks below another folder)"
    ]
