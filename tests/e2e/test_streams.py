"""Standard streams and exit codes: what a shell user may rely on in a pipeline."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.runner import Rl

RUN = ("run", "--rm", "--network", "none")
MEGABYTE = 1 << 20


def sh(script: str, *options: str) -> tuple[str, ...]:
    """The words of an `rl` that runs a shell script in a container of its own."""
    return (*RUN, *options, "alpine", "sh", "-c", script)


def payload(size: int) -> bytes:
    """Bytes in which a lost, doubled or misplaced block shows."""
    return b"".join(hashlib.sha256(block.to_bytes(8, "big")).digest() for block in range(1 << 15)) * (size // MEGABYTE)


def test_standard_input_passes_and_ends(rl: Rl) -> None:
    assert rl.ok(*RUN, "-i", "alpine", "cat", input="hi\n") == "hi"


def test_half_closed_input(rl: Rl) -> None:
    """The end of the input is not the end of the conversation."""
    assert rl.ok(*sh("cat; echo after; cat; echo end", "-i"), input="one\n").split() == ["one", "after", "end"]


def test_without_interactive_standard_input_is_empty(rl: Rl) -> None:
    assert rl.ok(*sh("wc -c; ls -l /proc/self/fd/0"), input="not for it\n").split()[0] == "0"


def test_output_and_errors_are_apart(rl: Rl) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
    assert rl(*sh(script)) == (0, "out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n")


def test_a_last_line_without_a_newline(rl: Rl) -> None:
    assert rl.raw(*RUN, "alpine", "printf", r"a\0b\377") == (0, b"a\0b\xff", b"")


def test_a_hundred_megabytes_both_ways(rl: Rl) -> None:
    """`cat` gives back as it takes: a client that only writes while it writes would stand still for ever."""
    data = payload(100 * MEGABYTE)
    code, out, err = rl.raw(*RUN, "-i", "--log-driver", "none", "alpine", "cat", input=data)
    assert (code, err) == (0, b"")
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_a_hundred_megabytes_out_and_errors_beside(rl: Rl) -> None:
    script = "dd if=/dev/zero bs=1M count=50 | tr '\\0' o & dd if=/dev/zero bs=1M count=50 2>/dev/null | tr '\\0' e >&2; wait"
    code, out, err = rl.raw(*sh(script, "--log-driver", "none"))
    assert (code, out.count(b"o"), err.count(b"e") >= 50 * MEGABYTE) == (0, 50 * MEGABYTE, True)


def test_a_container_that_does_not_read_its_input(rl: Rl) -> None:
    """More is sent than all buffers on the way hold; what the container says arrives nevertheless, and so does its end."""
    code, out, _ = rl.raw(*sh("head -c 1 >/dev/null; echo enough", "-i"), input=payload(4 * MEGABYTE))
    assert (code, out) == (0, b"enough\n")


def test_a_slow_reader_loses_nothing(rl: Rl) -> None:
    process = rl.start(*sh("seq 1 200000; echo end >&2", "--log-driver", "none"))
    assert process.stdout and process.stderr and process.stdin
    process.stdin.close()
    seen = b""
    while chunk := os.read(process.stdout.fileno(), 4096 if len(seen) < 100_000 else MEGABYTE):
        seen += chunk
        if len(seen) < 100_000:
            time.sleep(0.002)  # what is tested, not what is waited for
    assert seen == b"".join(b"%d\n" % number for number in range(1, 200_001))
    assert process.stderr.read() == b"end\n" and process.wait() == 0


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--init",), 128 + signal.SIGPIPE)])
def test_a_reader_that_leaves_ends_its_writer(rl: Rl, options: tuple[str, ...], code: int) -> None:
    """`rl run … yes | head -1`, as in any pipeline. Process 1 gets EPIPE alone: the kernel spares it the signal."""
    process = rl.start(*RUN, *options, "alpine", "yes")
    assert process.stdout
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait(10) == code


def test_closed_standard_streams_of_the_caller(rl: Rl) -> None:
    words = " ".join([*rl.command, *RUN, "-i", "alpine", "true"])
    done = subprocess.run(["sh", "-c", f"{words} <&- >&- 2>&-"], env=rl.environment, timeout=30)
    assert done.returncode == 0


def test_detached_holds_none_of_the_callers_pipes(rl: Rl) -> None:
    """`id=$(rl run -d …)` ends at once: a monitor that held the pipe would keep the shell waiting."""
    started = time.monotonic()
    identifier = rl.ok("run", "-d", "--rm", "--network", "none", "alpine", "sleep", "60")
    assert time.monotonic() - started < 20
    assert len(identifier) == 64
    rl.ok("rm", "-f", identifier)


def test_no_descriptor_of_the_caller_is_inherited(rl: Rl, tmp_path: Path) -> None:
    """Neither by the container's process nor by the monitor."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    words = [
        *rl.command,
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "alpine",
        "sh",
        "-c",
        "ls -l /proc/self/fd; sleep 60",
    ]
    with open(secret) as file:
        os.set_inheritable(file.fileno(), True)
        subprocess.run(words, env=rl.environment, pass_fds=(file.fileno(),), check=True, capture_output=True)
    state = rl.json("inspect", "box")[0]["State"]
    for pid in (state["Pid"], state["ConmonPid"]):
        held = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        assert not [link for link in held if "secret" in link], held
    assert sorted(int(name) for name in os.listdir(f"/proc/{state['Pid']}/fd") if int(name) < 10) == [0, 1, 2]
    rl.ok("rm", "-f", "box")


@pytest.mark.parametrize("options", [(), ("-i",), ("-t",)])
def test_streams_can_be_opened_again_by_any_user(rl: Rl, options: tuple[str, ...]) -> None:
    """Web servers log to /dev/stdout; the pipe or terminal must belong to them."""
    words = sh("echo out >/dev/stdout && echo err >/dev/stderr && echo 1 >/proc/self/fd/1", "--user", "1000", *options)
    code, out, err = rl.raw(*words)
    assert (code, sorted((out + err).split())) == (0, [b"1", b"err", b"out"])


def test_two_clients_see_the_same(rl: Rl) -> None:
    """`logs -f` beside the attached client: both get every line, in order."""
    first = rl.start("run", "--name", "box", "--network", "none", "-i", "alpine", "cat")
    wait_for(lambda: rl("logs", "box").code == 0 and rl.json("inspect", "box")[0]["State"]["Running"])
    second = rl.start("logs", "-f", "box")
    text = b"".join(b"line %d\n" % number for number in range(1000))
    out, _ = first.communicate(text, 30)
    followed, _ = second.communicate(timeout=30)
    assert (out, followed) == (text, text)
    rl.ok("rm", "box")


# ---- exit codes


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("alpine", "true"), 0),
        (("alpine", "sh", "-c", "exit 3"), 3),
        (("alpine", "sh", "-c", "exit 255"), 255),
        (("alpine", "sh", "-c", "kill -9 $$; exit 4"), 4),  # process 1 is immune to what it sends itself
        (("--init", "alpine", "sh", "-c", "kill -9 $$"), 137),
        (("--init", "alpine", "sh", "-c", "kill -TERM $$"), 143),
        (("--init", "alpine", "sh", "-c", "exit 7"), 7),
        (("alpine", "nosuch"), 127),
        (("alpine", "/no/such/file"), 127),
        (("--init", "alpine", "nosuch"), 127),
        (("--entrypoint", "", "alpine", ""), 127),
        (("alpine", "/etc/passwd"), 126),
        (("alpine", "/etc"), 126),
        (("alpine", "/etc/passwd/x"), 127),
        (("-w", "/etc/passwd", "alpine", "true"), 126),
        (("--user", "nobodyatall", "alpine", "true"), 125),
        (("--sysctl", "net.no.such=1", "alpine", "true"), 125),
        (("--no-such-option", "alpine", "true"), 125),
        (("--pull", "never", "nosuchimage", "true"), 125),
        (("-v", "/no/such:relative", "alpine", "true"), 125),
        (("--mount", "type=bind,source=/no/such/dir,target=/x", "alpine", "true"), 125),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_exit_codes_and_nothing_left(rl: Rl, words: tuple[str, ...], code: int) -> None:
    """With --rm nothing is left in any of these cases: the fixture looks."""
    result = rl(*RUN, *words)
    assert result.code == code, result
    if code in (125, 126, 127):
        assert result.err.startswith("rl: ") and "Traceback" not in result.err
    assert rl.ok("ps", "-aq") == ""


def test_a_file_that_is_no_program(rl: Rl, tmp_path: Path) -> None:
    """ENOEXEC: a shell would take it for a script, an engine does not guess."""
    bad = tmp_path / "bad"
    bad.write_text("true\n")
    bad.chmod(0o755)
    result = rl(*RUN, "-v", f"{bad}:/bad", "alpine", "/bad")
    assert result.code == 126 and "exec format error" in result.err


def test_what_cannot_be_run_stays_to_be_looked_at(rl: Rl) -> None:
    """As Docker's: a container whose command does not exist is kept, one that rl could not make is not."""
    assert rl("run", "--name", "box", "--network", "none", "alpine", "nosuch").code == 127
    assert rl("run", "--name", "other", "--network", "none", "--user", "nosuch", "alpine", "true").code == 125
    assert rl.ok("ps", "-a", "--format", "{{.Names}}") == "box"
    rl.ok("rm", "box")


# ---- signals


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "QUIT"])
def test_signals_are_passed_on(rl: Rl, name: str) -> None:
    """`kill rl` reaches the container, whose answer is rl's."""
    process = rl.start(*sh(f"trap 'echo got {name}; exit 42' {name}; echo ready; while :; do sleep 0.05; done"))
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.stdout.readline() == f"got {name}\n".encode()
    assert process.wait(10) == 42


def test_signals_are_not_passed_on_without_sig_proxy(rl: Rl) -> None:
    process = rl.start(
        "run", "--name", "box", "--network", "none", "--sig-proxy=false", "alpine", "sh", "-c", "echo ready; sleep 60"
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM
    assert rl.json("inspect", "box")[0]["State"]["Running"]
    rl.ok("rm", "-f", "box")


def test_a_container_that_ignores_the_signal_lives_on(rl: Rl) -> None:
    process = rl.start(*sh("trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done", "--name", "box"))
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    for _ in range(3):
        process.terminate()
        assert process.stdout.readline() == b"no\n"
    rl.ok("kill", "box")
    assert process.wait(10) == 137


def wait_for(condition: object, seconds: float = 20) -> None:
    """Poll until it holds; a deadline, not a pause."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
