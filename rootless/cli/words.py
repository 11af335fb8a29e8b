"""Words with a grammar of their own: signals and key sequences. Pure; hot."""

from __future__ import annotations

import _signal  # `signal` itself builds enumerations at import

from ..errors import UsageError


def signal_number(word: str, option: str) -> int:
    """A signal by name or number: `TERM`, `sigterm`, `15`, `RTMIN+3`. option: names it in the message."""
    name = word.upper().removeprefix("SIG")
    if name.isascii() and name.isdecimal() and len(name) <= 2:
        number: object = int(name)
    elif name.startswith(("RTMIN+", "RTMAX-")) and name[6:].isdecimal() and len(name) <= 8:
        number = int(_signal.SIGRTMIN) + int(name[6:]) if name[4] == "N" else int(_signal.SIGRTMAX) - int(name[6:])
        if not _signal.SIGRTMIN <= number <= _signal.SIGRTMAX:
            number = None
    else:
        number = getattr(_signal, f"SIG{name}", None)
    if not isinstance(number, int) or not 1 <= number <= _signal.SIGRTMAX:
        raise UsageError(f"invalid value {word!r} for {option}: no such signal", hint="kill -l lists them")
    return int(number)


def signal_name(number: int) -> str:
    """`SIGTERM` for 15; the number itself where it has no name."""
    for name in dir(_signal):
        if name.startswith("SIG") and not name.startswith(("SIG_", "SIGRT")) and getattr(_signal, name) == number:
            return name
    return str(number)


def detach_keys(word: str) -> str:
    """Check a sequence for --detach-keys: letters and `ctrl-X` (a to z, @ [ \\ ] ^ _), with commas between; empty for none."""
    for key in word.split(",") if word else ():
        letter = key.removeprefix("ctrl-")
        plain = letter == key
        if len(letter) != 1 or not letter.isascii() or not (letter.isalpha() or (not plain and letter in "@[\\]^_")):
            raise UsageError(
                f"invalid value {word!r} for --detach-keys: {key!r} is no key",
                hint="write letters and ctrl-LETTER with commas between: ctrl-p,ctrl-q",
            )
    return word
