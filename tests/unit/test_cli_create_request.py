"""The words of `rl run` become a request; wrong ones are named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rootless.cli import parse
from rootless.cli.create_request import create_request
from rootless.engine.request import CreateRequest, Device, Mount, Namespaces, Ulimit
from rootless.errors import UsageError
from rootless.network.ports import PublishedPort


def request(*options: str) -> CreateRequest:
    found = parse.parse(["create", *options, "alpine", "true"])
    assert found is not None, options
    values = dict(found.values)
    return create_request(values.pop("image"), values.pop("command"), values)


def test_nothing_said() -> None:
    assert request() == CreateRequest(image="alpine", command=("true",))


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("-it", "terminal", True),
        ("--rm", "remove", True),
        ("-e A=b -e C -e D= -e X* -e E=f=g", "environment", (("A", "b"), ("C", None), ("D", ""), ("X*", None), ("E", "f=g"))),
        ("-p 8080:80 -p 53:53/udp", "ports", (PublishedPort(None, 8080, 80), PublishedPort(None, 53, 53, "udp"))),
        ("--expose 80-81", "expose", ((80, "tcp"), (81, "tcp"))),
        ("--entrypoint sh", "entrypoint", ("sh",)),
        ('--entrypoint ["a","b"]', "entrypoint", ("a", "b")),
        ("--entrypoint [", "entrypoint", ("[",)),
        ("--entrypoint=", "entrypoint", ()),
        ("--stop-signal QUIT", "stop_signal", 3),
        ("--stop-signal RTMIN+3", "stop_signal", 37),
        ("--stop-signal 9", "stop_signal", 9),
        ("--shm-size 1g", "shm_size", 1 << 30),
        ("--ulimit nofile=10:20 --ulimit core=-1 --ulimit host", "ulimits", (Ulimit("nofile", 10, 20), Ulimit("core", -1, -1), Ulimit("host", -1, -1))),
        ("--device /dev/fuse", "devices", (Device("/dev/fuse", "/dev/fuse", "rwm"),)),
        ("--device /dev/a:/dev/b:r --device /dev/c:rw", "devices", (Device("/dev/a", "/dev/b", "r"), Device("/dev/c", "/dev/c", "rw"))),
        ("--cap-add net_admin,CAP_SYS_TIME --cap-add all", "cap_add", ("NET_ADMIN", "SYS_TIME", "ALL")),
        ("--add-host a:1.2.3.4 --add-host b=::1 --add-host c:::1 --add-host d;e:host-gateway", "add_hosts", (("a", "1.2.3.4"), ("b", "::1"), ("c", "::1"), ("d", "host-gateway"), ("e", "host-gateway"))),
        ("--add-host f=[::1]", "add_hosts", (("f", "::1"),)),
        ("-l a=b -l c", "labels", (("a", "b"), ("c", ""))),
        ("--annotation a=b", "annotations", (("a", "b"),)),
        ("--sysctl net.ipv4.ip_forward=1", "sysctls", (("net.ipv4.ip_forward", "1"),)),
        ("--umask 0077", "umask", 0o077),
        ("--tls-verify=false", "tls_verify", False),
        ("--platform linux/aarch64", "platform", "linux/arm64"),
        ("--security-opt no-new-privileges", "no_new_privileges", True),
        ("--security-opt no-new-privileges:true", "no_new_privileges", True),
        ("--security-opt seccomp=unconfined", "seccomp_profile", "unconfined"),
        ("--security-opt seccomp=/p.json", "seccomp_profile", "/p.json"),
        ("--security-opt unmask=ALL", "unmasked_paths", ("ALL",)),
        ("--security-opt mask=/a:/b --security-opt mask=/c", "masked_paths", ("/a", "/b", "/c")),
        ("--security-opt label=disable --security-opt apparmor=unconfined", "no_new_privileges", False),
        ("--log-driver json-file", "log_driver", "k8s-file"),
        ("--pid host --ipc shareable --network none --uts host --cgroupns private --userns host", "namespaces", Namespaces("none", "host", "shareable", "host", "host", "private")),
        ("--pid container:web --net slirp4netns:mtu=1500", "namespaces", Namespaces("slirp4netns:mtu=1500", "container:web")),
        ("--cidfile /x/../y", "cidfile", "/y"),
    ],
)  # fmt: skip
def test_values(options: str, field: str, value: Any) -> None:
    assert getattr(request(*options.split()), field) == value


@pytest.mark.parametrize(
    ("options", "mount"),
    [
        ("-v /a:/b", Mount("bind", "/a", "/b", (), True)),
        ("-v /a:/b:ro,z", Mount("bind", "/a", "/b", ("ro", "z"), True)),
        ("-v /a:/b:cached", Mount("bind", "/a", "/b", (), True)),
        ("-v data:/b:nocopy", Mount("volume", "data", "/b", ("nocopy",))),
        ("-v /b", Mount("volume", None, "/b")),
        ("--tmpfs /t", Mount("tmpfs", None, "/t")),
        ("--tmpfs /t:rw,size=1m", Mount("tmpfs", None, "/t", ("rw", "size=1m"))),
        ("--mount type=bind,source=/a,target=/b", Mount("bind", "/a", "/b")),
        ("--mount type=bind,src=/a,dst=/b,ro,bind-propagation=rslave", Mount("bind", "/a", "/b", ("ro", "rslave"))),
        ("--mount type=bind,src=/a,dst=/b,readonly=false,bind-nonrecursive=true", Mount("bind", "/a", "/b", ("rw", "bind"))),
        ('--mount type=bind,"src=/a,b",dst=/b', Mount("bind", "/a,b", "/b")),
        ("--mount src=data,destination=/b,volume-nocopy", Mount("volume", "data", "/b", ("nocopy",))),
        ("--mount type=volume,dst=/b", Mount("volume", None, "/b")),
        ("--mount type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777", Mount("tmpfs", None, "/t", ("size=67108864", "mode=1777"))),
    ],
)  # fmt: skip
def test_mounts(options: str, mount: Mount) -> None:
    assert request(*options.split()).mounts == (mount,)


def test_sources_are_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir("/usr")
    sources = [mount.source for mount in request("-v", ".:/a", "-v", "./x:/b", "-v", "~/y:/c", "-v", "../z:/d").mounts]
    assert sources == ["/usr", "/usr/x", "/home/me/y", "/z"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-v a/b:/c", "'a/b' is not the name of a volume"),
        ("-v /a:b", "'b', is not absolute"),
        ("-v /a:/", "root of the container"),
        ("-v /a:/b:bogus", "unknown option 'bogus'"),
        ("-v /a:/b:ro:x", "write SOURCE:PATH"),
        ("-v :/b", "the source is missing"),
        ("-v /a:/b:O", "not supported yet"),
        ("-v /a:/b -v /c:/b/", "two mounts at /b"),
        ("--mount type=bind,dst=/b", "a bind mount needs a source"),
        ("--mount type=bind,src=/a", "target is missing"),
        ("--mount type=bind,src=/a,dst=/b,bogus=1", "'bogus' is no key of a bind mount"),
        ("--mount type=bind,src=/a,src=/c,dst=/b", "source is given twice"),
        ("--mount type=bind,src=/a,dst=/b,nonsense", "'nonsense' is not KEY=VALUE"),
        ("--mount type=image,src=x,dst=/b", "type=image is not supported yet"),
        ("--mount type=tmpfs,dst=/b,tmpfs-size=big", "tmpfs-size 'big'"),
        ("--mount type=tmpfs,src=/a,dst=/b", "a tmpfs has no source"),
        ("-e =x", "--env"),
        ("-p 99999:80", "99999"),
        ("--device fuse", "not an absolute path"),
        ("--device nvidia.com/gpu=all", "not supported yet"),
        ("--device /dev/a:/dev/b:x", "--device"),
        ("--ulimit nofile", "--ulimit"),
        ("--ulimit nofile=20:10", "above the hard limit"),
        ("--ulimit nofile=-1:10", "above the hard limit"),
        ("--cap-add bogus", "unknown capability 'bogus'"),
        ("--stop-signal bogus", "no such signal"),
        ("--stop-signal 65", "no such signal"),
        ("--stop-signal RTMIN+99", "no such signal"),
        ("--add-host x", "write NAME:IP"),
        ("--add-host x:y", "not a numeric IP"),
        ("--dns x", "not a numeric IP"),
        ("--label =x", "--label"),
        ("--annotation x", "write KEY=VALUE"),
        ("--security-opt bogus", "--security-opt"),
        ("--security-opt label=type:x", "not supported yet"),
        ("--security-opt apparmor=profile", "not supported yet"),
        ("--security-opt mask=relative", "absolute paths"),
        ("--userns keep-id", "--userns keep-id is not supported yet"),
        ("--userns auto:size=10", "not supported yet"),
        ("--pid bogus", "'bogus' for --pid"),
        ("--ipc container:", "the name of the container is missing"),
        ("--network pasta", "not supported yet"),
        ("--network container:", "container:NAME"),
        ("--workdir relative", "absolute path"),
        ("--umask 9", "octal"),
        ("--umask 1777", "octal"),
        ("--log-driver journald", "k8s-file or none"),
        ("--oom-score-adj 1001", "between -1000 and 1000"),
        ("--platform a/b/c/d", "a/b/c/d"),
    ],
)  # fmt: skip
def test_wrong_values_are_named(options: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        request(*options.split())
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_entrypoint_of_numbers() -> None:
    with pytest.raises(UsageError):
        request("--entrypoint", "[1]")


def test_files_of_variables_and_labels(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(
        b"\xef\xbb\xbf# comment\n\nA=from file\n  B = not trimmed \nC\r\nD='quotes stay'\n\xc3\xa4=\xff\n".replace(
            b"  B = ", b"  B= "
        )
    )
    pairs = request("--env", "A=said", "--env-file", str(file)).environment
    assert pairs == (
        ("A", "from file"), ("B", " not trimmed "), ("C", None), ("D", "'quotes stay'"), ("ä", os.fsdecode(b"\xff")), ("A", "said"),
    )  # fmt: skip
    assert request("--label-file", str(file), "-l", "x").labels[0] == ("A", "from file")


def test_files_at_fault_are_named(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("GOOD=1\nnot good=2\n")
    with pytest.raises(UsageError, match=f"for {file}:2"):
        request("--env-file", str(file))
    with pytest.raises(UsageError, match="no such file"):
        request("--env-file", str(tmp_path / "absent"))
