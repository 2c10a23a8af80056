"""`GET /ws`: who may listen, what is said, and how it ends. With a whole sidecar and a real WebSocket client."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from live import LiveApp, LiveSandbox, Stage, eventually
from rest_client import PAPER_HK, RestClient, order

from sidecar.listeners.rest import stream as rest_stream
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

TRADER = ("qot:read", "trade:simulate")
BASIC, TICKER, ORDER_BOOK = 1, 4, 2


class Scene:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.keys = {
            "reader": stage.keys.add("reader", "qot:read"),
            "other": stage.keys.add("other", "qot:read"),
            "alice": stage.keys.add("alice", *TRADER, allowed_acc_ids=[PAPER_HK]),
            "bob": stage.keys.add("bob", *TRADER),
            "slow": stage.keys.add("slow", "qot:read"),
        }
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        rest = {"port": 0, "allowed_origins": ["https://app.example.com"]}
        self.app: LiveApp = stage.app(
            self.sandbox.port,
            listeners={"rest": rest, "websocket": "off", "grpc": "off", "mcp": "off"},
            limits={"client_buffer": "64 KiB", "client_stall": 1},
        )
        self.port = self.app.doors["rest"]

    def rest(self, name: str) -> RestClient:
        return RestClient(self.port, self.keys[name])

    def subscribe(self, name: str, *sub_types: int) -> None:
        fields = {"security_list": ["HK.00700"], "sub_type_list": list(sub_types), "is_reg_or_un_reg_push": True}
        answer = self.rest(name).post("/api/subscribe", fields)
        assert answer.json["ret_type"] == 0, answer.raw

    @asynccontextmanager
    async def listen(self, name: str, query: str = "", **more: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        url = f"ws://127.0.0.1:{self.port}/ws?token={self.keys[name]}{query}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, **more) as line:
            yield line

    def metric(self, name: str, **labels: str) -> float:
        return self.app.metric(name, **labels)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("rest-ws")) as stage:
        yield Scene(stage)


async def status(scene: Scene, query: str, **headers: str) -> tuple[int, str]:
    """The HTTP status and code with which a handshake is refused; (101, "") where it is not."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(f"ws://127.0.0.1:{scene.port}/ws{query}", headers=headers):
                return 101, ""
        except aiohttp.WSServerHandshakeError as refused:
            answer = await asyncio.to_thread(
                RestClient(scene.port).request, "GET", f"/ws{query}", headers={**HANDSHAKE, **headers}
            )
            assert answer.status == refused.status
            return answer.status, answer.code or ""


HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}  # fmt: skip


async def test_the_key_may_be_in_the_url_or_in_the_header_or_the_same_one_in_both(scene: Scene) -> None:
    key, bearer = scene.keys["reader"], {"Authorization": f"Bearer {scene.keys['reader']}"}
    assert await status(scene, f"?token={key}") == (101, "")
    assert await status(scene, "", **bearer) == (101, "")
    assert await status(scene, f"?token={key}", **bearer) == (101, "")
    assert await status(scene, f"?token={scene.keys['other']}", **bearer) == (400, "malformed_request")


async def test_a_bad_key_is_a_401_before_the_upgrade_and_never_falls_back(scene: Scene) -> None:
    assert await status(scene, "") == (401, "key_missing")
    assert await status(scene, "?token=") == (401, "key_missing")
    assert await status(scene, "?token=fc_" + "0" * 64) == (401, "key_unknown")
    assert await status(scene, "", Authorization="Basic eDp5") == (401, "key_missing")
    good = scene.keys["reader"]
    assert (await status(scene, f"?token={good}", Authorization="Bearer fc_" + "0" * 64))[0] == 400
    assert await status(scene, f"?token={good}&token={good}") == (400, "malformed_request")


async def test_only_pages_that_are_named_may_connect(scene: Scene) -> None:
    key = scene.keys["reader"]
    assert (await status(scene, f"?token={key}", Origin="https://evil.example"))[0] == 403
    assert (await status(scene, f"?token={key}", Origin="null"))[0] == 403
    assert (await status(scene, f"?token={key}", Origin=f"http://127.0.0.1:{scene.port}"))[0] == 403
    assert await status(scene, f"?token={key}", Origin="https://app.example.com") == (101, "")


async def test_what_it_does_not_know_is_refused(scene: Scene) -> None:
    key = scene.keys["reader"]
    assert await status(scene, f"?token={key}&body=xml") == (400, "malformed_request")
    assert await status(scene, f"?token={key}&symbols=HK.00700") == (400, "malformed_request")
    plain = await asyncio.to_thread(scene.rest("reader").get, "/ws")
    assert (plain.status, plain.code) == (400, "malformed_request")


async def test_a_quote_is_pushed_with_its_labels_and_the_whole_protobuf_response(scene: Scene) -> None:
    async with scene.listen("reader") as line:
        await asyncio.to_thread(scene.subscribe, "reader", BASIC)
        scene.sandbox.set_price("HK.00700", "401.2")
        async with asyncio.timeout(5):
            while True:
                said = json.loads((await line.receive()).data)
                response = message_class("Qot_UpdateBasicQot.Response").FromString(base64.b64decode(said["body_b64"]))
                if response.s2c.basicQotList[0].curPrice == 401.2:  # type: ignore[attr-defined]
                    break
    assert {name: said[name] for name in said if name != "body_b64"} == {
        "type": "quote", "proto_id": 3005, "sec_key": "HK.00700", "sub_type": BASIC
    }  # fmt: skip


async def test_with_body_json_the_push_is_readable(scene: Scene) -> None:
    async with scene.listen("reader", "&body=json") as line:
        await asyncio.to_thread(scene.subscribe, "reader", BASIC, TICKER)
        scene.sandbox.set_price("HK.00700", "402.4", 500)
        async with asyncio.timeout(5):
            while True:
                said = json.loads((await line.receive()).data)
                assert "body_b64" not in said
                if said["proto_id"] == catalog.UPDATE_TICKER and said["s2c"]["ticker_list"][-1]["price"] == 402.4:
                    break
    assert said["s2c"]["security"] == {"market": 1, "code": "00700"}
    assert (said["sub_type"], said["s2c"]["ticker_list"][-1]["volume"]) == (TICKER, "100")


async def test_subscriptions_of_a_key_are_seen_by_its_own_streams_only(scene: Scene) -> None:
    async with scene.listen("reader") as mine, scene.listen("reader") as mine_too, scene.listen("other") as theirs:
        await asyncio.to_thread(scene.subscribe, "reader", BASIC)
        scene.sandbox.set_price("HK.00700", "403")
        async with asyncio.timeout(5):
            for line in (mine, mine_too):
                assert json.loads((await line.receive()).data)["type"] == "quote"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await theirs.receive()


async def test_an_orders_pushes_go_to_its_own_key_only_with_its_account(scene: Scene) -> None:
    async with scene.listen("alice", "&body=json") as alice, scene.listen("bob", "&body=json") as bob:
        for name in ("alice", "bob"):
            subscribed = await asyncio.to_thread(
                scene.rest(name).post, "/api/sub-acc-push", {"acc_id_list": [str(PAPER_HK)]}
            )
            assert subscribed.status == 200
        placed = await asyncio.to_thread(scene.rest("alice").post, "/api/order", order())
        async with asyncio.timeout(5):
            said = json.loads((await alice.receive()).data)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.3):
                await bob.receive()
    assert (said["type"], said["proto_id"]) == ("trade", catalog.UPDATE_ORDER)
    assert (said["acc_id"], said["trd_market"], said["sec_key"]) == (str(PAPER_HK), 1, "HK.00700")
    assert said["s2c"]["order"]["order_id"] == placed.s2c["order_id"]
    assert said["s2c"]["header"]["acc_id"] == str(PAPER_HK)


async def test_a_revoked_key_ends_its_streams_within_a_second_and_says_why(scene: Scene) -> None:
    scene.keys["gone"] = scene.stage.keys.add("gone", "qot:read")
    await asyncio.to_thread(scene.app.wait_keys)
    async with scene.listen("gone") as line, scene.listen("reader") as other:
        scene.stage.keys.remove("gone")
        await asyncio.to_thread(scene.app.wait_keys)
        async with asyncio.timeout(1):
            said = await line.receive()
        assert said.type is aiohttp.WSMsgType.CLOSE
        assert said.data == 1008
        assert "key_revoked" in said.extra
        assert not other.closed
        await other.ping()


async def test_a_client_that_sends_something_is_told_and_closed(scene: Scene) -> None:
    for send in ("send_str", "send_bytes"):
        async with scene.listen("reader") as line:
            await getattr(line, send)("hello" if send == "send_str" else b"hello")
            async with asyncio.timeout(2):
                said = await line.receive()
            assert (said.type, said.data) == (aiohttp.WSMsgType.CLOSE, 1008)
    async with scene.listen("reader") as line:
        await line.send_bytes(b"x" * 100_000)
        async with asyncio.timeout(2):
            said = await line.receive()
        assert (said.type, said.data) == (aiohttp.WSMsgType.CLOSE, 1009)


async def test_pings_are_answered_and_clients_are_counted(scene: Scene) -> None:
    def connected() -> float:
        return scene.metric("sidecar_client_connections", iface="rest")

    before = await asyncio.to_thread(connected)
    async with scene.listen("reader", autoping=False) as line:
        assert await asyncio.to_thread(connected) == before + 1
        await line.ping(b"there?")
        async with asyncio.timeout(2):
            answer = await line.receive()
        assert (answer.type, bytes(answer.data)) == (aiohttp.WSMsgType.PONG, b"there?")
    await asyncio.to_thread(eventually, lambda: connected() == before)


async def test_compression_is_not_offered(scene: Scene) -> None:
    async with scene.listen("reader", compress=15) as line:
        assert not line.compress


def test_a_frame_that_is_broken_ends_the_stream(scene: Scene) -> None:
    for frame in (b"\xff\xff\xff\xff", b"\x81\x05hello", b"\x83\x80\0\0\0\0", b"\x89\xfe\xff\xff" + bytes(4)):
        with raw_stream(scene, "reader") as line:
            line.sendall(frame)
            line.settimeout(3)
            seen = b""
            while part := line.recv(1000):
                seen += part
            assert seen[:1] == b"\x88", frame


def raw_stream(scene: Scene, name: str, *, receive_buffer: int | None = None) -> socket.socket:
    line = socket.socket()
    if receive_buffer is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    line.settimeout(5)
    line.connect(("127.0.0.1", scene.port))
    fields = {**HANDSHAKE, "Host": "x", "Authorization": f"Bearer {scene.keys[name]}"}
    head = "".join(f"{field}: {value}\r\n" for field, value in fields.items())
    line.sendall(f"GET /ws HTTP/1.1\r\n{head}\r\n".encode())
    seen = b""
    while not seen.endswith(b"\r\n\r\n"):
        seen += line.recv(1)
    assert b" 101 " in seen, seen
    return line


def test_a_client_that_does_not_read_is_cut_and_the_others_are_not(scene: Scene) -> None:
    def cut() -> float:
        return scene.metric("sidecar_clients_cut_total", reason="slow_client")

    before = cut()
    prices = [f"{300 + number % 100}" for number in range(400)]

    def flood() -> None:
        for price in prices:
            scene.sandbox.sandbox.set_price("HK.00700", price, 100)

    with raw_stream(scene, "slow", receive_buffer=4096) as line:
        scene.subscribe("slow", BASIC, TICKER, ORDER_BOOK)

        def gone() -> bool:
            scene.sandbox.do(flood)
            return cut() > before

        eventually(gone, 15, "the slow client to be cut")
        assert scene.rest("slow").post("/api/global-state").status == 200
        line.settimeout(5)
        with pytest.raises(ConnectionError):
            while line.recv(1 << 20):
                pass
            raise ConnectionError("closed")


async def test_a_client_that_vanishes_leaves_nothing_behind(scene: Scene) -> None:
    def streams() -> int:
        return scene.app.do(lambda: sum(len(desk.streams) for desk in scene.app.app.desks._desks.values()))

    await asyncio.to_thread(eventually, lambda: streams() == 0)
    line = await asyncio.to_thread(raw_stream, scene, "reader")
    assert await asyncio.to_thread(streams) == 1
    line.close()
    await asyncio.to_thread(eventually, lambda: streams() == 0)


async def test_a_client_that_does_not_answer_pings_is_let_go(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_stream, "HEARTBEAT", 0.4)
    async with scene.listen("reader", autoping=False) as line:
        await asyncio.sleep(1.2)
        async with asyncio.timeout(2):
            while (await line.receive()).type is aiohttp.WSMsgType.PING:
                pass
        assert line.closed


def test_the_labels_are_there_even_when_the_body_cannot_be_read() -> None:
    row = catalog.CATALOG[catalog.UPDATE_BASIC_QOT]
    said = json.loads(rest_stream.message_of(row, b"\xff\xff\xff", as_tree=True))
    assert said == {"type": "quote", "proto_id": 3005, "body_b64": base64.b64encode(b"\xff\xff\xff").decode()}


def test_when_the_sidecar_stops_its_streams_are_told(stage: Stage) -> None:
    key = stage.keys.add("bot", "qot:read")
    sandbox = stage.sandbox(tick_interval=0)
    app = stage.app(sandbox.port, listeners={"websocket": "off", "grpc": "off", "mcp": "off"})

    async def follow() -> aiohttp.WSMessage:
        url = f"ws://127.0.0.1:{app.doors['rest']}/ws?token={key}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as line:
            asyncio.get_running_loop().run_in_executor(None, app.stop)
            return await asyncio.wait_for(line.receive(), 5)

    said = asyncio.run(follow())
    assert (said.type, said.data, said.extra) == (aiohttp.WSMsgType.CLOSE, 1001, "the sidecar is stopping")


def test_when_opend_goes_away_the_stream_ends_since_its_subscriptions_are_gone(stage: Stage) -> None:
    key = stage.keys.add("bot", "qot:read")
    sandbox = stage.sandbox(tick_interval=0)
    app = stage.app(sandbox.port, listeners={"websocket": "off", "grpc": "off", "mcp": "off"})

    async def follow() -> tuple[aiohttp.WSMessage, int]:
        url = f"ws://127.0.0.1:{app.doors['rest']}/ws?token={key}"
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url) as line:
                await asyncio.to_thread(sandbox.stop)
                said = await asyncio.wait_for(line.receive(), 5)
            try:
                await session.ws_connect(url)
            except aiohttp.WSServerHandshakeError as refused:
                return said, refused.status
        return said, 101

    said, again = asyncio.run(follow())
    assert (said.type, said.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert again == 503
