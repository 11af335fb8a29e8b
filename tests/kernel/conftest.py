"""What the tests of the core stand on: a user namespace, and a place for a container in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.userns import enter
from tests.kernel.core import Place


@pytest.fixture(scope="session")
def namespace() -> Iterator[enter.UserNamespace]:
    """One with subordinate ids, held until the end."""
    with enter.create() as made:
        assert not made.single_id, made.notice
        yield made


@pytest.fixture
def place(tmp_path: Path, namespace: enter.UserNamespace) -> Place:
    return Place(tmp_path, namespace)
