"""The user's settings: `~/.config/rl/config.toml` (`Paths.settings_file`). Every key is optional:

    storage_driver = "overlay"            # overlay, fuse-overlayfs, fuse; default: the best that works
    network = "slirp4netns"               # default of --network
    log_driver = "k8s-file"               # default of --log-driver

    [registries]
    search = ["docker.io", "quay.io"]     # where a short name is looked for; default: Docker Hub alone
    insecure = ["registry.lan:5000"]      # plain HTTP and unverified TLS are allowed with these hosts

    [registries.short_names]
    fedora = "quay.io/fedora/fedora"

    [registries.mirrors]                  # tried in order before the registry (or part of it) that the key names
    "docker.io" = ["localhost:5000", { location = "mirror.lan/hub", insecure = true }]

A key that is not in `_SCHEMA` is an error, not a silence: a table header above a key that was meant for the top is the usual mistake.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .errors import UsageError, reason
from .paths import Paths


class Mirror(NamedTuple):
    """One mirror. location: host with optional port, and optionally a path: `mirror.lan:5000/hub`."""

    location: str
    insecure: bool = False


class Settings(NamedTuple):
    """What the file says; None and empty where it says nothing."""

    storage_driver: str | None = None
    network: str | None = None
    log_driver: str | None = None
    search: tuple[str, ...] = ()
    short_names: Mapping[str, str] = MappingProxyType({})
    mirrors: Mapping[str, tuple[Mirror, ...]] = MappingProxyType({})
    insecure: tuple[str, ...] = ()


def load(paths: Paths) -> Settings:
    """Read the settings file; a missing file is empty settings. UsageError names the file and the key that is wrong."""
    path = paths.settings_file
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    return parse(text, path)


def parse(text: str, path: str) -> Settings:
    """Settings from TOML. path: names the file in messages."""
    import tomllib  # 5 ms that only those pay who have a settings file

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    found: dict[str, Any] = {}
    _read(document, "", found, path)
    return Settings(**found)


def _read(table: Mapping[str, Any], prefix: str, found: dict[str, Any], path: str) -> None:
    for key, value in table.items():
        name = prefix + key
        if name in _SCHEMA:
            field, check = _SCHEMA[name]
            found[field] = check(value, f"{name} in {path}")
        elif any(known.startswith(f"{name}.") for known in _SCHEMA):
            if not isinstance(value, dict):
                raise UsageError(f"{name} in {path} must be a table", hint=f"[{name}]")
            _read(value, f"{name}.", found, path)
        else:
            raise UsageError(f"unknown key {name} in {path}", hint=_near_miss(name))


def _near_miss(name: str) -> str:
    """What was probably meant by an unknown key: the same word in another table, or a similar one."""
    from difflib import get_close_matches

    last = name.rpartition(".")[2]
    moved = [known for known in _SCHEMA if known.rpartition(".")[2] == last]
    similar = get_close_matches(name, _SCHEMA, n=1) or [
        known for known in _SCHEMA if get_close_matches(last, [known.rpartition(".")[2]])
    ]
    if moved:
        table = moved[0].rpartition(".")[0]
        return f"{last} belongs " + (f"into the table [{table}]" if table else "above the first [table] of the file")
    return f"did you mean {similar[0]}?" if similar else "known keys: " + ", ".join(_SCHEMA)


def _string(value: object, where: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise UsageError(f"{where} must be a string")


def _strings(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_string(item, f"each item of {where}") for item in value)
    raise UsageError(f"{where} must be an array of strings")


def _one_of(*words: str) -> Callable[[object, str], str]:
    def check(value: object, where: str) -> str:
        if value in words:
            return str(value)
        raise UsageError(f"{where} is {value!r}; it must be one of: {', '.join(words)}")

    return check


def _short_names(value: object, where: str) -> Mapping[str, str]:
    return MappingProxyType({key: _string(item, f"{key} of {where}") for key, item in _table(value, where).items()})


def _mirrors(value: object, where: str) -> Mapping[str, tuple[Mirror, ...]]:
    return MappingProxyType(
        {key: _mirror_list(item, f"{key} of {where}") for key, item in _table(value, where).items()}
    )


def _mirror_list(value: object, where: str) -> tuple[Mirror, ...]:
    if not isinstance(value, list):
        value = [value]
    mirrors = []
    for item in value:
        if isinstance(item, dict):
            unknown = sorted(item.keys() - {"location", "insecure"})
            if unknown:
                raise UsageError(f"unknown key {unknown[0]} in {where}", hint="a mirror has location and insecure")
            insecure = item.get("insecure", False)
            if not isinstance(insecure, bool):
                raise UsageError(f"insecure in {where} must be true or false")
            mirrors.append(Mirror(_string(item.get("location"), f"location in {where}"), insecure))
        else:
            mirrors.append(Mirror(_string(item, where)))
    return tuple(mirrors)


def _table(value: object, where: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise UsageError(f"{where} must be a table")


_SCHEMA: Mapping[str, tuple[str, Callable[[object, str], Any]]] = MappingProxyType(
    {
        "storage_driver": ("storage_driver", _one_of("overlay", "fuse-overlayfs", "fuse")),
        "network": ("network", _string),
        "log_driver": ("log_driver", _string),
        "registries.search": ("search", _strings),
        "registries.insecure": ("insecure", _strings),
        "registries.short_names": ("short_names", _short_names),
        "registries.mirrors": ("mirrors", _mirrors),
    }
)
