"""The root file system of a container: which driver, and the operations that mount it."""

from __future__ import annotations

from .. import fuse_overlay
from ..paths import Paths
from ..runtime.plan import Kind, Operation
from .container import Container
from .engine import Engine


def driver(engine: Engine, requested: str | None) -> fuse_overlay.Driver:
    """The driver for a new container: the one asked for, or the best that works on the store's file system. A worse one is told to the user."""
    choice = fuse_overlay.choose(
        requested or engine.settings.storage_driver, fuse_overlay.Probe(0, 0, "fuse-overlayfs")
    )
    if choice.notice:
        engine.note(f"{choice.notice}; {choice.hint}" if choice.hint else choice.notice)
    return choice.driver


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
    )
    like = [Operation(Kind.LIKE, (lower[0], overlay.upper))] if lower else []
    helper = fuse_overlay.helper_argv(overlay)
    if helper is not None:
        return [*like, Operation(Kind.HELPER, (helper,))]
    # Volatile where the container goes at its end: the kernel would otherwise sync the whole file system when it is unmounted.
    options = "userxattr,index=off" + (",volatile" if container.request.remove else "")
    return [*like, Operation(Kind.OVERLAY, (overlay.target, options, None, (*lower, overlay.upper, overlay.work)))]
