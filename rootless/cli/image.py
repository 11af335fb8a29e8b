"""`rl pull`, `images`, `rmi`, `tag`, `import`, `load`, `save`: words for `engine.image`."""

from __future__ import annotations

import sys
import time
from typing import IO, Any, Literal

from ..engine import image as engine
from ..errors import Error, NotFound, UsageError
from ..oci import reference as oci_reference
from .columns import print_table
from .context import Context, complain
from .units import human_size, human_span

_HEADINGS = {"ID": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT"}


def pull(context: Context, images: tuple[str, ...], platform: str | None, quiet: bool, tls_verify: bool | None) -> int:
    def one(name: str) -> None:
        image = engine.pull(
            context.paths,
            name,
            platform=platform,
            tls_verify=tls_verify,
            settings=context.settings,
            on_event=context.on_event(quiet=quiet),
        )
        context.close()
        print(image.id.removeprefix("sha256:"), flush=True)

    return context.each(one, images)


def images(
    context: Context,
    repository: str | None,
    all: bool,
    digests: bool,
    filter: tuple[str, ...],
    format: str | None,
    no_trunc: bool,
    quiet: bool,
) -> int:
    found = engine.list_images(
        context.paths,
        on_damaged=lambda digest, error: complain(
            Error(f"the image {digest[:19]} is damaged: {error.message}", hint=error.hint)
        ),
    )
    found = [image for image in found if _matches(image, filter)]
    if format == "json":
        from json import dumps

        print(dumps([image.to_json() for image in found], indent=1))
        return 0
    now = time.time()
    wanted = [value for key, _, value in (word.partition("=") for word in filter) if key == "reference"]
    wanted += [repository] if repository is not None else []
    rows = [
        {
            "Repository": name,
            "Tag": tag,
            "Digest": image.digest,
            "ID": image.id if no_trunc else image.id.removeprefix("sha256:")[:12],
            "CreatedSince": f"{human_span(now - image.created)} ago",
            "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(image.created)),
            "Size": human_size(image.size),
            "Containers": str(image.containers),
            "Labels": image.labels,
        }
        for image in found
        for name, tag in image.rows()
        if _is_each(name, tag, wanted)
    ]
    if quiet:
        for identifier in dict.fromkeys(row["ID"] for row in rows):
            print(identifier)
    elif format is not None:
        from .template import render_rows

        render_rows(format, [row | {"Id": row["ID"]} for row in rows], _HEADINGS)
    else:
        fields = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
        print_table(
            [_HEADINGS.get(field, field.upper()) for field in fields],
            [[str(row[field]) for field in fields] for row in rows],
        )
    return 0


def rmi(context: Context, images: tuple[str, ...], all: bool, force: bool, ignore: bool) -> int:
    if all:
        if images:
            raise UsageError("rl rmi takes images or --all, not both")
        found = engine.list_images(context.paths, on_damaged=lambda _, error: complain(error))
        images = tuple(name for image in found for name in image.names or (image.id,))
    elif not images:
        raise UsageError("rl rmi needs IMAGE...", hint="see 'rl rmi --help'")

    def one(name: str) -> None:
        try:
            removed = engine.remove(context.paths, name, force=force)
        except NotFound:
            if ignore or force or all:
                return
            raise
        for untagged in removed.untagged:
            print(f"Untagged: {untagged}")
        for deleted in removed.deleted:
            print(f"Deleted: {deleted}")

    return context.each(one, images)


def tag(context: Context, image: str, names: tuple[str, ...]) -> int:
    engine.tag(context.paths, image, names)
    return 0


def import_(
    context: Context,
    source: str,
    name: str | None,
    change: tuple[str, ...],
    message: str | None,
    platform: str | None,
    quiet: bool,
) -> int:
    image = engine.import_image(
        context.paths,
        _input(source),
        name,
        changes=change,
        message=message or "",
        platform=platform,
        on_event=context.on_event(quiet=quiet),
    )
    context.close()
    print(image.id.removeprefix("sha256:"))
    return 0


def load(context: Context, input: str | None, quiet: bool) -> int:
    loaded = engine.load(context.paths, _input(input or "-"), on_event=context.on_event(quiet=quiet))
    context.close()
    for name in dict.fromkeys(name for image in loaded for name in image.names or (image.id,)):
        print(f"Loaded image: {name}")
    return 0


def save(
    context: Context,
    images: tuple[str, ...],
    format: Literal["oci-archive", "oci-dir"],
    output: str | None,
    quiet: bool,
) -> int:
    target: IO[bytes] | str = output or sys.stdout.buffer
    if not output:
        if format == "oci-dir":
            raise UsageError("an oci-dir needs --output", hint="rl save --format oci-dir -o DIRECTORY IMAGE")
        if sys.stdout.isatty():
            raise UsageError(
                "an archive is not written to a terminal", hint="name a file with -o, or redirect standard output"
            )
    engine.save(context.paths, images, target, format=format)
    return 0


def _input(source: str) -> IO[bytes] | str:
    if source != "-":
        return source
    if sys.stdin.isatty():
        raise UsageError("an archive is not read from a terminal", hint="name a file, or redirect standard input")
    return sys.stdin.buffer


def _is_each(name: str, tag: str, wanted: list[str]) -> bool:
    return all(_is_of(name, tag, word) for word in wanted)


def _is_of(name: str, tag: str, wanted: str) -> bool:
    """Whether a row of `images` is of REPOSITORY[:TAG], which is written as any image name is."""
    if "*" in wanted or "?" in wanted:
        import fnmatch

        return fnmatch.fnmatchcase(name if ":" not in wanted else f"{name}:{tag}", wanted)
    reference = oci_reference.parse(wanted, default_tag=None)
    own = name if name == "<none>" else oci_reference.parse(name, default_tag=None).name
    return own == reference.name and (reference.tag is None or reference.tag == tag)


def _matches(image: Any, filters: tuple[str, ...]) -> bool:
    for word in filters:
        key, equals, value = word.partition("=")
        if key == "dangling" and value in ("true", "false"):
            matched = (not image.names) == (value == "true")
        elif key == "reference" and equals:
            matched = any(_is_of(name, tag, value) for name, tag in image.rows())
        elif key == "label" and equals:
            label, said, wanted = value.partition("=")
            matched = label in image.labels and (not said or image.labels[label] == wanted)
        elif key == "id" and equals:
            matched = image.id.removeprefix("sha256:").startswith(value.removeprefix("sha256:"))
        else:
            raise UsageError(
                f"invalid value {word!r} for --filter", hint="filters are dangling=, reference=, label=, id="
            )
        if not matched:
            return False
    return True
