"""Published and exposed ports: the words of `-p` and `--expose`. Pure; the host is asked in `hostports`."""

import _socket
from typing import Literal, NamedTuple, cast

from ..errors import UsageError

Protocol = Literal["tcp", "udp"]

_FORMS = "HOST:CONTAINER, IP:HOST:CONTAINER or CONTAINER, each port a number or a range, with /tcp or /udp at the end"


class PublishedPort(NamedTuple):
    """One port of the host that leads to one port of the container.

    host_ip: numeric IPv4 or IPv6 address in canonical form; None: every address of the host. host_port: None: any free one; `hostports.assign` chooses.
    host_port_last: where given, any free port of host_port … host_port_last (`-p 8000-8010:80`) will do.
    """

    host_ip: str | None
    host_port: int | None
    container_port: int
    protocol: Protocol = "tcp"
    host_port_last: int | None = None

    def __str__(self) -> str:
        """As Docker prints it: `127.0.0.1:8080->80/tcp`."""
        ip = self.host_ip or "0.0.0.0"
        host = "" if self.host_port is None else str(self.host_port)
        last = "" if self.host_port_last is None else f"-{self.host_port_last}"
        return f"{bracketed(ip)}:{host}{last}->{self.container_port}/{self.protocol}"


def parse(spec: str) -> tuple[PublishedPort, ...]:
    """The ports that one word of `-p` publishes, in order. All forms of docker-run(1); anything else is a UsageError."""
    body, protocol = _split_protocol(spec, spec)
    host_ip, host, container = _split(body, spec)
    first, last = _range(container, spec)
    if host in ("", "0"):
        return tuple(PublishedPort(host_ip, None, port, protocol) for port in range(first, last + 1))
    host_first, host_last = _range(host, spec)
    if host_last - host_first == last - first:
        return tuple(PublishedPort(host_ip, host_first + i, first + i, protocol) for i in range(last - first + 1))
    if first == last:
        return (PublishedPort(host_ip, host_first, first, protocol, host_last),)
    raise _malformed(spec, f"the host has {host_last - host_first + 1} ports and the container {last - first + 1}")


def parse_expose(spec: str) -> tuple[tuple[int, Protocol], ...]:
    """The (port, protocol) pairs of one word of `--expose`, or of one key of an image's ExposedPorts: `80`, `80/udp`, `80-90/tcp`."""
    body, protocol = _split_protocol(spec, spec)
    first, last = _range(body, spec)
    return tuple((port, protocol) for port in range(first, last + 1))


def canonical_ip(text: str) -> str | None:
    """The address in the form of inet_ntop(3), or None if it is not a numeric IPv4 or IPv6 address."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            return _socket.inet_ntop(family, _socket.inet_pton(family, text))
        except (OSError, ValueError):
            continue  # not of this family; ValueError: a NUL within
    return None


def bracketed(ip: str) -> str:
    """The address as it stands before a port: IPv6 in brackets."""
    return f"[{ip}]" if ":" in ip else ip


def _split(body: str, spec: str) -> tuple[str | None, str, str]:
    """(address, host ports, container ports) of the part before the protocol."""
    front, _, container = body.rpartition(":")
    ip, separator, host = front.rpartition(":")
    if not separator:
        return None, host, container
    if ip.startswith("[") and ip.endswith("]") and ":" in ip:
        ip = ip[1:-1]
    if not ip:
        return None, host, container
    address = canonical_ip(ip)
    if address is None:
        raise _malformed(spec, f"{ip!r} is not a numeric IP address")
    return address, host, container


def _split_protocol(text: str, spec: str) -> tuple[str, Protocol]:
    body, separator, protocol = text.partition("/")
    protocol = protocol.lower() if separator else "tcp"
    if protocol not in ("tcp", "udp"):
        raise _malformed(spec, f"{protocol!r} is not a protocol that can be published")
    return body, cast(Protocol, protocol)


def _range(text: str, spec: str) -> tuple[int, int]:
    first, separator, last = text.partition("-")
    low = _port(first, spec)
    high = _port(last, spec) if separator else low
    if high < low:
        raise _malformed(spec, f"the range {text} ends before it begins")
    return low, high


def _port(text: str, spec: str) -> int:
    # isdecimal alone takes the digits of other scripts, int alone takes "+1", " 1" and "1_0".
    if text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise _malformed(spec, f"{text!r} is not a port number" if text else "the port number is missing")


def _malformed(spec: str, why: str) -> UsageError:
    return UsageError(f"invalid port {spec!r}: {why}", hint=f"write {_FORMS}")
