"""Plans put to the core program: tried in isolation (what failed, where), or run under a real monitor with busybox as the payload (what it saw)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rootless import _lowlevel
from rootless._lowlevel import CLONE_NEWNS, Failure
from rootless.runtime.native import Monitor, MonitorRequest
from rootless.runtime.plan import Flag, Kind, Operation, pack
from rootless.userns.enter import UserNamespace

BUSYBOX = "/bin/busybox"


class Attempt(NamedTuple):
    """failed: what ended the plan; noted: what was left out or done another way."""

    failed: Failure | None
    noted: list[Failure]

    @property
    def where(self) -> tuple[int, int, int] | None:
        """(place in the plan, kind, errno) of the failure."""
        return self.failed and (self.failed.operation, self.failed.kind, self.failed.errno)


class Ran(NamedTuple):
    """out: what the payload wrote to its two streams. code: as a shell would see it. notes: sentences for the user."""

    out: str
    code: int
    notes: list[str]


def attempt(namespace: UserNamespace, *plan: Operation, flags: int = CLONE_NEWNS) -> Attempt:
    """Carry a plan out up to READY, in namespaces that go away with it."""
    return attempt_bytes(namespace, pack([*plan, Operation(Kind.READY)], clone_flags=flags))


def attempt_bytes(namespace: UserNamespace, plan: bytes) -> Attempt:
    core = _lowlevel.spawn("try", plan=plan, descriptors=(namespace.fd,))
    failed, noted = None, []
    while (message := _lowlevel.receive(core.control)).type not in (0, _lowlevel.MSG_READY):
        if message.type == _lowlevel.MSG_FAILED:
            failed = _lowlevel.failure(message.payload)
        elif message.type == _lowlevel.MSG_NOTE:
            noted.append(_lowlevel.failure(message.payload))
    core.wait()
    return Attempt(failed, noted)


class Place:
    """A directory for one container: `root` is its root file system, with busybox in it, seen from outside."""

    def __init__(self, directory: Path, namespace: UserNamespace) -> None:
        self.namespace = namespace
        self.directory = directory / "container"
        self.runtime = directory / "runtime"
        self.root = self.directory / "rootfs"
        (self.root / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, self.root / "bin/busybox")
        self.notes: list[str] = []

    def enter_root(self) -> Operation:
        return Operation(Kind.ROOT, (str(self.root),), (), Flag.RECURSIVE)

    def bind(self, source: str | Path, target: str, *numbers: int, flags: int = Flag.CREATE) -> Operation:
        return Operation(Kind.BIND, (str(source), target), numbers, flags)

    def monitor(self, *, mounting: Sequence[Operation] = (), terminal: bool = False, stdin: bool = False) -> Monitor:
        self.runtime.mkdir()
        request = MonitorRequest(
            str(self.directory), str(self.runtime), None, "test", mounting, terminal=terminal, stdin=stdin
        )
        return Monitor(request, userns=self.namespace.fd, notes=self.notes.append)

    def start(
        self,
        *plan: Operation,
        script: str,
        flags: int = CLONE_NEWNS,
        mounting: Sequence[Operation] = (),
        terminal: bool = False,
    ) -> Monitor:
        """A plan and a shell script after it, running."""
        monitor = self.monitor(mounting=mounting, terminal=terminal)
        os.close(monitor.rootfs())
        monitor.prepare([*plan, *shell(script)], flags)
        monitor.ready()
        monitor.start_command()
        return monitor

    def run(
        self,
        *plan: Operation,
        script: str,
        flags: int = CLONE_NEWNS,
        mounting: Sequence[Operation] = (),
        terminal: bool = False,
    ) -> Ran:
        """A plan and a shell script after it, to the end."""
        return self.finish(self.start(*plan, script=script, flags=flags, mounting=mounting, terminal=terminal))

    def finish(self, monitor: Monitor) -> Ran:
        out, code = b"", -1
        while (message := _lowlevel.receive(monitor.socket)).type:
            if message.type in (_lowlevel.MSG_STDOUT, _lowlevel.MSG_STDERR):
                out += message.payload
            elif message.type == _lowlevel.MSG_EXITED:
                code = int.from_bytes(message.payload, "little", signed=True)
        monitor.wait()
        return Ran(out.decode(), code, self.notes)


def shell(script: str) -> list[Operation]:
    """The end of a plan: ready, then busybox's shell, the host's or the root's."""
    execute = Operation(Kind.EXEC, ((BUSYBOX,), ("sh", "-c", script), ("PATH=/bin",)))
    return [Operation(Kind.READY), execute]


def tmpfs(target: str, *, flags: int = 0, data: str | None = "size=1m", create: int = Flag.CREATE) -> Operation:
    return Operation(Kind.MOUNT, ("tmpfs", target, "tmpfs", data), (flags,), create)


PROC = Operation(Kind.MOUNT, ("proc", "/proc", "proc", None), (), Flag.CREATE)
PIVOT = Operation(Kind.PIVOT)
