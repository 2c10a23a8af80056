"""What orders of every type and kind count as under a limit of value, sent by the official SDK and seen in the audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import SdkProcess

from sidecar.sandbox.instruments import Kind

TRADER = ("qot:read", "acc:read", "trade:simulate")
LIMIT = 100_000


@dataclass(frozen=True)
class Scene:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    bot: SdkProcess
    symbols: dict[str, str]
    """What stands for a symbol that depends on the day: `option`, `future`, `warrant`."""


def listed(sandbox: LiveSandbox, kind: Kind, prefix: str) -> str:
    """A symbol of one kind, quoted at 15."""
    market = sandbox.sandbox.market
    found: str = sandbox.do(
        lambda: next(one.symbol for one in market.listing if one.kind is kind and one.symbol.startswith(prefix))
    )
    sandbox.set_price(found, "15.00")
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("worth")) as stage:
        key = stage.keys.add("bot", *TRADER, max_order_value=LIMIT)
        sandbox = stage.sandbox(tick_interval=0, relaxed_paper=True)
        symbols = {
            "option": listed(sandbox, Kind.OPTION, "US.AAPL"),
            "future": listed(sandbox, Kind.FUTURE, "HK.MHI"),
            "warrant": "HK.21901",
        }
        sandbox.set_price("HK.00700", "500")
        sandbox.set_price(symbols["future"], "23800")
        sidecar = stage.sidecar(sandbox.port)
        bot = stage.sdk(sidecar.port, key)
        bot.open("HK", "trade")
        bot.open("US", "trade", filter_trdmarket="US")
        bot.open("FUTURES", "future")
        yield Scene(sandbox, sidecar, bot, symbols)


TENCENT = {"code": "HK.00700", "price": 0.01}
ORDERS: dict[str, tuple[str, dict[str, Any], str]] = {
    # the value in the audit, the order, and the context that sends it
    "a market buy of 200,000 worth": ("210000", {**TENCENT, "order_type": "MARKET", "qty": 400}, "HK"),
    "a market buy of 50,000 worth": ("52500", {**TENCENT, "order_type": "MARKET", "qty": 100}, "HK"),
    "a market sale": ("52500", {**TENCENT, "order_type": "MARKET", "qty": 100, "side": "SELL"}, "HK"),
    "a sale at 0.01 of 200,000 worth": ("200000", {**TENCENT, "qty": 400, "side": "SELL"}, "HK"),
    "a buy stop at twice the market": (
        "105000", {**TENCENT, "order_type": "STOP", "qty": 100, "aux_price": 1000}, "HK"
    ),
    "a buy stop a little above the market": (
        "54600", {**TENCENT, "order_type": "STOP", "qty": 100, "aux_price": 520}, "HK"
    ),
    "a trailing stop": (
        "52500",
        {**TENCENT, "order_type": "TRAILING_STOP", "qty": 100, "side": "SELL", "trail_type": "AMOUNT", "trail_value": 5},
        "HK",
    ),
    "a buy that trails the market by as much again": (
        "105000",
        {**TENCENT, "order_type": "TRAILING_STOP", "qty": 100, "trail_type": "RATIO", "trail_value": 100},
        "HK",
    ),
    "one option contract": ("1500", {"code": "option", "price": 15.00, "qty": 1}, "US"),
    "seventy option contracts": ("105000", {"code": "option", "price": 15.00, "qty": 70}, "US"),
    "an option at the market": ("1575", {"code": "option", "price": 0, "qty": 1, "order_type": "MARKET"}, "US"),
    "a warrant": ("1820", {"code": "warrant", "price": 0.182, "qty": 10000}, "HK"),
    "a future at the market": ("249900", {"code": "future", "price": 0, "qty": 1, "order_type": "MARKET"}, "FUTURES"),
    "a future": ("238000", {"code": "future", "price": 23800, "qty": 1}, "FUTURES"),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_counts_at_what_it_is_really_worth(name: str, scene: Scene) -> None:
    value, order, context = ORDERS[name]
    fits = Decimal(value) <= LIMIT
    terms = {"side": "BUY", "trd_env": "SIMULATE", "remark": name, **order}
    terms["code"] = scene.symbols.get(terms["code"], terms["code"])

    answer = scene.bot.call(context, "place_order", trd_side=terms.pop("side"), **terms)

    assert answer.ok is fits, answer.data
    if not fits:
        assert answer.code() == "order_value", answer.data
        assert f"order value {value} " in answer.data and f"is over the limit of {LIMIT} " in answer.data
    counted = (Decimal(value), "USD" if context == "US" else "HKD")

    def recorded() -> bool:
        lines = scene.sidecar.audit(key_id="bot", outcome="allow" if fits else "reject", symbol=terms["code"])
        return counted in [(Decimal(line["value"]), line["currency"]) for line in lines]

    eventually(recorded, 3, f"a record of {counted}")
    assert [one["remark"] for one in scene.sandbox.orders() if one.get("remark") == name] == [name] * fits
