"""Names of images, as Docker reads them: `alpine` is `docker.io/library/alpine:latest`.

The grammar is that of the distribution project's `reference` package (which the distribution-spec's <name> and <reference> are a
part of); it is scanned by hand so that an error can say which part is wrong.

    reference  = [registry "/"] repository [":" tag] ["@" digest]
    registry   = (domain | IPv4 | "[" IPv6 "]") [":" port]       what stands before the first "/" is a registry only when
                                                                 it is `localhost` or has ".", ":" or an upper-case letter
    repository = component *("/" component)                      at most 255 characters
    component  = [a-z0-9]+ *(("." | "_" | "__" | "-"+) [a-z0-9]+)
    tag        = [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import UsageError
from .descriptor import Malformed, parse_digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
MAX_REPOSITORY = 255
MAX_TAG = 128
_MAX_DOMAIN = 255
_MAX_TEXT = 1024

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALPHANUMERIC = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG = _ALPHANUMERIC | frozenset("_.-")
_HEX = frozenset("0123456789abcdefABCDEF")
_HEX_LOWER = frozenset("0123456789abcdef")


class Reference(NamedTuple):
    """A complete name. registry: host with optional port; repository: path without registry; a digest outweighs a tag."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """`docker.io/library/alpine`: registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag, else `latest`."""
        return self.digest or self.tag or DEFAULT_TAG

    def __str__(self) -> str:
        return self.name + self._suffix()

    def familiar(self) -> str:
        """The short form that a person types: `alpine:latest`, `user/image@sha256:…`; other registries stay whole."""
        name = self.name
        if self.registry == DEFAULT_REGISTRY:
            namespace, _, rest = self.repository.partition("/")
            name = rest if namespace == "library" and "/" not in rest else self.repository
        return name + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same repository under another tag, without a digest."""
        return Reference(self.registry, self.repository, check_tag(tag))

    def with_digest(self, digest: str) -> Reference:
        """The same repository by digest, without a tag."""
        return Reference(self.registry, self.repository, None, parse_digest(digest))

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str, *, default_tag: str | None = DEFAULT_TAG) -> Reference:
    """Read a name as Docker does. A name with neither tag nor digest gets `default_tag` (None: it stays without)."""
    if not text:
        raise UsageError("the image name is empty")
    if len(text) > _MAX_TEXT:
        raise UsageError(f"the image name is too long: {len(text)} characters")
    if is_identifier(text):
        raise UsageError(
            f"{text} is an image id, not a name", hint="an image id cannot be pulled, pushed or given as a name"
        )
    registry, rest = split_registry(text)
    rest, at, digest = rest.partition("@")
    repository, colon, tag = rest.partition(":")
    if registry is None:
        registry = DEFAULT_REGISTRY
    else:
        registry = _check_registry(registry, text)
    if registry == DEFAULT_REGISTRY and repository and "/" not in repository:
        repository = f"library/{repository}"
    _check_repository(repository, text)
    if colon:
        check_tag(tag, text)
    if not colon and not at and default_tag is not None:
        tag = default_tag
    return Reference(registry, repository, tag or None, _check_digest(digest, text) if at else None)


def split_registry(text: str) -> tuple[str | None, str]:
    """(registry, rest) of a name; the registry is None where the name is short (`alpine`, `user/image`)."""
    first, slash, rest = text.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return first, rest
    return None, text


def parse_registry(text: str) -> str:
    """A registry alone, as `login` takes it: `quay.io`, `localhost:5000`, also as the address that Docker writes (`https://index.docker.io/v1/`)."""
    host = text.removeprefix("https://").removeprefix("http://")
    for suffix in ("/", "/v1", "/v2"):
        host = host.removesuffix(suffix)
    return _check_registry(host, text)


def is_short(text: str) -> bool:
    """True where the name says no registry, so that aliases and search lists apply to it."""
    return split_registry(text)[0] is None


def is_identifier(text: str) -> bool:
    """True for 64 lower-case hexadecimal digits: a full image id, which the grammar forbids as a name."""
    return len(text) == 64 and _HEX_LOWER.issuperset(text)


def check_tag(tag: str, text: str | None = None) -> str:
    """`tag` if it is one, else UsageError. text: the whole name, for the message."""
    if tag and len(tag) <= MAX_TAG and tag[0] not in ".-" and _TAG.issuperset(tag):
        return tag
    raise UsageError(
        f"invalid tag {tag!r}" + (f" in the image name {text!r}" if text else ""),
        hint=f"a tag has 1 to {MAX_TAG} letters, digits, '_', '.', '-', and does not begin with '.' or '-'",
    )


def _check_registry(registry: str, text: str) -> str:
    """A valid host with optional port, with Docker Hub's old name replaced. RFC 3986 appendix A less zones and mapped IPv4."""
    host, colon, port = registry, "", ""
    if registry.startswith("["):
        host, bracket, end = registry.partition("]")
        colon, port = end[:1], end[1:]
        valid = bool(bracket) and colon in ("", ":") and len(host) > 1 and (_HEX | {":"}).issuperset(host[1:])
    else:
        host, colon, port = registry.partition(":")
        valid = all(
            label and _ALPHANUMERIC.issuperset(label.replace("-", "a")) and label[0] != "-" != label[-1]
            for label in host.split(".")
        )
    if colon:
        valid = valid and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if not valid or len(registry) > _MAX_DOMAIN:
        raise UsageError(
            f"invalid registry {registry!r}" + (f" in the image name {text!r}" if "/" in text else ""),
            hint="a name is written without a scheme: quay.io/fedora/fedora:40, localhost:5000/app"
            if "://" in text
            else None,
        )
    return DEFAULT_REGISTRY if registry == "index.docker.io" else registry


def _check_digest(digest: str, text: str) -> str:
    try:
        return parse_digest(digest)
    except Malformed as error:
        raise UsageError(f"{error.message} in the image name {text!r}", hint=error.hint) from None


def _check_repository(repository: str, text: str) -> None:
    if repository != repository.lower():
        typed = repository.removeprefix("library/")
        raise UsageError(
            f"invalid image name {text!r}: the repository must be lower case",
            hint=f"did you mean {text.replace(typed, typed.lower(), 1)}?",
        )
    if len(repository) > MAX_REPOSITORY:
        raise UsageError(f"invalid image name {text!r}: the repository is longer than {MAX_REPOSITORY} characters")
    for component in repository.split("/"):
        if not _is_component(component):
            raise UsageError(
                f"invalid image name {text!r}: {component!r} is not a valid part of a repository",
                hint="lower-case letters and digits, joined by single '.', '_' or '__', or any number of '-'",
            )


def _is_component(component: str) -> bool:
    if not component or component[0] not in _LOWER or component[-1] not in _LOWER:
        return False
    separator = ""
    for character in component:
        if character in _LOWER:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        else:
            separator += character
    return True
