"""One blob on its way into the store: appended to `tmp/partial/<hex>` as it comes, checked by size and digest, then renamed to its place.

The partial file is locked by who writes it, and survives him: the next attempt hashes what is there and goes on at its end.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Protocol

from ..errors import Error, StoreError, reason
from ..oci.descriptor import Descriptor, require_sha256
from ..paths import Paths
from ..store import record

CHUNK = 256 << 10
_POLL = 0.05  # seconds between looks at a lock that another holds: flock(2) cannot be woken by a cancellation


class Source(Protocol):
    """Where blobs come from: a registry, an archive, another layout. Used by several threads at once. remote: reading is downloading."""

    remote: bool

    def read(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        """The bytes of a blob from `offset` on, to its end. ContentMismatch where the source itself knows that it has something else."""

    def abort(self) -> None:
        """End every read, also one that another thread waits in; what it raises then does not matter."""


class ContentMismatch(Error):
    """Content is not what its digest or size says; nothing of it is kept."""


class Cancelled(Exception):
    """The transfer was given up; never seen by users."""


class PartialBlob:
    """The beginning of a blob, ours alone while `claimed` lasts. `length` bytes of it are there."""

    def __init__(self, paths: Paths, descriptor: Descriptor, file: int) -> None:
        self._paths = paths
        self._descriptor = descriptor
        self._file = file
        self._hash = sha256()
        self.length = os.fstat(file).st_size
        if self.length > descriptor.size:
            self.discard()

    def replay(self) -> Iterator[bytes]:
        """What is there, from the start. To be read to its end before the first `append`."""
        at = 0
        while at < self.length:
            chunk = os.pread(self._file, CHUNK, at)
            if not chunk:
                raise StoreError(f"{self._paths.partial_blob(self._descriptor.digest)} was truncated")
            self._hash.update(chunk)
            at += len(chunk)
            yield chunk

    def append(self, chunk: bytes) -> None:
        if self.length + len(chunk) > self._descriptor.size:
            raise ContentMismatch(f"{self._descriptor.digest} has more than the {self._descriptor.size} bytes expected")
        self._hash.update(chunk)
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise StoreError(f"cannot write to {self._paths.partial}: {reason(error)}") from error
        self.length += len(chunk)

    def check(self) -> None:
        """Raise ContentMismatch unless size and digest are as they should be."""
        if self.length != self._descriptor.size:
            raise ContentMismatch(
                f"{self._descriptor.digest} has {self.length} bytes, expected {self._descriptor.size}"
            )
        found = "sha256:" + self._hash.hexdigest()
        if found != self._descriptor.digest:
            raise ContentMismatch(f"wrong digest: expected {self._descriptor.digest}, got {found}")

    def publish(self) -> None:
        """Give a blob that was checked its name in the store, durably."""
        os.fchmod(self._file, 0o644)
        os.fsync(self._file)
        os.rename(self._paths.partial_blob(self._descriptor.digest), self._paths.blob(self._descriptor.digest))
        record.sync_directory(self._paths.blobs)

    def discard(self) -> None:
        """Forget what is there."""
        os.ftruncate(self._file, 0)
        self._hash = sha256()
        self.length = 0


@contextmanager
def claimed(paths: Paths, descriptor: Descriptor, *, cancelled: threading.Event) -> Iterator[PartialBlob | None]:
    """Hold the partial file of a blob, waiting for who else holds it; None where the store has the blob.

    An empty partial file is removed at the end.
    """
    require_sha256(descriptor.digest)
    path = paths.partial_blob(descriptor.digest)
    while not os.path.exists(paths.blob(descriptor.digest)):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if not _locked(file):
                if cancelled.wait(_POLL):
                    raise Cancelled
                continue
            if not _is(file, path):
                continue  # its last holder published or removed it
            os.utime(file)  # a sweep for old ones must not take it from under us
            partial = PartialBlob(paths, descriptor, file)
            try:
                yield partial
            finally:
                if partial.length == 0 and _is(file, path):
                    os.unlink(path)
            return
        finally:
            os.close(file)
    yield None


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
