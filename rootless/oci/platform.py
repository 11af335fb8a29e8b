"""Platforms: operating system, architecture, variant, in the words of image-spec 1.1 (image-index.md), which are Go's."""

from __future__ import annotations

import os as _os
from typing import NamedTuple

from ..errors import HostError, UsageError

# What uname(2), Debian and people write -> the specification's (architecture, variant).
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "loongarch64": ("loong64", ""),
}
_ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "arm",
        "arm64",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "ppc64",
        "ppc64le",
        "riscv64",
        "s390x",
        "wasm",
    ]
)  # the linux rows of `go tool dist list`, and wasm
_WORD = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")


class Platform(NamedTuple):
    """One platform. The variant is "" where there is none, or where it is the one that the architecture implies."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)

    def to_json(self) -> dict[str, str]:
        document = {"architecture": self.architecture, "os": self.os}
        if self.variant:
            document["variant"] = self.variant
        return document

    def normalized(self) -> Platform:
        """One spelling for what is the same: aarch64 and arm64/v8 are arm64, amd64/v1 is amd64, arm is arm/v7."""
        architecture = self.architecture.lower()
        architecture, implied = _ALIASES.get(architecture, (architecture, ""))
        variant = self.variant.lower() or implied
        if variant.isdigit():
            variant = f"v{variant}"
        if (architecture, variant) in (("amd64", "v1"), ("arm64", "v8")):
            variant = ""
        elif (architecture, variant) == ("arm", ""):
            variant = "v7"
        return Platform(self.os.lower(), architecture, variant)

    def acceptable(self) -> tuple[Platform, ...]:
        """What runs here, best first: this variant and the lesser ones of the same architecture (amd64/v3 runs v2 and plain)."""
        os, architecture, variant = self.normalized()
        ladder = {"amd64": ("", "v2", "v3", "v4"), "arm": ("v5", "v6", "v7", "v8"), "arm64": ("", "v9")}.get(
            architecture, ()
        )
        if variant not in ladder:
            return (Platform(os, architecture, variant),)
        return tuple(Platform(os, architecture, step) for step in reversed(ladder[: ladder.index(variant) + 1]))


def parse_platform(text: str) -> Platform:
    """`os/architecture[/variant]`, `architecture`, or `os` (`--platform`), normalised. UsageError for anything else."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(part[:1].isalnum() and _WORD.issuperset(part) for part in parts):
        raise UsageError(f"invalid platform {text!r}", hint="for example linux/amd64, linux/arm64, linux/arm/v7")
    if len(parts) == 1:
        word = parts[0]
        if word in ("linux", "wasi"):
            return Platform(word, host_platform().architecture, host_platform().variant)
        parts = ["linux", word]
        if word not in _ALIASES and word not in _ARCHITECTURES:
            raise UsageError(
                f"unknown architecture {text!r}", hint="for example linux/amd64, linux/arm64, linux/arm/v7"
            )
    return Platform(*parts).normalized()


def host_platform(machine: str | None = None) -> Platform:
    """The platform of this host. machine: uname(2)'s word for it, by default this kernel's."""
    word = (machine or _os.uname().machine).lower()
    platform = Platform("linux", word).normalized()
    if platform.architecture not in _ARCHITECTURES:
        raise HostError(f"unknown machine {word!r}", hint="name the platform of the image with --platform")
    return platform


def host_acceptable(machine: str | None = None) -> tuple[Platform, ...]:
    """What this host runs where the user named no platform, best first: the 64-bit kernels run their 32-bit images as a last choice."""
    host = host_platform(machine)
    if host.architecture == "amd64":
        return (*host.acceptable(), Platform("linux", "386"))
    if host.architecture == "arm64":
        return (*host.acceptable(), *Platform("linux", "arm", "v8").acceptable())
    return host.acceptable()
