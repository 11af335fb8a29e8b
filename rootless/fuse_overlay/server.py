"""Start our overlay: mount it, and leave a process behind that serves it until it is unmounted."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from . import protocol
from .filesystem import Filesystem


def start(lower: Sequence[str], upper: str | None, work: str | None, target: str, *, volatile: bool = False) -> None:
    """Returns when the mount serves. lower: topmost first; upper and work: None for a read-only root. OSError says what the kernel refused.

    The server is a child that nobody waits for here: whoever starts us from a process that stays is a subreaper or waits for it.
    """
    target = os.path.abspath(target)
    filesystem = Filesystem(lower, upper, work, volatile=volatile)
    device = protocol.mount(target, read_only=upper is None)
    told, tells = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            os.close(told)
            _leave_everything()
            protocol.leave_mount(target)
            protocol.Server(filesystem, device, ready=lambda: _tell(tells)).serve()
            status = 0
        finally:
            os._exit(status)
    os.close(device)
    os.close(tells)
    with open(told, "rb") as pipe:
        if not pipe.read(1):
            raise OSError(5, "the server ended at its start")
    filesystem.close()


def _leave_everything() -> None:
    """A session of its own, deaf to the terminal, on whose standard streams nobody waits."""
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)


def _tell(pipe: int) -> None:
    os.write(pipe, b"1")
    os.close(pipe)
