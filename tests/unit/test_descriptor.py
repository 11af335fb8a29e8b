"""Digests, descriptors and platforms from strangers."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import HostError, UsageError
from rootless.oci.descriptor import MAX_BLOB, Descriptor, Malformed, parse_digest, require_sha256
from rootless.oci.platform import Platform, host_acceptable, host_platform, parse_platform

DIGEST = "sha256:" + "ab" * 32
PLAIN: dict[str, Any] = {"mediaType": "application/x", "digest": DIGEST, "size": 7}


@pytest.mark.parametrize("text", [DIGEST, "sha512:" + "0" * 128])
def test_digests(text: str) -> None:
    assert parse_digest(text) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        1,
        "",
        "sha256",
        "sha256:",
        DIGEST[:-1],
        DIGEST + "0",
        DIGEST.upper(),
        "sha256:../" + "a" * 61,
        "md5:" + "0" * 32,
    ]
    + ["sha256:" + "\u0663" * 64, DIGEST + "\n", [DIGEST], "sha256:" + "a" * 100_000],
)
def test_wrong_digests(text: object) -> None:
    with pytest.raises(Malformed) as caught:
        parse_digest(text)
    assert len(caught.value.message) < 250


def test_only_sha256_is_stored() -> None:
    assert require_sha256(DIGEST) == DIGEST
    with pytest.raises(Malformed, match="only sha256"):
        require_sha256("sha512:" + "0" * 128)


def test_descriptor_round_trip() -> None:
    document = {
        **PLAIN,
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
        "annotations": {"a": "b"},
        "urls": ["https://x/y"],
        "artifactType": "text/plain",
    }
    descriptor = Descriptor.from_json(document, where="it")
    assert descriptor.platform == Platform("linux", "arm", "v7")
    assert descriptor.to_json() == document
    assert Descriptor.from_json(PLAIN, where="it").to_json() == PLAIN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": -1}, "the impossible size -1"),
        ({"size": MAX_BLOB + 1}, "the impossible size"),
        ({"size": 1.5}, "the impossible size 1.5"),
        ({"size": True}, "the impossible size True"),
        ({"size": "7"}, "the impossible size '7'"),
        ({"size": 10**4000}, "the impossible size"),
        ({"digest": "sha256:../../x"}, "invalid digest"),
        ({"mediaType": ""}, "no valid media type"),
        ({"mediaType": None}, "no valid media type"),
        ({"annotations": {"a": 1}}, "annotations of it: not an object of strings"),
        ({"urls": [1]}, "urls of it: not an array of strings"),
        ({"platform": "linux"}, "an invalid platform"),
        ({"platform": {"os": 1}}, "an invalid platform"),
    ],
)
def test_wrong_descriptors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed, match=message):
        Descriptor.from_json({**PLAIN, **change}, where="it")


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_a_descriptor_is_an_object(document: object) -> None:
    with pytest.raises(Malformed, match="it is not an object"):
        Descriptor.from_json(document, where="it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("Linux/AMD64/V3", "linux/amd64/v3"),
        ("wasi/wasm", "wasi/wasm"),
        ("linux", str(host_platform())),
    ],
)
def test_platform_words(text: str, expected: str) -> None:
    assert str(parse_platform(text)) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "linux/amd64/", "a/b/c/d", "amd65", "linux/amd 64", "../x"])
def test_wrong_platforms(text: str) -> None:
    with pytest.raises(UsageError):
        parse_platform(text)


def test_what_a_host_runs() -> None:
    assert [str(p) for p in host_acceptable("x86_64")] == ["linux/amd64", "linux/386"]
    assert [str(p) for p in host_acceptable("aarch64")] == ["linux/arm64", *(f"linux/arm/v{n}" for n in (8, 7, 6, 5))]
    assert [str(p) for p in host_acceptable("armv6l")] == ["linux/arm/v6", "linux/arm/v5"]
    assert [str(p) for p in Platform("linux", "amd64", "v3").acceptable()] == [
        "linux/amd64/v3",
        "linux/amd64/v2",
        "linux/amd64",
    ]
    with pytest.raises(HostError, match="unknown machine 'pdp11'"):
        host_platform("pdp11")
