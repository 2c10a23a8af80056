"""Orders, changes and cancels as the audit has them, in the words of the policy. Judges nothing; what a record does not say is
not made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sidecar.intents.markets import security_of_report
from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    ComboLeg,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    Security,
    Side,
    TrdEnv,
)
from sidecar.wire.catalog import CATALOG, Permission
from sidecar.wire.symbols import split

_OPS = {"modify": ModifyOp.NORMAL, "enable": ModifyOp.ENABLE, "disable": ModifyOp.DISABLE, "delete": ModifyOp.DELETE}
_CANCELS = ("cancel", "cancel_all")
_LEG = re.compile(r"([A-Z_]+) ([0-9.]+) ([A-Z]+\.\S+)")
_ORDERING = re.compile(r"/(combo-|modify-|cancel-|cancel-all-)?order(?![-\w])|(place|modify|cancel)_\w*order")
"""Routes of REST and tools of MCP."""
_SESSIONS = {"ETH": 2, "ALL": 3, "OVERNIGHT": 4}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision of the audit, or what came of it."""

    seq: int
    at: datetime
    key_id: str
    decision: str
    outcome: str
    reason: str | None
    message: str
    address: str
    count: int | None
    """Of a record that stands for several."""
    intent: PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder | None
    """None: not an order, or the record does not say which."""
    order: PlaceOrder | PlaceCombo | None
    """The one placed; of a change what it leads to, None where that was not known."""
    ids: tuple[int, str]
    """OpenD's of the order, 0 and "" where they are not said."""
    value: Decimal | None
    currency: str | None
    by_opend: bool
    """Whether OpenD's own answer is in it."""
    may_be_order: bool
    """Whether it can have been an order, a change or a cancel, going by where it came in."""

    @property
    def acc_id(self) -> int:
        return self.intent.account.acc_id if self.intent is not None else 0


def recorded(record: Mapping[str, Any]) -> Recorded:
    """`record` as it was read, numbers as int or Decimal. Raises ValueError or KeyError where it is none."""
    account, order = _account(record), None
    if account is not None and "symbol" in record:
        order = _order(record, account)
    ids = int(record.get("order_id", 0)), str(record.get("order_id_ex", ""))
    return Recorded(
        seq=int(record.get("seq", 0)),
        at=datetime.fromisoformat(record["timestamp"]).astimezone(UTC),
        key_id=str(record["key_id"]),
        decision=str(record.get("decision_id", "")),
        outcome=str(record["outcome"]),
        reason=record.get("reason"),
        message=str(record.get("message", "")),
        address=str(record.get("address", "")),
        count=record.get("count"),
        intent=_intent(record, account, order, ids),
        order=order,
        ids=ids,
        value=_number(record.get("value")),
        currency=record.get("currency"),
        by_opend="ret_type" in record,
        may_be_order=_may_be_order(str(record["endpoint"])),
    )


def _may_be_order(endpoint: str) -> bool:
    """`place_order proto_id=2202` says it; of a route or a tool the name does."""
    _, _, proto_id = endpoint.partition(" proto_id=")
    if proto_id.isdigit():
        row = CATALOG.get(int(proto_id))
        return row is not None and row.permission is Permission.TRADE
    return _ORDERING.search(endpoint) is not None


def _account(record: Mapping[str, Any]) -> AccountRef | None:
    if "acc_id" not in record or "trd_env" not in record:
        return None
    return AccountRef(int(record["acc_id"]), TrdEnv[record["trd_env"]])


def _intent(
    record: Mapping[str, Any], account: AccountRef | None, order: PlaceOrder | PlaceCombo | None, ids: tuple[int, str]
) -> PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder | None:
    op = record.get("op")
    if account is None or op is None:
        return order
    named = OrderRef(*ids)
    if op in _CANCELS:
        return CancelOrder(account, named, for_all=op == "cancel_all")
    return ModifyOrder(account, _OPS[op], named, _number(record.get("qty")), _number(record.get("price")))


def _order(record: Mapping[str, Any], account: AccountRef) -> PlaceOrder | PlaceCombo | None:
    kind, qty, price = OrderType[record["order_type"]], _number(record.get("qty")), _number(record.get("price"))
    if qty is None:
        return None
    if "side" not in record:
        legs = [_leg(part) for part in record["symbol"].split(" + ")]
        known = tuple(leg for leg in legs if leg is not None)
        return PlaceCombo(account, known, kind, qty, price) if len(known) == len(legs) else None
    security = security_named(record["symbol"])
    if security is None:
        return None
    session = record.get("session", "")
    return PlaceOrder(
        account, security, Side(record["side"]), kind, qty, price,
        outside_rth=session == "outside_rth", session=_SESSIONS.get(session, 0),
    )  # fmt: skip


def _leg(text: str) -> ComboLeg | None:
    found = _LEG.fullmatch(text)
    security = None if found is None else security_named(found[3])
    return None if found is None or security is None else ComboLeg(security, Side(found[1]), Decimal(found[2]))


def security_named(symbol: str) -> Security | None:
    """By which route it was traded, the symbol does not say."""
    parts = split(symbol)
    return None if parts is None else security_of_report(0, parts[0].sec, parts[1])


def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)
