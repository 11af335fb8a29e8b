"""Names of images: the grammar and the normalisation of the distribution project, and what is said of a wrong one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.errors import UsageError
from rootless.oci.reference import Reference, check_tag, is_identifier, is_short, parse, parse_registry

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX}{HEX}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("alpine", "docker.io", "library/alpine", "latest", None),
        ("alpine:3.20", "docker.io", "library/alpine", "3.20", None),
        ("user/image", "docker.io", "user/image", "latest", None),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("index.docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("docker.io/library/a/b", "docker.io", "library/a/b", "latest", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("localhost:5000/app:1", "localhost:5000", "app", "1", None),
        ("host:5000/app", "host:5000", "app", "latest", None),
        ("app:5000", "docker.io", "library/app", "5000", None),
        ("127.0.0.1/app", "127.0.0.1", "app", "latest", None),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest", None),
        ("[2001:db8::1]/app", "[2001:db8::1]", "app", "latest", None),
        ("quay.io/a/b/c-d__e.f:V_1.-", "quay.io", "a/b/c-d__e.f", "V_1.-", None),
        ("Host/app", "Host", "app", "latest", None),
        ("xn--7o8h.com/app", "xn--7o8h.com", "app", "latest", None),
        ("a---b", "docker.io", "library/a---b", "latest", None),
        (f"alpine@{SHA256}", "docker.io", "library/alpine", None, SHA256),
        (f"alpine:3@{SHA256}", "docker.io", "library/alpine", "3", SHA256),
        (f"alpine@{SHA512}", "docker.io", "library/alpine", None, SHA512),
        (HEX[:63], "docker.io", f"library/{HEX[:63]}", "latest", None),
    ],
)
def test_normalisation(text: str, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
    assert parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the image name is empty"),
        ("Alpine", "the repository must be lower case"),
        ("user/Image", "the repository must be lower case"),
        ("alpine:", "invalid tag ''"),
        ("alpine:-a", "invalid tag '-a'"),
        ("alpine:" + "a" * 129, "invalid tag 'a"),
        ("alpine:a b", "invalid tag 'a b'"),
        ("alpine:1:2", "invalid tag '1:2'"),
        ("https://quay.io/app", "invalid registry 'https:'"),
        ("-host.com/app", "invalid registry '-host.com'"),
        ("host-.com/app", "invalid registry 'host-.com'"),
        ("host..com/app", "invalid registry 'host..com'"),
        ("host.com:/app", "invalid registry 'host.com:'"),
        ("host.com:0/app", "invalid registry 'host.com:0'"),
        ("host.com:65536/app", "invalid registry 'host.com:65536'"),
        ("host.com:\u0663/app", "invalid registry"),
        ("[::1/app", "invalid registry '[::1'"),
        ("[fe80::1%eth0]/app", "invalid registry"),
        ("hóst.com/app", "invalid registry"),
        ("../../etc/passwd", "invalid registry '..'"),
        ("quay.io/../app", "'..' is not a valid part"),
        ("quay.io/", "'' is not a valid part"),
        ("/app", "'' is not a valid part"),
        ("a//b", "'' is not a valid part"),
        ("a___b", "'a___b' is not a valid part"),
        ("a..b", "'a..b' is not a valid part"),
        ("a_.b", "'a_.b' is not a valid part"),
        ("a-", "'a-' is not a valid part"),
        ("app\n", "'app\\n' is not a valid part"),
        ("\uff41pp", "is not a valid part"),
        ("@" + SHA256, "'' is not a valid part"),
        ("app@sha256:12", "invalid digest 'sha256:12'"),
        (f"app@sha256:{HEX.upper()}", "invalid digest"),
        (f"app@md5:{HEX}", "unknown digest algorithm"),
        (f"app@{SHA256}@{SHA256}", "invalid digest"),
        ("a/" * 128 + "a", "longer than 255 characters"),
        ("a" * 2000, "too long"),
        (HEX, "is an image id, not a name"),
    ],
)
def test_errors_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse(text)


def test_hints() -> None:
    with pytest.raises(UsageError) as caught:
        parse("Alpine:Edge")
    assert caught.value.hint == "did you mean alpine:Edge?"
    with pytest.raises(UsageError) as caught:
        parse("docker://alpine")
    assert caught.value.hint is not None and "without a scheme" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/alpine", "alpine:latest"),
        ("docker.io/user/app:1", "user/app:1"),
        ("docker.io/library/a/b", "library/a/b:latest"),
        ("quay.io/library/app", "quay.io/library/app:latest"),
        (f"alpine@{SHA256}", f"alpine@{SHA256}"),
    ],
)
def test_familiar(text: str, familiar: str) -> None:
    assert parse(text).familiar() == familiar


def test_parts() -> None:
    reference = parse(f"alpine:3@{SHA256}")
    assert reference.name == "docker.io/library/alpine"
    assert reference.identifier == SHA256
    assert str(reference) == f"docker.io/library/alpine:3@{SHA256}"
    assert str(reference.with_tag("4")) == "docker.io/library/alpine:4"
    assert str(reference.with_digest(SHA512)) == f"docker.io/library/alpine@{SHA512}"
    assert parse("alpine", default_tag=None) == Reference("docker.io", "library/alpine")
    assert parse("alpine", default_tag=None).identifier == "latest"
    assert is_short("user/app") and not is_short("quay.io/app")
    assert is_identifier(HEX) and not is_identifier(HEX.upper())
    with pytest.raises(UsageError, match="invalid tag"):
        check_tag("")


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("quay.io", "quay.io"),
        ("localhost:5000", "localhost:5000"),
        ("myhost", "myhost"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://quay.io/", "quay.io"),
    ],
)
def test_registries(text: str, registry: str) -> None:
    assert parse_registry(text) == registry


@pytest.mark.parametrize("text", ["", "quay.io/team", "a b", "quay.io:x", "ftp://quay.io"])
def test_wrong_registries(text: str) -> None:
    with pytest.raises(UsageError, match="invalid registry"):
        parse_registry(text)


COMPONENT = st.from_regex(
    r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True, alphabet=st.characters(codec="ascii")
)
DOMAIN = st.from_regex(
    r"[A-Za-z0-9]{1,5}(-[a-z0-9]{1,3})?\.[a-z]{2,3}(:[1-9][0-9]{0,3})?",
    fullmatch=True,
    alphabet=st.characters(codec="ascii"),
)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True, alphabet=st.characters(codec="ascii"))


@settings(database=None)
@given(DOMAIN, st.lists(COMPONENT, min_size=1, max_size=4), st.none() | TAG, st.sampled_from([None, SHA256, SHA512]))
def test_what_is_written_is_read_again(
    registry: str, components: list[str], tag: str | None, digest: str | None
) -> None:
    if tag is None and digest is None:
        tag = "latest"
    reference = Reference(registry, "/".join(components), tag, digest)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar()) == reference


@settings(database=None)
@given(st.text(alphabet="aA0._-:/@[]é\n ", max_size=30))
def test_nothing_but_a_usage_error(text: str) -> None:
    try:
        reference = parse(text)
    except UsageError:
        return
    assert parse(str(reference)) == reference
    assert not {"", ".", ".."} & set(reference.repository.split("/"))
