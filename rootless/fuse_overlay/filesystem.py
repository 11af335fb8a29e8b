"""The overlay file system: nodes of the union, and what each operation does to the layers. `protocol` speaks with the kernel for it.

A *node* is a file that the kernel knows by a number. It stays the same through copy-up, rename and unlink, so an open file goes on to work, an
inode number does not change while anything holds it, and two hard links of the upper layer are one node (else they would have two page caches).

- The upper layer is written in the kernel's format for user namespaces (`userxattr`: whiteouts are character devices 0/0, opaque directories carry
  `user.overlay.opaque=y`), so a container's upper layer reads the same with every driver.
- Nothing is reached by a path from outside: each directory is opened from its parent's descriptor with O_NOFOLLOW, and every operation is
  (descriptor, single name). A symlink in a layer is data, whoever put it there and whenever.
- Lower layers do not change and the upper changes through us alone, so what is known of a lower directory is kept with its node and the kernel may
  cache names and attributes for ever.
- The kernel checks permissions (`default_permissions`) against owners and modes that we tell; the operations run as root of the user namespace.
- Different from the kernel's overlay: names that begin with `.wh.` cannot be made, as a layer may spell whiteouts so; and the attributes of a
  layer's file that is open but has no name any more cannot be changed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from . import merge
from .copyup import PATH, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, Work, by_descriptor, copy_up, rename
from .merge import Kind, Removal

UPPER: Final = 0
"""The number of the upper layer; the lower ones follow from 1 on, topmost first."""

_DIRECTORY = PATH | os.O_DIRECTORY
_SPARE_DESCRIPTORS = 256
_DEFAULT_ACL = "system.posix_acl_default"
_libc = ctypes.CDLL(None, use_errno=True)


class Known(NamedTuple):
    """What readdir tells of a name: its kind, inode number and type (the upper four bits of st_mode)."""

    kind: Kind
    inode: int
    type: int


class Caller(NamedTuple):
    """Who asks: new files are theirs. umask is already taken from the mode where no default ACL replaces it."""

    uid: int
    gid: int
    umask: int = 0


class Directory:
    """One layer's version of a directory (merge.View), by an O_PATH descriptor that it owns."""

    __slots__ = ("_known", "fd", "hides", "writable")

    def __init__(self, fd: int, *, writable: bool) -> None:
        self.fd = fd
        self.writable = writable
        self.hides: set[bytes] = set()
        self._known: dict[bytes, Known] | None = None

    def close(self) -> None:
        os.close(self.fd)

    def known(self) -> dict[bytes, Known]:
        """All names; read once for a lower layer, which does not change. A whiteout beside what replaces the hidden is in `hides`."""
        if self._known is not None and not self.writable:
            return self._known
        known: dict[bytes, Known] = {}
        hides = set()
        with os.scandir(os.fsencode(by_descriptor(self.fd))) as entries:
            for entry in entries:
                name = entry.name
                if merge.reserved(name):
                    hidden = merge.hidden_name(name)
                    if hidden:
                        hides.add(hidden)
                elif entry.is_symlink():
                    known[name] = Known(Kind.OTHER, entry.inode(), stat.S_IFLNK >> 12)
                elif entry.is_dir(follow_symlinks=False):
                    known[name] = Known(Kind.DIRECTORY, entry.inode(), stat.S_IFDIR >> 12)
                elif entry.is_file(follow_symlinks=False):
                    known[name] = Known(Kind.OTHER, entry.inode(), stat.S_IFREG >> 12)
                else:
                    status = entry.stat(follow_symlinks=False)
                    known[name] = Known(_kind(status), entry.inode(), stat.S_IFMT(status.st_mode) >> 12)
        for name in hides - known.keys():
            known[name] = Known(Kind.WHITEOUT, 0, 0)
        self.hides, self._known = hides, known
        return known

    def last_known(self, name: bytes) -> Known:
        """Of a name that the last `known` or `entries` gave."""
        return (self._known or {})[name]

    def kind(self, name: bytes) -> Kind | None:
        if not self.writable:
            found = self.known().get(name)
            return found.kind if found else None
        try:
            return _kind(os.stat(name, dir_fd=self.fd, follow_symlinks=False))
        except FileNotFoundError:
            return Kind.WHITEOUT if self._spelled(name) else None

    def opaque(self, name: bytes) -> bool:
        if self._spelled(name) if self.writable else name in self.hides:
            return True
        opened = os.open(name, _DIRECTORY, dir_fd=self.fd)
        try:
            return is_opaque(opened)
        finally:
            os.close(opened)

    def entries(self) -> Iterable[tuple[bytes, Kind]]:
        for name, found in self.known().items():
            yield name, found.kind
        for name in self.hides:
            yield name, Kind.WHITEOUT

    def _spelled(self, name: bytes) -> bool:
        return _exists(self.fd, merge.WHITEOUT_PREFIX + name)


class Node:
    """A file of the union. links: the names by which it can be reached now, as (directory, name).

    layers: where it is, topmost first (a file in one, a directory in all it is merged from). views: of a directory, its versions in these
    layers, None while they are not open. pin: a descriptor of what has no name any more. inode: the number that it shows.
    """

    __slots__ = (
        "children",
        "directory",
        "handles",
        "inode",
        "layers",
        "links",
        "lookups",
        "number",
        "pin",
        "shared",
        "views",
    )

    def __init__(self, number: int, inode: int, layers: list[int], *, directory: bool) -> None:
        self.number = number
        self.inode = inode
        self.layers = layers
        self.directory = directory
        self.links: list[tuple[Node, bytes]] = []
        self.views: list[Directory] | None = None
        self.children: dict[bytes, Node] = {}
        self.handles: set[int] = set()
        self.lookups = 0
        self.pin: int | None = None
        self.shared: int | None = None  # the key of Filesystem._linked

    @property
    def in_upper(self) -> bool:
        return self.layers[:1] == [UPPER]


class Filesystem:
    """The union of `lower` (topmost first) and, unless None, `upper` with its `work` directory; all are paths, opened here.

    volatile: nobody will look at the upper layer after a crash, so nothing is flushed to the disk.

    Every operation raises OSError with the number that the caller shall see. Not thread-safe: one request after the other.
    """

    def __init__(self, lower: Sequence[str], upper: str | None, work: str | None, *, volatile: bool = False) -> None:
        os.umask(0)  # modes are the caller's, made in _inherited
        self._volatile = volatile
        self.read_only = upper is None
        self._work: Work | None = None
        tops = [] if upper is None else [Directory(os.open(upper, _DIRECTORY), writable=True)]
        if upper is not None:
            self._work = Work(_open_work(work or ""), volatile=volatile)
        views = tops + [Directory(os.open(path, _DIRECTORY), writable=False) for path in lower]
        devices = sorted({os.fstat(view.fd).st_dev for view in views})
        self._device_bits = {device: number << 52 for number, device in enumerate(devices)}
        self._numbers = 1
        self.root = Node(1, 0, [number + self.read_only for number in range(len(views))], directory=True)
        self.root.views = views
        self.root.inode = self._inode(os.fstat(views[0].fd))
        self.root.lookups = 1
        self.nodes: dict[int, Node] = {1: self.root}
        self.handles: dict[int, Node] = {}
        self._linked: dict[int, Node] = {}  # upper files of several names, by inode
        self._origin: dict[int, int] = {}  # inode of a copy in the upper -> the number that the file showed before
        self._open_directories: dict[Node, None] = {}
        self._descriptors = 0
        self._most_descriptors = _raise_descriptor_limit()

    def close(self) -> None:
        """Close everything, in a process that does not serve it."""
        for node in list(self.nodes.values()):
            self._close_views(node)
        if self._work is not None:
            os.close(self._work.directory)

    # ---- looking

    def look_up(self, parent: Node, name: bytes) -> Node | None:
        """The node at `name`; None where the union shows nothing."""
        known = parent.children.get(name)
        if known is not None:
            return known
        if merge.reserved(name):
            return None
        found = merge.look_up(self._views(parent), name)
        if found is None:
            return None
        layers = [parent.layers[position] for position in found.positions]
        status = os.stat(name, dir_fd=self._views(parent)[found.positions[0]].fd, follow_symlinks=False)
        return self._node(parent, name, layers, status)

    def child(self, parent: Node, name: bytes) -> Node:
        """As look_up, but what is not there is an error."""
        node = self.look_up(parent, name)
        if node is None:
            raise _error(errno.ENOENT)
        return node

    def status(self, node: Node) -> os.stat_result:
        """lstat(2); the number that the node shows is `node.inode`."""
        if node.pin is not None:
            return os.fstat(node.pin)
        if node.views:
            return os.fstat(node.views[0].fd)
        directory, name = self._at(node)
        return os.stat(name, dir_fd=directory, follow_symlinks=False)

    def read_link(self, node: Node) -> bytes:
        if node.pin is not None:
            return os.readlink(b"", dir_fd=node.pin)
        directory, name = self._at(node)
        return os.readlink(name, dir_fd=directory)

    def listing(self, node: Node) -> list[tuple[bytes, int, int]]:
        """The names of a directory with inode numbers and types, `.` and `..` first."""
        parent = node.links[0][0] if node.links else node
        listing = [(b".", node.inode, stat.S_IFDIR >> 12), (b"..", parent.inode, stat.S_IFDIR >> 12)]
        views = self._views(node)
        for name, position in merge.merged(views).items():
            known = views[position].last_known(name)
            listing.append((name, self._shown(node, name, known.inode, views[position]), known.type))
        return listing

    def sync_directory(self, node: Node) -> None:
        """fsync(2) of a directory in the upper layer."""
        if self._volatile:
            return
        opened = os.open(by_descriptor(self._views(node)[0].fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def statvfs(self) -> os.statvfs_result:
        return os.statvfs(self._views(self.root)[0].fd)

    # ---- extended attributes

    def get_xattr(self, node: Node, name: str) -> bytes:
        if name.startswith(merge.OWN_XATTRS):
            raise _error(errno.ENODATA)
        path, follow = self._xattr_path(node)
        return os.getxattr(path, name, follow_symlinks=follow)

    def list_xattrs(self, node: Node) -> list[str]:
        path, follow = self._xattr_path(node)
        return [name for name in os.listxattr(path, follow_symlinks=follow) if not name.startswith(merge.OWN_XATTRS)]

    def set_xattr(self, node: Node, name: str, value: bytes, flags: int) -> None:
        path, follow = self._changing_xattr(node, name)
        os.setxattr(path, name, value, flags, follow_symlinks=follow)

    def remove_xattr(self, node: Node, name: str) -> None:
        path, follow = self._changing_xattr(node, name)
        os.removexattr(path, name, follow_symlinks=follow)

    def _changing_xattr(self, node: Node, name: str) -> tuple[bytes, bool]:
        if name.startswith(merge.OWN_XATTRS):
            raise _error(errno.EPERM)
        self._copy_up(node)
        return self._xattr_path(node)

    def _xattr_path(self, node: Node) -> tuple[bytes, bool]:
        """A path, and whether to follow it; as `_path`, without a further descriptor: `ls -l` asks for two attributes of every file."""
        if node.pin is not None:
            return os.fsencode(by_descriptor(node.pin)), True
        if node.directory:
            return os.fsencode(by_descriptor(self._views(node)[0].fd)), True
        directory, name = self._at(node)
        return os.fsencode(by_descriptor(directory)) + b"/" + name, False

    # ---- attributes

    def change_mode(self, node: Node, mode: int) -> None:
        self._copy_up(node)
        with self._path(node) as path:
            os.chmod(path, stat.S_IMODE(mode))

    def change_owner(self, node: Node, uid: int, gid: int) -> None:
        """chown(2); -1 leaves one as it is."""
        self._copy_up(node)
        with self._path(node) as path:
            os.chown(path, uid, gid)

    def change_times(self, node: Node, accessed: int | None, modified: int | None) -> None:
        """utimensat(2), in nanoseconds; None leaves one as it is."""
        self._copy_up(node)
        status = self.status(node)
        times = (
            status.st_atime_ns if accessed is None else accessed,
            status.st_mtime_ns if modified is None else modified,
        )
        with self._path(node) as path:
            os.utime(path, ns=times)

    def truncate(self, node: Node, size: int, handle: int | None) -> None:
        self._copy_up(node, size=size)
        if handle is not None:
            os.ftruncate(handle, size)
            return
        with self._path(node) as path:
            os.truncate(path, size)

    def drop_privileges(self, node: Node, handle: int | None = None) -> None:
        """Clear the set-id bits that a write by an ordinary process ends (FUSE_HANDLE_KILLPRIV_V2); the kernel clears capabilities itself."""
        mode = (os.fstat(handle) if handle is not None else self.status(node)).st_mode
        kept = mode & ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            kept &= ~stat.S_ISGID
        if kept != mode:
            self.change_mode(node, kept)

    # ---- open files

    def open(self, node: Node, flags: int) -> int:
        """Open a file; returns a handle: a descriptor of the backing file, for `read` and `write` by pread(2) and pwrite(2)."""
        access = flags & os.O_ACCMODE
        if access != os.O_RDONLY or flags & os.O_TRUNC:
            self._copy_up(node, size=0 if flags & os.O_TRUNC else None)
        return self._add_handle(node, self._reopen(node, access | flags & os.O_TRUNC))

    def release(self, handle: int) -> None:
        node = self.handles.pop(handle, None)
        if node is not None:
            node.handles.discard(handle)
            os.close(handle)

    def sync(self, handle: int, *, data_only: bool) -> None:
        """fsync(2) or fdatasync(2)."""
        if not self._volatile:
            (os.fdatasync if data_only else os.fsync)(handle)

    def allocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2) with all its modes, which the standard library lacks."""
        if _libc.fallocate(handle, mode, ctypes.c_long(offset), ctypes.c_long(length)) < 0:
            raise _error(ctypes.get_errno())

    # ---- making

    def create(self, parent: Node, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Node, int]:
        """Make and open a file; returns its node and a handle."""
        opened: list[int] = []

        def make(directory: int, new_name: bytes, mode: int) -> None:
            access = flags & os.O_ACCMODE
            opened.append(
                os.open(
                    new_name, access | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory
                )
            )

        try:
            node = self._make(parent, name, stat.S_IFREG | stat.S_IMODE(mode), caller, make)
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return node, self._add_handle(node, opened[0])

    def make_unnamed(self, parent: Node, mode: int, flags: int, caller: Caller) -> tuple[Node, int]:
        """open(2) with O_TMPFILE; link() gives such a file a name."""
        directory = self._upper(parent)
        gid, mode = self._inherited(parent, stat.S_IFREG | stat.S_IMODE(mode), caller)
        exclusive = flags & os.O_EXCL
        handle = os.open(
            b".", os.O_TMPFILE | exclusive | flags & os.O_ACCMODE | os.O_CLOEXEC, stat.S_IMODE(mode), dir_fd=directory
        )
        os.fchown(handle, caller.uid, gid)
        os.fchmod(handle, stat.S_IMODE(mode))
        node = self._new_node(self._inode(os.fstat(handle)), [UPPER], directory=False)
        node.pin = os.open(by_descriptor(handle), os.O_PATH | os.O_CLOEXEC)
        return node, self._add_handle(node, handle)

    def make_node(self, parent: Node, name: bytes, mode: int, device: int, caller: Caller) -> Node:
        """mknod(2). A character device 0/0 would be a whiteout, and is refused as the kernel's overlay does."""
        if merge.is_whiteout_device(character_device=stat.S_ISCHR(mode), device=device):
            raise _error(errno.EPERM)
        return self._make(
            parent,
            name,
            mode,
            caller,
            lambda directory, new, mode: os.mknod(new, mode, device, dir_fd=directory),
        )

    def make_directory(self, parent: Node, name: bytes, mode: int, caller: Caller) -> Node:
        return self._make(
            parent,
            name,
            stat.S_IFDIR | stat.S_IMODE(mode),
            caller,
            lambda directory, new, mode: os.mkdir(new, mode, dir_fd=directory),
        )

    def make_symlink(self, parent: Node, name: bytes, content: bytes, caller: Caller) -> Node:
        return self._make(
            parent,
            name,
            stat.S_IFLNK | 0o777,
            caller,
            lambda directory, new, mode: os.symlink(content, new, dir_fd=directory),
        )

    def link(self, node: Node, parent: Node, name: bytes) -> None:
        """A further hard link of `node`."""
        self._must_be_free(parent, name)
        self._copy_up(node)
        if node.pin is not None:
            source, old_name = None, os.fsencode(by_descriptor(node.pin))
        else:
            source, old_name = self._at(node)

        def make(directory: int, new_name: bytes) -> None:
            os.link(old_name, new_name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=source is None)

        self._put(parent, name, make, directory=False)
        self._share(node, self.status(node).st_ino)
        self._attach(node, parent, name)
        if node.pin is not None:
            os.close(node.pin)
            node.pin = None

    # ---- removing and renaming

    def unlink(self, parent: Node, name: bytes) -> None:
        node = self.child(parent, name)
        if node.directory:
            raise _error(errno.EISDIR)
        self._take_away(parent, name, node)

    def remove_directory(self, parent: Node, name: bytes) -> None:
        node = self.child(parent, name)
        if not node.directory:
            raise _error(errno.ENOTDIR)
        if merge.merged(self._views(node)):
            raise _error(errno.ENOTEMPTY)
        self._take_away(parent, name, node)

    def _take_away(self, parent: Node, name: bytes, node: Node) -> None:
        """Remove a name; what is open stays reachable by its node."""
        pin = self._pin_last(node)
        try:
            self._remove(parent, name, node)
        except BaseException:
            _close(pin)
            raise
        self._detach(node, parent, name, pin)

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int = 0) -> None:
        """renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE."""
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE) or merge.reserved(new_name):
            raise _error(errno.EINVAL)
        node = self.child(parent, name)
        other = self.look_up(new_parent, new_name)
        if other is None:
            if flags == RENAME_EXCHANGE:
                raise _error(errno.ENOENT)
        elif flags == RENAME_NOREPLACE:
            raise _error(errno.EEXIST)
        elif other is node:
            return  # two links of one file: rename(2) does nothing
        if flags == RENAME_EXCHANGE and other is not None:
            self._exchange(parent, name, node, new_parent, new_name, other)
            return
        if other is not None and other.directory and merge.merged(self._views(other)):
            raise _error(errno.ENOTEMPTY)
        self._make_movable(node)
        source, target = self._upper(parent), self._upper(new_parent)
        below = self._below(new_parent, new_name)
        if merge.must_be_opaque(directory=node.directory, below=below):
            self._make_opaque(node)
        pin = None if other is None else self._pin_last(other)
        try:
            if other is not None and other.directory and other.in_upper:
                self._empty(other)
            self._move(source, name, target, new_name, directory=node.directory, cover=self._below(parent, name))
        except BaseException:
            _close(pin)
            raise
        if other is not None:
            self._detach(other, new_parent, new_name, pin)
        self._unname(node, parent, name)
        self._attach(node, new_parent, new_name)

    def _exchange(self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes, other: Node) -> None:
        for moved in (node, other):
            self._make_movable(moved)
        for moved, directory, place in ((node, new_parent, new_name), (other, parent, name)):
            if merge.must_be_opaque(directory=moved.directory, below=self._below(directory, place)):
                self._make_opaque(moved)
        rename(self._upper(parent), name, self._upper(new_parent), new_name, RENAME_EXCHANGE)
        self._unname(node, parent, name)
        self._unname(other, new_parent, new_name)
        self._attach(node, new_parent, new_name)
        self._attach(other, parent, name)

    def _move(self, source: int, name: bytes, target: int, new_name: bytes, *, directory: bool, cover: bool) -> None:
        """Rename within the upper layer, over a whiteout too; `cover`: a whiteout takes the old place in the same step where the kernel can."""
        spelled = merge.WHITEOUT_PREFIX + new_name
        if directory and _is_whiteout(target, new_name):
            rename(source, name, target, new_name, RENAME_EXCHANGE)  # now the whiteout is at the old place
            if not cover:
                os.unlink(name, dir_fd=source)
        elif cover:
            try:
                rename(source, name, target, new_name, RENAME_WHITEOUT)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
                _make_whiteout(source, name)
        else:
            os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        _unlink_if_there(target, spelled)

    def _remove(self, parent: Node, name: bytes, node: Node) -> None:
        """Make a name disappear from the union."""
        upper, work = self._upper(parent), self._working()
        how = merge.removal(in_upper=node.in_upper, below=self._below(parent, name))
        if how is Removal.COVER:
            _make_whiteout(upper, name)
            return
        if not node.directory and how is Removal.REMOVE:
            os.unlink(name, dir_fd=upper)
            return
        temporary = work.name()
        if how is Removal.REMOVE:  # the directory may hold whiteouts: it goes first, then they
            os.rename(name, temporary, src_dir_fd=upper, dst_dir_fd=work.directory)
        elif _make_whiteout_device(work.directory, temporary):
            rename(work.directory, temporary, upper, name, RENAME_EXCHANGE)
        else:
            _spell_whiteout(upper, name)
            os.rename(name, temporary, src_dir_fd=upper, dst_dir_fd=work.directory)
        work.remove(temporary)

    # ---- how the upper layer is written

    def _make(
        self, parent: Node, name: bytes, mode: int, caller: Caller, make: Callable[[int, bytes, int], None]
    ) -> Node:
        """Make something new that is the caller's. make: gets a directory, a name and a mode."""
        self._must_be_free(parent, name)
        gid, mode = self._inherited(parent, mode, caller)

        def made(directory: int, new_name: bytes) -> None:
            make(directory, new_name, mode)
            if (caller.uid, gid) != (0, 0) or mode & (stat.S_ISUID | stat.S_ISGID):
                _give(directory, new_name, caller.uid, gid, mode)

        self._put(parent, name, made, directory=stat.S_ISDIR(mode))
        status = os.stat(name, dir_fd=self._upper(parent), follow_symlinks=False)
        return self._node(parent, name, [UPPER], status)

    def _inherited(self, parent: Node, mode: int, caller: Caller) -> tuple[int, int]:
        """The group and mode of something new, by the parent's set-group-ID bit and default ACL and the caller's umask."""
        above = self.status(parent)
        gid = caller.gid
        if above.st_mode & stat.S_ISGID:
            gid = above.st_gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        if not stat.S_ISLNK(mode) and not self._has_default_acl(parent):
            mode &= ~caller.umask
        return gid, mode

    def _has_default_acl(self, node: Node) -> bool:
        try:
            os.getxattr(by_descriptor(self._views(node)[0].fd), _DEFAULT_ACL)
        except OSError:
            return False  # ENODATA, or a file system without ACLs
        return True

    def _put(self, parent: Node, name: bytes, make: Callable[[int, bytes], None], *, directory: bool) -> None:
        """Make something where nothing is shown. Over a whiteout it is made in the work directory and moved into place as a whole."""
        upper = self._upper(parent)
        view = self._views(parent)[0]
        if view.kind(name) is not Kind.WHITEOUT:
            make(upper, name)
            return
        if self._has_default_acl(parent):  # which only what is made in place inherits
            _unlink_if_there(upper, name)
            _unlink_if_there(upper, merge.WHITEOUT_PREFIX + name)
            make(upper, name)
            if directory:
                self._mark_opaque(upper, name)
            return
        work = self._working()
        temporary = work.name()
        try:
            make(work.directory, temporary)
            if merge.must_be_opaque(directory=directory, below=self._below(parent, name)):
                self._mark_opaque(work.directory, temporary)
            self._move(work.directory, temporary, upper, name, directory=directory, cover=False)
        except BaseException:
            work.remove(temporary)
            raise

    def _must_be_free(self, parent: Node, name: bytes) -> None:
        if merge.reserved(name):
            raise _error(errno.EINVAL)
        if self.look_up(parent, name) is not None:
            raise _error(errno.EEXIST)

    def _working(self) -> Work:
        if self._work is None:
            raise _error(errno.EROFS)
        return self._work

    def _upper(self, node: Node) -> int:
        """The descriptor of a directory in the upper layer, copied up if need be."""
        if not node.layers:
            raise _error(errno.ENOENT)  # it was removed
        self._copy_up(node)
        return self._views(node)[0].fd

    def _below(self, parent: Node, name: bytes) -> bool:
        """Whether the lower layers alone would show something at `name`."""
        views = self._views(parent)
        return merge.look_up(views[1:] if parent.in_upper else views, name) is not None

    def _make_movable(self, node: Node) -> None:
        found = merge.Found(Kind.DIRECTORY if node.directory else Kind.OTHER, tuple(node.layers))
        if not merge.may_move(found, upper=True):
            raise _error(errno.EXDEV)
        self._copy_up(node)

    def _make_opaque(self, node: Node) -> None:
        _make_opaque(self._views(node)[0].fd)

    def _mark_opaque(self, directory: int, name: bytes) -> None:
        opened = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            _make_opaque(opened)
        finally:
            os.close(opened)

    def _empty(self, node: Node) -> None:
        """Remove the whiteouts from a directory that shows nothing, so that rename(2) can replace it. Opaque first: they hid something."""
        self._make_opaque(node)
        fd = self._views(node)[0].fd
        for name in os.listdir(by_descriptor(fd)):
            os.unlink(name, dir_fd=fd)

    def _copy_up(self, node: Node, *, size: int | None = None) -> None:
        """See that the node is in the upper layer, its parents before it. size: as for copyup.copy_up."""
        if node.in_upper:
            return
        work = self._working()
        if not node.links:
            raise _error(errno.ENOENT)
        missing = [node]
        while not (parent := missing[-1].links[0][0]).in_upper:
            missing.append(parent)
        for step in reversed(missing):
            parent, name = step.links[0]
            views = self._views(parent)
            source = views[parent.layers.index(step.layers[0])].fd
            before, old = os.fstat(views[0].fd), self.status(step)
            copy_up(work, source, name, views[0].fd, size=size if step is node else None)
            os.utime(
                by_descriptor(views[0].fd), ns=(before.st_atime_ns, before.st_mtime_ns)
            )  # the union's directory did not change
            self._copied(step, os.stat(name, dir_fd=views[0].fd, follow_symlinks=False), old)

    def _copied(self, node: Node, status: os.stat_result, old: os.stat_result) -> None:
        if node.directory:
            node.layers.insert(0, UPPER)
            if node.views is not None:
                parent, name = node.links[0]
                node.views.insert(0, self._open_directory(self._views(parent)[0].fd, name, UPPER))
        else:
            node.layers = [UPPER]
        if node.directory or old.st_nlink == 1:
            self._origin[status.st_ino] = node.inode
        else:
            node.inode = self._inode(
                status
            )  # other names still show the lower file: two files must not have one number
        for handle in node.handles:  # all of them for reading
            fresh = self._reopen(node, os.O_RDONLY)
            os.dup2(fresh, handle, inheritable=False)
            os.close(fresh)

    # ---- nodes

    def forget(self, node: Node, lookups: int) -> None:
        """The kernel drops references to a node; without any it is let go."""
        node.lookups -= lookups
        unused = [node]
        while unused:
            node = unused.pop()
            if node.lookups > 0 or node.children or node.handles or node is self.root:
                continue
            self.nodes.pop(node.number, None)
            self._close_views(node)
            _close(node.pin)
            self._unshare(node)
            for parent, name in node.links:
                del parent.children[name]
                unused.append(parent)
            node.pin, node.links = None, []

    def trim(self) -> None:
        """Close directories that were opened longest ago, between two requests, when too many are open."""
        while self._descriptors > self._most_descriptors and self._open_directories:
            self._close_views(next(iter(self._open_directories)))

    def _node(self, parent: Node, name: bytes, layers: list[int], status: os.stat_result) -> Node:
        directory = stat.S_ISDIR(status.st_mode)
        shared = layers[0] == UPPER and not directory and status.st_nlink > 1
        node = self._linked.get(status.st_ino) if shared else None
        if node is None:
            node = self._new_node(self._inode(status, upper=layers[0] == UPPER), layers, directory=directory)
            if shared:
                self._share(node, status.st_ino)
        self._attach(node, parent, name)
        if node.pin is not None and not directory:
            os.close(node.pin)  # it has a name again that we know
            node.pin = None
        return node

    def _new_node(self, inode: int, layers: list[int], *, directory: bool) -> Node:
        self._numbers += 1
        node = Node(self._numbers, inode, layers, directory=directory)
        self.nodes[node.number] = node
        return node

    def _share(self, node: Node, inode: int) -> None:
        self._linked[inode] = node
        node.shared = inode

    def _unshare(self, node: Node) -> None:
        if node.shared is not None and self._linked.get(node.shared) is node:
            del self._linked[node.shared]
        node.shared = None

    def _attach(self, node: Node, parent: Node, name: bytes) -> None:
        node.links.append((parent, name))
        parent.children[name] = node

    def _unname(self, node: Node, parent: Node, name: bytes) -> None:
        parent.children.pop(name, None)
        node.links.remove((parent, name))

    def _pin_last(self, node: Node) -> int | None:
        """A descriptor of a node that is about to lose the last name we know; None where it keeps one."""
        if len(node.links) > 1:
            return None
        if node.directory:
            return os.open(by_descriptor(self._views(node)[0].fd), os.O_PATH | os.O_CLOEXEC)
        directory, name = self._at(node)
        return os.open(name, PATH, dir_fd=directory)

    def _detach(self, node: Node, parent: Node, name: bytes, pin: int | None) -> None:
        self._unname(node, parent, name)
        if node.directory:
            self._close_views(node)
            node.layers, node.views = [], []
        node.pin = pin
        if pin is not None and os.fstat(pin).st_nlink == 0:
            self._unshare(node)
            self._origin.pop(os.fstat(pin).st_ino, None)  # the number may come again
        if node.lookups <= 0:
            self.forget(node, 0)

    def _inode(self, status: os.stat_result, *, upper: bool = False) -> int:
        if upper and status.st_ino in self._origin:
            return self._origin[status.st_ino]
        return status.st_ino ^ self._device_bits.get(status.st_dev, 0)

    def _shown(self, node: Node, name: bytes, inode: int, view: Directory) -> int:
        known = node.children.get(name)
        if known is not None:
            return known.inode
        return self._origin.get(inode, inode) if view.writable else inode

    # ---- descriptors

    def _views(self, node: Node) -> list[Directory]:
        """The versions of a directory, open. They stay open until `trim` or `forget`."""
        if node.views is not None:
            return node.views
        missing = [node]
        while (parent := missing[-1].links[0][0]).views is None:
            missing.append(parent)
        for step in reversed(missing):
            parent, name = step.links[0]
            above = parent.views or []
            step.views = []
            for layer in step.layers:
                step.views.append(self._open_directory(above[parent.layers.index(layer)].fd, name, layer))
            self._open_directories[step] = None
        return node.views or []

    def _open_directory(self, above: int, name: bytes, layer: int) -> Directory:
        opened = Directory(os.open(name, _DIRECTORY, dir_fd=above), writable=layer == UPPER)
        self._descriptors += 1
        return opened

    def _close_views(self, node: Node) -> None:
        for view in node.views or ():
            view.close()
            self._descriptors -= 1
        node.views = None
        self._open_directories.pop(node, None)

    def _at(self, node: Node) -> tuple[int, bytes]:
        """Where a file that is not a directory lies: the descriptor of its directory in its layer, and its name."""
        if not node.links:
            raise _error(errno.ENOENT)
        parent, name = node.links[0]
        return self._views(parent)[parent.layers.index(node.layers[0])].fd, name

    @contextmanager
    def _path(self, node: Node) -> Iterator[str]:
        """A path of the node in its topmost layer, for calls that follow symlinks: it leads to the node itself, a symlink too."""
        if node.pin is not None:
            yield by_descriptor(node.pin)
        elif node.directory:
            yield by_descriptor(self._views(node)[0].fd)
        else:
            directory, name = self._at(node)
            opened = os.open(name, PATH, dir_fd=directory)
            try:
                yield by_descriptor(opened)
            finally:
                os.close(opened)

    def _reopen(self, node: Node, flags: int) -> int:
        if node.layers != [UPPER]:
            flags |= os.O_NOATIME
        if node.pin is not None:
            return os.open(by_descriptor(node.pin), flags | os.O_CLOEXEC)
        directory, name = self._at(node)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)

    def _add_handle(self, node: Node, handle: int) -> int:
        self.handles[handle] = node
        node.handles.add(handle)
        return handle


def is_opaque(directory: int) -> bool:
    """Whether the directory of an O_PATH descriptor hides the layers below it, in any of the spellings."""
    path = by_descriptor(directory)
    for name in merge.OPAQUE_XATTRS:
        try:
            if os.getxattr(path, name) == b"y":
                return True
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
                raise
    return _exists(directory, merge.OPAQUE_NAME)


def _give(directory: int, name: bytes, uid: int, gid: int, mode: int) -> None:
    os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    if mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISLNK(mode):  # chown(2) has cleared them
        opened = os.open(name, PATH, dir_fd=directory)
        try:
            os.chmod(by_descriptor(opened), stat.S_IMODE(mode))
        finally:
            os.close(opened)


def _make_opaque(directory: int) -> None:
    """Let the directory of an O_PATH descriptor hide the layers below."""
    try:
        os.setxattr(by_descriptor(directory), merge.OPAQUE_XATTRS[0], b"y")
    except OSError as error:
        if error.errno not in (
            errno.EOPNOTSUPP,
            errno.EPERM,
        ):  # tmpfs before Linux 6.6, NFS before 5.9; an overlay below
            raise
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(merge.OPAQUE_NAME, flags, 0o600, dir_fd=directory))


def _kind(status: os.stat_result) -> Kind:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    if merge.is_whiteout_device(character_device=stat.S_ISCHR(mode), device=status.st_rdev):
        return Kind.WHITEOUT
    return Kind.OTHER


def _is_whiteout(directory: int, name: bytes) -> bool:
    try:
        return _kind(os.stat(name, dir_fd=directory, follow_symlinks=False)) is Kind.WHITEOUT
    except FileNotFoundError:
        return False


def _make_whiteout(directory: int, name: bytes) -> None:
    """Hide `name`, where the upper layer has nothing yet, from the layers below."""
    if not _make_whiteout_device(directory, name):
        _spell_whiteout(directory, name)


def _make_whiteout_device(directory: int, name: bytes) -> bool:
    """A device 0/0, which an unprivileged user may make since Linux 5.8, but not on an overlay. False: not made."""
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
    except PermissionError:
        return False
    return True


def _spell_whiteout(directory: int, name: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(merge.WHITEOUT_PREFIX + name, flags, 0o600, dir_fd=directory))


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return False
        raise
    return True


def _unlink_if_there(directory: int, name: bytes) -> None:
    if _exists(directory, name):
        os.unlink(name, dir_fd=directory)


def _open_work(path: str) -> int:
    """The directory `work` within the overlay's work directory, as the kernel's overlay makes one."""
    above = os.open(path, _DIRECTORY)
    try:
        try:
            os.mkdir(b"work", 0o700, dir_fd=above)
        except FileExistsError:
            ...
        return os.open(b"work", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)


def _raise_descriptor_limit() -> int:
    """Take all descriptors that we may have; returns how many directories may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(max(soft, wanted) // 2 - _SPARE_DESCRIPTORS, 64)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
