"""`--change` of `rl import`: one Dockerfile instruction applied to an image's config. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

from ..errors import UsageError
from ..oci.image import ContainerConfig


def apply(config: ContainerConfig, text: str) -> None:
    """Change `config` as one instruction says: `CMD ["sh"]`, `ENV A=1 B=2`, and as Podman has it with `=` for the first space: `CMD=sh`.

    UsageError for anything that is not such an instruction.
    """
    end = next((at for at, character in enumerate(text) if character in " \t="), len(text))
    instruction, value = text[:end].upper(), text[end + 1 :].strip()
    if instruction not in _INSTRUCTIONS:
        raise UsageError(f"unknown instruction {text[:end]!r} in --change", hint="known: " + ", ".join(_INSTRUCTIONS))
    if not value:
        raise UsageError(f"--change {instruction} has no value")
    try:
        _INSTRUCTIONS[instruction](config, value)
    except ValueError as error:
        raise UsageError(f"cannot read --change {text!r}: {error}") from None


def _cmd(config: ContainerConfig, value: str) -> None:
    config["Cmd"] = _words(value)


def _entrypoint(config: ContainerConfig, value: str) -> None:
    config["Entrypoint"] = _words(value)


def _env(config: ContainerConfig, value: str) -> None:
    environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    environment |= _pairs(value)
    config["Env"] = [f"{name}={text}" for name, text in environment.items()]


def _label(config: ContainerConfig, value: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **_pairs(value)}


def _expose(config: ContainerConfig, value: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in value.split():
        number, slash, protocol = word.partition("/")
        first, _, last = number.partition("-")
        protocol = protocol.lower() if slash else "tcp"
        low, high = int(first), int(last or first)
        if protocol not in ("tcp", "udp", "sctp") or not 0 < low <= high < 65536:
            raise ValueError(f"{word!r} is no port")
        ports |= {f"{port}/{protocol}": {} for port in range(low, high + 1)}
    config["ExposedPorts"] = ports


def _volume(config: ContainerConfig, value: str) -> None:
    words = json.loads(value) if value.startswith("[") else value.split()
    if not all(isinstance(word, str) and word.startswith("/") for word in words):
        raise ValueError("a volume is an absolute path")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{word: {} for word in words}}


def _user(config: ContainerConfig, value: str) -> None:
    config["User"] = value


def _workdir(config: ContainerConfig, value: str) -> None:
    if not value.startswith("/"):
        raise ValueError("it is not an absolute path")
    config["WorkingDir"] = value


def _stopsignal(config: ContainerConfig, value: str) -> None:
    config["StopSignal"] = value


_INSTRUCTIONS: dict[str, Callable[[ContainerConfig, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _words(value: str) -> list[str]:
    """The exec form, a JSON array; or the shell form, which a shell runs."""
    if not value.startswith("["):
        return ["/bin/sh", "-c", value]
    words = json.loads(value)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("not an array of strings")
    return words


def _pairs(value: str) -> dict[str, str]:
    """`A=1 B="2 3"`, or the old form of a single pair, `A 1`."""
    words = shlex.split(value)
    if words and "=" not in words[0]:
        name, _, text = value.partition(" ")
        return {name: text.strip()}
    pairs = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise ValueError(f"{word!r} is not NAME=VALUE")
        pairs[name] = text
    return pairs
