"""Asks OpenD what became of orders whose replies or last pushes were lost: after each reconnect, and as long as any may be
open. Settles nothing itself, and cancels nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import structlog

from sidecar.errors import BodyError, UpstreamError
from sidecar.facts.accounts import Accounts
from sidecar.facts.asking import House, Rejected, ask_about, new
from sidecar.intents.markets import takes_orders
from sidecar.intents.model import AccountRef
from sidecar.intents.replies import PushSubject, read_order
from sidecar.ledger.ledger import Ledger
from sidecar.policy.usage import Account
from sidecar.settling import Settling
from sidecar.wire.catalog import GET_ORDER_LIST

EVERY = 30.0
"""Seconds between two looks while any order may be open. The lists do not refresh OpenD's cache, so they use up nothing."""
FIRST = 1.0
"""Seconds after a reconnect or a lost reply until the second look; doubling from then on up to `EVERY`."""
MISSING_FOR = 60.0
"""Seconds for which an order must be missing in every list before it counts as gone, on one and the same connection: an
OpenD that has just started may answer before it has all of its orders."""
_AT_ONCE = 100
"""Orders of a list that are gone through before others get their turn."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Listed:
    """What OpenD listed of one account, of as many of its markets as were asked."""

    ids: set[int | str] = field(default_factory=set)
    of_no_key: dict[int | str, PushSubject] = field(default_factory=dict)

    def add(self, orders: list[PushSubject]) -> None:
        for order in orders:
            self.ids.update(one for one in (order.order_id, order.order_id_ex) if one)


class Reconciling:
    """Looks through OpenD's order lists (2201) over the house connection. `run` until cancelled; `wake` from anywhere."""

    def __init__(
        self, house: House, accounts: Accounts, ledger: Ledger, settling: Settling, *, timeout: float = 10.0
    ) -> None:
        """`timeout`: seconds OpenD has for one list."""
        self._house = house
        self._accounts = accounts
        self._ledger = ledger
        self._settling = settling
        self._timeout = timeout
        self._woken = asyncio.Event()
        self._connected_at = ledger.moment()
        self._missing: dict[int, dict[tuple[int, str], float]] = {}
        """By account: orders that should be listed and are not, and when that was first seen."""

    def connected(self) -> None:
        """The house connection is back."""
        self._connected_at = self._ledger.moment()
        self._missing.clear()
        self.wake()

    def wake(self) -> None:
        """Look now, and again soon."""
        self._woken.set()

    async def run(self) -> None:
        pause = EVERY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            pause = FIRST if self._woken.is_set() else min(2 * pause, EVERY)
            self._woken.clear()
            await self.look()

    async def look(self) -> None:
        """Go through the accounts concerned once. Never raises for what OpenD does."""
        for acc_id in sorted(self._ledger.doubts.accounts()):
            account = self._accounts.get(acc_id)
            if account is None or not account.markets:
                continue
            try:
                await self._look_at(account)
            except UpstreamError as error:
                log.debug("an order list could not be had", acc_id=acc_id, error=str(error))
            except Exception:  # whatever is in a list must not end the sidecar
                log.exception("an order list could not be gone through", acc_id=acc_id)

    async def _look_at(self, account: Account) -> None:
        acc_id, at = account.acc_id, self._ledger.moment()
        first, *others = sorted(filter(takes_orders, account.markets)) or [min(account.markets)]
        listed = _Listed()
        # as the SDKs ask: the account's first market stands for all of them
        whole = await self._list(account, first, at, listed)
        if not self._ledger.doubts.unlisted(acc_id, listed.ids, at):
            self._missing.pop(acc_id, None)
            if not self._ledger.doubts.unsettled(acc_id):
                return
        if not whole:
            return
        # what follows from an order's absence must not rest on that
        for market in others:
            whole = await self._list(account, market, at, listed) and whole
        if whole:
            of_no_key = list(listed.of_no_key.values())
            self._settling.paired(of_no_key, at)
            self._conclude_from_absence(acc_id, listed.ids, of_no_key, at)

    def _conclude_from_absence(
        self, acc_id: int, listed: Container[int | str], of_no_key: Sequence[PushSubject], at: float
    ) -> None:
        seen = self._missing.get(acc_id, {})
        missing = {ids: seen.get(ids, at) for ids in self._ledger.doubts.unlisted(acc_id, listed, at)}
        self._missing[acc_id] = missing
        for ids, since in missing.items():
            if at - since >= MISSING_FOR:
                self._settling.gone(acc_id, *ids)
        if at - self._connected_at >= MISSING_FOR:
            self._settling.unheard_of(acc_id, of_no_key, at)

    async def _list(self, account: Account, market: int, at: float, listed: _Listed) -> bool:
        """Settle by one list; whether it was had, and understood, whole."""
        request = new("Trd_GetOrderList.Request")
        reply = await ask_about(self._house, account, GET_ORDER_LIST, request, timeout=self._timeout, trd_market=market)
        if isinstance(reply, Rejected):
            log.info("an order list could not be used", acc_id=account.acc_id, market=market, message=reply.message)
            return False
        ref, whole = AccountRef(account.acc_id, account.env), True
        orders = reply.s2c.orderList
        for start in range(0, len(orders), _AT_ONCE):
            read = []
            for each in orders[start : start + _AT_ONCE]:
                try:
                    read.append(read_order(ref, each, reply.s2c.header.trdMarket))
                except BodyError as error:
                    log.warning("an order of a list could not be read", acc_id=account.acc_id, error=str(error))
                    whole = False
            listed.add(read)
            for order in self._settling.listed(read, at):
                listed.of_no_key[order.order_id or order.order_id_ex] = order
            await asyncio.sleep(0)
        return whole
