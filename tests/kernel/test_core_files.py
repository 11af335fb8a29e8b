"""The core at work on files: packing, unpacking and removing trees in the user namespace, memory files, paths beneath a root; and volumes, which stand on it."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless import _lowlevel
from rootless.engine import volume
from rootless.errors import Error, HostError, UsageError
from rootless.paths import Paths
from rootless.runtime.native import Monitor, MonitorRequest, Removal
from rootless.runtime.plan import Kind, Operation
from rootless.userns.enter import UserNamespace, inside
from tests.conftest import remove
from tests.fakes.containers import empty_paths
from tests.kernel.core import Place, shell


@pytest.fixture
def foreign(tmp_path: Path, namespace: UserNamespace) -> Iterator[Path]:
    """A tree with files of other owners that we cannot even look into."""
    tree = tmp_path / "tree"

    def make() -> None:
        os.makedirs(tree / "d/e")
        (tree / "d/e/f").write_text("hello")
        (tree / "d/s").symlink_to("e/f")
        os.link(tree / "d/e/f", tree / "d/h")
        os.chown(tree / "d/e/f", 33, 34)
        os.chown(tree / "d", 5, 5)
        os.chmod(tree / "d", 0o700)

    inside(namespace, make)
    with pytest.raises(PermissionError):
        os.listdir(tree / "d")
    yield tree
    remove(str(tree))


def owners(namespace: UserNamespace, tree: Path) -> dict[str, tuple[int, int, int]]:
    def look() -> dict[str, tuple[int, int, int]]:
        found = {}
        for place, directories, files in os.walk(tree):
            for name in (*directories, *files):
                status = os.lstat(f"{place}/{name}")
                found[os.path.relpath(f"{place}/{name}", tree)] = (
                    status.st_uid,
                    status.st_gid,
                    stat.S_IFMT(status.st_mode),
                )
        return found

    return inside(namespace, look)


# ---- pack, unpack, remove


def test_a_tree_is_packed_and_unpacked_with_its_owners(foreign: Path, tmp_path: Path, namespace: UserNamespace) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    packer = _lowlevel.start_pack(userns=namespace.fd, directory=str(foreign), tar=writer)
    os.close(writer)
    unpacker = _lowlevel.start_unpack(
        userns=namespace.fd, tar=reader, directory=str(copy), single_id=False, durable=False
    )
    os.close(reader)
    packed, unpacked = packer.wait(), unpacker.wait()
    assert unpacked.entries == packed.entries >= 5
    found = owners(namespace, copy)
    assert found == owners(namespace, foreign)
    assert found["d/e/f"] == (33, 34, stat.S_IFREG) and found["d"][:2] == (5, 5)
    _lowlevel.remove_tree(userns=namespace.fd, path=str(copy))
    assert not copy.exists()
    _lowlevel.remove_tree(userns=namespace.fd, path=str(copy))  # what is not there is success


def test_a_directory_is_packed_from_beneath_a_root(foreign: Path, namespace: UserNamespace) -> None:
    (foreign / "absolute").symlink_to("/d/e")
    (foreign / "above").symlink_to("../../../../d")
    root = os.open(foreign, os.O_PATH | os.O_DIRECTORY)
    try:
        for path, expected in (("/absolute", {"f"}), ("above", {"e", "e/f", "s", "h"})):
            with tarfile.open(fileobj=io.BytesIO(packed(namespace, root, path))) as archive:
                assert {os.path.normpath(name) for name in archive.getnames()} - {"."} == expected
        for path, error in (("none", errno.ENOENT), ("d/h", errno.ENOTDIR)):
            with pytest.raises(HostError) as caught:
                packed(namespace, root, path)
            assert caught.value.number == error
    finally:
        os.close(root)


def packed(namespace: UserNamespace, root: int, path: str) -> bytes:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    worker = _lowlevel.start_pack_in_root(userns=namespace.fd, root=root, path=path, tar=writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    worker.wait()
    return data


def test_workers_say_what_failed(tmp_path: Path, namespace: UserNamespace) -> None:
    (tmp_path / "tar").write_bytes(b"this is no tar" * 100)
    (tmp_path / "to").mkdir()
    with open(tmp_path / "tar", "rb") as tar:
        worker = _lowlevel.start_unpack(
            userns=namespace.fd, tar=tar.fileno(), directory=str(tmp_path / "to"), single_id=False, durable=False
        )
        with pytest.raises(Error, match="cannot unpack into") as caught:
            worker.wait()
        assert not isinstance(caught.value, HostError), "the archive is at fault, not the host"
    for directory, error in ((tmp_path / "none", errno.ENOENT), (tmp_path / "tar", errno.ENOTDIR)):
        with pytest.raises(HostError, match=str(directory)) as refused:
            _lowlevel.start_pack(userns=namespace.fd, directory=str(directory), tar=1).wait()
        assert refused.value.number == error
    with open("/dev/null") as null, pytest.raises(HostError):
        _lowlevel.start_pack(userns=null.fileno(), directory=str(tmp_path), tar=1).wait()
    waiting, writer = os.pipe()
    killed = _lowlevel.start_unpack(
        userns=namespace.fd, tar=waiting, directory=str(tmp_path / "to"), single_id=False, durable=False
    )
    killed.kill()
    os.close(waiting)
    os.close(writer)


# ---- memory files, descriptors, paths


def test_a_sealed_file_cannot_be_changed() -> None:
    file = _lowlevel.sealed_file("test", b"content")
    try:
        assert os.pread(file, 100, 0) == b"content" and not os.get_inheritable(file)
        for change in (lambda: os.pwrite(file, b"x", 0), lambda: os.ftruncate(file, 0), lambda: os.ftruncate(file, 99)):
            with pytest.raises(PermissionError):
                change()
        again = os.open(f"/proc/self/fd/{file}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.write(again, b"x")
        os.close(again)
    finally:
        os.close(file)


def test_the_core_holds_nothing_but_what_it_is_given(place: Place) -> None:
    extra, other = os.pipe()
    os.set_inheritable(extra, True)
    monitor = place.monitor()
    pid = monitor._core.pid
    os.close(monitor.rootfs())
    links = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert not [link for link in links.values() if link.startswith("pipe:")]
    assert [links[name] for name in "012"] == ["/dev/null"] * 3
    with open(f"/proc/{pid}/environ", "rb") as file:
        names = {entry.split(b"=")[0].decode() for entry in file.read().split(b"\0") if entry}
    assert names <= {"PATH", "HOME", "LANG", "XDG_RUNTIME_DIR", "TMPDIR"} and "PATH" in names
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:rl-core")
    monitor.abort()
    os.close(extra)
    os.close(other)


def test_paths_beneath_a_root(tmp_path: Path) -> None:
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/a/f").write_text("inside")
    (tmp_path / "f").write_text("outside")
    for name, content in (("l", "/a/f"), ("u", "../../../a/f"), ("m", "/proc/self/root")):
        (tmp_path / "root" / name).symlink_to(content)
    root = os.open(tmp_path / "root", os.O_PATH)
    try:
        for path in ("a/f", "/a/f", "l", "u", "../a/f", "/../../a/f"):
            file = _lowlevel.open_in_root(root, path, os.O_RDONLY)
            assert os.read(file, 10) == b"inside" and not os.get_inheritable(file), path
            os.close(file)
        for path, error in (("f", errno.ENOENT), ("../f", errno.ENOENT), ("m/etc", errno.ENOENT)):
            with pytest.raises(OSError) as caught:
                _lowlevel.open_in_root(root, path, os.O_RDONLY)
            assert caught.value.errno == error
    finally:
        os.close(root)


def test_messages_carry_bytes_and_descriptors() -> None:
    ours, theirs = _lowlevel.socketpair()
    with open("/etc/passwd", "rb") as file:
        _lowlevel.send(ours, 7, b"x" * _lowlevel.DATA_MAX)
        _lowlevel.send(ours, 8, descriptor=file.fileno())
    message = _lowlevel.receive(theirs)
    assert (message.type, len(message.payload), message.descriptor) == (7, _lowlevel.DATA_MAX, -1)
    message = _lowlevel.receive(theirs)
    assert message.type == 8 and os.readlink(f"/proc/self/fd/{message.descriptor}") == "/etc/passwd"
    assert not os.get_inheritable(message.descriptor)
    os.close(message.descriptor)
    os.close(ours)
    assert _lowlevel.receive(theirs) == (0, b"", -1)
    with pytest.raises(BrokenPipeError):
        _lowlevel.send(theirs, 1)
    os.close(theirs)


# ---- what a monitor mounts, starts and removes


def test_an_overlay_and_the_mode_of_its_root(place: Place, tmp_path: Path) -> None:
    lower, upper, work = (str(tmp_path / name) for name in ("lower:with,odd", "upper", "work"))
    for directory in (lower, upper, work):
        os.mkdir(directory)
    os.chmod(lower, 0o1751)
    Path(lower, "f").write_text("below")
    mounting = [
        Operation(Kind.LIKE, (lower, upper)), Operation(Kind.OVERLAY, (str(place.root), "userxattr,index=off", None, (lower, upper, work))),
    ]  # fmt: skip
    script = f"cd {place.root}; busybox cat f; echo changed >f; busybox stat -c ' %a' ."
    assert place.run(script=script, mounting=mounting).out == "below 1751\n"
    assert Path(lower, "f").read_text() == "below" and Path(upper, "f").read_text() == "changed\n"


@pytest.mark.parametrize(
    "operation, error, words",
    [
        (Operation(Kind.OVERLAY, ("/none", "", None, ("/a", "/b", "/c"))), errno.ENOENT, ""),
        (Operation(Kind.OVERLAY, ("/none", "", None, ("/a", "/b"))), errno.E2BIG, ""), (Operation(Kind.LIKE, ("/none", "/none")), errno.ENOENT, ""),
        (Operation(Kind.HELPER, (("sh", "-c", "echo one; echo two >&2; exit 3"),)), errno.EIO, "two"),
        (Operation(Kind.HELPER, (("rl-no-such-program",),)), errno.ENOENT, "cannot execute rl-no-such-program: No such file or directory"),
    ],
)  # fmt: skip
def test_what_the_monitor_cannot_do(place: Place, operation: Operation, error: int, words: str) -> None:
    monitor = place.monitor(mounting=[operation])
    with pytest.raises(HostError) as caught:
        monitor.rootfs()
    assert os.strerror(error).lower() in caught.value.message.lower() and words in caught.value.message
    assert not place.runtime.exists()


def test_a_helper_mounts_the_root(place: Place) -> None:
    helper = Operation(Kind.HELPER, (("sh", "-c", f"mount -t tmpfs none {place.root} && echo made >{place.root}/f"),))
    assert place.run(script=f"busybox cat {place.root}/f", mounting=[helper]).out == "made\n"
    assert not (place.root / "f").exists()


def test_a_network_program_has_the_namespace_and_ends_with_the_container(place: Place, tmp_path: Path) -> None:
    program = "readlink /proc/self/fd/5; pwd; echo x >&6; exec 6>&-; cat <&7; echo ended"
    network = Operation(Kind.NETWORK, (("sh", "-c", f"({program}) >{tmp_path}/said"),))
    flags = _lowlevel.CLONE_NEWNS | _lowlevel.CLONE_NEWNET
    ran = place.run(network, script="busybox readlink /proc/self/ns/net", flags=flags)
    expected = [ran.out.strip(), str(place.runtime), "ended"]
    deadline = time.monotonic() + 5
    while (said := (tmp_path / "said").read_text().split()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said == expected


def test_a_network_program_that_fails_is_quoted(tmp_path: Path, namespace: UserNamespace) -> None:
    place = Place(tmp_path, namespace)
    monitor = place.monitor()
    os.close(monitor.rootfs())
    network = Operation(Kind.NETWORK, (("sh", "-c", "echo no tap today >&2; exit 1"),))
    monitor.prepare([network, *shell("exit")], _lowlevel.CLONE_NEWNS | _lowlevel.CLONE_NEWNET)
    with pytest.raises(HostError, match="cannot connect the container's network: no tap today"):
        monitor.ready()
    assert not place.runtime.exists()


def test_a_container_that_is_removed_at_its_end(place: Place, tmp_path: Path) -> None:
    volumes = [tmp_path / "volume1", tmp_path / "volume2"]
    for directory in volumes:
        (directory / "_data").mkdir(parents=True)
    for name, target in (("mine", "../container"), ("other", "../else")):
        os.symlink(target, tmp_path / name)
    place.runtime.mkdir()
    removal = Removal(str(tmp_path / "grave"), str(tmp_path / "mine"), tuple(map(str, volumes)))
    request = MonitorRequest(str(place.directory), str(place.runtime), None, "test", (), removal=removal)
    monitor = Monitor(request, userns=place.namespace.fd, notes=place.notes.append)
    os.close(monitor.rootfs())
    monitor.prepare(shell("exit 4"), _lowlevel.CLONE_NEWNS)
    monitor.ready()
    monitor.start_command()
    assert place.finish(monitor).code == 4
    assert sorted(os.listdir(tmp_path)) == ["other"]


def test_a_name_that_belongs_to_another_by_now_stays(place: Place, tmp_path: Path) -> None:
    os.symlink("../else", tmp_path / "name")
    place.runtime.mkdir()
    removal = Removal(str(tmp_path / "grave"), str(tmp_path / "name"))
    request = MonitorRequest(str(place.directory), str(place.runtime), None, "test", (), removal=removal)
    Monitor(request, userns=place.namespace.fd, notes=place.notes.append).abort()
    assert os.listdir(tmp_path) == ["name"]


# ---- volumes


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return empty_paths(tmp_path)


def test_a_new_volume_gets_the_images_content_once(paths: Paths, foreign: Path, namespace: UserNamespace) -> None:
    root = os.open(foreign, os.O_PATH | os.O_DIRECTORY)
    data = volume.prepare(paths, "data", namespace=namespace, root=root, content="/d")
    assert data == f"{paths.volume('data')}/_data"
    assert owners(namespace, Path(data)) == owners(namespace, foreign / "d")
    assert inside(namespace, lambda: (os.stat(data).st_uid, stat.S_IMODE(os.stat(data).st_mode))) == (5, 0o700)
    inside(namespace, lambda: os.unlink(f"{data}/h"))
    volume.prepare(paths, "data", namespace=namespace, root=root, content="/d")
    assert "h" not in owners(namespace, Path(data)), "what the containers did stays"
    for name, content in (("empty", None), ("nothing", "/none")):
        assert os.listdir(volume.prepare(paths, name, namespace=namespace, root=root, content=content)) == []
    os.unlink(f"{paths.volume('data')}/volume.json")  # as if its maker had been killed
    volume.prepare(paths, "data", namespace=namespace, root=root, content="/d")
    assert "h" in owners(namespace, Path(data))
    os.close(root)
    volume.remove(paths, "data")
    volume.remove(paths, "never")
    assert sorted(os.listdir(paths.volumes)) == ["empty", "nothing"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "ä", "a\n", "a" * 129, "²"])
def test_names_of_volumes(name: str) -> None:
    with pytest.raises(UsageError):
        volume.check_name(name)
