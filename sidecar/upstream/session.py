"""One connection to OpenD: its InitConnect, its serials and its liveness. Who uses it, and for what, it does not know."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Protocol, cast

from google.protobuf.message import DecodeError

from sidecar.errors import UpstreamError, WireError
from sidecar.wire import catalog, frame
from sidecar.wire.encryption import Algorithm, Cipher, RsaKey, session_cipher
from sidecar.wire.frame import HEADER_SIZE, Head, Run
from sidecar.wire.messages import message_class

NEUTRAL_CLIENT_ID = "opend-sidecar"
"""SECURITY: what OpenD sees as clientID; the client's own may be its key."""


@dataclass(frozen=True, slots=True)
class InitChoices:
    """What a client chose in its InitConnect and OpenD should hear; the rest is ours."""

    client_ver: int = 300
    recv_notify: bool = True
    programming_language: str = "Python"
    ai_type: int = 0


_NO_PUSHES: frozenset[int] = frozenset()


class SessionOwner(Protocol):
    """Who hears what a session receives. All calls come from the event loop; none may raise."""

    def unread_pushes(self) -> frozenset[int]:
        """The pushes that may come as runs, as things are now: those whose contents it will not look at."""

    def upstream_received(self, chunk: bytes, heads: list[Head | Run]) -> None:
        """Whole frames arrived; bodies are as on the wire (`Session.plain_body`)."""

    def upstream_lost(self, reason: str) -> None:
        """The session ended, not by `close`. Called at most once."""

    def upstream_writable(self, writable: bool) -> None:
        """OpenD reads slower than we write (False), or caught up again (True)."""


class Session(asyncio.Protocol):
    """Made by the pool. `init_reply` is OpenD's InitConnect answer; `last_serial` the highest serial sent so far."""

    __slots__ = (
        "_answered", "_choices", "_closing", "_owner", "_reader", "_rsa", "_transport",
        "cipher", "ended", "heard", "init_reply", "last_serial", "quiet_ticks", "sent",
    )  # fmt: skip

    def __init__(
        self, owner: SessionOwner, choices: InitChoices, rsa: RsaKey | None, reply_cap: int, first_serial: int
    ) -> None:
        self._owner = owner
        self._choices = choices
        self._rsa = rsa
        self._reader = frame.FrameReader(reply_cap)
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] | None = None
        self._closing = False
        self.cipher: Cipher | None = None
        self.init_reply: Any = None
        """OpenD's InitConnect Response, once it is there."""
        self.ended = ""
        """Why it ended, where OpenD or the link ended it."""
        self.last_serial = first_serial
        self.sent = False
        self.heard = False
        self.quiet_ticks = 0

    # -- life -----------------------------------------------------------------------------------------------------

    async def initialise(self) -> None:
        """Send InitConnect and wait for its answer. Raises UpstreamError; the caller bounds the time."""
        request: Any = message_class("InitConnect.Request")()
        c2s = request.c2s
        c2s.clientVer = self._choices.client_ver
        c2s.clientID = NEUTRAL_CLIENT_ID
        c2s.recvNotify = self._choices.recv_notify
        c2s.packetEncAlgo = Algorithm.AES_CBC if self._rsa else Algorithm.NONE
        c2s.pushProtoFmt = frame.PROTOBUF
        c2s.programmingLanguage = self._choices.programming_language
        c2s.aiType = self._choices.ai_type
        plaintext = request.SerializeToString()
        sealed = self._rsa.encrypt(plaintext) if self._rsa else None
        self._answered = asyncio.get_running_loop().create_future()
        self.write(frame.build(catalog.INIT_CONNECT, self.last_serial, plaintext, ciphertext=sealed))
        await self._answered

    def close(self) -> None:
        """End the session; the owner is not told."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    @property
    def ready(self) -> bool:
        return self.init_reply is not None and not self._closing

    @property
    def conn_id(self) -> int:
        """OpenD's id of this connection; clients put it into packetID."""
        return int(self.init_reply.s2c.connID)  # set before anyone gets the session

    # -- sending --------------------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send whole frames, as they are on the wire."""
        self.sent = True
        if self._transport is not None:
            self._transport.write(data)

    def send(self, proto_id: int, plaintext: bytes, serial: int = 0) -> int:
        """Send one protobuf request under `serial`, or the next free one if that would not increase; return the serial used.

        Raises UpstreamError when the serials of the session are used up.
        """
        if serial <= self.last_serial:
            serial = self.last_serial + 1
        if serial >= frame.MAX_SERIAL:
            raise UpstreamError("the serial numbers of this connection are used up, connect again")
        self.last_serial = serial
        cipher = self.cipher
        sealed = None if cipher is None else cipher.encrypt(plaintext)
        self.write(frame.build(proto_id, serial, plaintext, ciphertext=sealed))
        return serial

    def keep_alive(self) -> None:
        """Send a KeepAlive of our own; its answer belongs to nobody and is dropped by the owner."""
        request: Any = message_class("KeepAlive.Request")()
        request.c2s.time = int(time.time())
        try:
            self.send(catalog.KEEP_ALIVE, request.SerializeToString())
        except UpstreamError as error:
            self.fail(str(error))  # a client chose the serials; it must not end more than its own session

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def plain_body(self, chunk: bytes, head: Head) -> bytes:
        """The body of a received frame, decrypted. Raises WireError."""
        body = chunk[head.start + HEADER_SIZE : head.stop]
        return body if self.cipher is None else self.cipher.decrypt(body)

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        try:
            if self.init_reply is None:
                chunk, heads = self._reader.receive_runs(data, _NO_PUSHES)
                if heads:
                    self._read_init_reply(chunk, heads.pop(0))
            else:
                chunk, heads = self._reader.receive_runs(data, self._owner.unread_pushes())
        except (WireError, DecodeError, UpstreamError) as error:
            self._lost(f"OpenD's answer could not be read: {error}")
            return
        if heads:
            self._owner.upstream_received(chunk, heads)
        if self._reader.error is not None:
            self._lost(f"OpenD's answer could not be read: {self._reader.error}")

    def _read_init_reply(self, chunk: bytes, head: Head | Run) -> None:
        if isinstance(head, Run) or head.proto_id != catalog.INIT_CONNECT:
            raise WireError("OpenD answered InitConnect with something else")
        body = chunk[head.start + HEADER_SIZE : head.stop]
        if self._rsa is not None and not frame.digest_matches(chunk, head):
            body = self._rsa.decrypt(body)
        reply: Any = message_class("InitConnect.Response").FromString(body)
        if reply.retType != 0:
            raise UpstreamError(f"OpenD refused InitConnect: {reply.retMsg}")
        if not reply.IsInitialized() or not reply.HasField("s2c"):
            raise WireError("OpenD's answer to InitConnect lacks required fields")
        s2c = reply.s2c
        if self._rsa is not None:
            self.cipher = session_cipher(Algorithm.AES_CBC, s2c.connAESKey.encode(), s2c.aesCBCiv.encode())
        self.init_reply = reply
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost("OpenD closed the connection" if exc is None else f"the connection to OpenD broke: {exc}")

    def pause_writing(self) -> None:
        self._owner.upstream_writable(False)

    def resume_writing(self) -> None:
        self._owner.upstream_writable(True)

    def fail(self, reason: str) -> None:
        """End the session and tell the owner why."""
        self._lost(reason)

    def _lost(self, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        self.ended = reason
        if self._transport is not None:
            self._transport.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(UpstreamError(reason))
        elif self.init_reply is not None:
            self._owner.upstream_lost(reason)
