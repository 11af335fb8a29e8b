"""Users of a container, looked up in roots that may be hostile. The files are opened as the product does: beneath the root, by the kernel."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless._lowlevel import open_in_root
from rootless.errors import UsageError
from rootless.runtime import users
from rootless.runtime.users import ContainerUser

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:2:2::/sbin:
www:x:33:33::/srv/www:
again:x:33:34::/again:
1000:x:77:77::/seventy-seven:

broken
negative:x:-1:0::/:
huge:x:4294967295:0::/:
homeless:x:40:40
"""
GROUP = """\
root:x:0:root
bin:x:1:root,daemon
www:x:33:
web:x:80:www,nobody
video:x:44:www
2000:x:55:
worse
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def resolve(root: int, user: str, *groups: str) -> ContainerUser:
    return users.resolve(root, user, open_in_root=open_in_root, groups=groups)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", ContainerUser(0, 0, (1,), "/root", "root")),
        ("root", ContainerUser(0, 0, (1,), "/root", "root")),
        ("0", ContainerUser(0, 0, (1,), "/root", "root")),
        ("www", ContainerUser(33, 33, (80, 44), "/srv/www", "www")),
        ("33", ContainerUser(33, 33, (80, 44), "/srv/www", "www")),
        ("www:web", ContainerUser(33, 80, (), "/srv/www", "www")),
        ("www:0", ContainerUser(33, 0, (), "/srv/www", "www")),
        ("4711", ContainerUser(4711, 0)),
        ("4711:4712", ContainerUser(4711, 4712)),
        ("4711:video", ContainerUser(4711, 44)),
        (":video", ContainerUser(0, 44, (), "/root", "root")),
        ("1000", ContainerUser(77, 77, (), "/seventy-seven", "1000")),
        ("0:2000", ContainerUser(0, 55, (), "/root", "root")),
        ("homeless", ContainerUser(40, 40, (), "/", "homeless")),
    ],
)
def test_docker_s_rules(root: int, user: str, expected: ContainerUser) -> None:
    assert resolve(root, user) == expected


def test_groups_are_added(root: int) -> None:
    assert resolve(root, "www", "video", "9", "bin").groups == (80, 44, 9, 1)
    assert resolve(root, "4711", "web", "keep-groups").groups == (80,)
    assert resolve(root, "www", "33").groups == (80, 44), "the own group is not repeated"


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("-1", "unable to find user -1"),
        ("negative", "unable to find user negative"),
        ("huge", "unable to find user huge"),
        ("4294967295", "unable to find user"),
        ("٣", "unable to find user"),
        ("www:nogroup", "unable to find group nogroup: no matching entries in group file"),
    ],
)
def test_unknown(root: int, user: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(root, user)


def test_a_root_without_files_has_root(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        assert resolve(descriptor, "") == ContainerUser(0, 0)
        assert resolve(descriptor, "5:6", "7") == ContainerUser(5, 6, (7,))
        with pytest.raises(UsageError):
            resolve(descriptor, "root")
    finally:
        os.close(descriptor)


def test_links_end_in_the_root(root: int, tmp_path: Path) -> None:
    passwd = tmp_path / "etc/passwd"
    passwd.unlink()
    passwd.symlink_to("/../../../../../etc/shadow-of-the-image")
    (tmp_path / "etc/shadow-of-the-image").write_text("inside:x:9:9::/in:\n")
    assert resolve(root, "inside").uid == 9
    passwd.unlink()
    passwd.symlink_to("/etc/passwd")  # itself, in the root
    with pytest.raises(UsageError, match=r"cannot read /etc/passwd of the container"):
        resolve(root, "root")


@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "endless", "socket"])
def test_what_is_no_plain_file_is_refused_at_once(root: int, tmp_path: Path, kind: str) -> None:
    passwd = tmp_path / "etc/passwd"
    passwd.unlink()
    match kind:
        case "fifo":
            os.mkfifo(passwd)
        case "device":
            device = os.open("/dev/zero", os.O_PATH)
            with pytest.raises(UsageError, match="not a regular file"):
                users.resolve(root, "root", open_in_root=lambda *_: os.dup(device))
            os.close(device)
            return
        case "directory":
            passwd.mkdir()
        case "endless":
            passwd.touch()
            os.truncate(passwd, 1 << 40)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(passwd))
    with pytest.raises(UsageError, match=r"not a regular file|larger than"):
        resolve(root, "root")


def test_bytes_that_are_no_text_survive(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").write_bytes(b"caf\xe9:x:8:8::/h\xe9:\n" + b"x" * 100_000 + b"\n")
    assert os.fsencode(resolve(root, os.fsdecode(b"caf\xe9")).home) == b"/h\xe9"
