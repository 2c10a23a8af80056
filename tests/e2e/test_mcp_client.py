"""The official MCP client and a real sidecar: what each key is shown, may do and is told, in both protocols and over stdio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage
from mcp_client import ACCOUNT, BUY, PAPER_HK, PROTOCOLS, McpClient, over_http, over_stdio

TRADER = ("qot:read", "acc:read", "trade:simulate")
WAYS = [("http", mode) for mode in PROTOCOLS] + [("stdio", mode) for mode in PROTOCOLS]


class World:
    """One sandbox and one sidecar, and keys for every test."""

    def __init__(self, stage: Stage) -> None:
        self.keys = stage.keys
        self.plain: dict[str, str] = {
            "trader": self.keys.add("trader", *TRADER, max_order_value=100000),
            "quotes": self.keys.add("quotes", "qot:read"),
            "reader": self.keys.add("reader", "acc:read"),
            "unlocker": self.keys.add("unlocker", "trade:unlock"),
            "canceller": self.keys.add("canceller", "acc:read", "trade:cancel"),
            "short": self.keys.add("short", *TRADER),
            "other": self.keys.add("other", "qot:read", "trade:simulate", max_orders_per_minute=1),
        }
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port)

    @property
    def port(self) -> int:
        return self.sidecar.doors["mcp"]

    def connect(self, key_id: str, mode: str = "auto") -> AbstractAsyncContextManager[McpClient]:
        return over_http(self.port, self.plain[key_id], mode)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Stage(tmp_path_factory.mktemp("mcp")) as stage:
        yield World(stage)


class Trader(McpClient):
    """The key `trader`, on a new connection for each call: the client's scopes must not cross the tasks of a fixture."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def told(self, tool: str, **arguments: Any) -> tuple[dict[str, Any], bool]:
        async with self.world.connect("trader") as client:
            return await client.told(tool, **arguments)


@pytest.fixture
def trader(world: World) -> Trader:
    return Trader(world)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
async def test_every_way_sees_its_tools_reads_a_quote_and_places_an_order(world: World, way: tuple[str, str]) -> None:
    transport, mode = way
    connect = over_http if transport == "http" else over_stdio
    async with connect(world.port, world.plain["trader"], mode) as client:
        tools = await client.tools()
        assert {"my_limits", "futu_get_quote", "futu_place_order"} <= set(tools)
        (quote,) = (await client.ask("futu_get_quote", symbols=["HK.00700"]))["basic_qot_list"]
        assert quote["cur_price"] == 480.0
        placed = await client.ask("futu_place_order", **BUY)
        refused = await client.refused("futu_place_order", **{**BUY, "qty": 400})
    assert placed["status"] == "ok"
    allowed = world.sidecar.wait_audit(decision_id=placed["decision_id"], outcome="success")
    assert (allowed["iface"], allowed["endpoint"], allowed["key_id"]) == ("mcp", "futu_place_order", "trader")
    assert str(allowed["order_id"]) == placed["order_id"]
    assert refused["code"] == "order_value"
    assert "order value 120000 HKD is over the limit of 100000 HKD" in refused["error"]
    assert "repeating it does not help" in refused["error"]
    line = world.sidecar.wait_audit(decision_id=refused["decision_id"])
    assert (line["iface"], line["endpoint"], line["outcome"], line["reason"]) == (
        "mcp", "futu_place_order", "reject", "order_value",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key_id", "has", "has_not"),
    [
        ("quotes", {"futu_ping", "futu_get_quote", "futu_subscribe"}, {"futu_get_funds", "futu_place_order"}),
        (
            "reader",
            {"futu_list_accounts", "futu_get_funds", "futu_get_orders"},
            {"futu_get_quote", "futu_cancel_order"},
        ),
        ("unlocker", {"futu_unlock_trade", "futu_list_accounts"}, {"futu_place_order", "futu_get_positions"}),
        ("trader", {"futu_place_order", "futu_cancel_all_order"}, {"futu_unlock_trade"}),
    ],
)
async def test_a_key_is_shown_the_tools_of_its_scopes(
    world: World, key_id: str, has: set[str], has_not: set[str]
) -> None:
    async with world.connect(key_id) as client:
        tools = set(await client.tools())
    assert "my_limits" in tools
    assert has <= tools
    assert not has_not & tools


async def test_a_tool_that_is_not_shown_is_refused_and_audited_when_called_all_the_same(world: World) -> None:
    before = len(world.sandbox.orders())
    async with world.connect("quotes") as client:
        told = await client.refused("futu_place_order", **BUY)
    assert told["code"] == "scope"
    line = world.sidecar.wait_audit(decision_id=told["decision_id"])
    assert (line["key_id"], line["endpoint"], line["reason"]) == ("quotes", "futu_place_order", "scope")
    assert world.sandbox.orders()[before:] == []


async def test_scopes_that_a_reload_gives_are_shown_to_a_client_that_is_connected(world: World) -> None:
    world.plain["grows"] = world.keys.add("grows", "qot:read")
    world.sidecar.wait_keys()
    async with world.connect("grows") as client:
        assert "futu_get_funds" not in await client.tools()
        world.keys.change("grows", scopes=["qot:read", "acc:read"])
        world.sidecar.wait_keys()
        assert "futu_get_funds" in await client.tools()


async def test_a_key_revoked_between_two_calls_is_refused_at_the_next(world: World) -> None:
    world.plain["leaves"] = world.keys.add("leaves", "qot:read")
    world.sidecar.wait_keys()
    async with world.connect("leaves") as client:
        await client.ask("futu_ping")
        world.keys.remove("leaves")
        world.sidecar.wait_keys()
        with pytest.raises(Exception, match="key_unknown"):
            await client.ask("futu_ping")


async def test_a_wrong_key_is_told_so_and_gets_nothing(world: World) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with over_http(world.port, "fc_" + "0" * 64):
            pass
    assert "key_unknown" in repr(caught.value)


READS: list[tuple[str, dict[str, Any], str]] = [
    ("futu_ping", {}, "qot_logined"),
    ("futu_get_quote", {"symbols": ["HK.00700", "US.AAPL"]}, "basic_qot_list"),
    ("futu_get_snapshot", {"symbols": ["HK.00700"]}, "snapshot_list"),
    ("futu_get_kline", {"symbol": "HK.00700", "kl_type": "K_DAY", "num": 3}, "kl_list"),
    ("futu_get_kline", {"symbol": "HK.00700", "kl_type": 1}, "kl_list"),
    ("futu_get_history_kline", {"symbol": "HK.00700", "kl_type": "K_DAY", "begin": "2026-01-05", "end": "2026-01-15"}, "kl_list"),
    ("futu_get_orderbook", {"symbol": "HK.00700"}, "order_book_ask_list"),
    ("futu_get_ticker", {"symbol": "HK.00700", "num": 5}, "security"),
    ("futu_get_rt", {"symbol": "HK.00700"}, "security"),
    ("futu_get_static", {"symbols": ["HK.00700"]}, "static_info_list"),
    ("futu_get_static", {"market": "HK", "sec_type": "ETF"}, "static_info_list"),
    ("futu_get_broker", {"symbol": "HK.00700"}, "security"),
    ("futu_list_plates", {"market": "HK"}, "plate_info_list"),
    ("futu_plate_stocks", {"plate": "HK.BK1001"}, "static_info_list"),
    ("futu_get_market_state", {"symbols": ["HK.00700"]}, "market_info_list"),
    ("futu_trading_days", {"market": "HK", "begin": "2026-01-05", "end": "2026-01-15"}, "trade_date_list"),
    ("futu_get_future_info", {"symbols": ["HK.HSImain"]}, "future_info_list"),
    ("futu_query_subscription", {}, "total_used_quota"),
    ("futu_list_accounts", {}, "acc_list"),
    ("futu_get_funds", ACCOUNT, "funds"),
    ("futu_get_funds", {"acc_id": 1001001, "env": 0, "market": 1}, "funds"),
    ("futu_get_positions", {**ACCOUNT, "symbols": ["HK.00700"]}, "header"),
    ("futu_get_orders", {**ACCOUNT, "statuses": ["SUBMITTED", 10]}, "header"),
    ("futu_get_history_orders", {**ACCOUNT, "begin": "2026-10-01", "end": "2026-11-20"}, "header"),
    ("futu_get_max_trd_qtys", {"acc_id": PAPER_HK, "trd_env": "SIMULATE", "symbol": "HK.00700", "price": 480}, "max_trd_qtys"),
]  # fmt: skip


async def test_every_reading_tool_reads(trader: Trader) -> None:
    for tool, arguments, wanted in READS:
        told = await trader.ask(tool, **arguments)
        assert wanted in told, f"{tool}: {told}"


async def test_a_real_time_tool_subscribes_by_itself_once_and_without_pushes(world: World, trader: Trader) -> None:
    before = len(world.sandbox.received(3001))
    await trader.ask("futu_get_quote", symbols=["HK.00005"])
    await trader.ask("futu_get_quote", symbols=["HK.00005"])
    (subscription,) = world.sandbox.received(3001)[before:]
    assert subscription.c2s["subTypeList"] == [1]
    assert "isRegOrUnRegPush" not in subscription.c2s


async def test_what_opend_refuses_is_an_error_in_its_own_words(trader: Trader) -> None:
    told = await trader.refused("futu_get_quote", symbols=["HK.99999"])
    assert told["code"] == "opend"
    assert told["ret_type"] == -1
    assert "99999" in told["error"]


async def test_subscriptions_of_one_key_are_not_seen_by_another(world: World, trader: Trader) -> None:
    await trader.ask("futu_subscribe", symbols=["HK.00001"], sub_types=["QUOTE"])
    mine = await trader.ask("futu_query_subscription")
    async with world.connect("quotes") as other:
        theirs = await other.ask("futu_query_subscription")
    assert "'code': '00001'" in repr(mine)
    assert "'code': '00001'" not in repr(theirs)


async def test_two_keys_side_by_side_never_mix(world: World) -> None:
    """Each order is placed, counted and audited under the key whose request it was, however the requests interleave."""
    async with world.connect("trader") as one, world.connect("short", "legacy") as two:
        answers = await asyncio.gather(
            *(client.ask("futu_place_order", **{**BUY, "price": 200 + number})
              for number in range(6) for client in (one, two))
        )  # fmt: skip
        (limits_one, limits_two) = await asyncio.gather(one.ask("my_limits"), two.ask("my_limits"))
    for number, answer in enumerate(answers):
        line = world.sidecar.wait_audit(decision_id=answer["decision_id"], outcome="success")
        assert line["key_id"] == ("trader", "short")[number % 2]
    assert limits_one["key_id"] == "trader"
    assert limits_two["key_id"] == "short"


async def test_without_acc_read_a_key_sees_only_its_own_orders(world: World, trader: Trader) -> None:
    theirs = await trader.ask("futu_place_order", **{**BUY, "price": 201})
    async with world.connect("other") as other:
        mine = await other.ask("futu_place_order", **{**BUY, "price": 202})
        seen = await other.ask("futu_get_orders", **ACCOUNT)
        cancelled = await other.refused("futu_cancel_order", **ACCOUNT, order_id=theirs["order_id"])
        over = await other.refused("futu_place_order", **{**BUY, "price": 203})
    assert [order["order_id"] for order in seen["order_list"]] == [mine["order_id"]]
    assert cancelled["code"] == "not_own_order"
    assert over["code"] == "rate"
    assert 1 <= over["retry_after"] <= 60
    assert f"may pass in {over['retry_after']} s" in over["error"]


async def test_a_dry_run_tells_every_check_and_sends_nothing(world: World, trader: Trader) -> None:
    before = len(world.sandbox.orders())
    fine = await trader.ask("futu_place_order", **BUY, dry_run=True)
    over = await trader.ask("futu_place_order", **{**BUY, "qty": 400}, dry_run=True)
    assert (fine["allowed"], fine["value"], fine["currency"]) == (True, "30000", "HKD")
    assert (over["allowed"], over["code"]) == (False, "order_value")
    failed = [check["check"] for check in over["checks"] if not check["passed"]]
    assert failed == ["order value"]
    assert len(world.sandbox.orders()) == before


async def test_a_dry_run_that_is_not_true_or_false_places_nothing(world: World, trader: Trader) -> None:
    before = len(world.sandbox.orders())
    told = await trader.refused("futu_place_order", **BUY, dry_run="true")
    assert told["code"] == "malformed_request"
    assert "`dry_run`" in told["error"]
    assert len(world.sandbox.orders()) == before


async def test_a_repeated_idempotency_key_is_answered_with_the_first_outcome(world: World, trader: Trader) -> None:
    before = len(world.sandbox.orders())
    first = await trader.ask("futu_place_order", **BUY, idempotency_key="once")
    again = await trader.ask("futu_place_order", **BUY, idempotency_key="once")
    other = await trader.refused("futu_place_order", **{**BUY, "price": 299}, idempotency_key="once")
    assert again["order_id"] == first["order_id"]
    assert again["replayed"] is True
    assert other["code"] == "idempotency_conflict"
    assert len(world.sandbox.orders()) == before + 1
    async with world.connect("short") as somebody:
        assert "replayed" not in await somebody.ask("futu_place_order", **BUY, idempotency_key="once")


async def test_an_order_is_found_cancelled_and_gone(trader: Trader) -> None:
    placed = await trader.ask("futu_place_order", **{**BUY, "price": 204})
    told = await trader.ask("futu_cancel_order", **ACCOUNT, order_id=placed["order_id"])
    assert told["status"] == "ok"
    orders = (await trader.ask("futu_get_orders", **ACCOUNT))["order_list"]
    (order,) = [order for order in orders if order["order_id"] == placed["order_id"]]
    assert order["order_status"] in (13, 15)


async def test_everything_is_cancelled_only_by_who_may(world: World, trader: Trader) -> None:
    told = await trader.refused("futu_cancel_all_order", **ACCOUNT)
    assert told["code"] == "not_own_order"
    async with world.connect("canceller") as canceller:
        # what a paper account does not know OpenD says itself
        told, _ = await canceller.told("futu_cancel_all_order", **ACCOUNT)
    assert told.get("code", "opend") == "opend"


async def test_unlock_is_answered_and_takes_no_password(world: World) -> None:
    async with world.connect("unlocker") as client:
        assert (await client.ask("futu_unlock_trade", unlock=True))["status"] == "ok"
        told = await client.refused("futu_unlock_trade", unlock=True, password="123456")
    assert told["code"] == "unknown_field"
    assert "123456" not in world.sidecar.log_text() + world.sidecar.audit_file.read_text()
    assert world.sandbox.received(2005) == []


async def test_nothing_a_model_says_carries_a_key(world: World) -> None:
    async with world.connect("quotes") as client:
        told = await client.refused("futu_get_funds", **ACCOUNT, api_key=world.plain["trader"])
        assert told["code"] == "scope"
        told = await client.refused("futu_get_quote", symbols=["HK.00700"], api_key=world.plain["trader"])
    assert told["code"] == "unknown_field"
    assert world.plain["trader"] not in told["error"]


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("futu_place_order", {**BUY, "quantity": 100}, "unknown_field", "unknown argument `quantity`"),
    ("futu_place_order", {**BUY, "sid": 1}, "unknown_field", "did you mean `side`?"),
    ("futu_place_order", {**BUY, "qty": "100"}, "malformed_request", "`qty`"),
    ("futu_place_order", {**BUY, "qty": True}, "malformed_request", "`qty`"),
    ("futu_place_order", {**BUY, "qty": -100}, "malformed_request", "qty"),
    ("futu_place_order", {**BUY, "side": "buy"}, "malformed_request", "BUY, SELL"),
    ("futu_place_order", {**BUY, "side": 9}, "malformed_request", "`9` is none of"),
    ("futu_place_order", {**BUY, "symbol": "00700"}, "malformed_request", "market and code"),
    ("futu_place_order", {**BUY, "symbol": ["HK.00700"]}, "malformed_request", "`symbol`"),
    ("futu_place_order", {**BUY, "symbol": "HK.700"}, "malformed_request", "00700"),
    ("futu_place_order", {**BUY, "symbol": "SH.600519"}, "malformed_request", "`CN` or `HKCC`"),
    ("futu_place_order", {**BUY, "market": "US"}, "malformed_request", "secMarket"),
    ("futu_place_order", {**BUY, "acc_id": 1001001.0}, "malformed_request", "`acc_id`"),
    ("futu_place_order", {**BUY, "trd_env": "PAPER"}, "malformed_request", "SIMULATE, REAL"),
    ("futu_place_order", {**BUY, "env": "REAL"}, "malformed_request", "given twice"),
    ("futu_place_order", {k: v for k, v in BUY.items() if k != "trd_env"}, "malformed_request", "`trd_env` is missing"),
    ("futu_place_order", {**BUY, "idempotency_key": 5}, "malformed_request", "`idempotency_key`"),
    ("futu_place_order", {**BUY, "idempotency_key": "two words"}, "malformed_request", "idempotency key"),
    ("futu_cancel_order", ACCOUNT, "malformed_request", "`order_id` is missing"),
    ("futu_get_quote", {"symbols": "HK.00700"}, "malformed_request", "`symbols`"),
    ("futu_get_quote", {"symbols": []}, "malformed_request", "`symbols`"),
    ("futu_get_quote", {"symbols": ["HK.00700"] * 401}, "malformed_request", "`symbols`"),
    ("futu_get_kline", {"symbol": "HK.00700", "kl_type": "K_DAY", "num": 0}, "malformed_request", "`num`"),
    ("futu_unsubscribe", {"symbols": ["HK.00700"]}, "malformed_request", "`sub_types`"),
    ("my_limits", {"key": "x"}, "unknown_field", "`key`"),
    ("futu_place_ordre", BUY, "unknown_request", "did you mean `futu_place_order`?"),
]  # fmt: skip


async def test_arguments_of_another_shape_are_refused_named_and_audited(world: World, trader: Trader) -> None:
    before = len(world.sandbox.orders())
    for number, (tool, arguments, code, says) in enumerate(WRONG):
        told = await trader.refused(tool, **arguments)
        assert (told["code"], says in told["error"]) == (code, True), f"{tool} {arguments}: {told}"
        if number < 8:  # of more than ten refusals a second for one reason, the others share one record
            line = world.sidecar.wait_audit(decision_id=told["decision_id"])
            assert (line["iface"], line["reason"], line["key_id"]) == ("mcp", code, "trader")
    assert len(world.sandbox.orders()) == before
    assert "Traceback" not in world.sidecar.log_text()


async def test_my_limits_tells_what_is_left(world: World) -> None:
    async with world.connect("other") as client:
        told = await client.ask("my_limits")
    assert told["scopes"] == ["qot:read", "trade:simulate"]
    assert told["orders_per_minute"]["limit"] == 1
    assert told["max_order_value"] is None
