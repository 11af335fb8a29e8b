"""`python -m rootless.fuse_overlay --lower DIR … [--upper DIR --work DIR] [--volatile] TARGET`: mount our overlay and leave a server behind.

Exits 0 once the kernel's first request has been answered; else writes one line to standard error and exits with 1. The server goes when its mount does.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from ..errors import Error, HostError, UsageError, reason


class Arguments(NamedTuple):
    lower: tuple[str, ...]
    upper: str | None
    work: str | None
    target: str
    volatile: bool = False


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
    volatile = False
    rest = iter(words)
    for word in rest:
        if word == "--volatile":
            volatile = True
            continue
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
    return Arguments(tuple(lower), single.get("--upper"), single.get("--work"), single["target"], volatile)


def _mount(arguments: Arguments) -> int:
    from . import server

    try:
        server.start(arguments.lower, arguments.upper, arguments.work, arguments.target, volatile=arguments.volatile)
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        message = f"cannot mount the FUSE overlay on {arguments.target}: {reason(error)}{where}"
        raise HostError(message, hint="rl doctor") from error
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
