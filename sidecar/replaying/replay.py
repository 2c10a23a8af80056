"""Goes through the records of an audit in the order of their decisions, has each order decided anew under other keys, and counts
what is used as it goes, in a ledger of its own. It holds no rule and writes nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sidecar.intents.model import CancelOrder, ModifyOrder, PlaceCombo, PlaceOrder, RestingOrder
from sidecar.ledger.attempts import Attempt
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.reservation import Row
from sidecar.policy.decision import Code
from sidecar.policy.key import Key
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Account, Facts, OrderOwner, Terms
from sidecar.replaying.judge import NEAR, USED, Answer, Verdict, judged, worth_of
from sidecar.replaying.recorded import Recorded, recorded
from sidecar.reserving import reservation_of

_HORIZON = 5_000
"""Records by which one may be written after another that was decided later."""
_OURS = frozenset({
    Code.KEY_EXPIRED, Code.KEY_FROZEN, Code.IP_NOT_ALLOWED, Code.SCOPE, Code.ACCOUNT, Code.MARKET, Code.SYMBOL, Code.SIDE,
    Code.ORDER_TYPE, Code.HOURS, Code.EXTENDED_HOURS, Code.ORDER_QTY, Code.ORDER_VALUE, Code.RATE, Code.DAILY_VALUE, Code.DUPLICATE,
})  # fmt: skip
"""Codes of refusals that the record and the keys alone decide: where no rule refuses now, the order would have been allowed."""
_STANDS = frozenset({
    Code.UNKNOWN_REQUEST, Code.MALFORMED_REQUEST, Code.UNKNOWN_FIELD, Code.BODY_TOO_LARGE, Code.IDEMPOTENCY_CONFLICT,
    Code.TRADING_HALTED, Code.BREAKER, Code.REDUCE_ONLY, Code.KEYS_STALE, Code.CANCEL_FLOOD, Code.AUDIT_UNAVAILABLE,
    Code.LEDGER_UNAVAILABLE, Code.CLOCK, Code.UPSTREAM_UNAVAILABLE, Code.UPSTREAM_FULL, Code.CLIENT_GONE, Code.ORDER_UNKNOWN,
})  # fmt: skip
"""Codes of refusals that no keys would have changed."""
_OTHER_ACCOUNT = "allowed_acc_ids"
"""In the message of a refusal because of the key's list; without it there is no such account, which no keys change."""
_ONE_FOR_SEVERAL = "one record stands for several refusals"
_ENDS = ("success", "failure", "unknown")


@dataclass(frozen=True, slots=True)
class Difference:
    """An order that would have been decided otherwise. `was` and `now`: `allowed`, or the code of a refusal."""

    recorded: Recorded
    was: str
    now: str
    text: str


@dataclass(slots=True)
class Tally:
    """Of one key."""

    same: int = 0
    now_refused: int = 0
    now_allowed: int = 0
    untold: int = 0
    another_reason: int = 0
    """Of `same`: refused as before, but for another reason first."""


@dataclass(slots=True)
class Outcome:
    """What a replay found. `untold`: why, and how many."""

    differences: dict[str, Difference] = field(default_factory=dict)
    """By decision, in their order."""
    keys: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    untold: Counter[str] = field(default_factory=Counter)
    decisions: int = 0
    from_the_start: bool = True
    """Whether the first record there ever was is among them."""


class _Nothing:
    """In place of the ledger's file: all is in memory."""

    def load(self, days: int) -> list[Row]:
        return []

    def find_decision(self, decision_id: str) -> Row | None:
        return None

    def find_order(self, acc_id: int, order_id: int, order_id_ex: str) -> list[Row]:
        return []

    def load_attempts(self, since: float, most: int) -> list[Attempt]:
        return []

    def find_attempt(self, key_id: str, token: str) -> Attempt | None:
        return None


class Replay:
    """One run through an audit. `day_start` as of `Ledger`; `machine_id` the raw id of the machine the audit is of, or None.
    `at_limit`: an order whose value is not recorded counts as quantity × limit."""

    def __init__(
        self, keys: Mapping[str, Key], day_start: Callable[[float], float], terms: Terms, machine_id: str | None,
        *, at_limit: bool = False,
    ) -> None:  # fmt: skip
        self._keys = keys
        self._day_start = day_start
        self._terms = terms
        self._machine_id = machine_id
        self._at_limit = at_limit
        self._at = 0.0
        self._began = 0.0
        self._ledger: Ledger | None = None
        self._allowed: dict[str, Recorded] = {}
        """What was allowed, and may yet turn out to have been held back."""
        self._never_placed: set[tuple[int, int | str]] = set()
        """Orders there were that there would not have been."""
        self.outcome = Outcome()

    def run(self, records: Iterable[Mapping[str, Any]]) -> Outcome:
        for one in _by_time(self._from_its_start(records)):
            self._take(one)
        return self.outcome

    def _from_its_start(self, records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for number, record in enumerate(records):
            if number == 0:
                self.outcome.from_the_start = record.get("seq") == 1
            yield record

    def _take(self, one: Recorded) -> None:
        ledger = self._now(one)
        if one.outcome in _ENDS:
            self._ended(ledger, one)
        elif one.outcome == "reject" and one.decision in self._allowed:
            self._held_back(ledger, one)
        elif one.outcome == "allow" and one.message:
            return  # a repeat: nothing was decided
        elif one.intent is not None and not one.count:
            self._decided(ledger, one)
        elif one.outcome == "reject" and one.may_be_order and not one.key_id.startswith("<"):
            self._say_untold(one, _ONE_FOR_SEVERAL if one.count else "the record does not say of which order it is")

    def _now(self, one: Recorded) -> Ledger:
        self._at = one.at.timestamp()
        if self._ledger is None:
            self._began = self._at
            self._ledger = Ledger(_Nothing(), self._day_start, now=self._at, elapsed=lambda: self._at)
        self._ledger.take()  # nothing is written
        return self._ledger

    # -- what was decided ---------------------------------------------------------------------------------------------

    def _decided(self, ledger: Ledger, one: Recorded) -> None:
        self.outcome.decisions += 1
        facts = self._facts(ledger, one)
        verdict = self._verdict(ledger, one, facts)
        if one.outcome == "allow":
            self._allowed[one.decision] = one
        self._compare(one, verdict)
        passes = verdict.answer is Answer.ALLOWED or (verdict.answer is Answer.UNTOLD and one.outcome == "allow")
        if passes and verdict.decision is not None and not self._stands(one):
            self._use(ledger, one, facts, verdict)

    def _verdict(self, ledger: Ledger, one: Recorded, facts: Facts) -> Verdict:
        key = self._keys.get(one.key_id)
        if key is None:
            return Verdict(Answer.REFUSED, Code.KEY_REVOKED, "there is no such key")
        if self._never_placed.intersection(_keys_of(one)):
            return Verdict(Answer.UNTOLD, None, "the order it is about would not have been placed")
        self._at -= NEAR
        placing = one.intent if isinstance(one.intent, PlaceOrder | PlaceCombo) else None
        usage = ledger.usage(one.key_id, self._at, placing)
        self._at += NEAR
        worth = worth_of(key, one, self._terms, at_limit=self._at_limit)
        verdict = judged(key, one, facts, usage, self._terms, worth, self._machine_id)
        unsure = self._limit_with_a_past(key, one)
        if verdict.answer is Answer.ALLOWED and unsure is not None:
            return replace(verdict, answer=Answer.UNTOLD, text=f"{unsure}: what was used before the first record")
        return verdict

    def _limit_with_a_past(self, key: Key, one: Recorded) -> Code | None:
        """A limit of the key on what was used, some of which may be from before the records begin."""
        if self.outcome.from_the_start or isinstance(one.intent, CancelOrder):
            return None
        since = {
            Code.RATE: self._at - 60.0,
            Code.DAILY_VALUE: self._day_start(self._at),
            Code.DUPLICATE: self._at - (key.duplicate_window_s or 0),
        }
        limits = (code for code, name in USED.items() if getattr(key, name) is not None)
        return next((code for code in limits if since[code] < self._began), None)

    def _facts(self, ledger: Ledger, one: Recorded) -> Facts:
        """What the records say, with every account there, of its environment, and nothing halted: keys change neither."""
        intent = one.intent
        assert intent is not None
        account = Account(intent.account.acc_id, intent.account.env, frozenset())
        facts = Facts(account=account, trading=ACTIVE)
        if not isinstance(intent, ModifyOrder | CancelOrder):
            return facts
        owner = ledger.orders.owner_of(one.acc_id, *one.ids)
        if one.reason == Code.NOT_OWN_ORDER:
            owner = owner or OrderOwner("")
        facts = replace(facts, order_owner=owner)
        if isinstance(intent, CancelOrder) or one.order is None:
            return facts
        approved = ledger.orders.approved(one.acc_id, *one.ids)
        before = one.order if approved is None or approved.qty is None else replace(one.order, qty=approved.qty)
        return replace(facts, approved=approved, resting=RestingOrder(before, *one.ids))

    def _compare(self, one: Recorded, verdict: Verdict) -> None:
        tally, was = self.outcome.keys[one.key_id], one.reason or "allowed"
        if one.outcome == "allow":
            if verdict.answer is Answer.REFUSED:
                tally.now_refused += 1
                self._differs(one, was, verdict)
            elif verdict.answer is Answer.UNTOLD:
                self._say_untold(one, verdict.text)
            else:
                tally.same += 1
        elif verdict.answer is Answer.REFUSED or self._stands(one):
            tally.same += 1
            tally.another_reason += verdict.answer is Answer.REFUSED and verdict.code != one.reason
        elif verdict.answer is Answer.UNTOLD:
            self._say_untold(one, verdict.text)
        elif one.reason in _OURS:
            tally.now_allowed += 1
            self._differs(one, was, verdict)
        else:
            self._say_untold(one, f"{one.reason}: no record says why")

    def _stands(self, one: Recorded) -> bool:
        """Whether it was refused for what no keys would have changed."""
        if one.outcome != "reject":
            return False
        return one.reason in _STANDS or (one.reason == Code.ACCOUNT and _OTHER_ACCOUNT not in one.message)

    def _differs(self, one: Recorded, was: str, verdict: Verdict) -> None:
        now = "allowed" if verdict.code is None else verdict.code.value
        self.outcome.differences[one.decision or str(one.seq)] = Difference(one, was, now, verdict.text)

    def _say_untold(self, one: Recorded, why: str) -> None:
        count = one.count or 1
        self.outcome.keys[one.key_id].untold += count
        self.outcome.untold[why] += count

    # -- what is used -------------------------------------------------------------------------------------------------

    def _use(self, ledger: Ledger, one: Recorded, facts: Facts, verdict: Verdict) -> None:
        """INVARIANT: unknown is used: what would have been allowed, and was not, counts as if OpenD had taken it."""
        intent = one.intent
        assert verdict.decision is not None
        if isinstance(intent, CancelOrder):
            ledger.note_cancel(one.key_id, self._at)
            return
        if intent is None or (isinstance(intent, ModifyOrder) and facts.resting is None):
            return
        if ledger.orders.row_of(one.decision) is None:
            ledger.reserve(reservation_of(one.decision, one.key_id, self._at, intent, facts, verdict.decision, ""))
            ledger.forwarded(one.decision)

    def _held_back(self, ledger: Ledger, one: Recorded) -> None:
        """It was allowed, and refused by the last look or for want of a record: keys had no part in it."""
        before = self._allowed.pop(one.decision)
        ledger.release(one.decision)
        gone = self.outcome.differences.pop(one.decision, None)
        if gone is not None:
            tally = self.outcome.keys[before.key_id]
            tally.now_refused -= 1
            tally.same += 1

    def _ended(self, ledger: Ledger, one: Recorded) -> None:
        """OpenD's answer, to what would have been sent."""
        self._allowed.pop(one.decision, None)
        if ledger.orders.row_of(one.decision) is None:
            if one.outcome == "success" and isinstance(one.intent, PlaceOrder | PlaceCombo):
                self._never_placed.update(_keys_of(one))
        elif one.outcome == "success":
            ledger.accepted(one.decision, *one.ids)
        elif one.outcome == "failure" and one.by_opend:
            ledger.refused_by_opend(one.decision)
        elif one.outcome == "failure":
            ledger.order_failed(one.decision)


def _keys_of(one: Recorded) -> set[tuple[int, int | str]]:
    return {(one.acc_id, each) for each in one.ids if each}


def _by_time(records: Iterable[Mapping[str, Any]]) -> Iterator[Recorded]:
    """A record may be written a little after one that was decided later. Those that are none are left out."""
    waiting: list[tuple[Any, int, int, Recorded]] = []
    for number, record in enumerate(records):
        try:
            one = recorded(record)
        except (ValueError, KeyError, ArithmeticError):
            continue
        heapq.heappush(waiting, (one.at, one.seq, number, one))
        if len(waiting) > _HORIZON:
            yield heapq.heappop(waiting)[-1]
    while waiting:
        yield heapq.heappop(waiting)[-1]


__all__ = ["Difference", "Outcome", "Replay", "Tally"]
