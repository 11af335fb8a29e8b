"""What a stack of layers shows, and what a change of it must write: the rules of the union, over any view of a directory.

A directory of the union is a *stack*: the versions of it that the layers hold, topmost first, cut where a layer hides what is below. Every rule
here is about one stack and one name; the file system walks, this module decides. Sources: Documentation/filesystems/overlayfs.rst of
the kernel ("whiteouts and opaque directories"), and "Whiteouts" of the OCI image specification's layer.md for the `.wh.` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

WHITEOUT_PREFIX: Final = b".wh."
OPAQUE_NAME: Final = b".wh..wh..opq"
OPAQUE_XATTRS: Final = ("user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque")
OWN_XATTRS: Final = ("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.")
"""Beginnings of the extended attributes in which overlays keep their notes. What runs in the union neither sees nor sets them."""


class Kind(Enum):
    """What one layer says of a name."""

    WHITEOUT = "whiteout"
    DIRECTORY = "directory"
    OTHER = "other"


class View(Protocol):
    """One layer's version of a directory. Names are as the union shows them: the `.wh.` spellings have become kinds."""

    def kind(self, name: bytes) -> Kind | None:
        """None: the layer says nothing of this name."""

    def opaque(self, name: bytes) -> bool:
        """Whether the directory `name` of this layer hides the same directory of the layers below."""

    def entries(self) -> Iterable[tuple[bytes, Kind]]:
        """Every name that the layer says something of. One name may come twice: as a whiteout and as what replaces the hidden."""


class Found(NamedTuple):
    """What the union shows at a name: positions in the stack, topmost first; a file has one, a directory all that it is merged from."""

    kind: Kind
    positions: tuple[int, ...]


class Removal(Enum):
    """How a name disappears."""

    REMOVE = "remove it from the upper layer"
    COVER = "put a whiteout into the upper layer"
    REPLACE = "replace what the upper layer holds by a whiteout"


def is_whiteout_device(*, character_device: bool, device: int) -> bool:
    """The kernel's spelling: a character device 0/0."""
    return character_device and device == 0


def reserved(name: bytes) -> bool:
    """Whether a name is the spelling of a whiteout or of an opaque directory, and so cannot be the name of a file."""
    return name.startswith(WHITEOUT_PREFIX)


def hidden_name(name: bytes) -> bytes | None:
    """The name that a `.wh.NAME` file hides; None for any other name, the mark of an opaque directory included."""
    if name == OPAQUE_NAME or not name.startswith(WHITEOUT_PREFIX):
        return None
    return name[len(WHITEOUT_PREFIX) :] or None


def look_up(stack: Sequence[View], name: bytes) -> Found | None:
    """What the union shows at `name` of the directory `stack`; None where it shows nothing."""
    directories: list[int] = []
    last = len(stack) - 1
    for position, view in enumerate(stack):
        kind = view.kind(name)
        if kind is None:
            continue
        if kind is Kind.DIRECTORY:
            directories.append(position)
            if position == last or view.opaque(name):
                break
        elif kind is Kind.OTHER and not directories:
            return Found(kind, (position,))
        else:  # a whiteout ends the search; a file below a directory is hidden by it, with all that is below the file
            break
    return Found(Kind.DIRECTORY, tuple(directories)) if directories else None


def merged(stack: Sequence[View]) -> dict[bytes, int]:
    """The names that the union shows in the directory `stack`, each with the position of the topmost layer that has it."""
    shown: dict[bytes, int] = {}
    hidden: set[bytes] = set()
    for position, view in enumerate(stack):
        hides: list[bytes] = []  # a layer's whiteout hides what is below it, not what the layer itself holds
        for name, kind in view.entries():
            if kind is Kind.WHITEOUT:
                hides.append(name)
            elif name not in shown and name not in hidden:
                shown[name] = position
        hidden.update(hides)
    return shown


def removal(*, in_upper: bool, below: bool) -> Removal:
    """How to make a name disappear. in_upper: the upper layer holds it; below: without the upper layer the union would show it."""
    if not below:
        return Removal.REMOVE
    return Removal.REPLACE if in_upper else Removal.COVER


def must_be_opaque(*, directory: bool, below: bool) -> bool:
    """Whether what is put at a name must hide the layers below: a new directory is empty, a moved one brings its own content.

    below: the lower layers of the target's parent say anything of the name that the union would show.
    """
    return directory and below


def may_move(found: Found, *, upper: bool) -> bool:
    """Whether rename(2) can move this. upper: position 0 of the stack is the upper layer.

    A directory that lower layers have a part in cannot: its parts stay where they are. The caller answers EXDEV, as the kernel's overlay does
    without redirect_dir, and mv(1) copies. (redirect_dir keeps the old place in an attribute; in a user namespace the kernel refuses it, as an
    image could name any place, and an upper that only one of the drivers can read is worth less than a rename.)
    """
    return found.kind is not Kind.DIRECTORY or (upper and found.positions == (0,))
