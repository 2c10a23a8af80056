"""What one WebSocket message holds, in either framing: the official JavaScript SDK's, or a whole frame of OpenD's TCP protocol.
Bytes in, frames out; no sockets, no keys.

The JavaScript SDK's layout (big-endian, packed; protocol facts, section 3): a request is `ft-v1.0` and a zero byte, u32
command, u64 section, protobuf body; a reply has i32 error and 20 bytes of text between section and body. Commands are
OpenD's proto ids, save those below 100. A reply carries its request's section; what has another one is a push.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from sidecar.errors import BodyError, WireError
from sidecar.wire import frame, replies
from sidecar.wire.catalog import INIT_WEBSOCKET
from sidecar.wire.frame import HEADER, HEADER_SIZE, JSON, MAGIC, PROTOBUF, Head

SIGN = b"ft-v1.0\0"
REQUEST_HEADER = struct.Struct(">8sIQ")
REPLY_HEADER = struct.Struct(">8sIQi20s")

OPEND_DISCONNECTED = 2
"""The command of the push that says the link to OpenD is lost."""
JS_FIRST_SERIAL = 1
"""That of the InitConnect which the SDK does not send."""
PUSHED = 0
"""The section of a push; the SDK counts its own from 2."""

_LOST_OPEND = 3
"""WEBSOCKET_ERROR_DISCONNECT of the SDK."""
_WHOLE_BINARY = 0x82
_HEADER_16, _HEADER_64 = struct.Struct(">BBH"), struct.Struct(">BBQ")
_DIGEST = slice(16, 36)
_EMPTY_ANSWER = "[sidecar:upstream_unavailable] OpenD's answer was empty"


class UnfitMessage(WireError):
    """A message with a header that can be read and a body that cannot be taken. It is answered (`Framing.answer`), and the
    connection may go on: the next message begins anew.

    `code` is `malformed_request` or `body_too_large`; `number` the serial or the section.
    """

    def __init__(self, code: str, proto_id: int, fmt: int, number: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.proto_id = proto_id
        self.fmt = JSON if fmt == JSON else PROTOBUF
        self.number = number


class JsRequest(NamedTuple):
    """One message of the JavaScript SDK."""

    command: int
    section: int
    body: bytes


def speaks_javascript(message: bytes) -> bool:
    """Whether a connection's first message is the JavaScript SDK's."""
    return message.startswith(SIGN)


def read_js_request(message: bytes, cap: int) -> JsRequest:
    """`cap`: the largest body, in bytes. Raises WireError, where there is a header UnfitMessage."""
    if len(message) < REQUEST_HEADER.size:
        raise WireError(f"a message of {len(message)} bytes is shorter than its header of {REQUEST_HEADER.size}")
    sign, command, section = REQUEST_HEADER.unpack_from(message)
    if sign != SIGN:
        raise WireError(f"a message must begin with `ft-v1.0`, this one begins with `{message[:8].hex()}`")
    size = len(message) - REQUEST_HEADER.size
    if size > cap:
        raise UnfitMessage("body_too_large", command, PROTOBUF, section, _too_large(command, size, cap))
    return JsRequest(command, section, message[REQUEST_HEADER.size :])


def js_reply(command: int, section: int, body: bytes, *, error: int = 0, errmsg: str = "") -> bytes:
    """One message to the JavaScript SDK. `errmsg` becomes 20 bytes of ASCII: the SDK reads 20 *characters* and would take a
    longer one for the beginning of the body. INVARIANT: `body` is never empty, or the SDK would wait for it for ever."""
    text = errmsg.encode("ascii", "replace")[:20]
    return REPLY_HEADER.pack(SIGN, command, section, error, text) + (body or replies.refusal(PROTOBUF, _EMPTY_ANSWER))


def read_frame(message: bytes, cap: int) -> Head:
    """The one whole frame of OpenD's TCP protocol that a message must be. `cap`: the largest body, in bytes.

    Raises WireError, where there is a header UnfitMessage.
    """
    if message[:2] != MAGIC:
        raise WireError(f"a frame must begin with `FT`, this message begins with `{message[:2].hex()}`")
    if len(message) < HEADER_SIZE:
        raise WireError(f"a message of {len(message)} bytes is shorter than its frame's header of {HEADER_SIZE}")
    _, proto_id, fmt, _, serial, length, digest, _ = HEADER.unpack_from(message)
    if length > cap:
        raise UnfitMessage("body_too_large", proto_id, fmt, serial, _too_large(proto_id, length, cap))
    beyond = len(message) - HEADER_SIZE - length
    if beyond:
        problem = f"{-beyond} bytes are missing" if beyond < 0 else f"{beyond} bytes follow it"
        text = f"a message must be exactly one frame; of a body of {length} bytes {problem}"
        raise UnfitMessage("malformed_request", proto_id, fmt, serial, text)
    return Head(proto_id, fmt, serial, digest, 0, len(message))


def frames_in(data: bytes | memoryview) -> Iterator[memoryview]:
    """The frames of a run of whole frames."""
    view, position = memoryview(data), 0
    while position < len(view):
        stop = position + HEADER_SIZE + HEADER.unpack_from(view, position)[5]
        yield view[position:stop]
        position = stop


def binary_header(message: bytes) -> bytes:
    """What a server sends before a message to make it a WebSocket frame: binary, whole, not masked (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:
        return bytes((_WHOLE_BINARY, size))
    return _HEADER_16.pack(_WHOLE_BINARY, 126, size) if size < 65536 else _HEADER_64.pack(_WHOLE_BINARY, 127, size)


def _too_large(proto_id: int, size: int, cap: int) -> str:
    return f"the body of request {proto_id} is {size} bytes long, the limit is {cap}"


class FrameFraming:
    """A message is a frame of OpenD's TCP protocol, in clear."""

    def __init__(self, cap: int) -> None:
        self._cap = cap

    def take(self, message: bytes, now: float) -> tuple[bytes, Head]:
        """The frame in a message. Raises WireError."""
        return message, read_frame(message, self._cap)

    def give(self, one: memoryview) -> bytes:
        """The message for a frame."""
        return bytes(one)

    def answer(self, unfit: UnfitMessage, body: bytes) -> bytes:
        """The message that answers one that was not taken."""
        return frame.build(unfit.proto_id, unfit.number, body, fmt=unfit.fmt)


class JsFraming:
    """The JavaScript SDK's messages as frames and back: serials, which frames have, for sections, which messages have.

    `cap`: the largest body, in bytes; `now` in seconds, here and in `take`, never going back.
    """

    def __init__(self, cap: int, now: float) -> None:
        self._cap = cap
        self._serial = JS_FIRST_SERIAL
        self._last = now
        self._sections: dict[int, tuple[int, int]] = {}
        """Serial → command and section of a request without its answer."""

    def read(self, message: bytes) -> JsRequest:
        """A request as it is, for the login. Raises WireError."""
        return read_js_request(message, self._cap)

    def take(self, message: bytes, now: float) -> tuple[bytes, Head]:
        """A request as a frame. Raises WireError."""
        request = self.read(message)
        # a session that is silent sends KeepAlives under serials of its own, fewer than one a second: room for them keeps
        # ours the higher ones, and the relay need not renumber
        idle = int(now - self._last)
        self._last = now
        self._serial = serial = min(self._serial + 1 + idle, frame.MAX_SERIAL)
        self._sections[serial] = (request.command, request.section)
        chunk = frame.build(request.command, serial, request.body)
        return chunk, Head(request.command, PROTOBUF, serial, chunk[_DIGEST], 0, len(chunk))

    def give(self, one: memoryview) -> bytes:
        """The message for a frame: a reply under its request's section, anything else as a push."""
        _, proto_id, _, _, serial, _, _, _ = HEADER.unpack_from(one)
        section = PUSHED
        known = self._sections.get(serial)
        # the serials of pushes are OpenD's and may be any
        if known is not None and known[0] == proto_id:
            section = known[1]
            del self._sections[serial]
        return js_reply(proto_id, section, bytes(one[HEADER_SIZE:]))

    def answer(self, unfit: UnfitMessage, body: bytes) -> bytes:
        """The message that answers one that was not taken."""
        return js_reply(unfit.proto_id, unfit.number, body)

    @property
    def unanswered(self) -> int:
        return len(self._sections)


Framing = FrameFraming | JsFraming


# -- the JavaScript SDK's login, of which futu-api for Python has no message -------------------------------------------


def _login_messages() -> tuple[type[Message], type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="sidecar/InitWebSocket.proto", package="InitWebSocket")
    kinds = descriptor_pb2.FieldDescriptorProto
    # IP, Port and RSAPrivateKey (1 to 3) are left out. SECURITY: with them a client would choose whom we connect to
    for name, fields in {
        "C2S": [("websocketKey", 4, kinds.TYPE_STRING, ""), ("programmingLanguage", 6, kinds.TYPE_STRING, "")],
        "Request": [("c2s", 1, kinds.TYPE_MESSAGE, ".InitWebSocket.C2S")],
        "S2C": [("serverTime", 1, kinds.TYPE_INT64, ""), ("connID", 2, kinds.TYPE_UINT64, "")],
        "Response": [
            ("retType", 1, kinds.TYPE_INT32, ""), ("retMsg", 2, kinds.TYPE_STRING, ""),
            ("errCode", 3, kinds.TYPE_INT32, ""), ("s2c", 4, kinds.TYPE_MESSAGE, ".InitWebSocket.S2C"),
        ],
    }.items():  # fmt: skip
        message = file.message_type.add(name=name)
        for field, number, kind, type_name in fields:
            label = kinds.LABEL_REQUIRED if field == "retType" else kinds.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kind, label=label, type_name=type_name or None)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"InitWebSocket.{name}"))
        for name in ("Request", "Response")
    )
    return request, response


LoginRequest, LoginResponse = _login_messages()


def read_login(body: bytes) -> str:
    """The lower-case hex MD5 of the key that a login shows, "" where it shows none. Raises BodyError."""
    try:
        request: Any = LoginRequest.FromString(body)
        md5 = request.c2s.websocketKey
    except DecodeError:
        raise BodyError("malformed_request", "the login is not a protobuf `InitWebSocket.Request`") from None
    if not isinstance(md5, str):  # protobuf gives `bytes` for what is not UTF-8
        raise BodyError("malformed_request", "`websocketKey` of the login is not valid UTF-8")
    return md5


def login_accepted(section: int, server_time: int, conn_id: int) -> bytes:
    """The message that tells the SDK it is in: `server_time` in seconds since 1970, `conn_id` for its packetIDs."""
    response: Any = LoginResponse()
    response.retType = 0
    response.s2c.serverTime, response.s2c.connID = server_time, conn_id
    return js_reply(INIT_WEBSOCKET, section, response.SerializeToString())


def login_refused(section: int, error: int, code: str, text: str) -> bytes:
    """The message that tells the SDK it is not let in. `error`, not 0, is all that its user sees of it; it tries no more."""
    return js_reply(INIT_WEBSOCKET, section, replies.refusal(PROTOBUF, text), error=error, errmsg=code)


def disconnected(text: str) -> bytes:
    """The push that says the link to OpenD is lost."""
    return js_reply(OPEND_DISCONNECTED, PUSHED, replies.refusal(PROTOBUF, text), error=_LOST_OPEND)
