"""The options of `rl run`, each seen from inside the container or in what is left of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import conftest
from tests.e2e import custom_image
from tests.fakes.docker_registry import DockerRegistry
from tests.runner import Result, Rl

RUN = ("run", "--rm", "--network", "none")


def sh(rl: Rl, script: str, *options: str, image: str = "alpine") -> str:
    """What a shell script writes in a container of its own."""
    return rl.ok(*RUN, *options, image, "sh", "-c", script)


def refused(rl: Rl, *words: str) -> str:
    """The one line, and perhaps a hint, with which `rl run` refuses before anything is made."""
    result = rl("run", "--rm", *words)
    assert result.code == 125 and not result.out, result
    first, *rest = result.err.removesuffix("\n").split("\n")
    assert first.startswith("rl: ") and len(rest) <= 1 and all(line.startswith("hint: ") for line in rest), result.err
    assert rl.ok("ps", "-aq") == ""
    return first.removeprefix("rl: ")


@pytest.fixture
def custom(rl: Rl, registry: DockerRegistry) -> str:
    return custom_image.present(rl, registry)


@pytest.fixture
def volume(rl: Rl) -> Iterator[str]:
    """The name of a volume, which is gone after the test."""
    name = f"volume-{os.getpid()}"
    yield name
    conftest.remove(f"{rl.root}/volumes/{name}")


# ---- what runs, as whom, with which environment


def test_what_the_image_says(rl: Rl, custom: str) -> None:
    assert rl.ok(*RUN, custom) == "entry command"
    assert rl.ok(*RUN, custom, "of", "the user") == "entry of the user"
    script = 'echo "$(id -u):$(id -g):$(id -G)" "$HOME" "$PWD" "$FROM"'
    assert rl.ok(*RUN, "--entrypoint", "", custom, "sh", "-c", script) == "1234:4321:4321 555 /home/app /srv/app image"


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        ("printf", ("%s-", "a", "b"), "a-b-"),
        ('["printf", "%s+", "a"]', ("b",), "a+b+"),
        ("", ("printf", "%s", "alone"), "alone"),
    ],
)
def test_entrypoint(rl: Rl, custom: str, entrypoint: str, command: tuple[str, ...], expected: str) -> None:
    assert rl.ok(*RUN, "--entrypoint", entrypoint, custom, *command) == expected


def test_an_entrypoint_puts_the_images_command_away(rl: Rl, custom: str) -> None:
    assert rl.ok(*RUN, "--entrypoint", "echo", custom) == ""
    assert "no command" in refused(rl, "--entrypoint", "", custom)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("other", "77:77:77 /"),
        ("1234", "1234:4321:4321 555 /home/app"),
        ("app:other", "1234:77:77 /home/app"),
        ("5000", "5000:0:0 /"),
        ("5000:6000", "5000:6000:6000 /"),
    ],
)
def test_user(rl: Rl, custom: str, user: str, expected: str) -> None:
    words = ("--user", user, "--entrypoint", "sh", custom, "-c", 'echo "$(id -u):$(id -g):$(id -G)" "$HOME"')
    assert rl.ok(*RUN, *words) == expected


def test_group_add(rl: Rl, custom: str) -> None:
    options = ("--group-add", "extra", "--group-add", "999", "--user", "77", "--entrypoint", "id")
    assert sorted(rl.ok(*RUN, *options, custom, "-G").split()) == ["555", "77", "999"]


def test_environment(rl: Rl, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nFILE=f\nBOTH=file\nCALLER\nMISSING\n\n")
    caller = rl.having(CALLER="from the caller", PASSED="p", PRE_A="1", PRE_B="2")
    options = (
        "--env-file",
        f"{tmp_path}/env",
        "-e",
        "BOTH=word",
        "-e",
        "PASSED",
        "-e",
        "PRE_*",
        "-e",
        "EMPTY=",
        "-e",
        "NOT",
    )
    found = dict(line.split("=", 1) for line in caller.ok(*RUN, *options, "alpine", "env").splitlines())
    hostname = found.pop("HOSTNAME")
    assert len(hostname) == 12
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "container": "rl",
        "FILE": "f", "BOTH": "word", "CALLER": "from the caller", "PASSED": "p", "PRE_A": "1", "PRE_B": "2", "EMPTY": "",
    }  # fmt: skip


def test_workdir(rl: Rl, custom: str) -> None:
    """A missing one is made; one that is a file cannot be."""
    assert sh(rl, "pwd; stat -c %u:%a .", "-w", "/a/deep/one") == "/a/deep/one\n0:755"
    result = rl(*RUN, "-w", "/etc/passwd", "alpine", "true")
    assert result.code == 126 and "working directory /etc/passwd" in result.err
    assert "absolute" in refused(rl, "-w", "relative", "alpine", "true")


# ---- mounts


def test_bind(rl: Rl, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    words = ("-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/fixed:ro", "-v", f"{tmp_path}/file:/etc/motd")
    script = "cat /data/file /etc/motd; echo new >/data/new; stat -c %u /data/new; touch /fixed/x 2>&1"
    assert rl(*RUN, *words, "alpine", "sh", "-c", script) == (
        1, "text\ntext\n0\ntouch: /fixed/x: Read-only file system\n", "",
    )  # fmt: skip
    assert (tmp_path / "new").read_text() == "new\n" and (tmp_path / "new").stat().st_uid == os.getuid()


def test_a_source_of_v_is_made_where_it_is_missing(rl: Rl) -> None:
    assert sh(rl, "touch /d/x && ls /d", "-v", "./not/yet:/d/") == "x"
    assert os.listdir(f"{rl.home}/not/yet") == ["x"]


def test_a_source_of_mount_is_not_made(rl: Rl, tmp_path: Path) -> None:
    source = f"{tmp_path}/nothing"
    assert refused(rl, "--mount", f"type=bind,src={source},dst=/d", "alpine", "true") == (
        f"the source {source} of the mount at /d does not exist"
    )
    assert not os.path.exists(source)


def test_mounts_are_nested_whatever_their_order(rl: Rl, tmp_path: Path) -> None:
    for name in ("outer", "inner", "outer/a"):
        (tmp_path / name).mkdir()
    (tmp_path / "inner" / "file").touch()
    words = ("-v", f"{tmp_path}/inner:/m/a/b", "--tmpfs", "/m/a", "-v", f"{tmp_path}/outer:/m")
    assert sh(rl, "ls /m/a/b; stat -f -c %T /m/a", *words) == "file\ntmpfs"


def test_read_only_is_read_only_to_the_last_mount_below(rl: Rl, tmp_path: Path) -> None:
    """/dev/shm is a file system of its own below /dev."""
    assert sh(rl, "touch /d/shm/x 2>&1 || true", "-v", "/dev:/d:ro") == "touch: /d/shm/x: Read-only file system"
    assert sh(rl, "grep -c ' /d' /proc/self/mountinfo", "-v", "/dev:/d:ro") != "1"


def test_a_target_through_a_link_of_the_image_stays_inside(rl: Rl, custom: str, tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    options = ("-u", "0", "-v", f"{tmp_path}:/out/rl-inside", "-v", f"{tmp_path}:/absolute/x", "--entrypoint", "sh")
    assert rl.ok(*RUN, *options, custom, "-c", "ls /tmp/rl-inside /tmp/made/by/link/x").split() == [
        "/tmp/made/by/link/x:", "mark", "/tmp/rl-inside:", "mark",
    ]  # fmt: skip
    assert not os.path.exists("/tmp/rl-inside") and not os.path.exists("/tmp/made")


def test_resolv_conf_may_be_a_link_to_nothing(rl: Rl, custom: str) -> None:
    """As in the images that have systemd-resolved."""
    script = "cat /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"
    assert rl.ok(*RUN, "--dns", "192.0.2.7", "--entrypoint", "sh", custom, "-c", script).count("192.0.2.7") == 2


def test_a_new_volume_gets_what_the_image_has(rl: Rl, custom: str, volume: str) -> None:
    """With owners and modes; a second container finds what the first one wrote, and nothing is copied again."""
    look = "stat -c '%u:%g %a %n' . seed; readlink link"
    words = ("-u", "0", "-v", f"{volume}:/srv/data", "-w", "/srv/data", "--entrypoint", "sh", custom, "-c")
    assert rl.ok(*RUN, *words, f"{look}; rm link; echo more >more") == "1234:1234 750 .\n77:77 640 seed\nseed"
    assert rl.ok(*RUN, *words, "ls; cat more") == "more\nseed\nmore"


def test_nocopy(rl: Rl, custom: str, volume: str) -> None:
    assert rl.ok(*RUN, "-v", f"{volume}:/srv/data:nocopy", "--entrypoint", "ls", custom, "/srv/data") == ""


def test_the_user_may_own_a_mount(rl: Rl, volume: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link").symlink_to("/etc/passwd")
    words = ("-v", f"{volume}:/data:U", "-v", f"{tmp_path}/sub:/bound:U", "-u", "1000:1001")
    assert (
        sh(rl, "touch /data/x /bound/y; stat -c %u:%g /data /bound /bound/link /data/x", *words).split()
        == ["1000:1001"] * 4
    )
    assert Path("/etc/passwd").stat().st_uid == 0
    sh(rl, "chown -hR 0:0 /bound", "-v", f"{tmp_path}/sub:/bound")


def test_anonymous_volumes_go_with_their_container(rl: Rl, custom: str, volume: str) -> None:
    """Those of -v and of the image's VOLUME; a named one stays."""

    def kept() -> set[str]:
        return set(os.listdir(f"{rl.root}/volumes"))

    before = kept()
    words = ("--entrypoint", "sh", "-v", "/anonymous", "-v", f"{volume}:/named", custom, "-c")
    assert rl.ok(*RUN, *words, "mount | grep -cE ' on (/anonymous|/srv/data|/named) '") == "3"
    assert kept() == before | {volume}
    made = rl.ok("create", *words, "true")
    rl.ok("start", made)
    assert rl.ok("wait", made) == "0"
    assert len(kept() - before) == 3
    rl.ok("rm", "--volumes", made)
    assert kept() == before | {volume}


def test_mount_forms(rl: Rl, volume: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f\n")
    words = (
        "--mount", f"type=bind,source={tmp_path},target=/one,readonly",
        "--mount", f'type=bind,"src={tmp_path}",dst=/two,bind-propagation=rslave',
        "--mount", f"src={volume},destination=/three",
        "--mount", "type=tmpfs,target=/four,tmpfs-size=1m,tmpfs-mode=1770",
        "--mount", "type=volume,dst=/five,ro",
    )  # fmt: skip
    table = {
        line.split()[1]: line.split()[2:4]
        for line in sh(rl, "cat /proc/mounts; ls /one", *words).splitlines()
        if " /" in line
    }
    options = {path: set(words[1].split(",")) for path, words in table.items()}
    assert {path: "ro" in options[path] for path in ("/one", "/two", "/three", "/four", "/five")} == {
        "/one": True, "/two": False, "/three": False, "/four": False, "/five": True,
    }  # fmt: skip
    assert table["/four"][0] == "tmpfs" and {"size=1024k", "mode=1770"} <= options["/four"]


def test_a_file_is_not_mounted_over_a_directory(rl: Rl) -> None:
    assert refused(rl, "-v", "/etc/passwd:/etc", "alpine", "true") == "cannot mount /etc/passwd at /etc: is a directory"
    assert (
        refused(rl, "-v", "/etc:/etc/passwd", "alpine", "true") == "cannot mount /etc at /etc/passwd: not a directory"
    )


def test_tmpfs(rl: Rl) -> None:
    line = sh(
        rl,
        "grep ' /t ' /proc/mounts; cp /bin/busybox /t/true; /t/true && echo ran",
        "--tmpfs",
        "/t:size=4m,mode=700,exec",
    )
    options, ran = line.split("\n")
    assert {"rw", "nosuid", "nodev", "size=4096k", "mode=700"} <= set(options.split()[3].split(",")) and ran == "ran"
    assert "noexec" not in options
    assert "noexec" in sh(rl, "grep ' /t ' /proc/mounts", "--tmpfs", "/t")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-v", "a/b:/x"), "'a/b' is not the name of a volume"),
        (("-v", "/a:b"), "'b', is not absolute"),
        (("-v", "/a:/b:nope"), "unknown option 'nope'"),
        (("-v", "/tmp:/x", "--tmpfs", "/x/"), "two mounts at /x"),
        (("-v", "/tmp:/"), "the root of the container cannot be mounted over"),
        (("--mount", "type=bind,dst=/x"), "a bind mount needs a source"),
        (("--mount", "type=image,src=alpine,dst=/x"), "type=image is not supported yet"),
        (("--mount", "type=volume,src=v,dst=/x,volume-subpath=a"), "volume-subpath is not supported yet"),
        (("--device", "/dev/nothing"), "the device /dev/nothing does not exist"),
        (("--device", "vendor.com/class=name"), "is not supported yet"),
    ],
)
def test_mounts_that_cannot_be(rl: Rl, words: tuple[str, ...], said: str) -> None:
    assert said in refused(rl, *words, "alpine", "true")


def test_device(rl: Rl) -> None:
    assert sh(rl, "stat -c '%t:%T %F' /dev/fuse /dev/other", "--device", "/dev/fuse", "--device", "/dev/zero:/dev/other").splitlines() == [
        "a:e5 character special file", "1:5 character special file",
    ]  # fmt: skip


# ---- namespaces, limits, security beyond tests/e2e/test_security.py


def namespace(name: str) -> str:
    return os.readlink(f"/proc/self/ns/{name}")


@pytest.mark.parametrize(
    ("option", "name"), [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net")]
)
def test_namespaces_of_the_host(rl: Rl, option: str, name: str) -> None:
    look = ("alpine", "readlink", f"/proc/self/ns/{name}")
    assert rl.ok("run", "--rm", option, "host", *look) == namespace(name)
    assert rl.ok("run", "--rm", *look) != namespace(name)


def test_namespaces_of_another_container(rl: Rl) -> None:
    rl.ok("run", "-d", "--name", "first", "--network", "none", "alpine", "sleep", "60")
    theirs = {
        name: rl.ok("exec", "first", "readlink", f"/proc/self/ns/{name}") for name in ("pid", "ipc", "uts", "net")
    }
    ours = sh(
        rl,
        "for name in pid ipc uts net; do readlink /proc/self/ns/$name; done; ps -o args | head -2; ls /dev/shm",
        *(
            "--pid",
            "container:first",
            "--ipc",
            "container:first",
            "--uts",
            "container:first",
            "--network",
            "container:first",
        ),
    ).splitlines()
    assert ours[:4] == list(theirs.values())
    assert ours[4:] == ["COMMAND", "sleep 60"]
    rl.ok("rm", "-f", "first")
    assert "no container 'first'" in refused(rl, "--pid", "container:first", "alpine", "true")


def test_shared_memory_goes_with_the_ipc_namespace(rl: Rl) -> None:
    rl.ok("run", "-d", "--name", "first", "--network", "none", "--shm-size", "2m", "alpine", "sleep", "60")
    words = ("echo shared >/dev/shm/x; df -k /dev/shm | tail -1", "--ipc", "container:first")
    assert sh(rl, *words).split()[1] == "2048"
    assert rl.ok("exec", "first", "cat", "/dev/shm/x") == "shared"
    assert sh(rl, "mount | grep -c /dev/shm; ls /dev/shm", "--tmpfs", "/dev/shm", "--ipc", "container:first") == "1"
    rl.ok("rm", "-f", "first")


def test_a_stopped_container_cannot_be_joined(rl: Rl) -> None:
    rl.ok("create", "--name", "still", "alpine", "true")
    result = rl(*RUN, "--ipc", "container:still", "alpine", "true")
    assert result.code == 125 and "container 'still': it is not running" in result.err
    rl.ok("rm", "still")


def test_ipc_none_has_no_shared_memory(rl: Rl) -> None:
    assert "shm" not in sh(rl, "ls /dev", "--ipc", "none").split()


def test_shm_size(rl: Rl) -> None:
    assert sh(rl, "df -k /dev/shm | tail -1", "--shm-size", "3m").split()[1] == "3072"


def test_userns_host_is_the_shared_one(rl: Rl) -> None:
    assert sh(rl, "cat /proc/self/uid_map | wc -l", "--userns", "host") == "2"
    assert "not supported yet" in refused(rl, "--userns", "keep-id", "alpine", "true")


def test_security_options(rl: Rl) -> None:
    script = "cat /proc/version_signature /proc/uptime 2>/dev/null | wc -c; wc -c </proc/keys"
    masked = sh(rl, script, "--security-opt", "mask=/proc/uptime", "--security-opt", "unmask=/proc/keys").split()
    assert masked[0] == "0" and int(masked[1]) > 0
    assert int(sh(rl, "wc -c </proc/keys", "--security-opt", "unmask=ALL")) > 0
    assert "is not supported yet" in refused(rl, "--security-opt", "apparmor=profile", "alpine", "true")


def test_sysctls(rl: Rl) -> None:
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert sh(
        rl, script, "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "net/ipv4/ip_unprivileged_port_start=99"
    ).split() == ["1", "99"]
    assert "needs the container's own network" in refused(
        rl, "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "alpine", "true"
    )
    assert "use --hostname" in refused(rl, "--sysctl", "kernel.hostname=x", "alpine", "true")


def test_ulimits(rl: Rl) -> None:
    assert sh(rl, "ulimit -Sn; ulimit -Hn", "--ulimit", "nofile=100:200").split() == ["100", "200"]
    assert "soft limit is above" in refused(rl, "--ulimit", "nofile=2:1", "alpine", "true")
    assert "unknown limit 'nope'" in refused(rl, "--ulimit", "nope=1", "alpine", "true")


def test_init_is_process_1_and_reaps(rl: Rl) -> None:
    script = "(sleep 0 &) ; sleep 0.2; ps -o stat,args | grep -c '^Z'; cat /proc/1/comm"
    assert sh(rl, script, "--init").split() == ["0", "rl-init"]


def test_pull_policies_are_those_of_docker(rl: Rl, registry: DockerRegistry) -> None:
    assert "no image 'e2e/nowhere' in the store" in refused(rl, "--pull", "never", "e2e/nowhere", "true")
    result = rl(*RUN, "e2e/nowhere", "true")
    assert result.code == 125 and "e2e/nowhere:latest does not exist" in result.err
    for policy in ("always", "newer", "missing"):
        assert sh(rl, "echo ran", "-q", "--pull", policy) == "ran"


def test_platform(rl: Rl) -> None:
    """The image is fetched for the platform; what it holds cannot be executed here."""
    result = rl(*RUN, "-q", "--platform", "linux/arm64", "alpine:3.20", "true")
    assert (result.code, "exec format error" in result.err) == (126, True), result
    rl.ok("rm", "-af")
    assert (
        sh(rl, "uname -m", "-q", "--platform", f"linux/{custom_image._architecture()}", image="alpine:3.20")
        == os.uname().machine
    )


# ---- names, files, labels


def test_names(rl: Rl) -> None:
    rl.ok("create", "--name", "taken.name_1", "alpine", "true")
    result = rl(*RUN, "--name", "taken.name_1", "alpine", "true")
    assert result.code == 125 and "the name 'taken.name_1' is taken by container" in result.err
    rl.ok("rm", "taken.name_1")
    for name in ("x", "-x", "a/b", "a b", "", "ä" * 3, "n" * 200):
        assert "name" in refused(rl, f"--name={name}", "alpine", "true")


def test_cidfile_and_pidfile(rl: Rl, tmp_path: Path) -> None:
    cid, pid = tmp_path / "cid", tmp_path / "pid"
    words = ("--cidfile", str(cid), "--pidfile", str(pid))
    made = rl.ok("run", "-d", "--network", "none", *words, "alpine", "sleep", "60")
    assert cid.read_text() == made
    assert int(pid.read_text()) == rl.json("inspect", made)[0]["State"]["Pid"]
    result = rl(*RUN, *words, "alpine", "true")
    assert result.code == 125 and f"the --cidfile {cid} exists" in result.err
    rl.ok("rm", "-f", made)
    assert "cannot write --cidfile" in refused(rl, "--cidfile", f"{tmp_path}/no/cid", "alpine", "true")


def test_stop_signal(rl: Rl) -> None:
    script = "trap 'exit 42' USR2; echo ready; while :; do sleep 0.05; done"
    made = rl.ok("create", "--network", "none", "--stop-signal", "USR2", "alpine", "sh", "-c", script)
    rl.ok("start", made)
    wait_for_log(rl, made, "ready")
    rl.ok("stop", made)
    assert rl.ok("wait", made) == "42"
    rl.ok("rm", made)


def wait_for_log(rl: Rl, container: str, line: str) -> None:
    from tests.e2e.waiting import until

    until(lambda: line in rl.ok("logs", container).split())


def test_labels_and_annotations(rl: Rl, custom: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("file=f\nboth=file\n")
    options = (
        "--label-file",
        f"{tmp_path}/labels",
        "--label",
        "both=user",
        "-l",
        "bare",
        "--annotation",
        "org.example=1",
    )
    made = rl.ok("create", *options, "--hostname", "named", "--stop-signal", "9", custom, "x")
    rl.ok("start", made)
    rl.ok("wait", made)
    config = rl.json("inspect", made)[0]["Config"]
    assert config["Labels"] == {"from": "image", "both": "user", "file": "f", "bare": ""}
    assert config["Annotations"] == {"org.example": "1"}
    assert (config["Hostname"], config["User"], config["StopSignal"], config["WorkingDir"]) == (
        "named",
        "app",
        9,
        "/srv/app",
    )
    for word, found in (
        ("label=bare", True),
        ("label=both=user", True),
        ("label=both=file", False),
        ("label=from=image", True),
    ):
        assert (rl.ok("ps", "-aq", "--filter", word) != "") == found, word
    rl.ok("rm", made)


def test_ps(rl: Rl) -> None:
    running = rl.ok("run", "-d", "--name", "runs", "--network", "none", "alpine", "sleep", "60")
    ended = rl.ok("create", "--name", "ends", "alpine", "sh", "-c", "exit 3")
    rl("start", "--attach", ended)
    made = rl.ok("create", "--name", "waits", "alpine", "true")
    assert rl.ok("ps", "-q", "--no-trunc") == running
    assert rl.ok("ps", "-aq").split() == [made[:12], ended[:12], running[:12]]
    for status, expected in (("running", "runs"), ("exited", "ends"), ("created", "waits")):
        assert rl.ok("ps", "-a", "--filter", f"status={status}", "--format", "{{.Names}}") == expected
    for word, expected in ((f"id={ended[:10]}", "ends"), ("name=^wai", "waits"), ("exited=3", "ends")):
        assert rl.ok("ps", "-a", "--filter", word, "--format", "{{.Names}}") == expected
    assert (
        rl.ok("ps", "-a", "-f", "name=ends", "--format", "{{.Command}} {{.Image}} {{.State}}")
        == '"sh -c exit 3" alpine exited'
    )
    heading = rl.ok("ps", "-a").splitlines()[0].split("  ")[0]
    assert heading == "CONTAINER ID"
    assert {entry["Names"][0]: entry["ExitCode"] for entry in rl.json("ps", "-a", "--format", "json")} == {
        "waits": 0,
        "ends": 3,
        "runs": 0,
    }
    rl.ok("rm", "-f", running, ended, made)


def test_inspect(rl: Rl, volume: str) -> None:
    options = (
        "--name",
        "seen",
        "--cap-add",
        "NET_ADMIN",
        "-v",
        f"{volume}:/v",
        "-e",
        "A=b",
        "--read-only",
        "--init",
        "-h",
        "host1",
    )
    made = rl.ok("run", "-d", "--network", "none", *options, "alpine", "sleep", "60")
    document = rl.json("inspect", "seen")[0]
    assert (document["Id"], document["Name"], document["Path"], document["Args"]) == (made, "seen", "sleep", ["60"])
    assert document["State"]["Status"] == "running" and document["State"]["Running"] is True
    assert "A=b" in document["Config"]["Env"] and document["HostConfig"]["CapAdd"] == ["NET_ADMIN"]
    assert (
        document["HostConfig"]["ReadonlyRootfs"],
        document["HostConfig"]["Init"],
        document["HostConfig"]["NetworkMode"],
    ) == (True, True, "none")
    assert [(mount["Type"], mount["Name"], mount["Destination"], mount["RW"]) for mount in document["Mounts"]] == [
        ("volume", volume, "/v", True)
    ]
    template = "{{.State.Status}} {{.HostConfig.NetworkMode}} {{index .Config.Env 0}} {{len .Mounts}} {{json .HostConfig.CapAdd}}"
    assert rl.ok("inspect", "--format", template, "seen").split()[:2] == ["running", "none"]
    assert rl.ok("inspect", "--format", template, "seen").endswith(' 1 ["NET_ADMIN"]')
    rl.ok("rm", "-f", "seen")
    result = rl("inspect", "seen")
    assert result.code != 0 and "'seen'" in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nonsense",), "no such option: --nonsense"),
        (("--memory", "1g"), "--memory is not supported yet"),
        (("--cpus=2",), "--cpus is not supported yet"),
        (("--pod", "x"), "--pod is not supported yet"),
        (("--pid", "nope"), "invalid value 'nope' for --pid"),
        (("--pull", "often"), "--pull"),
        (("--shm-size", "big"), "--shm-size"),
        (("--user", "nobody-here"), "unable to find user nobody-here"),
        (("--log-driver", "journald"), "--log-driver"),
        (("--storage-driver", "zfs"), "--storage-driver"),
    ],
)
def test_words_that_mean_nothing(rl: Rl, words: tuple[str, ...], said: str) -> None:
    assert said in refused(rl, *words, "alpine", "true")


def test_a_command_that_is_not_there(rl: Rl) -> None:
    result: Result = rl(*RUN, "alpine", "/no/such/program")
    assert result.code == 127 and "'/no/such/program'" in result.err
    assert rl(*RUN, "alpine", "/etc/passwd").code == 126
    rl.ok("rm", "-af")
