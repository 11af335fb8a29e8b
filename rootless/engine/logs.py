"""The log of a container: CRI records (log.h) read back as what the container said."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from .. import _lowlevel
from ..errors import Conflict, NotFound, reason
from ..paths import Paths
from . import container
from .monitor import Connection

_PAUSE = 0.05  # seconds between looks at a growing log
_BLOCK = 1 << 16


class Record(NamedTuple):
    """One record. time: RFC 3339. stream: `stdout` or `stderr`. data: with its line feed, unless the line goes on in a later record."""

    time: str
    stream: str
    data: bytes


def read(
    paths: Paths,
    container_id: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Iterator[Record]:
    """The records of a log in order. follow: wait for more until the container has ended. tail: only so many lines at the end (None: all).

    since, until: RFC 3339 in UTC; records of other times are left out.
    """
    path = f"{paths.container(container_id)}/log"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if not container.state(paths, container_id).started_at:
            return  # nothing has been said yet
        raise NotFound(
            f"container {container_id[:12]} keeps no log", hint="it was made with --log-driver none"
        ) from None
    except OSError as error:
        raise NotFound(f"cannot read {path}: {reason(error)}") from error
    with ExitStack() as stack:
        file = stack.enter_context(open(descriptor, "rb", buffering=_BLOCK))
        if tail is not None:
            file.seek(_start_of_tail(descriptor, tail))
        may_write = _writer(paths, container_id, stack) if follow else lambda: False
        for line in _lines(file.readline, may_write):
            record = parse(line)
            if record is None or (since and record.time < since):
                continue
            if until and record.time > until:
                return
            yield record


def parse(line: bytes) -> Record | None:
    """`TIME STREAM F|P TEXT` and a line feed; None for what is no record (a write that a crash cut short)."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[2] not in (b"F", b"P") or not line.endswith(b"\n"):
        return None
    return Record(
        parts[0].decode("ascii", "replace"),
        parts[1].decode("ascii", "replace"),
        parts[3] if parts[2] == b"F" else parts[3][:-1],
    )


def _writer(paths: Paths, container_id: str, stack: ExitStack) -> Callable[[], bool]:
    """A function that waits a moment and says whether anybody may still write to the log.

    That is the monitor: it goes on after the container's end, as long as there are last words to take. Its closing of a connection is the end.
    """
    try:
        connection = stack.enter_context(Connection(paths, container_id))
    except Conflict:
        return lambda: False
    poller = select.poll()
    poller.register(connection.socket, select.POLLIN)
    closed = False

    def may_write() -> bool:
        nonlocal closed
        if closed:  # it has ended, or has no room for one more connection
            time.sleep(_PAUSE)
            return container.state(paths, container_id).running
        if poller.poll(int(_PAUSE * 1000)):
            closed = _lowlevel.receive(connection.socket).type == 0
        return not closed or container.state(paths, container_id).running

    return may_write


def _lines(readline: Callable[[], bytes], may_write: Callable[[], bool]) -> Iterator[bytes]:
    """Whole lines; at the end of the file, wait for more while somebody may write some."""
    begun = b""
    more = True
    while True:
        while line := readline():
            begun += line
            if begun.endswith(b"\n"):
                yield begun
                begun = b""
        if not more:
            return
        more = may_write()  # and if not, one look more: it may have written before it ended


def _start_of_tail(descriptor: int, lines: int) -> int:
    """The offset from which the file has so many lines (records that end one), looked for backwards."""
    end = position = os.fstat(descriptor).st_size
    if lines <= 0:
        return end
    found = 0
    rest = b""
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(descriptor, position - start, start) + rest
        pieces = block.split(b"\n")
        rest = pieces[0]  # perhaps the end of a line that begins earlier
        offset = start + len(block)
        for piece in reversed(pieces if start == 0 else pieces[1:]):
            offset -= len(piece)
            # What has no line feed (yet) is no record.
            kind = piece.split(b" ", 3)[2:3] if offset + len(piece) < end else []
            if kind == [b"F"] or (kind == [b"P"] and not found):  # a last line may lack its end
                found += 1
                if found > lines:
                    return offset + len(piece) + 1
            offset -= 1
        position = start
    return 0
