"""Subordinate ids: what counts in /etc/subuid, and where else they may come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.userns import subid
from rootless.userns.subid import SubidRange

FILE = """\
# comment
alice:100000:65536
bob:165536:65536
1000:300000:10
alice:400000
alice:x:5
alice:1:0
alice:4294967290:10
alice: 5:5
100:700000:5
alice:800000:7
"""


def test_lines_by_name_and_by_uid() -> None:
    found, notes = subid.parse(FILE, uid=1000, user="alice")
    assert found == (SubidRange(100000, 65536), SubidRange(300000, 10), SubidRange(800000, 7))
    assert [note.split(" ")[1] for note in notes] == ["5", "6", "7", "8", "9"]
    assert subid.parse(FILE, uid=1000, user=None)[0] == (SubidRange(300000, 10),)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_bytes(b"\xff\xfe:1:2\nalice:100000:65536\n")
    (tmp_path / "nsswitch.conf").write_text("subid: files # sss\n")
    assert subid.lookup("uid", uid=1, user="alice", etc=str(tmp_path)).ranges == (SubidRange(100000, 65536),)
    missing = subid.lookup("gid", uid=1, user="alice", etc=str(tmp_path))
    assert (missing.ranges, missing.notes) == ((), (f"{tmp_path}/subgid does not exist",))


@pytest.mark.parametrize(
    ("text", "elsewhere"),
    [
        ("subid: files\n", False),
        ("subid:\tsss\n", True),
        ("subid: files sss", True),
        ("#subid: sss", False),
        ("passwd: sss\n", False),
    ],
)
def test_nsswitch(tmp_path: Path, text: str, elsewhere: bool) -> None:
    (tmp_path / "nsswitch.conf").write_text(text)
    assert subid._elsewhere(str(tmp_path / "nsswitch.conf")) is elsewhere
