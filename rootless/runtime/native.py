"""Our own runtime: plans to processes, by the core program.

A `Monitor` is the conversation with one container's monitor from its birth to the start of its command, in the order of docs/architecture.md: `start`,
`rootfs`, `prepare`, `start_command`. After that its socket is an attach connection (`engine.attach`). `Joined` is the same for a further process (`rl exec`).
"""

import errno
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .. import _lowlevel
from ..errors import CannotInvoke, CommandNotFound, Error, HostError, reason
from ..userns.enter import diagnose
from .plan import Flag, Kind, Operation, pack

Notes = Callable[[str], None]
"""Receives sentences about what was tried, refused and done another way."""


class Removal(NamedTuple):
    """What a monitor removes at a container's end. grave: where the directory goes before its tree is removed; name: the link that is freed; volumes: further
    directories."""

    grave: str
    name: str
    volumes: tuple[str, ...] = ()


class MonitorRequest(NamedTuple):
    """What a monitor must know before there is a plan.

    directory, runtime: the container's two directories, which exist. log: path of the log, None: none. mounting: the operations that mount the root at
    <directory>/rootfs. removal: of a container that is removed at its end.
    """

    directory: str
    runtime: str
    log: str | None
    title: str
    mounting: Sequence[Operation]
    terminal: bool = False
    stdin: bool = False
    removal: Removal | None = None


class Monitor:
    """The conversation with a monitor until its container runs. Closing it before that ends the attempt and leaves nothing."""

    def __init__(self, request: MonitorRequest, *, userns: int, notes: Notes) -> None:
        flags = (Flag.TERMINAL if request.terminal else 0) | (Flag.STDIN if request.stdin else 0)
        plan = [Operation(Kind.MONITOR, (request.directory, request.runtime, request.log, request.title), (), flags)]
        if request.removal:
            plan.append(Operation(Kind.REMOVE, (request.directory, *request.removal)))
        plan += request.mounting
        self._notes = notes
        self._finished = False
        self._host_plan = plan
        self._plan: Sequence[Operation] = ()
        self._core = _lowlevel.spawn("monitor", request.title, plan=pack(plan), descriptors=(userns,))

    @property
    def socket(self) -> int:
        """The control socket; an attach connection once the command runs."""
        return self._core.control

    def rootfs(self) -> int:
        """Wait until the root file system is mounted; a descriptor of it (O_PATH), the caller's to close."""
        return self._await(_lowlevel.MSG_ROOTFS).descriptor

    def prepare(self, plan: Sequence[Operation], clone_flags: int) -> None:
        """Send the container's plan; the monitor begins to carry it out at once."""
        self._plan = plan
        packed = _lowlevel.sealed_file("rl-plan", pack(plan, clone_flags=clone_flags))
        try:
            _lowlevel.send(self.socket, _lowlevel.MSG_PLAN, descriptor=packed)
        finally:
            os.close(packed)

    def ready(self) -> tuple[int, int]:
        """Wait until everything but the command is done. The pid of the container's process and its start time."""
        return _lowlevel.process(self._await(_lowlevel.MSG_READY).payload)

    def start_command(self) -> None:
        """Execute the command; returns when it runs. CommandNotFound or CannotInvoke where it does not."""
        _lowlevel.send(self.socket, _lowlevel.MSG_START)
        self._await(_lowlevel.MSG_STARTED)

    def detach(self) -> None:
        """Leave the container to its monitor."""
        os.close(self.socket)

    def wait(self) -> int:
        """Close the socket and wait until the monitor has cleaned up and is gone. Its own exit code: 0, or 125 for an attempt that failed."""
        self._finished = True
        return self._core.wait()

    def abort(self) -> None:
        """Give the attempt up: the monitor ends what it has begun, removes what it has made, and is gone when this returns."""
        if not self._finished:
            self.wait()

    def _await(self, wanted: int) -> _lowlevel.Message:
        while True:
            message = _lowlevel.receive(self.socket)
            if message.type == wanted:
                return message
            if message.type == _lowlevel.MSG_NOTE:
                self._notes(describe_note(_lowlevel.failure(message.payload), self._plan))
            elif message.type == _lowlevel.MSG_FAILED:
                failure = _lowlevel.failure(message.payload)
                self.wait()
                raise failure_error(failure, self._host_plan if failure.phase == _lowlevel.PHASE_HOST else self._plan)
            elif message.type == 0:
                self.wait()
                raise Error(
                    "the container's monitor ended unexpectedly",
                    hint="was it killed? rl --debug shows what it was told to do",
                )


class Joined:
    """A further process in a running container; this process is the one that waits for it.

    streams: descriptors of its standard streams (with a terminal in the plan: ignored). `terminal()` waits for the master of its pseudo-terminal.
    """

    def __init__(
        self, pidfd: int, plan: Sequence[Operation], *, namespaces: int, streams: tuple[int, int, int]
    ) -> None:
        self._plan = plan
        self._core = _lowlevel.spawn("join", str(namespaces), plan=pack(plan), descriptors=(pidfd, *streams))

    @property
    def socket(self) -> int:
        return self._core.control

    def started(self) -> int | None:
        """Wait until the command runs. The master of its terminal where the plan makes one."""
        master = None
        while True:
            message = _lowlevel.receive(self.socket)
            if message.type == _lowlevel.MSG_TERMINAL:
                master = message.descriptor
            elif message.type == _lowlevel.MSG_STARTED:
                return master
            elif message.type == _lowlevel.MSG_FAILED:
                self._core.wait()
                raise failure_error(_lowlevel.failure(message.payload), self._plan)
            elif message.type == 0:
                self._core.wait()
                raise Error("the process ended before its command ran", hint="has the container ended?")

    def signal(self, number: int) -> None:
        _lowlevel.send(self.socket, _lowlevel.MSG_SIGNAL, number.to_bytes(4, "little"))

    def leave(self) -> None:
        """Let it run on without us; its parent in the core reaps it."""
        os.close(self.socket)

    def wait(self) -> None:
        self._core.wait()


def failure_error(failure: _lowlevel.Failure, plan: Sequence[Operation]) -> Error:
    """The error for what failed in the core: the operation in words, the kernel's reason, the exit code that Docker gives for it, the doctor's hint."""
    why = reason(failure.errno) + (f" ({failure.text})" if failure.text else "")
    if failure.phase == _lowlevel.PHASE_SETUP:
        step = _lowlevel.SETUP_STEPS.get(failure.kind, "run the monitor")
        return HostError(f"cannot {step}: {why}", hint=diagnose("userns", failure.errno))
    operation = plan[failure.operation] if failure.operation < len(plan) else Operation(failure.kind)
    if failure.kind == Kind.EXEC:
        command = str(operation.texts[1][0]) if operation.texts[1] else ""
        if failure.errno in (errno.ENOENT, errno.ENOTDIR):
            return CommandNotFound(
                f"cannot run {command!r}: no such file in the container",
                hint="is it installed in the image, and in PATH?",
            )
        return CannotInvoke(f"cannot run {command!r}: {why}")
    if failure.kind == Kind.SETNS:
        return HostError(f"cannot join the namespace {operation.texts[0]!s}: {why}")
    if failure.kind in (Kind.BIND, Kind.MOUNT):
        if failure.errno == errno.ELOOP and operation.flags & Flag.NO_SYMLINKS:
            return Error(
                f"{operation.texts[1]!s} is a symbolic link in the image, which could show what is to be hidden"
            )
        return HostError(
            f"cannot mount {operation.texts[0]!s} at {operation.texts[1]!s}: {why}",
            hint=_hint(operation, failure.errno),
        )
    if failure.kind in (Kind.CWD, Kind.MKDIR):  # the one directory that a plan makes
        act = "change to" if failure.kind == Kind.CWD else "make"
        return CannotInvoke(f"cannot {act} the working directory {operation.texts[0]!s}: {why}")
    if failure.kind == Kind.NETWORK:
        return HostError(
            f"cannot connect the container's network: {failure.text or why}", hint=diagnose("slirp", failure.errno)
        )
    return HostError(f"cannot {operation.describe()}: {why}", hint=_hint(operation, failure.errno))


_MOUNTS = (Kind.PROPAGATION, Kind.BIND, Kind.READONLY, Kind.MASK, Kind.PIVOT)


def _hint(operation: Operation, error: int) -> str | None:
    """The doctor's words for an operation that depends on the host."""
    if operation.kind == Kind.OVERLAY:
        return diagnose("overlay", error)
    if operation.kind == Kind.HELPER:
        return diagnose("fuse", error)
    if operation.kind == Kind.SECCOMP:
        return diagnose("seccomp", error)
    if operation.kind == Kind.MOUNT:
        return diagnose("proc" if operation.texts[2] == "proc" else "mount", error)
    if error == errno.ENOSYS or (error == errno.EPERM and operation.kind in _MOUNTS):
        return diagnose("mount", error)
    return None


def describe_note(failure: _lowlevel.Failure, plan: Sequence[Operation]) -> str:
    """A sentence for an operation that failed and was done another way, or left out."""
    operation = plan[failure.operation] if failure.operation < len(plan) else Operation(failure.kind)
    if operation.kind == Kind.MOUNT and operation.flags & Flag.ELSE:
        return (
            f"this host does not let a fresh {operation.texts[2]!s} be mounted ({reason(failure.errno)}): the container sees the host's own at {operation.texts[1]!s}, "
            "which shows more and isolates less; rl doctor says how to get a fresh one"
        )
    return f"left out: {operation._replace(flags=0).describe()}: {reason(failure.errno)}"
