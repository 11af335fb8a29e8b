"""Published ports against the real sockets of this host."""

from __future__ import annotations

import os
import socket

import pytest

from rootless.errors import Conflict, HostError, UsageError
from rootless.network import hostports
from rootless.network.ports import PublishedPort, parse

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def bound(kind: int, address: str = "127.0.0.1") -> tuple[socket.socket, int]:
    holder = socket.socket(socket.AF_INET, kind)
    holder.bind((address, 0))
    if kind == TCP:
        holder.listen()
    return holder, holder.getsockname()[1]


@pytest.mark.parametrize(("kind", "protocol"), [(TCP, "tcp"), (UDP, "udp")])
def test_a_taken_port_is_a_conflict_that_names_the_holder(kind: int, protocol: str) -> None:
    holder, number = bound(kind)
    with holder:
        spec = parse(f"{number}:80/{protocol}")
        with pytest.raises(Conflict, match=rf"in use by .* \(pid {os.getpid()}\)"):
            hostports.assign(spec)
        with pytest.raises(Conflict, match="in use by container web"):
            hostports.assign(spec, holder=lambda _: "container web")
        other = "udp" if protocol == "tcp" else "tcp"
        assert hostports.assign(parse(f"127.0.0.1:{number}:80/{other}"))[0].host_port == number
    assert hostports.assign(spec) == spec


def test_a_port_below_the_limit() -> None:
    number = hostports.lowest_port() - 1
    with pytest.raises(HostError, match=f"ports below {number + 1}") as caught:
        hostports.assign(parse(f"{number}:80"))
    assert f"ip_unprivileged_port_start={number}" in (caught.value.hint or "")
    suggested = parse((caught.value.hint or "").rpartition("-p ")[2])
    assert hostports.assign(suggested) == suggested


def test_free_ports_are_distinct_and_keep_clear_of_the_fixed_ones() -> None:
    chosen = hostports.assign(parse("20000-20063") + parse("127.0.0.1::80/udp"))
    assert len({(port.protocol, port.host_port) for port in chosen}) == 65
    holder, number = bound(TCP)
    with holder:
        found = hostports.assign((PublishedPort("127.0.0.1", number, 80, "tcp", number + 30),))[0]
        assert found.host_port is not None
        assert number < found.host_port <= number + 30
        with pytest.raises(Conflict, match="is free"):
            hostports.assign((PublishedPort(None, number, 80, "tcp", number),))


def test_one_port_twice() -> None:
    holder, number = bound(TCP)
    holder.close()
    with pytest.raises(UsageError, match="twice"):
        hostports.assign(parse(f"{number}:80") + parse(f"127.0.0.1:{number}:81"))
    both = parse(f"127.0.0.1:{number}:80") + parse(f"127.0.0.2:{number}:80")
    assert hostports.assign(both) == both


def test_addresses_that_cannot_be() -> None:
    with pytest.raises(HostError, match="not an address of this host"):
        hostports.assign(parse("192.0.2.1:8080:80"))
    with pytest.raises(HostError, match="not an address of this host"):
        hostports.assign(parse("192.0.2.1::80"))
    with pytest.raises(HostError, match="IPv4"):
        hostports.assign(parse("[::1]:8080:80"))
