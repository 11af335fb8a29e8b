"""Pulls through a proxy that breaks things, and of images that lie: the right content or a clear error, and never a trace of the wrong one."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import Error, HostError, RegistryError
from rootless.image import archive, compression, events, registry, transfer
from rootless.image.blob import ContentMismatch
from rootless.image.compression import CompressionError
from rootless.image.layout import StoredImage
from rootless.oci import descriptor as d
from rootless.paths import Paths
from rootless.settings import Settings
from tests.fakes.docker_registry import DockerRegistry, tar_of
from tests.fakes.fault_proxy import Fault, Plan, fault_proxy
from tests.fakes.stores import assert_holds, empty_store, noise_tar, pipe_of, reference, remains
from tests.kernel.unpacking import Archive

LAYERS = [noise_tar(seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as running:
        running.push_image("noise", "1", LAYERS)
        running.push_image("single", "1", LAYERS[:1])
        yield running


@pytest.fixture
def paths() -> Iterator[Paths]:
    with empty_store() as made:
        yield made
        assert threading.active_count() <= 2 + _servers(), [thread.name for thread in threading.enumerate()]


def _servers() -> int:
    return sum("process_request" in thread.name or "serve_forever" in thread.name for thread in threading.enumerate())


def pull(paths: Paths, host: str, repository: str = "noise", on_event: events.OnEvent = events.ignore) -> StoredImage:
    return transfer.pull(paths, reference(host, repository), settings=Settings(), on_event=on_event)


def blobs(**plan: Any) -> Plan:
    """A plan for blobs alone, less the config, whose requests come first and one at a time."""
    return Plan(path="/blobs/", **plan)


# ---- what passes


@pytest.mark.parametrize("seed", range(4))
def test_connections_that_break_at_random(server: DockerRegistry, paths: Paths, seed: int) -> None:
    plan = blobs(seed=seed, weights={"reset": 0.5, "truncate": 0.3, "ignore-range": 0.1}, reach=(0, 400_000))
    with fault_proxy(server.host, plan) as proxy:
        image = pull(paths, proxy.host)
    assert_holds(image, *LAYERS)
    assert set(remains(paths)) == {"layers", "blobs"}
    assert proxy.count("reset") + proxy.count("truncate") > 2


def test_what_came_is_not_asked_for_again(server: DockerRegistry, paths: Paths) -> None:
    faults = [Fault(), *(Fault(kind="reset", after=100_000) for _ in range(5))]
    with fault_proxy(server.host, blobs(script=faults)) as proxy:
        assert_holds(pull(paths, proxy.host, "single"), LAYERS[0])
    assert proxy.served < 1.2 * len(LAYERS[0])


def test_a_server_that_cannot_do_ranges_is_asked_for_all(server: DockerRegistry, paths: Paths) -> None:
    faults = [Fault(), Fault(kind="reset", after=300_000), Fault(kind="ignore-range")]
    with fault_proxy(server.host, blobs(script=faults)) as proxy:
        assert_holds(pull(paths, proxy.host, "single"), LAYERS[0])


def test_a_busy_registry_is_waited_for(server: DockerRegistry, paths: Paths) -> None:
    seen: list[events.Event] = []
    faults = [Fault(kind="limit", seconds=1), Fault(kind="busy", seconds=0), Fault(), Fault(kind="limit", seconds=0)]
    with fault_proxy(server.host, Plan(script=faults)) as proxy:
        assert_holds(pull(paths, proxy.host, "single", seen.append), LAYERS[0])
    assert sum(isinstance(event, events.Note) for event in seen) == 3


def test_a_partial_blob_that_was_damaged_is_downloaded_anew(server: DockerRegistry, paths: Paths) -> None:
    layer = server.push_image("other", "1", [LAYERS[0]])
    assert layer
    digest = "sha256:" + hashlib.sha256(gzip.compress(LAYERS[0], 1, mtime=0)).hexdigest()
    Path(paths.partial_blob(digest)).write_bytes(os.urandom(50_000))
    seen: list[events.Event] = []
    assert_holds(pull(paths, server.host, "single", seen.append), LAYERS[0])
    assert any(isinstance(event, events.Note) and event.level == "warning" for event in seen)


# ---- what fails


def test_a_registry_that_never_gets_on_is_given_up(
    server: DockerRegistry, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_FRUITLESS", 3)
    faults = [Fault(), *(Fault(kind="reset", after=0) for _ in range(40))]
    with fault_proxy(server.host, blobs(script=faults)) as proxy, pytest.raises(RegistryError, match="connection"):
        pull(paths, proxy.host, "single")
    assert remains(paths) == {}


def test_an_error_ends_the_other_downloads(server: DockerRegistry, paths: Paths) -> None:
    faults = [Fault(), Fault(kind="corrupt", after=5), *(Fault(kind="stall", after=1000, seconds=30) for _ in range(8))]
    with fault_proxy(server.host, blobs(script=faults)) as proxy, pytest.raises((ContentMismatch, CompressionError)):
        pull(paths, proxy.host)
    assert not remains(paths).keys() & {"layers", "tmp"}


@pytest.mark.parametrize("after", [5, 100_000, 799_990])
def test_a_changed_byte_is_a_wrong_digest(server: DockerRegistry, paths: Paths, after: int) -> None:
    faults = [Fault(), Fault(kind="corrupt", after=after)]
    with (
        fault_proxy(server.host, blobs(script=faults)) as proxy,
        pytest.raises(ContentMismatch, match=r"expected sha256:[0-9a-f]{64}, got sha256:[0-9a-f]{64}"),
    ):
        pull(paths, proxy.host, "single")
    assert remains(paths) == {}
    assert_holds(pull(paths, server.host, "single"), LAYERS[0])


def push_lying(
    server: DockerRegistry, blob: bytes, *, diff_id: str | None = None, media_type: str = d.MEDIA_TYPE_LAYER_GZIP
) -> None:
    """Push `lying:1`, an image of one layer whose blob is `blob`, with a diff id as one wants it."""
    diff_id = diff_id or "sha256:" + hashlib.sha256(LAYERS[0]).hexdigest()
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    server.push_manifest(
        "lying",
        "1",
        {
            "schemaVersion": 2,
            "mediaType": d.MEDIA_TYPE_MANIFEST,
            "config": server.push_blob("lying", json.dumps(config).encode(), d.MEDIA_TYPE_CONFIG).to_json(),
            "layers": [server.push_blob("lying", blob, media_type).to_json()],
        },
    )


PACKED = gzip.compress(LAYERS[0], 1)


@pytest.mark.parametrize(
    ("blob", "error", "words"),
    [
        (PACKED[:-2000], CompressionError, "the gzip data is truncated"),
        (PACKED[:400_000] + bytes(5000) + PACKED[405_000:], CompressionError, "damaged"),
        (gzip.compress(LAYERS[1], 1), ContentMismatch, "diff id sha256:[0-9a-f]{64}, expected sha256:[0-9a-f]{64}"),
        (gzip.compress(LAYERS[0] + bytes(10240), 1), ContentMismatch, "diff id"),
    ],
    ids=["truncated", "damaged", "another", "longer"],
)
def test_layers_that_are_not_what_they_say(
    server: DockerRegistry, paths: Paths, blob: bytes, error: type[Error], words: str
) -> None:
    push_lying(server, blob)
    with pytest.raises(error, match=words):
        pull(paths, server.host, "lying")
    assert not remains(paths).keys() & {"layers", "blobs", "tmp"}


def test_a_layer_that_is_no_tar(server: DockerRegistry, paths: Paths) -> None:
    text = b"not a tar" * 1000
    push_lying(server, gzip.compress(text, 1), diff_id="sha256:" + hashlib.sha256(text).hexdigest())
    with pytest.raises(Error, match="cannot unpack"):
        pull(paths, server.host, "lying")
    assert not remains(paths).keys() & {"layers", "blobs", "tmp"}


def test_an_owner_whom_the_id_map_does_not_hold(server: DockerRegistry, paths: Paths) -> None:
    server.push_image("owner", "1", [Archive().add("srv/file", uid=70_000_000).bytes])
    with pytest.raises(HostError, match="srv/file: its owner 70000000:0 is outside the id map") as caught:
        pull(paths, server.host, "owner")
    assert (caught.value.hint or "").startswith("more subordinate ids: ")


def test_a_bomb_stops_at_the_limit(server: DockerRegistry, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "ALWAYS_ALLOWED", 8 << 20)
    monkeypatch.setattr(compression, "MAX_RATIO", 2)
    push_lying(server, gzip.compress(tar_of({"zeros": bytes(64 << 20)}), 9))
    with pytest.raises(CompressionError, match="more than 8388608 bytes"):
        pull(paths, server.host, "lying")
    assert remains(paths) == {}


@pytest.mark.parametrize("difference", [-100, 100])
def test_a_size_that_is_a_lie(server: DockerRegistry, paths: Paths, difference: int) -> None:
    """The registry checks sizes at a push, so the lie is told by a layout that is served by nobody: read from a directory."""
    root = Path(paths.root).parent / "lying"
    blob = gzip.compress(LAYERS[0], 1)
    layout_of(root, blob, size=len(blob) + difference)
    with pytest.raises(Error, match=f"{len(blob)} bytes and should have {len(blob) + difference}"):
        archive.load(paths, str(root))
    assert remains(paths) == {}


def layout_of(root: Path, blob: bytes, *, size: int) -> None:
    """An image layout with one image, whose layer is said to have `size` bytes."""
    (root / "blobs/sha256").mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (root / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    diff_id = "sha256:" + hashlib.sha256(LAYERS[0]).hexdigest()
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), d.MEDIA_TYPE_CONFIG),
        "layers": [{**put(blob, d.MEDIA_TYPE_LAYER_GZIP), "size": size}],
    }
    index = {"schemaVersion": 2, "manifests": [put(json.dumps(manifest).encode(), d.MEDIA_TYPE_MANIFEST)]}
    (root / "index.json").write_text(json.dumps(index))
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_a_registry_that_refuses_every_connection(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TRIES", 2)
    with fault_proxy("127.0.0.1:1", Plan(weights={"refuse": 1.0})) as proxy, pytest.raises(registry.Unavailable):
        pull(paths, proxy.host)
    assert remains(paths) == {}


HOSTILE_ARCHIVES = {
    "nothing": b"",
    "no archive": b"x" * 5000,
    "a giant header": tarfile.TarInfo("a").tobuf()[:156] + b"x" + bytes(355),
    "no image": tar_of({"a": b"b"}),
    "climbing names": tar_of({"../oci-layout": b"{}", "../index.json": b"{}"}),
    "an empty index": tar_of({"oci-layout": b"{}", "index.json": b'{"schemaVersion": 2, "manifests": []}'}),
    "an index of nonsense": tar_of({"oci-layout": b"{}", "index.json": b"[" * 100_000}),
    "a missing blob": tar_of(
        {
            "oci-layout": b"{}",
            "index.json": b'{"schemaVersion":2,"manifests":[{"mediaType":"%b","digest":"sha256:%b","size":5}]}'
            % (d.MEDIA_TYPE_MANIFEST.encode(), b"a" * 64),
        }
    ),
    "docker nonsense": tar_of({"manifest.json": b'[{"Config": "../../etc/passwd", "Layers": ["/etc/shadow"]}]'}),
    "docker no list": tar_of({"manifest.json": b"3"}),
}


@pytest.mark.parametrize("name", HOSTILE_ARCHIVES)
def test_archives_that_are_none(paths: Paths, name: str) -> None:
    with pytest.raises(Error), pipe_of(HOSTILE_ARCHIVES[name]) as stream:
        archive.load(paths, stream)
    assert remains(paths) == {}


def test_a_giant_header_is_not_read(paths: Paths) -> None:
    """A pax header that claims 64 GiB, in a sparse file that has them."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 64 << 30
    path = Path(paths.root).parent / "giant.tar"
    with open(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(64 << 30)
    with pytest.raises(Error, match="header of"):
        archive.load(paths, str(path))
