"""Containers as files: what a container is, what state it is in, which one a person means.

`container.json` says how the container was made and never changes after; everything that changes is derived, from `started.json` and `exit.json` in the container's
directory and `state.json` in its runtime directory, which the monitor writes. No function here starts or stops anything.
"""

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import Conflict, NotFound, StoreError, UsageError, reason
from ..fuse_overlay import Driver
from ..network.ports import PublishedPort
from ..paths import Paths
from ..store import lock, record
from ..userns import enter
from .request import CreateRequest
from .request import from_json as request_from_json
from .request import to_json as request_to_json

if TYPE_CHECKING:
    from ..oci.image import ContainerConfig

Status = Literal["created", "running", "exited"]

FORMAT = 1
"""The version of container.json."""

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HEX = frozenset("0123456789abcdef")


class Container(NamedTuple):
    """container.json. created: RFC 3339. layers: chain ids, lowest first. ports: with their host ports chosen. driver: of the root file system.

    command: what it executes, of the request or the image. volumes: target -> volume name. config: the image's, so that a container
    outlives the image. mapping: `full` or `single`, as its layers were unpacked.
    """

    id: str
    name: str
    image: str
    image_id: str
    command: tuple[str, ...]
    layers: tuple[str, ...]
    created: str
    driver: Driver
    mapping: str
    ports: tuple[PublishedPort, ...]
    volumes: dict[str, str]
    config: "ContainerConfig"
    request: CreateRequest

    @property
    def labels(self) -> dict[str, str]:
        """The image's, overruled by the user's."""
        return {**(self.config.get("Labels") or {}), **dict(self.request.labels)}

    def to_json(self) -> dict[str, Any]:
        return self._asdict() | {
            "format": FORMAT,
            "ports": [port._asdict() for port in self.ports],
            "request": request_to_json(self.request),
        }


class State(NamedTuple):
    """What a container is doing. Times are RFC 3339, empty where there is none yet.

    pid: of the first process, 0 where it does not run. exit_code: None before the end; 137 also where the monitor was killed and nobody saw the end.
    """

    status: Status
    pid: int = 0
    start_time: int = 0
    monitor_pid: int = 0
    monitor_start_time: int = 0
    started_at: str = ""
    finished_at: str = ""
    exit_code: int | None = None

    @property
    def running(self) -> bool:
        return self.status == "running"


def load(paths: Paths, container_id: str) -> Container:
    """The container of a full id. Raises NotFound, StoreError."""
    path = f"{paths.container(container_id)}/container.json"
    document: Any = record.read(path)
    if document is None:
        raise NotFound(f"no container {container_id[:12]!r}", hint="rl ps -a lists them")
    try:
        if document["format"] != FORMAT:
            raise StoreError(f"{path} is of format {document['format']!r}, this rl reads format {FORMAT}")
        fields = {name: document[name] for name in Container._fields}
        fields["ports"] = tuple(PublishedPort(**port) for port in document["ports"])
        fields["layers"] = tuple(document["layers"])
        fields["command"] = tuple(document["command"])
        fields["request"] = request_from_json(document["request"])
    except _NOT_WHAT_IT_SHOULD_BE as error:
        raise StoreError(f"{path} is damaged: {error}", hint="rl rm --force removes the container") from error
    return Container(**fields)


def state(paths: Paths, container_id: str) -> State:
    """What a container is doing now, from the files of its monitor. A process is believed only with its start time."""
    directory = paths.container(container_id)
    for path, meaning in (
        (f"{paths.runtime(container_id)}/state.json", _running),
        (f"{directory}/exit.json", _ended),
        (f"{directory}/started.json", _unseen),
    ):
        document = record.read(path)
        try:
            found = meaning(document) if document is not None else None
        except _NOT_WHAT_IT_SHOULD_BE as error:
            raise StoreError(f"{path} is damaged: {error}", hint="rl rm --force removes the container") from error
        if found:
            return found
    return State("created")


_NOT_WHAT_IT_SHOULD_BE = (KeyError, TypeError, ValueError, AttributeError)
"""What taking a document apart raises where it is JSON, but not ours."""


def _running(state: Any) -> State | None:
    if not (
        state["startedAt"]
        and state["bootId"] == boot_id()
        and enter.alive(state["monitorPid"], state["monitorStartTime"])
    ):
        return None
    return State(
        "running",
        pid=state["pid"],
        start_time=state["startTime"],
        monitor_pid=state["monitorPid"],
        monitor_start_time=state["monitorStartTime"],
        started_at=state["startedAt"],
    )


def survivor(paths: Paths, container_id: str) -> tuple[int, int] | None:
    """The pid and start time of a first process that lives though its monitor was killed; None where there is none.

    The kernel ends it with its monitor, unless it has changed its user or executed a setuid program (prctl(2), PR_SET_PDEATHSIG).
    """
    try:
        told: Any = record.read(f"{paths.runtime(container_id)}/state.json")
        if told is None or told["bootId"] != boot_id() or enter.alive(told["monitorPid"], told["monitorStartTime"]):
            return None
        pid, start = int(told["pid"]), int(told["startTime"])
    except (StoreError, *_NOT_WHAT_IT_SHOULD_BE):
        return None  # whoever reads the state says so
    return (pid, start) if enter.alive(pid, start) else None


def _ended(exit: Any) -> State:
    return State("exited", started_at=exit["startedAt"], finished_at=exit["finishedAt"], exit_code=exit["exitCode"])


def _unseen(started: Any) -> State:
    """It ran, and its monitor did not live to tell how it ended."""
    return State("exited", started_at=started["startedAt"], exit_code=137)


def boot_id() -> str:
    """Of this boot of the machine; start times and pids mean nothing beyond it."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def identifiers(paths: Paths) -> list[str]:
    """The full id of every container, in no order."""
    try:
        return [entry for entry in os.listdir(paths.containers) if len(entry) == 64 and set(entry) <= _HEX]
    except FileNotFoundError:
        return []


def resolve(paths: Paths, text: str) -> str:
    """The full id of the container that a person means: by name, id, or an unambiguous beginning of an id. NotFound, Conflict."""
    if not text or "/" in text or text in (".", ".."):
        raise UsageError(f"invalid container name {text!r}")
    named = holder(paths, text)
    if named and os.path.exists(f"{paths.container(named)}/container.json"):
        return named
    if set(text) <= _HEX:
        matches = [entry for entry in identifiers(paths) if entry.startswith(text)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise Conflict(
                f"{len(matches)} containers have an id that begins with {text!r}", hint="give more of the id"
            )
    raise NotFound(f"no container {text!r}", hint="rl ps -a lists them")


def check_name(name: str) -> None:
    """Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+"""
    if len(name) < 2 or len(name) > 128 or not name[0].isalnum() or not set(name) <= _NAME_CHARACTERS:
        raise UsageError(
            f"invalid container name {name!r}",
            hint="use letters, digits, '_', '.' and '-', beginning with a letter or digit",
        )


def new_id() -> str:
    return os.urandom(32).hex()


# ---- making


class Draft:
    """A container being made: a directory in tmp/ that becomes the container's when it is complete, and its name.

    A context manager; what was not committed is removed, and what a killed maker leaves behind is free to take (its lock is).
    """

    def __init__(self, paths: Paths, container_id: str) -> None:
        self._paths = paths
        self.id = container_id
        self.directory = f"{paths.tmp}/{container_id}"
        self._lock = -1
        self._name: str | None = None

    def __enter__(self) -> "Draft":
        try:
            os.mkdir(self.directory, 0o755)
            for name in ("rootfs", "upper", "work"):
                os.mkdir(f"{self.directory}/{name}", 0o755)
        except OSError as error:
            raise StoreError(f"cannot make the container's directory {self.directory}: {reason(error)}") from error
        held = lock.try_lock(f"{self.directory}/lock")
        assert held is not None, "nobody else knows the id yet"
        self._lock = held
        return self

    def take_name(self, name: str | None) -> str:
        """Reserve the name, or a free one of our making. Raises Conflict naming the holder."""
        if name is not None:
            check_name(name)
            if not self._link(name):
                raise Conflict(
                    f"the name {name!r} is taken by container {(holder(self._paths, name) or '?')[:12]}",
                    hint=f"rl rm {name}, or choose another name",
                )
            return name
        from .names import candidates

        for candidate in candidates():
            if self._link(candidate):
                return candidate
        raise AssertionError("the candidates do not end")

    def commit(self, container: Container, *, durable: bool) -> None:
        """Write container.json and let the container appear. Not durable: it is gone after a power cut, as one with --rm is after a reboot."""
        record.write(f"{self.directory}/container.json", container.to_json(), durable=durable)
        os.rename(self.directory, self._paths.container(self.id))
        self._name = None
        if durable:
            record.sync_directory(self._paths.containers)

    def __exit__(self, *_: object) -> None:
        if self._name is not None:
            os.unlink(self._paths.name(self._name))
        if os.path.isdir(self.directory):
            for name in os.listdir(self.directory):
                path = f"{self.directory}/{name}"
                if os.path.isdir(path):
                    os.rmdir(path)
                else:
                    os.unlink(path)
            os.rmdir(self.directory)
        os.close(self._lock)

    def _link(self, name: str) -> bool:
        """symlink(2) fails where the name exists, and that is all the database that names need."""
        path = self._paths.name(name)
        for _ in range(2):
            try:
                os.symlink(f"../containers/{self.id}", path)
            except FileExistsError:
                if not _free_stale(self._paths, name):
                    return False
            else:
                self._name = name
                return True
        return False


def holder(paths: Paths, name: str) -> str | None:
    """The id of the container that a name belongs to, None where it is free."""
    try:
        return os.readlink(paths.name(name)).rpartition("/")[2]
    except OSError:
        return None


def _free_stale(paths: Paths, name: str) -> bool:
    """Remove a name whose container is neither there nor being made: its maker or remover was killed. True where it is free now."""
    # Of two who find it stale at once, the slower would remove the name that the faster has just taken.
    with lock.locked(paths.names_lock):
        owner = holder(paths, name)
        if owner is None:
            return True
        if os.path.exists(f"{paths.container(owner)}/container.json"):
            return False
        draft = f"{paths.tmp}/{owner}/lock"
        if os.path.exists(draft):
            held = lock.try_lock(draft)
            if held is None:
                return False
            os.close(held)
        if os.path.exists(paths.container(owner)):
            return False  # it was completed meanwhile
        os.unlink(paths.name(name))
        return True
