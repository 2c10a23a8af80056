"""The budget of changes of orders: whatever is asked for in whatever order, OpenD's limit holds and cancels have room."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.change_budget import ALL, ChangeBudget, ChangeLimit
from sidecar.intents.model import AccountRef, CancelOrder, ModifyOp, ModifyOrder, OrderRef, TrdEnv
from sidecar.policy.decision import Code

ACC, OTHER = 1, 2


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def made(**limit: float) -> tuple[ChangeBudget, Time]:
    time = Time()
    return ChangeBudget(ChangeLimit(**limit), clock=time), time  # type: ignore[arg-type]


def change(acc_id: int = ACC, op: ModifyOp = ModifyOp.NORMAL) -> ModifyOrder:
    return ModifyOrder(AccountRef(acc_id, TrdEnv.REAL), op, OrderRef(0, "X"))


_ids = itertools.count(1)


def cancel(acc_id: int = ACC, order_id: int = 0, **of_all: Any) -> CancelOrder:
    """Of another order each time, unless it is named."""
    return CancelOrder(AccountRef(acc_id, TrdEnv.REAL), OrderRef(order_id or next(_ids), ""), **of_all)


def known_of(intent: ModifyOrder | CancelOrder) -> str:
    if not isinstance(intent, CancelOrder):
        return ""
    return ALL if intent.for_all else f"decision of {intent.order.order_id}"


def send(budget: ChangeBudget, intent: ModifyOrder | CancelOrder, key_id: str = "", *, working: bool = True) -> bool:
    known = known_of(intent) if working else ""
    if budget.refusal(intent, key_id, known=known) is not None:
        return False
    budget.note(intent, known=known)
    return True


def test_changes_stop_at_three_quarters_and_cancels_do_not() -> None:
    budget, _ = made()
    assert sum(send(budget, change()) for _ in range(30)) == 15
    assert all(send(budget, cancel()) for _ in range(30))


@pytest.mark.parametrize("which", ["made-up orders", "one order again and again", "all orders again and again"])
def test_cancels_without_end_leave_two_for_orders_that_are_known_to_work(which: str) -> None:
    budget, _ = made()
    for _ in range(14):
        send(budget, change())
    sent = {
        "made-up orders": lambda: send(budget, cancel(), working=False),
        "one order again and again": lambda: send(budget, cancel(order_id=10**9)),
        "all orders again and again": lambda: send(budget, cancel(for_all=True)),
    }[which]
    assert sum(sent() for _ in range(30)) == 4
    refusal = budget.refusal(cancel())
    assert refusal is not None and refusal.code is Code.UPSTREAM_FULL
    assert (
        "18 were sent, and the last 2 are kept for the first cancels of orders known to be working" in refusal.message
    )
    assert all(send(budget, cancel()) for _ in range(30))


def test_the_cancel_of_one_order_may_be_tried_again_after_a_moment_that_of_all_only_when_the_last_no_longer_counts() -> (
    None
):
    budget, time = made(most=2, kept=1)
    assert [send(budget, cancel(order_id=7)) for _ in range(3)] == [True, False, False]
    assert send(budget, cancel(for_all=True, for_all_market=1))
    assert not send(budget, cancel(for_all=True, for_all_market=2))
    time.now += 3
    assert send(budget, cancel(order_id=7))
    time.now += 3
    assert not send(budget, cancel(order_id=7))
    assert not send(budget, cancel(for_all=True))
    time.now += 31
    assert send(budget, cancel(for_all=True))


def test_the_refusal_says_why_and_when_it_may_pass() -> None:
    budget, time = made()
    for _ in range(15):
        send(budget, change())
        time.now += 1
    refusal = budget.refusal(change())
    assert refusal is not None
    assert refusal.code is Code.UPSTREAM_FULL
    assert "takes 20 changes of orders in 30 s for an account, 15 were sent, and the last 5 are kept" in refusal.message
    assert refusal.retry_after == 16
    time.now += 16
    assert budget.refusal(change()) is None


def test_enable_disable_and_delete_are_changes_too() -> None:
    budget, _ = made(most=4, kept=1)
    for op in (ModifyOp.ENABLE, ModifyOp.DISABLE, ModifyOp.DELETE):
        assert send(budget, change(op=op))
    assert not send(budget, change(op=ModifyOp.ENABLE))


def test_cancels_count_against_changes() -> None:
    budget, _ = made()
    for _ in range(15):
        send(budget, cancel())
    assert not send(budget, change())


def test_accounts_have_budgets_of_their_own_and_one_that_is_only_asked_about_is_not_kept() -> None:
    budget, _ = made(most=1, kept=0)
    assert send(budget, change())
    assert not send(budget, change())
    assert send(budget, change(OTHER))
    assert budget.refusal(change(3)) is None
    assert set(budget._sent) == {ACC, OTHER}


def test_while_the_sidecar_cancels_no_client_changes_an_order_of_the_account_and_others_cancels_go_on() -> None:
    budget, _ = made()
    with budget.reserved(ACC, "bot"):
        refusal = budget.refusal(change())
        assert refusal is not None and "the sidecar is cancelling orders of this account" in refusal.message
        assert budget.refusal(change(OTHER)) is None
        assert all(send(budget, cancel(), "another") for _ in range(30))
    assert budget.refusal(cancel(), known="its") is None


@pytest.mark.parametrize("key_id", [None, "bot"])
def test_a_client_that_cancels_without_end_leaves_most_to_the_sidecar_that_cancels_its_orders(
    key_id: str | None,
) -> None:
    budget, _ = made(gap=-1.0)
    with budget.reserved(ACC, key_id):
        assert sum(send(budget, cancel(), "bot") for _ in range(30)) == 5
        assert [budget.take(ACC) for _ in range(15)] == [0.0] * 15
        refusal = budget.refusal(cancel(), "bot")
        assert refusal is not None and refusal.retry_after == 31
    assert send(budget, cancel(), "bot")


def test_a_run_is_told_how_long_so_many_cancels_take() -> None:
    budget, time = made(period=30.0)
    assert budget.wait(ACC, count=20) == 0
    assert 30 <= budget.wait(ACC, count=34) < 31
    assert 60 <= budget.wait(ACC, count=41) < 61
    assert 30 <= budget.wait(ACC, count=16, kept=5) < 31
    for _ in range(20):
        assert budget.take(ACC) == 0
        time.now += 0.1
    assert 27 < budget.wait(ACC) < 30
    time.now += 29
    assert budget.take(ACC) == 0


def test_two_that_go_one_after_the_other_are_the_gap_apart() -> None:
    budget, time = made(gap=0.04)
    assert budget.take(ACC) == 0
    wait = budget.take(ACC)
    assert 0.04 <= wait < 0.1
    time.now += wait
    assert budget.take(ACC) == 0


@given(
    st.lists(st.tuples(st.sampled_from(["change", "cancel", "run"]), st.floats(0, 12)), max_size=120),
    st.integers(1, 12), st.integers(0, 4),
)  # fmt: skip
def test_changes_and_runs_never_take_more_than_opend_gives_and_leave_what_is_kept(
    steps: list[tuple[str, float]], most: int, kept: int
) -> None:
    kept = min(kept, most - 1)
    budget, time = made(most=most, kept=kept, gap=0.0)
    sent: list[tuple[float, str]] = []
    for kind, pause in steps:
        time.now += pause
        sends = {"run": lambda: budget.take(ACC) <= 0, "change": lambda: send(budget, change())}
        if sends.get(kind, lambda: send(budget, cancel()))():
            sent.append((time.now, kind))
            window = [one for one in sent if time.now - one[0] < 30.0]
            if kind == "change":
                assert len(window) <= most - kept
            elif kind == "run":
                assert len(window) <= most
