"""Headers and error documents of registries."""

from __future__ import annotations

import json

import pytest

from rootless.oci.distribution import (
    ApiError,
    Challenge,
    ContentRange,
    next_link,
    parse_challenges,
    parse_content_range,
    parse_errors,
    parse_retry_after,
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Negotiate", [("negotiate", {})]),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'Basic realm="a, \\"b\\"", Bearer realm=c ,error="invalid_token"',
            [("basic", {"realm": 'a, "b"'}), ("bearer", {"realm": "c", "error": "invalid_token"})],
        ),
        ('BEARER Realm = "x"', [("bearer", {"realm": "x"})]),
        ('realm="x"', []),
        ('Bearer realm="unclosed', [("bearer", {})]),
        ("Bearer realm=x realm=y", [("bearer", {"realm": "x"})]),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == tuple(Challenge(scheme, parameters) for scheme, parameters in expected)


def test_hostile_challenges_end_soon() -> None:
    for header in ("Bearer " + 'a="\\' * 50_000, "a " * 100_000, "a=" * 100_000, "," * 100_000, " " * 100_000):
        parse_challenges(header)


def test_errors() -> None:
    document = {
        "errors": [
            {"code": "manifest_unknown", "message": "manifest\x1b[2J unknown"},
            {"code": "DENIED"},
            1,
            {"message": 2},
        ]
    }
    assert parse_errors(json.dumps(document).encode()) == (
        ApiError("MANIFEST_UNKNOWN", "manifest [2J unknown"),
        ApiError("DENIED", ""),
        ApiError("", ""),
    )
    assert str(ApiError("NAME_UNKNOWN", "")) == "name unknown"
    assert parse_errors(b'{"details": "incorrect username or password"}') == (
        ApiError("", "incorrect username or password"),
    )
    for body in (b"", b"<html>", b"[]", b"{}", b"\xff", b"[" * 50_000, b'{"errors": 1}'):
        assert parse_errors(body) == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 5-9/10", ContentRange(5, 9, 10)),
        ("bytes 0-0/*", ContentRange(0, 0, None)),
        ("bytes 5-4/10", None),
        ("bytes 5-10/10", None),
        ("bytes */10", None),
        ("items 0-1/2", None),
        ("bytes \u0660-\u0661/\u0662", None),
        ("bytes " + "9" * 5000 + "-9/10", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range(value: str | None, expected: ContentRange | None) -> None:
    assert parse_content_range(value) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("9" * 500, 999999999.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=10.0) == seconds


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ('</v2/x/tags/list?n=1&last=a>; rel="next"', "/v2/x/tags/list?n=1&last=a"),
        ("</a>; rel=next", "/a"),
        ('</a>; rel="prev", </b>; title=x; rel="last next"', "/b"),
        ('</a>; rel="prev"', None),
        ("", None),
        (None, None),
    ],
)
def test_next_link(value: str | None, target: str | None) -> None:
    assert next_link(value) == target
