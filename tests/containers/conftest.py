"""The engine and the image, once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine import Engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With the image built: `engine.IMAGE`. The first test to ask for it waits for that."""
    made = Engine(tmp_path_factory.mktemp("engine"))
    made.build()
    yield made
    made.prune()
