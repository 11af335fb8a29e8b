"""What a root file system must do, whichever driver mounts it. Run in a user and mount namespace, once per driver:

    unshare --user --map-root-user --map-auto --mount python -m tests.kernel.overlay_suite DRIVER [CASE …]

Every function `case_…` gets a freshly mounted overlay over the same two layers. After it, the file system is unmounted and mounted again: what it
showed must have become the truth of the upper layer. One line of JSON per case goes to standard output.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rootless import fuse_overlay
from rootless.fuse_overlay import Driver, Overlay
from rootless.oci.platform import host_platform
from tests.fakes.sample_images import root_tars

USER = 1000
MODIFIED = 1577836800_123456789  # the mtime of the layers' files, in nanoseconds

DIFFERENCES: dict[tuple[str, str], str] = {
    (
        "overlay",
        "link_of_layer_file_has_one_inode_number",
    ): "the old name shows the layer's number until it is looked up again",
    ("overlay", "spelled_whiteouts"): "the kernel knows its own whiteouts only; our unpacker makes no others",
    # fuse-overlayfs 1.10, Debian 12's
    ("fuse-overlayfs", "capabilities_survive_copy_up"): "copy-up loses set-user-id",
    ("fuse-overlayfs", "copy_up_by_chmod"): "EIO for a FIFO of a layer",
    ("fuse-overlayfs", "deep_paths"): "it works with whole paths: ENAMETOOLONG beyond PATH_MAX",
    ("fuse-overlayfs", "devices_and_sockets"): "mknod of a device 0/0 gives ENOENT",
    ("fuse-overlayfs", "groups"): "the group of a set-group-ID directory is not inherited",
    ("fuse-overlayfs", "odd_names"): "names longer than 251 bytes are refused, for the sake of .wh.",
    ("fuse-overlayfs", "rename_directory_over_empty_lower"): "the old name of a moved directory stays visible",
    ("fuse-overlayfs", "rename_exchange"): "EXDEV between a directory and a file of a layer",
    ("fuse-overlayfs", "setuid_and_capabilities"): "a write by another user leaves set-user-id",
    ("fuse-overlayfs", "sparse_and_large"): "copy-up fills holes",
    ("fuse-overlayfs", "statfs"): "tells the longest name it takes, 251",
    ("fuse-overlayfs", "unlinked_while_open"): "fstat(2) of an unlinked file shows one link",
}
"""(driver, case) that may fail, and what was seen. Newer versions may have mended it."""

_libc = ctypes.CDLL(None, use_errno=True)


class Mounted:
    """An overlay of two layers. Paths are relative to its target."""

    def __init__(self, place: Path, driver: Driver, layers: int = 2) -> None:
        self.place = place
        self.driver = driver
        self.lower = [place / f"layer{number}" for number in range(layers)]  # bottom first
        for directory in (*self.lower, place / "upper", place / "work", place / "root"):
            directory.mkdir(parents=True)
        self.root = place / "root"

    def __call__(self, path: str) -> Path:
        return self.root / path

    def upper(self, path: str) -> Path:
        return self.place / "upper" / path

    def overlay(self, driver: Driver | None = None, *, read_only: bool = False) -> Overlay:
        lower = tuple(str(layer) for layer in reversed(self.lower))
        upper, work = ("", "") if read_only else (str(self.place / "upper"), str(self.place / "work"))
        return Overlay(driver or self.driver, lower, upper, work, str(self.root), read_only)

    def mount(self, driver: Driver | None = None, *, read_only: bool = False) -> None:
        mount(self.overlay(driver, read_only=read_only))

    def unmount(self) -> None:
        if _libc.umount2(os.fsencode(self.root), 0) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"umount: {os.strerror(number)}; {holders(self.root)}")

    def remount(self) -> None:
        self.unmount()
        self.mount()


def mount(overlay: Overlay) -> None:
    """As the monitor does it."""
    argv = fuse_overlay.helper_argv(overlay)
    if argv is None:
        data = fuse_overlay.mount_options(overlay).encode()
        if _libc.mount(b"overlay", os.fsencode(overlay.target), b"overlay", int(overlay.read_only), data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"mount overlay: {os.strerror(number)}")
        return
    if overlay.driver != "fuse-overlayfs":
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=30)
        return
    server = subprocess.Popen(argv, stdin=subprocess.DEVNULL)  # stays; the kernel's table says when it serves
    deadline = time.monotonic() + 30
    while overlay.target not in Path("/proc/self/mounts").read_text().split():
        if server.poll() is not None or time.monotonic() > deadline:
            raise OSError(errno.EIO, f"fuse-overlayfs did not mount {overlay.target}: {server.returncode}")
        time.sleep(0.001)


def holders(path: Path) -> str:
    return subprocess.run(["fuser", "-vm", str(path)], capture_output=True, text=True, check=False).stderr


# ---- the layers


def build_layers(o: Mounted) -> None:
    """Layers as the unpacker leaves them: whiteouts are devices 0/0, opaque directories carry user.overlay.opaque."""
    base, top = o.lower
    for directory in ("etc", "dir/sub", "opaque/old", "home/user", "empty", "emptied", "var/lib/deep/er", "tmp"):
        (base / directory).mkdir(parents=True)
    for name, content in {
        "etc/passwd": "root:x:0:0\n",
        "etc/conf": "base\n",
        "dir/a": "a from base\n",
        "dir/b": "b from base\n",
        "dir/sub/deep": "deep\n",
        "gone": "hidden by the layer above\n",
        "opaque/old/file": "old\n",
        "opaque/file": "old\n",
        "home/user/file": "mine\n",
        "hard1": "linked\n",
        "emptied/file": "x\n",
        "var/lib/deep/er/file": "far down\n",
    }.items():
        (base / name).write_text(content)
    os.link(base / "hard1", base / "hard2")
    os.symlink("dir/a", base / "link")
    os.mkfifo(base / "fifo", 0o640)
    (base / "bin").mkdir()
    shutil.copy("/bin/true", base / "bin/tool")
    (base / "bin/tool").chmod(0o4755)
    os.setxattr(base / "etc/conf", "user.note", b"\xff\x00\xfe")
    os.setxattr(base / "dir", "user.dir", b"yes")
    (base / "dir").chmod(0o751)
    (base / "etc/conf").chmod(0o640)
    (base / "tmp").chmod(0o1777)
    for path in ("home/user", "home/user/file"):
        os.chown(base / path, USER, USER)
    (top / "dir").mkdir()
    (top / "dir").chmod(0o751)
    os.setxattr(top / "dir", "user.dir", b"yes")
    (top / "dir/b").write_text("b from top\n")
    (top / "dir/c").write_text("c from top\n")
    (top / "etc").mkdir()
    (top / "etc/top").write_text("top\n")
    os.mknod(top / "gone", stat.S_IFCHR, 0)
    (top / "emptied").mkdir()
    os.mknod(top / "emptied/file", stat.S_IFCHR, 0)
    (top / "opaque").mkdir()
    os.setxattr(top / "opaque", "user.overlay.opaque", b"y")
    (top / "opaque/new").write_text("new\n")
    os.symlink("/", base / "escape1")
    (top / "escape1").mkdir()
    (top / "escape1/file").write_text("x")
    (base / "escape2").mkdir()
    (base / "escape2/file").write_text("x")
    os.symlink("/", top / "escape2")
    for layer in o.lower:
        layer.chmod(0o755)
        for directory, directories, files in os.walk(layer, topdown=False):
            for name in (*directories, *files):
                os.utime(f"{directory}/{name}", ns=(MODIFIED, MODIFIED), follow_symlinks=False)


def snapshot(root: Path) -> dict[str, list[Any]]:
    """All that a tree shows, except for times, link counts and inode numbers."""
    shown = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files, *(["."] if directory == str(root) else [])):
            path = f"{directory}/{name}"
            status = os.lstat(path)
            content = ""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha1").hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            names = sorted(os.listxattr(path, follow_symlinks=False))
            xattrs = {key: os.getxattr(path, key, follow_symlinks=False).hex() for key in names}
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            facts = [oct(status.st_mode), status.st_uid, status.st_gid, size, status.st_rdev, content, xattrs]
            shown[os.path.relpath(path, root)] = facts
    return shown


def times(root: Path) -> dict[str, int]:
    return {
        os.path.relpath(path, root): os.lstat(path).st_mtime_ns
        for directory, directories, files in os.walk(root)
        for path in (f"{directory}/{name}" for name in (*directories, *files))
    }


# ---- small tools


@contextmanager
def fails(*numbers: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        assert error.errno in numbers, f"{error}, not {[errno.errorcode[number] for number in numbers]}"
    else:
        raise AssertionError(f"succeeded; {[errno.errorcode[number] for number in numbers]} was due")


def as_user(act: Callable[[], object], uid: int = USER, groups: tuple[int, ...] = ()) -> None:
    """Do something as an ordinary user of the namespace."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            os.setgroups(groups)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            act()
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
            status = 1
        os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said


def renameat2(source: Path, target: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run(*argv: str | Path) -> str:
    result = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv}: {result.stderr}"
    return result.stdout


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


# ---- what the layers show


def case_layers_merge(o: Mounted) -> None:
    assert names(o("dir")) == ["a", "b", "c", "sub"]
    assert o("dir/b").read_text() == "b from top\n"
    assert o("dir/a").read_text() == "a from base\n"
    assert names(o("etc")) == ["conf", "passwd", "top"]
    assert os.lstat(o("etc/conf")).st_mtime_ns == MODIFIED
    assert o("link").read_text() == "a from base\n"


def case_whiteout_of_a_layer(o: Mounted) -> None:
    assert "gone" not in names(o(""))
    with fails(errno.ENOENT):
        os.lstat(o("gone"))
    assert names(o("emptied")) == []
    o("gone").write_text("back\n")
    o.remount()
    assert o("gone").read_text() == "back\n"


def case_opaque_directory_of_a_layer(o: Mounted) -> None:
    assert names(o("opaque")) == ["new"]
    o("opaque/file").write_text("fresh\n")
    o.remount()
    assert names(o("opaque")) == ["file", "new"]
    assert os.listxattr(o("opaque")) == []


def case_symlink_and_directory_do_not_merge(o: Mounted) -> None:
    assert names(o("escape1")) == ["file"]
    assert os.readlink(o("escape2")) == "/"
    o("escape2").unlink()
    o("escape2").mkdir()
    assert names(o("escape2")) == []


def case_spelled_whiteouts(o: Mounted) -> None:
    """As the OCI specification spells them, which layers that others unpacked may hold."""
    o.unmount()
    top = o.lower[1]
    for name in (".wh.hard1", "dir/.wh.a", "dir/.wh..wh..opq"):
        (top / name).write_text("")
    o.mount()
    try:
        assert names(o("dir")) == ["b", "c"]
        assert "hard1" not in names(o(""))
        assert not {".wh.hard1", ".wh..wh..opq"} & {*names(o("")), *names(o("dir"))}
        o("hard1").write_text("again")
        assert o("hard1").read_text() == "again"
        with fails(errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENAMETOOLONG):
            o(".wh.file").write_text("")
    finally:
        o.unmount()
        for name in (".wh.hard1", "dir/.wh.a", "dir/.wh..wh..opq"):
            (top / name).unlink()
        shutil.rmtree(o.upper(""))
        o.upper("").mkdir()
        o.mount()


def case_read_only(o: Mounted) -> None:
    o.unmount()
    o.mount(read_only=True)
    assert names(o("dir")) == ["a", "b", "c", "sub"]
    for act in (lambda: o("x").write_text(""), lambda: o("dir/a").unlink(), lambda: o("dir/a").chmod(0o600)):
        with fails(errno.EROFS):
            act()
    assert names(o.upper("")) == []


# ---- removing and making again


def case_unlink_and_make_again(o: Mounted) -> None:
    o("etc/passwd").unlink()
    with fails(errno.ENOENT):
        o("etc/passwd").read_text()
    assert "passwd" not in names(o("etc"))
    o.remount()
    assert "passwd" not in names(o("etc"))
    o("etc/passwd").write_text("new\n")
    o.remount()
    assert o("etc/passwd").read_text() == "new\n"
    o("etc/passwd").unlink()
    assert not o("etc/passwd").exists()


def case_unlink_in_upper_leaves_nothing(o: Mounted) -> None:
    o("fresh").write_text("x")
    o("fresh").unlink()
    assert names(o.upper("")) == []


def case_directory_made_again_is_empty(o: Mounted) -> None:
    shutil.rmtree(o("dir"))
    assert not o("dir").exists()
    o("dir").mkdir()
    assert names(o("dir")) == []
    o("dir/a").write_text("mine\n")
    o.remount()
    assert names(o("dir")) == ["a"]
    shutil.rmtree(o("dir"))
    o.remount()
    assert not o("dir").exists()


def case_file_where_a_directory_was(o: Mounted) -> None:
    shutil.rmtree(o("dir"))
    o("dir").write_text("a file now\n")
    o.remount()
    assert o("dir").read_text() == "a file now\n"
    o("dir").unlink()
    os.symlink("etc", o("dir"))
    assert names(o("dir")) == ["conf", "passwd", "top"]


def case_directory_where_a_file_was(o: Mounted) -> None:
    o("etc/passwd").unlink()
    o("etc/passwd").mkdir()
    o("etc/passwd/x").write_text("x")
    o.remount()
    assert names(o("etc/passwd")) == ["x"]


def case_rmdir(o: Mounted) -> None:
    with fails(errno.ENOTEMPTY):
        o("dir").rmdir()
    o("empty").rmdir()
    o("emptied").rmdir()  # shows nothing, though a layer holds something
    o("new").mkdir()
    o("new").rmdir()
    with fails(errno.ENOTDIR):
        os.rmdir(o("etc/conf"))
    with fails(errno.EISDIR, errno.EPERM):
        os.unlink(o("dir"))
    o.remount()
    assert not {"empty", "emptied", "new"} & set(names(o("")))


def case_exclusive_creation(o: Mounted) -> None:
    with fails(errno.EEXIST):
        os.open(o("etc/conf"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    for act in (os.mkdir, os.mkfifo, lambda path: os.symlink("x", path)):
        with fails(errno.EEXIST):
            act(o("dir/a"))
    os.close(os.open(o("gone"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))


# ---- copy-up


def check_copied(o: Mounted, path: str) -> None:
    assert o.upper(path).exists(), f"{path} is not in the upper layer"


def case_copy_up_by_append(o: Mounted) -> None:
    with o("etc/conf").open("a") as file:
        file.write("more\n")
    assert o("etc/conf").read_text() == "base\nmore\n"
    assert (o.lower[0] / "etc/conf").read_text() == "base\n"
    status = os.stat(o("etc/conf"))
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert os.getxattr(o("etc/conf"), "user.note") == b"\xff\x00\xfe"


def case_copy_up_by_write(o: Mounted) -> None:
    with o("var/lib/deep/er/file").open("r+") as file:
        file.seek(4)
        file.write("DOWN")
    assert o("var/lib/deep/er/file").read_text() == "far DOWN\n"
    assert os.stat(o("var/lib/deep")).st_mtime_ns == MODIFIED, "copy-up is no change of a directory"


def case_copy_up_by_chmod(o: Mounted) -> None:
    for path in ("dir/a", "dir", "fifo"):
        o(path).chmod(0o604)
        check_copied(o, path)
        assert stat.S_IMODE(os.stat(o(path)).st_mode) == 0o604
    assert o("dir/a").read_text() == "a from base\n"
    assert os.stat(o("dir/a")).st_mtime_ns == MODIFIED
    assert names(o("dir")) == ["a", "b", "c", "sub"]
    assert os.getxattr(o("dir"), "user.dir") == b"yes"


def case_copy_up_by_chown(o: Mounted) -> None:
    os.chown(o("dir/sub"), 5, 6)
    os.chown(o("bin/tool"), 7, -1)
    os.chown(o("link"), 8, 9, follow_symlinks=False)
    o.remount()
    assert (os.stat(o("dir/sub")).st_uid, os.stat(o("dir/sub")).st_gid) == (5, 6)
    tool = os.stat(o("bin/tool"))
    assert (tool.st_uid, tool.st_gid, stat.S_IMODE(tool.st_mode)) == (7, 0, 0o755)
    assert os.lstat(o("link")).st_uid == 8
    assert os.readlink(o("link")) == "dir/a"


def case_copy_up_by_utimens(o: Mounted) -> None:
    for path in ("dir/a", "link", "dir/sub"):
        os.utime(o(path), ns=(MODIFIED + 5, MODIFIED + 7), follow_symlinks=False)
    o.remount()
    for path in ("dir/a", "link", "dir/sub"):
        assert os.lstat(o(path)).st_mtime_ns == MODIFIED + 7, path


def case_times(o: Mounted) -> None:
    accessed = os.stat(o("dir/a")).st_atime_ns
    run("touch", "-m", "-d", "2041-05-05 00:00:00.25 UTC", o("dir/a"))
    before = os.stat(o("dir/a"))
    assert (before.st_atime_ns, before.st_mtime_ns) == (accessed, 2251324800_250000000)
    run("touch", "-a", "-d", "1960-01-01 00:00:00 UTC", o("dir/a"))
    after = os.stat(o("dir/a"))
    assert (after.st_atime, after.st_mtime_ns) == (-315619200, before.st_mtime_ns)
    start = time.time()
    os.utime(o("dir/b"))
    assert start - 1 < os.stat(o("dir/b")).st_mtime < time.time() + 1
    old = os.stat(o("dir/sub")).st_mtime_ns
    o("dir/sub/new").write_text("")
    assert os.stat(o("dir/sub")).st_mtime_ns > old


def case_copy_up_by_xattr(o: Mounted) -> None:
    os.setxattr(o("dir/a"), "user.x", bytes(range(256)))
    os.setxattr(o("dir"), "user.y", b"")
    os.removexattr(o("etc/conf"), "user.note")
    o.remount()
    assert os.getxattr(o("dir/a"), "user.x") == bytes(range(256))
    assert sorted(os.listxattr(o("dir"))) == ["user.dir", "user.y"]
    assert os.listxattr(o("etc/conf")) == []


def case_copy_up_by_truncate(o: Mounted) -> None:
    os.truncate(o("etc/conf"), 2)
    os.truncate(o("dir/a"), 4096)
    with o("dir/b").open("w"):
        ...
    assert o("etc/conf").read_text() == "ba"
    assert o("dir/a").read_text() == "a from base\n".ljust(4096, "\0")
    assert o("dir/b").read_text() == ""
    assert os.stat(o("etc/conf")).st_mode == stat.S_IFREG | 0o640


def case_copy_up_keeps_the_inode_number(o: Mounted) -> None:
    before = {path: os.lstat(o(path)).st_ino for path in ("dir/a", "dir", "bin/tool")}
    with o("dir/a").open("a") as file:
        file.write("x")
        assert os.fstat(file.fileno()).st_ino == before["dir/a"]
    o("dir").chmod(0o700)
    assert {path: os.lstat(o(path)).st_ino for path in before} == before
    shown = {entry.name: entry.inode() for entry in os.scandir(o("dir"))}
    assert shown["a"] == before["dir/a"]


def case_open_for_reading_sees_later_writes(o: Mounted) -> None:
    with o("dir/a").open("rb", buffering=0) as reader:
        with o("dir/a").open("r+") as writer:
            writer.write("A")
        assert reader.read() == b"A from base\n"


def case_setuid_and_capabilities(o: Mounted) -> None:
    capability = bytes.fromhex("0100000280000000000000000000000000000000")  # cap_setuid=ep: a byte that is not UTF-8
    assert stat.S_IMODE(os.stat(o("bin/tool")).st_mode) == 0o4755
    o("bin/plain").write_bytes(o("bin/tool").read_bytes())
    os.setxattr(o("bin/plain"), "security.capability", capability)
    os.setxattr(o("bin/plain"), "user.a", b"1")
    o.remount()
    assert os.getxattr(o("bin/plain"), "security.capability") == capability
    os.utime(o("bin/plain"))
    o("bin/plain").chmod(0o700)
    assert os.getxattr(o("bin/plain"), "security.capability") == capability, "metadata alone keep it"
    with o("bin/plain").open("ab") as file:
        file.write(b"x")
    with fails(errno.ENODATA):
        os.getxattr(o("bin/plain"), "security.capability")
    os.chmod(o("bin/tool"), 0o6777)
    as_user(lambda: o("bin/tool").write_bytes(b"#!/bin/sh\n"))
    assert stat.S_IMODE(os.stat(o("bin/tool")).st_mode) == 0o777, "a write by somebody else ends set-user-id"


def case_capabilities_survive_copy_up(o: Mounted) -> None:
    capability = bytes.fromhex("0100000280000000000000000000000000000000")
    o.unmount()
    os.setxattr(o.lower[0] / "bin/tool", "security.capability", capability)
    o.mount()
    os.utime(o("bin/tool"))
    assert os.getxattr(o("bin/tool"), "security.capability") == capability
    assert oct(os.stat(o("bin/tool")).st_mode) == "0o104755"


# ---- renaming


def case_rename_file(o: Mounted) -> None:
    o("dir/a").rename(o("etc/a"))
    o("dir/sub/deep").rename(o("dir/sub/deeper"))
    assert names(o("dir")) == ["b", "c", "sub"]
    assert o("etc/a").read_text() == "a from base\n"
    o.remount()
    assert names(o("dir")) == ["b", "c", "sub"]
    assert names(o("dir/sub")) == ["deeper"]
    assert os.stat(o("etc/a")).st_mtime_ns == MODIFIED


def case_rename_over(o: Mounted) -> None:
    o("new").write_text("new\n")
    o("new").rename(o("etc/passwd"))
    o("dir/b").rename(o("etc/conf"))
    o("dir/a").rename(o("gone"))
    o.remount()
    assert o("etc/passwd").read_text() == "new\n"
    assert o("etc/conf").read_text() == "b from top\n"
    assert o("gone").read_text() == "a from base\n"
    assert names(o("dir")) == ["c", "sub"]
    with fails(errno.EISDIR):
        os.rename(o("gone"), o("etc"))


def case_rename_new_directory(o: Mounted) -> None:
    o("one/two").mkdir(parents=True)
    o("one/two/file").write_text("x")
    o("one").rename(o("uno"))
    o("uno/two").rename(o("empty/two"))
    o("empty/two/file").rename(o("empty/two/file2"))
    assert (names(o("uno")), names(o("empty/two"))) == ([], ["file2"])
    with fails(errno.EINVAL):
        os.rename(o("empty"), o("empty/two/in itself"))
    o("uno").rename(o("gone"))
    o.remount()
    assert names(o("gone")) == []


def case_rename_directory_over_empty_lower(o: Mounted) -> None:
    o("fresh").mkdir()
    o("fresh/x").write_text("x")
    o("emptied/temporary").write_text("")
    o("emptied/temporary").unlink()
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(o("fresh"), o("dir"))
    o("fresh").rename(o("emptied"))
    o("other").mkdir()
    o("other").rename(o("empty"))
    o.remount()
    assert names(o("emptied")) == ["x"]
    shutil.rmtree(o("opaque"))
    o("emptied").rename(o("opaque"))
    o.remount()
    assert names(o("opaque")) == ["x"]
    assert not o("emptied").exists()


def case_move_layer_directory(o: Mounted) -> None:
    """rename(2) of a directory that layers have a part in may be EXDEV; mv(1) then copies."""
    try:
        os.rename(o("dir"), o("moved"))
    except OSError as error:
        assert error.errno == errno.EXDEV
        run("mv", o("dir"), o("moved"))
    run("mv", o("opaque"), o("moved/opaque"))
    o.remount()
    assert not o("dir").exists()
    assert names(o("moved")) == ["a", "b", "c", "opaque", "sub"]
    assert o("moved/sub/deep").read_text() == "deep\n"
    assert os.stat(o("moved/a")).st_mtime_ns == MODIFIED


def case_rename_noreplace(o: Mounted) -> None:
    with fails(errno.EEXIST):
        renameat2(o("dir/a"), o("dir/b"), 1)
    renameat2(o("dir/a"), o("gone"), 1)
    assert o("gone").read_text() == "a from base\n"


def case_rename_exchange(o: Mounted) -> None:
    o("new").mkdir()
    o("new/x").write_text("x")
    renameat2(o("dir/a"), o("etc/conf"), 2)
    renameat2(o("new"), o("etc/top"), 2)
    o.remount()
    assert (o("dir/a").read_text(), o("etc/conf").read_text()) == ("base\n", "a from base\n")
    assert (o("new").read_text(), names(o("etc/top"))) == ("top\n", ["x"])


# ---- links


def case_hard_links(o: Mounted) -> None:
    o("one").write_text("1")
    os.link(o("one"), o("two"))
    os.link(o("two"), o("gone"))
    with o("two").open("a") as file:
        file.write("2")
    assert o("one").read_text() == "12"
    statuses = [os.stat(o(name)) for name in ("one", "two", "gone")]
    assert [status.st_nlink for status in statuses] == [3, 3, 3]
    assert len({status.st_ino for status in statuses}) == 1
    o("one").unlink()
    o("two").rename(o("three"))
    assert os.stat(o("three")).st_nlink == 2
    o.remount()
    with o("three").open("a") as file:
        file.write("3")
    assert o("gone").read_text() == "123"
    renamed = os.stat(o("three"))
    os.rename(o("three"), o("gone"))  # two links of one file: nothing happens
    assert renamed.st_ino == os.stat(o("gone")).st_ino
    with fails(errno.EEXIST):
        os.link(o("three"), o("etc/conf"))
    with fails(errno.EPERM):
        os.link(o("dir"), o("dirlink"))


def case_link_of_layer_file(o: Mounted) -> None:
    os.link(o("dir/a"), o("etc/a"))
    with o("etc/a").open("a") as file:
        file.write("+")
    assert o("dir/a").read_text() == "a from base\n+"
    os.link(o("link"), o("link2"), follow_symlinks=False)
    assert os.readlink(o("link2")) == "dir/a"


def case_link_of_layer_file_has_one_inode_number(o: Mounted) -> None:
    os.link(o("dir/a"), o("etc/a"))
    assert os.stat(o("dir/a")).st_ino == os.stat(o("etc/a")).st_ino


def case_hard_links_of_a_layer(o: Mounted) -> None:
    assert o("hard1").read_text() == o("hard2").read_text() == "linked\n"
    with o("hard1").open("a") as file:
        file.write("+")
    assert o("hard1").read_text() == "linked\n+"
    assert o("hard2").read_text() in ("linked\n", "linked\n+")
    different = o("hard1").read_text() != o("hard2").read_text()
    same_number = os.stat(o("hard1")).st_ino == os.stat(o("hard2")).st_ino
    assert not (different and same_number), "tar and cp -a would take two files for one"
    o("hard2").unlink()
    assert o("hard1").read_text() == "linked\n+"


def case_symlinks(o: Mounted) -> None:
    for content in ("x", "../../../../etc/passwd", "/etc/passwd", "y" * 4000, "new\nline"):
        os.symlink(content, o("symlink"))
        assert os.readlink(o("symlink")) == content
        o("symlink").unlink()
    os.symlink("dir", o("to-dir"))
    o("to-dir/new").write_text("x")
    assert o.upper("dir/new").exists()
    os.symlink("/etc", o("escape"))
    with fails(errno.EEXIST):
        o("escape").mkdir()


def case_devices_and_sockets(o: Mounted) -> None:
    os.mkfifo(o("pipe"), 0o622)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(o("socket")))
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(o("socket")))
    reader = os.open(o("fifo"), os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(o("fifo"), os.O_WRONLY)
    os.write(writer, b"through")
    assert os.read(reader, 10) == b"through"
    os.close(reader)
    os.close(writer)
    for device in (0, os.makedev(1, 3)):  # the first would be a whiteout, the second is for the real root
        with fails(errno.EPERM):
            os.mknod(o("device"), stat.S_IFCHR | 0o666, device)
    o("fifo").chmod(0o600)
    o.remount()
    assert stat.S_ISFIFO(os.stat(o("fifo")).st_mode)
    assert stat.S_ISSOCK(os.stat(o("socket")).st_mode)
    assert stat.S_IMODE(os.stat(o("pipe")).st_mode) == 0o622 & ~0o022


# ---- extended attributes


def case_xattrs(o: Mounted) -> None:
    path = o("etc/passwd")
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    with fails(errno.EEXIST):
        os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    with fails(errno.ENODATA):
        os.setxattr(path, "user.b", b"2", os.XATTR_REPLACE)
    with fails(errno.ENODATA):
        os.getxattr(path, "user.b")
    with fails(errno.ENODATA):
        os.removexattr(path, "user.b")
    os.setxattr(path, "user.big", b"z" * 2000)
    assert os.getxattr(path, "user.big") == b"z" * 2000
    assert sorted(os.listxattr(path)) == ["user.a", "user.big"]


def case_own_xattrs_stay_hidden(o: Mounted) -> None:
    shutil.rmtree(o("dir"))
    o("dir").mkdir()
    assert os.listxattr(o("dir")) == []
    assert [name for name in os.listxattr(o("opaque")) if "opaque" in name] == []


# ---- files


def case_sparse_and_large(o: Mounted) -> None:
    o.unmount()
    size = 64 << 20
    with (o.lower[0] / "sparse").open("wb") as file:
        file.truncate(size)
        file.seek(20 << 20)
        file.write(b"middle")
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    o.mount()
    with o("sparse").open("r+b") as file:
        file.seek(40 << 20)
        file.write(b"written")
        file.seek(20 << 20)
        assert file.read(7) == b"middle\0"
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"
    assert os.stat(o("sparse")).st_size == size
    assert os.stat(o.upper("sparse")).st_blocks * 512 < 8 << 20, "holes stay holes"


def case_random_writes(o: Mounted) -> None:
    import random

    chance = random.Random(7)
    model = bytearray(os.urandom(1 << 16))
    o("file").write_bytes(model)
    with o("file").open("r+b", buffering=0) as file:
        for _ in range(400):
            start, length = chance.randrange(1 << 20), chance.randrange(1, 1 << 15)
            data = chance.randbytes(length)
            model.extend(bytes(max(0, start + length - len(model))))
            model[start : start + length] = data
            file.seek(start)
            assert file.write(data) == length
            at = chance.randrange(len(model))
            file.seek(at)
            assert file.read(5000) == model[at : at + 5000]
    assert o("file").read_bytes() == model
    o.remount()
    assert o("file").read_bytes() == model


def case_allocate(o: Mounted) -> None:
    with o("dir/a").open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 16)
        assert os.fstat(file.fileno()).st_size == 1 << 16
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    directory = os.open(o("dir"), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    os.sync()


def case_unlinked_while_open(o: Mounted) -> None:
    o("d").mkdir()
    with o("d/file").open("w+b", buffering=0) as file, o("etc/passwd").open("rb", buffering=0) as lower:
        file.write(b"one")
        o("d/file").unlink()
        o("etc/passwd").unlink()
        assert os.listdir(o("d")) == []
        o("d").rmdir()
        file.write(b"two")
        file.seek(0)
        assert file.read() == b"onetwo"
        os.ftruncate(file.fileno(), 4)
        os.fchmod(file.fileno(), 0o600)
        status = os.fstat(file.fileno())
        assert (status.st_nlink, status.st_size, stat.S_IMODE(status.st_mode)) == (0, 4, 0o600), status
        assert lower.read() == b"root:x:0:0\n"
        assert os.fstat(lower.fileno()).st_size == 11
    with o("replaced").open("w+") as file:
        file.write("old")
        file.flush()
        o("other").write_text("new")
        o("other").rename(o("replaced"))
        file.seek(0)
        assert file.read() == "old"
        assert o("replaced").read_text() == "new"


def case_removed_directory_while_open(o: Mounted) -> None:
    directory = os.open(o("emptied"), os.O_RDONLY)
    o("emptied").rmdir()
    assert os.listdir(directory) == []
    with fails(errno.ENOENT):
        os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
    os.close(directory)


def case_mmap(o: Mounted) -> None:
    with o("etc/conf").open("r+b") as file:
        file.truncate(8192)
        with mmap.mmap(file.fileno(), 8192) as area:
            area[4096:4101] = b"mmap!"
            area.flush()
            assert o("etc/conf").read_bytes()[4096:4101] == b"mmap!"
            area[0:4] = b"BASE"
    assert o("etc/conf").read_bytes()[:5] == b"BASE\n"
    o.remount()
    assert o("etc/conf").read_bytes()[4096:4101] == b"mmap!"


def case_unnamed_file(o: Mounted) -> None:
    """O_TMPFILE may be refused; a program then makes a file with a name."""
    try:
        file = os.open(o("dir/sub"), os.O_TMPFILE | os.O_RDWR, 0o640)
    except OSError as error:
        assert error.errno in (errno.EOPNOTSUPP, errno.EISDIR), error
        return
    os.write(file, b"unnamed")
    directory = os.open(o("dir/sub"), os.O_RDONLY)
    os.link(f"/proc/self/fd/{file}", "named", dst_dir_fd=directory)  # by linkat(2), which follows
    os.close(directory)
    os.close(file)
    o.remount()
    assert o("dir/sub/named").read_text() == "unnamed"
    o("dir/sub/named").unlink()


def case_many_entries(o: Mounted) -> None:
    o("many").mkdir()
    for number in range(3000):
        os.close(os.open(o(f"many/{number}"), os.O_CREAT | os.O_WRONLY))
    assert names(o("many")) == sorted(map(str, range(3000)))
    seen = []
    with os.scandir(o("many")) as entries:  # removing what was read, as rm -r does
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert sorted(seen) == sorted(map(str, range(3000)))
    assert names(o("many")) == []


def case_reading_while_changing(o: Mounted) -> None:
    descriptor = os.open(o("dir"), os.O_RDONLY)
    assert sorted(os.listdir(descriptor)) == ["a", "b", "c", "sub"]
    o("dir/d").write_text("d")
    o("dir/a").unlink()
    assert sorted(os.listdir(descriptor)) == ["b", "c", "d", "sub"], "rewinddir(3) reads again"
    os.close(descriptor)


def case_deep_paths(o: Mounted) -> None:
    here = os.open(o("empty"), os.O_RDONLY)
    for _ in range(300):
        os.mkdir("a-rather-long-name", dir_fd=here)
        below = os.open("a-rather-long-name", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    assert os.listdir(here) == ["file"]
    os.close(here)
    run("rm", "-rf", o("empty"))


def case_odd_names(o: Mounted) -> None:
    odd = [
        b"new\nline",
        b"co:lon",
        b"com,ma",
        b"back\\slash",
        b" ",
        b"\xff\xfe",
        b"#0",
        "\u00fc".encode(),
        b"n" * 255,
        b"...",
        b"-rf",
    ]
    root = os.fsencode(o("empty"))
    for name in odd:
        with open(root + b"/" + name, "wb") as file:
            file.write(name)
    o.remount()
    assert sorted(os.listdir(root)) == sorted(odd)
    for name in odd:
        with open(root + b"/" + name, "rb") as file:
            assert file.read() == name
        os.unlink(root + b"/" + name)
    with fails(errno.ENAMETOOLONG):
        os.stat(root + b"/" + b"n" * 256)


def case_statfs(o: Mounted) -> None:
    found, upper = os.statvfs(o("")), os.statvfs(o.upper(""))
    assert (found.f_blocks, found.f_bsize, found.f_namemax) == (upper.f_blocks, upper.f_bsize, 255), found
    assert found.f_bavail > 0


# ---- owners and permissions


def case_other_users(o: Mounted) -> None:
    def act() -> None:
        for path in ("etc/x", "dir/x", "x"):
            with fails(errno.EACCES):
                o(path).write_text("")
        with fails(errno.EACCES):
            o("etc/conf").read_text()
        with fails(errno.EPERM):
            o("dir/a").chmod(0o777)
        with fails(errno.EACCES):
            o("etc/passwd").unlink()
        o("home/user/new").write_text("x")
        o("home/user/d").mkdir()
        o("home/user/file").write_text("changed")
        os.symlink("x", o("home/user/l"))
        os.mkfifo(o("home/user/p"))
        o("home/user/file").rename(o("home/user/d/file"))
        o("tmp/mine").write_text("x")

    as_user(act)
    for path in ("new", "d", "d/file", "l", "p"):
        status = os.lstat(o("home/user") / path)
        assert (status.st_uid, status.st_gid) == (USER, USER), path
    assert stat.S_IMODE(os.stat(o("home/user/new")).st_mode) == 0o644

    def other() -> None:
        with fails(errno.EPERM, errno.EACCES):
            o("tmp/mine").unlink()  # sticky
        with fails(errno.EACCES):
            o("tmp/mine").write_text("")

    as_user(other, uid=USER + 1)


def case_groups(o: Mounted) -> None:
    o("shared").mkdir()
    os.chown(o("shared"), 0, 2000)
    o("shared").chmod(0o2775)
    os.chown(o("etc/conf"), 0, 2000)

    def act() -> None:
        assert o("etc/conf").read_text() == "base\n"
        os.umask(0o027)
        o("shared/file").write_text("x")
        o("shared/d").mkdir(0o777)

    as_user(act, groups=(2000,))
    file, directory = os.stat(o("shared/file")), os.stat(o("shared/d"))
    assert (file.st_uid, file.st_gid, oct(file.st_mode)) == (USER, 2000, "0o100640"), file
    assert (directory.st_gid, stat.S_IMODE(directory.st_mode)) == (2000, 0o2750)


def case_execute(o: Mounted) -> None:
    assert subprocess.run([o("bin/tool")], check=False).returncode == 0
    shutil.copy("/usr/bin/id", o("bin/id"))
    o("bin/id").chmod(0o4755)
    said = Path(o.place / "said")

    def act() -> None:
        result = subprocess.run([str(o("bin/id")), "-u"], capture_output=True, text=True, check=True)
        assert result.stdout == "0\n", "set-user-id is honoured"

    as_user(act)
    assert not said.exists()


def case_locks(o: Mounted) -> None:
    with o("etc/conf").open("r+") as one, o("etc/conf").open("r+") as two:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with fails(errno.EAGAIN):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ---- workloads


def case_many_hands(o: Mounted) -> None:
    problems: list[str] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                path = o(f"dir/sub/{number}-{turn}")
                path.write_bytes(os.urandom(3000))
                path.rename(path.with_suffix(".done"))
                os.link(path.with_suffix(".done"), path)
                path.unlink()
        except OSError as error:
            problems.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(names(o("dir/sub"))) == 321
    shutil.rmtree(o("dir/sub"))


def case_sqlite(o: Mounted) -> None:
    """Users of fuse-overlayfs report corrupted pages (containers/fuse-overlayfs#475)."""
    for mode in ("delete", "wal"):
        path = o(f"var/lib/{mode}.db")
        with sqlite3.connect(path) as database:
            database.execute(f"pragma journal_mode={mode}")
            database.execute("create table t (k integer primary key, v blob)")
        database.close()

        def write(base: int, path: Path = path) -> None:
            connection = sqlite3.connect(path, timeout=60)
            for turn in range(40):
                with connection:
                    values = [(base + turn * 20 + row, os.urandom(700)) for row in range(20)]
                    connection.executemany("insert into t values (?, ?)", values)
                    connection.execute("update t set v = zeroblob(900) where k = ?", (base + turn * 10,))
                    connection.execute("delete from t where k = ?", (base + turn * 20 + 3,))
            connection.close()

        children = []
        for writer in range(2):
            pid = os.fork()
            if pid == 0:
                try:
                    write(writer * 100_000)
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
        with sqlite3.connect(path) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert database.execute("select count(*) from t").fetchone() == (2 * 40 * 19,)
        database.close()
    shutil.rmtree(o("var/lib"))


def case_dpkg(o: Mounted) -> None:
    """A package's upgrade: unpack beside, link the old aside, rename over, remove the old; its lists the same way."""
    for turn in range(3):
        for name in ("a", "b", "c"):
            path = o("dir") / name
            path.with_name(f"{name}.dpkg-new").write_text(f"version {turn}\n")
            os.utime(path.with_name(f"{name}.dpkg-new"), ns=(MODIFIED, MODIFIED))
            os.link(path, path.with_name(f"{name}.dpkg-tmp"))
            os.rename(path.with_name(f"{name}.dpkg-new"), path)
            path.with_name(f"{name}.dpkg-tmp").unlink()
        with o("etc/status-new").open("w") as file:
            file.write(f"status {turn}\n")
            os.fsync(file.fileno())
        if turn:
            o("etc/status-old").unlink(missing_ok=True)
            os.link(o("etc/status"), o("etc/status-old"))
        o("etc/status-new").rename(o("etc/status"))
    assert [o("dir").joinpath(name).read_text() for name in "abc"] == ["version 2\n"] * 3
    assert names(o("dir")) == ["a", "b", "c", "sub"]
    assert o("etc/status-old").read_text() == "status 1\n"


def case_git(o: Mounted) -> None:
    for number in range(400):
        directory = o("home") / f"{number % 64:02x}"
        directory.mkdir(exist_ok=True)
        temporary = directory / f"tmp_obj_{number}"
        temporary.write_bytes(b"object %d" % number)
        temporary.chmod(0o444)
        os.link(temporary, directory / f"{number:038x}")
        temporary.unlink()
        lock = o("home/index.lock")
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        lock.rename(o("home/index"))
    assert sum(len(files) for _, _, files in os.walk(o("home"))) == 402
    run("find", o("home"), "-type", "f", "-links", "+1")


def with_alpine(o: Mounted) -> None:
    o.unmount()
    archive = o.place / "root.tar"
    archive.write_bytes(root_tars()[host_platform().architecture])
    run(
        "tar",
        "-xf",
        archive,
        "-C",
        o.lower[0],
        "--exclude=./dev/*",
        "--exclude=./opaque",
        "--no-same-permissions",
        "-p",
    )
    archive.unlink()
    o.mount()


def case_alpine(o: Mounted) -> None:
    with_alpine(o)
    run(
        "chroot",
        o(""),
        "/bin/sh",
        "-ec",
        "echo pass >/root/x; sed -i s/a/b/ /root/x; adduser -D -H me || echo me:x:7:7::/:/bin/sh >>/etc/passwd; id me; cp -a /etc /etc2; diff -r /etc /etc2",
    )
    packaged = o("sbin/apk").exists()  # not in the root of busybox that stands in where Alpine's is missing
    if packaged:
        run("chroot", o(""), "/bin/sh", "-ec", "apk del --no-network libc-utils; test ! -e /usr/bin/scanelf")
    assert "me:x:" in o("etc/passwd").read_text()
    o.remount()
    if packaged:
        run("chroot", o(""), "/bin/busybox", "sh", "-ec", "test ! -e /usr/bin/scanelf && apk audit --system")
    before = snapshot(o("usr"))
    run("cp", "-a", o("usr"), o("usr2"))
    assert snapshot(o("usr2")) == before
    assert times(o("usr2")) == times(o("usr"))
    run("rm", "-rf", o("usr"))
    assert not o("usr").exists()
    o.remount()
    assert not o("usr").exists()
    assert snapshot(o("usr2")) == before


def case_tar(o: Mounted) -> None:
    """tar out and in again gives the same tree, times included."""
    with_alpine(o)
    archive = o.place / "all.tar"
    run("tar", "-cf", archive, "--xattrs", "--xattrs-include=*", "--exclude=./fifo", "-C", o("bin"), ".")
    o("copy").mkdir()
    run("tar", "-xpf", archive, "--xattrs", "--xattrs-include=*", "-C", o("copy"))
    assert snapshot(o("copy")) == snapshot(o("bin"))
    assert times(o("copy")) == times(o("bin"))
    archive.unlink()


def case_many_layers(o: Mounted) -> None:
    """As many layers as an image may reasonably have, in a store whose path is long."""
    place = o.place / ("p" * 60)
    many = Mounted(place, o.driver, layers=64)
    for number, layer in enumerate(many.lower):
        (layer / "d").mkdir()
        (layer / "d" / f"{number}").write_text("x")
        (layer / "top").write_text(f"{number}")
    if o.driver == "overlay":  # the monitor passes descriptors, as paths of this length do not fit in a page
        descriptors = [os.open(layer, os.O_PATH) for layer in reversed(many.lower)]
        overlay = many.overlay()._replace(lower=tuple(f"/proc/self/fd/{descriptor}" for descriptor in descriptors))
        mount(overlay)
        for descriptor in descriptors:
            os.close(descriptor)
    else:
        many.mount()
    assert len(names(many("d"))) == 64
    assert many("top").read_text() == "63"
    many("d/0").unlink()
    assert len(names(many("d"))) == 63
    many.unmount()


CASES: dict[str, Callable[[Mounted], None]] = {
    name.removeprefix("case_"): value for name, value in list(globals().items()) if name.startswith("case_")
}


# ---- running


def perform(driver: Driver, name: str, place: Path) -> dict[str, Any]:
    started = time.monotonic()
    o = Mounted(place, driver)
    mounted = False
    problem = None
    try:
        build_layers(o)
        layers = [snapshot(layer) for layer in o.lower]
        o.mount()
        mounted = True
        CASES[name](o)
        shown = snapshot(o.root)
        seen = times(o.root)
        o.remount()
        assert snapshot(o.root) == shown, f"mounted again it shows {difference(shown, snapshot(o.root))}"
        # fuse-overlayfs lets the kernel's clock stand in for the file system's until it is unmounted: a few milliseconds.
        after = {
            path: at // 10**8 if abs(at - seen[path]) > 10**8 else seen[path] for path, at in times(o.root).items()
        }
        assert after == seen, f"mounted again it shows other times: {difference(seen, after)}"
        if driver == "fuse" and name != "read_only":
            o.unmount()
            o.mount("overlay")
            assert snapshot(o.root) == shown, f"the kernel's overlay shows {difference(shown, snapshot(o.root))}"
        if name not in ("alpine", "tar", "sparse_and_large", "capabilities_survive_copy_up"):
            assert [snapshot(layer) for layer in o.lower] == layers, "a layer was changed"
        work = [file for path, _, files in os.walk(o.place / "work") for file in files]
        assert not work, f"left in the work directory: {work}"
    except BaseException:
        problem = traceback.format_exc()
    finally:
        if mounted:
            _libc.umount2(os.fsencode(o.root), 2)
    return {"case": name, "problem": problem, "seconds": round(time.monotonic() - started, 2)}


def difference(one: dict[str, Any], two: dict[str, Any]) -> str:
    return ", ".join(
        f"{path}: {one.get(path)} / {two.get(path)}"
        for path in sorted(one.keys() | two.keys())
        if one.get(path) != two.get(path)
    )[:2000]


def main(words: list[str]) -> None:
    driver, *chosen = words
    assert driver in fuse_overlay.DRIVERS
    os.umask(0o022)
    place = Path(tempfile.mkdtemp(prefix="rl-overlay-", dir=os.environ.get("TMPDIR", "/tmp")))
    place.chmod(0o755)
    logging = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(2, 1)  # what the helpers say
    try:
        for name in chosen or CASES:
            os.write(logging, json.dumps(perform(driver, name, place / name)).encode() + b"\n")
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=False)


if __name__ == "__main__":
    main(sys.argv[1:])
