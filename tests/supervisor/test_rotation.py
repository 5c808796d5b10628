"""When a log file makes way, what the old ones are called, and which of them go."""

from __future__ import annotations

import errno
import gzip
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocelot import log
from ocelot.config import structs
from supervisor.output import rotation
from supervisor.output.logfile import LogFile, create_new
from supervisor.output.old_files import OldFiles
from supervisor.output.rotation import Rotated, compress, doomed, old_files, parse, tidy
from supervisor.output.shared_logs import LogFiles
from supervisor.output.sinks import Counters, FileSink

MORNING = 1_795_427_100.0
"""2026-11-23 09:45:00 UTC."""


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What ocelot says meanwhile."""
    lines: list[str] = []
    log.configure(sinks=[lambda level, line: lines.append(line)])
    yield lines
    log.configure(sinks=[])


class Bench:
    """A log file with a clock that is set by hand; nothing is tidied."""

    def __init__(self, path: Path, config: structs.Rotation | None, *, sharers: int = 1) -> None:
        self.path = path
        self.now = MORNING
        self.clock = 0.0
        self.file = LogFile(str(path), config, start=lambda work: None, now=lambda: self.now, clock=lambda: self.clock)
        self.sinks = [FileSink(self.file, Counters()) for _ in range(sharers)]

    def write(self, data: bytes, number: int = 0) -> None:
        assert self.sinks[number].offer(data) == len(data)

    @property
    def old(self) -> list[bytes]:
        """The contents of the old files, the oldest first."""
        return [(self.path.parent / file.name).read_bytes() for file in old_files(str(self.path))]

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def bench(tmp_path: Path, config: structs.Rotation | None, *, sharers: int = 1) -> Bench:
    return Bench(tmp_path / "log", config, sharers=sharers)


# -- size


def test_a_block_is_cut_between_its_lines(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=10))
    made.write(b"one\ntwo\nthree\nfour\n")
    assert made.old == [b"one\ntwo\n", b"three\n"]
    assert made.path.read_bytes() == b"four\n"
    assert made.sinks[0].counters.rotations == 2


def test_a_line_that_was_begun_ends_in_the_same_file(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=20))
    made.write(b"first line\n")
    made.write(b"12345678")
    made.write(b"9abcd\nnext\n")
    assert made.old == [b"first line\n123456789abcd\n"]
    assert made.path.read_bytes() == b"next\n"


def test_a_line_longer_than_the_maximum_is_cut(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=10))
    made.write(b"x\n")
    made.write(b"y" * 35 + b"\n")
    assert made.old == [b"x\n", b"y" * 10, b"y" * 10, b"y" * 10]
    assert made.path.read_bytes() == b"yyyyy\n"


LINES = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b".") + b"\n"), max_size=40)


@given(LINES, st.lists(st.integers(1, 60), min_size=1), st.integers(1, 80), st.sampled_from([b"", b"rest"]))
def test_nothing_is_lost_and_no_line_is_cut_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int], limit: int, end: bytes
) -> None:
    made = bench(tmp_path_factory.mktemp("log"), structs.Rotation(max_size_bytes=limit))
    data = b"".join(lines) + end
    position = 0
    while position < len(data):
        step = cuts[position % len(cuts)]
        made.write(data[position : position + step])
        position += step
    made.close()
    files = [*made.old, made.path.read_bytes()] if data else []
    assert b"".join(files) == data
    boundary = 0
    for file in files[:-1]:
        assert 0 < len(file) <= 2 * limit
        last = file[file.rfind(b"\n", 0, -1) + 1 :]
        assert len(file) - len(last) < limit, "it could have made way a line earlier"
        boundary += len(file)
        begin, end_of_line = data.rfind(b"\n", 0, boundary) + 1, data.find(b"\n", boundary) + 1 or len(data)
        assert begin == boundary or end_of_line - begin > limit, "a line that would have fitted was cut"


def test_a_file_that_is_full_at_the_start_makes_way_for_the_first_line(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=10))
    made.path.write_bytes(b"from another life\n")
    made.write(b"new\n")
    assert made.old == [b"from another life\n"]
    assert made.path.read_bytes() == b"new\n"


# -- time


def test_an_interval_counts_from_the_epoch_and_takes_effect_with_the_next_line(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(rotation_interval=3600.0))
    made.write(b"09:45\n")
    made.now += 14 * 60
    made.write(b"09:59\n")
    made.now += 60
    assert made.old == []
    made.write(b"10:00\n")
    assert made.old == [b"09:45\n09:59\n"]
    assert [file.name for file in old_files(str(made.path))] == ["log.20261123T100000Z-1"]
    made.now += 5 * 3600
    made.write(b"15:00\n")
    assert made.old[1:] == [b"10:00\n"]


def test_an_interval_that_passed_while_ocelot_was_down_is_known_from_the_file(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(rotation_interval=3600.0))
    made.path.write_bytes(b"yesterday\n")
    os.utime(made.path, (MORNING - 86400, MORNING - 86400))
    made.write(b"today\n")
    assert made.old == [b"yesterday\n"]


def test_an_interval_counts_by_the_clock_as_it_was_set_back(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(rotation_interval=3600.0))
    made.now = MORNING + 365 * 86400
    made.write(b"before\n")
    made.now, made.clock = MORNING, 1.0
    made.write(b"after\n")
    assert made.old == []
    made.now, made.clock = MORNING + 3600, 2.0
    made.write(b"an hour later\n")
    assert made.old == [b"before\nafter\n"]


def test_an_empty_file_is_not_rotated(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(rotation_interval=60.0))
    made.file.open(made.sinks[0])
    made.now += 600
    made.write(b"first\n")
    made.write(b"second\n")
    assert made.old == []


def test_an_interval_waits_for_the_end_of_the_line(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(rotation_interval=60.0))
    made.write(b"begun ")
    made.now += 60
    made.write(b"and not ended ")
    made.write(b"until here\nnext\n")
    assert made.old == [b"begun and not ended until here\n"]
    assert made.path.read_bytes() == b"next\n"


# -- others at the same file


def test_two_streams_share_a_file_and_cut_no_line_of_each_other(tmp_path: Path) -> None:
    files = LogFiles(lambda work: None)
    path = tmp_path / "log"
    sinks = [FileSink(files.join(str(path), None), Counters()) for _ in range(2)]
    assert sinks[0].file is sinks[1].file
    assert sinks[0].whole_lines
    assert sinks[0].offer(b"one\nunfinished") == 14
    assert sinks[1].offer(b"two\n") == 4
    assert path.read_bytes() == b"one\nunfinished\ntwo\n"
    sinks[1].leave()
    assert not sinks[0].whole_lines


def test_what_somebody_moved_away_is_made_again_within_a_second(tmp_path: Path) -> None:
    made = bench(tmp_path, None)
    made.write(b"one\n")
    made.path.rename(tmp_path / "log.1")
    made.write(b"two\n")
    made.clock += 1.0
    made.write(b"three\n")
    assert (tmp_path / "log.1").read_bytes() == b"one\ntwo\n"
    assert made.path.read_bytes() == b"three\n"


def test_a_truncated_file_is_not_taken_for_a_full_one(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=100))
    made.write(b"x" * 89 + b"\n")
    os.truncate(made.path, 0)
    made.clock += 1.0
    made.write(b"y" * 89 + b"\n")
    assert made.old == []


def test_a_file_that_somebody_put_in_its_place_is_not_renamed(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=20))
    made.write(b"0123456789abcdef\n")
    made.path.rename(tmp_path / "mine")
    made.path.write_bytes(b"foreign\n")
    made.write(b"abcdefgh\n")
    assert made.old == []
    assert made.path.read_bytes() == b"foreign\nabcdefgh\n"


def test_a_symbolic_link_is_not_rotated_but_written(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "log").symlink_to("real")
    made = bench(tmp_path, structs.Rotation(max_size_bytes=10))
    made.write(b"12345678\n")
    made.write(b"abcdefgh\n")
    assert (tmp_path / "real").read_bytes() == b"12345678\nabcdefgh\n"
    assert made.path.is_symlink()
    assert said == [f'cannot rotate "{made.path}": it is not a regular file; it goes on growing until that changes']


def test_a_folder_without_permission_lets_the_file_grow_and_says_so_once(tmp_path: Path, said: list[str]) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=10))
    made.write(b"12345678\n")
    made.file._old.path = str(tmp_path / "gone" / "log")  # type: ignore[union-attr]
    for letter in (b"a", b"b", b"c"):
        made.write(letter * 8 + b"\n")
        made.clock += 2.0
    assert made.path.stat().st_size == 36
    assert len(said) == 1
    made.file._old.path = str(made.path)  # type: ignore[union-attr]
    made.write(b"dddddddd\n")
    assert len(made.old) == 1


def test_without_hard_links_the_file_is_renamed(tmp_path: Path) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), source)

    path = tmp_path / "log"
    old = OldFiles(str(path), create=create_new, start=lambda work: None, now=lambda: MORNING, link=refuse)
    (tmp_path / "log.20261123T094500Z-1").write_bytes(b"foreign\n")
    for text in (b"one\n", b"two\n"):
        path.write_bytes(text)
        os.close(old.replace())
        assert path.read_bytes() == b""
    assert [(tmp_path / file.name).read_bytes() for file in old_files(str(path))] == [b"foreign\n", b"one\n", b"two\n"]
    assert not list(tmp_path.glob("*.new"))


# -- an operator's wish


def test_rotating_by_hand_works_open_closed_and_in_the_middle_of_a_line(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=10**6))
    made.file.rotate()
    assert not made.path.exists()
    made.write(b"one\n")
    made.file.rotate()
    assert made.old == [b"one\n"]
    made.file.rotate()
    assert made.old == [b"one\n"], "an empty file makes no old one"
    made.write(b"begun")
    made.file.rotate()
    assert len(made.old) == 1
    made.write(b", ended\nnext\n")
    assert made.old[1:] == [b"begun, ended\n"]
    made.close()
    made.file.rotate()
    assert made.old[2:] == [b"next\n"]
    assert made.path.read_bytes() == b""


def test_without_rotation_the_path_is_opened_anew(tmp_path: Path) -> None:
    made = bench(tmp_path, None)
    made.write(b"one\n")
    made.path.rename(tmp_path / "log.1")
    made.file.rotate()
    made.write(b"two\n")
    assert made.path.read_bytes() == b"two\n"


# -- modes and owners


def test_new_files_have_the_mode_of_the_configuration_else_that_of_the_one_before(tmp_path: Path) -> None:
    strict = Bench(tmp_path / "a", structs.Rotation(max_size_bytes=10, mode=0o604))
    strict.write(b"12345678\n12345678\n")
    assert strict.path.stat().st_mode & 0o7777 == 0o604
    kept = Bench(tmp_path / "b", structs.Rotation(max_size_bytes=10))
    kept.write(b"12345678\n")
    kept.path.chmod(0o664)
    kept.write(b"12345678\n")
    assert len(kept.old) == 1
    assert kept.path.stat().st_mode & 0o7777 == 0o664


# -- names


@pytest.mark.parametrize(
    "name",
    [
        "log",
        "log.1",
        "log.20261123T094500Z",
        "log.20261123T094500Z-",
        "log.20261123T094500Z-1.bz2",
        "log.20261123T094500Z-1.gz.part",
        "log.20261123T094500Z-1.new",
        "log.20261323T094500Z-1",
        "log.20261123T094500Z-1~",
        "xlog.20261123T094500Z-1",
        "log2.20261123T094500Z-1",
    ],
)
def test_foreign_names(name: str) -> None:
    assert parse("log", name) is None


def test_own_names_sort_by_age() -> None:
    names = ["log.20261123T094500Z-10", "log.20261123T094500Z-9.gz", "log.20261122T094500Z-11.lz4"]
    found = sorted(each for name in names if (each := parse("log", name)) is not None)
    assert [file.name for file in found] == [names[2], names[1], names[0]]
    assert found[1] == Rotated("20261123T094500Z", 9, ".gz", names[1])


@given(st.integers(0, 253_402_300_799))
def test_the_time_in_a_name_is_read_back(at: int) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)).rjust(16, "0")
    assert Rotated(stamp, 1, "", "").at == at


def test_names_are_unique_also_next_to_compressed_and_foreign_files(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=10))
    (tmp_path / "log.20261123T094500Z-1.gz").write_bytes(b"a")
    (tmp_path / "log.20261123T094500Z-2").symlink_to("nowhere")
    made.write(b"12345678\n")
    made.write(b"abcdefgh\n")
    assert (tmp_path / "log.20261123T094500Z-3").read_bytes() == b"12345678\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log",
        "log.20261123T094500Z-1.gz",
        "log.20261123T094500Z-2",
        "log.20261123T094500Z-3",
    ]


# -- retention and compression


def rotated(day: int, number: int = 1, suffix: str = "") -> Rotated:
    stamp = f"202611{day:02d}T000000Z"
    return Rotated(stamp, number, suffix, f"log.{stamp}-{number}{suffix}")


def test_the_oldest_go_when_there_are_too_many_or_when_they_are_too_old() -> None:
    files = [rotated(day) for day in (1, 10, 20, 23)]
    assert doomed(files, structs.Rotation(), MORNING) == []
    assert doomed(files, structs.Rotation(max_files=3), MORNING) == files[:1]
    assert doomed(files, structs.Rotation(max_age_days=5), MORNING) == files[:2]
    assert doomed(files, structs.Rotation(max_files=1, max_age_days=5), MORNING) == files[:3]


def never() -> bool:
    return False


def test_what_a_clock_that_was_ahead_has_named_counts_as_the_oldest() -> None:
    names = ["log.20261121T000000Z-1", "log.20261122T000000Z-1", "log.20310101T000000Z-1", "log.20310102T000000Z-1"]
    files = [found for name in names if (found := parse("log", name)) is not None]
    gone = [file.name for file in doomed(files, structs.Rotation(max_files=1), MORNING)]
    assert gone == [names[2], names[3], names[0]]
    soon = [rotated(day) for day in (22, 23, 24)]
    assert doomed(soon, structs.Rotation(max_files=2), MORNING) == soon[:1]


def test_tidying_removes_compresses_and_leaves_foreign_files_alone(tmp_path: Path) -> None:
    own = [rotated(day) for day in (1, 10, 20, 23)]
    for file in own:
        (tmp_path / file.name).write_bytes(file.name.encode() * 1000)
    foreign = ["log", "log.1", "log.1.gz", "log.20261101T000000Z", "log.2026-11-01", "other.20261101T000000Z-1"]
    for name in foreign:
        (tmp_path / name).write_bytes(name.encode())
    part = tmp_path / f"{own[2].name}.gz.part"
    part.write_bytes(b"half")
    config = structs.Rotation(max_files=3, compression="gzip")
    assert tidy(str(tmp_path / "log"), config, MORNING, never) == []
    left = [f"{file.name}.gz" for file in own[1:]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(foreign + left)
    for file, name in zip(own[1:], left, strict=True):
        assert gzip.decompress((tmp_path / name).read_bytes()) == file.name.encode() * 1000


@pytest.mark.parametrize("method", ["gzip", "lz4"])
def test_a_compressed_file_keeps_mode_and_time_and_unpacks_to_the_same(tmp_path: Path, method: str) -> None:
    path = tmp_path / "log.20261123T094500Z-1"
    content = os.urandom(300_000) + b"line\n" * 100_000
    path.write_bytes(content)
    path.chmod(0o604)
    os.utime(path, (MORNING, MORNING))
    compress(str(path), method, never)
    assert not path.exists()
    packed = Path(f"{path}{rotation.SUFFIXES[method]}")
    assert packed.stat().st_mode & 0o777 == 0o604
    assert packed.stat().st_mtime == MORNING
    assert packed.stat().st_size < len(content)
    if method == "gzip":
        assert gzip.decompress(packed.read_bytes()) == content
    else:
        import lz4.frame

        assert lz4.frame.decompress(packed.read_bytes()) == content


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Whoever owns the folder may put a fifo there, and then nobody's old files would be tidied any more."""
    fifo = tmp_path / "log.20261123T094500Z-1"
    os.mkfifo(fifo)
    (problem,) = tidy(str(tmp_path / "log"), structs.Rotation(compression="gzip"), MORNING, lambda: False)
    assert problem == 'cannot compress the old log file "log.20261123T094500Z-1": it is not a regular file'
    assert list(tmp_path.iterdir()) == [fifo]


def test_a_compression_that_is_stopped_leaves_the_original_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log.20261123T094500Z-1"
    path.write_bytes(b"x" * 2_000_000)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    assert tidy(str(tmp_path / "log"), structs.Rotation(compression="gzip"), MORNING, stop) == []
    assert asked > 3
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_rotation_that_a_crash_interrupted_is_undone(tmp_path: Path) -> None:
    made = bench(tmp_path, structs.Rotation(max_size_bytes=1000))
    made.path.write_bytes(b"one\n")
    os.link(made.path, tmp_path / "log.20261123T094500Z-1")
    made.write(b"two\n")
    assert made.old == []
    assert made.path.read_bytes() == b"one\ntwo\n"


def test_an_empty_or_unreadable_name_in_the_folder_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "log.20261101T000000Z-1").mkdir()
    (tmp_path / "log.20261102T000000Z-1").write_bytes(b"text\n")
    problems = tidy(str(tmp_path / "log"), structs.Rotation(compression="gzip"), MORNING, never)
    assert len(problems) == 1
    assert re.match('cannot compress the old log file "log.20261101T000000Z-1": ', problems[0])
    assert (tmp_path / "log.20261102T000000Z-1.gz").exists()
