"""Manual pages, made of the declarations: `docs/man/rl.1` and one for each command. Not hot; `tools/generate` writes them, a test compares."""

from __future__ import annotations

from .. import __version__
from . import table
from .command import Argument, Command, Option


def pages() -> dict[str, str]:
    """File name -> text in man(7)'s language."""
    found = {"rl.1": _overview()}
    for command in table.COMMANDS:
        if not command.hidden:
            found[f"rl-{command.name.replace(' ', '-')}.1"] = _page(command)
    return found


def _overview() -> str:
    lines = [*_head("rl", "rootless containers without a daemon")]
    lines += [".SH SYNOPSIS", ".B rl", "[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]..."]
    lines += _options(table.GLOBAL_OPTIONS)
    for section in table.SECTIONS:
        lines.append(f".SH {section.upper()}")
        lines += _summaries([command for command in table.COMMANDS if command.section == section])
    for group, summary in table.GROUPS.items():
        lines += [f".SH RL {group.upper()}", f"{_escape(summary)}. The commands of this group:"]
        names = [name for command in table.COMMANDS for name in (command.name, *command.aliases)]
        words = ", ".join(name.partition(" ")[2] for name in names if name.startswith(f"{group} "))
        lines += [_escape(words) + "."]
    lines += [
        ".SH EXIT STATUS",
        ".TP", "\\fB125\\fR", "rl itself failed",
        ".TP", "\\fB126\\fR", "the command of the container cannot be executed",
        ".TP", "\\fB127\\fR", "the command of the container does not exist",
        ".TP", "\\fB128+\\fIn\\fR", "signal \\fIn\\fR ended the container",
        ".PP", "Otherwise that of the container.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _page(command: Command) -> str:
    lines = _head(f"rl-{command.name.replace(' ', '-')}", command.summary)
    lines += [".SH SYNOPSIS"]
    synopsis = " ".join(_argument(argument) for argument in command.arguments)
    for number, name in enumerate((command.name, *command.aliases)):
        lines += [*([".br"] if number else []), f"\\fBrl {_escape(name)}\\fR [\\fIOPTION\\fR]... {synopsis}".rstrip()]
    lines += [".SH DESCRIPTION", f"{_escape(command.summary)}."]
    if command.description:
        lines += [".PP", _escape(command.description)]
    lines += _options(command.options)
    if command.examples:
        lines.append(".SH EXAMPLES")
        for purpose, line in command.examples:
            lines += [".PP", f"{_escape(purpose)}:", ".PP", ".nf", f".RS\n{_escape(line)}\n.RE", ".fi"]
    lines += [".SH SEE ALSO", ".BR rl (1)"]
    return "\n".join(lines) + "\n"


def _head(name: str, summary: str) -> list[str]:
    title = f'.TH "{name.upper()}" "1" "" "rl {__version__}" "rl"'
    return [title, ".SH NAME", f"{_escape(name)} \\- {_escape(summary[:1].lower() + summary[1:])}"]


def _argument(argument: Argument) -> str:
    """`IMAGE`, `[FILE]`, `CONTAINER...`, and of a remainder `COMMAND [ARGUMENT]` -> `COMMAND [ARGUMENT]...`."""
    first, _, further = argument.metavar.partition(" [")
    shown = f"\\fI{_escape(first)}\\fR"
    if further:
        shown += f" [\\fI{_escape(further.removesuffix(']'))}\\fR]..."
    elif argument.many:
        shown += "..."
    return shown if argument.required else f"[{shown}]"


def _options(options: tuple[Option, ...]) -> list[str]:
    shown = [option for option in options if not option.hidden]
    lines = [".SH OPTIONS"] if shown else []
    for option in shown:
        names = ", ".join(f"\\fB{_escape(name)}\\fR" for name in option.names.split())
        value = "" if option.kind == "flag" else f" \\fI{_escape(option.metavar)}\\fR"
        notes = "; may be repeated" if option.multiple else ""
        if option.kind == "flag":
            notes = "; the default, =false turns it off" if option.default else ""
        elif isinstance(option.default, str) or (isinstance(option.default, int) and option.default >= 0):
            notes = f" (default: {option.default})"
        lines += [".TP", f"{names}{value}", _escape(option.help + notes)]
    return lines


def _summaries(commands: list[Command]) -> list[str]:
    lines: list[str] = []
    for command in commands:
        lines += [".TP", f"\\fBrl {_escape(command.name)}\\fR", _escape(command.summary)]
    return lines


def _escape(text: str) -> str:
    """For troff: its escape character, hyphens that are typed as such, quotes, and a dot or quote that would begin a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text
