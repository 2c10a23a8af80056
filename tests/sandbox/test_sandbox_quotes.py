from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from sandbox_client import HK, STILL, US, RawClient, security

from sidecar.sandbox import Sandbox
from sidecar.wire.frame import JSON

QUOTE, BOOK, TICKER, RT, K_DAY, K_1M, BROKER = 1, 2, 4, 5, 6, 11, 14
PUSH_OF = {QUOTE: 3005, BOOK: 3013, TICKER: 3011, RT: 3009, K_DAY: 3007, K_1M: 3007, BROKER: 3015}


async def subscribe(client: RawClient, code: str = "00700", *types: int, market: int = HK, **more: bool) -> int:
    answer = await client.ask(
        3001,
        securityList=[security(code, market)],
        subTypeList=list(types) or [QUOTE],
        isSubOrUnSub=True,
        **{"isRegOrUnRegPush": True, "isFirstPush": False, **more},
    )
    return int(answer.retType)


@pytest.mark.parametrize("sub_type", PUSH_OF)
async def test_every_subscription_pushes_when_the_price_moves(
    sandbox: Sandbox, client: RawClient, sub_type: int
) -> None:
    assert await subscribe(client, "00700", sub_type) == 0
    sandbox.set_price("HK.00700", "481")
    push = await client.push(PUSH_OF[sub_type])
    assert push.retType == 0
    found = push.s2c.basicQotList[0].security if sub_type == QUOTE else push.s2c.security
    assert (found.market, found.code) == (HK, "00700")


async def test_a_first_push_follows_the_reply_and_only_if_asked_for(sandbox: Sandbox, client: RawClient) -> None:
    await subscribe(client, "00700", QUOTE, isFirstPush=True)
    await client.push(3005)
    assert client.arrived[-2:] == [3001, 3005]
    await subscribe(client, "00005", QUOTE, isRegOrUnRegPush=False)
    sandbox.set_price("HK.00005", "93")
    await client.ask(1002, userID=0)
    assert not client.pushes[3005]
    answer = await client.ask(3002, securityList=[security("00005")], subTypeList=[QUOTE], isRegOrUnReg=True)
    assert answer.retType == 0
    sandbox.set_price("HK.00005", "93.5")
    assert (await client.push(3005)).s2c.basicQotList[0].curPrice == 93.5


@pytest.mark.parametrize("settings", [replace(STILL, tick_interval=0.02)])
async def test_the_market_moves_by_itself(client: RawClient) -> None:
    await subscribe(client, "00700", QUOTE)
    prices = {(await client.push(3005)).s2c.basicQotList[0].curPrice for _ in range(12)}
    assert len(prices) > 1
    assert all(460 < price < 500 for price in prices)


async def test_real_time_data_needs_a_subscription(client: RawClient) -> None:
    one = security("00700")
    for proto_id, c2s in (
        (3004, {"securityList": [one]}),
        (3006, {"security": one, "rehabType": 1, "klType": 2, "reqNum": 5}),
        (3008, {"security": one}),
        (3010, {"security": one, "maxRetNum": 5}),
        (3012, {"security": one, "num": 5}),
        (3014, {"security": one}),
    ):
        answer = await client.ask(proto_id, **c2s)
        assert answer.retType == -1
        assert "subscribe" in answer.retMsg


async def test_the_order_book_and_the_snapshot_and_the_quote_agree(sandbox: Sandbox, client: RawClient) -> None:
    await subscribe(client, "00700", QUOTE, BOOK)
    sandbox.set_price("HK.00700", "482", volume=700)
    book = (await client.ask(3012, security=security("00700"), num=3)).s2c
    assert [(level.price, level.volume) for level in (book.orderBookBidList[0], book.orderBookAskList[0])] == [
        (482.0, 700),
        (482.2, 700),
    ]
    snapshot = (await client.ask(3203, securityList=[security("00700")])).s2c.snapshotList[0].basic
    quote = (await client.ask(3004, securityList=[security("00700")])).s2c.basicQotList[0]
    assert (snapshot.bidPrice, snapshot.askPrice, snapshot.curPrice, quote.curPrice) == (482.0, 482.2, 482.0, 482.0)


@pytest.mark.parametrize("settings", [replace(STILL, subscription_quota=3)])
async def test_the_quota_is_shared_counts_a_topic_once_and_is_freed_late(sandbox: Sandbox, client: RawClient) -> None:
    async with RawClient(sandbox.port) as second:
        await second.connect()
        assert await subscribe(client, "00700", QUOTE, BOOK) == 0
        assert await subscribe(second, "00700", QUOTE) == 0
        info = (await client.ask(3003, isReqAllConn=True)).s2c
        assert (info.totalUsedQuota, info.remainQuota, len(info.connSubInfoList)) == (2, 1, 2)
        assert [one.usedQuota for one in info.connSubInfoList if one.isOwnConnData] == [2]
        assert len((await client.ask(3003)).s2c.connSubInfoList) == 1
        assert await subscribe(second, "00005", QUOTE, BOOK) == -1
        assert await subscribe(second, "00005", QUOTE) == 0
    await client.ask(1002, userID=0)
    assert (await client.ask(3003)).s2c.totalUsedQuota == 3, "a minute has not passed"


async def test_unsubscribing_takes_a_minute(client: RawClient) -> None:
    await subscribe(client)
    answer = await client.ask(3001, securityList=[security("00700")], subTypeList=[QUOTE], isSubOrUnSub=False)
    assert (answer.retType, "minute" in answer.retMsg) == (-1, True)


@pytest.mark.parametrize("settings", [replace(STILL, limits=False)])
async def test_without_limits_unsubscribing_stops_the_pushes_at_once(sandbox: Sandbox, client: RawClient) -> None:
    await subscribe(client)
    assert (await client.ask(3001, isSubOrUnSub=False, isUnsubAll=True)).retType == 0
    sandbox.set_price("HK.00700", "470")
    await client.ask(1002, userID=0)
    assert not client.pushes[3005]
    assert (await client.ask(3003)).s2c.totalUsedQuota == 0


async def test_a_json_client_and_a_protobuf_client_get_the_same_push(sandbox: Sandbox, client: RawClient) -> None:
    async with RawClient(sandbox.port, JSON) as other:
        await other.connect(push_fmt=JSON)
        for one in (client, other):
            await subscribe(one)
        sandbox.set_price("HK.00700", "483")
        assert (await client.push(3005)).s2c == (await other.push(3005)).s2c
        one, two = [(await raw.ask(3203, securityList=[security("00700")])).s2c for raw in (client, other)]
        assert one == two


async def test_history_comes_in_pages_that_fit_together(client: RawClient) -> None:
    end = date.today()
    wanted = {
        "rehabType": 1,
        "klType": 2,
        "security": security("AAPL", US),
        "beginTime": (end - timedelta(days=365)).isoformat(),
    }
    whole = (await client.ask(3103, **wanted, endTime=end.isoformat())).s2c
    assert not whole.HasField("nextReqKey")
    times: list[str] = []
    key = b""
    for _ in range(10):
        more = {"nextReqKey": key} if key else {}
        page = (await client.ask(3103, **wanted, endTime=end.isoformat(), maxAckKLNum=100, **more)).s2c
        times += [bar.time for bar in page.klList]
        key = page.nextReqKey
        if not key:
            break
    assert times == [bar.time for bar in whole.klList] == sorted(times)
    assert 255 <= len(times) <= 263
    assert all(bar.lowPrice <= min(bar.openPrice, bar.closePrice) for bar in whole.klList)
    assert all(bar.highPrice >= max(bar.openPrice, bar.closePrice) for bar in whole.klList)
    quota = (await client.ask(3104, bGetDetail=True)).s2c
    assert (quota.usedQuota, quota.detailList[0].security.code) == (1, "AAPL")


async def test_the_last_bar_reaches_the_present_price(sandbox: Sandbox, client: RawClient) -> None:
    await subscribe(client, "00700", K_DAY)
    sandbox.set_price("HK.00700", "484")
    bars = (await client.ask(3006, security=security("00700"), rehabType=1, klType=2, reqNum=10)).s2c.klList
    assert (len(bars), bars[-1].closePrice) == (10, 484.0)


async def test_static_data_comes_by_list_or_by_market_and_type(client: RawClient) -> None:
    one = (await client.ask(3202, securityList=[security("00700")])).s2c.staticInfoList[0].basic
    assert (one.lotSize, one.secType, one.name) == (100, 3, "Tencent")
    for kind in (3, 4, 5, 6, 8, 10):
        found = (await client.ask(3202, market=HK, secType=kind)).s2c.staticInfoList
        assert len(found) > 1
        assert {info.basic.secType for info in found} == {kind}
    option = (await client.ask(3202, market=US, secType=8)).s2c.staticInfoList[0]
    assert option.basic.lotSize == 100
    assert option.optionExData.owner.code in ("AAPL", "SPY")


async def test_an_option_chain_lists_what_can_be_quoted(client: RawClient) -> None:
    begin, end = date.today(), date.today() + timedelta(days=90)
    chain = (
        await client.ask(3209, owner=security("AAPL", US), beginTime=begin.isoformat(), endTime=end.isoformat())
    ).s2c.optionChain
    dates = (await client.ask(3224, owner=security("AAPL", US))).s2c.dateList
    assert [expiry.strikeTime for expiry in chain] == [day.strikeTime for day in dates]
    call = chain[0].option[0].call.basic.security
    snapshot = (await client.ask(3203, securityList=[{"market": call.market, "code": call.code}])).s2c.snapshotList[0]
    assert snapshot.optionExData.contractMultiplier == 100
    assert snapshot.basic.curPrice > 0


async def test_futures_tell_size_currency_and_step(client: RawClient) -> None:
    info = (await client.ask(3218, securityList=[security("HSImain")])).s2c.futureInfoList[0]
    assert (info.contractSize, info.quoteCurrency, info.minVar) == (50, "HKD", 1)
    assert info.origin.code.startswith("HSI2")


@pytest.mark.parametrize("settings", [replace(STILL, market_states={"US": 6})])
async def test_a_market_can_be_closed_by_the_settings(client: RawClient) -> None:
    states = (await client.ask(3223, securityList=[security("00700"), security("AAPL", US)])).s2c.marketInfoList
    assert [state.marketState for state in states] == [3, 6]
    assert (await client.ask(1002, userID=0)).s2c.marketUS == 6


async def test_an_unknown_security_is_an_error_by_name(client: RawClient) -> None:
    answer = await client.ask(3203, securityList=[security("00700"), security("12345")])
    assert (answer.retType, "12345" in answer.retMsg) == (-1, True)


async def test_trading_days_are_weekdays(client: RawClient) -> None:
    days = (await client.ask(3219, market=1, beginTime="2026-11-02", endTime="2026-11-15")).s2c.tradeDateList
    assert [day.time for day in days] == [f"2026-11-{day:02d}" for day in (2, 3, 4, 5, 6, 9, 10, 11, 12, 13)]


async def test_the_stock_filter_filters_sorts_and_pages(client: RawClient) -> None:
    bounds = {"fieldName": 3, "filterMin": 50.0, "filterMax": 200.0, "isNoFilter": False, "sortDir": 1}
    first = (await client.ask(3215, begin=0, num=4, market=HK, baseFilterList=[bounds])).s2c
    assert (first.lastPage, len(first.dataList)) == (False, 4)
    everything = (await client.ask(3215, begin=0, num=200, market=HK, baseFilterList=[bounds])).s2c
    prices = [stock.baseDataList[0].value for stock in everything.dataList]
    assert prices == sorted(prices)
    assert 50 <= prices[0] <= prices[-1] <= 200
    assert everything.allCount == len(prices) == first.allCount


async def test_snapshots_are_limited_to_sixty_in_half_a_minute(client: RawClient) -> None:
    answers = [(await client.ask(3203, securityList=[security("00700")])).retType for _ in range(61)]
    assert answers == [0] * 60 + [-1]


async def test_the_same_seed_walks_the_same_way(sandbox: Sandbox) -> None:
    prices = []
    for _ in range(2):
        other = Sandbox(STILL)
        moved = [[(quote.instrument.symbol, quote.last) for quote in other.move()] for _ in range(20)]
        prices.append(moved)
    assert prices[0] == prices[1]
    assert Sandbox(replace(STILL, seed=2)).move() != prices[0][0]


@pytest.mark.parametrize("settings", [replace(STILL, limits=False)])
@pytest.mark.parametrize("kl_type", range(1, 16))
async def test_bars_of_every_type_come_in_the_number_asked_for(client: RawClient, kl_type: int) -> None:
    sub_type = {
        2: 6,
        6: 7,
        7: 8,
        8: 9,
        9: 10,
        1: 11,
        3: 12,
        4: 13,
        11: 15,
        5: 16,
        10: 17,
        12: 18,
        13: 19,
        14: 20,
        15: 21,
    }[kl_type]
    await subscribe(client, "00700", sub_type)
    wanted = 20 if kl_type in (5, 11) else 300
    bars = (await client.ask(3006, security=security("00700"), rehabType=1, klType=kl_type, reqNum=wanted)).s2c.klList
    assert len(bars) == wanted
    assert [bar.time for bar in bars] == sorted({bar.time for bar in bars})
    most = await client.ask(3006, security=security("00700"), rehabType=1, klType=kl_type, reqNum=1000)
    assert most.retType == 0


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "2026-13-01", "yesterday", ""])
async def test_a_date_that_is_none_is_an_error_and_not_the_end(client: RawClient, day: str) -> None:
    answer = await client.ask(3219, market=1, beginTime=day, endTime="2026-11-15")
    assert answer.retType == -1
    wanted = {"rehabType": 1, "klType": 2, "security": security("00700")}
    assert (await client.ask(3103, **wanted, beginTime=day, endTime="2026-11-15")).retType == -1
