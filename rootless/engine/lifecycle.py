"""From a request to a running container: create, start, run. What can be done to one then is in `ending`, and has its names here too.

The order of `_launch` is the order of docs/architecture.md, "Processes of `rl run alpine true`".
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _lowlevel
from ..errors import Conflict, Error, HostError, StoreError, UsageError, reason
from ..network import modes, resolver
from ..paths import Paths
from ..runtime import capabilities, native, seccomp, users
from ..runtime import compile as compiler
from ..slirp import process as slirp
from ..store import lock, record
from ..userns import enter
from . import attach, container, facts, image, rootfs, sources, spec
from .container import Container, State
from .ending import anonymous_volumes, changing, end_survivor, kill, remove, remove_runtime, stop, wait
from .engine import Engine
from .monitor import Connection
from .request import CreateRequest

if TYPE_CHECKING:
    from ..oci import runtime as oci

_RESOLV, _HOSTS, _HOSTNAME = "resolv.conf", "hosts", "hostname"


class Attach(NamedTuple):
    """How the caller's terminal is connected while a container runs in the foreground."""

    stdin: bool
    terminal: bool
    detach_keys: bytes
    sig_proxy: bool


# ---- create


def create(engine: Engine, request: CreateRequest) -> Container:
    """Make a container; nothing runs yet. Its image is fetched where the request's pull policy says so."""
    paths = engine.paths
    if request.name is not None:
        container.check_name(request.name)
    attach.parse_detach_keys(request.detach_keys)
    if request.namespaces.network is None:
        request = request._replace(namespaces=request.namespaces._replace(network=engine.settings.network))
    request = request._replace(
        mounts=tuple(mount._replace(target=spec.normal(mount.target)) for mount in request.mounts)
    )
    sources.check(request)
    mode = modes.parse(request.namespaces.network)
    if not mode.private and (request.ports or request.publish_all) and mode.kind != "host":
        raise UsageError(
            f"--publish has no effect on --network {request.namespaces.network}: the ports are the other container's"
        )
    for words in _joined_containers(request).values():
        container.resolve(paths, words)
    if request.cidfile and os.path.lexists(request.cidfile):
        raise Conflict(f"the --cidfile {request.cidfile} exists", hint="remove it where no container needs it any more")
    stored = image.ensure(
        paths,
        request.image,
        policy=request.pull,
        platform=request.platform,
        tls_verify=request.tls_verify,
        settings=engine.settings,
        on_event=engine.on_event,
    )
    config = stored.config.get("config") or {}
    command = spec.command(request, config)  # an image without a command is refused here, not when it starts
    ports = _published(engine, request, config, mode)
    container_id = container.new_id()
    # Not all of the image's layers: those below one with an opaque root show nothing.
    mounted = tuple(chain_id for chain_id in stored.chain_ids if paths.layer_diff(chain_id) in stored.layer_dirs)
    with container.Draft(paths, container_id) as draft:
        name = draft.take_name(request.name)
        made = Container(
            id=container_id,
            name=name,
            image=request.image,
            image_id=stored.id,
            command=tuple(command),
            layers=mounted,
            created=now(),
            driver=rootfs.driver(engine, request.storage_driver),
            mapping=stored.unpacked or "full",
            ports=ports,
            volumes=_volumes(engine, request, config),
            config=config,
            request=request,
        )
        # From here on the layers are in use; an rmi that looked before holds the lock until it has removed what it meant to.
        with lock.locked(paths.image_index_lock, shared=True):
            if not all(map(os.path.isdir, stored.layer_dirs)):
                raise Conflict(f"the image {request.image} was removed meanwhile", hint="try again")
            if request.cidfile:
                _write(request.cidfile, container_id, "--cidfile", mode="x")
            draft.commit(made, durable=not request.remove)
    return made


def now() -> str:
    """RFC 3339 in UTC with nanoseconds, as the monitor writes times."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"


def _published(
    engine: Engine, request: CreateRequest, config: Mapping[str, Any], mode: modes.NetworkMode
) -> tuple[Any, ...]:
    if not (request.ports or request.publish_all):
        return ()
    if mode.kind != "slirp4netns":
        engine.note(f"no port is published: the network {request.namespaces.network} has none of its own to publish")
        return ()
    from ..network import hostports
    from ..network.ports import PublishedPort, parse_expose

    wanted = list(request.ports)
    if request.publish_all:
        exposed = [*request.expose]
        for words in config.get("ExposedPorts") or ():
            exposed += parse_expose(words)
        taken = {(port.container_port, port.protocol) for port in wanted}
        wanted += [
            PublishedPort(None, None, number, "udp" if protocol == "udp" else "tcp")
            for number, protocol in dict.fromkeys(exposed)
            if (number, protocol) not in taken
        ]

    def holder(port: PublishedPort) -> str | None:
        return _publisher(engine.paths, port)

    if notice := hostports.notice(wanted, mode):
        engine.note(notice)
    return hostports.assign(wanted, holder=holder)


def _publisher(paths: Paths, port: Any) -> str | None:
    """Which running container publishes a port of the host, in words."""
    for container_id in container.identifiers(paths):
        if not container.state(paths, container_id).running:
            continue
        other = container.load(paths, container_id)
        if any(held.host_port == port.host_port and held.protocol == port.protocol for held in other.ports):
            return f"container {other.name}"
    return None


def _volumes(engine: Engine, request: CreateRequest, config: Any) -> dict[str, str]:
    """target -> name of every volume that the container uses, the anonymous ones named now."""
    wanted = {mount.target: mount.source for mount in request.mounts if mount.kind == "volume"}
    wanted |= dict.fromkeys(spec.image_volumes(request, config))
    return {target: name or os.urandom(32).hex() for target, name in wanted.items()}


# ---- start


def run(engine: Engine, request: CreateRequest, attached: Attach | None) -> tuple[Container, int | None]:
    """Create and start. With `attached`: also wait for its end; the exit code (None: detached, or nobody saw the end).

    What could not be started is removed again, unless its command could not be executed: that container stays to be looked at, as Docker's does.
    """
    made = create(engine, request)
    try:
        return made, start(engine, made.id, attached)
    except Error as error:
        if error.exit_code == 125 and os.path.isdir(engine.paths.container(made.id)):
            remove(engine, made.id, force=True)
        raise


def start(engine: Engine, container_id: str, attached: Attach | None) -> int | None:
    """Start a container that does not run; with `attached` wait for its end and return its exit code. One that runs already is left alone."""
    paths = engine.paths
    made = container.load(paths, container_id)
    with changing(paths, container_id):
        if container.state(paths, container_id).running:
            return None
        monitor = _launch(engine, made, attached)
    if attached is None:
        monitor.detach()
        return None
    try:
        code = attach.follow(
            monitor.socket,
            stdin=attached.stdin,
            terminal=attached.terminal,
            detach_keys=attached.detach_keys,
            sig_proxy=attached.sig_proxy,
            send_signal=lambda number: _proxy_signal(paths, container_id, number),
        )
    except attach.Detached:
        monitor.detach()
        return None
    monitor.wait()
    return 137 if code is None else code


def _proxy_signal(paths: Paths, container_id: str, number: int) -> None:
    try:
        with Connection(paths, container_id) as connection:
            connection.signal(number)
    except Conflict:
        pass  # it has ended; its exit code is on its way to us


def _launch(engine: Engine, made: Container, attached: Attach | None) -> native.Monitor:
    """Everything between a container's files and its running command."""
    paths, request = engine.paths, made.request
    directory, runtime = paths.container(made.id), paths.runtime(made.id)
    sources.check(request)
    sources.make(request)
    joined = _joined(paths, request)
    with _namespace(engine, joined) as namespace:
        if namespace.notice:
            engine.note(namespace.notice)
        end_survivor(paths, made.id)
        remove_runtime(runtime)
        os.mkdir(runtime, 0o700)
        mounting = rootfs.mounting(paths, made)
        if engine.on_plan:
            engine.on_plan("root file system", mounting)
        monitor = native.Monitor(
            native.MonitorRequest(
                directory=directory,
                runtime=runtime,
                log=None if request.log_driver == "none" else f"{directory}/log",
                title=made.name,
                mounting=mounting,
                terminal=request.terminal,
                stdin=request.interactive,
                removal=native.Removal(
                    f"{paths.tmp}/{made.id}",
                    paths.name(made.name),
                    tuple(paths.volume(name) for name in anonymous_volumes(made)),
                )
                if request.remove
                else None,
            ),
            userns=namespace.fd,
            notes=engine.note,
        )
        try:
            config = made.config
            root = monitor.rootfs()
            try:
                wanted = request.user if request.user is not None else config.get("User") or ""
                user = container_user(root, wanted, groups=request.groups, namespace=namespace)
                volumes = _mounted_volumes(paths, made, namespace, root)
                owned = [volumes.get(mount.target) or mount.source for mount in request.mounts if "U" in mount.options]
                if owned:
                    sources.own(filter(None, owned), user.uid, user.gid, namespace=namespace)
            finally:
                os.close(root)
            host = facts.gather(request, namespace)
            compiled = spec.compile_spec(
                request,
                image=config,
                container_id=made.id,
                host=host,
                user=user,
                rootfs="rootfs",
                files=_write_files(engine, made, host.hostname),
                volumes=volumes,
                joined={kind: path for kind, (path, _) in joined.items()},
                console=attach.window_size(0) if request.terminal and attached else None,
                seccomp_profile=_seccomp_profile(request),
            )
            record.write(f"{directory}/config.json", compiled, durable=False)
            plan = compiler.container_plan(compiled, _surroundings(engine, made, compiled, namespace, joined))
            if engine.on_plan:
                engine.on_plan("container", plan)
            monitor.prepare(plan, compiler.clone_flags(compiled))
            pid, _ = monitor.ready()
            if made.ports:
                _open_ports(made, runtime)
            if request.pidfile:
                _write(request.pidfile, str(pid), "--pidfile")
            monitor.start_command()
        except BaseException:
            monitor.abort()
            raise
    return monitor


def container_user(
    root: int, wanted: str, *, groups: Sequence[str] = (), namespace: enter.UserNamespace
) -> users.ContainerUser:
    """The user that is meant by `wanted` (runtime/users.py) in the container whose root is open at `root`."""

    def look() -> users.ContainerUser:
        return users.resolve(root, wanted, open_in_root=_lowlevel.open_in_root, groups=groups)

    try:
        try:
            return look()
        except PermissionError:
            return enter.inside(namespace, look)
    except OSError as error:
        raise HostError(
            f"cannot read the users of the container: {reason(error)}", hint=enter.diagnose("mount", error.errno)
        ) from error


def _namespace(engine: Engine, joined: Mapping[str, tuple[str, State]]) -> enter.UserNamespace:
    """The user namespace: the shared one, or that of the container whose namespaces are joined, which must be the same."""
    for _, other in joined.values():
        return enter.of_process(other.monitor_pid, other.monitor_start_time)
    return enter.acquire(engine.paths)


def _joined_containers(request: CreateRequest) -> dict[str, str]:
    """namespace type -> the container, as the user named it."""
    return {
        kind: mode.removeprefix("container:")
        for kind, mode in zip(("network", "pid", "ipc", "uts"), request.namespaces[:4], strict=True)
        if mode is not None and mode.startswith("container:")
    }


def _joined(paths: Paths, request: CreateRequest) -> dict[str, tuple[str, State]]:
    """namespace type -> path of the namespace, and the state of its running container."""
    found = {}
    names = {"network": "net"}
    for kind, words in _joined_containers(request).items():
        other = container.state(paths, container.resolve(paths, words))
        if not other.running:
            raise Conflict(
                f"cannot join the {kind} namespace of container {words!r}: it is not running", hint=f"rl start {words}"
            )
        found[kind] = (f"/proc/{other.pid}/ns/{names.get(kind, kind)}", other)
    return found


def _mounted_volumes(paths: Paths, made: Container, namespace: enter.UserNamespace, root: int) -> dict[str, str]:
    if not made.volumes:
        return {}
    from . import volume

    plain = {mount.target for mount in made.request.mounts if "nocopy" in mount.options}
    return {
        target: volume.prepare(paths, name, namespace=namespace, root=root, content=None if target in plain else target)
        for target, name in made.volumes.items()
    }


def _write_files(engine: Engine, made: Container, host_name: str) -> spec.BundleFiles:
    """resolv.conf, hosts and hostname of the container, written beside its bundle; a container that joins a network has those of the other."""
    request, directory = made.request, engine.paths.container(made.id)
    mode = modes.parse(request.namespaces.network)
    if mode.kind == "container":
        directory = engine.paths.container(container.resolve(engine.paths, mode.target or ""))
    else:
        name = resolver.hostname(mode, requested=request.hostname, container_id=made.id, host_name=host_name)
        outgoing = resolver.outgoing_address() if mode.kind == "slirp4netns" else None
        texts = {
            _RESOLV: resolver.resolv_conf(
                mode,
                resolver.host_resolver(mode),
                dns=request.dns,
                search=request.dns_search,
                options=request.dns_options,
            ),
            _HOSTS: resolver.hosts(
                mode,
                (name, made.name),
                add_hosts=request.add_hosts,
                host_hosts=resolver.host_hosts(mode),
                host_address=resolver.host_address(mode, outgoing=outgoing),
            ),
            _HOSTNAME: f"{name}\n",
        }
        for file, text in texts.items():
            _replace_text(f"{directory}/{file}", text)
    return spec.BundleFiles(f"{directory}/{_RESOLV}", f"{directory}/{_HOSTS}", f"{directory}/{_HOSTNAME}")


def _replace_text(path: str, text: str) -> None:
    """A new file each time, readable by every user inside: root of the container may have given the old one to another owner."""
    try:
        if os.path.lexists(path):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(descriptor, 0o644)
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {reason(error)}") from error


def _seccomp_profile(request: CreateRequest) -> Mapping[str, Any] | None:
    if request.seccomp_profile in (None, "unconfined"):
        return None
    profile = record.read(request.seccomp_profile or "")
    if not isinstance(profile, dict):
        raise UsageError(f"the seccomp profile {request.seccomp_profile} does not exist or is not a JSON object")
    return profile


def _surroundings(
    engine: Engine,
    made: Container,
    compiled: oci.Spec,
    namespace: enter.UserNamespace,
    joined: Mapping[str, tuple[str, State]],
) -> compiler.Surroundings:
    mode = modes.parse(made.request.namespaces.network)
    network = None
    if mode.kind == "slirp4netns":
        program = slirp.find(f"{engine.paths.cache}/slirp4netns")
        api = slirp.API_SOCKET if made.ports else None  # relative: the monitor starts it in the runtime directory
        network = tuple(slirp.command(program, mode.slirp, api_socket=api))
    return compiler.Surroundings(
        rootfs=f"{engine.paths.container(made.id)}/rootfs",
        network=network,
        seccomp=seccomp_program(engine.paths, compiled, made.request),
        init=made.request.init,
        setgroups=namespace.setgroups,
        shared_memory=f"/proc/{joined['ipc'][1].pid}/ns/mnt" if "ipc" in joined else None,
    )


def seccomp_program(paths: Paths, compiled: oci.Spec, request: CreateRequest) -> tuple[bytes, int] | None:
    """The BPF program of a container's policy and the flags for seccomp(2); None where it runs without."""
    policy = compiled["linux"].get("seccomp")
    if policy is None:
        return None
    if request.seccomp_profile is not None:
        return seccomp.program(paths.seccomp_cache, policy), seccomp.flags(policy)
    allowed = capabilities.mask(compiled["process"].get("capabilities", {}).get("bounding", ()))
    system = os.uname()
    program = seccomp.default_program(
        paths.seccomp_cache, capabilities=allowed, architecture=system.machine, kernel=facts.kernel(system.release)
    )
    return program, seccomp.flags()


def _open_ports(made: Container, runtime: str) -> None:
    from ..slirp import api

    api.add_ports(
        f"{runtime}/{slirp.API_SOCKET}",
        [(port.protocol, port.host_ip, port.host_port or 0, port.container_port) for port in made.ports],
    )


def _write(path: str, text: str, option: str, *, mode: str = "w") -> None:
    try:
        with open(path, mode, encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {option} {path}: {reason(error)}") from error


def streams(request: CreateRequest, *, stdin: bool | None = None) -> Attach:
    """How the caller's terminal is connected to a container made by this request."""
    return Attach(
        stdin=request.interactive if stdin is None else stdin and request.interactive,
        terminal=request.terminal,
        detach_keys=attach.parse_detach_keys(request.detach_keys),
        sig_proxy=request.sig_proxy and not request.terminal,
    )


__all__: Sequence[str] = (
    "Attach", "create", "kill", "remove", "run", "start", "stop", "streams", "wait",
)  # fmt: skip
