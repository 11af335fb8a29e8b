"""`rl ps` and `rl inspect`: the calendar, and lists that outlive damaged entries."""

from __future__ import annotations

import calendar
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.engine import inspect
from rootless.errors import Error
from tests.fakes.containers import commit, empty_paths


@given(st.integers(-62135596800, 253402300799))
def test_seconds_are_those_of_the_calendar(moment: int) -> None:
    parts = time.gmtime(moment)
    text = f"{parts.tm_year:04}-{parts.tm_mon:02}-{parts.tm_mday:02}T{parts.tm_hour:02}:{parts.tm_min:02}:{parts.tm_sec:02}.123456789Z"
    assert inspect.seconds(text) == moment == calendar.timegm(parts)


def test_no_time_is_no_second() -> None:
    assert inspect.seconds("") == 0


def test_containers_are_listed_newest_first_and_without_the_damaged(tmp_path: Path) -> None:
    paths = empty_paths(tmp_path)
    made = [commit(paths, f"name{number}", created=f"2024-01-0{number}T00:00:00.000000000Z") for number in (1, 2, 3)]
    damaged = commit(paths, "damaged")
    Path(paths.container_record(damaged.id)).write_text('{"format":1}')
    assert [entry.container.name for entry in inspect.containers(paths)] == ["name3", "name2", "name1"]
    with pytest.raises(Error):
        inspect.inspect(paths, damaged.id)
    document = inspect.summary(paths, made[0].id).to_json()
    assert (document["Names"], document["State"], document["Created"]) == (["name1"], "created", 1704067200)


def test_inspect_says_where_things_are(tmp_path: Path) -> None:
    paths = empty_paths(tmp_path)
    made = commit(paths, "one")
    document = inspect.inspect(paths, made.id)
    directory = paths.container(made.id)
    assert document["Id"] == made.id and document["Name"] == "one" and document["State"]["Status"] == "created"
    assert document["GraphDriver"]["Data"]["UpperDir"] == f"{directory}/upper"
    assert document["GraphDriver"]["Data"]["LowerDir"] == f"{paths.layer_diff('b' * 64)}:{paths.layer_diff('a' * 64)}"
    assert document["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert document["Config"]["Labels"] == {"k": "v"}
