"""What the tests of the command stand on: a registry that serves `alpine`, a store that has it, and a watch over what is left behind.

`rl`        an `rl` with a fresh home and runtime directory, on a store shared by the tests of this worker that holds `alpine`
`plain_rl`  as `rl`, without a settings file
`fresh_rl`  as `rl`, on an empty store
`driver_rl` as `rl`, three times: once per storage driver
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import configuration, settings

from tests.fakes import leaks, sample_images
from tests.fakes.docker_registry import DockerRegistry
from tests.runner import Rl

# The same examples each time where a red run stops everybody; new ones wherever somebody works.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
# Hypothesis keeps what it found beside the tests, unless told: the checkout may belong to another user.
configuration.set_hypothesis_home_dir(f"{tempfile.gettempdir()}/rl-hypothesis-{os.getuid()}")

STORAGE_DRIVERS = ("overlay", "fuse-overlayfs", "fuse")
COMMAND = os.environ.get("RL_TEST_COMMAND") or str(sample_images.REPOSITORY / ".venv" / "bin" / "rl")

# What may lie in a runtime directory in which nothing runs, and in the tmp/ of a store at rest.
RUNTIME_AT_REST = ("containers", "locks", "userns.json")
STORE_TMP_AT_REST = ("partial",)


@pytest.fixture(scope="session")
def registry() -> Iterator[DockerRegistry]:
    """A real registry on loopback with `library/alpine`, tags 3.20 and latest, for amd64 and arm64."""
    with DockerRegistry() as server:
        sample_images.push(server, "library/alpine", ["3.20", "latest"])
        yield server


@pytest.fixture(scope="session")
def shared_store(registry: DockerRegistry) -> Iterator[str]:
    """The root directory of a store that holds `alpine`."""
    place = temporary()
    rl = make_rl(place, registry, root=f"{place}/store")
    rl.ok("pull", "-q", "alpine")
    yield rl.root
    remove(place)


@pytest.fixture
def rl(registry: DockerRegistry, shared_store: str, request: pytest.FixtureRequest) -> Iterator[Rl]:
    yield from watched(registry, shared_store, request)


@pytest.fixture
def plain_rl(rl: Rl) -> Rl:
    shutil.rmtree(f"{rl.environment['XDG_CONFIG_HOME']}/rl")
    return rl


@pytest.fixture
def fresh_rl(registry: DockerRegistry, request: pytest.FixtureRequest) -> Iterator[Rl]:
    yield from watched(registry, None, request)


@pytest.fixture(params=STORAGE_DRIVERS)
def driver_rl(rl: Rl, request: pytest.FixtureRequest) -> Rl:
    return rl.having("--storage-driver", request.param)


def watched(registry: DockerRegistry, root: str | None, request: pytest.FixtureRequest) -> Iterator[Rl]:
    """An `rl` in a place of its own; after the test nothing of that place may run, be mounted or lie about.

    A test that failed is cleaned up after without a second complaint.
    """
    place = temporary()
    rl = make_rl(place, registry, root=root or f"{place}/store")
    yield rl
    rl.end()
    running = leaks.settle(place)
    leaks.end(running)
    left = [str(process) for process in running]
    left += [f"mount {point}" for point in leaks.mounts(place)]
    left += [
        f"runtime file {path}"
        for path in leaks.entries(rl.runroot, expected=RUNTIME_AT_REST)
        if path.split("/")[0] != "locks"
    ]
    left += [f"store tmp/{path}" for path in leaks.entries(f"{rl.root}/tmp", expected=STORE_TMP_AT_REST)]
    for kind in ("containers", "names"):
        left += [f"store {kind}/{path}" for path in leaks.entries(f"{rl.root}/{kind}")]
    if root and any(line.startswith("store ") for line in left):
        remove_contents(*(f"{root}/{kind}" for kind in ("containers", "names")))
    remove(place)
    if not request.node.stash.get(FAILED, False):
        assert not left, "left behind:\n" + "\n".join(left)


def make_rl(place: str, registry: DockerRegistry, *, root: str) -> Rl:
    """An `rl` whose every path lies in `place`, except for the store, and for whom `docker.io` is the registry."""
    directories = {name: f"{place}/{name}" for name in ("home", "run", "cache", "config", "data")}
    for directory in directories.values():
        os.mkdir(directory, 0o700)
    os.mkdir(f"{place}/config/rl")
    Path(f"{place}/config/rl/config.toml").write_text(
        f'[registries.mirrors]\n"docker.io" = [{{ location = "{registry.host}", insecure = true }}]\n'
    )
    environment = {
        "HOME": directories["home"],
        "XDG_RUNTIME_DIR": directories["run"],
        "XDG_CACHE_HOME": directories["cache"],
        "XDG_CONFIG_HOME": directories["config"],
        "XDG_DATA_HOME": directories["data"],
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "USER": os.environ.get("USER", ""),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Rl(
        command=[COMMAND, "--root", root],
        home=directories["home"],
        root=root,
        runroot=f"{place}/run/rl",
        environment=environment,
    )


def temporary() -> str:
    """Short: the path of a Unix socket below it has 107 bytes. Not under TMPDIR: xdist's workers have long ones."""
    return tempfile.mkdtemp(prefix="rl-", dir="/tmp")


def remove(place: str) -> None:
    """Remove a tree that may hold files of subordinate ids, which only a user namespace that has them can."""
    shutil.rmtree(place, ignore_errors=True)
    if os.path.lexists(place):
        in_namespace("rm", "-rf", "--", place)


def remove_contents(*directories: str) -> None:
    in_namespace("find", *directories, "-mindepth", "1", "-delete")


def in_namespace(*command: str) -> None:
    subprocess.run(["unshare", "--user", "--map-root-user", "--map-auto", "--", *command], check=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("alpine") and not sample_images.alpine_archives():
        pytest.skip("wants programs of Alpine's busybox, and its root file system is not there")


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report
