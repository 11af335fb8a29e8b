"""`rl exec`: a further process in a running container, as confined as the container is."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.waiting import alive, children, state, until
from tests.runner import Rl

MEGABYTE = 1 << 20


@pytest.fixture
def box(rl: Rl) -> Iterator[Rl]:
    """`rl` with a running container `box`."""
    start(rl)
    yield rl
    rl.ok("rm", "-f", "box")


def start(rl: Rl, *options: str) -> None:
    rl.ok("run", "-d", "--init", "--name", "box", "--network", "none", *options, "alpine", "sleep", "600")


def sh(script: str, *options: str) -> tuple[str, ...]:
    return ("exec", *options, "box", "sh", "-c", script)


# ---- streams


def test_streams(box: Rl) -> None:
    assert box(*sh("echo out; echo err >&2; exit 3")) == (3, "out\n", "err\n")
    assert box(*sh("cat"), input="not for it") == (0, "", "")
    assert box(*sh("cat; echo end", "-i"), input="hi\n") == (0, "hi\nend\n", "")


def test_fifty_megabytes_both_ways(box: Rl) -> None:
    data = hashlib.shake_256(b"exec").digest(50 * MEGABYTE)
    code, out, err = box.raw("exec", "-i", "box", "cat", input=data)
    assert (code, err) == (0, b"")
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_input_that_nobody_reads(box: Rl) -> None:
    code, out, _ = box.raw(*sh("head -c 1 >/dev/null; echo enough", "-i"), input=bytes(4 * MEGABYTE))
    assert (code, out) == (0, b"enough\n")


def test_a_reader_that_leaves_ends_its_writer(box: Rl) -> None:
    process = box.start("exec", "box", "yes")
    assert process.stdout
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait(10) == 128 + signal.SIGPIPE


def test_an_orphan_does_not_hold_the_client(box: Rl) -> None:
    """As with `docker exec`: the process has ended, whatever it left behind with its streams."""
    assert box.ok(*sh("sleep 300 & echo started")) == "started"


def test_a_terminal(box: Rl) -> None:
    with box.terminal("exec", "-it", "-e", "PS1=#> ", "box", "sh", rows=33, columns=99) as terminal:
        terminal.expect("#> ")
        terminal.send("tty; stty size\n")
        terminal.expect(r"\n/dev/pts/\d+\r\n33 99\r\n")
        terminal.expect("#> ")
        terminal.send("sh -c 'trap \"stty size; exit\" WINCH; echo =run=; while :; do sleep 0.05; done'\n")
        terminal.expect(r"\n=run=")
        terminal.resize(50, 140)
        terminal.expect("50 140")
        terminal.expect("#> ")
        terminal.send("sh -c 'echo =run=; exec sleep 60'\n")
        terminal.expect(r"\n=run=")
        terminal.send("\x03")
        terminal.expect("#> ")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


def test_a_terminal_is_detached_from(box: Rl) -> None:
    with box.terminal("exec", "-it", "-e", "PS1=#> ", "box", "sh", "-c", "echo $$ >/pid; exec sh") as terminal:
        terminal.expect("#> ")
        terminal.send(b"\x10\x11")
        assert terminal.wait() == 0
    assert state(box, "box")["Running"]


def test_a_terminal_for_another_user(box: Rl) -> None:
    with box.terminal(
        "exec", "-it", "-u", "1000", "box", "sh", "-c", "echo hi >/dev/tty; stat -c =%u= $(tty)"
    ) as terminal:
        assert terminal.wait() == 0
        assert terminal.screen == b"hi\r\n=1000=\r\n"


def test_detached(box: Rl) -> None:
    assert box.ok(*sh("echo it >/there; sleep 300", "-d")) == ""
    until(lambda: box(*sh("cat /there")).out == "it\n")
    assert box("exec", "-d", "box", "nosuch").code == 127


# ---- who, where, with what


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("root", "0:0"),
        ("nobody", "65534:65534"),
        ("1234", "1234:0"),
        ("1234:4321", "1234:4321"),
        ("nobody:daemon", "65534:2"),
    ],
)
def test_user(box: Rl, user: str, ids: str) -> None:
    assert box.ok(*sh("echo $(id -u):$(id -g)", "-u", user)) == ids


def test_a_user_that_does_not_exist(box: Rl) -> None:
    result = box(*sh("true", "-u", "nosuchuser"))
    assert result.code in (125, 126) and "nosuchuser" in result.err


def test_environment_and_directory(rl: Rl) -> None:
    start(rl, "-e", "A=1", "-e", "B=2", "-w", "/tmp")
    assert rl.ok(*sh("echo $A $B $C $PWD", "-e", "B=3", "-e", "C=4")) == "1 3 4 /tmp"
    assert rl.ok(*sh("pwd", "-w", "/etc")) == "/etc"
    result = rl(*sh("true", "-w", "/no/such"))
    assert result.code == 126 and "/no/such" in result.err
    rl.ok("rm", "-f", "box")


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("false", 1), ("nosuch", 127), ("/no/such", 127), ("/etc", 126), ("/etc/passwd", 126)],
)
def test_exit_codes(box: Rl, command: str, code: int) -> None:
    assert box("exec", "box", command).code == code


def test_exit_code_of_a_signal(box: Rl) -> None:
    assert box(*sh("kill -9 $$")).code == 137


def test_signals_are_passed_on(box: Rl) -> None:
    process = box.start(*sh("trap 'echo got; exit 42' TERM; echo ready; while :; do sleep 0.05; done"))
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.communicate(timeout=10)[0] == b"got\n" and process.returncode == 42


# ---- how it is confined


STATUS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--user", "1000:1000"),
        ("--cap-drop", "ALL", "--cap-add", "CHOWN"),
        ("--security-opt", "no-new-privileges"),
        ("--security-opt", "seccomp=unconfined"),
        ("--privileged",),
    ],
    ids=lambda options: " ".join(options) or "default",
)
def test_it_is_as_confined_as_the_container(rl: Rl, options: tuple[str, ...]) -> None:
    """In all that /proc/PID/status knows of privileges."""
    rl.ok("run", "-d", "--name", "box", "--network", "none", *options, "alpine", "sleep", "600")
    text = rl.ok("exec", "box", "sh", "-c", "cat /proc/self/status; echo ====; cat /proc/1/status")
    ours, theirs = (
        dict(line.split(":\t", 1) for line in part.splitlines() if ":\t" in line) for part in text.split("====")
    )
    assert {name: ours[name] for name in STATUS} == {name: theirs[name] for name in STATUS}
    namespaces = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/{}/ns/$n; done"
    assert rl.ok(*sh(namespaces.format("self"))) == rl.ok(*sh(namespaces.format("1")))
    rl.ok("rm", "-f", "box")


def test_it_sees_the_containers_mounts_only(box: Rl, tmp_path: Path) -> None:
    mounts = "cut -d ' ' -f 5 /proc/{}/mountinfo | sort"
    assert box.ok(*sh(mounts.format("self"))) == box.ok(*sh(mounts.format("1")))
    assert box("exec", "box", "ls", str(tmp_path)).code != 0
    assert box.ok(*sh("ls /proc/self/fd | wc -l")) == "4", "its streams, and the directory being read"


def test_it_cannot_be_traced_before_it_executes(box: Rl) -> None:
    """CVE-2016-9962: a process of the container that waits for newcomers finds none with descriptors or memory of ours to open.

    Every process that it sees appear is looked into at once; until it has executed its command, all of /proc/PID belongs to nobody.
    """
    spy = """
        echo ready
        while [ ! -e /stop ]; do
            for p in /proc/[0-9]*; do
                exe=$(readlink $p/exe 2>/dev/null) || continue
                case $exe in *memfd*) [ $p = /proc/1 ] || { echo "exe $exe"; ls -l $p/fd; } ;; esac
            done
        done; echo stopped
    """
    process = box.start(*sh(spy))
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    for _ in range(15):
        box.ok("exec", "box", "true")
    box.ok("exec", "box", "touch", "/stop")
    assert process.communicate(timeout=30)[0] == b"stopped\n"


# ---- many, and ends


def test_twenty_at_once(box: Rl) -> None:
    processes = [box.start(*sh(f"cat; exit {number}", "-i")) for number in range(20)]
    for number, process in enumerate(processes):
        out, err = process.communicate(b"%d" % number, timeout=60)
        assert (process.returncode, out, err) == (number, b"%d" % number, b"")


def test_no_zombies_are_left(box: Rl) -> None:
    for _ in range(3):
        box.ok(*sh("sleep 0 & true"))
    monitor = state(box, "box")["ConmonPid"]
    assert children(monitor) == [state(box, "box")["Pid"]]
    until(lambda: "Z" not in box.ok(*sh("ps -o stat")))


def test_the_container_ends_meanwhile(box: Rl) -> None:
    process = box.start(*sh("echo ready; sleep 60"))
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    box.ok("kill", "box")
    assert process.wait(10) == 137


def test_rl_is_killed(box: Rl) -> None:
    """The process goes on, as with -d, and is reaped when it ends."""
    process = box.start(*sh("echo $$ >/pid; echo ready; while [ ! -e /go ]; do sleep 0.02; done; echo done >/done"))
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    before = children(process.pid)
    process.kill()
    process.wait()
    box.ok("exec", "box", "touch", "/go")
    until(lambda: box(*sh("cat /done")).out == "done\n")
    until(lambda: not any(map(alive, before)))


@pytest.mark.parametrize("life", ["created", "exited"])
def test_a_container_that_does_not_run(rl: Rl, life: str) -> None:
    rl.ok("create", "--name", "box", "--network", "none", "alpine", "true")
    if life == "exited":
        rl.ok("start", "-a", "box")
    result = rl("exec", "box", "true")
    assert result.code == 125 and "not running" in result.err and "rl start" in result.err
    rl.ok("rm", "box")


def test_words(box: Rl) -> None:
    assert box("exec", "box").code == 125
    assert box("exec", "nosuch", "true").code == 125
    result = box("exec", "-it", "box", "true")
    assert result.code == 125 and "not a terminal" in result.err
