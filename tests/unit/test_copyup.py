"""Copy-up as an ordinary user, on an ordinary directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.fuse_overlay import copyup


class Directories:
    def __init__(self, place: Path) -> None:
        self.place = place
        for name in ("source", "target", "work"):
            (place / name).mkdir()
        self.source, self.target, work = (
            os.open(place / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("source", "target", "work")
        )
        self.work = copyup.Work(work)


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Directories]:
    opened = Directories(tmp_path)
    yield opened
    assert os.listdir(tmp_path / "work") == []
    for descriptor in (opened.source, opened.target, opened.work.directory):
        os.close(descriptor)


def write_sparse(path: Path) -> bytes:
    with path.open("wb") as file:
        for at in (0, 1 << 20, 5 << 20):
            file.seek(at)
            file.write(os.urandom(5000))
        file.truncate(6 << 20)
    return path.read_bytes()


def test_a_file(directories: Directories, tmp_path: Path) -> None:
    content = write_sparse(tmp_path / "source/file")
    os.chmod(tmp_path / "source/file", 0o2751)
    os.setxattr(tmp_path / "source/file", "user.x", b"\xff\x00")
    os.setxattr(tmp_path / "source/file", "user.overlay.opaque", b"y")
    os.utime(tmp_path / "source/file", ns=(123456789012345678, 987654321012345678))
    copyup.copy_up(directories.work, directories.source, b"file", directories.target)
    status = os.stat(tmp_path / "target/file")
    assert (tmp_path / "target/file").read_bytes() == content
    assert (oct(status.st_mode), status.st_mtime_ns) == ("0o102751", 987654321012345678)
    assert os.listxattr(tmp_path / "target/file") == ["user.x"]
    assert os.getxattr(tmp_path / "target/file", "user.x") == b"\xff\x00"
    assert status.st_blocks * 512 < 1 << 20, "holes stay holes"


@pytest.mark.parametrize("size", [0, 3, 5000, 1 << 20, (1 << 20) + 7])
def test_its_beginning(directories: Directories, tmp_path: Path, size: int) -> None:
    content = write_sparse(tmp_path / "source/file")
    copyup.copy_up(directories.work, directories.source, b"file", directories.target, size=size)
    assert (tmp_path / "target/file").read_bytes() == content[:size]


@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_kernel_cannot_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(refusal, os.strerror(refusal))

    content = write_sparse(tmp_path / "source")
    monkeypatch.setattr(os, "copy_file_range", refuse)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb") as target:
        copyup.copy_data(source.fileno(), target.fileno(), len(content))
    assert (tmp_path / "target").read_bytes() == content


def test_other_kinds(directories: Directories, tmp_path: Path) -> None:
    os.symlink("/etc/passwd", tmp_path / "source/link")
    os.mkfifo(tmp_path / "source/fifo")
    os.chmod(tmp_path / "source/fifo", 0o602)
    (tmp_path / "source/directory").mkdir()
    (tmp_path / "source/directory/entry").write_text("")
    for name in (b"link", b"fifo", b"directory"):
        copyup.copy_up(directories.work, directories.source, name, directories.target)
    assert os.readlink(tmp_path / "target/link") == "/etc/passwd"
    assert oct(os.stat(tmp_path / "target/fifo").st_mode) == "0o10602"
    assert os.listdir(tmp_path / "target/directory") == []


def test_a_symlink_is_never_followed(directories: Directories, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "source/file").write_text("new")
    os.symlink(tmp_path / "outside", tmp_path / "target/file")
    copyup.copy_up(directories.work, directories.source, b"file", directories.target)
    assert (tmp_path / "outside").read_text() == "secret"
    assert not (tmp_path / "target/file").is_symlink()


def test_a_failure_leaves_nothing(directories: Directories, tmp_path: Path) -> None:
    (tmp_path / "source/file").write_text("x")
    (tmp_path / "target/file").mkdir()  # rename(2) cannot replace a directory by a file
    with pytest.raises(IsADirectoryError):
        copyup.copy_up(directories.work, directories.source, b"file", directories.target)


def test_a_new_work_directory_is_swept(tmp_path: Path) -> None:
    (tmp_path / "#0").mkdir()
    (tmp_path / "#0/left").write_text("")
    (tmp_path / "#1").write_text("")
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    copyup.Work(descriptor)
    assert os.listdir(tmp_path) == []
    os.close(descriptor)
