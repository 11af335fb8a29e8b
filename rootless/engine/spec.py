"""From what a user asks and what an image says to an OCI runtime specification, by Docker's rules. Pure: the host is the argument `HostFacts`.

The result is a complete `config.json`, which crun and runc take as well as our own runtime. What the specification leaves to a runtime stays
out of it and belongs to the plan: the default devices and links of /dev, the console, and making mount points and the working directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError
from ..runtime import capabilities
from .request import CreateRequest, Device
from .request import Mount as RequestedMount

if TYPE_CHECKING:
    from ..oci import runtime as oci
    from ..oci.image import ContainerConfig
    from ..runtime.users import ContainerUser
    from ..userns.idmap import IdMap

OCI_VERSION = "1.0.2"
"""Of the specification. Its minor versions only add, and a runtime leaves out what it does not know; but crun of Debian 12 refuses all but 1.0."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 << 20  # bytes
HOSTNAME_MAX = 64  # __NEW_UTS_LEN
UNLIMITED = 2**64 - 1  # RLIM_INFINITY

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
"""What tells of the host's hardware, keys or load (interrupts and powercap are side channels: GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p)."""

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

RLIMITS = frozenset(
    ("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack")
)  # fmt: skip

_IPC_SYSCTLS = frozenset(
    "kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_OPPOSITES = {
    "rw": "ro", "ro": "rw", "exec": "noexec", "noexec": "exec", "suid": "nosuid", "nosuid": "suid", "dev": "nodev", "nodev": "dev",
}  # fmt: skip
_PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"))
_NOT_OCI = frozenset(("U", "nocopy", "copy", "z", "Z", "notmpcopyup"))  # words for the engine, not for a runtime


class HostFacts(NamedTuple):
    """What the compiler must know of the host and the caller.

    uid_map, gid_map: of the container's user namespace; empty: the container is in the user namespace of its runtime.
    ulimits: the caller's own, name (without RLIMIT_, lower case) -> (soft, hard), -1 for unlimited. dev: the names in the host's /dev.
    devices: absolute paths of nodes of the host that the caller may open, for --privileged; without those that every container has its own of. masked: paths of this very host to mask beside
    `MASKED_PATHS`, as /sys/devices/system/cpu/cpu0/thermal_throttle.
    """

    uid_map: IdMap
    gid_map: IdMap
    kernel: tuple[int, int]
    architecture: str  # as uname -m
    last_capability: int
    cgroup_v2: bool
    hostname: str
    environment: Mapping[str, str]
    ulimits: Mapping[str, tuple[int, int]]
    dev: frozenset[str] = frozenset()
    devices: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


class BundleFiles(NamedTuple):
    """Host paths of what is mounted over files of /etc; None: the image's own stays."""

    resolv_conf: str | None = None
    hosts: str | None = None
    hostname: str | None = None


def compile_spec(
    request: CreateRequest,
    *,
    image: ContainerConfig,
    container_id: str,
    host: HostFacts,
    user: ContainerUser,
    rootfs: str = "rootfs",
    files: BundleFiles = BundleFiles(),  # noqa: B008  # immutable
    volumes: Mapping[str, str] | None = None,
    joined: Mapping[str, str] | None = None,
    console: tuple[int, int] | None = None,
    seccomp_profile: Mapping[str, Any] | None = None,
) -> oci.Spec:
    """The config.json of a container.

    volumes: target -> host path, for every `volume` among the mounts and for `image_volumes`. joined: namespace type -> path, for every
    namespace that is `container:NAME`. console: rows, columns. seccomp_profile: the parsed file that `request.seccomp_profile` names.
    UsageError for what cannot be, naming the option's value.
    """
    _check_user(user, request, host)
    modes = request.namespaces
    hostname = _hostname(request, container_id, host)
    own_network = _is_own(modes.network)
    process: oci.Process = {
        "user": {"uid": user.uid, "gid": user.gid, "umask": request.umask, "additionalGids": _groups(user, host)},
        "args": command(request, image),
        "env": environment(request, image, host=host, hostname=hostname, home=user.home),
        "cwd": _workdir(request, image),
        "capabilities": _capabilities(request, user, host),
        "noNewPrivileges": request.no_new_privileges,
    }
    if request.terminal:
        process["terminal"] = True
        if console is not None:
            process["consoleSize"] = {"height": console[0], "width": console[1]}
    if request.ulimits:
        process["rlimits"] = _rlimits(request, host)
    if request.oom_score_adj is not None:
        process["oomScoreAdj"] = request.oom_score_adj

    linux: oci.Linux = {
        "namespaces": _namespaces(request, host, joined or {}),
        "sysctl": _sysctls(request, host, own_network=own_network),
    }
    if host.uid_map:
        linux["uidMappings"] = _mappings(host.uid_map)
        linux["gidMappings"] = _mappings(host.gid_map)
    if not request.privileged:
        masked, readonly = _covered(request, host)
        linux["maskedPaths"], linux["readonlyPaths"] = masked, readonly
        seccomp = _seccomp(request, process["capabilities"].get("bounding", []), host, seccomp_profile)
        if seccomp is not None:
            linux["seccomp"] = seccomp

    spec: oci.Spec = {
        "ociVersion": OCI_VERSION,
        "process": process,
        "root": {"path": rootfs, "readonly": request.read_only},
        "mounts": _mounts(request, image, host=host, files=files, volumes=volumes or {}),
        "annotations": dict(request.annotations),
        "linux": linux,
    }
    if _is_own(modes.uts):
        spec["hostname"] = hostname
    if "keep-groups" in request.groups:
        spec["annotations"]["run.oci.keep_original_groups"] = "1"  # crun's word for it
    return spec


# ---- the process


def command(request: CreateRequest, image: ContainerConfig) -> list[str]:
    """What is executed. A given entrypoint, also an empty one, puts away the image's CMD as well as its ENTRYPOINT."""
    if request.entrypoint is not None:
        args = [*request.entrypoint, *request.command]
    else:
        args = [*(image.get("Entrypoint") or ()), *(request.command or image.get("Cmd") or ())]
    if not args:
        raise UsageError("no command is given and the image has none", hint=f"rl run {request.image} COMMAND")
    return args


def environment(
    request: CreateRequest, image: ContainerConfig, *, host: HostFacts, hostname: str, home: str
) -> list[str]:
    """`NAME=value` strings; later sources win, a name keeps its first place: ours, the image's, the user's, HOME where nobody set it.

    `container` is for programs that ask whether they are in one (systemd's container interface).
    """
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, "container": "rl"}
    if request.terminal:
        values["TERM"] = "xterm"
    for entry in image.get("Env") or ():
        name, separator, value = entry.partition("=")
        if name and separator:
            values[name] = value
    for name, given in request.environment:
        if given is not None:
            values[name] = given
        elif name.endswith("*"):
            values.update((key, value) for key, value in host.environment.items() if key.startswith(name[:-1]))
        elif name in host.environment:
            values[name] = host.environment[name]
    values.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in values.items()]


def _workdir(request: CreateRequest, image: ContainerConfig) -> str:
    if request.workdir is not None and not request.workdir.startswith("/"):
        raise UsageError(f"the working directory {request.workdir!r} is not an absolute path")
    return normal(request.workdir or image.get("WorkingDir") or "/")


def _capabilities(request: CreateRequest, user: ContainerUser, host: HostFacts) -> oci.Capabilities:
    """Docker's way: root has what is allowed, another user has it as the bound of what setuid programs and file capabilities can give."""
    allowed = capabilities.names(
        capabilities.resolve(
            request.cap_add, request.cap_drop, last=host.last_capability, privileged=request.privileged
        )
    )
    own = allowed if user.uid == 0 else []
    return {"bounding": allowed, "effective": own, "permitted": own, "inheritable": [], "ambient": []}


def _rlimits(request: CreateRequest, host: HostFacts) -> list[oci.Rlimit]:
    limits: dict[str, tuple[int, int]] = {}
    for name, soft, hard in request.ulimits:
        if name == "host":
            limits.update(host.ulimits)
        elif name not in RLIMITS:
            raise UsageError(f"unknown limit {name!r} in --ulimit", hint="known are " + " ".join(sorted(RLIMITS)))
        else:
            soft, hard = _unsigned(soft), _unsigned(hard)
            if soft > hard:
                raise UsageError(f"--ulimit {name}: the soft limit is above the hard limit")
            # setrlimit(2) asks for CAP_SYS_RESOURCE of the initial user namespace; say here what would be EPERM there.
            if host.uid_map and hard > _unsigned(host.ulimits.get(name, (-1, -1))[1]):
                raise UsageError(
                    f"--ulimit {name}: the hard limit is above your own, {host.ulimits[name][1]}",
                    hint="see limits.conf(5), `ulimit -H -a`",
                )
            limits[name] = (soft, hard)
    return [
        {"type": "RLIMIT_" + name.upper(), "soft": _unsigned(soft), "hard": _unsigned(hard)}
        for name, (soft, hard) in limits.items()
    ]


def _unsigned(limit: int) -> int:
    return UNLIMITED if limit < 0 else limit


def _check_user(user: ContainerUser, request: CreateRequest, host: HostFacts) -> None:
    wanted = [("user", user.uid, host.uid_map), ("group", user.gid, host.gid_map)]
    wanted += [("group", int(group), host.gid_map) for group in request.groups if group.isdecimal()]
    for kind, number, idmap in wanted:
        if not _is_mapped(idmap, number):
            raise UsageError(
                f"the {kind} id {number} does not exist in the container, which has {_end(idmap)}",
                hint="give yourself more subordinate ids in /etc/subuid and /etc/subgid: `rl doctor` prints the command",
            )


def _groups(user: ContainerUser, host: HostFacts) -> list[int]:
    """The supplementary groups that exist in the container: the image's /etc/group may name others."""
    return [group for group in user.groups if _is_mapped(host.gid_map, group)]


def _is_mapped(idmap: IdMap, number: int) -> bool:
    return not idmap or any(line.inside <= number < line.inside + line.size for line in idmap)


def _end(idmap: IdMap) -> str:
    last = max(line.inside + line.size for line in idmap) - 1
    return f"the ids 0 to {last}" if last else "the id 0 alone"


def _mappings(idmap: IdMap) -> list[oci.IDMapping]:
    return [{"containerID": line.inside, "hostID": line.outside, "size": line.size} for line in idmap]


# ---- namespaces and kernel parameters


def _is_own(mode: str | None) -> bool:
    """Whether the container gets a new namespace, and not one of somebody else."""
    return mode != "host" and not (mode or "").startswith(("container:", "ns:"))


def _hostname(request: CreateRequest, container_id: str, host: HostFacts) -> str:
    if request.hostname is None:
        shares = request.namespaces.uts == "host" or request.namespaces.network == "host"
        return host.hostname if shares else container_id[:12]
    if not _is_own(request.namespaces.uts):
        raise UsageError("--hostname cannot be given where the UTS namespace is shared")
    if not 0 < len(request.hostname.encode()) <= HOSTNAME_MAX:
        raise UsageError(f"the host name {request.hostname!r} is not 1 to {HOSTNAME_MAX} bytes long")
    return request.hostname


def _namespaces(request: CreateRequest, host: HostFacts, joined: Mapping[str, str]) -> list[oci.Namespace]:
    modes = request.namespaces
    kinds: tuple[tuple[oci.NamespaceType, str | None], ...] = (
        ("mount", None), ("network", modes.network), ("pid", modes.pid), ("ipc", modes.ipc), ("uts", modes.uts), ("cgroup", modes.cgroup),
    )  # fmt: skip
    # A user namespace comes first: the others are then owned by it.
    namespaces: list[oci.Namespace] = [{"type": "user"}] if host.uid_map else []
    for kind, mode in kinds:
        if mode is not None and mode.startswith("container:"):
            namespaces.append({"type": kind, "path": joined[kind]})
        elif mode is not None and mode.startswith("ns:"):
            namespaces.append({"type": kind, "path": mode.removeprefix("ns:")})
        elif mode != "host":
            namespaces.append({"type": kind})
    return namespaces


def _sysctls(request: CreateRequest, host: HostFacts, *, own_network: bool) -> dict[str, str]:
    """Docker's defaults for a network of one's own (any port may be bound, any group may ping), then the user's.

    Only what belongs to a namespace that is the container's own: everything else is the host's or another container's.
    """
    values: dict[str, str] = {}
    if own_network:
        values["net.ipv4.ip_unprivileged_port_start"] = "0"
        # A group that is not mapped is EINVAL; the kernel's own end of the range is GID_T_MAX.
        last = max((line.inside + line.size - 1 for line in host.gid_map), default=2**31 - 1)
        values["net.ipv4.ping_group_range"] = f"0 {min(last, 2**31 - 1)}"
    for name, value in request.sysctls:
        name = name.replace("/", ".") if "." not in name else name
        if ".." in name or "/.." in name:
            raise UsageError(f"--sysctl {name!r} is not the name of a kernel parameter")
        if name.startswith("net."):
            owner, own = "network", own_network
        elif name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
            owner, own = "ipc", _is_own(request.namespaces.ipc)
        elif name == "kernel.domainname":
            owner, own = "uts", _is_own(request.namespaces.uts)
        elif name == "kernel.hostname":
            raise UsageError("--sysctl kernel.hostname: use --hostname")
        else:
            raise UsageError(f"--sysctl {name} is not a parameter of a namespace: it would be the whole host's")
        if not own:
            raise UsageError(f"--sysctl {name} needs the container's own {owner} namespace")
        values[name] = value
    return values


# ---- what is hidden


def _covered(request: CreateRequest, host: HostFacts) -> tuple[list[str], list[str]]:
    """The masked and the read-only paths after --security-opt mask= and unmask=."""
    masked, readonly = [*MASKED_PATHS, *host.masked], list(READONLY_PATHS)
    if request.unmasked_paths:
        from fnmatch import fnmatchcase

        patterns = ["*" if word.upper() == "ALL" else word for word in request.unmasked_paths]
        masked = [path for path in masked if not any(fnmatchcase(path, pattern) for pattern in patterns)]
        readonly = [path for path in readonly if not any(fnmatchcase(path, pattern) for pattern in patterns)]
    return [*masked, *(path for path in request.masked_paths if path not in masked)], readonly


def _seccomp(
    request: CreateRequest, allowed: list[str], host: HostFacts, profile: Mapping[str, Any] | None
) -> oci.Seccomp | None:
    if request.seccomp_profile == "unconfined":
        return None
    from ..runtime import seccomp_profile

    return seccomp_profile.resolve(
        profile, capabilities=capabilities.mask(allowed), architecture=host.architecture, kernel=host.kernel
    )


# ---- mounts


def image_volumes(request: CreateRequest, image: ContainerConfig) -> list[str]:
    """The targets of the image's VOLUMEs that the user mounts nothing at; each wants an anonymous volume."""
    taken = {normal(mount.target) for mount in request.mounts}
    return [
        target for target in dict.fromkeys(normal(path) for path in image.get("Volumes") or ()) if target not in taken
    ]


def _mounts(
    request: CreateRequest, image: ContainerConfig, *, host: HostFacts, files: BundleFiles, volumes: Mapping[str, str]
) -> list[oci.Mount]:
    """System mounts first, then the user's and ours, parents before children. What the user mounts replaces ours at the same place."""
    wanted: dict[str, oci.Mount] = {}
    for requested in request.mounts:
        target = normal(requested.target)
        if target == "/":
            raise UsageError("cannot mount at / of the container")
        if target in wanted:
            raise UsageError(f"two mounts at {target}")
        wanted[target] = _requested(requested, target, host, volumes)
    for target in image_volumes(request, image):
        wanted[target] = _bind(volumes[target], target, (), host)
    for device in request.devices:
        mount = _device(device)
        wanted.setdefault(mount["destination"], mount)
    if request.privileged:
        for path in host.devices:
            wanted.setdefault(path, _device(Device(path, path)))
    own_files = ("/etc/resolv.conf", files.resolv_conf), ("/etc/hosts", files.hosts), ("/etc/hostname", files.hostname)
    for target, source in own_files:
        if source is not None:
            # Docker's rule: they can be written to unless the root cannot.
            wanted.setdefault(target, _bind(source, target, ("ro",) if request.read_only else (), host))
    system = [
        mount
        for mount in _system_mounts(request, host)
        if mount["destination"] not in wanted and not (mount["destination"].startswith("/dev/") and "/dev" in wanted)
    ]
    return system + sorted(wanted.values(), key=lambda mount: mount["destination"].count("/"))


def _requested(mount: RequestedMount, target: str, host: HostFacts, volumes: Mapping[str, str]) -> oci.Mount:
    if mount.kind == "tmpfs":
        options = _merge(("nosuid", "nodev", "noexec"), _for_runtime(mount.options))
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
    source = mount.source if mount.kind == "bind" else volumes[target]
    if source is None:
        raise UsageError(f"the mount at {target} has no source")
    return _bind(source, target, mount.options, host)


def _bind(source: str, target: str, options: Iterable[str], host: HostFacts) -> oci.Mount:
    """A bind mount with what is below it, private to the container; read-only to its last submount, where mount_setattr(2) is there to do that."""
    words = _for_runtime(options)
    if not any(word in ("bind", "rbind") for word in words):
        words.insert(0, "rbind")
    if not any(word in _PROPAGATIONS for word in words):
        words.append("rprivate")
    if "ro" in words and host.kernel >= (5, 12):
        words.append("rro")
    return {"destination": target, "type": "bind", "source": source, "options": words}


def _device(device: Device) -> oci.Mount:
    """A node of the host: a user namespace cannot mknod(2), so it is bound; runc's and crun's `devices` do the same but keep the path."""
    options = ["bind", "rprivate", "nosuid", "noexec", "dev", "rw" if "w" in device.permissions else "ro"]
    return {"destination": normal(device.target), "type": "bind", "source": device.source, "options": options}


def _for_runtime(options: Iterable[str]) -> list[str]:
    return [word for word in options if word not in _NOT_OCI]


def _merge(defaults: Iterable[str], options: list[str]) -> list[str]:
    """The defaults that no option says the opposite of, then the options."""
    return [word for word in defaults if word not in options and _OPPOSITES.get(word) not in options] + options


def _system_mounts(request: CreateRequest, host: HostFacts) -> list[oci.Mount]:
    """The kernel's file systems. Where a namespace is not the container's own, its file system cannot be mounted, and the host's is bound."""
    modes = request.namespaces
    mounts: list[oci.Mount] = []
    plain = ["nosuid", "noexec", "nodev"]
    write = ["rw"] if request.privileged else ["ro"]

    if modes.pid == "host":
        mounts.append(
            {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind", "rprivate", *plain]}
        )
    else:
        mounts.append({"destination": "/proc", "type": "proc", "source": "proc", "options": list(plain)})
    mounts.append(
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }
    )
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if _is_mapped(host.gid_map, 5):  # the group tty; an id that is not mapped is EINVAL
        terminals.append("gid=5")
    mounts.append({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals})

    # Joining a namespace by its path says nothing of who owns it, and only the owner's sysfs could be mounted.
    foreign_network = modes.network == "host" or (modes.network or "").startswith("ns:")
    if foreign_network and host.uid_map:
        recursive = ["rro"] if "ro" in write and host.kernel >= (5, 12) else []
        mounts.append(
            {
                "destination": "/sys",
                "type": "bind",
                "source": "/sys",
                "options": ["rbind", "rprivate", *plain, *write, *recursive],
            }
        )
    else:
        mounts.append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*plain, *write]})
    if host.cgroup_v2:
        if _is_own(modes.cgroup):
            mounts.append(
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*plain, *write]}
            )
        else:
            mounts.append(
                {
                    "destination": "/sys/fs/cgroup",
                    "type": "bind",
                    "source": "/sys/fs/cgroup",
                    "options": ["rbind", "rprivate", *plain, *write],
                }
            )

    if modes.ipc == "host":
        shared = [name for name in ("mqueue", "shm") if name in host.dev]
        mounts += [
            {
                "destination": f"/dev/{name}",
                "type": "bind",
                "source": f"/dev/{name}",
                "options": ["bind", "rprivate", *plain],
            }
            for name in shared
        ]
    else:
        mounts.append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": list(plain)})
        if modes.ipc != "none":
            size = DEFAULT_SHM_SIZE if request.shm_size is None else request.shm_size
            mounts.append(
                {
                    "destination": "/dev/shm",
                    "type": "tmpfs",
                    "source": "shm",
                    "options": [*plain, "mode=1777", f"size={size}"],
                }
            )
    return mounts


def normal(path: str) -> str:
    """An absolute path without empty, `.` and `..` parts; what would lead above / stays at /. Symbolic links are the runtime's business."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
