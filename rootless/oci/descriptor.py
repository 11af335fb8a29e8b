"""Content descriptors, digests and media types: image-spec 1.1, descriptor.md and media-types.md.

Everything here comes from a registry, an archive or a file, and is checked before it is believed. What is wrong raises `Malformed`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import Error
from .platform import Platform

MEDIA_TYPE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_EMPTY = "application/vnd.oci.empty.v1+json"
MEDIA_TYPE_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPE_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_TYPE_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_SCHEMA1 = frozenset(
    (
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    )
)

MANIFESTS = frozenset((MEDIA_TYPE_MANIFEST, DOCKER_MANIFEST))
INDEXES = frozenset((MEDIA_TYPE_INDEX, DOCKER_INDEX))

MAX_BLOB = 1 << 44
"""Bytes: no file system that we run on holds a larger file (ext4: 16 TiB), so a larger size is a lie."""

_ENCODED_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Malformed(Error):
    """A document of a registry, an archive or the store is not what the specification says."""


def parse_digest(text: object) -> str:
    """`text` if it is a digest `sha256:<64 hex>` or `sha512:<128 hex>`, in lower case; else Malformed.

    The result is safe as a part of a path. What we store is named by sha256 (`require_sha256`).
    """
    if isinstance(text, str):
        algorithm, _, encoded = text.partition(":")
        if len(encoded) == _ENCODED_LENGTH.get(algorithm) and _HEX.issuperset(encoded):
            return text
        if algorithm not in _ENCODED_LENGTH and encoded:
            raise Malformed(f"unknown digest algorithm in {text[:160]!r}", hint="sha256 and sha512 are known")
    raise Malformed(f"invalid digest {_shown(text)}", hint="a digest is sha256: and 64 lower-case hexadecimal digits")


def require_sha256(digest: str) -> str:
    """`digest`, which is valid, if it is a sha256; content under another algorithm cannot be stored."""
    if digest.startswith("sha256:"):
        return digest
    raise Malformed(f"cannot store {digest}: only sha256 content is stored")


class Descriptor(NamedTuple):
    """What is to be fetched: type, digest, size in bytes; in an index also for which platform.

    annotations and urls are as found; artifact_type is for telling a person what a thing is that is no image.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    urls: tuple[str, ...] = ()
    artifact_type: str | None = None

    @classmethod
    def from_json(cls, document: object, *, where: str) -> Descriptor:
        """Check and read a descriptor. where: names it in messages (`layer 3 of the manifest`)."""
        if not isinstance(document, dict):
            raise Malformed(f"{where} is not an object")
        try:
            digest = parse_digest(document.get("digest"))
        except Malformed as error:
            raise Malformed(error.message, context=where, hint=error.hint) from None
        media_type = document.get("mediaType")
        size = document.get("size")
        if not isinstance(media_type, str) or not 0 < len(media_type) <= 255:
            raise Malformed(f"{where} has no valid media type")
        if type(size) is not int or not 0 <= size <= MAX_BLOB:  # type(): a JSON true is an int to isinstance
            raise Malformed(f"{where} has the impossible size {_shown(size)}")
        artifact_type = document.get("artifactType")
        return cls(
            media_type=media_type,
            digest=digest,
            size=size,
            platform=_platform(document.get("platform"), where),
            annotations=tuple(string_map(document.get("annotations"), where=f"annotations of {where}").items()),
            urls=string_list(document.get("urls"), where=f"urls of {where}"),
            artifact_type=artifact_type if isinstance(artifact_type, str) else None,
        )

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.urls:
            document["urls"] = list(self.urls)
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        return document


def string_list(value: object, *, where: str) -> tuple[str, ...]:
    """A JSON array of strings, or null or absent, which is empty (Docker writes null for both)."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Malformed(f"{where}: not an array of strings")
    return tuple(value)


def string_map(value: object, *, where: str) -> dict[str, str]:
    """A JSON object of strings, or null or absent, which is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Malformed(f"{where}: not an object of strings")
    return value


def _platform(value: object, where: str) -> Platform | None:
    if value is None:
        return None
    if isinstance(value, dict):
        os, architecture, variant = value.get("os", ""), value.get("architecture", ""), value.get("variant", "")
        if isinstance(os, str) and isinstance(architecture, str) and isinstance(variant, str):
            return Platform(os, architecture, variant)
    raise Malformed(f"{where} has an invalid platform")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "…'"
