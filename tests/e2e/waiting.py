"""Waiting for what will be: by looking, with a deadline, never by a pause of a guessed length."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.runner import Rl

T = TypeVar("T")


def until(look: Callable[[], T], *, seconds: float = 20) -> T:
    """The first thing that `look` returns and that is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"it did not come to pass in {seconds} s"
        time.sleep(0.01)
    return found


def state(rl: Rl, name: str) -> dict[str, Any]:
    """`State` of `rl inspect`."""
    found: dict[str, Any] = rl.json("inspect", name)[0]["State"]
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
