"""The store as an OCI image layout (image-spec 1.1, image-layout.md), readable in place by other tools: `skopeo inspect oci:ROOT:NAME`.

Each name of an image is one entry of index.json, whose annotation `org.opencontainers.image.ref.name` is the canonical name; an image
without a name has one entry without that annotation. Entries, fields and annotations that others made stay as they are. Two annotations
are ours: `REPO_DIGESTS`, the names by digest under which the image was pulled, and `TOP_LAYER`, the chain id of its uppermost layer, from which
the records of the unpacked layers lead down, so that finding a local image hashes nothing.

Readers take no lock; a change holds `index.lock`. Whoever adds an image checks under that lock that its blobs and layers are there, and whoever
removes some holds it while he looks for other users: so neither undoes the other's work.

Hot path: the reading side is a part of `rl run`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from ..errors import Conflict, Error, NotFound, StoreError, reason
from ..oci import image as oci_image
from ..oci import reference as oci_reference
from ..oci.descriptor import MEDIA_TYPE_INDEX, Descriptor, Malformed, parse_digest
from ..oci.image import MAX_CONFIG, MAX_MANIFEST, ImageConfig, Manifest
from ..oci.reference import Reference
from ..paths import Paths
from ..store import lock, record

REF_NAME = "org.opencontainers.image.ref.name"
REPO_DIGESTS = "io.rl.image.repo-digests"
TOP_LAYER = "io.rl.image.top-layer"

LAYER_FORMAT = 1
"""The version of layer.json and of how `diff` is laid out (whiteouts as overlayfs reads them in a user namespace)."""

Mapping = Literal["full", "single"]
"""Which owners an unpacked layer has: those of the image, or, made without subordinate ids, root alone."""

_MIN_PREFIX = 3
_MAX_NESTING = 4
_HEX = frozenset("0123456789abcdef")


class StoredImage(NamedTuple):
    """An image of the store.

    id: the config's digest, as Docker has it. digest: the manifest's. names: canonical, sorted. chain_ids: of all layers, lowest first.
    layer_dirs: what is to be mounted, lowest first: the unpacked layers without those that an opaque one above hides whole.
    unpacked: how its layers were unpacked (`single` if any was), None where one is missing. size: bytes of the unpacked layers, or of their blobs.
    """

    id: str
    digest: str
    names: tuple[str, ...]
    repo_digests: tuple[str, ...]
    manifest: Manifest
    config: ImageConfig
    chain_ids: tuple[str, ...]
    layer_dirs: tuple[str, ...]
    unpacked: Mapping | None
    size: int


class Index:
    """The contents of index.json, as read; where `changing` made it, `write` puts the changes on disk."""

    def __init__(self, path: str, document: dict[str, Any]) -> None:
        self._path = path
        self._document = document
        self._written = repr(document)
        self._entries: list[dict[str, Any]] = document["manifests"]

    def write(self) -> None:
        """Make the changes durable, where there are any. Only for who holds the lock: `changing` does it at its end."""
        if repr(self._document) != self._written:
            # 0644: the layout is for other tools too; who may reach it is decided by the store's own 0700.
            record.write_bytes(self._path, _json(self._document), mode=0o644)
            self._written = repr(self._document)

    def find(self, reference: Reference) -> str | None:
        """The digest of the manifest that a name stands for; one with a digest matches by it, within its repository."""
        if reference.digest is None:
            return self.find_name(str(reference))
        wanted = f"{reference.name}@{reference.digest}"
        for entry in self._entries:
            annotations = _annotations(entry)
            if wanted in annotations.get(REPO_DIGESTS, "").split():
                return str(entry["digest"])
            if entry["digest"] == reference.digest and _repository(annotations.get(REF_NAME, "")) == reference.name:
                return str(entry["digest"])
        return None

    def find_name(self, name: str) -> str | None:
        """The digest of the entry whose name is `name`, to the letter: tools that write into the store may call it anything."""
        return next((str(e["digest"]) for e in self._entries if _annotations(e).get(REF_NAME) == name), None)

    def digests(self) -> list[str]:
        """The digest of each manifest, once, in order."""
        return list(dict.fromkeys(str(entry["digest"]) for entry in self._entries))

    def names(self, digest: str) -> tuple[str, ...]:
        return tuple(sorted(name for entry in self._of(digest) if (name := _annotations(entry).get(REF_NAME))))

    def repo_digests(self, digest: str) -> tuple[str, ...]:
        """The names by digest, under which the image was pulled, and those that its names imply."""
        found = {word for entry in self._of(digest) for word in _annotations(entry).get(REPO_DIGESTS, "").split()}
        repositories = {repository for name in self.names(digest) if (repository := _repository(name))}
        return tuple(sorted(found | {f"{repository}@{digest}" for repository in repositories}))

    def top_layer(self, digest: str) -> str | None:
        top = next((top for entry in self._of(digest) if (top := _annotations(entry).get(TOP_LAYER))), None)
        return parse_digest(top) if top else None

    def media_type(self, digest: str) -> str:
        return str(self._of(digest)[0]["mediaType"])

    def add(
        self,
        manifest: Descriptor,
        *,
        names: Iterable[str] = (),
        repo_digests: Iterable[str] = (),
        top_layer: str | None = None,
    ) -> None:
        """Add an image, or names to it; another image that has one of the names loses it and stays, if only without a name."""
        names = set(names)
        for name in names:
            if self.find_name(name) not in (None, manifest.digest):
                self.untag(name)
        if not self._of(manifest.digest):
            self._entries.append(manifest.to_json())
        known = set(self.repo_digests(manifest.digest)) | set(repo_digests)
        self._rewrite(manifest.digest, {*self.names(manifest.digest), *names}, known, top_layer)

    def tag(self, digest: str, name: str) -> None:
        """Give an image of this index a further name, and take it from another that has it."""
        if self.find_name(name) not in (None, digest):
            self.untag(name)
        self._rewrite(digest, {*self.names(digest), name}, set(self.repo_digests(digest)), None)

    def untag(self, name: str) -> None:
        digest = self.find_name(name)
        if digest is not None:
            # Taken before the name goes, so that the image stays reachable as repository@digest.
            known = set(self.repo_digests(digest))
            self._rewrite(digest, {*self.names(digest)} - {name}, known, None)

    def remove(self, digest: str) -> None:
        self._entries[:] = [entry for entry in self._entries if entry["digest"] != digest]

    def _of(self, digest: str) -> list[dict[str, Any]]:
        return [entry for entry in self._entries if entry["digest"] == digest]

    def _rewrite(self, digest: str, names: set[str], repo_digests: set[str], top_layer: str | None) -> None:
        """One entry for each name, or one without; what others wrote into an entry stays in it."""
        mine = self._of(digest)
        by_name = {_annotations(entry).get(REF_NAME): entry for entry in mine}
        place = self._entries.index(mine[0])
        written: list[dict[str, Any]] = []
        for name in sorted(names) or (None,):
            entry = dict(by_name.get(name, mine[0]))
            annotations = {key: text for key, text in _annotations(entry).items() if key != REF_NAME}
            if name:
                annotations[REF_NAME] = name
            if repo_digests:
                annotations[REPO_DIGESTS] = " ".join(sorted(repo_digests))
            if top_layer:
                annotations[TOP_LAYER] = top_layer
            entry["annotations"] = annotations
            written.append(entry)
        self.remove(digest)
        self._entries[place:place] = written


def read(paths: Paths) -> Index:
    """The index as it is now. StoreError where it is not an image index."""
    document = record.read(paths.image_index)
    if document is None:
        document = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": []}
    entries = document.get("manifests") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise StoreError(f"{paths.image_index} is not an image index")
    for entry in entries:
        try:
            Descriptor.from_json(entry, where="an entry")
        except Malformed as error:
            raise StoreError(
                f"{paths.image_index} is damaged: {error}",
                hint="move it away; rl pull makes it anew, and keeps the layers that are there",
            ) from None
    return Index(paths.image_index, document)


@contextmanager
def changing(paths: Paths) -> Iterator[Index]:
    """Hold the lock of the index; what the caller changes in it is written when he leaves without an error."""
    with lock.locked(paths.image_index_lock):
        index = read(paths)
        yield index
        index.write()


def find(paths: Paths, reference: Reference) -> StoredImage | None:
    """The local image of that name, None where there is none."""
    index = read(paths)
    digest = index.find(reference)
    return None if digest is None else load(paths, index, digest)


def resolve(paths: Paths, text: str) -> StoredImage:
    """The local image that a user names: by name, by `sha256:…` (of config or manifest), by id or the beginning of one.

    NotFound where there is none, Conflict where the beginning of an id fits more than one.
    """
    index = read(paths)
    digest = None
    if not text.startswith("sha256:") and not oci_reference.is_identifier(text):
        digest = index.find(oci_reference.parse(text)) or index.find_name(text)
    if digest is None:
        digest = _by_identifier(paths, index, text)
    if digest is None:
        raise NotFound(f"no image {text!r} in the store", hint="rl images lists them, rl pull fetches one")
    return load(paths, index, digest)


def images(paths: Paths, *, on_damaged: Callable[[str, Error], None]) -> list[StoredImage]:
    """Every image of the store. One that cannot be read is told to `on_damaged` (manifest digest, error) and left out."""
    index = read(paths)
    found = []
    for digest in index.digests():
        try:
            found.append(load(paths, index, digest))
        except Error as error:
            on_damaged(digest, error)
    return found


def load(paths: Paths, index: Index, digest: str) -> StoredImage:
    """The image of one manifest of the index. Its blobs were checked when they were written and are not hashed again."""
    manifest = _manifest(paths, digest, index.media_type(digest))
    config = oci_image.parse_config(read_blob(paths, manifest.config.digest, limit=MAX_CONFIG))
    oci_image.check_layers(manifest, config)
    diff_ids = config["rootfs"]["diff_ids"]
    layers = _unpacked(paths, index.top_layer(digest), diff_ids)
    if layers is None:  # another tool's image, or one whose layers were removed
        chain = oci_image.chain_ids(diff_ids)
        layers = _unpacked(paths, chain[-1] if chain else None, diff_ids)
    else:
        chain = tuple(layer.chain_id for layer in layers)
    unpacked: Mapping | None = None
    hidden = 0
    if layers is not None:
        hidden = max((number for number, layer in enumerate(layers) if layer.opaque), default=0)
        unpacked = "single" if any(layer.mapping == "single" for layer in layers) else "full"
    return StoredImage(
        id=manifest.config.digest,
        digest=digest,
        names=index.names(digest),
        repo_digests=index.repo_digests(digest),
        manifest=manifest,
        config=config,
        chain_ids=chain,
        layer_dirs=tuple(paths.layer_diff(chain_id) for chain_id in chain[hidden:]),
        unpacked=unpacked,
        size=sum(layer.size for layer in (manifest.layers if layers is None else layers)),
    )


class LayerRecord(NamedTuple):
    """layer.json. size: bytes of the tar stream; entries: how many it had; parent: the chain id below, None for the lowest.

    opaque: it hides every layer below, which an overlay cannot see on the root of a layer: whoever mounts it leaves those out.
    """

    chain_id: str
    diff_id: str
    parent: str | None
    size: int
    entries: int
    opaque: bool
    mapping: Mapping
    format: int = LAYER_FORMAT


def layer_record(paths: Paths, chain_id: str) -> LayerRecord | None:
    """The record of an unpacked layer; None where it is not there, or of another format and so to be unpacked again."""
    document = record.read(paths.layer_record(chain_id))
    if not isinstance(document, dict) or document.get("format") != LAYER_FORMAT:
        return None
    try:
        return LayerRecord(**document)
    except TypeError as error:
        raise StoreError(f"{paths.layer_record(chain_id)} is damaged: {error}") from None


def read_blob(paths: Paths, digest: str, *, limit: int) -> bytes:
    """A blob of the store as a whole. StoreError where it is missing or larger than `limit` bytes."""
    path = paths.blob(digest)
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise StoreError(f"cannot read the blob {path}: {reason(error)}", hint="pull the image again") from error
    if len(data) > limit:
        raise StoreError(f"the blob {path} is larger than {limit} bytes")
    return data


def write_blob(paths: Paths, data: bytes) -> str:
    """Store a small blob durably; returns its digest."""
    from hashlib import sha256

    digest = "sha256:" + sha256(data).hexdigest()
    if not os.path.exists(paths.blob(digest)):
        record.write_bytes(paths.blob(digest), data, mode=0o644)
    return digest


def _manifest(paths: Paths, digest: str, media_type: str) -> Manifest:
    """The manifest of an entry; where the entry is an index (`skopeo copy --all` makes one), this host's."""
    for _ in range(_MAX_NESTING):
        found = oci_image.parse_manifest(read_blob(paths, digest, limit=MAX_MANIFEST), media_type)
        if isinstance(found, Manifest):
            return found
        chosen = oci_image.choose(found, None)
        digest, media_type = chosen.digest, chosen.media_type
    raise Malformed(f"the index {digest} is nested more than {_MAX_NESTING} deep")


def _unpacked(paths: Paths, top: str | None, diff_ids: list[str]) -> tuple[LayerRecord, ...] | None:
    """The records of the layers from `top` down, lowest first; None unless they are exactly `diff_ids`."""
    found: list[LayerRecord] = []
    chain_id = top
    for diff_id in reversed(diff_ids):
        layer = layer_record(paths, chain_id) if chain_id else None
        if layer is None or layer.diff_id != diff_id:
            return None
        found.append(layer)
        chain_id = layer.parent
    return tuple(reversed(found)) if chain_id is None or not diff_ids else None


def _by_identifier(paths: Paths, index: Index, text: str) -> str | None:
    """The digest of the manifest whose config or own digest is, or begins with, `text`."""
    prefix = text.removeprefix("sha256:")
    if len(prefix) < _MIN_PREFIX or not _HEX.issuperset(prefix):
        return None
    found: dict[str, str] = {}
    for digest in index.digests():
        if digest.startswith(f"sha256:{prefix}"):
            found[digest] = digest
        try:
            config = _manifest(paths, digest, index.media_type(digest)).config.digest
        except Error:
            continue  # what cannot be read, or is no image for this host, has no id that could be meant
        if config.startswith(f"sha256:{prefix}"):
            found[config] = digest
    if len(found) > 1:
        raise Conflict(f"more than one image has an id that begins with {text!r}", hint="give more of the id")
    return next(iter(found.values()), None)


def _annotations(entry: dict[str, Any]) -> dict[str, str]:
    return entry.get("annotations") or {}


def _repository(name: str) -> str | None:
    """`docker.io/library/alpine` of `docker.io/library/alpine:3.20`; None of a name that is not canonical."""
    try:
        reference = oci_reference.parse(name, default_tag=None)
    except Error:
        return None
    return reference.name if str(reference) == name else None


def _json(document: Any) -> bytes:
    import json

    return json.dumps(document, separators=(",", ":")).encode()


def descriptor_of(image: StoredImage, paths: Paths) -> Descriptor:
    """The descriptor of an image's manifest."""
    return Descriptor(image.manifest.media_type, image.digest, os.stat(paths.blob(image.digest)).st_size)
