"""The root file systems of containers, as programs in them find them: once for each storage driver."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import custom_image
from tests.fakes.docker_registry import DockerRegistry
from tests.runner import Rl

NET_BIND_SERVICE = 10
CAPABLE = (
    "0100000200040000000000000000000000000000"  # struct vfs_cap_data, revision 2: effective, permitted NET_BIND_SERVICE
)


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a static program (payload.c) that every user may execute."""
    directory = tmp_path_factory.mktemp("payload")
    program = f"{directory}/payload"
    source = Path(__file__).with_name("payload.c")
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


@pytest.fixture
def custom(rl: Rl, registry: DockerRegistry) -> str:
    return custom_image.present(rl, registry)


@pytest.fixture
def box(driver_rl: Rl, custom: str, payload: str) -> Iterator[Box]:
    """A running container of the custom image, under each driver."""
    options = ("--name", "box", "--network", "none", "-u", "0", "-v", f"{payload}:/payload:ro", "--entrypoint", "sleep")
    driver_rl.ok("run", "-d", *options, custom, "600")
    yield Box(driver_rl)
    driver_rl.ok("rm", "-f", "box")


class Box:
    def __init__(self, rl: Rl) -> None:
        self.rl = rl

    def sh(self, script: str, user: str = "0") -> str:
        return self.rl.ok("exec", "-u", user, "box", "sh", "-ec", script)


def test_what_the_image_has(box: Box) -> None:
    """Owners, modes, links and attributes are those of the archive, of the root directory as well."""
    assert box.sh("stat -c '%a %u:%g %n' / /home/app /srv/data/seed /many/secret /tmp").splitlines() == [
        "711 0:0 /", "700 1234:1234 /home/app", "640 77:77 /srv/data/seed", "0 77:77 /many/secret", "1777 0:0 /tmp",
    ]  # fmt: skip
    assert box.sh("cat /many/secret; stat -c %h /many/keep; readlink /srv/data/link").split() == ["secret", "2", "seed"]
    assert box.sh("/payload get /many/attributed user.mark") == "of the image"
    assert box.rl("exec", "-u", "app", "box", "cat", "/many/secret").code == 1


def test_changes(box: Box) -> None:
    """Written, appended to, renamed, removed, replaced: and so it stays when the container is started again."""
    box.sh(
        """cd /many; echo more >>changed; mv moved renamed; rm gone; chmod 600 secret; ln -s keep soft
        mv dir other; mkdir dir; echo new >dir/new; rm -r other; rm keep; mkdir keep; echo changed >attributed; mkfifo pipe"""
    )
    look = "cd /many; ls; cat changed renamed dir/new hard; ls dir keep; stat -c %a secret; /payload get attributed user.mark"
    expected = """attributed changed dir hard keep pipe renamed secret soft
        changed more moved new keep dir: new keep: 600 of the image"""
    assert box.sh(look).split() == expected.split()
    box.rl.ok("stop", "-t", "0", "box")
    box.rl.ok("start", "box")
    assert box.sh(look).split() == expected.split()


def test_hard_links(box: Box) -> None:
    script = (
        "cd /many; echo a >one; ln one two; echo b >>two; rm one; ln two /srv/three; ln changed linked; echo x >>linked"
    )
    assert box.sh(f"{script}; cat /srv/three; stat -c %h two; tail -1 changed").split() == ["a", "b", "2", "x"]


def test_attributes(box: Box) -> None:
    script = "cd /many; /payload set attributed user.mark new; /payload set dir user.of.dir x; /payload get attributed user.mark; /payload get dir user.of.dir"
    assert box.sh(script).split() == ["new", "x"]


def test_a_setuid_program(box: Box) -> None:
    box.sh("cp /payload /srv/ids; chown 0:0 /srv/ids; chmod 4755 /srv/ids")
    assert box.sh("/srv/ids ids", user="1234") == "1234 0"
    box.sh("chown 77 /srv/ids; chmod 6755 /srv/ids")
    assert box.sh("/srv/ids ids", user="1234") == "1234 77"


def test_file_capabilities(box: Box) -> None:
    box.sh(f"cp /payload /srv/able; /payload sethex /srv/able security.capability {CAPABLE}")
    assert box.sh("/srv/able capabilities", user="1234") == f"{1 << NET_BIND_SERVICE:x}"
    assert box.sh("/payload capabilities", user="1234") == "0"
    box.sh("echo changed >>/srv/able")  # a write takes them away
    assert box.sh("/srv/able capabilities", user="1234") == "0"


def test_unpacking_inside(box: Box) -> None:
    """As package managers do it: a tree with links, owners and modes, unpacked, compared and renamed into place."""
    script = """mkdir /srv/new; tar -c -C / bin etc lib many | tar -x -p -C /srv/new
        cd /; find bin etc lib many -exec stat -c '%a %u %g %s %F %n' {} + | grep -v directory | sort >/tmp/old.list
        cd /srv/new; find bin etc lib many -exec stat -c '%a %u %g %s %F %n' {} + | grep -v directory | sort >/tmp/new.list
        mv /srv/new /srv/old-new; wc -l </tmp/new.list; grep -vE ' etc/(hosts|hostname|resolv.conf)$' /tmp/old.list | grep -vxFf /tmp/new.list || true"""
    count, *missing = box.sh(script).splitlines()
    assert int(count) > 100 and missing == []


def test_files_of_other_users(box: Box) -> None:
    """Seen from outside they have the subordinate ids, under every driver the same."""
    box.sh("mkdir -m 777 /srv/open")
    box.sh("echo x >/srv/open/mine; mkdir /srv/open/dir", user="1000:1001")
    assert box.sh("stat -c %u:%g /srv/open/mine /srv/open/dir").split() == ["1000:1001"] * 2
    upper = box.rl.json("inspect", "box")[0]["GraphDriver"]["Data"]["UpperDir"]
    first = int(box.sh("awk 'NR == 2 {print $2}' /proc/self/uid_map"))
    assert os.stat(f"{upper}/srv/open/mine").st_uid == first + 999


def test_two_containers_of_one_image(box: Box, custom: str) -> None:
    box.sh("echo mine >/many/keep; rm /many/gone; touch /many/only-here")
    other = box.rl.ok(
        "run", "--rm", "--network", "none", "--entrypoint", "sh", "-u", "0", custom, "-c", "cat /many/keep; ls /many"
    )
    assert other.split() == ["keep", "attributed", "changed", "dir", "gone", "hard", "keep", "moved", "secret"]


def test_everything_is_removed(driver_rl: Rl, custom: str) -> None:
    """Files of all owners, directories that nobody may enter, a deep tree: `rm` and --rm leave nothing (the watch of the fixture looks)."""
    script = """mkdir -p /srv/a/b/c; touch /srv/a/b/c/d; chown -R 4000:4000 /srv/a; chmod 0 /srv/a/b/c /srv/a/b /srv/a
        i=0; while [ $i -lt 60 ]; do mkdir d; cd d; i=$((i+1)); done; chmod 0 /many; chattr +i /many 2>/dev/null || true"""
    words = ("--network", "none", "-u", "0", "--entrypoint", "sh", custom, "-c", script)
    driver_rl.ok("run", "--rm", *words)
    driver_rl.ok("run", "--name", "left", *words)
    driver_rl.ok("rm", "left")


def test_the_driver_is_recorded(driver_rl: Rl) -> None:
    driver = driver_rl.command[-1]
    driver_rl.ok("create", "--name", "kept", "--network", "none", "alpine", "grep", " / ", "/proc/mounts")
    document = driver_rl.json("inspect", "kept")[0]
    assert document["Driver"] == document["GraphDriver"]["Name"] == driver
    assert driver_rl.json("info", "--format", "json")["store"]["graphDriverName"] == driver
    kind = {"overlay": "overlay", "fuse-overlayfs": "fuse.fuse-overlayfs", "fuse": "fuse"}[driver]
    # Another default does not change what a container was made with.
    assert driver_rl.having("--storage-driver", "overlay").ok("start", "-a", "kept").split()[2].startswith(kind)
    driver_rl.ok("rm", "kept")


def test_a_read_only_root(driver_rl: Rl) -> None:
    options = ("run", "--rm", "--read-only", "--network", "none", "--tmpfs", "/tmp", "alpine", "sh", "-c")
    result = driver_rl(*options, "touch /tmp/x && cat /etc/passwd >/dev/null && touch /etc/x")
    assert result.code == 1 and result.err == "touch: /etc/x: Read-only file system\n"


# ---- hosts that give less


def test_without_subordinate_ids(fresh_rl: Rl, tmp_path: Path) -> None:
    """Where newuidmap cannot be found, as where no ids are given: one id, and a notice of what that costs."""
    for program in ("sh", "fuse-overlayfs"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    poor = fresh_rl.having(PATH=str(tmp_path))
    result = poor(
        "run",
        "-q",
        "--rm",
        "--network",
        "none",
        "alpine",
        "sh",
        "-c",
        "cat /proc/self/uid_map; stat -c %u:%g /etc/shadow /tmp; echo x >/new",
    )
    assert result.code == 0 and result.err.count("containers have one user id") >= 1
    assert result.out.split() == ["0", str(os.getuid()), "1", "0:0", "0:0"]
    refused = poor("run", "--rm", "--network", "none", "-u", "1000", "alpine", "true")
    assert refused.code == 125 and "the user id 1000 does not exist in the container" in refused.err
    poor.ok("rmi", "alpine")


@pytest.mark.alpine
def test_started_by_root_of_a_user_namespace(driver_rl: Rl) -> None:
    inside = driver_rl.launched_by("unshare", "--map-root-user", "--map-auto", "--")
    script = "cat /proc/self/uid_map | wc -l; touch /x; chown 5:6 /x; stat -c %u:%g /x; ping -c 1 -W 5 10.0.2.2 >/dev/null && echo connected"
    assert inside.ok("run", "--rm", "alpine", "sh", "-c", script).split() == ["2", "5:6", "connected"]
    assert inside.ok("run", "--rm", "--network", "none", "-u", "1000", "alpine", "id", "-u") == "1000"
