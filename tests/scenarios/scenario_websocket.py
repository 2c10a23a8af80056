"""The WebSocket door, in both of its framings: OpenD's frames as messages, and the official JavaScript SDK's."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, ClassVar

import aiohttp
from scenarios.scenario_doors import DOORS, Answer, Client, ClientGone, understood
from scenarios.scenario_frames import Conversation
from scenarios.scenario_messages import LoginRequest, LoginResponse

from sidecar.wire.frame import HEADER_SIZE, FrameReader, build

TOO_BIG = 1009


class WebSocketClient(Conversation):
    """`session` is its own and ends with it."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse | None) -> None:
        super().__init__()
        self._session, self._socket = session, socket
        self.closed_with: tuple[int, str] | None = None
        """Code and reason of the other side's close frame."""

    async def request(self, proto_id: int, body: bytes) -> Answer:
        try:
            return await super().request(proto_id, body)
        except ClientGone:
            if self.closed_with is None:
                raise
            number, reason = self.closed_with
            code, message, decision_id = understood(reason)
            if number == TOO_BIG:
                code = "body_too_large"
            return Answer(code, message, decision_id, native=number, by_closing=True)

    async def _send_message(self, data: bytes) -> None:
        if self._socket is None or self._socket.closed:
            raise ClientGone("the connection has ended")
        try:
            await self._socket.send_bytes(data)
        except ConnectionError as error:
            await self.ended.wait()  # it may have been told why
            raise ClientGone(str(error)) from None

    async def _read(self) -> None:
        assert self._socket is not None
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                self.received(message.data)
                continue
            if message.type is aiohttp.WSMsgType.CLOSE:
                self.closed_with = (message.data, message.extra or "")
            return

    def received(self, data: bytes) -> None:
        raise NotImplementedError

    async def leave(self) -> None:
        """Without a closing handshake."""
        connection = None if self._socket is None else self._socket._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        await self.stop_reading()
        await self._session.close()

    async def close(self) -> None:
        await self.leave()


async def upgraded(port: int, headers: dict[str, str]) -> tuple[aiohttp.ClientSession, Any]:
    """A session with its socket, or with the Answer that refuses the upgrade."""
    refused: list[Answer] = []

    async def read_refusal(_session: Any, _context: Any, params: aiohttp.TraceRequestEndParams) -> None:
        if params.response.status != 101:
            code, message, decision_id = understood(await params.response.text())
            refused.append(Answer(code, message, decision_id, native=params.response.status))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(read_refusal)
    session = aiohttp.ClientSession(trace_configs=[trace])
    try:
        return session, await session.ws_connect(f"ws://127.0.0.1:{port}/", headers=headers, max_msg_size=0)
    except aiohttp.WSServerHandshakeError:
        return session, refused[0]


class WsFrames(WebSocketClient):
    """One message = one whole frame."""

    async def _send(self, proto_id: int, serial: int, body: bytes) -> None:
        await self._send_message(build(proto_id, serial, body))

    def received(self, data: bytes) -> None:
        frames = FrameReader(64 * 1024 * 1024)
        chunk, heads = frames.receive(data)
        assert len(heads) == 1, "one message is one frame"
        for head in heads:
            self.came(head.proto_id, head.serial, chunk[head.start + HEADER_SIZE : head.stop])


@DOORS.add
class WebSocketFrames:
    name: ClassVar[str] = "ws-frames"
    listener: ClassVar[str] = "websocket"
    iface: ClassVar[str] = "ws"

    async def connect(self, port: int, key: str | None) -> Client:
        session, socket = await upgraded(port, {} if key is None else {"Authorization": f"Bearer {key}"})
        if isinstance(socket, Answer):
            client = WsFrames(session, None)
            client.refused = socket
            return client
        client = WsFrames(session, socket)
        client.start_reading()
        await client.introduce("PyNormal")
        return client


_REQUEST, _REPLY = struct.Struct(">8sIQ"), struct.Struct(">8sIQi20s")
_SIGN = b"ft-v1.0\0"
_LOGIN = 1


class WsJavaScript(WebSocketClient):
    """As the official JavaScript SDK writes and reads it; a login that fails is final."""

    async def _send(self, proto_id: int, serial: int, body: bytes) -> None:
        await self._send_message(_REQUEST.pack(_SIGN, proto_id, serial) + body)

    def received(self, data: bytes) -> None:
        sign, command, section, error, _ = _REPLY.unpack_from(data)
        assert sign == _SIGN
        body = data[_REPLY.size :]
        assert body, "the SDK never resolves an answer without a body"
        if command != _LOGIN:
            self.came(command, section, body)
            return
        _, waiting = self._waiting.pop(section)
        reply = LoginResponse.FromString(body)
        assert (error != 0) == (reply.retType != 0)
        code, message, decision_id = understood(reply.retMsg)
        waiting.set_result(Answer(code, message, decision_id, reply))

    async def login(self, key: str | None) -> None:
        request = LoginRequest()
        request.c2s.websocketKey = "" if key is None else hashlib.md5(key.encode()).hexdigest()
        request.c2s.programmingLanguage = "JavaScript"
        answer = await self.request(_LOGIN, request.SerializeToString())
        if answer.code is not None:
            self.refused = answer
        else:
            self.conn_id = answer.response.s2c.connID


@DOORS.add
class WebSocketJavaScript:
    name: ClassVar[str] = "ws-js"
    listener: ClassVar[str] = "websocket"
    iface: ClassVar[str] = "ws"

    async def connect(self, port: int, key: str | None) -> Client:
        session, socket = await upgraded(port, {})
        client = WsJavaScript(session, socket)
        client.start_reading()
        await client.login(key)
        return client
