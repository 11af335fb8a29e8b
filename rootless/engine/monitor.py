"""Talking to the monitor of a running container, over the socket in its runtime directory."""

from __future__ import annotations

import errno
import os

from .. import _lowlevel
from ..errors import Conflict, HostError, NotFound, reason
from ..paths import Paths

SOCKET = "monitor.sock"


class Connection:
    """One connection; a context manager. Raises Conflict where the container does not run (any more)."""

    def __init__(self, paths: Paths, container_id: str) -> None:
        try:
            self.socket = _lowlevel.connect(paths.runtime(container_id), SOCKET)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
                raise Conflict(f"container {container_id[:12]} is not running") from error
            raise HostError(f"cannot reach the monitor of {container_id[:12]}: {reason(error)}") from error

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.socket)

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process. The monitor does it, because it may: our own uid is not always its user's."""
        try:
            _lowlevel.send(self.socket, _lowlevel.MSG_SIGNAL, number.to_bytes(4, "little"))
            while (message := _lowlevel.receive(self.socket)).type not in (_lowlevel.MSG_RESULT, 0):
                continue  # what else comes is of no interest here
        except OSError as error:
            raise Conflict(f"the container ended meanwhile: {reason(error)}") from error
        result = int.from_bytes(message.payload, "little") if message.type else errno.ESRCH
        if result == errno.ESRCH:
            raise Conflict("the container is not running")
        if result:
            raise HostError(f"cannot send signal {number}: {reason(result)}")

    def attach(self, *, stdin: bool, stdout: bool = True, stderr: bool = True) -> None:
        """Ask for the streams; what the container says from now on comes to this socket."""
        mask = stdin << _lowlevel.STDIN | stdout << _lowlevel.STDOUT | stderr << _lowlevel.STDERR
        _lowlevel.send(self.socket, _lowlevel.MSG_ATTACH, mask.to_bytes(4, "little"))

    def wait(self) -> int:
        """The exit code, once there is one. NotFound where the monitor went without telling."""
        while True:
            message = _lowlevel.receive(self.socket)
            if message.type == _lowlevel.MSG_EXITED:
                return int.from_bytes(message.payload, "little", signed=True)
            if message.type == 0:
                raise NotFound("the container's monitor ended without an exit code")
