"""How containers are connected: to the world, to their host, to each other, and how not."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.waiting import state, until
from tests.fakes import dns_server
from tests.runner import Rl


def sh(rl: Rl, script: str, *options: str) -> str:
    return rl.ok("run", "--rm", *options, "alpine", "sh", "-c", script)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, host: str = "127.0.0.1") -> bytes:
    """What a TCP server says. Within the container it may not listen yet: the port is open, and the connection is reset or ends."""

    def once() -> bytes:
        try:
            with socket.create_connection((host, port), timeout=5) as connection:
                return connection.recv(100)
        except ConnectionError:
            return b""

    return until(once)


@contextmanager
def listener(text: bytes) -> Iterator[int]:
    """A TCP server on the host's 127.0.0.1 that says `text` to everybody; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(text)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def hosts(rl: Rl, *options: str) -> dict[str, list[str]]:
    """address -> names, of the container's /etc/hosts."""
    found: dict[str, list[str]] = {}
    for line in sh(rl, "cat /etc/hosts", *options).splitlines():
        address, *names = line.split()
        found.setdefault(address, []).extend(names)
    return found


# ---- the default network


@pytest.mark.alpine
def test_addresses_and_routes(rl: Rl) -> None:
    text = sh(rl, "ip -4 -o addr; ip route; cat /sys/class/net/tap0/mtu; ping -c 1 -W 5 10.0.2.2 | grep -c ttl=")
    assert "inet 10.0.2.100/24" in text and "inet 127.0.0.1/8" in text
    assert "default via 10.0.2.2 dev tap0" in text and text.splitlines()[-2:] == ["65520", "1"]


def test_options_of_slirp4netns(rl: Rl) -> None:
    mode = "slirp4netns:cidr=10.77.0.0/16,mtu=1400"
    text = sh(rl, "ip -4 -o addr show tap0; cat /sys/class/net/tap0/mtu /etc/resolv.conf", "--network", mode)
    assert "inet 10.77.0.100/16" in text and "\n1400\n" in text and "nameserver 10.77.0.3" in text


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("pasta", "pasta is not supported yet"),
        ("mine", "there is no network 'mine'"),
        ("slirp4netns:cidr=10.0.2.1/24", "it is not the address of a network"),
        ("slirp4netns:speed=1", "slirp4netns has no option 'speed'"),
        ("container:", "container:NAME"),
        ("container:nobody", "no container 'nobody'"),
    ],
)
def test_networks_that_do_not_exist(rl: Rl, mode: str, said: str) -> None:
    result = rl("run", "--rm", "--network", mode, "alpine", "true")
    assert result.code == 125 and said in result.err and result.err.count("\n") <= 2
    assert rl.ok("ps", "-aq") == ""


def test_names_and_name_servers(rl: Rl) -> None:
    script = "cat /etc/hostname; hostname; cat /etc/resolv.conf"
    lines = sh(rl, script, "--name", "plain").splitlines()
    assert lines[0] == lines[1] and len(lines[0]) == 12 and "nameserver 10.0.2.3" in lines
    options = ("--hostname", "box", "--dns", "192.0.2.5", "--dns-search", "a.example", "--dns-option", "ndots:3")
    assert sh(rl, script, *options).splitlines() == [
        "box", "box", "search a.example", "nameserver 192.0.2.5", "options ndots:3",
    ]  # fmt: skip


def test_hosts(rl: Rl) -> None:
    found = hosts(rl, "--name", "called", "-h", "box", "--add-host", "db:192.0.2.9", "--add-host", "a;b:192.0.2.10")
    assert found["10.0.2.100"] == ["box", "called"] and "localhost" in found["127.0.0.1"]
    assert found["192.0.2.9"] == ["db"] and found["192.0.2.10"] == ["a", "b"]
    found = hosts(rl, "--network", "slirp4netns:allow_host_loopback=true", "--add-host", "gate:host-gateway")
    assert {"gate", "host.containers.internal", "host.docker.internal"} <= set(found["10.0.2.2"])
    result = rl("run", "--rm", "--network", "none", "--add-host", "gate:host-gateway", "alpine", "true")
    assert result.code == 125 and "'gate' cannot be host-gateway" in result.err


def test_the_resolver_of_the_host_is_asked(rl: Rl, tmp_path: Path) -> None:
    """10.0.2.3 leads to it, though it listens on a loopback address: here in a network namespace of its own, with a resolv.conf of its own."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.53\n")
    server = shlex.join([sys.executable, dns_server.__file__, "127.0.0.53", "known.example", "192.0.2.99"])
    script = f'ip link set lo up; mount --bind {resolv} /etc/resolv.conf; {server} & s=$!; "$@"; kill $s'
    inside = rl.launched_by("unshare", "-r", "--map-auto", "-m", "-n", "sh", "-c", script, "-")
    answer = inside.ok("run", "--rm", "alpine", "sh", "-c", "cat /etc/resolv.conf; nslookup -type=a known.example")
    assert answer.startswith("nameserver 10.0.2.3\n") and "Address: 192.0.2.99" in answer


@pytest.mark.parametrize(("mode", "heard"), [("slirp4netns", ""), ("slirp4netns:allow_host_loopback=true", "secret")])
def test_the_loopback_of_the_host(rl: Rl, mode: str, heard: str) -> None:
    with listener(b"secret\n") as port:
        assert sh(rl, f"nc -w 5 10.0.2.2 {port} </dev/null || true", "--network", mode) == heard


def test_slirp4netns_ends_with_the_container(rl: Rl) -> None:
    rl.ok("run", "-d", "--name", "net", "alpine", "sleep", "60")
    monitor = state(rl, "net")["ConmonPid"]
    children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    (slirp,) = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "slirp4netns\n"]
    rl.ok("rm", "-f", "net")
    until(lambda: not os.path.exists(f"/proc/{slirp}"))


def test_without_slirp4netns(rl: Rl) -> None:
    """Also started by root of a user namespace, where something that cannot be executed lies over the program."""
    script = 'for each in /usr/bin/slirp4netns /usr/sbin/slirp4netns /usr/local/bin/slirp4netns; do [ -e $each ] && mount --bind /dev/null $each; done; "$@"'
    without = rl.launched_by("unshare", "-r", "--map-auto", "-m", "sh", "-c", script, "-")
    result = without("run", "--rm", "alpine", "true")
    assert result.code == 125 and "slirp4netns" in result.err and "hint: " in result.err and result.err.count("\n") == 2
    assert without.ok("run", "--rm", "--network", "none", "alpine", "echo", "works") == "works"


# ---- other networks


def test_no_network(rl: Rl) -> None:
    assert sh(
        rl, "ls /sys/class/net; ip -o link show lo | grep -c UP; wc -l </etc/resolv.conf", "--network", "none"
    ).split() == ["lo", "1", "0"]


def test_the_network_of_the_host(rl: Rl) -> None:
    with listener(b"open\n") as port:
        assert sh(rl, f"nc 127.0.0.1 {port} </dev/null; hostname", "--network", "host").split() == [
            "open",
            os.uname().nodename,
        ]
    assert set(sh(rl, "ls /sys/class/net", "--network", "host").split()) == set(os.listdir("/sys/class/net"))
    assert "no port is published" in rl("run", "--rm", "--network", "host", "-p", "8080:80", "alpine", "true").err
    result = rl("run", "--rm", "--network", "host", "alpine", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    assert result.code != 0


def test_the_network_of_another_container(rl: Rl) -> None:
    """Two share a loopback, a hosts file and a host name's meaning; ports are the first one's."""
    rl.ok(
        "run",
        "-d",
        "--name",
        "server",
        "--add-host",
        "x:192.0.2.1",
        "alpine",
        "sh",
        "-c",
        "while :; do echo shared | nc -l -p 80; done",
    )
    script = "until nc 127.0.0.1 80 </dev/null 2>/dev/null; do sleep 0.02; done; grep -c 192.0.2.1 /etc/hosts"
    assert sh(rl, script, "--network", "container:server").split() == ["shared", "1"]
    result = rl("run", "--rm", "--network", "container:server", "-p", "8080:80", "alpine", "true")
    assert result.code == 125 and "the ports are the other container's" in result.err
    rl.ok("rm", "-f", "server")


# ---- published ports


def test_published_tcp(rl: Rl) -> None:
    port = free_port()
    server = 'while :; do echo "to $0" | nc -l -p "$0"; done'
    rl.ok("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", "alpine", "sh", "-c", server, "80")
    assert ask(port) == b"to 80\n"
    assert rl.ok("ps", "--format", "{{.Ports}}") == f"127.0.0.1:{port}->80/tcp"
    assert rl.json("inspect", "web")[0]["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    }
    other = rl("run", "--rm", "-p", f"{port}:1", "alpine", "true")
    assert other.code == 125 and other.err.endswith("the port is already in use by container web\n")
    rl.ok("stop", "-t", "0", "web")
    rl.ok("start", "web")
    assert ask(port) == b"to 80\n"  # after a restart as well
    rl.ok("rm", "-f", "web")


def test_a_published_range(rl: Rl) -> None:
    first = next(port for port in iter(free_port, 0) if port < 65000)
    script = "for port in 80 81 82; do (while :; do echo $port | nc -l -p $port; done) & done; wait"
    rl.ok("run", "-d", "--name", "range", "-p", f"{first}-{first + 2}:80-82", "alpine", "sh", "-c", script)
    assert [ask(first + number) for number in range(3)] == [b"80\n", b"81\n", b"82\n"]
    rl.ok("rm", "-f", "range")


@pytest.mark.alpine
def test_published_udp(rl: Rl) -> None:
    """To a client on the host's loopback it can answer only with that open; the user is told so."""
    port = free_port(socket.SOCK_DGRAM)
    opened = ("--network", "slirp4netns:allow_host_loopback=true")
    rl.ok(
        "run",
        "-d",
        "--name",
        "udp",
        *opened,
        "-p",
        f"127.0.0.1:{port}:53/udp",
        "alpine",
        "nc",
        "-l",
        "-u",
        "-p",
        "53",
        "-e",
        "cat",
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)

        def echoed() -> bytes:
            client.sendto(b"echo", ("127.0.0.1", port))
            try:
                return client.recv(10)
            except (TimeoutError, ConnectionError):
                return b""

        assert until(echoed) == b"echo"
    rl.ok("rm", "-f", "udp")
    result = rl("run", "--rm", "-p", f"127.0.0.1:{port}:53/udp", "alpine", "true")
    assert result.code == 0 and "warning: " in result.err and "allow_host_loopback=true" in result.err


def test_free_ports_for_everything_exposed(rl: Rl) -> None:
    rl.ok(
        "run",
        "-d",
        "--name",
        "all",
        "-P",
        "--expose",
        "80",
        "--expose",
        "90-91/udp",
        "-p",
        "81",
        "alpine",
        "sleep",
        "60",
    )
    ports = rl.json("inspect", "all")[0]["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "81/tcp", "90/udp", "91/udp"}
    assert all(int(binding[0]["HostPort"]) >= 1024 for binding in ports.values())
    rl.ok("rm", "-f", "all")


def test_ports_that_cannot_be_published(rl: Rl) -> None:
    with listener(b"") as taken:
        for word, said in (
            (f"127.0.0.1:{taken}:80", "the port is already in use by"),
            ("80:80", "ports below 1024 are not for unprivileged users"),
            ("192.0.2.200:8080:80", "192.0.2.200 is not an address of this host"),
            ("[::1]:8080:80", "IPv4"),
            ("70000:80", "'70000' is not a port number"),
            ("8080:80/sctp", "'sctp' is not a protocol"),
            ("8080-8082:80-81", "the host has 3 ports and the container 2"),
        ):
            result = rl("run", "-d", "-p", word, "alpine", "true")
            assert result.code == 125 and said in result.err and result.err.startswith("rl: "), result
    assert rl.ok("ps", "-aq") == ""
