"""Names for containers whose user gives none: a quality and an animal, `calm_heron`."""

from __future__ import annotations

from collections.abc import Iterator
from os import urandom

_QUALITIES = (
    "able agile amber ample apt bold brave breezy bright brisk calm candid clear clever cosy crisp dapper daring deft eager early fair fleet fond "
    "frank free fresh gentle glad golden good grand happy hardy honest jolly keen kind lively loyal lucky mellow merry mild neat nimble noble open "
    "patient plain polite proud quick quiet ready rosy sage sharp shy silent smart snug solid spry steady still sturdy sunny sure swift tidy true "
    "upbeat vivid warm wise witty zesty"
)
_ANIMALS = (
    "adder alpaca ant badger bat bear beaver bee bison boar bream carp cat chough clam cod coot crab crane crow cuckoo deer dingo dove duck eagle eel "
    "egret elk ermine falcon ferret finch fox frog gecko gnu goat goose grouse gull hare hawk heron hoopoe horse ibex ibis jackdaw jay kestrel kite "
    "koala lark lemur linnet lizard llama loach lynx magpie marten mole moose moth mouse newt otter owl panda perch pike plover pony puffin quail "
    "raven robin rook ruff salmon seal shrew skua snail snipe sole stoat stork swan swift tapir teal tern thrush tiger toad trout turtle viper vole "
    "walrus weasel whale wolf wren yak zebra"
)


def candidates() -> Iterator[str]:
    """Names without end; after the first few, with more and more digits, so that one is free."""
    qualities, animals = _QUALITIES.split(), _ANIMALS.split()
    tries = 0
    while True:
        chance = urandom(12)
        quality, animal, digits = chance[0] << 8 | chance[1], chance[2] << 8 | chance[3], chance[4:]
        name = f"{qualities[quality % len(qualities)]}_{animals[animal % len(animals)]}"
        yield name + "".join(str(digit % 10) for digit in digits[: max(0, tries - 3)])
        tries += 1
