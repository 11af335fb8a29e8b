"""Completion scripts for bash, zsh and fish, made of the declarations. Not hot.

`completions/` has them as files (`tools/generate`, compared by a test), `rl completion SHELL` prints them. They are static, since starting rl at each press of
the tab key would be felt; only names of containers and images are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from . import table
from .command import Argument, Command, Option

_LISTS = {
    "container": "rl ps -a --format '{{.Names}}'",
    "running": "rl ps --format '{{.Names}}'",
    "image": "rl images --format '{{.Repository}}:{{.Tag}}'",
    "network": "printf '%s\\n' slirp4netns none host container:",
}
_HELP = Option("--help", "Show help", "flag")


def _named() -> Iterator[tuple[str, Command]]:
    """Every name of every command that is shown."""
    for command in table.COMMANDS:
        if not command.hidden:
            for name in (command.name, *command.aliases):
                yield name, command


def _words(group: str) -> list[tuple[str, str]]:
    """(word, summary) of what may follow `rl` or `rl GROUP`."""
    words = []
    for name, command in _named():
        above, _, last = name.rpartition(" ")
        if above == group:
            words.append((last, command.summary))
    return words if group else [*words, *table.GROUPS.items()]


def _quoted(text: str) -> str:
    """In single quotes, as all three shells read them; they have no common way to quote one within."""
    return "'" + text.replace("'", "") + "'"


# ---- bash


def bash() -> str:
    cases = [_bash_case([""], table.GLOBAL_OPTIONS, (), " ".join(word for word, _ in _words("")))]
    cases += [_bash_case([group], (), (), " ".join(word for word, _ in _words(group))) for group in table.GROUPS]
    cases += [
        _bash_case([command.name, *command.aliases], command.options, command.arguments, "")
        for command in table.COMMANDS
        if not command.hidden
    ]
    lists = "\n".join(f"        {kind}) {asked} 2>/dev/null ;;" for kind, asked in _LISTS.items())
    return (
        _BASH.replace("@CASES@", "\n".join(cases)).replace("@LISTS@", lists).replace("@GROUPS@", "|".join(table.GROUPS))
    )


def _bash_case(names: Iterable[str], options: tuple[Option, ...], arguments: tuple[Argument, ...], words: str) -> str:
    patterns = "|".join(_quoted(name) for name in names)
    spelled = " ".join(
        name if option.kind == "flag" else f"{name}={_bash_kind(option)}"
        for option in (*options, _HELP)
        for name in option.names.split()
    )
    kinds = " ".join(
        ("*" if argument.many else "+" if argument.remainder else "") + (argument.completes or "-")
        for argument in arguments
    )
    return f"        {patterns})\n            options={_quoted(spelled)} arguments={_quoted(kinds)} words={_quoted(words)} ;;"


def _bash_kind(option: Option) -> str:
    return ",".join(option.choices) or option.completes


_BASH = r"""# bash completion of rl; made by `rl completion bash`, do not edit

# options: NAME for a flag, NAME=KIND for one with a value; arguments: a kind each, * repeats, + begins a command of its own.
_rl_declared() {
    case $1 in
@CASES@
        *) options='' arguments='' words='' ;;
    esac
}

_rl_list() {
    case $1 in
@LISTS@
        *,*) printf '%s\n' "${1//,/$'\n'}" ;;
    esac
}

_rl_offer() { # KIND WORD
    local IFS=$'\n'
    case $1 in
        file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$2")) ;;
        directory) compopt -o filenames; COMPREPLY=($(compgen -d -- "$2")) ;;
        '' | -) COMPREPLY=() ;;
        *) COMPREPLY=($(compgen -W "$(_rl_list "$1")" -- "$2")) ;;
    esac
}

_rl() {
    local command='' options arguments words word kind='' place=0 skip='' ended='' i
    local line=${COMP_LINE:0:COMP_POINT}
    local -a typed
    read -ra typed <<<"$line"
    [[ $line == *[[:space:]] ]] && typed+=('')
    local current=${typed[${#typed[@]} - 1]}
    COMPREPLY=()
    _rl_declared ''
    for ((i = 1; i < ${#typed[@]} - 1; i++)); do
        word=${typed[i]}
        if [[ $skip ]]; then
            skip=''
        elif [[ $word == -* && ! $ended ]]; then
            [[ $word != *=* && " $options" == *" $word="* ]] && skip=$word
        elif [[ ! $command || $command == @(@GROUPS@) ]]; then
            command="${command:+$command }$word"
            _rl_declared "$command"
        else
            place=$((place + 1))
            [[ $arguments == *+* ]] && ended=1
        fi
    done
    if [[ $skip ]]; then
        kind=" $options "
        kind=${kind#* "$skip"=}
        _rl_offer "${kind%% *}" "$current"
    elif [[ $words && $current != -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    elif [[ $current == --*=* && ! $ended ]]; then
        kind=" $options "
        [[ $kind == *" ${current%%=*}="* ]] || return
        kind=${kind#* "${current%%=*}"=}
        _rl_offer "${kind%% *}" "${current#*=}"
    elif [[ $current == -* && ! $ended ]]; then
        set -f
        for word in $options; do
            COMPREPLY+=("${word%%=*}")
        done
        set +f
        COMPREPLY=($(compgen -W "${COMPREPLY[*]}" -- "$current"))
    else
        read -ra words <<<"$arguments"
        ((place >= ${#words[@]} && ${#words[@]})) && place=$((${#words[@]} - 1))
        kind=${words[place]}
        if [[ $kind == +* ]]; then
            compopt -o default
        else
            _rl_offer "${kind#\*}" "$current"
        fi
    fi
    # Readline takes `:` and `=` for the ends of words: what stands before them in this word is there already.
    if [[ $current == *[:=]* && $COMP_WORDBREAKS == *[:=]* ]]; then
        word=${current%"${current##*[:=]}"}
        [[ $current == --*=* ]] && word=${word#*=}
        COMPREPLY=("${COMPREPLY[@]#"$word"}")
    fi
}

complete -F _rl rl
"""


# ---- zsh


def zsh() -> str:
    functions = [_zsh_group(group) for group in ("", *table.GROUPS)]
    functions += [_zsh_command(command) for command in table.COMMANDS if not command.hidden]
    lists = [
        f'_rl_{kind}() {{\n    local -a found\n    found=(${{(f)"$({asked} 2>/dev/null)"}})\n    compadd -a found\n}}'
        for kind, asked in _LISTS.items()
        if kind != "network"
    ]
    lists.append("_rl_network() {\n    compadd slirp4netns none host container:\n}")
    head = "#compdef rl\n# zsh completion of rl; made by `rl completion zsh`, do not edit"
    tail = 'if [[ $funcstack[1] == _rl ]]; then\n    _rl "$@"\nelse\n    compdef _rl rl\nfi'
    return "\n\n".join((head, *lists, *functions, tail)) + "\n"


def _zsh_group(group: str) -> str:
    options = table.GLOBAL_OPTIONS if not group else ()
    specs = [spec for option in (*options, _HELP) for spec in _zsh_option(option)]
    words = "\n".join(f"        {_quoted(f'{word}:{summary}'.replace(': ', ' - '))}" for word, summary in _words(group))
    branches = "\n".join(f"            {word}) {_zsh_name(group, word)} ;;" for word, _ in _words(group))
    lines = "".join(f" \\\n        {spec}" for spec in specs)
    return (
        f"{_zsh_function(group)}() {{\n    local curcontext=$curcontext state line\n    local -A opt_args\n    local -a words_here\n"
        f"    words_here=(\n{words}\n    )\n    _arguments -C -S{lines} \\\n        '1: :->word' '*:: :->rest' && return\n"
        f"    case $state in\n        word) _describe -t commands command words_here ;;\n        rest) case $line[1] in\n{branches}\n        esac ;;\n    esac\n}}"
    )


def _zsh_function(name: str) -> str:
    return "_rl" + "".join(f"_{part}" for part in name.split())


def _zsh_name(group: str, word: str) -> str:
    """The function that completes after a word: that of its command under the command's first name."""
    command = table.find(f"{group} {word}".strip())
    return f"_rl_command_{command.name.replace(' ', '_')}" if command else _zsh_function(word)


def _zsh_command(command: Command) -> str:
    specs = [spec for option in (*command.options, _HELP) for spec in _zsh_option(option)]
    for number, argument in enumerate(command.arguments, 1):
        name = argument.metavar.partition("[")[0].replace(":", "").strip()
        if argument.remainder:
            specs.append("'*:: :_normal'")
        else:
            place = "*" if argument.many else f"{number}" if argument.required else f"{number}:"
            specs.append(_quoted(f"{place}:{name}:{_zsh_action(argument.completes, ())}"))
    lines = "".join(f" \\\n        {spec}" for spec in specs)
    return f"_rl_command_{command.name.replace(' ', '_')}() {{\n    _arguments -s -S{lines}\n}}"


def _zsh_option(option: Option) -> list[str]:
    described = option.help.replace("[", "(").replace("]", ")").replace(":", " -")
    value = "" if option.kind == "flag" else f":value:{_zsh_action(option.completes, option.choices)}"
    names = option.names.split()
    others = "" if option.multiple else f"({option.names})" if len(names) > 1 else ""
    star = "*" if option.multiple else ""
    specs = []
    for name in names:
        takes = "" if option.kind == "flag" else "=" if name.startswith("--") else "+"
        specs.append(_quoted(f"{star}{others}{name}{takes}[{described}]{value}"))
    return specs


def _zsh_action(completes: str, choices: tuple[str, ...]) -> str:
    if choices:
        return f"({' '.join(choices)})"
    if completes in ("file", "directory"):
        return "_files" if completes == "file" else "_files -/"
    return f"_rl_{completes}" if completes else " "


# ---- fish


def fish() -> str:
    lines = ["# fish completion of rl; made by `rl completion fish`, do not edit", "", _FISH, "complete -c rl -f"]
    lines += [_fish_option("", option) for option in table.GLOBAL_OPTIONS]
    for group in ("", *table.GROUPS):
        for word, summary in _words(group):
            lines.append(f"complete -c rl -n '__rl_in {_fish_key(group)}' -a {word} -d {_quoted(summary)}")
    for name, command in _named():
        lines += [_fish_option(name, option) for option in command.options]
        for number, argument in enumerate(command.arguments):
            if argument.remainder:
                lines.append(f"complete -c rl -n '__rl_after {_fish_key(name)} {number}' -F")
            elif argument.completes:
                last = "" if argument.many else f" {number}"
                lines.append(f"complete -c rl -n '__rl_argument {_fish_key(name)} {number}{last}' {_fish_values(argument.completes, ())}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _fish_key(name: str) -> str:
    return name.replace(" ", "_") or "rl"


def _fish_option(name: str, option: Option) -> str:
    spelled = " ".join(f"-s {word[1]}" if len(word) == 2 else f"-l {word[2:]}" for word in option.names.split())
    value = "" if option.kind == "flag" else f" -r {_fish_values(option.completes, option.choices)}"
    return f"complete -c rl -n '__rl_in {_fish_key(name)}' {spelled}{value} -d {_quoted(option.help)}"


def _fish_values(completes: str, choices: tuple[str, ...]) -> str:
    if choices:
        return f"-f -a {_quoted(' '.join(choices))}"
    if completes in ("file", "directory"):
        return "-F" if completes == "file" else "-f -a '(__fish_complete_directories)'"
    if completes == "network":
        return "-f -a 'slirp4netns none host container:'"
    return f'-f -a "({_LISTS[completes]} 2>/dev/null)"' if completes else "-f"


_FISH = """# The command so far (`rl`, `image`, `image_ls`) and the number of its arguments. An option's value is not told from an argument; nobody
# who completes minds.
function __rl_state
    set -l command
    set -l arguments 0
    for word in (commandline -opc)[2..]
        if string match -q -- '-*' $word
            continue
        else if test -z "$command"
            set command $word
        else if contains -- "$command" @GROUPS@
            set command {$command}_$word
        else
            set arguments (math $arguments + 1)
        end
    end
    test -n "$command"; or set command rl
    echo $command
    echo $arguments
end

function __rl_in
    set -l state (__rl_state)
    test $state[1] = $argv[1]
end

function __rl_argument
    set -l state (__rl_state)
    test $state[1] = $argv[1]; and test $state[2] -ge $argv[2]; and begin
        test (count $argv) -lt 3; or test $state[2] -le $argv[3]
    end
end

function __rl_after
    set -l state (__rl_state)
    test $state[1] = $argv[1]; and test $state[2] -ge $argv[2]
end
""".replace("@GROUPS@", " ".join(table.GROUPS))


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
