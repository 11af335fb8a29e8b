"""Executes a command for whom the kernel lacks or forbids some system calls, as an old kernel or the seccomp policy of an outer container does.

    python -m tests.fakes.refusing ENOSYS openat2,mount_setattr COMMAND…

It takes no_new_privs, so newuidmap has no effect on the command: its containers have one id.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from rootless.runtime import seccomp, seccomp_profile

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main(word: str, calls: str, *command: str) -> None:
    policy = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": calls.split(","), "action": "SCMP_ACT_ERRNO", "errnoRet": getattr(errno, word)}],
    }
    wanted = seccomp_profile.resolve(policy, capabilities=0, architecture=os.uname().machine, kernel=(7, 0))
    code = seccomp.compile_policy(wanted)
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), "cannot install the filter")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
