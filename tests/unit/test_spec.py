"""The spec compiler: what a request and an image become. No host is touched; the host is a value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rootless.engine.request import CreateRequest, Device, Mount, Namespaces, Ulimit
from rootless.engine.spec import BundleFiles, HostFacts, compile_spec, image_volumes
from rootless.errors import UsageError
from rootless.oci.image import ContainerConfig
from rootless.oci.runtime import Mount as OciMount
from rootless.oci.runtime import Spec
from rootless.runtime import capabilities
from rootless.runtime.users import ContainerUser
from rootless.userns.idmap import IdRange

ROOT = ContainerUser(0, 0, (), "/root", "root")
IDS = (IdRange(0, 1000, 1), IdRange(1, 100000, 65536))
HOST = HostFacts(
    uid_map=IDS, gid_map=IDS, kernel=(6, 1), architecture="x86_64", last_capability=40, cgroup_v2=True, hostname="laptop",
    environment={"LANG": "de_DE", "LC_ALL": "C", "LC_TIME": "C.UTF-8", "EDITOR": "ed"}, ulimits={"nofile": (1024, 4096), "core": (0, -1)},
    dev=frozenset({"null", "mqueue", "shm"}),
)  # fmt: skip
NO_FILES = BundleFiles()
IMAGE: ContainerConfig = {"Cmd": ["/bin/sh"]}


def compiled(
    image: ContainerConfig = IMAGE,
    *,
    host: HostFacts = HOST,
    user: ContainerUser = ROOT,
    files: BundleFiles = NO_FILES,
    volumes: dict[str, str] | None = None,
    joined: dict[str, str] | None = None,
    console: tuple[int, int] | None = None,
    **options: Any,
) -> Spec:
    return compile_spec(
        CreateRequest(image="alpine", **options),
        image=image, container_id="0123456789abcdef" * 4, host=host, user=user, files=files, volumes=volumes, joined=joined, console=console,
    )  # fmt: skip


def at(spec: Spec, destination: str) -> OciMount:
    (mount,) = (mount for mount in spec["mounts"] if mount["destination"] == destination)
    return mount


def destinations(spec: Spec) -> list[str]:
    return [mount["destination"] for mount in spec["mounts"]]


def env(spec: Spec) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in spec["process"]["env"])


def namespaces(spec: Spec) -> dict[str, str | None]:
    return {namespace["type"]: namespace.get("path") for namespace in spec["linux"]["namespaces"]}


def test_the_default_container() -> None:
    spec = compiled()
    assert json.loads(json.dumps(spec)) == spec
    assert destinations(spec) == ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]
    assert at(spec, "/sys")["options"] == ["nosuid", "noexec", "nodev", "ro"]
    assert "gid=5" in at(spec, "/dev/pts")["options"]
    assert namespaces(spec) == dict.fromkeys(("user", "mount", "network", "pid", "ipc", "uts", "cgroup"))
    assert spec["hostname"] == "0123456789ab"
    assert spec["root"] == {"path": "rootfs", "readonly": False}
    process = spec["process"]
    assert process["args"] == ["/bin/sh"] and process["cwd"] == "/" and "terminal" not in process
    assert process["user"] == {"uid": 0, "gid": 0, "umask": 0o022, "additionalGids": []}
    assert process["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=0123456789ab", "container=rl", "HOME=/root",
    ]  # fmt: skip
    default = capabilities.names(capabilities.mask(capabilities.DEFAULT_NAMES))
    assert process["capabilities"] == {
        "bounding": default,
        "effective": default,
        "permitted": default,
        "inheritable": [],
        "ambient": [],
    }
    linux = spec["linux"]
    assert linux["sysctl"] == {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 65536"}
    assert linux["uidMappings"][0] == {"containerID": 0, "hostID": 1000, "size": 1}
    assert "/proc/kcore" in linux["maskedPaths"] and "/proc/sys" in linux["readonlyPaths"]
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


@pytest.mark.parametrize(
    ("image", "entrypoint", "command", "args"),
    [
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, None, (), ["e", "c"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, None, ("x", "y"), ["e", "x", "y"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, ("n",), (), ["n"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, ("n", "m"), ("x",), ["n", "m", "x"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, (), ("x",), ["x"]),
        ({"Entrypoint": None, "Cmd": ["c"]}, None, (), ["c"]),
        ({"Entrypoint": ["e"], "Cmd": None}, None, (), ["e"]),
    ],
)
def test_arguments(
    image: ContainerConfig, entrypoint: tuple[str, ...] | None, command: tuple[str, ...], args: list[str]
) -> None:
    assert compiled(image, entrypoint=entrypoint, command=command)["process"]["args"] == args


def test_no_command() -> None:
    for image, options in (({}, {}), ({"Cmd": ["c"]}, {"entrypoint": ()})):
        with pytest.raises(UsageError, match="no command"):
            compiled(image, **options)  # type: ignore[arg-type]


def test_environment() -> None:
    image: ContainerConfig = {"Cmd": ["c"], "Env": ["PATH=/bin", "A=image", "B=image", "NOVALUE", "=odd", "EMPTY="]}
    spec = compiled(
        image,
        terminal=True,
        environment=(("A", "user"), ("LC_*", None), ("EDITOR", None), ("UNSET", None), ("C", "a=b")),
    )
    assert env(spec) == {
        "PATH": "/bin", "HOSTNAME": "0123456789ab", "container": "rl", "TERM": "xterm", "A": "user", "B": "image", "EMPTY": "", "LC_ALL": "C",
        "LC_TIME": "C.UTF-8", "EDITOR": "ed", "C": "a=b", "HOME": "/root",
    }  # fmt: skip
    assert env(compiled(environment=(("HOME", "/x"),)))["HOME"] == "/x"


def test_terminal() -> None:
    process = compiled(terminal=True, console=(24, 80))["process"]
    assert process["terminal"] and process["consoleSize"] == {"height": 24, "width": 80}


def test_working_directory() -> None:
    assert compiled({"Cmd": ["c"], "WorkingDir": "/a//b/../c/"})["process"]["cwd"] == "/a/c"
    assert compiled({"Cmd": ["c"], "WorkingDir": "relative"})["process"]["cwd"] == "/relative"
    assert compiled(workdir="/../../w")["process"]["cwd"] == "/w"
    with pytest.raises(UsageError):
        compiled(workdir="w")


def test_another_user_has_the_capabilities_as_bound_only() -> None:
    spec = compiled(user=ContainerUser(33, 33, (80, 70000), "/srv", "www"), cap_add=("NET_ADMIN",))
    sets = spec["process"]["capabilities"]
    assert "CAP_NET_ADMIN" in sets["bounding"]
    assert sets["effective"] == sets["permitted"] == sets["inheritable"] == sets["ambient"] == []
    assert spec["process"]["user"]["additionalGids"] == [80], "the group 70000 of the image does not exist here"
    assert env(spec)["HOME"] == "/srv"


def test_one_id() -> None:
    alone = HOST._replace(uid_map=(IdRange(0, 1000, 1),), gid_map=(IdRange(0, 1000, 1),))
    spec = compiled(host=alone, user=ROOT._replace(groups=(1, 2, 3)))
    assert spec["process"]["user"]["additionalGids"] == []
    assert not any(option.startswith("gid=") for option in at(spec, "/dev/pts")["options"])
    assert spec["linux"]["sysctl"]["net.ipv4.ping_group_range"] == "0 0"
    for user, groups in ((ContainerUser(1, 0), ()), (ContainerUser(0, 1), ()), (ROOT, ("5",))):
        with pytest.raises(UsageError, match=r"which has the id 0 alone"):
            compiled(host=alone, user=user, groups=groups)


def test_without_a_user_namespace() -> None:
    spec = compiled(host=HOST._replace(uid_map=(), gid_map=()), namespaces=Namespaces(network="host"))
    assert "user" not in namespaces(spec) and "uidMappings" not in spec["linux"]
    assert at(spec, "/sys")["type"] == "sysfs"


def test_limits() -> None:
    process = compiled(ulimits=(Ulimit("nofile", 10, 20), Ulimit("core", -1, -1)), oom_score_adj=100, umask=0o77)[
        "process"
    ]
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}, {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]  # fmt: skip
    assert process["oomScoreAdj"] == 100 and process["user"]["umask"] == 0o77
    assert {limit["type"] for limit in compiled(ulimits=(Ulimit("host", 0, 0),))["process"]["rlimits"]} == {
        "RLIMIT_NOFILE",
        "RLIMIT_CORE",
    }
    for wrong in (Ulimit("nofile", 1, 5000), Ulimit("nofile", 20, 10), Ulimit("nofile", -1, 10), Ulimit("files", 1, 1)):
        with pytest.raises(UsageError):
            compiled(ulimits=(wrong,))


def test_sharing_namespaces_of_the_host() -> None:
    spec = compiled(namespaces=Namespaces(network="host", pid="host", ipc="host", uts="host", cgroup="host"))
    assert set(namespaces(spec)) == {"user", "mount"}
    assert "hostname" not in spec and env(spec)["HOSTNAME"] == "laptop"
    assert spec["linux"]["sysctl"] == {}
    for path in ("/proc", "/sys", "/sys/fs/cgroup", "/dev/shm", "/dev/mqueue"):
        assert (at(spec, path)["type"], at(spec, path)["source"]) == ("bind", path)
    assert {"rbind", "ro", "rro"} <= set(at(spec, "/sys")["options"])


def test_joining_namespaces() -> None:
    spec = compiled(
        namespaces=Namespaces(network="container:web", pid="ns:/proc/7/ns/pid", ipc="none"),
        joined={"network": "/proc/9/ns/net"},
    )
    assert namespaces(spec)["network"] == "/proc/9/ns/net" and namespaces(spec)["pid"] == "/proc/7/ns/pid"
    assert spec["linux"]["sysctl"] == {}, "another container's parameters are not ours to set"
    assert at(spec, "/sys")["type"] == "sysfs" and "/dev/shm" not in destinations(spec)
    assert at(compiled(namespaces=Namespaces(network="ns:/run/netns/x")), "/sys")["type"] == "bind"


def test_hostname() -> None:
    assert compiled(hostname="web")["hostname"] == "web"
    assert compiled(namespaces=Namespaces(network="host"))["hostname"] == "laptop"
    for options in ({"hostname": "x" * 65}, {"hostname": ""}, {"hostname": "h", "namespaces": Namespaces(uts="host")}):
        with pytest.raises(UsageError):
            compiled(**options)


def test_sysctls() -> None:
    values = compiled(
        sysctls=(
            ("net.core.somaxconn", "9"),
            ("kernel.shmmax", "1"),
            ("fs.mqueue.msg_max", "2"),
            ("kernel.domainname", "d"),
        )
    )
    assert (
        values["linux"]["sysctl"].items()
        >= {"net.core.somaxconn": "9", "kernel.shmmax": "1", "fs.mqueue.msg_max": "2"}.items()
    )


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("vm.swappiness", Namespaces()),
        ("kernel.core_pattern", Namespaces()),
        ("kernel.hostname", Namespaces()),
        ("fs.file-max", Namespaces()),
        ("net.core.somaxconn", Namespaces(network="host")),
        ("net.core.somaxconn", Namespaces(network="container:x")),
        ("kernel.shmmax", Namespaces(ipc="host")),
        ("kernel.domainname", Namespaces(uts="host")),
        ("net../../kernel/core_pattern", Namespaces()),
        ("net/../kernel/core_pattern", Namespaces()),
        ("", Namespaces()),
    ],
)
def test_sysctls_of_others_are_refused_by_name(name: str, shared: Namespaces) -> None:
    with pytest.raises(UsageError, match="--sysctl"):
        compiled(sysctls=((name, "1"),), namespaces=shared, joined={"network": "/proc/9/ns/net"})


def test_mounts_of_the_user() -> None:
    spec = compiled(
        {"Cmd": ["c"], "Volumes": {"/data/": {}, "/var/lib/x": {}}},
        mounts=(
            Mount("bind", "/src/deep", "/a/b/c", ("ro", "Z")),
            Mount("bind", "/src", "/a/", ("rslave", "bind")),
            Mount("tmpfs", None, "/tmp", ("size=1m", "exec")),
            Mount("volume", "named", "/data", ("nocopy",)),
        ),
        volumes={"/data": "/vol/named", "/var/lib/x": "/vol/anonymous"},
        files=BundleFiles("/b/resolv.conf", "/b/hosts", "/b/hostname"),
    )
    assert destinations(spec)[7:] == [
        "/a", "/tmp", "/data", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/a/b/c", "/var/lib/x",
    ]  # fmt: skip
    assert at(spec, "/a/b/c")["options"] == ["rbind", "ro", "rprivate", "rro"]
    assert at(spec, "/a")["options"] == ["rslave", "bind"]
    assert at(spec, "/tmp")["options"] == ["nosuid", "nodev", "size=1m", "exec"]
    assert at(spec, "/data") == {
        "destination": "/data",
        "type": "bind",
        "source": "/vol/named",
        "options": ["rbind", "rprivate"],
    }
    assert at(spec, "/var/lib/x")["source"] == "/vol/anonymous"
    assert "ro" not in at(spec, "/etc/hosts")["options"]


def test_before_linux_5_12_only_the_mount_itself_is_read_only() -> None:
    spec = compiled(host=HOST._replace(kernel=(5, 10)), mounts=(Mount("bind", "/s", "/t", ("ro",)),))
    assert "rro" not in at(spec, "/t")["options"]


def test_the_user_s_mounts_replace_ours() -> None:
    spec = compiled(
        mounts=(Mount("bind", "/dev", "/dev"), Mount("bind", "/my/hosts", "/etc/hosts")),
        files=BundleFiles(hosts="/b/hosts"),
    )
    assert at(spec, "/dev")["type"] == "bind"
    assert [path for path in destinations(spec) if path.startswith("/dev")] == ["/dev"]
    assert at(spec, "/etc/hosts")["source"] == "/my/hosts"
    spec = compiled(mounts=(Mount("tmpfs", None, "/dev/shm", ("size=9",)),))
    assert "size=9" in at(spec, "/dev/shm")["options"]


def test_mounts_that_cannot_be() -> None:
    for mounts in ((Mount("bind", "/s", "/.."),), (Mount("bind", "/s", "/t"), Mount("tmpfs", None, "/t/"))):
        with pytest.raises(UsageError):
            compiled(mounts=mounts)


def test_volumes_of_the_image_are_asked_for() -> None:
    image: ContainerConfig = {"Volumes": {"/b": {}, "/a/": {}, "/c/../a": {}}}
    assert image_volumes(CreateRequest(image="i", mounts=(Mount("bind", "/s", "/b/"),)), image) == ["/a"]


def test_read_only() -> None:
    spec = compiled(read_only=True, files=BundleFiles(hosts="/b/hosts"))
    assert spec["root"]["readonly"]
    assert "ro" in at(spec, "/etc/hosts")["options"]
    assert "/tmp" not in destinations(spec) and "ro" not in at(spec, "/dev")["options"]


def test_devices() -> None:
    spec = compiled(devices=(Device("/dev/fuse", "/dev/fuse"), Device("/dev/snd/seq", "/x", "r")))
    assert at(spec, "/dev/fuse")["source"] == "/dev/fuse" and "rw" in at(spec, "/dev/fuse")["options"]
    assert at(spec, "/x")["source"] == "/dev/snd/seq" and "ro" in at(spec, "/x")["options"]


def test_privileged() -> None:
    spec = compiled(privileged=True, host=HOST._replace(devices=("/dev/fuse", "/dev/net/tun")))
    assert len(spec["process"]["capabilities"]["effective"]) == 41
    assert not {"seccomp", "maskedPaths", "readonlyPaths"} & set(spec["linux"])
    assert "rw" in at(spec, "/sys")["options"] and "rw" in at(spec, "/sys/fs/cgroup")["options"]
    assert {"/dev/fuse", "/dev/net/tun"} <= set(destinations(spec))


def test_masks() -> None:
    linux = compiled(
        unmasked_paths=("/proc/kcore", "/proc/s*"), masked_paths=("/mine",), host=HOST._replace(masked=("/sys/x",))
    )["linux"]
    assert "/proc/kcore" not in linux["maskedPaths"] and "/proc/scsi" not in linux["maskedPaths"]
    assert {"/mine", "/sys/x", "/proc/keys"} <= set(linux["maskedPaths"])
    assert linux["readonlyPaths"] == ["/proc/bus", "/proc/fs", "/proc/irq"]
    linux = compiled(unmasked_paths=("ALL",))["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []


def test_seccomp_choice() -> None:
    profile = {"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86_64"]}
    spec = compile_spec(
        CreateRequest(image="i", seccomp_profile="/p.json"),
        image=IMAGE,
        container_id="c" * 64,
        host=HOST,
        user=ROOT,
        seccomp_profile=profile,
    )
    assert spec["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_LOG"
    spec = compile_spec(
        CreateRequest(image="i", seccomp_profile="unconfined"), image=IMAGE, container_id="c" * 64, host=HOST, user=ROOT
    )
    assert "seccomp" not in spec["linux"]
    allowed = compiled(cap_add=("SYS_ADMIN",))["linux"]["seccomp"]["syscalls"][0]["names"]
    assert "mount" in allowed


def test_a_hybrid_cgroup_host() -> None:
    spec = compiled(host=HOST._replace(cgroup_v2=False))
    assert "/sys/fs/cgroup" not in destinations(spec) and "cgroup" in namespaces(spec)


def test_annotations() -> None:
    assert compiled(annotations=(("a", "b"),), groups=("keep-groups",))["annotations"] == {
        "a": "b",
        "run.oci.keep_original_groups": "1",
    }
