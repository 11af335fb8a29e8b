"""`rl doctor`: what works on this host, tried out, and the one command that mends what does not.

Checks are by outcome: a user namespace is made and mapped, and in it a mount, an overlay, a FUSE mount and a tap device. Only where something
failed does `userns.diagnose` look for the reason. Nothing is left behind: mounts die with the namespace they were made in, directories are removed.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from .. import _lowlevel
from ..errors import Error, HostError, reason
from ..network import hostports
from ..paths import Paths
from ..slirp import process as slirp
from ..userns import diagnose, enter, idmap
from ..userns.diagnose import Facts, Remedy

Status = Literal["ok", "warn", "fail", "skip"]

OLDEST_KERNEL = (5, 12)  # mount_setattr(2); 5.11 brought overlay mounts to user namespaces
CONTROLLERS = ("cpu", "io", "memory", "pids")

_PATIENCE = 10.0  # seconds for any one experiment
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Check(NamedTuple):
    """One result.

    status: ok; warn: something less works; fail: with `required`, no container runs; skip: an earlier failure kept it from being tried.
    seen: what was found. lost: what does not work without it. fix: the command that mends it. The last two are empty where all is well.
    """

    name: str
    status: Status
    seen: str
    lost: str = ""
    fix: str = ""
    required: bool = False


def examine(paths: Paths) -> Iterator[Check]:
    """Try everything out, one Check after the other. Takes about a second; changes nothing on the host."""
    host = diagnose.facts()
    yield _kernel()
    yield _memfd(host)
    yield _seccomp(host)
    yield from _user_namespace(host, paths)
    yield _tun(host)
    yield _low_ports()
    yield _ping()
    yield _runtime_directory(host, paths)
    yield from _cgroup(host)
    yield _lingering(host)


def healthy(checks: list[Check]) -> bool:
    """Whether a container can run."""
    return not any(check.required and check.status == "fail" for check in checks)


def document(checks: list[Check]) -> dict[str, Any]:
    """The form of `--format json`. Stable: names and keys stay, new ones may come."""
    return {"ok": healthy(checks), "checks": [check._asdict() for check in checks]}


# ---- the program itself


def _kernel() -> Check:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.partition("-")[0].split(".")[:2] if part.isdecimal())
    if numbers >= OLDEST_KERNEL:
        return Check("kernel", "ok", f"Linux {release}", required=True)
    needed = ".".join(map(str, OLDEST_KERNEL))
    return Check("kernel", "fail", f"Linux {release}", "everything", f"boot Linux {needed} or newer", required=True)


def _memfd(host: Facts) -> Check:
    lost = "everything: the core program is executed from memory"
    program = os.path.realpath(shutil.which("true", path=_SYSTEM_PATH) or "/bin/true")
    try:
        with open(program, "rb") as file:
            sealed = _lowlevel.sealed_file("rl-doctor", file.read(), executable=True)
        try:
            pid = os.posix_spawn(f"/proc/self/fd/{sealed}", ["true"], {})
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            os.close(sealed)
    except OSError as error:
        return _failed("memfd", diagnose.remedy("memfd", host, error.errno), reason(error), lost, required=True)
    return Check("memfd", "ok", f"a program runs from memory (exit code {code})", required=True)


def _seccomp(host: Facts) -> Check:
    try:
        with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as file:
            return Check("seccomp", "ok", f"filter actions: {file.read().strip()}")
    except OSError as error:
        lost = "containers run without a filter of system calls, and only with --security-opt seccomp=unconfined"
        return _failed("seccomp", diagnose.remedy("seccomp", host), reason(error), lost, required=False)


# ---- the user namespace, and what is tried inside of one

_INSIDE = ("mount", "proc", "overlay", "fuse", "fuse-overlayfs", "slirp4netns")


def _user_namespace(host: Facts, paths: Paths) -> Iterator[Check]:
    try:
        pid, release = _lowlevel.create_userns()
    except OSError as error:
        why = diagnose.remedy("userns", host, error.errno)
        yield _failed("user-namespace", why, reason(error), "everything: no container runs", required=True)
        for name in ("id-map", *_INSIDE):
            yield Check(name, "skip", "needs a user namespace")
        return
    os.close(release)
    os.waitpid(pid, 0)
    yield Check("user-namespace", "ok", "made one", required=True)
    try:
        namespace = enter.create()
    except (Error, OSError) as error:
        why = diagnose.remedy("idmap", host)
        yield _failed("id-map", why, str(error), "everything: no container runs", required=True)
        for name in _INSIDE:
            yield Check(name, "skip", "needs a mapped user namespace")
        return
    with namespace:
        yield _id_map(host, namespace)
        yield _mount(host, namespace)
        yield _proc(host, namespace)
        yield _overlay(host, namespace, paths)
        yield _fuse(host, namespace)
        yield _fuse_overlayfs(host, namespace)
        yield _slirp4netns(host, namespace)


def _id_map(host: Facts, namespace: enter.UserNamespace) -> Check:
    uids, gids = idmap.count(namespace.uid_map), idmap.count(namespace.gid_map)
    seen = f"{uids} user ids and {gids} group ids are mapped"
    lost = "users other than root: most images do not install packages, and services do not start"
    if namespace.single_id:
        return _failed("id-map", diagnose.remedy("idmap", host), f"{seen} ({namespace.notice})", lost, required=False)
    if min(uids, gids) < diagnose.SUBIDS:
        some = f"images with ids of {min(uids, gids)} and above"
        return Check("id-map", "warn", seen, some, diagnose.add_subids(host))
    return Check("id-map", "ok", seen)


def _mount(host: Facts, namespace: enter.UserNamespace) -> Check:
    failure = _inside(namespace, lambda: _run("mount", "-t", "tmpfs", "-o", "size=64k", "rl-doctor", "/tmp"))
    if failure:
        return _failed(
            "mount", diagnose.remedy("mount", host), failure, "everything: no root file system", required=True
        )
    return Check("mount", "ok", "mounted a tmpfs", required=True)


def _proc(host: Facts, namespace: enter.UserNamespace) -> Check:
    def experiment() -> None:
        _run("mount", "-t", "tmpfs", "rl-doctor", "/tmp")
        os.mkdir("/tmp/proc")
        _run("unshare", "--pid", "--fork", "mount", "-t", "proc", "proc", "/tmp/proc")

    failure = _inside(namespace, experiment)
    if failure:
        lost = "process namespaces of containers: they run with --pid host only"
        return _failed("proc", diagnose.remedy("proc", host), failure, lost, required=True)
    return Check("proc", "ok", "mounted /proc in a process namespace", required=True)


def _overlay(host: Facts, namespace: enter.UserNamespace, paths: Paths) -> Check:
    kind = diagnose.file_system(paths.root)
    lost = "the fast storage driver: rl falls back to FUSE"
    try:
        with _directory_beside(paths.root) as directory:
            failure = _inside(namespace, lambda: _try_overlay(directory))
            left = _inside(namespace, lambda: shutil.rmtree(f"{directory}/tree"))
    except OSError as error:
        fix = "name a directory of your own with --root"
        return Check(
            "overlay",
            "fail",
            f"cannot write beside {paths.root}: {reason(error)}",
            "everything: no store",
            fix,
            required=True,
        )
    failure = failure or left
    if failure:
        return _failed(
            "overlay", diagnose.remedy("overlay", host, path=paths.root), f"{failure} (on {kind})", lost, required=False
        )
    return Check(
        "overlay", "ok", f"mounted one on the file system of the store ({kind}), copied up and deleted a file in it"
    )


def _try_overlay(directory: str) -> None:
    tree = f"{directory}/tree"
    for name in ("lower", "upper", "work", "merged"):
        os.makedirs(f"{tree}/{name}")
    for name in ("changed", "deleted"):
        with open(f"{tree}/lower/{name}", "w", encoding="ascii") as file:
            file.write("lower")
    options = f"userxattr,lowerdir={tree}/lower,upperdir={tree}/upper,workdir={tree}/work"
    _run("mount", "-t", "overlay", "-o", options, "rl-doctor", f"{tree}/merged")
    with open(f"{tree}/merged/changed", "a", encoding="ascii") as file:
        file.write(" upper")
    os.unlink(f"{tree}/merged/deleted")
    if sorted(os.listdir(f"{tree}/merged")) != ["changed"]:
        raise HostError("a deleted file is still there")


def _fuse(host: Facts, namespace: enter.UserNamespace) -> Check:
    def experiment() -> None:
        _run("mount", "-t", "tmpfs", "rl-doctor", "/tmp")
        device = os.open("/dev/fuse", os.O_RDWR)
        os.set_inheritable(device, True)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
        _run("mount", "-i", "-t", "fuse", "-o", options, "rl-doctor", "/tmp", descriptors=(device,))

    failure = _inside(namespace, experiment)
    if failure:
        lost = "the storage drivers fuse-overlayfs and fuse"
        return _failed(
            "fuse", diagnose.remedy("fuse", host) or diagnose.remedy("mount", host), failure, lost, required=False
        )
    return Check("fuse", "ok", "mounted a FUSE file system")


def _fuse_overlayfs(host: Facts, namespace: enter.UserNamespace) -> Check:
    lost = "the second fastest storage driver: where the kernel allows no overlay, rl uses its own"
    program = diagnose.which("fuse-overlayfs")
    if program is None:
        return _failed("fuse-overlayfs", diagnose.remedy("fuse-overlayfs", host), "not installed", lost, required=False)

    def experiment() -> None:
        _run("mount", "-t", "tmpfs", "rl-doctor", "/tmp")
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"/tmp/{name}")
        _run(program, "-o", "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work", "/tmp/merged")
        os.mkdir("/tmp/merged/directory")
        _run("umount", "/tmp/merged")  # ends the server

    failure = _inside(namespace, experiment)
    if failure:
        return _failed("fuse-overlayfs", diagnose.remedy("fuse-overlayfs", host), failure, lost, required=False)
    return Check("fuse-overlayfs", "ok", f"{program} mounts and writes")


def _slirp4netns(host: Facts, namespace: enter.UserNamespace) -> Check:
    lost = "the default network: containers run with --network none or host only"
    try:
        program = slirp.find()
    except Error as error:
        return _failed("slirp4netns", diagnose.remedy("slirp", host), str(error), lost, required=False)
    failure = _inside(namespace, lambda: _try_slirp(program))
    if failure:
        return _failed("slirp4netns", diagnose.remedy("slirp", host), failure, lost, required=False)
    return Check(
        "slirp4netns",
        "ok",
        f"{program.path} {'.'.join(map(str, program.version))} gave a network namespace its tap device",
    )


def _try_slirp(program: slirp.Program) -> None:
    """As the monitor does: the words of `slirp.command`, and the three descriptors at the numbers of core.h."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin and holder.stdout
    try:
        if holder.stdout.readline() != b"\n":
            raise HostError("cannot make a network namespace")
        network = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        ready, ready_writer = os.pipe()
        exit_reader, _keep = os.pipe()
        said, said_writer = os.pipe()
        high = [
            os.dup2(fd, 40 + i, inheritable=False)
            for i, fd in enumerate((network, ready_writer, exit_reader, said_writer))
        ]
        targets = (slirp.NETNS_FD, slirp.READY_FD, slirp.EXIT_FD, 2)
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(high, targets, strict=True)]
        argv = slirp.command(program, slirp.SlirpOptions())
        os.posix_spawn(program.path, argv, os.environ, file_actions=[*actions, (os.POSIX_SPAWN_DUP2, 2, 1)])
        for fd in (*high, network, ready_writer, exit_reader, said_writer):
            os.close(fd)
        if not select.select([ready], [], [], _PATIENCE)[0] or os.read(ready, 1) != b"1":
            raise HostError(os.read(said, 400).decode("utf-8", "replace").strip() or "it does not become ready")
        with open(f"/proc/{holder.pid}/net/dev", encoding="ascii") as file:
            if f" {slirp.TAP}:" not in file.read():
                raise HostError("there is no tap device")
    finally:
        holder.stdin.close()
        holder.wait()


# ---- the rest of the host


def _tun(host: Facts) -> Check:
    trouble = diagnose.remedy("tun", host)
    if trouble:
        return _failed("tun", trouble, trouble.cause, "the default network", required=False)
    return Check("tun", "ok", "/dev/net/tun opens")


def _low_ports() -> Check:
    lowest = hostports.lowest_port()
    if lowest <= 80:
        return Check("low-ports", "ok", f"ports from {lowest} on can be published")
    lost = f"publishing ports below {lowest}, such as -p 80:80"
    return Check(
        "low-ports",
        "warn",
        f"ports from {lowest} on can be published",
        lost,
        diagnose.sysctl("net.ipv4.ip_unprivileged_port_start", 80),
    )


def _ping() -> Check:
    try:
        with open("/proc/sys/net/ipv4/ping_group_range", encoding="ascii") as file:
            first, last = map(int, file.read().split())
    except (OSError, ValueError) as error:
        return Check("ping", "skip", f"cannot read net.ipv4.ping_group_range: {error}")
    seen = f"net.ipv4.ping_group_range is {first} {last}"
    if any(first <= group <= last for group in {os.getgid(), *os.getgroups()}):
        return Check("ping", "ok", seen)
    command = "echo 'net.ipv4.ping_group_range = 0 2147483647' | sudo tee -a /etc/sysctl.d/99-rl.conf && sudo sysctl -p /etc/sysctl.d/99-rl.conf"
    return Check("ping", "warn", seen, "ping to the outside from containers", command)


def _runtime_directory(host: Facts, paths: Paths) -> Check:
    directory = os.environ.get("XDG_RUNTIME_DIR")
    lost = f"nothing now ({paths.runroot} is used), but what runs is not known to other sessions with another XDG_RUNTIME_DIR"
    if not directory:
        why = "XDG_RUNTIME_DIR is not set"
    else:
        try:
            status = os.stat(directory)
        except OSError as error:
            why = f"{directory}: {reason(error)}"
        else:
            if status.st_uid == os.getuid() and os.access(directory, os.W_OK):
                return Check("runtime-directory", "ok", directory)
            why = f"{directory} is not this user's, or not writable"
    return _failed(
        "runtime-directory", diagnose.remedy("runtime-directory", host), why, lost, required=False, soft=True
    )


def _cgroup(host: Facts) -> Iterator[Check]:
    lost = "limits on memory, processors and processes, and stopping every process of a container at once"
    root = "/sys/fs/cgroup"
    if not os.path.exists(f"{root}/cgroup.controllers"):
        yield _failed(
            "cgroup", diagnose.remedy("cgroup", host), "no cgroup v2 at /sys/fs/cgroup", lost, required=False, soft=True
        )
        return
    own = _own_cgroup(root)
    candidates = (own, f"{root}/user.slice/user-{host.uid}.slice/user@{host.uid}.service")
    for directory in candidates:
        made = f"{directory}/rl-doctor-{os.getpid()}"
        try:
            os.mkdir(made)
            os.rmdir(made)
            with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
                given = file.read().split()
        except OSError:
            continue  # not ours: the next
        yield Check("cgroup", "ok", f"made one in {directory}")
        missing = [name for name in CONTROLLERS if name not in given]
        if missing:
            seen = f"delegated: {' '.join(given) or 'none'}"
            yield _failed(
                "controllers",
                diagnose.remedy("cgroup", host, path=own),
                seen,
                f"limits by {' '.join(missing)}",
                required=False,
                soft=True,
            )
        else:
            yield Check("controllers", "ok", f"delegated: {' '.join(given)}")
        return
    yield _failed(
        "cgroup", diagnose.remedy("cgroup", host, path=own), f"{own} is not writable", lost, required=False, soft=True
    )


def _own_cgroup(root: str) -> str:
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            if line.startswith("0::"):
                return root + line[3:].strip().rstrip("/")
    return root


def _lingering(host: Facts) -> Check:
    if not host.systemd:
        return Check("lingering", "ok", "no systemd ends processes at logout")
    if os.path.exists(f"/var/lib/systemd/linger/{host.user}"):
        return Check("lingering", "ok", "processes live on after logout")
    lost = "containers in the background end when the last session of this user does"
    return Check(
        "lingering",
        "warn",
        "systemd ends this user's services at logout",
        lost,
        f"sudo loginctl enable-linger {host.user or host.uid}",
    )


# ---- how an experiment is run


def _failed(name: str, why: Remedy | None, seen: str, lost: str, *, required: bool, soft: bool = False) -> Check:
    """soft: a warning, since containers run all the same."""
    said = f"{seen}: {why.cause}" if why and why.cause not in seen else seen
    fix = why.fix if why else "no remedy is known; please report this with the output of rl doctor --format json"
    return Check(name, "warn" if soft else "fail", said, lost, fix, required)


def _inside(namespace: enter.UserNamespace, experiment: Callable[[], object]) -> str | None:
    """Run an experiment as root in the user namespace and a mount namespace of its own. None, or what went wrong, in words.

    In a forked process: a process cannot leave a user namespace again. Its group is killed at the end, whatever the experiment started.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setpgid(0, 0)
            os.environ["PATH"], os.environ["LC_ALL"] = _SYSTEM_PATH, "C"
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.chdir("/")
            _lowlevel.enter_userns(namespace.fd, mount_namespace=True)
            _become_root(namespace)
            experiment()
        except BaseException as error:
            text = (
                f"{error.filename or error.strerror}: {reason(error)}"
                if isinstance(error, OSError) and error.filename
                else str(error)
            )
            os.write(writer, text.encode("utf-8", "replace")[:2000] or b"unknown")
        finally:
            os._exit(0)
    os.close(writer)
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass  # the child was faster, or has ended
    try:
        if not select.select([reader], [], [], _PATIENCE)[0]:
            return f"no end after {_PATIENCE:.0f} seconds"
        return os.read(reader, 2000).decode("utf-8", "replace") or None
    finally:
        os.close(reader)
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass  # all of it has ended by itself
        os.waitpid(pid, 0)


def _become_root(namespace: enter.UserNamespace) -> None:
    if namespace.setgroups:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _run(*command: str, descriptors: tuple[int, ...] = ()) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE, pass_fds=descriptors)
    except FileNotFoundError:
        raise HostError(f"{command[0]} is not installed, so this cannot be checked") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise HostError(said[0] if said else f"{command[0]} failed with exit code {error.returncode}") from None


@contextmanager
def _directory_beside(path: str) -> Iterator[str]:
    """A new directory in `path`, or in the nearest directory above that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    with tempfile.TemporaryDirectory(prefix=".rl-doctor-", dir=path, ignore_cleanup_errors=True) as directory:
        yield directory
