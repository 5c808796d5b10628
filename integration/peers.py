"""Servers that answer probes, well or badly: on loopback, in threads of the test."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ANSWERS = {
    "/ok": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "/moved": b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
    "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nnot here",
    "/broken": b"HTTP/1.1 500 Oh No\r\nContent-Length: 9\r\n\r\n\x1b[31mdown",
    "/endless": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
    "/old": b"HTTP/1.0 204 No Content\r\n\r\n",
    "/continue": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "/garbage": b"\x00\x01\x02\x03 hello\r\n\r\n",
    "/head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    "/nothing": b"",
    "*": b"HTTP/1.1 400 Bad Request\r\n\r\n",  # how HTTP/2 begins, RFC 9113, 3.4
}


class Web:
    """An HTTP server whose answers are ANSWERS by path; ``/hang`` never answers, ``/drip`` a byte at a time."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.port = 0


@contextmanager
def web(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Web]:
    found = Web()
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                sock = tls.wrap_socket(self.request, server_side=True) if tls else self.request
                head = b""
                while b"\r\n\r\n" not in head and head[:1] != b"\x16" and (block := sock.recv(65536)):
                    head += block
                found.requests.append(head.decode("latin-1"))
                path = head.split(b" ")[1].decode("latin-1") if b" " in head else "/nothing"
                if path == "/hang":
                    over.wait()
                for byte in b"HTTP/1.1 200" if path == "/drip" else b"":
                    sock.sendall(bytes((byte,)))
                    time.sleep(0.2)
                sock.sendall(ANSWERS.get(path, b""))
                if tls:
                    sock.close()
            except OSError:
                pass  # the probe has gone

    with _serving(Handler, host) as port:
        found.port = port
        try:
            yield found
        finally:
            over.set()


@contextmanager
def grpc(status: Callable[[str], int | None]) -> Iterator[int]:
    """grpc.health.v1 on h2: ``status`` gives the serving status of a service, None if there is none. Yields the port."""
    from h2 import events
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    def answer(http: H2Connection, stream: int, body: bytes) -> None:
        found = status(body[7:].decode())
        http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        if found is None:
            trailers = [("grpc-status", "5"), ("grpc-message", "unknown service")]
        else:
            message = bytes((8, found)) if found else b""
            http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
            trailers = [("grpc-status", "0")]
        http.send_headers(stream, trailers, end_stream=True)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            http = H2Connection(H2Configuration(client_side=False))
            http.initiate_connection()
            self.request.sendall(http.data_to_send())
            body = b""
            try:
                while block := self.request.recv(65536):
                    for event in http.receive_data(block):
                        if isinstance(event, events.DataReceived):
                            body += event.data or b""
                        elif isinstance(event, events.StreamEnded):
                            answer(http, event.stream_id, body)
                            body = b""
                    self.request.sendall(http.data_to_send())
            except OSError:
                pass

    with _serving(Handler, "127.0.0.1") as port:
        yield port


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler], host: str) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        request_queue_size = 64

    with Server((host, 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def certificate(folder: Path) -> ssl.SSLContext:
    """A context with a certificate that nobody vouches for."""
    import subprocess

    key, chain = folder / "key.pem", folder / "chain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=other.example"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context
