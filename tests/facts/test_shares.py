"""OpenD's limits for all its clients together: keys leave the sidecar its part, the sidecar may use what they leave."""

from __future__ import annotations

from facts_house import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from sidecar.facts.shares import SharedBudget, Shares
from sidecar.policy.decision import Code
from sidecar.wire import catalog
from sidecar.wire.catalog import CATALOG

SNAPSHOT = CATALOG[catalog.GET_SECURITY_SNAPSHOT]


def shares(kept: int, clock: FakeClock) -> Shares:
    return Shares({SNAPSHOT.id: kept}, clock)


def test_keys_may_use_all_but_what_is_kept_and_are_told_when_to_come_back() -> None:
    clock = FakeClock()
    mine = shares(20, clock)
    for _ in range(40):
        assert mine.take(SNAPSHOT) is None
        clock.now += 0.1
    refusal = mine.take(SNAPSHOT)
    assert refusal is not None
    assert (refusal.code, refusal.retry_after) == (Code.UPSTREAM_FULL, 27)
    assert refusal.message == (
        "OpenD takes 60 Qot_GetSecuritySnapshot in 30 s from everybody together, 20 of them are kept for judging orders, "
        "and the rest is used up; try again in 27 s"
    )
    assert mine.of(SNAPSHOT.id).delay() == 0.0


def test_what_was_refused_is_not_counted_and_the_oldest_frees_its_place_after_opends_period() -> None:
    clock = FakeClock()
    mine = shares(59, clock)
    assert mine.take(SNAPSHOT) is None
    clock.now += 29.9
    assert mine.take(SNAPSHOT) is not None
    clock.now += 0.3
    assert mine.take(SNAPSHOT) is None


def test_the_sidecar_may_use_what_keys_leave_and_keys_not_what_the_sidecar_used() -> None:
    clock = FakeClock()
    mine = shares(20, clock)
    budget = mine.of(SNAPSHOT.id)
    for _ in range(36):
        assert budget.delay() == 0.0
        budget.spend()
    assert [mine.take(SNAPSHOT) is None for _ in range(6)] == [True] * 5 + [False]
    assert budget.delay() > 0


def test_a_key_that_has_one_security_after_the_other_looked_up_makes_others_wait_for_a_moment_only() -> None:
    clock = FakeClock()
    budget = SharedBudget(60, 30.0, 20, clock)
    for _ in range(3_000):
        assert budget.delay() <= 1.51
        if budget.delay() == 0.0:
            budget.spend()
        clock.now += 0.02


def test_an_id_without_such_a_limit_is_never_refused() -> None:
    mine = shares(59, FakeClock())
    assert all(mine.take(CATALOG[catalog.GET_BASIC_QOT]) is None for _ in range(200))


def test_only_what_the_sidecar_asks_itself_is_counted() -> None:
    limited = [row.id for row in CATALOG.values() if row.shared_limit is not None]
    assert limited == [SNAPSHOT.id, catalog.GET_FUTURE_INFO, catalog.GET_MARKET_STATE]


@given(
    kept=st.integers(1, 59),
    steps=st.lists(st.tuples(st.sampled_from(["key", "house"]), st.floats(0, 3)), max_size=200),
)
def test_in_no_order_does_opend_get_more_than_it_takes_nor_does_the_sidecar_wait_longer_than_for_its_even_part(
    kept: int, steps: list[tuple[str, float]]
) -> None:
    clock = FakeClock()
    budget = SharedBudget(60, 30.0, kept, clock)
    sent: list[tuple[str, float]] = []
    for who, pause in steps:
        clock.now += pause
        if who == "key" and budget.delay_of_keys() == 0:
            budget.spend_by_key()
            sent.append((who, clock.now))
        elif who == "house" and budget.delay() == 0:
            budget.spend()
            sent.append((who, clock.now))
        recent = [name for name, at in sent if clock.now - at < 30.0]
        assert len(recent) <= 60
        assert recent.count("key") <= 60 - kept
        assert budget.delay() <= 30.2 / kept
