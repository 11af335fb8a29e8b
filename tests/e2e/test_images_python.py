"""Images from a real registry into a real store and out again, below the command line: `image` and `engine.image`."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rootless.engine import image as engine
from rootless.errors import Conflict, NotFound, UsageError
from rootless.image import events, transfer
from rootless.image.layout import StoredImage
from rootless.oci import descriptor as d
from rootless.oci.platform import host_platform, parse_platform
from rootless.paths import Paths
from rootless.settings import Mirror, Settings
from rootless.store import record
from tests.conftest import in_namespace
from tests.fakes import leaks, sample_images
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.fault_proxy import Fault, Plan, fault_proxy
from tests.fakes.stores import assert_holds, empty_store, noise_tar, pipe_of, reference, remains

LAYERS = [noise_tar(seed) for seed in (11, 12, 13)]
REST = {"layers", "blobs"}


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as running:
        sample_images.push(running, "library/alpine", ["3.20", "latest"])
        running.push_image("noise", "1", LAYERS)
        yield running


@pytest.fixture
def paths() -> Iterator[Paths]:
    with empty_store() as made:
        yield made
        assert not leaks.settle(str(Path(made.root).parent))
        assert not {"tmp", "partial"} & remains(made).keys()


def pull(
    paths: Paths, host: str, repository: str = "noise", tag: str = "1", on_event: events.OnEvent = events.ignore
) -> StoredImage:
    return transfer.pull(paths, reference(host, repository, tag), settings=Settings(), on_event=on_event)


def mirror(server: DockerRegistry) -> Settings:
    return Settings(mirrors={"docker.io": (Mirror(server.host, insecure=True),)})


# ---- pulling


def test_alpine_by_its_name_through_a_mirror(server: DockerRegistry, paths: Paths) -> None:
    image = engine.pull(paths, "alpine:3.20", settings=mirror(server))
    assert image.names == ("docker.io/library/alpine:3.20",)
    assert image.config["architecture"] == host_platform().architecture
    assert_holds(image, sample_images.root_tars()[host_platform().architecture])
    index = next(name for name in image.repo_digests if not name.endswith(image.digest))
    for name in (
        "alpine:3.20",
        index,
        image.id,
        image.id[7:19],
        image.digest,
        f"docker.io/library/alpine@{image.digest}",
    ):
        assert engine.resolve(paths, name) == image
    assert engine.ensure(paths, "alpine:3.20", policy="never") == image


def test_another_platform(server: DockerRegistry, paths: Paths) -> None:
    image = transfer.pull(
        paths, reference(server.host, "library/alpine", "3.20"), settings=Settings(), platform=parse_platform("arm64")
    )
    assert image.config["architecture"] == "arm64"
    with pytest.raises(NotFound, match="linux/s390x"):
        engine.pull(paths, f"{server.host}/library/alpine:3.20", platform="linux/s390x")
    with pytest.raises(NotFound):
        engine.ensure(paths, image.names[0], platform="linux/riscv64", policy="never")


def push(server: DockerRegistry, layers: list[tuple[bytes, str]], *, docker: bool = False) -> None:
    """Push `forms:1`, whose layers are given as blobs with media types; each is a form of the LAYERS in order."""
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [sha256(LAYERS[number]) for number in range(len(layers))]},
    }
    kind = d.DOCKER_CONFIG if docker else d.MEDIA_TYPE_CONFIG
    server.push_manifest(
        "forms",
        "1",
        {
            "schemaVersion": 2,
            "mediaType": d.DOCKER_MANIFEST if docker else d.MEDIA_TYPE_MANIFEST,
            "config": server.push_blob("forms", json.dumps(config).encode(), kind).to_json(),
            "layers": [server.push_blob("forms", blob, media_type).to_json() for blob, media_type in layers],
        },
    )


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_every_form_of_layer(server: DockerRegistry, paths: Paths, docker: bool) -> None:
    gz, zst, plain = LAYERS
    half = len(zst) // 2
    compress = zstandard.ZstdCompressor().compress
    push(
        server,
        [
            (
                gzip.compress(gz[:half]) + gzip.compress(gz[half:]),
                d.DOCKER_LAYER_GZIP if docker else d.MEDIA_TYPE_LAYER_GZIP,
            ),
            (compress(zst[:half]) + compress(zst[half:]), d.DOCKER_LAYER_ZSTD if docker else d.MEDIA_TYPE_LAYER_ZSTD),
            (plain, d.DOCKER_LAYER if docker else d.MEDIA_TYPE_LAYER),
        ],
        docker=docker,
    )
    assert_holds(pull(paths, server.host, "forms"), *LAYERS)


def test_an_image_that_has_one_layer_several_times(server: DockerRegistry, paths: Paths) -> None:
    server.push_image("twice", "1", [LAYERS[0]] * 5)
    image = pull(paths, server.host, "twice")
    assert_holds(image, *[LAYERS[0]] * 5)
    assert len(set(image.chain_ids)) == 5
    assert len(os.listdir(paths.blobs)) == 3  # manifest, config, the one layer


def test_a_second_pull_fetches_no_layer(server: DockerRegistry, paths: Paths) -> None:
    with fault_proxy(server.host, Plan()) as proxy:
        first = pull(paths, proxy.host)
        served, seen = proxy.served, list[events.Event]()
        assert pull(paths, proxy.host, on_event=seen.append) == first
        assert proxy.served - served < 10_000
    assert [type(event) for event in seen] == [events.AlreadyPresent] * 3


def test_progress_is_told_and_not_too_often(server: DockerRegistry, paths: Paths) -> None:
    seen: list[events.Event] = []
    image = pull(paths, server.host, on_event=seen.append)
    for layer in image.manifest.layers:
        mine = [event for event in seen if not isinstance(event, events.Note) and event.digest == layer.digest]
        assert isinstance(mine[0], events.LayerStarted)
        assert isinstance(mine[-1], events.LayerDone)
        progress = [event for event in mine if isinstance(event, events.LayerProgress)]
        assert progress[-1].done == progress[-1].total == layer.size
        assert len(progress) < 10


# ---- many at once, and ends in between

PULL = """
import sys
from rootless.image import transfer
from rootless.oci.reference import parse
from rootless.paths import Paths
from rootless.settings import Settings
print(transfer.pull(Paths(*sys.argv[2:]), parse(sys.argv[1]), settings=Settings()).id)
"""


def start_pull(paths: Paths, host: str, repository: str = "noise") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PULL, str(reference(host, repository)), *paths]
    return subprocess.Popen(
        words, cwd=sample_images.REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_four_processes_pull_one_image(server: DockerRegistry, paths: Paths) -> None:
    with fault_proxy(server.host, Plan()) as proxy:
        pulls = [start_pull(paths, proxy.host) for _ in range(4)]
        results = [(pull.communicate(timeout=60), pull.returncode) for pull in pulls]
        assert [code for _, code in results] == [0] * 4, results
        assert len({out for (out, _), _ in results}) == 1
        assert proxy.served < 1.1 * sum(map(len, LAYERS))
        assert_holds(pull(paths, proxy.host), *LAYERS)
    assert len(os.listdir(paths.layers)) == 3


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_is_ended_is_taken_up(server: DockerRegistry, paths: Paths, ending: signal.Signals) -> None:
    stalls = [Fault(), *(Fault(kind="stall", after=500_000, seconds=20) for _ in range(3))]
    with fault_proxy(server.host, Plan(path="/blobs/", script=stalls)) as proxy:
        process = start_pull(paths, proxy.host)
        wait_until(lambda: [os.stat(entry).st_size > 200_000 for entry in os.scandir(paths.partial)] == [True] * 3)
        process.send_signal(ending)
        begun = time.monotonic()
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - begun < 3
        assert process.returncode != 0
        assert ending != signal.SIGINT or "KeyboardInterrupt" in err
        assert not leaks.settle(str(Path(paths.root).parent))
        left = remains(paths)
        assert len(left["partial"]) == 3
        assert "layers" not in left
        assert ending != signal.SIGINT or "tmp" not in left
        served, seen = proxy.served, list[events.Event]()
        assert_holds(pull(paths, proxy.host, on_event=seen.append), *LAYERS)
        assert proxy.served - served < sum(map(len, LAYERS)) - 600_000
    assert all(event.resumed > 200_000 for event in seen if isinstance(event, events.LayerStarted))


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- other tools


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_other_tools_read_the_store_in_place(server: DockerRegistry, paths: Paths, tmp_path: Path) -> None:
    pull(paths, server.host)
    image = engine.pull(paths, "alpine:3.20", settings=mirror(server))
    name = "docker.io/library/alpine:3.20"
    assert json.loads(run("skopeo", "inspect", f"oci:{paths.root}:{name}"))["Digest"] == image.digest
    run("skopeo", "copy", f"oci:{paths.root}:{name}", f"oci:{tmp_path}/copy:x")
    assert name in run("umoci", "ls", "--layout", paths.root).split()
    run("umoci", "unpack", "--rootless", "--image", f"{paths.root}:{name}", f"{tmp_path}/bundle")
    assert os.path.lexists(f"{tmp_path}/bundle/rootfs/bin/sh")


def test_what_another_tool_put_into_the_store_can_be_used(server: DockerRegistry, paths: Paths) -> None:
    name = "docker.io/library/noise:1"
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{server.host}/noise:1", f"oci:{paths.root}:{name}")
    assert engine.resolve(paths, "noise:1").unpacked is None
    assert_holds(engine.ensure(paths, "noise:1"), *LAYERS)
    assert engine.resolve(paths, "noise:1").unpacked == "full"


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir", "docker-archive"])
def test_save_and_load(server: DockerRegistry, paths: Paths, tmp_path: Path, form: str) -> None:
    image = engine.pull(paths, f"{server.host}/noise:1")
    engine.tag(paths, image.id, ["saved:1"])
    name, path = "docker.io/library/saved:1", f"{tmp_path}/saved"
    if form == "docker-archive":
        run("skopeo", "copy", f"oci:{paths.root}:{name}", f"docker-archive:{path}:saved:1")
    else:
        engine.save(paths, ["saved:1"], path, format="oci-dir" if form == "oci-dir" else "oci-archive")
        transport = "oci" if form == "oci-dir" else form
        assert json.loads(run("skopeo", "inspect", f"{transport}:{path}:{name}"))["Digest"] == image.digest
    with empty_store() as other:
        (loaded,) = engine.load(other, path)
        assert_holds(loaded, *LAYERS)
        assert loaded.names == (name,)
        assert loaded.id == image.id
        assert form == "docker-archive" or loaded.digest == image.digest
        assert remains(other).keys() == REST


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_save_and_load_through_pipes(server: DockerRegistry, paths: Paths, compress: Any) -> None:
    image = engine.pull(paths, f"{server.host}/noise:1")
    archives = [io.BytesIO(), io.BytesIO()]
    for archive in archives:
        engine.save(paths, [image.names[0], image.id], archive, format="oci-archive")
    assert archives[0].getvalue() == archives[1].getvalue()
    with empty_store() as other, pipe_of(compress(archives[0].getvalue())) as stream:
        loaded = engine.load(other, stream)
        assert [each.names for each in loaded] == [image.names, image.names]
        assert_holds(loaded[0], *LAYERS)


# ---- importing


@pytest.mark.parametrize("compress", [None, gzip.compress, bz2.compress, zstandard.compress])
def test_import_of_a_tar(paths: Paths, tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(compress(LAYERS[0]) if compress else LAYERS[0])
    changes = ['CMD ["/bin/sh"]', "ENV A=b"]
    image = engine.import_image(paths, str(path), "made:1", changes=changes, message="by hand")
    assert_holds(image, LAYERS[0])
    assert image.config["config"] == {"Cmd": ["/bin/sh"], "Env": ["A=b"]}
    assert image.config["history"][0]["comment"] == "by hand"
    assert engine.import_image(paths, str(path), "made:2", changes=changes, message="by hand").id == image.id
    assert engine.resolve(paths, "made:1").names == ("docker.io/library/made:1", "docker.io/library/made:2")


def test_import_of_a_directory(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "root/bin").mkdir(parents=True)
    (tmp_path / "root/bin/tool").write_text("tool")
    (tmp_path / "root/bin/tool").chmod(0o755)
    (tmp_path / "root/link").symlink_to("bin/tool")
    image = engine.import_image(paths, str(tmp_path / "root"), "made")
    assert Path(image.layer_dirs[0], "bin/tool").read_text() == "tool"
    assert os.readlink(f"{image.layer_dirs[0]}/link") == "bin/tool"
    assert run("skopeo", "inspect", f"oci:{paths.root}:docker.io/library/made:latest")


def test_import_of_nonsense(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"this is no tar\n" * 1000)
    with pytest.raises(Exception, match="not a tar"):
        engine.import_image(paths, str(tmp_path / "text"), "made")
    with pytest.raises(UsageError):
        engine.import_image(paths, str(tmp_path / "text"), "made", changes=["RUN x"])
    assert remains(paths) == {}


# ---- names and removal


def test_tags_lists_and_inspection(server: DockerRegistry, paths: Paths) -> None:
    image = pull(paths, server.host)
    engine.tag(paths, image.id[7:], ["other", "quay.io/a/b:2"])
    (summary,) = engine.list_images(paths, on_damaged=unexpected)
    assert summary.rows() == [(f"{server.host}/noise", "1"), ("other", "latest"), ("quay.io/a/b", "2")]
    assert summary.to_json()["Id"] == image.id[7:]
    assert summary.size >= sum(map(len, LAYERS))
    found = engine.inspect(paths, "other")
    assert found["RootFS"]["Layers"] == [sha256(layer) for layer in LAYERS]
    assert found["GraphDriver"]["Data"]["UpperDir"] == image.layer_dirs[-1]
    engine.untag(paths, "other", ["other"])
    with pytest.raises(NotFound):
        engine.resolve(paths, "other")


def unexpected(digest: str, error: Exception) -> None:
    raise AssertionError(f"{digest}: {error}")


def test_removal_keeps_what_others_use(server: DockerRegistry, paths: Paths) -> None:
    server.push_image("base", "1", LAYERS[:1])
    base = pull(paths, server.host, "base")
    image = pull(paths, server.host)
    engine.tag(paths, base.id, ["second:1"])
    assert engine.remove(paths, "second:1").deleted == ()
    removed = engine.remove(paths, image.names[0])
    assert removed.deleted == (image.id,)
    assert removed.freed > 0
    assert_holds(engine.resolve(paths, base.id), LAYERS[0])
    assert os.listdir(paths.layers) == [base.chain_ids[0][7:]]
    engine.remove(paths, base.id)
    assert remains(paths) == {}


def test_an_image_that_a_container_stands_on(server: DockerRegistry, paths: Paths) -> None:
    image = pull(paths, server.host)
    os.mkdir(paths.container("c0ffee"))
    record.write(
        paths.container_record("c0ffee"), {"name": "cup", "image_id": image.id, "layers": list(image.chain_ids)}
    )
    with pytest.raises(Conflict, match="in use by container cup"):
        engine.remove(paths, image.id)
    assert engine.prune(paths, all=True).deleted == ()
    assert engine.remove(paths, image.id, force=True).deleted == (image.id,)
    assert remains(paths).keys() == {"layers"}
    os.unlink(paths.container_record("c0ffee"))
    os.rmdir(paths.container("c0ffee"))
    engine.prune(paths)
    assert remains(paths) == {}


def test_a_layer_that_vanished_is_made_again(server: DockerRegistry, paths: Paths) -> None:
    image = pull(paths, server.host)
    in_namespace("rm", "-rf", paths.layer(image.chain_ids[1]))
    assert engine.resolve(paths, image.id).unpacked is None
    assert_holds(engine.ensure(paths, image.id), *LAYERS)


def test_a_damaged_image_can_be_removed(server: DockerRegistry, paths: Paths) -> None:
    image = pull(paths, server.host)
    os.unlink(paths.blob(image.id))
    damaged: list[str] = []
    assert engine.list_images(paths, on_damaged=lambda digest, _: damaged.append(digest)) == []
    assert damaged == [image.digest]
    assert engine.remove(paths, image.names[0]).untagged == image.names
    engine.prune(paths)
    assert remains(paths) == {}


# ---- policies


def test_pull_policies(server: DockerRegistry, paths: Paths) -> None:
    server.push_image("moving", "1", LAYERS[:1])
    name = f"{server.host}/moving:1"
    with pytest.raises(NotFound, match="no image"):
        engine.ensure(paths, name, policy="never")
    first = engine.ensure(paths, name)
    server.push_image("moving", "1", LAYERS[:2])
    assert engine.ensure(paths, name) == first
    second = engine.ensure(paths, name, policy="newer")
    assert second.id != first.id
    assert engine.ensure(paths, name, policy="newer") == second
    assert engine.ensure(paths, name, policy="always") == second
    assert engine.resolve(paths, first.id).names == ()
    assert engine.prune(paths).deleted == (first.id,)


def test_newer_goes_on_without_the_registry(server: DockerRegistry, paths: Paths) -> None:
    seen: list[events.Event] = []
    with fault_proxy(server.host, Plan()) as proxy:
        image = pull(paths, proxy.host)
    assert engine.ensure(paths, image.names[0], policy="newer", on_event=seen.append) == image
    assert isinstance(seen[-1], events.Note)


HOT = """
import sys
from rootless.engine import image
from rootless.paths import Paths
image.ensure(Paths(*sys.argv[2:]), sys.argv[1])
print(*sorted({name.partition('.')[0] for name in sys.modules}))
"""


def test_a_local_image_is_found_with_few_imports(server: DockerRegistry, paths: Paths) -> None:
    image = pull(paths, server.host)
    words = [sys.executable, "-S", "-c", HOT, image.names[0], *paths]
    loaded = subprocess.run(
        words, cwd=sample_images.REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "hashlib",
        "requests",
        "zstandard",
        "threading",
        "dataclasses",
        "subprocess",
        "tempfile",
        "pathlib",
        "urllib",
    }
    assert not heavy & set(loaded)
