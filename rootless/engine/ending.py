"""The end of a container: kill, stop, wait, remove; and the lock under which it begins or goes."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .. import _lowlevel
from ..errors import Conflict, Error, HostError, NotFound, StoreError, reason
from ..paths import Paths
from ..store import lock
from ..userns import enter
from . import container
from .container import Container
from .engine import Engine
from .monitor import Connection

_PAUSE = 0.02  # seconds between looks at a container that we cannot be told about


def kill(engine: Engine, container_id: str, number: int) -> None:
    """Send a signal to a running container's first process. Conflict where it does not run."""
    with Connection(engine.paths, container_id) as connection:
        connection.signal(number)


def stop(engine: Engine, container_id: str, *, timeout: int | None = None) -> None:
    """Ask it to end (its stop signal), and after `timeout` seconds (None: the container's own) kill it. One that does not run is left alone."""
    made = container.load(engine.paths, container_id)
    number = made.request.stop_signal or _image_stop_signal(made)
    patience = made.request.stop_timeout if timeout is None else timeout
    try:
        with Connection(engine.paths, container_id) as connection:
            connection.signal(number)
            if _ends_within(connection.socket, patience):
                return
            connection.signal(signal.SIGKILL)
            _ends_within(connection.socket, None)
    except Conflict as error:
        # It does not run, or ended while we asked; unless the monitor had no place for us.
        if container.state(engine.paths, container_id).running:
            raise HostError(
                f"the monitor of {made.name} takes no more connections",
                hint="end some of those that follow its logs or wait for it",
            ) from error


def _image_stop_signal(made: Container) -> int:
    word = str(made.config.get("StopSignal") or "SIGTERM")
    if word.isdecimal():
        return int(word)
    found = getattr(signal, word if word.startswith("SIG") else f"SIG{word}", signal.SIGTERM)
    return int(found)


def _ends_within(socket: int, seconds: float | None) -> bool:
    """Wait until the monitor has recorded the end and cleaned up (it closes the connection)."""
    deadline = None if seconds is None else time.monotonic() + seconds
    poller = select.poll()
    poller.register(socket, select.POLLIN)
    ended = False
    while True:
        left = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
        if not poller.poll(2000 if ended else left):
            return ended  # after the end: the monitor waits for a client that does not read; the container is gone all the same
        message = _lowlevel.receive(socket)
        if message.type == 0:
            return True
        ended = ended or message.type == _lowlevel.MSG_EXITED


def wait(engine: Engine, container_id: str) -> int:
    """The exit code of a container, once it has ended. One that never ran: 0, as Docker says. NotFound where it is removed, and its code with it."""
    while True:
        try:
            with Connection(engine.paths, container_id) as connection:
                return connection.wait()
        except (Conflict, NotFound):
            pass  # it ended before we asked, or its monitor was killed: the files know
        container.load(engine.paths, container_id)
        state = container.state(engine.paths, container_id)
        if not state.running:
            return state.exit_code or 0
        time.sleep(_PAUSE)  # it is ending, or its monitor has no room for another connection


def remove(engine: Engine, container_id: str, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container that does not run; with `force` one that does, too. volumes: also its anonymous volumes."""
    paths = engine.paths
    with changing(paths, container_id):
        try:
            running = container.state(paths, container_id).running
        except StoreError:
            if not force:
                raise
            running = True  # perhaps; where nothing runs there is nothing to end
        if running:
            if not force:
                raise Conflict(
                    f"container {container_id[:12]} is running",
                    hint=f"rl stop {container_id[:12]}, or rl rm --force {container_id[:12]}",
                )
            _kill_and_wait(paths, container_id)
        end_survivor(paths, container_id)
        try:
            made: Container | None = container.load(paths, container_id)
        except NotFound:
            return  # its monitor was asked to remove it, and did
        except Error:
            if not force:
                raise
            made = None  # damaged: its directory can go all the same
        grave = f"{paths.tmp}/{container_id}"
        try:
            os.rename(paths.container(container_id), grave)
        except FileNotFoundError:
            return
        except OSError as error:
            raise HostError(f"cannot remove {paths.container(container_id)}: {reason(error)}") from error
        if made is not None and container.holder(paths, made.name) == container_id:
            os.unlink(paths.name(made.name))
        remove_runtime(paths.runtime(container_id))
        if not _remove_unused(grave):
            with enter.acquire(paths) as namespace:
                _lowlevel.remove_tree(userns=namespace.fd, path=grave)
    if made is not None and made.volumes and (volumes or made.request.remove):
        from . import volume

        for name in anonymous_volumes(made):
            volume.remove(paths, name)


def _remove_unused(directory: str) -> bool:
    """Remove the directory of a container that nothing was written in, also where no namespace can be made. False where there is more in it."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.is_file(follow_symlinks=False))
        for entry in entries:  # the directories first: where one is not empty, all the rest is still there
            (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
        os.rmdir(directory)
    except OSError:
        return False
    return True


def end_survivor(paths: Paths, container_id: str) -> None:
    """Kill a process of the container that nobody logs or reaps any more, before its files are used again or go."""
    found = container.survivor(paths, container_id)
    if found is None:
        return
    pid, start_time = found
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with enter.of_process(
            pid, start_time
        ) as namespace:  # whose root may signal it; we may not where it has another user
            enter.inside(namespace, lambda: signal.pidfd_send_signal(pidfd, signal.SIGKILL))
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll(10_000)
    except OSError as error:
        raise HostError(f"cannot end process {pid} of the container: {reason(error)}") from error
    finally:
        os.close(pidfd)


def _kill_and_wait(paths: Paths, container_id: str) -> None:
    try:
        with Connection(paths, container_id) as connection:
            connection.signal(signal.SIGKILL)
            _ends_within(connection.socket, None)
    except Conflict:
        pass  # it ended meanwhile


@contextmanager
def changing(paths: Paths, container_id: str) -> Iterator[None]:
    """Hold the lock of a container that is there: one that starts is not removed meanwhile, nor started twice."""
    directory = paths.container(container_id)
    gone = NotFound(f"no container {container_id[:12]!r}", hint="rl ps -a lists them")
    if not os.path.isdir(directory):
        raise gone
    with lock.locked(f"{directory}/lock"):
        if not os.path.isdir(directory):  # what we waited for was its removal
            raise gone
        yield


def remove_runtime(runtime: str) -> None:
    """The runtime directory of a monitor that was killed; one that ended by itself has removed it."""
    try:
        left = os.listdir(runtime)
    except FileNotFoundError:
        return
    for name in left:
        os.unlink(f"{runtime}/{name}")
    os.rmdir(runtime)


def anonymous_volumes(made: Container) -> list[str]:
    """The names of the volumes that nobody gave a name: they are this container's alone."""
    named = {mount.source for mount in made.request.mounts if mount.kind == "volume"}
    return [name for name in made.volumes.values() if name not in named]
