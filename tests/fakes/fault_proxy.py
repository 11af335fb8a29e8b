"""A proxy that stands before a registry and breaks things, by seed or by script: resets, truncations, 429 and 503, lies, ignored ranges.

It reads: GET and HEAD go through, pushes go to the registry itself.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal

from .scripted_server import quiet_server

Kind = Literal["none", "refuse", "reset", "truncate", "busy", "limit", "corrupt", "ignore-range", "stall"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong with one response.

    kind: refuse (reset before an answer), reset (RST after `after` bytes of the body), truncate (a clean close there), busy (503), limit (429
    with Retry-After), corrupt (one byte is changed at `after`), ignore-range (the whole is sent for a part), stall (silence after `after` bytes, for
    `seconds`). seconds: of Retry-After and of the silence.
    """

    kind: Kind = "none"
    after: int = 0
    seconds: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What goes wrong. script: faults of the first responses whose path matches `path`, in order; then each response draws by weight.

    weights: kind -> probability, the rest is "none". reach: bytes within which `after` is drawn.
    """

    seed: int = 0
    path: str = ""
    script: Sequence[Fault] = ()
    weights: dict[Kind, float] = field(default_factory=dict)
    reach: tuple[int, int] = (0, 1 << 20)
    seconds: int = 0


@dataclass
class FaultProxy:
    """A running proxy. host: `127.0.0.1:port`; faults: (path, fault) of every response so far; served: bytes of bodies that were sent."""

    host: str
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    served: int = 0

    def count(self, kind: Kind) -> int:
        return sum(fault.kind == kind for _, fault in self.faults)


@contextmanager
def fault_proxy(upstream: str, plan: Plan) -> Iterator[FaultProxy]:
    """Stand before `upstream` (`host:port`) for the length of the with-block."""
    draw = random.Random(plan.seed)
    script = list(plan.script)
    lock = threading.Lock()

    def next_fault(path: str) -> Fault:
        with lock:
            fault = Fault()
            if re.search(plan.path, path):
                if script:
                    fault = script.pop(0)
                elif kinds := list(plan.weights):
                    weights = [plan.weights[kind] for kind in kinds]
                    kind: Kind = draw.choices([*kinds, "none"], [*weights, max(0.0, 1 - sum(weights))])[0]
                    fault = Fault(kind=kind, after=draw.randint(*plan.reach), seconds=plan.seconds)
            proxy.faults.append((path, fault))
            return fault

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def respond(self) -> None:
            fault = next_fault(self.path)
            if fault.kind == "refuse":
                self.reset()
            elif fault.kind in ("busy", "limit"):
                self.send_response(503 if fault.kind == "busy" else 429)
                self.send_header("Retry-After", str(fault.seconds))
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.forward(fault)

        do_GET = do_HEAD = respond  # noqa: N815  names of the standard library

        def forward(self, fault: Fault) -> None:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
            }
            if fault.kind == "ignore-range":
                headers.pop("Range", None)
            connection = http.client.HTTPConnection(upstream, timeout=60)
            try:
                connection.request(self.command, self.path, headers={"Host": proxy.host, **headers})
                response = connection.getresponse()
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                        self.send_header(name, value)
                if response.getheader("Content-Length") is None:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                if self.command != "HEAD":
                    self.relay(response, fault)
            finally:
                connection.close()

        def relay(self, response: http.client.HTTPResponse, fault: Fault) -> None:
            sent = 0
            breaking = fault.kind in ("reset", "truncate", "stall")
            while chunk := response.read(64 << 10):
                if fault.kind == "corrupt" and sent <= fault.after < sent + len(chunk):
                    place = fault.after - sent
                    chunk = chunk[:place] + bytes([chunk[place] ^ 1]) + chunk[place + 1 :]
                if breaking and sent + len(chunk) > fault.after:
                    self.send(chunk[: fault.after - sent])
                    if fault.kind == "reset":
                        self.reset()
                    elif fault.kind == "stall":
                        stopped.wait(fault.seconds)
                    self.close_connection = True
                    return
                self.send(chunk)
                sent += len(chunk)

        def send(self, data: bytes) -> None:
            with lock:  # before the write: the client's end of the test must not look at an old count
                proxy.served += len(data)
            self.wfile.write(data)

        def reset(self) -> None:
            """Close with RST instead of FIN: socket(7), SO_LINGER of zero."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    stopped = threading.Event()
    with quiet_server(Handler) as listening:
        proxy = FaultProxy(f"127.0.0.1:{listening.server_address[1]}")
        try:
            yield proxy
        finally:
            stopped.set()
