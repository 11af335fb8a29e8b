"""The plan: what the C core is told to do, as data. Pure.

An `Operation` says one thing to the kernel's face and can describe itself (`rl --debug run` prints the plan). `pack` makes the bytes of core.h;
tests/unit/test_abi.py holds the numbers here and there together. Making a plan from an OCI spec is `runtime.compile`.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..errors import UsageError

Text = str | bytes | Sequence[str] | None
"""A string, a blob of bytes, a list of strings, or nothing."""


class Kind:
    """enum rl_op_kind of core.h."""

    MONITOR: Final = 1
    OVERLAY: Final = 2
    HELPER: Final = 3
    NETWORK: Final = 4
    REMOVE: Final = 5
    LIKE: Final = 6
    SETNS: Final = 16
    HOSTNAME: Final = 17
    DOMAINNAME: Final = 18
    PROPAGATION: Final = 19
    ROOT: Final = 20
    MKDIR: Final = 21
    MOUNT: Final = 22
    BIND: Final = 23
    SYMLINK: Final = 24
    MASK: Final = 25
    READONLY: Final = 26
    TERMINAL_NEW: Final = 27
    PIVOT: Final = 28
    SYSCTL: Final = 29
    LOOPBACK: Final = 30
    RLIMIT: Final = 31
    OOM_SCORE: Final = 32
    UMASK: Final = 33
    BOUNDING: Final = 34
    USER: Final = 35
    CAPS: Final = 36
    NO_NEW_PRIVS: Final = 37
    SECCOMP: Final = 38
    CWD: Final = 39
    READY: Final = 40
    INIT: Final = 41
    EXEC: Final = 42
    DIE_WITH_PARENT: Final = 43


class Flag:
    """enum rl_op_flag of core.h."""

    OPTIONAL: Final = 1 << 0
    ELSE: Final = 1 << 1
    RECURSIVE: Final = 1 << 2
    CREATE: Final = 1 << 3
    STDIN: Final = 1 << 4
    TERMINAL: Final = 1 << 5
    NO_SYMLINKS: Final = 1 << 6


class Operation(NamedTuple):
    """One operation: up to four texts and five numbers, as core.h says for its kind."""

    kind: int
    texts: tuple[Text, ...] = ()
    numbers: tuple[int, ...] = ()
    flags: int = 0

    def describe(self) -> str:
        """What it does, in words, without what cannot be read (seccomp programs, long lists)."""
        words = [_DESCRIPTIONS.get(self.kind) or f"operation {self.kind}"]
        for text in self.texts:
            if isinstance(text, bytes):
                words.append(f"<{len(text)} bytes>")
            elif isinstance(text, str):
                words.append(text)
            elif text:
                words.append("[" + " ".join(text) + "]")
        words += [hex(number) if number > 9 else str(number) for number in self.numbers]
        words += [word for bit, word in _FLAG_WORDS if self.flags & bit]
        return " ".join(words)


_DESCRIPTIONS: Final = {
    value: name.lower().replace("_", " ") for name, value in vars(Kind).items() if isinstance(value, int)
}
_FLAG_WORDS: Final = (
    (Flag.OPTIONAL, "(optional)"),
    (Flag.ELSE, "(or the next)"),
    (Flag.RECURSIVE, "(recursive)"),
    (Flag.CREATE, "(create)"),
)

MAGIC: Final = 0x31504C52
_HEADER: Final = struct.Struct("=IIII")
_OPERATION: Final = struct.Struct("=II4I4I5Q")


def pack(operations: Sequence[Operation], *, clone_flags: int = 0) -> bytes:
    """The plan as the core reads it: header, operations, strings. UsageError for a string that no C program can be given (an image may name one)."""
    area = bytearray()
    start = _HEADER.size + _OPERATION.size * len(operations)
    packed = []
    for operation in operations:
        offsets, counts = [0] * 4, [0] * 4
        for place, text in enumerate(operation.texts):
            if text is None:
                continue
            offsets[place], counts[place] = _append(area, start, text)
        numbers = [number & 0xFFFFFFFFFFFFFFFF for number in operation.numbers]
        packed.append(
            _OPERATION.pack(operation.kind, operation.flags, *offsets, *counts, *numbers, *(0,) * (5 - len(numbers)))
        )
    size = start + len(area)
    return b"".join((_HEADER.pack(MAGIC, size, len(operations), clone_flags), *packed, area))


def _append(area: bytearray, start: int, text: str | bytes | Sequence[str]) -> tuple[int, int]:
    """Put a text at the end of the string area. Returns its offset in the file and its count."""
    if isinstance(text, bytes):
        area.extend(b"\0" * (-(start + len(area)) % 8))  # groups and BPF are read in place
        offset, count = start + len(area), len(text)
        area.extend(text)
        return offset, count
    strings = (text,) if isinstance(text, str) else text
    offset = start + len(area)
    for string in strings:
        try:
            encoded = string.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise UsageError(f"{string!r} is not text") from None
        if b"\0" in encoded:
            raise UsageError(f"{string!r} has a NUL character in it")
        area.extend(encoded + b"\0")
    if not strings:
        area.append(0)  # an empty list is a list
    return offset, 0 if isinstance(text, str) else len(strings)
