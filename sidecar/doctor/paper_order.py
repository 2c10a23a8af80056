"""One paper order far from the market, and its cancel: what OpenD says of them, when, and to whom. Touches no real account.

INVARIANT: the order is cancelled whatever else fails; where that cannot be confirmed the report says which order it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from sidecar.doctor.check import Check, bad, doubt, good
from sidecar.doctor.line import Line
from sidecar.doctor.paper_changes import Resting, change_checks
from sidecar.doctor.requests import KNOWN_MARKETS, fill_header, known_market, paper_account, snapshot
from sidecar.errors import UpstreamError
from sidecar.settings import Settings
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

REMARK = "opend-sidecar doctor"
_BY_HAND = "cancel it by hand"
_BUY, _LIMIT, _CANCEL = 1, 1, 2
_GONE = frozenset({3, 14, 15, 21, 22, 23})
"""OrderStatus: not submitted, cancelled in part or whole, failed, disabled, deleted."""
_FAR = 0.7
"""Of the market's price; the exchange must not refuse it as absurd."""
_LEAST = 10
"""The price is lowered by whole units later on; the known symbols cost more."""
_PATIENCE = 5.0
_EVERY = 0.7
"""Seconds between two looks: OpenD takes ten of some lists in 30 s."""


async def paper_checks(settings: Settings) -> AsyncIterator[Check]:
    """Raises UpstreamError where OpenD is not to be had before there is an order."""
    line, hearing = await Line.opened(settings.upstream), None
    try:
        hearing = await Line.opened(settings.upstream)
        account = await paper_account(line)
        if account is None:
            yield doubt("paper.order", "there is no paper account for Hong Kong or the US", "open one in the app")
            return
        await _subscribe(hearing, account)
        async for check in _order(settings, line, hearing, account):
            yield check
    finally:
        for each in (line, hearing):
            if each is not None:
                each.close()


async def _order(settings: Settings, line: Line, hearing: Line, account: Any) -> AsyncIterator[Check]:
    market = known_market(account)
    assert market is not None
    name, sec_market = KNOWN_MARKETS[market]
    basic = await snapshot(line, name)
    price = float(int(basic.curPrice * _FAR))
    if price < _LEAST:
        text = f"OpenD's price of {name}.{basic.security.code} is {basic.curPrice:g}, which leaves no room for an order below it"
        yield doubt("paper.order", text, "try again while the market is open")
        return
    request: Any = message_class("Trd_PlaceOrder.Request")()
    fill_header(request, account, market)
    c2s = request.c2s
    c2s.packetID.connID = c2s.packetID.serialNo = 0  # numbered when it is sent
    c2s.trdSide, c2s.orderType, c2s.secMarket, c2s.remark = _BUY, _LIMIT, sec_market, REMARK
    c2s.code, c2s.qty, c2s.price = basic.security.code, float(max(1, basic.lotSize)), price
    placed_at = time.monotonic()
    try:
        reply = await line.ask(catalog.PLACE_ORDER, request, timeout=_PATIENCE)
    except UpstreamError as error:
        text = f"whether the paper order was taken is not known: {error}"
        yield bad("paper.order", text, f"look for a paper order with the remark `{REMARK}`, and cancel it by hand")
        return
    if reply.retType != 0:
        yield doubt(
            "paper.order",
            f"OpenD refuses a paper order: {reply.retMsg}",
            "look whether the market is open, and try again",
        )
        return
    order_id = reply.s2c.orderIDEx
    try:
        yield good("paper.order", f"a paper order to buy {name}.{basic.security.code} far below the market was taken")
        async for check in _seen(settings, line, hearing, account, market, order_id, placed_at):
            yield check
        async for check in change_checks(line, hearing, Resting(account, market, order_id, c2s.qty, price)):
            yield check
    except UpstreamError as error:
        yield doubt("paper.seen", f"what became of the order could not be seen: {error}", "try again")
    finally:
        cancelled = await _cancel(settings, line, account, market, order_id)
    yield cancelled


async def _seen(
    settings: Settings, line: Line, hearing: Line, account: Any, market: int, order_id: str, placed_at: float
) -> AsyncIterator[Check]:
    listed = await _until(lambda: _listed(line, account, market, order_id))
    took, lag = time.monotonic() - placed_at, settings.policy.position_lag
    if listed is None:
        text = f"the order is in no order list within {_PATIENCE:g} s"
        yield doubt("paper.listed", text, "share the report: lost orders are looked for in that list")
    elif took > lag:
        yield doubt(
            "paper.listed",
            f"the order was listed only after {took:.1f} s",
            f"`policy.position_lag: {min(30, int(took * 2) + 1)}`",
        )
    else:
        yield good("paper.listed", f"the order was listed within {took:.1f} s")
    if listed is not None and listed.remark != REMARK:
        text = "an order's remark is not in the order list, so a lost order cannot be found by its tag"
        yield doubt("paper.remark", text, "`policy.tag_orders: false`, which then adds nothing")
    elif listed is not None:
        yield good("paper.remark", "an order's remark is in the order list")
    await _until(lambda: _answer(_pushed(hearing, order_id)))
    if _pushed(hearing, order_id):
        yield good("paper.push", "the order was pushed to a connection that asked for the account's pushes (2008)")
    else:
        text = "the order was not pushed to a connection that asked for the account's pushes (2008)"
        yield doubt(
            "paper.push", text, "share the report: what became of orders is then learnt from the order list only"
        )
    told = "also" if _pushed(line, order_id) else "not"
    yield good("paper.push_unasked", f"it was {told} pushed to one that did not ask; the sidecar filters both")


async def _cancel(settings: Settings, line: Line, account: Any, market: int, order_id: str) -> Check:
    """Never raises UpstreamError: the report must say which order is left."""
    fresh = None
    try:
        if line.session is None or not line.session.ready:
            line = fresh = await Line.opened(settings.upstream)
        return await _cancelled(line, account, market, order_id)
    except UpstreamError as error:
        return bad("paper.cancel", f"whether the paper order {order_id} is cancelled is not known: {error}", _BY_HAND)
    finally:
        if fresh is not None:
            fresh.close()


async def _cancelled(line: Line, account: Any, market: int, order_id: str) -> Check:
    request: Any = message_class("Trd_ModifyOrder.Request")()
    fill_header(request, account, market)
    c2s = request.c2s
    c2s.packetID.connID = c2s.packetID.serialNo = 0
    c2s.orderID, c2s.orderIDEx, c2s.modifyOrderOp = 0, order_id, _CANCEL
    reply = await line.ask(catalog.MODIFY_ORDER, request, timeout=_PATIENCE)
    if reply.retType != 0:
        return bad("paper.cancel", f"OpenD refuses to cancel the paper order {order_id}: {reply.retMsg}", _BY_HAND)

    async def gone() -> Any:
        found = await _listed(line, account, market, order_id)
        return found if found is not None and found.orderStatus in _GONE else None

    if await _until(gone) is None:
        return bad("paper.cancel", f"the paper order {order_id} is not listed as cancelled", _BY_HAND)
    return good("paper.cancel", "it was cancelled by its orderIDEx alone")


async def _subscribe(hearing: Line, account: Any) -> None:
    request: Any = message_class("Trd_SubAccPush.Request")()
    request.c2s.accIDList.append(account.accID)
    await hearing.ask(catalog.SUB_ACC_PUSH, request)


async def _listed(line: Line, account: Any, market: int, order_id: str) -> Any:
    request: Any = message_class("Trd_GetOrderList.Request")()
    fill_header(request, account, market)
    reply = await line.ask(catalog.GET_ORDER_LIST, request)
    return next((one for one in reply.s2c.orderList if one.orderIDEx == order_id), None)


def _pushed(line: Line, order_id: str) -> bool:
    return any(
        proto_id == catalog.UPDATE_ORDER and message.s2c.order.orderIDEx == order_id
        for proto_id, message in line.pushes
    )


async def _answer(value: Any) -> Any:
    return value or None


async def _until(look: Callable[[], Any]) -> Any:
    """What `look` comes to, None where it stays None."""
    for _ in range(int(_PATIENCE / _EVERY) + 1):
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(_EVERY)
    return None
