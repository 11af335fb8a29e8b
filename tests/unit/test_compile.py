"""Plans for OCI specs: what is said to the kernel, and in which order. Lists are compared, described as `rl --debug run` prints them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.engine.request import CreateRequest, Mount, Namespaces, Ulimit
from rootless.engine.spec import BundleFiles, HostFacts, compile_spec
from rootless.errors import UsageError
from rootless.oci.runtime import Spec
from rootless.runtime.compile import Surroundings, candidates, clone_flags, container_plan, exec_plan
from rootless.runtime.plan import Flag, Kind, Operation
from rootless.runtime.users import ContainerUser
from rootless.userns.idmap import IdRange

IDS = (IdRange(0, 1000, 1), IdRange(1, 100000, 65536))
HOST = HostFacts(
    uid_map=IDS, gid_map=IDS, kernel=(6, 1), architecture="x86_64", last_capability=40, cgroup_v2=True, hostname="laptop", environment={},
    ulimits={"nofile": (1024, 4096)},
)  # fmt: skip
BPF = b"\x06\0\0\0\0\0\xff\x7f"
SURROUNDINGS = Surroundings("/store/rootfs", network=("slirp4netns",), seccomp=(BPF, 2))


def spec_of(
    *, user: ContainerUser | None = None, joined: dict[str, str] | None = None, console: Any = None, **options: Any
) -> Spec:
    options.setdefault("seccomp_profile", "unconfined")
    return compile_spec(
        CreateRequest("alpine", ("sh", "-c", "true"), **options),
        image={}, container_id="0123456789abcdef" * 4, host=HOST, user=user or ContainerUser(0, 0, (), "/root"),
        files=BundleFiles("/c/resolv.conf", "/c/hosts", "/c/hostname"), joined=joined, console=console,
    )  # fmt: skip


def plan_of(surroundings: Surroundings = SURROUNDINGS, **options: Any) -> list[Operation]:
    return container_plan(spec_of(**options), surroundings)


def words(plan: list[Operation]) -> list[str]:
    return [operation.describe() for operation in plan]


def only(plan: list[Operation], kind: int) -> list[Operation]:
    return [operation for operation in plan if operation.kind == kind]


def place(plan: list[Operation], kind: int) -> int:
    (found,) = (index for index, operation in enumerate(plan) if operation.kind == kind)
    return found


def test_the_default_container() -> None:
    assert words(plan_of()) == """\
hostname 0123456789ab (optional)
propagation / 0x84000
loopback
network [slirp4netns]
root /store/rootfs
mount proc /proc proc 0xe (or the next) (create)
bind /proc /proc 0 0 0 0 (recursive) (create)
mount tmpfs /dev tmpfs mode=755,size=65536k 0x1000002 (create)
mount devpts /dev/pts devpts newinstance,ptmxmode=0666,mode=0620,gid=5 0xa (create)
mount sysfs /sys sysfs 0xf (or the next) (create)
bind /sys /sys 1 0 0 0 (recursive) (create)
mount cgroup2 /sys/fs/cgroup cgroup2 0xf (optional) (create)
mount mqueue /dev/mqueue mqueue 0xe (create)
mount shm /dev/shm tmpfs mode=1777,size=67108864 0xe (create)
bind /c/resolv.conf /etc/resolv.conf 0 0 0 0x40000 (recursive) (create)
bind /c/hosts /etc/hosts 0 0 0 0x40000 (recursive) (create)
bind /c/hostname /etc/hostname 0 0 0 0x40000 (recursive) (create)
bind /dev/null /dev/null 0xb 0 0 0 (create)
bind /dev/zero /dev/zero 0xb 0 0 0 (create)
bind /dev/full /dev/full 0xb 0 0 0 (create)
bind /dev/random /dev/random 0xb 0 0 0 (create)
bind /dev/urandom /dev/urandom 0xb 0 0 0 (create)
bind /dev/tty /dev/tty 0xb 0 0 0 (create)
symlink /proc/self/fd /dev/fd
symlink /proc/self/fd/0 /dev/stdin
symlink /proc/self/fd/1 /dev/stdout
symlink /proc/self/fd/2 /dev/stderr
symlink pts/ptmx /dev/ptmx
sysctl net/ipv4/ip_unprivileged_port_start 0 (optional)
sysctl net/ipv4/ping_group_range 0 65536 (optional)
mask /proc/acpi
mask /proc/asound
mask /proc/interrupts
mask /proc/kcore
mask /proc/keys
mask /proc/latency_stats
mask /proc/sched_debug
mask /proc/scsi
mask /proc/timer_list
mask /proc/timer_stats
mask /sys/devices/virtual/powercap
mask /sys/firmware
readonly /proc/bus
readonly /proc/fs
readonly /proc/irq
readonly /proc/sys
readonly /proc/sysrq-trigger
mkdir / 0x1ed
pivot
umask 0x12
bounding 0x800405fb
seccomp <8 bytes> 2
user 0 0
caps 0x800405fb 0x800405fb 0 0
cwd /
die with parent
ready
exec [/usr/local/sbin/sh /usr/local/bin/sh /usr/sbin/sh /usr/bin/sh /sbin/sh /bin/sh] [sh -c true] \
[PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOSTNAME=0123456789ab container=rl HOME=/root]""".splitlines()  # fmt: skip
    assert clone_flags(spec_of()) == 0x6E020000


CASES: dict[str, tuple[dict[str, Any], Surroundings]] = {
    "default": ({}, SURROUNDINGS),
    "terminal": ({"terminal": True, "console": (24, 80)}, SURROUNDINGS),
    "read-only": ({"read_only": True}, SURROUNDINGS),
    "user": ({"user": ContainerUser(33, 34, (35, 36))}, SURROUNDINGS),
    "no_new_privs": ({"no_new_privileges": True}, SURROUNDINGS),
    "privileged": ({"privileged": True}, SURROUNDINGS._replace(seccomp=None)),
    "limits": ({"ulimits": (Ulimit("nofile", 10, 20),), "oom_score_adj": -5, "umask": 0o77}, SURROUNDINGS),
    "init": ({}, SURROUNDINGS._replace(init=True)),
    "unsupervised": ({}, SURROUNDINGS._replace(supervised=False)),
    "everything": (
        {
            "terminal": True, "read_only": True, "no_new_privileges": True, "user": ContainerUser(1, 1), "ulimits": (Ulimit("core", 0, 0),),
            "mounts": (Mount("bind", "/a", "/a"), Mount("tmpfs", None, "/t")), "sysctls": (("net.core.somaxconn", "1"),), "oom_score_adj": 1,
            "namespaces": Namespaces(pid="ns:/proc/1/ns/pid"),
        },
        SURROUNDINGS._replace(init=True),
    ),
}  # fmt: skip

MOUNTS = (Kind.MOUNT, Kind.BIND, Kind.SYMLINK, Kind.SYSCTL, Kind.MASK, Kind.TERMINAL_NEW, Kind.MKDIR)
PRIVILEGED = (
    *MOUNTS, Kind.SETNS, Kind.HOSTNAME, Kind.DOMAINNAME, Kind.PROPAGATION, Kind.LOOPBACK, Kind.ROOT, Kind.READONLY, Kind.PIVOT, Kind.RLIMIT,
    Kind.OOM_SCORE, Kind.BOUNDING,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_every_plan(case: str) -> None:
    options, surroundings = CASES[case]
    plan = plan_of(surroundings, **options)
    kinds = [operation.kind for operation in plan]
    user, caps, pivot, root = (place(plan, kind) for kind in (Kind.USER, Kind.CAPS, Kind.PIVOT, Kind.ROOT))

    def places(*wanted: int) -> list[int]:
        return [index for index, kind in enumerate(kinds) if kind in wanted]

    assert max(places(*PRIVILEGED)) < user < caps, "nothing that needs privilege comes after it is given up"
    assert max(places(Kind.SETNS, Kind.HOSTNAME, Kind.LOOPBACK), default=-1) < root < min(places(*MOUNTS))
    assert max(places(*MOUNTS)) < pivot, "everything is mounted while the host can still be seen"
    assert max(places(Kind.MOUNT, Kind.BIND)) < min(places(Kind.MASK), default=pivot), (
        "a mount must not uncover what is masked"
    )
    assert all(index == pivot + 1 or index < pivot for index in places(Kind.READONLY))
    assert kinds[-1] == Kind.EXEC and kinds.count(Kind.EXEC) == 1
    assert kinds[-2] == Kind.INIT if surroundings.init else Kind.INIT not in kinds
    ready = [kind for kind in kinds if kind in (Kind.DIE_WITH_PARENT, Kind.READY)]
    assert ready == ([Kind.DIE_WITH_PARENT, Kind.READY] if surroundings.supervised else [])
    assert max(places(Kind.USER, Kind.CAPS)) < min(places(Kind.DIE_WITH_PARENT), default=len(kinds)), (
        "a change of ids clears it"
    )
    seccomp = places(Kind.SECCOMP)
    if options.get("no_new_privileges"):
        assert caps < place(plan, Kind.NO_NEW_PRIVS) == seccomp[0] - 1, (
            "the fewer calls of ours a policy must allow, the better"
        )
    else:
        assert Kind.NO_NEW_PRIVS not in kinds
        assert all(place(plan, Kind.BOUNDING) < index < user for index in seccomp), "it takes CAP_SYS_ADMIN"
    assert len(seccomp) == (surroundings.seccomp is not None)


def test_a_terminal() -> None:
    (terminal,) = only(plan_of(terminal=True, console=(24, 80)), Kind.TERMINAL_NEW)
    assert terminal == Operation(Kind.TERMINAL_NEW, ("/dev/console",), (24, 80))
    assert only(plan_of(terminal=True), Kind.TERMINAL_NEW)[0].numbers == (0, 0)


def test_a_read_only_root() -> None:
    plan = plan_of(read_only=True)
    assert plan[place(plan, Kind.PIVOT) + 1] == Operation(Kind.READONLY, ("/",))
    assert {operation.numbers for operation in only(plan, Kind.BIND) if str(operation.texts[0]).startswith("/c/")} == {
        (1, 0, 1, 1 << 18)
    }


def test_a_user_without_privileges() -> None:
    plan = plan_of(user=ContainerUser(33, 34, (35, 36)))
    assert only(plan, Kind.USER) == [Operation(Kind.USER, (struct.pack("=2I", 35, 36),), (33, 34))]
    assert only(plan, Kind.CAPS)[0].numbers == (0, 0, 0, 0)
    assert only(plan, Kind.BOUNDING)[0].numbers == (0x800405FB,), "setuid programs still work"
    assert only(plan_of(SURROUNDINGS._replace(setgroups=False)), Kind.USER)[0].flags == Flag.OPTIONAL


def test_a_privileged_container() -> None:
    plan = plan_of(SURROUNDINGS._replace(seccomp=None), privileged=True)
    assert not only(plan, Kind.MASK) and not only(plan, Kind.READONLY)
    assert only(plan, Kind.CAPS)[0].numbers == (2**41 - 1, 2**41 - 1, 0, 0)


def test_joined_namespaces_come_first_and_are_not_made() -> None:
    joined = {"network": "/proc/7/ns/net", "pid": "/proc/7/ns/pid", "uts": "/proc/7/ns/uts", "ipc": "/proc/7/ns/ipc"}
    options: dict[str, Any] = {"joined": joined, "namespaces": Namespaces(*["container:x"] * 4)}
    plan = plan_of(**options)
    assert plan[:4] == [
        Operation(Kind.SETNS, (f"/proc/7/ns/{name}",), (flag,))
        for name, flag in (("net", 0x40000000), ("pid", 0x20000000), ("ipc", 0x08000000), ("uts", 0x04000000))
    ]
    assert not {Kind.HOSTNAME, Kind.LOOPBACK, Kind.NETWORK} & {operation.kind for operation in plan}
    assert clone_flags(spec_of(**options)) == 0x02020000


def test_a_network_of_its_own_without_a_program() -> None:
    plan = plan_of(SURROUNDINGS._replace(network=None), namespaces=Namespaces(network="none"))
    assert only(plan, Kind.LOOPBACK) and not only(plan, Kind.NETWORK)


def minimal(**changes: Any) -> Any:
    process = {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}} | changes.pop("process", {})
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "r"},
        "linux": changes.pop("linux", {}),
    } | changes


def mounted(options: list[str], *, type: str = "tmpfs", source: str = "s") -> list[Operation]:
    spec = minimal(mounts=[{"destination": "/x", "type": type, "source": source, "options": options}])
    plan = container_plan(spec, Surroundings("/r"))
    first = place(plan, Kind.ROOT) + 1
    return plan[first : next(index for index, operation in enumerate(plan) if operation.texts[:1] == ("/dev/null",))]


@pytest.mark.parametrize("word", ["private", "slave", "shared", "unbindable"])
def test_propagation_words(word: str) -> None:
    flag = {"unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}[word]
    for words, number in ((word, flag), ("r" + word, flag | 16384)):
        plan = container_plan(minimal(linux={"rootfsPropagation": words}), Surroundings("/r"))
        assert plan[0] == Operation(Kind.PROPAGATION, ("/",), (number,))
        assert mounted([words])[1:] == [Operation(Kind.PROPAGATION, ("/x",), (number,))]
        assert mounted(["rbind", words])[0].numbers[3] == flag


# mount(8)'s words and their flags: sys/mount.h and mount_setattr(2), not our tables.
FLAGS = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "sync": 0x10, "mand": 0x40, "dirsync": 0x80, "nosymfollow": 0x100, "noatime": 0x400,
    "nodiratime": 0x800, "silent": 0x8000, "relatime": 0x200000, "iversion": 0x800000, "strictatime": 0x1000000, "lazytime": 0x2000000,
}  # fmt: skip
UNDONE = {
    "ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec", "sync": "async", "mand": "nomand", "nosymfollow": "symfollow",
    "noatime": "atime", "nodiratime": "diratime", "silent": "loud", "relatime": "norelatime", "iversion": "noiversion",
    "strictatime": "nostrictatime", "lazytime": "nolazytime",
}  # fmt: skip


@pytest.mark.parametrize("word", FLAGS)
def test_words_of_a_mount(word: str) -> None:
    assert mounted([word, "defaults", "size=1m"]) == [
        Operation(Kind.MOUNT, ("s", "/x", "tmpfs", "size=1m"), (FLAGS[word],), Flag.CREATE)
    ]
    if opposite := UNDONE.get(word):
        assert mounted([word, opposite])[0].numbers == (0,), "the later word counts"
        assert mounted([opposite, word])[0].numbers == (FLAGS[word],)


def test_what_is_no_word_is_data_in_its_order() -> None:
    assert mounted(["b=2", "ro", "a=1", "acl"])[0].texts == ("s", "/x", "tmpfs", "b=2,a=1,acl")


@pytest.mark.parametrize(
    "options, numbers",
    [
        ([], (0, 0, 0)), (["ro"], (1, 0, 0)), (["nosuid", "nodev", "noexec"], (0xE, 0, 0)), (["suid", "dev", "exec"], (0, 0xE, 0)),
        (["nodiratime", "nosymfollow"], (0x200080, 0, 0)), (["diratime", "symfollow"], (0, 0x200080, 0)), (["noatime"], (0x10, 0x70, 0)),
        (["strictatime"], (0x20, 0x70, 0)), (["relatime"], (0, 0x70, 0)), (["noatime", "strictatime"], (0x20, 0x70, 0)),
        (["rro"], (0, 0, 1)), (["rnosuid", "rnodev", "rnoexec", "rnodiratime", "rnosymfollow"], (0, 0, 0x20008E)), (["ro", "rro"], (1, 0, 1)),
        (["ro", "rw"], (0, 0, 0)), (["rw", "ro"], (1, 0, 0)), (["nodev", "dev"], (0, 4, 0)), (["dev", "nodev"], (4, 0, 0)),
    ],
)  # fmt: skip
def test_words_of_a_bind_mount(options: list[str], numbers: tuple[int, ...]) -> None:
    for way, flags in (("bind", Flag.CREATE), ("rbind", Flag.CREATE | Flag.RECURSIVE)):
        assert mounted([way, *options]) == [Operation(Kind.BIND, ("s", "/x"), (*numbers, 0), flags)]
    assert mounted(options, type="bind")[0].kind == Kind.BIND


def test_file_systems_that_a_host_may_refuse() -> None:
    for kind, source in (("proc", "/proc"), ("sysfs", "/sys")):
        first, second = mounted(["ro"], type=kind)
        assert first.flags & Flag.ELSE and not second.flags & Flag.ELSE
        assert (second.kind, second.texts, second.flags & Flag.RECURSIVE) == (Kind.BIND, (source, "/x"), Flag.RECURSIVE)
    assert mounted(["ro"], type="cgroup")[0].flags & Flag.OPTIONAL


def test_devices_are_bound_and_cannot_be_changed() -> None:
    plan = container_plan(minimal(linux={"devices": [{"path": "/dev/fuse", "type": "c"}]}), Surroundings("/r"))
    assert [operation.texts[0] for operation in only(plan, Kind.BIND)] == [
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "fuse")
    ]
    assert all(operation.numbers[0] & 1 for operation in only(plan, Kind.BIND)[:6])


def test_a_further_process() -> None:
    process: Any = spec_of(terminal=True, user=ContainerUser(7, 7))["process"]
    plan = exec_plan(process, SURROUNDINGS)
    assert [operation.kind for operation in plan] == [
        Kind.TERMINAL_NEW, Kind.UMASK, Kind.BOUNDING, Kind.SECCOMP, Kind.USER, Kind.CAPS, Kind.CWD, Kind.EXEC,
    ]  # fmt: skip
    assert plan[0].texts == (None,), "/dev/console is the first process's"


@pytest.mark.parametrize(
    "command, path, tried",
    [
        ("sh", "PATH=/a:/b", ("/a/sh", "/b/sh")), ("/x/sh", "PATH=/a", ("/x/sh",)), ("./sh", "PATH=/a", ("./sh",)), ("sh", "PATH=", ("./sh",)),
        ("sh", "PATH=:/a:", ("./sh", "/a/sh", "./sh")), ("sh", "XPATH=/a", ("./sh",)), ("", "PATH=/a", ("",)),
    ],
)  # fmt: skip
def test_candidates_are_those_of_execvp(command: str, path: str, tried: tuple[str, ...]) -> None:
    assert candidates(command, ["A=1", path, "PATH=/later"] if path.startswith("PATH") else [path]) == tried


@pytest.mark.parametrize(
    "changes",
    [
        {"process": {"args": []}}, {"process": {"rlimits": [{"type": "RLIMIT_WISHES", "soft": 1, "hard": 1}]}},
        {"process": {"capabilities": {"bounding": ["CAP_FLY"]}}}, {"mounts": [{"destination": "/x", "type": "bind"}]},
        {"mounts": [{"destination": "/x", "options": ["rbind"]}]}, {"linux": {"rootfsPropagation": "rrslave"}},
        {"linux": {"rootfsPropagation": "sideways"}}, {"linux": {"namespaces": [{"type": "moon"}]}},
        {"linux": {"namespaces": [{"type": "moon", "path": "/x"}]}},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_starts(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        container_plan(minimal(**changes), Surroundings("/r"))


LISTED = st.lists(st.sampled_from([*FLAGS, *UNDONE.values()]), max_size=6)


@given(LISTED)
def test_of_contradicting_words_the_last_counts(options: list[str]) -> None:
    expected = 0
    for word in options:
        expected = (
            expected | FLAGS[word]
            if word in FLAGS
            else expected & ~FLAGS[next(key for key, value in UNDONE.items() if value == word)]
        )
    assert mounted(options)[0].numbers == (expected,)
