"""`python -m rootless.fuse_overlay --lower DIR … [--upper DIR --work DIR] TARGET`: mount our overlay and leave a server behind.

Exits 0 once the kernel's first request has been answered; else writes one line to standard error and exits with 1. The server goes when its mount does.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NamedTuple

from ..errors import Error, HostError, UsageError, reason


class Arguments(NamedTuple):
    lower: tuple[str, ...]
    upper: str | None
    work: str | None
    target: str


def main(words: list[str]) -> int:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # nothing that somebody forgot to close stays open in the server
    try:
        return _mount(parse(words))
    except Error as error:
        os.write(2, f"{error.message}\n".encode(errors="surrogateescape"))
        return 1


def parse(words: list[str]) -> Arguments:
    """The command line; it is written by `helper_argv`, not by people."""
    lower: list[str] = []
    single: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word.startswith("--") else None
        if word == "--lower" and value:
            lower.append(value)
        elif word in ("--upper", "--work") and value:
            single[word] = value
        elif not word.startswith("--") and "target" not in single:
            single["target"] = word
        else:
            raise UsageError(f"unexpected argument {word}")
    if not lower or "target" not in single or ("--upper" in single) != ("--work" in single):
        raise UsageError("usage: --lower DIR ... [--upper DIR --work DIR] TARGET")
    return Arguments(tuple(lower), single.get("--upper"), single.get("--work"), single["target"])


def _mount(arguments: Arguments) -> int:
    from . import protocol
    from .filesystem import Filesystem

    target = os.path.abspath(arguments.target)
    try:
        filesystem = Filesystem(arguments.lower, arguments.upper, arguments.work)
    except OSError as error:
        raise HostError(f"cannot open the layers of {target}: {reason(error)}") from error
    try:
        device = protocol.mount(target, read_only=arguments.upper is None)
    except OSError as error:
        raise HostError(f"cannot mount the FUSE overlay on {target}: {reason(error)}", hint="rl doctor") from error
    told, tells = os.pipe()
    if os.fork():
        os.close(device)
        os.close(tells)
        if not os.read(told, 1):
            raise HostError(f"the server of the FUSE overlay on {target} ended at its start")
        return 0
    os.close(told)
    _become_server()
    protocol.leave_mount(target)
    protocol.Server(filesystem, device, ready=lambda: _tell(tells)).serve()
    return 0


def _become_server() -> None:
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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
