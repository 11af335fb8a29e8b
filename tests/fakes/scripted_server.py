"""An HTTP server on loopback whose answers a test writes: for registries that lie, and for seeing what a client really sends."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """What arrived. headers: by lower-case name. port: the client's, which tells connections apart."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    port: int = 0


@dataclass(frozen=True)
class Answer:
    """What goes back. Content-Length is added unless the headers say how the body ends; a wrong one is a way to lie."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A running server. host: `127.0.0.1:port`; requests: all that came, in order."""

    host: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def scripted_server(answer: Callable[[Request], Answer], *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve `answer` (called by many threads) for the length of the with-block. tls: speak HTTPS by this context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def respond(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            request = Request(self.command, self.path, headers, body, self.client_address[1])
            server.requests.append(request)
            reply = answer(request)
            self.send_response(reply.status)
            length = {} if "Transfer-Encoding" in reply.headers else {"Content-Length": str(len(reply.body))}
            for name, value in {**length, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            if reply.headers.get("Content-Length", str(len(reply.body))) != str(len(reply.body)):
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = respond  # noqa: N815  names of the standard library

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    with quiet_server(Handler) as listening:
        if tls is not None:
            listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        server = Server(f"127.0.0.1:{listening.server_address[1]}")
        yield server


class _Quiet(ThreadingHTTPServer):
    """Threads that end with their connections; a client that leaves early is no event."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of these tests break connections on purpose."""


@contextmanager
def quiet_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    """A threaded HTTP server on a free loopback port."""
    with _Quiet(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield listening
        finally:
            listening.shutdown()
            thread.join()
