"""From the words of `rl run` and `rl create` to a `CreateRequest`: every value checked and normalised. Hot.

A wrong value is a UsageError that names the option and the value. Forms are those of docker-run(1) and podman-run(1). What only an image or the host can
tell is left to the engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ..engine.request import CreateRequest, Device, Mount, Namespaces, Ulimit
from ..errors import UsageError, reason
from ..network import modes, ports
from .units import parse_size

_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME = _NAME_FIRST | frozenset("_.-")

_MOUNT_OPTIONS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev bind rbind private rprivate shared rshared slave rslave unbindable runbindable "
    "nocopy copy U z Z".split()
)
_IGNORED_MOUNT_OPTIONS = frozenset(("cached", "delegated", "consistent", "default"))  # of Docker on a Mac
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")

_LOG_DRIVERS = {"k8s-file": "k8s-file", "json-file": "k8s-file", "none": "none"}  # json-file: so does Podman
_UMASK: int = CreateRequest._field_defaults["umask"]
_LOG_DRIVER: str = CreateRequest._field_defaults["log_driver"]


def create_request(
    image: str,
    command: tuple[str, ...],
    values: dict[str, Any],
    *,
    detach: bool = False,
    storage_driver: str | None = None,
) -> CreateRequest:
    """values: of every option in `create_options.CREATE_OPTIONS`, as the parsers give them. storage_driver: the global option."""
    security = _security(values["security_opt"])
    return CreateRequest(
        image=image,
        command=command,
        entrypoint=_entrypoint(values["entrypoint"]),
        name=values["name"],
        interactive=values["interactive"],
        terminal=values["tty"],
        detach=detach,
        remove=values["rm"],
        environment=environment(values["env"], values["env_file"]),
        workdir=_absolute("--workdir", values["workdir"]),
        user=values["user"],
        groups=values["group_add"],
        mounts=_mounts(values),
        devices=tuple(_device(word) for word in values["device"]),
        ports=tuple(port for word in values["publish"] for port in ports.parse(word)),
        publish_all=values["publish_all"],
        expose=tuple(port for word in values["expose"] for port in ports.parse_expose(word)),
        namespaces=_namespaces(values),
        hostname=values["hostname"],
        add_hosts=tuple(host for word in values["add_host"] for host in _add_host(word)),
        dns=tuple(_address("--dns", word) for word in values["dns"]),
        dns_search=values["dns_search"],
        dns_options=values["dns_option"],
        labels=_labels(values["label"], values["label_file"]),
        annotations=tuple(_pair("--annotation", word) for word in values["annotation"]),
        read_only=values["read_only"],
        init=values["init"],
        cap_add=_capabilities(values["cap_add"]),
        cap_drop=_capabilities(values["cap_drop"]),
        privileged=values["privileged"],
        no_new_privileges=security["no_new_privileges"],
        seccomp_profile=security["seccomp_profile"],
        masked_paths=security["masked_paths"],
        unmasked_paths=security["unmasked_paths"],
        ulimits=tuple(_ulimit(word) for word in values["ulimit"]),
        sysctls=tuple(_pair("--sysctl", word) for word in values["sysctl"]),
        shm_size=values["shm_size"],
        pull=values["pull"],
        platform=_platform(values["platform"]),
        tls_verify=values["tls_verify"],
        quiet=values["quiet"],
        cidfile=_file("--cidfile", values["cidfile"]),
        pidfile=_file("--pidfile", values["pidfile"]),
        stop_signal=_signal(values["stop_signal"]),
        stop_timeout=_between("--stop-timeout", values["stop_timeout"], -1, 2**31 - 1),
        sig_proxy=values["sig_proxy"],
        detach_keys=values["detach_keys"],
        oom_score_adj=_between("--oom-score-adj", values["oom_score_adj"], -1000, 1000),
        umask=_umask(values["umask"]),
        log_driver=_log_driver(values["log_driver"]),
        log_options=tuple(_pair("--log-opt", word) for word in values["log_opt"]),
        storage_driver=storage_driver,
    )


def environment(pairs: Iterable[str], files: Iterable[str]) -> tuple[tuple[str, str | None], ...]:
    """-e and --env-file: the files come first, so that a word of the command line overrules them."""
    found = [_variable(line, f"{path}:{number}") for path in files for number, line in _lines("--env-file", path)]
    return (*found, *(_variable(word, "--env") for word in pairs))


# ---- words in general


def _refuse(option: str, word: str, why: str, *, hint: str | None = None) -> NoReturn:
    raise UsageError(f"invalid value {word!r} for {option}: {why}", hint=hint)


def _later(option: str, word: str, *, hint: str | None = None) -> NoReturn:
    raise UsageError(f"{option} {word} is not supported yet", hint=hint)


def _is_name(text: str) -> bool:
    return bool(text) and text[0] in _NAME_FIRST and _NAME.issuperset(text)


def _pair(option: str, word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        _refuse(option, word, "write KEY=VALUE")
    return key, value


def _absolute(option: str, path: str | None) -> str | None:
    if path is not None and not path.startswith("/"):
        _refuse(option, path, "it must be an absolute path in the container")
    return path


def _file(option: str, path: str | None) -> str | None:
    if path == "":
        _refuse(option, path, "it is empty")
    return None if path is None else os.path.abspath(path)


def _between(option: str, number: Any, low: int, high: int) -> Any:
    if number is not None and not low <= number <= high:
        _refuse(option, str(number), f"it is between {low} and {high}")
    return number


def _host_path(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _lines(option: str, path: str) -> list[tuple[int, str]]:
    """(number, text) of the lines of a file that hold something: not empty, not a comment."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot read {path} of {option}: {reason(error)}") from error
    lines = ((number, line.rstrip("\r").lstrip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _variable(word: str, where: str) -> tuple[str, str | None]:
    name, equals, value = word.partition("=")
    if not name or any(character.isspace() for character in name) or "\0" in word:
        _refuse(where, word, "write NAME=VALUE, or NAME alone to pass on the caller's")
    return name, value if equals else None


def _label(word: str, where: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    if not key:
        _refuse(where, word, "write KEY=VALUE, or KEY alone")
    return key, value


def _labels(pairs: Iterable[str], files: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found = [_label(line, f"{path}:{number}") for path in files for number, line in _lines("--label-file", path)]
    return (*found, *(_label(word, "--label") for word in pairs))


# ---- what runs


def _entrypoint(word: str | None) -> tuple[str, ...] | None:
    if word is None:
        return None
    if not word:
        return ()
    if not word.startswith("["):
        return (word,)
    import json

    try:
        items = json.loads(word)
    except ValueError:
        return (word,)  # a program may be called so
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        _refuse("--entrypoint", word, "a JSON list has strings only")
    return tuple(items)


def _platform(word: str | None) -> str | None:
    if word is None:
        return None
    from ..oci.platform import parse_platform

    return str(parse_platform(word))


def _signal(word: str | None) -> int | None:
    if word is None:
        return None
    from .signals import signal_number

    return signal_number(word, "--stop-signal")


def _umask(word: str | None) -> int:
    if word is None:
        return _UMASK
    if not word or len(word) > 4 or not set(word) <= set("01234567") or int(word, 8) > 0o777:
        _refuse("--umask", word, "write an octal number up to 0777")
    return int(word, 8)


def _log_driver(word: str | None) -> str:
    if word is None:
        return _LOG_DRIVER
    if word not in _LOG_DRIVERS:
        _refuse("--log-driver", word, "it is k8s-file or none")
    return _LOG_DRIVERS[word]


# ---- mounts and devices


def _mounts(values: dict[str, Any]) -> tuple[Mount, ...]:
    mounts = (
        *(_mount(word) for word in values["mount"]),
        *(_volume(word) for word in values["volume"]),
        *(_tmpfs(word) for word in values["tmpfs"]),
    )
    seen: set[str] = set()
    for mount in mounts:
        target = os.path.normpath(mount.target)
        if target in seen:
            raise UsageError(f"two mounts at {target}", hint="give each of -v, --mount and --tmpfs a path of its own")
        seen.add(target)
    return mounts


def _target(option: str, word: str, path: str) -> str:
    if not path.startswith("/"):
        _refuse(option, word, f"the path in the container, {path!r}, is not absolute")
    if not path.strip("/"):
        _refuse(option, word, "the root of the container cannot be mounted over")
    return path


def _volume(word: str) -> Mount:
    """-v SOURCE:TARGET[:OPTIONS] or -v TARGET."""
    source, *rest = word.split(":")
    if not rest:
        return Mount("volume", None, _target("--volume", word, source))
    if len(rest) > 2:
        _refuse("--volume", word, "write SOURCE:PATH or SOURCE:PATH:OPTIONS")
    target = _target("--volume", word, rest[0])
    options = tuple(
        option
        for option in (rest[1].split(",") if len(rest) == 2 else ())
        if option and option not in _IGNORED_MOUNT_OPTIONS
    )
    for option in options:
        if option == "O" or option.startswith(("upperdir=", "workdir=", "idmap")):
            _later("--volume", word)
        if option not in _MOUNT_OPTIONS:
            _refuse(
                "--volume", word, f"unknown option {option!r}", hint="options are ro, rw, U, nocopy, noexec, rslave …"
            )
    if source.startswith(("/", ".", "~")):
        return Mount("bind", _host_path(source), target, options, make_source=True)
    if not source:
        _refuse("--volume", word, "the source is missing")
    if not _is_name(source):
        hint = f"for a directory of the host write ./{source}" if "/" in source else None
        _refuse("--volume", word, f"{source!r} is not the name of a volume", hint=hint)
    return Mount("volume", source, target, options)


def _tmpfs(word: str) -> Mount:
    target, _, options = word.partition(":")
    return Mount(
        "tmpfs", None, _target("--tmpfs", word, target), tuple(option for option in options.split(",") if option)
    )


_MOUNT_KEYS = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly", "chown": "U",
}  # fmt: skip
_FLAGS = (
    "readonly",
    "rw",
    "U",
    "volume-nocopy",
    "bind-nonrecursive",
    "noexec",
    "nosuid",
    "nodev",
    "exec",
    "suid",
    "dev",
)


def _mount(word: str) -> Mount:
    """--mount: comma-separated KEY=VALUE, quoted as in CSV."""
    fields: dict[str, str] = {}
    options: list[str] = []
    for field in _csv(word):
        key, equals, value = field.partition("=")
        key = _MOUNT_KEYS.get(key.lower(), key if key == "U" else key.lower())
        if key in ("volume-opt", "volume-label", "volume-driver", "volume-subpath", "subpath"):
            _later("--mount", key)
        if key in fields:
            _refuse("--mount", word, f"{key} is given twice")
        if not equals and key not in _FLAGS:
            _refuse("--mount", word, f"{field!r} is not KEY=VALUE")
        fields[key] = value if equals else "true"
    kind = fields.pop("type", "volume")
    if kind not in ("bind", "volume", "tmpfs"):
        if kind in ("image", "devpts", "ramfs", "glob", "npipe", "cluster"):
            _later("--mount", f"type={kind}")
        _refuse("--mount", word, f"unknown type {kind!r}: it is bind, volume or tmpfs")
    if "target" not in fields:
        _refuse("--mount", word, "target is missing")
    target = _target("--mount", word, fields.pop("target"))
    source = fields.pop("source", None) or None
    for key, value in fields.items():
        options += _mount_option(word, kind, key, value)
    if kind == "bind":
        if source is None:
            _refuse("--mount", word, "a bind mount needs a source")
        return Mount("bind", _host_path(source), target, tuple(options))
    if kind == "tmpfs":
        if source is not None:
            _refuse("--mount", word, "a tmpfs has no source")
        return Mount("tmpfs", None, target, tuple(options))
    if source is not None and not _is_name(source):
        _refuse(
            "--mount",
            word,
            f"{source!r} is not the name of a volume",
            hint="for a directory of the host write type=bind",
        )
    return Mount("volume", source, target, tuple(options))


def _mount_option(word: str, kind: str, key: str, value: str) -> tuple[str, ...]:
    """The mount options that one key of --mount stands for."""
    if key in _FLAGS:
        if value.lower() not in ("true", "false", "1", "0"):
            _refuse("--mount", word, f"{key} is true or false")
        said = value.lower() in ("true", "1")
        if key in ("readonly", "rw"):
            return ("ro",) if said == (key == "readonly") else ("rw",)
        option = {"volume-nocopy": "nocopy", "bind-nonrecursive": "bind"}.get(key, key)
        return (option,) if said else ()
    if kind == "bind" and key == "bind-propagation":
        if value not in _PROPAGATIONS:
            _refuse("--mount", word, f"bind-propagation is one of {', '.join(_PROPAGATIONS)}")
        return (value,)
    if kind == "bind" and key == "consistency":
        return ()
    if kind == "bind" and key == "relabel" and value in ("shared", "private"):
        return ("z",) if value == "shared" else ("Z",)
    if kind == "tmpfs" and key == "tmpfs-size":
        try:
            return (f"size={parse_size(value)}",)
        except ValueError as error:
            _refuse("--mount", word, f"tmpfs-size {value!r}: {error}")
    if kind == "tmpfs" and key == "tmpfs-mode":
        if not value or not set(value) <= set("01234567") or int(value, 8) > 0o7777:
            _refuse("--mount", word, "tmpfs-mode is an octal number")
        return (f"mode={value}",)
    _refuse("--mount", word, f"{key!r} is no key of a {kind} mount")


def _csv(word: str) -> Sequence[str]:
    if '"' not in word:
        return word.split(",")
    import csv

    try:
        return next(csv.reader([word], strict=True))
    except csv.Error as error:
        _refuse("--mount", word, str(error))


def _device(word: str) -> Device:
    source, *rest = word.split(":")
    if not source.startswith("/"):
        if "=" in source:
            _later(
                "--device", word, hint="devices of the Container Device Interface come later; name the device's path"
            )
        _refuse("--device", word, "the device of the host is not an absolute path")
    permissions = rest.pop() if rest and rest[-1] and set(rest[-1]) <= set("rwm") else "rwm"
    target = rest.pop() if rest else source
    if rest or not target.startswith("/"):
        _refuse("--device", word, "write HOST, HOST:CONTAINER or HOST:CONTAINER:rwm with absolute paths")
    return Device(source, target, permissions)


# ---- namespaces and network


def _namespaces(values: dict[str, Any]) -> Namespaces:
    return Namespaces(
        network=_network(values["network"]),
        pid=_mode("--pid", values["pid"], "private", "host"),
        ipc=_mode("--ipc", values["ipc"], "private", "none", "host", "shareable"),
        uts=_mode("--uts", values["uts"], "private", "host"),
        user=_user_namespace(values["userns"]),
        cgroup=_mode("--cgroupns", values["cgroupns"], "private", "host"),
    )


def _mode(option: str, word: str | None, *modes: str) -> str | None:
    if not word:
        return None
    kind, colon, value = word.partition(":")
    if word in modes or (kind == "ns" and value.startswith("/")) or (kind == "container" and value):
        return word
    if kind == "container" and colon:
        _refuse(option, word, "the name of the container is missing")
    _refuse(option, word, f"it is one of {', '.join(modes)}, container:NAME, ns:/PATH")


def _network(word: str | None) -> str | None:
    if not word:
        return None
    modes.parse(word)
    return word


def _user_namespace(word: str | None) -> str | None:
    if not word or word in ("host", "private"):
        return "host" if word == "host" else None
    if word.partition(":")[0] in ("keep-id", "auto", "nomap", "container", "ns"):
        _later("--userns", word, hint="leave it out, or write --userns host")
    _refuse("--userns", word, "it is host, or left out")


def _address(option: str, word: str) -> str:
    address = ports.canonical_ip(word.removeprefix("[").removesuffix("]"))
    if address is None:
        _refuse(option, word, "it is not a numeric IP address")
    return address


def _add_host(word: str) -> list[tuple[str, str]]:
    """--add-host NAME:IP or NAME=IP; several names with `;` between them."""
    separator = "=" if "=" in word and (":" not in word or word.index("=") < word.index(":")) else ":"
    names, found, address = word.partition(separator)
    if not found or not all(names.split(";")):
        _refuse("--add-host", word, "write NAME:IP")
    if address != "host-gateway":
        address = _address("--add-host", address)
    return [(name, address) for name in names.split(";")]


# ---- security and limits


def _capabilities(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        return ()
    from ..runtime.capabilities import parse

    return tuple(parse(name) for word in names for name in word.split(","))


def _security(options: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "no_new_privileges": False,
        "seccomp_profile": None,
        "masked_paths": (),
        "unmasked_paths": (),
    }
    for word in options:
        separator = "=" if "=" in word else ":"
        key, said, value = word.partition(separator)
        if key == "no-new-privileges" and value in ("", "true", "false"):
            found["no_new_privileges"] = value != "false"
        elif key == "seccomp" and value:
            found["seccomp_profile"] = (
                None if value == "default" else value if value == "unconfined" else _host_path(value)
            )
        elif key == "mask" and value:
            found["masked_paths"] += _paths(word, value)
        elif key == "unmask" and value:
            found["unmasked_paths"] += ("ALL",) if value.upper() == "ALL" else _paths(word, value)
        elif key == "systempaths" and value == "unconfined":
            found["unmasked_paths"] += ("ALL",)
        elif key in ("label", "apparmor", "proc-opts", "writable-cgroups") and said:
            # Turning off what we do not turn on is no news; anything else would promise a protection that is not there.
            if (key, value) not in (("label", "disable"), ("apparmor", "unconfined")):
                _later("--security-opt", word)
        else:
            _refuse("--security-opt", word, "it is no-new-privileges, seccomp=…, mask=… or unmask=…")
    return found


def _paths(word: str, text: str) -> tuple[str, ...]:
    paths = tuple(text.split(":"))
    if not all(path.startswith("/") for path in paths):
        _refuse("--security-opt", word, "write absolute paths with : between them")
    return paths


def _ulimit(word: str) -> Ulimit:
    if word == "host":
        return Ulimit("host", -1, -1)
    name, _, limits = word.partition("=")
    soft, colon, hard = limits.partition(":")
    low = _limit(word, soft)
    high = _limit(word, hard) if colon else low
    if not name or (high != -1 and (low == -1 or low > high)):
        _refuse("--ulimit", word, "the soft limit is above the hard limit" if name else "the name is missing")
    return Ulimit(name.lower().removeprefix("rlimit_"), low, high)


def _limit(word: str, text: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        _refuse("--ulimit", word, "write NAME=SOFT or NAME=SOFT:HARD with numbers, -1 for unlimited")
    return int(text)
