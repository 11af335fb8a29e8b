"""`rl version`, `info`, `doctor`, `unshare`, `completion`."""

from __future__ import annotations

import os
import sys
from typing import Any

from .. import __version__
from ..errors import CannotInvoke, CommandNotFound, Error, UsageError, reason
from .context import Context, in_colour, printable

_COLOURS = {"ok": "32", "warn": "33", "fail": "1;31", "skip": "2"}


def version_line(context: Context) -> int:
    print(f"rl version {__version__}")
    return 0


def version(context: Context, format: str | None) -> int:
    release = os.uname()
    document = {
        "Version": __version__,
        "OsArch": f"linux/{_architecture(release.machine)}",
        "Python": ".".join(map(str, sys.version_info[:3])),
        "Kernel": release.release,
    }
    if format is not None:
        from .template import render_document

        render_document(format, document)
        return 0
    names = {"Version": "Version", "OsArch": "OS/Arch", "Python": "Python", "Kernel": "Kernel"}
    for key, value in document.items():
        print(f"{names[key] + ':':<10}{value}")
    return 0


def info(context: Context, format: str | None) -> int:
    from .template import render_document

    document = _info(context)
    if format is None:
        _print_tree(document, "")
    else:
        render_document(format, document)
    return 0


def doctor(context: Context, format: str) -> int:
    from ..engine import doctor as engine

    checks = []
    for check in engine.examine(context.unprepared_paths):
        checks.append(check)
        if format == "text":
            colour, plain = (f"\33[{_COLOURS[check.status]}m", "\33[0m") if in_colour(sys.stdout) else ("", "")
            print(f"{colour}{check.status:<5}{plain}{check.name}: {printable(check.seen)}")
            for mark, text in (("without it: ", check.lost), ("mend it with: ", check.fix)):
                for line in text.splitlines():
                    print(f"     {mark}{printable(line)}")
                    mark = " " * len(mark)
            sys.stdout.flush()
    if format == "json":
        import json

        print(json.dumps(engine.document(checks), indent=2))
    return 0 if engine.healthy(checks) else 1


def unshare(context: Context, command: tuple[str, ...]) -> int:
    from .. import _lowlevel
    from ..userns import enter

    words = command or (os.environ.get("SHELL") or "/bin/sh",)
    with enter.acquire(context.paths) as namespace:
        _lowlevel.enter_userns(namespace.fd, mount_namespace=True)
        try:
            os.execvp(words[0], words)
        except FileNotFoundError:
            raise CommandNotFound(f"no command {words[0]!r}") from None
        except OSError as error:
            raise CannotInvoke(f"cannot execute {words[0]!r}: {reason(error)}") from error


def completion(context: Context, shell: str) -> int:
    from .completion import SHELLS

    if shell not in SHELLS:
        raise UsageError(f"no completion for the shell {shell!r}", hint=f"there are {', '.join(SHELLS)}")
    sys.stdout.write(SHELLS[shell]())
    return 0


def _architecture(machine: str) -> str:
    from ..oci.platform import host_platform

    return host_platform(machine).architecture


# ---- info


def _info(context: Context) -> dict[str, Any]:
    """Keys as in `podman info`, as far as they mean something here."""
    from ..engine import container, image, rootfs
    from ..slirp import process as slirp
    from ..userns import enter

    paths, release = context.paths, os.uname()
    states = [container.state(paths, each).status for each in container.identifiers(paths)]
    damaged: list[str] = []
    images = image.list_images(paths, on_damaged=lambda digest, _: damaged.append(digest))
    try:
        driver: str = rootfs.driver(context.engine(), context.storage_driver)
    except Error as error:
        driver = f"none: {error.message}"
    with enter.acquire(paths) as namespace:
        mappings = {
            kind: [{"container_id": line.inside, "host_id": line.outside, "size": line.size} for line in idmap]
            for kind, idmap in (("uidmap", namespace.uid_map), ("gidmap", namespace.gid_map))
        }
    try:
        program = slirp.find(f"{paths.cache}/slirp4netns")
        network = {"path": program.path, "version": ".".join(map(str, program.version))}
    except Error as error:
        network = {"path": "", "version": "", "error": error.message}
    return {
        "host": {
            "arch": _architecture(release.machine),
            "cpus": os.cpu_count(),
            "cgroupVersion": "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1",
            "distribution": _distribution(),
            "hostname": release.nodename,
            "kernel": release.release,
            "memTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "os": "linux",
            "rootless": os.getuid() != 0,
            "idMappings": mappings,
            "slirp4netns": network,
        },
        "store": {
            "configFile": paths.settings_file,
            "graphDriverName": driver,
            "graphRoot": paths.root,
            "runRoot": paths.runroot,
            "cache": paths.cache,
            "volumePath": paths.volumes,
            "containerStore": {
                "number": len(states),
                **{status: states.count(status) for status in ("running", "exited", "created")},
            },
            "imageStore": {"number": len(images), "damaged": len(damaged)},
        },
        "version": {"Version": __version__, "Python": ".".join(map(str, sys.version_info[:3]))},
    }


def _distribution() -> dict[str, str]:
    import platform

    try:
        found = platform.freedesktop_os_release()
    except OSError:
        return {"distribution": "unknown", "version": "unknown"}
    return {"distribution": found.get("ID", "unknown"), "version": found.get("VERSION_ID", "unknown")}


def _print_tree(value: Any, indent: str) -> None:
    """A document as an indented outline, for people."""
    for key, item in value.items():
        if isinstance(item, dict):
            print(f"{indent}{key}:")
            _print_tree(item, f"{indent}  ")
        elif isinstance(item, list):
            print(f"{indent}{key}:")
            for entry in item:
                print(f"{indent}  - " + ", ".join(f"{name} {part}" for name, part in entry.items()))
        else:
            print(f"{indent}{key}: {printable(str(item))}")
