from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_client import PAPER_FUTURES_HK, PAPER_HK, REAL, RawClient

from sidecar.sandbox.accounts import Position
from sidecar.sandbox.instruments import Currency, Instrument, Kind

SECURITY, FUTURE = 1, 2
STOCK = Instrument(1, "00001", "x", Kind.STOCK, 100, Decimal(10), Currency.HKD, 1)


async def listed(client: RawClient, **c2s: object) -> dict[int, object]:
    return {account.accID: account for account in (await client.ask(2001, userID=0, **c2s)).s2c.accList}


async def test_accounts_are_filtered_by_category_and_universal_ones_need_asking_for(client: RawClient) -> None:
    securities = await listed(client, trdCategory=SECURITY, needGeneralSecAccount=True)
    assert {PAPER_HK, REAL} <= set(securities)
    assert PAPER_FUTURES_HK not in securities
    assert REAL not in await listed(client, trdCategory=SECURITY)
    futures = await listed(client, trdCategory=FUTURE)
    assert PAPER_FUTURES_HK in futures
    assert PAPER_HK not in futures


async def test_paper_and_real_accounts_say_what_they_are(client: RawClient) -> None:
    accounts = await listed(client, needGeneralSecAccount=True)
    real, paper = accounts[REAL], accounts[PAPER_HK]
    assert (real.trdEnv, real.securityFirm, real.HasField("cardNum"), real.HasField("simAccType")) == (
        1,
        1,
        True,
        False,
    )
    assert list(real.trdMarketAuthList)[:3] == [1, 2, 4]
    assert (paper.trdEnv, paper.simAccType, paper.HasField("cardNum")) == (0, 1, False)


@pytest.mark.parametrize(("env", "market"), [(1, 1), (0, 2)])
async def test_environment_and_market_must_fit_the_account(client: RawClient, env: int, market: int) -> None:
    answer = await client.ask(2101, header={"trdEnv": env, "accID": PAPER_HK, "trdMarket": market})
    assert answer.retType == -1


async def test_funds_come_in_the_currency_asked_for(client: RawClient) -> None:
    head = {"trdEnv": 1, "accID": REAL, "trdMarket": 1}
    hkd = (await client.ask(2101, header=head, currency=1)).s2c.funds
    usd = (await client.ask(2101, header=head, currency=2)).s2c.funds
    assert hkd.cash == pytest.approx(usd.cash * 7.8)
    assert (hkd.currency, usd.currency) == (1, 2)
    assert {info.currency: info.cash for info in hkd.cashInfoList} == {1: 3_000_000, 2: 200_000, 3: 500_000}


async def test_positions_are_filtered_by_code_and_profit(client: RawClient) -> None:
    head = {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    only = (await client.ask(2102, header=head, filterConditions={"codeList": ["00123"]})).s2c.positionList
    assert [position.code for position in only] == ["00123"]
    none = (await client.ask(2102, header=head, filterPLRatioMin=5.0)).s2c.positionList
    assert not none


async def test_the_past_of_a_real_account_can_be_queried(client: RawClient) -> None:
    head = {"trdEnv": 1, "accID": REAL, "trdMarket": 1}
    wide = {"beginTime": "2000-01-01", "endTime": "2100-01-01"}
    orders = (await client.ask(2221, header=head, filterConditions=wide)).s2c.orderList
    fills = (await client.ask(2222, header=head, filterConditions=wide)).s2c.orderFillList
    assert {fill.orderIDEx for fill in fills} == {order.orderIDEx for order in orders}
    assert len(orders) == 4
    assert not (await client.ask(2201, header=head)).s2c.orderList
    assert not (
        await client.ask(2221, header=head, filterConditions={"beginTime": "2100-01-01", "endTime": ""})
    ).s2c.orderList


async def test_what_can_be_bought_fits_the_buying_power(client: RawClient) -> None:
    head = {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    most = (await client.ask(2111, header=head, orderType=1, code="00700", price=480.0, secMarket=1)).s2c.maxTrdQtys
    assert (most.maxCashBuy, most.maxPositionSell, most.maxSellShort) == (2000, 1000, 0)
    answer = await client.order(price=480.0, qty=most.maxCashBuy)
    assert answer.retType == 0


trades = st.lists(
    st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 1000).map(lambda cents: Decimal(cents) / 10)),
    min_size=1,
    max_size=30,
)


@given(trades)
def test_profit_made_and_profit_on_paper_add_up_to_the_cash_and_the_holding(moves: list[tuple[int, Decimal]]) -> None:
    position = Position(STOCK, 1, Decimal(0), Decimal(0))
    cash = Decimal(0)
    for change, price in moves:
        position.trade(Decimal(change), price)
        cash -= change * price
    last = Decimal(7)
    open_profit = position.quantity * (last - position.cost)
    assert abs(position.realized + open_profit - (cash + position.quantity * last)) < Decimal("1e-15")
    assert position.quantity == sum(change for change, _ in moves)
