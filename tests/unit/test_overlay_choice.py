"""Which driver, what is said about it, and how it is mounted."""

from __future__ import annotations

import errno
import sys

import pytest

from rootless import fuse_overlay
from rootless.errors import HostError, UsageError
from rootless.fuse_overlay import Choice, Conditions, Overlay, Probe

ALL = Probe(0, 0, "/usr/bin/fuse-overlayfs", "1.10")
CONDITIONS = Conditions("6.1.0", "b", 5, "/usr/bin/fuse-overlayfs", True)


def overlay(driver: fuse_overlay.Driver, *lower: str, read_only: bool = False) -> Overlay:
    return Overlay(driver, lower or ("/l2", "/l1"), "/c/upper", "/c/work", "/c/rootfs", read_only)


def test_the_best_needs_no_words() -> None:
    assert fuse_overlay.choose(None, ALL) == Choice("overlay")
    assert fuse_overlay.choose(None, Probe(0, errno.ENOENT)) == Choice("overlay")


def test_what_is_lost_is_said() -> None:
    choice = fuse_overlay.choose(None, ALL._replace(overlay=errno.EPERM))
    assert choice.driver == "fuse-overlayfs"
    assert choice.notice
    assert "operation not permitted" in choice.notice
    assert choice.hint
    assert "5.11" in choice.hint
    choice = fuse_overlay.choose(None, Probe(errno.EINVAL, 0))
    assert (choice.driver, bool(choice.hint)) == ("fuse", True)
    assert choice.notice
    assert "not installed" in choice.notice


def test_a_version_that_is_said_to_corrupt_is_not_chosen() -> None:
    probe = Probe(errno.EPERM, 0, "/usr/bin/fuse-overlayfs", "1.16")
    assert fuse_overlay.choose(None, probe).driver == "fuse"
    assert fuse_overlay.choose("fuse-overlayfs", probe) == Choice("fuse-overlayfs")


def test_nothing_works() -> None:
    with pytest.raises(HostError, match="FUSE mounts are not possible"):
        fuse_overlay.choose(None, Probe(errno.EPERM, errno.ENOENT, "/usr/bin/fuse-overlayfs", "1.10"))


@pytest.mark.parametrize("driver", fuse_overlay.DRIVERS)
def test_forced(driver: str) -> None:
    assert fuse_overlay.choose(driver, ALL) == Choice(driver)  # type: ignore[arg-type]
    with pytest.raises(HostError, match=f"cannot use the storage driver {driver}"):
        fuse_overlay.choose(driver, Probe(errno.EPERM, errno.ENOENT))
    with pytest.raises(UsageError):
        fuse_overlay.choose("vfs", ALL)


def test_kernel_options() -> None:
    assert fuse_overlay.mount_options(overlay("overlay")) == (
        "userxattr,index=off,lowerdir=/l2:/l1,upperdir=/c/upper,workdir=/c/work"
    )
    assert fuse_overlay.mount_options(overlay("overlay", read_only=True)) == "userxattr,index=off,lowerdir=/l2:/l1"
    volatile = fuse_overlay.mount_options(overlay("overlay")._replace(volatile=True))
    assert volatile.startswith("userxattr,index=off,volatile,")
    assert fuse_overlay.helper_argv(overlay("overlay")) is None


def test_fuse_overlayfs() -> None:
    argv = fuse_overlay.helper_argv(overlay("fuse-overlayfs", "/a,b", "/c\\d"), fuse_overlayfs="/opt/f")
    assert argv == ("/opt/f", "-f", "-o", r"lowerdir=/a\,b:/c\\d,upperdir=/c/upper,workdir=/c/work", "/c/rootfs")
    assert fuse_overlay.helper_argv(overlay("fuse-overlayfs", read_only=True)) == (
        *("fuse-overlayfs", "-f", "-o", "lowerdir=/l2:/l1,ro", "/c/rootfs"),
    )
    with pytest.raises(HostError, match="has a colon"):
        fuse_overlay.helper_argv(overlay("fuse-overlayfs", "/a:b"))


def test_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--lower", "/l:2", "--lower", "/l1", "--upper", "/c/upper", "--work", "/c/work", "/c/rootfs")
    argv = fuse_overlay.helper_argv(overlay("fuse", "/l:2", "/l1"))
    assert argv
    assert argv[:2] == (sys.executable, "-IS")
    assert argv[-len(words) :] == words
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert fuse_overlay.helper_argv(overlay("fuse", "/l:2", "/l1")) == (sys.executable, "__fuse-overlay", *words)


def test_the_arguments_of_ours() -> None:
    from rootless.fuse_overlay.__main__ import Arguments, parse

    argv = fuse_overlay.helper_argv(overlay("fuse")._replace(volatile=True))
    assert argv
    assert parse([*argv[5:]]) == Arguments(("/l2", "/l1"), "/c/upper", "/c/work", "/c/rootfs", True)
    assert parse(["--lower", "/2", "--lower", "/1", "/t"]) == Arguments(("/2", "/1"), None, None, "/t")
    for words in (
        [],
        ["/t"],
        ["--lower"],
        ["--lower", "/1"],
        ["--lower", "/1", "--upper", "/u", "/t"],
        ["--x", "y", "/t"],
    ):
        with pytest.raises(UsageError):
            parse(words)


def test_cached_probe() -> None:
    document = fuse_overlay.to_document(ALL, CONDITIONS, now=1000)
    assert fuse_overlay.from_document(document, CONDITIONS, now=10**9) == ALL
    assert fuse_overlay.from_document(document, CONDITIONS._replace(device=6), now=1001) is None
    assert fuse_overlay.from_document(None, CONDITIONS, now=1001) is None
    assert fuse_overlay.from_document({"conditions": CONDITIONS._asdict()}, CONDITIONS, now=1001) is None
    poor = ALL._replace(overlay=errno.EPERM)
    document = fuse_overlay.to_document(poor, CONDITIONS, now=1000)
    assert fuse_overlay.from_document(document, CONDITIONS, now=1100) == poor
    assert fuse_overlay.from_document(document, CONDITIONS, now=2000) is None, "it may have been mended"
