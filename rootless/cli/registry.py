"""`rl login` and `rl logout`: words for `image.credentials`."""

from __future__ import annotations

import sys

from ..errors import Error, UsageError
from ..image import credentials
from ..oci.reference import DEFAULT_REGISTRY
from .context import Context, complain, warning_mark, write_error


def login(
    context: Context,
    registry: str | None,
    username: str | None,
    password: str | None,
    password_stdin: bool,
    tls_verify: bool | None,
) -> int:
    from ..image.registry import login as check

    host = _host(registry)
    if password_stdin:
        if password is not None:
            raise UsageError("--password and --password-stdin cannot both be given")
        if username is None:
            raise UsageError("--password-stdin needs --username")
        password = sys.stdin.readline().rstrip("\r\n")
    elif password is not None:
        complain(
            Error("others can see the password of --password in the list of processes", hint="use --password-stdin")
        )
    if username is None:
        username = _ask(f"User name for {host}: ")
    if password is None:
        password = _ask("Password: ", secret=True)
    given = credentials.Credentials(username=username, password=password)
    stored = check(host, given, settings=context.settings, tls_verify=tls_verify, on_event=context.on_event())
    if stored.plain:
        write_error(f"{warning_mark()}the password is kept unencrypted in {stored.where}\n")
    print("Login succeeded")
    return 0


def logout(context: Context, registry: str | None) -> int:
    host = _host(registry)
    erased = credentials.erase(host)
    for path in erased.removed:
        print(f"Removed the credentials for {host} from {path}")
    for path in erased.remaining:
        complain(Error(f"{path} still has credentials for {host}", hint="that file is another tool's; log out with it"))
    return 1 if erased.remaining and not erased.removed else 0


def _host(registry: str | None) -> str:
    """`https://index.docker.io/v1/` and `docker.io/library` are both docker.io to the one who types them."""
    host = (registry or DEFAULT_REGISTRY).removeprefix("https://").removeprefix("http://").partition("/")[0]
    if not host:
        raise UsageError(f"{registry!r} is not the name of a registry")
    return DEFAULT_REGISTRY if host in ("index.docker.io", "registry-1.docker.io") else host


def _ask(question: str, *, secret: bool = False) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the user name and password", hint="rl login -u NAME --password-stdin"
        )
    if secret:
        import getpass

        return getpass.getpass(question)
    write_error(question)
    answer = sys.stdin.readline().strip()
    if not answer:
        raise UsageError("the user name is empty")
    return answer
