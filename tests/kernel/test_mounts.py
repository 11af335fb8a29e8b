"""The file system of a container: every operation that makes it, and images that would lead one outside."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from rootless._lowlevel import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID
from rootless.runtime.plan import Flag, Kind, Operation
from tests.kernel.core import PIVOT, PROC, Place, attempt, tmpfs

RDONLY, NOSUID, NODEV, NOEXEC, NOATIME, ATIME = 0x1, 0x2, 0x4, 0x8, 0x10, 0x70
PRIVATE, SHARED, REC = 1 << 18, 1 << 20, 16384
NEW = CLONE_NEWNS | CLONE_NEWPID

TEST_WRITE = 'w() { if busybox touch "$1/t" 2>&-; then echo "$1 rw"; else echo "$1 ro"; fi; }; '


def mkdir(path: str, mode: int = 0o755) -> Operation:
    return Operation(Kind.MKDIR, (path,), (mode,))


def readonly(path: str) -> Operation:
    return Operation(Kind.READONLY, (path,))


def mask(path: str) -> Operation:
    return Operation(Kind.MASK, (path,))


def mountinfo(path: Path | str) -> str:
    """A script that prints options and file system of the mount at a path."""
    return f"busybox awk '$5 == \"{path}\" {{ print $6, $7, $9 }}' /proc/self/mountinfo; "


# ---- mount, bind


def test_a_mount_on_a_directory_that_is_made(place: Place) -> None:
    plan = (place.enter_root(), tmpfs("/a/b", flags=NOSUID | NOEXEC, data="mode=700"))
    ran = place.run(*plan, script=mountinfo(place.root / "a/b") + f"busybox stat -c %a {place.root}/a/b")
    assert "nosuid,noexec" in ran.out and ran.out.endswith("700\n")
    assert (place.root / "a/b").is_dir() and not os.path.ismount(place.root / "a/b"), "outside nothing is mounted"


@pytest.mark.parametrize(
    "operation, error",
    [
        (tmpfs("/none", create=0), errno.ENOENT), (Operation(Kind.MOUNT, ("x", "/bin", "nofs", None)), errno.ENODEV),
        (tmpfs("/bin", data="size=many"), errno.EINVAL), (tmpfs("/bin/busybox"), errno.ENOTDIR),
    ],
)  # fmt: skip
def test_a_mount_that_is_refused_says_which_and_why(place: Place, operation: Operation, error: int) -> None:
    assert attempt(place.namespace, place.enter_root(), operation).where == (1, Kind.MOUNT, error)


def test_a_bind_mount_of_a_directory_and_of_a_file(place: Place, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/f").write_text("hello")
    plan = (
        place.enter_root(), place.bind(tmp_path / "source", "/d/e"), place.bind(tmp_path / "source/f", "/g/h", RDONLY | NODEV),
        tmpfs("/own"), place.bind(place.root / "own", "/i", NOATIME, ATIME),
    )  # fmt: skip
    inside = place.root
    ran = place.run(
        *plan,
        script=f"cat {inside}/d/e/f {inside}/g/h; echo; (echo x >>{inside}/g/h) 2>&- || echo ro; {mountinfo(inside / 'i')}",
    )
    assert ran.out.startswith("hellohello\nro\nrw,") and "noatime" in ran.out
    assert (inside / "g/h").is_file() and (inside / "g/h").read_text() == ""


@pytest.mark.parametrize(
    "source, target, flags, error",
    [
        ("/none", "/d", Flag.CREATE, errno.ENOENT), ("/usr", "/d", 0, errno.ENOENT), ("/usr", "/bin/busybox", Flag.CREATE, errno.ENOTDIR),
        ("/etc/passwd", "/bin", Flag.CREATE, errno.EISDIR), ("/usr", "/bin/busybox/x", Flag.CREATE, errno.ENOTDIR),
        ("/usr", "/" + "x" * 300, Flag.CREATE, errno.ENAMETOOLONG),
    ],
)  # fmt: skip
def test_a_bind_mount_that_cannot_be(place: Place, source: str, target: str, flags: int, error: int) -> None:
    assert attempt(place.namespace, place.enter_root(), place.bind(source, target, flags=flags)).where == (
        1,
        Kind.BIND,
        error,
    )


def test_attributes_reach_submounts_only_where_asked(place: Place) -> None:
    source = place.root / "source"
    recursive = Flag.CREATE | Flag.RECURSIVE
    plan = (
        place.enter_root(), tmpfs("/source"), tmpfs("/source/sub"),
        place.bind(source, "/plain"), place.bind(source, "/top", RDONLY, 0, 0, flags=recursive),
        place.bind(source, "/all", RDONLY, 0, RDONLY | NOEXEC, flags=recursive), PIVOT,
    )  # fmt: skip
    names = ("/plain", "/plain/sub", "/top", "/top/sub", "/all", "/all/sub")
    ran = place.run(*plan, script=TEST_WRITE + "; ".join(f"w {name}" for name in names))
    assert ran.out.splitlines() == ["/plain rw", "/plain/sub rw", "/top ro", "/top/sub rw", "/all ro", "/all/sub ro"]


def test_the_source_stays_as_it_was(place: Place) -> None:
    plan = (place.enter_root(), tmpfs("/source"), place.bind(place.root / "source", "/b", RDONLY, 0, RDONLY), PIVOT)
    assert place.run(*plan, script=TEST_WRITE + "w /source; w /b").out == "/source rw\n/b ro\n"


def test_propagation(place: Place) -> None:
    shared, private = (Operation(Kind.PROPAGATION, ("/a",), (flag,)) for flag in (SHARED, PRIVATE | REC))
    plan = (
        place.enter_root(),
        tmpfs("/a"),
        shared,
        place.bind(place.root / "a", "/b"),
        place.bind(place.root / "a", "/c", 0, 0, 0, PRIVATE),
    )
    ran = place.run(*plan, script="".join(mountinfo(place.root / name) for name in "abc"))
    assert ["shared:" in line for line in ran.out.splitlines()] == [True, True, False]
    assert attempt(place.namespace, *plan, private).where is None
    assert attempt(place.namespace, private).where == (0, Kind.PROPAGATION, errno.ENOENT)


# ---- where a target is


def links(root: Path, **contents: str) -> None:
    for name, content in contents.items():
        (root / name).symlink_to(content)


@pytest.mark.parametrize(
    "target, inside",
    [
        ("/absolute/x", "inner/x"), ("/up/x", "x"), ("/chain/x", "inner/x"), ("/../../x", "x"), ("/bin/../../../x", "x"), ("/dangling", "run/new"),
        ("/dangling/x", "run/new/x"), ("/farther", "run/new"), ("//a///b//", "a/b"), ("/outside/x", "outer/x"),
    ],
)  # fmt: skip
def test_symlinks_of_the_image_are_followed_inside_the_root(
    place: Place, tmp_path: Path, target: str, inside: str
) -> None:
    (tmp_path / "outer").mkdir()
    (place.root / "inner").mkdir()
    links(
        place.root,
        absolute="/inner",
        up="../../../..",
        chain="absolute",
        dangling="../run/new",
        farther="dangling",
        outside="/outer",
    )
    where = place.root / inside
    assert place.run(place.enter_root(), tmpfs(target), script=mountinfo(where)).out.startswith("rw")
    assert where.is_dir() and not os.listdir(tmp_path / "outer")
    other = Operation(Kind.MKDIR, (target.rstrip("/") + "/deeper",), (0o750,))
    assert attempt(place.namespace, place.enter_root(), other).failed is None
    assert stat.S_IMODE((where / "deeper").stat().st_mode) == 0o750


def test_a_file_is_made_where_a_dangling_link_leads(place: Place) -> None:
    (place.root / "etc").mkdir()
    (place.root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert attempt(place.namespace, place.enter_root(), place.bind("/etc/passwd", "/etc/resolv.conf")).failed is None
    assert (place.root / "run/systemd/resolve/stub-resolv.conf").is_file()


@pytest.mark.parametrize("target", ["/loop", "/loop/x", "/a/x", "/self/x", "/long/x"])
def test_a_loop_of_symlinks_is_refused(place: Place, target: str) -> None:
    links(
        place.root,
        loop="loop",
        a="b",
        b="a",
        self="self/x",
        **{f"l{number}": f"l{number + 1}" for number in range(50)},
        long="l0",
    )
    for operation in (tmpfs(target), place.bind("/usr", target), mkdir(target)):
        assert attempt(place.namespace, place.enter_root(), operation).where == (1, operation.kind, errno.ELOOP)


@pytest.mark.parametrize(
    "target", ["/proc/self/root/x", "/proc/1/root", "/proc/self/fd/0", "/proc/self/cwd", "/magic/x", "/proc/self/exe"]
)
def test_magic_links_of_proc_are_not_followed(place: Place, target: str) -> None:
    links(place.root, magic="/proc/self/root")
    plan = (place.enter_root(), PROC)
    for operation in (tmpfs(target), place.bind("/usr", target), mkdir(target + "/y"), mask(target), readonly(target)):
        assert attempt(place.namespace, *plan, operation, flags=NEW).where == (2, operation.kind, errno.ELOOP)


def test_a_target_that_must_be_itself(place: Place) -> None:
    (place.root / "elsewhere").mkdir()
    links(place.root, proc="elsewhere", sys="gone")
    for name, operation in (("/proc", PROC), ("/sys", tmpfs("/sys"))):
        strict = operation._replace(flags=operation.flags | Flag.NO_SYMLINKS)
        assert attempt(place.namespace, place.enter_root(), strict, flags=NEW).where == (1, Kind.MOUNT, errno.ELOOP), (
            name
        )
        assert attempt(place.namespace, place.enter_root(), operation, flags=NEW).failed is None, name


def test_directories_and_links(place: Place) -> None:
    link = Operation(Kind.SYMLINK, ("content", "/bin/link"))
    assert (
        attempt(place.namespace, place.enter_root(), mkdir("/a/b", 0o700), mkdir("/a/b/c"), link, link).failed is None
    )
    assert stat.S_IMODE((place.root / "a/b").stat().st_mode) == 0o700
    assert os.readlink(place.root / "bin/link") == "content"
    assert attempt(place.namespace, place.enter_root(), mkdir("/bin/busybox/x")).where == (1, Kind.MKDIR, errno.ENOTDIR)
    missing = Operation(Kind.SYMLINK, ("content", "/none/link"))
    assert attempt(place.namespace, place.enter_root(), missing).where == (1, Kind.SYMLINK, errno.ENOENT)


def test_a_root_that_is_not_there(place: Place) -> None:
    assert attempt(place.namespace, Operation(Kind.ROOT, ("/none",))).where == (0, Kind.ROOT, errno.ENOENT)
    assert attempt(place.namespace, Operation(Kind.ROOT, ("/none",), (), Flag.RECURSIVE)).where == (
        0,
        Kind.ROOT,
        errno.ENOENT,
    )
    assert attempt(place.namespace, Operation(Kind.ROOT, ("/etc/passwd",))).where == (0, Kind.ROOT, errno.ENOTDIR)


# ---- what is hidden


def test_masks(place: Place) -> None:
    (place.root / "secret").mkdir()
    for name in ("secret/key", "file"):
        (place.root / name).write_text("secret")
    links(place.root, link="/secret/key")
    (place.root / "dir").mkdir()
    (place.root / "dir/x").touch()
    plan = (place.enter_root(), *map(mask, ("/file", "/dir", "/link", "/missing", "/file/below")), PIVOT)
    script = "cd /; busybox cat file secret/key; busybox ls -A dir; busybox touch dir/x 2>&- || echo ro; busybox ls /missing 2>&1; " \
        "echo x >file; busybox stat -c '%F' file"  # fmt: skip
    lines = place.run(*plan, script=script).out.splitlines()
    assert lines == ["ro", "ls: /missing: No such file or directory", "character special file"]
    assert (place.root / "file").read_text() == "secret"


def test_a_read_only_subtree_with_what_is_mounted_below(place: Place) -> None:
    plan = (
        place.enter_root(),
        tmpfs("/a"),
        mkdir("/a/b"),
        tmpfs("/a/b/c"),
        mkdir("/d"),
        readonly("/a"),
        readonly("/missing"),
        PIVOT,
    )
    ran = place.run(*plan, script=TEST_WRITE + "w /a; w /a/b; w /a/b/c; w /d")
    assert ran.out.splitlines() == ["/a ro", "/a/b ro", "/a/b/c ro", "/d rw"]
    assert not (place.root / "missing").exists()


def test_a_read_only_root_keeps_what_is_mounted_writable(place: Place) -> None:
    ran = place.run(place.enter_root(), tmpfs("/tmp"), PIVOT, readonly("/"), script=TEST_WRITE + "w /; w /bin; w /tmp")
    assert ran.out.splitlines() == ["/ ro", "/bin ro", "/tmp rw"]


def test_the_host_is_gone_after_the_pivot(place: Place) -> None:
    ran = place.run(
        place.enter_root(), PROC, PIVOT, flags=NEW,
        script="busybox ls /; busybox wc -l </proc/self/mountinfo; cd ..; busybox pwd; busybox ls -d /proc/1/root/etc 2>&1",
    )  # fmt: skip
    assert ran.out.split() == [
        "bin",
        "proc",
        "2",
        "/",
        "ls:",
        "/proc/1/root/etc:",
        "No",
        "such",
        "file",
        "or",
        "directory",
    ]


def test_a_root_that_is_no_mount_point_cannot_become_the_root(place: Place) -> None:
    plan = (Operation(Kind.ROOT, (str(place.root),)), PIVOT)
    assert attempt(place.namespace, *plan).where == (1, Kind.PIVOT, errno.EINVAL)


# ---- settings of the kernel


def test_sysctls(place: Place) -> None:
    flags = NEW | CLONE_NEWNET

    def sysctl(key: str, value: str) -> Operation:
        return Operation(Kind.SYSCTL, (key, value))

    plan = (
        place.enter_root(),
        PROC,
        sysctl("net/ipv4/ip_unprivileged_port_start", "80"),
        sysctl("net/ipv4/ping_group_range", "0 7"),
        PIVOT,
    )
    script = "busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"
    assert place.run(*plan, flags=flags, script=script).out.split() == ["80", "0", "7"]
    for key, value, error in (
        ("net/none", "1", errno.ENOENT), ("net/ipv4/ip_unprivileged_port_start", "many", errno.EINVAL), ("net/ipv4", "1", errno.EISDIR),
        ("kernel/panic", "1", errno.EACCES), ("x" * 256, "1", errno.ENAMETOOLONG),
    ):  # fmt: skip
        assert attempt(place.namespace, *plan[:2], sysctl(key, value), flags=flags).where == (2, Kind.SYSCTL, error), (
            key
        )


def test_a_terminal_of_the_containers_own(place: Place) -> None:
    devpts = Operation(
        Kind.MOUNT, ("devpts", "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"), (), Flag.CREATE
    )
    terminal = Operation(Kind.TERMINAL_NEW, ("/dev/console",), (33, 77))
    script = "busybox tty; busybox stty size; busybox stty size </dev/console; [ -t 1 ] && [ -t 2 ] && echo yes"
    ran = place.run(place.enter_root(), tmpfs("/dev"), devpts, terminal, PIVOT, script=script, terminal=True)
    assert ran.out.split("\r\n") == ["/dev/pts/0", "33 77", "33 77", "yes", ""]
    assert attempt(place.namespace, place.enter_root(), terminal).where == (1, Kind.TERMINAL_NEW, errno.ENOENT)


# ---- what may fail


def test_what_is_optional_is_left_out_and_noted(place: Place) -> None:
    refused = tmpfs("/none", create=Flag.OPTIONAL)
    tried = attempt(place.namespace, place.enter_root(), refused, mkdir("/after"))
    assert tried.failed is None and (place.root / "after").is_dir()
    assert [(note.operation, note.kind, note.errno) for note in tried.noted] == [(1, Kind.MOUNT, errno.ENOENT)]
    ran = place.run(place.enter_root(), refused, script="echo ran")
    assert ran.out == "ran\n"
    (note,) = ran.notes
    assert note.startswith("left out: mount tmpfs /none tmpfs size=1m 0") and note.endswith(
        ": no such file or directory"
    )


def test_an_alternative_is_taken_only_where_the_first_way_fails(place: Place) -> None:
    root = place.enter_root()
    refused, done = tmpfs("/none", create=Flag.ELSE), mkdir("/first")._replace(flags=Flag.ELSE)
    assert attempt(place.namespace, root, done, mkdir("/second"), mkdir("/third")) == (None, [])
    assert not (place.root / "second").exists() and (place.root / "third").is_dir()
    tried = attempt(place.namespace, root, refused, mkdir("/fourth"), mkdir("/fifth"))
    assert tried.failed is None and [note.operation for note in tried.noted] == [1]
    assert (place.root / "fourth").is_dir() and (place.root / "fifth").is_dir()
    assert attempt(place.namespace, root, refused, mkdir("/bin/busybox/x")).where == (2, Kind.MKDIR, errno.ENOTDIR)
    assert attempt(place.namespace, root, refused, refused, mkdir("/sixth")).failed is None, "alternatives chain"
    assert (place.root / "sixth").is_dir()


def test_a_plan_after_its_failure_is_not_carried_out(place: Place) -> None:
    assert attempt(place.namespace, place.enter_root(), Operation(99), mkdir("/after")).where == (1, 99, errno.ENOSYS)
    assert not (place.root / "after").exists()


def test_a_program_of_the_root(place: Place) -> None:
    """Everything together, once."""
    dev = tmpfs("/dev", data="mode=755")
    plan = [
        place.enter_root(),
        PROC,
        dev,
        place.bind("/dev/null", "/dev/null", RDONLY),
        mask("/proc/timer_list"),
        PIVOT,
    ]
    ran = place.run(*plan, script="echo $$; busybox cat /proc/timer_list; echo x >/dev/null && echo written", flags=NEW)
    assert ran == ("1\nwritten\n", 0, [])
