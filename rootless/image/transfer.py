"""Images into the store: from a registry here, from files through `archive`, both by `Transfer`.

    names -> index -> manifest -> config      small, checked, in memory
    layers                                    in parallel, each in one stream (`layer`)
    index.json                                last: what is named is complete

The first failure ends the others and is the one that is told. After Ctrl-C, or a kill, the partial blobs stay for the next attempt.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from .. import _lowlevel
from ..errors import Conflict, RegistryError
from ..oci import image as oci_image
from ..oci.descriptor import Descriptor, require_sha256
from ..oci.image import ImageConfig, Index, Manifest
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..paths import Paths
from ..settings import Settings
from ..userns import enter
from . import events, garbage, layout, staging
from .blob import Cancelled, ContentMismatch, Source
from .layer import Context, Layer, layers_of, make_present
from .layout import StoredImage

if TYPE_CHECKING:
    from . import registry  # its import takes 100 ms, which an archive need not pay

MAX_PARALLEL = 4
"""Layers at a time; registries are asked for no more than Docker asks them."""
_MAX_NESTING = 4
_FRUITLESS = 6
"""Connections in a row that break without a single byte, after which a blob is given up."""
_GRACE = 10.0  # seconds that threads have to end after a cancellation
_COMMITS = 3


class Incoming(NamedTuple):
    """An image whose small documents are here and checked, and whose layers are still to come. body: the manifest's bytes."""

    descriptor: Descriptor
    body: bytes
    manifest: Manifest
    config_body: bytes
    config: ImageConfig


def pull(
    paths: Paths,
    reference: Reference,
    *,
    settings: Settings,
    platform: Platform | None = None,
    tls_verify: bool | None = None,
    on_event: events.OnEvent = events.ignore,
    max_parallel: int = MAX_PARALLEL,
) -> StoredImage:
    """Fetch an image from its registry or a mirror of it, have its layers unpacked, and name it.

    platform: None is this host's. A reference with a digest is stored without a tag. Raises RegistryError (its classes are in `registry`),
    Malformed, ContentMismatch, NotFound for a platform that the image lacks.
    """
    from . import registry

    with (
        Transfer(paths, on_event=on_event, max_parallel=max_parallel) as transfer,
        registry.Repository.connect(
            reference, settings=settings, tls_verify=tls_verify, on_event=lambda event: transfer.tell(_note(event))
        ) as repository,
    ):
        remote = _Remote(repository, transfer)
        incoming, digests = _fetch(repository, remote, reference, platform)
        if platform is not None and oci_image.config_platform(incoming.config) not in platform.acceptable():
            transfer.tell(
                events.Note(
                    f"{reference.familiar()} is for {oci_image.config_platform(incoming.config)}, not for {platform}",
                    "warning",
                )
            )
        return transfer.store(
            incoming,
            remote,
            names=() if reference.digest else (str(reference),),
            repo_digests=(f"{reference.name}@{digest}" for digest in digests),
        )


class Transfer:
    """What everything that stores images shares: a user namespace when one is needed, events one at a time, a common end. A context manager."""

    def __init__(
        self, paths: Paths, *, on_event: events.OnEvent = events.ignore, max_parallel: int = MAX_PARALLEL
    ) -> None:
        self.cancelled = threading.Event()
        self._paths = paths
        self._on_event = on_event
        self._max_parallel = max_parallel
        self._telling = threading.Lock()
        self._entering = threading.Lock()
        self._namespace: enter.UserNamespace | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Transfer:
        try:
            staging.sweep(self._paths, remove_tree=self.remove_tree)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def tell(self, event: events.Event) -> None:
        with self._telling:
            self._on_event(event)

    def namespace(self) -> enter.UserNamespace:
        """The user namespace that layers are unpacked in; taken at the first call, kept to the end."""
        with self._entering:
            if self._namespace is None:
                self._namespace = self._stack.enter_context(enter.acquire(self._paths))
                if self._namespace.notice:
                    self.tell(events.Note(self._namespace.notice, "warning"))
            return self._namespace

    def remove_tree(self, path: str) -> None:
        """Remove a tree with files of subordinate ids."""
        _lowlevel.remove_tree(userns=self.namespace().fd, path=path)

    def store(
        self,
        incoming: Incoming,
        source: Source | None,
        *,
        names: Iterable[str] = (),
        repo_digests: Iterable[str] = (),
    ) -> StoredImage:
        """Have the layers of an image present, then its documents, then its names."""
        paths = self._paths
        names, repo_digests = tuple(names), tuple(repo_digests)
        layers = layers_of(incoming.manifest, incoming.config)
        for _ in range(_COMMITS):
            self.make_present(layers, source)
            layout.write_blob(paths, incoming.config_body)
            layout.write_blob(paths, incoming.body)
            with layout.changing(paths) as index:
                if _complete(paths, incoming, layers):
                    index.add(
                        incoming.descriptor,
                        names=names,
                        repo_digests=repo_digests,
                        top_layer=layers[-1].chain_id if layers else None,
                    )
                    return layout.load(paths, index, incoming.descriptor.digest)
            # Somebody removed an image that shares a layer with ours, between our look at the layer and our name for it.
        raise Conflict(f"layers of {incoming.descriptor.digest} are removed as fast as they are made")

    def make_present(self, layers: tuple[Layer, ...], source: Source | None) -> None:
        """Have all layers unpacked and all blobs there, some at a time; what there is of it when it fails stays."""
        context = Context(
            paths=self._paths,
            source=source,
            namespace=self.namespace,
            in_use=lambda: garbage.layers_in_use(self._paths),
            cancelled=self.cancelled,
            on_event=self.tell,
        )
        if any(layout.layer_record(self._paths, layer.chain_id) is None for layer in layers):
            self.namespace()  # before there are threads: making one clones this process
        crew = _Crew(context, layers, self._max_parallel)
        try:
            crew.work()
        except BaseException:
            context.cancel()
            crew.join(_GRACE)
            raise


class _Crew:
    """Threads that make layers present, until all are or one fails."""

    def __init__(self, context: Context, layers: tuple[Layer, ...], size: int) -> None:
        self._context = context
        self._waiting = deque(layers)
        self._failed = threading.Event()
        self._failures: list[BaseException] = []
        # Counted by hand: Thread.join of CPython 3.11 takes a thread for ended when Ctrl-C interrupts the wait for it (bpo-45274's mend), and what it was cleaning up would stay.
        self._ended = threading.Semaphore(0)
        self._running = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"layer {number}", daemon=True)
            for number in range(min(size, len(layers)))
        ]

    def work(self) -> None:
        """Returns when all is done; raises the first failure as soon as it happens. KeyboardInterrupt passes through."""
        for thread in self._threads:
            thread.start()
            self._running += 1
        while self._running:
            self._ended.acquire()
            self._running -= 1
        if self._failures:
            raise self._failures[0]

    def join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._running and self._ended.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._running -= 1

    def _run(self) -> None:
        try:
            while self._waiting and not self._context.cancelled.is_set():
                try:
                    layer = self._waiting.popleft()
                except IndexError:
                    return
                make_present(self._context, layer)
        except Cancelled:
            ...  # another's failure, or the user's wish
        except BaseException as error:
            self._failures.append(error)
            self._context.cancel()
        finally:
            self._ended.release()


class _Remote:
    """A repository as a source: a connection that breaks is made again from where it broke, for as long as each brings something."""

    remote = True

    def __init__(self, repository: registry.Repository, transfer: Transfer) -> None:
        self._repository = repository
        self._transfer = transfer
        self._streams: set[registry.BlobStream] = set()

    def read(self, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        from .registry import Interrupted, Refused, Unavailable, Unreachable

        at, fruitless = offset, 0
        while at < descriptor.size:
            before = at
            try:
                for chunk in self._from(descriptor, at):
                    at += len(chunk)
                    yield chunk
            except Interrupted as error:
                fruitless = 0 if at > before else fruitless + 1
                if fruitless == _FRUITLESS:
                    raise
                self._transfer.tell(events.Note(f"{error.message}; going on at byte {at} of {descriptor.size}"))
                if self._transfer.cancelled.wait(min(0.25 * 2**fruitless, 5.0) if fruitless else 0):
                    raise Cancelled from None
            except (Unavailable, Unreachable, Refused):
                raise
            except RegistryError as error:  # the registry has a blob of another size under this digest
                raise ContentMismatch(error.message, context=error.context, hint=error.hint) from error

    def abort(self) -> None:
        self._repository.close()
        for stream in tuple(self._streams):
            stream.abort()

    def _from(self, descriptor: Descriptor, at: int) -> Iterator[bytes]:
        """One connection's share, from `at` on; a server that cannot do ranges starts at 0, and we skip."""
        with self._repository.blob(descriptor, offset=at) as stream:
            self._streams.add(stream)
            try:
                skip = at - stream.offset
                for chunk in stream:
                    if skip < len(chunk):
                        yield chunk[skip:] if skip else chunk
                    skip = max(0, skip - len(chunk))
            finally:
                self._streams.discard(stream)


def _fetch(
    repository: registry.Repository, source: Source, reference: Reference, platform: Platform | None
) -> tuple[Incoming, list[str]]:
    """The manifest for the platform with its config, and the digests that the reference led through."""
    fetched = repository.manifest(reference.identifier)
    digests = [fetched.digest]
    found = oci_image.parse_manifest(fetched.body, fetched.media_type)
    for _ in range(_MAX_NESTING):
        if isinstance(found, Manifest):
            break
        chosen = oci_image.choose(found, platform)
        fetched = repository.manifest(chosen.digest)
        found = oci_image.parse_manifest(fetched.body, chosen.media_type)
        digests.append(chosen.digest)
    if isinstance(found, Index):
        raise RegistryError(f"the index of {reference.familiar()} is nested more than {_MAX_NESTING} deep")
    descriptor = Descriptor(found.media_type, require_sha256(fetched.digest), len(fetched.body))
    config_body = read_small(source, found.config)
    return Incoming(descriptor, fetched.body, found, config_body, oci_image.parse_config(config_body)), digests


def read_small(source: Source, descriptor: Descriptor) -> bytes:
    """A blob in memory, checked. Its size, which `parse_manifest` has bounded, is what is read at most."""
    body = bytearray()
    for chunk in source.read(descriptor, 0):
        body += chunk
        if len(body) > descriptor.size:
            break
    found = "sha256:" + sha256(body).hexdigest()
    if len(body) != descriptor.size or found != require_sha256(descriptor.digest):
        raise ContentMismatch(
            f"wrong digest: expected {descriptor.digest} of {descriptor.size} bytes, got {found} of {len(body)}"
        )
    return bytes(body)


def _complete(paths: Paths, incoming: Incoming, layers: tuple[Layer, ...]) -> bool:
    """Whether everything that the image needs is there; to be asked with the index locked."""
    digests = {
        incoming.descriptor.digest,
        incoming.manifest.config.digest,
        *(layer.descriptor.digest for layer in layers),
    }
    return all(os.path.exists(paths.blob(digest)) for digest in digests) and all(
        layout.layer_record(paths, layer.chain_id) is not None for layer in layers
    )


def _note(event: registry.Event) -> events.Note:
    """What the registry client reports, in a sentence."""
    from .registry import Waiting

    if isinstance(event, Waiting):
        return events.Note(f"{event.why}; trying again in {event.seconds:.0f} s")
    return events.Note(f"the mirror {event.host} " + (f"was given up: {event.why}" if event.failed else event.why))
