"""The API socket of slirp4netns(1), section "API SOCKET": one JSON request and one answer a connection, IPv4 only."""

from __future__ import annotations

import _socket
import errno
import json
import os
from collections.abc import Iterable
from typing import Any

from ..errors import Conflict, HostError, reason

TIMEOUT = 5.0  # seconds for one answer; slirp4netns stops the world for it, and then takes microseconds

Forward = tuple[
    str, str | None, int, int
]  # protocol, address of the host (None: all), port there, port in the container


def add_ports(api_socket: str, forwards: Iterable[Forward]) -> list[int]:
    """Forward each port of the host to the container's; the ids that slirp4netns gave. The ports are concrete (see `network.hostports`).

    Raises Conflict where a port was taken meanwhile, HostError for what slirp4netns cannot do; the message names the port. What was added before
    the failure stays: the caller ends slirp4netns.
    """
    ids = []
    for protocol, host_ip, host_port, container_port in forwards:
        where = f"{host_ip or '0.0.0.0'}:{host_port}/{protocol}"
        if host_ip is not None and ":" in host_ip:
            raise HostError(f"cannot publish [{host_ip}]:{host_port}/{protocol}: slirp4netns forwards IPv4 ports only")
        arguments = {
            "proto": protocol,
            "host_addr": host_ip or "0.0.0.0",
            "host_port": host_port,
            "guest_port": container_port,
        }
        answer = _call(api_socket, {"execute": "add_hostfwd", "arguments": arguments})
        if "error" in answer:
            raise _refused(where, protocol, host_ip or "0.0.0.0", host_port, answer["error"])
        try:
            ids.append(int(answer["return"]["id"]))
        except (KeyError, TypeError, ValueError):
            raise HostError(f"slirp4netns gave no id for {where}: {str(answer)[:200]}") from None
    return ids


def list_ports(api_socket: str) -> list[dict[str, Any]]:
    """The entries of list_hostfwd: id, proto, host_addr, host_port, guest_addr, guest_port."""
    answer = _call(api_socket, {"execute": "list_hostfwd"})
    try:
        # The manual page has the entries within "return", 1.2.0 sends them bare.
        return [dict(entry) for entry in answer.get("return", answer)["entries"]]
    except (KeyError, TypeError, ValueError):
        raise HostError(f"slirp4netns cannot list its ports: {str(answer)[:200]}") from None


def remove_port(api_socket: str, forward_id: int) -> None:
    """Close the port that `add_ports` gave this id."""
    answer = _call(api_socket, {"execute": "remove_hostfwd", "arguments": {"id": forward_id}})
    if "error" in answer:
        raise HostError(f"slirp4netns cannot close the port {forward_id}: {_description(answer['error'])}")


def _call(api_socket: str, request: dict[str, Any]) -> dict[str, Any]:
    with _connect(api_socket) as connection:
        try:
            connection.sendall(json.dumps(request).encode())
            connection.shutdown(_socket.SHUT_WR)
            answer = b""
            while len(answer) < 1 << 20 and (piece := connection.recv(65536)):
                answer += piece
        except OSError as error:
            raise HostError(f"slirp4netns does not answer on {api_socket}: {error}") from error
    try:
        document = json.loads(answer)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise HostError(f"slirp4netns answered {answer[:200]!r}")
    return document


class _Connection(_socket.socket):
    """`socket.socket` is this with more; its module costs 2.7 ms."""

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(api_socket: str) -> _Connection:
    directory, name = os.path.split(os.path.abspath(api_socket))
    connection = _Connection(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection.settimeout(TIMEOUT)
    try:
        # By the directory's descriptor: a socket's name has room for 107 bytes, a runtime directory may need more.
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)
    except OSError as error:
        connection.close()
        raise HostError(f"cannot connect to slirp4netns at {api_socket}: {reason(error)}") from error
    return connection


def _refused(where: str, protocol: str, host_ip: str, port: int, error: Any) -> HostError | Conflict:
    """slirp4netns says only that it failed; the kernel, asked again, says why."""
    kind = _socket.SOCK_DGRAM if protocol == "udp" else _socket.SOCK_STREAM
    probe = _Connection(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC)
    with probe:
        try:
            probe.bind((host_ip, port))
        except OSError as why:
            if why.errno == errno.EADDRINUSE:
                return Conflict(f"cannot publish {where}: the port is already in use")
            return HostError(f"cannot publish {where}: {reason(why)}")
    return HostError(
        f"cannot publish {where}: slirp4netns: {_description(error)}",
        hint="it needs a descriptor for each port: ulimit -n must be above their number",
    )


def _description(error: Any) -> str:
    return str(error.get("desc", error) if isinstance(error, dict) else error)[:200]
