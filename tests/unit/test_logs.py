"""Logs: records parsed, and the tail found backwards as a plain reading from the start would find it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.engine import logs
from rootless.engine.logs import Record, parse
from rootless.errors import NotFound
from rootless.paths import Paths
from tests.fakes.containers import commit, empty_paths

T = b"2024-05-01T12:00:00.000000000Z"


@pytest.mark.parametrize(
    "line, record",
    [
        (T + b" stdout F hello\n", Record(T.decode(), "stdout", b"hello\n")),
        (T + b" stderr P hel\n", Record(T.decode(), "stderr", b"hel")),
        (T + b" stdout F \n", Record(T.decode(), "stdout", b"\n")),
        (T + b" stdout P \n", Record(T.decode(), "stdout", b"")),
        (T + b" stdout F  a  b\xff\0\n", Record(T.decode(), "stdout", b" a  b\xff\0\n")),
        (T + b" stdout F torn", None), (T + b" stdout X a\n", None), (T + b" stdout F\n", None), (b"\n", None), (b"", None), (b"a b c\n", None),
    ],
)  # fmt: skip
def test_records(line: bytes, record: Record | None) -> None:
    assert parse(line) == record


# ---- the tail

records = st.tuples(st.sampled_from([b"stdout", b"stderr"]), st.sampled_from([b"F", b"P"]), st.binary(max_size=12)).map(
    lambda parts: b" ".join((T, *parts[:2], parts[2].replace(b"\n", b"x"))) + b"\n"
)
noise = st.sampled_from([b"\n", b"no record\n", b"a b Q c\n", b"x" * 40 + b"\n"])
torn = st.one_of(st.just(b""), records.map(lambda line: line[:-1]), st.just(b"20"))


def naive_tail(lines: list[bytes], wanted: int) -> int:
    """The offset by reading from the start: a line is what an F ends, or what is begun by the end of the log."""
    if wanted <= 0:
        return sum(map(len, lines))
    kinds = [parts[2] if len(parts := line.split(b" ", 3)) == 4 and line.endswith(b"\n") else b"" for line in lines]
    ends = [index for index, kind in enumerate(kinds) if kind == b"F"]
    begun = [index for index, kind in enumerate(kinds) if kind == b"P"]
    if begun and begun[-1] > (ends[-1] if ends else -1):
        ends.append(begun[-1])
    first = ends[-wanted - 1] + 1 if len(ends) > wanted else 0
    return sum(map(len, lines[:first]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(records, records, records, noise), max_size=12), torn, st.integers(0, 6), st.sampled_from([1, 2, 7, 64, 1 << 16])
)  # fmt: skip
def test_the_tail_is_where_a_plain_reading_finds_it(lines: list[bytes], rest: bytes, wanted: int, block: int) -> None:
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_BLOCK", block)
        file.write(b"".join(lines) + rest)
        file.flush()
        assert logs._start_of_tail(file.fileno(), wanted) == naive_tail([*lines, rest] if rest else lines, wanted)


# ---- a container's log


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return empty_paths(tmp_path)


def log_of(paths: Paths, data: bytes, *, started: bool = True) -> str:
    made = commit(paths)
    directory = paths.container(made.id)
    if data:
        Path(f"{directory}/log").write_bytes(data)
    if started:
        Path(f"{directory}/exit.json").write_text('{"startedAt":"t1","finishedAt":"t2","exitCode":0}')
    return made.id


def at(second: int, text: str, kind: str = "F") -> bytes:
    return f"2024-05-01T12:00:{second:02}.000000000Z stdout {kind} {text}\n".encode()


def said(found: Iterator[Record]) -> str:
    return b"".join(record.data for record in found).decode()


def test_a_log_is_read_from_its_start_its_tail_or_a_moment(paths: Paths) -> None:
    made = log_of(
        paths,
        b"".join(at(second, f"line{second}") for second in range(5)) + at(5, "an", "P") + at(6, "end") + b"2024 torn",
    )
    assert said(logs.read(paths, made)) == "line0\nline1\nline2\nline3\nline4\nanend\n"
    assert said(logs.read(paths, made, tail=2)) == "line4\nanend\n"
    assert said(logs.read(paths, made, tail=0)) == ""
    assert said(logs.read(paths, made, tail=100)).startswith("line0")
    since, until = "2024-05-01T12:00:01.000000000Z", "2024-05-01T12:00:03.000000000Z"
    assert said(logs.read(paths, made, since=since, until=until)) == "line1\nline2\nline3\n"
    assert said(logs.read(paths, made, tail=5, until=until)) == "line1\nline2\nline3\n"
    assert said(logs.read(paths, made, follow=True)).endswith("anend\n"), "nobody writes any more"


def test_a_container_without_a_log(paths: Paths) -> None:
    assert list(logs.read(paths, log_of(paths, b"", started=False))) == []
    with pytest.raises(NotFound, match="keeps no log"):
        list(logs.read(paths, log_of(paths, b"")))


def test_a_log_is_not_read_over_a_symlink(paths: Paths) -> None:
    made = log_of(paths, b"")
    os.symlink("/etc/passwd", f"{paths.container(made)}/log")
    with pytest.raises(NotFound, match="cannot read"):
        list(logs.read(paths, made))


def test_the_last_words_are_read_after_the_writer_has_gone() -> None:
    pieces = iter([b"a\n", b"", b"b", b"", b"c\n", b""])
    assert list(logs._lines(lambda: next(pieces), iter([True, False]).__next__)) == [b"a\n", b"bc\n"]
