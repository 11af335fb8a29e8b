"""The suite of root file systems, once per driver, and the life of our own FUSE server."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rootless import fuse_overlay
from rootless.fuse_overlay import Overlay
from tests.kernel.overlay_suite import CASES, DIFFERENCES

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--")


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NAMESPACE, *command], capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=180
    )


@pytest.mark.parametrize("driver", fuse_overlay.DRIVERS)
def test_every_driver_does_the_same(driver: str) -> None:
    result = in_namespace(sys.executable, "-m", "tests.kernel.overlay_suite", driver)
    assert result.returncode == 0, result.stderr
    problems = {line["case"]: line["problem"] for line in map(json.loads, result.stdout.splitlines())}
    assert problems.keys() == CASES.keys()
    different = {case for name, case in DIFFERENCES if name == driver}
    failed = "\n".join(f"--- {case}\n{text}" for case, text in problems.items() if text and case not in different)
    assert not failed, failed


def overlay(place: Path) -> Overlay:
    for name in ("layer", "upper", "work", "root"):
        (place / name).mkdir()
    (place / "layer/file").write_text("x")
    return Overlay("fuse", (f"{place}/layer",), f"{place}/upper", f"{place}/work", f"{place}/root")


def servers(place: Path) -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(place) + b"/root" in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            continue
    return found


def gone(place: Path) -> bool:
    deadline = time.monotonic() + 10
    while servers(place):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def helper(overlay: Overlay) -> str:
    argv = fuse_overlay.helper_argv(overlay)
    assert argv
    return shlex.join(argv)


def test_the_server_ends_with_the_mount_namespace(tmp_path: Path) -> None:
    """Nobody unmounts: all that held the namespace were killed, as when a monitor and its container are."""
    command = f"{helper(overlay(tmp_path))}; ls {tmp_path}/root; kill -9 $$"
    result = in_namespace("sh", "-c", command)
    assert result.stdout == "file\n", result.stderr
    assert gone(tmp_path)


def test_the_server_holds_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("")
    command = f"exec 9<{foreign}; {helper(overlay(tmp_path))}; cd {tmp_path}/root; cat file; exec 9<&-; ls -l /proc/$(pgrep -f '[ ]{tmp_path}/root$')/fd"
    result = in_namespace("sh", "-c", command)
    assert result.returncode == 0, result.stderr
    held = sorted(line.split(" -> ")[1] for line in result.stdout.splitlines() if " -> " in line)
    layers = [f"{tmp_path}/layer", f"{tmp_path}/upper", f"{tmp_path}/work/work"]
    assert held == sorted(["/dev/null"] * 3 + ["/dev/fuse", *layers])
    assert gone(tmp_path)


@pytest.mark.parametrize("missing", ["layer", "upper", "work", "root"])
def test_a_failure_is_one_line(tmp_path: Path, missing: str) -> None:
    words = helper(overlay(tmp_path))
    (tmp_path / "layer/file").unlink()
    (tmp_path / missing).rmdir()
    result = in_namespace("sh", "-c", words)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"cannot mount the FUSE overlay on {tmp_path}/root: no such file or directory" in result.stderr


def test_without_the_namespace_it_says_so(tmp_path: Path) -> None:
    argv = fuse_overlay.helper_argv(overlay(tmp_path))
    assert argv
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (
        1,
        f"cannot mount the FUSE overlay on {tmp_path}/root: operation not permitted\n",
    )
