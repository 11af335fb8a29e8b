"""The typed face of the C core: the only importer of the compiled module.

Everything here is a thin translation: integers and bytes in, integers and bytes out, OSError where the kernel refuses. Decisions
are made above (`runtime`, `userns`, `image`); what the core program is told is written in core.h.
"""

import os
import sys
from typing import Final, NamedTuple

from ..errors import Error, HostError, reason
from ._core import ffi, lib

# Namespace flags of clone(2), in the numbers of the kernel's ABI.
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

# Messages: enum rl_message_type of core.h.
MSG_PLAN: Final = 1
MSG_START: Final = 2
MSG_STDIN: Final = 3
MSG_RESIZE: Final = 4
MSG_SIGNAL: Final = 5
MSG_ATTACH: Final = 6
MSG_CLOSE: Final = 7
MSG_ROOTFS: Final = 32
MSG_READY: Final = 33
MSG_STARTED: Final = 34
MSG_FAILED: Final = 35
MSG_NOTE: Final = 36
MSG_STDOUT: Final = 37
MSG_STDERR: Final = 38
MSG_EXITED: Final = 39
MSG_TERMINAL: Final = 40
MSG_RESULT: Final = 41
MSG_COUNTS: Final = 42

# Where something failed: enum rl_phase and enum rl_setup_step of core.h.
PHASE_SETUP: Final = 0
PHASE_HOST: Final = 1
PHASE_CONTAINER: Final = 2
SETUP_STEPS: Final = {
    1: "read the plan",
    2: "enter the user namespace",
    3: "make a mount namespace",
    4: "clone the container's process",
    5: "write the container's state",
    6: "make the monitor's socket",
    7: "make the container's streams",
    8: "open the container's log",
    9: "hear from the container's process",
    10: "join the container's namespaces",
    11: "unpack a layer",
    12: "remove a tree",
    13: "pack a tree",
    14: "read an archive",
}
SETUP_ARCHIVE: Final = 14

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
DATA_MAX: Final = 32768
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rl-core")


class Message(NamedTuple):
    """One message of a control or attach socket. type: `MSG_*`; 0 when the peer has closed. descriptor: -1, or one that is now ours."""

    type: int
    payload: bytes
    descriptor: int


class Failure(NamedTuple):
    """struct rl_failure: what failed in the core. kind is one of `runtime.plan.Kind`, with phase 0 a `SETUP_*` step; operation: its place in the plan."""

    phase: int
    kind: int
    operation: int
    errno: int
    text: str


class Core(NamedTuple):
    """A running core program: its pid (a child of ours) and our end of its control socket."""

    pid: int
    control: int

    def wait(self) -> int:
        """Close the control socket and wait for the program's end. Returns its exit code."""
        os.close(self.control)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return result


def sealed_file(name: str, data: bytes, *, executable: bool = False) -> int:
    """A descriptor of a memory file that nobody can change any more (memfd_create(2), F_ADD_SEALS)."""
    return _check(lib.rl_sealed_file(name.encode(), ffi.from_buffer(data), len(data), executable))


def socketpair() -> tuple[int, int]:
    """Two connected SOCK_SEQPACKET sockets."""
    pair = ffi.new("int[2]")
    _check(lib.rl_socketpair(pair))
    return pair[0], pair[1]


def connect(directory: str, name: str) -> int:
    """Connect to the socket `name` in `directory`; the length of the path does not matter."""
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _check(lib.rl_connect(opened, name.encode()))
    finally:
        os.close(opened)


def send(socket: int, type: int, payload: bytes = b"", descriptor: int = -1) -> None:
    """Send one message, with a descriptor where one is given."""
    _check(lib.rl_send(socket, type, ffi.from_buffer(payload) if payload else ffi.NULL, len(payload), descriptor))


def receive(socket: int) -> Message:
    """The next message; waits for it. Type 0: the peer has closed."""
    kind = ffi.new("uint32_t *")
    descriptor = ffi.new("int *")
    buffer = ffi.new("char[]", DATA_MAX)
    length = lib.rl_receive(socket, kind, buffer, DATA_MAX, descriptor)
    if length < 0:
        if ffi.errno:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        return Message(0, b"", -1)
    return Message(kind[0], ffi.buffer(buffer, length)[:], descriptor[0])


def failure(payload: bytes) -> Failure:
    """Decode the payload of MSG_FAILED or MSG_NOTE."""
    value = ffi.new("struct rl_failure *")
    ffi.buffer(value)[:] = payload
    return Failure(value.phase, value.kind, value.index, value.error, ffi.string(value.text).decode("utf-8", "replace"))


def process(payload: bytes) -> tuple[int, int]:
    """Decode struct rl_process: a pid and its start time."""
    value = ffi.new("struct rl_process *")
    ffi.buffer(value)[:] = payload
    return value.pid, value.start_time


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` beneath the directory `root`, symlinks resolved inside it (openat2(2), RESOLVE_IN_ROOT). O_CLOEXEC is implied."""
    return _check(lib.rl_open_beneath(root, os.fsencode(path), flags))


class Counts(NamedTuple):
    """struct rl_counts: what an unpack or a pack did. opaque_root: the layer hides all layers below it."""

    entries: int
    bytes: int
    skipped_devices: int
    skipped_xattrs: int
    opaque_root: bool


class Worker(NamedTuple):
    """A core program at work on files."""

    core: Core
    what: str

    def wait(self) -> Counts:
        """Wait for its end. HostError, or Error for an archive at fault, with what the core says."""
        message = receive(self.core.control)
        self.core.wait()
        if message.type == MSG_COUNTS:
            value = ffi.new("struct rl_counts *")
            ffi.buffer(value)[:] = message.payload
            return Counts(
                value.entries, value.bytes, value.skipped_devices, value.skipped_xattrs, bool(value.opaque_root)
            )
        if message.type == MSG_FAILED:
            why = failure(message.payload)
            if why.kind == SETUP_ARCHIVE:
                raise Error(f"cannot {self.what}: {why.text}")
            refused = HostError(f"cannot {self.what}: {why.text + ': ' if why.text else ''}{reason(why.errno)}")
            refused.number = why.errno
            raise refused
        raise HostError(f"cannot {self.what}: the core program was killed")

    def kill(self) -> None:
        """End it at once, and forget what it would have said."""
        os.kill(self.core.pid, 9)
        self.core.wait()


def start_unpack(
    *, userns: int, tar: int, directory: str, single_id: bool, durable: bool, whiteout_files: bool = False
) -> Worker:
    """Apply the uncompressed tar that can be read from `tar` to an empty directory (unpack.h). `tar` stays the caller's."""
    words = [
        word
        for word, wanted in (("single", single_id), ("durable", durable), ("whiteout-files", whiteout_files))
        if wanted
    ]
    return Worker(spawn("unpack", directory, *words, descriptors=(userns, tar)), f"unpack into {directory}")


def start_pack(*, userns: int, directory: str, tar: int) -> Worker:
    """Write a directory to `tar` as one image layer (pack.h). `tar` stays the caller's."""
    return Worker(spawn("pack", directory, descriptors=(userns, tar)), f"pack {directory}")


def start_pack_in_root(*, userns: int, root: int, path: str, tar: int) -> Worker:
    """The same for `path` beneath the directory `root` (a descriptor), symlinks resolved inside it."""
    return Worker(spawn("pack", "/proc/self/fd/7", path, descriptors=(userns, tar, root)), f"pack {path}")


def remove_tree(*, userns: int, path: str) -> None:
    """Remove a tree with files of whatever owners. What is not there is success."""
    parent, name = os.path.split(path)
    Worker(spawn("remove", parent, name, descriptors=(userns,)), f"remove {path}").wait()


def create_userns() -> tuple[int, int]:
    """Clone a process that waits in a new user namespace. Returns its pid and the descriptor whose closing ends it."""
    release = ffi.new("int *")
    pid = _check(lib.rl_userns_create(release))
    return pid, release[0]


def visit_userns(userns: int) -> tuple[int, int]:
    """Clone a process that waits inside a user namespace. Returns its pid and the descriptor whose closing ends it."""
    release = ffi.new("int *")
    pid = _check(lib.rl_userns_visit(userns, release))
    return pid, release[0]


def enter_userns(userns: int, *, mount_namespace: bool) -> None:
    """Move this (single-threaded) process into a user namespace, and into a mount namespace of its own."""
    _check(lib.rl_enter_userns(userns, mount_namespace))


def spawn(mode: str, *arguments: str, plan: bytes | None = None, descriptors: tuple[int, ...] = ()) -> Core:
    """Start the core program: its plan at 3, a control socket at 4, `descriptors` from 5 on (-1: none).

    It is executed from a sealed copy in memory, so that no container can reach the file on disk through /proc/PID/exe (CVE-2019-5736).
    """
    ours, theirs = socketpair()
    given = [-1, theirs, *descriptors]
    try:
        program = _program()
        try:
            if plan is not None:
                given[0] = sealed_file("rl-plan", plan)
            argv = [ffi.new("char[]", os.fsencode(word)) for word in ("rl-" + mode, mode, *arguments)]
            environment = [ffi.new("char[]", f"{name}={value}".encode()) for name, value in _environment().items()]
            pid = _check(
                lib.rl_spawn(
                    program,
                    ffi.new("char *[]", [*argv, ffi.NULL]),
                    ffi.new("char *[]", [*environment, ffi.NULL]),
                    ffi.new("int[]", given),
                    len(given),
                )
            )
        finally:
            os.close(program)
            if given[0] >= 0:
                os.close(given[0])
    except OSError as error:
        os.close(ours)
        raise HostError(f"cannot start the core program: {reason(error)}", hint="rl doctor") from error
    finally:
        os.close(theirs)
    return Core(pid, ours)


def _program() -> int:
    try:
        with open(_PROGRAM, "rb") as file:
            return sealed_file("rl-core", file.read(), executable=True)
    except FileNotFoundError:
        raise Error(f"the core program {_PROGRAM} is missing", hint="build it: make build") from None


def _environment() -> dict[str, str]:
    """What helper programs of the core (slirp4netns, fuse-overlayfs, our own) need of the environment, and no more."""
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "XDG_RUNTIME_DIR", "TMPDIR") if name in os.environ
    }
    kept.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
    if getattr(sys, "frozen", False) and "LD_LIBRARY_PATH_ORIG" in os.environ:
        kept["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH_ORIG"]
    return kept
