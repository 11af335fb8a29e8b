"""slirp4netns(1): which program, and the words it is started with.

The monitor starts it, as uid 0 of the container's user namespace and in the host's network namespace, with three descriptors:
the container's network namespace, the pipe that it writes "1" to when the network is up, and the pipe whose end of life is its own.
"""

import _socket
import os
import stat
from typing import NamedTuple

from ..errors import HostError, reason

# The descriptors that RL_OP_NETWORK hands over (_lowlevel/core.h).
NETNS_FD = 5
READY_FD = 6
EXIT_FD = 7

TAP = "tap0"
API_SOCKET = "slirp.sock"  # in the container's runtime directory
OLDEST = (0, 4, 0)  # --netns-type=path, --enable-sandbox, and "ready" written only after the API socket listens

_INSTALL = "sudo apt-get install slirp4netns (Debian, Ubuntu) or sudo dnf install slirp4netns"


class SlirpOptions(NamedTuple):
    """What `--network slirp4netns:…` can say. `cidr` is a network address with a prefix of 1 to 25, checked by `network.modes`."""

    cidr: str = "10.0.2.0/24"
    mtu: int = 65520
    allow_host_loopback: bool = False
    enable_ipv6: bool = False
    outbound_addr: str | None = None
    outbound_addr6: str | None = None

    @property
    def gateway(self) -> str:
        """The router, and the host's 127.0.0.1 where that is allowed."""
        return self._address(2)

    @property
    def dns(self) -> str:
        """Where slirp4netns answers for the resolver of the host."""
        return self._address(3)

    @property
    def address(self) -> str:
        """The container's own."""
        return self._address(100)

    def _address(self, number: int) -> str:
        network = int.from_bytes(_socket.inet_aton(self.cidr.partition("/")[0]), "big")
        return _socket.inet_ntoa((network + number).to_bytes(4, "big"))


class Program(NamedTuple):
    """An executable slirp4netns. `seccomp`: whether it was built with libseccomp."""

    path: str
    version: tuple[int, int, int]
    seccomp: bool


def find(cache_file: str | None = None) -> Program:
    """The slirp4netns of PATH (or of /usr/sbin and the like), with its version.

    `slirp4netns --version` costs 2 ms, so the answer is kept in `cache_file` with what identifies the executable: path, device, inode, size and
    time of change. Raises HostError if there is none or it is older than `OLDEST`.
    """
    path = _which()
    status = os.stat(path)
    key = f"{path}\t{status.st_dev}\t{status.st_ino}\t{status.st_size}\t{status.st_ctime_ns}"
    program = _remembered(cache_file, key)
    if program is None:
        program = _parse_version(path, _version_text(path))
        if cache_file:
            _remember(cache_file, key, program)
    if program.version < OLDEST:
        raise HostError(
            f"{path} is version {_dotted(program.version)}, rl needs {_dotted(OLDEST)} or newer",
            hint=f"update it: {_INSTALL}",
        )
    return program


def command(program: Program, options: SlirpOptions, *, api_socket: str | None = None) -> list[str]:
    """The argv for RL_OP_NETWORK. `api_socket` only where ports are published: without it there is nothing to talk to.

    Time to ready, median of 15 on the development machine: 2.5 ms bare; seccomp adds 0.3, the sandbox 0.3, the API socket 0.1, together 3.4.
    Most of the rest is the dynamic linker (glib, libslirp), so nothing is worth leaving out. The MTU spares fragments and costs nothing.
    """
    if api_socket is not None and len(os.fsencode(api_socket)) > 107:
        raise HostError(
            f"the path {api_socket} is too long for a socket (unix(7): 107 bytes)",
            hint="name a shorter directory with --runroot",
        )
    if (options.outbound_addr or options.outbound_addr6) and program.version < (1, 1, 0):
        raise HostError(
            f"{program.path} is version {_dotted(program.version)}, outbound_addr needs 1.1.0",
            hint=f"update it: {_INSTALL}",
        )
    argv = [
        program.path,
        "--configure",
        "--netns-type=path",
        f"--ready-fd={READY_FD}",
        f"--exit-fd={EXIT_FD}",
        f"--mtu={options.mtu}",
    ]
    if options.cidr != SlirpOptions().cidr:
        argv.append(f"--cidr={options.cidr}")
    if not options.allow_host_loopback:
        argv.append("--disable-host-loopback")
    if options.enable_ipv6:
        argv.append("--enable-ipv6")
    if options.outbound_addr:
        argv.append(f"--outbound-addr={options.outbound_addr}")
    if options.outbound_addr6:
        argv.append(f"--outbound-addr6={options.outbound_addr6}")
    if _resolver_in_sandbox():
        argv.append("--enable-sandbox")
    if program.seccomp:
        argv.append("--enable-seccomp")
    if api_socket:
        argv.append(f"--api-socket={api_socket}")
    return [*argv, f"/proc/self/fd/{NETNS_FD}", TAP]


def _resolver_in_sandbox(resolv_conf: str = "/etc/resolv.conf") -> bool:
    """Whether the sandbox, which holds nothing but /etc and /run, still has the file that slirp4netns answers DNS from.

    WSL links it to /mnt/wsl; there slirp4netns starts without a word and no name resolves. It keeps its seccomp filter then, and its own mount
    view is lost: a network that works is what was asked for.
    """
    return os.path.realpath(resolv_conf).startswith(("/etc/", "/run/"))


def _which() -> str:
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/local/bin", "/usr/sbin"]:
        path = f"{directory}/slirp4netns"
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise HostError(
        "slirp4netns is not installed, so there is no network by default",
        hint=f"{_INSTALL}; or run with --network none or host",
    )


def _version_text(path: str) -> str:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(path, [path, "--version"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    except OSError as error:
        os.close(reader)
        raise HostError(f"cannot execute {path}: {reason(error)}") from error
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as pipe:
        text = pipe.read(4096)
    os.waitpid(pid, 0)
    return text


def _parse_version(path: str, text: str) -> Program:
    """Of `slirp4netns version 1.2.0`, then lines such as `libseccomp: 2.5.4`. Raises HostError where that is not what it says."""
    first, _, rest = text.partition("\n")
    numbers = first.rpartition(" ")[2].partition("+")[0].partition("-")[0].split(".")
    if (
        not first.startswith("slirp4netns version ")
        or len(numbers) != 3
        or not all(part.isdecimal() for part in numbers)
    ):
        raise HostError(f"cannot tell the version of {path}: it says {first[:80]!r}")
    major, minor, patch = (int(part) for part in numbers)
    return Program(path, (major, minor, patch), any(line.startswith("libseccomp: ") for line in rest.split("\n")))


def _remembered(cache_file: str | None, key: str) -> Program | None:
    if not cache_file:
        return None
    try:
        with open(cache_file, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            kept, _, rest = file.read(8192).decode("utf-8", "surrogateescape").partition("\n")
        major, minor, patch, seccomp = (int(word) for word in rest.split())
    except (OSError, ValueError):
        return None  # not there, or not ours: it is made again
    return Program(key.partition("\t")[0], (major, minor, patch), bool(seccomp)) if kept == key else None


def _remember(cache_file: str, key: str, program: Program) -> None:
    words = " ".join(str(int(number)) for number in (*program.version, program.seccomp))
    temporary = f"{cache_file}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(cache_file), mode=0o700, exist_ok=True)
        with open(temporary, "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{key}\n{words}\n")
        os.rename(temporary, cache_file)
    except OSError:
        return  # a home that cannot be written to costs the 2 ms each time, no more


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
