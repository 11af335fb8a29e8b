"""Who a process is, what it may do, and how it begins and ends: the operations of the plan that are not mounts."""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
import time
from pathlib import Path

import pytest

from rootless import _lowlevel
from rootless._lowlevel import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, PHASE_SETUP
from rootless.errors import CannotInvoke, CommandNotFound, Error
from rootless.runtime.plan import Flag, Kind, Operation, pack
from rootless.userns import enter
from tests.kernel.core import BUSYBOX, PIVOT, PROC, Place, attempt, attempt_bytes, shell

CHOWN, NET_BIND, SYS_ADMIN = 1 << 0, 1 << 10, 1 << 21
STATUS = "busybox awk '/^(Cap|NoNewPrivs|Seccomp:)/ { print $2 }' /proc/self/status"
# seccomp(2) in bytes: mkdir and mkdirat are EPERM on x86-64, all else is allowed.
NO_MKDIR = b"".join(
    struct.pack("=HBBI", *line) for line in ((0x20, 0, 0, 0), (0x15, 1, 0, 83), (0x15, 0, 1, 258), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000))
)  # fmt: skip


def user(uid: int, gid: int, *groups: int, flags: int = 0) -> Operation:
    return Operation(Kind.USER, (struct.pack(f"={len(groups)}I", *groups) or None,), (uid, gid), flags)


def caps(effective: int, permitted: int, inheritable: int = 0, ambient: int = 0) -> Operation:
    return Operation(Kind.CAPS, (), (effective, permitted, inheritable, ambient))


def bounding(mask: int) -> Operation:
    return Operation(Kind.BOUNDING, (), (mask,))


# ---- limits and settings


def test_limits(place: Place) -> None:
    plan = [
        Operation(Kind.RLIMIT, (), (resource.RLIMIT_NOFILE, 50, 60)), Operation(Kind.UMASK, (), (0o27,)), Operation(Kind.RLIMIT, (), (resource.RLIMIT_CORE, 0, 0)),
    ]  # fmt: skip
    assert place.run(*plan, script="ulimit -Sn; ulimit -Hn; ulimit -c; umask").out.split() == ["50", "60", "0", "0027"]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for numbers, error in (((resource.RLIMIT_NOFILE, 1, hard + 1), errno.EPERM), ((resource.RLIMIT_NOFILE, 2, 1), errno.EINVAL), ((99, 1, 1), errno.EINVAL)):  # fmt: skip
        assert attempt(place.namespace, Operation(Kind.RLIMIT, (), numbers)).where == (0, Kind.RLIMIT, error)


@pytest.mark.parametrize("score", [100, 209, 999, 1000])
def test_oom_scores(place: Place, score: int) -> None:
    ran = place.run(Operation(Kind.OOM_SCORE, (), (score + 1000,)), script="busybox cat /proc/self/oom_score_adj")
    assert ran.out == f"{score}\n"


def test_an_oom_score_below_the_callers_is_refused(place: Place) -> None:
    lower = int(Path("/proc/self/oom_score_adj").read_text()) - 1
    assert attempt(place.namespace, Operation(Kind.OOM_SCORE, (), (lower + 1000,))).where == (
        0,
        Kind.OOM_SCORE,
        errno.EACCES,
    )


def test_host_names(place: Place) -> None:
    plan = (Operation(Kind.HOSTNAME, ("web",)), Operation(Kind.DOMAINNAME, ("example.org",)))
    script = "busybox cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname"
    assert place.run(*plan, flags=CLONE_NEWNS | CLONE_NEWUTS, script=script).out.split() == ["web", "example.org"]
    assert attempt(place.namespace, *plan).where == (0, Kind.HOSTNAME, errno.EPERM), "the host's own name"
    long = Operation(Kind.HOSTNAME, ("x" * 65,))
    assert attempt(place.namespace, long, flags=CLONE_NEWUTS).where == (0, Kind.HOSTNAME, errno.EINVAL)


def test_loopback(place: Place) -> None:
    up = Operation(Kind.LOOPBACK)
    script = "busybox ifconfig -a | busybox grep -c 'UP LOOPBACK RUNNING'; busybox ping -c1 -w1 127.0.0.1 | busybox grep -c ' 0% '"
    assert place.run(up, flags=CLONE_NEWNS | CLONE_NEWNET, script=script).out.split() == ["1", "1"]
    assert attempt(place.namespace, up).where == (0, Kind.LOOPBACK, errno.EPERM)


# ---- privileges


def test_the_sets_of_root(place: Place) -> None:
    ran = place.run(bounding(CHOWN | NET_BIND), user(0, 0), caps(CHOWN | NET_BIND, CHOWN | NET_BIND), script=STATUS)
    held = f"{CHOWN | NET_BIND:016x}"
    assert ran.out.split() == ["0" * 16, held, held, held, "0" * 16, "0", "0"]


def test_the_sets_of_another_user(place: Place) -> None:
    ran = place.run(bounding(CHOWN | NET_BIND), user(33, 34), caps(0, 0), script=STATUS)
    assert ran.out.split()[:5] == ["0" * 16, "0" * 16, "0" * 16, f"{CHOWN | NET_BIND:016x}", "0" * 16]


def test_ambient_capabilities_reach_the_command_of_another_user(place: Place) -> None:
    ran = place.run(
        bounding(CHOWN | NET_BIND), user(33, 34), caps(NET_BIND, NET_BIND, NET_BIND, NET_BIND), script=STATUS
    )
    assert ran.out.split()[:5] == [f"{NET_BIND:016x}"] * 3 + [f"{CHOWN | NET_BIND:016x}", f"{NET_BIND:016x}"]


@pytest.mark.parametrize(
    "sets", [(NET_BIND, 0), (0, NET_BIND, 0, NET_BIND), (0, 0, NET_BIND)], ids=["not permitted", "not inheritable", "not bounded"]
)  # fmt: skip
def test_sets_that_cannot_be(place: Place, sets: tuple[int, ...]) -> None:
    assert attempt(place.namespace, bounding(CHOWN), user(0, 0), caps(*sets)).where == (2, Kind.CAPS, errno.EPERM)


def test_ids_and_groups(place: Place) -> None:
    script = "busybox id -u; busybox id -g; busybox id -G; busybox touch file; busybox cat /proc/self/status | busybox grep ^Uid"
    (place.root / "home").mkdir(mode=0o777)
    (place.root / "home").chmod(0o777)
    plan = (place.enter_root(), PROC, PIVOT, user(33, 34, 35, 36), Operation(Kind.CWD, ("/home",)))
    lines = place.run(*plan, script=script, flags=CLONE_NEWNS | CLONE_NEWPID).out.splitlines()
    assert lines == ["33", "34", "34 35 36", "Uid:\t33\t33\t33\t33"]
    status = (place.root / "home/file").stat()
    outside = next(line for line in place.namespace.uid_map if line.inside <= 33 < line.inside + line.size)
    assert status.st_uid == outside.outside + 33 - outside.inside
    os.unlink(place.root / "home/file")


@pytest.mark.parametrize("ids, error", [((0, 2**31), errno.EINVAL), ((2**31, 0), errno.EINVAL), ((0, 0, 2**31), errno.EINVAL), ((2**32 - 1, 0), errno.EINVAL), ((0, 2**32 - 1), errno.EINVAL)])  # fmt: skip
def test_ids_that_are_not_mapped(place: Place, ids: tuple[int, ...], error: int) -> None:
    assert attempt(place.namespace, user(*ids)).where == (0, Kind.USER, error)


def test_groups_where_only_one_id_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with enter.create() as single:
        assert single.single_id and not single.setgroups
        assert attempt(single, user(0, 0)).where == (0, Kind.USER, errno.EPERM)
        assert attempt(single, user(0, 0, flags=Flag.OPTIONAL)) == (None, [])
        tried = attempt(single, user(1, 1, flags=Flag.OPTIONAL))
        assert tried.failed is None and [note.errno for note in tried.noted] == [errno.EINVAL]


def test_no_new_privileges(place: Place) -> None:
    assert place.run(Operation(Kind.NO_NEW_PRIVS), script=STATUS).out.split()[5] == "1"


def test_a_seccomp_program(place: Place) -> None:
    load = Operation(Kind.SECCOMP, (NO_MKDIR,), (0,))
    ran = place.run(load, user(0, 0), caps(0, 0), script=f"busybox mkdir {place.root}/x 2>&1 && echo made; {STATUS}")
    assert "Operation not permitted" in ran.out and "made" not in ran.out and ran.out.split()[-1] == "2"
    away = (bounding(0), user(0, 0), caps(0, 0))
    assert attempt(place.namespace, *away, load).where == (3, Kind.SECCOMP, errno.EACCES)
    assert attempt(place.namespace, *away, Operation(Kind.NO_NEW_PRIVS), load).failed is None
    bad = Operation(Kind.SECCOMP, (b"\xff" * 8,), (0,))
    assert attempt(place.namespace, bad).where == (0, Kind.SECCOMP, errno.EINVAL)


# ---- the command


def test_the_command_has_three_descriptors(place: Place) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_inheritable(writer, True)
    for pivoted in ([place.enter_root(), PROC, PIVOT], [place.enter_root(), PROC, PIVOT, Operation(Kind.INIT)]):
        monitor = place.start(*pivoted, script="busybox ls /proc/$$/fd; :", flags=CLONE_NEWNS | CLONE_NEWPID)
        assert place.finish(monitor).out.split() == ["0", "1", "2"]
    os.close(reader)
    os.close(writer)


def test_the_command_gets_its_words_and_no_others(place: Place) -> None:
    words = ("sh", "-c", 'busybox env; echo "$0|$1|$#"', "name", "a b", "")
    execute = Operation(Kind.EXEC, (("/none/sh", BUSYBOX), words, ("PATH=/bin", "A=1=2", "B=")))
    monitor = place.monitor()
    os.close(monitor.rootfs())
    monitor.prepare([Operation(Kind.CWD, ("/usr",)), Operation(Kind.READY), execute], CLONE_NEWNS)
    monitor.ready()
    monitor.start_command()
    lines = place.finish(monitor).out.splitlines()
    assert set(lines[:-1]) - {"SHLVL=1", "PWD=/usr", "OLDPWD=/"} == {"PATH=/bin", "A=1=2", "B="}
    assert lines[-1] == "name|a b|2"


@pytest.mark.parametrize(
    "candidates, kind",
    [
        (("/none/x", "/etc/passwd/x"), CommandNotFound), (("/etc/passwd", "/none/x"), CannotInvoke), (("/usr",), CannotInvoke), (("",), CommandNotFound),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_run(place: Place, candidates: tuple[str, ...], kind: type[Error]) -> None:
    monitor = place.monitor()
    os.close(monitor.rootfs())
    monitor.prepare([Operation(Kind.READY), Operation(Kind.EXEC, (candidates, ("x",), ()))], CLONE_NEWNS)
    monitor.ready()
    with pytest.raises(kind, match="cannot run 'x'"):
        monitor.start_command()
    assert not place.runtime.exists() and not list(place.directory.glob("*.json"))


def test_a_working_directory_that_is_not_there(place: Place) -> None:
    assert attempt(place.namespace, Operation(Kind.CWD, ("/none",))).where == (0, Kind.CWD, errno.ENOENT)
    assert attempt(place.namespace, Operation(Kind.CWD, ("/etc/passwd",))).where == (0, Kind.CWD, errno.ENOTDIR)


def test_signals_are_as_for_a_new_process(place: Place) -> None:
    """Python ignores SIGPIPE, the monitor blocks what it waits for; nothing of that is inherited."""
    words = ("awk", "/^Sig(Blk|Ign)/ { print $2 }", "/proc/self/status")  # not from a shell, which has its own ideas
    monitor = place.monitor()
    os.close(monitor.rootfs())
    monitor.prepare([Operation(Kind.READY), Operation(Kind.EXEC, ((BUSYBOX,), words, ()))], CLONE_NEWNS)
    monitor.ready()
    monitor.start_command()
    assert place.finish(monitor).out.split() == ["0" * 16] * 2


@pytest.mark.parametrize("script, code", [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_how_it_ended(place: Place, script: str, code: int) -> None:
    assert place.run(script=script).code == code


# ---- init


INIT_FLAGS = CLONE_NEWNS | CLONE_NEWPID


def test_an_init_reaps_and_leaves_with_the_commands_code(place: Place) -> None:
    script = (
        "echo $$; (busybox sh -c 'exit 0' & busybox sleep 0.01) & wait; (busybox sleep 0.05 &); busybox sleep 0.15; "
        "busybox cat /proc/[0-9]*/stat | busybox awk '$3 == \"Z\"' | busybox wc -l; exit 9"
    )
    null = place.bind("/dev/null", "/dev/null")
    plan = (place.enter_root(), PROC, null, PIVOT, Operation(Kind.INIT))
    ran = place.run(*plan, script=script, flags=INIT_FLAGS)
    assert (ran.out.split(), ran.code) == (["2", "0"], 9)


def test_an_init_passes_signals_on(place: Place) -> None:
    script = "trap 'echo got; exit 3' USR1; echo ready; while :; do busybox sleep 0.02; done"
    monitor = place.start(Operation(Kind.INIT), script=script, flags=INIT_FLAGS)
    assert _lowlevel.receive(monitor.socket).payload == b"ready\n"
    _lowlevel.send(monitor.socket, _lowlevel.MSG_SIGNAL, int(signal.SIGUSR1).to_bytes(4, "little"))
    ran = place.finish(monitor)
    assert (ran.out, ran.code) == ("got\n", 3)
    assert not place.runtime.exists()


# ---- the other namespaces, and the end


def test_joining_namespaces_of_another_process(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other", place.namespace)
    running = other.monitor()
    os.close(running.rootfs())
    named = [Operation(Kind.HOSTNAME, ("web",)), *shell("echo; busybox sleep 30")]
    running.prepare(named, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID)
    pid, _ = running.ready()
    running.start_command()
    try:
        joins = [
            Operation(Kind.SETNS, (f"/proc/{pid}/ns/{name}",), (flag,))
            for name, flag in (("uts", CLONE_NEWUTS), ("pid", CLONE_NEWPID))
        ]
        ran = place.run(
            *joins, place.enter_root(), PROC, PIVOT, script="busybox hostname; [ $$ != 1 ] && busybox cat /proc/1/comm"
        )
        assert ran.out.split() == ["web", "busybox"]
    finally:
        os.kill(pid, signal.SIGKILL)
        running.wait()
    missing = Operation(Kind.SETNS, ("/proc/self/ns/none",), (CLONE_NEWUTS,))
    assert attempt(place.namespace, missing).where == (0, Kind.SETNS, errno.ENOENT)
    wrong = Operation(Kind.SETNS, ("/proc/self/ns/uts",), (CLONE_NEWNET,))
    assert attempt(place.namespace, wrong).where == (0, Kind.SETNS, errno.EINVAL)


def alive(pid: int) -> bool:
    return enter.start_time(pid) is not None


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


@pytest.mark.parametrize("ids", [0, 33])
def test_a_container_does_not_outlive_its_monitor(place: Place, ids: int) -> None:
    monitor = place.monitor()
    os.close(monitor.rootfs())
    plan = [
        bounding(0),  # a root that has less than that gains it by execve(2), which clears the signal
        user(ids, ids),
        caps(0, 0),
        Operation(Kind.DIE_WITH_PARENT),
        *shell("echo; busybox sleep 30 & busybox sleep 30"),
    ]
    monitor.prepare(plan, INIT_FLAGS)
    pid, start = monitor.ready()
    assert enter.start_time(pid) == start
    monitor.start_command()
    assert alive(pid)
    os.kill(monitor._core.pid, signal.SIGKILL)
    assert gone(pid)
    monitor.abort()


@pytest.mark.parametrize("when", ["before the root", "with the root", "before the start"])
def test_an_attempt_that_is_given_up_leaves_nothing(place: Place, when: str) -> None:
    monitor = place.monitor()
    pid = 0
    if when != "before the root":
        os.close(monitor.rootfs())
    if when == "before the start":
        monitor.prepare(shell("exit"), CLONE_NEWNS)
        pid, _ = monitor.ready()
    monitor.abort()
    assert not place.runtime.exists()
    assert not list(place.directory.glob("*.json"))
    assert not pid or not alive(pid)


# ---- plans that nobody should have sent


def test_a_damaged_plan_is_refused_whole(place: Place) -> None:
    whole = pack([place.enter_root(), Operation(Kind.MKDIR, ("/made",), (0o755,)), *shell("exit")])
    for damaged in (
        b"", whole[:15], whole[:-1], whole + b"\0", b"RLP2" + whole[4:], whole[:8] + b"\xff\xff\0\0" + whole[12:],
        whole.replace(b"/made\0", b"/madeX")[:-1] + b"X", whole[:24] + b"\xff\xff\xff\x7f" + whole[28:], whole[:40] + b"\xff\xff\xff\xff" + whole[44:],
    ):  # fmt: skip
        failed = attempt_bytes(place.namespace, damaged).failed
        assert failed and (failed.phase, failed.kind, failed.errno) == (PHASE_SETUP, 1, errno.EINVAL), damaged[:48]
    assert not (place.root / "made").exists()


def test_an_operation_without_what_it_needs_is_refused(place: Place) -> None:
    for kind in (
        Kind.BIND,
        Kind.MOUNT,
        Kind.MKDIR,
        Kind.CWD,
        Kind.HOSTNAME,
        Kind.SETNS,
        Kind.SYMLINK,
        Kind.SYSCTL,
        Kind.EXEC,
        Kind.SECCOMP,
    ):
        failed = attempt(place.namespace, Operation(kind)).failed
        assert failed and failed.phase == PHASE_SETUP and failed.errno == errno.EINVAL, kind


def test_a_monitor_that_is_told_nothing(namespace: enter.UserNamespace) -> None:
    core = _lowlevel.spawn("monitor", "x", plan=pack([Operation(Kind.READY)]), descriptors=(namespace.fd,))
    message = _lowlevel.receive(core.control)
    assert message.type == _lowlevel.MSG_FAILED and _lowlevel.failure(message.payload).errno == errno.EINVAL
    assert core.wait() == 125
