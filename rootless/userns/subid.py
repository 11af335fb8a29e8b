"""The subordinate ids of a user: subuid(5), subgid(5), and getsubids(1) where another source than these files is configured."""

import os
from typing import Literal, NamedTuple

from ..errors import HostError, reason
from .idmap import ID_END

Kind = Literal["uid", "gid"]

_MAX_FILE = 4 << 20  # bytes; a file beyond this is not one that an administrator wrote


class SubidRange(NamedTuple):
    """`size` ids from `start` on, that the user may map."""

    start: int
    size: int


class Subids(NamedTuple):
    """`notes`: what was skipped and why, for people. `source`: the file, or `getsubids`."""

    ranges: tuple[SubidRange, ...]
    notes: tuple[str, ...]
    source: str


def ranges(kind: Kind, *, uid: int, user: str | None) -> tuple[SubidRange, ...]:
    """The ranges of subordinate ids of a user, in the order of their source; () where there are none.

    Lines count that name the user, or hold the uid in decimal: newuidmap(1) takes both.
    """
    return lookup(kind, uid=uid, user=user).ranges


def lookup(kind: Kind, *, uid: int, user: str | None, etc: str = "/etc") -> Subids:
    """As `ranges`, with notes on what was skipped."""
    if user is not None and _elsewhere(f"{etc}/nsswitch.conf"):
        found = _getsubids(kind, user)
        if found is not None:
            return found
    path = f"{etc}/sub{kind}"
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE)
    except FileNotFoundError:
        return Subids((), (f"{path} does not exist",), path)
    except OSError as error:
        raise HostError(f"cannot read {path}: {reason(error)}") from error
    found_ranges, notes = parse(data.decode("utf-8", "surrogateescape"), uid=uid, user=user)
    return Subids(found_ranges, tuple(f"{path}: {note}" for note in notes), path)


def parse(text: str, *, uid: int, user: str | None) -> tuple[tuple[SubidRange, ...], tuple[str, ...]]:
    """The ranges of the user in the text of /etc/subuid or /etc/subgid, and notes on his malformed lines."""
    owners = (str(uid),) if user is None else (user, str(uid))
    found: list[SubidRange] = []
    notes: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        owner, _, rest = line.partition(":")
        if owner not in owners:
            continue
        start, _, count = rest.partition(":")
        if not (_is_number(start) and _is_number(count)):
            notes.append(f"line {number} is not 'owner:first:count'")
        elif int(count) == 0 or int(start) + int(count) > ID_END:
            notes.append(f"line {number} has ids that do not exist: {start.strip()}:{count.strip()}")
        else:
            found.append(SubidRange(int(start), int(count)))
    return tuple(found), tuple(notes)


def all_ranges(text: str) -> list[SubidRange]:
    """The well-formed ranges of every owner in such a file: what a new range must keep clear of."""
    found = []
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) == 3 and _is_number(fields[1]) and _is_number(fields[2]):
            found.append(SubidRange(int(fields[1]), int(fields[2])))
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10


def _elsewhere(nsswitch: str) -> bool:
    """Whether nsswitch.conf sends subordinate ids to another source than the files, as `subid: sss` does."""
    try:
        with open(nsswitch, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return False  # without the file, libsubid reads the files
    for line in lines:
        database, separator, sources = line.partition("#")[0].partition(":")
        if separator and database.strip() == "subid":
            return any(word != "files" and not word.startswith("[") for word in sources.split())
    return False


def _getsubids(kind: Kind, user: str) -> Subids | None:
    """What getsubids(1) says, None where it is not installed or fails (it does for a user without ranges)."""
    program = next((path for path in ("/usr/bin/getsubids", "/bin/getsubids") if os.access(path, os.X_OK)), None)
    if program is None:
        return None
    arguments = [program, *(["-g"] if kind == "gid" else []), "--", user]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]
        pid = os.posix_spawn(program, arguments, {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, file_actions=actions)
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as pipe:
        text = pipe.read(_MAX_FILE)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        return None
    # Each line is `0: alice 100000 65536`: an index, the owner, the first id, the count.
    words = [line.split() for line in text.split("\n")]
    found = [
        SubidRange(int(line[2]), int(line[3]))
        for line in words
        if len(line) == 4 and _is_number(line[2]) and _is_number(line[3])
    ]
    return Subids(tuple(found), (), "getsubids")
