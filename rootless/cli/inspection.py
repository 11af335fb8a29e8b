"""`rl inspect`, `container inspect`, `image inspect`: documents in the words of Docker and Podman."""

from __future__ import annotations

from typing import Any

from ..engine import container as containers_on_disk
from ..engine import image as images_on_disk
from ..engine import inspect as engine
from ..errors import Error, NotFound
from .context import Context, complain
from .template import render_document, render_each


def inspect(context: Context, names: tuple[str, ...], format: str | None, type: str) -> int:
    def one(name: str) -> dict[str, Any]:
        if type in ("container", "all"):
            try:
                return _container(context, name)
            except NotFound:
                if type == "container":
                    raise
        try:
            return images_on_disk.inspect(context.paths, name)
        except NotFound:
            if type == "image":
                raise
            raise NotFound(f"no container and no image {name!r}", hint="rl ps -a and rl images list them") from None

    return _print_documents(names, one, format)


def container_inspect(context: Context, containers: tuple[str, ...], format: str | None) -> int:
    return _print_documents(containers, lambda name: _container(context, name), format)


def image_inspect(context: Context, images: tuple[str, ...], format: str | None) -> int:
    return _print_documents(images, lambda name: images_on_disk.inspect(context.paths, name), format)


def _print_documents(names: tuple[str, ...], look: Any, format: str | None) -> int:
    """All that could be found as one JSON list, or each through the template; what could not be found is complained about."""
    code = 0
    documents = []
    for name in names:
        try:
            documents.append(look(name))
        except Error as error:
            complain(error)
            code = error.exit_code
    if format in (None, "", "json"):
        render_document(None, documents)
    else:
        render_each(format or "", documents)
    return code


def _container(context: Context, name: str) -> dict[str, Any]:
    return engine.inspect(context.paths, containers_on_disk.resolve(context.paths, name))
