"""What is read of the host for a spec, on this very host."""

from __future__ import annotations

import os
import resource
import stat

import pytest

from rootless.engine import facts
from rootless.engine.request import CreateRequest, Namespaces, Ulimit
from rootless.runtime.compile import DEFAULT_DEVICES
from rootless.userns.enter import UserNamespace
from rootless.userns.idmap import IdRange

MAP = (IdRange(0, 1000, 1),)
NAMESPACE = UserNamespace(-1, MAP, MAP)


@pytest.mark.parametrize(
    "release, version",
    [
        ("6.1.0-18-amd64", (6, 1)), ("6.18", (6, 18)), ("5.10", (5, 10)), ("6.12-rc3", (6, 12)), ("4.19-xen-2024-64", (4, 19)),
        ("7.", (7, 0)), ("5.15.153.1-microsoft-standard-WSL2", (5, 15)),
    ],
)  # fmt: skip
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert facts.kernel(release) == version


def test_an_ordinary_request_reads_little() -> None:
    found = facts.gather(CreateRequest("a"), NAMESPACE)
    assert (found.uid_map, found.gid_map) == (MAP, MAP)
    assert found.architecture == os.uname().machine and found.hostname == os.uname().nodename
    assert 39 <= found.last_capability < 64
    assert found.ulimits == {} and found.devices == () and found.dev == frozenset()
    assert found.masked == tuple(path for path in found.masked if path.endswith("/thermal_throttle"))


def test_what_rare_requests_need() -> None:
    found = facts.gather(
        CreateRequest("a", ulimits=(Ulimit("host", 0, 0),), privileged=True, namespaces=Namespaces(ipc="host")),
        NAMESPACE,
    )
    assert found.ulimits["nofile"] == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert "null" in found.dev
    assert list(found.devices) == sorted(set(found.devices))
    own = {f"/dev/{name}" for name in (*DEFAULT_DEVICES, "ptmx", "console")}
    for path in found.devices:
        mode = os.lstat(path).st_mode
        assert stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        assert path not in own and not path.startswith(("/dev/pts/", "/dev/shm/", "/dev/mqueue/", "/dev/fd/"))
        assert os.access(path, os.R_OK)
