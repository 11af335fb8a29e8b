"""The kernel's FUSE protocol (fuse(4), linux/fuse.h, version 7.31) for `filesystem.Filesystem`: mount, and answer requests one after the other.

Why not fuse-python, which this package was meant to use. Its 1.0.9 (C glue over libfuse 2.9's path interface) cannot be made to pass the tests that the
other drivers pass; seen with a pass-through of forty lines, the last item and the times of `tar -x` read in its source:

- times are whole seconds, and 32 bits of them (a `touch -d 2040-05-05` gives the year 1904);
- utimensat(2) with one of the times omitted succeeds and does nothing: `touch -m`, and every time of `tar -x`;
- values of extended attributes must be UTF-8: half of all file capabilities, ACLs, and any binary value give EINVAL;
- a file that is unlinked while open becomes `.fuse_hidden…` in its directory, which then cannot be removed;
- no renameat2(2) flags, fallocate(2), O_TMPFILE, SEEK_HOLE; and hard links are several inodes, each with a page cache of its own.

None of these can be mended above it. The protocol itself needs no library, no fusermount and no thread, and is what the structures below say.

One thread: while a request waits for the disk (an fsync, the copy-up of a large file) others wait too. In exchange no operation ever sees another half done.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from struct import Struct
from typing import Final

from .filesystem import Caller, Filesystem, Node

MAX_WRITE: Final = 1 << 20
_BUFFER = MAX_WRITE + 4096
_FOREVER = 1 << 31  # seconds that the kernel may keep names and attributes: they change through us alone

_MS_RDONLY, _MS_REC, _MS_PRIVATE = 1, 1 << 14, 1 << 18
_MNT_DETACH = 2
_CLONE_NEWNS = 0x00020000

_HEADER = Struct("<IIQQIIIHH")
_REPLY = Struct("<IiQ")
_INIT_IN = Struct("<IIII")
_INIT_OUT = Struct("<IIIIHHIIHHI28x")
_ATTRIBUTES = Struct("<QQQQQQIIIIIIIIII")
_ENTRY = Struct("<QQQQII")
_ATTR_HEAD = Struct("<QII")
_SETATTR_IN = Struct("<I4xQQ8xQQ8xII4xI4xII4x")
_MKNOD_IN = Struct("<III4x")
_TWO = Struct("<II")
_CREATE_IN = Struct("<IIII")
_OPEN_OUT = Struct("<QI4x")
_READ_IN = Struct("<QQI")
_WRITE_IN = Struct("<QQII8xI4x")
_LONG = Struct("<Q")
_STATFS = Struct("<QQQQQIIII24x")
_RENAME2_IN = Struct("<QI4x")
_FALLOCATE_IN = Struct("<QQQI4x")
_LSEEK_IN = Struct("<QQI4x")
_COPY_IN = Struct("<QQQQQQQ")
_DIRENT = Struct("<QQII")
_FORGET_ONE = Struct("<QQ")

# Flags of FUSE_INIT that we ask for where the kernel has them.
_ASYNC_READ, _ATOMIC_O_TRUNC, _BIG_WRITES, _DONT_MASK = 1 << 0, 1 << 3, 1 << 5, 1 << 6
_DO_READDIRPLUS, _READDIRPLUS_AUTO, _PARALLEL_DIROPS = 1 << 13, 1 << 14, 1 << 18
_POSIX_ACL, _MAX_PAGES, _CACHE_SYMLINKS, _HANDLE_KILLPRIV_V2 = 1 << 20, 1 << 22, 1 << 23, 1 << 28
_WANTED = (
    _ASYNC_READ
    | _ATOMIC_O_TRUNC
    | _BIG_WRITES
    | _DONT_MASK
    | _DO_READDIRPLUS
    | _READDIRPLUS_AUTO
    | _PARALLEL_DIROPS
    | _POSIX_ACL
    | _MAX_PAGES
    | _CACHE_SYMLINKS
    | _HANDLE_KILLPRIV_V2
)

_SET_MODE, _SET_UID, _SET_GID, _SET_SIZE, _SET_ATIME, _SET_MTIME, _SET_HANDLE = (1 << bit for bit in range(7))
_SET_ATIME_NOW, _SET_MTIME_NOW, _SET_KILL_SUIDGID = 1 << 7, 1 << 8, 1 << 11
_GETATTR_HANDLE = 1
_OPEN_KILL_SUIDGID = 1
_WRITE_KILL_SUIDGID = 4
_FSYNC_DATA = 1
_KEEP_CACHE = 2

_libc = ctypes.CDLL(None, use_errno=True)

Answer = bytes | None
"""The body of a reply; None: the request wants none."""


def mount(target: str, *, read_only: bool) -> int:
    """Mount a FUSE file system at `target` and return the descriptor on which the kernel asks. Needs CAP_SYS_ADMIN in a user and mount namespace of ours."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={MAX_WRITE}"
    flags = _MS_RDONLY if read_only else 0
    try:
        _check(_libc.mount(b"rl-overlay", os.fsencode(target), b"fuse.rl-overlay", flags, data.encode()))
    except OSError:
        os.close(device)
        raise
    return device


def leave_mount(target: str) -> None:
    """Stop to hold up the mount: move to a mount namespace of our own, without it.

    A server that stayed in the namespace of its mount would keep it alive, and the mount the server, when everybody else is gone. From here the
    mount ends with the last process of the container's side, and the server with the mount.
    """
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH))


class Server:
    """Answers the requests on a descriptor of /dev/fuse until the file system is unmounted. ready: called once, when the kernel has been answered first."""

    def __init__(self, filesystem: Filesystem, device: int, *, ready: Callable[[], None]) -> None:
        self._files = filesystem
        self._device = device
        self._ready = ready
        self._listings: dict[int, tuple[Node, list[tuple[bytes, int, int]]]] = {}
        self._next_listing = 1
        self._buffer = bytearray(_BUFFER)
        self._caller = (0, 0)
        self._operations: dict[int, Callable[[int, memoryview], Answer]] = {
            1: self._lookup,
            2: self._forget,
            3: self._getattr,
            4: self._setattr,
            5: self._readlink,
            6: self._symlink,
            8: self._mknod,
            9: self._mkdir,
            10: self._unlink,
            11: self._rmdir,
            12: self._rename,
            13: self._link,
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: self._release,
            20: self._fsync,
            21: self._setxattr,
            22: self._getxattr,
            23: self._listxattr,
            24: self._removexattr,
            26: self._init,
            27: self._opendir,
            28: self._readdir,
            29: self._releasedir,
            30: self._fsyncdir,
            35: self._create,
            38: self._destroy,
            39: self._ioctl,
            42: self._batch_forget,
            43: self._fallocate,
            44: self._readdirplus,
            45: self._rename2,
            46: self._lseek,
            47: self._copy_file_range,
            51: self._tmpfile,
        }  # anything else gets ENOSYS: the kernel then does without it (flush, access, interrupt, locks, poll, statx …)

    def serve(self) -> None:
        """Return when the file system is gone."""
        buffer, view, device = [self._buffer], memoryview(self._buffer), self._device
        while True:
            try:
                length = os.readv(device, buffer)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # ENOENT: the asker was interrupted
                    continue
                raise
            _, operation, unique, number, uid, gid, _, _, _ = _HEADER.unpack_from(view)
            self._caller = (uid, gid)
            try:
                handler = self._operations[operation]
            except KeyError:
                self._reply(unique, errno.ENOSYS, b"")
                continue
            try:
                answer = handler(number, view[_HEADER.size : length])
            except OSError as error:
                self._reply(unique, error.errno or errno.EIO, b"")
            except RecursionError:
                self._reply(unique, errno.ELOOP, b"")
            else:
                if answer is not None:
                    self._reply(unique, 0, answer)
            self._files.trim()

    def _reply(self, unique: int, error: int, body: bytes) -> None:
        try:
            os.writev(self._device, [_REPLY.pack(_REPLY.size + len(body), -error, unique), body])
        except OSError as problem:
            if problem.errno not in (errno.ENOENT, errno.ENODEV):  # the asker, or the mount, is gone
                raise

    # ---- what answers are made of

    def _node(self, number: int) -> Node:
        try:
            return self._files.nodes[number]
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def _attributes(self, node: Node, status: os.stat_result) -> bytes:
        return _ATTRIBUTES.pack(
            node.inode,
            status.st_size,
            status.st_blocks,
            status.st_atime_ns // 1_000_000_000 & 0xFFFFFFFFFFFFFFFF,
            status.st_mtime_ns // 1_000_000_000 & 0xFFFFFFFFFFFFFFFF,
            status.st_ctime_ns // 1_000_000_000 & 0xFFFFFFFFFFFFFFFF,
            status.st_atime_ns % 1_000_000_000,
            status.st_mtime_ns % 1_000_000_000,
            status.st_ctime_ns % 1_000_000_000,
            status.st_mode,
            1
            if len(node.layers) > 1
            else status.st_nlink,  # nobody counts the subdirectories of a merged one: 1 says so
            status.st_uid,
            status.st_gid,
            _kernel_device(status.st_rdev),
            status.st_blksize,
            0,
        )

    def _entry(self, node: Node) -> bytes:
        node.lookups += 1
        head = _ENTRY.pack(node.number, 0, _FOREVER, _FOREVER, 0, 0)
        return head + self._attributes(node, self._files.status(node))

    def _attr(self, node: Node, status: os.stat_result) -> bytes:
        return _ATTR_HEAD.pack(_FOREVER, 0, 0) + self._attributes(node, status)

    def _handle(self, handle: int) -> int:
        if handle not in self._files.handles:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return handle

    def _asker(self, umask: int = 0) -> Caller:
        return Caller(*self._caller, umask)

    # ---- the session

    def _init(self, _: int, body: memoryview) -> bytes:
        major, _minor, readahead, flags = _INIT_IN.unpack_from(body)
        if major != 7:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        self._ready()
        return _INIT_OUT.pack(7, 31, readahead, flags & _WANTED, 16, 12, MAX_WRITE, 1, MAX_WRITE // 4096, 0, 0)

    def _destroy(self, _number: int, _body: memoryview) -> bytes:
        return b""

    def _forget(self, number: int, body: memoryview) -> None:
        node = self._files.nodes.get(number)
        if node is not None:
            self._files.forget(node, _LONG.unpack_from(body)[0])

    def _batch_forget(self, _: int, body: memoryview) -> None:
        count, _dummy = _TWO.unpack_from(body)
        for index in range(count):
            number, lookups = _FORGET_ONE.unpack_from(body, _TWO.size + index * _FORGET_ONE.size)
            node = self._files.nodes.get(number)
            if node is not None:
                self._files.forget(node, lookups)

    # ---- names

    def _lookup(self, number: int, body: memoryview) -> bytes:
        node = self._files.look_up(self._node(number), _name(body))
        if node is None:
            return _ENTRY.pack(0, 0, _FOREVER, 0, 0, 0) + bytes(
                _ATTRIBUTES.size
            )  # that nothing is there is remembered too
        return self._entry(node)

    def _symlink(self, number: int, body: memoryview) -> bytes:
        name, content, _ = bytes(body).split(b"\0")
        return self._entry(self._files.make_symlink(self._node(number), name, content, self._asker()))

    def _mknod(self, number: int, body: memoryview) -> bytes:
        mode, device, umask = _MKNOD_IN.unpack_from(body)
        parent, name = self._node(number), _name(body[_MKNOD_IN.size :])
        return self._entry(self._files.make_node(parent, name, mode, _device(device), self._asker(umask)))

    def _mkdir(self, number: int, body: memoryview) -> bytes:
        mode, umask = _TWO.unpack_from(body)
        parent, name = self._node(number), _name(body[_TWO.size :])
        return self._entry(self._files.make_directory(parent, name, mode, self._asker(umask)))

    def _unlink(self, number: int, body: memoryview) -> bytes:
        self._files.unlink(self._node(number), _name(body))
        return b""

    def _rmdir(self, number: int, body: memoryview) -> bytes:
        self._files.remove_directory(self._node(number), _name(body))
        return b""

    def _rename(self, number: int, body: memoryview) -> bytes:
        (target,) = _LONG.unpack_from(body)
        return self._renamed(number, target, 0, body[_LONG.size :])

    def _rename2(self, number: int, body: memoryview) -> bytes:
        target, flags = _RENAME2_IN.unpack_from(body)
        return self._renamed(number, target, flags, body[_RENAME2_IN.size :])

    def _renamed(self, number: int, target: int, flags: int, names: memoryview) -> bytes:
        name, new_name, _ = bytes(names).split(b"\0")
        self._files.rename(self._node(number), name, self._node(target), new_name, flags)
        return b""

    def _link(self, number: int, body: memoryview) -> bytes:
        node = self._node(_LONG.unpack_from(body)[0])
        self._files.link(node, self._node(number), _name(body[_LONG.size :]))
        return self._entry(node)

    def _readlink(self, number: int, _: memoryview) -> bytes:
        return self._files.read_link(self._node(number))

    # ---- attributes

    def _getattr(self, number: int, body: memoryview) -> bytes:
        flags, _dummy = _TWO.unpack_from(body)
        node = self._node(number)
        if flags & _GETATTR_HANDLE:
            (handle,) = _LONG.unpack_from(body, _TWO.size)
            return self._attr(node, os.fstat(self._handle(handle)))
        return self._attr(node, self._files.status(node))

    def _setattr(self, number: int, body: memoryview) -> bytes:
        valid, handle, size, atime, mtime, atime_ns, mtime_ns, mode, uid, gid = _SETATTR_IN.unpack_from(body)
        node, files = self._node(number), self._files
        if valid & _SET_SIZE:
            files.truncate(node, size, self._handle(handle) if valid & _SET_HANDLE else None)
        if valid & _SET_KILL_SUIDGID:
            files.drop_privileges(node)
        if valid & (_SET_UID | _SET_GID):
            files.change_owner(node, uid if valid & _SET_UID else -1, gid if valid & _SET_GID else -1)
        if valid & _SET_MODE:
            files.change_mode(node, mode)
        if valid & (_SET_ATIME | _SET_MTIME):
            # *_NOW comes with the kernel's idea of the time, so that both agree.
            accessed = _signed(atime) * 1_000_000_000 + atime_ns if valid & _SET_ATIME else None
            modified = _signed(mtime) * 1_000_000_000 + mtime_ns if valid & _SET_MTIME else None
            files.change_times(node, accessed, modified)
        return self._attr(node, files.status(node))

    def _statfs(self, _number: int, _body: memoryview) -> bytes:
        found = self._files.statvfs()
        counts = (found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree)
        return _STATFS.pack(*counts, found.f_bsize, found.f_namemax, found.f_frsize, 0)

    # ---- extended attributes

    def _getxattr(self, number: int, body: memoryview) -> bytes:
        size, _padding = _TWO.unpack_from(body)
        return _sized(self._files.get_xattr(self._node(number), _text(body[_TWO.size :])), size)

    def _listxattr(self, number: int, body: memoryview) -> bytes:
        size, _padding = _TWO.unpack_from(body)
        names = self._files.list_xattrs(self._node(number))
        return _sized(b"".join(os.fsencode(name) + b"\0" for name in names), size)

    def _setxattr(self, number: int, body: memoryview) -> bytes:
        size, flags = _TWO.unpack_from(body)
        name, _, value = bytes(body[_TWO.size :]).partition(b"\0")
        self._files.set_xattr(self._node(number), os.fsdecode(name), value[:size], flags)
        return b""

    def _removexattr(self, number: int, body: memoryview) -> bytes:
        self._files.remove_xattr(self._node(number), _text(body))
        return b""

    # ---- open files

    def _open(self, number: int, body: memoryview) -> bytes:
        flags, open_flags = _TWO.unpack_from(body)
        node = self._node(number)
        if open_flags & _OPEN_KILL_SUIDGID:
            self._files.drop_privileges(node)
        return _OPEN_OUT.pack(self._files.open(node, flags), _KEEP_CACHE)

    def _create(self, number: int, body: memoryview) -> bytes:
        flags, mode, umask, _open_flags = _CREATE_IN.unpack_from(body)
        parent, name = self._node(number), _name(body[_CREATE_IN.size :])
        node, handle = self._files.create(parent, name, mode, flags, self._asker(umask))
        return self._entry(node) + _OPEN_OUT.pack(handle, _KEEP_CACHE)

    def _tmpfile(self, number: int, body: memoryview) -> bytes:
        flags, mode, umask, _open_flags = _CREATE_IN.unpack_from(body)
        node, handle = self._files.make_unnamed(self._node(number), mode, flags, self._asker(umask))
        return self._entry(node) + _OPEN_OUT.pack(handle, _KEEP_CACHE)

    def _read(self, _: int, body: memoryview) -> bytes:
        handle, offset, size = _READ_IN.unpack_from(body)
        return os.pread(self._handle(handle), size, offset)

    def _write(self, number: int, body: memoryview) -> bytes:
        handle, offset, size, flags, _open = _WRITE_IN.unpack_from(body)
        data = body[_WRITE_IN.size : _WRITE_IN.size + size]
        if flags & _WRITE_KILL_SUIDGID:
            self._files.drop_privileges(self._node(number), self._handle(handle))
        return _TWO.pack(os.pwrite(self._handle(handle), data, offset), 0)

    def _release(self, _: int, body: memoryview) -> bytes:
        self._files.release(_LONG.unpack_from(body)[0])
        return b""

    def _fsync(self, _: int, body: memoryview) -> bytes:
        handle, flags = _RENAME2_IN.unpack_from(body)
        self._files.sync(self._handle(handle), data_only=bool(flags & _FSYNC_DATA))
        return b""

    def _fallocate(self, _: int, body: memoryview) -> bytes:
        handle, offset, length, mode = _FALLOCATE_IN.unpack_from(body)
        self._files.allocate(self._handle(handle), mode, offset, length)
        return b""

    def _lseek(self, _: int, body: memoryview) -> bytes:
        handle, offset, whence = _LSEEK_IN.unpack_from(body)
        return _LONG.pack(os.lseek(self._handle(handle), offset, whence))

    def _copy_file_range(self, _: int, body: memoryview) -> bytes:
        source, source_offset, _node, target, target_offset, length, _flags = _COPY_IN.unpack_from(body)
        # The reply has 32 bits for the count.
        length = min(length, 1 << 30)
        copied = os.copy_file_range(self._handle(source), self._handle(target), length, source_offset, target_offset)
        return _TWO.pack(copied, 0)

    def _ioctl(self, _number: int, _body: memoryview) -> bytes:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    # ---- directories

    def _opendir(self, number: int, _: memoryview) -> bytes:
        listing = self._next_listing
        self._next_listing += 1
        self._listings[listing] = (self._node(number), [])
        return _OPEN_OUT.pack(listing, 0)

    def _releasedir(self, _: int, body: memoryview) -> bytes:
        self._listings.pop(_LONG.unpack_from(body)[0], None)
        return b""

    def _fsyncdir(self, number: int, _: memoryview) -> bytes:
        node = self._node(number)
        if node.in_upper:
            self._files.sync_directory(node)
        return b""

    def _readdir(self, _: int, body: memoryview) -> bytes:
        return self._entries(body, plus=False)

    def _readdirplus(self, _: int, body: memoryview) -> bytes:
        return self._entries(body, plus=True)

    def _entries(self, body: memoryview, *, plus: bool) -> bytes:
        handle, offset, room = _READ_IN.unpack_from(body)
        node, listing = self._listings[handle]
        if offset == 0:  # also after rewinddir(3); between, the directory stays as it was when the reading began
            listing = self._files.listing(node)
            self._listings[handle] = (node, listing)
        parts: list[bytes] = []
        empty = _ENTRY.pack(0, 0, 0, 0, 0, 0) + bytes(_ATTRIBUTES.size)
        for position in range(offset, len(listing)):
            name, inode, kind = listing[position]
            size = _DIRENT.size + len(name)
            padding = -size % 8
            room -= size + padding + (len(empty) if plus else 0)
            if room < 0:
                break
            if plus:
                parts.append(self._entry_of(node, name) or empty)
            parts.append(_DIRENT.pack(inode, position + 1, len(name), kind) + name + bytes(padding))
        return b"".join(parts)

    def _entry_of(self, parent: Node, name: bytes) -> bytes | None:
        """The entry of a name that was just read, unless it is gone meanwhile."""
        if name in (b".", b".."):
            return None
        try:
            node = self._files.look_up(parent, name)
            return None if node is None else self._entry(node)
        except OSError:
            return None  # whoever looks it up gets the error


def _name(body: memoryview) -> bytes:
    return bytes(body).partition(b"\0")[0]


def _text(body: memoryview) -> str:
    return os.fsdecode(_name(body))


def _sized(value: bytes, size: int) -> bytes:
    """getxattr(2): with size 0 the length is asked for, else the value where it fits."""
    if size == 0:
        return _TWO.pack(len(value), 0)
    if len(value) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return value


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >> 63 else seconds


def _kernel_device(device: int) -> int:
    """A device number as the kernel packs it in 32 bits (new_encode_dev)."""
    major, minor = os.major(device), os.minor(device)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _device(packed: int) -> int:
    return os.makedev(packed >> 8 & 0xFFF, packed & 0xFF | packed >> 12 & 0xFFF00)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
