"""Owns the tasks of single requests and connections, so that none vanishes with its exception and all end with the process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()
T = TypeVar("T")


class Tasks:
    """Unlike a TaskGroup, one task's failure is its own: it is logged (or raised to whoever awaits it) and ends no other."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work`; hold it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task failed", task=task.get_name(), error=str(error), exc_info=error)

    def __len__(self) -> int:
        return len(self._running)

    async def settle(self, patience: float) -> None:
        """Wait up to `patience` seconds for what runs now; what is spawned meanwhile goes on."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=patience)

    async def drain(self, patience: float) -> None:
        """Wait up to `patience` seconds for what runs, then cancel the rest."""
        await self.settle(patience)
        for task in set(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=1.0)
