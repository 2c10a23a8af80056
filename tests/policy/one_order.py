"""One order in one account, with all that is known of it, for tests that change a single thing. Expects nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from strategies import SECURITIES

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
    Side,
    TrdEnv,
)
from sidecar.policy.case import Case, case_of
from sidecar.policy.decision import Finding
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from sidecar.policy.usage import (
    Account,
    Facts,
    Instrument,
    InstrumentKind,
    Position,
    Terms,
    Usage,
)

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
ACCOUNT = AccountRef(1001, TrdEnv.SIMULATE)
KEY = Key("bot", frozenset(Scope))
TENCENT, APPLE = SECURITIES[0], SECURITIES[1]
SHARE = Instrument(InstrumentKind.STOCK, Decimal(1), "HKD")
TERMS = Terms(Decimal(5))
ORDER = PlaceOrder(ACCOUNT, TENCENT, Side.BUY, OrderType.NORMAL, Decimal(100), Decimal(350))
FACTS = Facts(account=Account(1001, TrdEnv.SIMULATE, frozenset({1, 2})), instrument=SHARE, trading=ACTIVE)


def number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def case(order: PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder, facts: Facts = FACTS, key: Key = KEY) -> Case:
    return case_of(key, order, facts, Usage(), NOW, TERMS)


def told(finding: Finding | None) -> str:
    assert finding is not None
    return finding.detail


def whole(finding: Finding | None) -> tuple[str, str, str]:
    """Rule, code and words of a refusal."""
    assert finding is not None and finding.refusal is not None
    assert finding.refusal.message == finding.detail
    return finding.rule, finding.refusal.code.value, finding.detail


def change(**fields: object) -> ModifyOrder:
    return ModifyOrder(ACCOUNT, ModifyOp.NORMAL, OrderRef(0, "EX7"), **fields)  # type: ignore[arg-type]


COMBO = PlaceCombo(
    ACCOUNT, (ComboLeg(TENCENT, Side.BUY, Decimal(1)), ComboLeg(TENCENT, Side.SELL, Decimal(1))), OrderType.NORMAL,
    Decimal(10), Decimal(1),
)  # fmt: skip

NOTHING = replace(COMBO, legs=())

WHOLE = Position(Decimal(5), Decimal(0), net=Decimal(5), open_buys=Decimal(0), open_sells=Decimal(0))

REDUCING = replace(FACTS, trading=Standing(TradingState.REDUCING, None, NOW, "after the close"))
