"""The client's side of a relay: what the listener gives, and how what is sent to a client is put. Decides nothing."""

from __future__ import annotations

from typing import Protocol

from sidecar.asked import Refused
from sidecar.wire import body, frame, replies
from sidecar.wire.catalog import Row
from sidecar.wire.encryption import Cipher
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.messages import message_class


class ClientPort(Protocol):
    """The client's side, as the listener gives it. `cipher` None = bodies in clear; `push_fmt` the format of pushes."""

    cipher: Cipher | None
    push_fmt: int

    def write(self, data: bytes | memoryview) -> None:
        """Send whole frames; a client that reads too slowly is cut by the listener."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def end(self, reason: str) -> None:
        """Close the client's connection once what was written has gone out."""


class Replies:
    """Single frames to one client: a body in the format of its request, sealed where the client's are. Bodies are whole
    Responses."""

    __slots__ = ("_client", "_closed")

    def __init__(self, client: ClientPort) -> None:
        self._client = client
        self._closed = False

    def close(self) -> None:
        """The client has gone: nothing is sent any more."""
        self._closed = True

    def send(self, proto_id: int, serial: int, fmt: int, plaintext: bytes) -> None:
        """A body that is in the format `fmt` already."""
        if self._closed:
            return
        cipher = self._client.cipher
        sealed = None if cipher is None else cipher.encrypt(plaintext)
        self._client.write(frame.build(proto_id, serial, plaintext, fmt=fmt, ciphertext=sealed))

    def refuse(self, proto_id: int, serial: int, fmt: int, refused: Refused) -> None:
        fmt = JSON if fmt == JSON else PROTOBUF  # what is in no format at all is answered in protobuf
        self.send(proto_id, serial, fmt, replies.refusal(fmt, refused.text))

    def answer(self, row: Row, serial: int, fmt: int, plaintext: bytes) -> None:
        """A protobuf Response, in the format of its request."""
        if fmt == JSON and row.response is not None:
            plaintext = body.serialise(message_class(row.response).FromString(plaintext), JSON)
        self.send(row.id, serial, fmt, plaintext)
