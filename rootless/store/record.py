"""Records: one JSON document, one file, replaced atomically.

Readers take no lock: they see the old document or the new one, never a mixture (rename(2)). A durable write survives a
power cut; a write that need not (a container that is removed at its end) skips the flush, and `read` then reports an
empty file after a crash as absent.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ..errors import StoreError, reason


def read(path: str) -> Any | None:
    """The document at `path`, or None where there is none. A file that is not JSON raises StoreError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {reason(error)}") from error
    if not data:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged: {error}", hint="rl rm --force removes a container whose files are damaged"
        ) from error


def write(path: str, document: Any, *, durable: bool = True) -> None:
    """Replace the document at `path`. With `durable`, both the data and the name are on disk when this returns."""
    write_bytes(path, json.dumps(document, separators=(",", ":")).encode(), durable=durable)


def write_bytes(path: str, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Replace the file at `path` as a whole: temporary file, flush, rename, flush of the directory."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        if durable:
            sync_directory(os.path.dirname(path))
    except OSError as error:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            ...  # it was never made
        raise StoreError(f"cannot write {path}: {reason(error)}") from error


def sync_directory(path: str) -> None:
    """Make the names in a directory durable (fsync(2): needed after a rename)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
