"""The kernel's side of a seccomp filter in Python: what a program answers to a call (Documentation/userspace-api/seccomp_filter.rst, filter.rst)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32_BIT = 0x40000000

ALLOW, KILL = 0x7FFF0000, 0


def errno_action(number: int) -> int:
    return 0x00050000 | number


def run(program: bytes, number: int, *arguments: int, architecture: int = X86_64) -> int:
    """The SECCOMP_RET_* of `program` for one call. ValueError for what the kernel would not load."""
    return steps(program, number, arguments, architecture)[0]


def steps(program: bytes, number: int, arguments: Sequence[int] = (), architecture: int = X86_64) -> tuple[int, int]:
    """The answer, and how many instructions it took."""
    code = list(struct.iter_unpack("=HBBI", program))
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *(tuple(arguments) + (0,) * 6)[:6])
    accumulator = place = count = 0
    while True:
        operation, true, false, value = code[place]
        place, count = place + 1, count + 1
        match operation:
            case 0x20:  # ld [k]
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:  # and #k
                accumulator &= value
            case 0x05:  # ja
                place += value
            case 0x15 | 0x25 | 0x35 | 0x45:
                holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}
                place += true if holds.get(operation, bool(accumulator & value)) else false
            case 0x06:
                return value, count
            case _:
                raise ValueError(f"operation {operation:#x} is not of seccomp")
