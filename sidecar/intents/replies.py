"""What OpenD says about orders, in replies and pushes: which account, which order, what came of it; filters nothing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf.message import Message

from sidecar.errors import BodyError
from sidecar.intents.fields import ENVS, ORDER_TYPES, SIDES, exact, malformed
from sidecar.intents.markets import security_of_leg_report, security_of_report
from sidecar.intents.model import AccountRef, ComboLeg, OrderType, Security, Side
from sidecar.wire import catalog

_ORDER_REPLIES = frozenset({catalog.PLACE_ORDER, catalog.PLACE_COMBO_ORDER, catalog.MODIFY_ORDER})


class OrderStatus(IntEnum):
    """OpenD's Trd_Common.OrderStatus."""

    UNKNOWN = -1
    UNSUBMITTED = 0
    WAITING_SUBMIT = 1
    SUBMITTING = 2
    SUBMIT_FAILED = 3
    TIME_OUT = 4
    SUBMITTED = 5
    FILLED_PART = 10
    FILLED_ALL = 11
    CANCELLING_PART = 12
    CANCELLING_ALL = 13
    CANCELLED_PART = 14
    CANCELLED_ALL = 15
    FAILED = 21
    DISABLED = 22
    DELETED = 23
    FILL_CANCELLED = 24


FAILED_STATUSES = frozenset({OrderStatus.SUBMIT_FAILED, OrderStatus.FAILED})
"""With nothing filled, these say that OpenD refused the order."""

ENDED_STATUSES = FAILED_STATUSES | {
    OrderStatus.FILLED_ALL,
    OrderStatus.CANCELLED_PART,
    OrderStatus.CANCELLED_ALL,
    OrderStatus.DELETED,
    OrderStatus.FILL_CANCELLED,
}
"""The order never works again. DISABLED is not among them: such an order rests until it is enabled."""


class PlaceReply(NamedTuple):
    """OpenD's answer to a place, combo or change. `order_id` 0 and `order_id_ex` "" mean that it named none."""

    ret_type: int
    ret_msg: str
    order_id: int
    order_id_ex: str


@dataclass(frozen=True, slots=True)
class PushSubject:
    """What an account push is about. None: the push does not say it, or in a way that is not understood.

    `order_status` is OpenD's number (`OrderStatus` where known). 2207 carries nothing but the account.
    """

    account: AccountRef
    order_id: int = 0
    order_id_ex: str = ""
    remark: str | None = None
    security: Security | None = None
    side: Side | None = None
    order_type: OrderType | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    fill_qty: Decimal | None = None
    order_status: int | None = None
    legs: tuple[ComboLeg, ...] = ()
    """Of a combo; empty where one of them is not understood."""
    created: float | None = None
    """Unix seconds, on OpenD's clock."""

    @property
    def symbol(self) -> str | None:
        return None if self.security is None else self.security.symbol


def read_place_reply(proto_id: int, response: Message) -> PlaceReply:
    """Read the reply to 2202, 2227 or 2205 (their numbers: `catalog`). Raises BodyError for another id."""
    if proto_id not in _ORDER_REPLIES:
        raise malformed(f"request {proto_id} does not answer with an order")
    message: Any = response
    order_id = message.s2c.orderID if proto_id != catalog.PLACE_COMBO_ORDER else 0  # a combo has only the other id
    return PlaceReply(message.retType, _text(message.retMsg), order_id, _text(message.s2c.orderIDEx))


def read_push(proto_id: int, push: Message) -> PushSubject:
    """Read 2207, 2208 or 2218. Raises BodyError for another id, and for an environment that does not exist.

    SECURITY: a push that raises belongs to nobody and is dropped.
    """
    message: Any = push
    if proto_id == catalog.UPDATE_ORDER:
        return _of_order(_account(message.s2c.header), message.s2c.order, message.s2c.header.trdMarket)
    if proto_id == catalog.UPDATE_ORDER_FILL:
        return _of_fill(_account(message.s2c.header), message.s2c.orderFill, message.s2c.header.trdMarket)
    if proto_id == catalog.TRD_NOTIFY:
        return PushSubject(_account(message.s2c.header))
    raise malformed(f"push {proto_id} names no account")


def read_order(account: AccountRef, order: Message, trd_market: int = 0) -> PushSubject:
    """One Trd_Common.Order, as in the lists of 2201 and 2221; `trd_market`, the header's, counts where it has none."""
    return _of_order(account, order, trd_market)


def _account(header: Any) -> AccountRef:
    env = ENVS.get(header.trdEnv)
    if env is None:
        raise malformed(f"trdEnv `{header.trdEnv}` is neither 0 (simulate) nor 1 (real)")
    return AccountRef(header.accID, env)


def _of_order(account: AccountRef, order: Any, trd_market: int) -> PushSubject:
    return PushSubject(
        account,
        order_id=order.orderID,
        order_id_ex=_text(order.orderIDEx),
        remark=_text(order.remark) if order.HasField("remark") else None,
        security=security_of_report(order.trdMarket or trd_market, order.secMarket, order.code),
        side=SIDES.get(order.trdSide),
        order_type=ORDER_TYPES.get(order.orderType),
        qty=_number(order.qty),
        price=_number(order.price) if order.HasField("price") else None,
        fill_qty=_number(order.fillQty) if order.HasField("fillQty") else None,
        order_status=order.orderStatus,
        legs=_legs(order.comboLegs, order.trdMarket or trd_market),
        created=order.createTimestamp if order.HasField("createTimestamp") else None,
    )


def _legs(reported: Any, trd_market: int) -> tuple[ComboLeg, ...]:
    legs = []
    for leg in reported:
        security = security_of_leg_report(trd_market, leg.security.market, leg.security.code)
        side, ratio = SIDES.get(leg.side), _number(leg.qtyRatio)
        if security is None or side is None or ratio is None:
            return ()
        legs.append(ComboLeg(security, side, ratio))
    return tuple(legs)


def _of_fill(account: AccountRef, fill: Any, trd_market: int) -> PushSubject:
    return PushSubject(
        account,
        order_id=fill.orderID,
        order_id_ex=_text(fill.orderIDEx),
        security=security_of_report(fill.trdMarket or trd_market, fill.secMarket, fill.code),
        side=SIDES.get(fill.trdSide),
        price=_number(fill.price),
        fill_qty=_number(fill.qty),
    )


def _text(value: object) -> str:
    """OpenD's text; what is not UTF-8 counts as not given, since nothing can be matched with it."""
    return value if isinstance(value, str) else ""


def _number(value: float) -> Decimal | None:
    try:
        return exact(value, "a number")
    except BodyError:
        return None
