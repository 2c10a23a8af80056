"""Clients of the WebSocket door without an SDK, in both framings: for what the SDK would not send, or not that fast."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import struct
from itertools import count
from typing import Any, Self

import aiohttp

from sidecar.keys.secret import ws_hash_of
from sidecar.wire.catalog import CATALOG, PUSH_IDS
from sidecar.wire.frame import HEADER_SIZE, FrameReader, build
from sidecar.wire.messages import message_class
from sidecar.wire.ws_frame import LoginRequest, LoginResponse

LOGIN, DISCONNECTED = 1, 2
SIGN = b"ft-v1.0\0"
REQUEST, REPLY = struct.Struct(">8sIQ"), struct.Struct(">8sIQi20s")
PAPER_HK = 1001001

_packet_serials = count(1)


def key_with_md5(keys: Any, key_id: str, *scopes: str, **limits: Any) -> str:
    """A new key of the file that the JavaScript SDK can show; its plaintext."""
    plaintext: str = keys.add(key_id, *scopes, **limits)
    keys.change(key_id, ws_hash=ws_hash_of(plaintext))
    return plaintext


class Ended(Exception):
    """The door closed the connection, with this code and reason."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class WsClient:
    """One connection; `ask` waits for the answer, `send` does not. Use as `async with`."""

    def __init__(
        self, port: int, *, key: str | None = None, token: str | None = None, tls: ssl.SSLContext | None = None,
        **headers: str,
    ) -> None:  # fmt: skip
        scheme = "ws" if tls is None else "wss"
        self._url = f"{scheme}://127.0.0.1:{port}/" + (f"?token={token}" if token is not None else "")
        self._tls = tls
        self._headers = {**headers, **({} if key is None else {"Authorization": f"Bearer {key}"})}
        self._session = aiohttp.ClientSession()
        self.conn_id = 0
        self.pushes: list[tuple[int, Any]] = []
        self._answers: dict[int, Any] = {}
        self.order: list[int] = []
        """Serials or sections of the answers, as they came."""

    async def __aenter__(self) -> Self:
        try:
            self.socket = await self._session.ws_connect(
                self._url, headers=self._headers, max_msg_size=0, ssl=self._tls or True
            )
        except aiohttp.ClientError:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.socket.close()
        await self._session.close()

    async def raw(self, data: bytes) -> None:
        await self.socket.send_bytes(data)

    async def read(self, timeout: float = 5.0) -> bytes:
        """The next message. Raises Ended, TimeoutError."""
        message = await self.socket.receive(timeout)
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise Ended(message.data, message.extra or "")
        raise Ended(self.socket.close_code, "")

    async def ended(self, timeout: float = 5.0) -> Ended:
        """How the door closed the connection; what comes before is read."""
        try:
            while True:
                self.take(await self.read(timeout))
        except Ended as end:
            return end

    async def drain(self, seconds: float) -> None:
        """Read whatever comes within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self.take(await self.read(60))
        except TimeoutError:
            pass

    async def send(self, proto_id: int, request: Any) -> int:
        raise NotImplementedError

    def take(self, message: bytes) -> None:
        raise NotImplementedError

    def came(self, proto_id: int, number: int, body: bytes, *, push: bool) -> None:
        row = CATALOG.get(proto_id)
        cls: Any = LoginResponse if proto_id == LOGIN else message_class((row and row.response) or "KeepAlive.Response")
        message = cls()
        message.MergeFromString(body)
        if push:
            self.pushes.append((proto_id, message))
        else:
            self.order.append(number)
            self._answers[number] = message

    async def answer(self, number: int, timeout: float = 5.0) -> Any:
        while number not in self._answers:
            self.take(await self.read(timeout))
        return self._answers[number]

    async def ask(self, proto_id: int, request: Any, timeout: float = 5.0) -> Any:
        return await self.answer(await self.send(proto_id, request), timeout)

    # -- requests -------------------------------------------------------------------------------------------------

    def order_request(
        self, *, price: float = 400, qty: float = 100, code: str = "00700", acc_id: int = PAPER_HK
    ) -> Any:
        """A 2202 that buys a Hong Kong stock in a paper account."""
        request: Any = message_class("Trd_PlaceOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = self.conn_id, next(_packet_serials)
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, acc_id, 1
        c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = 1, 1, code, qty, price, 1
        return request

    def cancel_request(self, order_id_ex: str, *, acc_id: int = PAPER_HK) -> Any:
        request: Any = message_class("Trd_ModifyOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = self.conn_id, next(_packet_serials)
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, acc_id, 1
        c2s.orderID, c2s.orderIDEx, c2s.modifyOrderOp = 0, order_id_ex, 2
        return request


class FrameClient(WsClient):
    """A message is a frame of OpenD's TCP protocol."""

    def __init__(self, port: int, **how: Any) -> None:
        super().__init__(port, **how)
        self._serials = count(1)

    async def send(self, proto_id: int, request: Any) -> int:
        serial = next(self._serials)
        await self.raw(build(proto_id, serial, request.SerializeToString()))
        return serial

    def take(self, message: bytes) -> None:
        chunk, heads = FrameReader(64 * 1024 * 1024).receive(message)
        assert len(heads) == 1
        assert heads[0].stop == len(chunk), "a message is exactly one frame"
        head = heads[0]
        self.came(head.proto_id, head.serial, chunk[HEADER_SIZE:], push=head.proto_id in PUSH_IDS)

    async def introduce(self, client_id: str = "PyNormal", *, push_fmt: int = 0) -> Any:
        request: Any = message_class("InitConnect.Request")()
        request.c2s.clientVer, request.c2s.clientID, request.c2s.recvNotify = 300, client_id, True
        request.c2s.packetEncAlgo, request.c2s.pushProtoFmt = -1, push_fmt
        reply = await self.ask(1001, request)
        self.conn_id = reply.s2c.connID
        return reply


class JsClient(WsClient):
    """As the official JavaScript SDK writes and reads it."""

    def __init__(self, port: int, **how: Any) -> None:
        super().__init__(port, **how)
        self._sections = count(2)
        self.errors: dict[int, tuple[int, str]] = {}
        """Section → error and errmsg of a reply's header."""

    async def send(self, proto_id: int, request: Any) -> int:
        section = next(self._sections)
        await self.raw(REQUEST.pack(SIGN, proto_id, section) + request.SerializeToString())
        return section

    def take(self, message: bytes) -> None:
        sign, command, section, error, errmsg = REPLY.unpack_from(message)
        assert sign == SIGN
        assert len(message) > REPLY.size, "the SDK never resolves an answer without a body"
        self.errors[section] = (error, errmsg.rstrip(b"\0").decode("ascii"))
        self.came(command, section, message[REPLY.size :], push=section == 0)

    async def login(self, key: str | None, *, md5: str | None = None) -> Any:
        request: Any = LoginRequest()
        request.c2s.websocketKey = md5 if md5 is not None else hashlib.md5(key.encode()).hexdigest() if key else ""
        request.c2s.programmingLanguage = "JavaScript"
        reply = await self.ask(LOGIN, request)
        self.conn_id = reply.s2c.connID
        return reply


def global_state() -> Any:
    request: Any = message_class("GetGlobalState.Request")()
    request.c2s.userID = 0
    return request


def code_of(reply: Any) -> str | None:
    """The sidecar's code in a reply; None where it is no refusal of the sidecar."""
    text: str = reply.retMsg
    return text[len("[sidecar:") :].partition("]")[0] if reply.retType == -1 and text.startswith("[sidecar:") else None
