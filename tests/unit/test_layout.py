"""image/layout: names and entries of index.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import StoreError
from rootless.image import layout
from rootless.oci.descriptor import MEDIA_TYPE_MANIFEST, Descriptor
from rootless.oci.reference import parse
from rootless.paths import Paths

ONE, TWO, OUTER = (f"sha256:{digit * 64}" for digit in "123")
ALPINE, OTHER = "docker.io/library/alpine:3.20", "quay.io/a/b:1"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=f"{tmp_path}/s", runroot=f"{tmp_path}/r", cache=f"{tmp_path}/c", config=f"{tmp_path}/g")
    made.prepare()
    return made


def manifest(digest: str) -> Descriptor:
    return Descriptor(MEDIA_TYPE_MANIFEST, digest, 7)


def written(paths: Paths) -> list[dict[str, Any]]:
    return json.loads(Path(paths.image_index).read_text())["manifests"]  # type: ignore[no-any-return]


def add(paths: Paths, digest: str, *names: str) -> None:
    with layout.changing(paths) as index:
        index.add(manifest(digest), names=names)


def test_each_name_is_an_entry_and_names_move(paths: Paths) -> None:
    add(paths, ONE, ALPINE, OTHER)
    assert [entry["annotations"][layout.REF_NAME] for entry in written(paths)] == [ALPINE, OTHER]
    add(paths, TWO, ALPINE)
    index = layout.read(paths)
    assert index.names(ONE) == (OTHER,)
    assert index.names(TWO) == (ALPINE,)
    assert index.find(parse("alpine:3.20")) == TWO


def test_an_image_without_names_stays_and_is_found_by_digest(paths: Paths) -> None:
    add(paths, ONE, ALPINE)
    add(paths, TWO, ALPINE)
    index = layout.read(paths)
    assert index.digests() == [ONE, TWO]
    assert index.names(ONE) == ()
    assert index.find(parse(f"alpine@{ONE}")) == ONE
    assert index.find(parse(f"busybox@{ONE}")) is None


def test_the_digest_of_the_index_that_was_pulled_is_a_name(paths: Paths) -> None:
    with layout.changing(paths) as index:
        index.add(manifest(ONE), names=[ALPINE], repo_digests=[f"docker.io/library/alpine@{OUTER}"])
    index = layout.read(paths)
    assert index.find(parse(f"alpine:ignored@{OUTER}")) == ONE
    assert index.repo_digests(ONE) == (f"docker.io/library/alpine@{ONE}", f"docker.io/library/alpine@{OUTER}")


def test_what_others_wrote_stays(paths: Paths) -> None:
    theirs = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": OUTER,
        "size": 3,
        "annotations": {layout.REF_NAME: "mine", "org.example": "x"},
        "unknown": [1],
    }
    Path(paths.image_index).write_text(
        json.dumps({"schemaVersion": 2, "manifests": [theirs], "annotations": {"a": "b"}})
    )
    add(paths, ONE, ALPINE)
    with layout.changing(paths) as index:
        index.tag(OUTER, OTHER)
        index.untag(ALPINE)
        index.remove(ONE)
    document = json.loads(Path(paths.image_index).read_text())
    assert document["annotations"] == {"a": "b"}
    assert [entry["annotations"][layout.REF_NAME] for entry in document["manifests"]] == ["mine", OTHER]
    assert all(
        entry["unknown"] == [1] and entry["annotations"]["org.example"] == "x" for entry in document["manifests"]
    )
    assert layout.read(paths).find_name("mine") == OUTER


def test_nothing_is_written_where_nothing_changed_or_something_failed(paths: Paths) -> None:
    add(paths, ONE, ALPINE)
    before = Path(paths.image_index).stat().st_ino
    with layout.changing(paths) as index:
        index.untag("docker.io/library/unknown:1")
    with pytest.raises(ZeroDivisionError), layout.changing(paths) as index:
        index.remove(ONE)
        raise ZeroDivisionError
    assert Path(paths.image_index).stat().st_ino == before
    assert layout.read(paths).digests() == [ONE]


@pytest.mark.parametrize("text", ["[]", "{}", '{"manifests": [{"digest": "x"}]}', '{"manifests": [3]}', "{"])
def test_a_damaged_index_is_refused(paths: Paths, text: str) -> None:
    Path(paths.image_index).write_text(text)
    with pytest.raises(StoreError):
        layout.read(paths)
