"""image/staging and image/blob: what is half made, and who may sweep it."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from rootless.image import staging
from rootless.image.blob import Cancelled, ContentMismatch, claimed
from rootless.oci.descriptor import MEDIA_TYPE_LAYER, Descriptor
from rootless.paths import Paths

DATA = b"some content" * 1000
BLOB = Descriptor(MEDIA_TYPE_LAYER, "sha256:" + hashlib.sha256(DATA).hexdigest(), len(DATA))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=f"{tmp_path}/s", runroot=f"{tmp_path}/r", cache=f"{tmp_path}/c", config=f"{tmp_path}/g")
    made.prepare()
    return made


def test_what_is_staged_is_gone_at_the_end_and_safe_before(paths: Paths) -> None:
    with staging.staged(paths, remove_tree=shutil.rmtree) as directory:
        os.mkdir(f"{directory}/layer")
        staging.sweep(paths, remove_tree=shutil.rmtree)
        assert os.path.isdir(f"{directory}/layer")
    assert os.listdir(paths.tmp) == ["partial"]


def test_what_a_dead_maker_left_is_swept(paths: Paths) -> None:
    for name in ("dead", "young", "old"):
        os.makedirs(f"{paths.tmp}/{name}/layer/diff")
    Path(f"{paths.tmp}/dead/lock").touch()
    os.utime(f"{paths.tmp}/old", (0, 0))
    staging.sweep(paths, remove_tree=shutil.rmtree)
    assert sorted(os.listdir(paths.tmp)) == ["partial", "young"]


def test_partial_blobs_are_kept_for_a_week(paths: Paths) -> None:
    for name, days in (("new", 6.9), ("old", 7.1)):
        Path(f"{paths.partial}/{name}").touch()
        os.utime(f"{paths.partial}/{name}", (0, time.time() - days * 86400))
    staging.sweep(paths, remove_tree=shutil.rmtree)
    assert os.listdir(paths.partial) == ["new"]


def test_a_blob_is_taken_up_where_it_was_left(paths: Paths) -> None:
    never = threading.Event()
    with claimed(paths, BLOB, cancelled=never) as partial:
        assert partial is not None
        partial.append(DATA[:5000])
    with claimed(paths, BLOB, cancelled=never) as partial:
        assert partial is not None
        assert b"".join(partial.replay()) == DATA[:5000]
        partial.append(DATA[5000:])
        partial.check()
        partial.publish()
    assert Path(paths.blob(BLOB.digest)).read_bytes() == DATA
    assert os.listdir(paths.partial) == []
    with claimed(paths, BLOB, cancelled=never) as partial:
        assert partial is None


@pytest.mark.parametrize("content", [b"", DATA[:-1], DATA[:-1] + b"x", DATA + b"x"])
def test_other_content_is_refused(paths: Paths, content: bytes) -> None:
    with (
        pytest.raises(ContentMismatch, match=BLOB.digest),
        claimed(paths, BLOB, cancelled=threading.Event()) as partial,
    ):
        assert partial is not None
        partial.append(content)
        partial.check()


def test_one_holder_at_a_time_and_a_wait_can_be_given_up(paths: Paths) -> None:
    cancelled = threading.Event()
    with claimed(paths, BLOB, cancelled=cancelled):
        threading.Timer(0.1, cancelled.set).start()
        with pytest.raises(Cancelled), claimed(paths, BLOB, cancelled=cancelled):
            pytest.fail("two hold one blob")
