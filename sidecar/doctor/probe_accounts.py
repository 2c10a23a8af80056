"""What `doctor --probe` asks of accounts and quotes, by reading alone: what an order is judged by must come, and in time."""

from __future__ import annotations

import math
import time
from typing import Any

from sidecar.doctor.check import Check, doubt, good, unasked
from sidecar.doctor.line import Line
from sidecar.doctor.requests import (
    KNOWN_MARKETS,
    KNOWN_SYMBOLS,
    accounts,
    fill_header,
    known_market,
    paper_account,
    snapshot,
)
from sidecar.errors import UpstreamError
from sidecar.settings import Settings
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

_MOST_ACCOUNTS = 8
_LIMIT = 1


async def order_lists(settings: Settings) -> Check:
    return await _lists(settings, "probe.order_lists", catalog.GET_ORDER_LIST, "Trd_GetOrderList.Request")


async def holdings(settings: Settings) -> Check:
    return await _lists(settings, "probe.holdings", catalog.GET_POSITION_LIST, "Trd_GetPositionList.Request")


async def _lists(settings: Settings, name: str, proto_id: int, request_name: str) -> Check:
    """What an order is judged by must come within `policy.facts_timeout`."""
    slowest, refused, asked = 0.0, [], 0
    async with await Line.opened(settings.upstream) as line:
        for account in (await accounts(line))[:_MOST_ACCOUNTS]:
            request: Any = message_class(request_name)()
            fill_header(request, account)
            began = time.perf_counter()
            reply = await line.ask(proto_id, request)
            slowest, asked = max(slowest, time.perf_counter() - began), asked + 1
            if reply.retType != 0:
                refused.append(reply.retMsg)
    if not asked:
        return doubt(name, "there is no account to ask for", "log in at OpenD with one that has accounts")
    if refused:
        text = f"{len(refused)} of {asked} accounts are refused, e.g.: {refused[0]}"
        return doubt(name, text, "orders of keys whose rules need it are refused there")
    timeout = settings.policy.facts_timeout
    if slowest > timeout / 2:
        text = f"the slowest answer for an account took {slowest:.1f} s, orders wait {timeout:g} s at most"
        return doubt(name, text, f"`policy.facts_timeout: {slowest * 3:.0f}`")
    return good(name, f"{asked} accounts answered, the slowest in {slowest * 1000:.0f} ms")


async def quote(settings: Settings, market: str) -> Check:
    name, symbol = f"probe.quote_{market.lower()}", f"{market}.{KNOWN_SYMBOLS[market][1]}"
    without = f"no price of {symbol}: orders there that need one (amounts, collars) are refused as price_unavailable"
    try:
        async with await Line.opened(settings.upstream) as line:
            basic = await snapshot(line, market)
    except UpstreamError as error:
        return doubt(name, f"{without} ({error})", "a quote right for that market at OpenD, if keys are to trade it")
    if basic.curPrice <= 0:
        return doubt(name, without, "a quote right for that market at OpenD, if keys are to trade it")
    return good(name, f"{symbol} has a price, and {basic.lotSize} to a lot")


async def sec_market(settings: Settings) -> Check:
    """Asked with 2111, what could be bought, which names a security as orders do."""
    name = "probe.sec_market"
    async with await Line.opened(settings.upstream) as line:
        account = await paper_account(line)
        if account is None:
            return _no_paper_account(name)
        named = await line.ask(catalog.GET_MAX_TRD_QTYS, _most(account, 100.0))
        if named.retType != 0:
            return doubt(name, f"OpenD does not say what could be bought: {named.retMsg}", "share the report")
        request = _most(account, 100.0)
        request.c2s.ClearField("secMarket")
        bare = await line.ask(catalog.GET_MAX_TRD_QTYS, request)
    how = (
        "wants secMarket" if bare.retType != 0 else "finds a security without secMarket by its trading market and code"
    )
    return good(name, f"OpenD {how}; the sidecar sends every order with it, and refuses those where it is not plain")


async def numbers(settings: Settings) -> Check:
    """As `sec_market`, with a price that is no number: no order is asked for."""
    name = "probe.numbers"
    async with await Line.opened(settings.upstream) as line:
        account = await paper_account(line)
        if account is None:
            return _no_paper_account(name)
        try:
            reply = await line.ask(catalog.GET_MAX_TRD_QTYS, _most(account, math.nan))
        except UpstreamError:
            how = "does not answer"
        else:
            how = "refuses" if reply.retType != 0 else "takes"
    return good(name, f"OpenD {how} a price that is not a number (NaN); the sidecar refuses every order with one")


def _no_paper_account(name: str) -> Check:
    return unasked(name, "asked of paper accounts only, and there is none for Hong Kong or the US")


def _most(account: Any, price: float) -> Any:
    """A 2111 for the known symbol of the account's market."""
    market = known_market(account)
    assert market is not None
    prefix, security_market = KNOWN_MARKETS[market]
    request: Any = message_class("Trd_GetMaxTrdQtys.Request")()
    fill_header(request, account, market)
    c2s = request.c2s
    c2s.orderType, c2s.code, c2s.price, c2s.secMarket = _LIMIT, KNOWN_SYMBOLS[prefix][1], price, security_market
    return request
