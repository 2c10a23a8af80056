"""The doors whose clients come and go by the request (REST, gRPC, MCP): one session with OpenD for each key, shared by all of them.

A request here has no place in a row: each is carried out by itself, side by side with the others of its key. The
session is opened on first use, kept alive by the pool, and closed when nobody used it for a while. It holds no rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from sidecar.errors import BodyError, UpstreamError, WireError
from sidecar.gate import CLIENT_LEFT, Answered, Asked, Forward, Gate, Refused, link_ended
from sidecar.grants import Caller, Grant
from sidecar.policy.decision import Code, Decision, Refusal
from sidecar.pushes import Pushes
from sidecar.repeats import Repeated, Repeats
from sidecar.returns import Returns
from sidecar.upstream.pool import Pool
from sidecar.upstream.session import InitChoices, Session
from sidecar.wire import body, catalog, packet_id
from sidecar.wire.body import Prepare
from sidecar.wire.catalog import CATALOG, Permission, Row
from sidecar.wire.frame import PROTOBUF, Head, Run
from sidecar.wire.messages import message_class

log = structlog.get_logger()

T = TypeVar("T")
ReadBody = Callable[[Row, Prepare], Message]
"""Reads the request of a row as its door was given it, hands it to `Prepare` before checking that it is whole, and
raises BodyError where it cannot be read."""

_STOPPING = "the sidecar is stopping"
_NO_PUSHES: frozenset[int] = frozenset()
_CHOICES = InitChoices(programming_language="Python")


@dataclass(frozen=True, slots=True)
class Reply:
    """OpenD's answer (or ours, for an unlock), narrowed to what the key may see: `body` is a whole protobuf Response,
    whose retType may be OpenD's own no. `replayed`: it is the first outcome of a repeated idempotency key."""

    row: Row
    body: bytes
    decision_id: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """Times in seconds. `idle`: how long a session outlives its last use; `request_timeout`: when an unanswered request
    is given up; `push_owner_wait`: how long an order push waits until it is known whose order it is.
    `most_streams`: push streams of one key."""

    idle: float = 600.0
    request_timeout: float = 20.0
    push_owner_wait: float = 2.0
    most_streams: int = 50


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
            return await _result_of(work)
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
            desk.end_streams(_STOPPING)
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
                session = await desk.session()
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


async def _result_of(work: asyncio.Task[T]) -> T:
    """The result of a task that goes on when the one who waits is cancelled. Raises UpstreamError where it was itself
    cancelled, because the sidecar stops: who waits is still there and is owed an answer."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        waiting = asyncio.current_task()
        if work.cancelled() and waiting is not None and not waiting.cancelling():
            raise UpstreamError(_STOPPING) from None
        raise


class _Gone:
    """Whether the asker still waits for the answer."""

    now = False


def _lost(session: Session) -> Refusal | None:
    return None if session.ready else link_ended(session.ended)


class Stream:
    """One client's push stream; `close` when the client has gone."""

    __slots__ = ("_desk", "_end", "_pushes", "caller")

    def __init__(self, desk: Desk, caller: Caller, pushes: Pushes, end: Callable[[str], None]) -> None:
        self.caller = caller
        self._desk = desk
        self._pushes = pushes
        self._end = end

    def came(self, row: Row, plaintext: bytes) -> None:
        self._pushes.came(row, plaintext)

    def close(self) -> None:
        self._pushes.close()
        self._desk.leave(self)

    def end(self, reason: str) -> None:
        self.close()
        self._end(reason)


@dataclass(slots=True)
class _Sent:
    """A request on its way: who waits for the answer, and what else wants to know it."""

    forward: Forward
    answer: asyncio.Future[bytes | Refused]
    answered: Callable[[bytes], None]
    given_up: bool = False
    came: bool = False
    """OpenD answered; what that means for an order is being written."""

    @property
    def is_write(self) -> bool:
        return self.forward.record is not None


class Desk:
    """One key's session, its requests on their way and its push streams. A SessionOwner."""

    def __init__(
        self,
        key_id: str,
        gate: Gate,
        returns: Returns,
        pool: Pool,
        spawn: Callable[..., asyncio.Task[Any]],
        settings: DeskSettings,
    ) -> None:
        self.key_id = key_id
        self.last_used = time.monotonic()
        self.streams: set[Stream] = set()
        self._gate = gate
        self._returns = returns
        self._pool = pool
        self._spawn = spawn
        self._settings = settings
        self._session: Session | None = None
        self._opening: asyncio.Task[Session | UpstreamError] | None = None
        self._users = 0
        self._sent: dict[int, _Sent] = {}
        self._closed = False

    @property
    def busy(self) -> bool:
        on_their_way = any(not one.given_up for one in self._sent.values())
        return bool(on_their_way or self.streams or self._users)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """While a request is carried out or a stream opened, the session is not closed for want of use."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._touch()

    def leave(self, stream: Stream) -> None:
        """The stream's client has gone."""
        self.streams.discard(stream)
        self._touch()

    def _touch(self) -> None:
        self.last_used = time.monotonic()

    async def session(self) -> Session:
        """The session, opened where there is none. Raises UpstreamError. It may be lost again when this returns."""
        if self._session is not None and self._session.ready:
            return self._session
        if self._closed:
            raise UpstreamError(_STOPPING)
        if self._opening is None:
            self._opening = self._spawn(self._open())
        opened = await _result_of(self._opening)
        if isinstance(opened, UpstreamError):
            raise UpstreamError(str(opened), opened.code)
        return opened

    async def _open(self) -> Session | UpstreamError:
        """An error is a value here: each of those who wait raises it for itself."""
        try:
            session = await self._pool.open(self, _CHOICES, holder=self.key_id)
        except UpstreamError as error:
            return error
        finally:
            self._opening = None
        if self._closed:
            session.close()
            self._pool.forget(session)
            return UpstreamError(_STOPPING)
        self._session = session
        return session

    async def exchange(self, session: Session, forward: Forward, answered: Callable[[bytes], None]) -> bytes | Refused:
        """Send what was approved, before anything is awaited, and wait for its answer: a whole protobuf Response."""
        asked, serial = forward.asked, session.last_serial + 1
        packet_id.number(asked.message, session.conn_id, serial)
        # INVARIANT: what was judged is what is sent: the message is encoded anew
        plaintext = asked.message.SerializeToString()
        if forward.record is not None:
            self._returns.order_sent()
        try:
            session.send(asked.row.id, plaintext, serial)
        except UpstreamError as error:
            session.fail(str(error))
            return self._returns.gave_up(forward, str(error))
        sent = _Sent(forward, asyncio.get_running_loop().create_future(), answered)
        self._sent[serial] = sent
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await asyncio.shield(sent.answer)
        except TimeoutError:
            return await self._without_answer(sent, "OpenD did not answer in time")
        except asyncio.CancelledError:
            if not sent.is_write:
                raise
            return await self._without_answer(sent, _STOPPING)  # nothing else cancels a write
        finally:
            if not sent.is_write:
                self._sent.pop(serial, None)

    async def _without_answer(self, sent: _Sent, reason: str) -> bytes | Refused:
        """An order stays in the table: when its answer comes late it is settled all the same."""
        if sent.came:
            return await asyncio.shield(sent.answer)
        sent.given_up = True
        return self._returns.gave_up(sent.forward, reason)

    # -- SessionOwner ---------------------------------------------------------------------------------------------

    def unread_pushes(self) -> frozenset[int]:
        return _NO_PUSHES

    def upstream_received(self, chunk: bytes, heads: list[Head | Run]) -> None:
        session = self._session
        if session is None:
            return
        for head in heads:
            assert isinstance(head, Head), "runs are only made of unread pushes"
            try:
                plaintext = session.plain_body(chunk, head)
                if head.proto_id in catalog.PUSH_IDS:
                    for stream in tuple(self.streams):
                        stream.came(CATALOG[head.proto_id], plaintext)
                else:
                    self._replied(head, plaintext)
            except (WireError, BodyError, DecodeError) as error:
                session.fail(f"OpenD's answer to request {head.proto_id} could not be read: {error}")
                return

    def _replied(self, head: Head, plaintext: bytes) -> None:
        sent = self._sent.get(head.serial)
        if sent is None or sent.forward.asked.row.id != head.proto_id:
            return  # the answer to a KeepAlive of our own, or to nobody who still waits
        asked = sent.forward.asked
        if asked.row.response is None:
            self._sent.pop(head.serial)
            _resolve(sent.answer, plaintext)
            return
        # an answer that cannot be read ends the session; until it is read its request is on its way, and is answered then
        response = message_class(asked.row.response).FromString(plaintext)
        if not response.IsInitialized():
            raise WireError("required fields are missing")
        self._sent.pop(head.serial)
        if sent.is_write:
            sent.came = True
            self._spawn(self._write_answered(sent, response))
            return
        refusal = self._returns.narrow(asked.caller, asked.row, response)
        _resolve(
            sent.answer,
            body.serialise(response, PROTOBUF) if refusal is None else self._gate.refuse_asked(asked, refusal),
        )

    async def _write_answered(self, sent: _Sent, response: Message) -> None:
        plaintext = body.serialise(response, PROTOBUF)
        try:
            sent.answered(plaintext)
            await self._returns.order_answered(sent.forward, response, late=sent.given_up)
        finally:
            _resolve(sent.answer, plaintext)

    def upstream_lost(self, reason: str) -> None:
        """INVARIANT: every request on its way is answered; push streams end, since their subscriptions are gone."""
        session, self._session = self._session, None
        if session is not None:
            self._pool.forget(session)
        sent, self._sent = self._sent, {}
        for one in sent.values():
            if not one.given_up:
                _resolve(one.answer, self._returns.gave_up(one.forward, reason))
        self.end_streams(reason)

    def upstream_writable(self, writable: bool) -> None:
        """Every request has its own asker who waits, which is what bounds them."""

    # -- ends -----------------------------------------------------------------------------------------------------

    def end_bad_streams(self) -> None:
        for stream in tuple(self.streams):
            grant = self._gate.grants.of(stream.caller)
            if not isinstance(grant, Grant):
                stream.end(f"[sidecar:{grant.code.value}] {grant.message}")

    def end_streams(self, reason: str) -> None:
        for stream in tuple(self.streams):
            stream.end(reason)

    def close(self) -> None:
        """Close the session; what is still on its way is given up."""
        self._closed = True
        session = self._session
        self.upstream_lost("the connection was closed")
        if session is not None:
            session.close()


def _resolve(answer: asyncio.Future[bytes | Refused], result: bytes | Refused) -> None:
    if not answer.done():
        answer.set_result(result)
