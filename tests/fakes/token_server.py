"""A token server (distribution project, docs/spec/auth/jwt.md) whose tokens a real docker-registry accepts.

It knows one user (`docker_registry.USERNAME` and PASSWORD) and one identity token. Anyone gets a token; the scope in it is what
the caller may do: the user everything, others only what is below `public/`.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from .docker_registry import PASSWORD, USERNAME, Certificate, TokenAuth
from .scripted_server import Answer, Request, Server, scripted_server

IDENTITY_TOKEN = "a-refresh-token"
_SERVICE, _ISSUER = "registry.test", "issuer.test"


@dataclass(frozen=True, kw_only=True)
class TokenServer:
    """A running token server. auth: what a registry that trusts it is told; server.requests: what it was asked."""

    auth: TokenAuth
    server: Server


@contextmanager
def token_server(directory: Path, *, lifetime: int = 60) -> Iterator[TokenServer]:
    """Run one. directory: for its key and certificate. lifetime: seconds that a token is said to be good for."""
    pair = Certificate.make(directory)

    def answer(request: Request) -> Answer:
        url = urlsplit(request.path)
        query = parse_qs(url.query or request.body.decode())
        if request.method == "POST":
            if query.get("refresh_token") != [IDENTITY_TOKEN]:
                return _refusal()
            known = True
        else:
            credentials = request.headers.get("authorization")
            known = credentials is not None
            if known and credentials != "Basic " + b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode():
                return _refusal()
        token = _token(pair, query.get("scope", []), known=known)
        name = "access_token" if request.method == "POST" else "token"
        return Answer(200, json.dumps({name: token, "expires_in": lifetime}).encode())

    with scripted_server(answer) as server:
        realm = f"http://{server.host}/token"
        yield TokenServer(
            auth=TokenAuth(realm=realm, service=_SERVICE, issuer=_ISSUER, certificate=pair.certificate), server=server
        )


def _refusal() -> Answer:
    return Answer(
        401, json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]}).encode()
    )


def _token(pair: Certificate, scopes: list[str], *, known: bool) -> str:
    """A JSON web token with its certificate in the header, signed by openssl."""
    now = int(time.time())
    access = []
    for scope in (part for line in scopes for part in line.split(" ")):
        kind, name, actions = scope.split(":")
        if known or name.startswith("public/"):
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
    der = b64decode("".join(pair.certificate.read_text().split("-----")[2].split()))
    header = {"typ": "JWT", "alg": "RS256", "x5c": [b64encode(der).decode()]}
    claims = {
        "iss": _ISSUER,
        "sub": USERNAME if known else "",
        "aud": _SERVICE,
        "iat": now,
        "nbf": now - 10,
        "exp": now + 300,
        "jti": uuid.uuid4().hex,
        "access": access,
    }
    signed = b".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(pair.key)], input=signed, capture_output=True, check=True
    ).stdout
    return (signed + b"." + _encode(signature)).decode()


def _encode(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
