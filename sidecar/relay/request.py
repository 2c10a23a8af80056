"""One frame of a client on the slow path: opened, checked against its digest, and understood. Decides and sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

from sidecar.asked import Asked, Refused
from sidecar.errors import BodyError, WireError
from sidecar.gate import Gate
from sidecar.grants import Caller
from sidecar.wire import body
from sidecar.wire.catalog import Row
from sidecar.wire.encryption import Cipher
from sidecar.wire.frame import HEADER_SIZE, JSON, PROTOBUF, Head


@dataclass(slots=True)
class Request:
    """One that is held in its place: judged (`asked`), or plain with its protobuf body."""

    row: Row
    serial: int
    fmt: int
    asked: Asked | None
    plain: bytes = b""


def read_request(
    gate: Gate, caller: Caller, row: Row, chunk: bytes, head: Head, cipher: Cipher | None
) -> Request | Refused:
    """What a frame of the client asks for. `cipher` None = its body is in clear. Raises BodyError."""
    raw = _opened(chunk, head, cipher)
    if row.judged or gate.grants.audits_reads:
        asked = gate.understand(caller, row, lambda: body.parse_request(row, head.fmt, raw))
        return asked if isinstance(asked, Refused) else Request(row, head.serial, head.fmt, asked)
    if head.fmt == JSON:
        raw = body.serialise(body.parse_request(row, JSON, raw), PROTOBUF)
    return Request(row, head.serial, head.fmt, None, raw)


def _opened(chunk: bytes, head: Head, cipher: Cipher | None) -> bytes:
    if head.fmt not in (PROTOBUF, JSON):
        raise BodyError("malformed_request", f"the body format is `{head.fmt}`, it must be 0 (protobuf) or 1 (JSON)")
    raw = chunk[head.start + HEADER_SIZE : head.stop]
    if cipher is not None:
        try:
            raw = cipher.decrypt(raw)
        except WireError as error:
            raise BodyError("malformed_request", f"the body could not be decrypted: {error}") from None
    if sha1(raw, usedforsecurity=False).digest() != head.digest:
        raise BodyError("malformed_request", "the body does not match the SHA-1 in its header")
    return raw
