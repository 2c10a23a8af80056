"""Keeps the list of OpenD's accounts fresh, and has OpenD tell the house of what happens in all of them. What is in the list,
`facts.accounts` knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from sidecar.errors import UpstreamError
from sidecar.facts.accounts import Accounts
from sidecar.upstream.house import House
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

LOOK_EVERY = 60.0
"""Seconds between two looks at whether the list is stale."""


class AccountWatch:
    """Lives on the event loop."""

    def __init__(self, house: House, accounts: Accounts, *, timeout: float) -> None:
        """`timeout`: seconds OpenD may take over an answer."""
        self._house = house
        self._accounts = accounts
        self._timeout = timeout

    async def learn(self) -> None:
        """Ask for the list and subscribe to its accounts. Raises UpstreamError."""
        await self._accounts.refresh()
        request: Any = message_class("Trd_SubAccPush.Request")()
        request.c2s.accIDList.extend(sorted(self._accounts.all_ids()))
        await self._house.ask(catalog.SUB_ACC_PUSH, request, timeout=self._timeout)

    async def run(self) -> None:
        """Does not return."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._house.up and self._accounts.stale:
                with contextlib.suppress(UpstreamError):
                    await self.learn()
