"""The REST door of `opend-sidecar run`, as a process: a day's work over plain HTTP, and what the audit says of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from documents import block
from live import MODIFY_ORDER, PLACE_ORDER, LiveSandbox, LiveSidecar, Stage, eventually
from real_parts import need_program
from rest_client import PAPER_HK, Answer, RestClient, header, order

TRADER = ("qot:read", "acc:read", "trade:simulate")
PAPER_US = 1001002


class Scene:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        add = stage.keys.add
        self.keys = {
            "trader": add("trader", *TRADER),
            "second": add("second", *TRADER),
            "research": add("research", "qot:read"),
            "capped": add(
                "capped", *TRADER, allowed_markets=["HK"], allowed_symbols=["HK.00700"], allowed_trd_sides=["BUY"],
                max_order_value=100000,
            ),
            "leaving": add("leaving", "qot:read"),
        }  # fmt: skip
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.sidecar: LiveSidecar = stage.sidecar(
            self.sandbox.port,
            listeners={"websocket": "off", "grpc": "off", "mcp": "off"},
            upstream={"request_timeout": 1.0},
        )
        self.port = self.sidecar.doors["rest"]

    def rest(self, name: str) -> RestClient:
        return RestClient(self.port, self.keys[name])

    def place(self, name: str, token: str | None = None, **terms: Any) -> Answer:
        headers = {} if token is None else {"Idempotency-Key": token}
        return self.rest(name).post("/api/order", order(**terms), **headers)

    def arrived(self, remark: str) -> int:
        return sum(one.get("remark") == remark for one in self.sandbox.orders())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("rest-e2e")) as stage:
        yield Scene(stage)


def test_an_order_is_placed_found_and_cancelled(scene: Scene) -> None:
    bot = scene.rest("trader")
    fields = {"trd_env": "SIMULATE", "acc_id": PAPER_HK, "trd_market": "HK"}
    placed = bot.post(
        "/api/order",
        {
            **fields,
            "code": "HK.00700",
            "trd_side": "BUY",
            "order_type": "NORMAL",
            "qty": 100,
            "price": 300,
            "remark": "mine",
        },
    )
    order_id = placed.s2c["order_id"]

    found = {one["order_id"]: one for one in bot.post("/api/orders", fields).s2c["order_list"]}
    assert (found[order_id]["remark"], found[order_id]["qty"], found[order_id]["price"]) == ("mine", 100, 300)

    cancelled = bot.post("/api/cancel-order", {**fields, "order_id": order_id})
    assert cancelled.s2c["order_id"] == order_id
    (arrived,) = scene.sandbox.received(MODIFY_ORDER)
    assert arrived.c2s["modifyOrderOp"] == 2

    def status() -> int:
        listed = bot.post("/api/orders", fields).s2c["order_list"]
        return next(int(one["order_status"]) for one in listed if one["order_id"] == order_id)

    eventually(lambda: status() == 15, 3, "the order to be Cancelled_All")

    scene.sidecar.wait_audit(endpoint="/api/cancel-order", outcome="success")
    lines = [(line["endpoint"], line["outcome"]) for line in scene.sidecar.audit(iface="rest", key_id="trader")]
    assert lines == [
        ("/api/order", "allow"), ("/api/order", "success"), ("/api/cancel-order", "allow"), ("/api/cancel-order", "success")
    ]  # fmt: skip
    line = scene.sidecar.audit(decision_id=placed.headers["x-decision-id"], outcome="success")[0]
    assert (line["order_id"], line["symbol"], line["side"]) == (order_id, "HK.00700", "BUY")


REFUSED: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "market": ("capped", "/api/order", {**order(code="AAPL", sec_market=2), "header": header(PAPER_US, market=2)}, 403, "market"),
    "symbol": ("capped", "/api/order", order(code="00123"), 403, "symbol"),
    "side": ("capped", "/api/order", order(side=2), 403, "side"),
    "order value": ("capped", "/api/order", order(qty=400), 403, "order_value"),
    "market order": ("capped", "/api/order", order(order_type=2, qty=400), 403, "order_value"),
    "combo": ("capped", "/api/proto/2227", {"header": header()}, 400, "malformed_request"),
    "scope": ("research", "/api/order", order(), 403, "scope"),
    "real": ("trader", "/api/order", {**order(), "header": header(281756455000000001, env=1)}, 403, "scope"),
    "unknown field": ("trader", "/api/order", order(quantity=1), 400, "unknown_field"),
    "not a number": ("trader", "/api/order", order(price="NaN"), 400, "malformed_request"),
    "unlock": ("trader", "/api/unlock-trade", {"unlock": True, "pwd_md5": "x"}, 403, "scope"),
    "admin": ("trader", "/api/user-info", {}, 403, "scope"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_is_recorded_and_never_reaches_opend(scene: Scene, name: str) -> None:
    key, path, body, status, code = REFUSED[name]
    before = len(scene.sandbox.orders())
    answer = scene.rest(key).post(path, body)
    assert (answer.status, answer.code) == (status, code), answer.raw
    endpoint = "/api/proto/Trd_PlaceComboOrder" if path.startswith("/api/proto") else path
    line = scene.sidecar.wait_audit(decision_id=answer.json["decision_id"])
    assert (line["iface"], line["endpoint"], line["key_id"], line["outcome"]) == ("rest", endpoint, key, "reject")
    assert line["reason"] == code
    assert scene.sidecar.metric("sidecar_refusals_total", iface="rest", code=code, key_id=key) >= 1
    assert len(scene.sandbox.orders()) == before


# -- idempotency ------------------------------------------------------------------------------------------------------


def test_many_repeats_at_once_are_one_order_and_one_answer(scene: Scene) -> None:
    scene.sandbox.delays[PLACE_ORDER] = 0.3
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: scene.place("trader", "at-once", remark="at once"), range(8)))
    finally:
        scene.sandbox.delays.clear()
    assert len({answer.s2c["order_id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 7
    assert scene.arrived("at once") == 1


def test_two_keys_may_use_the_same_idempotency_key(scene: Scene) -> None:
    first, second = (scene.place(name, "shared", remark="shared") for name in ("trader", "second"))
    assert first.s2c["order_id"] != second.s2c["order_id"]
    assert "idempotency-replayed" not in second.headers
    assert scene.arrived("shared") == 2
    again = scene.place("trader", "shared", remark="not shared")
    assert (again.status, again.code) == (409, "idempotency_conflict")


def test_after_a_timeout_a_repeat_is_not_sent_again_and_learns_the_outcome(scene: Scene) -> None:
    scene.sandbox.delays[PLACE_ORDER] = 1.6
    try:
        first = scene.place("trader", "late", remark="late")
        assert (first.status, first.code) == (503, "upstream_unavailable")
        assert "unknown" in first.json["ret_msg"]
        assert "retry-after" not in first.headers
        repeated = eventually(
            lambda: (answer := scene.place("trader", "late", remark="late")).status == 200 and answer, 5
        )
    finally:
        scene.sandbox.delays.clear()
    assert repeated.headers["idempotency-replayed"] == "true"
    assert scene.arrived("late") == 1


# -- pushes -----------------------------------------------------------------------------------------------------------


def test_what_is_subscribed_over_rest_is_pushed_on_ws(scene: Scene) -> None:
    async def follow() -> dict[str, Any]:
        url = f"ws://127.0.0.1:{scene.port}/ws?body=json"
        headers = {"Authorization": f"Bearer {scene.keys['research']}"}
        async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as line:
            fields = {"security_list": ["HK.00700"], "sub_type_list": ["Basic"], "is_reg_or_un_reg_push": True}
            subscribed = await asyncio.to_thread(scene.rest("research").post, "/api/subscribe", fields)
            assert subscribed.json["ret_type"] == 0, subscribed.raw
            scene.sandbox.set_price("HK.00700", "411.6")
            async with asyncio.timeout(5):
                while True:
                    said: dict[str, Any] = json.loads((await line.receive()).data)
                    if said["s2c"]["basic_qot_list"][0]["cur_price"] == 411.6:
                        return said

    said = asyncio.run(follow())
    assert (said["type"], said["proto_id"], said["sec_key"]) == ("quote", 3005, "HK.00700")


def test_revoking_a_key_ends_its_stream_within_a_second_and_its_requests_at_once(scene: Scene) -> None:
    async def follow() -> tuple[aiohttp.WSMessage, float]:
        url = f"ws://127.0.0.1:{scene.port}/ws?token={scene.keys['leaving']}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as line:
            scene.stage.keys.remove("leaving")
            started = time.monotonic()
            return await asyncio.wait_for(line.receive(), 5), time.monotonic() - started

    said, seconds = asyncio.run(follow())
    assert (said.type, said.data) == (aiohttp.WSMsgType.CLOSE, 1008)
    assert "key_" in said.extra
    assert seconds < 1.5  # of which the change of the file takes some to be noticed
    assert scene.rest("leaving").get("/api/key").status == 401


# -- the lines of the documents ---------------------------------------------------------------------------------------


def test_the_curl_lines_of_the_page_on_rest_do_what_they_say(scene: Scene, tmp_path: Path) -> None:
    need_program("curl")
    lines = block("docs/listeners/rest.md", "sh").splitlines()
    assert lines[:2] == ["KEY=fc_…", "API=http://127.0.0.1:22222"]
    commands = "\n".join(lines[2:])
    asked = commands.count("curl -s ")
    assert asked >= 4
    script = tmp_path / "lines.sh"
    script.write_text(
        f"set -e\nKEY={scene.keys['trader']}\nAPI=http://127.0.0.1:{scene.port}\n{commands}\n".replace(
            "curl -s ", "echo; curl -s "
        )
    )
    before = len(scene.sandbox.orders())
    ran = subprocess.run(
        ["sh", script], capture_output=True, text=True, timeout=30, env={**os.environ, "no_proxy": "*"}
    )
    assert ran.returncode == 0, ran.stderr
    answers = [json.loads(line) for line in ran.stdout.splitlines() if line]
    assert len(answers) == asked
    assert [answer["ret_type"] for answer in answers] == [0] * asked, ran.stdout
    assert any((answer["s2c"] or {}).get("dry_run") and answer["s2c"]["allowed"] for answer in answers)
    assert len(scene.sandbox.orders()) == before  # the order in them is a dry run


def test_an_order_that_is_under_way_is_answered_before_the_sidecar_stops_and_a_new_one_is_not_taken(
    stage: Stage,
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sandbox = stage.sandbox(tick_interval=0)
    sidecar = stage.sidecar(sandbox.port, listeners={"websocket": "off", "grpc": "off", "mcp": "off"})
    bot = RestClient(sidecar.doors["rest"], key)
    kept = http.client.HTTPConnection("127.0.0.1", sidecar.doors["rest"], timeout=10)
    fields = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    kept.request("GET", "/api/accounts", headers=fields)
    kept.getresponse().read()
    sandbox.delays[PLACE_ORDER] = 1.0
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(bot.post, "/api/order", order(remark="under way"))
        eventually(lambda: len(sandbox.orders()) == 1)
        os.kill(sidecar.pid, signal.SIGTERM)
        eventually(lambda: not accepts(sidecar.doors["rest"]), 3, "the door to be closed")
        kept.request("POST", "/api/order", json.dumps(order(remark="too late")), fields)
        late = kept.getresponse()
        assert (late.status, json.loads(late.read())["code"]) == (503, "upstream_unavailable")
        assert under_way.result(10).s2c["order_id"]
    assert sidecar.stop() == 0
    assert len(sandbox.orders()) == 1


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True
