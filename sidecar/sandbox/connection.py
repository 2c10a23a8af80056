"""One client's TCP connection: frames, InitConnect, encryption, serials, the way to a handler and back. Judges no request.

What is imitated, and how sure that is (protocol facts, sections 1, 2 and 11):

| behaviour | mark |
|---|---|
| InitConnect comes first; anything else is refused and the connection closed | documented; the closing inferred |
| InitConnect in clear is accepted although a key is configured, the connection is then clear | unknown |
| RSA InitConnect with packetEncAlgo -1: reply and connection in clear | read in the SDK |
| packetEncAlgo absent means FTAES_ECB; aesCBCiv only for AES_CBC | documented, read in the SDK |
| the reply uses the request's body format, pushes the one InitConnect asked for | documented |
| the SHA-1 is of the plaintext; a wrong one is refused | documented; the refusing inferred |
| serials rise on every connection; one that does not is refused | documented; the refusing inferred (the Python SDK itself may do so) |
| packetID.connID is this connection's, its serialNo never used twice | inferred |
| bytes that are no frame end the connection | inferred |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sidecar.errors import BodyError, WireError
from sidecar.sandbox.answers import NOT_SUPPORTED, Answer, Failure, response
from sidecar.sandbox.faults import Fault, FaultKind
from sidecar.sandbox.otherwise import Otherwise
from sidecar.sandbox.received import ReceivedLog
from sidecar.sandbox.session import Session
from sidecar.sandbox.system import SERVER_VERSION, USER_ID
from sidecar.wire import body, encryption, replies
from sidecar.wire.catalog import INIT_CONNECT
from sidecar.wire.frame import (
    DEFAULT_REQUEST_CAP,
    HEADER_SIZE,
    JSON,
    PROTOBUF,
    FrameReader,
    Head,
    digest,
    digest_matches,
)

if TYPE_CHECKING:
    from sidecar.sandbox.answers import Request

KEEP_ALIVE_INTERVAL = 10
_STALL_BYTES = 1024 * 1024

REFUSED = Failure("The server is busy, please try again later")
"""What the fault `refuse` answers; made up in OpenD's manner."""


class Floor(Protocol):
    """What a connection needs of the sandbox it belongs to."""

    received: ReceivedLog
    rsa_key: encryption.RsaKey | None
    otherwise: frozenset[Otherwise]

    def admit(self, connection: Connection) -> bool: ...

    def gone(self, connection: Connection) -> None: ...

    def new_conn_id(self) -> int: ...

    def request_name(self, proto_id: int) -> str | None: ...

    def answer(self, session: Session, proto_id: int, request: Message) -> Answer: ...

    def reply_delay(self, proto_id: int) -> float: ...

    def fault(self, proto_id: int) -> Fault | None: ...

    def struck(self, fault: Fault, proto_id: int, serial: int) -> None: ...

    def flush_pushes(self) -> None: ...


class Connection(asyncio.Protocol):
    """The socket side of a `Session`."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._reader = FrameReader(DEFAULT_REQUEST_CAP)
        self._transport: asyncio.Transport | None = None
        self.session = Session(floor.new_conn_id(), self.flush)

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(high=_STALL_BYTES)
        if not self._floor.admit(self):
            self._floor.received.event(self.session.conn_id, "refused", "too many connections")
            transport.close()
            return
        self._floor.received.event(self.session.conn_id, "connect")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._floor.gone(self)
        self._floor.received.event(self.session.conn_id, "disconnect")

    def pause_writing(self) -> None:
        self.session.stalled = True

    def resume_writing(self) -> None:
        self.session.stalled = False

    def data_received(self, data: bytes) -> None:
        try:
            chunk, heads = self._reader.receive(data)
            for head in heads:
                if self._transport is None or self._transport.is_closing():
                    return
                self._frame(chunk, head)
        except (WireError, BodyError) as error:
            self._floor.received.event(self.session.conn_id, "violation", str(error))
            self.close()
        self.flush()
        self._floor.flush_pushes()

    def flush(self) -> None:
        """Write everything queued, in one piece."""
        outbox = self.session.outbox
        if outbox and self._transport is not None:
            self._transport.write(outbox[0] if len(outbox) == 1 else b"".join(outbox))
        outbox.clear()

    def close(self) -> None:
        """Close once everything queued has been written."""
        if self._transport is not None:
            self.flush()
            self._transport.close()

    def abort(self) -> None:
        """Close now, whatever the client has not read."""
        if self._transport is not None:
            self._transport.abort()

    # --- one frame ---

    def _frame(self, chunk: bytes, head: Head) -> None:
        session = self.session
        if head.fmt not in (PROTOBUF, JSON):
            raise WireError(f"body format `{head.fmt}` is neither 0 (protobuf) nor 1 (JSON)")
        if not session.ready:
            self._first_frame(chunk, head)
            return
        raw = chunk[head.start + HEADER_SIZE : head.stop]
        if session.cipher is not None:
            raw = session.cipher.decrypt(raw)
        request, refusal = self._read(head, raw)
        self._floor.received.frame(session.conn_id, head.proto_id, head.serial, session.client_id, request)
        if digest(raw) != head.digest:
            refusal = Failure("The SHA-1 of the body is wrong")
        fell = session.last_serial is not None and head.serial <= session.last_serial
        if fell and Otherwise.SERIALS_UNANSWERED in self._floor.otherwise:
            return
        if fell and Otherwise.SERIALS_ANYHOW not in self._floor.otherwise:
            refusal = Failure(f"nSerialNo must rise: {head.serial} came after {session.last_serial}")
        else:
            session.last_serial = head.serial
        if refusal is not None or request is None:
            refusal = refusal or NOT_SUPPORTED
            self._floor.received.event(session.conn_id, "refused", f"{head.proto_id}: {refusal.text}")
            self._reply(head, refusal)
            return
        fault = self._floor.fault(head.proto_id)
        if fault is None:
            self._reply(head, self._floor.answer(session, head.proto_id, request))
        else:
            self._struck(head, request, fault)

    def _struck(self, head: Head, request: Message, fault: Fault) -> None:
        """A request that a fault strikes, instead of its ordinary answer."""
        session = self.session
        self._floor.received.event(session.conn_id, "fault", f"{fault} on {head.proto_id}, serial {head.serial}")
        self._floor.struck(fault, head.proto_id, head.serial)
        if fault.kind is FaultKind.DROP:
            return
        if fault.kind is FaultKind.REFUSE:
            self._reply(head, REFUSED)
            return
        answer = self._floor.answer(session, head.proto_id, request)
        if fault.kind in (FaultKind.SILENT, FaultKind.DISCONNECT):
            after, session.after_reply = session.after_reply, []
            if fault.kind is FaultKind.DISCONNECT:
                session.outbox.clear()  # nothing of it reaches the client any more
                self.abort()
            for action in after:
                action()
            return
        self._reply(head, answer, held=fault.seconds, times=2 if fault.kind is FaultKind.TWICE else 1)

    def _read(self, head: Head, raw: bytes) -> tuple[Message | None, Failure | None]:
        name = self._floor.request_name(head.proto_id)
        if name is None:
            return None, Failure(f"Unknown protocol id {head.proto_id}: not supported by the sandbox")
        try:
            request = body.parse(name, head.fmt, raw, strict=False)
        except (BodyError, DecodeError) as error:
            return None, Failure(f"The request cannot be read: {error}")
        if not request.IsInitialized():
            return None, Failure("The request cannot be read: required fields are missing")
        if Otherwise.UNKNOWN_FIELDS_REFUSED in self._floor.otherwise and len(UnknownFieldSet(request)):
            return None, Failure("The request has fields that it should not have")
        return request, None

    def _reply(self, head: Head, answer: Answer, *, held: float = 0.0, times: int = 1) -> None:
        """Answer `times` times, after the usual delay and `held` seconds more."""
        after, self.session.after_reply = self.session.after_reply, []
        content = _content(answer, head.fmt, self._floor.request_name(head.proto_id))
        delay = self._floor.reply_delay(head.proto_id) + held
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self._late, head, content, after, times)
        else:
            self._send(head, content, after, times)

    def _late(self, head: Head, content: bytes, after: list[Callable[[], None]], times: int) -> None:
        self._send(head, content, after, times)
        self.flush()
        self._floor.flush_pushes()

    def _send(self, head: Head, content: bytes, after: list[Callable[[], None]], times: int) -> None:
        """Queue the reply and what must follow it."""
        for _ in range(times):
            self.session.queue(head.proto_id, head.serial, head.fmt, content)
        for action in after:
            action()

    # --- InitConnect ---

    def _first_frame(self, chunk: bytes, head: Head) -> None:
        session = self.session
        if head.proto_id != INIT_CONNECT:
            session.queue(
                head.proto_id, head.serial, head.fmt, replies.refusal(head.fmt, "InitConnect must be the first request")
            )
            raise WireError(f"the first request must be InitConnect (1001), not {head.proto_id}")
        key = self._floor.rsa_key
        raw = chunk[head.start + HEADER_SIZE : head.stop]
        encrypted = not digest_matches(chunk, head)
        if not encrypted and key is not None and Otherwise.CLEAR_REFUSED in self._floor.otherwise:
            raise WireError("InitConnect is in clear, and an RSA key is configured here")
        if encrypted:
            if key is None:
                raise WireError("InitConnect is neither in clear nor is an RSA key configured here")
            raw = key.decrypt(raw)
            if digest(raw) != head.digest:
                raise WireError("InitConnect is encrypted with another RSA key")
        request = body.parse("InitConnect.Request", head.fmt, raw, strict=False)
        if not request.IsInitialized():
            raise WireError("InitConnect lacks required fields")
        c2s = cast("Request", request).c2s
        session.client_id = c2s.clientID
        session.last_serial = head.serial
        session.push_format = JSON if c2s.pushProtoFmt == JSON else PROTOBUF
        session.recv_notify = c2s.recvNotify
        self._floor.received.frame(session.conn_id, INIT_CONNECT, head.serial, session.client_id, request)
        algorithm = c2s.packetEncAlgo if encrypted else encryption.Algorithm.NONE
        answer = response("InitConnect")
        s2c = answer.s2c
        s2c.serverVer, s2c.loginUserID, s2c.connID = SERVER_VERSION, USER_ID, session.conn_id
        s2c.connAESKey, s2c.keepAliveInterval = encryption.new_session_secret(), KEEP_ALIVE_INTERVAL
        s2c.userAttribution = 1
        if algorithm == encryption.Algorithm.AES_CBC:
            s2c.aesCBCiv = encryption.new_session_secret()
        if algorithm == encryption.Algorithm.AES_ECB and Otherwise.ECB_IN_FUTUS_FORM in self._floor.otherwise:
            algorithm = encryption.Algorithm.FTAES_ECB
        cipher = encryption.session_cipher(algorithm, s2c.connAESKey.encode(), s2c.aesCBCiv.encode())
        content = body.serialise(answer, head.fmt)
        if cipher is not None and key is not None:
            session.cipher = key
        session.queue(INIT_CONNECT, head.serial, head.fmt, content)
        session.cipher = cipher
        session.ready = True


def _content(answer: Answer, fmt: int, request_name: str | None) -> bytes:
    if isinstance(answer, Failure):
        return replies.refusal(fmt, answer.text)
    if isinstance(answer, Message):
        return body.serialise(answer, fmt)
    if fmt == PROTOBUF:
        return answer
    name = (request_name or "").replace(".Request", ".Response")
    return body.serialise(body.parse(name, PROTOBUF, answer, strict=False), fmt)
