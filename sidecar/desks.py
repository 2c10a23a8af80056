"""The doors whose clients come and go by the request (REST, gRPC, MCP): one session with OpenD for each key, shared by all of them.

A request here has no place in a row: each is carried out by itself, side by side with the others of its key. The
session is opened on first use, kept alive by the pool, and closed when nobody used it for a while. It holds no rule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from sidecar.asked import CLIENT_LEFT, Answered, Asked, Forward, Refused, link_ended
from sidecar.desk import STOPPING, Desk, DeskSettings, Stream, result_of
from sidecar.errors import UpstreamError
from sidecar.gate import Gate
from sidecar.grants import Caller
from sidecar.intents.model import CancelOrder
from sidecar.policy.decision import Code, Decision, Refusal
from sidecar.pushes import Pushes
from sidecar.repeats import Repeated, Repeats
from sidecar.returns import Returns
from sidecar.upstream.pool import Pool
from sidecar.upstream.session import Session
from sidecar.wire import packet_id
from sidecar.wire.body import Prepare
from sidecar.wire.catalog import Permission, Row

ReadBody = Callable[[Row, Prepare], Message]
"""Reads the request of a row as its door was given it, hands it to `Prepare` before checking that it is whole, and
raises BodyError where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """OpenD's answer (or ours, for an unlock), narrowed to what the key may see: `body` is a whole protobuf Response,
    whose retType may be OpenD's own no. `replayed`: it is the first outcome of a repeated idempotency key."""

    row: Row
    body: bytes
    decision_id: str
    replayed: bool = False


class Desks:
    """Every key's desk. All methods run on the event loop."""

    def __init__(
        self, *, gate: Gate, returns: Returns, pool: Pool, repeats: Repeats, spawn: Callable[..., asyncio.Task[Any]],
        settings: DeskSettings,
    ) -> None:  # fmt: skip
        self.gate = gate
        self._returns = returns
        self._pool = pool
        self._repeats = repeats
        self._spawn = spawn
        self._settings = settings
        self._desks: dict[str, Desk] = {}
        self._closed = False

    async def ask(
        self, caller: Caller, proto_id: int, read_body: ReadBody, *, idempotency_key: str | None = None
    ) -> Reply | Refused:
        """The whole way of one request, to its answer. `idempotency_key` counts for orders, modifies and cancels.

        When the asker is cancelled before its order was sent, the order is not sent; one that was sent is settled.
        """
        row = self.gate.admit(caller, proto_id)
        if isinstance(row, Refused):
            return row
        is_write = row.permission is Permission.TRADE
        asked = self.gate.understand(
            caller, row, lambda: read_body(row, packet_id.lend), screened=not (is_write and idempotency_key is not None)
        )
        if isinstance(asked, Refused):
            return asked
        if not is_write:
            return await self._carry_out(asked, lambda: None)
        gone = _Gone()
        work = self._spawn(self._write(asked, gone, idempotency_key))
        try:
            return await result_of(work)
        except UpstreamError as error:
            return self.gate.refuse_asked(asked, Refusal(Code(error.code), str(error)))
        except asyncio.CancelledError:
            gone.now = True
            raise

    async def rehearse(self, caller: Caller, proto_id: int, read_body: ReadBody) -> Decision | Refused:
        """What would be decided of an order or a modify now, every check told; nothing is reserved, sent or used."""
        row = self.gate.admit(caller, proto_id)
        if isinstance(row, Refused):
            return row
        asked = self.gate.understand(caller, row, lambda: read_body(row, packet_id.lend), rehearsal=True)
        return asked if isinstance(asked, Refused) else await self.gate.rehearse(asked)

    async def listen(
        self, caller: Caller, show: Callable[[Row, bytes], None], end: Callable[[str], None]
    ) -> Stream | Refused:
        """A stream of the pushes of the key's session. `show` is called for each the caller may see, `end` once with the
        reason when the stream ends by itself: the key went bad, or OpenD. Neither may block or raise."""
        refused = self.gate.admit_stream(caller)
        if refused is not None:
            return refused
        desk = self._desk(caller)
        with desk.used():
            full = self._full_of_streams(desk)
            if full is not None:
                return self.gate.refuse(caller, None, 0, full)
            try:
                session = await desk.session()
            except UpstreamError as error:
                return self.gate.refuse(caller, None, 0, Refusal(Code(error.code), str(error)))
            # what was looked at before the session was opened may have changed since
            grant = self.gate.grants.of(caller)
            refusal = (grant if isinstance(grant, Refusal) else None) or _lost(session) or self._full_of_streams(desk)
            if refusal is not None:
                return self.gate.refuse(caller, None, 0, refusal)
            pushes = Pushes(caller, self.gate.grants, self._returns, show, self._settings.push_owner_wait)
            stream = Stream(desk, caller, pushes, end)
            desk.streams.add(stream)
            return stream

    def _full_of_streams(self, desk: Desk) -> Refusal | None:
        most = self._settings.most_streams
        if len(desk.streams) < most:
            return None
        text = f"this key has {len(desk.streams)} push streams, the limit is {most}; close some"
        return Refusal(Code.UPSTREAM_FULL, text)

    def keys_changed(self) -> None:
        """After a reload: the streams of keys that are good no more end, and sessions of keys that are gone."""
        known = self.gate.grants.key_ids
        for desk in list(self._desks.values()):
            desk.end_bad_streams()
            if desk.key_id not in known and not desk.busy:
                self._close(desk)

    def tick(self) -> None:
        """Every second: a key can also go bad by the clock, and an unused session is closed."""
        self.keys_changed()
        now = time.monotonic()
        for desk in list(self._desks.values()):
            if now - desk.last_used > self._settings.idle and not desk.busy:
                self._close(desk)

    def close(self) -> None:
        """The sidecar stops: every stream ends, every session is closed, and none is opened any more."""
        self._closed = True
        for desk in list(self._desks.values()):
            desk.end_streams(STOPPING)
            self._close(desk)

    def _close(self, desk: Desk) -> None:
        desk.close()
        self._desks.pop(desk.key_id, None)

    def _desk(self, caller: Caller) -> Desk:
        key_id = caller.key_id or ""  # a caller who was admitted has one
        desk = self._desks.get(key_id)
        if desk is None:
            desk = Desk(key_id, self.gate, self._returns, self._pool, self._spawn, self._settings)
            self._desks[key_id] = desk
            if self._closed:
                desk.close()
        return desk

    async def _write(self, asked: Asked, gone: _Gone, idempotency_key: str | None) -> Reply | Refused:
        def obstacle() -> Refusal | None:
            return CLIENT_LEFT if gone.now else None

        if idempotency_key is None:
            return await self._carry_out(asked, obstacle)
        repeats = self._repeats
        while isinstance(begun := repeats.begin(asked, idempotency_key), Repeated):
            outcome = await begun.outcome
            if isinstance(outcome, Refused) and outcome.code is Code.CLIENT_GONE and not gone.now:
                continue  # the first asker hung up before anything was sent, and this one has not
            self.gate.replayed(asked, begun.decision_id)
            if isinstance(outcome, Refused):
                return outcome
            return Reply(asked.row, outcome, begun.decision_id, replayed=True)
        if isinstance(begun, Refusal):
            return self.gate.refuse_asked(asked, begun)
        first = begun
        try:
            refused = self.gate.screen(asked)
            answer = refused or await self._carry_out(asked, obstacle, lambda body: repeats.answered(first, body))
        except BaseException:
            repeats.failed(first)
            raise
        repeats.ended(first, answer if isinstance(answer, Refused) else answer.body)
        return answer

    async def _carry_out(
        self,
        asked: Asked,
        obstacle: Callable[[], Refusal | None],
        answered: Callable[[bytes], None] = lambda outcome: None,
    ) -> Reply | Refused:
        """`answered` is called with OpenD's answer to a write whenever it comes, after the asker was told that it did not
        too; what it stages in the ledger is durable before the asker has the answer."""
        if not self.gate.goes_upstream(asked):
            return self._said(asked, self.gate.decide_now(asked))
        desk = self._desk(asked.caller)
        with desk.used():
            try:
                session = await desk.session(for_cancel=isinstance(asked.intent, CancelOrder))
            except UpstreamError as error:
                return self.gate.refuse_asked(asked, Refusal(Code(error.code), str(error)))
            if self.gate.waits(asked):
                verdict = await self.gate.decide(asked, lambda: obstacle() or _lost(session))
            else:
                refusal = _lost(session)
                verdict = self.gate.refuse_asked(asked, refusal) if refusal else self.gate.decide_now(asked)
            if not isinstance(verdict, Forward):
                return self._said(asked, verdict)
            lost = None if verdict.reserved else _lost(session)  # an order met it at its last look
            if lost is not None:
                return self.gate.refuse_asked(asked, lost)
            answer = await desk.exchange(session, verdict, answered)
        return answer if isinstance(answer, Refused) else Reply(asked.row, answer, asked.decision_id)

    def _said(self, asked: Asked, verdict: Forward | Answered | Refused) -> Reply | Refused:
        """What the sidecar answers by itself."""
        assert not isinstance(verdict, Forward)
        return verdict if isinstance(verdict, Refused) else Reply(asked.row, verdict.body, asked.decision_id)


class _Gone:
    """Whether the asker still waits for the answer."""

    now = False


def _lost(session: Session) -> Refusal | None:
    return None if session.ready else link_ended(session.ended)
