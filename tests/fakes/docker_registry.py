"""A real registry (Debian's docker-registry) on a free loopback port, for the length of a with-block; and pushing into one."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from rootless.oci import descriptor as d
from rootless.oci.platform import host_platform

USERNAME, PASSWORD = "ann", "correct horse"
_HTPASSWD = "ann:$2b$04$32xKaOkyiVxWdESLtydAh.GLO1Au0hJBhZ7ghluu05xvauI/Opb0a\n"
"""bcrypt of PASSWORD with the least cost."""


@dataclass(frozen=True, kw_only=True)
class TokenAuth:
    """`auth: token`: where the token server is and whose signature is believed (`fakes.token_server`)."""

    realm: str
    service: str
    issuer: str
    certificate: Path


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A self-signed certificate for localhost and 127.0.0.1, and its key."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path) -> Self:
        made = cls(certificate=directory / "server.crt", key=directory / "server.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
            + [
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout",
                str(made.key),
                "-out",
                str(made.certificate),
            ],
            check=True,
            capture_output=True,
        )
        return made

    def context(self) -> ssl.SSLContext:
        """For a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class DockerRegistry:
    """A registry that runs for the length of a with-block. host: `127.0.0.1:port`, url: that with its scheme, pid: its process.

    storage: its directory (a temporary one by default), so that one without authorization can fill another's. basic: only USERNAME with
    PASSWORD gets in. token: only bearers of tokens do. tls: speak HTTPS with this certificate.
    """

    def __init__(
        self,
        storage: Path | None = None,
        *,
        basic: bool = False,
        token: TokenAuth | None = None,
        tls: Certificate | None = None,
    ) -> None:
        self._work = Path(tempfile.mkdtemp(prefix="rl-registry."))
        self._tls = tls
        self._basic = basic
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None
        self.storage = storage or self._work / "storage"
        self.host = ""

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        log = self._work / "log"
        for _ in range(5):  # another process may take the port between our look and the registry's
            port = _free_port()
            (self._work / "config.yml").write_text(self._config(port))
            with log.open("wb") as sink:
                self._process = subprocess.Popen(
                    ["docker-registry", "serve", str(self._work / "config.yml")], stdout=sink, stderr=sink
                )
            if _listens(self._process, port):
                self.host = f"127.0.0.1:{port}"
                return self
            self._stop()
        text = log.read_text()[-2000:]
        shutil.rmtree(self._work)
        raise RuntimeError(f"docker-registry does not start: {text}")

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._work)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def push_blob(self, repository: str, data: bytes, media_type: str) -> d.Descriptor:
        found = d.Descriptor(media_type, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))
        _, headers, _ = self._request("POST", f"/v2/{repository}/blobs/uploads/", b"", {}, expect=202)
        place = urlsplit(urljoin(f"http://{self.host}/", headers["location"]))
        query = f"{place.query}&" if place.query else ""
        self._request(
            "PUT",
            f"{place.path}?{query}digest={found.digest}",
            data,
            {"Content-Type": "application/octet-stream"},
            expect=201,
        )
        return found

    def push_manifest(self, repository: str, tag: str, document: dict[str, Any]) -> d.Descriptor:
        """Push a manifest or index under a tag (or its own digest)."""
        body = json.dumps(document).encode()
        media_type = document["mediaType"]
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", body, {"Content-Type": media_type}, expect=201)
        return d.Descriptor(media_type, "sha256:" + hashlib.sha256(body).hexdigest(), len(body))

    def push_image(
        self,
        repository: str,
        tag: str,
        layers: Sequence[bytes],
        *,
        config: dict[str, Any] | None = None,
        architecture: str | None = None,
    ) -> d.Descriptor:
        """Push an image. layers: uncompressed tars, lowest first, which are pushed in gzip. config: the `config` of the image config."""
        descriptors = [
            self.push_blob(repository, gzip.compress(layer, 1, mtime=0), d.MEDIA_TYPE_LAYER_GZIP) for layer in layers
        ]
        document = {
            "os": "linux",
            "architecture": architecture or host_platform().architecture,
            "config": config or {"Cmd": ["/bin/sh"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers],
            },
        }
        return self.push_manifest(
            repository,
            tag,
            {
                "schemaVersion": 2,
                "mediaType": d.MEDIA_TYPE_MANIFEST,
                "config": self.push_blob(repository, json.dumps(document).encode(), d.MEDIA_TYPE_CONFIG).to_json(),
                "layers": [layer.to_json() for layer in descriptors],
            },
        )

    def _request(
        self, method: str, path: str, body: bytes, headers: dict[str, str], *, expect: int
    ) -> tuple[int, dict[str, str], bytes]:
        connection = (
            http.client.HTTPSConnection(self.host, context=ssl._create_unverified_context())
            if self._tls
            else http.client.HTTPConnection(self.host)
        )
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        assert response.status == expect, f"{method} {path}: {response.status} {answer[:300]!r}"
        return response.status, {name.lower(): value for name, value in response.getheaders()}, answer

    def _config(self, port: int) -> str:
        """The registry's configuration file; JSON is YAML."""
        document: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{port}", "secret": "of this test"},
        }
        if self._basic:
            users = self._work / "htpasswd"
            users.write_text(_HTPASSWD)
            document["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
        if self._token is not None:
            document["auth"] = {
                "token": {
                    "realm": self._token.realm,
                    "service": self._token.service,
                    "issuer": self._token.issuer,
                    "rootcertbundle": str(self._token.certificate),
                }
            }
        if self._tls is not None:
            document["http"]["tls"] = {"certificate": str(self._tls.certificate), "key": str(self._tls.key)}
        return json.dumps(document)


def tar_of(files: dict[str, bytes]) -> bytes:
    """A layer: a tar of plain files by path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the process listens on the port; False when it ends before."""
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process.poll() is None
        time.sleep(0.01)
    return False


def available() -> bool:
    """True where docker-registry is installed."""
    return any(os.access(f"{directory}/docker-registry", os.X_OK) for directory in ("/usr/bin", "/usr/local/bin"))
