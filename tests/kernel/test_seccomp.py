"""Our seccomp programs in the kernel: a child takes a new user namespace, where it is root with all capabilities, loads a program and tries calls.

Each call is also tried without a program: what is refused there already would show nothing.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rootless._lowlevel import seccomp as lowlevel
from rootless.runtime import capabilities, seccomp, seccomp_profile

# argv: path of a program or "-", JSON list of [label, number, arguments…]. Prints JSON {label: errno, or 0}.
PROBE = r"""
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
uid, gid = os.getuid(), os.getgid()
assert libc.unshare(0x10000000 | 0x20000) == 0, os.strerror(ctypes.get_errno())
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
if sys.argv[1] != "-":
    data = open(sys.argv[1], "rb").read()
    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
    program = Program(len(data) // 8, data)
    assert libc.syscall(317, 1, int(sys.argv[3]), ctypes.byref(program)) == 0, os.strerror(ctypes.get_errno())
results = {}
for label, number, *arguments in json.loads(sys.argv[2]):
    words = [ctypes.c_char_p(word.encode()) if isinstance(word, str) else ctypes.c_ulong(word) for word in arguments]
    ctypes.set_errno(0)
    if number == 56:  # the child of clone(2) has our memory's copy and must not go on
        result = libc.syscall(ctypes.c_long(56), *words)
        if result == 0:
            os._exit(0)
    else:
        result = libc.syscall(ctypes.c_long(number), *words)
    results[label] = ctypes.get_errno() if result == -1 else 0
print(json.dumps(results))
"""


def number(name: str) -> int:
    token = lowlevel.architecture("x86_64")
    assert token is not None
    found = lowlevel.number(name, token)
    assert found is not None
    return found


SIGCHLD, NEWUSER, NEWUTS = 17, 0x10000000, 0x04000000
REFUSED: dict[str, tuple[str | int, ...]] = {
    "mount": ("mount", "none", "/tmp", "tmpfs", 0, 0),
    "unshare": ("unshare", NEWUTS),
    "clone a user namespace": ("clone", NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "keyctl": ("keyctl", 0, -3 & (2**64 - 1), 0),
    "add_key": ("add_key", "user", "rl-test", "x", 1, -1 & (2**64 - 1)),
    "chroot with SYS_CHROOT dropped": ("chroot", "/"),
    "sethostname": ("sethostname", "x", 65),
    "personality without randomization": ("personality", 0x40000),
    "io_uring_setup": ("io_uring_setup", 1, 0),
    "bpf": ("bpf", 0, 0, 1 << 20),
    "socket of the hypervisor": ("socket", 40, 1, 0),
    "socket of the kernel's cryptography": ("socket", 38, 5, 0),
}
ALLOWED: dict[str, tuple[str | int, ...]] = {
    "getpid": ("getpid",),
    "clone a process": ("clone", SIGCHLD, 0, 0, 0, 0),
    "ask for the personality": ("personality", 0xFFFFFFFF),
    "unix socket": ("socket", 1, 1, 0),
    "netlink socket": ("socket", 16, 3, 0),
    "ptrace": ("ptrace", 16, 0, 0, 0),  # PTRACE_ATTACH to nobody: ESRCH
    "memfd_create": ("memfd_create", "x", 0),
    "fchmodat2": (452, -100 & (2**64 - 1), "/proc/self/fd/1", 0o600, 0x100),
    "umask": ("umask", 0o22),
}
UNKNOWN: dict[str, tuple[str | int, ...]] = {
    "clone3": ("clone3", 0, 0),
    "file_getattr": (468, 0),
    "of the future": (2000,),
}


def tried(program: str, *calls: dict[str, tuple[str | int, ...]]) -> dict[str, int]:
    words = [
        [label, number(call[0]) if isinstance(call[0], str) else call[0], *call[1:]]
        for group in calls
        for label, call in group.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, program, json.dumps(words), str(seccomp.flags())],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, int] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default policy, for a container that also lost SYS_CHROOT."""
    cache = tmp_path_factory.mktemp("cache")
    held = capabilities.resolve((), ("SYS_CHROOT",), last=40)
    seccomp.default_program(str(cache), capabilities=held, architecture="x86_64", kernel=(6, 1))
    (path,) = cache.iterdir()
    return path


def test_the_default_policy(program: Path) -> None:
    answers = tried(str(program), REFUSED, ALLOWED, UNKNOWN)
    assert {label: answers[label] for label in REFUSED} == dict.fromkeys(REFUSED, errno.EPERM)
    assert {label: answers[label] for label in UNKNOWN} == dict.fromkeys(UNKNOWN, errno.ENOSYS)
    without = tried("-", REFUSED, ALLOWED, UNKNOWN)
    assert {label: answers[label] for label in ALLOWED} == {label: without[label] for label in ALLOWED}
    assert [label for label in REFUSED if without[label] == errno.EPERM] == []
    assert without["clone3"] == errno.EINVAL


def test_a_profile_of_the_user(tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV},
            {
                "names": ["umask"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 0o77, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }
    policy = seccomp_profile.resolve(profile, capabilities=0, architecture="x86_64", kernel=(6, 1))
    path = tmp_path / "program"
    path.write_bytes(seccomp.program(str(tmp_path / "cache"), policy))
    calls: dict[str, tuple[str | int, ...]] = {
        "a": ("getppid",),
        "b": ("umask", 0o77),
        "c": ("umask", 0o22),
        "d": ("mount", "n", "/tmp", "tmpfs", 0, 0),
    }
    assert tried(str(path), calls) == {"a": errno.EXDEV, "b": errno.EPERM, "c": 0, "d": 0}
