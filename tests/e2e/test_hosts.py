"""Hosts that make it hard: old or filtered kernels, low limits, homes and runtime directories that are missing or full, one id, rl inside rl.

Everywhere it works, or it is one clear line with what mends it; never a traceback, and nothing is left behind (the `rl` fixture looks).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from rootless.userns import subid
from tests.fakes.sample_images import REPOSITORY
from tests.runner import Result, Rl

HELLO = ("run", "--rm", "--network", "none", "alpine", "echo", "hello")


def complains(result: Result, *, code: int = 125) -> str:
    """The one line of an error, after what is wrong with how it was told."""
    lines = [line for line in result.err.splitlines() if not line.startswith("warning: ")]
    assert result.code == code and result.out == "", result
    assert lines and lines[0].startswith("rl: ") and len(lines) <= 2, result
    assert all(line.startswith("hint: ") for line in lines[1:]), result
    assert "internal error" not in result.err and "Traceback" not in result.err, result
    return result.err


# ---- kernels


def refusing(rl: Rl, word: str, calls: str) -> Rl:
    other = rl.launched_by(sys.executable, "-m", "tests.fakes.refusing", word, calls)
    other.environment["PYTHONPATH"] = str(REPOSITORY)
    return other


@pytest.mark.parametrize("calls", ["clone3,close_range,pidfd_open,pidfd_send_signal,statx,faccessat2"])
@pytest.mark.parametrize("word", ["ENOSYS", "EPERM"])
def test_calls_that_are_done_without(rl: Rl, word: str, calls: str) -> None:
    assert refusing(rl, word, calls).ok(*HELLO) == "hello"


@pytest.mark.parametrize(
    ("word", "call"),
    [("ENOSYS", call) for call in ("openat2", "open_tree", "mount_setattr", "setns")]
    + [("EPERM", call) for call in ("openat2", "move_mount", "clone", "mount", "pivot_root")],
)
def test_calls_that_are_needed(rl: Rl, word: str, call: str) -> None:
    text = complains(refusing(rl, word, call)(*HELLO))
    assert {"ENOSYS": "not implemented", "EPERM": "not permitted"}[word] in text and "hint: " in text


@pytest.mark.parametrize("call", ["memfd_create", "execveat"])
def test_calls_that_start_the_core(rl: Rl, call: str) -> None:
    assert "cannot start the core program: function not implemented" in complains(refusing(rl, "ENOSYS", call)(*HELLO))


# ---- limits


def limited(rl: Rl, limit: str) -> Rl:
    return rl.launched_by("/bin/bash", "-c", f'ulimit {limit} && exec "$0" "$@"')


def test_few_open_files(rl: Rl) -> None:
    """Guard: descriptors are moved no farther than they must in become() of host.c."""
    assert limited(rl, "-n 64").ok(*HELLO) == "hello"
    assert limited(rl, "-n 64").ok("run", "--rm", "alpine", "echo", "hello") == "hello"
    assert "ulimit -n" in complains(limited(rl, "-n 16")(*HELLO))


def test_few_processes(rl: Rl) -> None:
    assert "ulimit -u" in complains(limited(rl, "-u 1")(*HELLO))


def test_files_may_not_grow(rl: Rl) -> None:
    assert "file too large" in complains(limited(rl, "-f 0")(*HELLO))
    assert "file too large" in complains(limited(rl, "-f 100")(*HELLO))


# ---- directories


def test_no_runtime_directory(rl: Rl, tmp_path: Path) -> None:
    rl.environment["XDG_RUNTIME_DIR"] = str(tmp_path / "missing")
    assert rl.ok(*HELLO) == "hello"
    del rl.environment["XDG_RUNTIME_DIR"]
    assert rl.ok(*HELLO) == "hello"
    assert os.listdir(f"/tmp/rl-{os.getuid()}/containers") == []


def test_a_runtime_directory_of_somebody_else(rl: Rl, tmp_path: Path) -> None:
    (tmp_path / "rl").symlink_to("/run")
    text = complains(rl.having(XDG_RUNTIME_DIR=str(tmp_path))(*HELLO))
    assert "is not a private directory of this user" in text and "--runroot" in text


def test_a_cache_that_cannot_be_written(rl: Rl, tmp_path: Path) -> None:
    """Guard: a cache is a convenience (runtime/seccomp.py)."""
    (tmp_path / "file").touch()
    assert rl.having(XDG_CACHE_HOME=str(tmp_path / "file")).ok(*HELLO) == "hello"


def test_a_home_that_cannot_be_written(rl: Rl, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    home = {name: str(tmp_path / "home") for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "HOME")}
    assert rl.having(**home).ok(*HELLO) == "hello"  # the store is elsewhere (--root)
    other = rl.having(**home)
    other.command = tuple(word for word in other.command if word not in ("--root", rl.root))
    if "--root" in rl.command:
        text = complains(other("images")).lower()
        assert "cannot make" in text and "permission denied" in text


def test_a_store_without_space(rl: Rl, tmp_path: Path) -> None:
    """On a tmpfs that is too small, in a mount namespace of our own. When there is space again, all is well."""
    root = next(iter(sorted(Path(os.environ.get("RL_TEST_IMAGES", REPOSITORY.parent / "shared/images")).glob(f"*-{os.uname().machine}.tar.gz"))), None)  # fmt: skip
    if root is None:
        pytest.skip("needs a root as a tar")
    shutil.copy(root, tmp_path / "root.tar.gz")
    words = " ".join(rl.command[:1])
    script = f"""
        mount -t tmpfs -o size=14m tmpfs {tmp_path}/store
        rl() {{ {words} --root {tmp_path}/store --runroot {tmp_path}/run "$@"; }}
        rl import -q {tmp_path}/root.tar.gz small || echo "code $?"
        head -c 20m /dev/zero >{tmp_path}/store/tmp/fill 2>/dev/null
        rl run --rm --network none small echo hello || echo "code $?"
        rl images -q >/dev/null || echo "code $?"
        rm {tmp_path}/store/tmp/fill
        mount -o remount,size=200m {tmp_path}/store
        rl import -q {tmp_path}/root.tar.gz small >/dev/null && rl run --rm --network none small echo again
        ls -A {tmp_path}/store/containers {tmp_path}/store/names
        ls -A {tmp_path}/store/tmp
    """
    (tmp_path / "store").mkdir()
    unshared = rl.having()
    unshared.command = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount", "bash", "-c", script)
    result = unshared()
    assert "internal error" not in result.err and "Traceback" not in result.err, result
    assert "no space left on device" in result.err
    assert result.out.splitlines().count("code 125") >= 1
    assert result.out.split("again\n")[1].split() == [f"{tmp_path}/store/containers:", f"{tmp_path}/store/names:", "partial"], result  # fmt: skip


# ---- ids


def test_one_id(rl: Rl) -> None:
    """In a user namespace with one id, as root of it; newuidmap is of no use there."""
    result = rl.launched_by("unshare", "--user", "--map-root-user", "--")(*HELLO[:-2], "cat", "/proc/self/uid_map")
    assert result.out.split() == ["0", "0", "1"], result


def test_without_newuidmap(rl: Rl, tmp_path: Path) -> None:
    """One id, with a notice of what that costs."""
    for program in ("slirp4netns", "fuse-overlayfs", "fusermount3"):
        if found := shutil.which(program, path=rl.environment["PATH"]):
            (tmp_path / program).symlink_to(found)
    other = rl.having(PATH=str(tmp_path))
    result = other(*HELLO)
    assert result.code == 0 and result.out == "hello\n", result
    assert "newuidmap" in result.err and "rl doctor" in result.err


# ---- inside of rl


def nested(rl: Rl, *options: str, command: tuple[str, ...] = HELLO) -> Result:
    """`rl` in a container whose programs are the host's, with a store of its own that has this one's image."""
    archive = f"{rl.home}/alpine.tar"
    if not os.path.exists(archive):
        rl.ok("save", "-q", "-o", archive, "alpine")
    binds = [
        path for path in ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", str(REPOSITORY)) if os.path.isdir(path)
    ]
    mounts = [word for path in binds for word in ("-v", f"{path}:{path}:ro")]
    inner = " ".join(rl.command[:1])
    script = f"export HOME=/root PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin; {inner} load -q -i /alpine.tar >/dev/null && exec {inner} {' '.join(command)}"
    return rl("run", "--rm", *options, *mounts, "-v", f"{archive}:/alpine.tar:ro", "-v", "/root", "alpine", "/usr/bin/bash", "-c", script)  # fmt: skip


needs_subids = pytest.mark.skipif(
    not subid.ranges("uid", uid=os.getuid(), user=None) and not os.path.exists("/etc/subuid"), reason="one id only"
)


@needs_subids
def test_nested_in_the_default_policy(rl: Rl) -> None:
    result = nested(rl, "--network", "none")
    assert "a seccomp filter of an outer container" in complains(result)


@needs_subids
def test_nested_with_what_is_masked(rl: Rl) -> None:
    """Operation ELSE of the plan: the outer /proc is bound, which is said; its default sysctls are left out."""
    result = nested(rl, "--network", "none", "--security-opt", "seccomp=unconfined")
    assert (result.code, result.out) == (0, "hello\n"), result
    assert "does not let a fresh proc be mounted" in result.err


@needs_subids
def test_nested_with_everything(rl: Rl) -> None:
    options = ("--network", "none", "--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL")
    result = nested(rl, *options, "--device", "/dev/fuse")
    assert (result.code, result.out, result.err) == (0, "hello\n", ""), result


@needs_subids
def test_nested_without_a_tun_device(rl: Rl) -> None:
    options = ("--network", "none", "--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL")
    result = nested(rl, *options, command=("run", "--rm", "alpine", "true"))
    assert "/dev/net/tun" in complains(result) and "--device /dev/net/tun" in result.err
