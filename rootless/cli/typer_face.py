"""Typer's face of the declarations: help, and errors with suggestions. The only importer of typer.

It sees what the small parser did not understand: `--help`, no command, a wrong spelling. It costs 40 ms more than that, so nothing that
a script does in a loop comes here.

The public way to make Typer commands is a function with a signature; the signatures are made from the table. Two things need the parser below it (in
`typer._click`, which is why pyproject.toml bounds the version): Docker's `--flag=false`, which Click refuses, and `-n=value`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer._click import exceptions as failures
from typer._click.parser import _OptionParser, _ParsingState
from typer.core import TyperCommand, TyperGroup

from ..errors import UsageError
from . import create_options, table
from .command import Argument, Command, Invocation, Option


def parse(words: Sequence[str]) -> Invocation | int:
    """The invocation that `words` ask for, or the exit code after help was printed. UsageError says what is wrong and what was perhaps meant."""
    if not words:
        words = ("--help",)
    root = typer.main.get_command(_application())
    try:
        answer = root.main(list(words), prog_name="rl", standalone_mode=False)
    except failures.NoArgsIsHelpError as error:
        print(error.format_message())
        return 0
    except failures.ClickException as error:
        _fail(error)
    return answer if isinstance(answer, Invocation) else int(answer or 0)


# ---- from declarations to Typer


def _application() -> typer.Typer:
    app = _group("rl", "Rootless containers without a daemon", _root_callback())
    groups = {name: _group(name, summary) for name, summary in table.GROUPS.items()}
    for command in (command for section in table.SECTIONS for command in table.COMMANDS if command.section == section):
        _add(app, command, command.name)
    for command in table.COMMANDS:
        seen: set[str] = set()
        for name in (command.name, *command.aliases):
            group, _, last = name.rpartition(" ")
            if group:
                _add(groups[group], command, last, hidden=group in seen)
            seen.add(group)
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name, rich_help_panel="Groups of commands")
    return app


def _markup() -> Any:
    """Rich's help for a person; plain text for a pipe."""
    return "rich" if sys.stdout.isatty() else None


def _plain(text: str) -> str:
    """Text that markup leaves alone: our metavars are full of brackets."""
    return text.replace("[", "\\[") if _markup() else text


def _group(name: str, summary: str, callback: Callable[..., None] | None = None) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=summary,
        cls=_Group,
        callback=callback,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=_markup(),
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help"]},
        epilog=_plain("See 'rl COMMAND --help' for a command") if callback else None,
    )


def _root_callback() -> Callable[..., None]:
    def remember(context: typer.Context, **values: Any) -> None:
        context.obj = _settle(table.GLOBAL_OPTIONS, values)

    return _with_signature(remember, table.GLOBAL_OPTIONS)


def _add(app: typer.Typer, command: Command, name: str, *, hidden: bool = False) -> None:
    """Add a command under one of its names; the further ones in a group are hidden: `image rm` is shown, `image remove` works."""

    def invoke(context: typer.Context, **values: Any) -> Invocation:
        settled = _settle(command.options, values)
        for argument in command.arguments:
            value = values[argument.name]
            settled[argument.name] = tuple(value or ()) if argument.many or argument.remainder else value
        return Invocation(command, context.find_root().obj, settled)

    described = f"{command.summary}.\n\n{command.description}" if command.description else f"{command.summary}."
    examples = "\n\n".join(f"{line}  ({purpose})" for purpose, line in command.examples)
    app.command(
        name,
        cls=_Command,
        help=_plain(described),
        short_help=_plain(command.summary),
        epilog=_plain(f"Examples:\n\n{examples}") if examples else None,
        hidden=command.hidden or hidden,
        rich_help_panel=command.section or None,
        context_settings={"allow_interspersed_args": command.interspersed},
    )(_with_signature(invoke, command.options, command.arguments))


def _with_signature(
    function: Callable[..., Any], options: tuple[Option, ...], arguments: tuple[Argument, ...] = ()
) -> Callable[..., Any]:
    """The function with the parameters that Typer is to read off it."""
    named: list[tuple[str, Any, Any]] = [("context", typer.Context, inspect.Parameter.empty)]
    for argument in arguments:
        several = argument.many or argument.remainder
        info = typer.Argument(metavar=argument.metavar + ("..." if several else ""), show_default=False)
        kind: Any = list[str] if several else str
        named.append((argument.name, Annotated[kind, info], inspect.Parameter.empty if argument.required else None))
    named += [(option.key, _annotation(option), None) for option in options]
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, annotation, default in named
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {}
    return function


def _annotation(option: Option) -> Any:
    names = option.names.split()
    described = option.help
    if option.kind == "flag":
        if option.default:
            described += f" (the default; {names[-1]}=false does not)"
    elif isinstance(option.default, str) or (isinstance(option.default, int) and option.default >= 0):
        described += f" (default: {option.default})"
    shared: dict[str, Any] = {"help": _plain(described), "hidden": option.hidden, "show_default": False}
    if option.kind == "flag":
        return Annotated[bool, typer.Option(*names, **shared)]
    converted = typer.Option(
        *names,
        parser=_Converter(option),
        metavar=option.metavar,
        **shared,
    )
    return Annotated[list[str] if option.multiple else str, converted]


class _Converter:
    """Leaves the word as it is: `_settle` converts, so that both parsers do it by the same code."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.__name__ = option.metavar or option.key.upper()

    def __call__(self, word: str) -> str:
        return word


def _settle(options: tuple[Option, ...], words: dict[str, Any]) -> dict[str, Any]:
    """The options' values from what Click read: words, or True for a bare flag."""
    values: dict[str, Any] = {}
    for option in options:
        said = words[option.key]
        if said is None or (option.multiple and not said):
            values[option.key] = option.default
        elif isinstance(said, bool):
            values[option.key] = said
        elif option.multiple:
            values[option.key] = tuple(option.convert(word) for word in said)
        else:
            values[option.key] = option.convert(said)
    return values


# ---- Docker's spellings


class _Parser(_OptionParser):
    def _get_value_from_state(self, option_name: str, option: Any, state: _ParsingState) -> Any:
        return self._checked(option, option_name, super()._get_value_from_state(option_name, option, state))

    def _match_long_opt(self, opt: str, explicit_value: str | None, state: _ParsingState) -> None:
        option = self._long_opt.get(opt)
        if option is None or option.takes_value or explicit_value is None:
            super()._match_long_opt(opt, explicit_value, state)
        else:
            self._set_flag(option, opt, explicit_value, state)

    def _match_short_opt(self, arg: str, state: _ParsingState) -> None:
        for i in range(1, len(arg)):
            option = self._short_opt.get(f"-{arg[i]}")
            if option is None:
                break
            value = arg[i + 1 :]
            if len(value) > 1 and value[0] == "=":
                if i > 1:
                    super()._match_short_opt(arg[:i], state)
                if option.takes_value:
                    option.process(self._checked(option, f"-{arg[i]}", value[1:]), state)
                else:
                    self._set_flag(option, f"-{arg[i]}", value[1:], state)
                return
            if option.takes_value:
                break
        super()._match_short_opt(arg, state)

    @staticmethod
    def _checked(option: Any, spelled: str, word: Any) -> Any:
        """The word, if it is one that the option takes: Click would look at the last one only, and not know how the option was spelled."""
        converter = getattr(option.obj.type, "func", None)
        if isinstance(converter, _Converter):
            converter.option.convert(word, spelled)
        return word

    @staticmethod
    def _set_flag(option: Any, spelled: str, word: str, state: _ParsingState) -> None:
        state.opts[option.dest] = Option(spelled, "", "flag").convert(word, spelled)
        state.order.append(option.obj)


class _Command(TyperCommand):
    def make_parser(self, ctx: Any) -> _OptionParser:
        return _adopt(super().make_parser(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except failures.UsageError as error:
            error.ctx = error.ctx or ctx  # Click's parser does not always say which command it was at
            raise


class _Group(TyperGroup):
    def make_parser(self, ctx: Any) -> _OptionParser:
        return _adopt(super().make_parser(ctx))


def _adopt(parser: _OptionParser) -> _OptionParser:
    """The same parser with our reading of values. Click has no hook for the class that it makes."""
    parser.__class__ = _Parser
    return parser


# ---- errors


def _fail(error: failures.ClickException) -> NoReturn:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "rl"
    see = f"see '{path} --help'"
    if isinstance(error, failures.NoSuchOption):
        name = error.option_name
        known = create_options.LATER.get(name) if path.rpartition(" ")[2] in ("run", "create") else None
        if known:
            raise UsageError(f"{name} is not supported yet", hint=see) from None
        near = sorted(error.possibilities or ())
        raise UsageError(
            f"no such option: {name}", hint=f"did you mean {' or '.join(near)}? {see}" if near else see
        ) from None
    if isinstance(error, failures.MissingParameter):
        missing = error.param.make_metavar(context) if error.param and context else "an argument"
        raise UsageError(f"{path} needs {missing}", hint=see) from None
    if isinstance(error, failures.BadOptionUsage):
        raise UsageError(f"{error.option_name} needs a value", hint=see) from None
    message = error.format_message().rstrip(".")
    raise UsageError(message[:1].lower() + message[1:], hint=see) from None
