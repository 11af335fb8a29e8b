"""The numbers of core.h and those that Python knows them by are the same."""

from __future__ import annotations

import re
from pathlib import Path

from rootless import _lowlevel
from rootless.runtime import plan

HEADER = Path(_lowlevel.__file__).with_name("core.h").read_text()


def enum(prefix: str) -> dict[str, int]:
    """NAME -> value for every `PREFIX_NAME = value` of the header; values are numbers or `1u << n`."""
    found = re.findall(rf"\b{prefix}_(\w+) = (?:1u << )?(\d+)", HEADER)
    shifted = set(re.findall(rf"\b{prefix}_(\w+) = 1u << ", HEADER))
    return {name: 1 << int(value) if name in shifted else int(value) for name, value in found}


def constants(holder: type) -> dict[str, int]:
    return {name: value for name, value in vars(holder).items() if name.isupper()}


def test_operations_have_the_numbers_of_the_header() -> None:
    flags = constants(plan.Flag)
    numbers = enum("RL_OP")
    assert {name: numbers[name] for name in flags} == flags
    assert {name: value for name, value in numbers.items() if name not in flags} == constants(plan.Kind)


def test_messages_have_the_numbers_of_the_header() -> None:
    ours = {name[4:]: value for name, value in vars(_lowlevel).items() if name.startswith("MSG_")}
    assert ours == enum("RL_MSG")


def test_every_setup_step_has_words() -> None:
    assert set(enum("RL_SETUP").values()) == set(_lowlevel.SETUP_STEPS)


def test_a_packed_plan_has_the_sizes_of_the_header() -> None:
    operation = plan.Operation(plan.Kind.EXEC, (("/bin/true",), ("true",), ()), (1, 2, 3, 4, 5))
    packed = plan.pack([operation], clone_flags=7)
    assert len(packed) == 16 + 80 + len(b"/bin/true\0true\0\0")
    assert packed[:16] == b"RLP1" + len(packed).to_bytes(4, "little") + b"\1\0\0\0\7\0\0\0"
