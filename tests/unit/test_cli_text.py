"""What is printed: sizes, spans, tables, templates, errors."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli import columns, template
from rootless.cli.context import complain, printable
from rootless.cli.output import _moment
from rootless.cli.units import human_size, human_span, parse_size, parse_time
from rootless.errors import Error, UsageError
from tests.fakes.sample_images import REPOSITORY


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1024", 1024), ("1b", 1), ("64k", 65536), ("64M", 64 << 20), ("64mb", 64 << 20), ("1.5GiB", 3 << 29), ("2t", 2 << 40), (" 1g ", 1 << 30)],
)  # fmt: skip
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1.m", ".5m", "1x", "1 2", "1mm", "0x10", "²", "1_0", "1e3"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (7_834_000, "7.83MB"), (999_600, "1MB"), (123_456_789, "123MB"), (10**18, "1e+03PB")]
)  # fmt: skip
def test_human_size(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (61, "About a minute"), (150, "2 minutes"), (3600, "About an hour"), (7200, "2 hours"),
     (86400 * 3, "3 days"), (86400 * 21, "3 weeks"), (86400 * 90, "3 months"), (86400 * 800, "2 years")],
)  # fmt: skip
def test_human_span(seconds: int, text: str) -> None:
    assert human_span(seconds) == text


@given(st.datetimes(min_value=datetime.datetime(1, 1, 2), timezones=st.timezones()))
def test_times_as_datetime_reads_them(moment: datetime.datetime) -> None:
    if moment.utcoffset() == datetime.timedelta(
        minutes=round((moment.utcoffset() or datetime.timedelta()).total_seconds() / 60)
    ):
        assert parse_time(moment.isoformat()) == pytest.approx(moment.timestamp(), abs=1e-4)


@pytest.mark.parametrize("text", ["", "now", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00Z"])
def test_parse_time_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


def test_moments_compare_as_texts() -> None:
    assert _moment("--since", "2024-05-01T12:00:00+02:00") == "2024-05-01T10:00:00.000000000Z"
    assert _moment("--since", "1714557600.5") == "2024-05-01T10:00:00.500000000Z"
    assert (_moment("--since", "1h30m") or "") < (_moment("--since", "1h") or "") < (_moment("--since", "5s") or "")
    with pytest.raises(UsageError, match="--until"):
        _moment("--until", "soon")


# ---- tables and templates


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    columns.print_table(["ID", "NAMES"], [["abc123", "web"], ["d", "two\nlines\33[2J"]])
    assert capsys.readouterr().out == "ID       NAMES\nabc123   web\nd        two\\nlines\\x1b[2J\n"


DOCUMENT: dict[str, Any] = {
    "Id": "abc", "State": {"Pid": 7, "Running": True, "None": None}, "Labels": {"b": "2", "a": "1"}, "Ports": {"80/tcp": [{"HostPort": "8080"}]}, "Cmd": ["a", "b"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{.Id}}", "abc"),
        ("pid={{ .State.Pid }}!", "pid=7!"),
        ("{{.State.Running}} {{.State.None}} {{.State.Absent.Deeper}}", "true <no value> <no value>"),
        ("{{.Labels}} {{.Cmd}}", "map[a:1 b:2] [a b]"),
        ("{{json .State.Pid}} {{json .Cmd}}", '7 ["a","b"]'),
        ("{{.Id | upper}}", "ABC"),
        ("{{.Cmd | json}}", '["a","b"]'),
        ('{{join .Cmd ", "}}', "a, b"),
        ('{{index .Labels "a"}} {{index .Cmd 1}}', "1 b"),
        ('{{index .Ports "80/tcp" 0 | json}}', '{"HostPort":"8080"}'),
        ("{{len .Cmd}}", "2"),
        ("a {{- .Id -}} b", "aabcb"),
        ("{{/* nothing */}}x\\ty", "x\ty"),
        ("plain", "plain"),
    ],
)
def test_template(text: str, rendered: str) -> None:
    assert template.Template(text).render(DOCUMENT) == rendered


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Nothing}}", "no field .Nothing"),
        ("{{nonsense .Id}}", "no template function 'nonsense'"),
        ("{{.Id", "without }}"),
        ("{{}}", "empty action"),
        ("{{range .Cmd}}x{{end}}", "not supported yet"),
        ("{{len .State.Pid}}", "cannot evaluate"),
        ("{{index .Cmd 9}}", "cannot evaluate"),
        ("{{$x}}", "no field, string, number or function"),
    ],
)
def test_template_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        template.Template(text).render(DOCUMENT)
    assert message in caught.value.message


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"Names": "web", "Status": "Up"}, {"Names": "longer", "Status": "Created"}]
    template.render_rows("table {{.Names}}\\t{{.Status}}", rows, {"Status": "STATE"})
    assert capsys.readouterr().out == "NAMES    STATE\nweb      Up\nlonger   Created\n"
    template.render_rows("{{.Names}}", rows, {})
    assert capsys.readouterr().out == "web\nlonger\n"
    template.render_rows("json", [], {})
    assert capsys.readouterr().out == "[]\n"


# ---- errors


def test_errors(capsys: pytest.CaptureFixture[str]) -> None:
    complain(Error("cannot do \33[2J it", context="step 1\nstep 2", hint="try\nagain"))
    assert capsys.readouterr().err == "rl: cannot do \\x1b[2J it\n  step 1\n  step 2\nhint: try\nhint: again\n"


@given(st.text())
def test_printable(text: str) -> None:
    assert printable(text).isprintable()


def rl(*words: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rootless", *words], cwd=REPOSITORY, text=True, stderr=subprocess.PIPE, timeout=30, check=False, **streams
    )  # fmt: skip


def test_usage_errors_end_in_two_lines_and_125() -> None:
    done = rl("run", "--zzz", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "rl: no such option: --zzz\nhint: see 'rl run --help'\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = rl("completion", "bash", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_closed_streams_are_no_error(closed: str) -> None:
    redirections = " ".join(f"{descriptor}>&-" for descriptor in closed.split())
    command = f"{sys.executable} -m rootless version {redirections}"
    assert subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, check=False).returncode == 0


def test_a_fault_of_ours_is_one_line() -> None:
    """An exception that nobody foresaw (put in here) ends as any error does; a traceback only with --debug."""
    script = "import sys; from rootless.cli import main; main._run = lambda _: 1 / 0; sys.exit(main.main(sys.argv[1:]))"
    for words, traceback in (["version"], False), (["--debug", "version"], True):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=REPOSITORY, text=True, capture_output=True, check=False
        )
        assert done.returncode == 125
        assert "rl: internal error: ZeroDivisionError: division by zero\nhint: " in done.stderr
        assert ("Traceback" in done.stderr) is traceback
