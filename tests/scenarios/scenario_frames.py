"""The TCP door, and what it shares with the WebSocket door: a conversation of requests and answers, paired by serial."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

from scenarios.scenario_doors import DOORS, Answer, Client, ClientGone, answered, protobuf_body, understood
from scenarios.scenario_table import Ask

from sidecar.wire.catalog import CATALOG, INIT_CONNECT, PUSH_IDS
from sidecar.wire.frame import HEADER_SIZE, JSON, PROTOBUF, FrameReader, build
from sidecar.wire.messages import message_class

PATIENCE = 8.0


class Conversation:
    """Requests by serial and their answers; pushes apart. The way bytes travel is the subclasses'."""

    def __init__(self) -> None:
        self.refused: Answer | None = None
        self.conn_id = 0
        self.on_push: Callable[[int, bytes], None] = lambda proto_id, body: None
        self.ended = asyncio.Event()
        self._serials = count(1)
        self._read_answer: Callable[[int, bytes], Answer] = answered
        self._waiting: dict[int, tuple[int, asyncio.Future[Answer]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def _send(self, proto_id: int, serial: int, body: bytes) -> None:
        raise NotImplementedError

    def start_reading(self) -> None:
        self._reading = asyncio.get_running_loop().create_task(self._read_until_the_end())

    async def _read(self) -> None:
        raise NotImplementedError

    async def _read_until_the_end(self) -> None:
        try:
            await self._read()
            self._end(ClientGone("the connection ended"))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self._end(ClientGone(str(error)))
        except asyncio.CancelledError:
            self._end(ClientGone("the client hung up"))
            raise
        except Exception as error:
            self._end(error)
            raise

    def _end(self, error: Exception) -> None:
        self.ended.set()
        for _, waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)

    def came(self, proto_id: int, serial: int, body: bytes) -> None:
        if proto_id in PUSH_IDS:
            if CATALOG[proto_id].response is not None:
                self.on_push(proto_id, body)
            return
        asked, waiting = self._waiting.pop(serial, (0, None))
        if waiting is not None and not waiting.done():
            assert asked == proto_id, f"request {asked} was answered as {proto_id}"
            waiting.set_result(self._read_answer(proto_id, body))

    async def request(self, proto_id: int, body: bytes) -> Answer:
        serial = next(self._serials)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[serial] = (proto_id, waiting)
        await self._send(proto_id, serial, body)
        async with asyncio.timeout(PATIENCE):
            return await waiting

    async def ask(self, ask: Ask) -> Answer:
        return await self.request(ask.proto_id, protobuf_body(ask, (self.conn_id, next(_packet_serials))))

    async def introduce(self, client_id: str) -> None:
        """InitConnect. A bad key is let in and refused everything, so the refusal is that of the first request."""
        request: Any = message_class("InitConnect.Request")()
        request.c2s.clientVer, request.c2s.clientID, request.c2s.recvNotify = 300, client_id, True
        request.c2s.packetEncAlgo = -1
        answer = await self.request(INIT_CONNECT, request.SerializeToString())
        if answer.code is not None:
            self.refused = answer
        else:
            self.conn_id = answer.response.s2c.connID

    async def stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading


_packet_serials = count(1)


def _answered_in_json(_proto_id: int, body: bytes) -> Answer:
    code, message, decision_id = understood(json.loads(body).get("retMsg", ""))
    return Answer(code, message, decision_id)


class TcpClient(Conversation):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._reader, self._writer = reader, writer
        self._fmt = PROTOBUF

    async def _send(self, proto_id: int, serial: int, body: bytes) -> None:
        self._writer.write(build(proto_id, serial, body, fmt=self._fmt))

    async def ask_in_json(self, proto_id: int, text: str) -> Answer:
        """One request whose body is this text, whatever it says; the answer without OpenD's Response."""
        self._fmt, self._read_answer = JSON, _answered_in_json
        return await self.request(proto_id, text.encode())

    async def _read(self) -> None:
        frames = FrameReader(64 * 1024 * 1024)
        while data := await self._reader.read(256 * 1024):
            chunk, heads = frames.receive(data)
            for head in heads:
                self.came(head.proto_id, head.serial, chunk[head.start + HEADER_SIZE : head.stop])

    async def leave(self) -> None:
        self._writer.transport.abort()
        await self.stop_reading()

    async def close(self) -> None:
        await self.leave()


@DOORS.add
class Tcp:
    name: ClassVar[str] = "tcp"
    listener: ClassVar[str] = "tcp"
    iface: ClassVar[str] = "tcp"

    async def connect(self, port: int, key: str | None) -> Client:
        client = TcpClient(*await asyncio.open_connection("127.0.0.1", port))
        client.start_reading()
        await client.introduce("PyNormal" if key is None else key)
        return client
