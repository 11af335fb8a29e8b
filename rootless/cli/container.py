"""`rl run`, `create`, `start`, `stop`, `kill`, `rm`, `wait`: words for `engine.lifecycle`. Hot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..engine import container as containers_on_disk
from ..engine import lifecycle
from ..errors import Conflict, NotFound, UsageError
from .context import Context
from .create_request import create_request, environment

_FOR_EVER = 2_000_000  # seconds: 23 days, and still an int of milliseconds for poll(2)


def run(context: Context, image: str, command: tuple[str, ...], detach: bool, **values: Any) -> int:
    request = create_request(image, command, values, detach=detach, storage_driver=context.storage_driver)
    engine = context.engine(quiet=request.quiet)
    if detach:
        made, _ = lifecycle.run(engine, request, None)
        print(made.id)
        return 0
    _check_terminal(request.terminal and request.interactive)
    _, code = lifecycle.run(engine, request, lifecycle.streams(request))
    return code or 0  # None: the user detached


def create(context: Context, image: str, command: tuple[str, ...], **values: Any) -> int:
    request = create_request(image, command, values, storage_driver=context.storage_driver)
    print(lifecycle.create(context.engine(quiet=request.quiet), request).id)
    return 0


def start(
    context: Context, containers: tuple[str, ...], attach: bool, interactive: bool, detach_keys: str, sig_proxy: bool
) -> int:
    engine = context.engine()
    if not attach and not interactive:
        return _each(context, containers, lambda container_id: lifecycle.start(engine, container_id, None))
    if len(containers) > 1:
        raise UsageError("rl start --attach takes one container")
    container_id = containers_on_disk.resolve(context.paths, containers[0])
    if containers_on_disk.state(context.paths, container_id).running:
        raise Conflict(f"container {containers[0]} is running already")
    request = containers_on_disk.load(context.paths, container_id).request
    request = request._replace(detach_keys=detach_keys, sig_proxy=sig_proxy)
    _check_terminal(request.terminal and request.interactive and interactive)
    return lifecycle.start(engine, container_id, lifecycle.streams(request, stdin=interactive)) or 0


def execute(
    context: Context,
    container: str,
    command: tuple[str, ...],
    detach: bool,
    detach_keys: str,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    interactive: bool,
    privileged: bool,
    tty: bool,
    user: str | None,
    workdir: str | None,
) -> int:
    from ..engine import execute as engine

    _check_terminal(tty and interactive and not detach)
    request = engine.ExecRequest(
        command=command,
        interactive=interactive,
        terminal=tty,
        detach=detach,
        user=user,
        workdir=workdir,
        environment=environment(env, env_file),
        privileged=privileged,
        detach_keys=detach_keys,
    )
    return engine.execute(context.engine(), containers_on_disk.resolve(context.paths, container), request)


def stop(context: Context, containers: tuple[str, ...], all: bool, ignore: bool, time: int | None) -> int:
    engine = context.engine()
    patience = _FOR_EVER if time is not None and time < 0 else time
    return _each(
        context,
        _chosen(context, "stop", containers, every=all, running=True),
        lambda container_id: lifecycle.stop(engine, container_id, timeout=patience),
        ignore_missing=ignore or all,
    )


def kill(context: Context, containers: tuple[str, ...], all: bool, signal: str) -> int:
    from .signals import signal_number

    number = signal_number(signal, "--signal")
    engine = context.engine()
    return _each(
        context,
        _chosen(context, "kill", containers, every=all, running=True),
        lambda container_id: lifecycle.kill(engine, container_id, number),
        ignore_missing=all,
    )


def rm(
    context: Context, containers: tuple[str, ...], all: bool, force: bool, ignore: bool, time: int | None, volumes: bool
) -> int:
    engine = context.engine()

    def remove(container_id: str) -> None:
        if force and time is not None:
            lifecycle.stop(engine, container_id, timeout=_FOR_EVER if time < 0 else time)
        lifecycle.remove(engine, container_id, force=force, volumes=volumes)

    return _each(
        context,
        _chosen(context, "rm", containers, every=all, running=False),
        remove,
        ignore_missing=ignore or force or all,
    )


def wait(context: Context, containers: tuple[str, ...]) -> int:
    engine = context.engine()

    def one(name: str) -> None:
        print(lifecycle.wait(engine, containers_on_disk.resolve(context.paths, name)), flush=True)

    return context.each(one, containers)


def _each(
    context: Context, names: tuple[str, ...], act: Callable[[str], object], *, ignore_missing: bool = False
) -> int:
    """Do something to the containers of these names, and print each name when it is done."""

    def one(name: str) -> None:
        try:
            act(containers_on_disk.resolve(context.paths, name))
        except NotFound:
            if ignore_missing:
                return
            raise
        print(name, flush=True)

    return context.each(one, names)


def _chosen(context: Context, command: str, names: tuple[str, ...], *, every: bool, running: bool) -> tuple[str, ...]:
    """The containers that a command is about: those named, or with --all every one (of those that run)."""
    if every:
        if names:
            raise UsageError(f"rl {command} takes containers or --all, not both")
        found = containers_on_disk.identifiers(context.paths)
        return tuple(each for each in found if not running or containers_on_disk.state(context.paths, each).running)
    if not names:
        raise UsageError(f"rl {command} needs CONTAINER...", hint=f"see 'rl {command} --help'")
    return names


def _check_terminal(wanted: bool) -> None:
    """With -i and -t the container's terminal is this one."""
    if wanted and not sys.stdin.isatty():
        raise UsageError("standard input is not a terminal, as -it wants", hint="leave out -t")
