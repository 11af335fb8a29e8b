"""What nobody refers to any more: found by looking at everything that could refer, never by counting.

An image's blobs are those that its documents name, read as plain JSON: other tools may keep indexes and artifacts in the layout that are no
images to us, and theirs stay. A layer is used by the images whose config has its diff ids and by the containers that stand on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..errors import Error
from ..oci.descriptor import Malformed, parse_digest
from ..oci.image import MAX_CONFIG, chain_ids
from ..paths import Paths
from ..store import record
from . import layout

_LISTS = ("manifests", "layers", "blobs")
_SINGLE = ("config", "subject")


class User(NamedTuple):
    """A container that stands on an image."""

    container: str
    image_id: str
    layers: tuple[str, ...]


class References(NamedTuple):
    """Digests of blobs, and chain ids of layers."""

    blobs: frozenset[str]
    layers: frozenset[str]


def users(paths: Paths) -> list[User]:
    """Every container of the store, by its name where it has one."""
    found = []
    for container_id in os.listdir(paths.containers):
        document = record.read(paths.container_record(container_id))
        if isinstance(document, dict):
            name = document.get("name") or container_id[:12]
            found.append(User(str(name), str(document.get("image_id")), tuple(document.get("layers") or ())))
    return found


def layers_in_use(paths: Paths) -> frozenset[str]:
    """The chain ids that containers stand on."""
    return frozenset(layer for user in users(paths) for layer in user.layers)


def references(paths: Paths, digests: list[str]) -> References:
    """Everything that the manifests or indexes `digests` lead to, themselves included. What is missing or unreadable leads nowhere."""
    blobs: set[str] = set()
    layers: set[str] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        if digest in blobs:
            continue
        blobs.add(digest)
        document = _document(paths, digest)
        if document is None:
            continue
        waiting += [found for found in _named(document) if found not in blobs]
        rootfs = document.get("rootfs")
        if isinstance(rootfs, dict) and isinstance(rootfs.get("diff_ids"), list):
            layers.update(chain_ids([str(diff_id) for diff_id in rootfs["diff_ids"]]))
    return References(frozenset(blobs), frozenset(layers))


def release(paths: Paths, index: layout.Index, candidates: References, aside: str) -> int:
    """Remove those of `candidates` that neither `index` nor a container refers to; returns the bytes of the blobs.

    To be called with the index locked. Layers are only moved, into the directory `aside`: to remove their files takes long and a user namespace.
    """
    kept = references(paths, index.digests())
    freed = 0
    for digest in candidates.blobs - kept.blobs:
        try:
            freed += os.stat(paths.blob(digest)).st_size
            os.unlink(paths.blob(digest))
        except FileNotFoundError:
            ...  # a manifest may name what was never fetched: another platform's
    for chain_id in candidates.layers - kept.layers - layers_in_use(paths):
        try:
            os.rename(paths.layer(chain_id), f"{aside}/{chain_id.rpartition(':')[2]}")
        except FileNotFoundError:
            ...  # it was never unpacked
    return freed


def everything(paths: Paths) -> References:
    """All blobs and layers of the store."""

    def digests(directory: str) -> frozenset[str]:  # 64: a blob that is being written has a longer name
        return frozenset(f"sha256:{name}" for name in os.listdir(directory) if len(name) == 64)

    return References(digests(paths.blobs), digests(paths.layers))


def _document(paths: Paths, digest: str) -> dict[str, Any] | None:
    """The JSON object that a blob is, or None: layers are blobs too, and are not read beyond their size and first byte."""
    try:
        with open(paths.blob(digest), "rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_CONFIG or file.peek(1)[:1] != b"{":
                return None
        document = json.loads(layout.read_blob(paths, digest, limit=MAX_CONFIG))
    except (OSError, Error, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _named(document: dict[str, Any]) -> Iterator[str]:
    for key in _LISTS:
        entries = document.get(key)
        for entry in entries if isinstance(entries, list) else ():
            yield from _digest(entry)
    for key in _SINGLE:
        yield from _digest(document.get(key))


def _digest(descriptor: object) -> Iterator[str]:
    if isinstance(descriptor, dict):
        try:
            yield parse_digest(descriptor.get("digest"))
        except Malformed:
            ...  # no descriptor: a config's own `config` object, say
