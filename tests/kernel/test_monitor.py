"""The core program at work: a monitor, its container's process, and what clients may say to it. The container is Debian's static busybox.

Everything here runs twice: with the program as it is shipped, and with one built under AddressSanitizer and UndefinedBehaviorSanitizer, which must
have nothing to say.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rootless import _lowlevel
from rootless._lowlevel import build
from rootless.errors import CannotInvoke, CommandNotFound, HostError
from rootless.runtime import native, plan
from rootless.runtime.plan import Flag, Kind, Operation
from rootless.userns import enter

MS_SLAVE, MS_REC = 1 << 19, 1 << 14
NAMESPACES = (
    _lowlevel.CLONE_NEWNS
    | _lowlevel.CLONE_NEWPID
    | _lowlevel.CLONE_NEWUTS
    | _lowlevel.CLONE_NEWIPC
    | _lowlevel.CLONE_NEWNET
)
ALL = b"\7\0\0\0"
"""The mask of all three streams."""


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sanitized program; what the sanitizers say lies beside it, as report.*"""
    place = tmp_path_factory.mktemp("sanitized")
    options = (
        f'"log_path={place}/report:detect_leaks=0"'  # leaks are looked for with ptrace(2), which the program forbids
    )
    (place / "options.c").write_text(
        "".join(f"const char *__{name}_default_options(void) {{ return {options}; }}\n" for name in ("asan", "ubsan"))
    )
    sources = [f"{build.HERE}/{source}" for source in build.PROGRAM_SOURCES]
    subprocess.run(
        ["cc", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *build.WARNINGS,
         "-o", str(place / "rl-core"), *sources, str(place / "options.c")],
        check=True,
    )  # fmt: skip
    return place


@pytest.fixture(params=["shipped", "sanitized"], autouse=True)
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "shipped":
        yield
        return
    place: Path = request.getfixturevalue("sanitized")
    monkeypatch.setattr(_lowlevel, "_PROGRAM", str(place / "rl-core"))
    yield
    reports = "\n".join(path.read_text() for path in place.glob("report.*"))
    for path in place.glob("report.*"):
        path.unlink()
    assert not reports


@pytest.fixture(scope="session")
def userns() -> Iterator[int]:
    with enter.create() as namespace:
        yield namespace.fd


class Box:
    """A container's directories, and monitors for it."""

    def __init__(self, place: Path, userns: int) -> None:
        self.directory, self.runtime = place / "container", place / "runtime"
        self.rootfs = self.directory / "rootfs"
        self.notes: list[str] = []
        self._userns = userns
        for part in ("bin", "dev", "proc"):
            (self.rootfs / part).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.rootfs / "bin/busybox")
        for applet in ("sh", "cat", "seq", "sleep", "yes", "head", "stty", "tty", "true", "wc"):
            (self.rootfs / "bin" / applet).symlink_to("busybox")

    def monitor(
        self, *, terminal: bool = False, stdin: bool = False, removal: native.Removal | None = None
    ) -> native.Monitor:
        self.runtime.mkdir()
        request = native.MonitorRequest(
            directory=str(self.directory),
            runtime=str(self.runtime),
            log=f"{self.directory}/log",
            title="test",
            mounting=(),
            terminal=terminal,
            stdin=stdin,
            removal=removal,
        )
        return native.Monitor(request, userns=self._userns, notes=self.notes.append)

    def plan(self, command: Sequence[str], *, terminal: bool = False, init: bool = False) -> list[Operation]:
        operations = [
            Operation(Kind.PROPAGATION, ("/",), (MS_SLAVE | MS_REC,)),
            Operation(Kind.ROOT, (str(self.rootfs),), (), Flag.RECURSIVE),
            Operation(Kind.MOUNT, ("proc", "/proc", "proc", None), (0,), Flag.CREATE),
            Operation(Kind.BIND, ("/dev/null", "/dev/null"), (0, 0, 0, 0), Flag.CREATE),
        ]
        if terminal:
            data = "newinstance,ptmxmode=0666,mode=0620"
            operations += [
                Operation(Kind.MOUNT, ("devpts", "/dev/pts", "devpts", data), (0,), Flag.CREATE),
                Operation(Kind.TERMINAL_NEW, ("/dev/console",), (24, 80)),
            ]
        operations += [Operation(Kind.PIVOT), Operation(Kind.DIE_WITH_PARENT), Operation(Kind.READY)]
        if init:
            operations.append(Operation(Kind.INIT))
        candidates = (command[0],) if "/" in command[0] else ("/no/such", f"/bin/{command[0]}")
        return [*operations, Operation(Kind.EXEC, (candidates, tuple(command), ("PATH=/bin", "A=1")))]

    def start(
        self,
        *command: str,
        terminal: bool = False,
        stdin: bool = False,
        init: bool = False,
        removal: native.Removal | None = None,
    ) -> native.Monitor:
        """A monitor whose container runs a command."""
        monitor = self.monitor(terminal=terminal, stdin=stdin, removal=removal)
        os.close(monitor.rootfs())
        monitor.prepare(self.plan(command, terminal=terminal, init=init), NAMESPACES)
        monitor.ready()
        monitor.start_command()
        return monitor

    def connect(self) -> int:
        return _lowlevel.connect(str(self.runtime), "monitor.sock")

    def state(self) -> dict[str, int]:
        return dict(json.loads((self.runtime / "state.json").read_text()))

    def exit(self) -> dict[str, int]:
        return dict(json.loads((self.directory / "exit.json").read_text()))

    def log(self) -> str:
        """What the log says, without the times."""
        lines = (self.directory / "log").read_text().splitlines()
        return "\n".join(line.split(" ", 1)[1] for line in lines)


@pytest.fixture
def box(tmp_path: Path, userns: int) -> Iterator[Box]:
    made = Box(tmp_path, userns)
    yield made
    assert not made.runtime.exists(), "the monitor removes its runtime directory"


def hear(socket: int) -> tuple[int | None, bytes, bytes]:
    """Everything that a monitor says until it closes: the exit code, standard output, standard error."""
    code, said = None, {_lowlevel.MSG_STDOUT: b"", _lowlevel.MSG_STDERR: b""}
    while (message := _lowlevel.receive(socket)).type:
        if message.type == _lowlevel.MSG_EXITED:
            code = int.from_bytes(message.payload, "little", signed=True)
        elif message.type in said:
            said[message.type] += message.payload
    return code, said[_lowlevel.MSG_STDOUT], said[_lowlevel.MSG_STDERR]


def hear_until(socket: int, words: bytes) -> bytes:
    said = b""
    while words not in said:
        message = _lowlevel.receive(socket)
        assert message.type, said
        said += message.payload
    return said


def until(look: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


# ---- streams


def test_output_code_and_records(box: Box) -> None:
    monitor = box.start("sh", "-c", "echo out $A; echo err >&2; printf rest; exit 3")
    assert hear(monitor.socket) == (3, b"out 1\nrest", b"err\n")
    assert monitor.wait() == 0
    assert box.exit()["exitCode"] == 3 and box.exit()["signal"] == 0
    assert sorted(box.log().split("\n")) == ["stderr F err", "stdout F out 1", "stdout P rest"]


def test_input_and_its_end(box: Box) -> None:
    monitor = box.start("cat", stdin=True)
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN, b"hi\n")
    assert hear_until(monitor.socket, b"hi\n") == b"hi\n"
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN)
    assert hear(monitor.socket) == (0, b"", b"")
    assert monitor.wait() == 0


def test_every_client_hears_everything(box: Box) -> None:
    """Also the one that reads late: the others wait for it."""
    monitor = box.start("sh", "-c", "cat; seq 1 50000", stdin=True)
    clients = [box.connect() for _ in range(3)]
    for client in clients:
        _lowlevel.send(client, _lowlevel.MSG_ATTACH, ALL)
        _lowlevel.send(client, _lowlevel.MSG_SIGNAL, bytes(4))  # is answered, so that the mask is known to have arrived
        assert _lowlevel.receive(client).type == _lowlevel.MSG_RESULT
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN)
    whole = b"".join(b"%d\n" % number for number in range(1, 50_001))
    with ThreadPoolExecutor() as threads:
        found = list(threads.map(hear, (monitor.socket, *clients)))
    assert found == [(0, whole, b"")] * 4
    for client in clients:
        os.close(client)
    assert monitor.wait() == 0


def test_a_stream_whose_reader_has_gone(box: Box) -> None:
    monitor = box.start("yes", init=True)
    hear_until(monitor.socket, b"y\n")
    _lowlevel.send(monitor.socket, _lowlevel.MSG_CLOSE, struct.pack("=I", _lowlevel.STDOUT))
    assert hear(monitor.socket)[0] == 128 + signal.SIGPIPE
    assert monitor.wait() == 0


def test_a_terminal(box: Box) -> None:
    monitor = box.start("sh", "-c", "tty; stty size; cat; echo end", terminal=True, stdin=True)
    assert hear_until(monitor.socket, b"24 80\r\n") == b"/dev/pts/0\r\n24 80\r\n"
    _lowlevel.send(monitor.socket, _lowlevel.MSG_RESIZE, struct.pack("=HH", 30, 90))
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN, b"x\n")
    hear_until(monitor.socket, b"x\r\nx\r\n")
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN)  # becomes the end-of-file character
    assert hear(monitor.socket) == (0, b"end\r\n", b"")
    assert monitor.wait() == 0


# ---- clients


def test_signals(box: Box) -> None:
    monitor = box.start("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done")
    hear_until(monitor.socket, b"ready")
    client = box.connect()
    for number, expected in ((0, 0), (99, 22), (int(signal.SIGTERM), 0)):
        _lowlevel.send(client, _lowlevel.MSG_SIGNAL, number.to_bytes(4, "little"))
        message = _lowlevel.receive(client)
        assert (message.type, int.from_bytes(message.payload, "little")) == (_lowlevel.MSG_RESULT, expected)
    assert hear(client)[0] == hear(monitor.socket)[0] == 9
    os.close(client)
    assert monitor.wait() == 0


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (0, b""),
        (999, b"x" * 100),
        (_lowlevel.MSG_PLAN, b""),
        (_lowlevel.MSG_START, b""),
        (_lowlevel.MSG_EXITED, b"1234"),
        (_lowlevel.MSG_RESIZE, b""),
        (_lowlevel.MSG_RESIZE, b"12345"),
        (_lowlevel.MSG_SIGNAL, b"1"),
        (_lowlevel.MSG_ATTACH, b"123456789"),
        (_lowlevel.MSG_CLOSE, struct.pack("=I", 0)),
        (_lowlevel.MSG_CLOSE, struct.pack("=I", 77)),
    ],
)
def test_a_client_that_talks_nonsense_is_dropped(box: Box, kind: int, payload: bytes) -> None:
    """It, and nobody else."""
    monitor = box.start("cat", stdin=True)
    client = box.connect()
    _lowlevel.send(client, kind, payload)
    assert _lowlevel.receive(client).type == 0
    os.close(client)
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN, b"still here")
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN)
    assert hear(monitor.socket) == (0, b"still here", b"")
    assert monitor.wait() == 0


def test_messages_of_any_length(box: Box) -> None:
    """None at all, the most that fits, and input from one who did not attach to it."""
    monitor = box.start("sh", "-c", "wc -c", stdin=True)
    client = box.connect()
    _lowlevel.send(client, _lowlevel.MSG_STDIN, b"not attached")
    _lowlevel.send(client, _lowlevel.MSG_SIGNAL, bytes(4))
    assert _lowlevel.receive(client).type == _lowlevel.MSG_RESULT
    os.close(client)
    for size in (1, _lowlevel.DATA_MAX, 4096):
        _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN, b"x" * size)
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN)
    assert hear(monitor.socket)[1].split() == [b"%d" % (1 + _lowlevel.DATA_MAX + 4096)]
    assert monitor.wait() == 0


def test_more_clients_than_there_is_room_for(box: Box) -> None:
    """Those who come too late are told to go, the others are served."""
    monitor = box.start("cat", stdin=True)
    clients = [box.connect() for _ in range(40)]
    for client in clients[31:]:
        assert _lowlevel.receive(client).type == 0
    _lowlevel.send(monitor.socket, _lowlevel.MSG_STDIN)
    assert [hear(client)[0] for client in clients[:31]] == [0] * 31
    for client in clients:
        os.close(client)
    assert hear(monitor.socket)[0] == 0 and monitor.wait() == 0


# ---- beginnings and ends


def test_commands_that_cannot_be_executed(box: Box) -> None:
    (box.rootfs / "bad").write_text("no program\n")
    for command, error in (("nosuch", CommandNotFound), ("/bad", CannotInvoke), ("/bin", CannotInvoke)):
        with pytest.raises(error):
            box.start(command)
        assert not box.runtime.exists() and not (box.directory / "exit.json").exists()


def test_a_failing_operation_says_which(box: Box) -> None:
    monitor = box.monitor()
    os.close(monitor.rootfs())
    operations = box.plan(["true"])
    operations.insert(2, Operation(Kind.MOUNT, ("x", "/proc", "nosuchfs", None), (0,)))
    monitor.prepare(operations, NAMESPACES)
    with pytest.raises(HostError, match="cannot mount x at /proc: no such device"):
        monitor.ready()


def test_what_is_optional_is_noted_and_an_alternative_is_taken(box: Box) -> None:
    monitor = box.monitor()
    os.close(monitor.rootfs())
    operations = box.plan(["true"])
    bad = Operation(Kind.MOUNT, ("x", "/proc", "nosuchfs", None), (0,))
    operations[2:2] = [
        bad._replace(flags=Flag.OPTIONAL),
        bad._replace(flags=Flag.ELSE),
        Operation(Kind.UMASK, (), (0,)),
    ]
    monitor.prepare(operations, NAMESPACES)
    monitor.ready()
    monitor.start_command()
    assert hear(monitor.socket)[0] == 0 and monitor.wait() == 0
    assert len(box.notes) == 2 and "left out" in box.notes[0]


@pytest.mark.parametrize("moment", ["born", "mounted", "planned", "ready"])
def test_rl_goes_before_the_start(box: Box, moment: str) -> None:
    """The attempt ends, and leaves nothing."""
    monitor = box.monitor()
    pid = 0
    if moment != "born":
        os.close(monitor.rootfs())
    if moment in ("planned", "ready"):
        monitor.prepare(box.plan(["sleep", "60"]), NAMESPACES)
    if moment == "ready":
        pid, _ = monitor.ready()
    assert monitor.wait() == 125
    assert not pid or not os.path.exists(f"/proc/{pid}")
    assert not (box.directory / "exit.json").exists()


def test_the_monitor_is_killed(box: Box) -> None:
    monitor = box.start("sleep", "60")
    state = box.state()
    os.kill(state["monitorPid"], signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{state['pid']}"))
    assert monitor.wait() == -signal.SIGKILL
    shutil.rmtree(box.runtime)  # nobody was left to do it


def test_the_monitor_is_asked_to_end(box: Box) -> None:
    """SIGTERM, as at log-out, becomes the container's."""
    monitor = box.start("sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.02; done")
    hear_until(monitor.socket, b"ready")
    os.kill(box.state()["monitorPid"], signal.SIGTERM)
    assert hear(monitor.socket)[0] == 4 and monitor.wait() == 0


def test_init_reaps(box: Box) -> None:
    """An orphan becomes a child of process 1 and does not stay as a zombie; a killed command is 128 and its signal."""
    script = "(sleep 0.01 &); sleep 0.1; cat /proc/[0-9]*/stat | while read p c s r; do echo $s; done; kill -9 $$"
    monitor = box.start("sh", "-c", script, init=True)
    code, out, _ = hear(monitor.socket)
    assert code == 137 and b"Z" not in out and monitor.wait() == 0
    assert box.exit() | {"exitCode": 137, "signal": 0} == box.exit(), "process 1 itself has left in peace"


def test_removal(box: Box, tmp_path: Path) -> None:
    """The container, the name that is its, a volume that is its alone; not a name that means another."""
    for holder, stays in (("container", False), ("another", True)):
        if not box.rootfs.exists():
            box = Box(tmp_path, box._userns)
        name, volume = tmp_path / "name", tmp_path / "volume"
        name.unlink(missing_ok=True)
        name.symlink_to(f"../containers/{holder}")
        (volume / "deep").mkdir(parents=True)
        grave = tmp_path / "grave"
        monitor = box.start("sh", "-c", "echo x >/x", removal=native.Removal(str(grave), str(name), (str(volume),)))
        assert hear(monitor.socket)[0] == 0 and monitor.wait() == 0
        assert not box.directory.exists() and not grave.exists() and not volume.exists()
        assert name.is_symlink() is stays


# ---- plans that are none


def damaged() -> dict[str, bytes]:
    good = plan.pack([Operation(Kind.MONITOR, ("/a", "/b", None, "t")), Operation(Kind.HELPER, (("x", "y"),))])

    def put(offset: int, value: int) -> bytes:
        return good[:offset] + struct.pack("=I", value) + good[offset + 4 :]

    first, second = 16, 16 + 80  # of the operations; each: kind, flags, text[4], count[4], number[5]
    return {
        "empty": b"",
        "short": good[:15],
        "header only": good[:16],
        "no end": good[:-1] + b"x",
        "cut": good[:-1],
        "long": good + b"\0",
        "magic": put(0, 1),
        "size": put(4, 1 << 30),
        "many operations": put(8, 4097),
        "more operations than there are": put(8, 3),
        "text outside": put(first + 8, len(good)),
        "text far outside": put(first + 8, 0xFFFFFFFF),
        "text missing": put(first + 8, 0),
        "count without text": put(first + 24 + 8, 1),
        "list too long": put(second + 24, 50),
        "list absurdly long": put(second + 24, 0xFFFFFFFF),
        "no argv": put(second + 24, 0),
        "no monitor": put(first, Kind.UMASK),
    }


@pytest.mark.parametrize("fault", damaged())
def test_a_plan_that_is_damaged_is_refused(userns: int, fault: str) -> None:
    core = _lowlevel.spawn("monitor", "test", plan=damaged()[fault], descriptors=(userns,))
    message = _lowlevel.receive(core.control)
    assert message.type == _lowlevel.MSG_FAILED
    assert _lowlevel.failure(message.payload).errno == 22
    assert core.wait() == 125
