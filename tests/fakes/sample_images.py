"""The image that the tests run: Alpine's mini root for two platforms, or a busybox root where those tars are missing."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from rootless.oci import descriptor

from .docker_registry import DockerRegistry

REPOSITORY = Path(__file__).resolve().parent.parent.parent
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}  # Go's word: the kernel's
ELF_MACHINES = {"amd64": 62, "arm64": 183}  # e_machine, elf(5)
CONFIG = {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}


def push(registry: DockerRegistry, repository: str, tags: list[str]) -> None:
    """Push the roots as an index of two platforms, as Docker Hub serves `library/alpine`."""
    manifests = []
    for architecture, root in root_tars().items():
        pushed = registry.push_image(repository, architecture, [root], config=CONFIG, architecture=architecture)
        manifests.append({**pushed.to_json(), "platform": {"architecture": architecture, "os": "linux"}})
    index = {"schemaVersion": 2, "mediaType": descriptor.MEDIA_TYPE_INDEX, "manifests": manifests}
    for tag in tags:
        registry.push_manifest(repository, tag, index)


def alpine_archives() -> dict[str, Path]:
    """{architecture: archive} for both architectures, or nothing. The folder is RL_TEST_IMAGES, else beside the checkout."""
    folder = Path(os.environ.get("RL_TEST_IMAGES") or REPOSITORY.parent / "shared" / "images")
    found = {word: sorted(folder.glob(f"alpine-*-{kernel}.tar.gz")) for word, kernel in ARCHITECTURES.items()}
    return {word: paths[-1] for word, paths in found.items()} if all(found.values()) else {}


def root_tars() -> dict[str, bytes]:
    """{architecture: root file system as a tar}, for both architectures."""
    if found := alpine_archives():
        return {word: gzip.decompress(path.read_bytes()) for word, path in found.items()}
    return {word: busybox_root(word) for word in ARCHITECTURES}


def busybox_root(architecture: str) -> bytes:
    """A root of Debian's busybox-static. For another architecture than ours, its programs are marked as that one's: they do not run here."""
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    files = {
        "etc/group": "root:x:0:root\ndaemon:x:2:root,daemon\nnobody:x:65534:\n",
        "etc/os-release": f"ID=busybox\nARCHITECTURE={architecture}\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "etc/shadow": "root:*::0:::::\n",
    }
    program = bytearray(Path(busybox).read_bytes())
    program[18:20] = ELF_MACHINES[architecture].to_bytes(2, "little")
    with tarfile.open(fileobj=buffer, mode="w") as archive:  # each directory is followed by what lies in it
        _add(archive, ".", tarfile.DIRTYPE, 0o755)
        _add(archive, "bin", tarfile.DIRTYPE, 0o755)
        _add(archive, "bin/busybox", tarfile.REGTYPE, 0o755, bytes(program))
        for applet in applets:
            if applet != "busybox":
                _add(archive, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        _add(archive, "etc", tarfile.DIRTYPE, 0o755)
        for name, text in files.items():
            _add(archive, name, tarfile.REGTYPE, 0o644, text.encode())
        for name in ("dev", "home", "mnt", "opt", "proc", "run", "srv", "sys", "usr", "var"):
            _add(archive, name, tarfile.DIRTYPE, 0o755)
        _add(archive, "root", tarfile.DIRTYPE, 0o700)
        _add(archive, "tmp", tarfile.DIRTYPE, 0o1777)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", *, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.linkname = kind, mode, len(data), link
    archive.addfile(member, io.BytesIO(data))
