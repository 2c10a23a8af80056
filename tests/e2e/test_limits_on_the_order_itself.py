"""The limits on the order itself, met by the official SDK: its type, session, price beside the market's, size, repetition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage
from official_sdk import Answer, SdkProcess
from rest_client import RestClient, order

TRADER = ("qot:read", "acc:read", "trade:simulate")
TENCENT = {"code": "HK.00700", "price": 400, "qty": 100}
APPLE = {"code": "US.AAPL", "price": 180, "qty": 10}


@dataclass(frozen=True)
class Case:
    """Limits, an order they allow, and one they do not. HK.00700 is at 480, US.AAPL at 200."""

    limits: dict[str, Any]
    allowed: dict[str, Any]
    refused: dict[str, Any]
    says: str
    market: str = "HK"


CASES = {
    "order_type": Case(
        {"allowed_order_types": ["NORMAL"]}, TENCENT, {**TENCENT, "order_type": "MARKET"},
        "order type MARKET is not allowed, this key has NORMAL",
    ),
    "order_qty": Case({"max_order_qty": 100}, TENCENT, {**TENCENT, "qty": 200}, "quantity 200 is over the limit of 100"),
    "price_collar": Case(
        {"price_collar_pct": 2.5}, {**TENCENT, "price": 492}, {**TENCENT, "price": 492.2},
        "a buy at 492.2 for `HK.00700` is above the limit of 492, 2.5 % above the quote of 480",
    ),
    "price_collar of a sale": Case(
        {"price_collar_pct": 2.5}, {**TENCENT, "side": "SELL", "price": 468}, {**TENCENT, "side": "SELL", "price": 0.2},
        "a sale at 0.2 for `HK.00700` is below the limit of 468, 2.5 % below the quote of 480",
    ),
    "duplicate": Case(
        {"duplicate_window_s": 600}, TENCENT, TENCENT, "the same order, BUY 100 HK.00700 at 400, was placed",
    ),
    "extended_hours": Case(
        {"extended_hours": False}, APPLE, {**APPLE, "fill_outside_rth": True}, "fillOutsideRTH", market="US",
    ),
    "extended_hours by session": Case(
        {"extended_hours": False}, APPLE, {**APPLE, "session": "OVERNIGHT"}, "session OVERNIGHT", market="US",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    bot: SdkProcess
    keys: dict[str, str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("order-limits")) as stage:
        keys = {name: stage.keys.add(name.replace(" ", "-"), *TRADER, **case.limits) for name, case in CASES.items()}
        sandbox = stage.sandbox(tick_interval=0, relaxed_paper=True)
        sandbox.do(lambda: sandbox.sandbox.set_price("HK.00700", "480"))
        sidecar = stage.sidecar(sandbox.port)
        yield Scene(sandbox, sidecar, stage.sdk(sidecar.port, None), keys)


def place(bot: SdkProcess, context: str, wanted: dict[str, Any]) -> Answer:
    terms = {"side": "BUY", "trd_env": "SIMULATE", **wanted}
    return bot.call(context, "place_order", trd_side=terms.pop("side"), **terms)


@pytest.mark.parametrize("name", CASES)
def test_an_order_that_the_limit_allows_passes_and_the_other_is_refused_with_its_code(name: str, scene: Scene) -> None:
    case, bot, code = CASES[name], scene.bot, name.partition(" ")[0]
    bot.open(name, "trade", key=scene.keys[name], filter_trdmarket=case.market)

    fine = place(bot, name, {**case.allowed, "remark": f"{name} allowed"})
    assert fine.ok, fine.data
    answer = place(bot, name, {**case.refused, "remark": f"{name} refused"})

    assert answer.ret == -1
    assert answer.code() == code, answer.data
    assert case.says in answer.data
    line = scene.sidecar.wait_audit(key_id=name.replace(" ", "-"), outcome="reject", reason=code)
    assert line["decision_id"] in answer.data
    arrived = [one["remark"] for one in scene.sandbox.orders() if one.get("remark", "").startswith(f"{name} ")]
    assert arrived == [f"{name} allowed"], "nothing of what was refused reached OpenD"
    bot.close(name)


def test_a_bot_that_sends_its_order_ten_times_at_once_has_placed_it_once(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, duplicate_window_s=600)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    for number in range(5):
        bot.open(f"trade{number}", "trade")
    terms = {"price": 400, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "SIMULATE"}
    calls = [
        {"context": f"trade{each % 5}", "method": "place_order", "args": [], "kwargs": terms} for each in range(10)
    ]
    answers = bot.begin("together", calls=calls).result(60).data
    assert sum(answer[0] == 0 for answer in answers) == 1
    assert sum(str(answer[1]).startswith("[sidecar:duplicate]") for answer in answers) == 9
    assert len(sandbox.orders()) == 1

    sidecar.kill()
    sidecar.start()
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    refused = place(bot, "trade", TENCENT)
    assert refused.code() == "duplicate", "a restart forgets no order"
    assert place(bot, "trade", {**TENCENT, "price": 400.2}).ok
    assert len(sandbox.orders()) == 2


def test_over_rest_a_repetition_says_when_to_come_back_unless_it_is_told_to_be_the_same_request(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, duplicate_window_s=600, allowed_order_types=["NORMAL"], max_order_qty=200)
    bot = RestClient(stage.sidecar(sandbox.port).doors["rest"], key)
    told = bot.get("/api/key").s2c
    assert (told["allowed_order_types"], told["max_order_qty"], told["duplicate_window_s"]) == (["NORMAL"], "200", 600)
    assert (told["price_collar_pct"], told["extended_hours"]) == (None, True)

    first = bot.post("/api/order", order(), **{"Idempotency-Key": "once"})
    again = bot.post("/api/order", order(), **{"Idempotency-Key": "once"})
    assert again.s2c == first.s2c, "asking twice for one order is no repetition of it"
    repeated = bot.post("/api/order", order())
    assert (repeated.status, repeated.code) == (403, "duplicate")
    assert 590 < int(repeated.headers["retry-after"]) <= 600
    dry = bot.post("/api/order", order(qty=300, dry_run=True)).s2c
    found = {one["check"]: one["passed"] for one in dry["checks"]}
    assert (found["order type"], found["quantity"], found["duplicate"]) == (True, False, True)
    assert len(sandbox.orders()) == 1
