"""registries.conf and the settings: where a name is fetched from, and what a short name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.errors import UsageError
from rootless.image.mirrors import Endpoint, Registries, endpoints, is_insecure, load, resolve
from rootless.oci.reference import parse
from rootless.settings import Mirror, Settings

DIGEST = "sha256:" + "a" * 64


class Host:
    """A host with files in ~/.config/containers and /etc/containers, both below a temporary directory."""

    def __init__(self, place: Path) -> None:
        self.own = place / "home/.config/containers"
        self.system = place / "etc"
        self.environment = {"HOME": str(place / "home")}

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def load(self, settings: Settings | None = None) -> Registries:
        return load(settings or Settings(), environment=self.environment, system=str(self.system))

    def places(self, name: str, settings: Settings | None = None) -> list[str]:
        """The endpoints of a name: `host/repository`, with `!` where insecure."""
        found = endpoints(parse(name), self.load(settings))
        assert [place.is_mirror for place in found] == [True] * (len(found) - 1) + [False]
        return [f"{place.host}/{place.repository}" + ("!" if place.insecure else "") for place in found]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_without_files(host: Host) -> None:
    assert endpoints(parse("alpine"), host.load()) == (Endpoint("docker.io", "library/alpine", False, False),)
    assert resolve("alpine:3", host.load()) == (parse("docker.io/library/alpine:3"),)


def test_the_example_of_the_manual_page(host: Host) -> None:
    host.write(
        host.own / "registries.conf",
        """
        unqualified-search-registries = ["example.com"]
        [[registry]]
        prefix = "example.com/foo"
        location = "internal-registry-for-example.com/bar"
        [[registry.mirror]]
        location = "example-mirror-0.local/mirror-for-foo"
        [[registry.mirror]]
        location = "example-mirror-1.local/mirrors/foo"
        insecure = true
        [[registry]]
        location = "registry.com"
        [[registry.mirror]]
        location = "mirror.registry.com"
        """,
    )
    assert host.places("example.com/foo/image") == [
        "example-mirror-0.local/mirror-for-foo/image",
        "example-mirror-1.local/mirrors/foo/image!",
        "internal-registry-for-example.com/bar/image",
    ]
    assert host.places("registry.com/image") == ["mirror.registry.com/image", "registry.com/image"]
    assert host.places("example.com/foobar/image") == ["example.com/foobar/image"]
    assert resolve("image", host.load()) == (parse("example.com/image"),)


def test_the_longest_prefix_is_chosen(host: Host) -> None:
    host.write(
        host.own / "registries.conf",
        """
        [[registry]]
        prefix = "*.example.com"
        insecure = true
        [[registry]]
        location = "a.example.com"
        [[registry]]
        prefix = "b.example.com/team"
        location = "c.lan/team"
        [[registry]]
        prefix = "b.example.com/team/app:1"
        location = "d.lan/one"
        """,
    )
    assert host.places("x.y.example.com:5000/app") == ["x.y.example.com:5000/app!"]
    assert host.places("example.com/app") == ["example.com/app"]
    assert host.places("a.example.com/app") == ["a.example.com/app"]
    assert host.places("b.example.com/team/app") == ["c.lan/team/app"]
    assert host.places("b.example.com/other") == ["b.example.com/other!"]
    assert host.places("b.example.com/team/app:1") == ["d.lan/one"]


def test_mirrors_by_digest_and_by_tag(host: Host) -> None:
    host.write(
        host.own / "registries.conf",
        """
        [[registry]]
        location = "a.com"
        mirror-by-digest-only = true
        mirror = [{ location = "m1.lan" }, { location = "m2.lan", insecure = true }]
        [[registry]]
        location = "b.com"
        mirror = [{ location = "d.lan", pull-from-mirror = "digest-only" }, { location = "t.lan", pull-from-mirror = "tag-only" }]
        """,
    )
    assert host.places("a.com/x:1") == ["a.com/x"]
    assert host.places(f"a.com/x@{DIGEST}") == ["m1.lan/x", "m2.lan/x!", "a.com/x"]
    assert host.places("b.com/x:1") == ["t.lan/x", "b.com/x"]
    assert host.places(f"b.com/x:1@{DIGEST}") == ["d.lan/x", "b.com/x"]


def test_settings_come_first(host: Host) -> None:
    host.write(
        host.own / "registries.conf",
        '[[registry]]\nlocation = "docker.io"\ninsecure = true\n[[registry.mirror]]\nlocation = "theirs.lan"\n[aliases]\nfedora = "a.com/f"\ndebian = "a.com/d"',
    )
    settings = Settings(
        mirrors={
            "docker.io": (Mirror("localhost:5000/hub"), Mirror("ours.lan", True)),
            "quay.io/team": (Mirror("q.lan"),),
        },
        short_names={"fedora": "quay.io/fedora/fedora"},
        insecure=("lan:5000",),
    )
    assert host.places("alpine", settings) == [
        "localhost:5000/hub/library/alpine",
        "ours.lan/library/alpine!",
        "theirs.lan/library/alpine",
        "docker.io/library/alpine!",
    ]
    assert host.places("quay.io/team/app", settings) == ["q.lan/app", "quay.io/team/app"]
    assert host.places("lan:5000/app", settings) == ["lan:5000/app!"]
    assert is_insecure("lan:5000", host.load(settings)) and not is_insecure("quay.io", host.load(settings))
    registries = host.load(settings)
    assert resolve("fedora", registries) == (parse("quay.io/fedora/fedora"),)
    assert resolve(f"debian:12@{DIGEST}", registries) == (parse(f"a.com/d:12@{DIGEST}"),)
    assert resolve("alpine", registries) == (parse("alpine"),)
    assert resolve("team/fedora", registries) == (parse("docker.io/team/fedora"),)


def test_search_lists(host: Host) -> None:
    registries = host.load(Settings(search=("quay.io", "docker.io")))
    assert resolve("app:1", registries) == (parse("quay.io/app:1"), parse("docker.io/library/app:1"))
    assert resolve("quay.io/app", registries) == (parse("quay.io/app"),)


def test_precedence_of_files(host: Host) -> None:
    host.write(
        host.system / "registries.conf",
        '[[registry]]\nlocation = "a.com"\ninsecure = true\n[[registry]]\nlocation = "b.com"\nblocked = true',
    )
    host.write(
        host.system / "registries.conf.d/50.conf",
        '[[registry]]\nlocation = "a.com"\nmirror = [{ location = "system.lan" }]',
    )
    host.write(host.own / "registries.conf.d/10.conf", '[aliases]\nx = "a.com/x"\ny = "a.com/y"')
    host.write(host.own / "registries.conf.d/20.conf", '[aliases]\ny = ""')
    host.write(host.own / "registries.conf.d/30.txt", "not TOML")
    assert host.places("a.com/x") == ["system.lan/x", "a.com/x"]
    with pytest.raises(UsageError, match=r"the registry b\.com is blocked") as caught:
        host.places("b.com/x")
    assert caught.value.context == str(host.system / "registries.conf")
    assert resolve("x", host.load()) == (parse("a.com/x"),)
    assert resolve("y", host.load()) == (parse("docker.io/library/y"),)
    host.write(host.own / "registries.conf", "")
    assert host.places("a.com/x") == ["a.com/x"], "the user's file hides the system's"


def test_names_of_the_system_do_not_count(host: Host) -> None:
    """Docker's names are promised; what Debian ships in shortnames.conf says that hello-world is Podman's."""
    host.write(
        host.system / "registries.conf.d/shortnames.conf",
        'unqualified-search-registries = ["elsewhere.com"]\n[aliases]\nhello-world = "quay.io/podman/hello"',
    )
    assert resolve("hello-world", host.load()) == (parse("docker.io/library/hello-world"),)


def test_an_override_stands_alone(host: Host, tmp_path: Path) -> None:
    host.write(host.own / "registries.conf", '[[registry]]\nlocation = "a.com"\nblocked = true')
    host.write(tmp_path / "other.conf", "")
    host.environment["CONTAINERS_REGISTRIES_CONF"] = str(tmp_path / "other.conf")
    assert host.places("a.com/x") == ["a.com/x"]
    host.environment["CONTAINERS_REGISTRIES_CONF"] = "/none"
    with pytest.raises(UsageError, match="/none, which does not exist"):
        host.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[registries.search]\nregistries = ['a.com']", "is in version 1"),
        ("a = ", "is not TOML"),
        ("registry = 1", r"must be \[\[registry\]\] tables"),
        ("[[registry]]\ninsecure = true", "has no location"),
        ("[[registry]]\nprefix = 'a.com'", "has no location"),
        ("[[registry]]\nprefix = 'a.*.com'\nlocation = 'b.com'", r"invalid prefix 'a\.\*\.com'"),
        ("[[registry]]\nprefix = '*.a.com/b'", "invalid prefix"),
        ("[[registry]]\nlocation = 1", "location in .* must be a string"),
        ("[[registry]]\nlocation = 'https://a.com'", "invalid location 'https://a.com'"),
        ("[[registry]]\nlocation = 'a.com'\nblocked = 'no'", "blocked in .* must be true or false"),
        ("[[registry]]\nlocation = 'a.com'\nmirror = ['b']", "must be .*mirror.* tables"),
        ("[[registry]]\nlocation = 'a.com'\nmirror = [{}]", "has no location"),
        (
            "[[registry]]\nlocation = 'a.com'\nmirror = [{ location = 'b', pull-from-mirror = 'x' }]",
            "pull-from-mirror in .* is 'x'",
        ),
        (
            "[[registry]]\nlocation = 'a.com'\nmirror-by-digest-only = true\nmirror = [{ location = 'b', pull-from-mirror = 'all' }]",
            "both mirror-by-digest-only and pull-from-mirror",
        ),
        ("aliases = 1", "aliases in .* must be a table of strings"),
        ("unqualified-search-registries = 'a'", "must be an array of strings"),
    ],
)
def test_wrong_files(host: Host, text: str, message: str) -> None:
    host.write(host.own / "registries.conf", text)
    with pytest.raises(UsageError, match=message):
        host.load()


@pytest.mark.parametrize("target", ["fedora", "quay.io/fedora:40", f"quay.io/fedora@{DIGEST}"])
def test_an_alias_is_a_full_name(host: Host, target: str) -> None:
    with pytest.raises(UsageError, match="must be a registry and a repository"):
        resolve("x", host.load(Settings(short_names={"x": target})))
