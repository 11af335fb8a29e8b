"""Images from files and to files: oci-archive (a tar of an image layout), oci directory, docker-archive (`docker save`, read only); and
root file systems that become images (`rl import`).

What a file is, its content says. An archive is somebody else's: only names that we expect are looked at, sizes are bounded before they
are read, every blob is checked by its digest on its way into the store, and no path of it is ever a path of ours.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import stat
import tarfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from io import BytesIO
from typing import IO, Any, Literal, NamedTuple, Protocol

from .. import _lowlevel
from ..errors import Conflict, Error, StoreError, reason
from ..oci import image as oci_image
from ..oci import reference as oci_reference
from ..oci.descriptor import (
    MAX_BLOB,
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    Malformed,
    require_sha256,
)
from ..oci.image import MAX_CONFIG, MAX_MANIFEST, ContainerConfig, ImageConfig, Index, Manifest
from ..oci.platform import Platform, host_platform
from ..oci.reference import Reference
from ..paths import Paths
from . import change, compression, events, staging
from .blob import CHUNK
from .layout import REF_NAME, StoredImage
from .transfer import Incoming, Transfer, read_small

_CONTAINERD_NAME = "io.containerd.image.name"  # where `docker save` and containerd keep the whole name
_MAX_MEMBERS = 1 << 14
_MAX_HEADER = 1 << 20  # bytes of one pax or long-name header
_MAX_NESTING = 4
_GZIP_LEVEL = 6
_TAR_BLOCK = 512


def load(paths: Paths, source: IO[bytes] | str, *, on_event: events.OnEvent = events.ignore) -> list[StoredImage]:
    """Store the images of an archive or layout directory under the names that it gives them; those without stay nameless.

    source: a path, or a stream that need not seek. Of an index for several platforms, this host's is taken.
    """
    with Transfer(paths, on_event=on_event) as transfer, ExitStack() as stack:
        if isinstance(source, str) and os.path.isdir(source):
            files: _Files = _Directory(source)
        else:
            directory = stack.enter_context(staging.staged(paths, remove_tree=transfer.remove_tree))
            files = _Tar(stack.enter_context(_seekable(source, directory)))
        if files.size("oci-layout") is not None and files.size("index.json") is not None:
            found = list(_oci_images(files))
        elif files.size("manifest.json") is not None:
            found = list(_docker_images(files))
        else:
            raise Error(
                "this is neither an OCI image layout nor the output of docker save",
                hint="to make an image of a root file system: rl import",
            )
        if not found:
            raise Error("there is no image in this archive")
        return [transfer.store(each.incoming, each.source, names=each.names) for each in found]


def save(
    paths: Paths,
    images: Sequence[tuple[StoredImage, str | None]],
    target: IO[bytes] | str,
    *,
    format: Literal["oci-archive", "oci-dir"],
) -> None:
    """Write images under the names given with them. The same images give the same bytes.

    target: a path, or for an archive a stream. A directory must be new or empty.
    """
    digests = {
        digest: None
        for image, _ in images
        for digest in (image.digest, image.manifest.config.digest, *(layer.digest for layer in image.manifest.layers))
    }
    documents = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": _json(
            {
                "schemaVersion": 2,
                "mediaType": MEDIA_TYPE_INDEX,
                "manifests": [_saved_entry(paths, image, name) for image, name in images],
            }
        ),
    }
    if format == "oci-dir":
        if not isinstance(target, str):
            raise Error("a directory cannot be written to a stream", hint="name it with --output")
        _save_directory(paths, target, documents, digests)
    elif isinstance(target, str):
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            with open(temporary, "xb") as file:
                _save_tar(paths, file, documents, digests)
            os.rename(temporary, target)
        except OSError as error:
            raise Error(f"cannot write {target}: {reason(error)}") from error
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)
    else:
        _save_tar(paths, target, documents, digests)


def import_image(
    paths: Paths,
    source: IO[bytes] | str,
    reference: Reference | None = None,
    *,
    changes: Sequence[str] = (),
    message: str = "",
    platform: Platform | None = None,
    on_event: events.OnEvent = events.ignore,
) -> StoredImage:
    """Make an image with one layer of a root file system: a directory, or a tar (path or stream; plain, gzip, zstd, xz, bzip2).

    changes: see `change.apply`. The same file, untouched, makes the same image again: the date in the config is the file's (of a stream, now).
    """
    container = ContainerConfig()
    for text in changes:
        change.apply(container, text)
    with Transfer(paths, on_event=on_event) as transfer, ExitStack() as stack:
        directory = stack.enter_context(staging.staged(paths, remove_tree=transfer.remove_tree))
        layer, diff_id = _compress(_tar_of(source, transfer, stack), f"{directory}/blob")
        created = _date(source)
        target = platform or host_platform()
        comment = message or f"imported from {os.path.basename(source) if isinstance(source, str) else 'a stream'}"
        config: ImageConfig = {
            "created": created,
            "architecture": target.architecture,
            "os": target.os,
            "config": container,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": created, "comment": comment}],
        }
        if target.variant:
            config["variant"] = target.variant
        incoming = _composed(config, (layer,))
        return transfer.store(incoming, _File(f"{directory}/blob"), names=(str(reference),) if reference else ())


# ---- reading: the files of an archive


class _Files(Protocol):
    """An archive or a directory as files by name."""

    def size(self, name: str) -> int | None:
        """Bytes of a regular file; None where there is none of that name."""

    def read(self, name: str, offset: int) -> Iterator[bytes]: ...


class _Directory:
    """A layout in a directory. Its blobs may be anything but links: a layout does not need to reach outside of itself."""

    def __init__(self, root: str) -> None:
        self._root = root

    def size(self, name: str) -> int | None:
        try:
            status = os.lstat(f"{self._root}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def read(self, name: str, offset: int) -> Iterator[bytes]:
        opened = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(opened, "rb", buffering=0) as file:
            file.seek(offset)
            yield from compression.read_pieces(file, CHUNK)


class _Tar:
    """A tar that can be sought in: where each regular file lies. Links between members are followed, as old `docker save` made them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file.fileno()
        self._members: dict[str, tuple[int, int]] = {}
        links: dict[str, str] = {}
        try:
            headers: IO[bytes] = _Headers(file)  # type: ignore[assignment]  # read, seek and tell are all it asks for
            with tarfile.open(fileobj=headers, mode="r:") as archive:
                for number, member in enumerate(archive):
                    if number == _MAX_MEMBERS:
                        raise Malformed(f"the archive has more than {_MAX_MEMBERS} members")
                    name = posixpath.normpath(member.name)
                    if member.isreg() and not member.issparse():
                        self._members[name] = (member.offset_data, member.size)
                    elif member.issym():
                        links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                    elif member.islnk():
                        links[name] = posixpath.normpath(member.linkname)
        except (tarfile.TarError, ValueError, RecursionError, OverflowError) as error:
            raise Malformed(f"this is no tar archive, or a damaged one: {error}") from None
        for name, target in links.items():
            if target in self._members:
                self._members.setdefault(name, self._members[target])

    def size(self, name: str) -> int | None:
        return self._members[name][1] if name in self._members else None

    def read(self, name: str, offset: int) -> Iterator[bytes]:
        start, size = self._members[name]
        while offset < size:
            chunk = os.pread(self._file, min(CHUNK, size - offset), start + offset)
            if not chunk:
                raise Malformed(f"the archive is truncated in {name}")
            offset += len(chunk)
            yield chunk


class _Headers:
    """What tarfile sees of a file: it reads headers through this, whole, as long as they claim to be; and data not at all."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell
        self.seek = file.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise Malformed(f"the archive has a header of {size} bytes")
        return self._file.read(size)


class _Blobs:
    """Files as a source of blobs. names: digest -> name of the file, where it is not that of an image layout."""

    remote = False

    def __init__(self, files: _Files, names: dict[str, str] | None = None) -> None:
        self._files = files
        self._names = names or {}
        self._aborted = threading.Event()

    def read(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        name = self._names.get(descriptor.digest) or f"blobs/{descriptor.digest.replace(':', '/')}"
        size = self._files.size(name)
        if size is None:
            raise Malformed(f"the archive lacks the blob {descriptor.digest}")
        if size != descriptor.size:
            raise Malformed(f"{name} in the archive has {size} bytes and should have {descriptor.size}")
        for chunk in self._files.read(name, offset):
            if self._aborted.is_set():
                return
            yield chunk

    def abort(self) -> None:
        self._aborted.set()


class _File(_Blobs):
    """A single file as the source of whatever blob is asked for."""

    def __init__(self, path: str) -> None:
        super().__init__(_Directory(os.path.dirname(path)))
        self._name = os.path.basename(path)

    def read(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:  # the face of a Source
        return self._files.read(self._name, offset)


def _seekable(source: IO[bytes] | str, directory: str) -> IO[bytes]:
    """The archive as a plain tar that can be sought in: itself, or what was written of it to `directory`."""
    try:
        file = open(source, "rb") if isinstance(source, str) else source  # noqa: SIM115  # closed by the caller
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file = _spooled(compression.read_pieces(file), f"{directory}/stream")
        if compression.sniff(file.read(6)) == "none":
            file.seek(0)
            return file
        file.seek(0)
        limit = compression.limit_for(os.fstat(file.fileno()).st_size)
        return _spooled(compression.decompress(compression.read_pieces(file), limit=limit), f"{directory}/archive")
    except OSError as error:
        raise Error(f"cannot read {source if isinstance(source, str) else 'the stream'}: {reason(error)}") from error


def _spooled(chunks: Iterator[bytes], path: str) -> IO[bytes]:
    file = open(path, "x+b")  # noqa: SIM115  # closed by the caller
    for chunk in chunks:
        file.write(chunk)
    file.seek(0)
    return file


# ---- reading: images


class _Found(NamedTuple):
    incoming: Incoming
    names: tuple[str, ...]
    source: _Blobs


def _oci_images(files: _Files) -> Iterator[_Found]:
    """The images of a layout. Entries of one name for several platforms are one image, as buildx and others write them."""
    source = _Blobs(files)
    index = oci_image.parse_manifest(_small(files, "index.json", MAX_MANIFEST), MEDIA_TYPE_INDEX)
    assert isinstance(index, Index)  # by the media type
    tags = _docker_tags(files)
    groups: dict[tuple[str, ...], list[Descriptor]] = {}
    for number, entry in enumerate(index.manifests):
        names = _entry_names(entry)
        alone = not names and entry.platform is None
        groups.setdefault(names or ((f" {number}",) if alone else ()), []).append(entry)
    for names, entries in groups.items():
        chosen = entries[0] if len(entries) == 1 else oci_image.choose(Index(index.media_type, tuple(entries)), None)
        incoming = _follow(source, chosen)
        named = tuple(name for name in names if not name.startswith(" "))
        yield _Found(incoming, named or tags.get(incoming.manifest.config.digest, ()), source)


def _follow(source: _Blobs, descriptor: Descriptor) -> Incoming:
    """The manifest that an entry leads to, with its config."""
    for _ in range(_MAX_NESTING):
        if descriptor.size > MAX_MANIFEST:
            raise Malformed(
                f"the manifest {descriptor.digest} has {descriptor.size} bytes; at most {MAX_MANIFEST} are read"
            )
        body = read_small(source, descriptor)
        found = oci_image.parse_manifest(body, descriptor.media_type)
        if isinstance(found, Manifest):
            config_body = read_small(source, found.config)
            descriptor = Descriptor(found.media_type, require_sha256(descriptor.digest), descriptor.size)
            return Incoming(descriptor, body, found, config_body, oci_image.parse_config(config_body))
        descriptor = oci_image.choose(found, None)
    raise Malformed(f"the index is nested more than {_MAX_NESTING} deep")


def _entry_names(entry: Descriptor) -> tuple[str, ...]:
    """The name of an entry: a whole one. A bare word in `ref.name` is by the specification a tag, of a repository that is not said."""
    annotations = dict(entry.annotations)
    for key in (_CONTAINERD_NAME, REF_NAME):
        text = annotations.get(key, "")
        if "/" in text or ":" in text:
            try:
                reference = oci_reference.parse(text)
            except Error:
                continue
            return () if reference.digest else (str(reference),)
    return ()


def _docker_tags(files: _Files) -> dict[str, tuple[str, ...]]:
    """digest of a config -> names, from the manifest.json that `docker save` writes beside an image layout."""
    if files.size("manifest.json") is None:
        return {}
    return {
        f"sha256:{posixpath.basename(image.config).removesuffix('.json')}": image.names
        for image in _docker_manifest(files)
    }


class _DockerImage(NamedTuple):
    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]


def _docker_manifest(files: _Files) -> list[_DockerImage]:
    try:
        document = json.loads(_small(files, "manifest.json", MAX_MANIFEST))
        return [
            _DockerImage(
                posixpath.normpath(str(image["Config"])),
                tuple(posixpath.normpath(str(layer)) for layer in image["Layers"]),
                tuple(str(oci_reference.parse(str(tag))) for tag in image.get("RepoTags") or ()),
            )
            for image in document
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed(f"manifest.json in the archive is malformed: {error!r}") from None


def _docker_images(files: _Files) -> Iterator[_Found]:
    """The images of a docker-archive. It has no manifest, so one is made: its layers are plain tars, whose digests are their diff ids."""
    for image in _docker_manifest(files):
        config_body = _small(files, image.config, MAX_CONFIG)
        config = oci_image.parse_config(config_body)
        diff_ids = config["rootfs"]["diff_ids"]
        if len(diff_ids) != len(image.layers):
            raise Malformed(f"manifest.json has {len(image.layers)} layers and {image.config} {len(diff_ids)}")
        layers = []
        names: dict[str, str] = {}
        for name, diff_id in zip(image.layers, diff_ids, strict=True):
            layer = _docker_layer(files, name, diff_id)
            names[layer.digest] = name
            layers.append(layer)
        yield _Found(_composed(config, tuple(layers), config_body), image.names, _Blobs(files, names))


def _docker_layer(files: _Files, name: str, diff_id: str) -> Descriptor:
    size = files.size(name)
    if size is None:
        raise Malformed(f"the archive lacks the layer {name}")
    found = compression.sniff(next(files.read(name, 0), b""))
    if found == "none":
        return Descriptor(MEDIA_TYPE_LAYER, diff_id, size)
    digest = sha256()
    for chunk in files.read(name, 0):
        digest.update(chunk)
    return Descriptor(f"{MEDIA_TYPE_LAYER}+{found}", "sha256:" + digest.hexdigest(), size)


def _small(files: _Files, name: str, limit: int) -> bytes:
    size = files.size(name)
    if size is None:
        raise Malformed(f"the archive lacks {name}")
    if size > limit:
        raise Malformed(f"{name} in the archive has {size} bytes; at most {limit} are read")
    return b"".join(files.read(name, 0))


def _composed(config: ImageConfig, layers: tuple[Descriptor, ...], config_body: bytes | None = None) -> Incoming:
    """An OCI manifest for a config and layers."""
    config_body = _json(config) if config_body is None else config_body
    described = Descriptor(MEDIA_TYPE_CONFIG, "sha256:" + sha256(config_body).hexdigest(), len(config_body))
    manifest = Manifest(MEDIA_TYPE_MANIFEST, described, layers)
    body = _json(
        {
            "schemaVersion": 2,
            "mediaType": manifest.media_type,
            "config": described.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    )
    descriptor = Descriptor(manifest.media_type, "sha256:" + sha256(body).hexdigest(), len(body))
    return Incoming(descriptor, body, manifest, config_body, oci_image.parse_config(config_body))


# ---- importing


def _tar_of(source: IO[bytes] | str, transfer: Transfer, stack: ExitStack) -> Iterator[bytes]:
    """The plain tar of a root file system."""
    try:
        if isinstance(source, str) and os.path.isdir(source):
            return _packed(source, transfer)
        file = stack.enter_context(open(source, "rb")) if isinstance(source, str) else source  # noqa: SIM115  # it is
    except OSError as error:
        raise Error(f"cannot read {source}: {reason(error)}") from error
    return compression.decompress(compression.read_pieces(file), limit=MAX_BLOB)


def _packed(directory: str, transfer: Transfer) -> Iterator[bytes]:
    """A directory as a tar, packed by the core in the user namespace, so that owners come out as the image will have them."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with open(reader, "rb", buffering=0) as pipe:
        try:
            worker = _lowlevel.start_pack(
                userns=transfer.namespace().fd, directory=os.path.abspath(directory), tar=writer
            )
        finally:
            os.close(writer)
        yield from compression.read_pieces(pipe)
    worker.wait()


def _compress(tar: Iterator[bytes], path: str) -> tuple[Descriptor, str]:
    """Write a tar to `path` in gzip; returns the layer's descriptor and diff id. Without name and time in it, the same tar gives the same bytes."""
    diff, blob, size, empty = sha256(), sha256(), 0, True
    member = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    with open(path, "xb", buffering=0) as file:
        for piece in tar:
            if empty and len(piece) >= _TAR_BLOCK and piece[257:262] != b"ustar" and any(piece[:_TAR_BLOCK]):
                raise Malformed("this is not a tar archive")
            empty = False
            diff.update(piece)
            compressed = member.compress(piece)
            blob.update(compressed)
            size += file.write(compressed)
        compressed = member.flush()
        blob.update(compressed)
        size += file.write(compressed)
    if empty:
        raise Malformed("there is nothing to import")
    return Descriptor(MEDIA_TYPE_LAYER_GZIP, "sha256:" + blob.hexdigest(), size), "sha256:" + diff.hexdigest()


def _date(source: IO[bytes] | str) -> str:
    seconds = os.stat(source).st_mtime if isinstance(source, str) else time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# ---- writing


def _saved_entry(paths: Paths, image: StoredImage, name: str | None) -> dict[str, Any]:
    size = os.stat(paths.blob(image.digest)).st_size
    entry = Descriptor(image.manifest.media_type, image.digest, size).to_json()
    if name is not None:
        entry["annotations"] = {REF_NAME: name, _CONTAINERD_NAME: name}
    return entry


def _save_tar(paths: Paths, file: IO[bytes], documents: dict[str, bytes], digests: dict[str, None]) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name, data in documents.items():
            archive.addfile(_member(name, len(data)), BytesIO(data))
        for name in ("blobs", "blobs/sha256"):  # implied, but skopeo as a user cannot make what has no entry
            directory = _member(name, 0)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        for digest in digests:
            with _open_blob(paths, digest) as blob:
                size = os.fstat(blob.fileno()).st_size
                archive.addfile(_member(f"blobs/{digest.replace(':', '/')}", size), blob)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _save_directory(paths: Paths, target: str, documents: dict[str, bytes], digests: dict[str, None]) -> None:
    try:
        os.makedirs(target, exist_ok=True)
        if os.listdir(target):
            raise Conflict(f"the directory {target} is not empty")
        os.makedirs(f"{target}/blobs/sha256")
        for digest in digests:
            with _open_blob(paths, digest) as blob, open(f"{target}/blobs/{digest.replace(':', '/')}", "xb") as copy:
                shutil.copyfileobj(blob, copy, CHUNK)
        for name, data in documents.items():
            with open(f"{target}/{name}", "xb") as file:
                file.write(data)
    except OSError as error:
        raise Error(f"cannot write {target}: {reason(error)}") from error


def _open_blob(paths: Paths, digest: str) -> IO[bytes]:
    try:
        return open(paths.blob(digest), "rb")
    except OSError as error:
        raise StoreError(f"cannot read the blob {digest}: {reason(error)}", hint="pull the image again") from error


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
