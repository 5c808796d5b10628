"""A FUSE file system that hangs when it is told to, for tests: ``python -m integration.fuse FOLDER STATE``.

It is mounted on FOLDER and keeps its files in memory; in the folder STATE each of them is shown after every change. While there is a file
STATE/hang nothing is answered any more (but what the kernel asks of a mount in passing), as by a server that has died: fuse(4).
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
import sys
import time

from ocelot.linux import syscalls

HEAD = struct.Struct("<IIQQIIII")
LOOKUP, FORGET, GETATTR, SETATTR, MKNOD, UNLINK, RENAME, LINK, OPEN, WRITE, STATFS, RELEASE = (
    1,
    2,
    3,
    4,
    8,
    10,
    12,
    13,
    14,
    16,
    17,
    18,
)
FLUSH, INIT, ACCESS, CREATE, INTERRUPT, BATCH_FORGET = 25, 26, 34, 35, 36, 42
QUIET = (FORGET, INTERRUPT, BATCH_FORGET)
"""What is never answered."""


class Server:
    def __init__(self, folder: str, state: str) -> None:
        self.state = state
        self.nodes: dict[int, tuple[str, bytearray]] = {}
        self.waiting: list[bytes] = []
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        syscalls.mount("hanging", folder, "fuse.hanging", 0, options)

    def run(self) -> None:
        open(f"{self.state}/mounted", "w").close()
        while True:
            if select.select([self.fd], [], [], 0.02)[0]:
                try:
                    self.waiting.append(os.read(self.fd, 1 << 20))
                except OSError:
                    return
            while self.waiting and not os.path.exists(f"{self.state}/hang"):
                self.answer(self.waiting.pop(0))

    def answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = HEAD.unpack_from(request)
        if opcode in QUIET:
            return
        try:
            body = self.do(opcode, node, request[HEAD.size :])
            code = 0
        except OSError as error:
            body, code = b"", -(error.errno or errno.EIO)
        os.write(self.fd, struct.pack("<IiQ", 16 + len(body), code, unique) + body)

    def do(self, opcode: int, node: int, body: bytes) -> bytes:
        match opcode:
            case 26:  # INIT
                return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 8, 8, 131072, 1, 0, 0, 0)
            case 3 | 4:  # GETATTR, SETATTR
                return struct.pack("<QII", 0, 0, 0) + self.about(node)
            case 1:  # LOOKUP
                return self.entry(self.find(body.rstrip(b"\0").decode()))
            case 8:  # MKNOD
                return self.entry(self.make(body[16:].rstrip(b"\0").decode()))
            case 14:  # OPEN
                return struct.pack("<QII", 1, 0, 0)
            case 35:  # CREATE
                made = self.make(body[16:].rstrip(b"\0").decode())
                return self.entry(made) + struct.pack("<QII", 1, 0, 0)
            case 15:  # READ
                _, offset, size = struct.unpack_from("<QQI", body)
                return bytes(self.nodes[node][1][offset : offset + size])
            case 16:  # WRITE
                _, offset, size = struct.unpack_from("<QQI", body)
                name, content = self.nodes[node]
                content[offset : offset + size] = body[40 : 40 + size]
                with open(f"{self.state}/{name}.shown", "wb") as file:
                    file.write(content)
                return struct.pack("<II", size, 0)
            case 17:  # STATFS
                return struct.pack("<QQQQQIIII24x", 1000, 1000, 1000, 1000, 1000, 4096, 255, 4096, 0)
            case 18 | 25 | 34:  # RELEASE, FLUSH, ACCESS
                return b""
        raise OSError(errno.ENOSYS, "")

    def find(self, name: str) -> int:
        for node, (known, _) in self.nodes.items():
            if known == name:
                return node
        raise OSError(errno.ENOENT, "")

    def make(self, name: str) -> int:
        node = len(self.nodes) + 2
        self.nodes[node] = (name, bytearray())
        return node

    def entry(self, node: int) -> bytes:
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self.about(node)

    def about(self, node: int) -> bytes:
        folder = node == 1
        size = 0 if folder else len(self.nodes[node][1])
        mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o644
        now = int(time.time())
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, 1, now, now, now, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
