"""A sandbox whose prices stand still until a test moves them, and a client that has done InitConnect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sandbox_client import STILL, RawClient

from sidecar.sandbox import Sandbox, SandboxSettings


@pytest.fixture
def settings() -> SandboxSettings:
    """Overridden by `@pytest.mark.parametrize("settings", ...)` where a test needs others."""
    return STILL


@pytest.fixture
async def sandbox(settings: SandboxSettings) -> AsyncIterator[Sandbox]:
    async with Sandbox(replace(settings, port=0)) as running:
        running.set_price("HK.00700", "480", volume=10_000)
        yield running


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[RawClient]:
    async with RawClient(sandbox.port) as raw:
        await raw.connect()
        yield raw
