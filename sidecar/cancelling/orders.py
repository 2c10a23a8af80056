"""One account's orders as OpenD lists them (2201), and the cancels that can be sent for them (2205). Decides what is sent nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from sidecar.facts.asking import House, Rejected, address, ask_about, new
from sidecar.intents.markets import HKCC, SH, SZ
from sidecar.intents.model import AccountRef, ModifyOp, TrdEnv
from sidecar.intents.replies import OrderStatus, read_order
from sidecar.policy.usage import Account
from sidecar.wire import catalog

_CANCELLED = frozenset(
    {
        OrderStatus.SUBMIT_FAILED,
        OrderStatus.CANCELLED_PART,
        OrderStatus.CANCELLED_ALL,
        OrderStatus.FAILED,
        OrderStatus.DISABLED,
        OrderStatus.DELETED,
    }
)
"""Nothing of it is on the market any more, and it was not filled whole. A disabled order works again only when somebody
enables it, which counts as a new one."""
_FILLED = frozenset({OrderStatus.FILLED_ALL, OrderStatus.FILL_CANCELLED})
_ON_ITS_WAY_OUT = frozenset({OrderStatus.CANCELLING_PART, OrderStatus.CANCELLING_ALL})
_MAINLAND = 3
"""TrdMarket of Shanghai and Shenzhen other than by Stock Connect."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One order of a list. `name` is the id that people know it by, `symbol` as they write it."""

    order_id: int
    order_id_ex: str
    symbol: str
    status: int
    remark: str
    trd_market: int
    mainland: bool
    """OpenD cancels it only by itself, not with all others (documented for Stock Connect)."""

    @property
    def name(self) -> str:
        return self.order_id_ex or str(self.order_id)

    @property
    def working(self) -> bool:
        """INVARIANT: a status that is not known counts as working."""
        return self.status not in _CANCELLED and self.status not in _FILLED

    @property
    def filled(self) -> bool:
        return self.status in _FILLED

    @property
    def leaving(self) -> bool:
        """OpenD is cancelling it."""
        return self.status in _ON_ITS_WAY_OUT


async def order_list(house: House, account: Account, *, timeout: float, fresh: bool) -> list[Listed] | Rejected:
    """Every order of the account that OpenD lists, working or not. `fresh` asks the broker, not OpenD's memory, which OpenD
    takes only now and then (10 in 30 s); where it does not, its memory is asked. Raises UpstreamError."""
    request = new("Trd_GetOrderList.Request")
    request.c2s.refreshCache = fresh
    reply = await ask_about(house, account, catalog.GET_ORDER_LIST, request, timeout=timeout)
    if isinstance(reply, Rejected):
        return await order_list(house, account, timeout=timeout, fresh=False) if fresh else reply
    return [_listed(order, account, reply.s2c.header.trdMarket) for order in reply.s2c.orderList]


def cancel_request(account: Account, order: Listed) -> Message:
    """A 2205 for one order, named by one of its ids only: where there are two, OpenD could take either."""
    request = new("Trd_ModifyOrder.Request")
    address(request.c2s.header, account)
    request.c2s.orderID = 0 if order.order_id_ex else order.order_id
    if order.order_id_ex:
        request.c2s.orderIDEx = order.order_id_ex
    request.c2s.modifyOrderOp = int(ModifyOp.CANCEL)
    return _whole(request)


def cancel_all_request(account: Account, trd_market: int) -> Message:
    """A 2205 for every order of a real account, or those of one of its markets (0: all)."""
    request = new("Trd_ModifyOrder.Request")
    address(request.c2s.header, account)
    request.c2s.orderID = 0
    request.c2s.modifyOrderOp = int(ModifyOp.CANCEL)
    request.c2s.forAll = True
    if trd_market:
        request.c2s.trdMarket = trd_market
    return _whole(request)


def markets_at_once(account: Account, working: list[Listed]) -> list[int]:
    """For which markets `cancel_all_request` can be sent, 0 for all in one; none on paper and for Stock Connect (documented)."""
    others = [order for order in working if not order.mainland]
    if account.env is not TrdEnv.REAL or not others:
        return []
    return [0] if len(others) == len(working) else sorted({order.trd_market for order in others} - {0})


def _listed(order: Any, account: Account, trd_market: int) -> Listed:
    subject = read_order(AccountRef(account.acc_id, account.env), order, trd_market)
    return Listed(
        order_id=subject.order_id,
        order_id_ex=subject.order_id_ex,
        symbol=subject.symbol or str(order.code),
        status=order.orderStatus,
        remark=subject.remark or "",
        trd_market=order.trdMarket,
        mainland=order.trdMarket in (HKCC, _MAINLAND) or order.secMarket in (SH, SZ),
    )


def _whole(request: Any) -> Message:
    request.c2s.packetID.connID = request.c2s.packetID.serialNo = 0  # the connection it goes out on fills it in
    message: Message = request
    return message
