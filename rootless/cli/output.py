"""`rl logs`: words for `engine.logs`. Hot."""

from __future__ import annotations

import sys
import time

from ..engine import container as containers_on_disk
from ..engine import logs as engine
from ..errors import UsageError
from .context import Context
from .units import parse_time

_UNITS = {"s": 1, "m": 60, "h": 3600}


def logs(
    context: Context, container: str, follow: bool, since: str | None, tail: str, timestamps: bool, until: str | None
) -> int:
    """What went to standard output goes there again, and so does standard error."""
    lines = _lines(tail)
    container_id = containers_on_disk.resolve(context.paths, container)
    records = engine.read(
        context.paths,
        container_id,
        follow=follow,
        tail=lines,
        since=_moment("--since", since),
        until=_moment("--until", until),
    )
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    begins_line = dict.fromkeys(streams, True)
    try:
        for record in records:
            stream = streams.get(record.stream, sys.stdout.buffer)
            if timestamps and begins_line.get(record.stream, True):
                stream.write(record.time.encode() + b" ")
            stream.write(record.data)
            begins_line[record.stream] = record.data.endswith(b"\n")
            if follow or stream is sys.stderr.buffer:
                stream.flush()
    except KeyboardInterrupt:
        if not follow:
            raise
    return 0


def _lines(tail: str) -> int | None:
    if tail in ("all", "-1"):
        return None
    if tail.isascii() and tail.isdecimal() and len(tail) <= 18:
        return int(tail)
    raise UsageError(f"invalid value {tail!r} for --tail: it is a number of lines, or all")


def _moment(option: str, word: str | None) -> str | None:
    """A time in the form of the records, so that they compare as texts: RFC 3339 in UTC with nanoseconds."""
    if word is None:
        return None
    try:
        if word[-1:] in _UNITS:
            seconds, nanoseconds = divmod(time.time_ns() - int(_span(word) * 1e9), 1_000_000_000)
        else:
            before, _, after = word.partition(".")
            zone = after.lstrip("0123456789")
            seconds = int(_absolute(before + zone))
            # Kept out of the float, which has no room for it: the time of a record, given back to us, is that record's.
            nanoseconds = int(f"{after.removesuffix(zone):0<9.9}")
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"invalid value {word!r} for {option}",
            hint="write 2024-05-01T12:00:00Z, seconds since 1970, or how long ago: 90s, 1h30m",
        ) from None


def _absolute(word: str) -> float:
    return float(word) if word.isdecimal() else parse_time(word)


def _span(word: str) -> float:
    """Seconds of `1h30m`, `90s`, `1.5h`."""
    seconds, number = 0.0, ""
    for character in word:
        if character in _UNITS:
            seconds += float(number) * _UNITS[character]
            number = ""
        else:
            number += character
    return seconds
