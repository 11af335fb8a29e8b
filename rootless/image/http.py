"""HTTP as we want it of requests: one request, its redirects, its answer, the meaning of its failure. The only importer of requests (and of urllib3 beneath it).

    Http          sessions, TLS, proxies, redirects
    Response      an answer, its body unread
    patiently     a request again, while its failure is a passing one

Nothing here knows registries, but for whom a certificate is of: what an answer means is `registry`'s.
"""

from __future__ import annotations

import errno
import random
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, InsecureRequestWarning, MaxRetryError, NewConnectionError

from .. import __version__
from ..errors import RegistryError, reason
from ..oci import distribution
from . import certificates

_T = TypeVar("_T")

_CONNECT_TIMEOUT = 10.0
_READ_TIMEOUT = 60.0
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 10
_MAX_DISCARDED = 64 << 10
_MAX_CONNECTIONS = 16
_NOT_TLS = frozenset(
    ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG")
)
"""OpenSSL's names for an answer that is no TLS."""


class Unreachable(RegistryError):
    """No connection could be made: the name, the network, a proxy, or TLS."""


class Unavailable(RegistryError):
    """A passing trouble of the registry or the network. retry_after: seconds that it asked for, where it did."""

    retry_after: float | None = None


class Interrupted(RegistryError):
    """The connection broke while a blob was read; what was delivered is good, and the rest can be asked for with `offset`."""


class Broken(Exception):
    """The connection broke within a body. Its text is why, in the kernel's or the resolver's words."""


@dataclass(frozen=True)
class Waiting:
    """A request will be sent again after `seconds`."""

    host: str
    seconds: float
    why: str


def patiently(
    act: Callable[[], _T],
    *,
    host: str,
    tries: int,
    patience: float,
    closed: threading.Event,
    report: Callable[[Waiting], None],
) -> _T:
    """What `act` returns, which is called again while it raises Unavailable: `tries` times at the most, for `patience` seconds, whatever Retry-After says.

    Interrupted when `closed` is set meanwhile.
    """
    begun = time.monotonic()
    for attempt in range(1, tries + 1):
        try:
            return act()
        except Unavailable as error:
            if closed.is_set():
                raise Interrupted(f"the request to {host} was ended") from error
            pause = error.retry_after or 0.0
            if not pause:
                pause = min(0.125 * 2.0**attempt, 15.0) * random.uniform(0.5, 1.0)
            if attempt == tries or time.monotonic() - begun + pause > patience:
                raise
            report(Waiting(host, pause, error.message))
        if closed.wait(pause):
            raise Interrupted(f"the wait for {host} was ended")
    raise AssertionError("the last try returns or raises")


class Response:
    """An answer. status and reason: of HTTP; headers: by name in any case; host: who gave it. Its connection is free again when the body was read to its end."""

    def __init__(self, answer: requests.Response) -> None:
        self.status: int = answer.status_code
        self.reason: str = answer.reason or ""
        self.headers: Mapping[str, str] = answer.headers
        self.host = urlsplit(answer.url).netloc
        self._answer = answer

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as soon as there are some; b"" at the end. Broken.

        read1 and not read: what came before a reset must not be lost with it, or a line that breaks often never gets on.
        """
        try:
            piece: bytes = self._answer.raw.read1(size, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:  # ValueError: closed by abort()
            raise Broken(_why(error)) from error
        return piece

    def body(self, limit: int) -> bytes:
        """At most `limit` bytes of the body, which is not read any further. Unavailable."""
        pieces = []
        try:
            while limit > 0 and (piece := self.read(limit)):
                pieces.append(piece)
                limit -= len(piece)
        except Broken as error:
            raise Unavailable(f"the connection to {self.host} broke: {error}") from error
        finally:
            self.close()
        return b"".join(pieces)

    def discard(self) -> None:
        """Be done with the body, at best so that the connection can be used again."""
        try:
            self.body(_MAX_DISCARDED)
        except Unavailable:
            ...  # nobody wants this body; the connection is closed

    def abort(self) -> None:
        """End a read that is blocked in another thread. Harmless where nothing is being read."""
        try:
            self._answer.raw.shutdown()
        except (ValueError, RuntimeError, OSError):
            ...  # the response is finished or closed already

    def close(self) -> None:
        self._answer.close()


class Http:
    """No cookies, no netrc, no hidden retries, the system's authorities, redirects under our eyes. verify: False allows unverified TLS.

    One session for each host, so that the certificates of certs.d are only shown to the host that they are for. A session is shared by
    threads: what is beneath it (urllib3's pools) is thread-safe, and we change nothing of it after it is made.
    """

    def __init__(self, *, verify: bool) -> None:
        self.verify = verify
        self._sessions: dict[str, requests.Session] = {}
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closed = False
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        authorization: str | None,
        *,
        form: dict[str, str] | None = None,
    ) -> Response:
        """Send, follow redirects, and return the response with its body unread. Raises Unreachable or Unavailable."""
        origin = _origin(url)
        for _ in range(_MAX_REDIRECTS + 1):
            sent = {"Accept-Encoding": "identity", "User-Agent": f"rl/{__version__}", **headers}
            if authorization is not None and _origin(url) == origin:
                sent["Authorization"] = authorization  # a redirect to a storage host must not see it
            response = self._once(method, url, sent, form)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.discard()
            target = urljoin(url, location)
            scheme = urlsplit(target).scheme
            if scheme not in ("https", "http") or (scheme == "http" and url.startswith("https:") and self.verify):
                raise RegistryError(
                    f"{urlsplit(url).netloc} redirects to {target[:200]!r}, which is not an https address"
                )
            url = target
        raise RegistryError(f"{urlsplit(url).netloc} redirects more than {_MAX_REDIRECTS} times")

    def close(self) -> None:
        """Close all connections. A thread that waits for one, even for its first byte, gets an error at once."""
        with self._lock:
            self._closed = True
            for opened in tuple(self._sockets):
                _shut(opened)
            for session in self._sessions.values():
                session.close()

    def _opened(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.add(opened)
            if self._closed:
                _shut(opened)

    def _once(self, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None) -> Response:
        host = urlsplit(url).netloc
        try:
            answer = self._session(url, host).request(
                method,
                url,
                headers=headers,
                data=form,
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_TIMEOUT, _READ_TIMEOUT),
                proxies={} if is_loopback(host) else get_environ_proxies(url, no_proxy=None),
            )
        except requests.RequestException as error:
            raise _connection_error(error, host) from error
        except (HTTPError, OSError) as error:
            raise Unavailable(f"cannot speak with {host}: {_why(error)}") from error
        return Response(answer)

    def _session(self, url: str, host: str) -> requests.Session:
        key = _origin(url)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                session = self._sessions[key] = self._new_session(url, host)
            return session

    def _new_session(self, url: str, host: str) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # it would send what is in ~/.netrc, and trust another bundle by REQUESTS_CA_BUNDLE
        session.cookies.set_policy(
            DefaultCookiePolicy(allowed_domains=[])
        )  # none: a jar is all that a response changes in a session
        session.verify = self.verify
        tls = (
            certificates.context(distribution.registry_of(host), verify=self.verify)
            if url.startswith("https:")
            else None
        )
        adapter = _Adapter(tls, self._opened)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        if not self.verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # it prints; the user asked for it
        return session


class _Adapter(HTTPAdapter):
    """requests' transport over a TLS context of ours, without the bundle of authorities that it would add."""

    def __init__(self, tls: ssl.SSLContext | None, opened: Callable[[socket.socket], None]) -> None:
        self._tls = tls
        self._opened = opened
        super().__init__(pool_connections=1, pool_maxsize=_MAX_CONNECTIONS)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._tls, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **options)
        self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        """Have `opened` told of every socket: urllib3 gives a caller no hold on a connection before its response has come."""
        opened = self._opened

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                opened(self.sock)

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                opened(self.sock)

        pools = (("http", HTTPConnectionPool, Plain), ("https", HTTPSConnectionPool, Encrypted))
        manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": connection}) for scheme, pool, connection in pools
        }

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED" if verify else "CERT_NONE"


# ---- connections


def _shut(opened: socket.socket) -> None:
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        ...  # it is closed already (an SSLSocket says so by ValueError)


def _connection_error(error: requests.RequestException, host: str) -> RegistryError:
    """What a failure of requests means, told by the classes in its chain of causes."""
    certificate = _cause(error, ssl.SSLCertVerificationError)
    if certificate is not None:
        return Unreachable(
            f"cannot trust the certificate of {host}: {certificate.verify_message}",
            hint=f"put its authority into ~/.config/containers/certs.d/{distribution.registry_of(host)}/ca.crt, or allow it with --tls-verify=false",
        )
    tls = _cause(error, ssl.SSLError)
    if tls is not None and not isinstance(tls, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        plain = tls.reason in _NOT_TLS
        return Unreachable(
            f"cannot speak TLS with {host}: "
            + ("it answers in plain HTTP" if plain else (tls.reason or "").replace("_", " ").lower()),
            hint="if it is a registry that you trust without TLS: --tls-verify=false, or registries.insecure in the settings",
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return Unreachable(f"cannot reach {host} through the proxy: {_why(error)}", hint="see HTTPS_PROXY and NO_PROXY")
    if isinstance(error, requests.exceptions.Timeout):
        return Unavailable(f"{host} does not answer: timed out")
    if _cause(error, NewConnectionError) is not None:
        return Unreachable(f"cannot connect to {host}: {_why(error)}")
    if isinstance(error, requests.exceptions.ConnectionError):
        return Unavailable(f"the connection to {host} broke: {_why(error)}")
    return RegistryError(f"cannot send a request to {host}: {error}".rstrip("."))


_E = TypeVar("_E", bound=BaseException)


def _cause(error: BaseException, kind: type[_E]) -> _E | None:
    return next((cause for cause in _causes(error) if isinstance(cause, kind)), None)


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what it wraps: by raise-from, by `reason` (urllib3), or as an argument (requests)."""
    found = [error]
    for candidate in found:  # grows while we walk it
        inner = [candidate.__cause__, candidate.__context__, *candidate.args]
        if isinstance(candidate, MaxRetryError):
            inner.append(candidate.reason)
        found += [item for item in inner if isinstance(item, BaseException) and item not in found]
    return found


def _why(error: BaseException) -> str:
    """The kernel's or resolver's words for a failure, without the wrapping of three libraries."""
    name = _cause(error, socket.gaierror)
    if name is not None:
        return (name.strerror or "the name cannot be resolved").lower()
    for cause in _causes(error):
        if (
            isinstance(cause, OSError)
            and not isinstance(cause, requests.RequestException)
            and cause.errno in errno.errorcode
        ):
            return reason(cause)
    if _cause(error, TimeoutError) is not None or _cause(error, urllib3.exceptions.TimeoutError) is not None:
        return "timed out"
    plain = next((cause for cause in _causes(error) if type(cause) is OSError and cause.args), None)
    return (
        str(plain).lower() if plain is not None else "it was closed early"
    )  # http.client: "Tunnel connection failed: 403 …"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def is_loopback(host: str) -> bool:
    """True for localhost, 127.0.0.0/8 and ::1, with or without a port: Docker and Go treat these as safe without TLS and without proxy."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name == "localhost" or name == "::1" or (name.startswith("127.") and name.replace(".", "").isdigit())
