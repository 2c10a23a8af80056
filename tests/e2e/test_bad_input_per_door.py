"""The same bad input at every door that can be given it: the same no, nothing at OpenD, no secret told, nobody else disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError
from live import PLACE_ORDER, LiveSandbox, LiveSidecar, Stage, eventually
from multidict import CIMultiDict, MultiDict
from scenarios.scenario_clients import add_key, at_every_door, order
from scenarios.scenario_doors import Answer, answered, protobuf_body, understood
from scenarios.scenario_frames import Tcp, TcpClient
from scenarios.scenario_messages import FutuRequest, FutuResponse
from scenarios.scenario_rest import snaked
from scenarios.scenario_table import Ask
from scenarios.scenario_websocket import upgraded

from sidecar.wire.frame import HEADER_SIZE, build

STATE = Ask("GetGlobalState", {"userID": 0})


class Doors:
    """A sidecar whose doors are shown anything; `key` is a good one."""

    def __init__(self, sandbox: LiveSandbox, sidecar: LiveSidecar, key: str) -> None:
        self.sandbox, self.sidecar, self.key = sandbox, sidecar, key

    def port(self, name: str) -> int:
        return self.sidecar.port if name == "tcp" else self.sidecar.doors[name]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with Stage(tmp_path_factory.mktemp("bad")) as stage:
        key = add_key(stage.keys, "bot", "qot:read", "trade:simulate")
        sandbox = stage.sandbox(tick_interval=0)
        yield Doors(sandbox, stage.sidecar(sandbox.port), key)


# -- showing a key -----------------------------------------------------------------------------------------------------
# one request with these Authorization headers; the code of the refusal, None where the key was good


async def shown_to_rest(doors: Doors, headers: list[str]) -> str | None:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{doors.port('rest')}/api/global-state"
        async with session.get(url, headers=CIMultiDict(("Authorization", one) for one in headers)) as reply:
            content = await reply.json()
            assert reply.status < 500, content
            code: str | None = content.get("code")
            return code


async def shown_to_mcp(doors: Doors, headers: list[str]) -> str | None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "futu_ping", "arguments": {}}}
    sent = CIMultiDict(
        [("Accept", "application/json, text/event-stream"), *(("Authorization", one) for one in headers)]
    )
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{doors.port('mcp')}/mcp"
        async with session.post(url, json=message, headers=sent) as reply:
            content = await reply.json()
            assert reply.status < 500, content
            return None if "result" in content else str(content["error"]["data"]["code"])


async def shown_to_websocket(doors: Doors, headers: list[str]) -> str | None:
    sent = CIMultiDict(("Authorization", one) for one in headers)
    session, socket = await upgraded(doors.port("websocket"), sent)
    try:
        if isinstance(socket, Answer):
            return socket.code
        # without a key it is the first frame that is refused
        await socket.send_bytes(build(STATE.proto_id, 1, protobuf_body(STATE)))
        data = (await asyncio.wait_for(socket.receive(), 5)).data
        return answered(STATE.proto_id, data[HEADER_SIZE:]).code
    finally:
        await session.close()


async def shown_to_grpc(doors: Doors, headers: list[str]) -> str | None:
    channel = Channel("127.0.0.1", doors.port("grpc"))
    method = UnaryUnaryMethod(channel, "/futu.service.FutuOpenD/Request", FutuRequest, FutuResponse)
    try:
        metadata = MultiDict(("authorization", one) for one in headers)
        await method(FutuRequest(proto_id=STATE.proto_id, body=protobuf_body(STATE)), metadata=metadata, timeout=5)
    except GRPCError as error:
        return understood(error.message or "")[0]
    finally:
        channel.close()
    return None


SHOWN: dict[str, Callable[[Doors, list[str]], Awaitable[str | None]]] = {
    "websocket": shown_to_websocket,
    "rest": shown_to_rest,
    "grpc": shown_to_grpc,
    "mcp": shown_to_mcp,
}
NOBODYS = "fc_" + "5a" * 32
SHOWINGS: dict[str, tuple[list[str], str | None]] = {
    "as it should be": (["Bearer {key}"], None),
    "the scheme in lower case": (["bearer {key}"], None),
    "the scheme in upper case": (["BEARER {key}"], None),
    "two spaces": (["Bearer  {key}"], None),
    "nothing": ([], "key_missing"),
    "the scheme alone": (["Bearer"], "key_missing"),
    "another scheme": (["Basic {key}"], "key_missing"),
    "without a scheme": (["{key}"], "key_missing"),
    "the same key twice": (["Bearer {key}", "Bearer {key}"], "malformed_request"),
    "a good key and a bad one": (["Bearer {key}", f"Bearer {NOBODYS}"], "malformed_request"),
    "a bad key and a good one": ([f"Bearer {NOBODYS}", "Bearer {key}"], "malformed_request"),
    "two keys in one header": (["Bearer {key}, Bearer {key}"], "key_unknown"),
    "a word after it": (["Bearer {key} x"], "key_unknown"),
    "in upper case": (["Bearer {KEY}"], "key_unknown"),
    "cut short": (["Bearer {cut}"], "key_unknown"),
    "a key of nobody": ([f"Bearer {NOBODYS}"], "key_unknown"),
    "a very long one": (["Bearer fc_" + "00" * 2500], "key_unknown"),
}


@pytest.mark.parametrize("showing", SHOWINGS)
async def test_a_key_is_read_alike_by_every_door_that_has_it_in_a_header(showing: str, doors: Doors) -> None:
    headers, expected = SHOWINGS[showing]
    shown = [one.format(key=doors.key, KEY=doors.key.upper(), cut=doors.key[:-1]) for one in headers]
    assert {door: await show(doors, shown) for door, show in SHOWN.items()} == dict.fromkeys(SHOWN, expected)


# -- JSON --------------------------------------------------------------------------------------------------------------
# one body, as text, to every door that reads JSON


async def json_to_tcp(doors: Doors, body: str) -> str | None:
    client = await Tcp().connect(doors.port("tcp"), doors.key)
    assert isinstance(client, TcpClient)
    try:
        packet = f'"c2s": {{"packetID": {{"connID": "{client.conn_id}", "serialNo": 1}}, '
        return (await client.ask_in_json(PLACE_ORDER, body.replace('"c2s": {', packet, 1))).code
    finally:
        await client.close()


async def json_to_rest(doors: Doors, body: str) -> str | None:
    headers = {"Authorization": f"Bearer {doors.key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{doors.port('rest')}/api/order"
        async with session.post(url, data=body.encode(), headers=headers) as reply:
            assert reply.status < 500, await reply.text()
            code: str | None = (await reply.json()).get("code")
            return code


async def json_to_mcp(doors: Doors, body: str) -> str | None:
    headers = {"Authorization": f"Bearer {doors.key}", "Accept": "application/json, text/event-stream"}
    headers["Content-Type"] = "application/json"
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{doors.port('mcp')}/mcp"
        async with session.post(url, data=body.encode(), headers=headers) as reply:
            content = await reply.json()
            assert reply.status < 500, content
    if "error" in content:
        return str(content["error"]["data"]["code"])
    told = content["result"]["structuredContent"]
    return str(told["code"]) if content["result"].get("isError") else None


def of_opend(changed: Callable[[str], str]) -> str:
    return changed(json.dumps({"c2s": order().c2s}))


def of_rest(changed: Callable[[str], str]) -> str:
    return changed(json.dumps({"c2s": snaked(order().c2s)}))


def of_mcp(changed: Callable[[str], str]) -> str:
    arguments = {
        "acc_id": "1001001", "trd_env": 0, "symbol": "HK.00700", "side": 1, "qty": 100.0, "price": 4.0
    }  # fmt: skip
    params = {"name": "futu_place_order", "arguments": arguments}
    return changed(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))


READERS: dict[str, tuple[Callable[..., str], Callable[[Doors, str], Awaitable[str | None]]]] = {
    "tcp": (of_opend, json_to_tcp),
    "rest": (of_rest, json_to_rest),
    "mcp": (of_mcp, json_to_mcp),
}
BODIES: dict[str, tuple[Callable[[str], str], str | None]] = {
    "as it should be": (lambda text: text, None),
    "with line breaks": (lambda text: text.replace(",", ",\n\t"), None),
    "with an escape in a text": (lambda text: text.replace("00700", "\\u0030\\u003070\\u0030"), None),
    "a quantity as 1e2": (lambda text: text.replace("100.0", "1e2"), None),
    "a quantity twice": (lambda text: text.replace('"qty": 100.0', '"qty": 100.0, "qty": 200'), "malformed_request"),
    "a quantity twice, once escaped": (
        lambda text: text.replace('"qty": 100.0', '"qty": 100.0, "\\u0071ty": 100.0'),
        "malformed_request",
    ),
    "a quantity that is none": (lambda text: text.replace("100.0", "NaN"), "malformed_request"),
    "a quantity too large for a double": (lambda text: text.replace("100.0", "1e999"), "malformed_request"),
    "a quantity that is a list": (lambda text: text.replace("100.0", "[100.0]"), "malformed_request"),
    "a quantity that is true": (lambda text: text.replace("100.0", "true"), "malformed_request"),
    "half a body": (lambda text: text[: len(text) // 2], "malformed_request"),
    "something after it": (lambda text: text + "{}", "malformed_request"),
    "a comma too many": (lambda text: text.replace("4.0", "4.0,"), "malformed_request"),
    "single quotes": (lambda text: text.replace('"', "'"), "malformed_request"),
    "a list": (lambda text: f"[{text}]", "malformed_request"),
    "a number": (lambda text: "7", "malformed_request"),
    "null": (lambda text: "null", "malformed_request"),
    "half a character": (lambda text: text.replace("00700", "\\ud800"), "malformed_request"),
    "nested for ever": (lambda text: text.replace("100.0", "[" * 20_000 + "]" * 20_000), "malformed_request"),
    "a number of many digits": (lambda text: text.replace("100.0", "1" * 20_000), "malformed_request"),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_json_is_read_alike_by_every_door_that_reads_it(kind: str, doors: Doors) -> None:
    changed, expected = BODIES[kind]
    before = len(doors.sandbox.orders())
    found = {name: await send(doors, make(changed)) for name, (make, send) in READERS.items()}
    assert found == dict.fromkeys(READERS, expected)
    assert len(doors.sandbox.orders()) - before == (len(READERS) if expected is None else 0)


# -- bytes -------------------------------------------------------------------------------------------------------------

NONSENSE: dict[str, bytes] = {
    "noise": os.urandom(4096),
    "zeros": bytes(4096),
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + os.urandom(190),
    "HTTP/1.1": b"POST /api/order HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n{",
    "HTTP/1.1 smuggling": b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    "an endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) * 50,
    "an upgrade without end": b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "a frame of OpenD": build(1001, 1, b"\x0a\x00"),
    "a frame of 2 GB": struct.pack("<2sIBBII20s8s", b"FT", 2202, 0, 0, 1, 2**31, bytes(20), bytes(8)),
    "JSON": b'{"c2s": {}}',
    "a line": b"hello\n",
}


async def test_nonsense_at_every_door_at_once_disturbs_nobody_and_leaves_no_trace_of_a_traceback(doors: Doors) -> None:
    names = ("tcp", "websocket", "rest", "grpc", "mcp")
    slowest: dict[str, float] = {}
    before = len(doors.sandbox.orders())

    async def throw(name: str, data: bytes) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", doors.port(name))
            writer.write(data)
            await asyncio.wait_for(reader.read(65536), 0.5)
        except (TimeoutError, ConnectionError):
            return
        writer.close()

    async def be_served(door: str, client: Any, until: asyncio.Task[Any]) -> None:
        while not until.done():
            asked = time.monotonic()
            answer = await client.ask(STATE)
            slowest[door] = max(slowest.get(door, 0.0), time.monotonic() - asked)
            assert answer.response.retType == 0, (door, answer)
            await asyncio.sleep(0.02)

    async def throw_all() -> None:
        await asyncio.gather(*(throw(name, data) for name in names for data in NONSENSE.values() for _ in range(3)))

    async with at_every_door(doors.sidecar, doors.key) as clients:
        throwing = asyncio.get_running_loop().create_task(throw_all())
        await asyncio.gather(throwing, *(be_served(door, client, throwing) for door, client in clients.items()))
        for door, client in clients.items():
            assert (await client.ask(order())).response.retType == 0, door

    assert {door: took for door, took in slowest.items() if took > 1.0} == {}
    assert len(doors.sandbox.orders()) == before + len(clients), "of all that was thrown nothing is an order"
    assert doors.sidecar.running()
    log = doors.sidecar.log_text()
    assert "Traceback" not in log
    assert [line for line in doors.sidecar.log() if line.get("level") in ("error", "critical")] == []


_REPEATED_BY_AIOHTTP = b"Invalid method encountered"
"""What is no HTTP at all is repeated to whoever sent it, and to nobody else."""


async def test_no_key_that_was_shown_is_in_log_audit_or_metrics(doors: Doors) -> None:
    """The last of this module: after everything above, and after keys where no key belongs."""
    key = doors.key
    misplaced = [
        f"GET /api/global-state?token={key} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        f"GET /{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n",
        f"{key} / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        f"GET /api/{key} HTTP/1.1\r\nHost: {key}\r\nAuthorization: {key} {key}\r\nX-{key}: {key}\r\n\r\n",
        f"GET /?token={key}&token={key} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n\r\n",
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: {key}\r\n\r\n",
    ]
    for name in ("rest", "mcp", "websocket"):
        for text in misplaced:
            reader, writer = await asyncio.open_connection("127.0.0.1", doors.port(name))
            writer.write(text.encode())
            told = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                told = await asyncio.wait_for(reader.read(65536), 1)
            writer.close()
            if _REPEATED_BY_AIOHTTP not in told:
                assert key.encode() not in told, f"{name} repeats a key: {told!r}"
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": key, "arguments": {key: key}}}
    await json_to_mcp(doors, json.dumps(message))
    message["params"] = {"name": "futu_get_snapshot", "arguments": {"symbols": [key], key: key}}
    await json_to_mcp(doors, json.dumps(message))
    await json_to_rest(doors, json.dumps({"c2s": {key: key, "code": key, "remark": key}}))
    await json_to_tcp(doors, json.dumps({"c2s": {key: key}}))
    await asyncio.sleep(1.2)  # what is summed is written after a second
    eventually(lambda: doors.sidecar.audit(outcome="reject"), 3, "refusals on record")
    places = {
        "the log": doors.sidecar.log_text(),
        "the audit": doors.sidecar.audit_file.read_text(),
        "the metrics": doors.sidecar.get("/metrics")[1],
    }
    for place, text in places.items():
        for secret in (key, key[3:], key.upper(), key[:-1]):
            assert secret not in text, f"{place} has a key: ...{text[max(0, text.find(secret) - 300) :][:400]}"
