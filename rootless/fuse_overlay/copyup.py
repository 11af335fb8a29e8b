"""Copy-up: what a lower layer holds is made whole in the work directory, then renamed into the upper layer, so that nobody sees a half.

Everything goes by descriptors of directories and single names that are never followed if they are symlinks; no path is walked.

One name of a file with several hard links is copied alone: the link to the others breaks, as in the kernel's overlay without `index`. (An
index needs file handles, which a user namespace may not decode.)
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from itertools import count
from typing import Final

from . import merge

PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4

_FICLONE = 0x40049409
_CHUNK = 1 << 30
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)
_libc = ctypes.CDLL(None, use_errno=True)


class Work:
    """The overlay's work directory: on the upper layer's file system, for what is not finished yet. `directory`: its descriptor.

    volatile: what is copied up need not survive a power cut.
    """

    def __init__(self, directory: int, *, volatile: bool = False) -> None:
        self.directory = directory
        self.volatile = volatile
        self._numbers = count()
        for name in os.listdir(directory):  # of a server that was killed: its counter began at the same number
            self.remove(os.fsencode(name))

    def name(self) -> bytes:
        """A name that nothing has yet."""
        return b"#%x" % next(self._numbers)

    def remove(self, name: bytes) -> None:
        """Remove what lies at a name of the work directory, with all in it."""
        remove(self.directory, name)


def copy_up(work: Work, source: int, name: bytes, target: int, *, size: int | None = None) -> None:
    """Copy `name` from the directory `source` to the directory `target`; what is not a directory replaces what is there.

    size: copy no more than the first bytes of a file, of which the caller will cut off the rest. A directory is copied without its entries.
    """
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    temporary = work.name()
    try:
        if stat.S_ISREG(status.st_mode):
            _copy_file(source, name, work.directory, temporary, status.st_size if size is None else size)
        elif stat.S_ISDIR(status.st_mode):
            os.mkdir(temporary, 0o700, dir_fd=work.directory)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), temporary, dir_fd=work.directory)
        else:
            os.mknod(temporary, status.st_mode, status.st_rdev, dir_fd=work.directory)
        copy_attributes(source, name, work.directory, temporary)
        if stat.S_ISREG(status.st_mode) and size != 0 and not work.volatile:
            _flush(work.directory, temporary)
        os.rename(temporary, name, src_dir_fd=work.directory, dst_dir_fd=target)
    except BaseException:
        work.remove(temporary)
        raise


def copy_attributes(source: int, name: bytes, target: int, new_name: bytes) -> None:
    """Give `new_name` in the directory `target` the owner, mode, extended attributes and times of `name` in `source`."""
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    # The order matters: chown(2) clears set-user-id bits and file capabilities, and everything after it changes the times.
    os.chown(new_name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    old = os.open(name, PATH, dir_fd=source)
    try:
        new = os.open(new_name, PATH, dir_fd=target)
        try:
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(by_descriptor(new), stat.S_IMODE(status.st_mode))
            copy_xattrs(by_descriptor(old), by_descriptor(new))
        finally:
            os.close(new)
    finally:
        os.close(old)
    os.utime(new_name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def copy_xattrs(source: str, target: str) -> None:
    """Copy the extended attributes, except for overlays' own notes. Both are files whose path is followed."""
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return
        raise
    for name in names:
        if name.startswith(merge.OWN_XATTRS):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            # Labels of security modules are not ours to set: the new file has the label that its place gives it. The kernel does the same.
            label = name.startswith("security.") and name != "security.capability"
            if error.errno != errno.EOPNOTSUPP and not label:
                raise


def copy_data(source: int, target: int, size: int) -> None:
    """Copy the first `size` bytes between two open files, holes as holes, by sharing blocks where the file system can."""
    if size >= os.fstat(source).st_size:
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in (*_NO_KERNEL_COPY, errno.ENOTTY):
                raise
        else:
            return
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
            end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            if error.errno != errno.EINVAL:
                raise
            start, end = 0, size
        if start < end:
            _copy_range(source, target, start, end)
    os.truncate(target, size)


def rename(source: int, name: bytes, target: int, new_name: bytes, flags: int) -> None:
    """renameat2(2), which the standard library lacks."""
    if _libc.renameat2(source, ctypes.c_char_p(name), target, ctypes.c_char_p(new_name), ctypes.c_uint(flags)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def by_descriptor(descriptor: int) -> str:
    """A path of what a descriptor refers to, for calls that take paths alone; O_PATH descriptors and symlinks included (proc(5))."""
    return f"/proc/self/fd/{descriptor}"


def _copy_file(source: int, name: bytes, target: int, temporary: bytes, size: int) -> None:
    old = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC, dir_fd=source)
    try:
        new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            if size:
                copy_data(old, new, size)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    kernel = True
    while start < end:
        if kernel:
            try:
                copied = os.copy_file_range(source, target, min(end - start, _CHUNK), start, start)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                kernel = False
                continue
        else:
            os.lseek(target, start, os.SEEK_SET)
            copied = os.sendfile(target, source, start, min(end - start, _CHUNK))
        if copied == 0:
            break  # somebody cut the file while we read it
        start += copied


def _flush(directory: int, name: bytes) -> None:
    """The data before the name, or a power cut leaves an empty file where there was a full one. The kernel's overlay does the same."""
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove(directory: int, name: bytes) -> None:
    """Remove what lies at a name of a directory, with all in it; nothing there is fine."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            for entry in os.listdir(opened):
                remove(opened, os.fsencode(entry))
        finally:
            os.close(opened)
        os.rmdir(name, dir_fd=directory)
