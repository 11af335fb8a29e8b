"""What a person, and what a pipe, sees of a transfer. The events are those that the engine reports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fakes.sample_images import REPOSITORY
from tests.runner import Terminal

SCRIPT = """
import sys, time
from rootless.cli import parse
from rootless.cli.context import Context
from rootless.image.events import *

context = Context(parse.parse([*sys.argv[1].split(), "images"]).options)
report = context.on_event(quiet="quiet" in sys.argv[2:])
first, second, third = ("sha256:" + digit * 64 for digit in "abc")
report(LayerStarted(first, 2_000_000, "download"))
report(LayerStarted(second, 5_000, "download", resumed=1_000))
report(AlreadyPresent(third))
report(LayerProgress(first, 1_000_000, 2_000_000, "download"))
report(Note("the server is busy: \\33[2Jwaiting 2 s"))
report(Note("this host is odd", "warning"))
time.sleep(0.2)
report(LayerDone(first, 2_000_000))
report(LayerDone(second, 5_000))
report(Waiting(third))
report(LayerDone(third, 10))
context.close()
print("the end")
"""


def piped(options: str = "", *words: str) -> list[str]:
    command = [sys.executable, "-c", SCRIPT, options, *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "the end\n"
    return done.stderr.splitlines()


def test_stable_lines_in_a_pipe() -> None:
    assert piped() == [
        "aaaaaaaaaaaa: downloading 2MB",
        "bbbbbbbbbbbb: downloading 5kB, 1kB are here",
        "cccccccccccc: already here",
        "the server is busy: \\x1b[2Jwaiting 2 s",
        "warning: this host is odd",
        "aaaaaaaaaaaa: done",
        "bbbbbbbbbbbb: done",
        "cccccccccccc: waiting for another pull",
        "cccccccccccc: done",
    ]


@pytest.mark.parametrize(
    ("options", "words", "lines"),
    [
        ("", ["quiet"], ["warning: this host is odd"]),
        ("--log-level warn", [], ["warning: this host is odd"]),
        ("--log-level error", [], []),
    ],
)
def test_quiet(options: str, words: list[str], lines: list[str]) -> None:
    assert piped(options, *words) == lines


def test_bars_on_a_terminal() -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8"}
    with Terminal([sys.executable, "-c", SCRIPT, ""], environment, str(REPOSITORY), 24, 100) as terminal:
        assert terminal.wait() == 0
    screen = terminal.screen.decode()
    for part in (
        "aaaaaaaaaaaa",
        "downloading",
        "1.0/2.0 MB",
        "already here",
        "warning:",
        "the server is busy: \\x1b[2Jwaiting",
    ):
        assert part in screen, part
    assert "\33[?25h" in screen, "the cursor is shown again"
    assert screen.rstrip().endswith("the end")
