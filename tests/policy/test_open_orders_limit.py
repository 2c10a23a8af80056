"""The limit on orders that are open at one time: which requests add one, whatever else they change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.intents.model import (
    AccountRef,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceOrder,
    RestingOrder,
    Security,
    Side,
    TrdEnv,
)
from sidecar.policy.decide import decide, explain
from sidecar.policy.decision import Code
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Account, Facts, OrderOwner, Usage

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
ACCOUNT = AccountRef(1001, TrdEnv.SIMULATE)
KEY = Key("bot", frozenset({Scope.TRADE_SIMULATE}), max_open_orders=3)
ORDER = PlaceOrder(
    ACCOUNT, Security("HK", "HK.00700", 1, "00700", 1), Side.BUY, OrderType.NORMAL, Decimal(100), Decimal(350)
)
FACTS = Facts(
    account=Account(1001, TrdEnv.SIMULATE, frozenset({1})),
    trading=ACTIVE,
    order_owner=OrderOwner("bot"),
    resting=RestingOrder(ORDER, 7, "EX7"),
)
FULL = Usage(open_orders=3)


def _change(op: ModifyOp) -> ModifyOrder:
    return ModifyOrder(ACCOUNT, op, OrderRef(0, "EX7"), Decimal(200), Decimal(350))


@pytest.mark.parametrize("op", [ModifyOp.NORMAL, ModifyOp.DISABLE, ModifyOp.DELETE])
def test_a_change_of_an_order_that_is_there_adds_none(op: ModifyOp) -> None:
    assert decide(KEY, _change(op), FACTS, FULL, NOW).refusal is None


def test_enabling_an_order_puts_one_back() -> None:
    refusal = decide(KEY, _change(ModifyOp.ENABLE), FACTS, FULL, NOW).refusal
    assert refusal is not None
    assert refusal.code is Code.OPEN_ORDERS
    assert decide(KEY, _change(ModifyOp.ENABLE), FACTS, Usage(open_orders=2), NOW).refusal is None


def test_when_one_of_them_will_end_nobody_knows_so_no_time_is_told() -> None:
    refusal = decide(KEY, ORDER, FACTS, FULL, NOW).refusal
    assert refusal is not None
    assert refusal.retry_after is None


@given(open_orders=st.integers(0, 10), limit=st.integers(1, 10), tighter=st.integers(0, 9))
def test_a_tighter_limit_never_lets_more_through(open_orders: int, limit: int, tighter: int) -> None:
    usage = Usage(open_orders=open_orders)
    wide = replace(KEY, max_open_orders=limit)
    narrow = replace(KEY, max_open_orders=max(1, limit - tighter))
    allowed = explain(narrow, ORDER, FACTS, usage, NOW).refusal is None
    assert allowed == (open_orders + 1 <= max(1, limit - tighter))
    if allowed:
        assert decide(wide, ORDER, FACTS, usage, NOW).refusal is None
