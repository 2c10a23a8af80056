"""What the audit says of a request: where it came in, a hash of what it says, what order it is. Writes nothing.

SECURITY: nothing secret is in it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from google.protobuf.message import Message

from sidecar.audit.record import endpoint_name
from sidecar.grants import Caller
from sidecar.intents.model import (
    CancelOrder,
    Intent,
    ModifyOp,
    ModifyOrder,
    PlaceCombo,
    PlaceOrder,
    RestingOrder,
    Unlock,
)
from sidecar.policy.change import would_become
from sidecar.policy.decision import Decision
from sidecar.wire import packet_id
from sidecar.wire.catalog import Row

_SESSIONS = {2: "ETH", 3: "ALL", 4: "OVERNIGHT"}
"""OpenD's names (Common.Session) of those that go beyond regular hours."""


def endpoint_of(caller: Caller, row: Row | None, proto_id: int) -> str:
    """The route or tool it came by; else the request's own name."""
    return caller.endpoint or endpoint_name("" if row is None else row.name, proto_id)


def args_hash(intent: Intent | None, message: Message) -> str | None:
    """Of the request as its client made it. SECURITY: none for an unlock: a trade password of six digits is found from its
    hash in seconds."""
    if isinstance(intent, Unlock):
        return None
    return hashlib.sha256(packet_id.without(message).SerializeToString()).hexdigest()[:16]


def order_fields(
    intent: Intent | None, decision: Decision | None, resting: RestingOrder | None = None
) -> dict[str, Any]:
    """What it is about, as fields of an `AuditRecord`. Of a change whose order is known (`resting`), what it leads to."""
    fields: dict[str, Any] = {}
    account = getattr(intent, "account", None)
    if account is not None:
        fields.update(acc_id=account.acc_id, trd_env=account.env.name)
    if isinstance(intent, PlaceOrder | PlaceCombo):
        fields.update(_traded(intent))
    elif isinstance(intent, ModifyOrder):
        fields.update(qty=intent.qty, price=intent.price)
        if resting is not None:
            fields.update(_traded(would_become(intent, resting)))
    if isinstance(intent, ModifyOrder | CancelOrder):
        fields.update(order_id=intent.order.order_id or None, order_id_ex=intent.order.order_id_ex or None)
        fields.update(op=_op(intent))
    if decision is not None and decision.worth is not None:
        fields.update(value=decision.worth.value, currency=decision.worth.currency)
    return fields


def _op(change: ModifyOrder | CancelOrder) -> str:
    if isinstance(change, CancelOrder):
        return "cancel_all" if change.for_all else "cancel"
    return "modify" if change.op is ModifyOp.NORMAL else change.op.name.lower()


def _traded(order: PlaceOrder | PlaceCombo) -> dict[str, Any]:
    fields: dict[str, Any] = {"order_type": order.order_type.name, "qty": order.qty, "price": order.price}
    if isinstance(order, PlaceCombo):
        return {**fields, "market": order.legs[0].security.market, "symbol": order.symbol}
    security = order.security
    fields.update(market=security.market, symbol=security.symbol, side=order.side.value, session=_session(order))
    return fields


def _session(order: PlaceOrder) -> str | None:
    """None for regular trading hours only."""
    if order.outside_rth:
        return "outside_rth"
    return _SESSIONS.get(order.session)
