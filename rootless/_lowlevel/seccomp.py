"""libseccomp's compiler: from rules to a BPF program. The only importer of `_seccomp`.

Architectures are libseccomp's tokens, which are the kernel's AUDIT_ARCH_* (x32 has one of libseccomp's own). Actions are the kernel's SECCOMP_RET_*
with their data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import HostError, reason
from ._seccomp import ffi, lib

COMPARISONS = {
    "SCMP_CMP_NE": lib.SCMP_CMP_NE,
    "SCMP_CMP_LT": lib.SCMP_CMP_LT,
    "SCMP_CMP_LE": lib.SCMP_CMP_LE,
    "SCMP_CMP_EQ": lib.SCMP_CMP_EQ,
    "SCMP_CMP_GE": lib.SCMP_CMP_GE,
    "SCMP_CMP_GT": lib.SCMP_CMP_GT,
    "SCMP_CMP_MASKED_EQ": lib.SCMP_CMP_MASKED_EQ,
}


class Comparison(NamedTuple):
    """op: a value of `COMPARISONS`. For MASKED_EQ, `value` is the mask and `second` what must be left of the argument."""

    argument: int
    op: int
    value: int
    second: int = 0


class Rule(NamedTuple):
    """One system call by name, where all comparisons hold. At most one comparison of an argument."""

    action: int
    name: str
    comparisons: tuple[Comparison, ...] = ()


def architecture(name: str) -> int | None:
    """The token of libseccomp's name for an architecture (`x86_64`, `x32`), None for one it does not know."""
    token: int = lib.seccomp_arch_resolve_name(name.lower().encode())
    return token or None


def number(name: str, token: int) -> int | None:
    """The number of a system call on an architecture; negative where only others have it; None where libseccomp does not know it."""
    found: int = lib.seccomp_syscall_resolve_name_arch(token, name.encode())
    return None if found == lib.__NR_SCMP_ERROR else found


def name(number: int, token: int) -> str | None:
    """The inverse of `number`."""
    text = lib.seccomp_syscall_resolve_num_arch(token, number)
    if text == ffi.NULL:
        return None
    try:
        return bytes(ffi.string(text)).decode()
    finally:
        lib.free(text)


def compile_rules(rules: Iterable[Rule], *, default: int, architectures: Sequence[int], tree: bool = True) -> bytes:
    """The program: an array of struct sock_filter. Names that libseccomp does not know are left out, and so are rules that say what the default says.

    tree: search the number in a binary tree instead of one after the other.
    """
    context = lib.seccomp_init(default)
    if context == ffi.NULL:
        raise HostError("libseccomp cannot make a filter")
    try:
        native = lib.seccomp_arch_native()
        if native not in architectures:  # goes first: those of another byte order cannot stand beside it
            _check(lib.seccomp_arch_remove(context, native), "remove the native architecture")
        for token in architectures:
            if token != native:
                _check(lib.seccomp_arch_add(context, token), "add an architecture")
        if tree:
            _check(lib.seccomp_attr_set(context, lib.SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize")
        for rule in rules:
            if rule.action != default:
                _add(context, rule)
        return _export(context)
    finally:
        lib.seccomp_release(context)


def _add(context: ffi.CData, rule: Rule) -> None:
    known = lib.seccomp_syscall_resolve_name(rule.name.encode())
    if known == lib.__NR_SCMP_ERROR:
        return
    comparisons = ffi.new("struct scmp_arg_cmp[]", [tuple(comparison) for comparison in rule.comparisons])
    result = lib.seccomp_rule_add_array(context, rule.action, known, len(rule.comparisons), comparisons)
    _check(result, f"add the rule for {rule.name}")


def _export(context: ffi.CData) -> bytes:
    descriptor = os.memfd_create("seccomp")
    try:
        _check(lib.seccomp_export_bpf(context, descriptor), "write the program")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def _check(result: int, act: str) -> None:
    if result < 0:
        raise HostError(f"libseccomp cannot {act}: {reason(-result)}")
