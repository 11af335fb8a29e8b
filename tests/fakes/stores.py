"""Stores of images for tests in Python: empty ones, a look at what lies in them, and what an unpacked layer must hold."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rootless.image.layout import StoredImage
from rootless.oci.reference import Reference, parse
from rootless.paths import Paths
from tests.conftest import remove, temporary


@contextmanager
def empty_store() -> Iterator[Paths]:
    place = temporary()
    paths = Paths(root=f"{place}/s", runroot=f"{place}/r", cache=f"{place}/c", config=f"{place}/g")
    paths.prepare()
    yield paths
    remove(place)


def reference(host: str, repository: str, tag: str = "1") -> Reference:
    return parse(f"{host}/{repository}:{tag}")


def remains(paths: Paths) -> dict[str, list[str]]:
    """Everything in a store that is no documentation of itself: {} after a transfer that failed for good."""
    found = {
        "tmp": [name for name in os.listdir(paths.tmp) if name != "partial"],
        "partial": os.listdir(paths.partial),
        "layers": os.listdir(paths.layers),
        "blobs": os.listdir(paths.blobs),
    }
    return {kind: names for kind, names in found.items() if names}


@contextmanager
def pipe_of(data: bytes) -> Iterator[IO[bytes]]:
    """The reading end of a pipe that `data` comes through."""
    reader, writer = os.pipe()
    filler = threading.Thread(target=_fill, args=(writer, data))
    filler.start()
    with open(reader, "rb") as stream:
        yield stream
    filler.join()


def _fill(writer: int, data: bytes) -> None:
    try:
        with open(writer, "wb") as file:
            file.write(data)
    except BrokenPipeError:
        ...  # the reader had seen enough


def noise_tar(seed: int, *, files: int = 4, size: int = 200_000) -> bytes:
    """A layer of files that do not compress, some owners and modes, a symbolic and a hard link."""
    draw = random.Random(seed)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        directory = tarfile.TarInfo(f"d{seed}")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(directory)
        for number in range(files):
            member = tarfile.TarInfo(f"d{seed}/f{number}")
            member.size, member.mode, member.uid, member.gid = size, 0o644, number * 10, number
            archive.addfile(member, io.BytesIO(draw.randbytes(size)))
        for kind, name, target in ((tarfile.SYMTYPE, "s", "f0"), (tarfile.LNKTYPE, "h", f"d{seed}/f1")):
            member = tarfile.TarInfo(f"d{seed}/{name}")
            member.type, member.linkname, member.mode = kind, target, 0o777
            archive.addfile(member)
    return buffer.getvalue()


def assert_holds(image: StoredImage, *layers: bytes) -> None:
    """The unpacked layers of an image are exactly these tars: names, kinds, modes, owners (relative to each other), contents."""
    assert len(image.layer_dirs) == len(layers)
    assert image.unpacked == "full"
    for directory, layer in zip(image.layer_dirs, layers, strict=True):
        found = {
            os.path.relpath(os.path.join(place, name), directory)
            for place, directories, files in os.walk(directory)
            for name in directories + files
        }
        expected = set()
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                if name == ".":
                    continue
                expected.add(name)
                path = os.path.join(directory, name)
                status = os.lstat(path)
                if member.issym():
                    assert os.readlink(path) == member.linkname
                elif member.islnk():
                    assert os.path.samefile(path, os.path.join(directory, member.linkname))
                else:
                    assert stat.S_IMODE(status.st_mode) == member.mode, name
                    assert (status.st_uid == os.getuid()) == (member.uid == 0), name
                if member.isreg() and status.st_mode & stat.S_IROTH:
                    content = archive.extractfile(member)
                    assert content is not None
                    with open(path, "rb") as file:
                        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(content.read()).digest()
        assert found == expected
