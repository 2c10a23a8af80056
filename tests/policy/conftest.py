"""A machine elsewhere: what is told and counted in UTC must not depend on where it runs."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator

import pytest


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in Tokyo, where the day begins nine hours earlier."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()
