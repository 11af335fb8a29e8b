"""`rl ps`. Hot."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..engine import inspect as engine
from ..engine.container import Container, State
from ..engine.inspect import Summary, seconds
from ..errors import Error, UsageError
from .columns import print_table, shortened
from .context import Context
from .units import human_span

_COLUMNS = (
    ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("CREATED", "RunningFor"), ("STATUS", "Status"), ("PORTS", "Ports"),
    ("NAMES", "Names"),
)  # fmt: skip
_COMMAND_WIDTH = 20


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
    found = [each for each in engine.containers(context.paths) if every or each.state.running]
    for matches in wanted:
        found = [each for each in found if matches(each)]
    if count >= 0:
        found = found[:count]
    if quiet and format is None:
        for each in found:
            print(each.container.id if no_trunc else each.container.id[:12])
        return 0
    now = time.time()
    if format == "json":
        from json import dumps

        print(dumps([each.to_json() | {"Status": status(each.state, now)} for each in found], indent=1))
        return 0
    rows = [_row(context, each, now, shorten=not no_trunc) for each in found]
    if format is not None:
        from .template import render_rows

        render_rows(format, rows, {field: heading for heading, field in _COLUMNS})
    else:
        print_table([heading for heading, _ in _COLUMNS], [[row[field] for _, field in _COLUMNS] for row in rows])
    return 0


def _row(context: Context, each: Summary, now: float, *, shorten: bool) -> dict[str, Any]:
    """The fields of --format, as texts; the names are Docker's and Podman's."""
    made, state = each
    command = " ".join(made.command)
    return {
        "ID": made.id[:12] if shorten else made.id,
        "Image": made.image,
        "ImageID": made.image_id.rpartition(":")[2][: 12 if shorten else None],
        "Command": f'"{shortened(command, _COMMAND_WIDTH) if shorten else command}"',
        "CreatedAt": made.created,
        "RunningFor": f"{human_span(now - seconds(made.created))} ago",
        "Status": status(state, now),
        "State": state.status,
        "Ports": ", ".join(map(str, made.ports)) if state.running else "",
        "Names": made.name,
        "Labels": ",".join(f"{key}={value}" for key, value in made.labels.items()),
        "Mounts": ",".join(mount.source or mount.target for mount in made.request.mounts),
        "Networks": made.request.namespaces.network or context.settings.network or "slirp4netns",
        "Pid": state.pid,
        "ExitCode": state.exit_code or 0,
    }


def status(state: State, now: float) -> str:
    """`Up 2 minutes`, `Exited (0) 3 hours ago`, `Created`."""
    if state.running:
        return f"Up {human_span(now - seconds(state.started_at))}"
    if state.status == "created":
        return "Created"
    ago = f" {human_span(now - seconds(state.finished_at))} ago" if state.finished_at else ""
    return f"Exited ({state.exit_code}){ago}"


# ---- filters


def _filter(word: str) -> Callable[[Summary], bool]:
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
        return lambda each: label in each.container.labels and (not said or each.container.labels[label] == wanted)
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
