"""Which starts may hang, by the mount table alone."""

import pytest

from ocelot.linux.mountinfo import parse
from supervisor.network_files import on_network
from supervisor.spawn import SpawnSpec

LOCAL = "1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:5 / /run rw - tmpfs none rw\n"
DATA = "3 1 0:9 / /data rw - nfs4 10.0.2.2:/x rw\n"
COVERED = "4 3 0:7 / /data/fast rw - tmpfs none rw\n5 1 0:8 / /fuse rw - fuse.sshfs h: rw\n"
NETWORK_ROOT = "1 0 0:9 / / rw - nfs4 10.0.2.2:/x rw\n2 1 0:5 / /run rw - tmpfs none rw\n"
HOST_ROOT = "1 0 0:9 / / rw - virtiofs rootfs rw\n"


@pytest.mark.parametrize(
    ("table", "program", "directory", "path", "expected"),
    [
        (LOCAL, "/data/prog", None, "/bin", False),
        (LOCAL + DATA, "/data/prog", None, "/bin", True),
        (LOCAL + DATA, "/database", None, "/bin", False),
        (LOCAL + DATA, "/bin/prog", "/data/x", "/bin", True),
        (LOCAL + DATA, "./prog", "/data", "/bin", True),
        (LOCAL + DATA, "prog", None, "/bin", False),
        (LOCAL + DATA, "prog", None, "/bin:/data/bin", True),
        (LOCAL + DATA + COVERED, "/data/fast/prog", None, "/bin", False),
        (LOCAL + COVERED, "/fuse/prog", None, "/bin", True),
        (NETWORK_ROOT, "/bin/prog", None, "/bin", True),
        (NETWORK_ROOT, "/run/prog", "/run", "/bin", False),
        (HOST_ROOT, "/bin/prog", None, "/bin", False),
    ],
)
def test_a_start_may_hang(table, program, directory, path, expected):
    spec = SpawnSpec(argv=(program,), environment={"PATH": path}, working_directory=directory)
    assert on_network(spec, parse(table)) is expected
