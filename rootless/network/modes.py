"""The words of `--network`. Pure."""

import _socket
from typing import Literal, NamedTuple

from ..errors import UsageError
from ..slirp.process import SlirpOptions
from .ports import canonical_ip

Kind = Literal["slirp4netns", "none", "host", "container", "path"]


class NetworkMode(NamedTuple):
    """How a container is connected.

    kind: slirp4netns: its own namespace and user-mode networking; none: its own with lo alone; host: the host's; container: that of the container
    `target` (as the user named it); path: the namespace at the path `target`. slirp: the options of the first kind.
    """

    kind: Kind
    target: str | None = None
    slirp: SlirpOptions = SlirpOptions()

    @property
    def private(self) -> bool:
        """Whether a network namespace is made for the container."""
        return self.kind in ("slirp4netns", "none")


def parse(text: str | None) -> NetworkMode:
    """The mode that `--network` names; None is the default. Raises UsageError for what does not exist, or not yet."""
    name, separator, rest = (text or "private").partition(":")
    if name == "slirp4netns":
        return NetworkMode("slirp4netns", slirp=parse_slirp_options(rest))
    if name == "container":
        return NetworkMode("container", _required(rest, text, "container:NAME"))
    if name == "ns":
        if not rest.startswith("/") or "\0" in rest:
            raise UsageError(
                f"invalid network {text!r}: the path of the namespace is not absolute", hint="write ns:/path"
            )
        return NetworkMode("path", rest)
    if name == "pasta":
        raise UsageError("the network mode pasta is not supported yet", hint="use slirp4netns, the default")
    if separator:
        raise UsageError(f"invalid network {text!r}: {name!r} takes no options")
    if name in ("private", "default", "bridge"):  # Docker's `bridge` is the name of its default network
        return NetworkMode("slirp4netns")
    if name == "none":
        return NetworkMode("none")
    if name == "host":
        return NetworkMode("host")
    raise UsageError(
        f"there is no network {name!r}: networks with names are not supported yet",
        hint="use slirp4netns (the default), none, host, container:NAME or ns:/path",
    )


def parse_slirp_options(text: str) -> SlirpOptions:
    """The options after `slirp4netns:`, Podman's names: cidr, mtu, allow_host_loopback, enable_ipv6, outbound_addr, outbound_addr6, port_handler."""
    options = SlirpOptions()
    for word in filter(None, text.split(",")):
        name, separator, value = word.partition("=")
        if not separator or not value:
            raise UsageError(f"invalid option {word!r} of slirp4netns: write name=value")
        if name == "cidr":
            options = options._replace(cidr=_cidr(value))
        elif name == "mtu":
            options = options._replace(mtu=_mtu(value))
        elif name == "allow_host_loopback":
            options = options._replace(allow_host_loopback=_boolean(name, value))
        elif name == "enable_ipv6":
            options = options._replace(enable_ipv6=_boolean(name, value))
        elif name == "outbound_addr":
            options = options._replace(outbound_addr=_outbound(value, ":"))
        elif name == "outbound_addr6":
            options = options._replace(outbound_addr6=_outbound(value, "."))
        elif name == "port_handler":
            if value != "slirp4netns":
                raise UsageError(
                    f"the port handler {value!r} is not supported", hint="leave port_handler out, or use slirp4netns"
                )
        else:
            raise UsageError(
                f"slirp4netns has no option {name!r}",
                hint="it has cidr, mtu, allow_host_loopback, enable_ipv6, outbound_addr, outbound_addr6",
            )
    return options


def _cidr(text: str) -> str:
    """The network address in canonical form. slirp4netns takes prefixes of 1 to 25: it needs the addresses up to 100."""
    address, _, prefix = text.partition("/")
    ip = canonical_ip(address)
    if ip is None or ":" in ip or not _is_number(prefix) or not 1 <= int(prefix) <= 25:
        raise UsageError(
            f"invalid cidr {text!r}", hint="write an IPv4 network with a prefix from 1 to 25: cidr=10.0.2.0/24"
        )
    number = int.from_bytes(_socket.inet_aton(ip), "big")
    mask = 0xFFFF_FFFF << (32 - int(prefix)) & 0xFFFF_FFFF
    if number & ~mask:
        network = _socket.inet_ntoa((number & mask).to_bytes(4, "big"))
        raise UsageError(
            f"invalid cidr {text!r}: it is not the address of a network", hint=f"write cidr={network}/{int(prefix)}"
        )
    if number >> 24 in (0, 127) or number >> 24 >= 224:
        raise UsageError(f"invalid cidr {text!r}: these addresses are not for hosts")
    return f"{ip}/{int(prefix)}"


def _mtu(text: str) -> int:
    # 68: RFC 791, the least that IPv4 works with. slirp4netns takes 65521 at most, and aligns to 65520.
    if _is_number(text) and 68 <= int(text) <= 65521:
        return int(text)
    raise UsageError(f"invalid mtu {text!r}: it is a number from 68 to 65521")


def _boolean(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise UsageError(f"invalid value {text!r} of {name}: it is true or false")
    return text == "true"


def _outbound(text: str, foreign: str) -> str:
    """A numeric address, or the name of an interface (IFNAMSIZ leaves 15 bytes). `foreign` marks an address of the other family."""
    ip = canonical_ip(text)
    if ip is not None and foreign not in ip:
        return ip
    if ip is None and len(text.encode()) <= 15 and text.isprintable() and not set(text) & set("/: "):
        return text
    raise UsageError(f"invalid outbound address {text!r}: it is neither an address of this family nor an interface")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5


def _required(value: str, text: str | None, form: str) -> str:
    if not value:
        raise UsageError(f"invalid network {text!r}", hint=f"write {form}")
    return value
