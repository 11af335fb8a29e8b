"""Every path that rl keeps anything at. No other module joins these names.

The layout is drawn in docs/architecture.md. `Paths` is a value: making one touches nothing; `prepare()` makes the
directories and checks that they are ours.
"""

import os
import stat
from typing import NamedTuple

from .errors import HostError, StoreError

STORE_VERSION = "1"


class Paths(NamedTuple):
    """The four roots: `root` (durable data), `runroot` (gone at reboot), `cache` (can be made again), `config`."""

    root: str
    runroot: str
    cache: str
    config: str

    # ---- durable: $XDG_DATA_HOME/rl

    @property
    def version(self) -> str:
        return f"{self.root}/VERSION"

    @property
    def image_index(self) -> str:
        """index.json of the OCI image layout."""
        return f"{self.root}/index.json"

    @property
    def image_index_lock(self) -> str:
        return f"{self.root}/index.lock"

    @property
    def oci_layout(self) -> str:
        return f"{self.root}/oci-layout"

    @property
    def blobs(self) -> str:
        return f"{self.root}/blobs/sha256"

    def blob(self, digest: str) -> str:
        """digest: `sha256:<hex>`, already validated by `oci.descriptor.parse_digest`."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self.root}/blobs/{algorithm}/{encoded}"

    @property
    def layers(self) -> str:
        return f"{self.root}/layers"

    def layer(self, chain_id: str) -> str:
        """chain_id: `sha256:<hex>` or the bare hex."""
        return f"{self.root}/layers/{chain_id.rpartition(':')[2]}"

    def layer_diff(self, chain_id: str) -> str:
        return f"{self.layer(chain_id)}/diff"

    def layer_record(self, chain_id: str) -> str:
        return f"{self.layer(chain_id)}/layer.json"

    @property
    def containers(self) -> str:
        return f"{self.root}/containers"

    def container(self, container_id: str) -> str:
        return f"{self.root}/containers/{container_id}"

    def container_record(self, container_id: str) -> str:
        return f"{self.root}/containers/{container_id}/container.json"

    @property
    def names(self) -> str:
        return f"{self.root}/names"

    def name(self, name: str) -> str:
        return f"{self.root}/names/{name}"

    @property
    def volumes(self) -> str:
        return f"{self.root}/volumes"

    def volume(self, name: str) -> str:
        return f"{self.root}/volumes/{name}"

    @property
    def tmp(self) -> str:
        return f"{self.root}/tmp"

    @property
    def partial(self) -> str:
        """Downloads that can be resumed, named by their digest's hex."""
        return f"{self.root}/tmp/partial"

    def partial_blob(self, digest: str) -> str:
        return f"{self.partial}/{digest.rpartition(':')[2]}"

    # ---- volatile: $XDG_RUNTIME_DIR/rl

    @property
    def userns(self) -> str:
        return f"{self.runroot}/userns.json"

    @property
    def locks(self) -> str:
        return f"{self.runroot}/locks"

    @property
    def names_lock(self) -> str:
        return f"{self.locks}/names"

    def layer_lock(self, chain_id: str) -> str:
        return f"{self.locks}/layer-{chain_id.rpartition(':')[2]}"

    def runtime_containers(self) -> str:
        return f"{self.runroot}/containers"

    def runtime(self, container_id: str) -> str:
        """The runtime directory of one container: state.json, monitor.sock."""
        return f"{self.runroot}/containers/{container_id}"

    # ---- cache and settings

    @property
    def seccomp_cache(self) -> str:
        return f"{self.cache}/seccomp"

    @property
    def storage_probe(self) -> str:
        """What this host allows for root file systems, as found the last time."""
        return f"{self.cache}/storage.json"

    @property
    def settings_file(self) -> str:
        return f"{self.config}/config.toml"

    def prepare(self) -> None:
        """Make the directories of the store and the runtime directory, and check that they are ours.

        A store of another version, or a runtime directory that another user made, is refused.
        """
        try:
            with open(self.version, encoding="ascii", errors="replace") as file:
                found = file.read().strip()
        except FileNotFoundError:
            self._create_store()
        except OSError as error:
            raise StoreError(f"cannot read {self.version}: {error.strerror}") from error
        else:
            if found != STORE_VERSION:
                raise StoreError(
                    f"the store {self.root} has version {found!r}, this rl reads version {STORE_VERSION!r}",
                    hint="use the rl that made it, or another store with --root",
                )
        _private_directory(self.runroot)
        for directory in (self.runtime_containers(), self.locks):
            _make(directory)

    def _create_store(self) -> None:
        if os.path.isdir(self.root) and not all(map(_is_ours, os.listdir(self.root))):
            raise StoreError(
                f"the directory {self.root} is not empty and is not a store of rl",
                hint="name an empty or new directory with --root",
            )
        for directory in (self.root, self.blobs, self.layers, self.containers, self.names, self.volumes, self.partial):
            _make(directory)
        try:
            os.chmod(self.root, 0o700)
            # VERSION comes last: a store without it was never finished and is simply made again.
            _write_once(self.oci_layout, '{"imageLayoutVersion": "1.0.0"}')
            _write_once(self.version, STORE_VERSION + "\n")
        except OSError as error:
            raise StoreError(f"cannot make the store {self.root}: {error.strerror}") from error


_OURS = frozenset(
    (
        "VERSION",
        "oci-layout",
        "index.json",
        "index.lock",
        "blobs",
        "layers",
        "containers",
        "names",
        "volumes",
        "networks",
        "tmp",
    )
)


def _is_ours(entry: str) -> bool:
    """Whether a store that is being made may hold it: what `_write_once` makes on the way counts, also where its maker was killed."""
    name, _, suffix = entry.rpartition(".")
    return entry in _OURS or (name in _OURS and suffix.isdecimal())


def from_environment(root: str | None = None, runroot: str | None = None) -> Paths:
    """The paths by the XDG base directory specification, or under `root` and `runroot` where given (absolute or not).

    Without XDG_RUNTIME_DIR (ssh, su, cron, Slurm) the runtime directory is /tmp/rl-<uid>; `Paths.prepare` checks its owner and mode.
    """
    env = os.environ
    home = env.get("HOME") or _home()
    data = root or f"{_absolute(env.get('XDG_DATA_HOME')) or home + '/.local/share'}/rl"
    if runroot is None:
        runtime = _absolute(env.get("XDG_RUNTIME_DIR"))
        runroot = f"{runtime}/rl" if runtime and os.access(runtime, os.W_OK) else f"/tmp/rl-{os.getuid()}"
    return Paths(
        root=os.path.abspath(data),
        runroot=os.path.abspath(runroot),
        cache=f"{_absolute(env.get('XDG_CACHE_HOME')) or home + '/.cache'}/rl",
        config=f"{_absolute(env.get('XDG_CONFIG_HOME')) or home + '/.config'}/rl",
    )


def _absolute(path: str | None) -> str | None:
    """The XDG specification: a relative path in one of its variables is to be ignored."""
    return path if path and path.startswith("/") else None


def _home() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise HostError("HOME is not set and the user has no entry in the password database", hint="set HOME") from None


def _make(directory: str) -> None:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the directory {directory}: {error.strerror}") from error


def _private_directory(directory: str) -> None:
    """Make `directory` with mode 0700, or check that it is a directory of ours that nobody else can write to."""
    _make(os.path.dirname(directory))
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise HostError(
                f"the runtime directory {directory} is not a private directory of this user",
                hint="set XDG_RUNTIME_DIR, or name another with --runroot",
            ) from None
    except OSError as error:
        raise HostError(f"cannot make the runtime directory {directory}: {error.strerror}") from error


def _write_once(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
