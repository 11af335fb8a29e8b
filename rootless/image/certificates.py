"""Whom to trust over TLS: the system's authorities and containers-certs.d(5).

The authorities are those of the host, not a bundle that came with Python: a company's own are installed there.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from ..errors import UsageError, reason

# Where distributions keep the bundle; needed by the frozen executable, whose OpenSSL was built for another distribution.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)


def context(host: str, *, verify: bool, environment: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """How to speak TLS with `host` (`host[:port]`, as in image names).

    Both with and without `verify`, the client certificates that certs.d has for the host are shown to it.
    """
    chosen = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify:
        _load_system(chosen)
    else:
        chosen.check_hostname = False
        chosen.verify_mode = ssl.CERT_NONE
    directory = _directory(host, os.environ if environment is None else environment)
    if directory is not None:
        _load_directory(chosen, directory)
    return chosen


def _load_system(chosen: ssl.SSLContext) -> None:
    paths = (
        ssl.get_default_verify_paths()
    )  # SSL_CERT_FILE and SSL_CERT_DIR are honoured here; None where the path does not exist
    if paths.cafile or (paths.capath and os.listdir(paths.capath)):
        chosen.load_default_certs()
        return
    for bundle in _BUNDLES:
        if os.path.isfile(bundle):
            chosen.load_verify_locations(bundle)
            return
    # With none at all, every certificate is refused, and the error of the connection says so.


def _directory(host: str, environment: Mapping[str, str]) -> str | None:
    """The first certs.d directory that there is for a host: the user's, then the system's; Podman's before Docker's."""
    config = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
    places = (f"{config}/containers", f"{config}/docker", "/etc/containers", "/etc/docker")
    return next((path for place in places if os.path.isdir(path := f"{place}/certs.d/{host}")), None)


def _load_directory(chosen: ssl.SSLContext, directory: str) -> None:
    """`*.crt` are authorities; `NAME.cert` with `NAME.key` a client certificate."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise UsageError(f"cannot read {directory}: {reason(error)}") from error
    for name in names:
        path = f"{directory}/{name}"
        stem, extension = os.path.splitext(path)
        try:
            if extension == ".crt":
                chosen.load_verify_locations(path)
            elif extension == ".cert":
                chosen.load_cert_chain(path, f"{stem}.key")
        except ssl.SSLError as error:
            raise UsageError(f"{path} is not a usable certificate: {error.reason or error}") from error
        except OSError as error:
            raise UsageError(
                f"cannot read {path}" + (f" or {stem}.key" if extension == ".cert" else "") + f": {reason(error)}"
            ) from error
