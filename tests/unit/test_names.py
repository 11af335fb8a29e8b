"""Names that we make up."""

from __future__ import annotations

import itertools

from rootless.engine import container, names


def test_names_are_valid_and_new_ones_come_for_ever() -> None:
    made = list(itertools.islice(names.candidates(), 30))
    for name in made:
        container.check_name(name)
        assert name == name.lower()
    assert all(name.replace("_", "").isalpha() for name in made[:4]), "the first are without digits"
    assert len(set(made[10:])) == 20, "the later ones are all but unique"


def test_lists_hold_no_word_twice() -> None:
    for words in (names._QUALITIES.split(), names._ANIMALS.split()):
        assert len(set(words)) == len(words)
        assert words == sorted(words)
