"""Breakers: what halts a key by itself and says so. It counts and compares; what may pass under a halt is the policy's to say,
and how a day's loss is found out is asked in `facts.day_profit`.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

import structlog

from sidecar.audit.record import AuditRecord
from sidecar.decision_id import new_decision_id
from sidecar.intents.model import Intent, PlaceCombo, PlaceOrder
from sidecar.ledger.states import States
from sidecar.metrics import Metrics
from sidecar.policy.decision import Code
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.trading import ACTIVE, TradingState
from sidecar.recorder import Recorder
from sidecar.settings import Breakers as Settings

log = structlog.get_logger("sidecar.breakers")

NOT_THE_KEYS_DOING = frozenset(
    {
        # no key in good standing, or no request that can be read: nothing that a halt of the key would stop
        Code.KEY_MISSING, Code.KEY_UNKNOWN, Code.KEY_REVOKED, Code.KEY_EXPIRED, Code.KEY_FROZEN, Code.MACHINE_NOT_ALLOWED,
        Code.IP_NOT_ALLOWED, Code.UNKNOWN_REQUEST, Code.MALFORMED_REQUEST, Code.UNKNOWN_FIELD, Code.BODY_TOO_LARGE,
        Code.IDEMPOTENCY_CONFLICT,
        # somebody has stopped it already
        Code.TRADING_HALTED, Code.REDUCE_ONLY, Code.BREAKER, Code.KEYS_STALE,
        # OpenD, the disk or the clock: they would halt every key on a bad day
        Code.PRICE_UNAVAILABLE, Code.INSTRUMENT_UNKNOWN, Code.ORDER_UNKNOWN, Code.POSITION_UNKNOWN, Code.FX_UNAVAILABLE,
        Code.AUDIT_UNAVAILABLE, Code.LEDGER_UNAVAILABLE, Code.CLOCK, Code.UPSTREAM_UNAVAILABLE, Code.UPSTREAM_FULL, Code.CLIENT_GONE,
    }
)  # fmt: skip
"""Refusals that no breaker counts; every other one is of a limit of the key."""


MOST_TERMS = 10_000
"""Different orders of one key that are remembered; of more the oldest go first."""


class Breaker(StrEnum):
    """By their names in the settings."""

    REFUSALS = "refusals_in_a_row"
    IDENTICAL = "identical_orders"
    LOSS = "daily_loss"


@dataclass(slots=True)
class _Watched:
    """One key. `orders`: terms → when orders of these terms came, the newest last; terms in the order of their newest."""

    refused: int = 0
    orders: OrderedDict[object, deque[float]] = field(default_factory=OrderedDict)
    accounts: dict[int, float] = field(default_factory=dict)
    """Account → unix time of the key's last allowed order there."""
    lost_before: dict[int, tuple[float, Decimal]] = field(default_factory=dict)
    """Account → (start of the day, what was lost in it when the breaker tripped): once resumed, what comes on top counts."""


class Breakers:
    """Of every key. All methods run on the event loop; with every breaker off they cost nothing.

    INVARIANT: a breaker only ever halts, and only the key it watches; the owner's `resume` alone ends that.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        states: States,
        recorder: Recorder,
        metrics: Metrics,
        revision: Callable[[], str],
        elapsed: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._states = states
        self._recorder = recorder
        self._metrics = metrics
        self._revision = revision
        self._elapsed = elapsed
        self._now = now
        self._keys: dict[str, _Watched] = {}

    @property
    def settings(self) -> Settings:
        """In force."""
        return self._settings

    def use(self, settings: Settings) -> None:
        """Other limits, from now on. What is counted against a limit that changes is counted anew; halts stay."""
        before, self._settings = self._settings, settings
        for watched in self._keys.values():
            if settings.refusals_in_a_row != before.refusals_in_a_row:
                watched.refused = 0
            if settings.identical_orders != before.identical_orders:
                watched.orders.clear()
            if settings.daily_loss_currency != before.daily_loss_currency:
                watched.lost_before.clear()

    # -- orders as they come --------------------------------------------------------------------------------------

    def order_came(self, key_id: str, intent: Intent | None) -> None:
        """Before it is judged: a runaway loop is one whether or not its orders are refused."""
        most, window = self._settings.identical_orders, self._settings.identical_window
        terms = _terms(intent)
        if most is None or terms is None:
            return
        at = self._elapsed()
        orders = self._of(key_id).orders
        same = orders.setdefault(terms, deque(maxlen=most))
        same.append(at)
        orders.move_to_end(terms)
        _forget(orders, at - window)
        if len(orders) > MOST_TERMS:
            orders.popitem(last=False)
        if len(same) >= most:
            text = f"{_ordinal(len(same))} order for {_told(intent)} within {window:g} s, which is a loop"
            self._trip(Breaker.IDENTICAL, key_id, text)

    def order_refused(self, key_id: str, code: Code) -> None:
        most = self._settings.refusals_in_a_row
        if most is None or code in NOT_THE_KEYS_DOING:
            return
        watched = self._of(key_id)
        watched.refused += 1
        if watched.refused >= most:
            text = f"{watched.refused} orders in a row were refused, the last one with {code.value}"
            self._trip(Breaker.REFUSALS, key_id, text)

    def order_allowed(self, key_id: str, acc_id: int) -> None:
        """It is about to be sent."""
        if self._settings.refusals_in_a_row is None and self._settings.daily_loss is None:
            return
        watched = self._of(key_id)
        watched.refused = 0
        if self._settings.daily_loss is not None:
            watched.accounts[acc_id] = self._now().timestamp()

    # -- the day's loss -------------------------------------------------------------------------------------------

    def remember(self, key_id: str, acc_id: int, at: float) -> None:
        """An order that was allowed before the start; `at` in unix seconds."""
        if self._settings.daily_loss is not None:
            accounts = self._of(key_id).accounts
            accounts[acc_id] = max(at, accounts.get(acc_id, at))

    def traded_since(self, day: float) -> dict[int, list[str]]:
        """Account → the keys that may trade and placed an order there in the day that began then (unix seconds)."""
        found: dict[int, list[str]] = {}
        for key_id, watched in self._keys.items():
            if self._states.keys.get(key_id, ACTIVE).state is TradingState.HALTED:
                continue
            for acc_id, at in watched.accounts.items():
                if at >= day:
                    found.setdefault(acc_id, []).append(key_id)
        return found

    def day_lost(self, acc_id: int, lost: Decimal, day: float) -> None:
        """What an account has lost in the day that began then, in the currency of the setting; below 0 it is a gain."""
        limit = self._settings.daily_loss
        if limit is None:
            return
        for key_id in self.traded_since(day).get(acc_id, []):
            began, before = self._keys[key_id].lost_before.get(acc_id, (day, Decimal(0)))
            counted = EXACT.subtract(lost, before) if began == day else lost
            if counted > limit:
                self._lost(key_id, acc_id, limit, lost)
                self._keys[key_id].lost_before[acc_id] = (day, lost)

    def _lost(self, key_id: str, acc_id: int, limit: Decimal, lost: Decimal) -> None:
        # SECURITY: the key may not be one that may read what its account has: how much it is, is the owner's to know
        currency = self._settings.daily_loss_currency
        text = f"account {acc_id} has lost more than {plain(limit)} {currency} today"
        self._trip(Breaker.LOSS, key_id, text, owner_reads=f"{lost:.2f} {currency} lost")

    # -- tripping -------------------------------------------------------------------------------------------------

    def resumed(self, key_id: str) -> None:
        """The owner lets the key trade again: it is counted anew."""
        watched = self._keys.get(key_id)
        if watched is not None:
            watched.refused = 0
            watched.orders.clear()

    def _trip(self, breaker: Breaker, key_id: str, reason: str, *, owner_reads: str = "") -> None:
        if self._states.keys.get(key_id, ACTIVE).state is TradingState.HALTED:
            return
        detail = f" ({owner_reads})" if owner_reads else ""
        self._states.halt(key_id, reason, f"the breaker {breaker.value}{detail}", breaker=breaker.value)
        self.resumed(key_id)
        log.error("a breaker has halted a key", breaker=breaker.value, key_id=key_id, reason=f"{reason}{detail}")
        self._metrics.breaker_tripped(breaker.value, key_id)
        self._recorder.note(
            AuditRecord(
                at=self._now().timestamp(),
                iface="sidecar",
                endpoint="halt",
                key_id=key_id,
                outcome="success",
                reason=Code.BREAKER.value,
                message=f"key `{key_id}`, by the breaker {breaker.value}: {reason}{detail}",
                decision_id=new_decision_id(),
                policy=self._revision(),
                essential=True,
            )
        )

    def _of(self, key_id: str) -> _Watched:
        watched = self._keys.get(key_id)
        if watched is None:
            watched = self._keys[key_id] = _Watched()
        return watched


def _terms(intent: Intent | None) -> object:
    """What makes two orders the same; None for what is no new order. Decimals are the same however they are written."""
    if isinstance(intent, PlaceOrder):
        return intent.account, intent.security, intent.side, intent.order_type, intent.qty, intent.price
    if isinstance(intent, PlaceCombo):
        return intent.account, intent.legs, intent.order_type, intent.qty, intent.price
    return None


def _told(intent: Intent | None) -> str:
    if isinstance(intent, PlaceOrder):
        price = "" if intent.price is None else f" at {plain(intent.price)}"
        return f"{intent.side.value} {plain(intent.qty)} {intent.security.symbol}{price}"
    return f"{plain(intent.qty)} of {intent.symbol}" if isinstance(intent, PlaceCombo) else ""


def _forget(orders: OrderedDict[object, deque[float]], edge: float) -> None:
    """Leave only what came after `edge`."""
    while orders and next(iter(orders.values()))[-1] <= edge:
        orders.popitem(last=False)
    newest = next(reversed(orders.values()), None)
    while newest and newest[0] <= edge:
        newest.popleft()


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"the {number}{ending}"
