"""The specs that we write, executed by other runtimes: crun and runc take a bundle of ours as it is.

They ask for cgroup2 at /sys/fs/cgroup. On a host with another layout the test gives it to them in namespaces of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rootless.engine.request import CreateRequest, Mount, Namespaces, Ulimit
from rootless.engine.spec import HostFacts, compile_spec
from rootless.runtime.users import ContainerUser
from rootless.userns.idmap import IdRange

RUNTIMES = {"crun": ["crun", "--cgroup-manager=disabled"], "runc": ["runc"]}
# The container's user namespace is made within the test's, which --map-auto gives the ids 0 to 65535.
IDS = (IdRange(0, 0, 1), IdRange(1, 1, 60000))
HOST = HostFacts(
    uid_map=IDS, gid_map=IDS, kernel=(6, 1), architecture=os.uname().machine, last_capability=40, cgroup_v2=True, hostname="host",
    environment={}, ulimits={"nofile": (1024, 1024)},
)  # fmt: skip
SCRIPT = """
echo ids $(id -u) $(id -g)
grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status
echo name $(hostname)
echo ping $(cat /proc/sys/net/ipv4/ping_group_range)
echo here $(pwd)
echo files $(ulimit -n)
echo source $(ls /source)
touch /source/x 2>/dev/null || echo source is read-only
touch /x 2>/dev/null || echo root is read-only
cat /proc/keys
touch /scratch/x && echo scratch is writable
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for directory in ("rootfs/bin", "source"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "source" / "file").touch()
    shutil.copy("/bin/busybox", tmp_path / "rootfs/bin/busybox")
    for applet in ("sh", "id", "grep", "hostname", "cat", "ls", "touch"):
        (tmp_path / "rootfs/bin" / applet).symlink_to("busybox")
    return tmp_path


def run(runtime: str, bundle: Path, request: CreateRequest, user: ContainerUser) -> list[str]:
    spec = compile_spec(request, image={}, container_id="0123456789abcdef" * 4, host=HOST, user=user)
    (bundle / "config.json").write_text(json.dumps(spec))
    words: list[Any] = [*RUNTIMES[runtime], "--root", bundle / "state", "run", "--bundle", bundle, "rl-test"]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--cgroup", "--pid", "--fork", "--mount-proc", "sh", "-c",
         'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"', "-", *words],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_container_of_another_runtime(runtime: str, bundle: Path) -> None:
    if not shutil.which(runtime):
        pytest.skip(f"{runtime} is not installed")
    request = CreateRequest(
        image="x",
        command=("sh", "-c", SCRIPT),
        workdir="/not/there/yet",
        read_only=True,
        no_new_privileges=True,
        mounts=(Mount("bind", str(bundle / "source"), "/source", ("ro",)), Mount("tmpfs", None, "/scratch")),
        ulimits=(Ulimit("nofile", 100, 200),),
        namespaces=Namespaces(network="none"),
    )
    assert run(runtime, bundle, request, ContainerUser(0, 0)) == [
        "ids 0 0", "CapEff: 00000000800405fb", "CapBnd: 00000000800405fb", "NoNewPrivs: 1", "Seccomp: 2", "name 0123456789ab", "ping 0 60000",
        "here /not/there/yet", "files 100", "source file", "source is read-only", "root is read-only", "scratch is writable",
    ]  # fmt: skip


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_another_user_in_another_runtime(runtime: str, bundle: Path) -> None:
    if not shutil.which(runtime):
        pytest.skip(f"{runtime} is not installed")
    request = CreateRequest(image="x", command=("sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status"))
    found = run(runtime, bundle, request, ContainerUser(33, 34, (35, 36)))
    assert found == ["33", "34", "34 35 36", "CapEff: 0000000000000000"]
