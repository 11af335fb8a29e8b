"""The seccomp policy and its programs, judged by what the programs answer (tests/fakes/bpf.py is the kernel's side)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rootless._lowlevel import seccomp as lowlevel
from rootless.errors import UsageError
from rootless.runtime import capabilities, seccomp, seccomp_profile
from tests.fakes import bpf
from tests.fakes.bpf import ALLOW, KILL, errno_action

EPERM, ENOSYS = errno_action(errno.EPERM), errno_action(errno.ENOSYS)
DEFAULT = capabilities.resolve(last=40)
KERNEL = (6, 1)


def compiled(profile: dict[str, Any] | None = None, *, held: int = DEFAULT, tree: bool = True) -> bytes:
    policy = seccomp_profile.resolve(profile, capabilities=held, architecture="x86_64", kernel=KERNEL)
    return seccomp.compile_policy(policy, tree=tree)


def number(name: str, architecture: str = "x86_64") -> int:
    token = lowlevel.architecture(architecture)
    assert token is not None
    found = lowlevel.number(name, token)
    assert found is not None and found >= 0, name
    return found


@pytest.fixture(scope="module")
def program() -> bytes:
    return compiled()


@pytest.mark.parametrize(
    "name",
    [
        "read",
        "execve",
        "ptrace",
        "mknod",
        "chroot",
        "openat2",
        "pidfd_open",
        "setgroups",
        "name_to_handle_at",
        "landlock_create_ruleset",
        "vmsplice",
    ],
)
def test_allowed(program: bytes, name: str) -> None:
    assert bpf.run(program, number(name)) == ALLOW


@pytest.mark.parametrize(
    "name",
    [
        *(
            "keyctl",
            "add_key",
            "request_key",
            "mount",
            "umount2",
            "unshare",
            "setns",
            "pivot_root",
            "bpf",
            "perf_event_open",
            "userfaultfd",
        ),
        *(
            "io_uring_setup",
            "kexec_load",
            "reboot",
            "init_module",
            "swapon",
            "open_by_handle_at",
            "settimeofday",
            "iopl",
            "mbind",
            "kcmp",
        ),
    ],
)
def test_refused(program: bytes, name: str) -> None:
    assert bpf.run(program, number(name)) == EPERM


def test_clone_makes_processes_but_no_namespaces(program: bytes) -> None:
    clone = number("clone")
    assert bpf.run(program, clone, 0x11) == ALLOW
    assert bpf.run(program, clone, 0x3D0F00) == ALLOW  # pthread_create
    for namespace in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert bpf.run(program, clone, namespace | 0x11) == EPERM
    assert bpf.run(program, number("clone3")) == ENOSYS


def test_sys_admin_opens_what_it_is_about() -> None:
    program = compiled(held=DEFAULT | capabilities.mask(["SYS_ADMIN"]))
    for name in ("clone", "clone3", "mount", "unshare", "setns", "bpf"):
        assert bpf.run(program, number(name), 0x10000000) == ALLOW
    assert bpf.run(program, 460) == ALLOW  # lsm_set_self_attr
    assert bpf.run(program, number("keyctl")) == EPERM


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("SYS_CHROOT", "chroot"),
        ("SYS_TIME", "settimeofday"),
        ("BPF", "bpf"),
        ("SYSLOG", "syslog"),
        ("SYS_NICE", "mbind"),
        ("SYS_BOOT", "reboot"),
    ],
)
def test_a_capability_opens_its_calls(capability: str, name: str) -> None:
    mask = capabilities.mask([capability])
    assert bpf.run(compiled(held=DEFAULT | mask), number(name)) == ALLOW
    assert bpf.run(compiled(held=DEFAULT & ~mask), number(name)) == EPERM


def test_socket_families(program: bytes) -> None:
    socket = number("socket")
    allowed = {family for family in range(64) if bpf.run(program, socket, family, 1, 0) == ALLOW}
    assert {1, 2, 10, 16, 17, 44} <= allowed
    assert not allowed & {12, 19, 20, 23, 25, 34, 37, 38, 40, *range(46, 64)}  # 38 AF_ALG, 40 AF_VSOCK
    assert bpf.run(program, socket, 40 | 1 << 32) == EPERM, "the kernel looks at 32 bits only"


def test_personalities(program: bytes) -> None:
    personality = number("personality")
    answers = {
        value: bpf.run(program, personality, value)
        for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000, 0x400000, 4)
    }
    assert [value for value, answer in answers.items() if answer == ALLOW] == [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]


def test_calls_newer_than_libseccomp(program: bytes) -> None:
    assert {name for name, new in seccomp_profile.NEWER.items() if bpf.run(program, new) == EPERM} == {
        "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules",
    }  # fmt: skip
    for architecture in (bpf.X86_64, bpf.I386):
        assert bpf.run(program, 452, architecture=architecture) == ALLOW  # fchmodat2
        for new in (467, 500, 0x3FFFFFFF):
            assert bpf.run(program, new, architecture=architecture) == ENOSYS
    assert bpf.run(program, 335) == ALLOW  # uretprobe, which is x86-64's alone
    assert bpf.run(program, 0xFFFFFFFF) == EPERM
    for known_or_new in (0, 335, 452, 600):
        assert bpf.run(program, known_or_new, architecture=bpf.AARCH64) == KILL


def test_a_program_of_32_bits_is_under_the_same_policy(program: bytes) -> None:
    for name, answer in (
        ("mount", EPERM),
        ("keyctl", EPERM),
        ("clone3", ENOSYS),
        ("socketcall", ALLOW),
        ("getpid", ALLOW),
    ):
        assert bpf.run(program, number(name, "x86"), architecture=bpf.I386) == answer
    assert bpf.run(program, number("mount") | bpf.X32_BIT) == EPERM
    assert bpf.run(program, number("getpid") | bpf.X32_BIT) == ALLOW


def test_the_tree_answers_as_the_list_does_and_sooner(program: bytes) -> None:
    flat = compiled(tree=False)
    for architecture in (bpf.X86_64, bpf.I386):
        for call in (*range(480), *(bpf.X32_BIT | n for n in range(480)), 0xFFFFFFFF):
            for argument in (0, 1, 40, 0x10000000):
                assert bpf.run(program, call, argument, architecture=architecture) == bpf.run(
                    flat, call, argument, architecture=architecture
                )
    steps = [sum(bpf.steps(code, call)[1] for call in range(335)) for code in (program, flat)]
    assert steps[0] * 8 < steps[1]


def test_profile_of_docker_s_format() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EACCES,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read", "no_such_call", "cachestat"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_BOOT"]}},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["open"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"], "minKernel": "4.8"}},
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["getpid"], "action": "SCMP_ACT_KILL_PROCESS", "args": None},
            {"names": ["dup3"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
        ],
    }  # fmt: skip
    program, refused = compiled(profile), errno_action(errno.EACCES)
    answers = {
        name: bpf.run(program, number(name)) for name in ("read", "chroot", "reboot", "write", "open", "close", "dup")
    }
    assert answers == {
        "read": ALLOW, "chroot": ALLOW, "reboot": refused, "write": refused, "open": ALLOW, "close": refused, "dup": refused,
    }  # fmt: skip
    assert bpf.run(program, number("getpid")) == 0x80000000
    assert [bpf.run(program, number("dup3"), old) for old in (3, 4, 5)] == [ALLOW, refused, ALLOW]
    assert bpf.run(program, 451) == ALLOW
    assert bpf.run(program, 452) == ENOSYS
    assert bpf.run(program, number("read") | bpf.X32_BIT) == KILL  # x32 is not in the list


def test_profile_that_allows_by_default() -> None:
    program = compiled(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mount", "mseal"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7}],
        }
    )
    assert bpf.run(program, number("mount")) == bpf.run(program, 462) == errno_action(7)
    assert bpf.run(program, number("getpid")) == bpf.run(program, 463) == bpf.run(program, 9999) == ALLOW


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"defaultAction": "SCMP_ACT_DENY"},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "1"},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1},
        {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_VAX"]},
        {"defaultAction": "SCMP_ACT_ERRNO", "architectures": "SCMP_ARCH_X86_64"},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": ["read"]},
        [],
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [1], "action": "SCMP_ACT_ALLOW"}]},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "=="}]}]},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}]},
    ],
)  # fmt: skip
def test_a_wrong_profile_says_so(profile: Any) -> None:
    with pytest.raises(UsageError):
        compiled(profile)


def test_programs_are_kept(tmp_path: Path, program: bytes) -> None:
    cache = tmp_path / "deep" / "cache"

    def get() -> bytes:
        return seccomp.default_program(str(cache), capabilities=DEFAULT, architecture="x86_64", kernel=KERNEL)

    assert get() == program
    (entry,) = cache.iterdir()
    assert entry.stat().st_mode & 0o777 == 0o600
    before = entry.stat().st_ino
    assert get() == program and entry.stat().st_ino == before
    other = seccomp.default_program(str(cache), capabilities=0, architecture="x86_64", kernel=KERNEL)
    assert other != program and len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "short", "zeros", "large", "link", "fifo", "writable"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, program: bytes, damage: str) -> None:
    def get() -> bytes:
        return seccomp.default_program(str(tmp_path), capabilities=DEFAULT, architecture="x86_64", kernel=KERNEL)

    get()
    (entry,) = tmp_path.iterdir()
    # An instruction that allows everything: what would be loaded if the file were believed.
    allow_all = bytes((6, 0, 0, 0)) + ALLOW.to_bytes(4, "little")
    entry.unlink()
    match damage:
        case "link":
            (tmp_path / "elsewhere").write_bytes(allow_all)
            entry.symlink_to(tmp_path / "elsewhere")
        case "fifo":
            os.mkfifo(entry)
        case "writable":
            entry.write_bytes(allow_all)
            entry.chmod(0o666)
        case _:
            entry.write_bytes(
                {"empty": b"", "short": program[:-3], "zeros": bytes(len(program)), "large": allow_all * 5000}[damage]
            )
    assert get() == program
    assert entry.read_bytes() == program
    assert get() == program


def test_user_profiles_are_kept_by_content(tmp_path: Path) -> None:
    policy = seccomp_profile.resolve(
        {"defaultAction": "SCMP_ACT_ALLOW"}, capabilities=0, architecture="x86_64", kernel=KERNEL
    )
    assert seccomp.program(str(tmp_path), policy) == seccomp.program(str(tmp_path), policy)
    assert len(list(tmp_path.iterdir())) == 1
    policy["defaultAction"] = "SCMP_ACT_LOG"
    seccomp.program(str(tmp_path), policy)
    assert len(list(tmp_path.iterdir())) == 2


def test_flags() -> None:
    assert seccomp.flags() == seccomp.FLAG_SPEC_ALLOW
    assert seccomp.flags({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}) == seccomp.FLAG_LOG
    with pytest.raises(UsageError):
        seccomp.flags({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]})


# Programs are of the byte order of this machine; s390x has the other one.
@pytest.mark.parametrize("machine", [name for name in seccomp_profile.ARCHITECTURES if name != "s390x"])
def test_every_architecture_compiles(machine: str) -> None:
    policy = seccomp_profile.resolve(None, capabilities=DEFAULT, architecture=machine, kernel=KERNEL)
    assert seccomp.is_program(seccomp.compile_policy(policy))


def test_arm64() -> None:
    policy = seccomp_profile.resolve(None, capabilities=DEFAULT, architecture="aarch64", kernel=KERNEL)
    program = seccomp.compile_policy(policy)
    answers = [
        bpf.run(program, call, argument, architecture=bpf.AARCH64)
        for call, argument in (
            (172, 0),
            (220, 0x11),
            (220, 0x10000011),
            (435, 0),
            (452, 0),
            (219, 0),
            (335, 0),
            (999, 0),
        )
    ]
    assert answers == [ALLOW, ALLOW, EPERM, ENOSYS, ALLOW, EPERM, EPERM, ENOSYS]
    assert bpf.run(program, 39) == KILL
