"""Locks between processes: who holds one is named, and who dies lets go."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rootless.errors import Conflict, StoreError
from rootless.store import lock

HOLD = """
import sys, time
from rootless.store import lock
with lock.locked(sys.argv[1], shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""
REPOSITORY = Path(__file__).resolve().parents[2]


class Holder:
    """Another process that holds the lock until it is killed."""

    def __init__(self, path: str, kind: str = "exclusive") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLD, path, kind], stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        self.pid = self._process.pid

    def __enter__(self) -> Holder:
        assert self._process.stdout and self._process.stdout.readline() == b"held\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_a_holder_keeps_others_out_and_its_crash_lets_them_in(tmp_path: Path) -> None:
    path = f"{tmp_path}/lock"
    with Holder(path) as holder:
        assert lock.try_lock(path) is None
        begun = time.monotonic()
        with (
            pytest.raises(Conflict, match=f"{path} is locked by process {holder.pid}$"),
            lock.locked(path, timeout=0.1),
        ):
            ...
        assert 0.1 <= time.monotonic() - begun < 2
        with pytest.raises(Conflict), lock.locked(path, shared=True, timeout=0):
            ...
    with lock.locked(path, timeout=0) as descriptor:
        assert os.pread(descriptor, 12, 0).split() == [str(os.getpid()).encode()]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_sharers_do_not_keep_each_other_out(tmp_path: Path) -> None:
    path = f"{tmp_path}/lock"
    with Holder(path, "shared"):
        with lock.locked(path, shared=True, timeout=0):
            ...
        with pytest.raises(Conflict), lock.locked(path, timeout=0):
            ...


def test_who_waits_gets_it(tmp_path: Path) -> None:
    path = f"{tmp_path}/lock"
    with Holder(path) as holder:
        killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.2); os.kill({holder.pid}, 9)"])
        with lock.locked(path):
            ...
        with lock.locked(path, timeout=5):
            ...
        killer.wait()


def test_an_error_lets_go(tmp_path: Path) -> None:
    path = f"{tmp_path}/lock"
    with pytest.raises(ZeroDivisionError), lock.locked(path):
        raise ZeroDivisionError
    descriptor = lock.try_lock(path)
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_a_lock_is_not_reached_over_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StoreError, match="cannot open the lock"), lock.locked(f"{tmp_path}/lock"):
        ...
    assert not (tmp_path / "victim").exists()


def test_a_full_disk_does_not_keep_anybody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with lock.locked(f"{tmp_path}/lock"):
        assert lock.try_lock(f"{tmp_path}/lock") is None
