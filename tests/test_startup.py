"""What the hot commands import (docs/architecture.md, "The hot path"): held by module set, never by time."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.fakes.sample_images import REPOSITORY
from tests.runner import Rl

FORBIDDEN = {
    *(
        "argparse",
        "asyncio",
        "dataclasses",
        "inspect",
        "logging",
        "pathlib",
        "shutil",
        "subprocess",
        "tempfile",
        "urllib",
    ),
    *("click", "fuse", "pydantic", "pyroute2", "requests", "rich", "typer", "tomllib", "zstandard"),
}


class Imports:
    """Runs `rl` and tells which modules it imported, by the interpreter's own account (-X importtime, on stderr)."""

    def __init__(self, rl: Rl) -> None:
        python = str(REPOSITORY / ".venv" / "bin" / "python3")
        self._rl = rl.launched_by(python, "-IS", "-X", "importtime")

    def of(self, *arguments: str, code: int = 0) -> set[str]:
        result = self._rl(*arguments)
        assert result.code == code, result.err[-2000:]
        return set(re.findall(r"^import time: +\d+ \| +\d+ \| *(\S+)$", result.err, re.MULTILINE))


@pytest.fixture
def imports(plain_rl: Rl) -> Imports:
    """Warm: the first run of a user also tries out what the host can do, and compiles the seccomp policy."""
    plain_rl.ok("run", "--rm", "--network", "none", "alpine", "true")
    return Imports(plain_rl)


@pytest.fixture
def running(plain_rl: Rl) -> Iterator[str]:
    """A container that runs until it is killed."""
    plain_rl.ok("run", "-d", "--name", "hot", "--network", "none", "alpine", "sleep", "600")
    yield "hot"
    plain_rl("rm", "-f", "hot")


def assert_lean(found: set[str]) -> None:
    assert "rootless.cli.main" in found, "the account of the imports is missing"
    assert sorted(FORBIDDEN & {name.split(".")[0] for name in found}) == []


@pytest.mark.parametrize("network", ["none", "slirp4netns"])
def test_run(imports: Imports, network: str) -> None:
    assert_lean(imports.of("run", "--rm", "--network", network, "alpine", "true"))


def test_run_with_the_usual_options(imports: Imports) -> None:
    words = [
        "-i",
        "--name",
        "hot",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "1000:1000",
        "-v",
        "/usr:/host:ro",
        "--hostname",
        "h",
    ]
    assert_lean(imports.of("run", "--rm", *words, "-p", "127.0.0.1::80", "alpine", "true"))


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "hot", "true"),
        ("exec", "-i", "-u", "1", "hot", "true"),
        ("ps",),
        ("ps", "-a"),
        ("logs", "hot"),
        ("stop", "-t", "0", "hot"),
        ("kill", "hot"),
        ("rm", "-f", "hot"),
    ],
    ids=" ".join,
)
def test_commands_on_a_container(imports: Imports, running: str, words: tuple[str, ...]) -> None:
    assert_lean(imports.of(*words))


def test_version(imports: Imports) -> None:
    assert_lean(imports.of("version"))
