"""The Dockerfile, built and run: ocelot as PID 1 of a container, and its runtime copied into images that hold nothing.

The base image comes from debootstrap, so no image registry is asked; it is given what this machine needs to reach its
package registries. Storage lies in a folder of its own and goes with it.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab import cache

CHECKOUT = Path(__file__).parents[1]
TOOLS = ("debootstrap", "buildah", "podman", "unshare")
MISSING = [name for name in TOOLS if cache.tool(name) is None]

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

BUSYBOX = "FROM scratch\nCOPY busybox /bin/sh\nCOPY --from=localhost/ocelot /usr/lib/ocelot /usr/lib/ocelot\n"
EMPTY = "FROM scratch\nCOPY --from=localhost/ocelot /usr/lib/ocelot /usr/lib/ocelot\n"
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
"""What root may set on every machine; what the engines choose by themselves may be above what this one allows."""

ENTRY = 'ENTRYPOINT ["/usr/lib/ocelot/bin/ocelot"]\n'

SUPERVISE = """\
version: "1.0"
processes:
  hello:
    type: oneshot
    program: /bin/sh
    arguments: [-c, "echo hello from $$PPID; exit 3"]
    essential: true
"""

EXTRAS = """\
version: "1.0"
processes:
  nightly:
    program: /bin/true
    schedule: {cron: "30 2 * * *", timezone: UTC}
  greeter:
    program: /bin/sleep
    arguments: [1000]
    readinessProbe: {handler: {type: grpc, port: 50051}}
    log: {stdout: {destination: {type: file, path: /var/log/greeter}, rotation: {maxFiles: 3, maxSizeBytes: 1MB, compression: lz4}}}
"""


class Engine:
    """buildah and podman on one storage folder."""

    def __init__(self, folder: Path) -> None:
        self.storage = ["--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "overlay"]

    def buildah(self, *arguments: str | Path, timeout: float = 600) -> str:
        done = subprocess.run(
            ["buildah", *self.storage, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        )
        assert done.returncode == 0, f"buildah {arguments[0]}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def image(self, name: str, text: str, context: Path) -> None:
        (context / "Dockerfile").write_text(text)
        self.buildah("bud", *LIMITS, "-t", f"localhost/{name}", context)

    def run(self, image: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a container to its end. cgroups are left alone, for machines with hybrid ones."""
        podman = ["podman", *self.storage, "run", "--rm", "--network", "none", "--cgroups=disabled"]
        podman += [*LIMITS, *options, f"localhost/{image}", *arguments]
        alone = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", alone, "sh", *podman],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def base_tree() -> Path:
    """A minimal system like this one, whose package sources fit it; kept in the cache."""
    release = cache.release()
    tree = cache.folder() / f"{release}-minbase"
    if not tree.is_dir():
        cache.folder().mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="minbase-", dir=cache.folder()))
        debootstrap = cache.tool("debootstrap") or "debootstrap"
        subprocess.run([debootstrap, "--variant=minbase", release, unfinished], check=True, stdout=subprocess.DEVNULL)
        unfinished.chmod(0o755)
        unfinished.rename(tree)
    return tree


def reach_registries(tree: Path) -> None:
    """Where this machine gets its packages from, so that a RUN gets them there too."""
    for name in (
        "apt/sources.list",
        "apt/sources.list.d",
        "apt/apt.conf.d",
        "pip.conf",
        "ssl/certs/ca-certificates.crt",
    ):
        source, target = Path("/etc", name), tree / "etc" / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        elif name == "apt/sources.list":
            target.unlink(missing_ok=True)


def trust_registries(tree: Path) -> None:
    """pip in ``tree`` trusts what this machine trusts; a file of its own, since ca-certificates makes the usual one."""
    bundle = Path(os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt")
    settings = configparser.ConfigParser(interpolation=None)
    settings.read("/etc/pip.conf")
    if bundle.exists():
        (tree / "etc/ssl").mkdir(exist_ok=True)
        shutil.copy(bundle, tree / "etc/ssl/build-machine.pem")
        settings["global"] = {
            **dict(settings.items("global") if settings.has_section("global") else ()),
            "cert": "/etc/ssl/build-machine.pem",
        }
    with open(tree / "etc/pip.conf", "w") as file:
        settings.write(file)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="ocelot-oci-"))
    engine = Engine(folder)
    try:
        tree = folder / "base"
        shutil.copytree(base_tree(), tree, symlinks=True, ignore=shutil.ignore_patterns("dev"))
        reach_registries(tree)
        trust_registries(tree)
        container = engine.buildah("from", "scratch")
        engine.buildah("copy", "-q", container, tree, "/")
        engine.buildah("commit", "-q", container, "localhost/base")
        base = "BASE=localhost/base"
        engine.buildah("bud", *LIMITS, "--build-arg", base, "-t", "localhost/ocelot", CHECKOUT)
        yield engine
    finally:
        subprocess.run(["buildah", *engine.storage, "rm", "--all"], capture_output=True, check=False)
        subprocess.run(["umount", folder / "root" / "overlay"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_image_runs_ocelot(engine: Engine) -> None:
    done = engine.run("ocelot", "version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ocelot ")


def test_the_image_is_little_larger_than_its_base(engine: Engine) -> None:
    sizes = [
        int(
            engine.buildah("images", "--format", "{{.Size}}", "--json", name)
            .split('"size": "')[1]
            .split(" ")[0]
            .split(".")[0]
        )
        for name in ("localhost/ocelot", "localhost/base")
    ]
    assert sizes[0] - sizes[1] <= 25


def test_ocelot_is_pid_1_and_passes_the_status_on(engine: Engine) -> None:
    done = engine.run("ocelot", "entry", "--", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; exit 7")
    assert "/usr/bin/ocelot entry" in done.stdout, done.stderr
    assert done.returncode == 7


def test_what_the_container_sets_reaches_the_program(engine: Engine) -> None:
    command = ("entry", "--", "/bin/sh", "-c", 'echo "$PYTHONUNBUFFERED $PYTHONHOME"')
    done = engine.run("ocelot", *command, options=("-e", "PYTHONUNBUFFERED=1", "-e", "PYTHONHOME=/nowhere"))
    assert (done.returncode, done.stdout) == (0, "1 /nowhere\n"), done.stderr


def test_a_supervise_file_decides_the_status(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "supervise.yaml").write_text(SUPERVISE.replace("$$", "$"))
    done = engine.run("ocelot", options=("-v", f"{tmp_path}/supervise.yaml:/etc/ocelot/supervise.yaml:ro"))
    assert "hello from 1" in done.stdout + done.stderr
    assert done.returncode == 3


def test_schedules_compression_and_grpc_are_in_the_image(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "supervise.yaml").write_text(EXTRAS)
    mount = ("-v", f"{tmp_path}/supervise.yaml:/supervise.yaml:ro")
    done = engine.run("ocelot", "supervise", "validate", "--strict", "/supervise.yaml", options=mount)
    assert (done.returncode, done.stdout) == (0, "Configuration is valid\n"), done.stderr


def test_the_runtime_works_in_an_empty_image(engine: Engine, tmp_path: Path) -> None:
    engine.image("empty", EMPTY + ENTRY, tmp_path)
    done = engine.run("empty", "version")
    assert (done.returncode, done.stdout[:7]) == (0, "ocelot "), done.stderr


def test_the_runtime_works_beside_another_c_library(engine: Engine, tmp_path: Path) -> None:
    """As in Alpine: the image's own programs do not use glibc, and there is nothing in /lib."""
    busybox = cache.tool("busybox")
    if busybox is None:
        pytest.skip("no busybox")
    shutil.copy(busybox, tmp_path / "busybox")
    engine.image("small", BUSYBOX + ENTRY, tmp_path)
    done = engine.run("small", "entry", "--", "/bin/sh", "-c", "echo $$; exit 5")
    assert done.returncode == 5, done.stderr
    assert int(done.stdout) > 1
