"""The documents of the OCI runtime specification 1.3 for Linux: `config.json` (config.md, config-linux.md) and state (runtime.md).

Types over parsed JSON and nothing else: fields that are not named here survive a round trip. Nothing needs this module while it runs, so
import it under `TYPE_CHECKING`: making these classes costs milliseconds that `rl run` does not have.
"""

from __future__ import annotations

from typing import Literal, Required, TypedDict

NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]
Status = Literal["creating", "created", "running", "stopped"]


class Box(TypedDict):
    """Size of a terminal, in characters."""

    height: int
    width: int


class User(TypedDict, total=False):
    """Ids as they are inside the container's user namespace."""

    uid: Required[int]
    gid: Required[int]
    umask: int
    additionalGids: list[int]


class Capabilities(TypedDict, total=False):
    """The five sets of capabilities(7); names with CAP_."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """type: `RLIMIT_…`. RLIM_INFINITY is 2**64 - 1."""

    type: str
    soft: int
    hard: int


class Scheduler(TypedDict, total=False):
    """sched_setattr(2); times in nanoseconds."""

    policy: Required[str]
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


IOPriority = TypedDict("IOPriority", {"class": str, "priority": int})
"""ioprio_set(2)."""


class ExecCPUAffinity(TypedDict, total=False):
    """Lists of CPUs (`0-3,7`) for processes that are added with exec."""

    initial: str
    final: str


class Process(TypedDict, total=False):
    terminal: bool
    consoleSize: Box
    user: Required[User]
    args: list[str]
    env: list[str]
    cwd: Required[str]
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    oomScoreAdj: int
    scheduler: Scheduler
    selinuxLabel: str
    ioPriority: IOPriority
    execCPUAffinity: ExecCPUAffinity


class Root(TypedDict, total=False):
    """path: absolute, or relative to the bundle."""

    path: Required[str]
    readonly: bool


class IDMapping(TypedDict):
    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """options: those of mount(8) and the specification's table; what is unknown is data for the file system."""

    destination: Required[str]
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Hook(TypedDict, total=False):
    """timeout: seconds."""

    path: Required[str]
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Namespace(TypedDict, total=False):
    """With a path: join that one; without: make a new one. A type that is not listed is the runtime's own."""

    type: Required[NamespaceType]
    path: str


class TimeOffset(TypedDict, total=False):
    secs: int
    nanosecs: int


class Device(TypedDict, total=False):
    """type: c, b, u or p. major and minor are there unless it is p."""

    path: Required[str]
    type: Required[str]
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class DeviceRule(TypedDict, total=False):
    """An entry of the device allow list; access: some of `rwm`. A number that is missing means all."""

    allow: Required[bool]
    type: str
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """Bytes; -1 is unlimited."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class CPU(TypedDict, total=False):
    """Times in microseconds; cpus and mems are lists as in cpuset(7)."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict):
    limit: int


class WeightDevice(TypedDict, total=False):
    major: Required[int]
    minor: Required[int]
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict):
    """rate: bytes or operations a second."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """pageSize: `2MB`, `1GB`; limit: bytes."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict):
    name: str
    priority: int


class NetworkResources(TypedDict, total=False):
    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """What goes to cgroups. unified: files of cgroup v2 and what to write to them."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: CPU
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: NetworkResources
    rdma: dict[str, Rdma]
    unified: dict[str, str]


class SeccompArgument(TypedDict, total=False):
    """op: `SCMP_CMP_…`; for MASKED_EQ, value is the mask and valueTwo what must be left."""

    index: Required[int]
    value: Required[int]
    valueTwo: int
    op: Required[str]


class SeccompRule(TypedDict, total=False):
    """All of args must hold."""

    names: Required[list[str]]
    action: Required[str]
    errnoRet: int
    args: list[SeccompArgument]


class Seccomp(TypedDict, total=False):
    """Actions are `SCMP_ACT_…`, architectures `SCMP_ARCH_…`."""

    defaultAction: Required[str]
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[SeccompRule]


class Personality(TypedDict, total=False):
    """domain: LINUX or LINUX32."""

    domain: Required[str]
    flags: list[str]


class IntelRdt(TypedDict, total=False):
    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableMonitoring: bool


class NetDevice(TypedDict, total=False):
    """A network device that moves into the container, there called `name`."""

    name: str


class Linux(TypedDict, total=False):
    """rootfsPropagation: shared, slave, private or unbindable."""

    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    sysctl: dict[str, str]
    resources: Resources
    cgroupsPath: str
    namespaces: list[Namespace]
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: IntelRdt
    personality: Personality
    timeOffsets: dict[str, TimeOffset]


class Spec(TypedDict, total=False):
    """config.json."""

    ociVersion: Required[str]
    process: Process
    root: Root
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux


class State(TypedDict, total=False):
    """What a runtime answers to `state`, and what hooks read. pid: only while created or running."""

    ociVersion: Required[str]
    id: Required[str]
    status: Required[Status]
    pid: int
    bundle: Required[str]
    annotations: dict[str, str]
