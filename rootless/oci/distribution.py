"""The words of the distribution-spec 1.1 and of token authentication (distribution project, docs/spec/auth): headers, scopes, errors.

Pure: bytes and header texts in, values out. Headers come from strangers; what is not understood gives None or an empty tuple, never an exception.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from .reference import DEFAULT_REGISTRY

API_VERSION_PATH = "/v2/"
_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True)
class ApiError:
    """One entry of an error document. code: upper case (`MANIFEST_UNKNOWN`, `TOOMANYREQUESTS`), "" where missing."""

    code: str
    message: str

    def __str__(self) -> str:
        return self.message or self.code.replace("_", " ").lower()


@dataclass(frozen=True)
class Challenge:
    """One challenge of a WWW-Authenticate header. scheme in lower case, parameters by lower-case name."""

    scheme: str
    parameters: dict[str, str]


@dataclass(frozen=True)
class ContentRange:
    """`bytes start-end/total`; end is inclusive, total None where the server does not say it."""

    start: int
    end: int
    total: int | None


def api_host(registry: str) -> str:
    """The host that serves a registry of this name: Docker Hub's is not the one in names of images."""
    return _HUB_HOST if registry == DEFAULT_REGISTRY else registry


def registry_of(host: str) -> str:
    """The reverse: what a host is called in names of images, auth files and certs.d."""
    return DEFAULT_REGISTRY if host == _HUB_HOST else host


def manifest_path(repository: str, identifier: str) -> str:
    return f"/v2/{repository}/manifests/{identifier}"


def blob_path(repository: str, digest: str) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def range_from(offset: int) -> str:
    """The Range header for everything from `offset` on (RFC 9110, 14.2)."""
    return f"bytes={offset}-"


def parse_errors(body: bytes) -> tuple[ApiError, ...]:
    """The entries of an error document (distribution-spec, "Error Codes"); empty where the body is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(document, dict):
        return ()
    entries = document.get("errors")
    if isinstance(entries, list):
        found = [entry for entry in entries[:20] if isinstance(entry, dict)]
        return tuple(ApiError(_line(entry.get("code")).upper(), _line(entry.get("message"))) for entry in found)
    details = _line(
        document.get("details") or document.get("message") or document.get("error")
    )  # token servers, proxies
    return (ApiError("", details),) if details else ()


_CHALLENGE = re.compile(
    r"""[\s,]*(?:
        (?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s",]+))
      | (?P<scheme>[!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=\s|,|$)
    )""",
    re.VERBOSE,
)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges of a WWW-Authenticate header, also of several that were joined with commas (RFC 9110, 11.6.1)."""
    challenges: list[Challenge] = []
    position = 0
    header = header[:16384]
    while match := _CHALLENGE.match(header, position):
        position = match.end()
        if scheme := match["scheme"]:
            challenges.append(Challenge(scheme.lower(), {}))
        elif challenges:
            value = match["token"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
            challenges[-1].parameters.setdefault(match["name"].lower(), value)
    return tuple(challenges)


def parse_content_range(value: str | None) -> ContentRange | None:
    """A Content-Range header (RFC 9110, 14.4)."""
    match = re.fullmatch(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*", value or "", re.ASCII)
    if match is None:
        return None
    start, end = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    return ContentRange(start, end, total) if start <= end and (total is None or end < total) else None


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After header, which is a number or a date (RFC 9110, 10.2.3). now: seconds of the epoch."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def next_link(value: str | None) -> str | None:
    """The target of `rel="next"` in a Link header (RFC 8288): how tag lists and catalogs are paged."""
    for match in re.finditer(r"<([^>]*)>([^<]*)", (value or "")[:16384]):
        if re.search(r";\s*rel\s*=\s*\"?(?:[^\";]*\s)?next(?:\s[^\";]*)?\"?\s*(?:[;,]|$)", match[2], re.IGNORECASE):
            return match[1]
    return None


def _line(value: object) -> str:
    """A text of a server as a part of one line on a terminal: no control characters, bounded."""
    if not isinstance(value, str):
        return ""
    return "".join(character if character.isprintable() else " " for character in value[:500]).strip()
