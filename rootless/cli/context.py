"""What every command is given: where things are, what the user has set, and how to tell him something. Hot."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import Error
from ..paths import Paths, from_environment
from ..settings import Settings, load

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..runtime.plan import Operation
    from .console import Reporter

LEVELS = ("debug", "info", "warn", "error")


class Context:
    """Made of the global options. Nothing is read before it is asked for: `rl version` works with a broken settings file."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self.debug: bool = options["debug"]
        self.level: str = "debug" if self.debug else options["log_level"]
        self.storage_driver: str | None = options["storage_driver"]
        self._reporter: Reporter | None = None

    @cached_property
    def unprepared_paths(self) -> Paths:
        """Where the store and the runtime directory are or would be; nothing is made."""
        return from_environment(self._options["root"], self._options["runroot"])

    @cached_property
    def paths(self) -> Paths:
        """The store and the runtime directory, made and checked."""
        self.unprepared_paths.prepare()
        return self.unprepared_paths

    @cached_property
    def settings(self) -> Settings:
        """The settings file, overruled by --storage-driver."""
        found = load(self.unprepared_paths)
        return found._replace(storage_driver=self.storage_driver) if self.storage_driver else found

    def shows(self, level: str) -> bool:
        """Whether messages of this level are wanted."""
        return LEVELS.index(level) >= LEVELS.index(self.level)

    def on_event(self, *, quiet: bool = False) -> Callable[[Any], None]:
        """Where the engine reports progress; whatever draws is imported with the first event."""

        def report(event: Any) -> None:
            if self._reporter is None:
                from .console import Reporter

                self._reporter = Reporter(self, quiet=quiet)
            self._reporter(event)

        return report

    def engine(self, *, quiet: bool = False) -> Engine:
        """What the use cases of containers are given. --debug prints each plan, one line an operation."""
        from ..engine.engine import Engine

        return Engine(
            paths=self.paths,
            settings=self.settings,
            note=self._note,
            on_event=self.on_event(quiet=quiet),
            on_plan=_print_plan if self.debug else None,
        )

    def _note(self, message: str) -> None:
        if self.shows("warn"):
            write_error(f"{warning_mark()}{printable(message)}\n")

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._reporter is not None:
            self._reporter.close()

    def each(self, act: Callable[[str], None], names: tuple[str, ...]) -> int:
        """Do one thing to several objects, all that can be done: errors are reported as they come. The exit code: that of the last error, else 0."""
        code = 0
        for name in names:
            try:
                act(name)
            except Error as error:
                sys.stdout.flush()
                complain(error)
                code = error.exit_code
        return code


def complain(error: Error) -> None:
    """An error as people see it: one line, and below it where it happened and what helps."""
    red, dim, plain = ("\33[1;31m", "\33[2m", "\33[0m") if in_colour(sys.stderr) else ("", "", "")
    lines = [f"{red}rl:{plain} {printable(error.message)}"]
    if error.context:
        lines += [f"  {dim}{printable(line)}{plain}" for line in error.context.splitlines()]
    if error.hint:
        lines += [f"{dim}hint:{plain} {printable(line)}" for line in error.hint.splitlines()]
    write_error("\n".join(lines) + "\n")


def warning_mark() -> str:
    """What stands before a warning."""
    return "\33[1;33mwarning:\33[0m " if in_colour(sys.stderr) else "warning: "


def _print_plan(title: str, operations: Iterable[Operation]) -> None:
    write_error(
        "".join(
            f"{line}\n"
            for line in (f"plan of the {title}:", *(f"    {operation.describe()}" for operation in operations))
        )
    )


def write_error(text: str) -> None:
    """Write to standard error in one piece, whatever its encoding; one that is closed is nobody's problem."""
    try:
        sys.stderr.write(
            text.encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode(sys.stderr.encoding or "utf-8")
        )
        sys.stderr.flush()
    except OSError:
        ...


def in_colour(stream: Any) -> bool:
    """Colour is for terminals, and not for those who set NO_COLOR (no-color.org) or have a dumb one."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """Text that cannot steer a terminal: names, labels and commands come from images, which anybody can make."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )
