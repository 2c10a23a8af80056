"""A whole sidecar in front of a sandbox, in one process, and a client that speaks raw frames: what the fault tests stand on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from google.protobuf.message import Message

from sidecar.app import App
from sidecar.keys.secret import hash_of
from sidecar.listener_settings import AdminListener, Listeners, TcpListener, WebSocketListener
from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.settings import Audit, Keys, Limits, Policy, Settings, Upstream
from sidecar.wire import frame
from sidecar.wire.body import serialise
from sidecar.wire.catalog import CATALOG, PUSH_IDS
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.messages import message_class

ALICE = "fc_" + "a1" * 32
"""Trades on paper, with caps."""
BOB = "fc_" + "b0" * 32
"""Another bot on the same paper account."""
CARL = "fc_" + "c4" * 32
"""Reads quotes only."""
DORA = "fc_" + "d0" * 32
"""Reads everything, trades nothing."""
NOBODY = "fc_" + "00" * 32
"""A key that was never made."""

HK_PAPER = 1001001
US_PAPER = 1001002
REAL = 281756455000000001

TENCENT = "00700"

KEYS: tuple[dict[str, Any], ...] = (
    {
        "id": "alice",
        "hash": hash_of(ALICE),
        "scopes": ["qot:read", "trade:simulate"],
        "allowed_markets": ["HK"],
        "allowed_acc_ids": [HK_PAPER],
        "max_order_value": 50_000,
        "max_daily_value": 200_000,
        "max_orders_per_minute": 20,
    },
    {"id": "bob", "hash": hash_of(BOB), "scopes": ["trade:simulate"]},
    {"id": "carl", "hash": hash_of(CARL), "scopes": ["qot:read"]},
    {"id": "dora", "hash": hash_of(DORA), "scopes": ["qot:read", "acc:read"], "allowed_acc_ids": [HK_PAPER]},
)


def write_keys(path: Path, records: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> None:
    """keys.json by atomic rename, as gen-key does it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"version": 1, "keys": list(records)}))
    new.chmod(0o600)
    new.rename(path)


class Closed(Exception):
    """The other side has closed the connection."""


@dataclass(slots=True)
class Received:
    """One frame from the sidecar."""

    proto_id: int
    serial: int
    fmt: int
    body: bytes

    @property
    def response(self) -> Any:
        """The body as its Response message."""
        name = CATALOG[self.proto_id].response
        assert name is not None
        return message_class(name).FromString(self.body)

    @property
    def text(self) -> str:
        """retMsg, in either format."""
        if self.fmt == JSON:
            return str(json.loads(self.body).get("retMsg", ""))
        return str(message_class("KeepAlive.Response").FromString(self.body).retMsg)  # type: ignore[attr-defined]

    @property
    def ret_type(self) -> int:
        if self.fmt == JSON:
            return int(json.loads(self.body)["retType"])
        return int(message_class("KeepAlive.Response").FromString(self.body).retType)  # type: ignore[attr-defined]


class RawClient:
    """Speaks frames, good and bad ones."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.serial = 100
        self.conn_id = 0
        self.pushes: list[Received] = []
        self.others: list[Received] = []

    @classmethod
    async def connect(cls, port: int, *, limit: int = 2**22) -> RawClient:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=limit))

    async def init(self, key: str, *, push_fmt: int = PROTOBUF, serial: int = 1, fmt: int = PROTOBUF) -> Received:
        """InitConnect, and its answer."""
        answer = await self.ask(1001, init_request(key, push_fmt=push_fmt), serial=serial, fmt=fmt)
        if answer.fmt == PROTOBUF and answer.ret_type == 0:
            self.conn_id = answer.response.s2c.connID
        return answer

    def send_bytes(self, data: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # uvloop: the other side has closed
            self.writer.write(data)

    def send(self, proto_id: int, request: Message | bytes, *, serial: int | None = None, fmt: int = PROTOBUF) -> int:
        """One well-formed frame; returns its serial."""
        if serial is None:
            self.serial += 1
            serial = self.serial
        body = request if isinstance(request, bytes) else serialise(request, fmt)
        self.send_bytes(frame.build(proto_id, serial, body, fmt=fmt))
        return serial

    async def receive(self, timeout: float = 5.0) -> Received:
        """The next frame, whatever it is. Raises Closed, TimeoutError."""
        async with asyncio.timeout(timeout):
            try:
                head = await self.reader.readexactly(frame.HEADER_SIZE)
                _, proto_id, fmt, _, serial, length, digest, _ = frame.HEADER.unpack(head)
                body = await self.reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Closed(str(error)) from None
        assert frame.digest(body) == digest, "the sidecar sent a frame with a wrong SHA-1"
        return Received(proto_id, serial, fmt, body)

    async def answer_to(self, proto_id: int, serial: int, timeout: float = 5.0) -> Received:
        """The answer to one request; pushes and other answers on the way are kept aside."""
        for index, kept in enumerate(self.others):
            if kept.proto_id == proto_id and kept.serial == serial:
                return self.others.pop(index)
        async with asyncio.timeout(timeout):
            while True:
                got = await self.receive(timeout)
                if got.proto_id == proto_id and got.serial == serial:
                    return got
                (self.pushes if got.proto_id in PUSH_IDS else self.others).append(got)

    async def ask(
        self,
        proto_id: int,
        request: Message | bytes,
        *,
        serial: int | None = None,
        fmt: int = PROTOBUF,
        timeout: float = 5.0,
    ) -> Received:
        return await self.answer_to(proto_id, self.send(proto_id, request, serial=serial, fmt=fmt), timeout)

    async def place(self, *, timeout: float = 5.0, **changes: Any) -> Received:
        return await self.ask(2202, self.order(**changes), timeout=timeout)

    def order(self, **changes: Any) -> Any:
        """A Trd_PlaceOrder.Request under this connection's packetID."""
        self.serial += 1
        return order(conn_id=self.conn_id, packet_serial=self.serial, **changes)

    async def ended(self, timeout: float = 5.0) -> bool:
        """Whether the sidecar closes the connection within `timeout`; what it still sends is read and dropped."""
        try:
            async with asyncio.timeout(timeout):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    async def close(self) -> None:
        """Hang up, whatever is unsent."""
        self.writer.transport.abort()
        await asyncio.sleep(0)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def init_request(key: str, *, push_fmt: int = PROTOBUF) -> Any:
    request: Any = message_class("InitConnect.Request")()
    request.c2s.clientVer, request.c2s.clientID = 300, key
    request.c2s.recvNotify, request.c2s.packetEncAlgo = True, -1
    request.c2s.pushProtoFmt, request.c2s.programmingLanguage = push_fmt, "Python"
    return request


def order(
    *,
    conn_id: int = 0,
    packet_serial: int = 1,
    acc_id: int = HK_PAPER,
    env: int = 0,
    market: int = 1,
    code: str = TENCENT,
    qty: float = 100,
    price: float | None = 300,
    side: int = 1,
    order_type: int = 1,
    sec_market: int | None = 1,
    remark: str | None = None,
    **others: Any,
) -> Any:
    """A Trd_PlaceOrder.Request: buy 100 Tencent at 300 HKD on paper, unless told otherwise; `others` go into c2s."""
    request: Any = message_class("Trd_PlaceOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = conn_id, packet_serial
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = env, acc_id, market
    c2s.trdSide, c2s.orderType, c2s.code, c2s.qty = side, order_type, code, qty
    if price is not None:
        c2s.price = price
    if sec_market is not None:
        c2s.secMarket = sec_market
    if remark is not None:
        c2s.remark = remark
    for name, value in others.items():
        setattr(c2s, name, value)
    return request


def change(
    conn_id: int,
    packet_serial: int,
    *,
    op: int = 2,
    order_id: int = 0,
    order_id_ex: str = "",
    acc_id: int = HK_PAPER,
    env: int = 0,
    market: int = 1,
    **others: Any,
) -> Any:
    """A Trd_ModifyOrder.Request; a cancel unless told otherwise."""
    request: Any = message_class("Trd_ModifyOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = conn_id, packet_serial
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = env, acc_id, market
    c2s.modifyOrderOp, c2s.orderID = op, order_id
    if order_id_ex:
        c2s.orderIDEx = order_id_ex
    for name, value in others.items():
        setattr(c2s, name, value)
    return request


def about_account(proto_id: int, *, acc_id: int = HK_PAPER, env: int = 0, market: int = 1) -> Any:
    """Any request whose c2s has a TrdHeader and nothing else that is required."""
    name = CATALOG[proto_id].request
    assert name is not None
    request: Any = message_class(name)()
    head = request.c2s.header
    head.trdEnv, head.accID, head.trdMarket = env, acc_id, market
    return request


def keep_alive() -> Any:
    request: Any = message_class("KeepAlive.Request")()
    request.c2s.time = 1
    return request


def global_state() -> Any:
    request: Any = message_class("GetGlobalState.Request")()
    request.c2s.userID = 0
    return request


def raw_frame(
    proto_id: int, serial: int, body: bytes, *, fmt: int = PROTOBUF, magic: bytes = b"FT", length: int | None = None,
    digest: bytes | None = None,
) -> bytes:  # fmt: skip
    """A frame with any part of its header wrong."""
    size = len(body) if length is None else length
    sha = frame.digest(body) if digest is None else digest
    return struct.pack("<2sIBBII20s8s", magic, proto_id, fmt, 0, serial, size, sha, bytes(8)) + body


@dataclass(slots=True)
class World:
    """A running sidecar and its OpenD."""

    app: App
    sandbox: Sandbox
    folder: Path
    operator_log: list[Any]
    """What the operator would read on stderr, as structlog's event dicts."""
    loop_errors: list[dict[str, Any]] = field(default_factory=list)
    _clients: list[RawClient] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.app.doors.ports["tcp"][0]

    @property
    def keys_file(self) -> Path:
        return self.folder / "keys.json"

    @property
    def audit_file(self) -> Path:
        return self.folder / "audit.jsonl"

    async def client(self, key: str | None = None, *, port: int | None = None, **init: Any) -> RawClient:
        """A connected client; with a key, past its InitConnect."""
        client = await RawClient.connect(self.port if port is None else port)
        self._clients.append(client)
        if key is not None:
            answer = await client.init(key, **init)
            assert answer.ret_type == 0, answer.text
        return client

    def orders_received(self) -> list[Any]:
        """What reached OpenD and could move money."""
        return [record for number in (2202, 2205, 2209, 2227) for record in self.sandbox.received.of(number)]

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_file.read_text().splitlines()]

    async def until(self, holds: Callable[[], Any], timeout: float = 5.0) -> None:
        """Wait until something is true, or fail."""
        async with asyncio.timeout(timeout):
            while not holds():
                await asyncio.sleep(0.02)

    def assert_calm(self) -> None:
        """Nothing unexpected was raised anywhere: no traceback would have been printed."""
        assert not self.loop_errors, self.loop_errors
        raised = [entry for entry in self.operator_log if entry.get("exc_info")]
        assert not raised, raised

    async def assert_serves(self, key: str = CARL) -> None:
        """The process lives and another client is served."""
        async with await self.client(key) as other:
            assert (await other.ask(1002, global_state())).ret_type == 0

    async def close_clients(self) -> None:
        for client in self._clients:
            await client.close()


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    keys: tuple[dict[str, Any], ...] = KEYS,
    sandbox: SandboxSettings | None = None,
    upstream: Upstream | None = None,
    limits: Limits | None = None,
    policy: Policy | None = None,
    listeners: tuple[TcpListener, ...] = (TcpListener(port=0),),
    websocket: WebSocketListener | None = None,
    upstream_port: int | None = None,
    calm: bool = True,
    **settings: Any,
) -> AsyncIterator[World]:
    """A sandbox and a sidecar in front of it until the block ends. `calm`: fail where anything was raised unexpectedly."""
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    previous = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    write_keys(folder / "keys.json", keys)
    quiet = SandboxSettings(port=0, tick_interval=0.0, limits=False)
    with structlog.testing.capture_logs() as log:
        async with Sandbox(replace(sandbox or quiet, port=0)) as opend:
            port = opend.port if upstream_port is None else upstream_port
            app = App(
                Settings(
                    upstream=replace(upstream or Upstream(connect_timeout=2.0), port=port),
                    keys=Keys(file=folder / "keys.json", timezone="UTC"),
                    state_dir=folder / "state",
                    audit=settings.pop("audit", None) or Audit(file=folder / "audit.jsonl", min_free=1024),
                    listeners=Listeners(
                        tcp=listeners, admin=AdminListener(port=0), websocket=websocket, rest=None, grpc=None, mcp=None
                    ),
                    limits=limits or Limits(),
                    policy=policy or Policy(),
                    drain=settings.pop("drain", 1.0),
                    **settings,
                )
            )
            world = World(app, opend, folder, log, errors)
            task = loop.create_task(app.run())
            started = loop.create_task(app.started.wait())
            try:
                await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
                started.cancel()
                if task.done():
                    await task
                if upstream_port is None:
                    await world.until(lambda: app.house.up)
                yield world
                assert not task.done(), "the sidecar ended by itself"
                if calm:
                    world.assert_calm()
            finally:
                await world.close_clients()
                app.stop()
                try:
                    await asyncio.wait_for(task, 15)
                finally:
                    loop.set_exception_handler(previous)
