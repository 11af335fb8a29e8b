"""Signals by name and number. Pure."""

from __future__ import annotations

import signal

from ..errors import UsageError


def signal_number(word: str, option: str) -> int:
    """A signal by name or number: `TERM`, `sigterm`, `15`, `RTMIN+3`. option: names it in the message."""
    name = word.upper().removeprefix("SIG")
    base, sign, offset = (name[:5], name[5:6], name[6:]) if name.startswith("RTM") else (name, "", "")
    number: int | None = None
    if name.isascii() and name.isdecimal() and len(name) <= 2:
        number = int(name)
    elif f"SIG{base}" in signal.Signals.__members__:
        number = signal.Signals[f"SIG{base}"]
        if offset.isascii() and offset.isdecimal() and sign in ("+", "-") and len(offset) <= 2:
            number = number + int(offset) if sign == "+" else number - int(offset)
            number = number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
        elif sign:
            number = None
    if number is None or not 1 <= number <= signal.SIGRTMAX:
        raise UsageError(f"invalid value {word!r} for {option}: no such signal", hint="kill -l lists them")
    return int(number)
