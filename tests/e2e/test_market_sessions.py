"""The market's own sessions and continuous futures codes, met by the official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import Answer, SdkProcess

from sidecar.sandbox.sessions import MarketState

TRADER = ("qot:read", "acc:read", "trade:simulate")
TENCENT = {"code": "HK.00700", "price": 400, "qty": 100}
APPLE = {"code": "US.AAPL", "price": 180, "qty": 1}
MAIN = {"code": "HK.HSImain", "price": 20_000, "qty": 1}
MODIFY = 2205


@dataclass(frozen=True)
class Scene:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    bot: SdkProcess
    keys: dict[str, str]
    contract: str
    """The code of the contract that `HSImain` stands for."""

    def place(self, context: str, wanted: dict[str, Any], **more: Any) -> Answer:
        return self.bot.call(context, "place_order", trd_side="BUY", trd_env="SIMULATE", **wanted, **more)

    def sent(self) -> list[str]:
        """Codes of the orders that reached OpenD."""
        return [order["code"] for order in self.sandbox.orders()]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("sessions")) as stage:
        sandbox = stage.sandbox(
            tick_interval=0,
            relaxed_paper=True,
            market_states={
                "HK": MarketState.MORNING,
                "US": MarketState.AFTER_HOURS_BEGIN,
                "HK_FUTURES": MarketState.NIGHT_OPEN,
                "US_FUTURES": MarketState.FUTURE_CLOSE,
            },
        )
        main = sandbox.sandbox.market.listing.find_symbol("HK.HSImain")
        assert main is not None
        assert main.owner is not None
        contract = main.owner.code
        limits: dict[str, dict[str, Any]] = {
            "sessions": {"trading_hours": True},
            "any-time": {},
            "contract": {"allowed_symbols": [f"HK.{contract}"], "max_order_value": 1_500_000},
            "main": {"allowed_symbols": ["HK.HSImain"]},
        }
        keys = {name: stage.keys.add(name, *TRADER, **limit) for name, limit in limits.items()}
        sidecar = stage.sidecar(sandbox.port)
        bot = stage.sdk(sidecar.port, None)
        for name, key in keys.items():
            bot.open(f"{name} HK", "trade", key=key, filter_trdmarket="HK")
            bot.open(f"{name} US", "trade", key=key, filter_trdmarket="US")
            bot.open(f"{name} futures", "future", key=key)
        yield Scene(sandbox, sidecar, bot, keys, contract)


def test_an_order_passes_in_its_market_s_session_and_not_outside(scene: Scene) -> None:
    fine = scene.place("sessions HK", TENCENT)
    assert fine.ok, fine.data
    before = scene.sent()

    answer = scene.place("sessions US", APPLE)
    assert answer.code() == "market_closed", answer.data
    assert "the market of `US.AAPL` is in after-hours trading, and the order does not ask for it" in answer.data
    assert scene.sent() == before
    assert scene.place("any-time US", APPLE).ok


def test_an_order_that_asks_for_extended_hours_passes_in_them(scene: Scene) -> None:
    answer = scene.place("sessions US", APPLE, fill_outside_rth=True)
    assert answer.ok, answer.data


def test_futures_have_sessions_of_their_own(scene: Scene) -> None:
    fine = scene.place("sessions futures", MAIN)
    assert fine.ok, fine.data
    answer = scene.place("sessions futures", {"code": "US.ESmain", "price": 5_000, "qty": 1})
    assert answer.code() == "market_closed", answer.data
    assert "OpenD reports FUTURE_CLOSE" in answer.data


def test_a_cancel_works_after_the_close_and_a_change_does_not(scene: Scene) -> None:
    placed = scene.place("sessions HK", {**TENCENT, "price": 390})
    assert placed.ok, placed.data
    order_id = placed.data[0]["order_id"]
    terms = {"order_id": order_id, "qty": 100, "price": 391, "trd_env": "SIMULATE"}
    scene.sandbox.set_market_state("HK", MarketState.CLOSED)
    try:
        closed = eventually(  # what is known of a market is up to 5 seconds old
            lambda: [each for each in [scene.place("sessions HK", {**TENCENT, "price": 1})] if not each.ok],
            10,
            "the close to be known",
        )[0]
        assert closed.code() == "market_closed", closed.data
        assert "OpenD reports CLOSED" in closed.data

        changed = scene.bot.call("sessions HK", "modify_order", modify_order_op="NORMAL", **terms)
        assert changed.code() == "market_closed", changed.data
        assert not scene.sandbox.received(MODIFY)

        gone = scene.bot.call("sessions HK", "modify_order", modify_order_op="CANCEL", **terms)
        assert gone.ok, gone.data
    finally:
        scene.sandbox.set_market_state("HK", MarketState.MORNING)


def test_a_continuous_code_is_sent_and_listed_as_its_contract(scene: Scene) -> None:
    placed = scene.place("contract futures", {**MAIN, "remark": "continuous"})
    assert placed.ok, placed.data
    sent = next(order for order in scene.sandbox.orders() if order.get("remark") == "continuous")
    assert sent["code"] == scene.contract

    order_id = placed.data[0]["order_id"]
    listed = scene.bot.call("contract futures", "order_list_query", trd_env="SIMULATE")
    assert {row["order_id"]: row["code"] for row in listed.data}[order_id] == f"HK.{scene.contract}"
    record = scene.sidecar.wait_audit(key_id="contract", outcome="allow", market="HK")
    assert record["symbol"] == f"HK.{scene.contract}"
    assert record["value"] == 1_000_000  # 20 000 × 50, by the contract
    gone = scene.bot.call(
        "contract futures", "modify_order", modify_order_op="CANCEL", order_id=order_id, qty=0, price=0, trd_env="SIMULATE"
    )  # fmt: skip
    assert gone.ok, gone.data


def test_limits_look_at_the_contract(scene: Scene) -> None:
    before = scene.sent()
    over = scene.place("contract futures", {**MAIN, "qty": 2})
    assert over.code() == "order_value", over.data
    other = scene.place("main futures", MAIN)
    assert other.code() == "symbol", other.data
    assert f"`HK.{scene.contract}` is not one of this key's allowed_symbols" in other.data
    assert scene.sent() == before


def test_a_code_that_stands_for_nothing_is_refused_and_not_sent(scene: Scene) -> None:
    before = scene.sent()
    answer = scene.place("any-time futures", {**MAIN, "code": "HK.XYZmain"})
    assert answer.code() == "instrument_unknown", answer.data
    assert "which contract `HK.XYZmain` stands for now could not be found out" in answer.data
    assert scene.sent() == before
