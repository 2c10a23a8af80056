"""What a handler may answer. Knows no request and sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message import Message

from sidecar.sandbox.session import Session
from sidecar.wire.messages import module

if TYPE_CHECKING:

    class Request(Message):
        """What every generated request class has."""

        c2s: Any

    class Response(Message):
        """What every generated response class has."""

        retType: int
        retMsg: str
        errCode: int
        s2c: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal in OpenD's manner: retType -1 and a text for people."""

    text: str


Answer = Message | bytes | Failure
"""A Response message, the protobuf bytes of one, or a refusal."""

Handler = Callable[[Session, Any], Answer]
"""Takes the session and the request's `c2s`."""

NOT_SUPPORTED = Failure("not supported by the sandbox")


def response(name: str) -> Response:
    """A successful, still empty `<name>.Response`."""
    return cast("Response", module(name).Response(retType=0, retMsg="", errCode=0))


def wrapped(parts: list[bytes]) -> bytes:
    """The protobuf bytes of a successful Response whose s2c has field 1 repeated with these serialised messages."""
    content = b"".join([b"\x0a" + _varint(len(part)) + part for part in parts])
    return b"\x08\x00\x12\x00\x18\x00\x22" + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
