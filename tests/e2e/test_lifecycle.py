"""The life of a container: create, start, stop, wait, logs, rm, and what may befall rl and the monitor on the way."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.waiting import alive, children, state, until
from tests.fakes import leaks
from tests.runner import Rl

RUN = ("run", "--network", "none")
DETACHED = (*RUN, "-d")


def sleeper(rl: Rl, name: str, *options: str) -> str:
    """A running container, which ends at SIGTERM; its id."""
    script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    return rl.ok(*DETACHED, "--name", name, *options, "alpine", "sh", "-c", script)


# ---- create, start


def test_create_and_start(rl: Rl) -> None:
    identifier = rl.ok("create", "--name", "box", "--network", "none", "alpine", "echo", "hi")
    assert state(rl, "box")["Status"] == "created"
    assert rl.ok("ps", "-q") == "" and rl.ok("ps", "-aq", "--no-trunc") == identifier
    assert rl.ok("start", "box") == "box"
    assert rl.ok("wait", "box") == "0"
    assert state(rl, "box")["Status"] == "exited"
    assert rl.ok("logs", "box") == "hi"
    assert rl.ok("start", "-a", "box") == "hi"
    assert rl.ok("logs", "box") == "hi\nhi"
    rl.ok("rm", "box")


def test_start_attached_with_input(rl: Rl) -> None:
    rl.ok("create", "-i", "--name", "box", "--network", "none", "alpine", "sh", "-c", "cat; exit 9")
    assert rl("start", "-ai", "box", input="typed\n") == (9, "typed\n", "")
    assert rl("start", "-a", "box", input="not for it\n") == (9, "", "")
    rl.ok("rm", "box")


def test_starting_what_runs_changes_nothing(rl: Rl) -> None:
    sleeper(rl, "box")
    before = state(rl, "box")
    rl.ok("start", "box")
    assert state(rl, "box") == before
    rl.ok("rm", "-f", "box")


def test_a_container_keeps_its_files(rl: Rl) -> None:
    rl.ok(*RUN, "--name", "box", "alpine", "sh", "-c", "cat /kept 2>/dev/null; echo again >>/kept")
    assert rl.ok("start", "-a", "box") == "again"
    assert rl.ok("start", "-a", "box") == "again\nagain"
    rl.ok("rm", "box")


def test_one_start_of_many_wins(rl: Rl) -> None:
    rl.ok("create", "--name", "box", "--network", "none", "alpine", "sleep", "60")
    starts = [rl.start("start", "box") for _ in range(6)]
    assert [process.wait(30) for process in starts] == [0] * 6
    assert len(leaks.processes(f"{rl.root}/containers/{state_id(rl, 'box')}")) >= 1
    monitors = [each for each in leaks.processes(rl.root) if "rl-monitor" in each.words]
    assert len(monitors) == 1, monitors
    rl.ok("rm", "-f", "box")


def state_id(rl: Rl, name: str) -> str:
    return str(rl.json("inspect", name)[0]["Id"])


# ---- names and ids


def test_a_name_that_is_taken(rl: Rl) -> None:
    identifier = rl.ok("create", "--name", "box", "alpine")
    result = rl("create", "--name", "box", "alpine")
    assert result.code == 125 and "'box'" in result.err and identifier[:12] in result.err
    rl.ok("rm", "box")
    rl.ok("create", "--name", "box", "alpine")
    rl.ok("rm", "box")


def test_of_many_who_want_a_name_one_gets_it(rl: Rl) -> None:
    processes = [rl.start("create", "--name", "box", "alpine") for _ in range(8)]
    assert sorted(process.wait(30) for process in processes) == [0] + [125] * 7
    assert rl.ok("ps", "-a", "--format", "{{.Names}}") == "box"
    rl.ok("rm", "box")


def test_generated_names_are_unique(rl: Rl) -> None:
    identifiers = [rl.ok("create", "alpine") for _ in range(12)]
    names = rl.ok("ps", "-a", "--format", "{{.Names}}").split()
    assert len(set(names)) == 12
    assert rl.ok("rm", *names).split() == names
    assert len(set(identifiers)) == 12


def test_a_container_is_found_by_the_beginning_of_its_id(rl: Rl) -> None:
    identifier = rl.ok("create", "--name", "box", "alpine")
    for length in (3, 12, 64):
        assert rl.json("inspect", identifier[:length])[0]["Name"] == "box"
    result = rl("rm", "f" * 63)
    assert result.code == 125 and "no container" in result.err
    assert rl.ok("rm", identifier[:12]) == identifier[:12]


def test_cidfile_and_pidfile(rl: Rl, tmp_path: Path) -> None:
    cidfile, pidfile = tmp_path / "cid", tmp_path / "pid"
    identifier = sleeper(rl, "box", "--cidfile", str(cidfile), "--pidfile", str(pidfile))
    assert cidfile.read_text().strip() == identifier
    assert int(pidfile.read_text()) == state(rl, "box")["Pid"]
    rl.ok("rm", "-f", "box")
    assert rl(*RUN, "--rm", "--cidfile", str(cidfile), "alpine", "true").code == 125, "it is never overwritten"


# ---- stop, kill, rm, wait


def test_stop(rl: Rl) -> None:
    names = ["one", "two", "three"]
    for name in names:
        sleeper(rl, name)
    until(lambda: all(rl.ok("logs", name) == "ready" for name in names))
    started = time.monotonic()
    assert rl.ok("stop", *names).split() == names
    assert time.monotonic() - started < 8, "none of them needed to be killed"
    assert [state(rl, name)["ExitCode"] for name in names] == [0, 0, 0]
    rl.ok("stop", "one")
    rl.ok("rm", *names)


def test_stop_kills_what_does_not_listen(rl: Rl) -> None:
    rl.ok(*DETACHED, "--name", "box", "alpine", "sleep", "60")  # process 1 has no handler: the kernel drops the signal
    started = time.monotonic()
    rl.ok("stop", "-t", "1", "box")
    assert 1 <= time.monotonic() - started < 8
    assert state(rl, "box")["ExitCode"] == 137
    rl.ok("rm", "box")


def test_the_stop_signal_of_a_container(rl: Rl) -> None:
    script = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    rl.ok(*DETACHED, "--name", "box", "--stop-signal", "USR1", "--stop-timeout", "30", "alpine", "sh", "-c", script)
    until(lambda: rl.ok("logs", "box") == "ready")
    rl.ok("stop", "box")
    assert state(rl, "box")["ExitCode"] == 5
    rl.ok("rm", "box")


def test_kill(rl: Rl) -> None:
    rl.ok(
        *DETACHED,
        "--name",
        "box",
        "alpine",
        "sh",
        "-c",
        "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done",
    )
    until(lambda: rl.ok("logs", "box") == "ready")
    rl.ok("kill", "-s", "HUP", "box")
    until(lambda: rl.ok("logs", "box") == "ready\nhup")
    rl.ok("kill", "box")
    assert rl.ok("wait", "box") == "137"
    result = rl("kill", "box")
    assert result.code == 125 and "not running" in result.err
    rl.ok("rm", "box")


def test_rm_refuses_what_runs(rl: Rl) -> None:
    sleeper(rl, "box")
    result = rl("rm", "box")
    assert result.code == 125 and "running" in result.err
    assert state(rl, "box")["Running"]
    assert rl.ok("rm", "-f", "box") == "box"
    assert rl.ok("rm", "-f", "box") == "", "with --force what is not there is no error"


def test_rm_of_one_that_starts(rl: Rl) -> None:
    """Whoever wins, there is no container without a record and no record without its files."""
    for _ in range(4):
        rl.ok("create", "--name", "box", "--network", "none", "alpine", "sleep", "60")
        starting, removing = rl.start("start", "box"), rl.start("rm", "-f", "box")
        starting.wait(30)
        assert removing.wait(30) == 0
        rl.ok("rm", "-f", "box")
        assert rl.ok("ps", "-aq") == "" and leaks.settle(rl.runroot) == []


def test_wait(rl: Rl) -> None:
    for name, code in (("one", 3), ("two", 4)):
        rl.ok(*DETACHED, "-i", "--name", name, "alpine", "sh", "-c", f"read x; exit {code}")
    waiting = rl.start("wait", "one", "two")
    for name in ("one", "two"):
        rl.ok("kill", "-s", "KILL", name)
    assert waiting.communicate(timeout=30)[0] == b"137\n137\n"
    assert rl(*RUN, "--name", "three", "alpine", "sh", "-c", "exit 3").code == 3
    rl.ok("create", "--name", "four", "alpine")
    assert rl.ok("wait", "three", "four").split() == ["3", "0"]
    assert rl("wait", "nosuch").code == 125
    rl.ok("rm", "one", "two", "three", "four")


def test_wait_for_one_that_is_removed_at_its_end(rl: Rl) -> None:
    script = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done"
    rl.ok(*DETACHED, "--rm", "--name", "box", "alpine", "sh", "-c", script)
    until(lambda: rl.ok("logs", "box") == "ready")
    waiting = rl.start("wait", "box")
    monitor = state(rl, "box")["ConmonPid"]
    until(lambda: sockets(monitor) == 2)  # its listener, and the one who waits
    rl.ok("kill", "-s", "TERM", "box")
    assert waiting.communicate(timeout=30)[0] == b"6\n"


def sockets(pid: int) -> int:
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return sum(link.startswith("socket:") for link in links)


# ---- logs


def test_logs(rl: Rl) -> None:
    rl(*RUN, "--name", "box", "alpine", "sh", "-c", "echo one; echo two >&2; sleep 0.02; printf 'three\\nfour'")
    assert rl("logs", "box") == (0, "one\nthree\nfour", "two\n")
    assert rl("logs", "--tail", "2", "box").out == "three\nfour"
    assert rl("logs", "--tail", "1", "box").out == "four"
    assert rl("logs", "--tail", "0", "box") == (0, "", "")
    assert rl("logs", "--tail", "99", "box").out == "one\nthree\nfour"
    stamped = rl("logs", "-t", "box").out.splitlines()
    times = [re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z|\S+) ", line) for line in stamped]
    assert len(stamped) == 3 and all(times)
    moment = stamped[1].split()[0]
    assert rl("logs", "--since", moment, "box").out == "three\nfour"
    assert rl("logs", "--until", moment, "box").out.startswith("one\n")
    assert rl("logs", "--since", "1h", "box").out == "one\nthree\nfour"
    assert rl("logs", "--until", "1h", "box") == (0, "", "")
    rl.ok("rm", "box")


def test_logs_of_bytes_and_long_lines(rl: Rl) -> None:
    """A line of a megabyte and bytes that are no text come back as they were."""
    script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; printf 'a\\0b\\377\\rc\\n'; echo P F stdout"
    code, out, _ = rl.raw(*RUN, "--name", "box", "alpine", "sh", "-c", script)
    assert code == 0 and out == b"x" * 1_000_000 + b"\na\0b\xff\rc\nP F stdout\n"
    assert rl.raw("logs", "box") == (0, out, b"")
    assert rl.raw("logs", "--tail", "3", "box")[1] == out
    assert rl.raw("logs", "--tail", "2", "box")[1] == b"a\0b\xff\rc\nP F stdout\n"
    rl.ok("rm", "box")


def test_logs_are_followed_to_the_last_word(rl: Rl) -> None:
    """Also to what the monitor takes after the container's end: here an attached client that sleeps holds it up."""
    attached = rl.start(*RUN, "--name", "box", "alpine", "sh", "-c", "echo ready; sleep 0.3; seq 1 200000")
    assert attached.stdout
    assert attached.stdout.readline() == b"ready\n"
    following = rl.start("logs", "-f", "box")
    out = attached.stdout.read()
    whole = b"".join(b"%d\n" % number for number in range(1, 200_001))
    assert b"ready\n" + out == b"ready\n" + whole
    assert following.communicate(timeout=60)[0] == b"ready\n" + whole
    rl.ok("rm", "box")


def test_an_attached_client_that_sleeps_holds_up_nobody_else(rl: Rl) -> None:
    """The container ends while its client is stopped: that is recorded at once, it can be started again, and no word is lost."""
    attached = rl.start(*RUN, "--name", "box", "alpine", "sh", "-c", "echo ready; sleep 0.3; seq 1 10000")
    assert attached.stdout
    assert attached.stdout.readline() == b"ready\n"
    attached.send_signal(signal.SIGSTOP)
    until(lambda: state(rl, "box")["Status"] == "exited")
    rl.ok("start", "box")
    assert rl.ok("wait", "box") == "0"
    attached.send_signal(signal.SIGCONT)
    assert attached.communicate(timeout=30)[0] == b"".join(b"%d\n" % number for number in range(1, 10_001))
    rl.ok("rm", "box")


def test_a_container_without_a_log(rl: Rl) -> None:
    assert rl.ok(*RUN, "--name", "box", "--log-driver", "none", "alpine", "echo", "hi") == "hi"
    result = rl("logs", "box")
    assert result.code == 125 and "log" in result.err
    rl.ok("rm", "box")


def test_the_log_of_one_that_never_ran(rl: Rl) -> None:
    rl.ok("create", "--name", "box", "alpine")
    assert rl("logs", "box") == (0, "", "")
    rl.ok("rm", "box")


# ---- many


def test_thirty_two_at_once(rl: Rl) -> None:
    processes = [rl.start(*RUN, "--rm", "alpine", "sh", "-c", f"echo {number}; exit {number}") for number in range(32)]
    for number, process in enumerate(processes):
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (number, b"%d\n" % number, b"")


def test_a_plan_is_printed_with_debug(rl: Rl) -> None:
    result = rl("--debug", *RUN, "--rm", "alpine", "echo", "hi")
    assert result.code == 0 and result.out == "hi\n"
    assert "plan of the root file system:" in result.err and "plan of the container:" in result.err
    operations = [line.split()[0] for line in result.err.splitlines() if line.startswith("    ")]
    assert operations.index("root") < operations.index("pivot") < operations.index("caps") < operations.index("exec")


# ---- accidents


def test_rl_killed_in_the_foreground(rl: Rl) -> None:
    """The container and its record stay true."""
    process = rl.start(
        *RUN,
        "--name",
        "box",
        "alpine",
        "sh",
        "-c",
        "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done",
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    assert state(rl, "box")["Running"] and rl.ok("ps", "--format", "{{.Names}}") == "box"
    rl.ok("stop", "box")
    assert state(rl, "box")["ExitCode"] == 3
    assert rl.ok("logs", "box") == "ready\nbye"
    rl.ok("rm", "box")


@pytest.mark.parametrize("options", [(), ("--init",), ("--user", "1000"), ("-t",)])
def test_the_monitor_killed(rl: Rl, options: tuple[str, ...]) -> None:
    """Nobody would log or reap the container any more: it dies, its network with it, and the record says so."""
    rl.ok("run", "-d", "--name", "box", *options, "alpine", "sh", "-c", "sleep 60 & sleep 61")
    found = state(rl, "box")
    monitor, process = found["ConmonPid"], found["Pid"]
    others = children(monitor)
    assert process in others and len(others) == 2, "slirp4netns is the other"
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not any(map(alive, (monitor, *others))))
    assert (state(rl, "box")["Status"], state(rl, "box")["ExitCode"]) == ("exited", 137)
    assert rl.ok("wait", "box") == "137"
    assert rl("kill", "box").code == 125 and rl("exec", "box", "true").code == 125
    rl.ok("start", "box")
    assert state(rl, "box")["Running"]
    os.kill(state(rl, "box")["ConmonPid"], signal.SIGKILL)
    until(lambda: not state(rl, "box")["Running"])
    rl.ok("rm", "box")


def test_rl_killed_while_it_starts(rl: Rl) -> None:
    """At any instant: no process stays, what is half made is not seen, and the name can be had again."""
    dice = random.Random(20)
    for _ in range(20):
        process = rl.start("run", "--rm", "--name", "box", "alpine", "true")
        time.sleep(dice.uniform(0.0, 0.25))  # the instant
        process.kill()
        process.wait()
        until(lambda: rl.ok("ps", "-q") == "")
        assert leaks.settle(rl.runroot) == [] and leaks.settle(rl.root) == []
        left = rl.ok("ps", "-a", "--format", "{{.Names}} {{.State}}")
        assert left in ("", "box created"), left
        rl.ok("rm", "-f", "box")
        assert rl.ok("run", "--rm", "--name", "box", "--network", "none", "alpine", "echo", "hi") == "hi"
    rl.ok("pull", "-q", "alpine")  # whoever transfers an image sweeps what killed makers left


def test_the_runtime_directory_is_wiped(rl: Rl) -> None:
    """As by a reboot."""
    rl.ok(*RUN, "--name", "box", "alpine", "sh", "-c", "echo run")
    until(lambda: leaks.settle(rl.runroot) == [])
    shutil.rmtree(rl.runroot)
    assert state(rl, "box")["Status"] == "exited"
    assert rl.ok("start", "-a", "box") == "run"
    rl.ok("rm", "box")


def test_a_reboot_while_it_runs(rl: Rl) -> None:
    """Processes and the runtime directory are gone, and nobody wrote how it ended."""
    sleeper(rl, "box")
    monitor = state(rl, "box")["ConmonPid"]
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not alive(monitor))
    shutil.rmtree(rl.runroot)
    assert (state(rl, "box")["Status"], state(rl, "box")["ExitCode"]) == ("exited", 137)
    rl.ok("rm", "box")
