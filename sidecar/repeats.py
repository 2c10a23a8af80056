"""Repeated writes under one idempotency key: the first is carried out, every other is answered with its outcome.

What must outlive the process is the ledger's (`Ledger.attempt`); here is what is under way. Sends nothing itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.gate import Asked, Refused
from sidecar.ledger.attempts import Attempt
from sidecar.ledger.ledger import Ledger
from sidecar.policy.decision import Code, Refusal
from sidecar.wire import packet_id

_TOKEN = re.compile(r"[!-~]{1,255}")

Outcome = bytes | Refused
"""OpenD's whole protobuf Response, or why there is none."""


@dataclass(frozen=True, slots=True)
class Begun:
    """One write under a key. `first` None: this is the first, carry it out; else its outcome, now or later."""

    decision_id: str
    first: asyncio.Future[Outcome] | None


@dataclass(slots=True)
class _UnderWay:
    attempt: Attempt
    outcome: asyncio.Future[Outcome]


class Repeats:
    """Idempotency keys belong to the API key that sent them: two keys may use the same one. All methods run on the event
    loop."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._under_way: dict[tuple[str, str], _UnderWay] = {}

    def begin(self, asked: Asked, token: str) -> Begun | Refusal:
        """Whether this is the first write under `token`. Refuses a token that was used for another request."""
        if not _TOKEN.fullmatch(token):
            said = "the idempotency key must be 1 to 255 printable ASCII characters without spaces"
            return Refusal(Code.MALFORMED_REQUEST, said)
        key_id, request_hash = asked.caller.key_id or "", _hash_of(asked)
        under_way = self._under_way.get((key_id, token))
        attempt = under_way.attempt if under_way is not None else self._ledger.attempt(key_id, token)
        if attempt is None:
            attempt = Attempt(key_id, token, request_hash, asked.decision_id, self._clock())
            self._under_way[key_id, token] = _UnderWay(attempt, asyncio.get_running_loop().create_future())
            self._ledger.attempt_begun(attempt)
            return Begun(asked.decision_id, None)
        if attempt.request_hash != request_hash:
            said = "this idempotency key was used for another request; take a new one for each order"
            return Refusal(Code.IDEMPOTENCY_CONFLICT, said)
        if under_way is not None:
            return Begun(attempt.decision_id, _waited_for(under_way.outcome))
        first: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        first.set_result(attempt.outcome if attempt.outcome is not None else _unknown(attempt))
        return Begun(attempt.decision_id, first)

    def answered(self, asked: Asked, token: str, outcome: bytes) -> None:
        """OpenD answered the first, also when its asker was told that it did not."""
        key = asked.caller.key_id or "", token
        self._ledger.attempt_ended(*key, outcome)
        under_way = self._under_way.pop(key, None)
        if under_way is not None and not under_way.outcome.done():
            under_way.outcome.set_result(outcome)

    def refused(self, asked: Asked, token: str, refused: Refused) -> None:
        """The first has no answer. One that was never sent frees its key; of one that was sent the outcome is unknown, and
        stays so for every repeat until OpenD answers."""
        key = asked.caller.key_id or "", token
        under_way = self._under_way.get(key)
        if under_way is None:
            return
        if not under_way.outcome.done():
            under_way.outcome.set_result(refused)
        if not refused.unknown:
            del self._under_way[key]
            self._ledger.attempt_dropped(*key)


def _waited_for(outcome: asyncio.Future[Outcome]) -> asyncio.Future[Outcome]:
    """A future of its own for each who waits: one of them may be cancelled."""
    return asyncio.shield(outcome)


def _hash_of(asked: Asked) -> str:
    said = packet_id.without(asked.message).SerializeToString()
    return hashlib.sha256(asked.row.id.to_bytes(4, "big") + said).hexdigest()


def _unknown(attempt: Attempt) -> Refused:
    refusal = Refusal(
        Code.UPSTREAM_UNAVAILABLE,
        "this was sent before the sidecar was restarted and its outcome is unknown; look at the order list, and take a "
        "new idempotency key to send it again",
    )
    decision_id = attempt.decision_id
    return Refused(refusal.code, refusal.text(decision_id), unknown=True, decision_id=decision_id)
