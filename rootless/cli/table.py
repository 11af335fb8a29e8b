"""Every command of rl, declared once. Importing this imports no handler. Hot."""

from __future__ import annotations

from types import MappingProxyType

from .command import Argument, Command, Option, choice, flag, integer, text
from .create_options import CREATE_OPTIONS, RUN_OPTIONS

GLOBAL_OPTIONS: tuple[Option, ...] = (
    text("--root", "Directory of images and containers", "DIRECTORY", completes="directory"),
    text("--runroot", "Directory of what is gone at reboot", "DIRECTORY", completes="directory"),
    choice("--storage-driver", "How root file systems are mounted (default: the best that works)", "overlay", "fuse-overlayfs", "fuse"),
    choice("--log-level", "Least important messages to print", "debug", "info", "warn", "error", default="info"),
    flag("-D --debug", "Print the plan of a container and the cause of an error"),
    flag("-v --version", "Print the version"),
)  # fmt: skip

GROUPS = MappingProxyType(
    {
        "container": "Manage containers",
        "image": "Manage images",
        "system": "Look at rl and its host",
    }
)

SECTIONS = ("Containers", "Images", "Registries", "System")

_CONTAINER = Argument("container", "CONTAINER", completes="container")
_CONTAINERS = Argument("containers", "CONTAINER", many=True, completes="container")
_RUNNING = Argument("containers", "CONTAINER", required=False, many=True, completes="running")
_IMAGE = Argument("image", "IMAGE", completes="image")
_COMMAND = Argument("command", "COMMAND [ARGUMENT]", required=False, remainder=True)

_LATEST = flag("-l --latest", "Act on the container that was made last")
_FORMAT = text("-f --format", "json, or a template such as '{{.Id}}'", "FORMAT")
_FILTER = text("-f --filter", "Show only what matches", "KEY=VALUE", many=True)
_NO_TRUNC = flag("--no-trunc", "Do not shorten ids and texts")
_QUIET_IDS = flag("-q --quiet", "Print ids only")
_QUIET = flag("-q --quiet", "Print no progress")
_TLS_VERIFY = flag("--tls-verify", "Require HTTPS and verify certificates", default=None)
_PLATFORM = text("--platform", "Platform of the image", "OS/ARCH[/VARIANT]")
_DETACH_KEYS = text("--detach-keys", "Keys that leave the container running", "KEYS", default="ctrl-p,ctrl-q")
_IGNORE = flag("-i --ignore", "Pass over containers that do not exist")

COMMANDS: tuple[Command, ...] = (
    Command(
        "run",
        "Run a command in a new container",
        "rootless.cli.container:run",
        (_IMAGE, _COMMAND),
        RUN_OPTIONS,
        aliases=("container run",),
        description="Options end at IMAGE: what follows it is the container's command.",
        examples=(
            ("A shell in a new container, removed at its end", "rl run --rm -it alpine sh"),
            ("A server in the background, reached at port 8080 of this host", "rl run -d --name web -p 8080:80 nginx"),
            ("Work on the current directory", "rl run --rm -v .:/work -w /work alpine ls -l"),
        ),
        section="Containers",
    ),
    Command(
        "create",
        "Make a container without starting it",
        "rootless.cli.container:create",
        (_IMAGE, _COMMAND),
        CREATE_OPTIONS,
        aliases=("container create",),
        section="Containers",
    ),
    Command(
        "start",
        "Start containers that were made or have ended",
        "rootless.cli.container:start",
        (_CONTAINERS,),
        (
            flag("-a --attach", "Stay with the container: show its output, end with its code"),
            flag("-i --interactive", "Pass standard input on; implies --attach"),
            _DETACH_KEYS,
            flag("--sig-proxy", "Pass signals on to the container", default=True),
        ),
        aliases=("container start",),
        section="Containers",
    ),
    Command(
        "exec",
        "Run a command in a running container",
        "rootless.cli.container:execute",
        (
            Argument("container", "CONTAINER", completes="running"),
            Argument("command", "COMMAND [ARGUMENT]", remainder=True),
        ),
        (
            flag("-d --detach", "Run in the background"),
            _DETACH_KEYS,
            text("-e --env", "Set a variable, or pass one on by its name alone", "NAME[=VALUE]", many=True),
            text("--env-file", "Set the variables in this file", "FILE", many=True, completes="file"),
            flag("-i --interactive", "Keep standard input open"),
            flag("--privileged", "Give the command all capabilities"),
            flag("-t --tty", "Give the command a terminal"),
            text("-u --user", "User and group", "USER[:GROUP]"),
            text("-w --workdir", "Working directory", "PATH"),
        ),
        aliases=("container exec",),
        examples=(("A second shell in the container web", "rl exec -it web sh"),),
        section="Containers",
    ),
    Command(
        "ps",
        "List containers",
        "rootless.cli.listing:ps",
        (),
        (
            flag("-a --all", "Show also those that do not run"),
            text("-f --filter", "Show only what matches: id, name, label, status, ancestor", "KEY=VALUE", many=True),
            text("--format", "json, or a template such as 'table {{.Names}}\\t{{.Status}}'", "FORMAT"),
            integer("-n --last", "Show the N containers that were made last, whatever their state", default=-1),
            flag("-l --latest", "Show the container that was made last, whatever its state"),
            _NO_TRUNC,
            _QUIET_IDS,
        ),
        aliases=("container ls", "container list", "container ps"),
        section="Containers",
    ),
    Command(
        "logs",
        "Show what a container wrote",
        "rootless.cli.output:logs",
        (_CONTAINER,),
        (
            flag("-f --follow", "Go on while the container runs"),
            text("--since", "Only what was written since: 2024-05-01T12:00:00Z, or 10m ago", "TIME"),
            text("-n --tail", "Only the last N lines", "N", default="all"),
            flag("-t --timestamps", "Say when each line was written"),
            text("--until", "Only what was written before", "TIME"),
        ),
        aliases=("container logs",),
        section="Containers",
    ),
    Command(
        "stop",
        "Stop containers: their stop signal, and after a while SIGKILL",
        "rootless.cli.container:stop",
        (_RUNNING,),
        (
            flag("-a --all", "Stop all running containers"),
            _IGNORE,
            integer("-t --time --timeout", "Seconds to wait before the kill; -1 to wait for ever", "SECONDS"),
        ),
        aliases=("container stop",),
        section="Containers",
    ),
    Command(
        "kill",
        "Send a signal to containers",
        "rootless.cli.container:kill",
        (_RUNNING,),
        (
            flag("-a --all", "Signal all running containers"),
            text("-s --signal", "Signal to send", "SIGNAL", default="KILL"),
        ),
        aliases=("container kill",),
        section="Containers",
    ),
    Command(
        "rm",
        "Remove containers",
        "rootless.cli.container:rm",
        (Argument("containers", "CONTAINER", required=False, many=True, completes="container"),),
        (
            flag("-a --all", "Remove all containers"),
            flag("-f --force", "Kill those that run; pass over those that do not exist"),
            _IGNORE,
            integer("-t --time", "Seconds to wait before the kill of --force", "SECONDS"),
            flag("-v --volumes", "Remove their anonymous volumes too"),
        ),
        aliases=("container rm", "container remove"),
        section="Containers",
    ),
    Command(
        "wait",
        "Wait for containers to end, print their exit codes",
        "rootless.cli.container:wait",
        (_CONTAINERS,),
        aliases=("container wait",),
        section="Containers",
    ),
    Command(
        "container inspect",
        "Show all about containers",
        "rootless.cli.inspection:container_inspect",
        (_CONTAINERS,),
        (_FORMAT,),
    ),
    Command(
        "inspect",
        "Show all about containers or images",
        "rootless.cli.inspection:inspect",
        (Argument("names", "NAME", many=True, completes="container"),),
        (_FORMAT, choice("--type", "Look only among these", "container", "image", "all", default="all")),
        section="Containers",
    ),
    Command(
        "pull",
        "Fetch images from a registry",
        "rootless.cli.image:pull",
        (Argument("images", "IMAGE", many=True, completes="image"),),
        (_PLATFORM, _QUIET, _TLS_VERIFY),
        aliases=("image pull",),
        section="Images",
    ),
    Command(
        "images",
        "List images",
        "rootless.cli.image:images",
        (Argument("repository", "REPOSITORY[:TAG]", required=False, completes="image"),),
        (
            flag("-a --all", "Accepted for Docker's sake: there are no hidden images"),
            flag("--digests", "Show digests"),
            _FILTER,
            text("--format", "json, or a template such as 'table {{.Repository}}\\t{{.Size}}'", "FORMAT"),
            _NO_TRUNC,
            _QUIET_IDS,
        ),
        aliases=("image ls", "image list"),
        section="Images",
    ),
    Command(
        "rmi",
        "Remove images, or names of them",
        "rootless.cli.image:rmi",
        (Argument("images", "IMAGE", required=False, many=True, completes="image"),),
        (
            flag("-a --all", "Remove all images"),
            flag("-f --force", "Remove also what containers use, and all names of an id"),
            flag("-i --ignore", "Pass over images that do not exist"),
        ),
        aliases=("image rm", "image remove"),
        section="Images",
    ),
    Command(
        "tag",
        "Give an image further names",
        "rootless.cli.image:tag",
        (_IMAGE, Argument("names", "NAME[:TAG]", many=True, completes="image")),
        aliases=("image tag",),
        section="Images",
    ),
    Command(
        "import",
        "Make an image from a tar archive or a directory",
        "rootless.cli.image:import_",
        (
            Argument("source", "FILE|DIRECTORY|-", completes="file"),
            Argument("name", "NAME[:TAG]", required=False, completes="image"),
        ),
        (
            text("-c --change", "Set a field of the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR", "INSTRUCTION", many=True),
            text("-m --message", "Comment in the image's history", "TEXT"),
            _PLATFORM,
            _QUIET,
        ),
        aliases=("image import",),
        examples=(("An image of a directory", "rl import ./tree demo"),),
        section="Images",
    ),
    Command(
        "load",
        "Load images from an OCI or Docker archive, or an OCI directory",
        "rootless.cli.image:load",
        (),
        (text("-i --input", "Archive or directory (default: standard input)", "PATH", completes="file"), _QUIET),
        aliases=("image load",),
        section="Images",
    ),
    Command(
        "save",
        "Save images to an OCI archive or directory",
        "rootless.cli.image:save",
        (Argument("images", "IMAGE", many=True, completes="image"),),
        (
            choice("--format", "What to write", "oci-archive", "oci-dir", default="oci-archive"),
            text("-o --output", "File or directory (default: standard output)", "PATH", completes="file"),
            _QUIET,
        ),
        aliases=("image save",),
        section="Images",
    ),
    Command(
        "image inspect",
        "Show all about images",
        "rootless.cli.inspection:image_inspect",
        (Argument("images", "IMAGE", many=True, completes="image"),),
        (_FORMAT,),
    ),
    Command(
        "login",
        "Log in to a registry",
        "rootless.cli.registry:login",
        (Argument("registry", "REGISTRY", required=False),),
        (
            text("-u --username", "User name", "NAME"),
            text("-p --password", "Password; others can see it in the list of processes", "PASSWORD"),
            flag("--password-stdin", "Read the password from standard input"),
            _TLS_VERIFY,
        ),
        section="Registries",
    ),
    Command(
        "logout",
        "Forget the credentials for a registry",
        "rootless.cli.registry:logout",
        (Argument("registry", "REGISTRY", required=False),),
        section="Registries",
    ),
    Command(
        "info",
        "Show the host, the store and what rl uses of them",
        "rootless.cli.system:info",
        (),
        (_FORMAT,),
        aliases=("system info",),
        section="System",
    ),
    Command("version", "Show the version", "rootless.cli.system:version", (), (_FORMAT,), section="System"),
    Command(
        "doctor",
        "Check whether this host can run containers, and say what mends it",
        "rootless.cli.system:doctor",
        (),
        (choice("--format", "How to print the findings", "text", "json", default="text"),),
        aliases=("system doctor",),
        section="System",
    ),
    Command(
        "unshare",
        "Run a command in the user namespace of the containers",
        "rootless.cli.system:unshare",
        (_COMMAND,),
        description="Without COMMAND: $SHELL. Files that belong to the container's users can be read and removed in there.",
        section="System",
    ),
    Command(
        "completion",
        "Print the completion script of a shell",
        "rootless.cli.system:completion",
        (Argument("shell", "bash|zsh|fish"),),
        section="System",
    ),
)  # fmt: skip

VERSION_LINE = Command("--version", "Print the version in one line", "rootless.cli.system:version_line", hidden=True)

_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def find(name: str) -> Command | None:
    """The command of this name or alias: `ps`, `image inspect`."""
    return _BY_NAME.get(name)
