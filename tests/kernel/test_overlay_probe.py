"""The probe of the storage drivers, on this kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless import fuse_overlay
from rootless.fuse_overlay import Overlay, probe
from rootless.userns import enter


@pytest.fixture(scope="module")
def userns() -> Iterator[int]:
    with enter.create() as namespace:
        yield namespace.fd


def test_this_host(userns: int, tmp_path: Path) -> None:
    found = probe.probe(userns, str(tmp_path))
    assert (found.overlay, found.fuse) == (0, 0)
    assert found.fuse_overlayfs == fuse_overlay.find_fuse_overlayfs()
    assert bool(found.version) == bool(found.fuse_overlayfs)
    assert fuse_overlay.choose(None, found).driver == "overlay"
    assert os.listdir(tmp_path) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(("mount", "outcome"), [(probe.mount_kernel, errno.EINVAL), (probe.mount_ours, 0)])
def test_an_upper_layer_on_an_overlay(
    userns: int, tmp_path: Path, mount: Callable[[Overlay], None], outcome: int
) -> None:
    """As in a container in a container: the kernel refuses, ours does not care."""
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer").chmod(0o755)

    def nested(overlay: Overlay) -> None:
        outer = {name: f"{overlay.target}-{name}" for name in ("lower", "upper", "work", "root")}
        for path in outer.values():
            os.mkdir(path)
        probe.mount_kernel(Overlay("overlay", (outer["lower"],), outer["upper"], outer["work"], outer["root"]))
        for name in ("upper", "work"):
            os.mkdir(f"{outer['root']}/{name}")
        inner = overlay._replace(upper=f"{outer['root']}/upper", work=f"{outer['root']}/work")
        mount(inner)

    assert probe.attempt(userns, str(tmp_path / "outer"), nested) == outcome


def test_a_refusal_is_an_errno(userns: int, tmp_path: Path) -> None:
    def refuse(overlay: Overlay) -> None:
        probe.mount_kernel(overlay._replace(work=overlay.upper))  # a kernel wants two directories

    assert probe.attempt(userns, str(tmp_path), refuse) == errno.EINVAL
    assert os.listdir(tmp_path) == []


def test_conditions(tmp_path: Path) -> None:
    conditions = fuse_overlay.conditions(str(tmp_path))
    assert conditions == fuse_overlay.conditions(str(tmp_path))
    assert conditions.kernel == os.uname().release
    assert fuse_overlay.conditions("/proc") != conditions
