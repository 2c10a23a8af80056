"""The story of one request, from its bytes to what may be forwarded. Every listener's requests come through here, and only here.

admit       is the key good, is the id known, do its scopes cover it           (header only)
understand  parse strictly, read the intent once, screen what needs no price   (contents)
decide      gather facts, then in one breath: usage, decision, reservation
            then write it down, look once more, and forward
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import Message

from sidecar.asked import Answered, Asked, Forward, Refused
from sidecar.audit.record import AuditRecord
from sidecar.breakers import Breakers
from sidecar.change_budget import ALL, ChangeBudget
from sidecar.continuous import is_continuous, with_contracts
from sidecar.decision_id import new_decision_id
from sidecar.errors import BodyError, RecordError, UpstreamError
from sidecar.facts.accounts import Accounts
from sidecar.facts.look_ups import LookUps
from sidecar.facts.shares import Shares
from sidecar.gathering import Gathering, judged
from sidecar.grants import Caller, Grant, Grants
from sidecar.intents.model import (
    CancelOrder,
    Intent,
    ModifyOp,
    ModifyOrder,
    PlaceCombo,
    PlaceOrder,
    SubscribeAccounts,
    TrdEnv,
    Unlock,
)
from sidecar.intents.read import complete_change, read, set_tag
from sidecar.keys.ring import KeyStore
from sidecar.ledger.ledger import Ledger
from sidecar.metrics import Metrics
from sidecar.policy.decide import decide, explain, screen
from sidecar.policy.decision import Code, Decision, Finding, Refusal
from sidecar.policy.permission import SCOPES
from sidecar.policy.trading import Standing, TradingState
from sidecar.policy.usage import Facts, Terms, Usage
from sidecar.presence import Presence
from sidecar.recorder import Recorder
from sidecar.request_record import args_hash, endpoint_of
from sidecar.reserving import reservation_of
from sidecar.unlocking import Unlocking
from sidecar.verdicts import Verdicts
from sidecar.wire import catalog, replies
from sidecar.wire.catalog import CATALOG, Direction, Row


@dataclass(frozen=True, slots=True)
class GateSettings:
    """`tag_orders`: an order without a remark gets one that names its decision. `terms`: what every decision is given.
    `facts_timeout`: seconds in which the facts of an order must be there."""

    tag_orders: bool = True
    terms: Terms = field(default_factory=Terms)
    facts_timeout: float = 2.0


class Gate:
    """Judges requests against one key ring, one ledger and one audit. All methods run on the event loop."""

    def __init__(
        self,
        *,
        grants: Grants,
        keys: KeyStore,
        ledger: Ledger,
        recorder: Recorder,
        accounts: Accounts,
        look_ups: LookUps,
        metrics: Metrics,
        settings: GateSettings,
        trading: Callable[[str], Standing],
        unlocking: Unlocking,
        breakers: Breakers,
        spawn: Callable[..., asyncio.Task[Any]],
        changes: ChangeBudget | None = None,
        shares: Shares | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.grants = grants
        self.metrics = metrics
        self._keys = keys
        self._ledger = ledger
        self._recorder = recorder
        self._accounts = accounts
        self._facts = Gathering(
            grants=grants, ledger=ledger, accounts=accounts, look_ups=look_ups,
            trading=trading, locked_since=unlocking.locked_by_client, timeout=settings.facts_timeout,
        )  # fmt: skip
        self._settings = settings
        self.trading = trading
        """The trading state in force for a key, by its id."""
        self._unlocking = unlocking
        self.breakers = breakers
        self._changes = changes or ChangeBudget()
        self._shares = shares or Shares()
        self._spawn = spawn
        self._clock = clock
        self.presence = Presence()
        verdicts = self._verdicts = Verdicts(
            grants=grants, recorder=recorder, metrics=metrics, breakers=breakers, clock=clock
        )
        self.lately = verdicts.lately
        self.refuse, self.refuse_asked, self.replayed = verdicts.refuse, verdicts.refuse_asked, verdicts.replayed
        self.closing = False
        """Set while the sidecar drains: orders that come now are refused, cancels go on."""

    # -- admit ----------------------------------------------------------------------------------------------------

    def admit(self, caller: Caller, proto_id: int) -> Row | Refused:
        """Checks 1 to 3, from the header alone."""
        row = CATALOG.get(proto_id)
        grant = self.grants.of(caller)
        if isinstance(grant, Refusal):
            return self._verdicts.refuse(caller, row, proto_id, grant)
        if row is None or row.direction is not Direction.REQUEST or row.permission is catalog.Permission.CONNECTION:
            return self._verdicts.refuse(
                caller, row, proto_id, Refusal(Code.UNKNOWN_REQUEST, f"`{proto_id}` is not a request the sidecar knows")
            )
        if proto_id not in grant.permitted:
            return self._verdicts.refuse(caller, row, proto_id, _scope_missing(row, grant))
        return row

    def admit_stream(self, caller: Caller) -> Refused | None:
        """Whether the caller may have a stream of pushes; what it sees of them is judged push by push."""
        grant = self.grants.of(caller)
        if isinstance(grant, Refusal):
            return self._verdicts.refuse(caller, None, 0, grant)
        self.metrics.allowed(caller.iface, caller.key_id or "").inc()
        return None

    # -- understand -----------------------------------------------------------------------------------------------

    def understand(
        self,
        caller: Caller,
        row: Row,
        read_body: Callable[[], Message],
        *,
        screened: bool = True,
        rehearsal: bool = False,
    ) -> Asked | Refused:
        """Parse, read once, and screen: what would be refused whatever OpenD said is refused before OpenD is asked.

        `read_body` gives the row's request, strictly read where the row is judged, or raises BodyError.
        Without `screened` the caller must `screen` it before it is decided: a repeat is not judged by the rules of its own
        moment. A `rehearsal` is not screened: it wants every check told.
        """
        arrived = time.perf_counter()
        decision_id = new_decision_id()
        intent: Intent | None = None
        try:
            message = read_body()
            if row.judged:
                intent = read(row.id, message)
        except BodyError as error:
            return self._verdicts.refuse(
                caller, row, row.id, Refusal(Code(error.code), str(error)), decision_id=decision_id
            )
        asked = Asked(
            caller, row, message, intent, decision_id, arrived,
            endpoint=endpoint_of(caller, row, row.id), rehearsal=rehearsal,
        )  # fmt: skip
        if rehearsal or not screened:
            return asked
        return self.screen(asked) or asked

    def screen(self, asked: Asked) -> Refused | None:
        """Refuse what would be refused whatever OpenD said, where it would be asked. Once for every order that is no rehearsal
        and no repeat."""
        intent = asked.intent
        if asked.is_order:
            self.breakers.order_came(asked.caller.key_id or "", intent)
        if self.closing and asked.is_order:
            stopping = Refusal(Code.UPSTREAM_UNAVAILABLE, "the sidecar is stopping and takes no new orders")
            return self._verdicts.refuse_asked(asked, stopping)
        if intent is None or not asked.is_order or self._facts.unsure_of_account(intent):
            return None
        return self._screened(asked)

    def _screened(self, asked: Asked) -> Refused | None:
        """Spares OpenD the questions for an order that will be refused; one whose facts are at hand asks none."""
        assert asked.intent is not None
        grant = self.grants.of(asked.caller)
        if isinstance(grant, Refusal):
            return None
        asked.at_hand = not self._facts.asks_opend(grant.key, asked.intent)
        refusal = None if asked.at_hand else self._screen(asked, grant)
        return None if refusal is None else self._verdicts.refuse_asked(asked, refusal)

    def goes_upstream(self, asked: Asked) -> bool:
        """Whether OpenD is needed to answer it, once it is allowed."""
        return not isinstance(asked.intent, Unlock)

    def waits(self, asked: Asked) -> bool:
        """Whether deciding it takes more than memory: a price, the disk, an account not yet known, or OpenD unlocked."""
        intent = asked.intent
        unsure = intent is not None and self._facts.unsure_of_account(intent)
        return asked.is_order or unsure or self._opens_opend(intent)

    def prefetch(self, asked: Asked) -> None:
        """Start gathering facts for a request that waits behind others of its connection."""
        if asked.gathering is None and not asked.at_hand:
            asked.gathering = self._spawn(self._gathered(asked))

    async def _gathered(self, asked: Asked) -> Facts | UpstreamError:
        """An error is a value here: it is nobody's until the request's turn comes."""
        assert asked.intent is not None
        try:
            if is_continuous(asked.intent):
                await self._name_contracts(asked)
            return await self._facts.gather(asked.caller, asked.intent, lambda known: self._is_hopeless(asked, known))
        except UpstreamError as error:
            return error

    async def _name_contracts(self, asked: Asked) -> None:
        """From here on the request is the one that trades the contracts its continuous codes stand for."""
        assert asked.intent is not None
        made, caller = args_hash(asked.intent, asked.message), asked.caller
        asked.message, asked.intent = await with_contracts(
            asked.row.id, asked.message, asked.intent, lambda security: self._facts.contract_of(caller, security)
        )
        asked.args_hash = made

    def _is_hopeless(self, asked: Asked, known: Facts) -> bool:
        return not asked.rehearsal and self._screen(asked, self.grants.of(asked.caller), known) is not None

    def _screen(self, asked: Asked, grant: Grant | Refusal, known: Facts | None = None) -> Refusal | None:
        """Why it is refused whatever OpenD would say, as far as memory tells; `known` adds the order behind a change."""
        if isinstance(grant, Refusal):
            return grant
        assert asked.intent is not None
        facts = self._facts.completed(asked.intent, grant.key.id, Facts(resting=known.resting if known else None))
        return screen(grant.key, asked.intent, facts, self.grants.now()).refusal

    # -- decide ---------------------------------------------------------------------------------------------------

    def decide_now(self, asked: Asked) -> Forward | Answered | Refused:
        """Decide what needs memory only: reads, lists, unlock, cancels. Not for requests that `waits`."""
        intent = asked.intent
        grant = self.grants.of(asked.caller)
        if isinstance(grant, Refusal):
            return self._verdicts.refuse_asked(asked, grant)
        if intent is None:
            refused = self.share(asked.caller, asked.row, asked)
            if refused is not None:
                return refused
            self._verdicts.allow_read(asked, grant)
            return Forward(asked)
        now = self._clock()
        usage = self._ledger.usage(grant.key.id, now)
        decision = decide(
            grant.key,
            intent,
            self._facts.remembered(intent, grant.key.id),
            usage,
            self.grants.now(),
            self._settings.terms,
        )
        known = self._known(intent)
        refusal = decision.refusal or self._changes.refusal(intent, grant.key.id, known=known)
        if refusal is not None:
            return self._verdicts.refuse_asked(asked, refusal)
        if isinstance(intent, CancelOrder):
            # SECURITY: the way out: no price, no house connection, no disk; its record waits in memory if it must
            self._ledger.note_cancel(grant.key.id, now)
            self._changes.note(intent, known=known)
            record = self._verdicts.record(asked, "allow", decision)
            self._recorder.note(record)
            self._verdicts.count_allowed(asked)
            self._verdicts.count_order(asked, "allowed")
            return Forward(asked, record=record)
        if isinstance(intent, Unlock):
            # whoever unlocks OpenD, a bot that does it at its start is told yes and runs on
            self._unlocking.asked(grant.key.id, unlock=intent.unlock)
            self._recorder.note(self._verdicts.record(asked, "allow", decision))
            self._verdicts.count_allowed(asked)
            return Answered(replies.success(asked.row.response or "", 0))
        if isinstance(intent, SubscribeAccounts):
            self._narrow_subscription(asked, intent, grant)
        self._verdicts.allow_read(asked, grant)
        return Forward(asked)

    async def decide(self, asked: Asked, obstacle: Callable[[], Refusal | None]) -> Forward | Answered | Refused:
        """Decide a request that `waits`. When it returns a Forward, the caller must send it before its next await.

        `obstacle` says, at the last moment, why it could not be sent: the client has gone, or OpenD has.
        """
        assert asked.intent is not None
        if asked.at_hand:  # what was at hand may have grown old in the line
            refused = self._screened(asked)
            if refused is not None:
                return refused
        with self.metrics.stage("facts"):
            facts = await (asked.gathering or self._gathered(asked))
            if isinstance(facts, UpstreamError):
                return self._verdicts.refuse_asked(asked, Refusal(Code(facts.code), str(facts)))
            facts = await self._facts.refreshed(asked.intent, facts)
        if not asked.is_order:
            if self._opens_opend(asked.intent) and self._screen(asked, self.grants.of(asked.caller)) is None:
                await self._opened(asked.intent)  # a cancel goes on, whatever became of that: OpenD has the last word
            unsendable = obstacle()
            if unsendable is not None and unsendable.code is not Code.CLIENT_GONE:
                return self._verdicts.refuse_asked(asked, unsendable)
            return self.decide_now(asked)
        reserved = self._decide_and_reserve(asked, facts)
        if isinstance(reserved, Refused):
            return reserved
        try:
            with self.metrics.stage("record"):
                await self._recorder.commit(reserved)
            locked = await self._opened(asked.intent)
        except RecordError as error:
            self._ledger.release(asked.decision_id)
            return self._verdicts.refuse_asked(asked, Refusal(Code(error.code), str(error)))
        except asyncio.CancelledError:
            self._ledger.release(asked.decision_id)
            self._verdicts.refuse_asked(
                asked, Refusal(Code.CLIENT_GONE, "the sidecar stopped before the order was sent")
            )
            raise
        refusal = locked or self._last_look(asked, facts, reserved.policy, obstacle)
        if refusal is not None:
            self._ledger.release(asked.decision_id)
            return self._verdicts.refuse_asked(asked, refusal)
        self._ledger.forwarded(asked.decision_id)
        self._changes.note(asked.intent)
        self.breakers.order_allowed(reserved.key_id, asked.intent.account.acc_id)  # type: ignore[union-attr]  # an order
        self._verdicts.count_allowed(asked)
        self._verdicts.count_order(asked, "allowed")
        self._verdicts.count_value(asked, reserved)
        return Forward(asked, reserved=True, record=reserved)

    async def rehearse(self, asked: Asked) -> Decision | Refused:
        """What `decide` would find now, every check told, for the caller. INVARIANT: it reserves and forwards nothing."""
        if not asked.is_order:
            return self._verdicts.refuse_asked(
                asked, Refusal(Code.MALFORMED_REQUEST, "a dry run is for orders and their changes")
            )
        found = await self.explain(asked)
        if isinstance(found, Refusal):
            return self._verdicts.refuse_asked(asked, found)
        self._verdicts.count_allowed(asked)
        return found

    async def explain(self, asked: Asked) -> Decision | Refusal:
        """What would be decided now of an order, a change or a cancel, every check told; a refusal where it does not come
        to that. INVARIANT: it reserves, counts, records and forwards nothing."""
        facts = await self._gathered(asked)
        intent = asked.intent  # by now a continuous code is the contract's
        assert intent is not None
        if isinstance(facts, UpstreamError):
            return Refusal(Code(facts.code), str(facts))
        grant = self.grants.of(asked.caller)
        if isinstance(grant, Refusal):
            return grant
        facts = self._facts.completed(intent, grant.key.id, facts)
        usage = self._ledger.usage(grant.key.id, self._clock(), _placing(intent))
        decision = explain(grant.key, intent, facts, usage, self.grants.now(), self._settings.terms)
        unfit = (
            self._unfit(intent)
            if asked.is_order
            else self._changes.refusal(intent, grant.key.id, known=self._known(intent))
        )
        if unfit is None:
            return decision
        finding = Finding(unfit.code.value, unfit.message, unfit)
        if not asked.is_order:  # a cancel is held back last of all
            return replace(decision, findings=(*decision.findings, finding))
        return replace(decision, findings=(finding, *decision.findings))

    def use(self, settings: GateSettings) -> None:
        """Other terms, and whether orders are tagged, from the next decision on; `facts_timeout` stays as it was."""
        self._settings = settings

    @property
    def terms(self) -> Terms:
        """What every decision is given."""
        return self._settings.terms

    def usage(self, caller: Caller) -> tuple[Grant, Usage] | Refused:
        """What the caller's own key may do and has used, for it to be told."""
        grant = self.grants.of(caller)
        if isinstance(grant, Refusal):
            return self._verdicts.refuse(caller, None, 0, grant)
        self.metrics.allowed(caller.iface, caller.key_id or "").inc()
        return grant, self._ledger.usage(grant.key.id, self._clock())

    def open_orders(self, key_id: str) -> int:
        """Orders of a key that may still be filled; the key itself may be gone."""
        return self._ledger.open_orders(key_id)

    def _decide_and_reserve(self, asked: Asked, facts: Facts) -> AuditRecord | Refused:
        """INVARIANT: one synchronous step: key, clock, usage, decision and reservation see the same moment."""
        intent = asked.intent
        assert intent is not None
        grant = self.grants.of(asked.caller)
        if isinstance(grant, Refusal):
            return self._verdicts.refuse_asked(asked, grant)
        refusal = self._unfit(intent)
        if refusal is not None:
            return self._verdicts.refuse_asked(asked, refusal)
        facts = self._facts.completed(intent, grant.key.id, facts)
        asked.resting = facts.resting
        asked.judged_under = TradingState.HALTED if facts.trading is None else facts.trading.state
        now = self._clock()
        with self.metrics.stage("decide"):
            usage = self._ledger.usage(grant.key.id, now, _placing(intent))
            decision = decide(grant.key, intent, facts, usage, self.grants.now(), self._settings.terms)
        if decision.refusal is not None:
            return self._verdicts.refuse_asked(asked, decision.refusal, decision)
        assert isinstance(intent, PlaceOrder | PlaceCombo | ModifyOrder)
        asked.counts = decision.counts
        asked.args_hash = asked.args_hash or args_hash(asked.intent, asked.message)
        remark = self._complete(asked, intent, facts)
        self._ledger.reserve(reservation_of(asked.decision_id, grant.key.id, now, intent, facts, decision, remark))
        return self._verdicts.record(asked, "allow", decision)

    def _complete(self, asked: Asked, intent: PlaceOrder | PlaceCombo | ModifyOrder, facts: Facts) -> str:
        """Put into the message what was judged and the client left open; the remark it goes with."""
        if isinstance(intent, ModifyOrder):
            order = judged(intent, facts)
            if order is not None and intent.op is ModifyOp.NORMAL:
                complete_change(asked.message, order)
            return ""
        return set_tag(asked.message, asked.decision_id) if self._settings.tag_orders else intent.remark

    def _opens_opend(self, intent: Intent | None) -> bool:
        """Whether OpenD has to be unlocked for it first, and that is the sidecar's to do."""
        if not isinstance(intent, PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder):
            return False
        return intent.account.env is TrdEnv.REAL and self._unlocking.must_open(intent.account.acc_id)

    async def _opened(self, intent: Intent) -> Refusal | None:
        """Why OpenD could not be unlocked for it."""
        if (
            isinstance(intent, PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder)
            and intent.account.env is TrdEnv.REAL
        ):
            return await self._unlocking.open(intent.account.acc_id)
        return None

    def _unfit(self, intent: Intent | None) -> Refusal | None:
        """Orders stop (and cancels go on) while the keys are stale or the clock cannot be trusted, changes of orders while
        what is left of the account's is kept for cancels."""
        if self._keys.stale(time.monotonic()):
            return Refusal(Code.KEYS_STALE, "keys.json has been unreadable for too long, mend it; cancels still work")
        if not self._ledger.clock_ok(self._clock()):
            return Refusal(
                Code.CLOCK, "the machine's clock jumped, limits over time cannot be judged; cancels still work"
            )
        return self._changes.refusal(intent)

    def _known(self, intent: Intent | None) -> str:
        """Which working order a cancel is of, whichever of its names it says; "" for one that the ledger does not know."""
        if not isinstance(intent, CancelOrder):
            return ""
        order = intent.order
        return (
            ALL
            if intent.for_all
            else self._ledger.orders.open_under(intent.account.acc_id, order.order_id, order.order_id_ex)
        )

    def _last_look(
        self, asked: Asked, facts: Facts, decided_under: str | None, obstacle: Callable[[], Refusal | None]
    ) -> Refusal | None:
        """INVARIANT: after the write and before the first byte: is the key still good for this, may orders pass, can it be sent."""
        grant = self.grants.of(asked.caller)
        if isinstance(grant, Refusal):
            return grant
        key_id = grant.key.id
        locked = self._unlocking.locked_by_client(key_id) is not None
        halted = locked or self.trading(key_id).state is not TradingState.ACTIVE
        changed = self._screen(asked, grant, facts) if halted or self.grants.revision != decided_under else None
        return changed or self._tightened(asked, key_id) or self._unfit(asked.intent) or obstacle()

    def _tightened(self, asked: Asked, key_id: str) -> Refusal | None:
        """What was not judged as shrinking a position does not pass where only that may."""
        standing = self.trading(key_id)
        if standing.state is not TradingState.REDUCING or asked.judged_under is TradingState.REDUCING:
            return None
        return Refusal(
            Code.REDUCE_ONLY, f"it was not judged as shrinking a position; {standing.told(self.grants.now())}"
        )

    def share(self, caller: Caller, row: Row, asked: Asked | None = None) -> Refused | None:
        """A read goes upstream now: count it where OpenD's limit is shared, refuse it where what is left of that is kept."""
        refusal = self._shares.take(row)
        if refusal is None:
            return None
        return self._verdicts.refuse(
            caller, row, row.id, refusal, asked=asked, decision_id=asked.decision_id if asked else ""
        )

    # -- narrowing ------------------------------------------------------------------------------------------------

    def _narrow_subscription(self, asked: Asked, intent: SubscribeAccounts, grant: Grant) -> None:
        """2008: the accounts asked for, less those the key may not see (the SDK sends all it knows and ignores the answer)."""
        visible = []
        for acc_id in intent.acc_ids:
            account = self._accounts.get(acc_id)
            if account is not None and grant.may_see(acc_id, account.env):
                visible.append(acc_id)
        asked.args_hash = args_hash(asked.intent, asked.message)
        message: Any = asked.message
        del message.c2s.accIDList[:]
        message.c2s.accIDList.extend(visible)


def _placing(intent: Intent) -> PlaceOrder | PlaceCombo | None:
    return intent if isinstance(intent, PlaceOrder | PlaceCombo) else None


def _scope_missing(row: Row, grant: Grant) -> Refusal:
    needed = " or ".join("+".join(sorted(scopes)) for scopes in SCOPES[row.permission.value])
    having = ", ".join(sorted(grant.key.scopes))
    return Refusal(Code.SCOPE, f"{row.name} needs the scope {needed}, this key has {having}")
