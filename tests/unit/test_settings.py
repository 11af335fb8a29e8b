"""The settings file: what it says, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.errors import UsageError
from rootless.paths import Paths
from rootless.settings import Mirror, Settings, load, parse


def paths(config: Path) -> Paths:
    return Paths(root="/nowhere", runroot="/nowhere", cache="/nowhere", config=str(config))


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert load(paths(tmp_path / "none")) == Settings()


def test_everything(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        """
        storage_driver = "fuse"
        network = "none"
        log_driver = "json-file"
        [registries]
        search = ["quay.io", "docker.io"]
        insecure = ["lan:5000"]
        [registries.short_names]
        fedora = "quay.io/fedora/fedora"
        [registries.mirrors]
        "docker.io" = ["localhost:5000", { location = "mirror.lan/hub", insecure = true }]
        "quay.io" = "mirror.lan/quay"
        """
    )
    assert load(paths(tmp_path)) == Settings(
        storage_driver="fuse",
        network="none",
        log_driver="json-file",
        search=("quay.io", "docker.io"),
        insecure=("lan:5000",),
        short_names={"fedora": "quay.io/fedora/fedora"},
        mirrors={
            "docker.io": (Mirror("localhost:5000"), Mirror("mirror.lan/hub", True)),
            "quay.io": (Mirror("mirror.lan/quay"),),
        },
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("storage-driver = 'fuse'", "unknown key storage-driver in FILE", "did you mean storage_driver?"),
        ("[registries]\nserach = []", "unknown key registries.serach in FILE", "did you mean registries.search?"),
        ("search = []", "unknown key search in FILE", "search belongs into the table [registries]"),
        (
            "[registries]\nnetwork = 'host'",
            "unknown key registries.network in FILE",
            "network belongs above the first [table] of the file",
        ),
        (
            "[registries.mirrors]\ninsecure = ['a']\n[other]",
            "unknown key other in FILE",
            "known keys: storage_driver, network, log_driver, registries.search, registries.insecure, registries.short_names, registries.mirrors",
        ),
        ("registries = 1", "registries in FILE must be a table", "[registries]"),
        (
            "storage_driver = 'zfs'",
            "storage_driver in FILE is 'zfs'; it must be one of: overlay, fuse-overlayfs, fuse",
            None,
        ),
        ("network = 1", "network in FILE must be a string", None),
        ("network = ''", "network in FILE must be a string", None),
        ("[registries]\nsearch = 'a'", "registries.search in FILE must be an array of strings", None),
        ("[registries]\nsearch = [1]", "each item of registries.search in FILE must be a string", None),
        ("[registries.mirrors]\na = [{}]", "location in a of registries.mirrors in FILE must be a string", None),
        (
            "[registries.mirrors]\na = [{ url = 'b' }]",
            "unknown key url in a of registries.mirrors in FILE",
            "a mirror has location and insecure",
        ),
        (
            "[registries.mirrors]\na = [{ location = 'b', insecure = 1 }]",
            "insecure in a of registries.mirrors in FILE must be true or false",
            None,
        ),
        ("a = ", "FILE is not TOML: Invalid value (at end of document)", None),
    ],
)
def test_wrong_files(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, "FILE")
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_an_unreadable_file_is_no_silence(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot read"):
        load(paths(tmp_path))
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        load(paths(tmp_path))
