"""One key's session with OpenD: what is on its way on it, and who is shown its pushes. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar.asked import Forward, Refused
from sidecar.errors import BodyError, UpstreamError, WireError
from sidecar.gate import Gate
from sidecar.grants import Caller, Grant
from sidecar.pushes import Pushes
from sidecar.returns import Returns
from sidecar.upstream.pool import Pool
from sidecar.upstream.session import InitChoices, Session
from sidecar.wire import body, catalog, packet_id
from sidecar.wire.catalog import CATALOG, Row
from sidecar.wire.frame import PROTOBUF, Head, Run
from sidecar.wire.messages import message_class

T = TypeVar("T")
STOPPING = "the sidecar is stopping"
_NO_PUSHES: frozenset[int] = frozenset()
_CHOICES = InitChoices(programming_language="Python")


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """Times in seconds. `idle`: how long a session outlives its last use; `request_timeout`: when an unanswered request
    is given up; `push_owner_wait`: how long an order push waits until it is known whose order it is.
    `most_streams`: push streams of one key."""

    idle: float = 600.0
    request_timeout: float = 20.0
    push_owner_wait: float = 2.0
    most_streams: int = 50


async def result_of(work: asyncio.Task[T]) -> T:
    """The result of a task that goes on when the one who waits is cancelled. Raises UpstreamError where it was itself
    cancelled, because the sidecar stops: who waits is still there and is owed an answer."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        waiting = asyncio.current_task()
        if work.cancelled() and waiting is not None and not waiting.cancelling():
            raise UpstreamError(STOPPING) from None
        raise


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

    async def session(self, *, for_cancel: bool = False) -> Session:
        """The session, opened where there is none. Raises UpstreamError. It may be lost again when this returns.

        `for_cancel`: it may take a place that is kept for cancels.
        """
        if self._session is not None and self._session.ready:
            return self._session
        if self._closed:
            raise UpstreamError(STOPPING)
        if self._opening is None:
            self._opening = self._spawn(self._open(for_cancel))
        opened = await result_of(self._opening)
        if isinstance(opened, UpstreamError) and for_cancel and opened.code == "upstream_full":
            # another began it for something else
            self._opening = self._opening or self._spawn(self._open(for_cancel))
            opened = await result_of(self._opening)
        if isinstance(opened, UpstreamError):
            raise UpstreamError(str(opened), opened.code)
        return opened

    async def _open(self, for_cancel: bool) -> Session | UpstreamError:
        """An error is a value here: each of those who wait raises it for itself."""
        try:
            session = await self._pool.open(self, _CHOICES, holder=self.key_id, for_cancel=for_cancel)
        except UpstreamError as error:
            return error
        finally:
            self._opening = None
        if self._closed:
            session.close()
            self._pool.forget(session)
            return UpstreamError(STOPPING)
        self._session = session
        return session

    async def exchange(self, session: Session, forward: Forward, answered: Callable[[bytes], None]) -> bytes | Refused:
        """Send what was approved, before anything is awaited, and wait for its answer: a whole protobuf Response."""
        asked, serial = forward.asked, session.last_serial + 1
        packet_id.number(asked.message, session.conn_id, serial)
        # INVARIANT: what was judged is what is sent: the message is encoded anew
        plaintext = asked.message.SerializeToString()
        if forward.record is not None:
            self._returns.order_sent(forward)
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
            return await self._without_answer(sent, STOPPING)  # nothing else cancels a write
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
