"""Credentials for registries, shared with the other tools of the host: containers-auth.json(5), Docker's config.json, credential helpers.

Look-up order of the files (the first that has something for the name is used, an external helper of a file before its plain entries):

    1. $REGISTRY_AUTH_FILE                       alone, where it is set
    2. $XDG_RUNTIME_DIR/containers/auth.json     Podman's; gone at logout
    3. $XDG_CONFIG_HOME/containers/auth.json     persistent: where `rl login` writes
    4. $DOCKER_CONFIG/config.json                else ~/.docker/config.json; never written

A helper is a program `docker-credential-<name>` that speaks the protocol of the docker-credential-helpers project: the act as its argument, the
server or a JSON document on standard input, a JSON document on standard output.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import HostError, NotFound, StoreError, UsageError, reason
from ..oci.reference import DEFAULT_REGISTRY
from ..store import record
from ..store.lock import locked

_HELPER_TIMEOUT = 120.0
"""Seconds; a helper may ask a person for a pass phrase."""

_DOCKER_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
"""What Docker and its helpers call docker.io, besides docker.io."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What to show to a registry: name and password, or an identity token (an OAuth2 refresh token) instead of the password.

    source: the file or helper that it is from, for messages.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where `store` put credentials. plain: in a file that only its mode protects."""

    where: str
    plain: bool


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What `erase` did. remaining: files that still have credentials and are another tool's to change."""

    removed: tuple[str, ...]
    remaining: tuple[str, ...]


@dataclass(frozen=True)
class AuthFiles:
    """The files of this user, in look-up order; those in `readable_only` are never written."""

    writable: tuple[str, ...]
    readable_only: tuple[str, ...]
    persistent: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> AuthFiles:
        if override := environment.get("REGISTRY_AUTH_FILE"):
            return cls((override,), (), override)
        home = environment.get("HOME", "")
        persistent = f"{environment.get('XDG_CONFIG_HOME') or home + '/.config'}/containers/auth.json"
        runtime = environment.get("XDG_RUNTIME_DIR")
        docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
        return cls(
            (*((f"{runtime}/containers/auth.json",) if runtime else ()), persistent),
            (f"{docker}/config.json",),
            persistent,
        )

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.writable, *self.readable_only)


def find(registry: str, repository: str = "", *, environment: Mapping[str, str] | None = None) -> Credentials | None:
    """The credentials for a repository, or None. A file that is damaged, or a helper that fails, is an error and not a silence."""
    for path in AuthFiles.of(os.environ if environment is None else environment).all:
        document = _read(path)
        helper = _helper(document, registry, path)
        if helper is not None and (found := _from_helper(helper, registry)):
            return found
        auths = _auths(document, path)
        for key in _keys(registry, repository):
            if key in auths and (found := _from_entry(auths[key], key, path)):
                return found
    return None


def store(registry: str, credentials: Credentials, *, environment: Mapping[str, str] | None = None) -> Stored:
    """Keep credentials that were seen to work: in the helper that is configured for the registry, else in the persistent auth.json (0600).

    An entry in a file that is looked at earlier would hide the new one and is removed.
    """
    files = AuthFiles.of(os.environ if environment is None else environment)
    for path in files.all:
        helper = _helper(_read(path), registry, path)
        if helper is not None:
            token = credentials.identity_token
            entry = {
                "ServerURL": _helper_keys(registry)[0],
                "Username": "<token>" if token else credentials.username,
                "Secret": token or credentials.password,
            }
            _run(helper, "store", json.dumps(entry))
            return Stored(where=f"docker-credential-{helper.name}", plain=False)
    for path in files.writable[: files.writable.index(files.persistent)]:
        _remove(path, registry)
    pair = f"{credentials.username}:{credentials.password}".encode()
    entry = {"auth": base64.b64encode(pair).decode()}
    if credentials.identity_token:
        entry["identitytoken"] = credentials.identity_token
    with _changing(files.persistent) as document:
        document.setdefault("auths", {})[registry] = entry
    return Stored(where=files.persistent, plain=True)


def erase(registry: str, *, environment: Mapping[str, str] | None = None) -> Erased:
    """Forget the credentials of a registry. NotFound where there are none."""
    files = AuthFiles.of(os.environ if environment is None else environment)
    removed = []
    for path in files.all:
        helper = _helper(_read(path), registry, path)
        if helper is not None and _from_helper(helper, registry):
            for key in _helper_keys(registry):
                _run(helper, "erase", key, missing_is_fine=True)
            removed.append(f"docker-credential-{helper.name}")
    removed += [path for path in files.writable if _remove(path, registry)]
    remaining = tuple(path for path in files.readable_only if _has_entry(path, registry))
    if not removed and not remaining:
        raise NotFound(f"not logged in to {registry}")
    return Erased(removed=tuple(removed), remaining=remaining)


# ---- keys


def _keys(registry: str, repository: str = "") -> tuple[str, ...]:
    """The keys of auth.json for a repository, the most specific first, with what Docker calls its own registry."""
    parts = repository.split("/") if repository else []
    keys = ["/".join((registry, *parts[:length])) for length in range(len(parts), -1, -1)]
    keys += [f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/", f"http://{registry}"]
    return (*keys, *(_DOCKER_HUB_KEYS if registry == DEFAULT_REGISTRY else ()))


def _helper_keys(registry: str) -> tuple[str, ...]:
    """What helpers call a registry, the first being what we store: Docker names its own by the old address, Podman by its name."""
    return (_DOCKER_HUB_KEYS[0], registry) if registry == DEFAULT_REGISTRY else (registry, f"https://{registry}")


# ---- files


def _read(path: str) -> dict[str, Any]:
    try:
        document = record.read(path)
    except StoreError as error:
        raise UsageError(
            f"cannot use the credentials in {path}: {error.message}",
            hint="mend the file, or remove it and log in again",
        ) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UsageError(f"the credentials in {path} are not a JSON object")
    return document


def _auths(document: Mapping[str, Any], path: str) -> dict[str, Any]:
    return _object(document, "auths", path)


def _object(document: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{key} in {path} is not an object")
    return value


def _from_entry(entry: object, key: str, path: str) -> Credentials | None:
    """The credentials of one entry of `auths`; None for an empty one, which says only that a helper has them."""
    if not isinstance(entry, dict):
        raise UsageError(f"auths of {key} in {path} is not an object")
    texts = {name: entry.get(name) or "" for name in ("auth", "identitytoken", "username", "password")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise UsageError(f"auths of {key} in {path} has a value that is not a string")
    username, password = texts["username"], texts["password"]
    if texts["auth"]:
        try:
            username, _, password = base64.b64decode(texts["auth"], validate=True).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise UsageError(
                f"auth of {key} in {path} is not base64 of name:password", hint=f"rl login {key}"
            ) from None
    if not username and not texts["identitytoken"]:
        return None
    return Credentials(username=username, password=password, identity_token=texts["identitytoken"], source=path)


def _has_entry(path: str, registry: str) -> bool:
    return not set(_keys(registry)).isdisjoint(_auths(_read(path), path))


def _remove(path: str, registry: str) -> bool:
    """Remove the entries of a registry (not those of its repositories) from a file; True where there were some."""
    if not _has_entry(path, registry):
        return False
    with _changing(path) as document:
        for key in _keys(registry):
            _auths(document, path).pop(key, None)
    return True


@contextmanager
def _changing(path: str) -> Iterator[dict[str, Any]]:
    """The document at `path`, written back at the end: whole or not at all, readable to its owner only, its other fields kept."""
    path = os.path.realpath(path)  # the file may be a link into a collection of dot files
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot make {os.path.dirname(path)}: {reason(error)}") from error
    with locked(f"{path}.lock"):
        document = _read(path)
        yield document
        record.write_bytes(path, json.dumps(document, indent=2).encode() + b"\n", mode=0o600)


# ---- helpers


@dataclass(frozen=True)
class _Helper:
    """A configured helper. name: what follows `docker-credential-`; source: the file that names it."""

    name: str
    source: str


def _helper(document: Mapping[str, Any], registry: str, path: str) -> _Helper | None:
    """The helper that a file names for a registry: in `credHelpers` by registry, else in `credsStore` for all."""
    helpers = _object(document, "credHelpers", path)
    name = next(
        (helpers[key] for key in (registry, *_helper_keys(registry)) if key in helpers), document.get("credsStore")
    )
    if not name:
        return None
    if not isinstance(name, str) or "/" in name or not name.isprintable():
        raise UsageError(f"{name!r} in {path} is not the name of a credential helper")
    return _Helper(name, path)


def _from_helper(helper: _Helper, registry: str) -> Credentials | None:
    for key in _helper_keys(registry):
        answer = _run(helper, "get", key, missing_is_fine=True)
        if answer is None:
            continue
        try:
            document = json.loads(answer)
            username, secret = document["Username"], document["Secret"]
        except (ValueError, KeyError, TypeError):
            raise HostError(f"docker-credential-{helper.name} gave no JSON document with Username and Secret") from None
        if not isinstance(username, str) or not isinstance(secret, str):
            raise HostError(f"docker-credential-{helper.name} gave a Username or Secret that is not a string")
        source = f"docker-credential-{helper.name}"
        if username == "<token>":
            return Credentials(identity_token=secret, source=source)
        return Credentials(username=username, password=secret, source=source)
    return None


def _run(helper: _Helper, act: str, text: str, *, missing_is_fine: bool = False) -> bytes | None:
    """Run `docker-credential-<name> <act>` with `text` on its standard input; its output.

    The protocol tells "there are none" from a failure by this one sentence on standard output, and by nothing else.
    """
    program = f"docker-credential-{helper.name}"
    if shutil.which(program) is None:
        raise HostError(
            f"{program} is not installed",
            context=f"it is named in {helper.source}",
            hint=f"install {program}, or remove its line from {helper.source}",
        )
    try:
        done = subprocess.run(
            [program, act], input=text.encode(), capture_output=True, timeout=_HELPER_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{program} {act} did not end within {_HELPER_TIMEOUT:.0f} seconds") from None
    except OSError as error:
        raise HostError(f"cannot run {program}: {reason(error)}", context=f"it is named in {helper.source}") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stdout.strip() or done.stderr.strip()
    if missing_is_fine and said == b"credentials not found in native keychain":
        return None
    shown = "".join(c if c.isprintable() else " " for c in said[:300].decode("utf-8", "replace"))
    raise HostError(
        f"{program} {act} failed with code {done.returncode}: {shown}", context=f"it is named in {helper.source}"
    )
