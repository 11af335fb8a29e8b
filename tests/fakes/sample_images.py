"""The image that the tests run: Alpine's mini root for two platforms, or a busybox root where those tars are missing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import requests

OCI = "application/vnd.oci.image"
REPOSITORY = Path(__file__).resolve().parent.parent.parent
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}  # Go's word: the kernel's


class Blob(NamedTuple):
    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


def native_architecture() -> str:
    machine = os.uname().machine
    return next(word for word, kernel in ARCHITECTURES.items() if kernel == machine)


def root_archives() -> dict[str, bytes]:
    """{architecture: root file system as a gzipped tar}, both architectures."""
    folder = Path(os.environ.get("RL_TEST_IMAGES") or REPOSITORY.parent / "shared" / "images")
    found = {
        word: sorted(folder.glob(f"alpine-minirootfs-*-{kernel}.tar.gz")) for word, kernel in ARCHITECTURES.items()
    }
    if all(found.values()):
        return {word: paths[-1].read_bytes() for word, paths in found.items()}
    return {word: busybox_root(word) for word in ARCHITECTURES}


def busybox_root(architecture: str) -> bytes:
    """A root of Debian's busybox-static. For another architecture than ours it is only there to be chosen against."""
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, mode in [
            ("bin", 0o755),
            ("etc", 0o755),
            ("root", 0o700),
            ("tmp", 0o1777),
            ("usr/bin", 0o755),
            ("var", 0o755),
        ]:
            archive.addfile(_member(name, tarfile.DIRTYPE, mode))
        program = Path(busybox).read_bytes()
        member = _member("bin/busybox", tarfile.REGTYPE, 0o755)
        member.size = len(program)
        archive.addfile(member, io.BytesIO(program))
        for applet in applets:
            if applet != "busybox":
                link = _member(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
                link.linkname = "busybox"
                archive.addfile(link)
        for name, text in {
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
            "etc/group": "root:x:0:root\nnobody:x:65534:\n",
            "etc/os-release": f"ID=busybox\nARCHITECTURE={architecture}\n",
        }.items():
            file = _member(name, tarfile.REGTYPE, 0o644)
            file.size = len(text)
            archive.addfile(file, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member


def push(registry: str, repository: str, tags: list[str]) -> None:
    """Push the root archives as a two-platform OCI index. registry: its URL, `http://localhost:5000`."""
    base = f"{registry}/v2/{repository}"
    with requests.Session() as session:
        manifests = []
        for architecture, archive in root_archives().items():
            layer = Blob(f"{OCI}.layer.v1.tar+gzip", archive)
            config = Blob(
                f"{OCI}.config.v1+json",
                _json(
                    {
                        "architecture": architecture,
                        "os": "linux",
                        "created": "2024-09-06T22:20:07Z",
                        "config": {
                            "Cmd": ["/bin/sh"],
                            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                        },
                        "rootfs": {
                            "type": "layers",
                            "diff_ids": [f"sha256:{hashlib.sha256(gzip.decompress(archive)).hexdigest()}"],
                        },
                        "history": [{"created": "2024-09-06T22:20:07Z", "created_by": "ADD root /"}],
                    }
                ),
            )
            for blob in (layer, config):
                push_blob(session, base, blob)
            manifest = Blob(
                f"{OCI}.manifest.v1+json",
                _json(
                    {
                        "schemaVersion": 2,
                        "mediaType": f"{OCI}.manifest.v1+json",
                        "config": config.descriptor,
                        "layers": [layer.descriptor],
                    }
                ),
            )
            push_manifest(session, base, manifest, manifest.digest)
            manifests.append({**manifest.descriptor, "platform": {"architecture": architecture, "os": "linux"}})
        index = Blob(
            f"{OCI}.index.v1+json",
            _json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}),
        )
        for tag in tags:
            push_manifest(session, base, index, tag)


def push_blob(session: requests.Session, base: str, blob: Blob) -> None:
    """POST then PUT: the distribution specification's monolithic upload."""
    upload = session.post(f"{base}/blobs/uploads/", timeout=30)
    upload.raise_for_status()
    session.put(
        upload.headers["Location"],
        params={"digest": blob.digest},
        data=blob.data,
        headers={"Content-Type": "application/octet-stream"},
        timeout=30,
    ).raise_for_status()


def push_manifest(session: requests.Session, base: str, manifest: Blob, reference: str) -> None:
    session.put(
        f"{base}/manifests/{reference}", data=manifest.data, headers={"Content-Type": manifest.media_type}, timeout=30
    ).raise_for_status()


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
