"""The words of `--network`."""

from __future__ import annotations

import pytest

from rootless.errors import UsageError
from rootless.network import modes
from rootless.network.modes import NetworkMode
from rootless.slirp.process import SlirpOptions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, NetworkMode("slirp4netns")),
        ("private", NetworkMode("slirp4netns")),
        ("bridge", NetworkMode("slirp4netns")),
        ("none", NetworkMode("none")),
        ("host", NetworkMode("host")),
        ("container:web", NetworkMode("container", "web")),
        ("ns:/run/netns/x", NetworkMode("path", "/run/netns/x")),
        ("slirp4netns", NetworkMode("slirp4netns")),
        (
            "slirp4netns:cidr=10.1.0.0/16,mtu=1500,allow_host_loopback=true,enable_ipv6=true,outbound_addr=eth0,port_handler=slirp4netns",
            NetworkMode("slirp4netns", slirp=SlirpOptions("10.1.0.0/16", 1500, True, True, "eth0")),
        ),
    ],
)
def test_modes(text: str | None, expected: NetworkMode) -> None:
    assert modes.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "mynet",
        "pasta",
        "container:",
        "ns:",
        "ns:relative",
        "none:x",
        "host:",
        "slirp4netns:x",
        "slirp4netns:x=1",
        "slirp4netns:mtu=0",
    ]
    + [
        "slirp4netns:mtu=99999",
        "slirp4netns:mtu=00000009999999999",
        "slirp4netns:cidr=10.0.2.5/24",
        "slirp4netns:cidr=10.0.2.0/26",
    ]
    + [
        "slirp4netns:cidr=127.0.0.0/8",
        "slirp4netns:cidr=fd00::/64",
        "slirp4netns:enable_ipv6=yes",
        "slirp4netns:port_handler=rootlesskit",
    ]
    + [
        "slirp4netns:outbound_addr=::1",
        "slirp4netns:outbound_addr=a/b",
        "slirp4netns:outbound_addr6=1.2.3.4",
        "slirp4netns:mtu=",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        modes.parse(text)


def test_addresses() -> None:
    options = modes.parse_slirp_options("cidr=192.168.1.128/25")
    assert (options.gateway, options.dns, options.address) == ("192.168.1.130", "192.168.1.131", "192.168.1.228")
