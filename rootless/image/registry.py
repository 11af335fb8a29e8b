"""A client of registries: distribution-spec 1.1 over HTTP(S), pull side.

    Repository      one repository of an image, with its endpoints (mirrors first), thread-safe
      _Endpoint     one of them: scheme, authorization, what answers mean
        Http        sessions, TLS, proxies, redirects (`http`)

Nothing here prints; waits and fail-overs are reported as events. What goes wrong:

    RegistryError
     ├─ Unreachable     no connection: name, network, TLS. Not tried again here
     ├─ Unavailable     5xx, 429, resets and time-outs that outlived our patience
     ├─ Interrupted     the connection broke within a blob: ask again with `offset`
     └─ Refused         a definite answer of the registry
         ├─ AccessDenied    401, 403
         └─ NoSuchContent   404
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from ..errors import RegistryError
from ..oci import distribution
from ..oci.descriptor import Descriptor, Malformed, parse_digest
from ..oci.image import ACCEPT, MAX_MANIFEST
from ..oci.reference import Reference
from ..settings import Settings
from . import credentials, mirrors
from .credentials import Credentials
from .http import Broken, Http, Response, is_loopback, patiently
from .http import Interrupted as Interrupted
from .http import Unavailable as Unavailable
from .http import Unreachable as Unreachable
from .http import Waiting as Waiting
from .mirrors import Endpoint

_T = TypeVar("_T")

_TRIES = 8
_PATIENCE = 120.0
"""Seconds of waiting in all for one request, whatever Retry-After says."""
_MIRROR_TRIES = 5
_MIRROR_PATIENCE = 15.0
_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_MAX_ERROR_BODY = 64 << 10
_MAX_TOKEN_BODY = 1 << 20
_READ = 1 << 20
_CHUNK = 256 << 10
_FLUSH = 0.1
"""Seconds after which a chunk is handed on although it is small, so that a slow line still shows progress."""
_TOKEN_LIFETIME = 60.0  # docs/spec/auth/token.md: the default of expires_in


class Refused(RegistryError):
    """The registry answered, and the answer is no. status: of HTTP."""

    status: int = 0


class AccessDenied(Refused):
    """401 or 403: credentials are missing, wrong, or not enough."""


class NoSuchContent(Refused):
    """404: the registry does not have this repository, manifest or blob."""


@dataclass(frozen=True)
class Mirror:
    """A mirror was used (`failed` false), or given up for the next endpoint."""

    host: str
    failed: bool
    why: str


Event = Waiting | Mirror
Report = Callable[[Event], None]


def _ignore(_event: Event) -> None:
    """The report of a caller that wants none."""


class FetchedManifest(NamedTuple):
    """A manifest or index as served. digest: verified. media_type: the Content-Type without parameters, "" where there was none."""

    media_type: str
    digest: str
    body: bytes


class ManifestHead(NamedTuple):
    """What a registry says of a manifest without sending it; digest is None where it does not say."""

    media_type: str
    digest: str | None
    size: int | None


class BlobStream:
    """The bytes of a blob from `offset` on, as they come. Iterate once. `offset` is what the server actually starts at.

    Chunks have up to 1 MiB. Never more than the descriptor's size is delivered; less raises Interrupted, more RegistryError. The digest is the
    caller's to check.
    """

    def __init__(self, response: Response, *, offset: int, size: int, what: str) -> None:
        self.offset = offset
        self._size = size
        self._response = response
        self._what = what

    def __iter__(self) -> Iterator[bytes]:
        remaining = self._size - self.offset
        failure: Broken | None = None
        while remaining and failure is None:
            pieces: list[bytes] = []
            gathered = 0
            flush_at = 0.0
            try:
                while gathered < _CHUNK and gathered < remaining and (not pieces or time.monotonic() < flush_at):
                    piece = self._response.read(min(_READ, remaining - gathered))
                    if not piece:
                        failure = Broken("it was closed early")
                        break
                    if not pieces:
                        flush_at = time.monotonic() + _FLUSH
                    pieces.append(piece)
                    gathered += len(piece)
            except Broken as error:
                failure = error
            if gathered:
                remaining -= gathered
                yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if failure is not None:
            raise Interrupted(f"the connection broke while reading {self._what}: {failure}") from failure
        self._check_end()

    def _check_end(self) -> None:
        """The body must be over; reading its end also gives the connection back for the next request."""
        try:
            extra = self._response.read(1)
        except Broken:
            extra = b""  # every byte has come: a connection that breaks now has done its work
        if extra:
            raise RegistryError(f"{self._what} is larger than the {self._size} bytes that its descriptor says")

    def abort(self) -> None:
        """End a read that is blocked in another thread: it raises Interrupted. Harmless where nothing is being read."""
        self._response.abort()

    def close(self) -> None:
        self._response.close()


class Repository:
    """One repository. Its endpoints are tried in order; that which served the manifest also serves the blobs, the others stand in.

    Thread-safe: blobs may be read by many threads at once. Close it (it is a context manager) to free connections and to end waits early.
    """

    def __init__(
        self, endpoints: tuple[_Endpoint, ...], reference: Reference, report: Report, closed: threading.Event
    ) -> None:
        self.reference = reference
        self._endpoints = endpoints
        self._report = report
        self._closed = closed
        self._preferred: _Endpoint | None = None

    @classmethod
    def connect(
        cls,
        reference: Reference,
        *,
        settings: Settings,
        tls_verify: bool | None = None,
        credentials: Credentials | None = None,
        on_event: Report | None = None,
    ) -> Repository:
        """Choose the endpoints for `reference`; no packet is sent yet.

        tls_verify: None follows the configuration; False allows unverified TLS and plain HTTP; True allows neither, whatever is configured.
        credentials: for the registry itself (never shown to its mirrors); by default those of the user's auth files.
        """
        report = on_event or _ignore
        closed = threading.Event()
        endpoints = mirrors.endpoints(reference, mirrors.load(settings))
        return cls(
            tuple(
                _Endpoint(
                    endpoint,
                    tls_verify=tls_verify,
                    explicit=None if endpoint.is_mirror else credentials,
                    report=report,
                    closed=closed,
                )
                for endpoint in endpoints
            ),
            reference,
            report,
            closed,
        )

    def manifest(self, identifier: str) -> FetchedManifest:
        """Fetch a manifest or index by tag or digest. Its bytes are checked against the digest, or against the one that the registry states."""
        return self._first(lambda endpoint: endpoint.manifest(identifier), settle=True)

    def head_manifest(self, identifier: str) -> ManifestHead:
        """What the registry has under `identifier` now, without fetching it; registries do not count this as a pull."""
        return self._first(lambda endpoint: endpoint.head_manifest(identifier), settle=False)

    @contextmanager
    def blob(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[BlobStream]:
        """Read a blob, from byte `offset` on where the server can; look at the stream's `offset` for what it does."""
        stream = self._first(lambda endpoint: endpoint.blob(descriptor, offset), settle=False)
        try:
            yield stream
        finally:
            stream.close()

    def close(self) -> None:
        """End everything that is under way in any thread, and free the connections."""
        self._closed.set()
        for endpoint in self._endpoints:
            endpoint.close()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first(self, act: Callable[[_Endpoint], _T], *, settle: bool) -> _T:
        """What the first endpoint that can do it gives; the error is that of the last one, which is the registry itself."""
        begin = self._endpoints.index(self._preferred) if self._preferred else 0
        failed: list[str] = []
        for endpoint in self._endpoints[begin:]:
            try:
                result = act(endpoint)
            except RegistryError as error:
                if self._closed.is_set():
                    raise
                if not endpoint.is_mirror:
                    if failed and error.context is None:
                        error.context = f"before that, the mirrors failed: {'; '.join(failed)}"
                    raise
                failed.append(error.message)
                self._report(Mirror(endpoint.host, True, error.message))
                continue
            if settle and endpoint is not self._preferred:
                self._preferred = endpoint
                if endpoint.is_mirror:
                    self._report(Mirror(endpoint.host, False, f"serves {self.reference.familiar()}"))
            return result
        raise AssertionError("the last endpoint is the registry itself, which returns or raises")


def login(
    registry: str,
    given: Credentials,
    *,
    settings: Settings,
    tls_verify: bool | None = None,
    on_event: Report | None = None,
) -> credentials.Stored:
    """Show credentials to a registry and keep them if it accepts them (`credentials.store`). registry: `host[:port]`."""
    place = Endpoint(registry, "", mirrors.is_insecure(registry, mirrors.load(settings)), is_mirror=False)
    endpoint = _Endpoint(
        place, tls_verify=tls_verify, explicit=given, report=on_event or _ignore, closed=threading.Event()
    )
    try:
        endpoint.ping()
    finally:
        endpoint.close()
    return credentials.store(registry, given)


class _Endpoint:
    """One registry that has the repository, perhaps under another name."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls_verify: bool | None,
        explicit: Credentials | None,
        report: Report,
        closed: threading.Event,
    ) -> None:
        self.host = endpoint.host
        self.is_mirror = endpoint.is_mirror
        self._repository = endpoint.repository
        self._report = report
        self._closed = closed
        relaxed = tls_verify is False or (tls_verify is None and (endpoint.insecure or is_loopback(endpoint.host)))
        api_host = distribution.api_host(endpoint.host)
        self._bases = tuple(f"{scheme}://{api_host}" for scheme in (("https", "http") if relaxed else ("https",)))
        self._http = Http(verify=not relaxed)
        self._authorization = _Authorization(self._http, endpoint, explicit)

    # ---- what can be asked

    def ping(self) -> None:
        """Succeed where the registry accepts our credentials (distribution-spec, "Determining Support")."""
        self._patiently(
            self.host, "GET", distribution.API_VERSION_PATH, {}, lambda response: response.body(_MAX_ERROR_BODY)
        )

    def manifest(self, identifier: str) -> FetchedManifest:
        what = self._named(identifier)

        def read(response: Response) -> FetchedManifest:
            body = response.body(MAX_MANIFEST + 1)
            if len(body) > MAX_MANIFEST:
                raise RegistryError(f"{what} has more than {MAX_MANIFEST} bytes")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            stated = _stated_digest(response, what)
            for digest in (identifier if ":" in identifier else None, stated):
                if digest is not None and _hash(body, digest) != digest:
                    raise RegistryError(f"{what} has the digest {_hash(body, digest)} and should have {digest}")
            return FetchedManifest(media_type, identifier if ":" in identifier else _hash(body, "sha256:"), body)

        return self._patiently(what, "GET", self._manifest_path(identifier), {"Accept": ", ".join(ACCEPT)}, read)

    def head_manifest(self, identifier: str) -> ManifestHead:
        what = self._named(identifier)

        def read(response: Response) -> ManifestHead:
            response.discard()
            length = response.headers.get("Content-Length", "")
            return ManifestHead(
                response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
                _stated_digest(response, what),
                int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None,
            )

        return self._patiently(what, "HEAD", self._manifest_path(identifier), {"Accept": ", ".join(ACCEPT)}, read)

    def blob(self, descriptor: Descriptor, offset: int) -> BlobStream:
        what = self._named(descriptor.digest)
        path = distribution.blob_path(self._repository, descriptor.digest)

        def ranged(response: Response) -> BlobStream | None:
            if response.status == 206:
                served = distribution.parse_content_range(response.headers.get("Content-Range"))
                if served is None or served.start != offset or served.total not in (None, descriptor.size):
                    response.close()
                    return None
                return BlobStream(response, offset=offset, size=descriptor.size, what=what)
            return whole(response)

        def whole(response: Response) -> BlobStream:
            length = response.headers.get("Content-Length")
            if length is not None and length != str(descriptor.size):
                response.close()
                raise RegistryError(f"{what} is {length[:20]} bytes long and should be {descriptor.size}")
            return BlobStream(response, offset=0, size=descriptor.size, what=what)

        if 0 < offset < descriptor.size:
            try:
                stream = self._patiently(what, "GET", path, {"Range": distribution.range_from(offset)}, ranged)
            except Refused as error:
                if error.status != 416:
                    raise
                stream = None
            if stream is not None:
                return stream
        return self._patiently(what, "GET", path, {}, whole)

    def close(self) -> None:
        self._http.close()

    def _manifest_path(self, identifier: str) -> str:
        return distribution.manifest_path(self._repository, identifier)

    def _named(self, identifier: str) -> str:
        return f"{self.host}/{self._repository}{'@' if ':' in identifier else ':'}{identifier}"

    # ---- patience

    def _patiently(
        self, what: str, method: str, path: str, headers: dict[str, str], read: Callable[[Response], _T]
    ) -> _T:
        """Send a request until it succeeds, is refused, or our patience ends; give what `read` makes of the good response."""
        return patiently(
            lambda: read(self._accepted(what, method, path, headers)),
            host=self.host,
            tries=_MIRROR_TRIES if self.is_mirror else _TRIES,
            patience=_MIRROR_PATIENCE if self.is_mirror else _PATIENCE,
            closed=self._closed,
            report=self._report,
        )

    def _accepted(self, what: str, method: str, path: str, headers: dict[str, str]) -> Response:
        """One request with authorization where it is needed; a response below 400, or the error that the answer means."""
        shown = self._authorization.current()
        response = self._sent(method, path, headers, shown)
        if response.status == 401:
            challenges = distribution.parse_challenges(response.headers.get("WWW-Authenticate", ""))
            denied = _failure(response, self.host, what)
            renewed = self._authorization.renew(challenges, rejected=shown)
            if renewed is None:
                raise denied
            response = self._sent(method, path, headers, renewed)
        if response.status >= 300:  # redirects were followed
            raise _failure(response, self.host, what)
        return response

    def _sent(self, method: str, path: str, headers: dict[str, str], authorization: str | None) -> Response:
        """Send to the base address that works. An insecure registry is first spoken to in TLS; what answers first is kept."""
        trouble: RegistryError | None = None
        bases = self._bases
        for base in bases:
            try:
                response = self._http.send(method, base + path, headers, authorization)
            except (Unreachable, Unavailable) as error:
                if base == bases[-1]:
                    raise (
                        trouble if isinstance(error, Unreachable) and isinstance(trouble, Unreachable) else error
                    ) from None
                trouble = error
                continue
            if len(bases) > 1 and not (base.startswith("http:") and response.status == 400):
                self._bases = (base,)  # 400 is what a TLS server answers to plain HTTP
            return response
        raise AssertionError("the last base address returns or raises")


class _Authorization:
    """The Authorization header for one repository of one registry: Basic, or a Bearer token that is fetched and renewed."""

    def __init__(self, http: Http, endpoint: Endpoint, explicit: Credentials | None) -> None:
        self._http = http
        self._host = endpoint.host
        self._repository = endpoint.repository
        self._scope = distribution.pull_scope(endpoint.repository) if endpoint.repository else ""
        self._lock = threading.Lock()
        self._header: str | None = None
        self._expires = 0.0
        self._credentials = explicit
        self._looked_up = explicit is not None

    def current(self) -> str | None:
        with self._lock:
            return self._header if time.monotonic() < self._expires else None

    def renew(self, challenges: tuple[distribution.Challenge, ...], *, rejected: str | None) -> str | None:
        """A header that answers one of the challenges, Bearer before Basic; None where we have nothing (more) to show.

        rejected: the header that was just refused. Where another thread has renewed it meanwhile, that one's is used.
        """
        with self._lock:
            if self._header is not None and self._header != rejected and time.monotonic() < self._expires:
                return self._header
            by_scheme = {challenge.scheme: challenge.parameters for challenge in reversed(challenges)}
            header: str | None = None
            lifetime = float("inf")
            if "bearer" in by_scheme:
                header, lifetime = self._bearer(by_scheme["bearer"])
            elif "basic" in by_scheme:
                header = self._basic()
            if header == rejected:
                return None
            self._header = header
            self._expires = time.monotonic() + lifetime
            return header

    def _basic(self) -> str | None:
        found = self._find()
        return _basic(found.username, found.password) if found and found.username else None

    def _bearer(self, parameters: dict[str, str]) -> tuple[str, float]:
        """Fetch a token: docs/spec/auth/token.md; with an identity token docs/spec/auth/oauth.md."""
        realm = parameters.get("realm", "")
        url = urlsplit(realm)
        if url.scheme not in ("https", "http") or not url.hostname or (url.scheme == "http" and self._http.verify):
            raise RegistryError(
                f"{self._host} sends us for a token to {realm[:200]!r}, which is not an https address",
                hint="allow it with --tls-verify=false" if url.scheme == "http" else None,
            )
        query = {"service": parameters["service"]} if parameters.get("service") else {}
        if scope := parameters.get("scope") or self._scope:
            query["scope"] = scope
        found = self._find()
        if found is not None and found.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": found.identity_token, "client_id": "rl", **query}
            response = self._http.send("POST", realm, {}, None, form=form)
        else:
            if found is not None:
                query["account"] = found.username
            separator = "&" if url.query else "?"
            shown = _basic(found.username, found.password) if found else None
            response = self._http.send("GET", f"{realm}{separator}{urlencode(query)}", {}, shown)
        if response.status != 200:
            what = f"{self._host}/{self._repository}" if self._repository else self._host
            raise _failure(response, self._host, what, source=found.source if found else None)
        return _read_token(response.body(_MAX_TOKEN_BODY), url.netloc)

    def _find(self) -> Credentials | None:
        if not self._looked_up:
            self._credentials = credentials.find(self._host, self._repository)
            self._looked_up = True
        return self._credentials


# ---- answers


def _failure(response: Response, host: str, what: str, *, source: str | None = None) -> Refused | Unavailable:
    """The error that a response of 300 or more means. what: was asked for. source: where the credentials are from that were refused."""
    status = response.status
    wait = distribution.parse_retry_after(response.headers.get("Retry-After"), now=time.time())
    try:
        told = distribution.parse_errors(response.body(_MAX_ERROR_BODY))
    except Unavailable:
        told = ()
    said = f"{status} {response.reason}".strip() + "".join(f", {entry}" for entry in told[:3])
    if status in _TRANSIENT:
        busy = Unavailable(
            f"{host} is not available: {said}",
            hint=f"rl login {host}: registries allow more pulls to those who are logged in"
            if status == 429
            else "try again later",
        )
        busy.retry_after = wait
        return busy
    refused: Refused
    if status in (401, 403):
        refused = AccessDenied(
            f"access to {what} is denied: {said}",
            context=f"with the credentials of {source}" if source else None,
            hint=f"check the name; if the repository is private: rl login {host}",
        )
    elif status == 404:
        refused = NoSuchContent(f"{what} does not exist: {said}")
    else:
        refused = Refused(f"the registry refuses {what}: {said}")
    refused.status = status
    return refused


def _read_token(body: bytes, host: str) -> tuple[str, float]:
    """(Authorization header, seconds that it is good for) of a token server's answer."""
    try:
        document = json.loads(body)
        token = document.get("token") or document.get("access_token")
        lifetime = document.get("expires_in") or _TOKEN_LIFETIME
    except (ValueError, AttributeError, RecursionError):
        raise RegistryError(f"the token server {host} gave no JSON document") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(f"the token server {host} gave no token")
    if type(lifetime) not in (int, float):
        lifetime = _TOKEN_LIFETIME
    return f"Bearer {token}", max(lifetime * 0.9, 10.0)  # a little less: the token must still be good when it arrives


def _stated_digest(response: Response, what: str) -> str | None:
    stated = response.headers.get("Docker-Content-Digest")
    try:
        return parse_digest(stated) if stated else None
    except Malformed as error:
        raise RegistryError(f"{what}: the registry states an {error.message}") from None


def _hash(body: bytes, digest: str) -> str:
    """The digest of `body` by the algorithm of `digest`."""
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def _basic(username: str, password: str) -> str:
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()
