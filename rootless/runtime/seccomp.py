"""The BPF program of a seccomp policy, from a cache or made by libseccomp.

A program of the default policy depends on few things, which are the name of its file in the cache; `rl run` reads eight kilobytes and neither
libseccomp nor the policy's tables. The cache is the user's own directory; still a file of it is believed only when it is his and whole.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import HostError, StoreError, UsageError

if TYPE_CHECKING:
    from .._lowlevel.seccomp import Rule
    from ..oci import runtime as oci

POLICY_VERSION = 1
"""Grows with every change of the default policy or of what is made of it; programs in caches are then made anew."""

INSTRUCTION = 8  # sizeof(struct sock_filter)
MAX_SIZE = 4096 * INSTRUCTION  # BPF_MAXINSNS

FLAG_LOG, FLAG_SPEC_ALLOW = 2, 4
"""SECCOMP_FILTER_FLAG_*. Without SPEC_ALLOW kernels before 5.16 slow every process with a filter by their guard against speculative stores; runc
sets it since 1.1.5 for the same reason."""

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = (ACTIONS["SCMP_ACT_ERRNO"], ACTIONS["SCMP_ACT_TRACE"])
_ALLOW, _ENOSYS = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS


def default_program(cache: str, *, capabilities: int, architecture: str, kernel: tuple[int, int]) -> bytes:
    """The program of the default policy: an array of struct sock_filter. cache: a directory, made where it is missing. For the rest see
    `seccomp_profile.resolve`."""
    path = f"{cache}/{__version__}-{POLICY_VERSION}-{architecture}-{kernel[0]}.{kernel[1]}-{capabilities:x}.bpf"
    found = _read(path)
    if found is not None:
        return found
    from . import seccomp_profile

    policy = seccomp_profile.resolve(None, capabilities=capabilities, architecture=architecture, kernel=kernel)
    return _make(path, policy)


def program(cache: str, policy: oci.Seccomp) -> bytes:
    """The program of any `linux.seccomp` object; UsageError for an action, a comparison or an architecture that does not exist."""
    import hashlib
    import json

    text = json.dumps(policy, sort_keys=True)
    path = f"{cache}/{__version__}-{POLICY_VERSION}-{hashlib.sha256(text.encode()).hexdigest()}.bpf"
    return _read(path) or _make(path, policy)


def flags(policy: oci.Seccomp | None = None) -> int:
    """The flags for seccomp(2); None: of the default policy."""
    known = {
        "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
        "SECCOMP_FILTER_FLAG_TSYNC": 0,
    }
    if policy is None or "flags" not in policy:
        return FLAG_SPEC_ALLOW
    value = 0
    for word in policy["flags"]:
        if word not in known:
            raise UsageError(f"unknown flag {word!r} in the seccomp profile")
        value |= known[word]
    return value


def _read(path: str) -> bytes | None:
    """A program from the cache, None where there is none that can be believed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None
        data = os.read(descriptor, MAX_SIZE + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data if is_program(data) else None


def is_program(data: bytes) -> bool:
    """Whether these bytes can be a filter: whole instructions, not too many, ending in a return. The kernel checks the rest."""
    if not 0 < len(data) <= MAX_SIZE or len(data) % INSTRUCTION:
        return False
    (operation,) = struct.unpack_from("=H", data, len(data) - INSTRUCTION)
    return bool(operation & 0x07 == _RETURN)


def _make(path: str, policy: oci.Seccomp) -> bytes:
    made = compile_policy(policy)
    from ..store import record

    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        record.write_bytes(path, made)
    except (OSError, StoreError):
        ...  # what a read-only home or a full disk does not keep is made again the next time
    return made


# ---- compiling


def compile_policy(policy: oci.Seccomp, *, tree: bool = True) -> bytes:
    """The program of a policy. libseccomp makes it; what is newer than libseccomp is decided in a few instructions of ours before it."""
    from .._lowlevel import seccomp as lowlevel
    from . import seccomp_profile as known

    default = _action(policy["defaultAction"], policy.get("defaultErrnoRet"))
    names = [name.removeprefix("SCMP_ARCH_") for name in policy.get("architectures", ())]
    tokens = []
    for name in names:
        token = lowlevel.architecture(name)
        if token is None:
            raise UsageError(f"unknown architecture SCMP_ARCH_{name} in the seccomp profile")
        tokens.append(token)
    if not tokens:
        raise UsageError("the seccomp profile names no architecture")

    rules, newer, highest = list[lowlevel.Rule](), dict[str, int](), _FIRST_UNIFIED - 1
    for rule in _rules(policy):
        if rule.name in known.NEWER or rule.name in known.NEWER_HERE:
            if rule.comparisons:
                raise UsageError(f"the seccomp profile looks at arguments of {rule.name}, which rl cannot do")
            newer[rule.name] = rule.action
        else:
            rules.append(rule)
        # Since 424 all architectures have the same numbers, so one of them can tell which is the newest call that the profile speaks of.
        highest = max(highest, known.NEWER.get(rule.name) or lowlevel.number(rule.name, tokens[0]) or 0)
    body = lowlevel.compile_rules(rules, default=default, architectures=tokens, tree=tree)

    everywhere = {known.NEWER[name]: action for name, action in newer.items() if name in known.NEWER}
    here = {
        known.NEWER_HERE[name][1]: action
        for name, action in newer.items()
        if name in known.NEWER_HERE and names[0].lower() == known.NEWER_HERE[name][0]
    }
    refuses = default & 0xFFFF0000 == ACTIONS["SCMP_ACT_ERRNO"]
    # MIPS adds a base to its numbers and x32 a bit; x32 is then simply beyond what these instructions look at.
    audited = sorted(
        {token for name, token in zip(names, tokens, strict=True) if name != "X32" and not name.startswith("MIPS")}
    )
    made = _newer_calls(audited, tokens[0], everywhere, here, unknown_after=highest if refuses else None) + body
    if not is_program(made):
        raise HostError(f"the seccomp program is too long for the kernel: {len(made) // INSTRUCTION} instructions")
    return made


def _rules(policy: oci.Seccomp) -> Iterator[Rule]:
    """A rule for each name. Several comparisons of one argument are alternatives, as in runc: libseccomp takes one of each in a rule."""
    from .._lowlevel.seccomp import COMPARISONS, Comparison, Rule

    for entry in policy.get("syscalls", ()):
        action = _action(entry["action"], entry.get("errnoRet"))
        comparisons = []
        for argument in entry.get("args", ()):
            if argument["op"] not in COMPARISONS:
                raise UsageError(f"unknown comparison {argument['op']!r} in the seccomp profile")
            comparisons.append(
                Comparison(
                    argument["index"], COMPARISONS[argument["op"]], argument["value"], argument.get("valueTwo", 0)
                )
            )
        repeated = len({comparison.argument for comparison in comparisons}) < len(comparisons)
        for name in entry["names"]:
            if repeated:
                yield from (Rule(action, name, (comparison,)) for comparison in comparisons)
            else:
                yield Rule(action, name, tuple(comparisons))


def _action(name: str, number: int | None) -> int:
    if name not in ACTIONS:
        hint = "SCMP_ACT_NOTIFY needs a listener, which rl does not have" if name == "SCMP_ACT_NOTIFY" else None
        raise UsageError(f"unknown action {name!r} in the seccomp profile", hint=hint)
    action = ACTIONS[name]
    if action in _WITH_DATA:
        return action | (errno.EPERM if number is None else number)
    return action


# ---- a few instructions of BPF (linux/bpf_common.h); jumps are given as (true, false)

_FIRST_UNIFIED = 424  # pidfd_send_signal, the first call with one number everywhere
_X32_BIT = 0x40000000
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_LOAD, _JUMP, _EQUAL, _GREATER, _AT_LEAST, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06


def _newer_calls(
    architectures: Iterable[int],
    native: int,
    everywhere: dict[int, int],
    here: dict[int, int],
    *,
    unknown_after: int | None,
) -> bytes:
    """Instructions that decide calls newer than libseccomp and let all others go on to what follows them.

    everywhere: number -> action, on all `architectures`; here: those of `native` alone. unknown_after: higher numbers get ENOSYS.
    A call with an old number takes two instructions.
    """
    decided = [*everywhere, *here] + ([] if unknown_after is None else [unknown_after + 1])
    if not decided:
        return b""
    code: list[tuple[int, int, int, int]] = []
    code.append((_LOAD, 0, 0, _ARCHITECTURE))
    tokens = list(architectures)
    for place, token in enumerate(tokens):
        code.append((_EQUAL, len(tokens) - place, 0, token))  # to behind the jump
    code.append((_JUMP, 0, 0, -1))  # a foreign architecture: libseccomp's part kills it
    if here:
        # Still holding the architecture: the others skip what is only native.
        code.append((_EQUAL, 0, 1 + 2 * len(here), native))
        code.append((_LOAD, 0, 0, _NUMBER))
        for number, action in here.items():
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, action)]
    code.append((_LOAD, 0, 0, _NUMBER))
    code += [(_AT_LEAST, 0, 1, _X32_BIT), (_JUMP, 0, 0, -1)]
    for number, action in everywhere.items():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, action)]
    if unknown_after is not None:
        code += [(_GREATER, 0, 1, unknown_after), (_RETURN, 0, 0, _ENOSYS)]

    # The tables that come in here are short: all of it is within the 255 instructions that a conditional jump can reach.
    code = [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, len(code), min(decided)), *code]
    return b"".join(
        struct.pack("=HBBI", operation, true, false, len(code) - place - 1 if value == -1 else value)
        for place, (operation, true, false, value) in enumerate(code)
    )
