"""Advisory locks: flock(2) on a file of the object's own, so that a crash frees them.

Order, where more than one is held (take them downwards only):

    1. userns                 `locks/userns`           making or joining the shared user namespace
    2. container              `<container>/lock`       a change of one container
    3. layer                  `locks/layer-<chain id>` unpacking one layer
    4. image index            `index.lock`             a change of index.json
    5. names                  `locks/names`            freeing the name of a container that is gone

Nothing holds a lock while it waits for a registry, a container or a person, except the unpacker, which holds its layer's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Conflict, StoreError, reason


@contextmanager
def locked(path: str, *, shared: bool = False, timeout: float | None = None) -> Iterator[int]:
    """Hold the lock file at `path` (made where missing); yields its descriptor.

    timeout: seconds to wait, None for ever, 0 not at all. Raises Conflict, naming the holder's pid, when the time is over.
    """
    descriptor = _acquire(path, shared=shared, timeout=timeout)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(path: str) -> int | None:
    """The descriptor of the lock at `path` if it is free, else None. Closing the descriptor frees it."""
    try:
        return _acquire(path, shared=False, timeout=0)
    except Conflict:
        return None


def _acquire(path: str, *, shared: bool, timeout: float | None) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open the lock {path}: {reason(error)}") from error
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        if timeout is None:
            _flock(descriptor, operation, path)
        else:
            _flock_until(descriptor, operation, time.monotonic() + timeout, path)
        if not shared:
            _sign(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sign(descriptor: int) -> None:
    """Say who holds the lock, for the message of whom it keeps out."""
    try:
        os.pwrite(descriptor, f"{os.getpid()}\n".encode().ljust(12), 0)
    except OSError:
        ...  # a courtesy: on a full disk `rl rm` must still get its lock


def _flock(descriptor: int, operation: int, path: str) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise StoreError(f"cannot lock {path}: {reason(error)}") from error
    return True


def _flock_until(descriptor: int, operation: int, deadline: float, path: str) -> None:
    pause = 0.001
    while not _flock(descriptor, operation | fcntl.LOCK_NB, path):
        if time.monotonic() >= deadline:
            holder = os.pread(descriptor, 12, 0).split()
            raise Conflict(
                f"{path} is locked" + (f" by process {holder[0].decode('ascii', 'replace')}" if holder else ""),
                hint="wait for the other rl to end",
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
