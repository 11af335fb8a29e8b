"""What a user asks for with `rl run` and `rl create`, after parsing and before any decision.

`cli` makes a `CreateRequest` from words; `engine.spec` makes an OCI runtime spec of it and the image's config. Values are
validated and normalised, but nothing in here knows the image or the host. Hot path: NamedTuple, no dataclasses.
"""

from typing import Any, Literal, NamedTuple

from ..network.ports import PublishedPort


class Mount(NamedTuple):
    """One of -v, --mount, --tmpfs.

    kind: bind (a host path), volume (named, or anonymous where source is None), tmpfs.
    source: absolute host path, volume name, or None. target: absolute path in the container.
    options: mount options in the OCI spec's words (`ro`, `rbind`, `rslave`, `noexec`, `size=64m`, `mode=1777` …), plus ours: `U`
    (chown the source to the container's user), `nocopy`. make_source: create a missing bind source as a directory (-v does, --mount does not).
    """

    kind: Literal["bind", "volume", "tmpfs"]
    source: str | None
    target: str
    options: tuple[str, ...] = ()
    make_source: bool = False


class Device(NamedTuple):
    """--device SOURCE[:TARGET[:PERMISSIONS]]; permissions is a subset of `rwm`."""

    source: str
    target: str
    permissions: str = "rwm"


class Ulimit(NamedTuple):
    """--ulimit; name without RLIMIT_ in lower case (`nofile`); -1 is unlimited; name `host` copies the caller's limits."""

    name: str
    soft: int
    hard: int


class Namespaces(NamedTuple):
    """Namespace modes in the user's words: `private`, `host`, `none`, `container:NAME`, `ns:/path`, `slirp4netns[:opt=value,…]`; None is the default."""

    network: str | None = None
    pid: str | None = None
    ipc: str | None = None
    uts: str | None = None
    user: str | None = None
    cgroup: str | None = None


class CreateRequest(NamedTuple):
    """Everything that `rl create` can be told. Tuples keep the order of the command line; None is "not said"."""

    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None  # () clears the image's
    name: str | None = None
    interactive: bool = False
    terminal: bool = False
    detach: bool = False
    remove: bool = False
    environment: tuple[
        tuple[str, str | None], ...
    ] = ()  # (name, None) copies the caller's variable where set; a name ending in * copies all that match
    workdir: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()  # --group-add; `keep-groups` is a word
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    publish_all: bool = False
    expose: tuple[tuple[int, str], ...] = ()  # (port, "tcp" | "udp")
    namespaces: Namespaces = Namespaces()
    hostname: str | None = None
    add_hosts: tuple[tuple[str, str], ...] = ()  # (name, address or "host-gateway")
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    init: bool = False
    cap_add: tuple[str, ...] = ()  # upper case, without CAP_; `ALL` is a word
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp_profile: str | None = None  # None: the default; `unconfined`; or a path
    masked_paths: tuple[str, ...] = ()  # --security-opt mask=
    unmasked_paths: tuple[str, ...] = ()  # --security-opt unmask=; `ALL` is a word
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    shm_size: int | None = None  # bytes
    pull: Literal["missing", "always", "never", "newer"] = "missing"
    platform: str | None = None
    tls_verify: bool | None = None
    quiet: bool = False
    cidfile: str | None = None
    pidfile: str | None = None
    stop_signal: int | None = None
    stop_timeout: int = 10  # seconds
    sig_proxy: bool = True
    detach_keys: str = "ctrl-p,ctrl-q"
    oom_score_adj: int | None = None
    umask: int = 0o022
    log_driver: str = "k8s-file"
    log_options: tuple[tuple[str, str], ...] = ()
    storage_driver: str | None = None


def to_json(request: CreateRequest) -> dict[str, Any]:
    """As it is kept in container.json: only what differs from "not said"."""
    defaults = CreateRequest._field_defaults
    kept = {name: value for name, value in request._asdict().items() if name == "image" or value != defaults[name]}
    for name in _NESTED:
        if name in kept:
            kept[name] = [value._asdict() for value in kept[name]]
    if "namespaces" in kept:
        kept["namespaces"] = request.namespaces._asdict()
    return kept


def from_json(document: dict[str, Any]) -> CreateRequest:
    """The reverse of `to_json`. Raises KeyError or TypeError for what is no request."""
    fields = dict(document)
    for name, value in fields.items():
        if name in _NESTED:
            fields[name] = tuple(_NESTED[name](**_tuples(entry)) for entry in value)
        elif name == "namespaces":
            fields[name] = Namespaces(**value)
        elif isinstance(value, list):
            fields[name] = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
    return CreateRequest(**fields)


_NESTED: dict[str, Any] = {"mounts": Mount, "devices": Device, "ulimits": Ulimit, "ports": PublishedPort}


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
