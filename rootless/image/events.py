"""What a transfer tells while it runs. Nothing here prints: the front end that passes `on_event` decides what a person sees.

Events of one transfer come one at a time, though from several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Phase = Literal["download", "unpack"]
"""`unpack` is a layer whose blob is on disk already; a download unpacks as it goes."""


class LayerStarted(NamedTuple):
    """Work on a blob begins. total: its size in bytes as transferred; resumed: how many of them an earlier attempt left."""

    digest: str
    total: int
    phase: Phase
    resumed: int = 0


class LayerProgress(NamedTuple):
    """done of total bytes (compressed), at most some ten times a second for each layer."""

    digest: str
    done: int
    total: int
    phase: Phase


class LayerDone(NamedTuple):
    """The layer is unpacked, checked and durable."""

    digest: str
    total: int


class AlreadyPresent(NamedTuple):
    """The store has this layer."""

    digest: str


class Waiting(NamedTuple):
    """Another process has this layer in work; we take its result."""

    digest: str


class Note(NamedTuple):
    """A sentence for the user. level: `info` (a retry, a redirect), `warning` (something he should know)."""

    message: str
    level: Literal["info", "warning"] = "info"


Event = LayerStarted | LayerProgress | LayerDone | AlreadyPresent | Waiting | Note
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The `on_event` of who does not want to know."""
