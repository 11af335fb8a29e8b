"""The modes of the core program that work on files, as Python starts them: whose fault a failure is, and that nobody works on for an rl that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless import _lowlevel
from rootless.errors import Error, HostError
from rootless.userns import enter
from tests.kernel.unpacking import END, Archive


@pytest.fixture(scope="module")
def namespace() -> Iterator[enter.UserNamespace]:
    with enter.create() as made:
        yield made


def unpack(namespace: enter.UserNamespace, directory: Path, archive: bytes) -> _lowlevel.Counts:
    tar = _lowlevel.sealed_file("tar", archive)
    os.lseek(tar, 0, os.SEEK_SET)
    try:
        return _lowlevel.start_unpack(
            userns=namespace.fd, tar=tar, directory=str(directory), single_id=False, durable=False
        ).wait()
    finally:
        os.close(tar)


def test_an_archive_at_fault_is_no_fault_of_the_host(namespace: enter.UserNamespace, tmp_path: Path) -> None:
    with pytest.raises(Error, match="is a link to nothing") as caught:
        unpack(namespace, tmp_path, Archive().symlink("link", "").bytes)
    assert type(caught.value) is Error


def test_a_refusal_of_the_host_carries_its_number(namespace: enter.UserNamespace, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot unpack into .*: no such file or directory") as caught:
        unpack(namespace, tmp_path / "missing", END)
    assert caught.value.number == 2


def test_a_worker_ends_with_rl(namespace: enter.UserNamespace, tmp_path: Path) -> None:
    """What it waits for, a reader of its pipe, is there still: only the death of its parent ends it."""
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    reader, writer = os.pipe()
    script = (
        "import signal, sys\nfrom rootless import _lowlevel\n"
        f"worker = _lowlevel.start_pack(userns={namespace.fd}, directory={str(tmp_path)!r}, tar={writer})\n"
        "print(worker.core.pid, flush=True)\nsignal.pause()\n"
    )
    rl = subprocess.Popen(
        [sys.executable, "-c", script],
        pass_fds=(namespace.fd, writer),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    os.close(writer)
    try:
        assert rl.stdout is not None
        pid = int(rl.stdout.readline())
        assert os.read(reader, 512), "it is at work"
        rl.kill()
        deadline = time.monotonic() + 10
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not alive(pid)
    finally:
        rl.kill()
        rl.wait()
        os.close(reader)


def alive(pid: int) -> bool:
    """Whether a process runs; one that init has not reaped yet does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
