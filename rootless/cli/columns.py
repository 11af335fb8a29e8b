"""Tables for `ps` and `images`: plain text, aligned; the same in a pipe as on a terminal, apart from the bold heading. Hot: no rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from .context import in_colour, printable

_GAP = "   "


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below headings, each column as wide as its widest cell. Cells are made harmless to a terminal."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    bold, plain = ("\33[1m", "\33[0m") if in_colour(sys.stdout) else ("", "")
    lines = [f"{bold}{_line(headings, widths)}{plain}", *(_line(row, widths) for row in cells)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
