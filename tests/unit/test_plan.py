"""Packing a plan, read back by a decoder that knows core.h and not the packer."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import UsageError
from rootless.runtime.plan import Flag, Kind, Operation, pack

HEADER, OPERATION = 16, 80  # sizeof struct rl_plan_header, struct rl_op

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
texts = st.one_of(st.none(), words, st.binary(min_size=1, max_size=40), st.lists(words, max_size=5).map(tuple))
operations = st.builds(
    Operation,
    st.integers(0, 2**32 - 1),
    st.lists(texts, max_size=4).map(tuple),
    st.lists(st.integers(0, 2**64 - 1), max_size=5).map(tuple),
    st.integers(0, 2**32 - 1),
)


def decode(data: bytes, shapes: list[Operation]) -> tuple[list[Operation], int]:
    """As plan.c reads it. What a text is (one string, so many, a blob) depends on the kind there; here on the text that was packed."""
    magic, size, count, clone_flags = struct.unpack_from("=4s3I", data)
    assert (magic, size, count) == (b"RLP1", len(data), len(shapes))
    found = []
    for index, shape in enumerate(shapes):
        at = HEADER + index * OPERATION
        kind, flags = struct.unpack_from("=2I", data, at)
        offsets, counts = struct.unpack_from("=4I", data, at + 8), struct.unpack_from("=4I", data, at + 24)
        numbers = struct.unpack_from("=5Q", data, at + 40)
        read = tuple(map(text_at, [data] * 4, offsets, counts, shape.texts))
        assert not any(offsets[len(shape.texts) :]) and not any(counts[len(shape.texts) :])
        assert not any(numbers[len(shape.numbers) :])
        found.append(Operation(kind, read, numbers[: len(shape.numbers)], flags))
    return found, clone_flags


def text_at(data: bytes, offset: int, count: int, shape: Any) -> Any:
    if offset == 0:
        assert count == 0
        return None
    assert offset >= HEADER + OPERATION
    if isinstance(shape, bytes):
        assert offset % 8 == 0, "BPF and groups are read in place"
        assert offset + count <= len(data)
        return data[offset : offset + count]
    strings = []
    for _ in range(count or 1):
        end = data.index(b"\0", offset)
        strings.append(data[offset:end].decode())
        offset = end + 1
    return strings[0] if isinstance(shape, str) else tuple(strings[:count])


@given(st.lists(operations, max_size=6), st.integers(0, 2**32 - 1))
def test_what_is_packed_is_read_back(plan: list[Operation], clone_flags: int) -> None:
    assert decode(pack(plan, clone_flags=clone_flags), plan) == (plan, clone_flags)


def test_negative_numbers_are_the_bits_of_unsigned_ones() -> None:
    packed = pack([Operation(Kind.RLIMIT, (), (-1, -(2**63)))])
    assert struct.unpack_from("=2Q", packed, HEADER + 40) == (2**64 - 1, 2**63)


def test_bytes_of_file_names_survive() -> None:
    assert pack([Operation(Kind.CWD, (b"/\xff\xfe".decode("utf-8", "surrogateescape"),))]).endswith(b"/\xff\xfe\0")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize("place", [lambda text: text, lambda text: ("a", text)])
def test_what_no_c_program_can_be_given_is_refused(text: str, place: Any) -> None:
    with pytest.raises(UsageError, match="'"):
        pack([Operation(Kind.EXEC, (place(text),))])


def test_operations_describe_themselves() -> None:
    assert Operation(Kind.HOSTNAME, ("web",)).describe() == "hostname web"
    mount = Operation(Kind.MOUNT, ("tmpfs", "/dev", "tmpfs", None), (2,), Flag.CREATE | Flag.OPTIONAL)
    assert mount.describe() == "mount tmpfs /dev tmpfs 2 (optional) (create)"
    assert Operation(Kind.SECCOMP, (b"x" * 80,), (3,)).describe() == "seccomp <80 bytes> 3"
    assert Operation(Kind.EXEC, (("/bin/a", "/a"), ("a", "-b"), ())).describe() == "exec [/bin/a /a] [a -b]"
    assert Operation(Kind.CAPS, (), (0, 255)).describe() == "caps 0 0xff"
    assert Operation(99).describe() == "operation 99"
