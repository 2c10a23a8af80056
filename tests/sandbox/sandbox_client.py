"""A client of the raw protocol for the sandbox's tests: it sends what it is told, wrong things too, and keeps pushes apart."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import count
from typing import Any

from sidecar.sandbox import SandboxSettings
from sidecar.wire import body
from sidecar.wire.catalog import CATALOG, Direction
from sidecar.wire.encryption import Cipher, RsaKey, session_cipher
from sidecar.wire.frame import HEADER_SIZE, PROTOBUF, FrameReader, build, digest
from sidecar.wire.messages import message_class, module

HK, US, SZ = 1, 11, 22
PAPER_HK, PAPER_US, PAPER_FUTURES_HK = 1001001, 1001002, 1001010
REAL = 281756455000000001
TIMEOUT = 3.0

STILL = SandboxSettings(port=0, tick_interval=0, order_latency=0.005)
"""Prices stand still until a test moves them."""


class RawClient:
    """One connection. `ask` sends one request and returns its Response message."""

    def __init__(self, port: int, fmt: int = PROTOBUF) -> None:
        self.port = port
        self.fmt = fmt
        self.cipher: Cipher | None = None
        self.conn_id = 0
        self.serials = count(100, 7)
        self.pushes: dict[int, list[Any]] = defaultdict(list)
        self.arrived: list[int] = []
        """Proto ids of everything received, in order."""
        self._frames: FrameReader = FrameReader(64 * 1024 * 1024)
        self._waiting: list[tuple[int, int, int, bytes]] = []

    async def __aenter__(self) -> RawClient:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def connect(
        self, *, rsa: RsaKey | None = None, algorithm: int | None = -1, push_fmt: int = PROTOBUF, client_id: str = "raw"
    ) -> Any:
        """InitConnect; what follows is encrypted as asked for."""
        request = module("InitConnect").Request()
        request.c2s.clientVer, request.c2s.clientID, request.c2s.recvNotify = 300, client_id, True
        request.c2s.pushProtoFmt = push_fmt
        if algorithm is not None:
            request.c2s.packetEncAlgo = algorithm
        plain = body.serialise(request, self.fmt)
        serial = next(self.serials)
        self.writer.write(build(1001, serial, plain, fmt=self.fmt, ciphertext=rsa.encrypt(plain) if rsa else None))
        clear = rsa is None or algorithm == -1
        self.cipher = None if clear else rsa
        _, _, fmt, raw = await self._next(lambda p, s: (p, s) == (1001, serial))
        answer = body.parse("InitConnect.Response", fmt, raw, strict=True)
        self.conn_id = answer.s2c.connID
        key, iv = answer.s2c.connAESKey.encode(), answer.s2c.aesCBCiv.encode() or None
        self.cipher = None if clear else session_cipher(0 if algorithm is None else algorithm, key, iv)
        return answer

    def send(self, proto_id: int, request: Any, serial: int | None = None) -> int:
        return self.send_raw(proto_id, body.serialise(request, self.fmt), serial)

    def send_raw(self, proto_id: int, plain: bytes, serial: int | None = None, sha: bytes | None = None) -> int:
        serial = next(self.serials) if serial is None else serial
        ciphertext = self.cipher.encrypt(plain) if self.cipher else None
        frame = build(proto_id, serial, plain, fmt=self.fmt, ciphertext=ciphertext)
        if sha is not None:
            frame = frame[:16] + sha + frame[36:]
        self.writer.write(frame)
        return serial

    async def reply(self, proto_id: int, serial: int) -> Any:
        _, _, fmt, raw = await self._next(lambda p, s: (p, s) == (proto_id, serial))
        assert fmt == self.fmt
        row = CATALOG.get(proto_id)
        name = row.response if row is not None and row.response else "KeepAlive.Response"
        return body.parse(name, fmt, raw, strict=False)

    async def ask(self, proto_id: int, **c2s: Any) -> Any:
        """Send c2s fields (dicts and lists stand for messages), wait for the reply."""
        return await self.reply(proto_id, self.send(proto_id, self.request(proto_id, **c2s)))

    def request(self, proto_id: int, **c2s: Any) -> Any:
        request = message_class(CATALOG[proto_id].request or "")()
        request.c2s.SetInParent()
        for name, value in c2s.items():
            _put(request.c2s, name, value)
        return request

    async def write(self, proto_id: int, **c2s: Any) -> Any:
        """A trade write, with a fresh packetID."""
        serial = next(self.serials)
        packet = {"connID": self.conn_id, "serialNo": serial}
        request = self.request(proto_id, packetID=packet, **c2s)
        return await self.reply(proto_id, self.send(proto_id, request, serial))

    async def order(self, acc_id: int = PAPER_HK, code: str = "00700", price: float = 400.0, **more: Any) -> Any:
        """Place one order; 100 to buy at 400 on the paper account unless told otherwise."""
        real = acc_id > 10**9
        c2s = {"trdSide": 1, "orderType": 1, "qty": 100.0, "secMarket": 1, "trdMarket": 1, **more}
        head = {"trdEnv": int(real), "accID": acc_id, "trdMarket": c2s.pop("trdMarket")}
        return await self.write(2202, header=head, code=code, price=price, **c2s)

    async def modify(self, text_id: str, op: int, acc_id: int = PAPER_HK, **more: Any) -> Any:
        head = {"trdEnv": int(acc_id > 10**9), "accID": acc_id, "trdMarket": more.pop("market", 1)}
        return await self.write(2205, header=head, orderID=0, orderIDEx=text_id, modifyOrderOp=op, **more)

    async def orders(self, acc_id: int = PAPER_HK, market: int = 1) -> list[Any]:
        head = {"trdEnv": int(acc_id > 10**9), "accID": acc_id, "trdMarket": market}
        answer = await self.ask(2201, header=head)
        assert answer.retType == 0, answer.retMsg
        return list(answer.s2c.orderList)

    async def push(self, proto_id: int) -> Any:
        """The next push of a kind."""
        while not self.pushes[proto_id]:
            await self._receive()
        return self.pushes[proto_id].pop(0)

    async def order_push(self, status: int) -> Any:
        """Pushes of orders until one has the status; its Order."""
        while True:
            order = (await self.push(2208)).s2c.order
            if order.orderStatus == status:
                return order

    async def closed(self) -> bool:
        """Whether the other side closes the connection."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    if not await self.reader.read(65536):
                        return True
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    async def _next(self, wanted: Any) -> tuple[int, int, int, bytes]:
        while True:
            for index, frame in enumerate(self._waiting):
                if wanted(frame[0], frame[1]):
                    return self._waiting.pop(index)
            await self._receive()

    async def _receive(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            data = await self.reader.read(1 << 20)
        if not data:
            raise ConnectionResetError("the sandbox closed the connection")
        chunk, heads = self._frames.receive(data)
        for head in heads:
            raw = chunk[head.start + HEADER_SIZE : head.stop]
            if self.cipher is not None:
                raw = self.cipher.decrypt(raw)
            assert digest(raw) == head.digest
            self.arrived.append(head.proto_id)
            row = CATALOG.get(head.proto_id)
            if row is not None and row.direction is Direction.PUSH:
                self.pushes[head.proto_id].append(body.parse(row.response or "", head.fmt, raw, strict=True))
            else:
                self._waiting.append((head.proto_id, head.serial, head.fmt, raw))


def security(code: str, market: int = HK) -> dict[str, Any]:
    return {"market": market, "code": code}


def _put(message: Any, name: str, value: Any) -> None:
    if isinstance(value, dict):
        getattr(message, name).SetInParent()
        for inner, part in value.items():
            _put(getattr(message, name), inner, part)
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, dict):
                entry = getattr(message, name).add()
                for inner, leaf in part.items():
                    _put(entry, inner, leaf)
            else:
                getattr(message, name).append(part)
    else:
        setattr(message, name, value)
