"""An image that has what Alpine's lacks: a user, a volume, an entrypoint, links that lead astray, files of other owners, setuid and capable programs."""

from __future__ import annotations

import io
import tarfile

from tests.fakes import sample_images
from tests.fakes.docker_registry import DockerRegistry
from tests.runner import Rl

NAME = "e2e/custom"
CONFIG = {
    "Entrypoint": ["/bin/echo", "entry"],
    "Cmd": ["command"],
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "FROM=image"],
    "User": "app",
    "WorkingDir": "/srv/app",
    "Volumes": {"/srv/data": {}},
    "ExposedPorts": {"8081/tcp": {}, "8082/udp": {}},
    "Labels": {"from": "image", "both": "image"},
    "StopSignal": "SIGUSR1",
}


def tag() -> str:
    return f"docker.io/{NAME}:latest"


def present(rl: Rl, registry: DockerRegistry) -> str:
    """Its name, after it was put into the store of `rl` where it was not."""
    if tag() not in rl.ok("images", "--format", "docker.io/{{.Repository}}:{{.Tag}}").split():
        install(rl, registry)
    return tag()


def install(rl: Rl, registry: DockerRegistry) -> None:
    """Push the image and pull it."""
    root = next(tar for word, tar in sample_images.root_tars().items() if word == _architecture())
    registry.push_image(NAME, "latest", [root, layer()], config=CONFIG)
    rl.ok("pull", "-q", tag())


def _architecture() -> str:
    from rootless.oci.platform import host_platform

    return host_platform().architecture


def layer() -> bytes:
    """A layer above Alpine's root. Its root directory has mode 0711."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int = 0o644, owner: int = 0, text: str = "",  link: str = "", pax: dict[str, str] | None = None) -> None:  # fmt: skip
            member = tarfile.TarInfo(name)
            data = text.encode()
            member.type, member.mode, member.uid, member.gid = kind, mode, owner, owner
            member.size, member.linkname, member.pax_headers = len(data), link, pax or {}
            archive.addfile(member, io.BytesIO(data))

        add(".", tarfile.DIRTYPE, mode=0o711)
        add(
            "etc/passwd",
            text="root:x:0:0:root:/root:/bin/sh\napp:x:1234:4321::/home/app:/bin/sh\nother:x:77:77::/:/bin/sh\n",
        )
        add("etc/group", text="root:x:0:\napp:x:4321:\nextra:x:555:app\nother:x:77:\n")
        add("home/app", tarfile.DIRTYPE, mode=0o700, owner=1234)
        add("srv/app", tarfile.DIRTYPE, mode=0o755, owner=1234)
        add("srv/data", tarfile.DIRTYPE, mode=0o750, owner=1234)
        add("srv/data/seed", owner=77, mode=0o640, text="seed\n")
        add("srv/data/link", tarfile.SYMTYPE, link="seed")
        add("out", tarfile.SYMTYPE, link="../../../../../../../../tmp")
        add("absolute", tarfile.SYMTYPE, link="/tmp/made/by/link")
        add("etc/resolv.conf", tarfile.SYMTYPE, link="../run/systemd/resolve/stub-resolv.conf")
        add("many", tarfile.DIRTYPE)
        for name in ("keep", "gone", "moved", "changed"):
            add(f"many/{name}", text=f"{name}\n")
        add("many/hard", tarfile.LNKTYPE, link="many/keep")
        add("many/dir", tarfile.DIRTYPE)
        add("many/dir/inner", text="inner\n")
        add("many/attributed", text="x", pax={"SCHILY.xattr.user.mark": "of the image"})
        add("many/secret", mode=0o000, owner=77, text="secret\n")
    return buffer.getvalue()
