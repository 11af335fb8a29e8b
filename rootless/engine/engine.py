"""What every use case is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..paths import Paths
from ..runtime.plan import Operation
from ..settings import Settings


def _nowhere(_: object) -> None:
    """The default of the callbacks: nobody listens."""


class Engine(NamedTuple):
    """Where things are, what is set, and who is told.

    note: sentences about what this host refused and how it was done instead. on_event: progress of images (image/events.py). on_plan: every plan before it is
    carried out, for --debug.
    """

    paths: Paths
    settings: Settings
    note: Callable[[str], None] = _nowhere
    on_event: Callable[[Any], None] = _nowhere
    on_plan: Callable[[str, Sequence[Operation]], None] | None = None
