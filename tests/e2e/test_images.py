"""Images as they are typed: pulled, listed, named, removed, imported, saved and loaded, against a real registry."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.oci.platform import host_platform
from tests.fakes import sample_images
from tests.fakes.docker_registry import PASSWORD, USERNAME, DockerRegistry
from tests.runner import Rl

RUN = ("run", "--rm", "--network", "none")
OTHER = next(word for word in sample_images.ARCHITECTURES if word != host_platform().architecture)


def names(rl: Rl) -> list[str]:
    return sorted(rl.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split())


def refused(rl: Rl, *words: str) -> str:
    """The message of a command that is refused in one line, with at most a hint or two lines of history."""
    result = rl(*words)
    assert result.code == 125 and result.out == "" and result.err.startswith("rl: "), result
    return result.err


def layers(rl: Rl) -> list[str]:
    return os.listdir(f"{rl.root}/layers")


# ---- pull


def test_pull_by_name_tag_and_digest(fresh_rl: Rl) -> None:
    result = fresh_rl("pull", "alpine")
    identifier = result.out.removesuffix("\n")
    assert result.code == 0 and len(identifier) == 64 and "done" in result.err
    assert fresh_rl("pull", "-q", "docker.io/library/alpine:3.20") == (0, f"{identifier}\n", "")
    assert names(fresh_rl) == ["alpine:3.20", "alpine:latest"]
    digest = fresh_rl.json("image", "inspect", "alpine")[0]["Digest"]
    assert fresh_rl.ok("pull", "-q", f"alpine@{digest}") == identifier
    for word in ("alpine", "docker.io/alpine", identifier, identifier[:12], f"alpine@{digest}", "library/alpine:3.20"):
        assert fresh_rl.ok(*RUN, "--pull", "never", word, "echo", word) == word
    assert len(layers(fresh_rl)) == 1


def test_pull_of_a_platform(fresh_rl: Rl) -> None:
    fresh_rl.ok("pull", "-q", "--platform", f"linux/{OTHER}", "alpine")
    assert fresh_rl.json("image", "inspect", "alpine")[0]["Architecture"] == OTHER
    assert "linux/s390x" in refused(fresh_rl, "pull", "-q", "--platform", "linux/s390x", "alpine")
    assert "'linux/'" in refused(fresh_rl, "pull", "--platform", "linux/", "alpine")


@pytest.mark.parametrize("name", ["alpine:none", "none/at-all", f"alpine@sha256:{'0' * 64}"])
def test_pull_of_what_does_not_exist(fresh_rl: Rl, registry: DockerRegistry, name: str) -> None:
    address = f"{registry.host}/{name if '/' in name else f'library/{name}'}"
    text = refused(fresh_rl, "pull", "-q", "--tls-verify=false", address)
    assert f"{address.removesuffix(':latest')}" in text and "does not exist" in text
    assert names(fresh_rl) == [] and layers(fresh_rl) == []


def test_plain_http(fresh_rl: Rl, registry: DockerRegistry) -> None:
    """Not where TLS is insisted on; to a loopback address as with Docker."""
    address = f"{registry.host}/library/alpine"
    strict = fresh_rl.having(XDG_CONFIG_HOME="/nowhere")
    assert "--tls-verify=false" in refused(strict, "pull", "-q", "--tls-verify", address)
    strict.ok("pull", "-q", address)
    assert names(fresh_rl) == [f"{address}:latest"]


@pytest.mark.parametrize("name", ["UPPER", "a//b", "alpine:", "-x", "a@sha256:1", ""])
def test_names_that_are_none(fresh_rl: Rl, name: str) -> None:
    assert refused(fresh_rl, "pull", "--", name)


# ---- list, name, inspect, remove


def test_images(fresh_rl: Rl) -> None:
    assert fresh_rl.ok("images").split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    identifier = fresh_rl.ok("pull", "-q", "alpine")
    fresh_rl.ok("tag", "alpine", "mine:1", "registry.example:5000/team/tool")
    assert names(fresh_rl) == ["alpine:latest", "mine:1", "registry.example:5000/team/tool:latest"]
    assert fresh_rl.ok("images", "-q") == identifier[:12]
    assert fresh_rl.ok("images", "-q", "--no-trunc", "mine") == f"sha256:{identifier}"
    assert fresh_rl.ok("images", "-q", "nothing") == "" == fresh_rl.ok("images", "-q", "--filter", "dangling=true")
    assert fresh_rl.ok("images", "--filter", "reference=mine:1", "--format", "{{.Repository}}") == "mine"
    (entry,) = fresh_rl.json("images", "--format", "json")
    assert entry["Id"] == identifier and len(entry["RepoTags"]) == 3 and entry["Size"] > 1_000_000


def test_image_inspect(fresh_rl: Rl) -> None:
    identifier = fresh_rl.ok("pull", "-q", "alpine")
    (document,) = fresh_rl.json("image", "inspect", "alpine")
    assert (document["Id"], document["Os"], document["Architecture"]) == (
        identifier,
        "linux",
        host_platform().architecture,
    )
    assert document["RepoTags"] == ["docker.io/library/alpine:latest"] and len(document["RootFS"]["Layers"]) == 1
    assert fresh_rl.ok("image", "inspect", "-f", "{{json .Config.Cmd}}", "alpine") == '["/bin/sh"]'
    assert fresh_rl.json("inspect", "alpine") == [document]
    assert "'nope'" in fresh_rl("image", "inspect", "nope").err


def test_rmi(fresh_rl: Rl) -> None:
    identifier = fresh_rl.ok("pull", "-q", "alpine")
    fresh_rl.ok("tag", "alpine", "second")
    assert fresh_rl.ok("rmi", "second") == "Untagged: docker.io/library/second:latest"
    assert fresh_rl.ok("rmi", "alpine").splitlines()[-1] == f"Deleted: sha256:{identifier}"
    assert names(fresh_rl) == [] == layers(fresh_rl) == os.listdir(f"{fresh_rl.root}/blobs/sha256")
    assert "no image 'alpine'" in refused(fresh_rl, "rmi", "alpine")
    assert fresh_rl.ok("rmi", "-f", "alpine") == ""


def test_an_image_in_use(fresh_rl: Rl) -> None:
    """It is kept; forced, its names go and the container lives on what it has."""
    fresh_rl.ok("pull", "-q", "alpine")
    made = fresh_rl.ok("create", "--name", "user", "--network", "none", "-l", "a=b", "alpine", "echo", "still here")
    assert "is in use by container user" in refused(fresh_rl, "rmi", "alpine")
    fresh_rl.ok("rmi", "-f", "alpine")
    assert names(fresh_rl) == []
    assert fresh_rl.json("inspect", "user")[0]["Id"] == made
    assert fresh_rl.ok("start", "-a", "user") == "still here"
    assert fresh_rl.ok("ps", "-aq", "--filter", "label=a=b") == made[:12]
    fresh_rl.ok("rm", "user")


# ---- import


def tree(directory: Path) -> Path:
    """A root with a busybox and two files."""
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (directory / "bin" / "busybox").chmod(0o755)
    for name in ("sh", "cat", "echo", "ls", "id", "pwd", "env"):
        (directory / "bin" / name).symlink_to("busybox")
    (directory / "greeting").write_text("hello\n")
    (directory / "private").mkdir(mode=0o700)
    return directory


def packed(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(directory, arcname=".")
    return buffer.getvalue()


CHANGES = {
    'CMD ["cat", "/greeting"]': ("Cmd", ["cat", "/greeting"]),
    "ENV A=b C=d": ("Env", ["A=b", "C=d"]),
    "WORKDIR /private": ("WorkingDir", "/private"),
    "USER 7:8": ("User", "7:8"),
    "LABEL x=y": ("Labels", {"x": "y"}),
    "EXPOSE 80/tcp": ("ExposedPorts", {"80/tcp": {}}),
    "VOLUME /v": ("Volumes", {"/v": {}}),
    "STOPSIGNAL SIGUSR2": ("StopSignal", "SIGUSR2"),
}


@pytest.mark.parametrize("source", ["directory", "file", "standard input"])
def test_import(fresh_rl: Rl, tmp_path: Path, source: str) -> None:
    directory = tree(tmp_path / "tree")
    data = packed(directory)
    (tmp_path / "tree.tar.gz").write_bytes(data)
    word = {"directory": str(directory), "file": f"{tmp_path}/tree.tar.gz", "standard input": "-"}[source]
    changes = [word for change in CHANGES for word in ("--change", change)]
    code, out, err = fresh_rl.raw(
        "import", "-q", *changes, "-m", "made by hand", word, "made:1", input=data if word == "-" else b""
    )
    assert (code, err) == (0, b"")
    (document,) = fresh_rl.json("image", "inspect", "made:1")
    assert document["Id"] == out.decode().strip() and document["Comment"] == "made by hand"
    assert {key: document["Config"][key] for key, _ in CHANGES.values()} == dict(CHANGES.values())
    assert fresh_rl.ok(*RUN, "-u", "0", "made:1") == "hello"


def test_import_of_nothing(fresh_rl: Rl, tmp_path: Path) -> None:
    assert "no such file" in refused(fresh_rl, "import", f"{tmp_path}/none.tar", "x").lower()
    (tmp_path / "bad").write_bytes(b"no archive" * 1000)
    assert refused(fresh_rl, "import", f"{tmp_path}/bad", "x")
    assert "BUILD" in refused(fresh_rl, "import", "--change", "BUILD x", f"{tmp_path}/bad", "x")
    assert names(fresh_rl) == [] and layers(fresh_rl) == []


# ---- save, load, other tools


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir"])
def test_save_and_load(fresh_rl: Rl, tmp_path: Path, form: str) -> None:
    identifier = fresh_rl.ok("pull", "-q", "alpine")
    fresh_rl.ok("tag", "alpine", "other:2")
    target = f"{tmp_path}/saved"
    fresh_rl.ok("save", "-q", "--format", form, "-o", target, "alpine", "other:2")
    fresh_rl.ok("rmi", "--all")
    assert layers(fresh_rl) == []
    assert sorted(fresh_rl.ok("load", "-q", "-i", target).splitlines()) == [
        "Loaded image: docker.io/library/alpine:latest", "Loaded image: docker.io/library/other:2",
    ]  # fmt: skip
    assert fresh_rl.ok("images", "-q", "--no-trunc") == f"sha256:{identifier}"
    assert fresh_rl.ok(*RUN, "other:2", "echo", "runs") == "runs"


def test_save_into_load(fresh_rl: Rl, registry: DockerRegistry) -> None:
    """As `rl save … | rl load`, between two stores."""
    identifier = fresh_rl.ok("pull", "-q", "alpine")
    code, archive, _ = fresh_rl.raw("save", "alpine")
    assert code == 0 and len(archive) > 1_000_000
    other = fresh_rl.having("--root", f"{fresh_rl.home}/elsewhere")
    code, out, _ = other.raw("load", "-q", input=archive)
    assert (code, out) == (0, b"Loaded image: docker.io/library/alpine:latest\n")
    assert other.ok("images", "-q", "--no-trunc") == f"sha256:{identifier}"


def test_a_docker_archive_is_loaded(fresh_rl: Rl, tmp_path: Path) -> None:
    """As `docker save` writes it, here skopeo."""
    fresh_rl.ok("pull", "-q", "alpine")
    skopeo(
        fresh_rl,
        "copy",
        "-q",
        f"oci:{fresh_rl.root}:docker.io/library/alpine:latest",
        f"docker-archive:{tmp_path}/image.tar:example.org/from/docker:7",
    )
    fresh_rl.ok("rmi", "--all")
    assert fresh_rl.ok("load", "-q", "-i", f"{tmp_path}/image.tar") == "Loaded image: example.org/from/docker:7"
    assert fresh_rl.ok(*RUN, "example.org/from/docker:7", "echo", "runs") == "runs"


def test_the_store_is_read_in_place(fresh_rl: Rl) -> None:
    fresh_rl.ok("pull", "-q", "alpine")
    found = json.loads(skopeo(fresh_rl, "inspect", f"oci:{fresh_rl.root}:docker.io/library/alpine:latest"))
    assert found["Architecture"] == host_platform().architecture and len(found["Layers"]) == 1


def skopeo(rl: Rl, *words: str) -> str:
    return subprocess.run(["skopeo", *words], env=rl.environment, check=True, capture_output=True, text=True).stdout


# ---- login


@pytest.fixture
def private(registry: DockerRegistry) -> Iterator[DockerRegistry]:
    """The registry's images behind a password."""
    with DockerRegistry(storage=registry.storage, basic=True) as server:
        yield server


def test_login(fresh_rl: Rl, private: DockerRegistry) -> None:
    address = f"{private.host}/library/alpine"
    plain = "--tls-verify=false"
    assert "rl login" in refused(fresh_rl, "pull", "-q", plain, address)
    wrong = fresh_rl("login", plain, "-u", USERNAME, "--password-stdin", private.host, input="wrong\n")
    assert wrong.code == 125 and private.host in wrong.err and "wrong\n" not in wrong.err
    result = fresh_rl("login", plain, "-u", USERNAME, "--password-stdin", private.host, input=f"{PASSWORD}\n")
    assert (result.code, result.out) == (0, "Login succeeded\n") and PASSWORD not in result.err
    fresh_rl.ok("pull", "-q", plain, address)
    assert fresh_rl.ok("logout", private.host).startswith("Removed the credentials")
    assert "rl login" in refused(fresh_rl, "pull", "-q", plain, address)
