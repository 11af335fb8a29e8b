"""docs/man/ is what the declarations make."""

from __future__ import annotations

from rootless.cli import manual
from tests.fakes.sample_images import REPOSITORY


def test_the_pages_are_current() -> None:
    directory = REPOSITORY / "docs" / "man"
    found = {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()}
    assert found == manual.pages(), "run tools/generate"
