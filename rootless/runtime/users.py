"""Who a container's process is: `--user`, the image's USER and `--group-add`, looked up in the container's own /etc/passwd and /etc/group.

The root file system is not to be trusted: its files may be pipes, devices, endless, or links to anywhere. They are opened beneath the root by the
callable that the caller gives (`_lowlevel.open_in_root`: openat2(2), RESOLVE_IN_ROOT), never waited for, and read up to a bound.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..errors import UsageError, reason

MAX_FILE = 4 << 20  # bytes of passwd or group that are read
MAX_ID = 2**32 - 2  # 2**32 - 1 is "no id"
MAX_GROUPS = 65536  # NGROUPS_MAX

OpenInRoot = Callable[[int, str, int], int]
"""(descriptor of the root, path in it, flags of open(2)) -> a new descriptor, or OSError."""

_Group = tuple[str, int, list[str]]
"""Name, id, members."""


class ContainerUser(NamedTuple):
    """uid and gid are ids inside the container; groups are the supplementary ones, without gid; name is empty where passwd has none."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


def resolve(root: int, user: str, *, open_in_root: OpenInRoot, groups: Iterable[str] = ()) -> ContainerUser:
    """Docker's rules for `user` (empty, `uid`, `name`, each with `:gid` or `:group`) and the names or numbers of --group-add.

    root: descriptor of the container's root directory. A name is looked up before a number is taken as one. A number that passwd does not
    have has gid 0, HOME / and no further groups; a user whose group is given has no groups but those. UsageError where a name is unknown, OSError (ENOSYS) where openat2(2) is missing,
    PermissionError where the files may only be read from inside the container's user namespace.
    """
    name, _, wanted_group = user.partition(":")
    wanted_user = name or "0"
    entry = _find_user(_passwd(root, open_in_root), wanted_user)
    if entry is None:
        number = _number(wanted_user)
        if number is None:
            raise UsageError(f"unable to find user {wanted_user}: no matching entries in passwd file")
        entry = ContainerUser(number, 0)

    extra = [word for word in groups if word != "keep-groups"]
    gid, supplementary = entry.gid, list[int]()
    if wanted_group or extra or entry.name:
        known = list(_groups(root, open_in_root))
        if wanted_group:
            gid = _find_group(known, wanted_group)
        elif entry.name:
            supplementary = [number for _, number, members in known if entry.name in members]
        supplementary += [_find_group(known, word) for word in extra]
    unique = tuple(group for group in dict.fromkeys(supplementary) if group != gid)
    return entry._replace(gid=gid, groups=unique[:MAX_GROUPS])


def _find_user(entries: Iterable[ContainerUser], wanted: str) -> ContainerUser | None:
    """By name, else by number; the first line counts, as for getpwnam(3)."""
    number, by_number = _number(wanted), None
    for entry in entries:
        if entry.name == wanted:
            return entry
        if by_number is None and entry.uid == number:
            by_number = entry
    return by_number


def _find_group(known: Iterable[_Group], wanted: str) -> int:
    for name, gid, _ in known:
        if name == wanted:
            return gid
    number = _number(wanted)
    if number is None:
        raise UsageError(f"unable to find group {wanted}: no matching entries in group file")
    return number


def _passwd(root: int, open_in_root: OpenInRoot) -> Iterator[ContainerUser]:
    """The lines of passwd, with no groups yet."""
    for line in _lines(root, "/etc/passwd", open_in_root):
        fields = line.split(":")
        if len(fields) >= 4 and fields[0]:
            uid, gid = _number(fields[2]), _number(fields[3])
            if uid is not None and gid is not None:
                home = fields[5] if len(fields) > 5 else ""
                yield ContainerUser(uid, gid, (), home if home and "\0" not in home else "/", fields[0])


def _groups(root: int, open_in_root: OpenInRoot) -> Iterator[_Group]:
    for line in _lines(root, "/etc/group", open_in_root):
        fields = line.split(":")
        if len(fields) >= 3 and fields[0]:
            gid = _number(fields[2])
            if gid is not None:
                yield fields[0], gid, fields[3].split(",") if len(fields) > 3 and fields[3] else []


def _number(word: str) -> int | None:
    """An id in decimal; None for everything else, also for what is too large for an id."""
    if word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= MAX_ID:
        return int(word)
    return None


def _lines(root: int, path: str, open_in_root: OpenInRoot) -> Iterator[str]:
    """The lines of a regular file in the root, none where there is no such file. What is no regular file, or too large, is a UsageError."""
    try:
        # O_PATH opens nothing: a pipe does not wait for its writer, a device does not notice. Only what is a plain file is opened then.
        found = open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        raise  # the caller may ask again from inside the user namespace
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise  # nothing of the container's: the kernel, or a filter, lacks openat2(2)
        raise UsageError(f"cannot read {path} of the container: {reason(error)}") from error
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise UsageError(f"{path} of the container is not a regular file")
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {path} of the container: {reason(error)}") from error
    finally:
        os.close(found)
    try:
        chunks, size = [], 0
        while chunk := os.read(descriptor, min(1 << 16, MAX_FILE + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_FILE:
                raise UsageError(f"{path} of the container is larger than {MAX_FILE} bytes")
    finally:
        os.close(descriptor)
    yield from b"".join(chunks).decode("utf-8", "surrogateescape").split("\n")
