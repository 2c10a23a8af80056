"""What an account holds, on its way through the gate: the limit on a position's value, a sale without a quote, and amounts
in one currency."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sidecar.asked import Asked, Forward, Refused
from sidecar.gate import GateSettings
from sidecar.intents.model import (
    AccountRef,
    ComboLeg,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    RestingOrder,
    Security,
    Side,
    TrdEnv,
)
from sidecar.policy.currency import Rates
from sidecar.policy.decision import Code, Decision
from sidecar.policy.usage import Instrument, InstrumentKind, Position, Terms
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.test_gate import ACC, BOT, SECRET, World, _Holdings, _Lookup

HOLDING = f"asked holding of HK.00700 in {ACC}"
TYPE_AND_PRICE = ["asked instrument of HK.00700", "asked quote of HK.00700"]
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)


def rates_of(day: date) -> Rates:
    return Rates("HKD", day, 7, {"USD": Decimal("7.78"), "CNH": Decimal("1.07")})


def in_dollars(world: World, rates: Rates | None) -> None:
    share = Instrument(InstrumentKind.STOCK, Decimal(1), "USD")
    world.look_up_by(instruments=_Lookup(world, "instrument", lambda: share))
    world.gate._settings = GateSettings(terms=Terms(rates=rates))


def used_today(world: World) -> dict[str, Decimal]:
    return world.ledger.usage("bot", time.time()).daily_value


# -- the limit on a position ------------------------------------------------------------------------------------------


async def test_a_buy_asks_what_is_held_and_counts_it(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=330_000)
    assert isinstance(await world.decide(world.place(qty=100, price=300)), Forward)
    assert world.transcript == ["asked instrument of HK.00700", HOLDING, "written", "forwarded"]
    world = World(tmp_path, max_position_value=329_999)
    verdict = await world.decide(world.place(qty=100, price=300))
    assert verdict.code is Code.POSITION_VALUE
    assert "position value 330000 HKD is over the limit of 329999 HKD" in verdict.text
    assert "(1000 held + 0 buying already + 100) of HK.00700" in verdict.text
    assert world.transcript[-2:] == ["noted reject position_value", "refused"]
    assert "written" not in world.transcript


async def test_a_holding_that_is_not_told_or_too_old_refuses(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=10**9)
    world.holding = None
    assert (await world.decide(world.place())).code is Code.POSITION_UNKNOWN
    world.holding, world.holding_is_old = Decimal(1), True
    assert (await world.decide(world.place())).code is Code.POSITION_UNKNOWN


@pytest.mark.parametrize(("side", "holding"), [(1, 1000), (2, -1000)])
async def test_two_orders_at_once_never_both_fit_into_the_last_of_a_position(
    tmp_path: Path, side: int, holding: int
) -> None:
    world = World(tmp_path, max_position_value=330_000)
    world.holding, world.facts_wait = Decimal(holding), 0.02
    verdicts = await asyncio.gather(*(world.decide(world.place(qty=100, side=side)) for _ in range(4)))
    assert sum(isinstance(each, Forward) for each in verdicts) == 1
    assert {each.code for each in verdicts if isinstance(each, Refused)} == {Code.POSITION_VALUE}


async def test_the_orders_of_another_key_count_against_the_same_holding(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=330_000)
    other = {**BOT, "id": "other", "hash": "00" * 32}
    await world.decide(world.place(qty=50))
    world.write_keys({**BOT, "id": "heir", "max_position_value": 330_000}, {**other, "max_position_value": 1})
    world.keys.reload()
    world.caller = world.gate.grants.identify("tcp", SECRET, "127.0.0.1")
    assert world.caller.key_id == "heir"
    verdict = await world.decide(world.place(qty=51))
    assert verdict.code is Code.POSITION_VALUE
    assert "(1000 held + 50 buying already + 51)" in verdict.text
    assert isinstance(await world.decide(world.place(qty=50)), Forward)


async def test_what_opend_refused_is_free_again_and_what_is_unknown_is_not(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=330_000)
    first = await world.decide(world.place(qty=100))
    assert (await world.decide(world.place(qty=100))).code is Code.POSITION_VALUE
    world.ledger.refused_by_opend(first.asked.decision_id)
    assert isinstance(await world.decide(world.place(qty=100)), Forward)


async def test_an_order_on_the_market_counts_until_it_has_ended_and_a_holding_asked_for_later_shows_it(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, max_position_value=330_000)
    first = await world.decide(world.place(qty=100))
    world.ledger.accepted(first.asked.decision_id, 7, "X1")
    assert (await world.decide(world.place(qty=1))).code is Code.POSITION_VALUE
    world.ledger.order_ended(ACC, 7, "X1")
    assert isinstance(await world.decide(world.place(qty=100)), Forward), "cancelled, says a list asked for after it"


async def test_a_sale_of_what_is_held_passes_whatever_is_held(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=1)
    assert isinstance(await world.decide(world.place(qty=1000, side=2)), Forward)
    assert (await world.decide(world.place(qty=1, side=2))).code is Code.POSITION_VALUE, "that would go short"


async def test_a_stop_that_waits_for_its_trigger_counts_against_the_holding_though_opend_does_not_show_it(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, allow_short=False)
    stop = world.place(qty=600, side=2)
    assert isinstance(stop, Asked) and isinstance(stop.intent, PlaceOrder)
    stop.intent = replace(stop.intent, order_type=OrderType.STOP, price=None, aux_price=Decimal(280))
    assert isinstance(await world.decide(stop), Forward)
    world.ledger.accepted(stop.decision_id, 7, "X1")
    verdict = await world.decide(world.place(qty=401, side=2))
    assert verdict.code is Code.SHORT_SALE and "400 can be sold, 0 already reserved" in verdict.text
    limit = await world.decide(world.place(qty=400, side=2))
    assert isinstance(limit, Forward)
    assert (await world.decide(world.place(qty=1, side=2))).code is Code.SHORT_SALE
    world.ledger.refused_by_opend(limit.asked.decision_id)
    world.ledger.order_ended(ACC, 7, "X1")
    assert isinstance(await world.decide(world.place(qty=1000, side=2)), Forward)


# -- changes ----------------------------------------------------------------------------------------------------------


class _Resting:
    """The order list: one buy of 100."""

    async def get(self, account: Any, order: OrderRef) -> RestingOrder:
        ref = AccountRef(ACC, TrdEnv.SIMULATE)
        placed = PlaceOrder(ref, TENCENT, Side.BUY, OrderType.NORMAL, Decimal(100), Decimal(300))
        return RestingOrder(placed, 7, order.order_id_ex, status=5)


def change(world: World, qty: int, order_id_ex: str = "X1") -> Asked:
    request: Any = message_class("Trd_ModifyOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 1, 2
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, ACC, 1
    c2s.orderID, c2s.modifyOrderOp, c2s.orderIDEx, c2s.qty = 0, 1, order_id_ex, qty
    asked = world.gate.understand(world.caller, catalog.CATALOG[catalog.MODIFY_ORDER], lambda: request)
    assert isinstance(asked, Asked), asked
    return asked


async def test_a_change_counts_by_what_it_adds_to_an_order_the_ledger_knows(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=345_000)
    world.look_up_by(orders=_Resting())
    placed = await world.decide(world.place(qty=100))
    world.ledger.accepted(placed.asked.decision_id, 7, "X1")
    verdict = await world.decide(change(world, 151))
    assert verdict.code is Code.POSITION_VALUE
    assert "(1000 held + 100 buying already + 51)" in verdict.text
    assert isinstance(await world.decide(change(world, 150)), Forward)
    assert (await world.decide(change(world, 151))).code is Code.POSITION_VALUE


async def test_a_change_of_an_order_from_elsewhere_counts_all_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=345_000)
    world.look_up_by(orders=_Resting())
    verdict = await world.decide(change(world, 151))
    assert verdict.code is Code.POSITION_VALUE
    assert "(1000 held + 100 buying already + 51)" in verdict.text
    assert isinstance(await world.decide(change(world, 150)), Forward)
    verdict = await world.decide(change(world, 151))
    assert verdict.code is Code.POSITION_VALUE, "nothing of what it has or was given is forgotten"


async def test_two_changes_of_one_order_at_once_never_both_fit(tmp_path: Path) -> None:
    world = World(tmp_path, max_position_value=345_000)
    world.look_up_by(orders=_Resting())
    world.facts_wait = 0.02
    placed = await world.decide(world.place(qty=100))
    world.ledger.accepted(placed.asked.decision_id, 7, "X1")
    verdicts = await asyncio.gather(world.decide(change(world, 150)), world.decide(world.place(qty=50)))
    assert sorted(type(each).__name__ for each in verdicts) == ["Forward", "Refused"]


# -- a sale without a quote -------------------------------------------------------------------------------------------


async def test_a_sale_without_a_quote_asks_what_the_holding_is_worth_and_only_then(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.quote, world.holding_price = None, Decimal(480)
    assert isinstance(await world.decide(world.place(qty=200, price=0.01, side=2)), Forward)
    assert world.transcript == [*TYPE_AND_PRICE, HOLDING, "written", "forwarded"]
    assert used_today(world) == {"HKD": Decimal(96_000)}
    verdict = await world.decide(world.place(qty=209, price=0.01, side=2))
    assert verdict.code is Code.ORDER_VALUE
    world.quote, world.transcript = Decimal(300), []
    await world.decide(world.place(qty=200, price=0.01, side=2))
    assert HOLDING not in world.transcript, "there is a quote"


async def test_a_buy_without_a_quote_asks_for_no_holding(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.quote, world.holding_price = None, Decimal(480)
    assert isinstance(await world.decide(world.place(qty=200)), Forward)
    assert HOLDING not in world.transcript


async def test_a_security_that_is_unknown_is_not_asked_for_among_the_holdings(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.quote = None
    world.look_up_by(instruments=_Lookup(world, "instrument", lambda: None))
    assert (await world.decide(world.place(side=2))).code is Code.PRICE_UNAVAILABLE
    assert HOLDING not in world.transcript


async def test_what_is_not_held_has_no_price(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.quote, world.holding, world.holding_price = None, Decimal(0), Decimal(480)
    assert (await world.decide(world.place(side=2))).code is Code.PRICE_UNAVAILABLE


async def test_quote_and_holding_together_take_no_longer_than_the_facts_of_an_order_may(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.quote, world.holding_price, world.facts_wait = None, Decimal(480), 0.6
    world.gate._facts._timeout = 0.75
    begun = time.monotonic()
    assert (await world.decide(world.place(side=2))).code is Code.PRICE_UNAVAILABLE
    assert time.monotonic() - begun < 1.15


async def test_a_price_grown_old_behind_other_orders_is_asked_for_again(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.quote, world.holding_price = None, Decimal(480)
    holdings = _Aging(world)
    world.look_up_by(positions=holdings)
    asked = world.place(qty=200, side=2)
    assert isinstance(asked, Asked)
    world.gate.prefetch(asked)
    assert asked.gathering is not None
    await asked.gathering
    holdings.old, world.holding_price = 1, Decimal(600)
    assert (await world.decide(asked)).code is Code.ORDER_VALUE


class _Aging(_Holdings):
    """The first answer is too old once `old` is set; the next one is not."""

    old = 0

    def fresh(self, position: Position) -> bool:
        self.old, was = max(0, self.old - 1), self.old
        return not was


async def test_only_the_legs_that_sell_without_a_quote_are_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.quote, world.holding_price = None, Decimal(480)
    other = replace(TENCENT, symbol="HK.00005", code="00005")
    legs = (ComboLeg(other, Side.BUY, Decimal(1)), ComboLeg(TENCENT, Side.SELL, Decimal(1)))
    combo = PlaceCombo(AccountRef(ACC, TrdEnv.SIMULATE), legs, OrderType.NORMAL, Decimal(10), Decimal(1))
    facts = await world.gate._facts.gather(world.caller, combo, lambda known: False)
    assert [each.position is None for each in facts.legs] == [True, False]
    assert world.transcript.count(HOLDING) == 1


# -- one currency -----------------------------------------------------------------------------------------------------


async def test_an_order_is_reserved_and_recorded_in_the_currency_of_its_key(tmp_path: Path) -> None:
    world = World(tmp_path, max_daily_value=700_000, cap_currency="HKD")
    in_dollars(world, rates_of(datetime.now(UTC).date()))
    assert isinstance(await world.decide(world.place(qty=100, price=300)), Forward)
    assert used_today(world) == {"HKD": Decimal(233_400)}
    assert (world.records[-1].value, world.records[-1].currency) == (Decimal(233_400), "HKD")
    assert isinstance(await world.decide(world.place(qty=200, price=299)), Forward)
    verdict = await world.decide(world.place(qty=1, price=200))
    assert verdict.code is Code.DAILY_VALUE
    assert "698644 used + 1556 this order = 700200 HKD" in verdict.text


async def test_a_day_goes_on_when_the_currency_of_a_key_is_changed(tmp_path: Path) -> None:
    world = World(tmp_path, max_daily_value=700_000, cap_currency="HKD")
    in_dollars(world, rates_of(datetime.now(UTC).date()))
    await world.decide(world.place(qty=100, price=300))
    world.write_keys({**BOT, "max_daily_value": 45_000, "cap_currency": "USD"})
    world.keys.reload()
    verdict = await world.decide(world.place(qty=51, price=300))
    assert verdict.code is Code.DAILY_VALUE
    assert "30000 used + 15300 this order = 45300 USD" in verdict.text
    assert isinstance(await world.decide(world.place(qty=50, price=300)), Forward)
    assert used_today(world) == {"HKD": Decimal(233_400), "USD": Decimal(15_000)}


@pytest.mark.parametrize("rates", [None, rates_of(date(2020, 1, 1)), rates_of(date(2120, 1, 1))])
async def test_without_rates_that_can_be_used_the_order_is_refused(tmp_path: Path, rates: Rates | None) -> None:
    world = World(tmp_path, max_order_value=10**9, cap_currency="HKD")
    in_dollars(world, rates)
    assert (await world.decide(world.place())).code is Code.FX_UNAVAILABLE
    assert "written" not in world.transcript and used_today(world) == {}
    asked = world.cancel()
    assert isinstance(asked, Asked) and isinstance(world.gate.decide_now(asked), Forward)


async def test_a_dry_run_tells_the_rate_and_the_position(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=10**6, max_position_value=10**7, cap_currency="HKD")
    today = datetime.now(UTC).date()
    in_dollars(world, rates_of(today))
    asked = world.place(qty=100, price=300)
    assert isinstance(asked, Asked)
    asked.rehearsal = True
    decision = await world.gate.rehearse(asked)
    assert isinstance(decision, Decision)
    assert decision.worth is not None
    assert decision.worth.explanation == "100 × 300 (limit) × 1 = 30000 USD × 7.78 = 233400 HKD"
    told = {finding.rule: finding.detail for finding in decision.findings}
    assert told["rates of exchange"] == f"into HKD: USD × 7.78, of {today}"
    assert told["holding"] == "1000 of HK.00700 held, 0 being bought, 0 being sold"
    assert told["position value"] == (
        "(1000 held + 0 buying already + 100) of HK.00700 × 300 (limit) × 1 = 330000 USD × 7.78 = 2567400 HKD,"
        " the limit is 10000000 HKD"
    )
    assert used_today(world) == {}
