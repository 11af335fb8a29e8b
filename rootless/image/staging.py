"""Half-made things: directories in the store's `tmp`, each with a `lock` that its maker holds for as long as he lives.

What has an unlocked `lock` was left by a process that was killed, and is swept by the next that transfers an image.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import StoreError, reason
from ..paths import Paths
from ..store import lock

RemoveTree = Callable[[str], None]
"""Removes a tree that may have files of subordinate ids: `_lowlevel.remove_tree` in a user namespace. What is not there is no error."""

_WITHOUT_LOCK = 3600.0  # seconds: a maker takes his lock at once after making the directory
PARTIAL_LIFE = 7 * 86400.0
"""Seconds that the beginning of a blob is kept for a next attempt."""


@contextmanager
def staged(paths: Paths, *, remove_tree: RemoveTree) -> Iterator[str]:
    """A new directory in `tmp`, ours alone; gone at the end, with what was not renamed out of it.

    Yields its path; the caller makes what he wants in it, but for `lock`.
    """
    directory = f"{paths.tmp}/{os.urandom(8).hex()}"
    try:
        os.mkdir(directory, 0o700)
    except OSError as error:
        raise StoreError(f"cannot make {directory}: {reason(error)}") from error
    with lock.locked(f"{directory}/lock"):
        try:
            yield directory
        finally:
            _remove(directory, remove_tree)


def sweep(paths: Paths, *, remove_tree: RemoveTree) -> None:
    """Remove what processes that are no more have left in `tmp`, and partial downloads that nobody came back for."""
    for entry in _entries(paths):
        try:
            _sweep(entry, remove_tree)
        except FileNotFoundError:
            ...  # its maker, or another sweeper, has removed it meanwhile


def _entries(paths: Paths) -> list[os.DirEntry[str]]:
    found = [entry for entry in os.scandir(paths.tmp) if entry.path != paths.partial]
    return found + list(os.scandir(paths.partial))


def _sweep(entry: os.DirEntry[str], remove_tree: RemoveTree) -> None:
    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
    if not entry.is_dir(follow_symlinks=False):
        if age > PARTIAL_LIFE:
            os.unlink(entry.path)
        return
    try:
        # Without O_CREAT: a lock that we made would keep its maker from removing the directory.
        held = os.open(f"{entry.path}/lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if age > _WITHOUT_LOCK:
            _remove(entry.path, remove_tree)
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(entry.path, remove_tree)
    except BlockingIOError:
        ...  # its maker lives
    finally:
        os.close(held)


def _remove(directory: str, remove_tree: RemoveTree) -> None:
    """The contents first and the lock last: what is cut short here is swept again."""
    for name in os.listdir(directory):
        if name != "lock":
            remove_tree(f"{directory}/{name}")
    for act, path in ((os.unlink, f"{directory}/lock"), (os.rmdir, directory)):
        try:
            act(path)
        except FileNotFoundError:
            ...  # another sweeper, who found it before its lock was made
