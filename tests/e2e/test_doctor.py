"""The doctor on hosts that were made ill: it names the remedy, and with the remedy applied it finds them well.

Each host is a user namespace in which this user is root: /etc, newuidmap and the sysctls of the namespace are its own, and `guest` (uid 1000) has no privilege.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import COMMAND

PREPARE = """
set -e
mount -t tmpfs -o mode=755 rl-test /mnt
mkdir -p /mnt/etc/sysctl.d /mnt/home /mnt/bin
cp /etc/ld.so.cache /etc/os-release /etc/login.defs /etc/nsswitch.conf /mnt/etc/
cp -L /etc/resolv.conf /mnt/etc/ 2>/dev/null || true
printf 'root:x:0:0::/root:/bin/sh\\nguest:x:1000:1000::/mnt/home:/bin/sh\\n' >/mnt/etc/passwd
printf 'root:x:0:\\nguest:x:1000:\\n' >/mnt/etc/group
printf 'guest:!:1::::::\\n' >/mnt/etc/shadow
printf 'guest:2000:60000\\n' | tee /mnt/etc/subuid >/mnt/etc/subgid
chown 1000:1000 /mnt/home
mount --bind /mnt/etc /etc
for program in newuidmap newgidmap; do
  cp /usr/bin/$program /mnt/bin/
  chmod 4755 /mnt/bin/$program
  mount --bind /mnt/bin/$program /usr/bin/$program
done
"""


class Host:
    """A made-up host; `pid` is a process in its namespaces."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def root(self, script: str) -> None:
        """Run a script as the administrator, for whom `sudo` changes nothing."""
        subprocess.run(
            [*self._enter(), "sh", "-c", 'sudo() { "$@"; }\n' + script], check=True, capture_output=True, timeout=20
        )

    def doctor(self) -> dict[str, dict[str, Any]]:
        """The checks that `guest` gets to see, by name; `ok` is kept under the empty name."""
        guest = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
        environment = [
            "env",
            "-i",
            "PATH=/usr/bin:/bin",
            "HOME=/mnt/home",
            "PYTHONDONTWRITEBYTECODE=1",
        ]
        command = [*self._enter(), *guest, *environment, COMMAND, "doctor", "--format", "json"]
        done = subprocess.run(command, capture_output=True, timeout=60)
        document = json.loads(done.stdout)
        assert done.returncode == (0 if document["ok"] else 1)
        return {"": {"ok": document["ok"]}} | {check["name"]: check for check in document["checks"]}

    def apply(self, check: dict[str, Any]) -> None:
        self.root(check["fix"])

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--user", "--mount", "--wd=/", "--"]


@pytest.fixture
def host() -> Iterator[Host]:
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed")
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--map-auto",
        "--mount",
        "sh",
        "-c",
        f"{PREPARE}\necho ready; read end",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        yield Host(holder.pid)
        holder.stdin.close()


def test_a_good_host(host: Host) -> None:
    found = host.doctor()
    assert found.pop("")["ok"]
    assert [name for name, check in found.items() if check["status"] in ("fail", "skip")] == []
    assert found["id-map"]["seen"].startswith("60001 user ids")
    host.root('test -z "$(ls -A /mnt/home)"')  # it leaves nothing behind


def test_no_subordinate_ids(host: Host) -> None:
    host.root("truncate -s 0 /etc/subuid /etc/subgid")
    check = host.doctor()["id-map"]
    assert check["status"] == "fail"
    assert "guest has no subordinate ids" in check["seen"]
    assert check["fix"].startswith("sudo usermod --add-subuids 1001-")
    host.apply(check)
    assert host.doctor()["id-map"]["status"] != "fail"


def test_no_usermod(host: Host) -> None:
    """As in a small distribution, and for users that a directory service knows."""
    host.root("truncate -s 0 /etc/subuid /etc/subgid; mount --bind /etc/group /usr/sbin/usermod")
    check = host.doctor()["id-map"]
    assert check["fix"].startswith("echo 'guest:")
    host.apply(check)
    assert host.doctor()["id-map"]["status"] != "fail"


def test_user_without_a_name(host: Host) -> None:
    host.root("sed -i /guest/d /etc/passwd")
    check = host.doctor()["id-map"]
    assert check["status"] == "fail"
    assert check["fix"].startswith("sudo useradd --uid 1000 ")


def test_newuidmap_without_its_power(host: Host) -> None:
    host.root("chmod 755 /usr/bin/newuidmap")
    check = host.doctor()["id-map"]
    assert check["status"] == "fail"
    assert "lost the setuid bit" in check["seen"]
    host.apply(check)
    assert host.doctor()["id-map"]["status"] != "fail"


def test_newuidmap_on_a_nosuid_mount(host: Host) -> None:
    host.root("mount -o remount,bind,nosuid /usr/bin/newuidmap")
    check = host.doctor()["id-map"]
    assert check["fix"] == "sudo mount -o remount,suid /usr/bin/newuidmap"
    host.apply(check)
    assert host.doctor()["id-map"]["status"] != "fail"


def test_newuidmap_not_installed(host: Host) -> None:
    host.root("mount --bind /dev/null /usr/bin/newuidmap")
    check = host.doctor()["id-map"]
    assert "newuidmap is not installed" in check["seen"]
    assert "install" in check["fix"]


def test_user_namespaces_switched_off(host: Host) -> None:
    host.root("echo 0 >/proc/sys/user/max_user_namespaces")
    found = host.doctor()
    assert not found[""]["ok"]
    assert found["user-namespace"]["status"] == "fail"
    assert found["user-namespace"]["fix"].startswith("echo 'user.max_user_namespaces = ")
    assert {found[name]["status"] for name in ("id-map", "mount", "overlay", "slirp4netns")} == {"skip"}
    host.apply(found["user-namespace"])
    assert host.doctor()[""]["ok"]


def test_hidden_proc(host: Host) -> None:
    host.root("mount --bind /dev/null /proc/version")
    found = host.doctor()
    assert not found[""]["ok"]
    assert found["proc"]["status"] == "fail"
    assert "unmask=ALL" in found["proc"]["fix"]
    host.root("umount /proc/version")
    assert host.doctor()["proc"]["status"] == "ok"


def test_devices_hidden(host: Host) -> None:
    host.root("mount -t tmpfs rl-test /dev/net; mount --bind /dev/null /dev/fuse")
    found = host.doctor()
    assert found[""]["ok"]
    assert "/dev/net/tun does not exist" in found["tun"]["seen"]
    for name in ("tun", "slirp4netns"):
        assert found[name]["status"] == "fail"
        assert "--device /dev/net/tun" in found[name]["fix"]
    for name in ("fuse", "fuse-overlayfs"):
        assert found[name]["status"] == "fail"
        assert "--device /dev/fuse" in found[name]["fix"]
    host.root("umount /dev/net /dev/fuse")
    found = host.doctor()
    assert {found[name]["status"] for name in ("tun", "slirp4netns", "fuse", "fuse-overlayfs")} == {"ok"}


def test_no_new_privileges(host: Host) -> None:
    """As in a systemd unit with NoNewPrivileges=yes: newuidmap runs, without power."""
    enter = Host._enter
    host._enter = lambda: [*enter(host), "setpriv", "--no-new-privs"]  # type: ignore[method-assign]
    check = host.doctor()["id-map"]
    assert check["status"] == "fail"
    assert "NoNewPrivileges=no" in check["fix"]
