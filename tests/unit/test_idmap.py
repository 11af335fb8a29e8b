"""Id maps: the default one, and what the kernel takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import HostError
from rootless.userns import idmap
from rootless.userns.idmap import IdRange

RANGES = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 200)), max_size=400)


def test_default_map() -> None:
    made = idmap.default_map(1000, [(100000, 65536), (200000, 10)])
    assert made == (IdRange(0, 1000, 1), IdRange(1, 100000, 65536), IdRange(65537, 200000, 10))
    assert idmap.newidmap_arguments(made) == ["0", "1000", "1", "1", "100000", "65536", "65537", "200000", "10"]
    assert idmap.default_map(1000, []) == (IdRange(0, 1000, 1),)


def test_default_map_leaves_out_what_is_mapped_already() -> None:
    assert idmap.default_map(1000, [(999, 3), (1000, 4)]) == (
        IdRange(0, 1000, 1),
        IdRange(1, 999, 1),
        IdRange(2, 1001, 1),
        IdRange(3, 1002, 2),
    )


@given(st.integers(0, 3000), RANGES)
def test_the_kernel_takes_every_default_map(own: int, ranges: list[tuple[int, int]]) -> None:
    made = idmap.default_map(own, ranges)
    idmap.check(made)
    assert idmap.count(made) == max(line.inside + line.size for line in made)
    for inside in (0, idmap.count(made) - 1):
        outside = idmap.to_outside(made, inside)
        assert outside is not None
        assert idmap.to_inside(made, outside) == inside
    assert idmap.to_outside(made, idmap.count(made)) is None


@given(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2), st.integers(1, 2**32))
def test_no_overflow(own: int, start: int, size: int) -> None:
    idmap.check(idmap.default_map(own, [(start, size)]))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [(0, 0, 0)],
        [(0, -1, 1)],
        [(0, 2**32 - 2, 2)],
        [(2**32 - 2, 0, 2)],
        [(0, 0, 10), (9, 100, 1)],
        [(0, 0, 10), (100, 9, 1)],
        [(i, i, 1) for i in range(341)],
        [(4000000000 + i, 4000000000 + i, 1) for i in range(200)],
    ],
)
def test_check(lines: list[tuple[int, int, int]]) -> None:
    with pytest.raises(HostError):
        idmap.check(tuple(IdRange(*line) for line in lines))


def test_proc() -> None:
    assert idmap.parse_proc("         0       1001          1\n         1     100000      65536\n") == (
        IdRange(0, 1001, 1),
        IdRange(1, 100000, 65536),
    )
    assert idmap.parse_proc("") == ()
    with pytest.raises(ValueError):
        idmap.parse_proc("0 1\n")
