"""Market states: by the exchange's clock, by order, and what a closed market does to orders."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from sandbox_client import PAPER_HK, REAL, STILL, RawClient, security

from sidecar.errors import ConfigError
from sidecar.sandbox import Sandbox
from sidecar.sandbox.instruments import HK, JP, SG, SH, SZ, US, Kind
from sidecar.sandbox.sessions import MarketState, Sessions, at_the_exchange, parse_states

S = MarketState
HONG_KONG, NEW_YORK, TOKYO = ZoneInfo("Asia/Hong_Kong"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Tokyo")
MONDAY, FRIDAY, SATURDAY, SUNDAY = "2026-11-16", "2026-11-20", "2026-11-21", "2026-11-22"


def at(zone: ZoneInfo, day: str, minute: str) -> float:
    return datetime.fromisoformat(f"{day}T{minute}").replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("market", "kind", "zone", "day", "minute", "state"),
    [
        (HK, Kind.STOCK, HONG_KONG, MONDAY, "08:59", S.CLOSED),
        (HK, Kind.STOCK, HONG_KONG, MONDAY, "09:10", S.AUCTION),
        (HK, Kind.WARRANT, HONG_KONG, MONDAY, "09:30", S.MORNING),
        (HK, Kind.STOCK, HONG_KONG, MONDAY, "12:30", S.REST),
        (HK, Kind.OPTION, HONG_KONG, MONDAY, "15:59", S.AFTERNOON),
        (HK, Kind.STOCK, HONG_KONG, MONDAY, "16:05", S.HK_CAS),
        (HK, Kind.STOCK, HONG_KONG, SATURDAY, "11:00", S.CLOSED),
        (US, Kind.STOCK, NEW_YORK, MONDAY, "03:00", S.OVERNIGHT),
        (US, Kind.STOCK, NEW_YORK, MONDAY, "08:00", S.PRE_MARKET_BEGIN),
        (US, Kind.ETF, NEW_YORK, MONDAY, "15:00", S.AFTERNOON),
        (US, Kind.STOCK, NEW_YORK, FRIDAY, "17:00", S.AFTER_HOURS_BEGIN),
        (US, Kind.STOCK, NEW_YORK, FRIDAY, "21:00", S.CLOSED),
        (US, Kind.STOCK, NEW_YORK, SUNDAY, "21:00", S.OVERNIGHT),
        (US, Kind.OPTION, NEW_YORK, MONDAY, "08:00", S.CLOSED),
        (US, Kind.OPTION, NEW_YORK, MONDAY, "10:00", S.MORNING),
        (SH, Kind.STOCK, HONG_KONG, MONDAY, "15:10", S.STIB_AFTER_HOURS_BEGIN),
        (SZ, Kind.STOCK, HONG_KONG, MONDAY, "13:00", S.AFTERNOON),
        (SG, Kind.STOCK, HONG_KONG, MONDAY, "09:00", S.MORNING),
        (JP, Kind.STOCK, TOKYO, MONDAY, "12:00", S.REST),
        (HK, Kind.FUTURE, HONG_KONG, MONDAY, "10:00", S.FUTURE_DAY_OPEN),
        (HK, Kind.FUTURE, HONG_KONG, MONDAY, "16:45", S.FUTURE_DAY_CLOSE),
        (HK, Kind.FUTURE, HONG_KONG, FRIDAY, "20:00", S.NIGHT_OPEN),
        (HK, Kind.FUTURE, HONG_KONG, SATURDAY, "02:00", S.NIGHT_OPEN),
        (HK, Kind.FUTURE, HONG_KONG, SATURDAY, "20:00", S.FUTURE_CLOSE),
        (HK, Kind.FUTURE, HONG_KONG, MONDAY, "02:00", S.FUTURE_CLOSE),
        (US, Kind.FUTURE, NEW_YORK, SUNDAY, "18:30", S.FUTURE_OPEN),
        (US, Kind.FUTURE, NEW_YORK, MONDAY, "17:30", S.FUTURE_CLOSE),
        (US, Kind.FUTURE, NEW_YORK, FRIDAY, "18:30", S.FUTURE_CLOSE),
        (SG, Kind.FUTURE, HONG_KONG, MONDAY, "04:00", S.FUTURE_CLOSE),
        (JP, Kind.FUTURE, TOKYO, MONDAY, "09:00", S.FUTURE_DAY_OPEN),
    ],
)
def test_the_state_follows_the_exchange(
    market: int, kind: Kind, zone: ZoneInfo, day: str, minute: str, state: MarketState
) -> None:
    assert at_the_exchange(market, kind, at(zone, day, minute)) is state


def test_what_is_fixed_wins_over_the_clock_and_futures_over_their_market() -> None:
    sessions = Sessions({"HK": S.CLOSED, "HK_FUTURES": S.NIGHT_OPEN}, True, lambda: at(NEW_YORK, MONDAY, "10:00"))
    assert sessions.state(HK, Kind.STOCK) == S.CLOSED
    assert sessions.state(HK, Kind.FUTURE) == S.NIGHT_OPEN
    assert sessions.state(US, Kind.STOCK) == S.MORNING
    sessions.fix("US", S.AFTER_HOURS_BEGIN)
    assert sessions.state(US, Kind.FUTURE) == S.AFTER_HOURS_BEGIN
    sessions.fix("US", None)
    assert sessions.state(US, Kind.FUTURE) == S.FUTURE_OPEN


def test_states_are_written_by_market_and_a_wrong_word_is_answered_with_the_right_one() -> None:
    assert parse_states("HK=CLOSED, US_FUTURES=FUTURE_OPEN") == {"HK": S.CLOSED, "US_FUTURES": S.FUTURE_OPEN}
    for text, said in (
        ("HK=CLOSE", "did you mean `CLOSED`?"),
        ("HK=closed", "did you mean `CLOSED`?"),
        ("XX=CLOSED", "with one of HK, US"),
        ("HK", "write MARKET=STATE"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_states(text)
        assert said in str(caught.value)


@pytest.mark.parametrize("settings", [replace(STILL, unlocked=True, limits=False)])
async def test_orders_rest_while_a_market_is_closed_and_fill_once_it_opens(sandbox: Sandbox, client: RawClient) -> None:
    await client.ask(2008, accIDList=[PAPER_HK])
    sandbox.set_market_state("HK", S.CLOSED)
    assert (await client.ask(1002, userID=0)).s2c.marketHK == S.CLOSED
    await client.order(price=490.0)
    await client.order_push(5)
    sandbox.set_price("HK.00700", "470", volume=1000)
    await client.ask(1002, userID=0)
    assert not client.pushes[2208]
    sandbox.set_market_state("HK", S.AFTERNOON)
    sandbox.set_price("HK.00700", "470", volume=1000)
    assert (await client.order_push(11)).fillAvgPrice == 470.2


@pytest.mark.parametrize("settings", [replace(STILL, unlocked=True, limits=False, market_states={"US": 10})])
async def test_after_hours_only_orders_that_ask_for_it_trade(sandbox: Sandbox, client: RawClient) -> None:
    await client.ask(2008, accIDList=[REAL])
    sandbox.set_price("US.AAPL", "220", volume=1000)
    plain = await client.order(REAL, "AAPL", 230.0, secMarket=2, trdMarket=2, qty=1.0)
    asking = await client.order(REAL, "AAPL", 230.0, secMarket=2, trdMarket=2, qty=1.0, fillOutsideRTH=True)
    assert (await client.order_push(11)).orderIDEx == asking.s2c.orderIDEx
    states = {order.orderIDEx: order.orderStatus for order in await client.orders(REAL, 2)}
    assert states[plain.s2c.orderIDEx] == 5


@pytest.mark.parametrize("settings", [replace(STILL, unlocked=True, limits=False)])
async def test_auction_orders_wait_for_the_auction(sandbox: Sandbox, client: RawClient) -> None:
    await client.ask(2008, accIDList=[REAL])
    await client.order(REAL, orderType=6)
    await client.order_push(5)
    sandbox.set_market_state("HK", S.HK_CAS)
    sandbox.set_price("HK.00700", "470", volume=1000)
    assert (await client.order_push(11)).fillAvgPrice == 470.2


async def test_a_state_can_be_told_by_security(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.set_market_state("HK_FUTURES", S.NIGHT_OPEN)
    sandbox.set_market_state("US", S.PRE_MARKET_BEGIN)
    wanted = [security("00700"), security("HSImain"), security("AAPL", US)]
    states = (await client.ask(3223, securityList=wanted)).s2c.marketInfoList
    assert [one.marketState for one in states] == [S.MORNING, S.NIGHT_OPEN, S.PRE_MARKET_BEGIN]
    with pytest.raises(ConfigError, match="`MOON` is no market of the sandbox"):
        sandbox.set_market_state("MOON", S.CLOSED)
