"""Empties one account of working orders, all of them or some: lists, cancels as fast as OpenD takes it, lists again, until none
is left or the time is over. Knows neither keys nor halts.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import Message

from sidecar.border import one_line
from sidecar.cancelling.orders import Listed, cancel_all_request, cancel_request, markets_at_once, order_list
from sidecar.change_budget import ChangeBudget
from sidecar.errors import UpstreamError
from sidecar.facts.asking import Rejected
from sidecar.policy.usage import Account
from sidecar.wire import catalog

MARGIN = 15.0
"""Seconds on top of what so many cancels take, before it is given up."""
LIST_EVERY = 0.25
"""Seconds between two looks at the list while orders are leaving it; more and more while nothing changes."""
LIST_SELDOM = 2.0
LOOK_AFTER = 1.0
"""Seconds of sending after which the list is looked at, and progress told, before more is sent."""
TIMEOUT = 5.0
"""Seconds for an answer of OpenD."""
REPLY_PATIENCE = 0.25
"""Seconds before the next cancel is sent though the one before is not answered."""
AT_ONCE_PATIENCE = 2.0
"""Seconds in which the orders of a cancel of all at once may leave, before each is cancelled by itself."""
UNLISTED_PATIENCE, REFUSED_PATIENCE = 20.0, 3.0
"""Seconds after which an account is given up whose orders OpenD, though it is there, does not list or refuses to list."""
_AGAIN_AFTER = (2.0, 4.0, 8.0)
"""Seconds after which a cancel is sent again, by the number of attempts."""
_HOLD_FIRST, _HOLD_MOST = 0.5, 4.0
"""Seconds without a cancel after one was refused, and after several."""
LONGEST = 200
"""Characters of OpenD's words."""
_UNDER_WAY = 3.0
"""Seconds in which orders that were on their way to OpenD at the beginning may still be answered."""

Clock = Callable[[], float]


class House(Protocol):
    """The house connection: as the facts see it, and whether it stands."""

    @property
    def up(self) -> bool: ...

    @property
    def trouble(self) -> str: ...

    async def ask(self, proto_id: int, request: Message, *, timeout: float) -> Message: ...


async def _as_it_is(_: Account) -> None:
    """Somebody else unlocks OpenD."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the work is done with. `settled(seconds)` waits that long at most until OpenD has answered what was sent to it."""

    house: House
    budget: ChangeBudget
    spawn: Callable[..., asyncio.Task[Any]]
    settled: Callable[[float], Awaitable[None]]
    clock: Clock = time.monotonic
    unlock: Callable[[Account], Awaitable[object]] = _as_it_is
    """Sees to it that OpenD takes cancels in the account; whatever comes of it, they are tried."""


Name = tuple[int, str]
"""orderID and orderIDEx."""


@dataclass(slots=True)
class _Order:
    """One order that is meant. `now`: as it was listed last; None where it no longer was."""

    first: Listed
    now: Listed | None
    tries: int = 0
    again_at: float = 0.0
    words: str = ""
    """OpenD's, where it refused the cancel."""

    @property
    def working(self) -> bool:
        return self.now is not None and self.now.working


class _Unlisted(UpstreamError):
    """OpenD answered, and refuses the list."""


@dataclass(frozen=True, slots=True)
class NotCancelled:
    """One order that is not cancelled, or may not be. `reason` in words."""

    acc_id: int
    order_id: str
    symbol: str
    reason: str


@dataclass(slots=True)
class Emptying:
    """The work in one account, and how far it has come. `meant` says of each listed order whether it is to be cancelled.

    `key_id`: whose orders these are; None: all orders are meant, so that they may be cancelled at once. `kept`: so much of
    the account's changes is left for clients' cancels.
    """

    account: Account
    means: Means
    meant: Callable[[Listed], bool]
    key_id: str | None
    kept: int = 0
    finished: bool = False
    waiting_for: str = ""
    """Why nothing goes on, in words."""
    problem: str = ""
    """Why the orders are not even known."""
    not_cancelled: tuple[NotCancelled, ...] = ()
    """Complete once it is finished."""
    on_progress: Callable[[], None] = lambda: None
    _orders: dict[Name, _Order] = field(default_factory=dict)
    _working: int = 0
    _refusals: int = 0
    """Of single cancels, one after the other."""
    _hold_until: float = 0.0
    _failing_since: float | None = None
    _deadline: float = math.inf
    _at_once_until: float = 0.0

    # -- what others see ------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        return len(self._orders)

    @property
    def done(self) -> int:
        """Of `total`, those that work no more."""
        return self.total - self._working

    @property
    def seconds_left(self) -> float:
        """As long as it takes if OpenD takes every cancel; 0 when finished."""
        if self.finished or not self._working:
            return 0.0
        now = self.means.clock()
        if now < self._at_once_until:
            return self._at_once_until - now
        untried = sum(order.working and not order.tries for order in self._orders.values())
        wait = self.means.budget.wait(self.account.acc_id, count=max(1, untried), kept=self.kept)
        return min(wait + 1.0, max(self._deadline - now, 0.0))

    # -- the work -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is finished. An OpenD that goes away is waited for: what was not confirmed is looked at again."""
        with self.means.budget.reserved(self.account.acc_id, self.key_id):
            while not self.finished:
                try:
                    await self._empty()
                except UpstreamError as error:
                    self.waiting_for = str(error)
                    if not self.means.house.up:
                        self._failing_since = None
                        await self._reachable()
                        continue
                    self._failing_since = self._failing_since or self.means.clock()
                    patience = REFUSED_PATIENCE if isinstance(error, _Unlisted) else UNLISTED_PATIENCE
                    if self.means.clock() - self._failing_since > patience:
                        self.fail(f"its orders could not be listed: {error}")
                        return
                    await asyncio.sleep(LIST_EVERY)

    async def _reachable(self) -> None:
        while not self.means.house.up:
            self.waiting_for = self.means.house.trouble or "OpenD"
            await asyncio.sleep(LIST_EVERY)

    async def _empty(self) -> None:
        clock = self.means.clock
        await self._list(fresh=True)
        self._deadline = clock() + self._time_for(self._working) + MARGIN
        if self._working:
            await self.means.unlock(self.account)
        if self.key_id is None:
            await self._cancel_at_once()
        pause, sure = LIST_EVERY, False
        while self._working or not sure:
            if not self._working:
                # what was on its way to OpenD when it all began may have become an order since
                await self.means.settled(_UNDER_WAY)
                await self._list(fresh=True)
                sure = not self._working
                continue
            if clock() >= self._deadline:
                break
            await self.means.unlock(self.account)
            if not await self._cancel_each():
                await asyncio.sleep(pause)
            before = self._working
            await self._list(fresh=False)
            pause = LIST_EVERY if self._working != before else min(pause * 1.5, LIST_SELDOM)
        self._finish()

    def _time_for(self, orders: int) -> float:
        """Seconds for so many cancels at OpenD's own pace, whoever else used some before."""
        limit = self.means.budget.limit
        return math.ceil(orders / max(1, limit.most - self.kept)) * limit.period

    async def _list(self, *, fresh: bool) -> None:
        """Look, and take over what there is to do. Raises UpstreamError, also where OpenD refuses the list."""
        listed = await order_list(self.means.house, self.account, timeout=TIMEOUT, fresh=fresh)
        if isinstance(listed, Rejected):
            raise _Unlisted(listed.message)
        self._failing_since = None
        last = {(each.order_id, each.order_id_ex): each for each in listed}
        for name, order in self._orders.items():
            order.now = last.get(name)
        for name, each in last.items():
            if each.working and name not in self._orders and self.meant(each):
                self._orders[name] = _Order(each, each)
        self._working = sum(order.working for order in self._orders.values())
        if not self._refusals:
            self.waiting_for = ""
        self.on_progress()

    # -- cancels --------------------------------------------------------------------------------------------------

    async def _cancel_at_once(self) -> None:
        """Where that is not possible, or OpenD refuses, each is cancelled by itself."""
        working = [order.now for order in self._orders.values() if order.now is not None and order.now.working]
        for market in markets_at_once(self.account, working):
            await self._turn(math.inf)
            request = cancel_all_request(self.account, market)
            reply: Any = await self.means.house.ask(catalog.MODIFY_ORDER, request, timeout=TIMEOUT)
            if reply.retType == 0:
                self._at_once_until = self.means.clock() + AT_ONCE_PATIENCE

    async def _turn(self, patience: float) -> bool:
        """Wait for a place among the account's changes and take it; False where that takes longer than `patience` s."""
        while True:
            wait = self.means.budget.take(self.account.acc_id, kept=self.kept)
            if wait <= 0 or wait > patience:
                return wait <= 0
            await asyncio.sleep(wait)

    async def _cancel_each(self) -> bool:
        """Send what can be sent without a long wait, those first that were tried least, for a second at most; whether there is
        more to send."""
        clock = self.means.clock
        until = clock() + LOOK_AFTER
        due = [order for order in self._orders.values() if order.working and order.again_at <= clock()]
        for order in sorted(due, key=lambda one: one.tries):
            if order.now is None or order.now.leaving:
                continue
            if clock() >= until:
                return True
            if clock() < max(self._at_once_until, self._hold_until) or not await self._turn(REPLY_PATIENCE):
                return False
            order.again_at = clock() + _AGAIN_AFTER[min(order.tries, len(_AGAIN_AFTER) - 1)]
            order.tries += 1
            asked = self.means.spawn(self._cancel(order, order.now))
            await asyncio.wait({asked}, timeout=REPLY_PATIENCE)
        return False

    async def _cancel(self, order: _Order, listed: Listed) -> None:
        try:
            reply: Any = await self.means.house.ask(
                catalog.MODIFY_ORDER, cancel_request(self.account, listed), timeout=TIMEOUT
            )
        except UpstreamError as error:
            order.words = str(error)
            return
        if reply.retType == 0:
            order.words, self._refusals = "", 0
            return
        # Whatever the reason: if it is that others used the account's changes up, the next would be refused as well.
        order.words = one_line(str(reply.retMsg), LONGEST) or f"OpenD refused it with retType {reply.retType}"
        self._refusals += 1
        self._hold_until = self.means.clock() + min(_HOLD_FIRST * 2 ** (self._refusals - 1), _HOLD_MOST)
        self.waiting_for = f"OpenD refused the last cancel: {order.words}"

    # -- the end --------------------------------------------------------------------------------------------------

    def fail(self, problem: str) -> None:
        """It is given up; what became of the orders is not known."""
        self._finish(problem)

    def _finish(self, problem: str = "") -> None:
        """With what was listed last."""
        found = []
        for order in self._orders.values():
            reason = f"not known: {problem}" if problem and order.working else _why_not(order)
            if reason is not None:
                found.append(NotCancelled(self.account.acc_id, order.first.name, order.first.symbol, reason))
        self.not_cancelled = tuple(found)
        self.finished, self.problem, self.waiting_for = True, problem, ""
        self.on_progress()


def _why_not(order: _Order) -> str | None:
    """Why the order is not cancelled; None where it is."""
    now = order.now
    if now is None:
        return "OpenD lists it no more, and did not say what became of it"
    if now.filled:
        return "filled before it could be cancelled"
    if not now.working:
        return None
    if now.leaving:
        return "OpenD has not confirmed the cancel"
    return order.words or "OpenD took the cancel, and the order works all the same"
