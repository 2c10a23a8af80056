"""What a request does not say: asked from OpenD beforehand, and completed from memory in the step that decides. Decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from sidecar.facts.accounts import Accounts
from sidecar.facts.look_ups import LookUps
from sidecar.grants import OWNERS, Caller, Grants
from sidecar.intents.model import Intent, ModifyOp, ModifyOrder, PlaceCombo, PlaceOrder, RestingOrder, Security, Side
from sidecar.ledger.known_orders import NOBODY
from sidecar.ledger.ledger import Ledger
from sidecar.policy.change import raises_the_stake, would_become
from sidecar.policy.decide import needs, needs_holding
from sidecar.policy.decision import Refusal
from sidecar.policy.exact import EXACT
from sidecar.policy.key import Key
from sidecar.policy.legs import known_of, units_of
from sidecar.policy.trading import Standing
from sidecar.policy.usage import Account, Facts, LegFacts, Need, OrderOwner, Position

IN_VAIN_MOST = 20
IN_VAIN_PERIOD = 30.0
"""After this many unknown securities and orders within these seconds OpenD is not asked on the key's behalf until they have
passed."""
CHANGES_MOST = 60
"""So many changes of orders of one key within `IN_VAIN_PERIOD` seconds are looked up: three times what OpenD takes of one
account."""

T = TypeVar("T")

_NOTHING_GATHERED = Facts()
_KEPT = frozenset({Need.INSTRUMENT, Need.QUOTE})
_BY_SECURITY = frozenset({Need.INSTRUMENT, Need.QUOTE, Need.MARKET_STATE})


class _Often:
    """Whether a key did something `most` times within the last `IN_VAIN_PERIOD` seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._at: dict[str, deque[float]] = {}

    def note(self, key_id: str) -> None:
        self._at.setdefault(key_id, deque(maxlen=self._most)).append(time.monotonic())

    def too(self, key_id: str) -> bool:
        at = self._at.get(key_id)
        return at is not None and len(at) == self._most and time.monotonic() - at[0] < IN_VAIN_PERIOD


class Gathering:
    """The facts of requests. `trading` gives the trading state in force for a key, by its id; `locked_since` when a client of
    the key locked it. `timeout`: seconds in which the facts of an order must be there."""

    def __init__(
        self,
        *,
        grants: Grants,
        ledger: Ledger,
        accounts: Accounts,
        look_ups: LookUps,
        trading: Callable[[str], Standing],
        locked_since: Callable[[str], datetime | None],
        timeout: float,
    ) -> None:
        self._grants = grants
        self._ledger = ledger
        self._accounts = accounts
        self._look_ups = look_ups
        self._trading = trading
        self._locked_since = locked_since
        self._timeout = timeout
        # SECURITY: a key that names one unknown security or order after the other, or changes its orders without end, uses up
        # look-ups that all keys share
        self._in_vain = _Often(IN_VAIN_MOST)
        self._changes = _Often(CHANGES_MOST)

    # -- from memory ----------------------------------------------------------------------------------------------

    def unsure_of_account(self, intent: Intent) -> bool:
        """Whether it names an account that is not known yet."""
        account = getattr(intent, "account", None)
        return account is not None and self._accounts.get(account.acc_id) is None

    def remembered(self, intent: Intent, key_id: str, gathered: Facts = _NOTHING_GATHERED) -> Facts:
        """What is known without asking anybody, beside what was gathered."""
        account = getattr(intent, "account", None)
        order = getattr(intent, "order", None)
        return replace(
            gathered,
            account=None if account is None else self._accounts.get(account.acc_id),
            order_owner=None
            if order is None or account is None
            else self._ledger.orders.owner_of(account.acc_id, order.order_id, order.order_id_ex),
            trading=self._trading(key_id),
            locked_since=self._locked_since(key_id),
        )

    def completed(self, intent: Intent, key_id: str, gathered: Facts) -> Facts:
        """What was gathered, with what memory says at this very moment. Part of the one step that decides."""
        facts = self.remembered(intent, key_id, gathered)
        if isinstance(intent, ModifyOrder) and facts.resting is not None:
            facts = self._with_ledger(intent.account.acc_id, facts.resting, facts)
        order = judged(intent, facts)
        return facts if order is None else self._with_reserved(order, self._foreign(intent, facts), facts)

    def _with_ledger(self, acc_id: int, resting: RestingOrder, facts: Facts) -> Facts:
        """SECURITY: an order is known here by both of its ids and by its remark, whichever of them the request named."""
        ids, order = (acc_id, resting.order_id, resting.order_id_ex), resting.order
        owner = (
            self._ledger.orders.owner_of(*ids) or facts.order_owner or self._ledger.orders.owner_by_remark(order.remark)
        )
        if owner is None:  # the reply that would name it may be lost, or on its way
            alike = [
                made.key_id
                for made in self._ledger.doubts.unsettled(acc_id)
                if (made.kind, made.remark, made.symbol) == ("place", order.remark, _symbol(order))
            ]
            owner = OrderOwner(alike[0] if len(set(alike)) == 1 else NOBODY.key_id) if alike else None
        return replace(facts, order_owner=owner, approved=self._ledger.orders.approved(*ids))

    def _with_reserved(
        self, order: PlaceOrder | PlaceCombo, foreign: PlaceOrder | PlaceCombo | None, facts: Facts
    ) -> Facts:
        """INVARIANT: what is reserved against a holding is counted in the step that decides, over all keys and doors."""
        legs = known_of(order, facts)
        if all(known.position is None for known in legs):
            return facts
        counted = [
            replace(known, position=self._reserved(order.account.acc_id, symbol, known.position, foreign))
            for symbol, known in zip(_symbols(order), legs, strict=True)
        ]
        return _with_legs(facts, order, counted)

    def _reserved(
        self, acc_id: int, symbol: str, position: Position | None, foreign: PlaceOrder | PlaceCombo | None
    ) -> Position | None:
        if position is None or not self._look_ups.positions.fresh(position):
            return None
        reserved = self._ledger.exposure.selling_since(acc_id, symbol, position.sequence)
        buys, sells = self._ledger.exposure.in_flight(acc_id, symbol, position.sequence) or (None, None)
        sellable = position.sellable
        if self._ledger.exposure.sales_kept_back(acc_id, symbol):
            # SECURITY: whether OpenD takes those off what can be sold is not known; all that is on the market is taken off
            if position.net is None or sells is None or reserved is None:
                reserved = None
            else:
                left = EXACT.add(EXACT.subtract(position.net, sells), reserved)
                sellable = min(sellable, max(left, Decimal(0)))
        if foreign is not None and buys is not None and sells is not None:
            more = units_of(foreign, symbol)
            buys, sells = EXACT.add(buys, more[0]), EXACT.add(sells, more[1])
        return replace(position, sellable=sellable, reserved=reserved, open_buys=buys, open_sells=sells)

    def _foreign(self, intent: Intent, facts: Facts) -> PlaceOrder | PlaceCombo | None:
        """The order behind a change where the ledger does not count it among those on the market: one that was placed
        outside the sidecar. What its list says is filled of it may be older than the holdings, so it counts whole.
        """
        if not isinstance(intent, ModifyOrder) or intent.op is not ModifyOp.NORMAL or facts.resting is None:
            return None
        resting = facts.resting
        counted = self._ledger.orders.is_open(intent.account.acc_id, resting.order_id, resting.order_id_ex)
        return None if counted else resting.order

    # -- from OpenD -----------------------------------------------------------------------------------------------

    async def gather(self, caller: Caller, intent: Intent, hopeless: Callable[[Facts], bool]) -> Facts:
        """What must be asked for. `hopeless`: whether it is refused whatever the rest of the answers; it is asked once
        its account is known, and again once the order is that it changes.

        Raises UpstreamError where the account cannot be looked up.
        """
        if self.unsure_of_account(intent):
            await self._accounts.ensure(intent.account.acc_id)  # type: ignore[union-attr]  # only those that name one
            if hopeless(Facts()):
                return Facts()  # refused in the step that follows
        grant = self._grants.of(caller)
        if isinstance(grant, Refusal):
            return Facts()
        facts = Facts()
        if isinstance(intent, ModifyOrder):
            facts = Facts(resting=await self._resting(_asking(caller, grant.key), intent))
            if facts.resting is None or hopeless(facts):
                return facts
        order = judged(intent, facts)
        if order is None:
            return facts  # decided without more, in the step that follows
        wanted = needs(grant.key, order, self._trading(grant.key.id))
        if self._in_vain.too(_asking(caller, grant.key)):
            wanted -= _BY_SECURITY
        account, begun = self._accounts.get(order.account.acc_id), time.monotonic()
        legs = await _side_by_side([self._known(account, each, wanted) for each in _securities(order)])
        if any(_found_nothing(each, wanted) for each in legs):
            self._in_vain.note(_asking(caller, grant.key))
        facts = _with_legs(facts, order, legs)
        if Need.QUOTE in wanted and Need.POSITION not in wanted:
            left = self._timeout - (time.monotonic() - begun)
            facts = await self._with_worth_of_holdings(grant.key, account, order, facts, left)
        return facts

    async def _with_worth_of_holdings(
        self, key: Key, account: Account | None, order: PlaceOrder | PlaceCombo, facts: Facts, within: float
    ) -> Facts:
        """The second source of a price, asked for only where the first has none, in what is left of the time."""
        wanting = needs_holding(key, order, facts)
        if not any(wanting):
            return facts
        positions = await asyncio.gather(
            *(
                self._holding(account, security, within) if asks else _nothing()
                for security, asks in zip(_securities(order), wanting, strict=True)
            )
        )
        legs = [
            replace(known, position=position) for known, position in zip(known_of(order, facts), positions, strict=True)
        ]
        return _with_legs(facts, order, legs)

    async def _holding(self, account: Account | None, security: Security, within: float) -> Position | None:
        try:
            async with asyncio.timeout(within):
                return await self._look_ups.positions.get(account, security)
        except TimeoutError:
            return None

    async def contract_of(self, caller: Caller, security: Security) -> Security | None:
        """The contract behind a continuous futures code; None where it is not to be had."""
        grant = self._grants.of(caller)
        if isinstance(grant, Refusal) or self._in_vain.too(_asking(caller, grant.key)):
            return None
        contract = await self._look_ups.contracts.get(security)
        if contract is None:
            self._in_vain.note(_asking(caller, grant.key))
        return contract

    async def _resting(self, asking: str, change: ModifyOrder) -> RestingOrder | None:
        if self._in_vain.too(asking) or self._changes.too(asking):
            return None
        self._changes.note(asking)
        resting = await self._look_ups.orders.get(self._accounts.get(change.account.acc_id), change.order)
        if resting is None:
            self._in_vain.note(asking)
            return None
        return self._as_placed(resting)

    def _as_placed(self, resting: RestingOrder) -> RestingOrder:
        """A plain sale of what is not held is listed as a short one; the key's rules are about what it sent."""
        order = resting.order
        if not isinstance(order, PlaceOrder) or order.side is not Side.SELL_SHORT:
            return resting
        known = self._ledger.orders.approved(order.account.acc_id, resting.order_id, resting.order_id_ex)
        if known is None or known.side is not Side.SELL:
            return resting
        return replace(resting, order=replace(order, side=Side.SELL))

    async def _known(self, account: Account | None, security: Security, wanted: frozenset[Need]) -> LegFacts:
        asked: dict[str, Awaitable[Any]] = {}
        if Need.INSTRUMENT in wanted:
            asked["instrument"] = self._look_ups.instruments.get(security)
        if Need.QUOTE in wanted:
            asked["quote"] = self._look_ups.quotes.get(security)
        if Need.POSITION in wanted:
            asked["position"] = self._look_ups.positions.get(account, security)
        if Need.MARKET_STATE in wanted:
            asked["market_state"] = self._look_ups.market_states.get(security)
        return LegFacts(**dict(zip(asked, await _side_by_side([*asked.values()]), strict=True)))

    async def refreshed(self, intent: Intent, facts: Facts) -> Facts:
        """Holdings that grew old while the order waited behind others of its connection are asked for once more."""
        order = judged(intent, facts)
        if order is None:
            return facts
        legs = known_of(order, facts)
        if all(each.position is None or self._look_ups.positions.fresh(each.position) for each in legs):
            return facts
        account = self._accounts.get(order.account.acc_id)
        positions = await asyncio.gather(*(self._look_ups.positions.get(account, each) for each in _securities(order)))
        renewed = [
            each if each.position is None else replace(each, position=position)
            for each, position in zip(legs, positions, strict=True)
        ]
        return _with_legs(facts, order, renewed)

    def asks_opend(self, key: Key, intent: Intent) -> bool:
        """Whether deciding it takes an answer from OpenD that is not at hand."""
        if isinstance(intent, PlaceOrder | PlaceCombo):
            wanted = needs(key, intent, self._trading(key.id))
            return any(each.continuous or not self._at_hand(each, wanted) for each in _securities(intent))
        return isinstance(intent, ModifyOrder)

    def _at_hand(self, security: Security, wanted: frozenset[Need]) -> bool:
        """Holdings and market states grow old so soon that they count as never at hand."""
        return (
            wanted <= _KEPT
            and (Need.INSTRUMENT not in wanted or self._look_ups.instruments.has(security))
            and (Need.QUOTE not in wanted or self._look_ups.quotes.has(security))
        )


def _asking(caller: Caller, key: Key) -> str:
    """Under whose name look-ups are counted: those of the owner, who has an order of a key explained, are not the key's."""
    return f"the owner, of {key.id}" if caller.iface == OWNERS else key.id


def judged(intent: Intent, facts: Facts) -> PlaceOrder | PlaceCombo | None:
    """The order that would be on the market: the one placed, or the one changed as it would become."""
    if isinstance(intent, PlaceOrder | PlaceCombo):
        return intent
    if isinstance(intent, ModifyOrder) and facts.resting is not None and raises_the_stake(intent):
        return would_become(intent, facts.resting)
    return None


def _securities(order: PlaceOrder | PlaceCombo) -> tuple[Security, ...]:
    return (order.security,) if isinstance(order, PlaceOrder) else tuple(leg.security for leg in order.legs)


def _symbol(order: PlaceOrder | PlaceCombo) -> str:
    return order.security.symbol if isinstance(order, PlaceOrder) else order.symbol


def _symbols(order: PlaceOrder | PlaceCombo) -> tuple[str, ...]:
    return tuple(security.symbol for security in _securities(order))


def _with_legs(facts: Facts, order: PlaceOrder | PlaceCombo, legs: Sequence[LegFacts]) -> Facts:
    if isinstance(order, PlaceOrder):
        (only,) = legs
        return replace(
            facts,
            instrument=only.instrument,
            quote=only.quote,
            position=only.position,
            market_state=only.market_state,
        )
    return replace(facts, legs=tuple(legs))


def _found_nothing(known: LegFacts, wanted: frozenset[Need]) -> bool:
    """Whether OpenD was asked about a security and had no answer."""
    if Need.INSTRUMENT in wanted:
        return known.instrument is None
    return (Need.QUOTE in wanted and known.quote is None) or (
        Need.MARKET_STATE in wanted and known.market_state is None
    )


async def _side_by_side(asking: Sequence[Awaitable[T]]) -> list[T]:
    """All their answers, in their order. What is one only takes no task of its own."""
    return [await one for one in asking] if len(asking) <= 1 else await asyncio.gather(*asking)


async def _nothing() -> None:
    """A fact nobody needs."""
