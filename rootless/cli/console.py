"""Progress of transfers: a bar for each layer on a terminal, stable lines in a pipe. The only importer of rich. Not hot.

Everything goes to standard error: standard output is for what scripts read.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..image import events
from .context import Context, printable, warning_mark, write_error
from .units import human_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WORDS: dict[events.Phase, str] = {"download": "downloading", "unpack": "unpacking"}


class Reporter:
    """Takes the events of the engine and shows them. quiet: only what the user must know."""

    def __init__(self, context: Context, *, quiet: bool) -> None:
        self._context = context
        layers: _Lines | _Bars = _Bars() if sys.stderr.isatty() else _Lines()
        self._layers = None if quiet or not context.shows("info") else layers

    def __call__(self, event: object) -> None:
        message = getattr(event, "message", None)
        if message is not None:
            self._note(str(message), getattr(event, "level", "info"))
        elif isinstance(
            event,
            events.LayerStarted | events.LayerProgress | events.LayerDone | events.AlreadyPresent | events.Waiting,
        ):
            if self._layers is not None:
                self._layers.show(event)
        elif self._context.shows("debug"):
            write_error(f"{event}\n")

    def _note(self, message: str, level: str) -> None:
        if self._layers is None and level == "info":
            return
        if not self._context.shows("warn" if level == "warning" else level):
            return
        line = f"{warning_mark() if level == 'warning' else ''}{printable(message)}\n"
        if isinstance(self._layers, _Bars):
            self._layers.above(line)
        else:
            write_error(line)

    def close(self) -> None:
        if isinstance(self._layers, _Bars):
            self._layers.close()


def _short(digest: str) -> str:
    return digest.rpartition(":")[2][:12]


class _Lines:
    """One line when work on a layer begins and one when it is done."""

    def show(self, event: Any) -> None:
        name = _short(event.digest)
        match event:
            case events.LayerStarted(total=total, phase=phase, resumed=resumed):
                since = f", {human_size(resumed)} are here" if resumed else ""
                write_error(f"{name}: {_WORDS[phase]} {human_size(total)}{since}\n")
            case events.LayerDone():
                write_error(f"{name}: done\n")
            case events.AlreadyPresent():
                write_error(f"{name}: already here\n")
            case events.Waiting():
                write_error(f"{name}: waiting for another pull\n")


class _Bars:
    """A bar for each layer. The display lives while a layer is in work: between pulls the terminal belongs to others, as to the container."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._busy: set[str] = set()

    def show(self, event: Any) -> None:
        progress = self._progress or self._open()
        task = self._tasks.get(event.digest)
        if task is None:
            task = self._tasks[event.digest] = progress.add_task(_short(event.digest), total=None, phase="")
        match event:
            case events.LayerStarted(total=total, phase=phase, resumed=resumed):
                self._busy.add(event.digest)
                progress.update(task, total=total, completed=resumed, phase=_WORDS[phase])
            case events.LayerProgress(done=done, total=total, phase=phase):
                progress.update(task, total=total, completed=done, phase=_WORDS[phase])
            case events.LayerDone(total=total):
                self._busy.discard(event.digest)
                progress.update(task, total=total, completed=total, phase="done")
            case events.AlreadyPresent():
                progress.update(task, total=1, completed=1, phase="already here")
            case events.Waiting():
                self._busy.add(event.digest)
                progress.update(task, phase="waiting for another pull")
        if not self._busy:
            self.close()

    def above(self, line: str) -> None:
        """Print a line above the bars."""
        if self._progress is None:
            write_error(line)
        else:
            from rich.text import Text

            self._progress.console.print(Text.from_ansi(line.rstrip("\n")), soft_wrap=True)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks.clear()
            self._busy.clear()

    def _open(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[phase]:<12}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=sys.stderr, highlight=False),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._progress.start()
        return self._progress
