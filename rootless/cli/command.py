"""How commands are declared: as data, once. Hot: NamedTuples, and nothing that runs at import.

Three readers stand on these declarations: the small parser (`parse`), Typer (`typer_face`: help, errors), and the generators of completions and manual pages.
What an option's word means is decided here, by `Option.convert`, for all of them alike.
"""

from typing import Any, Literal, NamedTuple

from ..errors import UsageError
from .units import parse_size

Kind = Literal["flag", "text", "integer", "size", "choice"]
Completes = Literal["", "container", "running", "image", "file", "directory", "network"]
"""What a shell can offer for a value: names of containers or images, or files."""

# As strconv.ParseBool of Go, with which Docker and Podman read `--flag=value`.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


class Option(NamedTuple):
    """One option. Made by `flag`, `text`, `integer`, `size`, `choice` below.

    names: as typed, separated by spaces: `-e --env`. default: its value where it is not said (a flag's None: "not said"). multiple: may be repeated; the value
    is a tuple of all. A flag is `--flag` or `--flag=false`, never `--flag false`.
    """

    names: str
    help: str
    kind: Kind = "text"
    metavar: str = ""
    multiple: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    completes: Completes = ""
    hidden: bool = False

    @property
    def key(self) -> str:
        """Its name among the values, and the parameter of the handler: that of the first long spelling."""
        for name in self.names.split():
            if name.startswith("--"):
                return name[2:].replace("-", "_")
        return self.names[1:]

    def convert(self, word: str, spelled: str | None = None) -> Any:
        """The value of a word. UsageError names the option (as `spelled` on the line) and what it takes."""
        if self.kind == "text":
            return word
        try:
            return self._convert(word)
        except ValueError as error:
            raise UsageError(f"invalid value {word!r} for {spelled or self.names.split()[-1]}: {error}") from None

    def _convert(self, word: str) -> Any:
        if self.kind == "flag":
            if word not in _BOOLEANS:
                raise ValueError("write true or false")
            return _BOOLEANS[word]
        if self.kind == "size":
            return parse_size(word)
        if self.kind == "choice":
            if word not in self.choices:
                raise ValueError(f"it is one of {', '.join(self.choices)}")
            return word
        if not (word.removeprefix("-").isdecimal() and word.isascii() and len(word) <= 18):
            raise ValueError("it is a whole number")
        return int(word)


class Argument(NamedTuple):
    """A positional argument. many: one or more (none or more where not required). remainder: as `many`, and the first word of the command's
    own ends the reading of options: what follows belongs to the container."""

    name: str
    metavar: str
    required: bool = True
    many: bool = False
    remainder: bool = False
    completes: Completes = ""


class Command(NamedTuple):
    """One command.

    name: its words, `ps` or `image inspect`; aliases: other such names. handler: `module:function`, called as `function(context, **values)` where the names of
    `values` are the keys of the options and the names of the arguments. examples: (what it does, the line).
    """

    name: str
    summary: str
    handler: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    description: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    section: str = ""
    hidden: bool = False

    @property
    def interspersed(self) -> bool:
        """Whether options may follow arguments."""
        return not any(argument.remainder for argument in self.arguments)

    def assign(self, words: list[str]) -> dict[str, Any] | None:
        """The arguments' values by name, or None where words are missing or left over."""
        values: dict[str, Any] = {}
        for argument in self.arguments:
            if argument.many or argument.remainder:
                values[argument.name], words = tuple(words), []
                if argument.required and not values[argument.name]:
                    return None
            elif words:
                values[argument.name], words = words[0], words[1:]
            elif argument.required:
                return None
            else:
                values[argument.name] = None
        return None if words else values


class Invocation(NamedTuple):
    """A command line that was understood. `options` are the global ones; `values` has every option and argument of the command."""

    command: Command
    options: dict[str, Any]
    values: dict[str, Any]


def flag(names: str, help: str, *, default: bool | None = False, hidden: bool = False) -> Option:
    return Option(names, help, "flag", default=default, hidden=hidden)


def text(
    names: str,
    help: str,
    metavar: str = "STRING",
    *,
    many: bool = False,
    default: str | None = None,
    completes: Completes = "",
) -> Option:
    return Option(names, help, "text", metavar, many, () if many else default, (), completes)


def integer(names: str, help: str, metavar: str = "N", *, default: int | None = None) -> Option:
    return Option(names, help, "integer", metavar, default=default)


def size(names: str, help: str, *, default: int | None = None) -> Option:
    return Option(names, help, "size", "BYTES", default=default)


def choice(names: str, help: str, *choices: str, default: str | None = None) -> Option:
    return Option(names, help, "choice", "|".join(choices), False, default, choices)
