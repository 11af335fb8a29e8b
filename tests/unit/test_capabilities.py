from __future__ import annotations

from pathlib import Path

import pytest

from rootless.errors import UsageError
from rootless.runtime import capabilities


def test_the_table_is_the_kernel_s() -> None:
    defined = {}
    for line in Path("/usr/include/linux/capability.h").read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "#define" and words[1].startswith("CAP_") and words[2].isdecimal():
            defined[int(words[2])] = words[1].removeprefix("CAP_")
    assert [defined[number] for number in sorted(defined)] == list(capabilities.NAMES)


def test_default_set() -> None:
    assert capabilities.resolve(last=40) == 0x800405FB  # what CapBnd in /proc/PID/status shows in a container of podman


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_ADMIN"], ["CHOWN"], (set(capabilities.DEFAULT_NAMES) | {"NET_ADMIN"}) - {"CHOWN"}),
        (["cap_net_raw"], ["Cap_Kill"], (set(capabilities.DEFAULT_NAMES) | {"NET_RAW"}) - {"KILL"}),
        ([], ["ALL"], set()),
        (["SYS_TIME"], ["all"], {"SYS_TIME"}),
        (["ALL"], [], set(capabilities.NAMES)),
        (["ALL"], ["SYS_ADMIN"], set(capabilities.NAMES) - {"SYS_ADMIN"}),
    ],
)
def test_add_and_drop(add: list[str], drop: list[str], expected: set[str]) -> None:
    assert capabilities.resolve(add, drop, last=40) == capabilities.mask(expected)


def test_an_older_kernel_has_fewer() -> None:
    assert capabilities.resolve(["ALL"], last=37) == 2**38 - 1
    assert capabilities.resolve(last=37, privileged=True) == 2**38 - 1
    with pytest.raises(UsageError, match="BPF"):
        capabilities.resolve(["BPF"], last=37)
    assert capabilities.all_of(63) == 2**41 - 1, "a newer kernel has capabilities that we cannot name"


@pytest.mark.parametrize(("add", "drop"), [(["NOPE"], []), ([""], []), (["CHOWN"], ["CAP_CHOWN"]), (["ALL"], ["ALL"])])
def test_what_cannot_be(add: list[str], drop: list[str]) -> None:
    with pytest.raises(UsageError):
        capabilities.resolve(add, drop, last=40)


def test_names_and_masks_are_inverse() -> None:
    for number, name in enumerate(capabilities.NAMES):
        assert capabilities.mask([name]) == 1 << number
        assert capabilities.names(1 << number) == [f"CAP_{name}"]
