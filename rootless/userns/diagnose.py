"""Why this host refused a step, and the one command that mends it.

One table serves two: `rl doctor` (`engine.doctor`) shows the remedy beside its check, and an error of `rl run` carries it as its hint.
`facts()` reads the host; every `_step` function below is a pure function of what it read, the errno and the path.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from . import idmap, subid
from .idmap import IdMap
from .subid import SubidRange

Step = Literal[
    "userns",
    "idmap",
    "proc",
    "mount",
    "overlay",
    "fuse",
    "fuse-overlayfs",
    "tun",
    "slirp",
    "memfd",
    "seccomp",
    "cgroup",
    "runtime-directory",
]
STEPS: tuple[str, ...] = get_args(Step)

SUBIDS = 65536  # ids that one image may use: what distributions give each user

# The package that holds a program, per ID or ID_LIKE of os-release(5); the first word that matches.
_INSTALL = {
    "debian": "sudo apt-get install -y",
    "fedora": "sudo dnf install -y",
    "rhel": "sudo dnf install -y",
    "suse": "sudo zypper install -y",
    "arch": "sudo pacman -S --noconfirm",
    "alpine": "sudo apk add",
}
_UIDMAP_PACKAGE = {"debian": "uidmap", "fedora": "shadow-utils", "rhel": "shadow-utils", "alpine": "shadow-uidmap"}


class Remedy(NamedTuple):
    """cause: what is in the way, lower case, no full stop. fix: one command for a shell, or an instruction where no command does it."""

    cause: str
    fix: str


class Facts(NamedTuple):
    """What the host says about itself; None where it does not say."""

    uid: int = 1000
    user: str | None = "user"
    executable: str = "/usr/bin/rl"  # what makes the user namespace: the frozen rl, or the Python that runs it
    distributions: tuple[str, ...] = ()  # ID and ID_LIKE of os-release(5)
    apparmor_restricts: bool = False  # kernel.apparmor_restrict_unprivileged_userns
    userns_clone: int | None = None  # kernel.unprivileged_userns_clone (Debian)
    max_user_namespaces: int | None = None
    memfd_noexec: int | None = None
    seccomp_filtered: bool = False
    no_new_privileges: bool = False
    chrooted: bool = False
    masked_proc: bool = False  # something is mounted below /proc
    systemd: bool = True
    newidmap: tuple[tuple[str, str | None, str | None], ...] = ()  # (program, its path, what is wrong with it)
    subids: tuple[SubidRange, ...] = (SubidRange(100000, SUBIDS),)  # the user's, those that both files have
    all_subids: tuple[SubidRange, ...] = ()  # everyone's
    own_map: IdMap = ()  # of the user namespace that we are in; () is the initial one
    has_usermod: bool = True


# Whatever the step was: fork(2) and open(2) have run into a limit.
_EXHAUSTED = {
    errno.EAGAIN: (
        "the limit of this user's processes is reached",
        "end some, or raise it: ulimit -u (hard limit: limits.conf(5))",
    ),
    errno.EMFILE: ("the limit of open files is reached", "ulimit -n 1024"),
    errno.ENOMEM: ("there is not enough memory", "see the limits of this shell: ulimit -a"),
}


def hint(step: Step, error: int | None = None, *, path: str | None = None) -> str:
    """The words for `Error.hint` when `step` failed with this errno; `path` is the device, program or directory concerned."""
    found = remedy(step, facts(), error, path)
    return f"{found.cause}: {found.fix}" if found else "rl doctor"


def remedy(step: Step, host: Facts, error: int | None = None, path: str | None = None) -> Remedy | None:
    """What is in the way of the step, None where nothing that we know of is. Pure."""
    if limit := _EXHAUSTED.get(error or 0):
        return Remedy(*limit)
    return _STEPS[step](host, error, path)


# ---- the table


def _userns(host: Facts, error: int | None, _path: str | None) -> Remedy | None:
    if host.max_user_namespaces == 0:
        return Remedy("user.max_user_namespaces is 0", sysctl("user.max_user_namespaces", 28633))
    if host.userns_clone == 0:
        return Remedy("kernel.unprivileged_userns_clone is 0", sysctl("kernel.unprivileged_userns_clone", 1))
    if host.apparmor_restricts:
        return Remedy(f"AppArmor restricts user namespaces of {host.executable}", apparmor_profile(host.executable))
    if error in (errno.ENOSPC, errno.EUSERS) and host.max_user_namespaces is not None:
        return Remedy(
            f"the limit of {host.max_user_namespaces} user namespaces is reached, or they are nested 32 deep",
            sysctl("user.max_user_namespaces", max(28633, 2 * host.max_user_namespaces)),
        )
    if error in (errno.ENOSYS, errno.EINVAL):
        return Remedy("the kernel has no user namespaces", "boot a kernel that is built with CONFIG_USER_NS=y")
    if host.chrooted:
        return Remedy(
            "rl runs in a chroot, where user namespaces are refused (clone(2), EPERM)", "start rl outside of the chroot"
        )
    if host.seccomp_filtered:
        return Remedy(
            "a seccomp filter of an outer container or service refuses it",
            "start the outer container with --security-opt seccomp=unconfined",
        )
    return None


def _idmap(host: Facts, _error: int | None, _path: str | None) -> Remedy | None:
    if host.uid == 0:  # maps its own ids itself; since Linux 5.12 the id 0 takes a capability more
        return Remedy(
            "root without CAP_SETFCAP may not even map its own id (user_namespaces(7))",
            "start rl as another user, or with CAP_SETUID, CAP_SETGID and CAP_SETFCAP",
        )
    for program, path, trouble in host.newidmap:
        if path is None:
            return Remedy(f"{program} is not installed", install(host, _UIDMAP_PACKAGE, "shadow"))
        if trouble == "nosuid":
            return Remedy(
                f"{path} lies on a file system mounted nosuid", f"sudo mount -o remount,suid {_mount_point(path)}"
            )
    broken = [path for _, path, trouble in host.newidmap if path and trouble]
    if broken:
        paths = " ".join(broken)
        return Remedy(
            f"{' and '.join(broken)} lost the setuid bit or file capability",
            f"sudo chown root:root {paths} && sudo chmod 4755 {paths}",
        )
    if host.no_new_privileges:
        return Remedy(
            "this process may not gain privileges (no_new_privs), so newuidmap has no effect",
            "start rl outside of it: NoNewPrivileges=no in a systemd unit, an outer container without no-new-privileges",
        )
    if host.user is None:
        return Remedy(
            f"the uid {host.uid} has no entry in the password database, and newuidmap refuses to serve it",
            f"sudo useradd --uid {host.uid} --user-group NAME, or the same in the directory service",
        )
    if not host.subids:
        return Remedy(f"{host.user} has no subordinate ids in /etc/subuid and /etc/subgid", add_subids(host))
    if host.own_map and not any(_within(host.own_map, found) for found in host.subids):
        return Remedy("the subordinate ids do not exist in the user namespace that rl runs in", add_subids(host))
    return _userns(host, None, None)


def _proc(host: Facts, error: int | None, _path: str | None) -> Remedy | None:
    if host.masked_proc:
        return Remedy(
            "parts of /proc are hidden here, so the kernel refuses a fresh one",
            "start the outer container with --security-opt unmask=ALL (Podman) or --security-opt systempaths=unconfined (Docker)",
        )
    return _mount(host, error, None)


def _mount(host: Facts, error: int | None, _path: str | None) -> Remedy | None:
    if error == errno.ENOSYS and not host.seccomp_filtered:
        return Remedy("rl needs Linux 5.12", "boot a newer kernel")
    if host.apparmor_restricts:
        return _userns(host, None, None)
    if host.seccomp_filtered:
        return Remedy(
            "a filter of an outer container refuses mounts",
            "start the outer container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        )
    return None


def _overlay(host: Facts, error: int | None, path: str | None) -> Remedy | None:
    if error == errno.ENODEV:
        return Remedy("the kernel has no overlay file system loaded", "sudo modprobe overlay")
    kind = file_system(path) if path else None
    if kind in ("nfs", "nfs4", "lustre", "overlay", "cifs", "gpfs", "beegfs", "ceph", "fuse", "zfs") or (
        kind or ""
    ).startswith("fuse."):
        return Remedy(
            f"{path} lies on {kind}, which cannot hold the upper layer",
            "rl --root DIRECTORY, on a local disk (ext4, xfs, btrfs)",
        )
    return _mount(host, None, None)


def _fuse(_host: Facts, _error: int | None, _path: str | None) -> Remedy | None:
    return _device("/dev/fuse", "fuse", 229, "0666")


def _tun(_host: Facts, _error: int | None, _path: str | None) -> Remedy | None:
    return _device("/dev/net/tun", "tun", 200, "0666")


def _fuse_overlayfs(host: Facts, error: int | None, path: str | None) -> Remedy | None:
    return _fuse(host, error, path) or Remedy(
        "fuse-overlayfs is not installed or does not work", install(host, {}, "fuse-overlayfs")
    )


def _slirp(host: Facts, error: int | None, path: str | None) -> Remedy | None:
    return _tun(host, error, path) or Remedy(
        "slirp4netns is not installed or does not work", install(host, {}, "slirp4netns")
    )


def _memfd(host: Facts, _error: int | None, _path: str | None) -> Remedy | None:
    if host.memfd_noexec == 2:
        return Remedy("vm.memfd_noexec is 2: no program may be executed from memory", sysctl("vm.memfd_noexec", 1))
    return None


def _seccomp(_host: Facts, _error: int | None, _path: str | None) -> Remedy | None:
    return Remedy(
        "the kernel has no seccomp filters",
        "boot a kernel with CONFIG_SECCOMP_FILTER=y, or run with --security-opt seccomp=unconfined",
    )


def _cgroup(host: Facts, _error: int | None, path: str | None) -> Remedy | None:
    if path is None:
        return Remedy(
            "this host uses cgroup v1, or both versions",
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
        )
    if not host.systemd:
        return Remedy(f"the cgroup {path} is not this user's", f"sudo chown -R {host.user or host.uid} {path}")
    drop_in = "/etc/systemd/system/user@.service.d"
    return Remedy(
        "systemd does not delegate all of them to users",
        f"sudo mkdir -p {drop_in} && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee {drop_in}/delegate.conf"
        " && sudo systemctl daemon-reload (then log in anew)",
    )


def _runtime_directory(host: Facts, _error: int | None, _path: str | None) -> Remedy | None:
    return Remedy(
        "this session has no runtime directory of its own",
        f"sudo loginctl enable-linger {host.user or host.uid} && export XDG_RUNTIME_DIR=/run/user/{host.uid}"
        if host.systemd
        else f"sudo install -d -m 700 -o {host.uid} /run/user/{host.uid} && export XDG_RUNTIME_DIR=/run/user/{host.uid}",
    )


_STEPS: dict[Step, Callable[[Facts, int | None, str | None], Remedy | None]] = {
    "userns": _userns,
    "idmap": _idmap,
    "proc": _proc,
    "mount": _mount,
    "overlay": _overlay,
    "fuse": _fuse,
    "fuse-overlayfs": _fuse_overlayfs,
    "tun": _tun,
    "slirp": _slirp,
    "memfd": _memfd,
    "seccomp": _seccomp,
    "cgroup": _cgroup,
    "runtime-directory": _runtime_directory,
}


# ---- commands


def sysctl(name: str, value: int) -> str:
    """Set a kernel parameter now and at each boot."""
    return f"echo '{name} = {value}' | sudo tee -a /etc/sysctl.d/99-rl.conf && sudo sysctl -p /etc/sysctl.d/99-rl.conf"


def apparmor_profile(executable: str) -> str:
    """Write and load the profile that lets `executable` make user namespaces; it restricts nothing (Ubuntu 23.10 and later)."""
    name = "rl" if os.path.basename(executable).startswith("rl") else f"rl-{os.path.basename(executable)}"
    path = executable.replace("\\", "\\\\").replace('"', '\\"')
    lines = (
        "abi <abi/4.0>,",
        "include <tunables/global>",
        f'profile {name} "{path}" flags=(unconfined) {{',
        "  userns,",
        "}",
    )
    # One line, not a here-document: it survives being indented, wrapped and pasted.
    words = " ".join("'" + line.replace("'", "'\\''") + "'" for line in lines)
    return f"printf '%s\\n' {words} | sudo tee /etc/apparmor.d/{name} && sudo apparmor_parser -r /etc/apparmor.d/{name}"


def install(host: Facts, packages: dict[str, str], otherwise: str) -> str:
    """Install a package by the distribution's tool; packages: its name where that differs from `otherwise`."""
    for distribution in host.distributions:
        if distribution in _INSTALL:
            return f"{_INSTALL[distribution]} {packages.get(distribution, otherwise)}"
    return f"install {packages.get('debian', otherwise)} ({otherwise}) with this system's package tool"


def add_subids(host: Facts) -> str:
    """Give the user a range of subordinate ids that nobody has, in both files."""
    first, size = free_subids(host)
    if host.user and host.has_usermod:
        last = first + size - 1
        return f"sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {host.user}"
    return f"echo '{host.user or host.uid}:{first}:{size}' | sudo tee -a /etc/subuid /etc/subgid"


def free_subids(host: Facts) -> tuple[int, int]:
    """(first, count) of ids that no line has: `SUBIDS` from 100000 on (login.defs(5), SUB_UID_MIN) where they exist, else the largest gap above 1000."""
    exists = [(line.inside, line.inside + line.size) for line in host.own_map] or [(0, idmap.ID_END)]
    taken = sorted([*host.all_subids, SubidRange(host.uid, 1)])
    gaps: list[tuple[int, int]] = []
    for first, end in exists:
        first = max(first, 1001)
        for start, size in taken:
            if first < min(start, end):
                gaps.append((first, min(start, end) - first))
            first = max(first, start + size)
        if first < end:
            gaps.append((first, end - first))
    for first, size in gaps:
        usual = max(first, 100000)
        if first + size - usual >= SUBIDS:
            return usual, SUBIDS
    first, size = max(gaps, key=lambda gap: gap[1], default=(100000, SUBIDS))
    return first, min(size, SUBIDS)


# ---- what the host says


def facts() -> Facts:
    """Read the host. What cannot be read stays as the defaults of `Facts` say; nothing is raised."""
    status = _read("/proc/self/status").split()
    release = dict(line.split("=", 1) for line in _read("/etc/os-release").splitlines() if "=" in line)
    mounts = [line.split()[4] for line in _read("/proc/self/mountinfo").splitlines()]
    own_map = idmap.parse_proc(_read("/proc/self/uid_map"))
    uid = os.getuid()
    user = _user_name(uid)
    return Facts(
        uid=uid,
        user=user,
        executable=os.path.realpath(sys.executable),
        distributions=tuple(f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".replace('"', "").split()),
        apparmor_restricts=_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1,
        userns_clone=_number("/proc/sys/kernel/unprivileged_userns_clone"),
        max_user_namespaces=_number("/proc/sys/user/max_user_namespaces"),
        memfd_noexec=_number("/proc/sys/vm/memfd_noexec"),
        seccomp_filtered=_after(status, "Seccomp:") == "2",
        no_new_privileges=_after(status, "NoNewPrivs:") == "1",
        chrooted=bool(mounts) and "/" not in mounts,
        masked_proc=any(mount.startswith("/proc/") and mount != "/proc/sys/fs/binfmt_misc" for mount in mounts),
        systemd=os.path.isdir("/run/systemd/system"),
        newidmap=tuple(_newidmap(program) for program in ("newuidmap", "newgidmap")),
        subids=_own_subids(uid, user),
        all_subids=tuple(subid.all_ranges(_read("/etc/subuid")) + subid.all_ranges(_read("/etc/subgid"))),
        own_map=() if own_map == (idmap.IdRange(0, 0, idmap.ID_END),) else own_map,
        has_usermod=which("usermod") is not None and user is not None and f"\n{user}:" in "\n" + _read("/etc/passwd"),
    )


def which(program: str) -> str | None:
    """The program in PATH, or where administrators' programs are; None where it is not installed."""
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin", "/bin", "/sbin"]:
        path = f"{directory}/{program}"
        if directory.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def file_system(path: str) -> str | None:
    """The type of the file system that `path`, or the nearest directory above it that exists, lies on, in the words of proc_pid_mountinfo(5)."""
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    path = os.path.realpath(path)
    best, kind = "", None
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        point = (
            before.split()[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        )
        # Of mounts on one point the last one is seen.
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def _newidmap(program: str) -> tuple[str, str | None, str | None]:
    path = which(program)
    if path is None:
        return program, None, None
    path = os.path.realpath(path)
    status = os.stat(path)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return program, path, "nosuid"
    if status.st_mode & 0o4000 and status.st_uid == 0:
        return program, path, None
    try:
        os.getxattr(path, "security.capability")
    except OSError:
        return program, path, "powerless"
    return program, path, None


def _own_subids(uid: int, user: str | None) -> tuple[SubidRange, ...]:
    from ..errors import HostError

    try:
        uids, gids = subid.ranges("uid", uid=uid, user=user), subid.ranges("gid", uid=uid, user=user)
    except HostError:
        return ()
    return uids if gids else ()


def _within(own_map: IdMap, found: SubidRange) -> bool:
    return any(line.inside <= found.start and found.start + found.size <= line.inside + line.size for line in own_map)


def _device(path: str, module: str, minor: int, mode: str) -> Remedy | None:
    """Why a character device (major 10) cannot be opened, None where it can."""
    try:
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        found = os.fstat(device).st_rdev
        os.close(device)
        if found != os.makedev(10, minor):
            return Remedy(
                f"{path} is another file",
                f"an outer container needs --device {path}; else: sudo umount {path} or reboot",
            )
    except FileNotFoundError:
        return Remedy(
            f"{path} does not exist",
            f"sudo modprobe {module}; test -e {path} || {{ sudo mkdir -p {os.path.dirname(path)} && sudo mknod -m {mode} {path} c 10 {minor}; }}"
            f" (an outer container needs --device {path})",
        )
    except PermissionError:
        return Remedy(f"{path} cannot be opened by this user", f"sudo chmod {mode} {path}")
    except OSError:
        return Remedy(f"{path} has no driver", f"sudo modprobe {module} (an outer container needs --device {path})")
    return None


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _user_name(uid: int) -> str | None:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""  # not on this kernel or distribution, which is an answer


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _after(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None
