"""unpack_driver.c as the tests use it: compiled with ASan and UBSan, run as root of a user namespace, with snapshots of what it made.

Run as a program, it prints the snapshot of a directory as JSON: only inside the namespace are all its files readable and their owners the image's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
LOWLEVEL = HERE.parent.parent / "rootless" / "_lowlevel"
UNPACK = ("unpack.c", "tar.c", "pax.c", "blocks.c", "whiteouts.c", "beneath.c", "finish.c")
SOURCES = [str(HERE / "unpack_driver.c"), *(str(LOWLEVEL / name) for name in (*UNPACK, "pack.c", "tree.c"))]
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{LOWLEVEL}"]
SANITIZED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

NAMESPACE = ["unshare", "--user", "--map-root-user", "--map-auto", "--"]
SINGLE_ID = ["unshare", "--user", "--map-root-user", "--"]

DONE, MALFORMED, HOSTILE, HOST = range(4)  # enum rl_unpack_class


class Unpacked(NamedTuple):
    """struct rl_unpack_result. `class` is a keyword."""

    entries: int
    bytes: int
    skipped_devices: int
    skipped_xattrs: int
    opaque_root: bool
    verdict: int
    error: int
    text: str


class Node(NamedTuple):
    """One file of a tree, all that an archive can say of it. peers: the first path, in order, of the same inode."""

    type: str
    mode: int
    uid: int
    gid: int
    mtime: int
    content: str
    peers: str
    xattrs: dict[str, str]


Tree = dict[str, Node]


class Driver:
    """The compiled driver and a directory of its own, in which trees are made by name."""

    def __init__(self, program: str, place: str) -> None:
        self.program = program
        self.place = place

    def unpack(
        self, archive: bytes, name: str = "root", *options: str, namespace: Sequence[str] = NAMESPACE
    ) -> Unpacked:
        """Unpack into the directory `name`, made if it is not there. A sanitizer's complaint fails the test."""
        directory = self.path(name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
        done = self._run([*namespace, self.program, "unpack", directory, *options], archive)
        said = json.loads(done.stdout)
        assert done.returncode == (said["class"] != DONE), done
        return Unpacked(*said.values())

    def pack(self, name: str = "root") -> bytes:
        """The tree as a tar."""
        done = self._run([*NAMESPACE, self.program, "pack", self.path(name)])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remove(self, name: str, *options: str, within: Sequence[str] = NAMESPACE) -> tuple[int, str]:
        """errno (0: removed) and the message."""
        done = self._run([*within, self.program, "remove", self.place, name, *options])
        said = json.loads(done.stdout)
        return said["error"], said["text"]

    def mutate(self, archive: bytes, *, seconds: float, seed: int) -> int:
        """Unpack the archive, damaged at random, for some seconds; returns how often."""
        os.mkdir(self.path("mutants"))
        done = self._run([*NAMESPACE, self.program, "mutate", self.path("mutants"), str(seconds), str(seed)], archive)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return int(done.stdout)

    def shell(self, script: str, *arguments: str, archive: bytes = b"") -> bytes:
        """Run a script of sh in the namespace, with the place as its working directory."""
        done = self._run([*NAMESPACE, "sh", "-euc", script, "sh", *arguments], archive)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def tree(self, name: str = "root") -> Tree:
        done = self._run([*NAMESPACE, sys.executable, __file__, self.path(name)])
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return {path: Node(*node) for path, node in json.loads(done.stdout).items()}

    def path(self, name: str) -> str:
        return f"{self.place}/{name}"

    def _run(self, command: Sequence[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(command, input=given, capture_output=True, cwd=self.place, timeout=120)
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr.decode()
        return done


def compile_driver(directory: str) -> str:
    program = f"{directory}/unpack_driver"
    subprocess.run(["gcc", *STRICT, *SANITIZED, "-o", program, *SOURCES], check=True)
    return program


@contextlib.contextmanager
def placed(program: str) -> Generator[Driver]:
    """A driver with an empty place, removed at the end: by rl_remove_tree, in the namespace that owns its files."""
    place = tempfile.mkdtemp(prefix="rl-unpack-", dir="/tmp")
    driver = Driver(program, place)
    try:
        yield driver
    finally:
        for name in os.listdir(place):
            assert driver.remove(name) == (0, "")
        os.rmdir(place)


class Archive:
    """A tar under construction, by Python's tarfile: what it knows to write need not be written by hand."""

    def __init__(self, format: int = tarfile.PAX_FORMAT) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=format)  # noqa: SIM115 (closed in `bytes`)

    def add(
        self, name: str, data: bytes = b"", *, type: bytes = tarfile.REGTYPE, link: str = "", **fields: Any
    ) -> Archive:
        """Add an entry. fields: attributes of a TarInfo (mode, uid, gid, mtime, pax_headers, devmajor …)."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = type, link, len(data)
        for key, value in {
            "mode": 0o755 if type == tarfile.DIRTYPE else 0o644,
            "mtime": 1_000_000_000,
            **fields,
        }.items():
            setattr(info, key, value)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def directory(self, name: str, **fields: Any) -> Archive:
        return self.add(name, type=tarfile.DIRTYPE, **fields)

    def symlink(self, name: str, target: str, **fields: Any) -> Archive:
        return self.add(name, type=tarfile.SYMTYPE, link=target, **fields)

    def link(self, name: str, target: str) -> Archive:
        return self.add(name, type=tarfile.LNKTYPE, link=target)

    @property
    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def header(
    name: bytes, type: bytes = b"0", *, size: bytes = b"00000000000\0", magic: bytes = b"ustar\x0000", **fields: bytes
) -> bytes:
    """A raw header block with a right checksum, for what tarfile refuses to write. fields: mode, uid, gid, mtime, link, tail (from 329 on)."""
    block = bytearray(512)
    places = {
        "name": (0, name), "mode": (100, b"0000644\0"), "uid": (108, b"0000000\0"), "gid": (116, b"0000000\0"), "size": (124, size),
        "mtime": (136, b"00000000000\0"), "type": (156, type), "link": (157, b""), "magic": (257, magic), "tail": (329, b""),
    }  # fmt: skip
    for key, (at, default) in places.items():
        value = fields.get(key, default)
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def extended(*records: tuple[str, bytes], type: bytes = b"x") -> bytes:
    """A pax header of these records, in this order."""
    body = b"".join(_record(key.encode(), value) for key, value in records)
    return header(b"pax", type, size=b"%011o\0" % len(body)) + padded(body)


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


END = bytes(1024)


def snapshot(root: str) -> dict[str, tuple[Any, ...]]:
    """{path: fields of its Node} of a tree, the root being "."."""
    nodes: dict[str, tuple[Any, ...]] = {}
    first: dict[tuple[int, int], str] = {}
    for path in sorted(_paths(root)):
        status = os.lstat(path)
        name = os.path.relpath(path, root)
        kind = stat.filemode(status.st_mode)[0]
        content = ""
        if kind == "-":
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        elif kind == "l":
            content = os.readlink(path)
        elif kind in "cb":
            content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        peers = name if kind == "d" else first.setdefault((status.st_dev, status.st_ino), name)
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = {key: os.getxattr(path, key, follow_symlinks=False).hex() for key in sorted(names)}
        mode = stat.S_IMODE(status.st_mode)
        nodes[name] = (kind, mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, peers, xattrs)
    return nodes


def _paths(root: str) -> Iterator[str]:
    yield root
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            yield f"{directory}/{name}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(snapshot(sys.argv[1])))
