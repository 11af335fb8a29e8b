"""From an OCI runtime spec to a plan. Pure.

The order of the operations is the life of a container: namespaces, the root and what is mounted in it, the terminal, the settings of its
kernel interfaces, what is hidden, the change of root, limits, privileges given up, the command. Sections are cited from config.md
and config-linux.md of the runtime specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import UsageError
from . import capabilities
from .plan import Flag, Kind, Operation

if TYPE_CHECKING:
    from ..oci import runtime as oci

_MS: Final = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "mand": 64, "dirsync": 128, "nosymfollow": 256,
    "noatime": 1024, "nodiratime": 2048, "silent": 32768, "relatime": 1 << 21, "iversion": 1 << 23, "strictatime": 1 << 24, "lazytime": 1 << 25,
}  # fmt: skip
"""Flags of mount(2). A word that is in neither table is data for the file system."""

_MS_NEGATED: Final = {
    "rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "async": "sync", "nomand": "mand", "symfollow": "nosymfollow",
    "atime": "noatime", "diratime": "nodiratime", "loud": "silent", "norelatime": "relatime", "noiversion": "iversion",
    "nostrictatime": "strictatime", "nolazytime": "lazytime",
}  # fmt: skip
"""What takes a flag back: of two words that contradict each other the later counts, as for mount(8)."""

_ATTR: Final = {"ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "nodiratime": 0x80, "nosymfollow": 0x200000}
_ATTR_CLEAR: Final = {"suid": 0x2, "dev": 0x4, "exec": 0x8, "diratime": 0x80, "symfollow": 0x200000}
_ATTR_ATIME: Final = {"relatime": 0x00, "noatime": 0x10, "strictatime": 0x20}
_ATTR_ATIME_MASK: Final = 0x70
"""Attributes of mount_setattr(2); with an `r` before it a word means all mounts below as well (config.md, "Linux mount options")."""

_PROPAGATION: Final = {"unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}
_MS_REC: Final = 16384

_NAMESPACES: Final = {
    "mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000, "pid": 0x20000000,
    "network": 0x40000000, "time": 0x00000080,
}  # fmt: skip
"""CLONE_NEW* by the specification's name."""

_NO_SYMLINKS: Final = ("/proc", "/sys")
"""Must be themselves in the image: what is masked below them, and written to, is reached by these names again (CVE-2019-19921)."""

DEFAULT_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS: Final = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
"""config-linux.md, "Default Devices", and runtime-linux.md, "Dev symbolic links"."""

_OPTIONAL_SYSCTLS: Final = frozenset(("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"))
"""Every container with a network of its own gets these, and can do without: in an outer container that masks /proc, it is read-only."""

_RLIMITS: Final = {
    "CPU": 0, "FSIZE": 1, "DATA": 2, "STACK": 3, "CORE": 4, "RSS": 5, "NPROC": 6, "NOFILE": 7, "MEMLOCK": 8, "AS": 9, "LOCKS": 10,
    "SIGPENDING": 11, "MSGQUEUE": 12, "NICE": 13, "RTPRIO": 14, "RTTIME": 15,
}  # fmt: skip
"""Numbers of setrlimit(2), the same on every architecture that we run on."""


_SHM: Final = "/dev/shm"  # our own is the mount whose source is called `shm`


class Surroundings(NamedTuple):
    """What the plan needs beyond the spec.

    rootfs: absolute path where the root is mounted. network: argv of the program that connects the network namespace. seccomp: a BPF program and the flags
    for seccomp(2). init: stay as process 1. setgroups: the user namespace lets groups be set. supervised: the parent waits to start it and it dies with it.
    shared_memory: path of the mount namespace whose /dev/shm goes with the IPC namespace that is joined.
    """

    rootfs: str
    network: tuple[str, ...] | None = None
    seccomp: tuple[bytes, int] | None = None
    init: bool = False
    setgroups: bool = True
    supervised: bool = True
    shared_memory: str | None = None


def clone_flags(spec: oci.Spec) -> int:
    """CLONE_NEW* for the namespaces that the spec asks to make (those without a path). The user namespace is the monitor's."""
    return sum(
        _namespace(namespace["type"])
        for namespace in spec["linux"].get("namespaces", ())
        if not namespace.get("path") and namespace["type"] != "user"
    )


def _namespace(kind: str) -> int:
    flag = _NAMESPACES.get(kind)
    if flag is None:
        raise UsageError(f"unknown namespace {kind!r}")
    return flag


def container_plan(spec: oci.Spec, surroundings: Surroundings) -> list[Operation]:
    """The whole life of a container's first process."""
    linux = spec["linux"]
    root = spec["root"]
    process = spec["process"]
    plan = list(_namespaces(spec))
    plan.append(_propagation("/", linux.get("rootfsPropagation") or "rslave"))
    if clone_flags(spec) & _NAMESPACES["network"]:
        plan.append(Operation(Kind.LOOPBACK))
        if surroundings.network:
            plan.append(Operation(Kind.NETWORK, (surroundings.network,)))
    plan.append(Operation(Kind.ROOT, (surroundings.rootfs,)))
    for mount in spec.get("mounts", ()):
        if surroundings.shared_memory and (mount["destination"], mount.get("source")) == (_SHM, "shm"):
            bound = _bind(_SHM, _SHM, ["nosuid", "nodev", "noexec", "private"])
            plan.append(bound._replace(texts=(*bound.texts, surroundings.shared_memory)))
        else:
            plan += _mount(mount)
    plan += _devices(linux)
    if process.get("terminal"):
        plan.append(_terminal(process, console="/dev/console"))
    for key, value in linux.get("sysctl", {}).items():
        optional = Flag.OPTIONAL if key in _OPTIONAL_SYSCTLS else 0
        plan.append(Operation(Kind.SYSCTL, (key.replace(".", "/"), value), (), optional))
    plan += [Operation(Kind.MASK, (path,)) for path in linux.get("maskedPaths", ())]
    plan += [Operation(Kind.READONLY, (path,)) for path in linux.get("readonlyPaths", ())]
    plan.append(Operation(Kind.MKDIR, (process["cwd"],), (0o755,)))
    plan.append(Operation(Kind.PIVOT))
    if root.get("readonly"):
        plan.append(Operation(Kind.READONLY, ("/",)))
    plan += _process(process, surroundings)
    if surroundings.supervised:
        plan += [Operation(Kind.DIE_WITH_PARENT), Operation(Kind.READY)]
    if surroundings.init:
        plan.append(Operation(Kind.INIT))
    plan.append(_execute(process))
    return plan


def exec_plan(process: oci.Process, surroundings: Surroundings) -> list[Operation]:
    """A further process of a running container, whose namespaces have been joined."""
    plan = []
    if process.get("terminal"):
        plan.append(_terminal(process, console=None))
    plan += _process(process, surroundings)
    plan.append(_execute(process))
    return plan


def _namespaces(spec: oci.Spec) -> Iterator[Operation]:
    types = {}
    for namespace in spec["linux"].get("namespaces", ()):
        types[namespace["type"]] = namespace.get("path")
        path = namespace.get("path")
        if path and namespace["type"] != "user":
            yield Operation(Kind.SETNS, (path,), (_namespace(namespace["type"]),))
    if "uts" in types and not types["uts"]:
        if hostname := spec.get("hostname"):
            yield Operation(
                Kind.HOSTNAME, (hostname,), (), Flag.OPTIONAL
            )  # Podman's seccomp policy refuses it to those nested in it
        if domainname := spec.get("domainname"):
            yield Operation(Kind.DOMAINNAME, (domainname,))


def _propagation(path: str, word: str) -> Operation:
    flag = _PROPAGATION.get(word.removeprefix("r"))
    if flag is None:
        raise UsageError(f"unknown mount propagation {word!r}")
    return Operation(Kind.PROPAGATION, (path,), (flag | (_MS_REC if word.startswith("r") else 0),))


def _mount(mount: oci.Mount) -> Iterator[Operation]:
    target, options = mount["destination"], mount.get("options", [])
    source = mount.get("source")
    if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
        if not source:
            raise UsageError(f"the bind mount at {target} has no source")
        yield _bind(source, target, options)
        return
    kind = mount.get("type") or "none"
    flags, data = 0, []
    for option in options:
        if option in _MS:
            flags |= _MS[option]
        elif option in _MS_NEGATED:
            flags &= ~_MS[_MS_NEGATED[option]]
        elif option.removeprefix("r") not in _PROPAGATION and option != "defaults":
            data.append(option)
    create = Flag.CREATE | (Flag.NO_SYMLINKS if target in _NO_SYMLINKS else 0)
    operation = Operation(Kind.MOUNT, (source or kind, target, kind, ",".join(data) or None), (flags,), create)
    # A container that we are nested in may mask parts of /proc or /sys; the kernel then refuses a fresh one (mount_too_revealing). The
    # host's own, bound, shows more; that is noted, and better than no container at all.
    if kind in ("proc", "sysfs"):
        yield operation._replace(flags=create | Flag.ELSE)
        yield _bind("/" + kind.removesuffix("fs"), target, ["rbind", *(["ro"] if kind == "sysfs" else [])])
    elif kind in ("cgroup", "cgroup2"):
        yield operation._replace(texts=("cgroup2", target, "cgroup2", None), flags=create | Flag.OPTIONAL)
    else:
        yield operation
    for option in options:
        if option.removeprefix("r") in _PROPAGATION:
            yield _propagation(target, option)


def _bind(source: str, target: str, options: list[str]) -> Operation:
    attributes = clear = below = propagation = 0
    for option in options:
        inner = option[1:] if option.startswith("r") else ""
        if option in _ATTR:
            attributes |= _ATTR[option]
            clear &= ~_ATTR[option]
        elif option in _ATTR_CLEAR:
            clear |= _ATTR_CLEAR[option]
            attributes &= ~_ATTR_CLEAR[option]
        elif option == "rw":
            attributes &= ~_ATTR[
                "ro"
            ]  # not cleared: what the host mounts read-only stays so, and the kernel refuses (EPERM)
        elif option in _ATTR_ATIME:
            attributes = attributes & ~_ATTR_ATIME_MASK | _ATTR_ATIME[option]
            clear |= _ATTR_ATIME_MASK
        elif inner in _ATTR:
            below |= _ATTR[inner]
        elif option.removeprefix("r") in _PROPAGATION:
            propagation = _PROPAGATION[option.removeprefix("r")]
    flags = Flag.CREATE | (Flag.RECURSIVE if "rbind" in options else 0)
    flags |= Flag.NO_SYMLINKS if target in _NO_SYMLINKS else 0
    return Operation(Kind.BIND, (source, target), (attributes, clear, below, propagation), flags)


def _devices(linux: oci.Linux) -> Iterator[Operation]:
    """Nodes cannot be made in a user namespace: each is a bind mount of the host's, which keeps the host's permissions.

    Read-only: that does not stop writing to a device, but does stop its owner from changing the host's node. With root's own ids a container's root is its owner.
    """
    for name in DEFAULT_DEVICES:
        yield _bind(f"/dev/{name}", f"/dev/{name}", ["ro", "nosuid", "noexec"])
    for device in linux.get("devices", ()):
        yield _bind(device["path"], device["path"], [])
    for content, path in _LINKS:
        yield Operation(Kind.SYMLINK, (content, path))


def _terminal(process: oci.Process, *, console: str | None) -> Operation:
    size = process.get("consoleSize")
    return Operation(Kind.TERMINAL_NEW, (console,), (size["height"], size["width"]) if size else (0, 0))


def _process(process: oci.Process, surroundings: Surroundings) -> Iterator[Operation]:
    """Limits, then privileges in the order in which they can still be given up: what needs them goes first."""
    for limit in process.get("rlimits", ()):
        number = _RLIMITS.get(limit["type"].removeprefix("RLIMIT_"))
        if number is None:
            raise UsageError(f"unknown resource limit {limit['type']}")
        yield Operation(Kind.RLIMIT, (), (number, limit["soft"], limit["hard"]))
    if (score := process.get("oomScoreAdj")) is not None:
        yield Operation(Kind.OOM_SCORE, (), (score + 1000,))
    user = process["user"]
    yield Operation(Kind.UMASK, (), (user.get("umask", 0o022),))
    sets: Mapping[str, Iterable[str]] = process.get("capabilities", {})  # type: ignore[assignment]  # its keys are these five
    masks = {name: capabilities.mask(sets.get(name, ())) for name in _SETS}
    no_new_privileges = bool(process.get("noNewPrivileges"))
    filter_operation = None
    if surroundings.seccomp:
        program, flags = surroundings.seccomp
        filter_operation = Operation(Kind.SECCOMP, (program,), (flags,))
    yield Operation(Kind.BOUNDING, (), (masks["bounding"],))
    if filter_operation and not no_new_privileges:
        yield filter_operation  # without no_new_privs it takes CAP_SYS_ADMIN, which is about to go; seccomp(2)
    groups = struct.pack(f"={len(user.get('additionalGids', ()))}I", *user.get("additionalGids", ()))
    yield Operation(
        Kind.USER, (groups or None,), (user["uid"], user["gid"]), 0 if surroundings.setgroups else Flag.OPTIONAL
    )
    yield Operation(Kind.CAPS, (), (masks["effective"], masks["permitted"], masks["inheritable"], masks["ambient"]))
    yield Operation(Kind.CWD, (process["cwd"],))
    if no_new_privileges:
        yield Operation(Kind.NO_NEW_PRIVS)
        if filter_operation:
            yield filter_operation


_SETS: Final = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _execute(process: oci.Process) -> Operation:
    arguments = process.get("args") or []
    if not arguments:
        raise UsageError("the container has no command", hint="the image names none: give one after the image")
    environment = process.get("env", [])
    return Operation(Kind.EXEC, (candidates(arguments[0], environment), tuple(arguments), tuple(environment)))


def candidates(command: str, environment: list[str]) -> tuple[str, ...]:
    """The paths that execvp(3) would try, in order: the command itself where it has a slash, else one for each directory of PATH."""
    if "/" in command:
        return (command,)
    path = next((entry[5:] for entry in environment if entry.startswith("PATH=")), "")
    return tuple(f"{directory or '.'}/{command}" for directory in path.split(":")) if command else ("",)
