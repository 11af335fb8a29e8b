"""`rl exec`: a further process in a running container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _lowlevel
from ..errors import Conflict, HostError, UsageError, reason
from ..runtime import capabilities, native, users
from ..runtime import compile as compiler
from ..store import record
from ..userns import enter
from . import attach, container, facts, lifecycle
from .engine import Engine

if TYPE_CHECKING:
    from ..oci import runtime as oci

_NAMESPACES = (
    ("user", _lowlevel.CLONE_NEWUSER),
    ("mnt", _lowlevel.CLONE_NEWNS),
    ("pid", _lowlevel.CLONE_NEWPID),
    ("net", _lowlevel.CLONE_NEWNET),
    ("ipc", _lowlevel.CLONE_NEWIPC),
    ("uts", _lowlevel.CLONE_NEWUTS),
    ("cgroup", _lowlevel.CLONE_NEWCGROUP),
)


class ExecRequest(NamedTuple):
    """What `rl exec` was told. user, workdir: None is the container's own."""

    command: tuple[str, ...]
    interactive: bool = False
    terminal: bool = False
    detach: bool = False
    user: str | None = None
    workdir: str | None = None
    environment: tuple[tuple[str, str | None], ...] = ()
    privileged: bool = False
    detach_keys: str = "ctrl-p,ctrl-q"


def execute(engine: Engine, container_id: str, request: ExecRequest) -> int:
    """Run a command in a running container, in its namespaces and with its privileges. The exit code; 0 with `detach` or after the detach keys."""
    if not request.command:
        raise UsageError("exec needs a command", hint="rl exec CONTAINER COMMAND")
    keys = attach.parse_detach_keys(request.detach_keys)
    state = container.state(engine.paths, container_id)
    if not state.running:
        raise Conflict(f"container {container_id[:12]} is not running", hint=f"rl start {container_id[:12]}")
    spec: Any = record.read(f"{engine.paths.container(container_id)}/config.json")
    pidfd = _open_process(state)
    try:
        process = _process(request, spec, state)
        plan = compiler.exec_plan(process, _surroundings(engine, container_id, spec, request, state.pid))
        if engine.on_plan:
            engine.on_plan("exec", plan)
        return _run(request, keys, pidfd, state.pid, plan)
    finally:
        os.close(pidfd)


def _open_process(state: container.State) -> int:
    try:
        pidfd = os.pidfd_open(state.pid)
    except OSError as error:
        raise Conflict(f"the container ended meanwhile: {reason(error)}") from error
    if not enter.alive(state.pid, state.start_time):  # another process by now has its number
        os.close(pidfd)
        raise Conflict("the container ended meanwhile")
    return pidfd


def _process(request: ExecRequest, spec: oci.Spec, state: container.State) -> oci.Process:
    """The container's own process, with what the request says otherwise."""
    process: oci.Process = {**spec["process"], "args": list(request.command), "terminal": request.terminal}
    process.pop(
        "oomScoreAdj", None
    )  # inherited by nothing, and /proc/self is not ours to write while we hide from the container
    if request.workdir is not None:
        process["cwd"] = request.workdir
    values = dict(entry.partition("=")[::2] for entry in spec["process"].get("env", ()))
    for name, value in request.environment:
        given = os.environ.get(name) if value is None else value
        if given is not None:
            values[name] = given
    if request.terminal:
        values.setdefault("TERM", "xterm")
        if size := attach.window_size(0):
            process["consoleSize"] = {"height": size[0], "width": size[1]}
    if request.user is not None:
        user = _user(request.user, state)
        process["user"] = {
            "uid": user.uid,
            "gid": user.gid,
            "umask": spec["process"]["user"].get("umask", 0o022),
            "additionalGids": list(user.groups),
        }
        values["HOME"] = user.home
        process["capabilities"] = _capabilities(spec, user.uid)
    if request.privileged:
        everything = capabilities.names(capabilities.all_of(facts.last_capability()))
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), everything)  # type: ignore[typeddict-item]
    process["env"] = [f"{name}={value}" for name, value in values.items()]
    return process


def _user(text: str, state: container.State) -> users.ContainerUser:
    try:
        root = os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot look into the container: {reason(error)}") from error
    try:
        with enter.of_process(state.monitor_pid, state.monitor_start_time) as namespace:
            return lifecycle.container_user(root, text, namespace=namespace)
    finally:
        os.close(root)


def _capabilities(spec: oci.Spec, uid: int) -> oci.Capabilities:
    """Of another user than the container's: all that the container may have for root, none for others (as Docker's exec)."""
    bounding = spec["process"].get("capabilities", {}).get("bounding", [])
    return {"bounding": bounding, "effective": bounding if uid == 0 else [], "permitted": bounding if uid == 0 else []}


def _surroundings(
    engine: Engine, container_id: str, spec: oci.Spec, request: ExecRequest, pid: int
) -> compiler.Surroundings:
    program = None
    if not request.privileged:
        program = lifecycle.seccomp_program(engine.paths, spec, container.load(engine.paths, container_id).request)
    with open(f"/proc/{pid}/setgroups", encoding="ascii") as file:
        setgroups = file.read().strip() == "allow"
    return compiler.Surroundings(rootfs="", seccomp=program, setgroups=setgroups, supervised=False)


def _namespaces(pid: int) -> int:
    """The namespaces of a process that are not our own."""
    flags = 0
    for name, flag in _NAMESPACES:
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{name}").st_ino
        except OSError as error:
            raise Conflict(f"the container ended meanwhile: {reason(error)}") from error
        if theirs != os.stat(f"/proc/self/ns/{name}").st_ino:
            flags |= flag
    return flags


def _run(request: ExecRequest, keys: bytes, pidfd: int, pid: int, plan: list[Any]) -> int:
    ours, theirs = _streams(request)
    try:
        joined = native.Joined(pidfd, plan, namespaces=_namespaces(pid), streams=theirs)
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    master = joined.started()
    if request.detach:
        joined.leave()
        return 0
    try:
        code = attach.follow_joined(
            joined.socket,
            master=master,
            pipes=ours,
            stdin=request.interactive,
            detach_keys=keys,
            send_signal=joined.signal,
        )
    except attach.Detached:
        joined.leave()
        return 0
    joined.wait()
    return code


def _streams(request: ExecRequest) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Our and the process's ends of its standard streams. Always pipes: a descriptor of ours, a terminal above all, is nothing for a container."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if request.terminal or request.detach:
        return (-1, -1, -1), (null, os.dup(null), os.dup(null))
    output, errors = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    if not request.interactive:
        return (-1, output[0], errors[0]), (null, output[1], errors[1])
    os.close(null)
    given = os.pipe2(os.O_CLOEXEC)
    return (given[1], output[0], errors[0]), (given[0], output[1], errors[1])
