"""What the child may call between clone(2) and execve(2) is written down here, and nothing else is called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rootless import _lowlevel

SOURCES = Path(_lowlevel.__file__).parent
CHILD = ("child", "mounts", "terminal", "creds", "init", "report")

# System calls' wrappers and functions without state: none allocates, locks, formats or keeps anything in the library.
ALLOWED = frozenset(
    """
    __errno_location errno memcpy memset memmove memchr strlen strcmp environ
    _exit chdir close dup2 execve fchdir fchown fcntl fstat fstatat getpid ioctl isatty kill mkdirat mount open openat prctl read
    readlinkat recvmsg sendmsg setdomainname sethostname setns setpgid setrlimit setsid sigaction sigemptyset sigfillset sigprocmask sigwaitinfo
    socket symlinkat syscall tcsetpgrp umask umount2 waitpid write
    """.split()
)


@pytest.fixture(scope="module")
def undefined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """object -> the symbols that it wants from elsewhere."""
    directory = tmp_path_factory.mktemp("child")
    found = {}
    for name in CHILD:
        target = directory / f"{name}.o"
        # Without fortification and stack protection, whose helpers are the compiler's and not ours.
        flags = ["-std=gnu11", "-O2", "-U_FORTIFY_SOURCE", "-fno-stack-protector"]
        subprocess.run(["cc", *flags, "-c", str(SOURCES / f"{name}.c"), "-o", str(target)], check=True)
        listing = subprocess.run(["nm", "-u", str(target)], check=True, capture_output=True, text=True).stdout
        found[name] = {line.split()[-1] for line in listing.splitlines() if line.split()[-1] != "_GLOBAL_OFFSET_TABLE_"}
    return found


def test_the_child_calls_only_what_is_allowed(undefined: dict[str, set[str]]) -> None:
    ours = {symbol for symbols in undefined.values() for symbol in symbols if symbol.startswith("rl_")}
    called = {symbol for symbols in undefined.values() for symbol in symbols} - ours
    assert called <= ALLOWED, f"not async-signal-safe, or not yet judged: {sorted(called - ALLOWED)}"


def test_what_the_child_calls_of_ours_is_the_childs(undefined: dict[str, set[str]]) -> None:
    defined = set()
    for name in CHILD:
        text = (SOURCES / f"{name}.c").read_text()
        defined |= {
            symbol
            for symbol in undefined["child"] | undefined["mounts"] | undefined["terminal"]
            if f"{symbol}(" in text
        }
    ours = {symbol for symbols in undefined.values() for symbol in symbols if symbol.startswith("rl_")}
    assert ours - {"rl_text"} <= defined  # rl_text reads the plan that the parent has checked
