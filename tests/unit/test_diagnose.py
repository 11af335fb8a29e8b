"""The table of remedies, for the hosts that the end-to-end tests cannot make."""

from __future__ import annotations

import errno
import subprocess

import pytest

from rootless.userns import diagnose
from rootless.userns.diagnose import Facts, Step
from rootless.userns.idmap import IdRange
from rootless.userns.subid import SubidRange

GOOD = (("newuidmap", "/usr/bin/newuidmap", None), ("newgidmap", "/usr/bin/newgidmap", None))


@pytest.mark.parametrize(
    ("step", "host", "error", "fix"),
    [
        ("userns", Facts(userns_clone=0), errno.EPERM, "kernel.unprivileged_userns_clone = 1"),
        ("userns", Facts(max_user_namespaces=100), errno.ENOSPC, "user.max_user_namespaces = 28633"),
        ("userns", Facts(), errno.EINVAL, "CONFIG_USER_NS"),
        ("userns", Facts(chrooted=True, seccomp_filtered=True), errno.EPERM, "outside of the chroot"),
        ("userns", Facts(seccomp_filtered=True), errno.EPERM, "seccomp=unconfined"),
        (
            "mount",
            Facts(apparmor_restricts=True, executable="/opt/rl"),
            errno.EACCES,
            'profile rl "/opt/rl" flags=(unconfined)',
        ),
        (
            "idmap",
            Facts(newidmap=(("newuidmap", None, None),), distributions=("ubuntu", "debian")),
            None,
            "apt-get install -y uidmap",
        ),
        (
            "idmap",
            Facts(newidmap=(("newuidmap", None, None),), distributions=("fedora",)),
            None,
            "dnf install -y shadow-utils",
        ),
        (
            "idmap",
            Facts(newidmap=GOOD, subids=(), user="alice"),
            None,
            "--add-subuids 100000-165535 --add-subgids 100000-165535 alice",
        ),
        (
            "idmap",
            Facts(newidmap=GOOD, own_map=(IdRange(0, 1000, 1), IdRange(1, 5000, 65536))),
            None,
            "--add-subuids 1001-65536 ",
        ),
        ("memfd", Facts(memfd_noexec=2), errno.EACCES, "vm.memfd_noexec = 1"),
        ("overlay", Facts(), errno.ENODEV, "modprobe overlay"),
        ("cgroup", Facts(systemd=True), None, "systemd.unified_cgroup_hierarchy=1"),
        ("runtime-directory", Facts(systemd=True, user="alice"), None, "enable-linger alice"),
    ],
)
def test_remedy(step: Step, host: Facts, error: int | None, fix: str) -> None:
    found = diagnose.remedy(step, host, error)
    assert found is not None
    assert fix in found.fix


def test_the_profile_survives_the_shell() -> None:
    command = diagnose.apparmor_profile("/opt/it's/rl")
    printed = subprocess.run(command.partition(" | ")[0], shell=True, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[2:] == ['profile rl "/opt/it\'s/rl" flags=(unconfined) {', "  userns,", "}"]


@pytest.mark.parametrize("step", diagnose.STEPS)
def test_every_step_has_a_hint(step: Step) -> None:
    assert diagnose.hint(step, errno.EPERM)


def test_nothing_known_is_nothing_said() -> None:
    assert diagnose.remedy("userns", Facts(), errno.EPERM) is None


@pytest.mark.parametrize(
    ("taken", "own_map", "expected"),
    [
        ([], (), (100000, 65536)),
        ([(100000, 65536)], (), (165536, 65536)),
        ([(90000, 20000), (300000, 5)], (), (110000, 65536)),
        ([(165536, 65536), (100000, 65536)], (), (231072, 65536)),
        ([], (IdRange(0, 1000, 1), IdRange(1, 100000, 65535)), (1001, 64535)),
        ([(2000, 60000)], (IdRange(0, 1000, 65536),), (62000, 3536)),
    ],
)
def test_free_subids(taken: list[tuple[int, int]], own_map: tuple[IdRange, ...], expected: tuple[int, int]) -> None:
    host = Facts(all_subids=tuple(SubidRange(*found) for found in taken), own_map=own_map)
    assert diagnose.free_subids(host) == expected


def test_file_system() -> None:
    assert diagnose.file_system("/proc/self/no/such") == "proc"
    assert diagnose.file_system("/") is not None
