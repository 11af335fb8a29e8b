"""Auth files and credential helpers, read as the other tools write them and written as they read them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import HostError, NotFound, UsageError
from rootless.image.credentials import Credentials, erase, find, store

HELPER = '''#!/usr/bin/python3
"""A credential helper that keeps its secrets in a JSON file beside it."""
import json, pathlib, sys
place = pathlib.Path(__file__ + ".json")
secrets = json.loads(place.read_text()) if place.exists() else {}
text = sys.stdin.read()
if sys.argv[1] == "store":
    entry = json.loads(text)
    secrets[entry["ServerURL"]] = entry
elif text not in secrets:
    print("credentials not found in native keychain")
    sys.exit(1)
elif sys.argv[1] == "get":
    print(json.dumps(secrets[text]))
else:
    del secrets[text]
place.write_text(json.dumps(secrets))
'''


class User:
    """A user with a home, a runtime directory and a directory of helpers on PATH."""

    def __init__(self, place: Path) -> None:
        self.runtime = place / "run/containers/auth.json"
        self.persistent = place / ".config/containers/auth.json"
        self.docker = place / ".docker/config.json"
        self.bin = place / "bin"
        self.environment = {"HOME": str(place), "XDG_RUNTIME_DIR": str(place / "run")}

    def write(self, path: Path, document: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))

    def find(self, registry: str, repository: str = "") -> tuple[str, str] | None:
        found = find(registry, repository, environment=self.environment)
        return None if found is None else (found.username, found.password)

    def secrets(self, helper: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.bin / f"docker-credential-{helper}.json").read_text())
        return document

    def install(self, name: str, text: str = HELPER) -> None:
        self.bin.mkdir(exist_ok=True)
        program = self.bin / f"docker-credential-{name}"
        program.write_text(text)
        program.chmod(0o755)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    user = User(tmp_path)
    monkeypatch.setenv("PATH", f"{user.bin}:{os.environ['PATH']}")
    return user


def entry(name: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_order_of_files(user: User) -> None:
    assert user.find("a.com") is None
    user.write(user.docker, {"auths": {"a.com": entry("docker", "d:d")}})
    assert user.find("a.com") == ("docker", "d:d")
    user.write(user.persistent, {"auths": {"a.com": entry("persistent", "p")}})
    assert user.find("a.com") == ("persistent", "p")
    user.write(user.runtime, {"auths": {"a.com": entry("runtime", "r"), "b.com": {}}})
    assert user.find("a.com") == ("runtime", "r")
    assert user.find("b.com") is None
    user.environment["REGISTRY_AUTH_FILE"] = str(user.docker)
    assert user.find("a.com") == ("docker", "d:d")


def test_the_most_specific_key(user: User) -> None:
    user.write(
        user.persistent,
        {"auths": {"a.com": entry("host", ""), "a.com/x/y": entry("xy", ""), "a.com/x": entry("x", "")}},
    )
    assert [user.find("a.com", repository) for repository in ("x/y/z", "x/y", "x/yz", "z")] == [
        ("xy", ""),
        ("xy", ""),
        ("x", ""),
        ("host", ""),
    ]


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io"])
def test_names_of_docker_hub(user: User, key: str) -> None:
    user.write(user.docker, {"auths": {key: entry("a", "b")}})
    assert user.find("docker.io", "library/alpine") == ("a", "b")
    assert user.find("quay.io") is None


def test_identity_tokens(user: User) -> None:
    user.write(user.docker, {"auths": {"a.com": {**entry("u", ""), "identitytoken": "t"}}})
    found = find("a.com", environment=user.environment)
    assert found is not None and found.identity_token == "t"
    assert "t'" not in repr(found), "secrets are not shown"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is damaged"),
        ([], "not a JSON object"),
        ({"auths": []}, "auths in .* is not an object"),
        ({"auths": {"a.com": "x"}}, r"auths of a\.com in .* is not an object"),
        ({"auths": {"a.com": {"auth": 1}}}, "not a string"),
        ({"auths": {"a.com": {"auth": "%%"}}}, "is not base64"),
        ({"credHelpers": []}, "credHelpers in .* is not an object"),
        ({"credHelpers": {"a.com": "../../bin/sh"}}, "is not the name of a credential helper"),
        ({"credsStore": 1}, "is not the name of a credential helper"),
    ],
)
def test_wrong_files(user: User, document: object, message: str) -> None:
    user.write(user.persistent, document)
    with pytest.raises(UsageError, match=message):
        user.find("a.com")


def test_login_and_logout_in_a_file(user: User) -> None:
    user.write(user.runtime, {"auths": {"a.com": entry("old", "old"), "b.com": entry("b", "b")}})
    user.write(user.persistent, {"auths": {"c.com": entry("c", "c")}, "other": 1})
    stored = store("a.com", Credentials(username="ann", password="pä:ss"), environment=user.environment)
    assert stored.where == str(user.persistent) and stored.plain
    assert user.persistent.stat().st_mode & 0o777 == 0o600
    assert user.find("a.com", "x") == ("ann", "pä:ss")
    assert user.find("b.com") == ("b", "b")
    assert user.find("c.com") == ("c", "c")
    assert json.loads(user.persistent.read_text())["other"] == 1
    assert erase("a.com", environment=user.environment).removed == (str(user.persistent),)
    assert user.find("a.com") is None
    with pytest.raises(NotFound, match=r"not logged in to a\.com"):
        erase("a.com", environment=user.environment)


def test_a_link_to_the_file_is_kept(user: User, tmp_path: Path) -> None:
    user.write(tmp_path / "dotfiles/auth.json", {})
    user.persistent.parent.mkdir(parents=True)
    user.persistent.symlink_to(tmp_path / "dotfiles/auth.json")
    store("a.com", Credentials(username="a", password="b"), environment=user.environment)
    assert user.persistent.is_symlink()
    assert user.find("a.com") == ("a", "b")


def test_what_docker_has_is_not_ours_to_remove(user: User) -> None:
    user.write(user.docker, {"auths": {"a.com": entry("a", "b")}})
    erased = erase("a.com", environment=user.environment)
    assert (erased.removed, erased.remaining) == ((), (str(user.docker),))
    assert user.find("a.com") == ("a", "b")


def test_helpers(user: User) -> None:
    user.install("safe")
    user.install("other")
    user.write(user.docker, {"credsStore": "safe", "credHelpers": {"b.com": "other"}})
    assert user.find("a.com") is None
    stored = store("docker.io", Credentials(username="ann", password="p"), environment=user.environment)
    assert (stored.where, stored.plain) == ("docker-credential-safe", False)
    assert list(user.secrets("safe")) == ["https://index.docker.io/v1/"], "as docker login writes it"
    assert user.find("docker.io") == ("ann", "p")
    store("b.com", Credentials(identity_token="t"), environment=user.environment)
    assert user.secrets("other")["b.com"]["Username"] == "<token>"
    found = find("b.com", environment=user.environment)
    assert found is not None and found.identity_token == "t"
    assert not user.persistent.exists()
    assert erase("docker.io", environment=user.environment).removed == ("docker-credential-safe",)
    assert user.find("docker.io") is None


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (None, "docker-credential-x is not installed"),
        ("#!/bin/sh\necho 'the keychain is locked'; exit 1", "failed with code 1: the keychain is locked"),
        ("#!/bin/sh\necho hello", "gave no JSON document"),
        ("#!/bin/sh\necho '{}'", "gave no JSON document"),
        ('#!/bin/sh\necho \'{"Username": 1, "Secret": 2}\'', "not a string"),
    ],
)
def test_a_helper_that_fails_is_no_silence(user: User, program: str | None, message: str) -> None:
    if program:
        user.install("x", program)
    user.write(user.docker, {"credsStore": "x"})
    with pytest.raises(HostError, match=message):
        user.find("a.com")


def test_secrets_do_not_reach_arguments_or_messages(user: User) -> None:
    user.install("x", "#!/bin/sh\necho $*; exit 1")
    user.write(user.docker, {"credsStore": "x"})
    with pytest.raises(HostError) as caught:
        store("a.com", Credentials(username="ann", password="hunter2"), environment=user.environment)
    assert "hunter2" not in caught.value.message
