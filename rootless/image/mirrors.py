"""Where images are fetched from: mirrors, insecure and blocked registries, short names.

Two sources are merged: rl's settings (`settings.Settings`) and registries.conf, version 2 (containers-registries.conf(5) and
containers-registries.conf.d(5)). Where both speak of the same prefix, short name or search list, ours come first.

What a short name *means* is the user's own affair: aliases and search lists count in rl's settings and in the user's registries.conf
($XDG_CONFIG_HOME/containers, or CONTAINERS_REGISTRIES_CONF), not in /etc. Distributions fill the latter with names of their own
(`hello-world` is quay.io/podman/hello on Debian), and `rl` promises Docker's names. *Where* a name is fetched from is also the host's affair:
mirrors, locations, `insecure` and `blocked` count in /etc too.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from ..errors import UsageError, reason
from ..oci.reference import Reference, is_short, parse
from ..settings import Settings

_SYSTEM = "/etc/containers"


class Endpoint(NamedTuple):
    """One place to fetch a repository from. host: with optional port, as in names (`docker.io`, not its API host).

    insecure: plain HTTP and unverified TLS are allowed by configuration.
    """

    host: str
    repository: str
    insecure: bool
    is_mirror: bool


@dataclass(frozen=True, kw_only=True)
class MirrorRule:
    location: str
    insecure: bool = False
    pull: Literal["all", "digest-only", "tag-only"] = "all"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One [[registry]] table. prefix: what of a name it is for, `*.example.com` for all below a domain. location: "" rewrites nothing."""

    prefix: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[MirrorRule, ...] = ()
    source: str = ""

    def match(self, name: str) -> int | None:
        """The length of what matches at the beginning of `name` (`host[:port]/path`), None where the rule is not for it."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            domain = host.partition(":")[0]
            return len(host) if domain.endswith(self.prefix[1:]) else None
        if name.startswith(self.prefix) and name[len(self.prefix) : len(self.prefix) + 1] in ("", "/", ":", "@"):
            return len(self.prefix)
        return None


@dataclass(frozen=True, kw_only=True)
class Registries:
    """The merged configuration. rules are by prefix; aliases: short name -> name without tag and digest."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    insecure: frozenset[str] = frozenset()


def load(settings: Settings, *, environment: Mapping[str, str] | None = None, system: str = _SYSTEM) -> Registries:
    """Read registries.conf and its drop-ins and merge them with the settings. environment: by default this process's."""
    rules: dict[str, Rule] = {}
    aliases: dict[str, str] = {}
    search: tuple[str, ...] = ()
    for path, own in _files(os.environ if environment is None else environment, system):
        document = _read(path)
        for rule in _rules(document, path):
            rules[rule.prefix] = rule
        if own:
            aliases.update(_aliases(document, path))
            search = (
                _strings(document.get("unqualified-search-registries"), "unqualified-search-registries", path) or search
            )
    for prefix, mirrors in settings.mirrors.items():
        ours = tuple(MirrorRule(location=_location(m.location), insecure=m.insecure) for m in mirrors)
        there = rules.get(prefix) or Rule(prefix=_location(prefix), source="the settings of rl")
        rules[prefix] = replace(there, mirrors=ours + there.mirrors)
    return Registries(
        rules=rules,
        aliases={**{k: v for k, v in aliases.items() if v}, **settings.short_names},
        search=settings.search or search,
        insecure=frozenset(settings.insecure),
    )


def resolve(text: str, registries: Registries) -> tuple[Reference, ...]:
    """The complete names that `text` may stand for, to be tried in this order.

    A name with a registry is itself. A short name is its alias, else one name for each search registry, else Docker Hub's.
    """
    plain = parse(text)
    if not is_short(text):
        return (plain,)
    short = text.partition("@")[0].partition(":")[0]
    alias = registries.aliases.get(short)
    if alias is not None:
        target = parse(alias, default_tag=None)
        if target.tag or target.digest or is_short(alias):
            raise UsageError(
                f"the short name {short!r} stands for {alias!r}, which must be a registry and a repository, without a tag"
            )
        return (Reference(target.registry, target.repository, plain.tag, plain.digest),)
    return tuple(parse(f"{registry}/{text}") for registry in registries.search) or (plain,)


def endpoints(reference: Reference, registries: Registries) -> tuple[Endpoint, ...]:
    """Where to fetch `reference` from, in order: the mirrors that are for it, then the registry itself."""
    name = reference.name
    rule = _choose(
        registries.rules.values(),
        name + (f"@{reference.digest}" if reference.digest else f":{reference.tag or 'latest'}"),
    )
    if rule is None:
        return (_endpoint(name, registries, insecure=False, is_mirror=False),)
    if rule.blocked:
        raise UsageError(f"the registry {rule.prefix} is blocked", context=rule.source)
    length = rule.match(name) or len(name)
    wanted = "digest-only" if reference.digest else "tag-only"
    places = [
        _endpoint(mirror.location + name[length:], registries, insecure=mirror.insecure, is_mirror=True)
        for mirror in rule.mirrors
        if mirror.pull in ("all", wanted)
    ]
    primary = rule.location + name[length:] if rule.location else name
    return (*places, _endpoint(primary, registries, insecure=rule.insecure, is_mirror=False))


def _endpoint(name: str, registries: Registries, *, insecure: bool, is_mirror: bool) -> Endpoint:
    host, _, repository = name.partition("/")
    place = parse(f"{host}/{repository}", default_tag=None)  # library/ is added where the location is docker.io
    return Endpoint(host, place.repository, insecure or is_insecure(host, registries), is_mirror)


def is_insecure(host: str, registries: Registries) -> bool:
    """True where configuration allows plain HTTP and unverified TLS with this host."""
    if host in registries.insecure:
        return True
    rule = _choose(registries.rules.values(), host)
    return rule is not None and rule.insecure


def _choose(rules: Iterable[Rule], name: str) -> Rule | None:
    """The rule with the longest match; of two that match as much, the literal one, then the longer wildcard."""
    best = (0, False, 0)
    chosen = None
    for rule in rules:
        length = rule.match(name)
        if length and (rank := (length, not rule.prefix.startswith("*"), len(rule.prefix))) > best:
            best, chosen = rank, rule
    return chosen


# ---- registries.conf


def _files(environment: Mapping[str, str], system: str) -> list[tuple[str, bool]]:
    """(path, is the user's own) of every file in force, least first (containers-registries.conf.d(5), "Configuration precedence")."""
    override = environment.get("CONTAINERS_REGISTRIES_CONF")
    if override:
        if not os.path.exists(override):
            raise UsageError(f"CONTAINERS_REGISTRIES_CONF names {override}, which does not exist")
        return [(override, True)]
    config = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
    own = f"{config}/containers/registries.conf"
    files = []
    if not os.path.exists(own):
        files += [(path, False) for path in (f"{system}/registries.conf", *_drop_ins(f"{system}/registries.conf.d"))]
    files += [(path, True) for path in (own, *_drop_ins(f"{own}.d"))]
    return [(path, mine) for path, mine in files if os.path.exists(path)]


def _drop_ins(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"cannot read {directory}: {reason(error)}") from error
    return [path for name in sorted(names) if name.endswith(".conf") and os.path.isfile(path := f"{directory}/{name}")]


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"{path} is not TOML: {error}") from None
    if "registries" in document:
        raise UsageError(
            f"{path} is in version 1 of the registries.conf format, which is not supported",
            hint="write unqualified-search-registries = […] and [[registry]] tables: containers-registries.conf(5)",
        )
    return document


def _rules(document: Mapping[str, Any], path: str) -> list[Rule]:
    tables = document.get("registry", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"registry in {path} must be [[registry]] tables")
    return [_rule(table, path) for table in tables]


def _rule(table: Mapping[str, Any], path: str) -> Rule:
    location = _location(_string(table, "location", path))
    prefix = _string(table, "prefix", path).rstrip("/") or location
    if not prefix or (not location and not prefix.startswith("*.")):
        raise UsageError(f"a [[registry]] in {path} has no location")
    if "*" in prefix and ("*" in prefix[1:] or not prefix.startswith("*.") or "/" in prefix or ":" in prefix):
        raise UsageError(
            f"invalid prefix {prefix!r} in {path}", hint="a wildcard stands alone before a domain: *.example.com"
        )
    digest_only = _boolean(table, "mirror-by-digest-only", path)
    mirrors = table.get("mirror", [])
    if not isinstance(mirrors, list) or not all(isinstance(mirror, dict) for mirror in mirrors):
        raise UsageError(f"mirror of {prefix} in {path} must be [[registry.mirror]] tables")
    return Rule(
        prefix=prefix,
        location=location,
        insecure=_boolean(table, "insecure", path),
        blocked=_boolean(table, "blocked", path),
        mirrors=tuple(_mirror(mirror, path, digest_only=digest_only) for mirror in mirrors),
        source=path,
    )


def _mirror(table: Mapping[str, Any], path: str, *, digest_only: bool) -> MirrorRule:
    location = _location(_string(table, "location", path))
    if not location:
        raise UsageError(f"a [[registry.mirror]] in {path} has no location")
    pull = _string(table, "pull-from-mirror", path)
    if pull not in ("", "all", "digest-only", "tag-only"):
        raise UsageError(f"pull-from-mirror in {path} is {pull!r}", hint="it is one of: all, digest-only, tag-only")
    if pull and digest_only:
        raise UsageError(
            f"{path} has both mirror-by-digest-only and pull-from-mirror for {location}", hint="remove one of them"
        )
    return MirrorRule(
        location=location,
        insecure=_boolean(table, "insecure", path),
        pull="digest-only" if digest_only or pull == "digest-only" else "tag-only" if pull == "tag-only" else "all",
    )


def _aliases(document: Mapping[str, Any], path: str) -> dict[str, str]:
    """short name -> name, or "" where a later file takes an alias back."""
    table = document.get("aliases", {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise UsageError(f"aliases in {path} must be a table of strings")
    return table


def _location(text: str) -> str:
    """A location without the scheme and the final slash that people write."""
    if "://" in text:
        raise UsageError(
            f"invalid location {text!r}", hint="a location is written without a scheme: mirror.lan:5000/path"
        )
    return text.rstrip("/")


def _string(table: Mapping[str, Any], key: str, path: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{key} in {path} must be a string")
    return value


def _boolean(table: Mapping[str, Any], key: str, path: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{key} in {path} must be true or false")
    return value


def _strings(value: object, key: str, path: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{key} in {path} must be an array of strings")
    return tuple(value)
