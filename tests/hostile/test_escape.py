"""Ways out of a container, and ways to stop or fool the engine from inside one or beside one. Each test names the guard that it holds."""

from __future__ import annotations

import array
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless import _lowlevel
from rootless.runtime.plan import Kind, Operation, pack
from rootless.userns import enter
from tests.fakes import leaks, sample_images
from tests.runner import Rl

QUIET = ("--network", "none")


def wait_for(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def state(rl: Rl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rl.json("inspect", name)[0]["State"]
    return found


def image(rl: Rl, tmp_path: Path, change: Callable[[tarfile.TarFile], None], *options: str) -> str:
    """A busybox root with what `change` adds to the archive, in the store as `hostile`."""
    buffer = io.BytesIO(sample_images.busybox_root("amd64"))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        change(archive)
    path = tmp_path / "root.tar"
    path.write_bytes(buffer.getvalue())
    rl.ok("import", "-q", *options, str(path), "hostile")
    return "hostile"


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, 0o755
    return made


# ---- out through descriptors


def test_the_working_directory_is_none_of_the_monitors(tmp_path: Path) -> None:
    """CVE-2024-21626. Guard: keep_only in child.c. (Before PIVOT, RESOLVE_NO_MAGICLINKS refuses the same path, unless it is changed in between.)"""
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    plan = pack([Operation(Kind.CWD, ("/proc/self/fd/6",)), Operation(Kind.READY)])
    with enter.create() as namespace:
        core = _lowlevel.spawn("try", plan=plan, descriptors=(namespace.fd, directory))
    os.close(directory)
    message = _lowlevel.receive(core.control)
    core.wait()
    assert message.type == _lowlevel.MSG_FAILED, "the child could go to a directory that its parent has open"
    assert _lowlevel.failure(message.payload).kind == Kind.CWD


@pytest.mark.parametrize("path", ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/root"])
def test_a_working_directory_over_magic_links(rl: Rl, path: str) -> None:
    """Guard: RESOLVE_IN_ROOT in mounts.c, which follows none either, where the working directory is looked for before the change of root."""
    result = rl("run", "--rm", *QUIET, "-w", path, "alpine", "ls")
    assert (result.code, result.out) == (126, "") and "working directory" in result.err, result


def test_descriptors_of_an_exec(rl: Rl) -> None:
    """Guard: close_range in do_exec of child.c."""
    rl.ok("run", "-d", "--name", "box", *QUIET, "alpine", "sleep", "60")
    assert rl.ok("exec", "box", "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]  # 3: of ls itself
    assert rl.ok("exec", "-w", "/proc/self/fd", "box", "pwd").startswith("/proc/")
    assert rl("exec", "-w", "/proc/self/fd/5", "box", "pwd").code == 126
    rl.ok("rm", "-f", "box")


def test_helpers_hold_nothing_of_the_monitors(rl: Rl) -> None:
    """Guard: FD_CLOEXEC on the plan and the control socket in rl_mode_monitor; with the socket, rl would wait for slirp4netns."""
    process = rl.start("run", "--name", "box", "alpine", "sh", "-c", "echo started; exec sleep 60")
    assert process.stdout and process.stdout.readline() == b"started\n"
    monitor = state(rl, "box")["ConmonPid"]
    children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    helper = next(pid for pid in children if b"slirp4netns" in Path(f"/proc/{pid}/cmdline").read_bytes())
    held = {os.readlink(entry) for entry in Path(f"/proc/{helper}/fd").iterdir()}
    control = os.readlink(f"/proc/{monitor}/fd/4")
    assert control.startswith("socket:") and control not in held
    assert not [link for link in held if "rl-plan" in link or rl.root in link], held
    rl.ok("rm", "-f", "box")


# ---- out through /proc/PID/exe


def test_the_core_program_is_sealed(rl: Rl) -> None:
    """CVE-2019-5736. Guard: the seals of rl_sealed_file. With --init, process 1 is the core program."""
    program = Path(_lowlevel.__file__).parent / "rl-core"
    before = hashlib.sha256(program.read_bytes()).digest()
    script = "ls -l /proc/1/exe; echo x >/proc/1/exe; dd if=/dev/zero of=/proc/1/exe conv=notrunc count=1; true"
    result = rl("run", "--rm", "--init", *QUIET, "alpine", "sh", "-c", script)
    assert "memfd:rl-core" in result.out, result
    copy = _lowlevel.sealed_file("rl-core", program.read_bytes(), executable=True)
    with pytest.raises(PermissionError):
        os.pwrite(copy, b"x", 0)  # also once nobody executes it any more, when there is no ETXTBSY
    os.close(copy)
    assert hashlib.sha256(program.read_bytes()).digest() == before


def test_a_command_that_executes_its_parent(rl: Rl) -> None:
    """The interpreter /proc/self/exe is the core program at that moment; as a command of the container it does nothing."""
    rl.ok("run", "-d", "--name", "box", *QUIET, "alpine", "sleep", "60")
    rl.ok("exec", "box", "sh", "-c", "printf '#!/proc/self/exe\\n' >/evil; chmod 755 /evil")
    assert rl("exec", "box", "/evil", "monitor").code == 125
    rl.ok("rm", "-f", "box")


# ---- images that are not what they should be


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_an_image_whose_kernel_directory_is_a_link(rl: Rl, tmp_path: Path, name: str) -> None:
    """CVE-2019-19921: masks would go elsewhere than the file system. Guard: RL_OP_NO_SYMLINKS."""
    image(rl, tmp_path, lambda archive: archive.addfile(member(name, tarfile.SYMTYPE, "/elsewhere")))
    result = rl("run", "--rm", *QUIET, "hostile", "true")
    assert result.code == 125
    assert result.err.splitlines() == [
        f"rl: /{name} is a symbolic link in the image, which could show what is to be hidden"
    ]
    rl.ok("rmi", "hostile")


def test_links_out_of_the_root(rl: Rl, tmp_path: Path) -> None:
    """Guard: RESOLVE_IN_ROOT. Targets of mounts, /etc files, the console and the working directory are links that lead above the root."""
    outside = tmp_path / "outside"
    outside.mkdir()
    up = "../" * 40 + str(outside).lstrip("/")

    def change(archive: tarfile.TarFile) -> None:
        for name in ("data", "work", "dev", "etc/resolv.conf", "etc/hosts"):
            archive.addfile(member(name, tarfile.SYMTYPE, up if name in ("data", "work") else f"{up}/{name}"))

    image(rl, tmp_path, change)
    source = tmp_path / "source"
    source.mkdir()
    (source / "mark").write_text("inside\n")
    options = ("-t", "-v", f"{source}:/data/deep:ro", "-w", "/work", "--tmpfs", "/data/tmp")
    result = rl("run", "--rm", *QUIET, *options, "hostile", "cat", "/data/deep/mark")
    assert (result.code, result.out.strip()) == (0, "inside"), result
    assert list(outside.iterdir()) == []
    rl.ok("rmi", "hostile")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("etc/passwd", tarfile.FIFOTYPE), ("etc/group", tarfile.DIRTYPE), ("etc/hosts", tarfile.FIFOTYPE), ("etc/hostname", tarfile.DIRTYPE), ("dev", tarfile.FIFOTYPE), ("proc", tarfile.REGTYPE), ("etc", tarfile.REGTYPE)],
)  # fmt: skip
def test_odd_files_in_their_places(rl: Rl, tmp_path: Path, name: str, kind: bytes) -> None:
    """It works or it is one clear line; it never waits and leaves nothing. Guards: O_PATH in users.py and mounts.c."""
    image(rl, tmp_path, lambda archive: archive.addfile(member(name, kind)))
    result = rl("run", "--rm", *QUIET, "--user", "nobody", "hostile", "true", timeout=20)
    assert result.code in (0, 125), result
    assert "internal error" not in result.err and result.err.count("rl: ") == (result.code != 0)
    rl.ok("rmi", "hostile")


def test_a_console_that_waits(rl: Rl, tmp_path: Path) -> None:
    """Guard: O_PATH in mount_console of terminal.c: a pipe that is there already would keep the child waiting for its reader."""
    os.mkfifo(tmp_path / "console")
    options = ("-t", "-v", f"{tmp_path}/console:/dev/console")
    result = rl("run", "--rm", *QUIET, *options, "alpine", "sh", "-c", "test -c /dev/console", timeout=20)
    assert result.code == 0, result


# ---- devices and masks


def test_device_nodes_of_the_host_stay_as_they_are(rl: Rl) -> None:
    """Guard: "ro" of _devices in compile.py and of rl_do_mask. Root in a container that root started owns the nodes."""
    script = "for f in /dev/null /dev/zero /proc/keys /proc/timer_list; do chmod 600 $f; done; echo written >/dev/null"
    result = rl("run", "--rm", *QUIET, "alpine", "sh", "-c", script)
    assert result.code == 0 and result.err.count("Read-only file system") == 4, result


# ---- beside a container


def test_a_monitor_among_strange_clients(rl: Rl) -> None:
    """Guards: MSG_TRUNC and lengths in report.c and streams.c, RL_MAX_CLIENTS. Its socket is the user's alone, and still takes no nonsense."""
    container = rl.ok("run", "-d", "--name", "box", *QUIET, "alpine", "sleep", "60")
    directory = f"{rl.runroot}/containers/{container}"
    monitor = state(rl, "box")["ConmonPid"]

    def connect() -> socket.socket:
        client = socket.socket(fileno=_lowlevel.connect(directory, "monitor.sock"))
        client.settimeout(5)
        return client

    def said(client: socket.socket) -> bytes:
        try:
            return client.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            return b""

    before = len(os.listdir(f"/proc/{monitor}/fd"))
    word = (0).to_bytes(4, "little")
    for nonsense in (b"x", word, b"\xff" * 4, (3).to_bytes(4, "little") + b"x" * 100_000, (6).to_bytes(4, "little"), (5).to_bytes(4, "little") + b"\0" * 5):  # fmt: skip
        with connect() as client:
            client.send(nonsense)
            assert said(client) == b"", nonsense[:8]  # dropped
    with connect() as client:  # a signal that does not exist
        client.send((5).to_bytes(4, "little") + (12345).to_bytes(4, "little"))
        assert said(client) == (41).to_bytes(4, "little") + (22).to_bytes(4, "little")
    with connect() as client:  # descriptors that nobody asked for
        files = array.array("i", [0] * 10)
        client.sendmsg([(6).to_bytes(4, "little") * 2], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        client.send((4).to_bytes(4, "little") + b"\xff" * 4)
    with connect() as stopped:  # attached, and reads nothing
        stopped.send((6).to_bytes(4, "little") + (6).to_bytes(4, "little"))
        wait_for(lambda: len(os.listdir(f"/proc/{monitor}/fd")) == before + 1)
        assert rl.ok("exec", "box", "echo", "there") == "there"
        rl.ok("kill", "-s", "CONT", "box")
        rl.ok("stop", "-t", "0", "box", timeout=10)
    rl.ok("rm", "box")


def test_a_process_that_outlives_its_monitor(rl: Rl) -> None:
    """Guard: end_survivor of ending.py. A setuid program, or a change of user, clears PR_SET_PDEATHSIG; here su does."""
    rl.ok("run", "-d", "--name", "box", *QUIET, "alpine", "sh", "-c", "exec su nobody -s /bin/sh -c 'exec sleep 300'")
    found = state(rl, "box")
    wait_for(lambda: b"sleep" in Path(f"/proc/{found['Pid']}/cmdline").read_bytes())
    start = enter.start_time(found["Pid"])
    assert start is not None
    os.kill(found["ConmonPid"], signal.SIGKILL)
    wait_for(lambda: state(rl, "box")["Status"] == "exited")
    assert enter.alive(found["Pid"], start), "the test shows nothing: it died with its monitor"
    rl.ok("rm", "box")
    assert not enter.alive(found["Pid"], start)


def test_an_orphan_that_writes_for_ever(rl: Rl) -> None:
    """Guard: DRAINED_MAX of streams.c. In the host's pid namespace a container's background processes survive it."""
    begun = time.monotonic()
    script = "(trap '' TERM HUP; exec yes) & sleep 0.1; exit 3"
    process = rl.start("run", "--rm", *QUIET, "--pid", "host", "alpine", "sh", "-c", script)
    assert process.stdout
    while process.stdout.read(1 << 16):
        assert time.monotonic() - begun < 20, "the monitor goes on passing what the orphan says"
    assert process.wait(10) == 3


def test_records_that_are_not_ours(rl: Rl) -> None:
    """Guard: container.state takes documents apart with care. One damaged container does not keep the others from being listed."""
    rl.ok("run", "-d", "--name", "good", *QUIET, "alpine", "sleep", "60")
    bad = rl.ok("create", "--name", "bad", "alpine", "true")
    directory = Path(rl.root, "containers", bad)
    for name, text in (
        ("exit.json", "[]"), ("exit.json", '{"exitCode": "x"}'), ("exit.json", "{"), ("container.json", "7"), ("container.json", "{}"),
    ):  # fmt: skip
        path = directory / name
        old = path.read_bytes() if path.exists() else None
        path.write_text(text)
        for command in (("ps", "-a"), ("inspect", "bad"), ("start", "bad"), ("rm", "bad")):
            result = rl(*command)
            assert "internal error" not in result.err, (name, text, command, result)
        if directory.exists() and old is not None:
            path.write_bytes(old)
        elif directory.exists():
            path.unlink()
    for text in ("[]", "{}", '{"pid": "x"}', "\0", json.dumps({"pid": 1, "start": 1, "fd": 1, "inode": 1})):
        Path(rl.runroot, "userns.json").write_text(text)
        assert rl.ok("run", "--rm", *QUIET, "alpine", "echo", "there") == "there", text
    rl.ok("rm", "-f", "good")
    rl("rm", "-f", "bad")


def test_rl_killed_at_any_point(rl: Rl, tmp_path: Path) -> None:
    """Guards: POLLHUP in await_ready and `abandon` of monitor.c, the locks of what lies in tmp/. What is left can be removed, or is swept."""
    empty = tmp_path / "empty.tar"
    with tarfile.open(empty, "w"):
        pass
    for place in range(12):
        process = rl.start("run", "--name", "box", "alpine", "sleep", "60")
        time.sleep(0.05 + 0.02 * place)
        process.kill()
        process.wait()
        wait_for(lambda: rl.ok("ps", "-q") or not leaks.processes(rl.runroot))
        rl("rm", "-f", "box")
        assert rl.ok("run", "--rm", "--name", "box", *QUIET, "alpine", "echo", "again") == "again"
    rl.ok("import", "-q", str(empty), "empty")  # sweeps
    rl.ok("rmi", "empty")
    for probe in Path(rl.root, "tmp").glob("probe-*"):  # without a lock: they are given an hour
        shutil.rmtree(probe)
