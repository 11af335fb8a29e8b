"""Between the user's terminal and a container's streams.

`follow` pumps an attach connection (`run`, `start -a`, `attach`), `follow_joined` the pipes or the pseudo-terminal of `exec`. Both keep what a shell user expects:
raw mode while attached and the old mode after it, the window's size, detach keys, signals passed on, and half-closed standard input.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from .. import _lowlevel
from ..errors import UsageError

_CHUNK: Final = _lowlevel.DATA_MAX
_NOT_PROXIED: Final = frozenset(
    ("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT", "SIGSYS")
)  # fmt: skip
"""Signals that mean this process, or are about its terminal. SIGTSTP: Ctrl-Z suspends rl, as it suspends any program."""


_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end this process where they are not passed on, but not before the terminal is as it was. (SIGINT is Python's KeyboardInterrupt.)"""


class Detached(Exception):
    """The user typed the detach keys."""


class _Ended(Exception):
    """A signal of `_ENDING` has come."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` -> b"\\x10\\x11"; `` -> b"" (no keys). Letters, and ctrl- with a letter or one of @[\\]^_."""
    keys = bytearray()
    for word in filter(None, text.split(",")):
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif word.lower().startswith("ctrl-") and len(word) == 6 and "@" <= word[5].upper() <= "_":
            keys.append(ord(word[5].upper()) - 64)
        else:
            raise UsageError(
                f"invalid detach key {word!r}", hint="write a letter, or ctrl- and a letter: ctrl-p,ctrl-q"
            )
    return bytes(keys)


def window_size(descriptor: int) -> tuple[int, int] | None:
    """Rows and columns of the terminal at a descriptor, None where it is none."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return None
    return rows, columns


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Put the terminal into raw mode (cfmakeraw(3)), and back. A descriptor that is no terminal is left alone."""
    try:
        old = termios.tcgetattr(descriptor)
    except termios.error:
        yield
        return
    new = termios.tcgetattr(descriptor)
    new[0] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    new[1] &= ~termios.OPOST
    new[2] = new[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    new[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, new)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, old)


class _DetachKeys:
    """Finds the detach keys in what is typed. A beginning of them is held back until it is clear that it is not."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def pass_on(self, data: bytes) -> bytes:
        """What to send of `data`. Raises Detached once the keys are complete."""
        if not self._keys:
            return data
        data, self._held = self._held + data, b""
        if self._keys in data:
            raise Detached
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length]
        return data


class _Signals:
    """Signals as bytes in a pipe, while it is entered, so that poll(2) waits for them with everything else."""

    def __init__(self, *, proxy: bool) -> None:
        self._wanted = {signal.SIGWINCH}
        self.ending = frozenset(() if proxy else (each for each in _ENDING if signal.getsignal(each) is signal.SIG_DFL))
        self._wanted |= self.ending
        if proxy:
            self._wanted |= {
                number
                for number in signal.valid_signals()
                if isinstance(number, signal.Signals) and number.name not in _NOT_PROXIED
            }
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._wanted:
            self._old[number] = signal.signal(number, _ignore)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self.reader)
        os.close(self._writer)

    def take(self) -> bytes:
        try:
            return os.read(self.reader, 256)
        except BlockingIOError:
            return b""


def _ignore(_number: int, _frame: object) -> None:
    """The wake-up descriptor has the news; a handler must merely exist."""


class Client:
    """What is the same however the container is reached: where standard streams go, and what typed keys and signals do.

    stdin: pass on our standard input. terminal: the container has one. signal, resize: how those get to the container.
    """

    def __init__(
        self,
        *,
        stdin: bool,
        terminal: bool,
        detach_keys: bytes,
        sig_proxy: bool,
        send_signal: Callable[[int], None],
        resize: Callable[[int, int], None],
    ) -> None:
        self.stdin = stdin
        self.terminal = terminal
        self.raw = terminal and stdin
        self._keys = _DetachKeys(detach_keys if self.raw else b"")
        self.signals = _Signals(proxy=sig_proxy)
        self._send_signal = send_signal
        self._resize = resize

    def resize(self) -> None:
        size = window_size(0) or window_size(1) if self.terminal else None
        if size:
            self._resize(*size)

    def handle_signals(self) -> None:
        for number in self.signals.take():
            if number == signal.SIGWINCH:
                self.resize()
            elif number in self.signals.ending:
                raise _Ended(number)
            else:
                self._send_signal(number)

    @contextmanager
    def at_the_terminal(self) -> Iterator[None]:
        """Signals are taken and the terminal is raw; a signal that ends this process does so when both are as they were."""
        try:
            with self.signals, raw_terminal(0) if self.raw else _nothing():
                yield
        except _Ended as ended:
            signal.raise_signal(ended.number)
            raise

    def read_input(self) -> bytes | None:
        """What was typed, b"" for nothing to pass on, None at the end of standard input. Raises Detached."""
        try:
            data = os.read(0, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: the terminal has hung up
            return None
        return self._keys.pass_on(data) if data else None


class _Outbox:
    """Messages to the monitor, sent as it takes them. None is waited for: the monitor may be waiting for us to take what the container says."""

    def __init__(self, socket: int) -> None:
        os.set_blocking(socket, False)
        self._socket = socket
        self.waiting: list[tuple[int, bytes]] = []
        self.closed = False  # the monitor listens no more; what it said is still to be read

    def put(self, kind: int, payload: bytes = b"") -> None:
        if not self.closed:
            self.waiting.append((kind, payload))
            self.flush()

    def flush(self) -> None:
        """Send what can be sent now."""
        try:
            while self.waiting:
                _lowlevel.send(self._socket, *self.waiting[0])
                del self.waiting[0]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True
            self.waiting.clear()


def follow(
    socket: int,
    *,
    stdin: bool,
    terminal: bool,
    detach_keys: bytes = b"",
    sig_proxy: bool = True,
    send_signal: Callable[[int], None],
) -> int | None:
    """Pump an attach connection until the container has ended. Its exit code; None where the monitor went without one. Raises Detached."""

    outbox = _Outbox(socket)

    def resize(rows: int, columns: int) -> None:
        outbox.put(_lowlevel.MSG_RESIZE, struct.pack("=HH", rows, columns))

    client = Client(
        stdin=stdin,
        terminal=terminal,
        detach_keys=detach_keys,
        sig_proxy=sig_proxy,
        send_signal=send_signal,
        resize=resize,
    )
    code: int | None = None
    if not stdin:
        outbox.put(_lowlevel.MSG_STDIN)
    with client.at_the_terminal():
        client.resize()
        while True:
            interest = {socket: select.POLLIN, client.signals.reader: select.POLLIN}
            if outbox.waiting:
                interest[socket] |= select.POLLOUT
            elif stdin and not outbox.closed:
                interest[0] = select.POLLIN
            ready = _poll(interest)
            if client.signals.reader in ready:
                client.handle_signals()
            if ready.get(socket, 0) & select.POLLOUT:
                outbox.flush()
            if 0 in ready:
                data = client.read_input()
                if data != b"":
                    outbox.put(_lowlevel.MSG_STDIN, data or b"")
                stdin = data is not None
            if not ready.get(socket, 0) & ~select.POLLOUT:
                continue
            message = _lowlevel.receive(socket)
            if message.type == 0:
                return code
            if message.type == _lowlevel.MSG_EXITED:
                code = int.from_bytes(message.payload, "little", signed=True)
            elif message.type in (_lowlevel.MSG_STDOUT, _lowlevel.MSG_STDERR):
                stream = 1 if message.type == _lowlevel.MSG_STDOUT else 2
                if not write_all(stream, message.payload):
                    # Our reader is gone (`rl run … | head`): let the container's writer learn of it, as in any pipeline.
                    outbox.put(_lowlevel.MSG_CLOSE, stream.to_bytes(4, "little"))


def follow_joined(
    socket: int,
    *,
    master: int | None,
    pipes: tuple[int, int, int],
    stdin: bool,
    detach_keys: bytes = b"",
    send_signal: Callable[[int], None],
) -> int:
    """Pump the streams of a joined process until it has ended. pipes: our ends of its streams (-1: none), unused with a `master`.

    Its exit code; 137 where its parent was killed. Raises Detached.
    """
    sink = master if master is not None else pipes[0]
    sources = {master: 1} if master is not None else {pipes[1]: 1, pipes[2]: 2}

    def resize(rows: int, columns: int) -> None:
        if master is not None:
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    client = Client(
        stdin=stdin,
        terminal=master is not None,
        detach_keys=detach_keys,
        sig_proxy=master is None,
        send_signal=send_signal,
        resize=resize,
    )
    typed = b""  # what the process has not taken yet; while there is any, no more is read
    reading = stdin and sink >= 0
    if reading:
        os.set_blocking(sink, False)
    with client.at_the_terminal():
        client.resize()
        while True:
            interest = dict.fromkeys((socket, client.signals.reader, *sources), select.POLLIN)
            if typed:
                interest[sink] = interest.get(sink, 0) | select.POLLOUT
            elif reading:
                interest[0] = select.POLLIN
            ready = _poll(interest)
            if client.signals.reader in ready:
                client.handle_signals()
            if typed and ready.get(sink, 0) & ~select.POLLIN:
                typed = _give(sink, typed)
            if 0 in ready:
                data = client.read_input()
                if data is None:
                    reading = False
                    _end_input(sink, master)
                else:
                    typed = _give(sink, data)
            for source in [source for source in sources if source in ready]:
                if not _relay(source, sources[source]):
                    # Closed, so that a writer learns that its reader is gone; for a terminal that is a hang-up.
                    del sources[source]
                    os.close(source)
                    if source == master:
                        master, sink, typed, reading = None, -1, b"", False
            if socket in ready:
                message = _lowlevel.receive(socket)
                if message.type in (_lowlevel.MSG_EXITED, 0):
                    break
        # After its end: what is still in the pipes, but not what its orphans may say later.
        while left := _poll(dict.fromkeys(sources, select.POLLIN), timeout=0):
            for source in left:
                if not _relay(source, sources[source]):
                    del sources[source]
    if message.type == 0:
        return 128 + signal.SIGKILL
    return int.from_bytes(message.payload, "little", signed=True)


def _poll(interest: dict[int, int], *, timeout: int | None = None) -> dict[int, int]:
    """poll(2): descriptor -> events wanted in, descriptor -> events found out."""
    poller = select.poll()
    for descriptor, events in interest.items():
        poller.register(descriptor, events)
    return dict(poller.poll(timeout))


def write_all(descriptor: int, data: bytes) -> bool:
    """Write everything. False where nobody reads any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select((), (descriptor,), ())  # somebody made our standard output non-blocking
        except BrokenPipeError:
            return False
    return True


def _relay(source: int, stream: int) -> bool:
    """Pass one piece on; False at its end."""
    try:
        data = os.read(source, _CHUNK)
    except BlockingIOError:
        return True
    except OSError:  # EIO: the last holder of the terminal is gone
        return False
    return bool(data) and write_all(stream, data)


def _give(sink: int, data: bytes) -> bytes:
    """Write what fits; the rest is given back. Nothing is left where nobody reads."""
    try:
        return data[os.write(sink, data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""


def _end_input(sink: int, master: int | None) -> None:
    """The end of standard input: a pipe closes; a terminal gets its end-of-file character."""
    if master is None:
        os.close(sink)
        return
    end = termios.tcgetattr(master)[6][termios.VEOF]
    _give(master, end if isinstance(end, bytes) else bytes([end]))


@contextmanager
def _nothing() -> Iterator[None]:
    yield
