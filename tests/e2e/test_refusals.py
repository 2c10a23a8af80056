"""Every limit of a key, met by the official SDK: refused with its code at once, audited, counted, and unseen by OpenD."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from live import LiveSandbox, Stage, eventually
from official_sdk import Answer, SdkProcess
from real_parts import need_program
from ways import Scene, set_up

TRADER = ("qot:read", "acc:read", "trade:simulate")
TENCENT = {"code": "HK.00700", "price": 400, "qty": 100}
APPLE = {"code": "US.AAPL", "price": 180, "qty": 10}


def hours_that_are_over() -> str:
    """A window of one hour that is not now, in UTC."""
    later = datetime.now(UTC) + timedelta(hours=3)
    return f"{later:%H:%M}-{later + timedelta(hours=1):%H:%M}"


@dataclass(frozen=True)
class Case:
    """A key, an order its limits allow (where there is one), and one they do not."""

    code: str
    metric_reason: str
    refused: dict[str, Any]
    limits: dict[str, Any] = field(default_factory=dict)
    allowed: dict[str, Any] | None = None
    scopes: tuple[str, ...] = TRADER
    says: str = ""
    market: str = "HK"


CASES = {
    "market": Case("market", "market", APPLE, {"allowed_markets": ["HK"]}, says="market US is not allowed", market="US"),
    "symbol": Case(
        "symbol", "symbol", {"code": "HK.00123", "price": 5, "qty": 1000}, {"allowed_symbols": ["HK.00700"]}, TENCENT
    ),
    "side": Case(
        "side", "side", TENCENT, {"allowed_trd_sides": ["SELL"]}, {**TENCENT, "price": 600, "side": "SELL"},
        says="side BUY is not allowed",
    ),
    "order_value": Case(
        "order_value", "per_order", {**TENCENT, "qty": 300}, {"max_order_value": 100000}, TENCENT,
        says="order value 120000 HKD is over the limit of 100000 HKD",
    ),
    "order_value_of_a_sale": Case(
        "order_value", "per_order", {**TENCENT, "side": "SELL", "price": 0.5, "qty": 300}, {"max_order_value": 100000}
    ),
    "rate": Case("rate", "rate", TENCENT, {"max_orders_per_minute": 1}, TENCENT, says="2 orders in 60 s, the limit is 1"),
    "daily_value": Case(
        "daily_value", "daily", TENCENT, {"max_daily_value": 70000}, TENCENT,
        says="40000 used + 40000 this order = 80000 HKD is over the limit of 70000 HKD",
    ),
    "hours": Case("hours", "hours", TENCENT, {"hours_window": hours_that_are_over(), "timezone": "UTC"}),
    "scope": Case("scope", "other", TENCENT, scopes=("qot:read", "acc:read")),
    "scope_real": Case("scope", "other", {**TENCENT, "trd_env": "REAL"}, says="trade:real"),
    "account": Case("account", "other", TENCENT, {"allowed_acc_ids": [1001004]}, {**TENCENT, "acc_id": 1001004}),
    "order_value_at_the_market": Case(
        "order_value", "per_order", {**TENCENT, "order_type": "MARKET", "qty": 500}, {"max_order_value": 100000},
        {**TENCENT, "order_type": "MARKET"},
    ),
    "no_quote": Case(
        "price_unavailable", "other", {"code": "HK.09999", "price": 0, "qty": 100, "order_type": "MARKET"},
        {"max_order_value": 100000}, says="no quote for `HK.09999`",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=["in_clear", "rsa_and_aes", "json"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def keys_and_scene(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Scene]]:
    with Stage(tmp_path_factory.mktemp("refusals")) as stage:
        keys = {name: stage.keys.add(name, *case.scopes, **case.limits) for name, case in CASES.items()}
        yield keys, set_up(stage, way, tick_interval=0)


def place_anywhere(bot: SdkProcess, context: str, order: dict[str, Any]) -> Answer:
    """The SDK's own 2202, also to an account that its place_order would not let through."""
    market, _, code = order["code"].partition(".")
    return bot.raw(
        context, "PlaceOrder", trd_side="BUY", order_type="NORMAL", price=order["price"], qty=order["qty"], code=code,
        adjust_limit=0, trd_env="SIMULATE", sec_mkt_str=market, acc_id=1001001, trd_mkt=market, remark=order["remark"],
        time_in_force="DAY", fill_outside_rth=False, session="N/A", aux_price=None, trail_type=None, trail_value=None,
        trail_spread=None, jp_acc_type="N/A", position_id=None, expire_time=None, amount=None, pred_side=None,
    )  # fmt: skip


def place(bot: SdkProcess, context: str, order: dict[str, Any]) -> Answer:
    terms = {"side": "BUY", "trd_env": "SIMULATE", **order}
    return bot.call(context, "place_order", trd_side=terms.pop("side"), **terms)


@pytest.mark.parametrize("name", CASES)
def test_an_order_over_a_limit_is_refused_at_once_recorded_counted_and_never_reaches_opend(
    name: str, keys_and_scene: tuple[dict[str, str], Scene]
) -> None:
    keys, scene = keys_and_scene
    case, sandbox, sidecar, bot = CASES[name], scene.sandbox, scene.sidecar, scene.bot
    bot.open(name, "trade", key=keys[name], filter_trdmarket=case.market)
    if case.allowed is not None:
        fine = place(bot, name, {**case.allowed, "remark": f"{name} allowed"})
        assert fine.ok, fine.data

    def counted() -> tuple[float, float]:
        labels = {"iface": "tcp", "key_id": name}
        limit_rejects = sidecar.metric("futu_auth_limit_rejects_total", reason=case.metric_reason, **labels)
        return limit_rejects, sidecar.metric("sidecar_refusals_total", code=case.code, **labels)

    before = counted()

    order = {**case.refused, "remark": f"{name} refused"}
    answer = place_anywhere(bot, name, order) if name == "account" else place(bot, name, order)

    assert answer.ret == -1
    assert answer.code() == case.code, answer.data
    assert case.says in answer.data
    assert answer.seconds < 1
    line = sidecar.wait_audit(key_id=name, outcome="reject", reason=case.code)
    assert line["endpoint"] == "place_order proto_id=2202"
    assert line["decision_id"] in answer.data
    assert line["iface"] == "tcp"
    assert counted() == (before[0] + 1, before[1] + 1)
    arrived = [one["remark"] for one in sandbox.orders() if one.get("remark", "").startswith(f"{name} ")]
    assert arrived == ([f"{name} allowed"] if case.allowed is not None else [])
    bot.close(name)


def test_jq_finds_every_refusal_by_its_code(keys_and_scene: tuple[dict[str, str], Scene]) -> None:
    jq = need_program("jq")
    keys, scene = keys_and_scene
    scene.bot.open("again", "trade", key=keys["side"])
    assert place(scene.bot, "again", TENCENT).code() == "side"
    scene.bot.close("again")
    query = 'select(.outcome=="reject" and .key_id=="side" and .reason=="side") | .symbol'

    def found() -> str:
        return subprocess.run([jq, "-r", query, str(scene.sidecar.audit_file)], capture_output=True, text=True).stdout

    assert eventually(found, 3).splitlines()[0] == "HK.00700"


CENTS = {"a cent below": 180.00, "at": 180.01, "a cent above": 180.02}
"""Prices of one share of US.AAPL, around a cap of 180.01 USD."""


@pytest.fixture(scope="module")
def cents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, LiveSandbox, SdkProcess]]:
    with Stage(tmp_path_factory.mktemp("cents")) as stage:
        keys = {}
        for place_of_cap in CENTS:
            name = place_of_cap.replace(" ", "-")
            keys[f"one {place_of_cap}"] = stage.keys.add(f"one-{name}", *TRADER, max_order_value=180.01)
            keys[f"day {place_of_cap}"] = stage.keys.add(f"day-{name}", *TRADER, max_daily_value=300.34)
        sandbox = stage.sandbox(tick_interval=0)
        bot = stage.sdk(stage.sidecar(sandbox.port).port, None)
        for context, key in keys.items():
            bot.open(context, "trade", key=key, filter_trdmarket="US")
        yield stage, sandbox, bot


@pytest.mark.parametrize("where", CENTS)
def test_one_order_may_be_worth_the_cap_and_not_a_cent_more(
    where: str, cents: tuple[Stage, LiveSandbox, SdkProcess]
) -> None:
    _, sandbox, bot = cents
    answer = place(bot, f"one {where}", {"code": "US.AAPL", "qty": 1, "price": CENTS[where], "remark": f"one {where}"})
    assert answer.code() == ("order_value" if where == "a cent above" else None), answer.data
    assert answer.ok == (where != "a cent above")
    assert sum(one.get("remark") == f"one {where}" for one in sandbox.orders()) == answer.ok
    if not answer.ok:
        assert "order value 180.02 USD is over the limit of 180.01 USD" in answer.data


@pytest.mark.parametrize("where", CENTS)
def test_the_orders_of_a_day_may_add_up_to_the_cap_and_not_a_cent_more(
    where: str, cents: tuple[Stage, LiveSandbox, SdkProcess]
) -> None:
    """Three times 40.11 is one of the sums that binary fractions get wrong."""
    _, sandbox, bot = cents
    context = f"day {where}"
    assert place(bot, context, {"code": "US.AAPL", "qty": 3, "price": 40.11, "remark": f"{context} first"}).ok
    order = {"code": "US.AAPL", "qty": 1, "price": CENTS[where], "remark": context}
    answer = place(bot, context, order)
    assert answer.code() == ("daily_value" if where == "a cent above" else None), answer.data
    assert answer.ok == (where != "a cent above")
    assert sum(one.get("remark") == context for one in sandbox.orders()) == answer.ok
    if not answer.ok:
        assert "120.33 used + 180.02 this order = 300.35 USD is over the limit of 300.34 USD" in answer.data
