"""The small parser and Typer read one declaration; they must understand the same by it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rootless.cli import create_options, parse, table, typer_face
from rootless.cli.command import Argument, Command, Invocation, Option
from rootless.errors import UsageError


def understood(words: str | Sequence[str]) -> Invocation:
    found = parse.parse(words.split() if isinstance(words, str) else words)
    assert found is not None, words
    return found


# ---- the two parsers


def values(option: Option) -> st.SearchStrategy[str]:
    odd = st.sampled_from(["", "-", "--", "=", "a=b", "-x", "--rm", "1", "true", "ä", "a b", "=x"])
    if option.kind == "flag":
        return st.sampled_from(["true", "false", "1", "F", "yes", ""])
    if option.kind == "choice":
        return st.sampled_from([*option.choices, "wrong"])
    return st.one_of(odd, st.sampled_from(["5", "-5", "64m", "x"]))


@st.composite
def words_of(draw: st.DrawFn, option: Option) -> list[str]:
    """One use of an option, in one of its spellings, sometimes a wrong one."""
    name = draw(st.sampled_from(option.names.split()))
    value = draw(values(option))
    spelling = draw(st.sampled_from(["apart", "equals", "joined", "bare"]))
    if spelling == "equals":
        return [f"{name}={value}"]
    if spelling == "joined" and len(name) == 2:
        return [name + value]
    if spelling == "apart" and option.kind != "flag":
        return [name, value]
    return [name]


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(table.COMMANDS))
    line = [
        word
        for option in draw(st.lists(st.sampled_from(table.GLOBAL_OPTIONS[:-1]), max_size=1))
        for word in draw(words_of(option))
    ]
    line += draw(st.sampled_from([command.name, *command.aliases])).split()
    parts = (
        [words_of(option) for option in draw(st.lists(st.sampled_from(command.options), max_size=4))]
        if command.options
        else []
    )
    parts += [st.lists(st.sampled_from(["alpine", "x", "-", "", "--", "-it", "--rm", "--no-such", "-z"]), max_size=2)]
    parts += [st.lists(st.sampled_from(["web", "sh", "-c"]), max_size=3)]
    return line + [word for part in draw(st.permutations(parts)) for word in draw(part)]


def outcome(parser: Any, line: list[str]) -> Any:
    try:
        return parser(line)
    except UsageError as error:
        return error


@settings(max_examples=200, deadline=None)
@given(lines())
@example(["inspect", "--type", "wrong", "--type", "all", "web"])
@example(["run", "-it=false", "-p=80:80", "-e=", "alpine"])
def test_the_parsers_agree(line: list[str]) -> None:
    ours = outcome(parse.parse, line)
    if ours is None:
        return
    theirs = outcome(typer_face.parse, line)
    if isinstance(ours, UsageError):
        assert isinstance(theirs, UsageError)
        assert theirs.message == ours.message
    else:
        assert theirs == ours


LINES = (
    "run alpine",
    "run --rm -it alpine sh -c ls",
    "run -itd --name=web -eA=b -e C -e=D=e --env E= -p 80:80 -p=81:81 alpine -- --rm",
    "run -- alpine -it",
    "run --sig-proxy=false --init=true --tls-verify=0 -d=false alpine",
    "run --shm-size 1g --stop-timeout 5 alpine",
    "container run alpine",
    "container stop -t 0 web",
    "stop web -t 5 db",
    "exec -it web sh -it",
    "ps -aq --filter name=x -f status=running --no-trunc",
    "ps -n 3",
    "ps -n -1",
    "images --format json alpine",
    "image ls",
    "image inspect a b",
    "--root /x --storage-driver=fuse --debug info",
    "-D --log-level error ps",
    "import - name:tag",
    "logs -f --tail 5 web",
    "unshare",
    "unshare rm -rf x",
    "logout",
)


@pytest.mark.parametrize("line", LINES)
def test_ordinary_lines_are_read_by_both(line: str) -> None:
    assert understood(line) == typer_face.parse(line.split())


# ---- what is read


def test_options_end_at_the_image() -> None:
    found = understood("run -t alpine sh -t --rm")
    assert found.values["image"] == "alpine"
    assert found.values["command"] == ("sh", "-t", "--rm")
    assert found.values["tty"] and not found.values["rm"]


def test_values_are_converted() -> None:
    found = understood("--debug run --shm-size 64m -e A=1 -e B --sig-proxy=false x").values
    assert (found["shm_size"], found["env"], found["sig_proxy"]) == (64 << 20, ("A=1", "B"), False)
    assert (found["tls_verify"], found["pull"], found["publish"], found["command"]) == (None, "missing", (), ())


def test_the_last_one_counts() -> None:
    assert understood("run --name a --name b x").values["name"] == "b"


def test_version_needs_no_command() -> None:
    assert understood("--version").command is table.VERSION_LINE


@pytest.mark.parametrize("line", ["", "--help", "run", "run --help", "run --no-such x", "nothing", "image", "image nothing", "tag a", "stop --time", "version x", "run --init"])  # fmt: skip
def test_the_rest_is_for_typer(line: str) -> None:
    assert parse.parse(line.split()) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run --shm-size 1x alpine", "invalid value '1x' for --shm-size"),
        ("run --init=maybe alpine", "invalid value 'maybe' for --init"),
        ("stop -t soon web", "invalid value 'soon' for -t"),
        ("run --pull sometimes alpine", "one of missing, always"),
    ],
)
def test_wrong_values_name_the_option(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse.parse(line.split())
    assert message in caught.value.message


# ---- what Typer says


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("run --nmae x alpine", "no such option: --nmae", "did you mean --hostname or --name or --net? see 'rl run --help'"),
        ("run --gpus all alpine", "--gpus is not supported yet", "see 'rl run --help'"),
        ("create -m 1g alpine", "-m is not supported yet", "see 'rl create --help'"),
        ("run -iz alpine", "no such option: -z", "see 'rl run --help'"),
        ("run", "rl run needs IMAGE", "see 'rl run --help'"),
        ("run --name", "--name needs a value", "see 'rl run --help'"),
        ("imgaes", "no such command 'imgaes'. Did you mean 'images', 'image'?", "see 'rl --help'"),
        ("image nothing", "no such command 'nothing'", "see 'rl image --help'"),
        ("version now", "got unexpected extra argument(s) (now)", "see 'rl version --help'"),
    ],
)  # fmt: skip
def test_errors(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        typer_face.parse(line.split())
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize("line", ["", "--help", "image --help", "image", "run --help"])
def test_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typer_face.parse(line.split()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: rl") and not err
    assert "\33" not in out


def test_help_shows_what_brackets_say(capsys: pytest.CaptureFixture[str]) -> None:
    typer_face.parse(["run", "--help"])
    assert "[[IP:]HOST:]PORT[/PROTOCOL]" in capsys.readouterr().out


# ---- the declarations


def handler(command: Command) -> Any:
    module, _, function = command.handler.partition(":")
    __import__(module)
    return getattr(sys.modules[module], function)


@pytest.mark.parametrize("command", [*table.COMMANDS, table.VERSION_LINE], ids=lambda command: command.name)
def test_handlers_take_what_is_declared(command: Command) -> None:
    """The first parameter is the context; the others are the options and arguments, by name, or `**values` for all options."""
    declared = {*(option.key for option in command.options), *(argument.name for argument in command.arguments)}
    parameters = list(inspect.signature(handler(command)).parameters.values())[1:]
    names = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    assert names <= declared
    assert takes_all or names == declared


@pytest.mark.parametrize("command", table.COMMANDS, ids=lambda command: command.name)
def test_declarations_are_sound(command: Command) -> None:
    names = [name for option in command.options for name in option.names.split()]
    assert len(names) == len(set(names))
    keys = [*(option.key for option in command.options), *(argument.name for argument in command.arguments)]
    assert len(keys) == len(set(keys)) and all(key.isidentifier() for key in keys)
    assert "--help" not in names
    assert not command.summary.endswith(".")
    assert all(not option.help.endswith(".") for option in command.options)
    several = [argument for argument in command.arguments if argument.many or argument.remainder]
    assert several in ([], [command.arguments[-1]] if command.arguments else [])
    for _, shown in command.examples:
        assert shown.startswith("rl ") and parse.parse(shown.split()[1:]) is not None


def test_names_are_unique() -> None:
    names = [name for command in table.COMMANDS for name in (command.name, *command.aliases)]
    assert len(names) == len(set(names))
    assert {name.partition(" ")[0] for name in names if " " in name} <= table.GROUPS.keys()
    assert not table.GROUPS.keys() & set(names)
    assert all(command.section in table.SECTIONS for command in table.COMMANDS if " " not in command.name)


def test_what_comes_later_is_not_there() -> None:
    here = {name for option in create_options.RUN_OPTIONS for name in option.names.split()}
    assert not here & create_options.LATER.keys()


def test_assign() -> None:
    command = Command(
        "x",
        "",
        "",
        (Argument("a", "A"), Argument("b", "B", required=False), Argument("c", "C", required=False, many=True)),
    )
    assert command.assign(["1"]) == {"a": "1", "b": None, "c": ()}
    assert command.assign(["1", "2", "3", "4"]) == {"a": "1", "b": "2", "c": ("3", "4")}
    assert command.assign([]) is None
