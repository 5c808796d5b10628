"""Hostile and careless clients: each ends its own connection and nothing else."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from supervisor.control.connection import Limits, Request, Response, converse
from tests.control.fakes import LIMITS, body_of, request, status_of, talk


async def echo(heard: Request) -> Response:
    return Response(json.dumps([heard.method, heard.path, heard.query, heard.body.decode()]).encode())


def ask(*blocks: bytes, limits: Limits = LIMITS) -> bytes:
    return trio.run(lambda: talk(echo, *blocks, limits=limits), clock=MockClock(autojump_threshold=0))


def problem_of(answer: bytes) -> str:
    return str(json.loads(body_of(answer))["kind"])


def test_a_request_that_comes_byte_by_byte_is_answered() -> None:
    whole = request("POST", "/a?b=c", b"hello")
    answer = ask(*(bytes((byte,)) for byte in whole))
    assert status_of(answer) == 200
    assert json.loads(body_of(answer)) == ["POST", "/a", "b=c", "hello"]


def test_two_requests_on_one_connection_are_answered_in_order() -> None:
    first = b"GET /first HTTP/1.1\r\nHost: o\r\n\r\n"
    answer = ask(first + request("GET", "/second"))
    assert answer.index(b"/first") < answer.index(b"/second")
    assert answer.count(b"HTTP/1.1 200") == 2


def test_a_client_that_is_too_slow_is_told_so_and_left() -> None:
    async def main() -> float:
        ours, theirs = memory_stream_pair()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, theirs, echo, Limits(receive=10.0))
            await ours.send_all(b"GET / HT")
            answer = await ours.receive_some()
            assert status_of(bytes(answer)) == 408
        return trio.current_time() - start

    assert 10.0 <= trio.run(main, clock=MockClock(autojump_threshold=0)) < 12.0


def test_dripping_bytes_does_not_extend_the_deadline() -> None:
    async def main() -> float:
        ours, theirs = memory_stream_pair()
        start = trio.current_time()

        async def drip() -> None:
            try:
                for byte in b"GET /" + b"a" * 1000:
                    await ours.send_all(bytes((byte,)))
                    await trio.sleep(1.0)
            except trio.BrokenResourceError:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            await converse(theirs, echo, Limits(receive=10.0))
            took = trio.current_time() - start
            nursery.cancel_scope.cancel()
        return took

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) < 12.0


def test_an_idle_connection_is_closed_without_a_word() -> None:
    async def main() -> bytes:
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, theirs, echo, Limits(idle=30.0))
            return bytes(await ours.receive_some())

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == b""


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"GET / HTTP/1.1\r\nHost: o\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431, "headers-too-large"),
        (b"GET /" + b"a" * 40_000, 431, "headers-too-large"),
        (b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 9999999999\r\n\r\n", 413, "too-large"),
        (
            b"POST / HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"8000\r\n"
            + b"a" * 0x8000
            + b"\r\n" * 1
            + b"8000\r\n"
            + b"a" * 0x8000
            + b"\r\n8000\r\n"
            + b"a" * 0x8000,
            413,
            "too-large",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad-request"),
        (b"hello\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: -5\r\n\r\n", 400, "bad-request"),
        (b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "bad-request"),
    ],
)
def test_what_is_too_large_or_garbage_is_refused(sent: bytes, status: int, kind: str) -> None:
    answer = ask(sent)
    assert status_of(answer) == status
    assert problem_of(answer) == kind


@pytest.mark.parametrize("sent", [b"", b"GET", b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\n\r\nhe"])
def test_a_client_that_leaves_in_the_middle_is_no_error(sent: bytes) -> None:
    assert b"200" not in ask(sent)[:15]


def test_a_client_that_waits_for_100_continue_is_told_to_go_on() -> None:
    async def main() -> bytes:
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, theirs, echo, Limits())
            await ours.send_all(
                b"POST / HTTP/1.1\r\nHost: o\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            first = bytes(await ours.receive_some())
            assert status_of(first) == 100
            await ours.send_all(b"hello")
            return bytes(await ours.receive_some())

    assert b'"hello"' in trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_bug_in_an_endpoint_is_told_and_the_connection_goes_on() -> None:
    async def broken(heard: Request) -> Response:
        if heard.path == "/bug":
            raise ValueError("oops")
        return Response(b"fine")

    blocks = b"GET /bug HTTP/1.1\r\nHost: o\r\n\r\n" + request("GET", "/")
    answer = trio.run(lambda: talk(broken, blocks), clock=MockClock(autojump_threshold=0))
    assert status_of(answer) == 500
    assert b'"kind":"internal"' in answer
    assert answer.endswith(b"fine")


def test_head_has_the_length_but_no_body() -> None:
    answer = ask(request("HEAD", "/a"))
    assert b"content-length: 22" in answer.lower()
    assert body_of(answer) == b""


def test_a_stream_ends_when_its_reader_leaves() -> None:
    closed = trio.Event()

    async def ticks():  # type: ignore[no-untyped-def]
        try:
            while True:
                yield b"tick\n"
                await trio.sleep(1.0)
        finally:
            closed.set()

    async def main() -> None:
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:

            async def answer(_heard: Request) -> Response:
                return Response(ticks())

            nursery.start_soon(converse, theirs, answer, Limits())
            await ours.send_all(request("GET", "/"))
            await ours.receive_some()
            await ours.receive_some()
            await ours.aclose()
            with trio.fail_after(5.0):
                await closed.wait()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_reader_that_does_not_read_is_given_up() -> None:
    async def main() -> float:
        ours, theirs = trio.testing.lockstep_stream_pair()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, theirs, echo, Limits(send=30.0))
            await ours.send_all(request("GET", "/"))
        return trio.current_time() - start

    assert 30.0 <= trio.run(main, clock=MockClock(autojump_threshold=0)) < 33.0
