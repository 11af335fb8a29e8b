"""One layer: downloaded, decompressed, hashed twice and unpacked in one stream, in bounded memory, and there as a whole or not at all.

    thread of the transfer    source -> sha256 of the blob, partial file -> queue
    thread "unpack"           queue -> decompress -> sha256 of the tar (diff id) -> pipe
    the C core                pipe -> files in tmp/, in the user namespace -> syncfs

hashlib, zlib, zstandard and write(2) let go of the interpreter's lock, so the three keep two processors busy. All checks passed, `layer.json` is
written beside `diff`, the directory is renamed to `layers/<chain id>` and the blob to `blobs/`. Layers of different chain ids know nothing
of each other: an overlay's layer is the difference alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from typing import NamedTuple

from .. import _lowlevel
from ..errors import Error, HostError, StoreError, reason
from ..oci import image as oci_image
from ..oci.descriptor import Descriptor
from ..oci.image import ImageConfig, Manifest
from ..paths import Paths
from ..store import lock, record
from ..userns import diagnose
from ..userns.enter import UserNamespace
from . import compression, events
from .blob import CHUNK, Cancelled, ContentMismatch, PartialBlob, Source, claimed
from .compression import CompressionError
from .layout import LayerRecord, layer_record
from .staging import staged

_QUEUED = 8  # chunks between the two threads
_PIPE = 1 << 20
_POLL = 0.05
_PROGRESS_INTERVAL = 0.1  # seconds


class Layer(NamedTuple):
    """A layer of one image. parent: the chain id of the layer below."""

    descriptor: Descriptor
    diff_id: str
    chain_id: str
    parent: str | None


class Context(NamedTuple):
    """What all layers of a transfer share. source: None where only what the store has may be used."""

    paths: Paths
    source: Source | None
    namespace: Callable[[], UserNamespace]
    in_use: Callable[[], frozenset[str]]
    """The chain ids of the layers that containers stand on."""
    cancelled: threading.Event
    on_event: events.OnEvent

    def cancel(self) -> None:
        """Have every thread of the transfer end soon, with `Cancelled`."""
        self.cancelled.set()
        if self.source is not None:
            self.source.abort()


def layers_of(manifest: Manifest, config: ImageConfig) -> tuple[Layer, ...]:
    """The layers of an image, lowest first. Malformed where manifest and config do not belong together."""
    oci_image.check_layers(manifest, config)
    diff_ids = config["rootfs"]["diff_ids"]
    chain = oci_image.chain_ids(diff_ids)
    return tuple(
        Layer(descriptor, diff_id, chain_id, parent)
        for descriptor, diff_id, chain_id, parent in zip(
            manifest.layers, diff_ids, chain, (None, *chain[:-1]), strict=True
        )
    )


def make_present(context: Context, layer: Layer) -> None:
    """Have the layer unpacked and its blob in the store; whatever of the two is there is left as it is.

    Any number of processes and threads may ask for the same layer: one makes it, the others wait and find it made.
    """
    try:
        _make_present(context, layer)
    except OSError as error:
        raise StoreError(f"cannot store the layer {layer.descriptor.digest}: {reason(error)}") from error


def _make_present(context: Context, layer: Layer) -> None:
    with _only_maker(context, layer):
        unpack = not _is_unpacked(context, layer)
        for last_attempt in (False, True):
            with claimed(context.paths, layer.descriptor, cancelled=context.cancelled) as partial:
                if partial is None and not unpack:
                    context.on_event(events.AlreadyPresent(layer.descriptor.digest))
                    return
                resumed = partial.length if partial is not None else 0
                try:
                    _make(context, layer, partial, unpack=unpack)
                    return
                except (ContentMismatch, CompressionError) as error:
                    if partial is not None:
                        partial.discard()
                    if last_attempt or not resumed:
                        raise
                    # What an earlier attempt left may have been damaged (a power cut), and cannot be blamed on the source.
                    context.on_event(events.Note(f"{error.message}; downloading it from the start", "warning"))


def _make(context: Context, layer: Layer, partial: PartialBlob | None, *, unpack: bool) -> None:
    descriptor = layer.descriptor
    resumed = partial.length if partial is not None else 0
    local = partial is None or resumed == descriptor.size or not (context.source and context.source.remote)
    phase: events.Phase = "unpack" if local else "download"
    context.on_event(events.LayerStarted(descriptor.digest, descriptor.size, phase, resumed))
    with closing(_watched(context, descriptor, phase, _chunks(context, layer, partial))) as chunks:
        if unpack:
            with staged(context.paths, remove_tree=_remover(context)) as directory:
                made = _unpack(context, layer, chunks, f"{directory}/layer")
                record.write(f"{directory}/layer/layer.json", made._asdict())
                _publish(context.paths, layer.chain_id, directory)
        else:
            for _ in chunks:
                ...
    if partial is not None:
        partial.publish()
    context.on_event(events.LayerDone(descriptor.digest, descriptor.size))


def _chunks(context: Context, layer: Layer, partial: PartialBlob | None) -> Iterator[bytes]:
    """The blob's bytes, all of them; digest and size have been checked when this ends."""
    if partial is None:
        with open(context.paths.blob(layer.descriptor.digest), "rb", buffering=0) as file:
            yield from compression.read_pieces(file, CHUNK)
        return
    yield from partial.replay()
    if partial.length < layer.descriptor.size:
        if context.source is None:
            raise StoreError(f"the blob {layer.descriptor.digest} is not in the store", hint="pull the image again")
        for chunk in context.source.read(layer.descriptor, partial.length):
            partial.append(chunk)
            yield chunk
    partial.check()


def _watched(
    context: Context, descriptor: Descriptor, phase: events.Phase, chunks: Iterator[bytes]
) -> Generator[bytes, None, None]:
    """`chunks`, with progress told and a cancellation heeded."""
    done, next_report = 0, 0.0
    for chunk in chunks:
        if context.cancelled.is_set():
            raise Cancelled
        yield chunk
        done += len(chunk)
        now = time.monotonic()
        if now >= next_report or done == descriptor.size:
            context.on_event(events.LayerProgress(descriptor.digest, done, descriptor.size, phase))
            next_report = now + _PROGRESS_INTERVAL


def _unpack(context: Context, layer: Layer, chunks: Iterator[bytes], directory: str) -> LayerRecord:
    """Unpack a blob into `directory`/diff; returns the record of what was made, after the diff id was checked.

    This thread drives `chunks`; a second one does what comes after.
    """
    namespace = context.namespace()
    os.mkdir(directory, 0o755)
    os.mkdir(f"{directory}/diff", 0o755)
    consumer = _Unpacker(layer, namespace, f"{directory}/diff")
    consumer.start()
    try:
        for chunk in chunks:
            if not consumer.feed(chunk):
                break
        consumer.finish()
        return consumer.result()
    except (CompressionError, ContentMismatch):
        for _ in chunks:
            ...  # to its end: where the digest is wrong, that is the thing to say
        raise
    finally:
        consumer.abandon()


class _Unpacker(threading.Thread):
    """The second thread of a layer. `feed` it the compressed chunks, `finish`, and take the `result`; or `abandon` it."""

    def __init__(self, layer: Layer, namespace: UserNamespace, directory: str) -> None:
        super().__init__(name=f"unpack {layer.descriptor.digest[:19]}", daemon=True)
        self._layer = layer
        self._namespace = namespace
        self._directory = directory
        self._queue: queue.Queue[bytes] = queue.Queue(_QUEUED)
        self._abandoned = False
        self._failure: BaseException | None = None
        self._made: LayerRecord | None = None

    def feed(self, chunk: bytes) -> bool:
        """Hand on a chunk; False where the thread has ended early, and `result` will say why."""
        while self.is_alive():
            try:
                self._queue.put(chunk, timeout=1.0)
                return True
            except queue.Full:
                continue
        return False

    def finish(self) -> None:
        self.feed(b"")

    def abandon(self) -> None:
        """End the thread and the core, where they have not ended, without a result."""
        self._abandoned = True
        self.feed(b"")
        self.join()

    def result(self) -> LayerRecord:
        """The record of the layer that was made, or what went wrong."""
        self.join()
        if self._failure is not None:
            raise self._failure
        assert self._made is not None  # one of the two is set
        return self._made

    def run(self) -> None:
        try:
            self._made = self._unpack()
        except BaseException as error:
            self._failure = error

    def _received(self) -> Iterator[bytes]:
        while chunk := self._queue.get():
            if self._abandoned:
                break
            yield chunk
        if self._abandoned:
            raise Cancelled

    def _unpack(self) -> LayerRecord:
        layer = self._layer
        diff, size = sha256(), 0
        with _Core(self._namespace, self._directory) as core:
            limit = compression.limit_for(layer.descriptor.size)
            for piece in compression.decompress(self._received(), limit=limit):
                diff.update(piece)
                size += len(piece)
                core.write(piece)
            found = "sha256:" + diff.hexdigest()
            if found != layer.diff_id:
                raise ContentMismatch(
                    f"the layer {layer.descriptor.digest} unpacks to the diff id {found}, expected {layer.diff_id}"
                )
            counts = core.finish()
        return LayerRecord(
            chain_id=layer.chain_id,
            diff_id=layer.diff_id,
            parent=layer.parent,
            size=size,
            entries=counts.entries,
            opaque=counts.opaque_root,
            mapping="single" if self._namespace.single_id else "full",
        )


class _Core:
    """The C core unpacking a tar that we write. Left without `finish`, it is ended, and what it says then is lost."""

    def __init__(self, namespace: UserNamespace, directory: str) -> None:
        reader, self._writer = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, _PIPE)
            except PermissionError:
                ...  # beyond the user's share of pipe memory (pipe(7), pipe-user-pages-soft): the usual 64 KiB do
            self._worker = _lowlevel.start_unpack(
                userns=namespace.fd, tar=reader, directory=directory, single_id=namespace.single_id, durable=True
            )
        except BaseException:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)
        self._ended = False
        self._counts: _lowlevel.Counts | None = None

    def write(self, piece: bytes) -> None:
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._writer, view) :]
        except BrokenPipeError:
            self._end()  # raises what it failed of: where all is well it reads to the end
            raise HostError("the core program has stopped reading a layer") from None

    def finish(self) -> _lowlevel.Counts:
        """What was made, when all of it is and is durable."""
        return self._counts or self._end()

    def _end(self) -> _lowlevel.Counts:
        self._ended = True
        os.close(self._writer)
        try:
            self._counts = self._worker.wait()
        except HostError as error:
            if error.number == errno.EINVAL:  # chown(2): an owner that the id map does not hold
                error.hint = f"more subordinate ids: {diagnose.add_subids(diagnose.facts())}"
            raise
        except Error as error:  # the archive is at fault
            raise ContentMismatch(error.message, context=error.context, hint=error.hint) from error
        return self._counts

    def __enter__(self) -> _Core:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ended:
            os.close(self._writer)
            self._worker.kill()


def _publish(paths: Paths, chain_id: str, staging: str) -> None:
    """Give `staging`/layer its name; what had it (made by another format or id map) goes to `staging` and with it."""
    target = paths.layer(chain_id)
    try:
        if os.path.lexists(target):
            os.rename(target, f"{staging}/replaced")
        os.rename(f"{staging}/layer", target)
        record.sync_directory(paths.layers)
    except OSError as error:
        raise StoreError(f"cannot make the layer {target}: {reason(error)}") from error


def _is_unpacked(context: Context, layer: Layer) -> bool:
    """Whether the layer is there in a form that we may use: one that was made with a single id is made again as soon as there are more."""
    found = layer_record(context.paths, layer.chain_id)
    if found is None:
        return False
    if found.mapping == "full" or context.namespace().single_id:
        return True
    if layer.chain_id in context.in_use():
        context.on_event(
            events.Note(
                f"the layer {layer.diff_id} has no owners but root, and containers that use it keep it so",
                "warning",
            )
        )
        return True
    return False


@contextmanager
def _only_maker(context: Context, layer: Layer) -> Iterator[None]:
    """Hold the layer's lock; wait for who holds it, but not beyond a cancellation."""
    path = context.paths.layer_lock(layer.chain_id)
    waiting = False
    while (held := lock.try_lock(path)) is None:
        if not waiting:
            context.on_event(events.Waiting(layer.descriptor.digest))
            waiting = True
        if context.cancelled.wait(_POLL):
            raise Cancelled
    try:
        yield
    finally:
        os.close(held)


def _remover(context: Context) -> Callable[[str], None]:
    return lambda path: _lowlevel.remove_tree(userns=context.namespace().fd, path=path)
