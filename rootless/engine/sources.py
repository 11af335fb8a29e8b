"""What a container's mounts come from on the host: looked for, made where `-v` says so, given to the container's user where `U` does."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import HostError, UsageError, reason
from ..userns import enter
from .request import CreateRequest


def check(request: CreateRequest) -> None:
    """Raise UsageError for a bind mount or a device whose source is not there (or cannot be seen), unless it is made at the start."""
    for mount in request.mounts:
        if mount.kind == "bind" and not mount.make_source:
            _look(mount.source or "", f"the source {mount.source} of the mount at {mount.target}")
    for device in request.devices:
        _look(device.source, f"the device {device.source}")


def make(request: CreateRequest) -> None:
    """Make the missing sources of -v as directories of the caller's."""
    for mount in request.mounts:
        if mount.kind != "bind" or not mount.make_source or os.path.lexists(mount.source or ""):
            continue
        try:
            os.makedirs(mount.source or "", exist_ok=True)
        except OSError as error:
            raise HostError(
                f"cannot make the source {mount.source} of the mount at {mount.target}: {reason(error)}"
            ) from error


def own(trees: Iterable[str], uid: int, gid: int, *, namespace: enter.UserNamespace) -> None:
    """Give directories or files, with all that is in them, to a user of the container. Symlinks are changed, not followed."""

    def change() -> None:
        for tree in trees:
            os.chown(tree, uid, gid)
            for _, directories, files, descriptor in os.fwalk(tree):
                for name in (*directories, *files):
                    os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)

    try:
        enter.inside(namespace, change)
    except OSError as error:
        raise HostError(
            f"cannot give {error.filename} to the user {uid}:{gid} of the container: {reason(error)}",
            hint="leave out U: it needs files that belong to you or to ids of your containers",
        ) from error


def _look(path: str, what: str) -> None:
    try:
        os.stat(path)
    except FileNotFoundError:
        raise UsageError(f"{what} does not exist") from None
    except OSError as error:
        raise UsageError(f"cannot see {what}: {reason(error)}") from error
