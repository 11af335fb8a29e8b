"""Unpacking, packing and removing trees, in C, on the real kernel: beside GNU tar where that says what is right, else beside layer.md and pax(1)."""

from __future__ import annotations

import errno
import functools
import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sample_images import root_tars
from tests.kernel.unpacking import (
    DONE,
    END,
    HOST,
    NAMESPACE,
    SINGLE_ID,
    SOURCES,
    STRICT,
    Archive,
    Driver,
    Tree,
    compile_driver,
    extended,
    header,
    padded,
    placed,
)

CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep, version 2
ACL = bytes.fromhex("0200000001000700ffffffff04000500ffffffff20000000ffffffff")  # u::rwx,g::r-x,o::---
MANY = [f"directory{n:02}" for n in range(40)]  # more than the cache of open directories holds


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_driver(str(tmp_path_factory.mktemp("unpack")))


@pytest.fixture
def driver(program: str) -> Iterator[Driver]:
    with placed(program) as driver:
        yield driver


@functools.cache
def gnu_tar(*options: str) -> bytes:
    """A tree of everything, as GNU tar writes it: long names, hard links, sparse files, a fifo, times with nanoseconds, modes."""
    script = """
        mkdir -p tree/deep/"$(printf %0120d 7)"/"$(printf %0120d 8)" tree/.hidden; cd tree
        echo one >one; ln one two; ln one deep/three; ln -s one link; ln -s "$(printf %0150d 9)" long-link
        echo long >"$(printf %0200d 1)"; mv 0*1 deep/*/*/; mkfifo fifo; printf 'caf\\351' >"$(printf 'caf\\351')"
        truncate -s 5M sparse; printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
        i=0; while [ $i -lt 30 ]; do printf y | dd of=sparse bs=1 seek=$((i * 130000)) conv=notrunc status=none; i=$((i + 1)); done
        truncate -s 1M hole; chmod 4755 one; chmod 2750 deep; chmod 1777 .hidden; chmod 0 fifo
        head -c 3000000 /dev/urandom >large; : >empty
        touch -d '1955-11-05 06:00:00.25' one; touch -d '2001-09-09 01:46:40.123456789' large .hidden; touch -d @8589934592 empty
    """
    place = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip()
    try:
        subprocess.run(["sh", "-euc", script], check=True, cwd=place)
        made = subprocess.run(
            ["tar", "-cf", "-", "--sort=name", *options, "-C", "tree", "."], cwd=place, check=True, capture_output=True
        )
        return made.stdout
    finally:
        shutil.rmtree(place)


def by_gnu_tar(driver: Driver, archive: bytes) -> Tree:
    driver.shell(
        "mkdir expected; exec tar -xpf - --numeric-owner --xattrs --xattrs-include='*' -C expected", archive=archive
    )
    return driver.tree("expected")


FORMATS = {
    "pax": ("--format=posix",),
    "gnu": ("--format=gnu",),
    "gnu-sparse": ("--format=gnu", "--sparse"),
    "sparse-0.0": ("--format=posix", "--sparse", "--sparse-version=0.0"),
    "sparse-0.1": ("--format=posix", "--sparse", "--sparse-version=0.1"),
    "sparse-1.0": ("--format=posix", "--sparse", "--sparse-version=1.0"),
    "owners": ("--format=posix", "--owner=:1234", "--group=:4321"),
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
def test_as_gnu_tar_does(driver: Driver, options: tuple[str, ...]) -> None:
    archive = gnu_tar(*options)
    result = driver.unpack(archive)
    assert (result.verdict, result.text) == (DONE, "")
    assert driver.tree() == by_gnu_tar(driver, archive)


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_a_real_image(driver: Driver, architecture: str) -> None:
    archive = root_tars()[architecture]
    result = driver.unpack(archive, "root", "durable")
    assert result.verdict == DONE
    assert driver.tree() == by_gnu_tar(driver, archive)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
    assert result.entries == len(members)
    assert result.bytes == sum(member.size for member in members if member.isreg())


def test_holes_stay_holes(driver: Driver) -> None:
    driver.unpack(gnu_tar(*FORMATS["sparse-1.0"]))
    assert os.stat(driver.path("root/hole")).st_size == 1 << 20
    assert os.stat(driver.path("root/hole")).st_blocks == 0


def test_a_slow_pipe_and_padding_after_the_end(driver: Driver) -> None:
    """Writers write in pieces of any size, and pad: they must never get EPIPE for it."""
    archive = Archive().add("file", b"x" * 100_000).bytes + bytes(3 << 20)
    os.mkdir(driver.path("root"))
    process = subprocess.Popen(
        [*NAMESPACE, driver.program, "unpack", driver.path("root")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    for at in range(0, 2100, 7):
        process.stdin.write(archive[at : at + 7])
        process.stdin.flush()
    process.communicate(archive[2100:])
    assert process.returncode == 0
    assert Path(driver.path("root/file")).read_bytes() == b"x" * 100_000


# ---- attributes


def test_owners_modes_and_times(driver: Driver) -> None:
    archive = (
        Archive()
        .directory("d", mode=0o2775, uid=5, gid=50, mtime=1.5)
        .add("d/setuid", b"#!", mode=0o6755, uid=1, gid=65535)
        .add("d/secret", mode=0)
        .symlink("d/link", "setuid", uid=7, gid=8, mtime=2)
        .add("d/pipe", type=tarfile.FIFOTYPE, mode=0o622, uid=9)
        .directory("d/below", mode=0o555)
        .add("d/below/file")
    )
    assert driver.unpack(archive.bytes).verdict == DONE
    tree = driver.tree()
    seen = {path: (node.type, node.mode, node.uid, node.gid) for path, node in tree.items()}
    assert seen == {
        ".": ("d", 0o755, 0, 0),
        "d": ("d", 0o2775, 5, 50),
        "d/setuid": ("-", 0o6755, 1, 65535),
        "d/secret": ("-", 0, 0, 0),
        "d/link": ("l", 0o777, 7, 8),
        "d/pipe": ("p", 0o622, 9, 0),
        "d/below": ("d", 0o555, 0, 0),
        "d/below/file": ("-", 0o644, 0, 0),
    }
    assert tree["d"].mtime == 1_500_000_000 and tree["d/link"].mtime == 2_000_000_000
    assert tree["d/below"].mtime == 10**18


def test_what_the_host_hands_down_is_not_the_images(driver: Driver) -> None:
    """The set-group-id bit and the default ACL of the directory in which a store lies."""
    os.mkdir(driver.path("root"))
    os.setxattr(driver.path("root"), "system.posix_acl_default", ACL)
    driver.shell("chown 0:33 root; chmod 2775 root")
    driver.unpack(Archive().directory("d").add("d/file", mode=0o664).bytes)
    tree = driver.tree()
    assert (tree["d/file"].mode, tree["d/file"].gid, tree["d/file"].xattrs) == (0o664, 0, {})
    assert (tree["d"].mode, tree["d"].gid, tree["d"].xattrs) == (0o755, 0, {})
    assert tree["."].mode == 0o775


def test_attributes(driver: Driver) -> None:
    records = {
        "SCHILY.xattr.user.text": "a=b\n",
        "SCHILY.xattr.security.capability": CAP_NET_RAW.decode("utf-8", "surrogateescape"),
        "LIBARCHIVE.xattr.user.per%25cent": "AAH/",
        "SCHILY.xattr.trusted.x": "1",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.containers.override_stat": "0:0:4755",
    }
    archive = Archive().add("file", b"data", uid=3, pax_headers=records)
    result = driver.unpack(archive.directory("d", pax_headers={"SCHILY.xattr.user.of": "directory"}).bytes)
    assert (result.verdict, result.skipped_xattrs, result.text) == (DONE, 1, "")
    tree = driver.tree()
    assert tree["file"].xattrs == {
        "security.capability": CAP_NET_RAW.hex(),
        "user.per%cent": "0001ff",
        "user.text": b"a=b\n".hex(),
    }
    assert tree["d"].xattrs == {"user.of": b"directory".hex()}


def test_a_default_acl_of_the_image_is_not_handed_down_either(driver: Driver) -> None:
    """As in the archive: the directory's own, and the file has none."""
    body = extended(("SCHILY.xattr.system.posix_acl_default", ACL)) + header(b"d/", b"5", mode=b"0000755\0")
    driver.unpack(body + header(b"d/file") + END)
    tree = driver.tree()
    assert tree["d"].xattrs == {"system.posix_acl_default": ACL.hex()}
    assert (tree["d/file"].xattrs, tree["d/file"].mode) == ({}, 0o644)


def test_an_owner_outside_the_map(driver: Driver) -> None:
    result = driver.unpack(Archive().add("etc/file", uid=70000, gid=12).bytes)
    assert (result.verdict, result.error) == (HOST, errno.EINVAL)
    assert result.text == "etc/file: its owner 70000:12 is outside the id map, which would need 70001 ids"


def test_a_single_id(driver: Driver) -> None:
    """Owners are remembered, and packing gives them back."""
    archive = (
        Archive()
        .directory("d", uid=4, gid=5, mode=0o700)
        .add("d/file", uid=70000, mode=0o4755)
        .add("d/own")
        .symlink("d/link", "file", uid=3)
    )
    result = driver.unpack(archive.bytes, "root", "single", namespace=SINGLE_ID)
    assert (result.verdict, result.text) == (DONE, "")
    tree = driver.tree()
    assert {(node.uid, node.gid) for node in tree.values()} == {(0, 0)}
    assert {path: bytes.fromhex(node.xattrs["user.rl.owner"]) for path, node in tree.items() if node.xattrs} == {
        "d": b"4:5",
        "d/file": b"70000:0",
    }
    assert tree["d/file"].mode == 0o4755
    with tarfile.open(fileobj=io.BytesIO(driver.pack())) as tar:
        owners = {member.name: (member.uid, member.gid, member.pax_headers) for member in tar}
    assert owners == {
        ".": (0, 0, owners["."][2]),
        "d": (4, 5, {}),
        "d/file": (70000, 0, {}),
        "d/own": (0, 0, {}),
        "d/link": (0, 0, {}),
    }


def test_devices_are_counted(driver: Driver) -> None:
    archive = (
        Archive().add("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3).add("dev/sda", type=tarfile.BLKTYPE)
    )
    result = driver.unpack(archive.add("dev/zero", type=tarfile.CHRTYPE).add("file").bytes)
    assert (result.verdict, result.entries, result.skipped_devices) == (DONE, 1, 3)
    assert set(driver.tree()) == {".", "file"}


# ---- whiteouts (layer.md)


def kinds(tree: Tree) -> dict[str, str]:
    """{path: type}, `O` for an opaque directory, `w` for a whiteout."""

    def kind(path: str) -> str:
        node = tree[path]
        if node.type == "d" and node.xattrs.get("user.overlay.opaque") == b"y".hex():
            return "O"
        return "w" if (node.type, node.content) == ("c", "0:0") else node.type

    return {path: kind(path) for path in tree if path != "."}


WHITEOUTS = {
    "plain": ([".wh.gone"], {"gone": "w"}),
    "in a directory that is only implied": (["a/b/.wh.gone"], {"a": "d", "a/b": "d", "a/b/gone": "w"}),
    "opaque, then siblings": (["a/", "a/.wh..wh..opq", "a/b"], {"a": "O", "a/b": "-"}),
    "siblings, then opaque": (["a/b", "a/.wh..wh..opq", "a/"], {"a": "O", "a/b": "-"}),
    "of a directory of the same layer, before": ([".wh.a", "a/", "a/b"], {"a": "O", "a/b": "-"}),
    "of a directory of the same layer, after": (["a/", "a/b", ".wh.a"], {"a": "O", "a/b": "-"}),
    "of a directory that is only implied": ([".wh.a", "a/b"], {"a": "O", "a/b": "-"}),
    "of a file of the same layer, before": ([".wh.a", "a"], {"a": "-"}),
    "of a file of the same layer, after": (["a", ".wh.a"], {"a": "-"}),
    "metadata of aufs": (["a", ".wh..wh.plnk/", ".wh..wh.plnk/12.34", ".wh..wh.aufs"], {"a": "-"}),
    "a file, then a directory": (["a", "a/", "a/b"], {"a": "O", "a/b": "-"}),
}


def entries(names: list[str]) -> bytes:
    archive = Archive()
    for name in names:
        archive.add(name, type=tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE)
    return archive.bytes


@pytest.mark.parametrize(("names", "expected"), WHITEOUTS.values(), ids=WHITEOUTS.keys())
def test_whiteouts(driver: Driver, names: list[str], expected: dict[str, str]) -> None:
    result = driver.unpack(entries(names))
    assert (result.verdict, result.text) == (DONE, "")
    assert kinds(driver.tree()) == expected


@pytest.mark.parametrize(("names", "expected"), WHITEOUTS.values(), ids=WHITEOUTS.keys())
def test_whiteouts_as_files(driver: Driver, names: list[str], expected: dict[str, str]) -> None:
    """The same by names alone."""
    assert driver.unpack(entries(names), "root", "whiteout-files").verdict == DONE
    files: dict[str, str] = {}
    for path, kind in expected.items():
        folder, base = os.path.split(path)
        files |= {os.path.join(folder, f".wh.{base}"): "-"} if kind == "w" else {path: "d" if kind == "O" else kind}
        files |= {f"{path}/.wh..wh..opq": "-"} if kind == "O" else {}
    assert kinds(driver.tree()) == files


def test_an_opaque_root_is_told(driver: Driver) -> None:
    assert driver.unpack(entries([".wh..wh..opq", "a"])).opaque_root
    assert not driver.unpack(entries(["a/.wh..wh..opq"]), "other").opaque_root


OVERLAYS = {
    "kernel": 'mount -t overlay -o "userxattr,lowerdir=upper:lower" overlay merged',
    "fuse-overlayfs": 'fuse-overlayfs -o "lowerdir=upper:lower" merged',
}


@pytest.mark.parametrize("mount", OVERLAYS.values(), ids=OVERLAYS.keys())
def test_overlays_read_our_whiteouts(driver: Driver, mount: str) -> None:
    if "fuse" in mount and not (shutil.which("fuse-overlayfs") and os.access("/dev/fuse", os.W_OK)):
        pytest.skip("needs fuse-overlayfs and /dev/fuse")
    driver.unpack(entries(["a/old", "b/old", "c/old", "d"]), "lower")
    driver.unpack(entries(["a/.wh..wh..opq", "a/new", ".wh.b", "b/new", "c/.wh.old", ".wh.d"]), "upper")
    script = f"mkdir merged; exec unshare --mount sh -euc '{mount}; cd merged; find . ! -name . | sort; cd ..; umount merged'"
    assert driver.shell(script).decode().split() == ["./a", "./a/new", "./b", "./b/new", "./c"]


# ---- names


def test_symlinked_parents_stay_inside(driver: Driver) -> None:
    archive = (
        Archive().directory("usr/lib").symlink("lib", "usr/lib").symlink("up", "../../../../usr").symlink("abs", "/usr/new/place")
        .add("lib/a").add("up/lib/b").add("abs/c").link("hard", "lib/a").symlink("chain", "abs").add("chain/d")
    )  # fmt: skip
    expected = {"usr/lib/a", "usr/lib/b", "usr/new/place/c", "usr/new/place/d", "hard"}
    for option in ("", "no-openat2"):
        assert driver.unpack(archive.bytes, f"root{option}", option).verdict == DONE
        assert {path for path, node in driver.tree(f"root{option}").items() if node.type == "-"} == expected


def test_without_openat2_all_is_the_same(driver: Driver) -> None:
    archive = gnu_tar(*FORMATS["pax"])
    assert driver.unpack(archive, "a").verdict == driver.unpack(archive, "b", "no-openat2").verdict == DONE
    assert driver.tree("a") == driver.tree("b")


def test_forms_of_names(driver: Driver) -> None:
    body = b"".join(header(name) for name in (b"/abs", b"./dot", b".//a/./b//c", b"v7/"))
    body += header(b"name", tail=bytes(16) + b"prefix") + header(b"./", b"5", mode=b"0000700\0")
    assert driver.unpack(body + END).verdict == DONE
    tree = driver.tree()
    assert kinds(tree) == {
        "abs": "-",
        "dot": "-",
        "a": "d",
        "a/b": "d",
        "a/b/c": "-",
        "v7": "d",
        "prefix": "d",
        "prefix/name": "-",
    }
    assert tree["."].mode == 0o700


def test_replacements(driver: Driver) -> None:
    """Of two entries for one name the later counts, whatever the types; a directory stays, with the new attributes."""
    archive = (
        Archive()
        .directory("kept", mode=0o700).add("kept/file").directory("kept", mode=0o755)
        .directory("a").add("a/b/c").add("a", b"now a file")
        .symlink("l", "kept").directory("l").add("l/own")
        .add("f", b"1").link("g", "f").add("f", b"2").symlink("g", "f")
        .add("self").link("self", "self")
    )  # fmt: skip
    assert driver.unpack(archive.bytes).text == ""
    tree = driver.tree()
    assert kinds(tree) == {
        "kept": "d",
        "kept/file": "-",
        "a": "-",
        "l": "O",
        "l/own": "-",
        "f": "-",
        "g": "l",
        "self": "-",
    }
    assert tree["kept"].mode == 0o755


def test_more_directories_than_stay_open(driver: Driver) -> None:
    archive = Archive()
    for name in MANY * 2:
        archive.directory(name, mode=0o711)
    for turn in range(2):
        for name in MANY:
            archive.add(f"{name}/{turn}").link(f"{name}/{turn}-link", f"{MANY[0]}/0")
    assert driver.unpack(archive.bytes).text == ""
    tree = driver.tree()
    assert len(tree) == 1 + 5 * len(MANY) and all(tree[name].mode == 0o711 for name in MANY)


def test_headers_before_pax(driver: Driver) -> None:
    """v7, GNU's large numbers and negative times, global headers, a `size` that overrides."""
    data = b"0123456789"
    body = (
        header(b"v7", b"\0", magic=b"", size=b"         12 ") + padded(data)
        + header(b"gnu", magic=b"ustar  \0", size=b"\x80" + bytes(10) + b"\x0a", uid=b"\x80\0\0\0\0\0\xea\x60", mtime=b"\xff" * 12) + padded(data)
        + extended(("mtime", b"-0.25"), ("gid", b"7"), ("comment", b"x"), type=b"g")
        + extended(("size", b"10"), ("uid", b"8"), ("path", b"renamed")) + header(b"original") + padded(data)
        + extended(("gid", b"")) + header(b"own-group")
    )  # fmt: skip
    assert driver.unpack(body + END).text == ""
    tree = driver.tree()
    assert {path: (node.uid, node.gid, node.mtime) for path, node in tree.items() if path != "."} == {
        "v7": (0, 0, 0),
        "gnu": (60000, 0, -(10**9)),
        "renamed": (8, 7, -250_000_000),
        "own-group": (0, 0, -250_000_000),
    }
    assert {os.path.getsize(driver.path(f"root/{name}")) for name in ("v7", "gnu", "renamed")} == {10}


def test_a_long_tree_is_quick(driver: Driver) -> None:
    """Nothing is quadratic: ten thousand directories and files under the sanitizers."""
    archive = Archive(tarfile.USTAR_FORMAT)
    for n in range(5_000):
        archive.directory(f"a/{n}").add(f"a/{n}/file")
    data = archive.bytes
    started = time.monotonic()
    assert driver.unpack(data).entries == 10_000
    assert time.monotonic() - started < 20


# ---- packing


def test_a_packed_tree_unpacks_to_itself(driver: Driver) -> None:
    driver.unpack(gnu_tar(*FORMATS["owners"]), "first")
    capability = CAP_NET_RAW.decode("utf-8", "surrogateescape")
    records = {"SCHILY.xattr.user.x": "y", "SCHILY.xattr.security.capability": capability}
    driver.unpack(Archive().add("cap", uid=2, pax_headers=records).bytes, "first")
    driver.unpack(entries(["whiteouts/.wh.gone"]), "first")
    archive = driver.pack("first")
    result = driver.unpack(archive, "second")
    assert result.text == "" and result.skipped_xattrs == 0
    first, second = driver.tree("first"), driver.tree("second")
    assert first.pop("whiteouts/gone").content == second.pop("whiteouts/gone").content == "0:0"  # its time says nothing
    assert first == second and set(first["cap"].xattrs) == {"security.capability", "user.x"}
    assert driver.pack("second") == archive
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
    assert "whiteouts/.wh.gone" in names and "whiteouts/gone" not in names


def test_packing_is_sorted_and_read_by_gnu_tar(driver: Driver) -> None:
    driver.unpack(gnu_tar(*FORMATS["pax"]))
    archive = driver.pack()
    assert driver.tree() == by_gnu_tar(driver, archive)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = [member.name for member in tar if "/" not in member.name]
    assert names == sorted(names)


def test_whiteouts_come_back_from_packing(driver: Driver) -> None:
    driver.unpack(entries(["a/.wh..wh..opq", "a/.wh.z", "a/b", ".wh.y"]))
    with tarfile.open(fileobj=io.BytesIO(driver.pack())) as tar:
        assert tar.getnames() == [".", ".wh.y", "a", "a/.wh..wh..opq", "a/.wh.z", "a/b"]


def test_sockets_and_mounts_are_not_packed(driver: Driver) -> None:
    """A mount point is, what is mounted there is not."""
    driver.unpack(entries(["mounted/", "file"]))
    script = """exec unshare --mount sh -euc 'mount -t tmpfs none root/mounted; touch root/mounted/hidden; exec "$1" pack root' sh "$1" """
    driver.shell("python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('root/socket')\"")
    with tarfile.open(fileobj=io.BytesIO(driver.shell(script, driver.program))) as tar:
        assert tar.getnames() == [".", "file", "mounted"]


# ---- removing


def test_remove_what_is_not_there(driver: Driver) -> None:
    assert driver.remove("nothing") == (0, "")
    assert driver.remove("../x")[0] == errno.EINVAL


@pytest.mark.parametrize("option", ["with-openat2", "no-openat2"])
def test_remove_follows_nothing(driver: Driver, option: str) -> None:
    driver.shell(
        """
        mkdir -p outside root/dir; echo safe >outside/file; ln -s ../outside root/link; ln -s ../outside root/dir/link; mkfifo root/fifo
        mkdir -p root/work/work; touch root/work/work/x; chown -R 1:1 root/dir; chmod 0 root/work/work root/dir; mknod root/w c 0 0
        """
    )
    assert driver.remove("root", option) == (0, "")
    assert os.listdir(driver.place) == ["outside"] and Path(driver.path("outside/file")).read_text() == "safe\n"
    os.symlink("outside", driver.path("link"))
    assert driver.remove("link", option) == (0, "")
    assert os.listdir(driver.path("outside")) == ["file"]


def test_remove_without_privilege(driver: Driver) -> None:
    driver.shell(
        "mkdir -p root/a/b root/c; touch root/a/b/file root/c/file; chmod 0 root/a/b; chmod 500 root/a root/c; chmod 100 root"
    )
    assert driver.remove("root", within=()) == (0, "")


def test_remove_a_tree_of_any_depth(driver: Driver) -> None:
    """Three thousand levels: no path is that long, no process has so many descriptors."""
    os.mkdir(driver.path("root"))
    script = "import os, sys; os.chdir('root')\nfor _ in range(3000): os.mkdir('d'); os.mkdir('.rl-1'); os.chdir('d')"
    driver.shell('exec python3 -c "$1"', script)
    started = time.monotonic()
    assert driver.shell('ulimit -n 64; exec "$1" remove . root', driver.program) == b'{"error": 0, "text": ""}\n'
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("option", ["with-openat2", "no-openat2"])
def test_remove_stops_at_a_mount(driver: Driver, option: str) -> None:
    os.makedirs(driver.path("root/a/mounted"))
    script = """exec unshare --mount sh -uc 'mount -t tmpfs none root/a/mounted; touch root/a/mounted/file
        "$1" remove . root "$2"; test -e root/a/mounted/file' sh "$1" "$2" """
    assert b"mounted: is a mount point" in driver.shell(script, driver.program, option)


def test_remove_while_others_write(driver: Driver) -> None:
    os.mkdir(driver.path("root"))
    writer = subprocess.Popen(
        [
            "sh",
            "-c",
            'while [ $((i = i + 1)) -lt 3000 ] && mkdir -p "$1/$i/x" 2>/dev/null; do echo >"$1/$i/x/f"; done',
            "sh",
            driver.path("root"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            error, _text = driver.remove("root")
            if error == 0 and writer.poll() is not None:
                break
            assert error in (0, errno.ENOTEMPTY)
    finally:
        writer.kill()
        writer.wait()


# ---- how it is built


@pytest.mark.skipif(not shutil.which("musl-gcc"), reason="needs musl-tools")
def test_it_builds_with_musl_and_runs_static(tmp_path: Path, driver: Driver) -> None:
    machine = os.uname().machine
    target = str(tmp_path / "static")
    include = ["-idirafter", "/usr/include", "-idirafter", f"/usr/include/{machine}-linux-gnu"]
    subprocess.run(["musl-gcc", *STRICT, "-O2", "-static", *include, "-o", target, *SOURCES], check=True)
    driver.unpack(gnu_tar(*FORMATS["sparse-0.1"]), "glibc")
    driver.program = target
    assert driver.unpack(gnu_tar(*FORMATS["sparse-0.1"]), "musl").verdict == DONE
    assert driver.tree("glibc") == driver.tree("musl")
