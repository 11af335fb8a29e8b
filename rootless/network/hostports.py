"""Published ports against this host: what it allows, what is free. Asked before anything is started."""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Callable, Sequence

from ..errors import Conflict, HostError, UsageError, reason
from .modes import NetworkMode
from .ports import Protocol, PublishedPort, bracketed

_TRIES = 64

Holder = Callable[[PublishedPort], str | None]


def assign(ports: Sequence[PublishedPort], *, holder: Holder | None = None) -> tuple[PublishedPort, ...]:
    """The same ports, each with a host port that was free when this looked.

    holder: says in words which container publishes a port, if any (`container web`), for the message. Raises HostError for a port below the host's
    limit or an address that is not the host's, Conflict for a taken one, UsageError for two of the request's own on one port. Between this and
    slirp4netns's bind(2) another process may be faster; `slirp.api.add_ports` then raises Conflict.
    """
    limit = lowest_port()
    taken: dict[tuple[str, int], list[str | None]] = {}
    for port in ports:  # the fixed ones first, so that no free choice takes the port of a later word
        if port.host_port is not None and port.host_port_last is None:
            _claim(taken, port)
            _check(port, limit, holder)
    return tuple(_choose(port, limit, taken, holder) for port in ports)


def notice(ports: Sequence[PublishedPort], mode: NetworkMode) -> str | None:
    """What the user should know about ports that are published but not all that one may expect; None where there is nothing to say.

    libslirp has no connection tracking for UDP: with the host's loopback closed to the container, its answers to the host are closed out too
    (https://github.com/containers/podman/issues/4586). Clients on other machines, and those that use the very address that was published, are served.
    """
    if mode.kind != "slirp4netns" or mode.slirp.allow_host_loopback:
        return None
    deaf = [
        port
        for port in ports
        if port.protocol == "udp" and (_is_any(port.host_ip) or (port.host_ip or "").startswith("127."))
    ]
    if not deaf:
        return None
    return (
        f"{deaf[0]} does not answer clients on this host's loopback: use --network slirp4netns:allow_host_loopback=true,"
        " or publish on another address of this host"
    )


def lowest_port() -> int:
    """net.ipv4.ip_unprivileged_port_start of this network namespace (ip(7)); it holds for IPv6 too.

    Also for an rl that root starts: slirp4netns runs in the container's user namespace and has no capability outside.
    """
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024  # kernels before 4.11 have the fixed limit


def _choose(
    port: PublishedPort, limit: int, taken: dict[tuple[str, int], list[str | None]], holder: Holder | None
) -> PublishedPort:
    if port.host_port is not None and port.host_port_last is None:
        return port
    if port.host_port is None:
        for _ in range(_TRIES):
            found = port._replace(host_port=_ephemeral(port))
            if _is_ours(taken, found) is None:
                _claim(taken, found)
                return found
        raise Conflict(f"cannot publish {port}: no free port was found")
    last = port.host_port_last or port.host_port
    for number in range(max(port.host_port, limit), last + 1):
        found = port._replace(host_port=number, host_port_last=None)
        if _is_ours(taken, found) is None and _bind(found) is None:
            _claim(taken, found)
            return found
    if last < limit:
        _check(port._replace(host_port_last=None), limit, holder)
    raise Conflict(f"cannot publish {port}: no port from {port.host_port} to {last} is free")


def _check(port: PublishedPort, limit: int, holder: Holder | None) -> None:
    number = port.host_port or 0
    if number < limit:
        raise HostError(
            f"cannot publish {port}: ports below {limit} are not for unprivileged users on this host",
            hint=f"sudo sysctl net.ipv4.ip_unprivileged_port_start={number}, or publish a free high port: -p {_suggestion(port)}",
        )
    error = _bind(port)
    if error is None:
        return
    if error == errno.EADDRINUSE:
        by = (holder(port) if holder else None) or _process_on(port)
        raise Conflict(f"cannot publish {port}: the port is already in use" + (f" by {by}" if by else ""))
    if error == errno.EADDRNOTAVAIL:
        raise HostError(f"cannot publish {port}: {port.host_ip} is not an address of this host")
    raise HostError(f"cannot publish {port}: {reason(error)}")


def _claim(taken: dict[tuple[str, int], list[str | None]], port: PublishedPort) -> None:
    if _is_ours(taken, port) is not None:
        raise UsageError(f"the port {port.host_port}/{port.protocol} of the host is published twice")
    taken.setdefault((port.protocol, port.host_port or 0), []).append(port.host_ip)


def _is_ours(taken: dict[tuple[str, int], list[str | None]], port: PublishedPort) -> str | None:
    """The address that an earlier port of the request has on this number, if the two collide; every address is `0.0.0.0`."""
    for ip in taken.get((port.protocol, port.host_port or 0), ()):
        if ip == port.host_ip or _is_any(ip) or _is_any(port.host_ip):
            return ip or "0.0.0.0"
    return None


def _is_any(ip: str | None) -> bool:
    return ip in (None, "0.0.0.0", "::")


def _bind(port: PublishedPort) -> int | None:
    """The errno of bind(2) on the port, None where it is free. TCP as libslirp binds it: SO_REUSEADDR passes over connections in TIME_WAIT.

    UDP without: with that option two sockets can have one port, and the older one no longer hears a thing.
    """
    probe, address = _probe(port)
    try:
        if port.protocol == "tcp":
            probe.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        probe.bind((address, port.host_port or 0))
        if port.protocol == "tcp":
            probe.listen(1)  # two sockets that both say SO_REUSEADDR share a port until one of them listens
    except OSError as error:
        return error.errno
    finally:
        probe.close()
    return None


def _ephemeral(port: PublishedPort) -> int:
    probe, address = _probe(port)
    try:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise HostError(f"cannot publish {port}: {port.host_ip} is not an address of this host") from error
        raise Conflict(f"cannot publish {port}: {reason(error)}") from error
    finally:
        probe.close()


def _probe(port: PublishedPort) -> tuple[_socket.socket, str]:
    if port.host_ip is not None and ":" in port.host_ip:
        raise HostError(
            f"cannot publish {port}: slirp4netns forwards IPv4 ports only", hint="publish it on an IPv4 address"
        )
    kind = _socket.SOCK_STREAM if port.protocol == "tcp" else _socket.SOCK_DGRAM
    return _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC), port.host_ip or "0.0.0.0"


def _suggestion(port: PublishedPort) -> str:
    """The word of -p that would do: the usual high twin (8080 for 80) if it is free, else any free port."""
    high = port._replace(host_port=8000 + (port.host_port or 0))
    if _bind(high) is not None:
        high = port._replace(host_port=_ephemeral(port))
    ip = f"{bracketed(port.host_ip)}:" if port.host_ip else ""
    protocol = "/udp" if port.protocol == "udp" else ""
    return f"{ip}{high.host_port}:{port.container_port}{protocol}"


def _process_on(port: PublishedPort) -> str | None:
    """Who holds the port, `nginx (pid 12)`, as far as proc(5) shows it to this user."""
    inodes = {f"socket:[{inode}]" for inode in _inodes_on(port.protocol, port.host_port or 0)}
    for pid in filter(str.isdecimal, os.listdir("/proc") if inodes else ()):
        try:
            held = (os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd"))
            if any(link in inodes for link in held):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue  # another user's process, or one that has ended
    return None


def _inodes_on(protocol: Protocol, number: int) -> list[str]:
    """The inodes of the sockets bound to the port: TCP in state LISTEN (0A), UDP in any; proc_pid_net(5)."""
    found = []
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue  # no IPv6, or /proc/net is hidden: the name of the holder is a courtesy
        found += [row[9] for row in rows if row[1].endswith(f":{number:04X}") and (protocol == "udp" or row[3] == "0A")]
    return found
