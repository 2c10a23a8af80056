"""The one reading of every judged request: a protobuf message in, an intent out; decides nothing.

INVARIANT: what is forwarded is the very message that was read, re-encoded. `read` may complete it (a derived
secMarket) or narrow it, so the bytes the client sent never go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from google.protobuf.message import Message

from sidecar.intents import fields
from sidecar.intents.fields import malformed
from sidecar.intents.markets import EVENT, FUTURES, security_of_leg, security_of_order
from sidecar.intents.model import (
    CancelOrder,
    ComboLeg,
    Intent,
    ListAccounts,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    ReadAccount,
    ReadSubscriptions,
    ReconfirmOrder,
    SubscribeAccounts,
    Trail,
    Unlock,
)
from sidecar.intents.replies import OrderStatus, PlaceReply, PushSubject, read_order, read_place_reply, read_push
from sidecar.wire import catalog

__all__ = [
    "TAG",
    "OrderStatus",
    "PlaceReply",
    "PushSubject",
    "complete_change",
    "read",
    "read_order",
    "read_place_reply",
    "read_push",
    "remark_of",
    "set_tag",
]

_OPS = {int(op): op for op in ModifyOp}
_TIMES_IN_FORCE = frozenset(range(4))
_SESSIONS = frozenset(range(5))
_TRAIL_TYPES = frozenset(range(3))
_TRAIL_RATIO, _TRAIL_AMOUNT = 1, 2
_PRED_SIDES = frozenset(range(3))
_JP_ACCOUNTS = frozenset(range(17))
_TRIGGERED = frozenset({10, 11, 12, 13})
"""Order types whose trigger is auxPrice."""
_MOST_LEGS = 16
_MOST_ACCOUNTS = 1000

_ORDER_ID_EX = re.compile(r"[A-Za-z0-9_.:-]+")

TAG = re.compile(r"#[0-9A-HJKMNP-TV-Z]{26}")
"""The remark the sidecar gives to an order without one: `#` and the decision id."""


def read(proto_id: int, request: Message) -> Intent:
    """The intent of a request already parsed strictly (`wire.body`: no unknown fields, required ones present).

    Sets `c2s.secMarket` in `request` where the client left it out and only one is possible. Raises BodyError
    `malformed_request`, naming the field and its value, for everything that cannot be read in exactly one way, and
    for an id that is not read here (see `JUDGED`).
    """
    reader = _READERS.get(proto_id)
    if reader is None:
        raise malformed(f"request {proto_id} is not one that is judged on its contents")
    message: Any = request
    return reader(message.c2s)


def remark_of(request: Message) -> str:
    """The remark of a place-order or combo request; "" when it has none."""
    message: Any = request
    remark: str = message.c2s.remark
    return remark


def set_tag(request: Message, decision_id: str) -> str:
    """Give a place-order or combo request that has no remark the sidecar's tag; return the remark it now has."""
    message: Any = request
    if not message.c2s.remark:
        message.c2s.remark = f"#{decision_id}"
    remark: str = message.c2s.remark
    return remark


def complete_change(request: Message, order: PlaceOrder | PlaceCombo) -> None:
    """Say in a change (2205) all of what was judged: what it left out is filled in from the order as it would become.

    INVARIANT: OpenD is asked for exactly the order that was approved, whatever other changes it takes before this one.
    """
    message: Any = request
    c2s = message.c2s
    if not c2s.HasField("qty"):
        c2s.qty = float(order.qty)
    if order.price is not None and not c2s.HasField("price"):
        c2s.price = float(order.price)
    if isinstance(order, PlaceCombo):
        return
    if not (c2s.HasField("adjustPrice") or c2s.HasField("adjustSideAndLimit")):
        c2s.adjustPrice, c2s.adjustSideAndLimit = False, 0.0  # it was judged without; what it had before is in no list
    if order.aux_price is not None and not c2s.HasField("auxPrice"):
        c2s.auxPrice = float(order.aux_price)
    if order.trail is None:
        return
    if not (c2s.trailType and c2s.HasField("trailValue")):
        c2s.trailType = _TRAIL_RATIO if order.trail.ratio else _TRAIL_AMOUNT
        c2s.trailValue, c2s.trailSpread = float(order.trail.value), float(order.trail.spread)
    elif order.trail.spread and not c2s.HasField("trailSpread"):
        c2s.trailSpread = float(order.trail.spread)


def _place(c2s: Any) -> PlaceOrder:
    account = fields.account(c2s.header)
    trd_market = c2s.header.trdMarket
    security, sec_market = security_of_order(trd_market, c2s.secMarket, c2s.code)
    order_type = fields.enumerated(fields.ORDER_TYPES, c2s.orderType, "orderType")
    future = trd_market in FUTURES
    aux_price = fields.exact(c2s.auxPrice, "auxPrice") if c2s.HasField("auxPrice") else None
    if aux_price is not None and c2s.orderType in _TRIGGERED and not future and aux_price <= 0:
        raise malformed(f"auxPrice `{c2s.auxPrice!r}` must be above 0")
    amount = fields.exact(c2s.amount, "amount") if c2s.HasField("amount") else None
    if amount is not None and (sec_market != EVENT or amount < 0):
        raise malformed(f"amount `{c2s.amount!r}` is for event contracts only, and not below 0")
    _refine(c2s)
    fields.one_of(_SESSIONS, c2s.session, "session")
    fields.one_of(_PRED_SIDES, c2s.predSide, "predSide")
    order = PlaceOrder(
        account=account,
        security=security,
        side=fields.side(c2s.trdSide),
        order_type=order_type,
        qty=fields.positive(c2s.qty, "qty"),
        price=_price(c2s, order_type, signed=future),
        aux_price=aux_price,
        adjust_limit=_adjust_limit(c2s),
        outside_rth=c2s.fillOutsideRTH,
        session=c2s.session,
        remark=_remark(c2s),
        time_in_force=_time_in_force(c2s),
        amount=amount,
        trail=_trail(c2s),
    )
    if c2s.secMarket != sec_market:
        c2s.secMarket = sec_market
    return order


def _place_combo(c2s: Any) -> PlaceCombo:
    account = fields.account(c2s.header)
    order_type = fields.enumerated(fields.ORDER_TYPES, c2s.orderType, "orderType")
    if not c2s.comboLegs:
        raise malformed("comboLegs is empty")
    if len(c2s.comboLegs) > _MOST_LEGS:
        raise malformed(f"comboLegs has {len(c2s.comboLegs)} legs, the limit is {_MOST_LEGS}")
    legs = []
    seen = set()
    for leg in c2s.comboLegs:
        security = security_of_leg(c2s.header.trdMarket, leg.security.market, leg.security.code)
        fields.one_of(_PRED_SIDES, leg.predSide, "predSide")
        same = (security.symbol, leg.side, leg.predSide, leg.positionID)
        if same in seen:
            raise malformed(f"two legs name `{security.symbol}` on the same side")
        seen.add(same)
        legs.append(ComboLeg(security, fields.side(leg.side, "side"), _ratio(leg.qtyRatio)))
    fields.text(c2s.quoteID, "quoteID")
    fields.one_of(_JP_ACCOUNTS, c2s.header.jpAccType, "jpAccType")
    price = _price(c2s, order_type, signed=True)
    qty, time_in_force = fields.positive(c2s.qty, "qty"), _time_in_force(c2s)
    return PlaceCombo(account, tuple(legs), order_type, qty, price, _remark(c2s), time_in_force)


def _ratio(value: float) -> Decimal:
    """SECURITY: what OpenD makes of a part of a contract is not known; a leg of 0.001 must not count as that and trade as 1."""
    ratio = fields.positive(value, "qtyRatio")
    if ratio % 1:
        raise malformed(f"qtyRatio `{value!r}` must be a whole number")
    return ratio


def _change(c2s: Any) -> ModifyOrder | CancelOrder:
    """2205. Its header's trdMarket is not read: it is the account's first market, not the order's (facts, 5)."""
    account = fields.account(c2s.header)
    op = fields.enumerated(_OPS, c2s.modifyOrderOp, "modifyOrderOp")
    order = OrderRef(c2s.orderID, _order_id_ex(c2s))
    fields.finite_throughout(c2s)
    if c2s.forAll:
        if op is not ModifyOp.CANCEL:
            raise malformed(f"forAll is for cancels (modifyOrderOp 2), not for modifyOrderOp `{c2s.modifyOrderOp}`")
        if order.order_id or order.order_id_ex:
            raise malformed(f"forAll and an order, `{order.order_id_ex or order.order_id}`, are both given: send one")
        return CancelOrder(account, order, for_all=True, for_all_market=c2s.trdMarket)
    _require_one(order)
    if op is ModifyOp.CANCEL:
        return CancelOrder(account, order)
    _refine(c2s)
    return ModifyOrder(
        account,
        op,
        order,
        qty=fields.positive(c2s.qty, "qty") if c2s.HasField("qty") else None,
        price=fields.exact(c2s.price, "price") if c2s.HasField("price") else None,
        aux_price=fields.exact(c2s.auxPrice, "auxPrice") if c2s.HasField("auxPrice") else None,
        adjust_limit=_adjust_limit(c2s),
        trail=_trail(c2s),
    )


def _reconfirm(c2s: Any) -> ReconfirmOrder:
    order = OrderRef(c2s.orderID, "")
    _require_one(order)
    return ReconfirmOrder(fields.account(c2s.header), order)


def _unlock(c2s: Any) -> Unlock:
    return Unlock(c2s.unlock, fields.text(c2s.pwdMD5, "pwdMD5"))


def _list_accounts(_c2s: Any) -> ListAccounts:
    return ListAccounts()


def _subscribe_accounts(c2s: Any) -> SubscribeAccounts:
    if len(c2s.accIDList) > _MOST_ACCOUNTS:
        raise malformed(f"accIDList has {len(c2s.accIDList)} accounts, the limit is {_MOST_ACCOUNTS}")
    return SubscribeAccounts(tuple(dict.fromkeys(c2s.accIDList)))


def _read_account(c2s: Any) -> ReadAccount:
    fields.finite_throughout(c2s)
    return ReadAccount(fields.account(c2s.header))


def _read_own_orders(c2s: Any) -> ReadAccount:
    fields.finite_throughout(c2s)
    return ReadAccount(fields.account(c2s.header), own_orders=True)


def _order_id_ex(c2s: Any) -> str:
    """SECURITY: an id in another spelling (spaces, wide digits) may name an order to OpenD and none to the ledger."""
    given = fields.text(c2s.orderIDEx, "orderIDEx")
    if len(given) > 1 and given.isdecimal() and given.startswith("0"):  # should OpenD read it as a number
        raise malformed(f"orderIDEx `{given}` is not in OpenD's spelling: no leading zeros")
    if given and not _ORDER_ID_EX.fullmatch(given):
        raise malformed(f"orderIDEx `{ascii(given)[1:-1]}` is not in OpenD's spelling: letters, digits and `_.:-`")
    return given


def _require_one(order: OrderRef) -> None:
    if order.order_id and order.order_id_ex:
        raise malformed(
            f"orderID `{order.order_id}` and orderIDEx `{order.order_id_ex}` are both given and may differ: send one"
        )
    if not order.order_id and not order.order_id_ex:
        raise malformed("neither orderID nor orderIDEx is given")


def _price(c2s: Any, order_type: OrderType, *, signed: bool) -> Decimal | None:
    """`signed`: futures and combos may be priced at or below 0. Must be a number even where OpenD ignores it."""
    price = fields.exact(c2s.price, "price")
    if not order_type.priced:
        return None
    if not c2s.HasField("price"):
        raise malformed(f"price is missing, which orderType `{int(order_type)}` needs")
    if price <= 0 and not signed:
        raise malformed(f"price `{c2s.price!r}` must be above 0")
    return price


def _adjust_limit(c2s: Any) -> Decimal | None:
    """Counts whether or not adjustPrice is set: whether OpenD ignores the one without the other is not known."""
    limit = fields.exact(c2s.adjustSideAndLimit, "adjustSideAndLimit")
    if abs(limit) >= 1:
        raise malformed(f"adjustSideAndLimit `{c2s.adjustSideAndLimit!r}` is a fraction and must be between -1 and 1")
    return limit or None


def _trail(c2s: Any) -> Trail | None:
    if not c2s.trailType or not c2s.HasField("trailValue"):
        return None
    value, spread = fields.exact(c2s.trailValue, "trailValue"), fields.exact(c2s.trailSpread, "trailSpread")
    return Trail(value, c2s.trailType == _TRAIL_RATIO, spread)


def _refine(c2s: Any) -> None:
    """The conditions a new or changed order can carry that no rule reads."""
    fields.one_of(_TRAIL_TYPES, c2s.trailType, "trailType")
    fields.exact(c2s.trailValue, "trailValue")
    fields.exact(c2s.trailSpread, "trailSpread")
    fields.one_of(_JP_ACCOUNTS, c2s.header.jpAccType, "jpAccType")


def _time_in_force(c2s: Any) -> int:
    fields.text(c2s.expireTime, "expireTime")
    return fields.one_of(_TIMES_IN_FORCE, c2s.timeInForce, "timeInForce")


def _remark(c2s: Any) -> str:
    """SECURITY: a client that could write a tag could pass its order off as another key's."""
    remark = fields.text(c2s.remark, "remark", fields.REMARK_BYTES)
    if remark and TAG.fullmatch(remark):
        raise malformed(f"remark `{remark}` has the form of the sidecar's own tags: choose another or leave it out")
    return remark


def _read_subscriptions(c2s: Any) -> ReadSubscriptions:
    """SECURITY: narrowed to the asker's own connection; the SDK asks for those of all clients unless told otherwise."""
    c2s.isReqAllConn = False
    return ReadSubscriptions()


_NAMED: dict[int, Callable[[Any], Intent]] = {
    catalog.PLACE_ORDER: _place,
    catalog.PLACE_COMBO_ORDER: _place_combo,
    catalog.MODIFY_ORDER: _change,
    catalog.RECONFIRM_ORDER: _reconfirm,
    catalog.UNLOCK_TRADE: _unlock,
    catalog.GET_ACC_LIST: _list_accounts,
    catalog.SUB_ACC_PUSH: _subscribe_accounts,
}


def _reader(row: catalog.Row) -> Callable[[Any], Intent] | None:
    """A row that is not named above must be a read of one account; any other has no reader and is refused."""
    if row.id in _NAMED:
        return _NAMED[row.id]
    if row.all_connections_path == "c2s.isReqAllConn":
        return _read_subscriptions
    if row.acc_id_path != "c2s.header.accID" or row.env_path != "c2s.header.trdEnv":
        return None
    if row.permission is catalog.Permission.OWN_ORDERS:
        return _read_own_orders
    return _read_account if row.permission is catalog.Permission.ACCOUNT else None


_READERS: dict[int, Callable[[Any], Intent]] = {
    row.id: reader
    for row in catalog.CATALOG.values()
    if row.judged and row.direction is catalog.Direction.REQUEST and (reader := _reader(row)) is not None
}
