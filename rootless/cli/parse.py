"""The small parser: reads an ordinary command line from the declarations, in a tenth of a millisecond and without Typer (40 ms).

It is strict. What it does not understand at once it returns as None, and Typer, built from the same declarations, either
reads it or says what is wrong with it. On every line that both read they agree (tests/unit/test_cli_parse.py). Spellings are those of
Docker and Podman (the pflag library): `--name v`, `--name=v`, `-n v`, `-nv`, `-n=v`, `-it`, `--flag=false`, `--`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import table
from .command import Invocation, Option


def parse(words: Sequence[str]) -> Invocation | None:
    """The invocation that `words` (without the program's name) ask for; None: let Typer look at it. UsageError for a value that is wrong."""
    read = _read(words, 0, table.GLOBAL_OPTIONS, interspersed=False)
    if read is None:
        return None
    options, rest = read
    if options["version"]:
        return Invocation(table.VERSION_LINE, options, {})
    if not rest:
        return None
    depth = 2 if rest[0] in table.GROUPS else 1
    command = table.find(" ".join(rest[:depth]))
    if command is None:
        return None
    read = _read(rest, depth, command.options, interspersed=command.interspersed)
    if read is None:
        return None
    values, rest = read
    arguments = command.assign(rest)
    if arguments is None:
        return None
    values.update(arguments)
    return Invocation(command, options, values)


def _read(
    words: Sequence[str], at: int, declared: tuple[Option, ...], *, interspersed: bool
) -> tuple[dict[str, Any], list[str]] | None:
    """Read options from words[at:]: (every option's value, the other words), or None for what is not plain."""
    values: dict[str, Any] = {}
    by_name: dict[str, tuple[str, Option]] = {}
    for option in declared:
        key = option.key
        values[key] = option.default
        for name in option.names.split():
            by_name[name] = (key, option)
    rest: list[str] = []
    last = len(words)

    def put(name: str, word: str) -> None:
        key, option = by_name[name]
        value = option.convert(word, name)
        values[key] = (*values[key], value) if option.multiple else value

    while at < last:
        word = words[at]
        at += 1
        if word == "--":
            rest += words[at:]
            break
        if len(word) < 2 or word[0] != "-":
            rest.append(word)
            if interspersed:
                continue
            rest += words[at:]
            break
        if word[1] == "-":
            name, equals, value = word.partition("=")
            if name not in by_name:
                return None
            if equals:
                put(name, value)
            elif by_name[name][1].kind == "flag":
                put(name, "true")
            elif at < last:
                put(name, words[at])
                at += 1
            else:
                return None
            continue
        for i in range(1, len(word)):
            name = f"-{word[i]}"
            if name not in by_name:
                return None
            value = word[i + 1 :]
            if len(value) > 1 and value[0] == "=":  # so does pflag; `-e=` alone gives `=`
                put(name, value[1:])
                break
            if by_name[name][1].kind == "flag":
                put(name, "true")
                continue
            if value:
                put(name, value)
            elif at < last:
                put(name, words[at])
                at += 1
            else:
                return None
            break
    return values, rest
