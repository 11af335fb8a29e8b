"""`-p` and `--expose`: every form of docker-run(1), and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import UsageError
from rootless.network.ports import PublishedPort, parse, parse_expose


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("80", [PublishedPort(None, None, 80)]),
        (":80", [PublishedPort(None, None, 80)]),
        ("0:80", [PublishedPort(None, None, 80)]),
        ("8080:80", [PublishedPort(None, 8080, 80)]),
        ("8080:80/UDP", [PublishedPort(None, 8080, 80, "udp")]),
        ("127.0.0.1:8080:80", [PublishedPort("127.0.0.1", 8080, 80)]),
        ("127.0.0.1::80", [PublishedPort("127.0.0.1", None, 80)]),
        ("[::1]:8080:80", [PublishedPort("::1", 8080, 80)]),
        ("[0:0::1]:8080:80", [PublishedPort("::1", 8080, 80)]),
        ("::1:8080:80", [PublishedPort("::1", 8080, 80)]),
        ("80-81", [PublishedPort(None, None, 80), PublishedPort(None, None, 81)]),
        ("8000-8001:80-81/udp", [PublishedPort(None, 8000, 80, "udp"), PublishedPort(None, 8001, 81, "udp")]),
        ("8000-8010:80", [PublishedPort(None, 8000, 80, "tcp", 8010)]),
    ],
)
def test_forms(spec: str, expected: list[PublishedPort]) -> None:
    assert list(parse(spec)) == expected


@pytest.mark.parametrize(
    "spec",
    [
        "",
        ":",
        "/",
        "80/",
        "80:",
        "x",
        "0",
        "65536",
        "-1",
        "+80",
        " 80",
        "8_0",
        "²",
        "٨٠",
        "80-",
        "9-8",
        "1:2:3:4",
        "8080:80-82",
        "80-81:80-82",
    ]
    + [
        "127.0.0.1:80",
        "1.2.3:80:80",
        "example.org:80:80",
        "[::1:80:80",
        "[127.0.0.1]:80:80",
        "80/sctp",
        "80/tcp/udp",
        "127.0.0.1\0:80:80",
    ],
)
def test_malformed(spec: str) -> None:
    with pytest.raises(UsageError):
        parse(spec)


@given(st.text(alphabet="0123456789.:-[]/tcpudx\0 ", max_size=24))
def test_anything_parses_or_is_a_usage_error(spec: str) -> None:
    try:
        ports = parse(spec)
    except UsageError:
        return
    assert all(
        1 <= port.container_port <= 65535 and (port.host_port is None or 1 <= port.host_port <= 65535) for port in ports
    )


def test_expose() -> None:
    assert parse_expose("80") == ((80, "tcp"),)
    assert parse_expose("53-54/udp") == ((53, "udp"), (54, "udp"))
    with pytest.raises(UsageError):
        parse_expose("8080:80")


def test_text() -> None:
    assert str(PublishedPort("::1", 8080, 80)) == "[::1]:8080->80/tcp"
    assert str(PublishedPort(None, 8000, 80, "udp", 8010)) == "0.0.0.0:8000-8010->80/udp"
