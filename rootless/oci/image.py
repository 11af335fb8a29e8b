"""Image documents: manifest, index and config of image-spec 1.1, and Docker's schema 2 of the same.

Each parser takes the bytes as they came, checks every field that rl uses, and keeps the document whole (fields that we do not know survive).
Wrong or hostile input raises `Malformed`; what is valid but not for us (schema 1, artifacts, encrypted layers) says so.
"""

import json
from typing import Any, Literal, NamedTuple, TypedDict

from ..errors import NotFound
from . import descriptor as d
from .descriptor import Descriptor, Malformed, parse_digest, string_list, string_map
from .platform import Platform, host_acceptable

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest or index: the limit that registries accept at a push (distribution-spec, "Pushing Manifests")."""
MAX_CONFIG = 8 << 20
"""Bytes of an image config; its history grows by a line for each instruction."""

ACCEPT = (d.MEDIA_TYPE_INDEX, d.MEDIA_TYPE_MANIFEST, d.DOCKER_INDEX, d.DOCKER_MANIFEST)
"""The media types to ask a registry for, best first."""

Compression = Literal["none", "gzip", "zstd"]

_LAYERS: dict[str, Compression] = {
    d.MEDIA_TYPE_LAYER: "none",
    d.MEDIA_TYPE_LAYER_GZIP: "gzip",
    d.MEDIA_TYPE_LAYER_ZSTD: "zstd",
    d.DOCKER_LAYER: "none",
    d.DOCKER_LAYER_GZIP: "gzip",
    d.DOCKER_LAYER_ZSTD: "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "none",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "none",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}


class Healthcheck(TypedDict, total=False):
    """Docker's HEALTHCHECK; durations in nanoseconds."""

    Test: list[str]
    Interval: int
    Timeout: int
    StartPeriod: int
    StartInterval: int
    Retries: int


class ContainerConfig(TypedDict, total=False):
    """The `config` of an image config (config.md): what a container starts with. Docker writes null for what is empty."""

    User: str
    ExposedPorts: dict[str, Any] | None
    Env: list[str] | None
    Entrypoint: list[str] | None
    Cmd: list[str] | None
    Volumes: dict[str, Any] | None
    WorkingDir: str
    Labels: dict[str, str] | None
    StopSignal: str
    Shell: list[str] | None
    Healthcheck: Healthcheck | None


class RootFS(TypedDict):
    """diff_ids: digests of the uncompressed layers, lowest first."""

    type: str
    diff_ids: list[str]


class History(TypedDict, total=False):
    created: str
    author: str
    created_by: str
    comment: str
    empty_layer: bool


class ImageConfig(TypedDict, total=False):
    """application/vnd.oci.image.config.v1+json; `os`, `architecture`, `rootfs` are always there after `parse_config`."""

    created: str
    author: str
    architecture: str
    os: str
    variant: str
    config: ContainerConfig
    rootfs: RootFS
    history: list[History]


class Manifest(NamedTuple):
    """One image: its config and its layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()


class Index(NamedTuple):
    """Manifests of one image for many platforms."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()


def parse_manifest(body: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or an index.

    media_type: what the sender called it (the Content-Type or the descriptor's), None where unknown. It and the `mediaType` in the body must
    not contradict each other: a document that is an image to one reader and an index to another is refused (CVE-2021-41190).
    """
    document = _object(body, what="manifest", limit=MAX_MANIFEST)
    if document.get("schemaVersion") == 1 or media_type in d.DOCKER_SCHEMA1:
        raise Malformed(
            "the image has a manifest of Docker's schema 1, which is obsolete and not supported",
            hint="rebuild the image, or push it again with a Docker of 2017 or later",
        )
    if document.get("schemaVersion") != 2:
        raise Malformed("the manifest does not say schemaVersion 2")
    kind = _media_type(document, media_type)
    annotations = tuple(string_map(document.get("annotations"), where="annotations of the manifest").items())
    if kind in d.INDEXES:
        if "layers" in document or "config" in document:
            raise Malformed("the image index has the layers of an image manifest")
        return Index(kind, _descriptors(document, "manifests", "manifest {} of the index"), annotations)
    if "manifests" in document:
        raise Malformed("the image manifest has the manifests of an index")
    config = Descriptor.from_json(document.get("config"), where="the config of the manifest")
    if config.media_type not in (d.MEDIA_TYPE_CONFIG, d.DOCKER_CONFIG):
        kind_shown = document.get("artifactType") or config.media_type
        raise Malformed(f"not a container image but an artifact of type {str(kind_shown)[:255]!r}")
    if config.size > MAX_CONFIG:
        raise Malformed(f"the image config has {config.size} bytes; at most {MAX_CONFIG} are read")
    return Manifest(kind, config, _descriptors(document, "layers", "layer {} of the manifest"), annotations)


def parse_config(body: bytes) -> ImageConfig:
    """Read an image config; every field that rl uses has the right type after this."""
    document = _object(body, what="image config", limit=MAX_CONFIG)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise Malformed("the image config has no rootfs of type layers")
    for diff_id in string_list(rootfs.setdefault("diff_ids", []), where="diff_ids of the image config"):
        parse_digest(diff_id)
    for key in ("os", "architecture"):
        if not isinstance(document.get(key), str) or not document[key]:
            raise Malformed(f"the image config does not say its {key}")
    for key in ("variant", "created", "author"):
        _optional_string(document, key, "the image config")
    history = document.get("history")
    if history is not None and not (isinstance(history, list) and all(isinstance(entry, dict) for entry in history)):
        raise Malformed("history of the image config: not an array of objects")
    config = document.get("config")
    if config is None:
        config = document["config"] = {}
    if not isinstance(config, dict):
        raise Malformed("config of the image config: not an object")
    _check_container_config(config)
    return document  # type: ignore[return-value]  # checked field by field above


def check_layers(manifest: Manifest, config: ImageConfig) -> None:
    """A manifest and a config that speak of different layers are refused before anything is fetched."""
    layers, diff_ids = len(manifest.layers), len(config["rootfs"]["diff_ids"])
    if layers != diff_ids:
        raise Malformed(f"the manifest has {layers} layers and the image config {diff_ids}")
    for layer in manifest.layers:
        layer_compression(layer.media_type)


def layer_compression(media_type: str) -> Compression:
    """How a layer of this media type is compressed. Malformed for what is no layer that we can read."""
    try:
        return _LAYERS[media_type]
    except KeyError:
        if media_type.endswith("+encrypted"):
            raise Malformed(f"the layer is encrypted ({media_type})") from None
        raise Malformed(f"unknown layer media type {media_type!r}") from None


def chain_ids(diff_ids: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """The chain id of each layer upon those below it (config.md, "Layer ChainID"), lowest first."""
    from hashlib import sha256

    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append("sha256:" + sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest() if chain else diff_id)
    return tuple(chain)


def config_platform(config: ImageConfig) -> Platform:
    """The platform that a config says it is for, normalised."""
    return Platform(config["os"], config["architecture"], config.get("variant") or "").normalized()


def choose(index: Index, platform: Platform | None) -> Descriptor:
    """The manifest of `index` for `platform` (None: for this host), by the rules of `Platform.acceptable`; the first of equals.

    The result may be an index again (they may nest). An entry that says no platform is taken only where it is the only one.
    NotFound lists the platforms that there are.
    """
    entries = [entry for entry in index.manifests if entry.media_type in d.MANIFESTS or entry.media_type in d.INDEXES]
    by_platform: dict[Platform, Descriptor] = {}
    for entry in entries:
        if entry.platform is not None:
            by_platform.setdefault(entry.platform.normalized(), entry)
    for wanted in host_acceptable() if platform is None else platform.acceptable():
        if wanted in by_platform:
            return by_platform[wanted]
    if len(entries) == 1 and entries[0].platform is None:
        return entries[0]
    there = ", ".join(sorted({str(found) for found in by_platform if found.os != "unknown"})) or "none"
    raise NotFound(
        f"the image has no manifest for {platform or host_acceptable()[0]}",
        context=f"it is for: {there[:500]}",
        hint="choose one with --platform" if by_platform else None,
    )


def _object(body: bytes, *, what: str, limit: int) -> dict[str, Any]:
    if len(body) > limit:
        raise Malformed(f"the {what} has {len(body)} bytes; at most {limit} are read")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Malformed(f"the {what} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Malformed(f"the {what} is not a JSON object")
    return document


def _media_type(document: dict[str, Any], said: str | None) -> str:
    """The media type that sender, body and fields agree on."""
    known = d.MANIFESTS | d.INDEXES
    inside = document.get("mediaType")
    said = said.partition(";")[0].strip().lower() if said else None
    if said in ("application/json", "text/plain", "application/octet-stream"):  # servers that do not know
        said = None
    if inside is not None and said is not None and inside != said:
        raise Malformed(f"the manifest calls itself {str(inside)[:255]!r} and was sent as {said[:255]!r}")
    kind = inside or said or (d.MEDIA_TYPE_INDEX if "manifests" in document else d.MEDIA_TYPE_MANIFEST)
    if not isinstance(kind, str) or kind not in known:
        raise Malformed(
            f"unknown manifest media type {str(kind)[:255]!r}", hint="OCI and Docker schema 2 images are known"
        )
    return kind


def _descriptors(document: dict[str, Any], key: str, where: str) -> tuple[Descriptor, ...]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise Malformed(f"the manifest has no array of {key}")
    return tuple(Descriptor.from_json(entry, where=where.format(number)) for number, entry in enumerate(entries, 1))


def _check_container_config(config: dict[str, Any]) -> None:
    for key in ("User", "WorkingDir", "StopSignal"):
        _optional_string(config, key, "the image config's config")
    for key in ("Env", "Entrypoint", "Cmd", "Shell"):
        for item in string_list(config.get(key), where=f"{key} of the image config"):
            if "\0" in item:
                raise Malformed(f"{key} of the image config has a null byte")
    for key in ("ExposedPorts", "Volumes", "Healthcheck"):
        if not isinstance(config.get(key), (dict, type(None))):
            raise Malformed(f"{key} of the image config: not an object")
    string_map(config.get("Labels"), where="Labels of the image config")


def _optional_string(document: dict[str, Any], key: str, where: str) -> None:
    value = document.get(key)
    if value is None:
        document.pop(key, None)
    elif not isinstance(value, str) or "\0" in value:
        raise Malformed(f"{key} of {where}: not a string")
