"""The reservation of an approved request: what the ledger keeps of it, the same for new orders, combos and changes."""

from __future__ import annotations

from dataclasses import replace

from sidecar.intents.model import ModifyOp, ModifyOrder, PlaceCombo, PlaceOrder
from sidecar.ledger.reservation import Kind, LegUnits, Reservation
from sidecar.policy.change import added_by, raises_the_stake, would_become
from sidecar.policy.decision import Decision
from sidecar.policy.exact import EXACT
from sidecar.policy.usage import Facts


def reservation_of(
    decision_id: str,
    key_id: str,
    at: float,
    intent: PlaceOrder | PlaceCombo | ModifyOrder,
    facts: Facts,
    decision: Decision,
    remark: str,
) -> Reservation:
    """`remark` as it is forwarded. A change is kept as the order it leads to. Raises ValueError where the order that is
    changed is not among the facts: no such change can have been approved.
    """
    order_id, order_id_ex = 0, ""
    if isinstance(intent, ModifyOrder):
        resting = facts.resting
        if resting is None:
            raise ValueError("a change of an order that is not known cannot be reserved")
        kind: Kind = "enable" if intent.op is ModifyOp.ENABLE else "modify"
        order = would_become(intent, resting)
        adds = added_by(intent, resting, None if facts.approved is None else facts.approved.qty)
        order_id, order_id_ex = resting.order_id, resting.order_id_ex
        if not raises_the_stake(intent) and facts.approved is not None and facts.approved.qty is not None:
            order = replace(
                order, qty=min(order.qty, facts.approved.qty)
            )  # it asks for none: no larger one is approved
    else:
        kind, order, adds = "place", intent, intent.qty
    plain = order if isinstance(order, PlaceOrder) else None
    legs = () if isinstance(order, PlaceOrder) else order.legs
    return Reservation(
        decision_id=decision_id,
        key_id=key_id,
        at=at,
        kind=kind,
        acc_id=order.account.acc_id,
        env=order.account.env,
        market=plain.security.market if plain else legs[0].security.market,
        symbol=plain.security.symbol if plain else order.symbol,  # type: ignore[union-attr]  # a combo has one
        side=plain.side if plain else None,
        order_type=order.order_type,
        qty=order.qty,
        price=order.price,
        value=decision.counts,
        currency=decision.worth.currency if decision.worth else None,
        remark=remark,
        order_id=order_id,
        order_id_ex=order_id_ex,
        adds=None if kind == "place" else adds,
        legs=tuple(LegUnits(leg.security.symbol, leg.side, EXACT.multiply(adds, leg.qty_ratio)) for leg in legs),
    )
