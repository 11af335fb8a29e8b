"""Where things are, and whose: the XDG rules, stores that are not ours, first runs side by side."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rootless import paths as module
from rootless.errors import HostError, StoreError
from rootless.paths import Paths, from_environment

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLES = ("HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    return monkeypatch


def at(place: Path) -> Paths:
    return Paths(root=f"{place}/store", runroot=f"{place}/run", cache=f"{place}/cache", config=f"{place}/config")


def test_the_defaults_of_the_specification(environment: pytest.MonkeyPatch) -> None:
    assert from_environment() == ("/h/.local/share/rl", f"/tmp/rl-{os.getuid()}", "/h/.cache/rl", "/h/.config/rl")


def test_the_variables_of_the_specification(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in zip(VARIABLES[1:], ("/d", str(tmp_path), "/c", "/g"), strict=True):
        environment.setenv(name, value)
    assert from_environment() == ("/d/rl", f"{tmp_path}/rl", "/c/rl", "/g/rl")
    for name in VARIABLES[1:]:
        environment.setenv(name, "relative")
    assert from_environment() == ("/h/.local/share/rl", f"/tmp/rl-{os.getuid()}", "/h/.cache/rl", "/h/.config/rl")


def test_a_runtime_directory_that_is_not_there_is_not_used(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("XDG_RUNTIME_DIR", f"{tmp_path}/gone")
    assert from_environment().runroot == f"/tmp/rl-{os.getuid()}"


def test_directories_that_are_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.chdir(tmp_path)
    found = from_environment("store", "../run")
    assert (found.root, found.runroot) == (f"{tmp_path}/store", f"{tmp_path.parent}/run")


def test_without_home_the_password_database_is_asked(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HOME")
    assert from_environment().config == f"{pwd.getpwuid(os.getuid()).pw_dir}/.config/rl"


def test_every_path_lies_in_its_root() -> None:
    paths = Paths("/r", "/v", "/c", "/g")
    digest = "sha256:" + "a" * 64
    assert paths.blob(digest) == "/r/blobs/sha256/" + "a" * 64
    assert paths.layer_diff(digest) == paths.layer_diff("a" * 64) == f"/r/layers/{'a' * 64}/diff"
    assert paths.partial_blob(digest) == f"/r/tmp/partial/{'a' * 64}"
    assert paths.layer_lock(digest) == f"/v/locks/layer-{'a' * 64}"
    assert paths.container_record("i") == "/r/containers/i/container.json"
    assert (paths.runtime("i"), paths.userns, paths.seccomp_cache) == (
        "/v/containers/i",
        "/v/userns.json",
        "/c/seccomp",
    )


def test_a_new_store_is_private_and_an_image_layout(tmp_path: Path) -> None:
    paths = at(tmp_path)
    paths.prepare()
    paths.prepare()
    for directory in (paths.root, paths.runroot, paths.containers, paths.names, paths.locks, paths.partial):
        assert os.stat(directory).st_mode & 0o777 == 0o700
    assert Path(paths.oci_layout).read_text() == '{"imageLayoutVersion": "1.0.0"}'
    assert Path(paths.version).read_text() == "1\n"
    assert not [name for name in os.listdir(paths.root) if not module._is_ours(name)]


@pytest.mark.parametrize("content", [b"2\n", b"", b"\xff\xfe", b"1\n1\n"])
def test_a_store_of_another_version_is_refused(tmp_path: Path, content: bytes) -> None:
    paths = at(tmp_path)
    paths.prepare()
    Path(paths.version).write_bytes(content)
    with pytest.raises(StoreError, match="has version") as caught:
        paths.prepare()
    assert caught.value.hint


def test_a_directory_of_somebody_elses_is_not_made_a_store(tmp_path: Path) -> None:
    paths = at(tmp_path)
    os.mkdir(paths.root)
    thesis = Path(paths.root, "thesis.tex")
    thesis.touch()
    with pytest.raises(StoreError, match="is not empty and is not a store"):
        paths.prepare()
    assert os.listdir(paths.root) == ["thesis.tex"]
    thesis.unlink()
    paths.prepare()


def test_a_store_that_was_never_finished_is_made_again(tmp_path: Path) -> None:
    paths = at(tmp_path)
    paths.prepare()
    os.rename(paths.version, f"{paths.version}.4711")  # its maker was killed before the rename
    paths.prepare()
    assert Path(paths.version).exists()


def test_a_store_that_cannot_be_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0o500)
    for root in ("/proc/rl", f"{tmp_path}/file", f"{tmp_path}/locked/store"):
        with pytest.raises(StoreError):
            at(tmp_path)._replace(root=root).prepare()


def test_first_runs_side_by_side(tmp_path: Path) -> None:
    program = (
        "import sys, time; from rootless.paths import Paths; place = sys.argv[1]\n"
        "paths = Paths(place + '/store', place + '/run', '', ''); time.sleep(max(0, float(sys.argv[2]) - time.time())); paths.prepare()"
    )
    start = str(time.time() + 0.3)
    makers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), start], cwd=REPOSITORY, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    assert [maker.communicate()[1] for maker in makers] == [b""] * 6
    assert sorted(os.listdir(tmp_path / "store")) == [
        "VERSION",
        "blobs",
        "containers",
        "layers",
        "names",
        "oci-layout",
        "tmp",
        "volumes",
    ]


def test_a_runtime_directory_that_others_could_have_made_is_refused(tmp_path: Path) -> None:
    paths = at(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", paths.runroot)
    with pytest.raises(HostError, match="not a private directory"):
        paths.prepare()
    os.unlink(paths.runroot)
    os.mkdir(paths.runroot)
    for mode in (0o770, 0o702, 0o777):
        os.chmod(paths.runroot, mode)
        with pytest.raises(HostError, match="not a private directory"):
            paths.prepare()
    os.chmod(paths.runroot, 0o755)
    paths.prepare()
    with pytest.raises(HostError, match="not a private directory"):
        paths._replace(runroot="/usr").prepare()
