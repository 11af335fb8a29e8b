"""The root file system of a container: which driver, and the operations that mount it."""

from __future__ import annotations

import os
import time

from .. import fuse_overlay
from ..errors import StoreError
from ..paths import Paths
from ..runtime.plan import Kind, Operation
from ..store import record
from ..userns import enter
from .container import Container
from .engine import Engine


def driver(engine: Engine, requested: str | None) -> fuse_overlay.Driver:
    """The driver for a new container: the one asked for, or the best that works on the store's file system. A worse one is told to the user."""
    choice = fuse_overlay.choose(requested or engine.settings.storage_driver, probe(engine.paths))
    if choice.notice:
        engine.note(f"{choice.notice}; {choice.hint}" if choice.hint else choice.notice)
    return choice.driver


def probe(paths: Paths) -> fuse_overlay.Probe:
    """What this host allows for the store, found out once: really trying takes some 20 ms, so the finding is kept with the conditions that it depends on."""
    conditions = fuse_overlay.conditions(paths.root)
    now = time.time()
    known = fuse_overlay.from_document(_kept(paths), conditions, now=now)
    if known is not None:
        return known
    from ..fuse_overlay import probe as experiment

    with enter.acquire(paths) as namespace:
        found = experiment.probe(namespace.fd, paths.tmp)
    try:
        os.makedirs(paths.cache, mode=0o700, exist_ok=True)
        record.write(paths.storage_probe, fuse_overlay.to_document(found, conditions, now=now), durable=False)
    except (OSError, StoreError):
        pass  # a cache that cannot be written to costs the time again, no more
    return found


def _kept(paths: Paths) -> object:
    try:
        return record.read(paths.storage_probe)
    except StoreError:
        return None  # damaged: found out again


def mounting(paths: Paths, container: Container) -> list[Operation]:
    """What the monitor does to mount the container's root at <directory>/rootfs, by the driver that the container was made with."""
    directory = paths.container(container.id)
    lower = tuple(paths.layer_diff(chain_id) for chain_id in reversed(container.layers))
    overlay = fuse_overlay.Overlay(
        driver=container.driver,
        lower=lower,
        upper=f"{directory}/upper",
        work=f"{directory}/work",
        target=f"{directory}/rootfs",
        # The kernel would otherwise sync the whole file system of the store when it is unmounted.
        volatile=container.request.remove,
    )
    like = [Operation(Kind.LIKE, (lower[0], overlay.upper))] if lower else []
    helper = fuse_overlay.helper_argv(overlay)
    if helper is not None:
        stays = int(overlay.driver == "fuse-overlayfs")
        return [*like, Operation(Kind.HELPER, (helper, overlay.target), (stays,))]
    directories = (*lower, overlay.upper, overlay.work)
    return [*like, Operation(Kind.OVERLAY, (overlay.target, fuse_overlay.kernel_options(overlay), None, directories))]
