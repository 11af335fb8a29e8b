"""The linters as ordinary tests. They write nothing into the checkout, which may belong to another user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.sample_images import REPOSITORY

LOWLEVEL = REPOSITORY / "rootless" / "_lowlevel"
SCRIPTS = Path(sys.executable).parent
# The cffi modules are built by their generator with its own flags; what is linted is what we wrote.
SOURCES = sorted(path.name for path in LOWLEVEL.glob("*.c") if not path.name.startswith("_"))
STRICT = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]


def check(*command: str) -> None:
    result = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout


def test_ruff() -> None:
    check(str(SCRIPTS / "ruff"), "check", "--no-cache", ".")


def test_format() -> None:
    check(str(SCRIPTS / "ruff"), "format", "--no-cache", "--check", ".")


def test_types() -> None:
    check(sys.executable, "-m", "mypy")


@pytest.mark.parametrize("source", SOURCES)
def test_c_is_clean_under_the_analyzer(source: str) -> None:
    check("gcc", *STRICT, "-fanalyzer", "-c", "-o", os.devnull, str(LOWLEVEL / source))


def test_the_core_builds_under_the_sanitizers(tmp_path: Path) -> None:
    check(sys.executable, "-m", "rootless._lowlevel.build", "--asan", str(tmp_path))


@pytest.mark.parametrize(
    "script", [".ci/run", "bench/enter", "tools/as-user", "tools/demo", "tools/packages", "tools/prepare"]
)
def test_shell_scripts_parse(script: str) -> None:
    check("bash", "-n", script)
