"""A request understood, and what becomes of it: the values that the gate and the doors hand each other. Decides nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from google.protobuf.message import Message

from sidecar.audit.record import AuditRecord
from sidecar.errors import UpstreamError
from sidecar.grants import Caller
from sidecar.intents.model import Intent, ModifyOrder, PlaceCombo, PlaceOrder, RestingOrder
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.trading import TradingState
from sidecar.policy.usage import Facts
from sidecar.wire.catalog import Row


@dataclass(frozen=True, slots=True)
class Refused:
    """A no. `text` is what the client reads; `retry_after` the seconds after which the same request may pass, if known."""

    code: Code
    text: str
    retry_after: int | None = None
    unknown: bool = False
    """It was sent, and whether OpenD did it is not known."""
    decision_id: str | None = None
    """The one in `text`; None where the audit has no record of it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Answered by the sidecar itself; nothing goes upstream. `body` is a whole protobuf Response."""

    body: bytes


@dataclass(slots=True)
class Asked:
    """A request understood: what will be forwarded (`message`), and what it means (`intent`)."""

    caller: Caller
    row: Row
    message: Message
    intent: Intent | None
    """None for reads that are only parsed to be recorded."""
    decision_id: str
    arrived: float
    """time.perf_counter() when its bytes were read."""
    gathering: asyncio.Task[Facts | UpstreamError] | None = None
    at_hand: bool = False
    """Its facts were in memory when it was screened: there is nothing to gather ahead of its turn."""
    endpoint: str = ""
    rehearsal: bool = False
    judged_under: TradingState = TradingState.ACTIVE
    """The trading state in force when it was decided."""
    resting: RestingOrder | None = None
    """The order that it changes, as it was judged."""
    counts: Decimal | None = None
    """What of its worth counts against the day's value, as it was judged."""
    args_hash: str | None = None
    """Of the request as its client made it, where it was changed since."""

    @property
    def is_order(self) -> bool:
        return isinstance(self.intent, PlaceOrder | PlaceCombo | ModifyOrder)


@dataclass(frozen=True, slots=True)
class Forward:
    """A yes: `asked.message` goes upstream now, without a further await. `reserved` when the ledger holds it."""

    asked: Asked
    reserved: bool = False
    record: AuditRecord | None = field(default=None)
    """What was recorded for an order or a cancel; its outcome is recorded when OpenD answers."""


CLIENT_LEFT = Refusal(Code.CLIENT_GONE, "the client disconnected before its order was sent")


def link_ended(reason: str) -> Refusal:
    """There is nothing to send it on. `reason`: as `Session.ended`, "" where it is not known."""
    return Refusal(
        Code.UPSTREAM_UNAVAILABLE, f"{reason or 'the connection to OpenD ended'} before the request was sent"
    )
