"""Layers made to do harm: nothing leaves the root, nothing crashes or hangs or eats memory, and the message says which entry it was."""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.unpacking import (
    DONE,
    END,
    HOST,
    HOSTILE,
    MALFORMED,
    NAMESPACE,
    SOURCES,
    STRICT,
    Archive,
    Driver,
    compile_driver,
    extended,
    header,
    padded,
    placed,
)

MIB = 1 << 20


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_driver(str(tmp_path_factory.mktemp("unpack")))


@pytest.fixture
def driver(program: str) -> Iterator[Driver]:
    """With a file and a directory beside the root that no archive may touch."""
    with placed(program) as driver:
        os.mkdir(driver.path("outside"), 0o755)
        Path(driver.path("outside/file")).write_text("safe")
        before = driver.tree("outside")
        yield driver
        assert driver.tree("outside") == before
        assert set(os.listdir(driver.place)) <= {"outside", "root", "mutants"}


def octal(number: int) -> bytes:
    return b"%011o\0" % number


def size_of(number: int) -> bytes:
    """GNU's form of a number of 12 bytes, negative ones too."""
    return bytes([0x80 if number >= 0 else 0xFF]) + (number % (1 << 88)).to_bytes(11, "big")


# ---- ways out


def symlinked(*targets: str) -> Archive:
    """Symlinks s0, s1 … with these contents."""
    archive = Archive()
    for number, target in enumerate(targets):
        archive.symlink(f"s{number}", target)
    return archive


@pytest.mark.parametrize("option", ["with-openat2", "no-openat2"])
@pytest.mark.parametrize(
    "target",
    ["..", "../outside", "../../../../../../..", "{place}", "{place}/outside", "/proc/self/root", "/proc/1/root"],
)
def test_symlinks_lead_nowhere_else(driver: Driver, target: str, option: str) -> None:
    """What is written through a symlink lands in the root as the symlink reads there; `/` is the root."""
    target = target.format(place=driver.place)
    archive = (
        symlinked(target).add("s0/file", b"harm").add("s0/outside/file", b"harm").directory("s0/outside", mode=0o777)
    )
    result = driver.unpack(archive.bytes, "root", option)
    assert result.verdict == DONE
    inside = (
        os.path.normpath("/" + target).lstrip("/")
        if target.startswith("/")
        else target.replace("../", "").replace("..", "")
    )
    assert Path(driver.path("root"), inside, "file").read_text() == "harm"


@pytest.mark.parametrize(
    "name", ["../outside/file", "a/../../outside/file", "/../outside/file", "..", "a/..", "./../x", "a/b/../../../x"]
)
def test_dot_dot_is_refused(driver: Driver, name: str) -> None:
    for archive in (
        Archive().add(name, b"harm"),
        Archive().directory(name),
        Archive().symlink(name, "x"),
        Archive().add("f").link("g", name),
    ):
        result = driver.unpack(archive.bytes)
        assert (result.verdict, result.error) == (HOSTILE, 0)
        assert result.text.endswith(": the name has the component `..`")


def test_last_component_is_never_followed(driver: Driver) -> None:
    """Not for files, directories, fifos, whiteouts, modes, owners, times or attributes."""
    outside = driver.path("outside")
    for late in (
        Archive().symlink("l", f"{outside}/file").add("l", b"harm", mode=0o777, uid=5),
        Archive()
        .symlink("l", "../outside")
        .directory("l", mode=0o777, uid=5, pax_headers={"SCHILY.xattr.user.x": "y"}),
        Archive().directory("l", mode=0o777, uid=5).symlink("l", "../outside"),
        Archive().directory("l").directory("l/sub", mode=0o777).add("x/sub/f").symlink("l", "../outside"),
        Archive().symlink("l", f"{outside}/file").add("l", type=tarfile.FIFOTYPE),
        Archive().symlink("l", "../outside", uid=5, mtime=1),
        Archive().symlink("l", "../outside").add(".wh.l").add("l/.wh..wh..opq").add("l/.wh.file"),
    ):
        assert driver.unpack(late.bytes).verdict == DONE
        assert driver.remove("root") == (0, "")


@pytest.mark.parametrize("option", ["with-openat2", "no-openat2"])
def test_hard_links_out(driver: Driver, option: str) -> None:
    for target in (f"{driver.path('outside')}/file", "s0/outside/file", "s1/file", "missing", "dir/missing"):
        archive = symlinked("..", f"{driver.place}/outside").link("stolen", target)
        result = driver.unpack(archive.bytes, "root", option)
        assert (result.verdict, result.text) == (MALFORMED, "stolen: the file that it is a link to is not in the layer")
        assert driver.remove("root") == (0, "")


def test_hard_links_to_what_is_no_file(driver: Driver) -> None:
    assert driver.unpack(Archive().directory("d").link("l", "d").bytes).text == "l: is a hard link to a directory"
    assert driver.unpack(Archive().directory("d").link("l", ".").bytes).text == "l: is a hard link to a directory"
    assert "not in the layer" in driver.unpack(Archive().add(".wh.w").link("l", "w").bytes).text
    # To a symlink: the symlink itself gets another name.
    assert driver.unpack(symlinked("../outside/file").link("l", "s0").bytes).verdict == DONE
    assert os.readlink(driver.path("root/l")) == "../outside/file"
    assert driver.unpack(Archive().link("s0", "s0").add("s0/x").bytes).verdict == DONE


def test_loops_of_symlinks(driver: Driver) -> None:
    for option in ("with-openat2", "no-openat2"):
        result = driver.unpack(symlinked("s1", "s0").add("s0/file").bytes, "root", option)
        assert (result.verdict, result.text) == (MALFORMED, "s0/file: lies beneath a loop of symlinks")
    # Each names the next twice: 2^30 components, were they all walked.
    bomb = symlinked(*(f"s{n + 1}/s{n + 1}/.." for n in range(30)), ".")
    assert driver.unpack(bomb.add("s0/file").bytes, "root", "no-openat2").verdict == MALFORMED


def test_a_file_as_a_directory(driver: Driver) -> None:
    result = driver.unpack(Archive().add("a").add("a/b").bytes)
    assert (result.verdict, result.text) == (MALFORMED, "a/b: lies beneath something that is not a directory")


def test_the_root_stays_a_directory(driver: Driver) -> None:
    for name in ("./", "/", "."):
        for kind in (b"2", b"1", b"6"):
            result = driver.unpack(header(name.encode(), kind, link=b"x") + END)
            assert (result.verdict, result.text) in ((HOSTILE, f"{name}: the root is not a directory"),)


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh..."])
def test_whiteouts_of_the_directory_itself(driver: Driver, name: str) -> None:
    assert driver.unpack(Archive().add(name).bytes).verdict == HOSTILE


def test_device_nodes_are_not_made(driver: Driver) -> None:
    """Not even 0:0, which would be a whiteout that the layer's history does not show."""
    result = driver.unpack(Archive().add("w", type=tarfile.CHRTYPE, devmajor=0, devminor=0).bytes)
    assert (result.skipped_devices, os.listdir(driver.path("root"))) == (1, [])


def test_an_overlay_cannot_be_told_lies(driver: Driver) -> None:
    names = (
        "user.overlay.redirect",
        "user.overlay.metacopy",
        "user.fuseoverlayfs.opaque",
        "user.containers.override_stat",
        "user.rl.owner",
    )
    records = {f"SCHILY.xattr.{name}": "y" for name in names}
    assert (
        driver.unpack(Archive().add("f", pax_headers=records).directory("d", pax_headers=records).bytes).verdict == DONE
    )
    assert not any(node.xattrs for node in driver.tree().values())


# ---- damage

FILE = header(b"file", size=octal(10)) + padded(b"0123456789")
BAD = {
    "a tail that is cut": (FILE[:-600], "the archive is cut short"),
    "a header that is cut": (FILE + FILE[:100], "the archive is cut short"),
    "no tar": (b"PK\3\4" * 200, "a header is damaged, or this is not a tar archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(range(256)) * 4, "a header is damaged, or this is not a tar archive"),
    "a lone zero block": (FILE + bytes(512) + FILE + END, "the archive has a block of zeros amid its entries"),
    "a negative size": (header(b"f", size=size_of(-1)) + END, "f: the size in a header is damaged"),
    "a size beyond 64 bits": (header(b"f", size=size_of(1 << 64)) + END, "f: the size in a header is damaged"),
    "a size of letters": (header(b"f", size=b"many       \0") + END, "f: the size in a header is damaged"),
    "an absurd size": (header(b"f", size=size_of((1 << 63) - 1)) + END, "f: the archive is cut short"),
    "a negative owner": (header(b"f", uid=b"\xff" * 8) + END, "f: its owner is out of range"),
    "an owner that means none": (extended(("uid", b"4294967295")) + header(b"f") + END, "f: its owner is out of range"),
    "a number beyond 64 bits": (extended(("size", b"9" * 30)) + header(b"f") + END, "pax: a number in an extended header is damaged"),
    "a negative number": (extended(("uid", b"-1")) + header(b"f") + END, "pax: a number in an extended header is damaged"),
    "a time of letters": (extended(("mtime", b"now")) + header(b"f") + END, "pax: a time in an extended header is damaged"),
    "no name": (header(b"") + END, "an entry has no name"),
    "an unknown type": (header(b"f", b"M") + END, "f: is of an unknown type"),
    "an extended header of nothing": (extended(("path", b"x")) + END, "the archive ends amid an entry"),
    "a link to nothing": (header(b"f", b"2") + END, "f: is a link to nothing"),
    "a long component": (extended(("path", b"x" * 256)) + header(b"f") + END, "the name is too long"),
    "a long path": (extended(("path", b"/".join([b"x" * 200] * 21))) + header(b"f") + END, "pax: a name in an extended header is too long"),
    "beneath a whiteout": (header(b"a/.wh.b/c") + END, "a/.wh.b/c: lies beneath a whiteout"),
    "a damaged attribute": (extended(("LIBARCHIVE.xattr.user.x", b"!!")) + header(b"f") + END, "f: has a damaged attribute"),
    "an attribute of no name": (extended(("SCHILY.xattr.", b"x")) + header(b"f") + END, "f: has a damaged attribute"),
    "damaged capabilities": (extended(("SCHILY.xattr.security.capability", b"xx")) + header(b"f") + END, "f: its file capabilities are damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("archive", "text"), BAD.values(), ids=BAD.keys())
def test_damage(driver: Driver, archive: bytes, text: str) -> None:
    result = driver.unpack(archive)
    assert (result.verdict, result.error) == (MALFORMED, 0)
    assert result.text.endswith(text)


RECORDS = [
    "",
    "5",
    "x",
    "0 a=b\n",
    "3 a\n",
    "9 a=bcdef",
    "99 a=b\n",
    "6 a=b\nx",
    "5 =b\n",
    "-6 a=b\n",
    " 6 a=b\n",
    "18446744073709551621 a=b\n",
    "6\0a=b\n",
]


@pytest.mark.parametrize("record", RECORDS[1:], ids=repr)
def test_damaged_records(driver: Driver, record: str) -> None:
    body = record.encode()
    archive = header(b"pax", b"x", size=octal(len(body))) + padded(body) + header(b"f") + END
    assert driver.unpack(archive).text == "pax: an extended header is damaged"


@pytest.mark.parametrize("key", ["path", "linkpath", "GNU.sparse.name"])
def test_a_nul_in_a_name(driver: Driver, key: str) -> None:
    result = driver.unpack(extended((key, b"good\0bad")) + header(b"f") + END)
    assert (result.verdict, result.text) == (HOSTILE, "pax: a name in an extended header has a NUL byte")


SPARSE_0 = (("GNU.sparse.size", b"100"), ("GNU.sparse.numblocks", b"1"))
SPARSE_1 = (("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"100"))
MAPS = {
    "beyond the file": extended(*SPARSE_0, ("GNU.sparse.map", b"95,10")),
    "overlapping": extended(*SPARSE_0, ("GNU.sparse.map", b"5,5,0,5")),
    "of less data": extended(*SPARSE_0, ("GNU.sparse.map", b"0,5")),
    "of more data": extended(*SPARSE_0, ("GNU.sparse.map", b"0,50")),
    "odd": extended(*SPARSE_0, ("GNU.sparse.map", b"0,5,6")),
    "empty number": extended(*SPARSE_0, ("GNU.sparse.map", b"0,,5,5")),
    "overflowing": extended(*SPARSE_0, ("GNU.sparse.map", b"9223372036854775807,10")),
    "sums that overflow": extended(*SPARSE_0, ("GNU.sparse.map", b"0,9223372036854775800,1,9223372036854775800")),
    "a size first": extended(*SPARSE_0, ("GNU.sparse.numbytes", b"10")),
    "two offsets": extended(*SPARSE_0, ("GNU.sparse.offset", b"0"), ("GNU.sparse.offset", b"5")),
    "an open offset": extended(*SPARSE_0, ("GNU.sparse.offset", b"0")),
    "no size": extended(("GNU.sparse.map", b"0,10")),
    "none where it should be": extended(*SPARSE_1),
}


@pytest.mark.parametrize("map", MAPS.values(), ids=MAPS.keys())
def test_maps_of_sparse_files(driver: Driver, map: bytes) -> None:
    result = driver.unpack(map + FILE + END)
    assert result.verdict == MALFORMED and "the map of a sparse file" in result.text


@pytest.mark.parametrize(
    "lines",
    [b"", b"1\n", b"1\n0\n", b"-1\n", b"99999999999999999999999999\n", b"1000000\n0\n0\n", b"1" * 510 + b"\n\n"],
    ids=repr,
)
def test_maps_before_data(driver: Driver, lines: bytes) -> None:
    archive = extended(*SPARSE_1) + header(b"f", size=octal(512)) + lines.ljust(512, b"\0") + END
    assert driver.unpack(archive).verdict == MALFORMED


def test_old_maps(driver: Driver) -> None:
    """Four pieces, then blocks of 21 that say that there are more, without end."""
    first = bytearray(
        header(
            b"f",
            b"S",
            magic=b"ustar  \0",
            size=octal(0),
            tail=bytes(386 - 329) + (octal(0) + octal(0)) * 4 + b"\1" + octal(9),
        )
    )
    more = bytes((octal(9) + octal(0)) * 21 + b"\1").ljust(512, b"\0")
    result = driver.unpack(bytes(first) + more * 60_000)
    assert (result.verdict, result.text) == (HOSTILE, "f: the map of a sparse file is too long")
    assert driver.unpack(bytes(first) + more * 3).verdict == MALFORMED


# ---- bulk


@pytest.mark.parametrize("type", ["x", "g", "L", "K"])
@pytest.mark.parametrize("size", [MIB + 1, 1 << 40, (1 << 63) - 1])
def test_gigantic_headers(driver: Driver, type: str, size: int) -> None:
    result = driver.unpack(header(b"big", type.encode(), size=size_of(size)) + bytes(4096))
    assert (result.verdict, result.text) == (HOSTILE, "big: an extended header is larger than a mebibyte")


def test_many_extended_headers_of_one_entry(driver: Driver) -> None:
    result = driver.unpack(extended(("comment", b"x" * 100_000)) * 11 + header(b"f") + END)
    assert (result.verdict, result.text) == (HOSTILE, "pax: an extended header is larger than a mebibyte")


def test_a_huge_hole(driver: Driver) -> None:
    """Takes no room; beyond what the file system can, it is the host that refuses."""

    def hole(size: int) -> bytes:
        return extended(("GNU.sparse.map", b"0,10"), ("GNU.sparse.size", b"%d" % size)) + FILE + END

    assert driver.unpack(hole(1 << 42)).verdict == DONE
    assert os.stat(driver.path("root/file")).st_blocks < 100
    result = driver.unpack(hole((1 << 63) - 1))
    assert (result.verdict, result.error, result.text) == (HOST, errno.EFBIG, "file: cannot set the size")


def test_names_cannot_forge_a_message(driver: Driver) -> None:
    result = driver.unpack(Archive().add("\x1b[2J\n" + "é" * 90 + "/.wh.a/b").bytes)
    assert result.text.startswith(r"\033[2J\012\303\251") and result.text.endswith("...: lies beneath a whiteout")
    assert re.fullmatch(r"[ -~]{1,239}", result.text)


def test_memory_is_bounded(driver: Driver) -> None:
    """The worst for each list that grows, in 64 MiB of address space (of the static program; ASan wants terabytes)."""
    plain = f"{os.path.dirname(driver.program)}/plain"
    if not os.path.exists(plain):
        subprocess.run(["gcc", *STRICT, "-O2", "-o", plain, *SOURCES], check=True)
    os.mkdir(driver.path("root"))
    archive = b"".join(
        extended(("path", b"/".join([b"d%d" % n, *[b"x" * 250] * 3])), ("SCHILY.xattr.user.x", b"y" * 1000))
        + header(b"d", b"5")
        for n in range(500)
    )
    archive += extended(("GNU.sparse.map", b"0,0," * 200_000 + b"0,10"), ("GNU.sparse.size", b"10")) + FILE + END
    done = subprocess.run(
        [*NAMESPACE, plain, "unpack", driver.path("root")],
        input=archive,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (64 * MIB, 64 * MIB)),
    )
    assert b'"class": 0' in done.stdout, done


def test_no_room(driver: Driver) -> None:
    """An error of the host, told with its errno."""
    script = """mkdir root; exec unshare --mount sh -uc 'mount -t tmpfs -o size=64k none root; "$1" unpack root || exit 0' sh "$1" """
    said = driver.shell(script, driver.program, archive=Archive().add("big", bytes(MIB)).bytes)
    assert b'"class": %d, "error": %d, "text": "big: cannot write"' % (HOST, errno.ENOSPC) in said


def test_damage_at_random(driver: Driver) -> None:
    """Some seconds of damaged archives under the sanitizers; the seed is new each time and told where it fails."""
    seed = random.randrange(1 << 31)
    archive = (
        symlinked("usr/lib", "/usr", "../outside").add("s0/a", b"x" * 700).add("s1/b").add("s2/c", b"y").link("hard", "s0/a").directory("s0")
        .add("f", b"1", pax_headers={"SCHILY.xattr.user.text": "a=b", "LIBARCHIVE.xattr.user.p%25": "AAH/", "comment": "x" * 300})
        .directory("d", mode=0o2755).add("d/.wh.gone").add("d/.wh..wh..opq").add("p", type=tarfile.FIFOTYPE).add("n" * 150, b"long").symlink("t", "o" * 200)
    ).bytes  # fmt: skip
    sparse = extended(("GNU.sparse.map", b"0,5,8000,5"), ("GNU.sparse.size", b"9000")) + FILE
    sparse += extended(*SPARSE_1) + header(b"t", size=octal(517)) + padded(b"2\n0\n3\n60\n2\n") + padded(b"12345")
    assert driver.mutate(sparse + archive, seconds=3, seed=seed) > 100, seed
