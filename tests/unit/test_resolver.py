"""resolv.conf, hosts and hostname of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.errors import UsageError
from rootless.network import modes, resolver
from rootless.network.resolver import Resolver

SLIRP = modes.parse(None)
OPEN = modes.parse("slirp4netns:allow_host_loopback=true")
HOST = modes.parse("host")
NONE = modes.parse("none")
HOST_FILE = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1 # y\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nsearch a.example b.example\noptions ndots:2\n"


def test_slirp_comes_first_and_what_it_cannot_reach_goes() -> None:
    host = resolver.parse_resolv_conf(HOST_FILE)
    assert resolver.resolv_conf(SLIRP, host) == (
        "search a.example b.example\nnameserver 10.0.2.3\nnameserver 192.0.2.1\noptions ndots:2\n"
    )
    assert "2001:db8::1" in resolver.resolv_conf(modes.parse("slirp4netns:enable_ipv6=true"), host)
    assert "nameserver 127.0.0.53\n" in resolver.resolv_conf(HOST, host)
    assert "nameserver" not in resolver.resolv_conf(NONE, host)


def test_options_replace() -> None:
    host = resolver.parse_resolv_conf(HOST_FILE)
    assert (
        resolver.resolv_conf(SLIRP, host, dns=["1.1.1.1"], search=["."], options=["edns0"])
        == "nameserver 1.1.1.1\noptions edns0\n"
    )


@pytest.mark.parametrize(
    "bad", [{"dns": ["dns.example"]}, {"search": ["a\nnameserver 6.6.6.6"]}, {"search": ["a b"]}, {"options": [""]}]
)
def test_no_word_breaks_out_of_its_line(bad: dict[str, list[str]]) -> None:
    with pytest.raises(UsageError):
        resolver.resolv_conf(SLIRP, Resolver(), **bad)


def test_the_stub_of_systemd_resolved(tmp_path: Path) -> None:
    (tmp_path / "systemd/resolve").mkdir(parents=True)
    (tmp_path / "systemd/resolve/resolv.conf").write_text("nameserver 192.0.2.7\n")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\nsearch lan\n")
    where = {"etc": str(tmp_path), "run": str(tmp_path)}
    assert resolver.host_resolver(SLIRP, **where) == Resolver(("192.0.2.7",), ("lan",))
    assert resolver.host_resolver(HOST, **where) == Resolver(("127.0.0.53",), ("lan",))
    assert resolver.host_resolver(SLIRP, etc="/nonexistent", run="/nonexistent") == Resolver()


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_hosts() -> None:
    made = lines(
        resolver.hosts(
            SLIRP, ["web", "web"], add_hosts=[("db", "192.0.2.5"), ("gw", "host-gateway")], host_address="192.0.2.9"
        )
    )
    assert made[0] == ["127.0.0.1", "localhost"]
    for line in (
        ["10.0.2.100", "web"],
        ["192.0.2.5", "db"],
        ["192.0.2.9", "gw"],
        ["192.0.2.9", "host.docker.internal"],
    ):
        assert line in made
    assert lines(resolver.hosts(NONE, ["web"]))[-1] == ["127.0.1.1", "web"]
    assert resolver.hosts(HOST, ["web"], add_hosts=[("a", "::1")], host_hosts="127.0.0.1 x") == "::1\ta\n127.0.0.1 x\n"


def test_an_own_line_for_the_host_wins() -> None:
    made = lines(
        resolver.hosts(SLIRP, ["web"], add_hosts=[("host.docker.internal", "192.0.2.5")], host_address="192.0.2.9")
    )
    assert [line for line in made if "host.docker.internal" in line] == [["192.0.2.5", "host.docker.internal"]]


@pytest.mark.parametrize(
    "entry", [("a b", "1.1.1.1"), ("a\n", "1.1.1.1"), ("", "1.1.1.1"), ("a", "x"), ("a", "host-gateway"), ("a", "")]
)
def test_bad_add_host(entry: tuple[str, str]) -> None:
    with pytest.raises(UsageError):
        resolver.hosts(SLIRP, ["web"], add_hosts=[entry])


def test_host_address() -> None:
    assert resolver.host_address(OPEN, outgoing="192.0.2.9") == "10.0.2.2"
    assert resolver.host_address(SLIRP, outgoing="192.0.2.9") == "192.0.2.9"
    assert resolver.host_address(SLIRP, outgoing=None) is None
    assert resolver.host_address(HOST, outgoing="192.0.2.9") == "127.0.0.1"
    assert resolver.host_address(NONE, outgoing="192.0.2.9") is None


def test_hostname() -> None:
    about = {"container_id": "0123456789abcdef", "host_name": "machine"}
    assert resolver.hostname(SLIRP, requested=None, **about) == "0123456789ab"
    assert resolver.hostname(HOST, requested=None, **about) == "machine"
    assert resolver.hostname(HOST, requested="web.example", **about) == "web.example"
    for bad in ("", "a" * 65, "a b", "-a", "é"):
        with pytest.raises(UsageError):
            resolver.hostname(SLIRP, requested=bad, **about)
