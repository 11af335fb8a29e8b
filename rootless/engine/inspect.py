"""Looking at containers: the lines of `rl ps`, the documents of `rl inspect`, with Podman's keys so that its scripts go on working."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import Error
from ..paths import Paths
from ..store import record
from . import container
from .container import Container, State


class Summary(NamedTuple):
    """A container and what it is doing."""

    container: Container
    state: State

    def to_json(self) -> dict[str, Any]:
        """In the words of `podman ps --format json`. Times are RFC 3339; Created, StartedAt and ExitedAt are seconds since 1970."""
        made, state = self
        return {
            "AutoRemove": made.request.remove,
            "Command": list(made.command),
            "Created": seconds(made.created),
            "CreatedAt": made.created,
            "ExitCode": state.exit_code or 0,
            "Exited": state.status == "exited",
            "ExitedAt": seconds(state.finished_at),
            "Id": made.id,
            "Image": made.image,
            "ImageID": made.image_id.removeprefix("sha256:"),
            "Labels": made.labels or None,
            "Mounts": [mount.target for mount in made.request.mounts],
            "Names": [made.name],
            "Networks": [],
            "Pid": state.pid,
            "Ports": [
                {
                    "host_ip": port.host_ip or "",
                    "container_port": port.container_port,
                    "host_port": port.host_port,
                    "range": 1,
                    "protocol": port.protocol,
                }
                for port in made.ports
            ]
            or None,
            "StartedAt": seconds(state.started_at),
            "State": state.status,
        }


def containers(paths: Paths) -> list[Summary]:
    """Every container, newest first. One that is removed meanwhile is left out; one whose files are damaged too (inspect says how)."""
    found = []
    for container_id in container.identifiers(paths):
        try:
            found.append(summary(paths, container_id))
        except Error:
            continue  # inspect says what is wrong with it, rm --force removes it
    return sorted(found, key=lambda entry: entry.container.created, reverse=True)


def summary(paths: Paths, container_id: str) -> Summary:
    return Summary(container.load(paths, container_id), container.state(paths, container_id))


def inspect(paths: Paths, container_id: str) -> dict[str, Any]:
    """In the words of `podman container inspect`."""
    made, state = summary(paths, container_id)
    directory = paths.container(container_id)
    spec: Any = record.read(f"{directory}/config.json") or {}
    process = spec.get("process", {})
    request = made.request
    return {
        "Id": made.id,
        "Created": made.created,
        "Path": made.command[0],
        "Args": list(made.command[1:]),
        "State": {
            "OciVersion": spec.get("ociVersion", ""),
            "Status": state.status,
            "Running": state.running,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": state.pid,
            "ConmonPid": state.monitor_pid,
            "ExitCode": state.exit_code or 0,
            "Error": "",
            "StartedAt": state.started_at or "0001-01-01T00:00:00Z",
            "FinishedAt": state.finished_at or "0001-01-01T00:00:00Z",
        },
        "Image": made.image_id.removeprefix("sha256:"),
        "ImageName": made.image,
        "Name": made.name,
        "RestartCount": 0,
        "Driver": made.driver,
        "MountLabel": "",
        "ProcessLabel": "",
        "OCIRuntime": "rl",
        "OCIConfigPath": f"{directory}/config.json",
        "LogPath": f"{directory}/log",
        "BoundingCaps": process.get("capabilities", {}).get("bounding", []),
        "EffectiveCaps": process.get("capabilities", {}).get("effective", []),
        "GraphDriver": {
            "Name": made.driver,
            "Data": {
                "LowerDir": ":".join(paths.layer_diff(chain_id) for chain_id in reversed(made.layers)),
                "UpperDir": f"{directory}/upper",
                "WorkDir": f"{directory}/work",
                "MergedDir": f"{directory}/rootfs",
            },
        },
        "Mounts": _mounts(made, spec, paths),
        "NetworkSettings": {"Ports": _ports(made), "SandboxKey": f"/proc/{state.pid}/ns/net" if state.pid else ""},
        "Namespace": "",
        "Config": _config(made, process, spec),
        "HostConfig": {
            "AutoRemove": request.remove,
            "Binds": [
                f"{mount['source']}:{mount['destination']}"
                for mount in spec.get("mounts", ())
                if "rbind" in mount.get("options", ())
            ],
            "CapAdd": list(request.cap_add),
            "CapDrop": list(request.cap_drop),
            "Dns": list(request.dns),
            "DnsOptions": list(request.dns_options),
            "DnsSearch": list(request.dns_search),
            "ExtraHosts": [f"{name}:{address}" for name, address in request.add_hosts],
            "GroupAdd": list(request.groups),
            "Init": request.init,
            "IpcMode": request.namespaces.ipc or "private",
            "LogConfig": {"Type": request.log_driver, "Path": f"{directory}/log", "Config": dict(request.log_options)},
            "NetworkMode": request.namespaces.network or "slirp4netns",
            "PidMode": request.namespaces.pid or "private",
            "PortBindings": _ports(made),
            "Privileged": request.privileged,
            "PublishAllPorts": request.publish_all,
            "ReadonlyRootfs": request.read_only,
            "ShmSize": request.shm_size or 64 << 20,
            "UTSMode": request.namespaces.uts or "private",
            "UsernsMode": request.namespaces.user or "",
        },
    }


def _config(made: Container, process: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    request = made.request
    user = request.user if request.user is not None else made.config.get("User")
    return {
        "Hostname": spec.get("hostname", ""),
        "User": user or "",
        "Tty": request.terminal,
        "OpenStdin": request.interactive,
        "StdinOnce": False,
        "Env": process.get("env", []),
        "Cmd": list(made.command),
        "Image": made.image,
        "WorkingDir": process.get("cwd", "/"),
        "Entrypoint": list(request.entrypoint or ()),
        "Labels": made.labels,
        "Annotations": spec.get("annotations", {}),
        "StopSignal": request.stop_signal or 15,
        "StopTimeout": request.stop_timeout,
        "Umask": f"{request.umask:04o}",
    }


def _ports(made: Container) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in made.ports:
        key = f"{port.container_port}/{port.protocol}"
        found.setdefault(key, []).append({"HostIp": port.host_ip or "", "HostPort": str(port.host_port)})
    return found


def _mounts(made: Container, spec: dict[str, Any], paths: Paths) -> list[dict[str, Any]]:
    """What the user or the image asked to mount, not what every container has."""
    wanted = {mount.target: mount.kind for mount in made.request.mounts} | dict.fromkeys(made.volumes, "volume")
    found = []
    for mount in spec.get("mounts", ()):
        kind = wanted.get(mount["destination"])
        if kind is None:
            continue
        entry = {
            "Type": kind,
            "Source": mount.get("source", ""),
            "Destination": mount["destination"],
            "Options": mount.get("options", []),
            "RW": "ro" not in mount.get("options", []),
            "Propagation": next(
                (word for word in mount.get("options", ()) if word.endswith(("private", "shared", "slave"))), ""
            ),
        }
        if kind == "volume":
            entry["Name"] = made.volumes[mount["destination"]]
            entry["Source"] = f"{paths.volume(entry['Name'])}/_data"
        found.append(entry)
    return found


def seconds(time: str) -> int:
    """RFC 3339 in UTC -> seconds since 1970, 0 for none. By arithmetic: `datetime` costs more to import than a whole `rl ps` may."""
    if not time:
        return 0
    year, month, day = int(time[:4]), int(time[5:7]), int(time[8:10])
    hour, minute, second = int(time[11:13]), int(time[14:16]), int(time[17:19])
    year -= month <= 2  # count years from March, so that the leap day comes last
    days = year * 365 + year // 4 - year // 100 + year // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
    return days * 86400 + hour * 3600 + minute * 60 + second
