"""A plain file as a block device (loop(4)): how ``type: device`` mounts an image that lies on an earlier mount."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from ocelot.errors import OcelotError

CONTROL = "/dev/loop-control"

# include/uapi/linux/loop.h
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG = struct.Struct(f"=II{_INFO.size}s8Q")
_ATTEMPTS = 16


def is_image(path: str) -> bool:
    """Whether ``path`` is a plain file, which needs a loop device to be mounted."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def attach(path: str, *, read_only: bool = False) -> tuple[str, int]:
    """A loop device over the file ``path``: its path, and a descriptor that keeps it until it is mounted.

    The kernel frees the device at its last close, so after the mount the descriptor is closed and unmounting is enough.
    Raises OcelotError. May block as long as the file system of ``path`` does.
    """
    flags = _LO_FLAGS_AUTOCLEAR | (_LO_FLAGS_READ_ONLY if read_only else 0)
    try:
        file = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        if not read_only and error.errno in (errno.EROFS, errno.EACCES):
            return attach(path, read_only=True)
        raise OcelotError(f'cannot open the image "{path}": {error.strerror}') from error
    try:
        return _configure(path, file, flags)
    finally:
        os.close(file)


def _configure(path: str, file: int, flags: int) -> tuple[str, int]:
    name = os.fsencode(path)[:63]
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    request = _CONFIG.pack(file, 0, info, *(0,) * 8)
    for _ in range(_ATTEMPTS):
        device = _free_device(path)
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _LOOP_CONFIGURE, request)
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EBUSY:  # somebody else was given the same one
                raise OcelotError(f'cannot attach the image "{path}" to {device}: {error.strerror}') from error
        else:
            return device, fd
    raise OcelotError(f'cannot attach the image "{path}": every free loop device was taken by others')


def _free_device(path: str) -> str:
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise OcelotError(
            f'cannot attach the image "{path}": the kernel has no loop devices ({error.strerror})',
            hint="add kernel/drivers/block/loop.ko to preSwitch.modules.names",
        ) from error
    try:
        return f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
    finally:
        os.close(control)
