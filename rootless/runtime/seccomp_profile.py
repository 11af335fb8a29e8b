"""Which system calls a container may make: our default policy, and policies that users bring.

Both become one thing, the `linux.seccomp` object of the OCI runtime specification, which `runtime.seccomp` compiles. The default is equal in
effect to Docker's: whoever moves a container here finds what worked working. Pure.

A call that is not named gets EPERM, or ENOSYS where it is newer than every call that the profile names: a program that tries a new call and has an
old way must find the old way (https://lwn.net/Articles/738694/ tells what EPERM does there).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import capabilities as caps

if TYPE_CHECKING:
    from ..oci import runtime as oci

# ---- the default policy: allowed to everybody, by what the calls are about

_FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futimesat getcwd getdents getdents64 ioctl lchown lchown32 link linkat lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat
    name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat
    readv rename renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
    syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev cachestat listmount statmount
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr lremovexattr lsetxattr removexattr
    removexattrat setxattr setxattrat
"""
_EVENTS = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 fanotify_mark
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll ppoll_time64 pselect6 pselect6_time64 select _newselect signalfd signalfd4
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit
"""
_MEMORY = """
    brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock
    munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
    capget capset execve execveat exit exit_group fork vfork getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid
    getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid get_thread_area gettid
    getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self pause pidfd_open pidfd_send_signal
    prctl prlimit64 process_mrelease rseq sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid set_thread_area set_tid_address setuid setuid32
    sysinfo tgkill times tkill ugetrlimit uname uretprobe wait4 waitid waitpid getrandom
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
    restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
"""
# adjtimex and its kin read the clock's state without CAP_SYS_TIME, and the kernel asks for it where they write.
_TIME = """
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
# socketcall hides its arguments behind a pointer, where a filter cannot look: 32-bit programs escape the rule for socket below.
_IPC = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto
    setsockopt shutdown socketcall socketpair ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
# Before 4.8 a tracer could change a call after the filter had seen it (seccomp(2), "Caveats"), and ptrace undid every rule.
_SINCE_4_8 = "process_vm_readv process_vm_writev ptrace"

_BY_ARCHITECTURE = {
    "x86_64": "arch_prctl modify_ldt",
    "i686": "modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "armv7l": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "swapcontext sync_file_range2",
    "riscv64": "riscv_flush_icache riscv_hwprobe",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}

# What a container may do only with the capability that the call is about. The kernel checks most of them itself; refusing them here as well keeps
# code away that has been the way out of a container before (bpf, mount and namespaces, keys, user faults, io_uring).
_BY_CAPABILITY = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount
        mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    """,
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}

# Refused whatever the capabilities are, because nobody asked for them in a list above: the kernel's key rings (add_key, keyctl, request_key: they are
# not in a namespace), userfaultfd (it stops the kernel in the middle of a copy), io_uring_* (calls that no filter sees), kexec_*, swapon, swapoff,
# pivot_root, nfsservctl, move_pages, migrate_pages, vm86, uselib, ustat, sysfs, _sysctl, create_module, query_module, get_kernel_syms.

# Address families of socket(2): those that a namespace confines or an ordinary program needs. Not AF_ALG (the kernel's cryptography: much code, its
# users have libraries) nor AF_VSOCK (reaches the hypervisor across network namespaces), nor those that the kernel has dropped
# (DECnet 12, Econet 19, ATMSVC 20, IrDA 23, Wanpipe 25, ISDN 34, CAIF 37).
_SOCKET_BELOW = 12  # 1 to 11; 0 is AF_UNSPEC, which nobody can make
_SOCKETS = (13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45)

# Personalities that are harmless: Linux, Linux32, both with UNAME26, and the question which one it is. Not ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET."""

# ---- system calls that libseccomp 2.5.4 does not know

NEWER: Mapping[str, int] = {
    "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454, "futex_wait": 455, "futex_requeue": 456, "statmount": 457,
    "listmount": 458, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462, "setxattrat": 463, "getxattrat": 464,
    "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip
"""Numbers that are the same on all architectures (those of MIPS and x32 have a base added), as all calls since 424 have them."""

NEWER_HERE: Mapping[str, tuple[str, int]] = {"uretprobe": ("x86_64", 335), "riscv_hwprobe": ("riscv64", 258)}
"""Those that one architecture has."""

# ---- architectures

ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("X86_64", "X86", "X32"),
    "i686": ("X86",),
    "aarch64": ("AARCH64", "ARM"),
    "armv7l": ("ARM",),
    "ppc64le": ("PPC64LE",),
    "riscv64": ("RISCV64",),
    "s390x": ("S390X", "S390"),
}
"""uname -m -> the architectures (libseccomp's names) whose calls a process on such a kernel can make, the native one first."""

_GO_NAMES = {"x86_64": "amd64", "i686": "386", "aarch64": "arm64", "armv7l": "arm"}  # as Docker's profiles name them


def resolve(
    profile: Mapping[str, Any] | None, *, capabilities: int, architecture: str, kernel: tuple[int, int]
) -> oci.Seccomp:
    """The OCI object of `profile` (None: the default) for one container.

    profile: a `linux.seccomp` object, or a profile file in Docker's format (archMap; rules with includes and excludes by capability, architecture
    and kernel). capabilities: what the container has at most, as `runtime.capabilities` numbers it. architecture: as uname -m.
    """
    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"no seccomp policy for the architecture {architecture}",
            hint="run without one: --security-opt seccomp=unconfined",
        )
    if profile is None:
        return _default(capabilities, architecture, kernel)
    return _from_file(profile, set(caps.names(capabilities)), architecture, kernel)


def _default(capabilities: int, architecture: str, kernel: tuple[int, int]) -> oci.Seccomp:
    words = [*_FILES.split(), *_EVENTS.split(), *_MEMORY.split(), *_PROCESSES.split(), *_TIME.split(), *_IPC.split()]
    words += _BY_ARCHITECTURE[architecture].split()
    if kernel >= (4, 8):
        words += _SINCE_4_8.split()
    for name, calls in _BY_CAPABILITY.items():
        if capabilities & caps.mask((name,)):
            words += calls.split()
    rules: list[oci.SeccompRule] = [{"names": sorted(set(words)), "action": "SCMP_ACT_ALLOW"}]
    rules.append(_allow("socket", 0, "SCMP_CMP_LT", _SOCKET_BELOW))
    rules += [_allow("socket", 0, "SCMP_CMP_EQ", family) for family in _SOCKETS]
    rules += [_allow("personality", 0, "SCMP_CMP_EQ", value) for value in _PERSONALITIES]
    if "clone" not in words:
        # Threads and processes, but no namespaces: those give all capabilities over new kernel objects. s390 has the flags second (clone(2)).
        # The flags of clone3 lie in memory where a filter cannot read them; told ENOSYS, C libraries turn to clone.
        rules.append(_allow("clone", 1 if architecture == "s390x" else 0, "SCMP_CMP_MASKED_EQ", _NEW_NAMESPACES, 0))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": ["SCMP_ARCH_" + name for name in ARCHITECTURES[architecture]],
        "syscalls": rules,
    }


def _allow(name: str, index: int, op: str, value: int, value_two: int | None = None) -> oci.SeccompRule:
    argument: oci.SeccompArgument = {"index": index, "value": value, "op": op}
    if value_two is not None:
        argument["valueTwo"] = value_two
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}


# ---- profiles that users bring


def _from_file(profile: Mapping[str, Any], held: set[str], architecture: str, kernel: tuple[int, int]) -> oci.Seccomp:
    if not isinstance(profile, dict):
        raise UsageError("the seccomp profile is not an object")
    result: oci.Seccomp = {
        "defaultAction": _string(profile, "defaultAction", "the profile"),
        "architectures": _architectures(profile, architecture),
        "syscalls": [],
    }
    if (number := _integer(profile, "defaultErrnoRet", "the profile")) is not None:
        result["defaultErrnoRet"] = number
    flags = profile.get("flags")
    if flags:
        result["flags"] = _strings(flags, "flags of the profile")
    if profile.get("listenerPath"):
        raise UsageError("the seccomp profile asks for a listener (SCMP_ACT_NOTIFY), which rl does not have")
    rules = profile.get("syscalls")
    if not isinstance(rules, (list, type(None))):
        raise UsageError("syscalls of the seccomp profile: not an array")
    for place, rule in enumerate(rules or ()):
        where = f"rule {place} of the seccomp profile"
        if not isinstance(rule, dict):
            raise UsageError(f"{where}: not an object")
        if _applies(rule, held, architecture, kernel, where):
            result["syscalls"].append(_rule(rule, where))
    return result


def _rule(rule: Mapping[str, Any], where: str) -> oci.SeccompRule:
    named = rule.get("names") or ([rule["name"]] if rule.get("name") else [])  # `name` is Docker's of 2015
    made: oci.SeccompRule = {"names": _strings(named, f"names of {where}"), "action": _string(rule, "action", where)}
    if (number := _integer(rule, "errnoRet", where)) is not None:
        made["errnoRet"] = number
    arguments = rule.get("args") or []
    if not isinstance(arguments, list) or not all(isinstance(argument, dict) for argument in arguments):
        raise UsageError(f"args of {where}: not an array of objects")
    if arguments:
        made["args"] = [_argument(argument, where) for argument in arguments]
    return made


def _argument(argument: Mapping[str, Any], where: str) -> oci.SeccompArgument:
    index = _integer(argument, "index", where, most=5)
    return {
        "index": index or 0,
        "value": _integer(argument, "value", where, most=2**64 - 1) or 0,
        "valueTwo": _integer(argument, "valueTwo", where, most=2**64 - 1) or 0,
        "op": _string(argument, "op", where),
    }


def _applies(rule: Mapping[str, Any], held: set[str], architecture: str, kernel: tuple[int, int], where: str) -> bool:
    """Docker's conditions: all of `includes` and none of `excludes`; of a list of architectures one is enough, of capabilities all are needed."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if not isinstance(includes, dict) or not isinstance(excludes, dict):
        raise UsageError(f"includes or excludes of {where}: not an object")
    here = _GO_NAMES.get(architecture, architecture)

    def listed(conditions: Mapping[str, Any], key: str) -> list[str]:
        return _strings(conditions.get(key) or [], f"{key} of {where}")

    if any(name not in held for name in listed(includes, "caps")):
        return False
    if (arches := listed(includes, "arches")) and here not in arches:
        return False
    if includes.get("minKernel") and kernel < _kernel(includes, where):
        return False
    if any(name in held for name in listed(excludes, "caps")) or here in listed(excludes, "arches"):
        return False
    return not (excludes.get("minKernel") and kernel >= _kernel(excludes, where))


def _architectures(profile: Mapping[str, Any], architecture: str) -> list[str]:
    native = "SCMP_ARCH_" + ARCHITECTURES[architecture][0]
    if profile.get("archMap"):
        if profile.get("architectures"):
            raise UsageError("the seccomp profile has both architectures and archMap")
        entries = profile["archMap"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UsageError("archMap of the seccomp profile: not an array of objects")
        for entry in entries:
            if entry.get("architecture") == native:
                return [native, *_strings(entry.get("subArchitectures") or [], "subArchitectures of the profile")]
        return [native]
    return _strings(profile.get("architectures") or [native], "architectures of the profile")


def _kernel(conditions: Mapping[str, Any], where: str) -> tuple[int, int]:
    words = str(conditions["minKernel"]).split(".")
    if len(words) < 2 or not (words[0].isdecimal() and words[1].isdecimal()):
        raise UsageError(f"minKernel of {where}: not a version such as 4.8")
    return int(words[0]), int(words[1])


def _string(table: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(value := table.get(key), str):
        raise UsageError(f"{key} of {where}: not a string")
    return value


def _strings(value: Iterable[Any], where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise UsageError(f"{where}: not an array of strings")
    return value


def _integer(table: Mapping[str, Any], key: str, where: str, *, most: int = 4095) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise UsageError(f"{key} of {where}: not a number from 0 to {most}")
    return value
