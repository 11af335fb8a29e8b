"""The user namespace that the running containers of a user share.

It lives as long as something holds it: a monitor (a process in it) or an open descriptor. `acquire` finds it through either, else makes it. The record
`userns.json` only says where to look first; every claim in it is checked (pid with start time, inode of the namespace), so a stale one costs a scan
of the monitors, never a wrong namespace. That the namespace is shared is a convenience (`--network container:`, fewer namespaces, 5 ms saved for each run), and
nothing breaks where two rl race and make two.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import _lowlevel
from ..errors import Error, HostError, StoreError, reason
from ..paths import Paths
from ..store import lock, record
from . import idmap, subid
from .idmap import IdMap, IdRange

if TYPE_CHECKING:
    from . import diagnose as diagnosis

T = TypeVar("T")

_NEWIDMAP_TEXT_MAX = 400  # bytes of what newuidmap says
_PASSING = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
"""Reasons for a failure that say nothing of this host: no cause to do with one id from now on."""


class UserNamespace(NamedTuple):
    """A user namespace, held by the descriptor `fd`. notice: what its map costs, for the user; only from the call that made it."""

    fd: int
    uid_map: IdMap
    gid_map: IdMap
    notice: str | None = None

    @property
    def single_id(self) -> bool:
        """Only one user exists inside: the caller, as root."""
        return idmap.count(self.uid_map) == 1

    @property
    def setgroups(self) -> bool:
        """Whether setgroups(2) is allowed inside (it is not where the gid map was written without privilege)."""
        return not self.single_id

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> UserNamespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def acquire(paths: Paths) -> UserNamespace:
    """The shared user namespace of this user, made where no container runs. Raises HostError where the host refuses one."""
    found = _join(paths)
    if found:
        return found
    with lock.locked(f"{paths.locks}/userns"):
        found = _join(paths)
        if found:
            return found
        made = create()
        _remember(paths, made)
        return made


def of_process(pid: int, start_time: int) -> UserNamespace:
    """The user namespace of a live process of this user. Raises HostError when it is gone."""
    found = _open(pid, start_time, f"/proc/{pid}/ns/user")
    if found is None:
        raise HostError(f"process {pid} is gone")
    return found


def inside(namespace: UserNamespace, function: Callable[[], T]) -> T:
    """What `function` returns or raises when it is called by a process in the namespace, where it may see what we may not: files that other ids own, and
    FUSE file systems, which show nothing to those outside. Costs a fork: for where the direct way was refused.
    """
    import pickle

    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _lowlevel.enter_userns(namespace.fd, mount_namespace=False)
            try:
                answer: tuple[bool, Any] = True, function()
            except (Error, OSError) as error:
                answer = False, error
            with open(writer, "wb") as pipe:
                pickle.dump(answer, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise HostError("cannot enter the user namespace again", hint=diagnose("userns"))
    succeeded, value = pickle.loads(data)  # our own words, from our own child
    if not succeeded:
        raise value
    return value  # type: ignore[no-any-return]


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)); None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def alive(pid: int, start: int) -> bool:
    """Whether the process that had this pid and start time still runs; a recycled pid does not count."""
    return pid > 0 and start_time(pid) == start


# ---- joining


def _join(paths: Paths) -> UserNamespace | None:
    for pid, start, link, inode in _holders(paths):
        found = _open(pid, start, link, inode)
        if found:
            return found
    return None


def _holders(paths: Paths) -> Iterator[tuple[int, int, str, int | None]]:
    """Where the namespace may be found: the recorded holder first, then the monitors."""
    known = _told(paths.userns, "pid", "start", "fd", "inode")
    if known:
        pid, start, descriptor, inode = known
        yield pid, start, f"/proc/{pid}/fd/{descriptor}", inode
    try:
        running = os.listdir(paths.runtime_containers())
    except FileNotFoundError:
        return
    for container in running:
        monitor = _told(f"{paths.runtime(container)}/state.json", "monitorPid", "monitorStartTime")
        if monitor:
            pid, start = monitor
            yield pid, start, f"/proc/{pid}/ns/user", None


def _told(path: str, *names: str) -> list[int] | None:
    """These numbers of a record, None where it is absent or damaged: it only says where to look, and there are other places."""
    try:
        document: Any = record.read(path)
        numbers = [document[name] for name in names] if document else None
    except (StoreError, KeyError, TypeError, IndexError):
        return None
    return numbers if numbers and all(type(number) is int for number in numbers) else None


def _open(pid: int, start: int, link: str, inode: int | None = None) -> UserNamespace | None:
    if not alive(pid, start):
        return None
    try:
        # Another file may have that number by now, and to open a pipe or a device has effects; a race costs an error or an inode that is another.
        if inode is not None and os.readlink(link) != f"user:[{inode}]":
            return None
        fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    found = os.fstat(fd).st_ino
    # Read after it was opened and checked again: what we hold is the namespace of that very process, or the recorded one.
    if (inode is not None and found != inode) or found == os.stat("/proc/self/ns/user").st_ino or not alive(pid, start):
        os.close(fd)
        return None
    try:
        uid_map, gid_map = _maps(fd, pid if inode is None else None)
    except (OSError, HostError):
        os.close(fd)
        return None
    return UserNamespace(fd, uid_map, gid_map)


def _maps(fd: int, pid: int | None) -> tuple[IdMap, IdMap]:
    """The maps of a namespace, read from a process in it: `pid`, or one that enters it for the purpose."""
    if pid is not None:
        return _read_map(pid, "uid"), _read_map(pid, "gid")
    inside, release = _lowlevel.visit_userns(fd)
    try:
        return _read_map(inside, "uid"), _read_map(inside, "gid")
    finally:
        os.close(release)
        os.waitpid(inside, 0)


def _read_map(pid: int, kind: str) -> IdMap:
    with open(f"/proc/{pid}/{kind}_map", encoding="ascii") as file:
        found = idmap.parse_proc(file.read())
    if not found:
        raise HostError("the user namespace has no map yet")
    return found


def _remember(paths: Paths, made: UserNamespace) -> None:
    """Until its monitor runs, this process holds the namespace, by a descriptor that others can open through /proc."""
    pid = os.getpid()
    record.write(
        paths.userns,
        {"pid": pid, "start": start_time(pid), "fd": made.fd, "inode": os.fstat(made.fd).st_ino},
        durable=False,
    )


# ---- making


def create() -> UserNamespace:
    """A new user namespace, mapped as well as this host allows: by the subordinate ids, for root by its own ids, else with the caller's id alone."""
    uid, gid = os.getuid(), os.getgid()
    full, why = _full_maps(uid, gid)
    if full is not None:
        fd, refusal = _new(lambda pid: _map_fully(pid, uid, *full))
        if refusal is None:
            return UserNamespace(fd, *full)
        why = refusal
    single = (IdRange(0, uid, 1),), (IdRange(0, gid, 1),)
    # Another one: a namespace takes each of its maps once, and one of them may have been written.
    fd, refusal = _new(lambda pid: _write_maps(pid, *single, deny_setgroups=True))
    if refusal is not None:
        raise HostError(f"cannot map the caller's own id in a user namespace: {refusal}", hint=diagnose("idmap"))
    return UserNamespace(
        fd,
        *single,
        f"{why}: containers have one user id, and files of other owners cannot be told apart; rl doctor says how to get more",
    )


def diagnose(step: diagnosis.Step, error: int | None = None) -> str:
    """What helps when this step failed; reading the host for it is nothing for the hot path."""
    from . import diagnose as module

    return module.hint(step, error)


def _new(write_maps: Callable[[int], str | None]) -> tuple[int, str | None]:
    """A descriptor of a new namespace whose maps were written by `write_maps` (given a pid in it), or -1 and why they were refused."""
    try:
        pid, release = _lowlevel.create_userns()
    except OSError as error:
        raise HostError(
            f"cannot make a user namespace: {reason(error)}", hint=diagnose("userns", error.errno)
        ) from error
    try:
        refusal = write_maps(pid)
        return (-1, refusal) if refusal else (os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC), None)
    finally:
        os.close(release)
        os.waitpid(pid, 0)


def _full_maps(uid: int, gid: int) -> tuple[tuple[IdMap, IdMap] | None, str]:
    """The maps with more than the caller's own id, or None and why there are none."""
    if uid == 0:
        return _own_maps(), "root has no ids here"
    user = _user_name(uid)
    uids, gids = subid.ranges("uid", uid=uid, user=user), subid.ranges("gid", uid=uid, user=user)
    if not uids or not gids:
        return None, f"no subordinate ids for {user or uid} in /etc/subuid and /etc/subgid"
    return (idmap.default_map(uid, uids), idmap.default_map(gid, gids)), ""


def _map_fully(pid: int, uid: int, uid_map: IdMap, gid_map: IdMap) -> str | None:
    if uid != 0:
        return _newidmap(pid, uid_map, gid_map)
    refusal = _write_maps(pid, uid_map, gid_map)
    return refusal and f"root without CAP_SETUID and CAP_SETGID ({refusal})"


def _user_name(uid: int) -> str | None:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _own_maps() -> tuple[IdMap, IdMap]:
    """For root: every id that exists in its own namespace, as itself."""
    return _identity("uid"), _identity("gid")


def _identity(kind: str) -> IdMap:
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        return tuple(IdRange(line.inside, line.inside, line.size) for line in idmap.parse_proc(file.read()))


def _write_maps(pid: int, uid_map: IdMap, gid_map: IdMap, *, deny_setgroups: bool = False) -> str | None:
    """Write the maps ourselves. None, or why the kernel refuses (user_namespaces(7), "Defining user and group ID mappings")."""
    try:
        if deny_setgroups:
            _write(f"/proc/{pid}/setgroups", "deny")
        for kind, lines in (("uid", uid_map), ("gid", gid_map)):
            text = "".join(f"{line.inside} {line.outside} {line.size}\n" for line in lines)
            _write(f"/proc/{pid}/{kind}_map", text)
    except OSError as error:
        return reason(error)
    return None


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _newidmap(pid: int, uid_map: IdMap, gid_map: IdMap) -> str | None:
    """Run newuidmap(1) and newgidmap(1), side by side. None, or why it could not be done."""
    running = []
    for program, lines in (("newuidmap", uid_map), ("newgidmap", gid_map)):
        reader, writer = os.pipe2(os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, writer, 2), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
        try:
            child = os.posix_spawnp(
                program, [program, str(pid), *idmap.newidmap_arguments(lines)], os.environ, file_actions=actions
            )
        except OSError as error:
            child, number = 0, error.errno or 0
        finally:
            os.close(writer)
        running.append((program, child, reader))
    failures = []
    for program, child, reader in running:
        said = os.read(reader, _NEWIDMAP_TEXT_MAX)
        os.close(reader)
        if child == 0:
            failures.append(f"cannot execute {program}: {reason(number)}")
        elif os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            failures.append(f"{program} failed ({said.decode('utf-8', 'replace').strip() or 'it said nothing'})")
    if any(child == 0 for _, child, _ in running) and number in _PASSING:
        raise HostError("; ".join(failures), hint=diagnose("idmap", number))
    return "; ".join(failures) or None
