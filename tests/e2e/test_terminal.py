"""`-t`: a terminal that behaves, with us at the keyboard."""

from __future__ import annotations

import os
import signal
import termios

import pytest

from tests.e2e.waiting import state, until
from tests.runner import Rl, Terminal

RUN = ("run", "--network", "none", "-it")
DETACH = b"\x10\x11"  # Ctrl-P Ctrl-Q


def shell(rl: Rl, *options: str, rows: int = 24, columns: int = 80) -> Terminal:
    """A shell in a container of its own, with a prompt that is nowhere else."""
    return rl.terminal(*RUN, "--rm", "-e", "PS1=#> ", *options, "alpine", "sh", rows=rows, columns=columns)


def ask(terminal: Terminal, command: str, pattern: str) -> bytes:
    """Type a command; what its output has in the first group of `pattern`."""
    terminal.expect("#> ")
    terminal.send(command + "\n")
    return terminal.expect(pattern).group(1)


def begin(terminal: Terminal, script: str) -> None:
    """Type a command and wait until it reads the keyboard itself: what is typed before is for the shell, which may drop it."""
    ask(terminal, f"sh -c 'echo =run=; {script}'", r"\n(=run=)\r\n")


def leave(terminal: Terminal, code: int = 0) -> None:
    terminal.expect("#> ")
    terminal.send(f"exit {code}\n")
    assert terminal.wait() == code


def cooked(terminal: Terminal) -> bool:
    """Whether the terminal that rl was started on is as a shell has it."""
    modes = terminal.attributes()
    return bool(modes[3] & termios.ICANON and modes[3] & termios.ECHO and modes[1] & termios.OPOST)


# ---- what is inside


def test_it_is_a_terminal_with_a_true_name(rl: Rl) -> None:
    with shell(rl) as terminal:
        assert ask(terminal, "tty", r"\n(/dev/\S+)") == b"/dev/pts/0"
        assert ask(terminal, "test -t 0 -a -t 1 -a -t 2; echo =$?=", r"=(\d+)=\r") == b"0"
        assert ask(terminal, "stat -c =%t,%a= /dev/console", r"\n=(\S+)=") == b"88,620"
        assert ask(terminal, "echo hi >/dev/console", r"\n(hi)\r") == b"hi"
        assert ask(terminal, "echo $TERM", r"\n(\w+)\r") == b"xterm"
        assert ask(terminal, "ps -o pid,args | head -n 2 | tail -n 1", r"\n +(1 sh)\r") == b"1 sh"
        leave(terminal, 7)


def test_another_user_owns_his_terminal(rl: Rl) -> None:
    with shell(rl, "--user", "1000:1000") as terminal:
        terminal.expect(r"#> ")
        terminal.send("stat -c =%u= $(tty); echo x >/dev/tty && echo fine\n")
        assert terminal.expect(r"\n=(\d+)=").group(1) == b"1000"
        terminal.expect(r"\nx\r\nfine")
        leave(terminal)


def test_size_and_resize(rl: Rl) -> None:
    with shell(rl, rows=31, columns=97) as terminal:
        assert ask(terminal, "stty size", r"\n(\d+ \d+)") == b"31 97"
        begin(terminal, 'trap "stty size; exit" WINCH; echo =set=; while :; do sleep 0.05; done')
        terminal.expect("=set=")
        terminal.resize(40, 120)
        terminal.expect("40 120")
        assert ask(terminal, "stty size", r"\n(\d+ \d+)") == b"40 120"
        leave(terminal)


def test_modes_can_be_set(rl: Rl) -> None:
    """As editors do: raw, one key at a time, and back."""
    with shell(rl) as terminal:
        command = "stty raw -echo; echo =now=; k=$(dd bs=1 count=1 2>/dev/null); stty sane; echo =$k="
        ask(terminal, command, r"\n(=now=)")
        terminal.send("x")
        assert terminal.expect(r"=(x)=").group(1) == b"x"
        leave(terminal)


def test_many_bytes(rl: Rl) -> None:
    """Output arrives whole, and carriage returns are the container's terminal's alone."""
    with rl.terminal(*RUN, "--rm", "alpine", "seq", "1", "20000") as terminal:
        assert terminal.wait() == 0
        assert terminal.screen == b"".join(b"%d\r\n" % number for number in range(1, 20001))


# ---- keys


def test_interrupt(rl: Rl) -> None:
    """Ctrl-C goes to what runs in the foreground inside, not to rl."""
    with shell(rl) as terminal:
        begin(terminal, "exec sleep 60")
        terminal.send("\x03")
        assert ask(terminal, "echo =$?=", r"\n=(\d+)=") == b"130"
        leave(terminal)


def test_job_control(rl: Rl) -> None:
    """Ctrl-Z stops the job, not rl; `jobs` and `fg` work, so the shell owns its terminal."""
    with shell(rl) as terminal:
        begin(terminal, "exec cat")
        terminal.send("one\n")
        terminal.expect("one\r\none\r\n")
        terminal.send("\x1a")
        terminal.expect("Stopped")
        ask(terminal, "jobs", r"(Stopped)")
        ask(terminal, "fg", r"(exec cat.\r\n)")
        terminal.send("two\n")
        terminal.expect("two\r\ntwo\r\n")
        terminal.send("\x04")
        leave(terminal)


def test_end_of_file(rl: Rl) -> None:
    with shell(rl) as terminal:
        terminal.expect("#> ")
        terminal.send("\x04")
        assert terminal.wait() == 0


@pytest.mark.parametrize(
    ("option", "keys"),
    [((), DETACH), (("--detach-keys", "ctrl-x,y"), b"\x18y"), (("--detach-keys", "a,b,c"), b"abc")],
    ids=["default", "other", "letters"],
)
def test_detach(rl: Rl, option: tuple[str, ...], keys: bytes) -> None:
    """The container lives on, and what it says is in the log."""
    with rl.terminal(*RUN, "--name", "box", *option, "-e", "PS1=#> ", "alpine", "sh") as terminal:
        ask(terminal, "echo =before=", r"\n(=before=)")
        terminal.expect("#> ")
        terminal.send(keys[:1] + b"\n")  # a beginning that is not continued is passed on
        terminal.expect("#> ")
        for key in keys:
            terminal.send(bytes([key]))
        assert terminal.wait() == 0
        assert cooked(terminal)
    assert state(rl, "box")["Running"]
    assert "=before=" in rl.ok("logs", "box")
    rl.ok("stop", "-t", "0", "box")
    assert state(rl, "box")["ExitCode"] == 137
    rl.ok("rm", "box")


def test_no_detach_keys(rl: Rl) -> None:
    with shell(rl, "--detach-keys", "") as terminal:
        begin(terminal, "stty raw -echo; echo =raw=; dd bs=1 count=2 2>/dev/null | od -An -tx1; stty sane")
        terminal.expect("=raw=")
        terminal.send(DETACH)
        terminal.expect("10 11")
        leave(terminal)


def test_start_again_on_a_terminal(rl: Rl) -> None:
    with rl.terminal(*RUN, "--name", "box", "-e", "PS1=#> ", "alpine", "sh") as terminal:
        leave(terminal, 3)
    with rl.terminal("start", "-ai", "box") as terminal:
        assert ask(terminal, "tty", r"\n(/dev/\S+)") == b"/dev/pts/0"
        leave(terminal, 4)
    rl.ok("rm", "box")


# ---- the terminal that rl is started on


def test_the_mode_while_and_after(rl: Rl) -> None:
    with shell(rl) as terminal:
        terminal.expect("#> ")
        assert not cooked(terminal)
        terminal.send("exit 0\n")
        assert terminal.wait() == 0
        assert cooked(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_the_mode_after_a_signal(rl: Rl, number: signal.Signals) -> None:
    """Somebody ends rl: the terminal is as it was, and the container lives."""
    with rl.terminal(*RUN, "--name", "box", "-e", "PS1=#> ", "alpine", "sh") as terminal:
        terminal.expect("#> ")
        assert not cooked(terminal)
        os.kill(terminal.pid, number)
        assert terminal.wait() == 128 + number
        assert cooked(terminal)
    assert state(rl, "box")["Running"]
    rl.ok("rm", "-f", "box")


def test_the_mode_after_a_command_that_does_not_exist(rl: Rl) -> None:
    with rl.terminal(*RUN, "--rm", "alpine", "nosuch") as terminal:
        assert terminal.wait() == 127
        assert cooked(terminal) and b"'nosuch'" in terminal.screen


def test_a_container_that_is_killed(rl: Rl) -> None:
    with rl.terminal(*RUN, "--name", "box", "-e", "PS1=#> ", "alpine", "sh") as terminal:
        terminal.expect("#> ")
        rl.ok("kill", "box")
        assert terminal.wait() == 137
        assert cooked(terminal)
    rl.ok("rm", "box")


def test_a_terminal_inside_without_one_outside(rl: Rl) -> None:
    """`-t` alone, as CI systems do; `-it` needs a terminal to be typed at."""
    result = rl("run", "--rm", "--network", "none", "-t", "alpine", "sh", "-c", "tty; stty size")
    assert result.code == 0 and result.out.startswith("/dev/pts/0\r\n")
    result = rl("run", "--rm", "--network", "none", "-it", "alpine", "true")
    assert result.code == 125 and "not a terminal" in result.err
    assert rl.ok("ps", "-aq") == ""


def test_a_terminal_of_a_detached_container(rl: Rl) -> None:
    rl.ok("run", "-dt", "--name", "box", "--network", "none", "alpine", "sh", "-c", "tty; sleep 60")
    until(lambda: rl.raw("logs", "box")[1] == b"/dev/pts/0\r\n")
    rl.ok("rm", "-f", "box")


@pytest.mark.parametrize("words", [("run", "--rm", "--network", "none", "-t", "alpine"), ("exec", "-t", "box")])
def test_a_reader_that_leaves_hangs_up(rl: Rl, words: tuple[str, ...]) -> None:
    """`rl run -t … yes | head -1` ends, too."""
    rl.ok("run", "-d", "--name", "box", "--network", "none", "alpine", "sleep", "60")
    process = rl.start(*words, "yes")
    assert process.stdout
    assert process.stdout.readline() == b"y\r\n"
    process.stdout.close()
    assert process.wait(10) in (1, 128 + signal.SIGHUP)
    rl.ok("rm", "-f", "box")


def test_output_elsewhere(rl: Rl) -> None:
    """Standard output may be a file while the keyboard is a terminal."""
    with rl.terminal("--log-level", "error", *RUN[:-1], "-i", "--rm", "alpine", "cat") as terminal:
        terminal.send("typed\n")
        terminal.expect("typed\r\ntyped\r\n")
        terminal.send("\x04")
        assert terminal.wait() == 0


# ---- with an init


def test_init_passes_signals_and_reaps(rl: Rl) -> None:
    with shell(rl, "--init", "--name", "box") as terminal:
        assert ask(terminal, "cat /proc/1/comm; tr -d '\\0' </proc/1/environ | wc -c", r"\n(rl-init\r\n0)\r")
        ask(terminal, "(sleep 0.01 &) ; sleep 0.1; ps -o stat | grep -c Z", r"\n(0)\r")
        begin(terminal, "exec cat")
        terminal.send("\x1a")
        terminal.expect("Stopped")
        ask(terminal, "kill -9 %1; wait; echo =gone=", r"\n(=gone=)")
        ask(terminal, "trap 'echo =term=; exit 8' TERM; echo =ok=", r"\n(=ok=)")
        terminal.expect("#> ")
        rl.ok("kill", "-s", "TERM", "box")
        terminal.send("\n")
        terminal.expect("=term=")
        assert terminal.wait() == 8
