"""Combo orders through the official SDK: every leg is held against the key, and the order counts at what its legs are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage
from official_sdk import Answer, SdkProcess

from sidecar.sandbox.instruments import Instrument, Kind

REAL = 281756455000000001
PLACE_COMBO = 2227


@dataclass(frozen=True)
class Scene:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    bot: SdkProcess
    near: Instrument
    """Two calls on Apple, at 12 and at 7."""
    far: Instrument

    def combo(self, price: float, *legs: tuple[str, str, float], qty: float = 1, **more: Any) -> Answer:
        made = [{"code": code, "trd_side": side, "qty_ratio": ratio} for code, side, ratio in legs]
        terms = {"combo_leg_list": made, "price": price, "qty": qty, "trd_env": "REAL", "acc_id": REAL, **more}
        return self.bot.call("trade", "place_combo_order", **terms)

    def spread(self, price: float, **more: Any) -> Answer:
        return self.combo(price, (self.near.symbol, "BUY", 1), (self.far.symbol, "SELL", 1), **more)

    def arrived(self) -> int:
        return len(self.sandbox.received(PLACE_COMBO))


def two_calls(sandbox: LiveSandbox) -> tuple[Instrument, Instrument]:
    listing = sandbox.sandbox.market.listing
    calls = [
        one
        for one in listing
        if one.kind is Kind.OPTION and one.symbol.startswith("US.AAPL") and one.side == 1 and one.owner is not None
    ]
    first = min(one.expiry for one in calls)
    near, far = sorted((one for one in calls if one.expiry == first), key=lambda one: one.strike)[1:3]
    sandbox.set_price(near.symbol, "12", volume=50)
    sandbox.set_price(far.symbol, "7", volume=50)
    return near, far


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("combos")) as stage:
        symbols = ["US.AAPL@options", "US.AAPL"]
        scopes = ("qot:read", "acc:read", "trade:real")
        key = stage.keys.add("bot", *scopes, max_order_value=100_000, allowed_symbols=symbols, max_order_qty=60)
        sandbox = stage.sandbox(tick_interval=0, unlocked=True)
        near, far = two_calls(sandbox)
        sidecar = stage.sidecar(sandbox.port)
        bot = stage.sdk(sidecar.port, key)
        bot.open("trade", "trade", filter_trdmarket="US")
        yield Scene(sandbox, sidecar, bot, near, far)


def test_a_combo_counts_at_what_its_legs_are_worth_together(scene: Scene) -> None:
    answer = scene.spread(4.0)
    assert answer.ok, answer.data
    line = scene.sidecar.wait_audit(key_id="bot", outcome="allow", symbol=both(scene))
    assert (Decimal(str(line["value"])), line["currency"]) == (Decimal(1900), "USD")


def test_a_combo_over_the_limit_is_refused_although_its_net_price_is_small(scene: Scene) -> None:
    before = scene.arrived()
    answer = scene.spread(4.0, qty=53)
    assert answer.code() == "order_value", answer.data
    assert "order value 100700 USD is over the limit of 100000 USD" in answer.data
    assert scene.arrived() == before


def test_a_debit_far_above_the_market_counts_as_what_would_be_paid(scene: Scene) -> None:
    before = scene.arrived()
    answer = scene.spread(1001.0)
    assert answer.code() == "order_value", answer.data
    assert "order value 100100 USD" in answer.data
    assert scene.arrived() == before


def test_a_combo_with_one_leg_outside_the_list_is_refused(scene: Scene) -> None:
    before = scene.arrived()
    answer = scene.combo(100.0, ("US.AAPL", "BUY", 1), ("US.MSFT", "SELL", 1))
    assert answer.code() == "symbol", answer.data
    assert "US.MSFT" in answer.data
    assert scene.arrived() == before


def test_the_largest_leg_is_held_against_the_limit_of_quantity(scene: Scene) -> None:
    answer = scene.combo(1.0, ("US.AAPL", "BUY", 61), (scene.far.symbol, "SELL", 1))
    assert answer.code() == "order_qty", answer.data


def test_a_combo_is_changed_as_the_whole_it_leads_to_and_cancelled(scene: Scene) -> None:
    answer = scene.spread(3.0)
    assert answer.ok, answer.data
    order = answer.data[0]["order_id"]
    how = {"trd_env": "REAL", "acc_id": REAL, "order_id": order}
    refused = scene.bot.call("trade", "modify_order", modify_order_op="NORMAL", qty=53, price=3.0, **how)
    assert refused.code() == "order_value", refused.data
    assert "order value 100700 USD" in refused.data
    (resting,) = [one for one in scene.sandbox.working(REAL) if one.text_id == order]
    assert (resting.quantity, resting.price) == (1, 3)
    changed = scene.bot.call("trade", "modify_order", modify_order_op="NORMAL", qty=2, price=3.5, **how)
    assert changed.ok, changed.data
    assert (resting.quantity, resting.price) == (2, Decimal("3.5"))
    cancelled = scene.bot.call("trade", "modify_order", modify_order_op="CANCEL", qty=0, price=0, **how)
    assert cancelled.ok, cancelled.data


def both(scene: Scene) -> str:
    return f"BUY 1 {scene.near.symbol} + SELL 1 {scene.far.symbol}"
