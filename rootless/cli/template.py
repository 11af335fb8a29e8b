"""Go's text/template, as much of it as `--format` is used with. Pure.

    {{.Name}}  {{.State.Pid}}  {{.}}           fields of the value, at any depth
    {{json .State}}  {{.Name | upper}}         functions, and pipelines that hand a value on as the last argument
    {{index .Ports "80/tcp"}}                  with strings and numbers as arguments
    table {{.ID}}\\t{{.Names}}                  columns with headings

An action is compiled to a function of the value (`_Action`), so that blocks (`range`, `if`) can be added as nodes that hold nodes. What is not
understood is a UsageError, never silently text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import UsageError
from .columns import print_table
from .context import printable

_Action = Callable[[Any], Any]

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|\||[^\s|]+')
_FIELDS = re.compile(r"(\.[A-Za-z_][A-Za-z0-9_]*)+|\.")
_NO_VALUE = "<no value>"
_BLOCKS = ("if", "else", "end", "range", "with", "define", "template", "block", "break", "continue")


class Template:
    """A compiled template; `render` applies it to one value (a document of JSON's types)."""

    def __init__(self, text: str) -> None:
        self._nodes: list[str | _Action] = []
        self._names: list[str] = []  # for each action, the last field that it names
        text = text.replace("\\t", "\t").replace("\\n", "\n")
        at = 0
        trim = False
        for match in _ACTION.finditer(text):
            before = text[at : match.start()]
            before = before.lstrip() if trim else before
            self._nodes.append(before.rstrip() if match[1] else before)
            self._names.append("")
            self._nodes.append(self._compile(match[2]))
            trim, at = bool(match[3]), match.end()
        rest = text[at:].lstrip() if trim else text[at:]
        if "{{" in rest:
            raise UsageError(f"the template {text!r} has {{{{ without }}}}")
        self._nodes.append(rest)

    def render(self, value: Any) -> str:
        return "".join(node if isinstance(node, str) else shown(node(value)) for node in self._nodes)

    def heading(self, headings: Mapping[str, str]) -> str:
        """The template with a heading in the place of each action."""
        names = iter(self._names)
        heads = (node if isinstance(node, str) else next(names) for node in self._nodes)
        return "".join(
            text if isinstance(node, str) else headings.get(text, text.upper())
            for node, text in zip(self._nodes, heads, strict=True)
        )

    def _compile(self, action: str) -> _Action:
        if action.startswith("/*") and action.endswith("*/"):
            return lambda _: ""
        stages: list[list[str]] = [[]]
        for token in _TOKEN.findall(action):
            if token == "|":
                stages.append([])
            else:
                stages[-1].append(token)
        compiled: _Action | None = None
        for stage in stages:
            compiled = self._stage(stage, compiled, action)
        assert compiled is not None
        return compiled

    def _stage(self, tokens: list[str], previous: _Action | None, action: str) -> _Action:
        if not tokens:
            raise UsageError(f"the template has an empty action in {{{{{action}}}}}")
        if tokens[0] in _BLOCKS:
            raise UsageError(
                f"{{{{{tokens[0]}}}}} in templates is not supported yet",
                hint="use --format json and a program such as jq",
            )
        function = _FUNCTIONS.get(tokens[0])
        if function is None:
            if len(tokens) > 1 or previous is not None:
                raise UsageError(
                    f"no template function {tokens[0]!r}", hint=f"there are {', '.join(sorted(_FUNCTIONS))}"
                )
            return self._operand(tokens[0])
        operands = [self._operand(token) for token in tokens[1:]]
        if previous is not None:
            operands.append(previous)

        def call(value: Any) -> Any:
            try:
                return function(*(operand(value) for operand in operands))
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                raise UsageError(f"cannot evaluate {{{{{action}}}}}: {error}") from None

        return call

    def _operand(self, token: str) -> _Action:
        if _FIELDS.fullmatch(token):
            names = token[1:].split(".") if token != "." else []
            if names:
                self._names[-1] = names[-1]
            return lambda value: _follow(value, names)
        if token[0] in '"`':
            literal: Any = json.loads(token) if token[0] == '"' else token[1:-1]
        elif token in ("true", "false", "nil"):
            literal = {"true": True, "false": False, "nil": None}[token]
        else:
            try:
                literal = int(token)
            except ValueError:
                raise UsageError(
                    f"{token!r} in a template is no field, string, number or function",
                    hint="fields begin with a dot: {{.Name}}",
                ) from None
        return lambda _: literal


def render_rows(format: str, rows: Iterable[Mapping[str, Any]], headings: Mapping[str, str]) -> None:
    """Print rows as --format says: `json` (one list), `table TEMPLATE`, or a template for each row.

    headings: field -> heading of its column; a field without one has its name in capitals.
    """
    if format == "json":
        print(json.dumps(list(rows), indent=1))
        return
    table = format.startswith("table ")
    template = Template(format.removeprefix("table "))
    lines = [template.render(row) for row in rows]
    if not table:
        for line in lines:
            _print(line)
        return
    cells = [line.split("\t") for line in (template.heading(headings), *lines)]
    width = max(map(len, cells))
    head, *body = ([*line, *[""] * (width - len(line))] for line in cells)
    print_table(head, body)


def _print(text: str) -> None:
    """A person's terminal must not obey what an image says; a script gets it as it is."""
    if sys.stdout.isatty():
        text = "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
    print(text)


def render_each(format: str, documents: Iterable[Any]) -> None:
    """Print each document through a template."""
    template = Template(format)
    for document in documents:
        _print(template.render(document))


def render_document(format: str | None, document: Any) -> None:
    """Print one document: as indented JSON, or through a template."""
    if format in (None, "", "json"):
        print(json.dumps(document, indent=4, ensure_ascii=False))
    else:
        render_each(format or "", [document])


def shown(value: Any) -> str:
    """A value as Go's fmt prints it: `map[a:1 b:2]`, `[x y]`, `true`, `<no value>`."""
    if value is None:
        return _NO_VALUE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(shown, value)) + "]"
    return str(value)


def _follow(value: Any, names: list[str]) -> Any:
    """Walk down by field names. The first one must exist: a mistyped field is the user's mistake, a missing key deeper down is a fact."""
    for depth, name in enumerate(names):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif depth == 0:
            known = f"there are {', '.join(map(str, value))}" if isinstance(value, Mapping) else None
            raise UsageError(f"no field .{name} for --format", hint=known)
        else:
            return None
    return value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value[key] if not isinstance(value, Mapping) else value.get(key)
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "index": _index,
    "len": len,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "title": lambda text: text.title(),
    "join": lambda parts, separator: separator.join(map(shown, parts)),
    "split": lambda text, separator: text.split(separator),
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "print": lambda *values: "".join(map(shown, values)),
    "truncate": lambda text, width: text[:width],
}
