"""Records: whole documents under readers and crashes."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import StoreError
from rootless.store import record


def test_a_document_comes_back(tmp_path: Path) -> None:
    path = f"{tmp_path}/r.json"
    document = {"a": [1, None, "ü\udcff"], "b": {}}
    record.write(path, document)
    assert record.read(path) == document
    assert os.stat(path).st_mode & 0o7777 == 0o600
    record.write(path, [], durable=False)
    assert record.read(path) == []
    assert os.listdir(tmp_path) == ["r.json"], "no temporary file is left"


def test_readers_see_one_document_or_the_other(tmp_path: Path) -> None:
    path = f"{tmp_path}/r.json"
    long, short = {"word": "x" * 200_000}, {"word": "y"}
    record.write(path, short)
    seen, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append(record.read(path))

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(40):
            record.write(path, long, durable=False)
            record.write(path, short, durable=False)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert len(seen) > 10 and all(document in (long, short) for document in seen)


def test_a_durable_write_is_flushed_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flushed(descriptor: int) -> None:
        calls.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).partition(".")[0])
        fsync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    record.write(f"{tmp_path}/r.json", 1)
    assert calls == ["fsync r", "rename", f"fsync {tmp_path.name}"]
    calls.clear()
    record.write(f"{tmp_path}/r.json", 2, durable=False)
    assert calls == ["rename"]


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert record.read(f"{tmp_path}/none") is None
    (tmp_path / "empty").touch()
    assert record.read(f"{tmp_path}/empty") is None, "a write that a power cut took"
    assert record.read(f"{tmp_path}/empty/below") is None


@pytest.mark.parametrize("data", [b"{", b"\0\0\0\0", b"\xff{}", b"{} {}", b"[" * 100_000])
def test_what_is_no_json_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "r").write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"):
        record.read(f"{tmp_path}/r")


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory"):
        record.read(str(tmp_path))


def test_a_write_that_fails_leaves_the_old_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/r.json"
    record.write(path, "old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="no space left"):
        patch.setattr(os, "write", full)
        record.write(path, "new")
    assert record.read(path) == "old" and os.listdir(tmp_path) == ["r.json"]
    with pytest.raises(StoreError, match="no such file"):
        record.write(f"{tmp_path}/none/r", 1)


def test_a_symlink_in_the_way_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / f"r.{os.getpid()}.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(StoreError):
        record.write(f"{tmp_path}/r", 1)
    assert not (tmp_path / "victim").exists()


def test_bytes_and_modes(tmp_path: Path) -> None:
    record.write_bytes(f"{tmp_path}/f", b"\0\xff", mode=0o644)
    assert (tmp_path / "f").read_bytes() == b"\0\xff"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o644
