"""Id maps of user namespaces, user_namespaces(7). Pure.

A map says which id inside stands for which id outside. The kernel takes at most `MAX_LINES` lines, in one write of less
than a page, whose ranges overlap on neither side.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import HostError

MAX_LINES = 340  # UID_GID_MAP_MAX_EXTENTS, kernel/user_namespace.c
MAX_BYTES = 4095  # map_write() there refuses a page or more
ID_END = 0xFFFF_FFFF  # (uid_t) -1 is no id


class IdRange(NamedTuple):
    """`size` ids from `inside` on stand for those from `outside` on."""

    inside: int
    outside: int
    size: int


IdMap = tuple[IdRange, ...]


def default_map(own_id: int, ranges: Iterable[tuple[int, int]]) -> IdMap:
    """Root inside is `own_id`; 1, 2, … are the subordinate `ranges` of (first, count), one after the other.

    Where a range holds the own id or ids of an earlier range, they are left out: the kernel refuses an id that is mapped twice.
    What goes beyond the kernel's limits is left out too, at the end.
    """
    lines = [IdRange(0, own_id, 1)]
    inside, size = 1, _written(lines[0])
    for first, count in ranges:
        for start, length in _unused(first, min(first + count, ID_END), lines):
            line = IdRange(inside, start, min(length, ID_END - inside))
            size += _written(line)
            if len(lines) == MAX_LINES or size > MAX_BYTES or line.size <= 0:
                return tuple(lines)
            lines.append(line)
            inside += line.size
    return tuple(lines)


def check(idmap: IdMap) -> None:
    """Raise HostError if the kernel would refuse the map: empty, too long, an overflow, an overlap on one of its sides."""
    if not idmap:
        raise HostError("the id map is empty")
    if len(idmap) > MAX_LINES or sum(map(_written, idmap)) > MAX_BYTES:
        raise HostError(f"the id map has {len(idmap)} lines, the kernel takes {MAX_LINES} in less than one page")
    for line in idmap:
        if line.size < 1 or min(line) < 0 or max(line.inside, line.outside) + line.size > ID_END:
            raise HostError(
                f"the line '{line.inside} {line.outside} {line.size}' of the id map goes beyond the ids that exist"
            )
    for side in (0, 1):
        ordered = sorted(idmap, key=lambda line: line[side])
        for before, after in itertools.pairwise(ordered):
            if before[side] + before.size > after[side]:
                raise HostError(f"the id map names {after[side]} twice {('inside', 'outside')[side]}")


def newidmap_arguments(idmap: IdMap) -> list[str]:
    """The words after the pid of newuidmap(1) and newgidmap(1)."""
    return [str(number) for line in idmap for number in line]


def parse_proc(text: str) -> IdMap:
    """The map that /proc/PID/uid_map or gid_map shows. Raises ValueError on anything else."""
    lines = [line.split() for line in text.splitlines()]
    return tuple(IdRange(*(int(word) for word in words)) for words in lines if _three(words))


def to_outside(idmap: IdMap, inside: int) -> int | None:
    """The id outside that `inside` stands for, None where it is not mapped."""
    for line in idmap:
        if 0 <= inside - line.inside < line.size:
            return line.outside + inside - line.inside
    return None


def to_inside(idmap: IdMap, outside: int) -> int | None:
    """The id inside that stands for `outside`, None where it is not mapped."""
    for line in idmap:
        if 0 <= outside - line.outside < line.size:
            return line.inside + outside - line.outside
    return None


def count(idmap: IdMap) -> int:
    """How many ids the map holds."""
    return sum(line.size for line in idmap)


def _unused(start: int, end: int, lines: Iterable[IdRange]) -> list[tuple[int, int]]:
    """The pieces (first, count) of start … end - 1 that no line holds on its outside."""
    pieces = []
    for line in sorted(lines, key=lambda line: line.outside):
        if line.outside + line.size <= start or line.outside >= end:
            continue
        if line.outside > start:
            pieces.append((start, line.outside - start))
        start = line.outside + line.size
    if start < end:
        pieces.append((start, end - start))
    return pieces


def _written(line: IdRange) -> int:
    return len(f"{line.inside} {line.outside} {line.size}\n")


def _three(words: list[str]) -> bool:
    if words and len(words) != 3:
        raise ValueError(f"not a line of an id map: {' '.join(words)}")
    return bool(words)
