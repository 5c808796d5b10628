"""Which starts may hang, by the mount table alone."""

import pytest

from ocelot.linux.mountinfo import parse
from supervisor.children.spawn import SpawnSpec
from supervisor.output.network_files import leads_to_network, on_network

LOCAL = "1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:5 / /run rw - tmpfs none rw\n"
DATA = "3 1 0:9 / /data rw - nfs4 10.0.2.2:/x rw\n"
COVERED = "4 3 0:7 / /data/fast rw - tmpfs none rw\n5 1 0:8 / /fuse rw - fuse.sshfs h: rw\n"
NETWORK_ROOT = "1 0 0:9 / / rw - nfs4 10.0.2.2:/x rw\n2 1 0:5 / /run rw - tmpfs none rw\n"
OVERLAY = (
    "6 1 0:10 / /merged rw - overlay overlay rw,lowerdir=/run:/data/a\\134:b,upperdir=/run/u,workdir=/run/w\n"
    "7 1 0:11 / /twice rw - overlay overlay rw,lowerdir+=/merged,upperdir=/run/u2,workdir=/run/w2\n"
    "8 1 0:12 / /near rw - overlay overlay rw,lowerdir=/run:data:../data,upperdir=/run/u3,workdir=/data/w3\n"
    "9 1 0:13 / /itself rw - overlay overlay rw,lowerdir=/itself:/twice\n"
)
HOST_LOWER = "2 1 0:5 / /run rw - tmpfs none rw\n3 2 0:9 / /run/overlayfs/rootfs/lower ro - virtiofs rootfs rw\n"
OVERLAID_ROOT = (
    "1 0 0:10 / / rw - overlay overlay rw,lowerdir=/run/overlayfs/rootfs/lower,upperdir=/run/overlayfs/rootfs/upper\n"
)
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
        (LOCAL + OVERLAY, "/merged/prog", None, "/bin", False),
        (LOCAL + DATA + OVERLAY, "/merged/prog", None, "/bin", True),
        (LOCAL + DATA + OVERLAY, "/twice/prog", None, "/bin", True),
        (LOCAL + DATA + OVERLAY, "/near/prog", None, "/bin", False),
        (LOCAL + DATA + OVERLAY, "/itself/prog", None, "/bin", True),
        (OVERLAID_ROOT + HOST_LOWER, "/bin/prog", None, "/bin", False),
        (OVERLAID_ROOT + HOST_LOWER.replace("virtiofs", "nfs4"), "/bin/prog", None, "/bin", True),
    ],
)
def test_a_start_may_hang(table, program, directory, path, expected):
    spec = SpawnSpec(argv=(program,), environment={"PATH": path}, working_directory=directory)
    assert on_network(spec, parse(table)) is expected


LINKS = {"/var/log": "/data/log", "/logs": "data", "/round": "round", "/here": "/run/here", "/data/out": "/run"}
HOST_DATA = "3 1 0:9 / /data rw - 9p share rw\n"


@pytest.mark.parametrize(
    ("table", "path", "expected"),
    [
        (LOCAL, "/data/x.log", False),
        (LOCAL + DATA, "/data/x.log", True),
        (LOCAL + DATA, "/var/log/app/x.log", True),
        (LOCAL + DATA, "/logs/x.log", True),
        (LOCAL + DATA, "/run/../logs/x.log", True),
        (LOCAL + DATA, "/round/x.log", False),
        (LOCAL + DATA, "/here/x.log", False),
        (LOCAL + DATA, "/data/out/x.log", True),  # to follow that link is to ask the server
        (LOCAL + DATA + COVERED, "/data/fast/x.log", False),
        (LOCAL + COVERED, "/fuse/x.log", True),
        (NETWORK_ROOT, "/var/x.log", True),
        (NETWORK_ROOT, "/run/x.log", False),
        (HOST_ROOT, "/var/x.log", False),  # without its root nothing goes on
        (LOCAL + HOST_DATA, "/data/x.log", True),
        (LOCAL + OVERLAY, "/merged/x.log", False),
        (LOCAL + DATA + OVERLAY, "/merged/x.log", True),
        (LOCAL + DATA + OVERLAY, "/near/x.log", False),
        (LOCAL + HOST_DATA + OVERLAY, "/twice/x.log", True),
        (OVERLAID_ROOT + HOST_LOWER, "/var/x.log", False),
        (OVERLAID_ROOT + HOST_LOWER.replace("virtiofs", "nfs4"), "/var/x.log", True),
    ],
)
def test_a_log_file_may_hang(table, path, expected):
    asked = []

    def read_link(place):
        asked.append(place)
        if place in LINKS:
            return LINKS[place]
        raise OSError

    assert leads_to_network(path, parse(table), read_link) is expected
    assert not any(
        place.startswith("/data/") and not place.startswith("/data/fast") for place in asked if "nfs" in table
    )


def test_a_program_may_lie_on_what_the_host_serves():
    spec = SpawnSpec(argv=("/data/prog",), environment={"PATH": "/bin"})
    assert not on_network(spec, parse(LOCAL + HOST_DATA))
