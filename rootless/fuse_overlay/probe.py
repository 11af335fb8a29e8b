"""What a host allows, by outcome: overlays are really mounted on the store's file system, in a user namespace, and used.

Each attempt is a child process with a mount namespace of its own, so nothing of it can stay; only its errno comes back. The upper layer's file
system decides: no extended attributes (NFS, tmpfs before Linux 6.6) or an overlay below (a container in a container) and the kernel refuses.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from collections.abc import Callable

from .. import _lowlevel
from . import Overlay, Probe, copyup, find_fuse_overlayfs, mount_options

_libc = ctypes.CDLL(None, use_errno=True)


def probe(userns: int, directory: str) -> Probe:
    """Try what there is. userns: descriptor of a mapped user namespace; directory: on the store's file system, ours, left as it is found."""
    program = find_fuse_overlayfs()
    return Probe(
        overlay=attempt(userns, directory, mount_kernel),
        fuse=attempt(userns, directory, mount_ours),
        fuse_overlayfs=program,
        version=_version(program) if program else "",
    )


def attempt(userns: int, directory: str, mount: Callable[[Overlay], None]) -> int:
    """Mount an overlay in a new directory of `directory` and use it. Returns 0, or the errno of what failed first."""
    place = f"{directory}/probe-{os.urandom(6).hex()}"  # not by our pid: in a container it is often that of one who was killed here
    pid = os.fork()
    if pid == 0:  # all that is made is its, so that nothing stays where its parent is killed meanwhile
        number = errno.EIO
        try:
            _lowlevel.enter_userns(userns, mount_namespace=True)
            _check(_libc.mount(None, b"/", None, 1 << 14 | 1 << 18, None))  # MS_REC | MS_PRIVATE: nothing travels back
            os.mkdir(place, 0o700)
            try:
                _use(place, mount)
            finally:  # here, as the kernel made a work directory that only root of the namespace can enter
                for entry in os.listdir(place):
                    _libc.umount2(os.fsencode(f"{place}/{entry}"), 2)  # MNT_DETACH, where something is still mounted
                    _remove(place, entry)
                os.rmdir(place)
            number = 0
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os._exit(number)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else errno.EIO


def mount_kernel(overlay: Overlay) -> None:
    """As the monitor does it: directories as descriptors, so that no character of a path can disturb the options."""
    opened = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (*overlay.lower, overlay.upper, overlay.work)]
    *lower, upper, work = (copyup.by_descriptor(descriptor) for descriptor in opened)
    data = mount_options(overlay._replace(lower=tuple(lower), upper=upper, work=work))
    _check(_libc.mount(b"overlay", os.fsencode(overlay.target), b"overlay", 0, data.encode()))


def mount_ours(overlay: Overlay) -> None:
    from . import server

    server.start(overlay.lower, overlay.upper, overlay.work, overlay.target)


def _use(place: str, mount: Callable[[Overlay], None]) -> None:
    """The marks an overlay makes are what a file system may refuse: a whiteout, an opaque directory, a rename over both."""
    lower, upper, work, target = (f"{place}/{name}" for name in ("lower", "upper", "work", "target"))
    for path in (lower, upper, work, target, f"{lower}/directory"):
        os.mkdir(path)
    for path in (f"{lower}/file", f"{lower}/directory/file"):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    mount(Overlay("overlay", (lower,), upper, work, target))
    try:
        os.chmod(f"{target}/file", 0o644)
        os.unlink(f"{target}/file")
        os.unlink(f"{target}/directory/file")
        os.rmdir(f"{target}/directory")
        os.mkdir(f"{target}/directory")
        if os.listdir(target) != ["directory"] or os.listdir(f"{target}/directory"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
    finally:
        _check(_libc.umount2(os.fsencode(target), 0))


def _remove(directory: str, name: str) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copyup.remove(opened, os.fsencode(name))
    finally:
        os.close(opened)


def _version(program: str) -> str:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"^fuse-overlayfs: version (\S+)", said, re.MULTILINE)
    return found[1] if found else ""


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
