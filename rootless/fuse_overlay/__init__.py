"""Root file systems from layers: the kernel's overlay, else fuse-overlayfs, else our own FUSE overlay.

`choose` decides by what `probe` has found on this host; `mount_options` and `helper_argv` say how the chosen one is mounted. The monitor does
it: a kernel overlay by mount(2), the others by a program that exits 0 once the mount serves and leaves its server behind.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from ..errors import HostError, UsageError, reason

Driver = Literal["overlay", "fuse-overlayfs", "fuse"]
DRIVERS: Final[tuple[Driver, ...]] = get_args(Driver)
"""Best first."""

SUSPECT_VERSIONS: Final = ("1.16",)
"""Versions of fuse-overlayfs with an open report of corrupted SQLite pages (containers/fuse-overlayfs#475); ours is preferred to them."""

_RETRY: Final = 600  # seconds after which a finding other than "everything works" is looked into again


class Overlay(NamedTuple):
    """One root file system. lower: the directories of the layers, topmost first. upper, work: empty where read_only.

    volatile: nobody will look at the upper layer after a crash (`--rm`): fsync(2) in the container does nothing, and unmounting flushes nothing.
    """

    driver: Driver
    lower: tuple[str, ...]
    upper: str
    work: str
    target: str
    read_only: bool = False
    volatile: bool = False


class Probe(NamedTuple):
    """What a host allows for a store (`probe.probe`). Numbers are errnos, 0 is success.

    overlay: a kernel overlay with an upper layer on the store's file system. fuse: a FUSE mount of our own overlay there, used.
    fuse_overlayfs: the program's path, None where it is not installed; version: what it says, "" if nothing.
    """

    overlay: int
    fuse: int
    fuse_overlayfs: str | None = None
    version: str = ""


class Choice(NamedTuple):
    """A driver. notice: one sentence on what is lost, None with the best. hint: how to get the best."""

    driver: Driver
    notice: str | None = None
    hint: str | None = None


class Conditions(NamedTuple):
    """What a probe depends on; another value of any of these and it must be made again."""

    kernel: str
    boot: str
    device: int
    fuse_overlayfs: str | None
    fuse_access: bool


def choose(forced: str | None, probe: Probe) -> Choice:
    """The driver for a new container. forced: --storage-driver or the setting. HostError where it, or every driver, cannot work here."""
    if forced is not None:
        return Choice(_forced(forced, probe))
    if probe.overlay == 0:
        return Choice("overlay")
    lost = f"the kernel refuses overlay mounts on this store ({reason(probe.overlay)})"
    hint = _overlay_hint(probe.overlay)
    suspect = probe.fuse_overlayfs is not None and probe.version.startswith(SUSPECT_VERSIONS)
    if probe.fuse != 0:
        raise HostError(f"{lost}, and FUSE mounts are not possible ({reason(probe.fuse)})", hint=hint)
    if probe.fuse_overlayfs is not None and not suspect:
        return Choice("fuse-overlayfs", f"{lost}: using fuse-overlayfs, which is slower", hint)
    why = (
        f"fuse-overlayfs {probe.version} is said to corrupt SQLite files"
        if suspect
        else "fuse-overlayfs is not installed"
    )
    return Choice("fuse", f"{lost} and {why}: using rl's own FUSE overlay, which is slow", hint)


def _forced(driver: str, probe: Probe) -> Driver:
    if driver not in DRIVERS:
        raise UsageError(f"unknown storage driver {driver}", hint=f"one of: {', '.join(DRIVERS)}")
    if driver == "overlay" and probe.overlay:
        message = f"cannot use the storage driver overlay: the kernel refuses it ({reason(probe.overlay)})"
        raise HostError(message, hint=_overlay_hint(probe.overlay))
    if driver == "fuse-overlayfs" and probe.fuse_overlayfs is None:
        raise HostError(
            "cannot use the storage driver fuse-overlayfs: it is not installed", hint="apt-get install fuse-overlayfs"
        )
    if driver != "overlay" and probe.fuse:
        message = f"cannot use the storage driver {driver}: FUSE mounts are not possible ({reason(probe.fuse)})"
        raise HostError(message, hint="chmod 0666 /dev/fuse")
    return driver


def _overlay_hint(number: int) -> str:
    import errno

    if number in (errno.EPERM, errno.EACCES):
        return "overlay mounts by an unprivileged user need Linux 5.11; see rl doctor"
    if number == errno.ENODEV:
        return "modprobe overlay"
    return "keep the store on ext4, xfs, btrfs or another local file system with extended attributes (--root)"


def kernel_options(overlay: Overlay) -> str:
    """The options of the kernel's overlay, but for its directories, which the monitor adds as descriptors (/proc/self/fd/N).

    userxattr: its notes are `user.overlay.*`, which a user namespace may write; it turns redirect_dir and metacopy off by itself, which
    would let an image name any place of the store. index=off, and with it nfs_export: it decodes file handles, for the real root alone.
    volatile (Linux 5.10) only where it is said: a container that stays outlives a power cut as an ordinary file system does. The kernel marks the
    work directory of a volatile overlay, and does not mount it a second time.
    """
    return "userxattr,index=off,volatile" if overlay.volatile else "userxattr,index=off"


def mount_options(overlay: Overlay) -> str:
    """The whole data of mount(2), for paths that have neither colon, comma nor backslash."""
    data = f"{kernel_options(overlay)},lowerdir={':'.join(overlay.lower)}"
    return data if overlay.read_only else f"{data},upperdir={overlay.upper},workdir={overlay.work}"


def helper_argv(overlay: Overlay, *, fuse_overlayfs: str = "fuse-overlayfs") -> tuple[str, ...] | None:
    """The program that mounts this and says in one line why it could not; None for the kernel's overlay. Ours exits 0 once its server serves (which ends with its
    mount, or its namespace); fuse-overlayfs stays, and serves from when the mount is there."""
    if overlay.driver == "overlay":
        return None
    if overlay.driver == "fuse-overlayfs":
        # In the foreground, a child of the monitor: as a daemon it would outlive a monitor that is killed, with a mount namespace that only it holds.
        return (fuse_overlayfs, "-f", "-o", _fuse_overlayfs_options(overlay), overlay.target)
    words = [word for layer in overlay.lower for word in ("--lower", layer)]
    if not overlay.read_only:
        words += ["--upper", overlay.upper, "--work", overlay.work, *(["--volatile"] if overlay.volatile else [])]
    return (*_own_program(), *words, overlay.target)


def _own_program() -> tuple[str, ...]:
    """Ourselves as the server. -IS: it needs the standard library alone, and nothing of the user's environment or directories."""
    if getattr(sys, "frozen", False):
        return (sys.executable, "__fuse-overlay")
    above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    start = "import sys; sys.path.insert(0, sys.argv[1]); from rootless.fuse_overlay.__main__ import main; sys.exit(main(sys.argv[2:]))"
    return (sys.executable, "-IS", "-c", start, above)


def _fuse_overlayfs_options(overlay: Overlay) -> str:
    """-o of fuse-overlayfs.

    Not xattr_permissions, which keeps owners in attributes instead of chown(2): our layers and the other drivers have real ones. Not noacl: ACLs
    work as in the kernel. It splits lowerdir at every colon, knows no escape for one, and reads `//` at a beginning as the name of a plugin.
    """
    for path in (*overlay.lower, overlay.upper, overlay.work):
        if ":" in path:
            raise HostError(
                f"fuse-overlayfs cannot use {path}: the path has a colon",
                hint="--storage-driver fuse, or a store elsewhere (--root)",
            )
    options = [f"lowerdir={':'.join(map(os.path.normpath, overlay.lower))}"]
    if not overlay.read_only:
        options += [f"upperdir={overlay.upper}", f"workdir={overlay.work}", *(["volatile"] if overlay.volatile else [])]
    escaped = [option.replace("\\", "\\\\").replace(",", "\\,") for option in options]
    return ",".join((*escaped, "ro") if overlay.read_only else escaped)


def conditions(store: str) -> Conditions:
    """The present conditions of a probe for the store directory: a few cheap system calls."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    access = os.access("/dev/fuse", os.R_OK | os.W_OK)
    return Conditions(os.uname().release, boot, os.stat(store).st_dev, find_fuse_overlayfs(), access)


def find_fuse_overlayfs() -> str | None:
    """The first fuse-overlayfs of PATH."""
    for directory in os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":"):
        path = f"{directory}/fuse-overlayfs"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def to_document(probe: Probe, conditions: Conditions, *, now: float) -> dict[str, Any]:
    """A probe as JSON for the cache, which the caller keeps (`Paths.storage_probe`). now: seconds since the epoch."""
    return {"probe": probe._asdict(), "conditions": conditions._asdict(), "time": now}


def from_document(document: object, conditions: Conditions, *, now: float) -> Probe | None:
    """The cached probe if it still holds, else None. That overlay does not work may be mended without any condition changing: it holds for a while."""
    if not isinstance(document, Mapping) or document.get("conditions") != conditions._asdict():
        return None
    try:
        probe = Probe(**document["probe"])
        age = now - document["time"]
    except (KeyError, TypeError):
        return None  # of another rl
    return probe if probe.overlay == 0 or 0 <= age < _RETRY else None
