"""One raw TCP connection: its handshake, in which encryption, then its relay or the quarantine; read and written in time.

Requests are the relay's business; no rule and no counter lives here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import structlog

from sidecar.asked import Refused
from sidecar.errors import BodyError, UpstreamError, WireError
from sidecar.gate import Gate
from sidecar.grants import Caller, Grant
from sidecar.listeners.entrance import certificate_of
from sidecar.listeners.introduction import Introduction, read_introduction
from sidecar.listeners.room import Room, notice_when_gone
from sidecar.listeners.tcp.door import TcpDoor
from sidecar.listeners.tcp.login import HOW_TO_SHOW_A_KEY, IFACE, by_introduction
from sidecar.listeners.tcp.quarantine import Quarantine
from sidecar.listeners.unix_socket import credentials, peer_of
from sidecar.policy.decision import Code, Refusal
from sidecar.relay.relay import Relay, RelaySettings
from sidecar.returns import Returns
from sidecar.upstream.pool import Pool
from sidecar.wire import catalog, frame, replies
from sidecar.wire.encryption import Cipher
from sidecar.wire.frame import PROTOBUF, FrameReader, Head, OversizedFrame

log = structlog.get_logger()

_LAST_WORDS = 5.0
"""Seconds in which a client that is let go may still read what was sent to it."""
_ANSWERS_WITHOUT_KEY = 20
"""SECURITY: requests of one client in quarantine that are answered in a second; the others of its chunk wait, unread bytes
in its socket. A chunk holds thousands of the smallest, and nothing else moves while they are answered."""
_STRANGER_CAP = 16 * 1024
"""Bytes. SECURITY: what is kept and parsed of a client without a good key; an InitConnect has some 100, with RSA 8192 at most."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What stands behind every client of the door."""

    door: TcpDoor
    gate: Gate
    returns: Returns
    pool: Pool
    relay: RelaySettings
    spawn: Callable[..., asyncio.Task[Any]]


class TcpClient(asyncio.Protocol):
    """One client connection: handshake, then a relay or the quarantine."""

    __slots__ = (
        "_address", "_admits", "_answers_left", "_backing", "_certificate", "_deadline", "_early", "_ended", "_introduced",
        "_park", "_quarantine", "_reader", "_refused_since", "_relay", "_room", "_stalled_since", "_transport", "cipher",
        "push_fmt",
    )  # fmt: skip

    def __init__(
        self, backing: Backing, room: Room[TcpClient], *, admits: Callable[[str], bool], park: Callable[[TcpClient], None]
    ) -> None:  # fmt: skip
        """`admits`: whether an address may come in; `park`: for a client whose InitConnect was refused, and which is left open."""
        self._backing = backing
        self._room = room
        self._admits = admits
        self._park = park
        self._reader = FrameReader(min(backing.door.request_cap, _STRANGER_CAP))
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._certificate: bytes | None = None
        self._relay: Relay | None = None
        self._quarantine: Quarantine | None = None
        self._deadline = 0.0
        self._ended = False
        self._stalled_since = 0.0
        self._refused_since = 0.0
        self._introduced = False
        self._early: tuple[bytes, list[Head]] | None = None
        """Frames read and not looked at yet."""
        self._answers_left = _ANSWERS_WITHOUT_KEY
        self.cipher: Cipher | None = None
        self.push_fmt = PROTOBUF

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        backing = self._backing
        self._address = peer_of(transport)
        self._certificate = certificate_of(transport)
        admitted = self._admits(self._address)
        if not admitted or not self._room.has_place():
            code = Code.UPSTREAM_FULL if admitted else Code.IP_NOT_ALLOWED
            backing.gate.refuse(
                Caller(IFACE, None, self._address),
                None,
                catalog.INIT_CONNECT,
                Refusal(code, "the connection was not accepted"),
            )
            self._ended = True
            self._transport.abort()
            return
        notice_when_gone(transport)
        process = credentials(transport)
        if process is not None:
            log.info("a client connected to a unix socket", uid=process.uid, gid=process.gid, pid=process.pid)
        self._transport.set_write_buffer_limits(high=backing.door.client_buffer // 8)
        self._deadline = asyncio.get_running_loop().time() + backing.door.handshake_timeout
        self._room.enter(self)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if self._ended or reader.broken:
            return
        try:
            chunk, heads = reader.receive(data)
        except WireError as error:
            if self._relay is not None:
                self._relay.when_judged(partial(self._broken, error))
            else:
                self._broken(error)
            return
        if self._relay is not None:
            if heads:
                self._relay.receive(chunk, heads)
            if reader.error is not None:
                self._relay.when_judged(partial(self._broken, reader.error))
            elif reader.buffered:
                if heads or not self._deadline:
                    self._deadline = asyncio.get_running_loop().time() + self._backing.door.frame_timeout
            elif self._deadline:
                self._deadline = 0.0
            return
        self._before_relay(chunk, heads)
        if reader.error is not None and not self._ended:
            self._broken(reader.error)

    def _before_relay(self, chunk: bytes, heads: list[Head]) -> None:
        for index, head in enumerate(heads):
            if self._ended:
                return
            if self._quarantine is not None:
                if not self._answers_left:
                    self._early = (chunk, heads[index:])  # waits for the next tick
                    self.pause_reading()
                    return
                self._answers_left -= 1
                self._refuse_quarantined(chunk, head)
            elif self._relay is not None:
                self._early = (chunk, heads[index:])  # came along with InitConnect, waits for its answer
                return
            else:
                self._introduce(chunk, head)

    def pause_writing(self) -> None:
        self._stalled_since = asyncio.get_running_loop().time()
        if self._relay is not None:
            self._relay.client_writable(False)

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        if self._relay is not None:
            self._relay.client_writable(True)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.leave(self)
        self._ended = True
        if self._relay is not None:
            self._relay.client_gone()

    # -- ClientPort -----------------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            return  # asyncio warns of every write to a connection that broke
        transport.write(data)
        unsent = transport.get_write_buffer_size()
        if unsent > self._backing.door.client_buffer:
            self._cut(f"{unsent} bytes are unsent")

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _cut(self, why: str) -> None:
        log.warning("a client reads too slowly and was cut", address=self._address, why=why)
        self._backing.gate.metrics.client_cut("slow_client")
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._deadline = asyncio.get_running_loop().time() + _LAST_WORDS
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """End it at once, whatever is unsent."""
        self._ended = True
        self._room.leave(self)
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_stranger(self) -> bool:
        """See `room.Guest`."""
        return self._relay is None

    # -- introduction ---------------------------------------------------------------------------------------------

    def _introduce(self, chunk: bytes, head: Head) -> None:
        """The first frame must be InitConnect."""
        backing = self._backing
        nobody = Caller(IFACE, None, self._address)
        if head.proto_id != catalog.INIT_CONNECT or self._introduced:
            refused = backing.gate.refuse(
                nobody,
                catalog.CATALOG.get(head.proto_id),
                head.proto_id,
                Refusal(Code.KEY_MISSING, "the first request must be InitConnect"),
            )
            self._send(head, replies.refusal(head.fmt, refused.text))
            self.end("no InitConnect")
            return
        try:
            intro = read_introduction(chunk, head, backing.door.shared_rsa, backing.door.rsa_keys)
        except BodyError as error:
            refused = self._refused_init(nobody, Refusal(Code(error.code), str(error)))
            self._send(head, replies.refusal(head.fmt, refused.text))
            self.end("InitConnect could not be read")
            return
        self._introduced = True
        self._deadline = 0.0
        self.push_fmt = intro.push_fmt
        grants, with_certificate = backing.gate.grants, replace(nobody, certificate=self._certificate)
        caller = by_introduction(grants, intro, with_certificate, backing.door.key_id)
        grant = grants.of(caller)
        if not isinstance(grant, Grant):
            refused = self._refused_init(caller, HOW_TO_SHOW_A_KEY if grant.code is Code.KEY_MISSING else grant)
            until = asyncio.get_running_loop().time() + backing.door.quarantine
            self._quarantine = Quarantine(refused.text, caller, until)
            self.write(intro.welcome())
            self.cipher = intro.cipher
            return
        self._relay = Relay(
            caller=caller, client=self, gate=backing.gate, returns=backing.returns, pool=backing.pool,
            settings=backing.relay, spawn=backing.spawn,
        )  # fmt: skip
        self.pause_reading()
        backing.spawn(self._open(self._relay, intro))

    def _refused_init(self, caller: Caller, refusal: Refusal) -> Refused:
        row = catalog.CATALOG[catalog.INIT_CONNECT]
        return self._backing.gate.refuse(caller, row, row.id, refusal)

    async def _open(self, relay: Relay, intro: Introduction) -> None:
        try:
            theirs: Any = await relay.open(intro.choices, intro.serial)
        except UpstreamError as error:
            if self._ended:
                return
            # not closed: the SDK retries on a new connection and would take the end of this one for the end of that
            self.write(intro.refusal(self._refused_init(relay.caller, Refusal(Code(error.code), str(error))).text))
            self._relay = None
            self._park(self)
            self._go_on()
            return
        if self._ended:
            relay.client_gone()
            return
        self.write(intro.welcome(theirs.s2c))
        self.cipher = intro.cipher
        self._backing.gate.metrics.allowed(IFACE, relay.caller.key_id or "").inc()
        self._reader.accept_up_to(self._backing.door.request_cap)
        self._go_on()

    def _go_on(self) -> None:
        """InitConnect is answered: to what came along with it, and on with reading."""
        early, self._early = self._early, None
        self.resume_reading()
        if early is None:
            return
        if self._relay is not None:
            self._relay.receive(*early)
        else:
            self._before_relay(*early)

    def _send(self, head: Head, on_wire: bytes, *, plaintext: bytes | None = None) -> None:
        clear = on_wire if plaintext is None else plaintext
        fmt = frame.JSON if head.fmt == frame.JSON else PROTOBUF  # what is in no format at all is answered in protobuf
        self.write(frame.build(head.proto_id, head.serial, clear, fmt=fmt, ciphertext=on_wire))

    # -- quarantine and other ends --------------------------------------------------------------------------------

    def _refuse_quarantined(self, chunk: bytes, head: Head) -> None:
        assert self._quarantine is not None
        plaintext = self._quarantine.answer(head.proto_id, head.fmt)
        sealed = plaintext if self.cipher is None else self.cipher.encrypt(plaintext)
        self._send(head, sealed, plaintext=plaintext)

    def look_again(self) -> None:
        """After a reload: a quarantined client whose key is good now is closed, so that its SDK connects anew."""
        quarantine = self._quarantine
        if quarantine is not None and isinstance(self._backing.gate.grants.of(quarantine.caller), Grant):
            self.end("the key is good now")

    def tick(self, now: float) -> None:
        if self._ended:
            if now > self._deadline:
                self.drop()  # it does not read what it was told last
        elif self._stalled_since and now - self._stalled_since > self._backing.door.client_stall:
            self._cut(f"it fell behind for more than {self._backing.door.client_stall:g} s")
        elif self._quarantine is not None and now > self._quarantine.until:
            self.end("the quarantine is over")
        elif self._quarantine is not None:
            self._answers_left = _ANSWERS_WITHOUT_KEY
            if self._early is not None:
                self._go_on()
        elif self._deadline and now > self._deadline:
            self._backing.gate.metrics.client_cut("idle")
            log.info("a client took too long over a frame and was cut", address=self._address)
            self.end("too slow")

    def sweep(self, now: float) -> None:
        """Now and then: answer what OpenD leaves unanswered, and let go of a client whose key has been bad for long."""
        if self._relay is None:
            return
        self._relay.give_up_overdue()
        if isinstance(self._backing.gate.grants.of(self._relay.caller), Grant):
            self._refused_since = 0.0
        elif not self._refused_since:
            self._refused_since = now
        elif now - self._refused_since > self._backing.door.quarantine:
            self._backing.gate.metrics.client_cut("key_revoked")
            self.end("its key has not been good for long")

    def _broken(self, error: WireError) -> None:
        """Bytes that are not the protocol: recorded, answered where a header could be read, and closed."""
        code = Code.BODY_TOO_LARGE if isinstance(error, OversizedFrame) else Code.MALFORMED_REQUEST
        caller = self._relay.caller if self._relay is not None else Caller(IFACE, None, self._address)
        number = error.proto_id if isinstance(error, OversizedFrame) else 0
        refused = self._backing.gate.refuse(caller, catalog.CATALOG.get(number), number, Refusal(code, str(error)))
        if isinstance(error, OversizedFrame):
            fmt = frame.JSON if error.fmt == frame.JSON else PROTOBUF
            plaintext = replies.refusal(fmt, refused.text)
            sealed = plaintext if self.cipher is None else self.cipher.encrypt(plaintext)
            self.write(frame.build(error.proto_id, error.serial, plaintext, fmt=fmt, ciphertext=sealed))
        self.end(str(error))
