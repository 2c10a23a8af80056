"""The replies we make ourselves: a refusal that fits every request, and a bare success. Bodies, not frames."""

from __future__ import annotations

import json
from functools import cache

from sidecar.errors import BodyError
from sidecar.wire.body import serialise
from sidecar.wire.frame import JSON
from sidecar.wire.messages import message_class

FAILED = -1
"""Common.RetType_Failed: the SDKs hand `retMsg` to the caller as it is."""

MAX_TEXT_BYTES = 1024

_RET_TYPE_FAILED = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
_RET_MSG = b"\x12"
_ERR_CODE = b"\x18"


def refusal(fmt: int, text: str, err_code: int = 0) -> bytes:
    """A `Response` with retType -1, right for every request: all of OpenD's replies begin with the same three fields.

    `fmt` is the request's: the SDKs wait in vain for an answer in another format. `text` is cut to 1024 bytes of UTF-8;
    the Python SDK does not show `err_code`, so codes belong into the text (protocol facts, section 6). Never empty.
    """
    message = _cut(text)
    if fmt == JSON:
        return json.dumps(
            {"retType": FAILED, "retMsg": message.decode(), "errCode": err_code}, separators=(",", ":")
        ).encode()
    body = _RET_TYPE_FAILED + _RET_MSG + _varint(len(message)) + message
    return body + _ERR_CODE + _varint(err_code & 0xFFFF_FFFF_FFFF_FFFF) if err_code else body


@cache
def success(message_name: str, fmt: int) -> bytes:
    """A `Response` with retType 0 and, where the message has one, an empty s2c; e.g. of `Trd_UnlockTrade.Response`.

    Raises ValueError for a reply whose s2c cannot be empty: there is something to say which we do not know.
    """
    reply = message_class(message_name)()
    fields = reply.DESCRIPTOR.fields_by_name
    reply.retType = 0  # type: ignore[attr-defined]  # every reply has it; the class is only known at run time
    reply.retMsg = ""  # type: ignore[attr-defined]
    reply.errCode = 0  # type: ignore[attr-defined]
    if "s2c" in fields:
        reply.s2c.SetInParent()  # type: ignore[attr-defined]
    try:
        return serialise(reply, fmt)
    except BodyError as error:
        raise ValueError(f"`{message_name}` cannot be an empty success: {error}") from None


def _cut(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= MAX_TEXT_BYTES:
        return encoded
    return encoded[:MAX_TEXT_BYTES].decode("utf-8", "ignore").encode()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
