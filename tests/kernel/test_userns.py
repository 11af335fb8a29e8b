"""The user namespace that containers share: its map, who finds it, what becomes of it."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless import _lowlevel
from rootless.errors import HostError
from rootless.paths import Paths
from rootless.userns import enter, idmap, subid
from rootless.userns.enter import UserNamespace
from tests.fakes.containers import empty_paths
from tests.kernel.core import Place, shell

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return empty_paths(tmp_path)


def inode(namespace: UserNamespace) -> int:
    return os.fstat(namespace.fd).st_ino


def maps_in(namespace: UserNamespace) -> tuple[str, str, str]:
    """uid_map, gid_map and setgroups as a process inside sees them."""

    def look() -> tuple[str, str, str]:
        uid, gid, setgroups = (Path(f"/proc/self/{name}").read_text() for name in ("uid_map", "gid_map", "setgroups"))
        return uid, gid, setgroups.strip()

    return enter.inside(namespace, look)


# ---- making


def test_a_new_namespace_has_the_callers_id_and_his_subordinate_ones() -> None:
    with enter.create() as made:
        assert made.notice is None and not made.single_id and made.setgroups
        for kind, own, found in (("uid", os.getuid(), made.uid_map), ("gid", os.getgid(), made.gid_map)):
            ranges = subid.ranges(
                "uid" if kind == "uid" else "gid", uid=os.getuid(), user=pwd.getpwuid(os.getuid()).pw_name
            )
            assert found == idmap.default_map(own, ranges) and found[0] == (0, own, 1)
        uid_map, gid_map, setgroups = maps_in(made)
        assert (idmap.parse_proc(uid_map), idmap.parse_proc(gid_map), setgroups) == (
            made.uid_map,
            made.gid_map,
            "allow",
        )
        assert not os.get_inheritable(made.fd)


def test_without_newuidmap_there_is_one_id_and_a_notice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with enter.create() as made:
        assert made.single_id and not made.setgroups
        assert (
            made.notice
            and "cannot execute newuidmap: no such file or directory" in made.notice
            and "rl doctor" in made.notice
        )
        words = [text.split() for text in maps_in(made)]
        assert words == [["0", str(os.getuid()), "1"], ["0", str(os.getgid()), "1"], ["deny"]]


def test_a_newuidmap_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, body in (("newuidmap", "echo not today >&2; exit 1"), ("newgidmap", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with enter.create() as made:
        assert made.single_id and made.notice and made.notice.startswith("newuidmap failed (not today)")


def test_making_one_leaves_no_process_and_no_descriptor() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def children() -> str:  # of this thread, which makes them; a registry that other tests use may be among them
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text()

    before = open_files(), children()
    for _ in range(3):
        enter.create().close()
    assert (open_files(), children()) == before


# ---- inside


def test_what_is_done_inside_comes_back(namespace: UserNamespace) -> None:
    assert enter.inside(namespace, os.getuid) == 0 and os.getuid() != 0
    with pytest.raises(FileNotFoundError):
        enter.inside(namespace, lambda: os.stat("/none"))

    def refuse() -> None:
        raise HostError("no", hint="never")

    with pytest.raises(HostError, match="^no$") as caught:
        enter.inside(namespace, refuse)
    assert caught.value.hint == "never"
    with open("/proc/self/ns/user") as own, pytest.raises(HostError, match="cannot enter the user namespace"):
        enter.inside(namespace._replace(fd=own.fileno()), os.getuid)


# ---- sharing


def test_the_second_finds_the_first(paths: Paths) -> None:
    with enter.acquire(paths) as first, enter.acquire(paths) as second:
        assert inode(first) == inode(second) and first.fd != second.fd
        assert (first.uid_map, first.gid_map) == (second.uid_map, second.gid_map)
        assert second.notice is None


ACQUIRE = """
import os, sys, time
from rootless.paths import Paths
from rootless.userns import enter
with enter.acquire(Paths(sys.argv[1] + "/s", sys.argv[1] + "/r", "", "")) as found:
    print(os.fstat(found.fd).st_ino, found.single_id, flush=True)
    sys.stdin.read()
"""


def acquirers(place: Path, count: int) -> Iterator[subprocess.Popen[str]]:
    for _ in range(count):
        yield subprocess.Popen(
            [sys.executable, "-c", ACQUIRE, str(place)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def test_many_at_once_have_one(paths: Paths, tmp_path: Path) -> None:
    running = list(acquirers(tmp_path, 8))
    found = {process.stdout.readline() for process in running if process.stdout}
    for process in running:
        process.communicate()
    assert len(found) == 1 and found.pop().endswith(" False\n")


def test_it_dies_with_its_last_holder(paths: Paths, tmp_path: Path) -> None:
    (process,) = acquirers(tmp_path, 1)
    assert process.stdout
    first = int(process.stdout.readline().split()[0])
    with enter.acquire(paths) as found:
        assert inode(found) == first
        process.kill()
        process.communicate()
        assert idmap.count(found.uid_map) > 1, "one holder is enough"
    told = json.loads(Path(paths.userns).read_text())
    assert not enter.alive(told["pid"], told["start"])
    listing = subprocess.run(
        ["lsns", "-t", "user", "-n", "-o", "NS"], capture_output=True, text=True, check=False
    ).stdout
    assert str(first) not in listing.split()
    with enter.acquire(paths) as again:
        assert json.loads(Path(paths.userns).read_text())["inode"] == inode(again)


def test_the_monitor_of_a_running_container_holds_it(paths: Paths, tmp_path: Path) -> None:
    with enter.create() as made:
        place = Place(tmp_path / "c", made)
        place.runtime = Path(paths.runtime("c" * 64))
        monitor = place.monitor()
        os.close(monitor.rootfs())
        monitor.prepare(shell("busybox sleep 30"), _lowlevel.CLONE_NEWNS)
        pid, _ = monitor.ready()
        monitor.start_command()
        wanted = inode(made)
    try:
        with enter.acquire(paths) as found:
            assert inode(found) == wanted and not found.single_id
            assert not os.path.exists(paths.userns), "found by the monitor alone"
        state = json.loads((place.runtime / "state.json").read_text())
        with enter.of_process(state["monitorPid"], state["monitorStartTime"]) as found:
            assert inode(found) == wanted
        with pytest.raises(HostError, match="is gone"):
            enter.of_process(state["monitorPid"], state["monitorStartTime"] + 1)
    finally:
        os.kill(pid, signal.SIGKILL)
        monitor.wait()


# ---- records that are not true (any more)


def own_record(**changes: Any) -> dict[str, Any]:
    return {"pid": os.getpid(), "start": enter.start_time(os.getpid()), "fd": 0, "inode": 1} | changes


def makes_a_new_one(paths: Paths) -> bool:
    with enter.acquire(paths) as found, enter.acquire(paths) as again:
        return not found.single_id and inode(found) == inode(again)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[1]", "7", "null", '"x"', "{}", '{"pid": 1}', '{"pid": "1", "start": 1, "fd": 1, "inode": 1}', '{"pid": null, "start": 1, "fd": 1, "inode": 1}'],
)  # fmt: skip
def test_a_damaged_record_is_no_record(paths: Paths, text: str) -> None:
    Path(paths.userns).write_text(text)
    os.mkdir(paths.runtime("c" * 64))
    Path(f"{paths.runtime('c' * 64)}/state.json").write_text(text)
    assert makes_a_new_one(paths)


def test_a_record_of_a_dead_or_another_process(paths: Paths) -> None:
    for changes in (
        {"pid": 2**22 + 1},
        {"pid": -1},
        {"pid": 0},
        {"start": 1},
        {"pid": 1, "start": enter.start_time(1)},
    ):
        Path(paths.userns).write_text(json.dumps(own_record(**changes)))
        assert makes_a_new_one(paths), changes


def test_a_descriptor_that_is_something_else_by_now(paths: Paths, tmp_path: Path) -> None:
    """Not even opened: a pipe would hang, a socket is ENXIO, a device may do something."""
    reader, writer = os.pipe()
    os.close(writer)
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    with socket.socket() as connection, open("/etc/passwd", "rb") as file:
        own = os.open("/proc/self/ns/user", os.O_RDONLY)
        for descriptor in (reader, fifo, connection.fileno(), file.fileno(), own, 9999):
            try:
                number = os.fstat(descriptor).st_ino
            except OSError:
                number = 1
            for claimed in (1, number):
                Path(paths.userns).write_text(json.dumps(own_record(fd=descriptor, inode=claimed)))
                assert makes_a_new_one(paths), (descriptor, claimed)
    for descriptor in (reader, fifo, own):
        os.close(descriptor)


def test_a_namespace_without_a_map_is_not_joined(paths: Paths) -> None:
    pid, release = _lowlevel.create_userns()
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    try:
        Path(paths.userns).write_text(json.dumps(own_record(fd=fd, inode=os.fstat(fd).st_ino)))
        assert makes_a_new_one(paths)
    finally:
        os.close(fd)
        os.close(release)
        os.waitpid(pid, 0)


def test_start_times() -> None:
    child = subprocess.Popen(["sleep", "30"])
    start = enter.start_time(child.pid)
    assert start and enter.alive(child.pid, start) and not enter.alive(child.pid, start + 1)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert enter.start_time(child.pid) is None, "a zombie does not run"
    child.wait()
    assert enter.start_time(child.pid) is None
