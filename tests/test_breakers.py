"""Breakers: what each counts and what not, what a trip leaves behind, and that one key's never stops another."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.record import AuditRecord
from sidecar.breakers import MOST_TERMS, NOT_THE_KEYS_DOING, Breakers
from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    ComboLeg,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    Security,
    Side,
    TrdEnv,
)
from sidecar.ledger.states import States
from sidecar.metrics import Metrics
from sidecar.policy.decision import Code
from sidecar.policy.trading import ACTIVE, TradingState
from sidecar.settings import Breakers as Settings

ACC = AccountRef(1001, TrdEnv.REAL)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
ORDER = PlaceOrder(ACC, TENCENT, Side.BUY, OrderType.NORMAL, Decimal(100), Decimal("350.0"))
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
DAY = NOON.replace(hour=0).timestamp()


class World:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.elapsed = 100.0
        self.now = NOON
        self.records: list[AuditRecord] = []
        self.states = States(folder, now=lambda: self.now)
        self.metrics = Metrics()
        self.metrics.set_keys(["bot", "other"], "r1")
        self.breakers = Breakers(
            Settings(**settings), states=self.states, recorder=self, metrics=self.metrics,  # type: ignore[arg-type]
            revision=lambda: "r1", elapsed=lambda: self.elapsed, now=lambda: self.now,
        )  # fmt: skip

    def note(self, record: AuditRecord) -> None:
        self.records.append(record)

    def state(self, key_id: str = "bot") -> TradingState:
        return self.states.of(key_id).state

    def trips(self, breaker: str, key_id: str = "bot") -> float | None:
        return self.metrics.registry.get_sample_value(
            "sidecar_breaker_trips_total", {"breaker": breaker, "key_id": key_id}
        )

    def refuse(self, times: int, code: Code = Code.ORDER_VALUE, key_id: str = "bot") -> None:
        for _ in range(times):
            self.breakers.order_refused(key_id, code)

    def send(self, times: int, order: Any = ORDER, key_id: str = "bot") -> None:
        for _ in range(times):
            self.breakers.order_came(key_id, order)


def test_with_every_breaker_off_nothing_is_ever_halted(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.refuse(1000)
    world.send(1000)
    world.breakers.order_allowed("bot", 1001)
    world.breakers.day_lost(1001, Decimal(10**9), DAY)
    assert world.state() is TradingState.ACTIVE
    assert world.records == []


# -- other limits while it runs ---------------------------------------------------------------------------------------


def test_limits_that_change_are_counted_anew_and_those_that_do_not_go_on(tmp_path: Path) -> None:
    world = World(tmp_path, refusals_in_a_row=4, identical_orders=5)
    world.refuse(3)
    world.send(3)
    world.breakers.use(Settings(refusals_in_a_row=4, identical_orders=6))
    world.send(5)
    assert world.state() is TradingState.ACTIVE, "the new limit, from the start"
    world.refuse(1)
    assert world.state() is TradingState.HALTED, "those before still count"


def test_a_larger_number_of_the_same_order_is_reached(tmp_path: Path) -> None:
    world = World(tmp_path, identical_orders=2)
    world.send(1)
    world.breakers.use(Settings(identical_orders=3))
    world.send(2)
    assert world.state() is TradingState.ACTIVE
    world.send(1)
    assert world.state() is TradingState.HALTED


def test_a_breaker_switched_on_counts_from_then_on_and_switched_off_leaves_halts(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.refuse(9)
    world.breakers.use(Settings(refusals_in_a_row=2))
    world.refuse(1)
    assert world.state() is TradingState.ACTIVE
    world.refuse(1)
    assert world.state() is TradingState.HALTED
    world.breakers.use(Settings())
    assert world.state() is TradingState.HALTED


def test_a_loss_that_was_resumed_counts_anew_in_another_currency(tmp_path: Path) -> None:
    world = World(tmp_path, daily_loss=5000, daily_loss_currency="HKD")
    world.breakers.order_allowed("bot", 1001)
    world.breakers.day_lost(1001, Decimal(6000), DAY)
    world.states.resume("bot")
    world.breakers.use(Settings(daily_loss=500, daily_loss_currency="USD"))
    world.breakers.day_lost(1001, Decimal(770), DAY)
    assert world.state() is TradingState.HALTED


# -- refusals in a row ------------------------------------------------------------------------------------------------


def test_so_many_refusals_in_a_row_halt_the_key_and_no_other(tmp_path: Path) -> None:
    world = World(tmp_path, refusals_in_a_row=20)
    world.refuse(19)
    assert world.state() is TradingState.ACTIVE
    world.refuse(1, Code.RATE)
    standing = world.states.of("bot")
    assert standing.state is TradingState.HALTED
    assert standing.reason == "20 orders in a row were refused, the last one with rate"
    assert (standing.breaker, standing.by) == ("refusals_in_a_row", "the breaker refusals_in_a_row")
    assert world.states.of("other") == world.states.overall == ACTIVE


def test_an_order_that_is_allowed_ends_the_row(tmp_path: Path) -> None:
    world = World(tmp_path, refusals_in_a_row=3)
    for _ in range(10):
        world.refuse(2)
        world.breakers.order_allowed("bot", 1001)
    assert world.state() is TradingState.ACTIVE


def test_refusals_of_several_keys_do_not_add_up(tmp_path: Path) -> None:
    world = World(tmp_path, refusals_in_a_row=3)
    for _ in range(2):
        world.refuse(1, key_id="bot")
        world.refuse(1, key_id="other")
    assert world.state("bot") is world.state("other") is TradingState.ACTIVE


@pytest.mark.parametrize("code", sorted(NOT_THE_KEYS_DOING))
def test_what_is_not_the_keys_doing_is_not_counted(tmp_path: Path, code: Code) -> None:
    world = World(tmp_path, refusals_in_a_row=2)
    world.refuse(100, code)
    assert world.state() is TradingState.ACTIVE


@pytest.mark.parametrize("code", sorted(set(Code) - NOT_THE_KEYS_DOING))
def test_every_other_refusal_is(tmp_path: Path, code: Code) -> None:
    world = World(tmp_path, refusals_in_a_row=2)
    world.refuse(2, code)
    assert world.state() is TradingState.HALTED


# -- identical orders -------------------------------------------------------------------------------------------------


def test_the_same_order_so_many_times_within_the_window_halts_the_key(tmp_path: Path) -> None:
    world = World(tmp_path, identical_orders=5, identical_window=60.0)
    world.send(4)
    assert world.state() is TradingState.ACTIVE
    world.elapsed += 59.9
    world.send(1, replace(ORDER, price=Decimal(350)))
    standing = world.states.of("bot")
    assert standing.state is TradingState.HALTED
    assert standing.reason == "the 5th order for BUY 100 HK.00700 at 350 within 60 s, which is a loop"


def test_orders_that_left_the_window_do_not_count(tmp_path: Path) -> None:
    world = World(tmp_path, identical_orders=5, identical_window=60.0)
    for _ in range(50):
        world.elapsed += 15.1
        world.send(1)
    assert world.state() is TradingState.ACTIVE


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, account=AccountRef(1002, TrdEnv.REAL)),
        replace(ORDER, account=AccountRef(1001, TrdEnv.SIMULATE)),
        replace(ORDER, security=Security("HK", "HK.00005", 1, "00005", 1)),
        replace(ORDER, side=Side.SELL),
        replace(ORDER, order_type=OrderType.ABSOLUTE_LIMIT),
        replace(ORDER, qty=Decimal(200)),
        replace(ORDER, price=Decimal("350.2")),
        replace(ORDER, price=None),
    ],
)
def test_an_order_that_differs_in_one_thing_is_another_one(tmp_path: Path, other: PlaceOrder) -> None:
    world = World(tmp_path, identical_orders=2)
    world.send(1)
    world.send(1, other)
    assert world.state() is TradingState.ACTIVE
    world.send(1, other)
    assert world.state() is TradingState.HALTED


def test_combos_are_orders_and_changes_and_cancels_are_not(tmp_path: Path) -> None:
    world = World(tmp_path, identical_orders=2)
    ref = OrderRef(0, "A1")
    for each in (CancelOrder(ACC, ref), ModifyOrder(ACC, ModifyOp.NORMAL, ref, Decimal(1), Decimal(1)), None):
        world.send(100, each)
    assert world.state() is TradingState.ACTIVE
    legs = (ComboLeg(TENCENT, Side.BUY, Decimal(1)), ComboLeg(TENCENT, Side.SELL, Decimal(2)))
    world.send(2, PlaceCombo(ACC, legs, OrderType.NORMAL, Decimal(3), Decimal(1)))
    assert world.states.of("bot").reason.startswith("the 2nd order for 3 of BUY 1 HK.00700 + SELL 2 HK.00700 within")


def test_what_is_remembered_of_a_flood_is_bounded(tmp_path: Path) -> None:
    world = World(tmp_path, identical_orders=5, identical_window=3600.0)
    for number in range(MOST_TERMS + 500):
        world.send(1, replace(ORDER, price=Decimal(number)))
    world.states.halt("bot", "loop", "the owner")
    world.send(500, replace(ORDER, price=Decimal(0)))
    watched = world.breakers._keys["bot"]
    assert len(watched.orders) <= MOST_TERMS
    assert max(len(each) for each in watched.orders.values()) <= 5


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3)), max_size=60))
def test_it_trips_exactly_when_a_plain_count_says_so(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[float, int]]
) -> None:
    world = World(tmp_path_factory.mktemp("states"), identical_orders=4, identical_window=20.0)
    came: list[tuple[float, int]] = []
    for wait, which in events:
        world.elapsed += wait
        came.append((world.elapsed, which))
        world.send(1, replace(ORDER, qty=Decimal(which + 1)))
        same = [at for at, one in came if one == which and at > world.elapsed - 20.0]
        assert (world.state() is TradingState.HALTED) == (len(same) >= 4)
        if len(same) >= 4:
            return


# -- the day's loss ---------------------------------------------------------------------------------------------------


def loses(folder: Path) -> World:
    return World(folder, daily_loss=Decimal(5000), daily_loss_currency="HKD")


def test_a_loss_over_the_limit_halts_every_key_that_placed_orders_in_the_account_today(tmp_path: Path) -> None:
    world = loses(tmp_path)
    world.breakers.order_allowed("bot", 1001)
    world.breakers.order_allowed("other", 1002)
    world.breakers.day_lost(1001, Decimal(5000), DAY)
    assert world.state() is TradingState.ACTIVE, "up to the limit it may lose"
    world.breakers.day_lost(1001, Decimal("5000.01"), DAY)
    standing = world.states.of("bot")
    assert (standing.state, standing.breaker) == (TradingState.HALTED, "daily_loss")
    assert world.state("other") is TradingState.ACTIVE


def test_how_much_was_lost_is_told_to_the_owner_and_not_to_the_key(tmp_path: Path) -> None:
    world = loses(tmp_path)
    world.breakers.order_allowed("bot", 1001)
    world.breakers.day_lost(1001, Decimal("7812.555"), DAY)
    standing = world.states.of("bot")
    assert standing.reason == "account 1001 has lost more than 5000 HKD today"
    assert standing.by == "the breaker daily_loss (7812.56 HKD lost)"
    assert "7812" not in standing.told(NOON)
    assert "7812.56 HKD lost" in (world.records[-1].message or "")


def test_a_gain_halts_nobody(tmp_path: Path) -> None:
    world = loses(tmp_path)
    world.breakers.order_allowed("bot", 1001)
    world.breakers.day_lost(1001, Decimal(-100_000), DAY)
    assert world.state() is TradingState.ACTIVE


def test_orders_of_the_day_before_do_not_count_and_those_of_before_a_restart_do(tmp_path: Path) -> None:
    world = loses(tmp_path)
    world.breakers.remember("bot", 1001, DAY - 1)
    world.breakers.remember("other", 1001, DAY + 1)
    world.breakers.remember("other", 1001, DAY - 5)
    assert world.breakers.traded_since(DAY) == {1001: ["other"]}
    world.breakers.day_lost(1001, Decimal(9000), DAY)
    assert world.state() is TradingState.ACTIVE
    assert world.state("other") is TradingState.HALTED


def test_a_key_that_is_halted_is_not_looked_at(tmp_path: Path) -> None:
    world = loses(tmp_path)
    world.breakers.order_allowed("bot", 1001)
    world.states.halt("bot", "lunch", "the owner")
    assert world.breakers.traded_since(DAY) == {}


def test_once_resumed_only_what_is_lost_on_top_counts_and_the_next_day_all_of_it(tmp_path: Path) -> None:
    world = loses(tmp_path)
    world.breakers.order_allowed("bot", 1001)
    world.breakers.day_lost(1001, Decimal(6000), DAY)
    resume(world)
    world.breakers.day_lost(1001, Decimal(6000), DAY)
    world.breakers.day_lost(1001, Decimal(11_000), DAY)
    assert world.state() is TradingState.ACTIVE
    world.breakers.day_lost(1001, Decimal(11_001), DAY)
    assert world.state() is TradingState.HALTED
    resume(world)
    world.now = NOON.replace(day=6)
    world.breakers.order_allowed("bot", 1001)
    world.breakers.day_lost(1001, Decimal(5001), DAY + 86_400)
    assert world.state() is TradingState.HALTED


# -- what a trip leaves behind ----------------------------------------------------------------------------------------


def resume(world: World, key_id: str = "bot") -> None:
    world.states.resume(key_id)
    world.breakers.resumed(key_id)


@pytest.mark.parametrize(
    ("settings", "trip", "breaker"),
    [
        ({"refusals_in_a_row": 2}, lambda world: world.refuse(2), "refusals_in_a_row"),
        ({"identical_orders": 2}, lambda world: world.send(2), "identical_orders"),
    ],
)
def test_a_trip_is_recorded_counted_and_durable_and_after_resume_the_count_begins_anew(
    tmp_path: Path, settings: dict[str, Any], trip: Callable[[World], None], breaker: str
) -> None:
    world = World(tmp_path, **settings)
    trip(world)
    (record,) = world.records
    assert (record.endpoint, record.iface, record.key_id, record.reason) == ("halt", "sidecar", "bot", "breaker")
    assert record.essential
    assert f"key `bot`, by the breaker {breaker}: " in (record.message or "")
    assert world.trips(breaker) == 1
    trip(world)
    assert world.trips(breaker) == 1, "what is halted does not trip again"

    assert world.states.save_now()
    assert States(tmp_path).of("bot") == world.states.of("bot"), "after a restart it is halted by the same breaker"

    resume(world)
    if breaker == "refusals_in_a_row":
        world.refuse(1)
    else:
        world.send(1)
    assert world.state() is TradingState.ACTIVE
    trip(world)
    assert world.trips(breaker) == 2


def test_a_halt_of_the_owner_is_not_replaced_by_a_breaker_and_one_of_reducing_is(tmp_path: Path) -> None:
    world = World(tmp_path, refusals_in_a_row=2)
    world.states.halt("bot", "lunch", "the owner")
    world.refuse(5)
    assert world.states.of("bot").reason == "lunch"
    resume(world)
    world.states.halt("bot", "after the close", "the owner", state=TradingState.REDUCING)
    world.refuse(2)
    assert world.states.of("bot").breaker == "refusals_in_a_row"


def test_a_file_of_states_from_before_there_were_breakers_is_read(tmp_path: Path) -> None:
    world = World(tmp_path, refusals_in_a_row=2)
    world.states.halt("bot", "lunch", "the owner")
    assert world.states.save_now()
    tree = json.loads((tmp_path / "states.json").read_text())
    assert "breaker" not in tree["keys"]["bot"]
    assert States(tmp_path).of("bot").breaker == ""
