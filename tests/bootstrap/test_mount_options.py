"""Option words and flag keys become the arguments of mount(2)."""

import pytest

from bootstrap import mount_options as opts
from ocelot.config.structs import Atime, BindMount, VirtualMount
from ocelot.linux import syscalls as sc


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("read_only", sc.MS_RDONLY),
        ("no_exec", sc.MS_NOEXEC),
        ("no_suid", sc.MS_NOSUID),
        ("no_dev", sc.MS_NODEV),
        ("sync", sc.MS_SYNCHRONOUS),
        ("dir_sync", sc.MS_DIRSYNC),
        ("mandatory_locks", sc.MS_MANDLOCK),
        ("posix_acl", sc.MS_POSIXACL),
    ],
)
def test_each_flag_key_is_its_bit(key: str, flag: int) -> None:
    assert opts.of_mount(VirtualMount(fstype="tmpfs", target="/x", **{key: True})).flags == flag
    assert opts.of_mount(VirtualMount(fstype="tmpfs", target="/x", **{key: False})).flags == 0


@pytest.mark.parametrize(
    ("mode", "flag"),
    [
        (Atime.DEFAULT, 0),
        (Atime.NO_ATIME, sc.MS_NOATIME),
        (Atime.REL_ATIME, sc.MS_RELATIME),
        (Atime.STRICT_ATIME, sc.MS_STRICTATIME),
        (Atime.LAZY_TIME, sc.MS_LAZYTIME),
    ],
)
def test_each_atime_mode_is_its_bit(mode: Atime, flag: int) -> None:
    assert opts.of_mount(VirtualMount(fstype="tmpfs", target="/x", atime=mode)).flags == flag


def test_words_that_are_flags_leave_the_text() -> None:
    found = opts.split("ro,noatime,size=1m,nosuid,mode=755")
    assert found == opts.Options(sc.MS_RDONLY | sc.MS_NOATIME | sc.MS_NOSUID, "size=1m,mode=755")


def test_nosymfollow_is_a_flag_which_a_bind_keeps() -> None:
    assert opts.split("nosymfollow,size=1m") == opts.Options(sc.MS_NOSYMFOLLOW, "size=1m")
    assert opts.split("symfollow", sc.MS_NOSYMFOLLOW).flags == 0
    existing = opts.flags_of_mount(8192)  # ST_NOSYMFOLLOW
    assert opts.bind_remount_flags(sc.MS_RDONLY, existing) & sc.MS_NOSYMFOLLOW


def test_words_for_fstab_are_dropped() -> None:
    assert opts.split("defaults,noauto,nofail,_netdev,x-systemd.automount,comment=mine,user").data == ""


def test_the_options_text_wins_over_flag_keys_and_defaults() -> None:
    mount = VirtualMount(fstype="9p", target="/x", read_only=True, options="rw,msize=8192,trans=tcp")
    found = opts.of_mount(mount, "trans=virtio,version=9p2000.L,msize=512000")
    assert found == opts.Options(0, "version=9p2000.L,msize=8192,trans=tcp")


def test_a_later_atime_word_replaces_an_earlier_one() -> None:
    assert opts.split("noatime,relatime").flags == sc.MS_RELATIME
    assert opts.split("strictatime,noatime").flags == sc.MS_NOATIME


def test_a_quoted_comma_does_not_separate() -> None:
    assert opts.words('context="system_u:object_r:tmp_t:s0:c1,c2",ro') == [
        'context="system_u:object_r:tmp_t:s0:c1,c2"',
        "ro",
    ]


def test_propagation_words_become_calls_of_their_own() -> None:
    found = opts.split("rshared,private")
    assert found == opts.Options(0, "", (sc.MS_SHARED | sc.MS_REC, sc.MS_PRIVATE))
    assert opts.render(found) == "rshared,private"


def test_remounting_a_bind_keeps_what_its_source_forbids() -> None:
    flags = opts.bind_remount_flags(sc.MS_RDONLY, sc.MS_NOSUID | sc.MS_RELATIME)
    assert flags == sc.MS_BIND | sc.MS_REMOUNT | sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_RELATIME


def test_remounting_a_bind_replaces_the_access_time_mode_when_asked() -> None:
    flags = opts.bind_remount_flags(sc.MS_NOATIME, sc.MS_RELATIME)
    assert flags == sc.MS_BIND | sc.MS_REMOUNT | sc.MS_NOATIME


def test_remounting_a_bind_leaves_flags_of_the_file_system_out() -> None:
    assert opts.bind_remount_flags(sc.MS_SYNCHRONOUS | sc.MS_LAZYTIME, 0) == sc.MS_BIND | sc.MS_REMOUNT


def test_the_flags_of_statvfs_are_translated() -> None:
    assert opts.flags_of_mount(1 | 2 | 4 | 8 | 1024 | 4096) == (
        sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC | sc.MS_NOATIME | sc.MS_RELATIME
    )


def test_options_are_shown_as_mount8_would_write_them() -> None:
    mount = BindMount(source="/a", target="/b", read_only=True, no_exec=True, atime=Atime.NO_ATIME)
    assert opts.render(opts.of_mount(mount)) == "ro,noexec,noatime"
