"""How a sidecar is told to stop, once or twice, and how long it then waits for what is in flight. Closes nothing."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from sidecar.returns import Returns
from sidecar.tasks import Tasks

ASKED_NEXT = 0.5
"""Seconds in which, when stopping, clients whose orders were answered may ask on: the official Python SDK's `place_order` asks for
the order's row before it returns."""

log = structlog.get_logger()


class Stopping:
    """Lives on the event loop."""

    def __init__(self, tasks: Tasks, returns: Returns) -> None:
        self._tasks = tasks
        self._returns = returns
        self._told = asyncio.Event()
        self._at_once = False
        self._draining: asyncio.Timeout | None = None
        """While what is in flight is waited for."""

    def stop(self) -> None:
        """Once is enough."""
        self._told.set()

    def signalled(self) -> None:
        """By SIGTERM or SIGINT. Told again, what is still in flight is not waited for: OpenD's answers to it are looked for after
        the next start."""
        if self._told.is_set() and not self._at_once:
            self._at_once = True
            log.warning(
                "told to stop once more: what is in flight is not waited for", unanswered=self._returns.unanswered
            )
            if self._draining is not None:
                self._draining.reschedule(asyncio.get_running_loop().time())
        self.stop()

    async def told(self) -> None:
        """Returns when there is to be an end."""
        await self._told.wait()

    async def drain(self, patience: float) -> None:
        """Wait up to `patience` seconds, or until we are told to stop once more; then cancel the tasks that still run."""
        patience = 0.0 if self._at_once else patience
        log.info("stopping: nobody new is let in, what is in flight is waited for", seconds=patience)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience) as self._draining:
                orders = self._returns.unanswered
                await self._tasks.settle(patience)
                orders = orders or self._returns.unanswered
                await self._returns.all_answered(patience)
                if orders:
                    await asyncio.sleep(ASKED_NEXT)
        self._draining = None
        await self._tasks.drain(0.0)
