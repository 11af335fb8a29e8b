"""What a container may not do, asked from inside of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rootless.runtime import capabilities
from tests.runner import Rl


def status(rl: Rl, *options: str, command: str = "cat /proc/self/status") -> dict[str, str]:
    """/proc/self/status of a process in a container."""
    text = rl.ok("run", "--rm", "--network", "none", *options, "alpine", "sh", "-c", command)
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def sh(rl: Rl, script: str, *options: str) -> str:
    return rl.ok("run", "--rm", "--network", "none", *options, "alpine", "sh", "-c", script)


def mounts(text: str) -> dict[str, set[str]]:
    """mount point -> options, from the text of /proc/self/mounts; the topmost where there are several."""
    return {words[1]: set(words[3].split(",")) for words in map(str.split, text.splitlines())}


def test_capabilities_of_root(rl: Rl) -> None:
    found = status(rl)
    default = f"{capabilities.resolve(last=40):016x}"
    assert (found["CapPrm"], found["CapEff"], found["CapBnd"]) == (default,) * 3
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert found["NoNewPrivs"] == "0"
    assert found["Seccomp"] == "2"


def test_capabilities_of_another_user(rl: Rl) -> None:
    found = status(rl, "--user", "65534:65534", "--cap-add", "NET_ADMIN")
    assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == int(found["CapAmb"], 16) == 0
    assert int(found["CapBnd"], 16) == capabilities.resolve(["NET_ADMIN"], last=40)
    assert found["Uid"].split() == ["65534"] * 4 and found["Gid"].split() == ["65534"] * 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--cap-drop", "ALL"), 0),
        (("--cap-drop", "all", "--cap-add", "chown"), 1),
        (("--cap-add", "CAP_SYS_ADMIN"), capabilities.resolve(["SYS_ADMIN"], last=40)),
    ],
)
def test_capabilities_that_are_asked_for(rl: Rl, options: tuple[str, ...], expected: int) -> None:
    assert int(status(rl, *options)["CapEff"], 16) == expected


def test_no_new_privileges(rl: Rl) -> None:
    found = status(rl, "--security-opt", "no-new-privileges")
    assert found["NoNewPrivs"] == "1" and found["Seccomp"] == "2"


def test_seccomp_refuses(rl: Rl) -> None:
    text = sh(rl, "unshare -U true; mount -t tmpfs x /mnt; hostname x; true", "--cap-add", "NET_ADMIN").splitlines()
    assert text == []
    result = rl("run", "--rm", "--network", "none", "alpine", "unshare", "-U", "true")
    assert result.code != 0 and "Operation not permitted" in result.err
    assert status(rl, "--security-opt", "seccomp=unconfined")["Seccomp"] == "0"
    assert sh(rl, "mount -t tmpfs x /mnt && echo mounted", "--cap-add", "SYS_ADMIN") == "mounted"


def test_a_seccomp_profile_of_the_user(rl: Rl, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    refuse_mkdir = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse_mkdir]}))
    result = rl("run", "--rm", "--network", "none", "--security-opt", f"seccomp={profile}", "alpine", "mkdir", "/x")
    assert result.code == 1 and "No space left on device" in result.err
    profile.write_text("[1")
    assert rl("run", "--rm", "--security-opt", f"seccomp={profile}", "alpine", "true").code == 125


def test_what_is_masked_and_read_only(rl: Rl) -> None:
    assert (
        sh(rl, "cat /proc/keys /proc/timer_list /proc/interrupts; ls -A /sys/firmware; ls -A /proc/acpi 2>&-; true")
        == ""
    )
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/power/state",
        "/sys/fs/cgroup/cgroup.procs",
    ):
        result = rl("run", "--rm", "--network", "none", "alpine", "sh", "-c", f"echo x >{path}")
        assert result.code != 0, path
    table = mounts(sh(rl, "cat /proc/self/mounts"))
    assert "ro" in table["/proc/sys"] and "ro" in table["/sys"]
    assert table["/proc"] >= {"nosuid", "nodev", "noexec"}
    assert sh(rl, "cat /proc/keys | wc -l", "--security-opt", "unmask=/proc/keys") != ""


def test_the_devices(rl: Rl) -> None:
    names = set(sh(rl, "ls /dev").split())
    assert names == {
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    }  # fmt: skip
    assert sh(
        rl, "echo gone >/dev/null && head -c 3 /dev/zero | od -An -tx1 && echo x >/dev/shm/x && cat /dev/shm/x"
    ).split() == ["00"] * 3 + ["x"]
    assert rl("run", "--rm", "--network", "none", "alpine", "mknod", "/dev/kmsg", "c", "1", "11").code != 0


def test_no_descriptor_of_the_caller_comes_in(rl: Rl) -> None:
    read, write = os.pipe()
    try:
        os.set_inheritable(read, True)
        os.set_inheritable(write, True)
        assert sh(rl, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    finally:
        os.close(read)
        os.close(write)


def test_the_program_of_rl_cannot_be_reached(rl: Rl) -> None:
    """/proc/PID/exe of what started the container was the way to overwrite the runtime (CVE-2019-5736)."""
    assert sh(rl, "ls -l /proc/1/exe").rpartition("-> ")[2].startswith(("/bin/", "/usr/bin/"))
    assert sh(rl, "ls /proc | grep -c '^[0-9]'") == "3"  # the shell, ls and grep; nobody of ours


def test_a_read_only_root(rl: Rl) -> None:
    result = rl("run", "--rm", "--network", "none", "--read-only", "alpine", "touch", "/x")
    assert result.code == 1 and "Read-only file system" in result.err
    assert sh(rl, "touch /t/x /dev/shm/x && echo written", "--read-only", "--tmpfs", "/t") == "written"


def test_privileged(rl: Rl) -> None:
    found = status(rl, "--privileged")
    assert found["Seccomp"] == "0"
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert int(found["CapEff"], 16) == capabilities.all_of(last)
    assert sh(rl, "mount -t tmpfs x /mnt && echo mounted", "--privileged") == "mounted"


def test_limits_and_kernel_parameters(rl: Rl) -> None:
    script = "ulimit -n; ulimit -c; cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj; umask"
    words = sh(
        rl,
        script,
        "--ulimit",
        "nofile=64:128",
        "--ulimit",
        "core=0",
        "--sysctl",
        "kernel.msgmax=9000",
        "--oom-score-adj",
        "500",
    )
    assert words.split() == ["64", "0", "9000", "0", "500", "0022"]
    for wrong in (("--sysctl", "vm.swappiness=1"), ("--ulimit", "nofile=99999999999"), ("--cap-add", "NOPE")):
        result = rl("run", "--rm", *wrong, "alpine", "true")
        assert result.code == 125 and wrong[1].partition("=")[0] in result.err


@pytest.mark.parametrize(
    ("user", "expected"),
    [("nobody", "65534 65534"), ("1234", "1234 0"), ("1234:56", "1234 56"), ("0:0", "0 0")],
)
def test_users(rl: Rl, user: str, expected: str) -> None:
    assert sh(rl, "echo $(id -u) $(id -g)", "--user", user) == expected


def test_an_unknown_user(rl: Rl) -> None:
    result = rl("run", "--rm", "--network", "none", "--user", "nobody-at-all", "alpine", "true")
    assert result.code == 125
    assert "unable to find user nobody-at-all: no matching entries in passwd file" in result.err
