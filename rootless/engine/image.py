"""Images as a person handles them: have one here, list, inspect, name, remove, load and save.

Hot path: `ensure` of a local image is a part of `rl run`; whatever fetches, unpacks or hashes is imported where it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import Conflict, Error, NotFound, StoreError
from ..image import layout
from ..image.layout import StoredImage
from ..oci import reference as oci_reference
from ..oci.descriptor import Malformed
from ..oci.image import config_platform
from ..oci.platform import Platform, parse_platform
from ..oci.reference import Reference
from ..paths import Paths
from ..settings import Settings
from ..settings import load as load_settings

if TYPE_CHECKING:
    from ..image import events

    OnEvent = Callable[[events.Event], None]

PullPolicy = Literal["missing", "always", "never", "newer"]


def ensure(
    paths: Paths,
    name: str,
    *,
    policy: PullPolicy = "missing",
    platform: str | None = None,
    tls_verify: bool | None = None,
    settings: Settings | None = None,
    on_event: OnEvent | None = None,
) -> StoredImage:
    """The image `name`, local and unpacked, fetched where the policy says so.

    policy: `missing` fetches what is not local, `newer` also what the registry has another version of (and goes on with the local one
    where the registry cannot be asked). An id or a part of one is only looked for locally. platform: a local image for another counts as missing.
    """
    wanted = parse_platform(platform) if platform else None
    found = None if policy == "always" else _find(paths, name, wanted, settings)
    if found is not None and policy == "newer" and not _is_current(paths, found, name, tls_verify, settings, on_event):
        found = None
    if found is None:
        if policy == "never":
            raise NotFound(f"no image {name!r} in the store", hint=f"rl pull {name}")
        return pull(paths, name, platform=platform, tls_verify=tls_verify, settings=settings, on_event=on_event)
    if found.unpacked != "full":
        return _unpacked(paths, found, on_event)
    return found


def pull(
    paths: Paths,
    name: str,
    *,
    platform: str | None = None,
    tls_verify: bool | None = None,
    settings: Settings | None = None,
    on_event: OnEvent | None = None,
) -> StoredImage:
    """Fetch an image, or what is new of it. A short name is looked for in the configured registries, in order."""
    from ..image import events, registry, transfer

    settings = settings or load_settings(paths)
    candidates = _candidates(name, settings)
    tell = on_event or events.ignore
    for number, reference in enumerate(candidates, 1):
        try:
            return transfer.pull(
                paths,
                reference,
                settings=settings,
                platform=parse_platform(platform) if platform else None,
                tls_verify=tls_verify,
                on_event=tell,
            )
        except (registry.Refused, registry.Unreachable) as error:
            if number == len(candidates):
                raise
            tell(events.Note(f"{error.message}; trying {candidates[number].familiar()}"))
    raise AssertionError("the last candidate returns or raises")


def resolve(paths: Paths, name: str, *, settings: Settings | None = None) -> StoredImage:
    """The local image that a person names; also by a configured short name. NotFound, Conflict."""
    found = _find(paths, name, None, settings)
    if found is None:
        raise NotFound(f"no image {name!r} in the store", hint="rl images lists them, rl pull fetches one")
    return found


class ImageSummary(NamedTuple):
    """One line, or with several names several lines, of `rl images`. created: seconds since 1970. containers: how many stand on it."""

    id: str
    digest: str
    names: tuple[str, ...]
    repo_digests: tuple[str, ...]
    created: int
    size: int
    labels: dict[str, str]
    containers: int

    def rows(self) -> list[tuple[str, str]]:
        """(repository, tag) for each name, as people write them; `<none>` for what it lacks."""
        rows = []
        for name in self.names:
            try:
                repository, _, tag = oci_reference.parse(name, default_tag=None).familiar().rpartition(":")
                rows.append((repository, tag))
            except Error:  # a name that another tool gave it
                rows.append((name, "<none>"))
        if not rows and self.repo_digests:
            rows = [(oci_reference.parse(self.repo_digests[0]).familiar().partition("@")[0], "<none>")]
        return rows or [("<none>", "<none>")]

    def to_json(self) -> dict[str, Any]:
        """In the words of `podman images --format json`."""
        return {
            "Id": _hex(self.id),
            "ParentId": "",
            "RepoTags": list(self.names) or None,
            "RepoDigests": list(self.repo_digests),
            "Size": self.size,
            "SharedSize": 0,
            "VirtualSize": self.size,
            "Labels": self.labels or None,
            "Containers": self.containers,
            "Names": list(self.names),
            "Digest": self.digest,
            "Dangling": not self.names,
            "Created": self.created,
            "CreatedAt": _rfc3339(self.created),
        }


def list_images(paths: Paths, *, on_damaged: Callable[[str, Error], None]) -> list[ImageSummary]:
    """Every image, newest first. One that cannot be read is told to `on_damaged` (digest of its manifest, error)."""
    from ..image.garbage import users

    used = [user.image_id for user in users(paths)]
    found = [
        ImageSummary(
            id=image.id,
            digest=image.digest,
            names=image.names,
            repo_digests=image.repo_digests,
            created=_seconds(image.config.get("created")),
            size=image.size,
            labels=image.config["config"].get("Labels") or {},
            containers=used.count(image.id),
        )
        for image in layout.images(paths, on_damaged=on_damaged)
    ]
    return sorted(found, key=lambda summary: summary.created, reverse=True)


def inspect(paths: Paths, name: str) -> dict[str, Any]:
    """Everything about an image, in the words of `podman image inspect`."""
    image = resolve(paths, name)
    config = image.config
    container = config["config"]
    upper = image.layer_dirs[-1:]
    lower = image.layer_dirs[-2::-1]
    return {
        "Id": _hex(image.id),
        "Digest": image.digest,
        "RepoTags": list(image.names),
        "RepoDigests": list(image.repo_digests),
        "Parent": "",
        "Comment": _comment(config.get("history") or []),
        "Created": config.get("created"),
        "Config": container,
        "Version": str(config.get("docker_version", "")),
        "Author": config.get("author", ""),
        "Architecture": config["architecture"],
        "Variant": config.get("variant", ""),
        "Os": config["os"],
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {
            "Name": "overlay",
            "Data": ({"LowerDir": ":".join(lower)} if lower else {}) | ({"UpperDir": upper[0]} if upper else {}),
        },
        "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
        "Layers": [layer.digest for layer in image.manifest.layers],
        "Labels": container.get("Labels"),
        "Annotations": dict(image.manifest.annotations),
        "ManifestType": image.manifest.media_type,
        "User": container.get("User", ""),
        "History": config.get("history") or [],
        "NamesHistory": list(image.names),
        "Healthcheck": container.get("Healthcheck"),
    }


def tag(paths: Paths, name: str, targets: Iterable[str]) -> None:
    """Give an image further names; another image that has one of them loses it."""
    references = [_taggable(target) for target in targets]
    digest = resolve(paths, name).digest
    with layout.changing(paths) as index:
        if digest not in index.digests():
            raise NotFound(f"no image {name!r} in the store")
        for reference in references:
            index.tag(digest, str(reference))


def untag(paths: Paths, name: str, targets: Sequence[str] = ()) -> tuple[str, ...]:
    """Take the names `targets` from an image, by default all that it has; the image stays. Returns what was taken."""
    image = resolve(paths, name)
    taken = tuple(str(_taggable(target)) for target in targets) or image.names
    for target in taken:
        if target not in image.names:
            raise NotFound(f"the image {name!r} has no name {target!r}")
    with layout.changing(paths) as index:
        for target in taken:
            index.untag(target)
    return taken


class Removed(NamedTuple):
    """What a removal did. untagged: names; deleted: ids of images that are gone; freed: bytes of their blobs."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    freed: int = 0


def remove(paths: Paths, name: str, *, force: bool = False) -> Removed:
    """Remove a name, and with its last name an image, with all that only it uses.

    Conflict where a container stands on the image (`force` removes its names and keeps its layers as long as the container is there), or
    where an id is given of an image with names in several repositories.
    """
    try:
        image = resolve(paths, name)
    except (StoreError, Malformed):
        return _delete_damaged(paths, name)
    named = _name_of(image, name)
    if named is not None and len(image.names) > 1:
        return Removed(untagged=untag(paths, name, (named,)))
    if named is None and len({_repository(each) for each in image.names}) > 1 and not force:
        raise Conflict(
            f"the image {_short(image.id)} has several names: {', '.join(image.names)}",
            hint="remove its names, or use --force",
        )
    return _delete(paths, [image], force=force)


def prune(paths: Paths, *, all: bool = False) -> Removed:
    """Remove the images without a name, with `all` every image that no container stands on; and everything that nothing refers to."""
    from ..image import garbage

    used = {user.image_id for user in garbage.users(paths)}
    unwanted = [
        image
        for image in layout.images(paths, on_damaged=_leave_damaged)
        if image.id not in used and (all or not image.names)
    ]
    return _delete(paths, unwanted, force=False, everything=True)


def load(paths: Paths, source: IO[bytes] | str, *, on_event: OnEvent | None = None) -> list[StoredImage]:
    """Read the images of an oci-archive, an oci directory or a docker-archive: a path, or a stream such as standard input."""
    from ..image import archive, events

    return archive.load(paths, source, on_event=on_event or events.ignore)


def save(
    paths: Paths, names: Sequence[str], target: IO[bytes] | str, *, format: Literal["oci-archive", "oci-dir"]
) -> None:
    """Write images with their names to an archive (a path, or a stream such as standard output) or a new directory."""
    from ..image import archive

    images = [(resolve(paths, name), name) for name in names]
    archive.save(paths, [(image, _name_of(image, name)) for image, name in images], target, format=format)


def import_image(
    paths: Paths,
    source: IO[bytes] | str,
    name: str | None = None,
    *,
    changes: Sequence[str] = (),
    message: str = "",
    platform: str | None = None,
    on_event: OnEvent | None = None,
) -> StoredImage:
    """Make an image of one layer from a tar (a path or a stream, compressed or not) or a directory."""
    from ..image import archive, events

    return archive.import_image(
        paths,
        source,
        _taggable(name) if name else None,
        changes=changes,
        message=message,
        platform=parse_platform(platform) if platform else None,
        on_event=on_event or events.ignore,
    )


# ---- finding


def _find(paths: Paths, name: str, platform: Platform | None, settings: Settings | None) -> StoredImage | None:
    """The local image, if there is one, for the platform; by its plain name first, so that the configuration is mostly not read."""
    try:
        found = layout.resolve(paths, name)
    except NotFound:
        if not oci_reference.is_short(name) or oci_reference.is_identifier(name) or name.startswith("sha256:"):
            return None
        candidates = _candidates(name, settings or load_settings(paths))
        local = (layout.find(paths, reference) for reference in candidates)
        found = next((image for image in local if image is not None), None)  # type: ignore[assignment]
        if found is None:
            return None
    if platform is not None and config_platform(found.config) not in platform.acceptable():
        return None
    return found


def _candidates(name: str, settings: Settings) -> tuple[Reference, ...]:
    from ..image import mirrors

    return mirrors.resolve(name, mirrors.load(settings))


def _is_current(
    paths: Paths,
    image: StoredImage,
    name: str,
    tls_verify: bool | None,
    settings: Settings | None,
    on_event: OnEvent | None,
) -> bool:
    """Whether the registry has under this name what we have; also True where it cannot be asked."""
    from ..errors import RegistryError
    from ..image import events, registry

    settings = settings or load_settings(paths)
    if _name_of(image, name) is None:
        return True  # an id, or a digest: what it names does not change
    reference = next((found for found in _candidates(name, settings) if str(found) in image.names), None)
    if reference is None or reference.digest:
        return True
    try:
        with registry.Repository.connect(reference, settings=settings, tls_verify=tls_verify) as repository:
            there = repository.head_manifest(reference.identifier).digest
    except RegistryError as error:
        if on_event is not None:
            on_event(events.Note(f"{error.message}; using the local {reference.familiar()}", "warning"))
        return True
    return f"{reference.name}@{there}" in image.repo_digests


def _unpacked(paths: Paths, image: StoredImage, on_event: OnEvent | None) -> StoredImage:
    """Make the layers that are missing, or that were made without subordinate ids where there are some now, from the blobs."""
    if image.unpacked == "single":
        from ..userns import subid

        if not subid.ranges("uid", uid=os.getuid(), user=_user()):
            return image
        from ..userns import enter

        with enter.acquire(paths) as namespace:  # the ids are there, but perhaps nothing that may map them
            if namespace.single_id:
                return image
    from ..image import events
    from ..image.layer import layers_of
    from ..image.transfer import Transfer

    layers = layers_of(image.manifest, image.config)
    with Transfer(paths, on_event=on_event or events.ignore) as transfer:
        transfer.make_present(layers, None)
    with layout.changing(paths) as index:
        if image.digest in index.digests():
            index.add(layout.descriptor_of(image, paths), top_layer=layers[-1].chain_id if layers else None)
        return layout.load(paths, index, image.digest)


def _user() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def _name_of(image: StoredImage, text: str) -> str | None:
    """Which of the image's names `text` is; None where it is an id or a digest."""
    if text in image.names:
        return text
    try:
        plain = str(oci_reference.parse(text))
    except Error:
        return None
    if plain in image.names:
        return plain
    if not oci_reference.is_short(text):
        return None
    suffix = f"/{text}" if ":" in text else f"/{text}:{oci_reference.DEFAULT_TAG}"
    matching = [name for name in image.names if name.endswith(suffix)]  # through a search registry
    return matching[0] if len(matching) == 1 else None


def _taggable(text: str) -> Reference:
    reference = oci_reference.parse(text)
    if reference.digest:
        raise Conflict(f"cannot name an image {text!r}: a name with a digest is what its content makes it")
    return reference


# ---- removing


def _delete(paths: Paths, images: list[StoredImage], *, force: bool, everything: bool = False) -> Removed:
    from ..image import garbage, staging
    from ..image.transfer import Transfer

    with (
        Transfer(paths) as transfer,
        staging.staged(paths, remove_tree=transfer.remove_tree) as aside,
        layout.changing(paths) as index,
    ):
        digests = [image.digest for image in images]
        candidates = garbage.everything(paths) if everything else garbage.references(paths, digests)
        for image in images:
            _refuse_in_use(paths, image, force=force)
            index.remove(image.digest)
        index.write()  # first: what is cut short after this leaves garbage, before it would leave names of nothing
        freed = garbage.release(paths, index, candidates, aside)
    return Removed(
        untagged=tuple(name for image in images for name in image.names),
        deleted=tuple(image.id for image in images),
        freed=freed,
    )


def _delete_damaged(paths: Paths, name: str) -> Removed:
    """Forget an image whose documents cannot be read; `prune` finds what it leaves."""
    with layout.changing(paths) as index:
        digest = index.find(oci_reference.parse(name)) or index.find_name(name)
        if digest is None:
            raise NotFound(f"no image {name!r} in the store")
        names = index.names(digest)
        index.remove(digest)
    return Removed(untagged=names)


def _leave_damaged(digest: str, error: Error) -> None:
    """What cannot be read is not pruned: it is not known to be without a name."""


def _refuse_in_use(paths: Paths, image: StoredImage, *, force: bool) -> None:
    from ..image.garbage import users

    by = [user.container for user in users(paths) if user.image_id == image.id]
    if by and not force:
        raise Conflict(
            f"the image {_short(image.id)} is in use by container {by[0]}",
            hint=f"rl rm {by[0]}, or use --force",
        )


# ---- words


def _repository(name: str) -> str:
    return name.rpartition(":")[0]


def _hex(digest: str) -> str:
    return digest.rpartition(":")[2]


def _short(digest: str) -> str:
    return _hex(digest)[:12]


def _comment(history: Sequence[Any]) -> str:
    return str(history[-1].get("comment", "")) if history else ""


def _seconds(created: str | None) -> int:
    """RFC 3339 to seconds since 1970; 0 for what says nothing, or nonsense."""
    from datetime import datetime

    try:
        return int(datetime.fromisoformat(created or "").timestamp())
    except (ValueError, OverflowError):
        return 0


def _rfc3339(seconds: int) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
