"""One client's conversation with OpenD: its requests through the gate and upstream in the order they came, and what comes back.

Frames that need no look at their contents are passed in runs, one write per received chunk; the others take the slow
path, one by one. The relay holds what is pending; it holds no rule.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

import structlog
from google.protobuf.message import DecodeError, Message

from sidecar.asked import CLIENT_LEFT, Answered, Forward, Refused, link_ended
from sidecar.errors import BodyError, UpstreamError, WireError
from sidecar.gate import Gate
from sidecar.grants import Caller, Grant
from sidecar.intents.model import CancelOrder
from sidecar.policy.decision import Code, Refusal
from sidecar.pushes import Pushes
from sidecar.relay.client import ClientPort, Replies
from sidecar.relay.pending import Pending, Unanswered
from sidecar.relay.request import Request, read_request
from sidecar.returns import Returns
from sidecar.upstream.pool import Pool
from sidecar.upstream.session import InitChoices, Session
from sidecar.wire import body, catalog, frame
from sidecar.wire.catalog import CATALOG, Row
from sidecar.wire.frame import HEADER_SIZE, JSON, PROTOBUF, Head, Run
from sidecar.wire.messages import message_class

log = structlog.get_logger()

MAX_PENDING = 4096
"""Unanswered requests of one connection beyond which nothing more is read from its client."""
MAX_WAITING = 256
"""Requests held back behind one that is being decided, beyond which nothing more is read from the client."""

TURN = 0.001
"""Seconds. SECURITY: a chunk holds thousands of the smallest requests, and nothing else moves while they are judged: not the
owner's halt, nor anybody's cancel. After so long the rest waits for its next turn, and nothing more is read."""

_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Times in seconds. `request_timeout`: when an unanswered request is given up, and how long a
    session outlives its client for its orders' answers."""

    push_owner_wait: float = 2.0
    request_timeout: float = 20.0


class Relay:
    """Made by a listener for one client in good standing. The listener feeds `receive`, and says when the client has gone."""

    __slots__ = (
        "_afterwards",
        "_being_decided",
        "_blocked",
        "_client",
        "_gate",
        "_gone",
        "_lingering",
        "_lost",
        "_paused",
        "_pending",
        "_pool",
        "_present",
        "_pushes",
        "_reader",
        "_replies",
        "_returns",
        "_session",
        "_settings",
        "_spawn",
        "_unjudged",
        "_waiting",
        "_worker",
        "caller",
    )  # fmt: skip

    def __init__(
        self, *, caller: Caller, client: ClientPort, gate: Gate, returns: Returns, pool: Pool, settings: RelaySettings,
        spawn: Callable[..., asyncio.Task[Any]],
    ) -> None:  # fmt: skip
        self.caller = caller
        self._client = client
        self._replies = Replies(client)
        self._gate = gate
        self._returns = returns
        self._pool = pool
        self._settings = settings
        self._spawn = spawn
        self._session: Session | None = None
        self._pending = Unanswered(self._replies, returns)
        self._unjudged: deque[tuple[bytes, list[Head]]] = deque()
        """Frames that were read and wait for their turn. They come before everything that is read after them."""
        self._reader: asyncio.Task[Any] | None = None
        self._afterwards: Callable[[], None] | None = None
        self._waiting: deque[Request] | None = None
        self._worker: asyncio.Task[Any] | None = None
        self._being_decided: Request | None = None
        """The first of those waiting, while its facts or its record are awaited."""
        self._pushes = Pushes(caller, gate.grants, returns, self._push, settings.push_owner_wait)
        self._lingering: asyncio.TimerHandle | None = None
        self._gone = False
        self._present = False
        self._lost: str | None = None
        """Why the upstream session ended, where it did before the client went."""
        self._paused = False
        self._blocked = False

    async def open(self, choices: InitChoices, first_serial: int) -> Message:
        """Open the upstream session; return OpenD's InitConnect answer. Raises UpstreamError."""
        session = await self._pool.open(self, choices, first_serial, holder=self.caller.key_id)
        if self._gone:
            self._drop_session(session)
            raise UpstreamError("the client has gone")
        self._session = session
        self._present = True
        self._gate.presence.arrived(self.caller.key_id or "")
        reply: Message = session.init_reply
        return reply

    # -- from the client ------------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, heads: list[Head]) -> None:
        """Whole frames of the client, in order."""
        if self._reader is not None:
            self._unjudged.append((chunk, heads))
            return
        try:
            self._judge(chunk, heads)
        except Exception:
            self._broke_down()

    def when_judged(self, then: Callable[[], None]) -> None:
        """Call it once everything received has been decided: now, or after the last of it."""
        if self.deciding:
            self._afterwards = then
        else:
            then()

    def _put_off(self, chunk: bytes, heads: list[Head]) -> None:
        """The turn is over. Reading stops even where nothing is left of the chunk: libuv reads one socket up to 32 times in
        a row."""
        self._unjudged.appendleft((chunk, heads))
        if self._reader is None:
            self._reader = self._spawn(self._judge_rest())
            self._pace()

    async def _judge_rest(self) -> None:
        """One turn after the other, until nothing is left that was read."""
        try:
            while self._unjudged:
                await asyncio.sleep(0)
                if self._unjudged:
                    self._judge(*self._unjudged.popleft())
        except asyncio.CancelledError:
            self._stop("the sidecar is stopping")
            raise
        except Exception:
            self._broke_down()
        finally:
            self._reader = None
        self._after_turns()

    def _after_turns(self) -> None:
        """What had to wait until everything received was decided, if that is so."""
        if not self._gone:
            self._pace()
        if self.deciding:
            return
        then, self._afterwards = self._afterwards, None
        if then is not None:
            then()
        if self._gone:
            self._part()

    def _broke_down(self) -> None:
        """In an `except`: a mistake of ours. What came after it must not overtake what is lost with it."""
        log.exception("a request could not be judged; its connection is closed", key=self.caller.key_id)
        self._stop("a request could not be judged")

    def _stop(self, reason: str) -> None:
        """Nothing more of the client's is judged."""
        self._unjudged.clear()
        self._drop_waiting()
        self._client.end(reason)

    def _judge(self, chunk: bytes, heads: list[Head]) -> None:
        """As many as there is time for in one turn."""
        session = self._session
        if session is None:
            return
        until = time.monotonic() + TURN
        if self._waiting or self._gone or self._client.cipher is not None or session.cipher is not None:
            for index, head in enumerate(heads, 1):
                self._take(chunk, head)
                if time.monotonic() > until:
                    self._put_off(chunk, heads[index:])
                    break
            return
        # INVARIANT: the key is looked up in every turn, and nothing can change between its frames
        grant = self._gate.grants.of(self.caller)
        passable = grant.passable if isinstance(grant, Grant) else _NOTHING
        pending, view = self._pending.sent, memoryview(chunk)
        passed, run, run_stop, last = 0, -1, 0, session.last_serial
        for index, head in enumerate(heads, 1):
            proto_id, fmt, serial, digest, start, stop = head
            if (
                proto_id in passable
                and fmt == PROTOBUF
                and last < serial < frame.MAX_SERIAL
                and sha1(view[start + HEADER_SIZE : stop], usedforsecurity=False).digest() == digest
            ):
                pending[serial] = proto_id
                last = serial
                passed += 1
                if run < 0:
                    run = start
                run_stop = stop
                continue
            if run >= 0:
                session.write(view[run:run_stop])
                run = -1
            session.last_serial = last
            self._take(chunk, head)
            last = session.last_serial
            if self._waiting:
                passable = _NOTHING  # what follows a waiting request waits behind it
            if time.monotonic() > until:
                self._put_off(chunk, heads[index:])
                break
        session.last_serial = last
        if run >= 0:
            session.write(chunk if run == 0 and run_stop == len(chunk) else view[run:run_stop])
        if passed:
            self._gate.metrics.allowed(self.caller.iface, self.caller.key_id or "").inc(passed)
            if len(pending) > MAX_PENDING:
                self._pace()

    def _take(self, chunk: bytes, head: Head) -> None:
        """One frame on the slow path: opened, admitted, understood, and decided or queued. Of a client that has gone, cancels
        are still carried out; nobody would hear of the rest."""
        if self._gone and head.proto_id != catalog.MODIFY_ORDER:
            return
        admitted = self._gate.admit(self.caller, head.proto_id)
        if isinstance(admitted, Refused):
            self._replies.refuse(head.proto_id, head.serial, head.fmt, admitted)
            return
        try:
            item = read_request(self._gate, self.caller, admitted, chunk, head, self._client.cipher)
        except BodyError as error:
            refused = self._gate.refuse(self.caller, admitted, head.proto_id, Refusal(Code(error.code), str(error)))
            self._replies.refuse(head.proto_id, head.serial, head.fmt, refused)
            return
        if isinstance(item, Refused):
            self._replies.refuse(head.proto_id, head.serial, head.fmt, item)
            return
        if self._gone and not _is_cancel(item):
            return
        if self._waiting or (item.asked is not None and self._gate.waits(item.asked)):
            self._wait(item)
        elif item.asked is None:
            self._pass_plain(item)
        else:
            self._carry_out(item, self._gate.decide_now(item.asked))

    @property
    def deciding(self) -> bool:
        """Whether a request is being decided, or waits for that."""
        return bool(self._waiting) or self._reader is not None

    # -- waiting in order -----------------------------------------------------------------------------------------

    def _wait(self, item: Request) -> None:
        if self._waiting is None:
            self._waiting = deque()
        if self._waiting and item.asked is not None and self._gate.waits(item.asked):
            self._gate.prefetch(item.asked)  # the first of them is decided at once
        self._waiting.append(item)
        if self._worker is None:
            self._worker = self._spawn(self._work())
        elif len(self._waiting) > MAX_WAITING:
            self._pace()

    async def _work(self) -> None:
        """Carry out what waits, strictly in order, until nothing waits."""
        until = time.monotonic() + TURN
        try:
            while self._waiting:
                item = self._waiting[0]
                if time.monotonic() > until:
                    await asyncio.sleep(0)  # where every fact is at hand, deciding waits for nothing
                    until = time.monotonic() + TURN
                    if not self._waiting or self._waiting[0] is not item:
                        continue  # OpenD or the client has gone meanwhile
                if item.asked is None:
                    admitted = self._gate.admit(self.caller, item.row.id)
                    if isinstance(admitted, Refused):
                        self._replies.refuse(item.row.id, item.serial, item.fmt, admitted)
                    else:
                        self._pass_plain(item)
                elif self._gate.waits(item.asked) or item.asked.gathering is not None:
                    self._being_decided = item
                    verdict = await self._gate.decide(item.asked, self._obstacle)
                    self._being_decided = None
                    self._carry_out(item, verdict)
                else:
                    self._carry_out(item, self._gate.decide_now(item.asked))
                if self._waiting:
                    self._waiting.popleft()
                self._pace()
        except asyncio.CancelledError:
            self._being_decided = None
            self._stop("the sidecar is stopping")
            raise
        except Exception:
            self._being_decided = None
            self._broke_down()
        finally:
            self._worker = None
        self._after_turns()

    def _obstacle(self) -> Refusal | None:
        if self._lost is not None:
            return link_ended(self._lost)
        if self._gone:
            return CLIENT_LEFT
        if self._session is None or not self._session.ready:
            return link_ended("")
        return None

    # -- to OpenD -------------------------------------------------------------------------------------------------

    def _pass_plain(self, item: Request) -> None:
        if self._session is None:
            return
        refused = self._gate.share(self.caller, item.row)
        if refused is not None:
            self._replies.refuse(item.row.id, item.serial, item.fmt, refused)
            return
        self._send(item, item.plain, None)
        self._gate.metrics.allowed(self.caller.iface, self.caller.key_id or "").inc()

    def _carry_out(self, item: Request, verdict: Forward | Answered | Refused) -> None:
        if isinstance(verdict, Refused):
            self._replies.refuse(item.row.id, item.serial, item.fmt, verdict)
        elif isinstance(verdict, Answered):
            self._replies.answer(item.row, item.serial, item.fmt, verdict.body)
        else:
            # INVARIANT: what was judged is what is sent: the message is encoded anew
            self._send(item, verdict.asked.message.SerializeToString(), verdict)

    def _send(self, item: Request, plaintext: bytes, forward: Forward | None) -> None:
        session = self._session
        if session is None or not session.ready:
            return  # the loss of the session answers and closes the client
        if forward is not None and forward.record is not None:
            self._returns.order_sent(forward)
        try:
            serial = session.send(item.row.id, plaintext, item.serial)
        except UpstreamError as error:
            if forward is not None and forward.record is not None:
                self._returns.order_lost(forward, str(error))
            text = f"[sidecar:{Code.UPSTREAM_UNAVAILABLE.value}] {error}"
            self._replies.refuse(item.row.id, item.serial, item.fmt, Refused(Code.UPSTREAM_UNAVAILABLE, text))
            self._client.end(str(error))
            return
        self._pending.sent[serial] = Pending(item.row, item.serial, item.fmt, forward)
        if len(self._pending) > MAX_PENDING:
            self._pace()

    # -- SessionOwner: from OpenD ---------------------------------------------------------------------------------

    def unread_pushes(self) -> frozenset[int]:
        session = self._session
        if session is None or session.cipher is not None or self._client.cipher is not None or self._gone:
            return _NOTHING
        # INVARIANT: the key is looked up for every chunk, and nothing can change between the frames of one
        grant = self._gate.grants.of(self.caller)
        return grant.pushes if self._client.push_fmt == PROTOBUF and isinstance(grant, Grant) else _NOTHING

    def upstream_received(self, chunk: bytes, heads: list[Head | Run]) -> None:
        session = self._session
        if session is None:
            return
        fast = self._client.cipher is None and session.cipher is None and not self._gone
        pending, run, run_stop, pushed = self._pending.sent, -1, 0, 0
        view = memoryview(chunk)
        for head in heads:
            if isinstance(head, Run):
                pushed += head.frames
                if run < 0:
                    run = head.start
                run_stop = head.stop
                continue
            proto_id, serial, start, stop = head.proto_id, head.serial, head.start, head.stop
            if fast and pending.get(serial) == proto_id and proto_id not in catalog.PUSH_IDS:
                del pending[serial]
                if run < 0:
                    run = start
                run_stop = stop
                continue
            if run >= 0:
                self._client.write(view[run:run_stop])
                run = -1
            try:
                if proto_id in catalog.PUSH_IDS:
                    self._pushes.came(CATALOG[proto_id], session.plain_body(chunk, head))
                else:
                    self._replied(session.plain_body(chunk, head), head)
            except (WireError, BodyError, DecodeError) as error:
                session.fail(f"OpenD's answer to request {proto_id} could not be read: {error}")
                return
        if run >= 0:
            self._client.write(chunk if run == 0 and run_stop == len(chunk) else view[run:run_stop])
        if pushed:
            self._gate.metrics.pushes(self.caller.iface).inc(pushed)
        if self._paused:
            self._pace()

    def _replied(self, plaintext: bytes, head: Head) -> None:
        pending = self._pending.sent
        entry = pending.get(head.serial)
        if entry is None or head.proto_id != (entry if isinstance(entry, int) else entry.row.id):
            return  # the answer to a KeepAlive of our own, or to nobody
        if isinstance(entry, int):
            del pending[head.serial]
            self._replies.send(head.proto_id, head.serial, PROTOBUF, plaintext)
            return
        # an answer that cannot be read ends the session; until it is read its request is pending, and is answered then
        row = entry.row
        if entry.forward is None or row.response is None:
            self._replies.answer(row, entry.serial, entry.fmt, plaintext)
            del pending[head.serial]
            return
        response = message_class(row.response).FromString(plaintext)
        if not response.IsInitialized():
            raise WireError("required fields are missing")
        del pending[head.serial]
        if entry.is_write:
            self._spawn(self._order_replied(entry, entry.forward, response))
            return
        refusal = self._returns.narrow(self.caller, row, response)
        if refusal is not None:
            self._replies.refuse(row.id, entry.serial, entry.fmt, self._gate.refuse_asked(entry.forward.asked, refusal))
        else:
            self._replies.send(row.id, entry.serial, entry.fmt, body.serialise(response, entry.fmt))

    async def _order_replied(self, entry: Pending, forward: Forward, response: Message) -> None:
        await self._returns.order_answered(forward, response, late=entry.given_up)
        if not entry.given_up:
            self._replies.send(entry.row.id, entry.serial, entry.fmt, body.serialise(response, entry.fmt))
        if self._gone:
            self._part()

    def _push(self, row: Row, plaintext: bytes) -> None:
        fmt = self._client.push_fmt
        if fmt == JSON:
            if row.response is None:
                return
            plaintext = body.serialise(message_class(row.response).FromString(plaintext), JSON)
        self._replies.send(row.id, 0, fmt, plaintext)
        self._gate.metrics.pushes(self.caller.iface).inc()

    # -- ends -----------------------------------------------------------------------------------------------------

    def upstream_lost(self, reason: str) -> None:
        """INVARIANT: every pending request is answered, then the client is closed: only that makes the SDKs recover."""
        session, self._session = self._session, None
        if session is not None:
            self._pool.forget(session)
        self._pending.give_up_all(reason)
        if self._gone:
            self._drop_waiting()
            self._unjudged.clear()
        else:
            self._lost = reason
            self._refuse_waiting(reason)
            self._client.end(reason)

    def give_up_overdue(self) -> None:
        """Answer what was pending at the last call and still is. Called every half of `request_timeout`: never silence."""
        self._pending.give_up_overdue()
        self._pace()

    def _refuse_waiting(self, reason: str) -> None:
        """What waits is answered. The one being decided is recorded when it meets the obstacle, at its last look."""
        first = self._being_decided
        if first is not None and first.asked is not None:
            refusal = link_ended(reason)
            self._replies.refuse(
                first.row.id, first.serial, first.fmt, Refused(refusal.code, refusal.text(first.asked.decision_id))
            )
        asked = [(item.row.id, item.serial, item.fmt) for item in self._drop_waiting()]
        asked += [(head.proto_id, head.serial, head.fmt) for _, heads in self._unjudged for head in heads]
        self._unjudged.clear()
        for proto_id, serial, fmt in asked:
            refused = self._gate.refuse(
                self.caller, CATALOG.get(proto_id), proto_id, Refusal(Code.UPSTREAM_UNAVAILABLE, reason)
            )
            self._replies.refuse(proto_id, serial, fmt, refused)

    def _drop_waiting(self, keep: Callable[[Request], bool] = lambda item: False) -> list[Request]:
        """Take out of the line what is not to be kept and not being decided; gives what was taken out."""
        stays: deque[Request] = deque()
        dropped: list[Request] = []
        for item in self._waiting or ():
            (stays if item is self._being_decided or keep(item) else dropped).append(item)
        self._waiting = stays
        return dropped

    def client_writable(self, writable: bool) -> None:
        """The client reads slower than OpenD sends (False): leave the rest in OpenD's socket until it caught up (True)."""
        if self._session is not None:
            if writable:
                self._session.resume_reading()
            else:
                self._session.pause_reading()

    def upstream_writable(self, writable: bool) -> None:
        self._blocked = not writable
        self._pace()

    def client_gone(self) -> None:
        """The client's connection has ended. Cancels that it sent before are carried out, its other requests are not. The
        session stays for that, and for `request_timeout` while orders are unanswered."""
        if self._gone:
            return
        self._gone = True
        if self._present:
            self._gate.presence.left(self.caller.key_id or "")
        self._replies.close()
        self._pushes.close()
        for item in self._drop_waiting(keep=_is_cancel):
            if item.asked is not None and item.asked.gathering is not None:
                item.asked.gathering.cancel()
        self._part()

    def _part(self) -> None:
        """Give up the session of a client that has gone, once nothing of what it sent has to be judged."""
        if self._session is None or self._worker is not None or self._reader is not None:
            return
        if not self._pending.owes_orders:
            self._close_session()
        elif self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(self._settings.request_timeout, self._close_session)

    def _close_session(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self._pending.forget_all()
        session, self._session = self._session, None
        if session is not None:
            self._drop_session(session)

    def _drop_session(self, session: Session) -> None:
        session.close()
        self._pool.forget(session)

    def _pace(self) -> None:
        """Read from the client only while what it already asked for fits."""
        busy = (
            self._blocked
            or self._reader is not None
            or len(self._pending) > MAX_PENDING
            or (self._waiting is not None and len(self._waiting) > MAX_WAITING)
        )
        if busy and not self._paused:
            self._paused = True
            self._client.pause_reading()
        elif self._paused and not busy:
            self._paused = False
            self._client.resume_reading()


def _is_cancel(item: Request) -> bool:
    return item.asked is not None and isinstance(item.asked.intent, CancelOrder)
