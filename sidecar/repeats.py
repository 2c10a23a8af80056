"""Repeated writes under one idempotency key: the first is carried out, every other is answered with its outcome.

What must outlive the process is the ledger's (`Ledger.attempts`); here is what is under way. Sends nothing itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidecar.asked import Asked, Refused
from sidecar.errors import RecordError
from sidecar.ledger.attempts import Attempt, AttemptKey
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.reservation import State
from sidecar.policy.decision import Code, Refusal
from sidecar.wire import catalog, packet_id
from sidecar.wire.messages import message_class

_TOKEN = re.compile(r"[!-~]{1,255}")

Outcome = bytes | Refused
"""OpenD's whole protobuf Response, or why there is none."""


@dataclass(frozen=True, slots=True)
class Begun:
    """This is the first write under its key: carry it out, then say what came of it."""

    attempt: Attempt
    reserves: bool
    """Whether it is an order, which the ledger holds a reservation of before it is sent."""
    told: asyncio.Future[Outcome]
    """What the repeats that wait are answered."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """There was one before, under `decision_id`; `outcome` is there now or later."""

    decision_id: str
    outcome: asyncio.Future[Outcome]


class Repeats:
    """Idempotency keys belong to the API key that sent them: two keys may use the same one. All methods run on the event
    loop.

    INVARIANT: while a write may have been sent, no other is the first under its key; the ledger keeps that over a restart.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._under_way: dict[AttemptKey, Begun] = {}

    def begin(self, asked: Asked, token: str) -> Begun | Repeated | Refusal:
        """Whether this is the first write under `token`. Refuses a token that was used for another request, and an order
        while it cannot be told."""
        if not _TOKEN.fullmatch(token):
            said = "the idempotency key must be 1 to 255 printable ASCII characters without spaces"
            return Refusal(Code.MALFORMED_REQUEST, said)
        key_id, request_hash = asked.caller.key_id or "", _hash_of(asked)
        under_way = self._under_way.get((key_id, token))
        try:
            # SECURITY: the way out waits for no disk: a cancel that is sent twice cancels once
            known = (
                under_way.attempt if under_way else self._ledger.attempts.find(key_id, token, look_up=asked.is_order)
            )
        except RecordError as error:
            return Refusal(Code(error.code), str(error))
        if known is None:
            attempt = Attempt(key_id, token, request_hash, asked.decision_id, self._clock())
            begun = Begun(attempt, asked.is_order, asyncio.get_running_loop().create_future())
            self._under_way[attempt.key] = begun
            self._ledger.attempts.begun(attempt, write=asked.is_order)
            return begun
        if known.request_hash != request_hash:
            said = "this idempotency key was used for another request; take a new one for each order"
            return Refusal(Code.IDEMPOTENCY_CONFLICT, said)
        if under_way is not None:
            # a future of its own for each who waits: one of them may be cancelled
            return Repeated(known.decision_id, asyncio.shield(under_way.told))
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        outcome.set_result(known.outcome or self._accepted(asked, known) or _unknown(known))
        return Repeated(known.decision_id, outcome)

    def answered(self, begun: Begun, outcome: bytes) -> None:
        """OpenD answered the first, maybe after its asker was told that it did not. It is written with what is settled in
        the same breath; the repeats that wait are told by `ended`, when that is durable."""
        self._ledger.attempts.ended(begun.attempt, outcome)

    def ended(self, begun: Begun, outcome: Outcome) -> None:
        """The first has its answer. One that was never sent frees its key; of one that was sent the outcome is unknown, and
        stays so for every repeat until OpenD answers or reports the order."""
        if self._under_way.get(begun.attempt.key) is begun:
            del self._under_way[begun.attempt.key]
        if isinstance(outcome, Refused) and not outcome.unknown:
            self._ledger.attempts.dropped(begun.attempt)
        if not begun.told.done():
            begun.told.set_result(outcome)

    def failed(self, begun: Begun) -> None:
        """The first was cut short. What the ledger holds a reservation of may have been sent."""
        if begun.reserves and self._ledger.orders.row_of(begun.attempt.decision_id) is not None:
            self.ended(begun, _unknown(begun.attempt))
            return
        refusal = Refusal(Code.UPSTREAM_UNAVAILABLE, "the first request under this idempotency key was not carried out")
        self.ended(begun, _refused(refusal, begun.attempt))

    def _accepted(self, asked: Asked, attempt: Attempt) -> bytes | None:
        """OpenD's answer, made again from what it reported of the order: that it took it, and its ids."""
        if asked.row.id != catalog.PLACE_ORDER:
            return None
        row = self._ledger.orders.row_of(attempt.decision_id)
        if row is None or row.state is not State.ACCEPTED:
            return None
        request: Any = asked.message
        response: Any = message_class(asked.row.response or "")()
        response.retType, response.retMsg, response.errCode = 0, "", 0
        response.s2c.header.CopyFrom(request.c2s.header)
        if row.order_id:
            response.s2c.orderID = row.order_id
        if row.order_id_ex:
            response.s2c.orderIDEx = row.order_id_ex
        made: bytes = response.SerializeToString()
        return made


def _hash_of(asked: Asked) -> str:
    said = packet_id.without(asked.message).SerializeToString(deterministic=True)
    return hashlib.sha256(asked.row.id.to_bytes(4, "big") + said).hexdigest()


def _unknown(attempt: Attempt) -> Refused:
    said = (
        "a request was sent under this idempotency key and its outcome is unknown; look at the order list, and take a new "
        "idempotency key to send it again"
    )
    return _refused(Refusal(Code.UPSTREAM_UNAVAILABLE, said), attempt, unknown=True)


def _refused(refusal: Refusal, attempt: Attempt, *, unknown: bool = False) -> Refused:
    decision_id = attempt.decision_id
    return Refused(refusal.code, refusal.text(decision_id), unknown=unknown, decision_id=decision_id)
