"""Volumes: directories that outlive their containers. `<volumes>/<name>/_data` is what is mounted, volume.json says when and how it was made."""

from __future__ import annotations

import errno
import os

from .. import _lowlevel
from ..errors import HostError, UsageError
from ..paths import Paths
from ..store import lock, record
from ..userns.enter import UserNamespace

_DATA = "_data"


def check_name(name: str) -> None:
    """Docker's rule, as for containers: a letter or digit, then letters, digits, `_`, `.` and `-`."""
    if (
        not name
        or len(name) > 128
        or not name[0].isalnum()
        or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    ):
        raise UsageError(
            f"invalid volume name {name!r}", hint="use letters, digits, '_', '.' and '-'; a path must be absolute"
        )


def prepare(paths: Paths, name: str, *, namespace: UserNamespace, root: int, content: str | None) -> str:
    """The path of a volume's data, the volume made where it is new.

    A new volume gets what the image has at `content` (a path in the directory `root`), as Docker does, and with it the owner and mode; None: it stays empty.
    """
    check_name(name)
    directory = paths.volume(name)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with lock.locked(f"{directory}/lock"):
        data = f"{directory}/{_DATA}"
        if record.read(f"{directory}/volume.json") is None:
            if os.path.isdir(data):  # half made by somebody who was killed
                _lowlevel.remove_tree(userns=namespace.fd, path=data)
            os.mkdir(data, 0o755)
            if content is not None:
                _copy(namespace, root, content, data)
            record.write(f"{directory}/volume.json", {"name": name, "driver": "local"})
    return data


def remove(paths: Paths, name: str) -> None:
    """Remove a volume and its data. What is not there is success."""
    from ..userns import enter

    with enter.acquire(paths) as namespace:
        _lowlevel.remove_tree(userns=namespace.fd, path=paths.volume(name))


def _copy(namespace: UserNamespace, root: int, content: str, data: str) -> None:
    """Copy a directory of the mounted root, owners and all, by packing and unpacking it in the user namespace. One that is not there is empty."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        packer = _lowlevel.start_pack_in_root(userns=namespace.fd, root=root, path=content, tar=writer)
        os.close(writer)
        writer = -1
        unpacker = _lowlevel.start_unpack(
            userns=namespace.fd, tar=reader, directory=data, single_id=namespace.single_id, durable=True
        )
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    try:
        packer.wait()
    except HostError as error:
        unpacker.kill()
        if error.number != errno.ENOENT:
            raise
    else:
        unpacker.wait()
