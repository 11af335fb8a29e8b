"""Containers on disk for tests, made as rl makes them, with nothing that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rootless.engine import container
from rootless.engine.container import Container, Draft
from rootless.engine.request import CreateRequest
from rootless.paths import Paths


def empty_paths(place: Path) -> Paths:
    paths = Paths(root=f"{place}/s", runroot=f"{place}/r", cache=f"{place}/c", config=f"{place}/g")
    paths.prepare()
    return paths


def described(container_id: str, name: str, **changes: Any) -> Container:
    return Container(
        id=container_id, name=name, image="alpine", image_id="sha256:" + "1" * 64, command=("sh", "-c", "true"), layers=("a" * 64, "b" * 64),
        created="2024-05-01T12:00:00.000000000Z", driver="overlay", mapping="full", ports=(), volumes={}, config={},
        request=CreateRequest("alpine", labels=(("k", "v"),)),
    )._replace(**changes)  # fmt: skip


def commit(paths: Paths, name: str | None = None, *, container_id: str | None = None, **changes: Any) -> Container:
    """A container that was created and never started."""
    with Draft(paths, container_id or container.new_id()) as draft:
        made = described(draft.id, draft.take_name(name), **changes)
        draft.commit(made, durable=False)
    return made
