"""Runs `rl` as a user does: in a home of its own, in a pipe or on a terminal, and never for ever."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

TIMEOUT = 60.0  # seconds; generous, since it only matters where something hangs


class Result(NamedTuple):
    """How a command ended: its exit code (128+n where a signal ended it) and what it wrote."""

    code: int
    out: str
    err: str


class Rl:
    """The command `rl` with fixed global options and a fixed environment; calling it runs it.

    home: the directory of HOME and the XDG directories; root, runroot: the store and the runtime directory in use.
    """

    def __init__(
        self, *, command: Sequence[str], home: str, root: str, runroot: str, environment: Mapping[str, str]
    ) -> None:
        self.command = tuple(command)
        self.home = home
        self.root = root
        self.runroot = runroot
        self.environment = dict(environment)
        self._background: list[subprocess.Popen[bytes]] = []

    def launched_by(self, *words: str) -> Rl:
        """The same with words before the command: a tracer, an interpreter with its flags."""
        other = self.having()
        other.command = (*words, *self.command)
        return other

    def having(self, *options: str, **environment: str) -> Rl:
        """The same with further global options and variables."""
        other = Rl(
            command=[*self.command, *options],
            home=self.home,
            root=self.root,
            runroot=self.runroot,
            environment={**self.environment, **environment},
        )
        other._background = self._background
        return other

    def raw(self, *arguments: str, input: bytes = b"", timeout: float = TIMEOUT) -> tuple[int, bytes, bytes]:
        """Run to the end: (code, stdout, stderr). One that does not end is killed with its process group, and the test fails."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            try:
                out, err = process.communicate(timeout=2)
            except subprocess.TimeoutExpired as error:  # a process in another session holds the pipes
                out, err = error.stdout or b"", error.stderr or b""
            raise AssertionError(
                f"rl {' '.join(arguments)} did not end in {timeout:g} s\nstdout: {out[-2000:]!r}\nstderr: {err[-2000:]!r}"
            ) from None
        code = process.returncode
        return (code if code >= 0 else 128 - code), out, err

    def __call__(self, *arguments: str, input: str = "", timeout: float = TIMEOUT) -> Result:
        code, out, err = self.raw(*arguments, input=input.encode(), timeout=timeout)
        return Result(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def ok(self, *arguments: str, input: str = "", timeout: float = TIMEOUT) -> str:
        """Run something that must succeed: what it wrote to stdout, without the last newline."""
        result = self(*arguments, input=input, timeout=timeout)
        assert result.code == 0, f"rl {' '.join(arguments)}: {result}"
        return result.out.removesuffix("\n")

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start without waiting; what still runs at the end of the test is killed."""
        process = subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            cwd=self.home,
            start_new_session=True,
        )
        self._background.append(process)
        return process

    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        return Terminal([*self.command, *arguments], self.environment, self.home, rows, columns)

    def end(self) -> None:
        """Kill what `start` left behind and close its pipes."""
        for process in self._background:
            if process.poll() is None:
                _kill_group(process)
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        ...  # what was never flushed has no reader any more
        self._background.clear()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        ...  # it ended meanwhile


class Terminal:
    """A command on a pseudo-terminal of its own, with us at the keyboard. A context manager: at its end nothing runs.

    `screen` is all that was written so far.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: str, rows: int, columns: int
    ) -> None:
        self.screen = b""
        self.code: int | None = None
        self._seen = 0
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(directory)
                # The size is there before the command looks for it.
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
                os.execve(command[0], list(command), {**environment, "TERM": "xterm"})
            finally:
                os._exit(127)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.descriptor)
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def send(self, keys: str | bytes) -> None:
        data = keys.encode() if isinstance(keys, str) else keys
        while data:
            data = data[os.write(self.descriptor, data) :]

    def expect(self, pattern: str, timeout: float = TIMEOUT) -> re.Match[bytes]:
        """Read until `pattern` (a regular expression) is found in what no earlier `expect` consumed."""
        expression = re.compile(pattern.encode())
        deadline = time.monotonic() + timeout
        while True:
            found = expression.search(self.screen, self._seen)
            if found:
                self._seen = found.end()
                return found
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} did not appear; the screen: {self.screen[-2000:]!r}")

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def attributes(self) -> list[Any]:
        """As termios.tcgetattr: what the command made of the terminal."""
        return termios.tcgetattr(self.descriptor)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Read to the end; the exit code, 128+n for a signal."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            ...
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code
            elif time.monotonic() > deadline:
                raise AssertionError(f"it did not end in {timeout:g} s; the screen: {self.screen[-2000:]!r}")
            else:
                time.sleep(0.005)
        return self.code

    def _read(self, deadline: float) -> bool:
        """One chunk of output; False at its end or when the time is over."""
        if not select.select([self.descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            chunk = os.read(self.descriptor, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # pty(7): the last other side was closed
                raise
            return False
        self.screen += chunk
        return bool(chunk)
