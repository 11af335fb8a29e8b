"""What a container finds in /etc/resolv.conf, /etc/hosts and as its hostname. Pure, but for the readers of the host's files at the end."""

import _socket
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import HostError, UsageError, reason
from .modes import NetworkMode
from .ports import canonical_ip

HOST_GATEWAY = "host-gateway"
HOST_NAMES = ("host.containers.internal", "host.docker.internal")

_LOCALHOST = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


class Resolver(NamedTuple):
    """The lines of a resolv.conf(5) that we know."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> Resolver:
    """The content of a resolv.conf(5): every nameserver, the last search (or domain) line, all options."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.split("\n"):
        words = line.partition("#")[0].partition(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])
        elif words[0] == "options":
            options += words[1:]
    return Resolver(tuple(nameservers), search, tuple(options))


def resolv_conf(
    mode: NetworkMode,
    host: Resolver,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """The container's resolv.conf. `host` is `host_resolver(mode)`; `dns`, `search` and `options` are --dns, --dns-search and --dns-option,
    each of which replaces what would come from the host (`--dns-search .`: no search). Raises UsageError for words that do not fit in the file.

    With slirp4netns its own server comes first, which asks the host's resolver whatever that is (a stub on the loopback, a VPN's); the host's
    servers follow for programs that ask in parallel, where the container can reach them.
    """
    if dns:
        nameservers = tuple(_nameserver(word) for word in dns)
    elif mode.kind == "host":
        nameservers = host.nameservers
    elif mode.kind == "none":
        nameservers = ()
    else:
        ipv6 = mode.kind != "slirp4netns" or mode.slirp.enable_ipv6
        nameservers = tuple(
            ip for ip in host.nameservers if not is_loopback(ip) and "%" not in ip and (ipv6 or ":" not in ip)
        )
        if mode.kind == "slirp4netns":
            nameservers = (mode.slirp.dns, *(ip for ip in nameservers if ip != mode.slirp.dns))
    domains = tuple(_word(word, "search domain") for word in search if word != ".") if search else host.search
    settings = tuple(_word(word, "resolver option") for word in options) if options else host.options
    lines = [f"search {' '.join(domains)}"] if domains else []
    lines += [f"nameserver {ip}" for ip in nameservers]
    lines += [f"options {' '.join(settings)}"] if settings else []
    return "".join(f"{line}\n" for line in lines)


def hosts(
    mode: NetworkMode,
    names: Sequence[str],
    *,
    add_hosts: Sequence[tuple[str, str]] = (),
    host_hosts: str = "",
    host_address: str | None = None,
) -> str:
    """The container's /etc/hosts. names: its own, the hostname first. add_hosts: --add-host, (name, address or `host-gateway`).

    host_hosts: the host's file, on which that of a container with the host's network is based. host_address: `host_address(mode)`;
    where None, host.containers.internal and host.docker.internal are left out and `host-gateway` is a UsageError.
    """
    lines = []
    for name, address in add_hosts:  # first: of several lines for one name the first one counts
        lines.append((_host_ip(name, address, host_address), check_hostname(name)))
    given = {name for name, _ in add_hosts}
    own = " ".join(dict.fromkeys(names))
    if mode.kind == "host":
        base = host_hosts if host_hosts.endswith("\n") or not host_hosts else f"{host_hosts}\n"
    else:
        base = "".join(f"{ip}\t{words}\n" for ip, words in _LOCALHOST)
        lines.append((mode.slirp.address if mode.kind == "slirp4netns" else "127.0.1.1", own))
    if host_address is not None:
        lines += [(host_address, name) for name in HOST_NAMES if name not in given]
    added = "".join(f"{ip}\t{words}\n" for ip, words in lines if words)
    return added + base if mode.kind == "host" else base + added


def host_address(mode: NetworkMode, *, outgoing: str | None) -> str | None:
    """The address at which the container reaches the host, None where it does not.

    slirp4netns: its gateway, which is the host's loopback, where that is allowed; else `outgoing`, an address of the host's own (`outgoing_address`),
    at which it reaches what listens there or on every address, but not what listens on 127.0.0.1 alone. With the host's network: 127.0.0.1.
    """
    if mode.kind == "slirp4netns":
        return mode.slirp.gateway if mode.slirp.allow_host_loopback else outgoing
    return "127.0.0.1" if mode.kind == "host" else None


def hostname(mode: NetworkMode, *, requested: str | None, container_id: str, host_name: str) -> str:
    """--hostname, else the host's with the host's network (as Docker), else the id's first 12 characters."""
    if requested is not None:
        return check_hostname(requested)
    return host_name if mode.kind == "host" else container_id[:12]


def check_hostname(name: str) -> str:
    """The name itself where it can be one: letters, digits, `-`, `_` and `.`, at most 64 (sethostname(2)). Raises UsageError."""
    if (
        not 1 <= len(name) <= 64
        or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name)
        or name[0] in "-."
    ):
        raise UsageError(f"invalid host name {name!r}", hint="use up to 64 letters, digits, '-', '_' and '.'")
    return name


def is_loopback(ip: str) -> bool:
    """Whether the address leads nowhere but to its own network namespace (0.0.0.0 and :: are the own host as well)."""
    return ip.startswith(("127.", "::ffff:127.")) or ip in ("::1", "0.0.0.0", "::")


# ---- readers


def host_resolver(mode: NetworkMode, *, etc: str = "/etc", run: str = "/run") -> Resolver:
    """The host's resolver settings, as far as they serve a container of this mode.

    Where systemd-resolved has put its stub on the loopback, the servers behind it are those of /run/systemd/resolve/resolv.conf: the stub
    serves the host's network namespace only.
    """
    found = parse_resolv_conf(_read(f"{etc}/resolv.conf"))
    if mode.kind != "host" and found.nameservers and all(map(is_loopback, found.nameservers)):
        behind = parse_resolv_conf(_read(f"{run}/systemd/resolve/resolv.conf"))
        return found._replace(nameservers=behind.nameservers)
    return found


def host_hosts(mode: NetworkMode, *, etc: str = "/etc") -> str:
    """The host's hosts file where `hosts` wants it."""
    return _read(f"{etc}/hosts") if mode.kind == "host" else ""


def outgoing_address() -> str | None:
    """The IPv4 address of the host that its default route uses, None without one. Nothing is sent: connect(2) on UDP only chooses."""
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        probe.connect(("192.0.2.1", 9))  # RFC 5737: an address that is nobody's
        address = str(probe.getsockname()[0])
    except OSError:
        return None  # no route: the host is offline
    finally:
        probe.close()
    return None if is_loopback(address) else address


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise HostError(f"cannot read {path}: {reason(error)}") from error


def _nameserver(word: str) -> str:
    ip = canonical_ip(word)
    if ip is None:
        raise UsageError(f"invalid DNS server {word!r}: it is not a numeric IP address")
    return ip


def _word(word: str, what: str) -> str:
    if not word or not word.isprintable() or not word.isascii() or set(word) & set(" #;"):
        raise UsageError(f"invalid {what} {word!r}")
    return word


def _host_ip(name: str, address: str, gateway: str | None) -> str:
    if address != HOST_GATEWAY:
        ip = canonical_ip(address)
        if ip is None:
            raise UsageError(
                f"invalid address {address!r} of the host {name!r}",
                hint=f"write a numeric IP address or {HOST_GATEWAY}",
            )
        return ip
    if gateway is None:
        raise UsageError(
            f"the host {name!r} cannot be {HOST_GATEWAY}: this container has no way to the host",
            hint="use --network slirp4netns:allow_host_loopback=true",
        )
    return gateway
