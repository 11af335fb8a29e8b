"""`rl inspect`, `container inspect`, `image inspect`: documents in the words of Docker and Podman."""

from __future__ import annotations

from typing import Any

from ..engine import container as containers_on_disk
from ..engine import image as images_on_disk
from ..engine.container import Container, State
from ..errors import Error, NotFound
from ..paths import Paths
from ..store import record
from .context import Context, complain
from .listing import command_of
from .template import render_document, render_each


def inspect(context: Context, names: tuple[str, ...], format: str | None, type: str) -> int:
    def one(name: str) -> dict[str, Any]:
        if type in ("container", "all"):
            try:
                return container_document(context, name)
            except NotFound:
                if type == "container":
                    raise
        try:
            return images_on_disk.inspect(context.paths, name)
        except NotFound:
            if type == "image":
                raise
            raise NotFound(f"no container and no image {name!r}", hint="rl ps -a and rl images list them") from None

    return _print_documents(names, one, format)


def container_inspect(context: Context, containers: tuple[str, ...], format: str | None) -> int:
    return _print_documents(containers, lambda name: container_document(context, name), format)


def image_inspect(context: Context, images: tuple[str, ...], format: str | None) -> int:
    return _print_documents(images, lambda name: images_on_disk.inspect(context.paths, name), format)


def _print_documents(names: tuple[str, ...], look: Any, format: str | None) -> int:
    """All that could be found as one JSON list, or each through the template; what could not be found is complained about."""
    code = 0
    documents = []
    for name in names:
        try:
            documents.append(look(name))
        except Error as error:
            complain(error)
            code = error.exit_code
    if format in (None, "", "json"):
        render_document(None, documents)
    else:
        render_each(format or "", documents)
    return code


def container_document(context: Context, name: str) -> dict[str, Any]:
    """Everything about a container. Fields that Docker and Podman have and that mean nothing here are left out."""
    paths = context.paths
    container_id = containers_on_disk.resolve(paths, name)
    made = containers_on_disk.load(paths, container_id)
    state = containers_on_disk.state(paths, container_id)
    command = command_of(context, made)
    bundle: Any = record.read(f"{paths.container(container_id)}/config.json") or {}
    request = made.request
    return {
        "Id": made.id,
        "Created": made.created,
        "Path": command[0] if command else "",
        "Args": list(command[1:]),
        "State": _state(state),
        "Image": made.image_id,
        "ImageName": made.image,
        "Name": made.name,
        "Driver": made.driver,
        "BundlePath": paths.container(made.id),
        "OCIConfigPath": f"{paths.container(made.id)}/config.json" if bundle else "",
        "LogPath": "" if request.log_driver == "none" else f"{paths.container(made.id)}/log",
        "GraphDriver": _graph_driver(paths, made),
        "Mounts": _mounts(paths, made),
        "NetworkSettings": {"Ports": _ports(made, state)},
        "Config": _config(context, made, bundle),
        "HostConfig": _host_config(context, made),
    }


def _state(state: State) -> dict[str, Any]:
    return {
        "Status": state.status,
        "Running": state.running,
        "Pid": state.pid,
        "ConmonPid": state.monitor_pid,
        "ExitCode": state.exit_code or 0,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    }


def _graph_driver(paths: Paths, made: Container) -> dict[str, Any]:
    directory = paths.container(made.id)
    lower = [paths.layer_diff(chain_id) for chain_id in reversed(made.layers)]
    data = {
        "LowerDir": ":".join(lower),
        "UpperDir": f"{directory}/upper",
        "WorkDir": f"{directory}/work",
        "MergedDir": f"{directory}/rootfs",
    }
    return {"Name": made.driver, "Data": data}


def _mounts(paths: Paths, made: Container) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = []
    for mount in made.request.mounts:
        name = made.volumes.get(mount.target, "") if mount.kind == "volume" else ""
        mounts.append(
            {
                "Type": mount.kind,
                **({"Name": name} if name else {}),
                "Source": f"{paths.volume(name)}/_data" if name else mount.source or "",
                "Destination": mount.target,
                "Options": list(mount.options),
                "RW": "ro" not in mount.options,
            }
        )
    said = {mount.target for mount in made.request.mounts}
    for target, name in made.volumes.items():
        if target not in said:
            source = f"{paths.volume(name)}/_data"
            mounts.append(
                {"Type": "volume", "Name": name, "Source": source, "Destination": target, "Options": [], "RW": True}
            )
    return mounts


def _ports(made: Container, state: State) -> dict[str, list[dict[str, str]]]:
    ports: dict[str, list[dict[str, str]]] = {}
    if state.running:
        for port in made.ports:
            key = f"{port.container_port}/{port.protocol}"
            ports.setdefault(key, []).append({"HostIp": port.host_ip or "0.0.0.0", "HostPort": str(port.host_port)})
    return ports


def _config(context: Context, made: Container, bundle: Any) -> dict[str, Any]:
    """What the container was made with: the image's configuration, overruled by the request."""
    request = made.request
    try:
        image: Any = images_on_disk.resolve(context.paths, made.image_id).config.get("config") or {}
    except Error:
        image = {}
    process = bundle.get("process", {})
    entrypoint = image.get("Entrypoint") if request.entrypoint is None else list(request.entrypoint)
    command = list(request.command) or (image.get("Cmd") if request.entrypoint is None else None)
    own = [f"{name}={value}" for name, value in request.environment if value is not None]
    return {
        "Hostname": bundle.get("hostname", request.hostname or made.id[:12]),
        "User": request.user if request.user is not None else image.get("User", ""),
        "Env": process.get("env", [*(image.get("Env") or []), *own]),
        "Entrypoint": entrypoint,
        "Cmd": command,
        "Image": made.image,
        "WorkingDir": process.get("cwd", request.workdir or image.get("WorkingDir", "") or "/"),
        "Tty": request.terminal,
        "OpenStdin": request.interactive,
        "Labels": {**(image.get("Labels") or {}), **dict(request.labels)},
        "Annotations": dict(request.annotations),
        "StopSignal": request.stop_signal,
        "StopTimeout": request.stop_timeout,
    }


def _host_config(context: Context, made: Container) -> dict[str, Any]:
    request = made.request
    network = request.namespaces.network or context.settings.network or "slirp4netns"
    return {
        "NetworkMode": network,
        "PidMode": request.namespaces.pid or "private",
        "IpcMode": request.namespaces.ipc or "private",
        "UTSMode": request.namespaces.uts or "private",
        "UsernsMode": request.namespaces.user or "",
        "CgroupMode": request.namespaces.cgroup or "private",
        "AutoRemove": request.remove,
        "Privileged": request.privileged,
        "ReadonlyRootfs": request.read_only,
        "Init": request.init,
        "CapAdd": list(request.cap_add),
        "CapDrop": list(request.cap_drop),
        "GroupAdd": list(request.groups),
        "SecurityOpt": [
            *(["no-new-privileges"] if request.no_new_privileges else []),
            *([f"seccomp={request.seccomp_profile}"] if request.seccomp_profile else []),
        ],
        "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in request.ulimits],
        "Sysctls": dict(request.sysctls),
        "ShmSize": request.shm_size,
        "Dns": list(request.dns),
        "DnsSearch": list(request.dns_search),
        "DnsOptions": list(request.dns_options),
        "ExtraHosts": [f"{name}:{address}" for name, address in request.add_hosts],
        "Devices": [
            {
                "PathOnHost": device.source,
                "PathInContainer": device.target,
                "CgroupPermissions": device.permissions,
            }
            for device in request.devices
        ],
        "LogConfig": {"Type": request.log_driver, "Config": dict(request.log_options)},
    }
