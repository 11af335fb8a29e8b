"""`rl ps`. Hot."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ..engine import container as engine
from ..engine.container import Container, State
from ..errors import Error, NotFound, UsageError
from ..store import record
from .columns import print_table, shortened
from .context import Context, complain
from .units import human_span, parse_time

_COLUMNS = (
    ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("CREATED", "RunningFor"), ("STATUS", "Status"), ("PORTS", "Ports"),
    ("NAMES", "Names"),
)  # fmt: skip
_COMMAND_WIDTH = 20


class Listed(NamedTuple):
    """A container and what it is doing."""

    container: Container
    state: State


def ps(
    context: Context,
    all: bool,
    filter: tuple[str, ...],
    format: str | None,
    last: int,
    latest: bool,
    no_trunc: bool,
    quiet: bool,
) -> int:
    wanted = [_filter(word) for word in filter]
    count = 1 if latest else last
    every = all or count >= 0 or any(word.partition("=")[0] in ("status", "exited") for word in filter)
    found = [each for each in _containers(context) if all_match(wanted, each) and (every or each.state.running)]
    found.sort(key=lambda each: each.container.created, reverse=True)
    if count >= 0:
        found = found[:count]
    if quiet and format is None:
        for each in found:
            print(each.container.id if no_trunc else each.container.id[:12])
        return 0
    now = time.time()
    if format == "json":
        from json import dumps

        print(dumps([_document(context, each, now) for each in found], indent=1))
        return 0
    rows = [_row(context, each, now, shorten=not no_trunc) for each in found]
    if format is not None:
        from .template import render_rows

        render_rows(format, rows, {field: heading for heading, field in _COLUMNS})
    else:
        print_table([heading for heading, _ in _COLUMNS], [[row[field] for _, field in _COLUMNS] for row in rows])
    return 0


def _containers(context: Context) -> list[Listed]:
    """All that can be read. One that is damaged is complained about, one that is removed while we look is left out."""
    found = []
    for container_id in engine.identifiers(context.paths):
        try:
            found.append(Listed(engine.load(context.paths, container_id), engine.state(context.paths, container_id)))
        except NotFound:
            continue
        except Error as error:
            complain(error)
    return found


def _row(context: Context, each: Listed, now: float, *, shorten: bool) -> dict[str, Any]:
    """The fields of --format, as texts; the names are Docker's and Podman's."""
    made, state = each
    command = " ".join(command_of(context, made))
    return {
        "ID": made.id[:12] if shorten else made.id,
        "Image": made.image,
        "ImageID": made.image_id.rpartition(":")[2][: 12 if shorten else None],
        "Command": f'"{shortened(command, _COMMAND_WIDTH) if shorten else command}"',
        "CreatedAt": made.created,
        "RunningFor": f"{human_span(now - parse_time(made.created))} ago",
        "Status": status(state, now),
        "State": state.status,
        "Ports": ", ".join(map(str, made.ports)) if state.running else "",
        "Names": made.name,
        "Labels": ",".join(f"{key}={value}" for key, value in made.request.labels),
        "Mounts": ",".join(mount.source or mount.target for mount in made.request.mounts),
        "Networks": made.request.namespaces.network or context.settings.network or "slirp4netns",
        "Pid": state.pid,
        "ExitCode": state.exit_code or 0,
    }


def _document(context: Context, each: Listed, now: float) -> dict[str, Any]:
    """In the words of `podman ps --format json`."""
    made, state = each
    return {
        "Id": made.id,
        "Names": [made.name],
        "Image": made.image,
        "ImageID": made.image_id.rpartition(":")[2],
        "Command": list(command_of(context, made)),
        "Created": int(parse_time(made.created)),
        "CreatedAt": made.created,
        "StartedAt": int(parse_time(state.started_at)) if state.started_at else 0,
        "State": state.status,
        "Status": status(state, now),
        "Exited": state.status == "exited",
        "ExitCode": state.exit_code or 0,
        "ExitedAt": int(parse_time(state.finished_at)) if state.finished_at else 0,
        "Pid": state.pid,
        "Labels": dict(made.request.labels),
        "Ports": [
            {
                "host_ip": port.host_ip or "",
                "host_port": port.host_port,
                "container_port": port.container_port,
                "protocol": port.protocol,
                "range": 1,
            }
            for port in made.ports
        ],
        "Mounts": [mount.target for mount in made.request.mounts],
        "AutoRemove": made.request.remove,
    }


def status(state: State, now: float) -> str:
    """`Up 2 minutes`, `Exited (0) 3 hours ago`, `Created`."""
    if state.running:
        return f"Up {human_span(now - parse_time(state.started_at))}"
    if state.status == "created":
        return "Created"
    ago = f" {human_span(now - parse_time(state.finished_at))} ago" if state.finished_at else ""
    return f"Exited ({state.exit_code}){ago}"


def command_of(context: Context, made: Container) -> tuple[str, ...]:
    """What the container runs: by its bundle, or before its first start by its request and image."""
    bundle: Any = record.read(f"{context.paths.container(made.id)}/config.json")
    if bundle:
        return tuple(bundle["process"]["args"])
    from ..engine import image, spec

    try:
        config = image.resolve(context.paths, made.image_id).config.get("config") or {}
        return tuple(spec.command(made.request, config))
    except Error:
        return made.request.command


# ---- filters


def all_match(filters: list[Callable[[Listed], bool]], each: Listed) -> bool:
    return all(matches(each) for matches in filters)


def _filter(word: str) -> Callable[[Listed], bool]:
    key, equals, value = word.partition("=")
    if not equals or not value:
        raise UsageError(f"invalid value {word!r} for --filter: write KEY=VALUE")
    if key == "name":
        import re

        try:
            pattern = re.compile(value)
        except re.error as error:
            raise UsageError(f"invalid value {word!r} for --filter: {error}") from None
        return lambda each: bool(pattern.search(each.container.name))
    if key == "id":
        return lambda each: each.container.id.startswith(value)
    if key == "status":
        if value not in ("created", "running", "exited"):
            raise UsageError(f"invalid value {word!r} for --filter: a status is created, running or exited")
        return lambda each: each.state.status == value
    if key == "exited":
        return lambda each: each.state.status == "exited" and str(each.state.exit_code) == value
    if key == "label":
        label, said, wanted = value.partition("=")
        return lambda each: any(
            name == label and (not said or text == wanted) for name, text in each.container.request.labels
        )
    if key == "ancestor":
        return lambda each: _is_ancestor(each.container, value)
    raise UsageError(
        f"invalid value {word!r} for --filter: unknown key {key!r}",
        hint="filters are id=, name=, label=, status=, exited=, ancestor=",
    )


def _is_ancestor(made: Container, image: str) -> bool:
    if made.image_id.rpartition(":")[2].startswith(image.removeprefix("sha256:")) and len(image) >= 4:
        return True
    from ..oci import reference

    try:
        wanted, own = reference.parse(image, default_tag=None), reference.parse(made.image)
    except Error:
        return made.image == image
    return own.name == wanted.name and (wanted.tag is None or own.tag == wanted.tag)
