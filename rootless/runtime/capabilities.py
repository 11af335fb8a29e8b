"""Capabilities: their names and numbers, Docker's default set, and what --cap-add and --cap-drop make of it. Pure.

A set of capabilities is an int with bit n for capability n, as capset(2) takes it. Names are upper case without CAP_; `parse` takes them as users
write them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UsageError

# include/uapi/linux/capability.h; the place in the table is the number.
NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
    "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip

DEFAULT_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""What root of a container may do. Docker's rootful list has three more that mean little here: MKNOD is void in a user namespace, NET_RAW lets a
container forge packets (ping works without it, by ping_group_range), AUDIT_WRITE writes to a log that is the host's."""


def mask(words: Iterable[str]) -> int:
    """The set of these names (not ALL). UsageError for what is no capability."""
    value = 0
    for word in words:
        value |= 1 << NAMES.index(parse(word))
    return value


def parse(word: str) -> str:
    """A capability's name as the table has it, or ALL; any case, with or without CAP_."""
    name = word.upper().removeprefix("CAP_")
    if name in NAMES or name == "ALL":
        return name
    raise UsageError(f"unknown capability {word!r}", hint="names are in capabilities(7), for example NET_ADMIN")


def names(value: int) -> list[str]:
    """The names of a set, with CAP_ as the OCI specification has them, in the order of their numbers."""
    return ["CAP_" + name for number, name in enumerate(NAMES) if value >> number & 1]


def all_of(last: int) -> int:
    """Every capability that the kernel and this table know; last: the number in /proc/sys/kernel/cap_last_cap."""
    return (1 << min(last + 1, len(NAMES))) - 1


def resolve(add: Iterable[str] = (), drop: Iterable[str] = (), *, last: int, privileged: bool = False) -> int:
    """The set that a container may have at most, by Docker's rules for --cap-add, --cap-drop and --privileged.

    `--cap-add ALL --cap-drop X` is all but X, `--cap-drop ALL --cap-add X` is X alone. What is both added and dropped is a UsageError (Docker adds it,
    which nobody who drops it expects), and so is one that this kernel does not have; ALL means those that it has.
    last: the number in /proc/sys/kernel/cap_last_cap.
    """
    added, dropped = {parse(word) for word in add}, {parse(word) for word in drop}
    if both := added & dropped:
        raise UsageError(f"the capability {min(both)} is both added and dropped")
    everything = all_of(last)
    plus, minus = mask(added - {"ALL"}), mask(dropped - {"ALL"})
    if plus & ~everything:
        raise UsageError(
            f"this kernel does not have the capability {names(plus & ~everything)[0].removeprefix('CAP_')}"
        )
    if privileged:
        return everything & ~minus
    if "ALL" in dropped:
        return plus
    return (everything if "ALL" in added else mask(DEFAULT_NAMES) | plus) & ~minus
