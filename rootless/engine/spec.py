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

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 << 20  # bytes
HOSTNAME_MAX = 64  # __NEW_UTS_LEN
UNLIMITED = 2**64 - 1  # RLIM_INFINITY

DEFAULT_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
"""Nodes of /dev that every container has (config-linux.md, "Default Devices"). In a user namespace they are bind mounts of the host's."""

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
    devices: absolute paths of nodes of the host that the caller may open, for --privileged. masked: paths of this very host to mask beside
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
    raise NotImplementedError
