"""What OpenD remembers about one connection, and where its frames queue. No socket and no meaning of requests."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.wire.encryption import Cipher
from sidecar.wire.frame import PROTOBUF, build


class Session:
    """One connection after its socket was accepted; ready once InitConnect succeeded."""

    __slots__ = (
        "accounts", "after_reply", "cipher", "client_id", "conn_id", "flush", "last_serial", "outbox", "packet_serials",
        "push_format", "push_serial", "ready", "recv_notify", "stalled",
    )  # fmt: skip

    def __init__(self, conn_id: int, flush: Callable[[], None]) -> None:
        self.conn_id = conn_id
        self.client_id = ""
        self.ready = False
        self.cipher: Cipher | None = None
        self.push_format = PROTOBUF
        self.recv_notify = False
        self.last_serial: int | None = None
        self.packet_serials: set[int] = set()
        """serialNo of every packetID used on this connection."""
        self.accounts: frozenset[int] = frozenset()
        """Accounts whose pushes were asked for with 2008."""
        self.after_reply: list[Callable[[], None]] = []
        """Run once the reply being made is queued: pushes that must not come before it."""
        self.outbox: list[bytes] = []
        self.flush = flush
        self.stalled = False
        """The client does not read; quote pushes are dropped until it does."""
        self.push_serial = 0

    def queue(self, proto_id: int, serial: int, fmt: int, body: bytes) -> None:
        """Queue one frame; `flush` writes what is queued."""
        cipher = self.cipher
        ciphertext = None if cipher is None else cipher.encrypt(body)
        self.outbox.append(build(proto_id, serial, body, fmt=fmt, ciphertext=ciphertext))

    def queue_push(self, proto_id: int, body: bytes) -> None:
        self.push_serial += 1
        self.queue(proto_id, self.push_serial, self.push_format, body)
