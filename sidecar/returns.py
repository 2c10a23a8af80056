"""What comes back from OpenD: replies narrowed to what a key may see, pushes judged, outcomes recorded. Decides no request."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any

import structlog
from google.protobuf.message import DecodeError, Message

from sidecar.asked import Forward, Refused
from sidecar.audit.record import Outcome
from sidecar.errors import BodyError, RecordError
from sidecar.facts.accounts import Accounts
from sidecar.grants import Caller, Grant, Grants
from sidecar.intents.model import Intent, TrdEnv
from sidecar.intents.replies import PlaceReply, PushSubject, read_place_reply, read_push
from sidecar.ledger.ledger import Ledger
from sidecar.metrics import Action, Came, Metrics
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.key import Scope
from sidecar.recorder import Recorder
from sidecar.settling import REFUSED, Settling
from sidecar.unlocking import Unlocking
from sidecar.wire import catalog
from sidecar.wire.catalog import CATALOG, Row
from sidecar.wire.messages import message_class

log = structlog.get_logger()

_CAME: dict[Outcome, Came] = {"success": "accepted", "failure": "failed", "unknown": "unknown"}


class Sight(Enum):
    SHOW = "show"
    HIDE = "hide"
    WAIT = "wait"
    """Whose order it is, is not known yet; ask again when `on_owner_known` fires, and hide it in the end."""


class Returns:
    """Judges what OpenD sends, against the key as it is now. All methods run on the event loop."""

    def __init__(
        self,
        *,
        grants: Grants,
        ledger: Ledger,
        recorder: Recorder,
        settling: Settling,
        accounts: Accounts,
        metrics: Metrics,
        unlocking: Unlocking,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._grants = grants
        self._ledger = ledger
        self._recorder = recorder
        self._settling = settling
        self._accounts = accounts
        self._metrics = metrics
        self._unlocking = unlocking
        self._clock = clock
        self.on_owner_known = settling.on_owner_known
        self._unanswered: dict[int, Forward] = {}
        """By identity: orders and their changes that were sent."""
        self._answered = asyncio.Event()

    # -- replies --------------------------------------------------------------------------------------------------

    def narrow(self, caller: Caller, row: Row, response: Message) -> Refusal | None:
        """Take out of a reply what the key may not see (2001: accounts; 2201, 2211: orders of others). Changes `response`."""
        if row.id not in (catalog.GET_ACC_LIST, catalog.GET_ORDER_LIST, catalog.GET_ORDER_FILL_LIST):
            return None
        grant = self._grants.of(caller)
        if isinstance(grant, Refusal):
            return grant
        message: Any = response
        s2c = message.s2c
        if row.id == catalog.GET_ACC_LIST:
            _keep(s2c.accList, lambda acc: acc.trdEnv in (0, 1) and grant.may_see(acc.accID, TrdEnv(acc.trdEnv)))
        elif not _sees_all_orders(grant):
            acc_id = s2c.header.accID
            orders = s2c.orderList if row.id == catalog.GET_ORDER_LIST else s2c.orderFillList
            _keep(orders, lambda order: self._owns(grant, acc_id, order.orderID, order.orderIDEx))
        return None

    def _owns(self, grant: Grant, acc_id: int, order_id: int, order_id_ex: str) -> bool:
        owner = self._ledger.orders.owner_of(acc_id, order_id, order_id_ex)
        return owner is not None and owner.key_id == grant.key.id

    # -- orders ---------------------------------------------------------------------------------------------------

    def order_sent(self, forward: Forward) -> None:
        """An order or a cancel went to OpenD; `order_answered` or `order_lost` follows, or `stop`."""
        self._unanswered[id(forward)] = forward

    @property
    def unanswered(self) -> int:
        """Orders and their changes that were sent and have no answer yet."""
        return len(self._unanswered)

    async def all_answered(self, patience: float) -> None:
        """Wait up to `patience` seconds until nothing that was sent is without its answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._unanswered:
                    self._answered.clear()
                    await self._answered.wait()

    def stop(self) -> None:
        """Nothing is waited for any more: what has no answer is recorded as unknown, and looked for after the next start."""
        for forward in tuple(self._unanswered.values()):
            self.order_lost(forward, "the sidecar stopped before OpenD answered")

    def _one_answered(self, forward: Forward) -> None:
        self._unanswered.pop(id(forward), None)
        self._answered.set()

    async def order_answered(self, forward: Forward, response: Message, *, late: bool = False) -> None:
        """OpenD answered an order or a cancel: settle it and record the outcome. The order → key map is durable on return.

        `late`: it was given up before.
        """
        try:
            await self._settle(forward, response, late=late)
        finally:
            if not late:
                self._one_answered(forward)

    async def _settle(self, forward: Forward, response: Message, *, late: bool) -> None:
        decision_id = forward.asked.decision_id
        reply = read_place_reply(forward.asked.row.id, response)
        outcome: Outcome = "success" if reply.ret_type == 0 else "failure" if reply.ret_type in REFUSED else "unknown"
        told = late and forward.reserved and not self._settling.still_to_record(decision_id)
        if forward.reserved:
            self._settling.replied(decision_id, reply)
        self._learn_of_the_lock(forward.asked.intent, reply)
        if not (told and outcome == "success"):
            self._outcome(forward, outcome, reply.ret_type, reply.ret_msg, reply.order_id, reply.order_id_ex)
        if outcome == "unknown" and forward.reserved and forward.record is not None:
            self._settling.lost(decision_id, forward.record)
        if forward.reserved:
            try:
                await self._recorder.flush_ledger()
            except RecordError as error:
                log.error(
                    "an order's owner could not be written down; it is kept in memory",
                    decision=decision_id,
                    error=str(error),
                )

    def _learn_of_the_lock(self, intent: Intent | None, reply: PlaceReply) -> None:
        account = getattr(intent, "account", None)
        if account is not None and account.env is TrdEnv.REAL and (reply.ret_type == 0 or reply.ret_type in REFUSED):
            self._unlocking.told(account.acc_id, accepted=reply.ret_type == 0, said=reply.ret_msg)

    def gave_up(self, forward: Forward | None, reason: str) -> Refused:
        """What the client is told of an answer that does not come; recorded where it was an order or a cancel."""
        code = Code.UPSTREAM_UNAVAILABLE
        if forward is None or forward.record is None:
            return Refused(code, f"[sidecar:{code.value}] {reason}")
        self.order_lost(forward, reason)
        text = f"{reason}; whether this was done is unknown, look at the order list before you repeat it"
        decision_id = forward.asked.decision_id
        return Refused(code, Refusal(code, text).text(decision_id), unknown=True, decision_id=decision_id)

    def order_lost(self, forward: Forward, reason: str) -> None:
        """The answer will not come. INVARIANT: unknown is used: the reservation stays."""
        self._one_answered(forward)
        self._outcome(forward, "unknown", None, reason)
        if forward.reserved and forward.record is not None:
            self._settling.lost(forward.asked.decision_id, forward.record)

    def _outcome(
        self,
        forward: Forward,
        outcome: Outcome,
        ret_type: int | None,
        message: str,
        order_id: int = 0,
        order_id_ex: str = "",
    ) -> None:
        if forward.record is None:
            return
        latency = time.perf_counter() - forward.asked.arrived
        record = replace(
            forward.record,
            at=self._clock(),
            outcome=outcome,
            ret_type=ret_type,
            message=message or None,
            latency_us=round(latency * 1_000_000),
            order_id=order_id or forward.record.order_id,
            order_id_ex=order_id_ex or forward.record.order_id_ex,
        )
        self._recorder.note(record)
        self._metrics.stage_seconds("upstream", latency)
        action: Action = "order" if forward.reserved else "cancel"
        self._metrics.order(action, record.trd_env, _CAME[outcome], record.key_id)

    # -- pushes ---------------------------------------------------------------------------------------------------

    def judge_push(self, caller: Caller, proto_id: int, body: bytes) -> Sight:
        """Whether an account push may go to this caller now."""
        subject = self.learn(proto_id, body)
        grant = self._grants.of(caller)
        if (
            subject is None
            or isinstance(grant, Refusal)
            or not grant.may_see(subject.account.acc_id, subject.account.env)
        ):
            return Sight.HIDE
        account = self._accounts.get(subject.account.acc_id)
        if account is not None and account.env is not subject.account.env:
            return Sight.HIDE
        if _sees_all_orders(grant):
            return Sight.SHOW
        if not subject.order_id and not subject.order_id_ex:
            return Sight.HIDE
        owner = self._ledger.orders.owner_of(subject.account.acc_id, subject.order_id, subject.order_id_ex)
        if owner is None or owner.key_id is None:
            return Sight.WAIT
        return Sight.SHOW if owner.key_id == grant.key.id else Sight.HIDE

    def hidden(self, caller: Caller, row: Row) -> None:
        """Count a push that was kept from a caller."""
        self._metrics.filtered_push(row.permission.value, caller.key_id or "")

    def learn(self, proto_id: int, body: bytes) -> PushSubject | None:
        """Take from an order push whose order it is and what became of it. The house connection hears those of all accounts."""
        row = CATALOG[proto_id]
        try:
            subject = read_push(proto_id, message_class(row.response or "").FromString(body))
        except (DecodeError, BodyError) as error:
            log.warning("an order push could not be read", proto_id=proto_id, error=str(error))
            return None
        if proto_id == catalog.UPDATE_ORDER:
            self._settling.pushed(subject)
        return subject


def _sees_all_orders(grant: Grant) -> bool:
    return Scope.ACC_READ in grant.key.scopes or Scope.TRADE_CANCEL in grant.key.scopes


def _keep(repeated: Any, wanted: Callable[..., bool]) -> None:
    """Narrow a repeated protobuf field in place."""
    for index in range(len(repeated) - 1, -1, -1):
        if not wanted(repeated[index]):
            del repeated[index]
