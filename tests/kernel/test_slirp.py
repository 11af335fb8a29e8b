"""slirp4netns as the monitor starts it: from inside a user namespace, the three descriptors at their numbers. Real packets, real ports."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rootless.errors import Conflict, HostError
from rootless.network import hostports, modes, resolver
from rootless.network.ports import PublishedPort, parse
from rootless.slirp import api, process

pytestmark = pytest.mark.skipif(shutil.which("slirp4netns") is None, reason="slirp4netns is not installed")

# Runs as root of a new user namespace, in the host's network: a process with a network namespace, then slirp4netns in its own place.
MONITOR = """
import os, subprocess, sys
ready, stay, *argv = sys.argv[1:]
holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo $$; exec sleep 100"], stdout=subprocess.PIPE)
print(holder.stdout.readline().decode().strip(), flush=True)
network = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
for number, target in ((network, 5), (int(ready), 6), (int(stay), 7)):
    os.dup2(number, target + 40, inheritable=False)
for target in (5, 6, 7):
    os.dup2(target + 40, target)
slirp = subprocess.Popen(argv, pass_fds=(5, 6, 7), stdout=subprocess.DEVNULL)
for target in {5, 6, 7, network, int(ready), int(stay)}:
    os.close(target)
code = slirp.wait()
holder.kill()
sys.exit(code)
"""


class Network:
    """A network namespace that slirp4netns serves. pid: a process in it."""

    def __init__(self, pid: int, api_socket: str) -> None:
        self.pid = pid
        self.api_socket = api_socket

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.enter(), *command], capture_output=True, text=True, timeout=20)

    def enter(self) -> list[str]:
        return [
            "nsenter",
            f"--user=/proc/{self.pid}/ns/user",
            f"--net=/proc/{self.pid}/ns/net",
            "--preserve-credentials",
        ]


@contextmanager
def started(mode: str = "slirp4netns") -> Iterator[Network]:
    directory = tempfile.mkdtemp(prefix="rl-test-slirp-")
    api_socket = f"{directory}/{process.API_SOCKET}"
    argv = process.command(process.find(), modes.parse(mode).slirp, api_socket=api_socket)
    ready, ready_writer = os.pipe()
    stay_reader, stay = os.pipe()
    monitor = subprocess.Popen(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "/usr/bin/python3",
            "-c",
            MONITOR,
            str(ready_writer),
            str(stay_reader),
            *argv,
        ],
        pass_fds=(ready_writer, stay_reader),
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(ready_writer)
    os.close(stay_reader)
    assert monitor.stdout
    try:
        pid = int(monitor.stdout.readline())
        assert select.select([ready], [], [], 10)[0]
        assert os.read(ready, 1) == b"1"
        yield Network(pid, api_socket)
    finally:
        os.close(stay)  # which is how slirp4netns learns that its time is over
        code = monitor.wait(timeout=10)
        monitor.stdout.close()
        os.close(ready)
        shutil.rmtree(directory)
    assert code == 0


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with started() as made:
        yield made


ANSWER = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
server = socket.socket(socket.AF_INET, kind)
server.bind(("0.0.0.0", int(sys.argv[2])))
if sys.argv[1] == "udp":
    print("ready", flush=True)
    server.sendto(b"from inside", server.recvfrom(100)[1])
else:
    server.listen()
    print("ready", flush=True)
    server.accept()[0].sendall(b"from inside")
"""


def published(network: Network, port: PublishedPort) -> bytes:
    """What a client of the host's port hears from a server at the container's port."""
    assert port.host_port is not None
    command = [*network.enter(), "/usr/bin/python3", "-c", ANSWER, port.protocol, str(port.container_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"ready\n"
        try:
            with socket.socket(
                socket.AF_INET, socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
            ) as client:
                client.settimeout(5)
                client.connect((port.host_ip or "127.0.0.1", port.host_port))
                if port.protocol == "udp":
                    client.send(b"?")
                return client.recv(100)
        finally:
            server.kill()


def forwards(ports: tuple[PublishedPort, ...]) -> list[api.Forward]:
    return [(port.protocol, port.host_ip, port.host_port or 0, port.container_port) for port in ports]


@pytest.mark.parametrize("spec", ["80", "127.0.0.1::81", "{own}::80/udp"])
def test_a_published_port_leads_inside(network: Network, spec: str) -> None:
    own = resolver.outgoing_address()
    if own is None and "{own}" in spec:
        pytest.skip("this host has no address but its loopback's")
    ports = hostports.assign(parse(spec.format(own=own)))
    (number,) = api.add_ports(network.api_socket, forwards(ports))
    try:
        assert published(network, ports[0]) == b"from inside"
    finally:
        api.remove_port(network.api_socket, number)
    assert hostports.assign(ports) == ports  # free again


def test_udp_on_the_loopback_needs_the_loopback() -> None:
    ports = hostports.assign(parse("127.0.0.1::80/udp"))
    closed, opened = modes.parse("slirp4netns"), modes.parse("slirp4netns:allow_host_loopback=true")
    assert "does not answer" in (hostports.notice(ports, closed) or "")
    assert hostports.notice(ports, opened) is None
    with started("slirp4netns:allow_host_loopback=true") as network:
        api.add_ports(network.api_socket, forwards(ports))
        assert published(network, ports[0]) == b"from inside"


def test_a_range_is_listed(network: Network) -> None:
    ports = hostports.assign(parse("3000-3009"))
    ids = api.add_ports(network.api_socket, forwards(ports))
    listed = api.list_ports(network.api_socket)
    assert [entry["id"] for entry in listed] == ids
    assert [(entry["host_port"], entry["guest_port"]) for entry in listed] == [
        (port.host_port, port.container_port) for port in ports
    ]
    for number in ids:
        api.remove_port(network.api_socket, number)
    assert api.list_ports(network.api_socket) == []


def test_errors_name_the_port(network: Network) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        with pytest.raises(Conflict, match=rf"127\.0\.0\.1:{number}/tcp: the port is already in use"):
            api.add_ports(network.api_socket, [("tcp", "127.0.0.1", number, 80)])
    with pytest.raises(HostError, match=r"192\.0\.2\.1:8080/tcp: cannot assign requested address"):
        api.add_ports(network.api_socket, [("tcp", "192.0.2.1", 8080, 80)])
    with pytest.raises(HostError, match=r"0\.0\.0\.0:9/tcp: permission denied"):
        api.add_ports(network.api_socket, [("tcp", None, 9, 80)])
    with pytest.raises(HostError, match="IPv4"):
        api.add_ports(network.api_socket, [("tcp", "::1", 8080, 80)])
    with pytest.raises(HostError):
        api.remove_port(network.api_socket, 12345)
    with pytest.raises(HostError, match="cannot connect"):
        api.list_ports(network.api_socket + "x")


def test_addresses(network: Network) -> None:
    assert "inet 10.0.2.100/24" in network.run("ip", "addr", "show", "tap0").stdout
    assert "default via 10.0.2.2" in network.run("ip", "route").stdout
    assert "mtu 65520" in network.run("ip", "link", "show", "tap0").stdout


def test_own_network(tmp_path: Path) -> None:
    with started("slirp4netns:cidr=192.168.77.0/24,mtu=1500") as network:
        assert "inet 192.168.77.100/24" in network.run("ip", "addr", "show", "tap0").stdout
        assert "mtu 1500" in network.run("ip", "link", "show", "tap0").stdout


@pytest.mark.parametrize(("option", "reached"), [("false", False), ("true", True)])
def test_the_loopback_of_the_host_is_closed_unless_asked_for(option: str, reached: bool) -> None:
    def answer() -> None:
        try:
            server.accept()[0].close()
        except OSError:
            return  # nobody came, and the listener was closed

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        thread = threading.Thread(target=answer)
        thread.start()
        number = server.getsockname()[1]
        with started(f"slirp4netns:allow_host_loopback={option}") as network:
            script = f"import socket; socket.create_connection(('10.0.2.2', {number}), 2)"
            assert (network.run("/usr/bin/python3", "-c", script).returncode == 0) is reached
        server.settimeout(0.01)
        if not reached:
            socket.create_connection(("127.0.0.1", number)).close()
        thread.join()


def test_it_is_sandboxed(network: Network) -> None:
    """It holds no capability that matters, sees nothing but /etc and /run, and runs under a seccomp filter."""
    served = None
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if network.api_socket in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1][-3].partition("=")[2]:
                served = pid
        except (OSError, IndexError):
            continue  # ended, or another's
    assert served
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{served}/status").read_text().splitlines() if ":\t" in line
    )
    assert int(status["CapEff"], 16) in (0, 1 << 10)  # CAP_NET_BIND_SERVICE
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_find_remembers_the_version(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "slirp4netns"
    found = process.find(str(cache))
    assert found.version >= process.OLDEST
    lines = cache.read_text().splitlines()
    cache.write_text(f"{lines[0]}\n9 9 9 0\n")
    assert process.find(str(cache)).version == (9, 9, 9)
    cache.write_text("another program\n9 9 9 0\n")
    assert process.find(str(cache)) == found
    cache.write_bytes(b"\xff\0garbage")
    assert process.find(str(cache)) == found


def test_find_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "slirp4netns"
    monkeypatch.setenv("PATH", str(tmp_path))
    for said, complaint in (("slirp4netns version 0.3.9", "needs 0.4.0"), ("hello", "cannot tell the version")):
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        with pytest.raises(HostError, match=complaint):
            process.find()
    program.write_text("#!/bin/sh\necho 'slirp4netns version 1.0.0+dev'\n")
    options = modes.parse("slirp4netns:outbound_addr=eth0").slirp
    with pytest.raises(HostError, match=r"outbound_addr needs 1\.1\.0"):
        process.command(process.find(), options)
    assert "--enable-seccomp" not in process.command(process.find(), process.SlirpOptions())


def test_command_refuses_a_socket_path_that_the_kernel_cannot_take() -> None:
    with pytest.raises(HostError, match="too long"):
        process.command(process.find(), process.SlirpOptions(), api_socket="/" + "x" * 107)
    assert process.command(process.find(), process.SlirpOptions(), api_socket="/" + "x" * 106)
