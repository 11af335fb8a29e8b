"""What the tests lean on: the runner ends what hangs, the leak watch sees what is left."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes import leaks
from tests.runner import Rl


@pytest.fixture
def shell(tmp_path: Path) -> Rl:
    return Rl(
        command=["/bin/sh", "-c"],
        home=str(tmp_path),
        root=str(tmp_path),
        runroot=str(tmp_path),
        environment={"PATH": "/usr/bin:/bin"},
    )


def test_the_runner_returns_code_and_both_streams(shell: Rl) -> None:
    assert shell("cat; echo err >&2; exit 3", input="out\n") == (3, "out\n", "err\n")
    assert shell("kill -TERM $$").code == 143


def test_the_runner_ends_what_hangs_and_tells_what_it_wrote(shell: Rl) -> None:
    start = time.monotonic()
    with pytest.raises(AssertionError, match="before"):
        shell("echo before; sleep 60 | sleep 60", timeout=0.3)
    assert time.monotonic() - start < 5


def test_the_runner_ends_what_was_started(shell: Rl) -> None:
    process = shell.start("sleep 60")
    shell.end()
    assert process.returncode == -9


def test_the_terminal_has_a_size_and_keys(shell: Rl) -> None:
    with shell.terminal("stty size; read line; echo got:$line; exit 7", rows=33, columns=101) as terminal:
        terminal.expect("33 101")
        terminal.send("word\r")
        terminal.expect("got:word")
        assert terminal.wait() == 7


def test_the_terminal_tells_what_is_on_the_screen(shell: Rl) -> None:
    with shell.terminal("echo shown; sleep 60") as terminal, pytest.raises(AssertionError, match="shown"):
        terminal.expect("never", timeout=0.3)


def test_processes_are_found_by_environment_and_descent(tmp_path: Path) -> None:
    place = str(tmp_path / "place")
    # The inner shell has lost the variable; it belongs to the place all the same.
    script = "env -i /bin/sh -c 'sleep 60; :' & wait"
    process = subprocess.Popen(["/bin/sh", "-c", script], env={"PLACE": place, "PATH": "/usr/bin:/bin"})
    try:
        deadline = time.monotonic() + 5
        while len(leaks.processes(place)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert {found.words.split()[0] for found in leaks.processes(place)} == {"/bin/sh", "sleep"}
        leaks.end(leaks.processes(place))
        process.wait()
        assert leaks.settle(place) == []
    finally:
        process.kill()
        process.wait()


def test_we_ourselves_are_no_leak(tmp_path: Path) -> None:
    assert all(found.pid != os.getpid() for found in leaks.processes(str(tmp_path.parent)))


def test_entries_look_only_into_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "locks" / "deep").mkdir(parents=True)
    (tmp_path / "odd" / "deep").mkdir(parents=True)
    (tmp_path / "known").touch()
    assert leaks.entries(str(tmp_path), expected=("locks", "known")) == ["locks/deep", "odd"]
    assert leaks.entries(str(tmp_path / "missing")) == []
