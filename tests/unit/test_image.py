"""Image manifests, indexes and configs: what is read, what is refused, which platform is chosen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rootless.errors import NotFound
from rootless.oci import descriptor as d
from rootless.oci import image
from rootless.oci.descriptor import Descriptor, Malformed
from rootless.oci.image import Index, Manifest
from rootless.oci.platform import Platform, host_platform, parse_platform


def digest(n: int) -> str:
    return f"sha256:{n:064x}"


CONFIG = {"mediaType": d.MEDIA_TYPE_CONFIG, "digest": digest(1), "size": 100}
LAYER = {"mediaType": d.MEDIA_TYPE_LAYER_GZIP, "digest": digest(2), "size": 1000}
MANIFEST = {"schemaVersion": 2, "mediaType": d.MEDIA_TYPE_MANIFEST, "config": CONFIG, "layers": [LAYER]}
IMAGE_CONFIG = {"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": [digest(3)]}}


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def manifest(document: dict[str, Any], media_type: str | None = None) -> Manifest | Index:
    return image.parse_manifest(body(document), media_type)


def test_manifest() -> None:
    found = manifest(MANIFEST, "application/vnd.oci.image.manifest.v1+json; charset=utf-8")
    assert isinstance(found, Manifest)
    assert (found.config.digest, [layer.digest for layer in found.layers]) == (digest(1), [digest(2)])
    config = image.parse_config(body(IMAGE_CONFIG))
    image.check_layers(found, config)
    assert image.config_platform(config) == Platform("linux", "arm64")
    assert config["config"] == {}


def test_the_kind_is_found_where_nobody_says_it() -> None:
    bare = {key: value for key, value in MANIFEST.items() if key != "mediaType"}
    assert manifest(bare).media_type == d.MEDIA_TYPE_MANIFEST
    assert manifest(bare, "application/json").media_type == d.MEDIA_TYPE_MANIFEST
    assert manifest(bare, d.DOCKER_MANIFEST).media_type == d.DOCKER_MANIFEST
    assert isinstance(manifest({"schemaVersion": 2, "manifests": []}), Index)


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        ({**MANIFEST, "schemaVersion": 1}, None, "schema 1"),
        ({"schemaVersion": 1, "fsLayers": []}, None, "schema 1"),
        (MANIFEST, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ({**MANIFEST, "schemaVersion": 3}, None, "schemaVersion 2"),
        ({**MANIFEST, "mediaType": "text/html"}, None, "unknown manifest media type"),
        ({**MANIFEST, "mediaType": 1}, None, "unknown manifest media type"),
        ({**MANIFEST, "mediaType": [1]}, None, "unknown manifest media type"),
        (MANIFEST, d.MEDIA_TYPE_INDEX, "was sent as"),
        ({**MANIFEST, "manifests": []}, None, "has the manifests of an index"),
        ({"schemaVersion": 2, "manifests": [], "layers": []}, d.MEDIA_TYPE_INDEX, "has the layers of an image"),
        ({**MANIFEST, "layers": {}}, None, "no array of layers"),
        ({**MANIFEST, "layers": [LAYER, {}]}, None, "invalid digest None"),
        ({**MANIFEST, "config": None}, None, "the config of the manifest is not an object"),
        (
            {**MANIFEST, "config": {**CONFIG, "mediaType": d.MEDIA_TYPE_EMPTY}, "artifactType": "a/b"},
            None,
            "artifact of type 'a/b'",
        ),
        ({**MANIFEST, "config": {**CONFIG, "size": 9 << 20}}, None, "at most 8388608"),
    ],
)
def test_wrong_manifests(document: dict[str, Any], media_type: str | None, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        manifest(document, media_type)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"\xff", b"{", b"[" * 100_000, b'{"a":' * 100_000, b" " * (image.MAX_MANIFEST + 1)]
)
def test_hostile_bytes(text: bytes) -> None:
    with pytest.raises(Malformed):
        image.parse_manifest(text)
    with pytest.raises(Malformed):
        image.parse_config(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rootfs": None}, "no rootfs"),
        ({"rootfs": {"type": "other"}}, "no rootfs of type layers"),
        ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, "invalid digest 'x'"),
        ({"rootfs": {"type": "layers", "diff_ids": "x"}}, "not an array"),
        ({"os": ""}, "does not say its os"),
        ({"architecture": 1}, "does not say its architecture"),
        ({"config": []}, "not an object"),
        ({"config": {"Env": "A=b"}}, "Env of the image config: not an array"),
        ({"config": {"Env": ["A\0b"]}}, "null byte"),
        ({"config": {"Cmd": [1]}}, "Cmd of the image config"),
        ({"config": {"User": 0}}, "User of .*: not a string"),
        ({"config": {"WorkingDir": "/a\0"}}, "WorkingDir of .*: not a string"),
        ({"config": {"Volumes": ["/x"]}}, "Volumes of the image config: not an object"),
        ({"config": {"Labels": {"a": 1}}}, "Labels of the image config"),
        ({"history": {}}, "history of the image config"),
    ],
)
def test_wrong_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed, match=message):
        image.parse_config(body({**IMAGE_CONFIG, **change}))


def test_nulls_of_docker() -> None:
    config = image.parse_config(
        body({**IMAGE_CONFIG, "config": {"Env": None, "Cmd": None, "User": None, "Volumes": None}, "x": 1})
    )
    assert config["config"] == {"Env": None, "Cmd": None, "Volumes": None}
    assert "x" in config, "fields that we do not know survive"


def test_layers_must_agree() -> None:
    found = manifest({**MANIFEST, "layers": [LAYER, LAYER]})
    assert isinstance(found, Manifest)
    with pytest.raises(Malformed, match="2 layers and the image config 1"):
        image.check_layers(found, image.parse_config(body(IMAGE_CONFIG)))


def test_compressions() -> None:
    assert image.layer_compression(d.MEDIA_TYPE_LAYER_ZSTD) == "zstd"
    assert image.layer_compression(d.DOCKER_LAYER_GZIP) == "gzip"
    assert image.layer_compression(d.MEDIA_TYPE_LAYER) == "none"
    with pytest.raises(Malformed, match="encrypted"):
        image.layer_compression("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
    with pytest.raises(Malformed, match="unknown layer media type"):
        image.layer_compression("application/vnd.cncf.helm.chart.content.v1.tar+gzip")


def test_chain_ids() -> None:
    """Worked by hand with sha256sum after config.md, "Layer ChainID"."""
    first, second = digest(1), digest(2)
    assert image.chain_ids([]) == ()
    assert image.chain_ids([first, second]) == (
        first,
        "sha256:e0213565073dd272477933ef550455db21856966e444074f1492aef0939305ac",
    )


def index(*platforms: str | None) -> Index:
    entries = []
    for number, text in enumerate(platforms):
        platform = Platform(*text.split("/")) if text else None
        entries.append(Descriptor(d.MEDIA_TYPE_MANIFEST, digest(number), 1, platform))
    return Index(d.MEDIA_TYPE_INDEX, tuple(entries))


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64/v8", ["linux/aarch64"], 0),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1),
        ("linux/arm", ["linux/arm/v6", "linux/arm"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64", ["unknown/unknown", "linux/amd64", "linux/amd64"], 1),
        ("linux/amd64", [None], 0),
    ],
)
def test_choice_of_platform(wanted: str, there: list[str | None], chosen: int) -> None:
    assert image.choose(index(*there), parse_platform(wanted)).digest == digest(chosen)


def test_no_such_platform() -> None:
    for wanted, there in (
        ("linux/amd64", ["linux/amd64/v3"]),
        ("linux/amd64", ["linux/386"]),
        ("linux/arm64", [None, None]),
        ("linux/arm64", []),
    ):
        with pytest.raises(NotFound, match=f"no manifest for {wanted}"):
            image.choose(index(*there), parse_platform(wanted))
    with pytest.raises(NotFound) as caught:
        image.choose(index("linux/arm64", "windows/amd64", "unknown/unknown"), parse_platform("linux/s390x"))
    assert caught.value.context == "it is for: linux/arm64, windows/amd64"


def test_the_host_is_the_default() -> None:
    assert image.choose(index("linux/s390y", str(host_platform())), None).digest == digest(1)
