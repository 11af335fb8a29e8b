"""The entry: words in, an exit code out. The one place that turns errors into text."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from ..errors import Error, reason
from . import parse
from .command import Invocation
from .context import Context, complain, write_error

INTERRUPTED = 130  # 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE
_EXHAUSTED = {
    errno.ENOSPC: "make space: rl rm, rl rmi, or name a store elsewhere with --root",
    errno.EDQUOT: "make space: rl rm, rl rmi, or name a store elsewhere with --root",
    errno.EROFS: "name a store elsewhere with --root",
    errno.EFBIG: "raise the limit of file sizes: ulimit -f unlimited",
    errno.EMFILE: "raise the limit of open files: ulimit -n 1024",
    errno.ENFILE: "the host has no more open files: sysctl fs.file-max",
    errno.ENOMEM: "see the limits of this shell: ulimit -a",
    errno.EAGAIN: "raise the limit of processes: ulimit -u",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; default: that of the process) and return the exit code."""
    if argv is None:
        _open_standard_streams()
    words = sys.argv[1:] if argv is None else argv
    debug = False
    try:
        invocation = _understand(words)
        if isinstance(invocation, int):
            code = invocation
        else:
            debug = invocation.options["debug"]
            code = _run(invocation)
        sys.stdout.flush()
        return code
    except Error as error:
        if debug:
            _print_traceback()
        _flush()
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        _flush()
        return INTERRUPTED
    except BrokenPipeError:
        _flush()
        return BROKEN_PIPE
    except Exception as error:
        if debug:
            _print_traceback()
        _flush()
        if exhausted := _exhausted(error):
            complain(exhausted)
            return exhausted.exit_code
        complain(
            Error(
                f"internal error: {type(error).__name__}: {error}",
                hint="this is a fault of rl; run it with --debug and report what it prints",
            )
        )
        return Error.exit_code


def _open_standard_streams() -> None:
    """One that the caller has closed becomes /dev/null. Else a file of ours would have its number, and be written to in its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _understand(words: Sequence[str]) -> Invocation | int:
    if words and words[0] == "__fuse-overlay":
        from ..fuse_overlay.__main__ import main as serve  # the frozen executable is its own helper program

        return serve(list(words[1:]))
    invocation = parse.parse(words)
    if invocation is not None:
        return invocation
    from . import typer_face

    return typer_face.parse(words)


def _run(invocation: Invocation) -> int:
    module, _, function = invocation.command.handler.partition(":")
    __import__(module)
    handler = getattr(sys.modules[module], function)
    context = Context(invocation.options)
    try:
        code: int = handler(context, **invocation.values)
    finally:
        context.close()
    return code


def _exhausted(error: Exception) -> Error | None:
    """For what may happen at any line, and so is caught at none: the host has no more memory, space, descriptors or processes."""
    if isinstance(error, MemoryError):
        return Error("out of memory", hint="see the limits of this shell: ulimit -a")
    if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return Error(f"cannot go on: {where}{reason(error)}", hint=_EXHAUSTED[error.errno])


def _print_traceback() -> None:
    import traceback

    write_error(traceback.format_exc())


def _flush() -> None:
    """Write out what was printed so far. Where the reader has gone, point standard output elsewhere, or the interpreter would complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
