"""What the host is like, as far as a container's spec depends on it. Each fact is read when it is asked for, and only then."""

from __future__ import annotations

import os

from ..runtime.compile import DEFAULT_DEVICES
from ..userns.enter import UserNamespace
from .request import CreateRequest
from .spec import RLIMITS, HostFacts


def gather(request: CreateRequest, namespace: UserNamespace) -> HostFacts:
    """The facts for one container. What only rare requests need (limits, devices) is read for those alone."""
    system = os.uname()
    return HostFacts(
        uid_map=namespace.uid_map,
        gid_map=namespace.gid_map,
        kernel=kernel(system.release),
        architecture=system.machine,
        last_capability=last_capability(),
        cgroup_v2=os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
        hostname=system.nodename,
        environment=os.environ,
        ulimits=_ulimits() if request.ulimits else {},
        dev=frozenset(os.listdir("/dev")) if request.namespaces.ipc == "host" else frozenset(),
        devices=_devices() if request.privileged else (),
        masked=_thermal(),
    )


def kernel(release: str) -> tuple[int, int]:
    """`6.1.0-18-amd64` -> (6, 1)."""
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]  # not the digits of `4.19-xen-64`
    return int(major), int(minor or 0)


def last_capability() -> int:
    """The highest capability that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def _ulimits() -> dict[str, tuple[int, int]]:
    import resource

    found = {}
    for name in RLIMITS:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            found[name] = resource.getrlimit(number)
    return found


def _thermal() -> tuple[str, ...]:
    """The throttle counters of every processor, a side channel that Docker masks too (GHSA-6fw5-f8r9-fgfm); many machines have none."""
    place = "/sys/devices/system/cpu"
    if not os.path.isdir(f"{place}/cpu0/thermal_throttle"):
        return ()
    found = (f"{place}/{name}/thermal_throttle" for name in os.listdir(place) if name[3:].isdigit())
    return tuple(path for path in found if os.path.isdir(path))


def _devices() -> tuple[str, ...]:
    """The nodes of the host's /dev that the caller may open for reading: what --privileged can give to a user without privilege. Not those that every
    container has of its own."""
    import stat

    own = {f"/dev/{name}" for name in (*DEFAULT_DEVICES, "ptmx", "console")}
    found = []
    for directory, directories, files in os.walk("/dev"):
        directories[:] = [
            name
            for name in directories
            if f"{directory}/{name}" not in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd")
        ]
        for name in files:
            path = f"{directory}/{name}"
            if path in own:
                continue
            mode = os.lstat(path).st_mode
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and os.access(path, os.R_OK):
                found.append(path)
    return tuple(sorted(found))
