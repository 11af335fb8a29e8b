"""What a test left behind: processes, mounts, files.

A process belongs to a directory if it, or one of its ancestors, carries the directory in its environment, its arguments
or its mount table. (A container's processes have neither our environment nor our arguments, but their root lies there.)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple


class Process(NamedTuple):
    pid: int
    parent: int
    words: str

    def __str__(self) -> str:
        return f"process {self.pid}: {self.words}"


def processes(directory: str) -> list[Process]:
    """The processes of `directory`, without ourselves and our ancestors."""
    ours = _ancestors(os.getpid())
    everything = {process.pid: process for process in _all() if process.pid not in ours}
    belonging = {pid for pid in everything if _carries(pid, directory.encode())}
    while True:
        more = {pid for pid, process in everything.items() if process.parent in belonging} - belonging
        if not more:
            return [everything[pid] for pid in sorted(belonging)]
        belonging |= more


def mounts(directory: str) -> list[str]:
    """The mount points below `directory` in our own mount namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        points = [line.split()[4] for line in file]
    return [point for point in points if point == directory or point.startswith(directory + "/")]


def entries(directory: str, *, expected: Collection[str] = ()) -> list[str]:
    """What lies in `directory` and is not in `expected` (relative paths); only expected directories are looked into."""
    found = []
    for place, directories, files in os.walk(directory):
        relative = {name: os.path.relpath(os.path.join(place, name), directory) for name in [*directories, *files]}
        found += [path for path in relative.values() if path not in expected]
        directories[:] = [name for name in directories if relative[name] in expected]
    return sorted(found)


def settle(directory: str, *, seconds: float = 3.0) -> list[Process]:
    """Wait for the processes of `directory` to end (a monitor outlives its container by a moment): those that did not."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while (left := processes(directory)) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return left


def end(left: Collection[Process]) -> None:
    for process in left:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            ...  # it ended meanwhile, or ends with its namespace's first process


def _all() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in (b"Z", b"X"):
                yield Process(int(entry), int(fields[1]), words)


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid:
        found.add(pid)
        with open(f"/proc/{pid}/stat", "rb") as file:
            pid = int(file.read().rpartition(b")")[2].split()[1])
    return found


def _carries(pid: int, directory: bytes) -> bool:
    for name in ("environ", "cmdline", "mountinfo"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                if directory in file.read():
                    return True
        except OSError:
            continue  # another user's, or gone
    return False
