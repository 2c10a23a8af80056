"""What waits to be sent to one client, in order and bounded in bytes. It sends nothing, and cuts nobody: its door does."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """Filled by whoever has something for the client (`put`, which never waits), emptied by one task that sends (`take`).

    Used on one event loop. `bound`: bytes beyond which a client is too slow to be kept.
    """

    __slots__ = ("_bound", "_closed", "_filled", "_in_hand", "_waiting", "_waiting_size")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._waiting: list[T] = []
        self._waiting_size = 0
        self._in_hand = 0
        self._filled = asyncio.Event()
        self._closed = False

    @property
    def unsent(self) -> int:
        """Bytes that wait. What was taken counts until the next `take`: its sender may hang over it."""
        return self._waiting_size + self._in_hand

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, item: T, size: int) -> bool:
        """Let `item` of `size` bytes wait. False when the bound is passed: then it is not kept, and the client should be cut.

        One that is at most an eighth full takes an item of any size: a long answer does not make a slow client. A closed
        one drops what it is given and says True, for there is nobody left to cut.
        """
        if self._closed:
            return True
        unsent = self._waiting_size + self._in_hand
        if unsent > self._bound // 8 and unsent + size > self._bound:
            return False
        self._waiting.append(item)
        self._waiting_size += size
        self._filled.set()
        return True

    async def take(self) -> list[T]:
        """All that waits, oldest first, waiting for the first; an empty list once it is closed and nothing is left.

        Taking again says that what was taken before has been sent. For one task alone.
        """
        self._in_hand = 0
        if not self._waiting and not self._closed:
            self._filled.clear()
            await self._filled.wait()
        taken, self._waiting = self._waiting, []
        self._in_hand, self._waiting_size = self._waiting_size, 0
        return taken

    def close(self, *, discard: bool = False) -> None:
        """Nothing more is taken in; what waits can still be taken, unless `discard` throws it away. Safe to call twice."""
        self._closed = True
        if discard:
            self._waiting.clear()
            self._waiting_size = 0
        self._filled.set()
