"""One WebSocket connection: which framing it speaks, its login, then its relay; sent and read in time. Holds no rule and no counter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from sidecar.asked import Refused
from sidecar.border import shown
from sidecar.errors import BodyError, UpstreamError, WireError
from sidecar.gate import Gate
from sidecar.grants import Caller
from sidecar.listeners.entrance import certificate_of
from sidecar.listeners.introduction import Introduction, read_introduction
from sidecar.listeners.refusals import NATIVE
from sidecar.listeners.room import Room
from sidecar.listeners.websocket.login import IFACE, by_introduction, by_javascript_login
from sidecar.listeners.websocket.sender import Sender
from sidecar.policy.decision import Code, Refusal
from sidecar.relay.relay import Relay, RelaySettings
from sidecar.returns import Returns
from sidecar.settings import Limits
from sidecar.upstream.pool import Pool
from sidecar.upstream.session import InitChoices
from sidecar.wire import catalog, frame, replies, ws_frame
from sidecar.wire.encryption import Cipher
from sidecar.wire.frame import PROTOBUF, Head
from sidecar.wire.ws_frame import FrameFraming, Framing, JsFraming, JsRequest, UnfitMessage

log = structlog.get_logger()

_ANSWER_FIRST = 0.5
"""Seconds for which a client whose key went bad is kept while a request of it is being decided."""
LAST_WORDS = 5.0
"""Seconds in which a client that is let go may still read what was sent to it, and say goodbye."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What stands behind every client of the door."""

    gate: Gate
    returns: Returns
    pool: Pool
    relay: RelaySettings
    limits: Limits
    spawn: Callable[..., asyncio.Task[Any]]


class WsClient:
    """A connection past its upgrade; `upgraded` is who showed a key there. It is the relay's ClientPort."""

    def __init__(
        self, socket: web.WebSocketResponse, writer: AbstractStreamWriter, transport: asyncio.Transport, address: str,
        upgraded: Caller | None, *, backing: Backing, room: Room[WsClient],
    ) -> None:  # fmt: skip
        self._socket = socket
        self._transport = transport
        self._address = address
        self._nobody = Caller(IFACE, None, address, certificate=certificate_of(transport))
        self._upgraded = upgraded
        self._backing = backing
        self._room = room
        self._framing: Framing | None = None
        self._relay: Relay | None = None
        self._sender = Sender(
            socket, writer, transport, backing.limits.client_buffer, pace=self._pace, too_slow=self._cut
        )
        self._loop = asyncio.get_running_loop()
        self._chunks: list[bytes] = []
        self._heads: list[Head] = []
        self._gathered = 0
        """Frames of the messages that arrived together, and the bytes of them."""
        self._readable = asyncio.Event()
        self._readable.set()
        self._ended = False
        self._deadline = self._loop.time() + backing.limits.handshake_timeout
        """When a client that showed no key must have logged in, and one that was let go must be gone."""
        self.cipher: Cipher | None = None
        self.push_fmt = PROTOBUF

    # -- life -----------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Until the connection has ended, by either side. Cancelled when the client has vanished."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sender.run())
            try:
                await self._listen()
            finally:
                self._left()

    async def _listen(self) -> None:
        while True:
            await self._readable.wait()
            if self._ended:
                return
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                await self._take(message.data)
            elif message.type is WSMsgType.TEXT:
                self._unreadable("a text message; this port speaks binary ones", WSCloseCode.UNSUPPORTED_DATA)
            elif message.type is WSMsgType.ERROR:
                self._broken(message.data)
                return
            else:
                return

    def _left(self) -> None:
        """Nothing more is read from the client."""
        self._hand_on()
        if not self._ended:
            self._ended = True
            self._sender.discard()
        if self._relay is not None:
            self._relay.client_gone()

    # -- from the client ------------------------------------------------------------------------------------------

    async def _take(self, message: bytes) -> None:
        framing = self._framing
        if framing is None:
            cap = self._backing.limits.request_body
            javascript = ws_frame.speaks_javascript(message)
            framing = self._framing = JsFraming(cap, self._loop.time()) if javascript else FrameFraming(cap)
        try:
            if self._relay is None and isinstance(framing, JsFraming):
                await self._log_in(framing.read(message))
                return
            chunk, head = framing.take(message, self._loop.time())
        except UnfitMessage as unfit:
            self._hand_on()
            row = catalog.CATALOG.get(unfit.proto_id)
            refusal = Refusal(Code(unfit.code), str(unfit))
            refused = self._backing.gate.refuse(self._who(), row, unfit.proto_id, refusal)
            self._sender.put(framing.answer(unfit, replies.refusal(unfit.fmt, refused.text)))
            if self._relay is None:
                self._end(WSCloseCode.POLICY_VIOLATION, refused.text)
            return
        except WireError as error:
            self._unreadable(str(error), WSCloseCode.PROTOCOL_ERROR)
            return
        if self._relay is not None:
            self._gather(chunk, head)
        else:
            await self._introduce(chunk, head)

    def _gather(self, chunk: bytes, head: Head) -> None:
        """Let what has arrived together reach the relay together: one look at the key, one write to OpenD."""
        if not self._heads:
            self._loop.call_soon(self._hand_on)
        self._chunks.append(chunk)
        self._heads.append(head._replace(start=self._gathered, stop=self._gathered + head.stop))
        self._gathered += head.stop

    def _hand_on(self) -> None:
        chunks, heads = self._chunks, self._heads
        self._chunks, self._heads, self._gathered = [], [], 0
        if heads and self._relay is not None and not self._ended:
            self._relay.receive(chunks[0] if len(chunks) == 1 else b"".join(chunks), heads)

    def _unreadable(self, text: str, code: WSCloseCode) -> None:
        """A message without a header that could be answered: recorded, and the connection is closed."""
        self._hand_on()

        def let_go() -> None:
            refused = self._backing.gate.refuse(self._who(), None, 0, Refusal(Code.MALFORMED_REQUEST, text))
            self._end(code, refused.text)

        if self._relay is not None:
            self._relay.when_judged(let_go)
        else:
            let_go()

    def _broken(self, error: object) -> None:
        """What is not WebSocket any more; aiohttp has closed the connection already, with the code that belongs to it."""
        if not isinstance(error, WebSocketError):
            return
        refusal = Refusal(Code.MALFORMED_REQUEST, f"not a WebSocket message: {shown(str(error))}")
        if error.code == WSCloseCode.MESSAGE_TOO_BIG:
            limit = self._backing.limits.request_body
            refusal = Refusal(Code.BODY_TOO_LARGE, f"a message is too long, the limit of a body is {limit} bytes")
        self._backing.gate.refuse(self._who(), None, 0, refusal)

    def _who(self) -> Caller:
        if self._relay is not None:
            return self._relay.caller
        return self._upgraded or self._nobody

    # -- login ----------------------------------------------------------------------------------------------------

    async def _log_in(self, request: JsRequest) -> None:
        """The JavaScript SDK's first message must be InitWebSocket."""
        gate, command, section = self._backing.gate, request.command, request.section
        if command != catalog.INIT_WEBSOCKET:
            refusal = Refusal(
                Code.KEY_MISSING, "the first message must be InitWebSocket, as `start` of the SDK sends it"
            )
            refused = gate.refuse(self._who(), catalog.CATALOG.get(command), command, refusal)
            self._sender.put(ws_frame.js_reply(command, section, replies.refusal(PROTOBUF, refused.text)))
            self._end(WSCloseCode.POLICY_VIOLATION, refused.text)
            return
        row = catalog.CATALOG[catalog.INIT_WEBSOCKET]
        caller, no = by_javascript_login(gate.grants, self._upgraded, request.body, self._nobody)
        if no is not None:
            # with an error in its header the SDK tells its user and tries no more; closed without, it would for ever
            refused = gate.refuse(caller, row, row.id, no)
            self._sender.put(ws_frame.login_refused(section, NATIVE[no.code].http, no.code.value, refused.text))
            self._end(WSCloseCode.POLICY_VIOLATION, refused.text)
            return
        choices = InitChoices(programming_language="JavaScript")
        opened = await self._open(caller, choices, ws_frame.JS_FIRST_SERIAL, row)
        if isinstance(opened, Refused):
            # OpenD is away. A refused login would be the SDK's last: closed, it tries again every second until OpenD is back
            self._end(WSCloseCode.TRY_AGAIN_LATER, opened.text)
            return
        now = int(gate.grants.now().timestamp())
        self._sender.put(ws_frame.login_accepted(section, now, opened.s2c.connID))
        gate.metrics.allowed(IFACE, caller.key_id or "").inc()

    async def _introduce(self, chunk: bytes, head: Head) -> None:
        """The first frame of OpenD's protocol: an InitConnect, or a request at once."""
        gate = self._backing.gate
        row = catalog.CATALOG.get(head.proto_id)
        intro: Introduction | None = None
        if head.proto_id == catalog.INIT_CONNECT:
            try:
                intro = read_introduction(chunk, head, None, {})
            except BodyError as error:
                self._refuse_first(
                    head, gate.refuse(self._who(), row, head.proto_id, Refusal(Code(error.code), str(error)))
                )
                return
        caller, no = by_introduction(gate.grants, self._upgraded, intro.client_id if intro else "", self._nobody)
        if no is not None:
            self._refuse_first(head, gate.refuse(caller, row, head.proto_id, no))
            return
        choices = InitChoices(programming_language="Unknown") if intro is None else intro.choices
        first_serial = head.serial if intro is not None else max(head.serial - 1, 0)
        opened = await self._open(caller, choices, first_serial, row)
        if isinstance(opened, Refused):
            self._refuse_first(head, opened, WSCloseCode.TRY_AGAIN_LATER)
        elif intro is not None:
            self.push_fmt = intro.push_fmt
            self._sender.put(intro.welcome(opened.s2c))
            gate.metrics.allowed(IFACE, caller.key_id or "").inc()
        elif self._relay is not None:
            self._relay.receive(chunk, [head])

    def _refuse_first(self, head: Head, refused: Refused, code: WSCloseCode = WSCloseCode.POLICY_VIOLATION) -> None:
        fmt = frame.JSON if head.fmt == frame.JSON else PROTOBUF
        self._sender.put(frame.build(head.proto_id, head.serial, replies.refusal(fmt, refused.text), fmt=fmt))
        self._end(code, refused.text)

    async def _open(self, caller: Caller, choices: InitChoices, first_serial: int, row: catalog.Row | None) -> Any:
        """OpenD's InitConnect answer, or Refused where OpenD cannot be reached or has no room."""
        backing = self._backing
        self._relay = relay = Relay(
            caller=caller, client=self, gate=backing.gate, returns=backing.returns, pool=backing.pool,
            settings=backing.relay, spawn=backing.spawn,
        )  # fmt: skip
        try:
            return await relay.open(choices, first_serial)
        except UpstreamError as error:
            self._relay = None
            return backing.gate.refuse(caller, row, 0 if row is None else row.id, Refusal(Code(error.code), str(error)))

    # -- ClientPort -----------------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        framing = self._framing
        if self._ended or framing is None:
            return
        for one in ws_frame.frames_in(data):
            self._sender.put(framing.give(one))

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    def end(self, reason: str) -> None:
        """The relay's session with OpenD is over; the client should connect anew."""
        if isinstance(self._framing, JsFraming):
            self._sender.put(ws_frame.disconnected(reason))
        self._end(WSCloseCode.SERVICE_RESTART, reason)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _pace(self, writable: bool) -> None:
        if self._relay is not None:
            self._relay.client_writable(writable)

    def _cut(self, why: str) -> None:
        log.warning("a client reads too slowly and was cut", address=self._address, why=why)
        self._backing.gate.metrics.client_cut("slow_client")
        self.drop()

    def _end(self, code: WSCloseCode, reason: str) -> None:
        """Close the connection once what waits has gone out."""
        if self._ended:
            return
        self._ended = True
        self._deadline = self._loop.time() + LAST_WORDS
        self._sender.close(int(code), reason)
        self._readable.set()

    def drop(self) -> None:
        """End it at once, whatever is unsent."""
        self._ended = True
        self._sender.discard()
        self._readable.set()
        self._room.leave(self)
        self._transport.abort()

    # -- now and then ---------------------------------------------------------------------------------------------

    @property
    def is_stranger(self) -> bool:
        """See `room.Guest`."""
        return self._relay is None

    def stop(self, reason: str) -> None:
        """The sidecar is stopping."""
        self._end(WSCloseCode.GOING_AWAY, reason)

    def look_again(self) -> None:
        """Close it where its key is not good any more: pushes end, and the client is told why when it comes again."""
        caller = self._relay.caller if self._relay is not None else self._upgraded
        if self._ended or caller is None:
            return
        standing = self._backing.gate.grants.of(caller)
        if isinstance(standing, Refusal):
            reason = f"[sidecar:{standing.code.value}] {standing.message}"
            if self._relay is not None and self._relay.deciding:
                # what is being decided is refused at its last look; its client should read that, and not only a close
                self._loop.call_later(_ANSWER_FIRST, self._let_go, reason)
            else:
                self._let_go(reason)

    def _let_go(self, reason: str) -> None:
        if not self._ended:
            self._backing.gate.metrics.client_cut("key_revoked")
            self._end(WSCloseCode.POLICY_VIOLATION, reason)

    def tick(self, now: float) -> None:
        """Every second."""
        if self._ended:
            if now > self._deadline:
                self.drop()  # it does not read what it was told last
        elif self._sender.behind(now) > self._backing.limits.client_stall:
            self._cut(f"it fell behind for more than {self._backing.limits.client_stall:g} s")
        elif self._relay is None and self._upgraded is None and now > self._deadline:
            self._backing.gate.metrics.client_cut("idle")
            waited = f"{self._backing.limits.handshake_timeout:g} s"
            self._end(WSCloseCode.POLICY_VIOLATION, f"no login came within {waited}")
        else:
            self.look_again()  # a key may expire

    def sweep(self) -> None:
        """Now and then: answer what OpenD leaves unanswered."""
        if self._relay is not None:
            self._relay.give_up_overdue()
