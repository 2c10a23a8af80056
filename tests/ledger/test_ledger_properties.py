"""Under any interleaving of decisions, outcomes, passing time, jumps and restarts, no cap is ever exceeded."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_making import ACCOUNT, Clock, MemoryStore, open_ledger, reservation, utc_day

from sidecar.ledger.open_orders import units
from sidecar.ledger.reservation import Reservation

RATE_CAP = 5
DAILY_CAP = Decimal(5000)


class Trading(RuleBasedStateMachine):
    """A key with both caps; the model remembers what really happened, on the clock that never goes back."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.ledger = open_ledger(self.store, self.clock)
        self.made: dict[str, tuple[Reservation, float]] = {}
        self.in_force: set[str] = set()
        self.open: list[str] = []

    @rule(value=st.decimals(min_value="0.01", max_value=3000, places=2))
    def order(self, value: Decimal) -> None:
        now = self.clock.now
        clock_ok = self.ledger.clock_ok(now)
        usage = self.ledger.usage("bot", now)
        if not clock_ok or usage.orders_last_minute >= RATE_CAP:
            return
        if usage.daily_value.get("HKD", Decimal(0)) + value > DAILY_CAP:
            return
        made = reservation(now, value=value)
        self.ledger.reserve(made)
        self.made[made.decision_id] = (made, self.clock.elapsed)
        self.in_force.add(made.decision_id)
        self.open.append(made.decision_id)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=st.sampled_from(["release", "forward", "accept", "refuse", "fail", "end"]))
    def settle(self, data: st.DataObject, outcome: str) -> None:
        decision_id = data.draw(st.sampled_from(self.open))
        if outcome == "release":
            self.ledger.release(decision_id)
            del self.made[decision_id]
        elif outcome == "forward":
            self.ledger.forwarded(decision_id)
            return
        elif outcome == "accept":
            self.ledger.accepted(decision_id, len(self.made), f"EX{decision_id}")
            return
        elif outcome == "end":
            self.ledger.order_ended(ACCOUNT, 0, f"EX{decision_id}")
            return
        elif outcome == "refuse":
            self.ledger.refused_by_opend(decision_id)
            if self.ledger.named(ACCOUNT, 0, f"EX{decision_id}"):
                return  # an order that OpenD has named is there, whatever else it says
        else:
            self.ledger.order_failed(decision_id)
        self.in_force.discard(decision_id)
        self.open.remove(decision_id)

    @rule(seconds=st.sampled_from([0.5, 20.0, 59.9, 60.0, 3_600.0, 40_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    # Forward jumps are left out: one that falls together with a restart cannot be noticed by anybody.
    @rule(seconds=st.sampled_from([-100_000.0, -3_600.0, -10.0, -1.0]))
    def the_clock_is_set_back(self, seconds: float) -> None:
        self.clock.jump(seconds)

    @rule()
    def written(self) -> None:
        self.store.commit(self.ledger.take())

    @rule(down=st.sampled_from([0.1, 5.0, 70.0]))
    def restart(self, down: float) -> None:
        self.store.commit(self.ledger.take())
        self.clock.pass_(down)
        self.ledger = open_ledger(self.store, self.clock)

    @invariant()
    def the_rate_was_never_exceeded(self) -> None:
        edge = self.clock.elapsed - 60
        attempts = sum(1 for _, elapsed in self.made.values() if elapsed > edge)
        assert attempts <= RATE_CAP
        assert self.ledger.usage("bot", self.clock.now).orders_last_minute >= attempts

    @invariant()
    def no_day_was_ever_exceeded(self) -> None:
        days: dict[float, Decimal] = {}
        for decision_id in self.in_force:
            made, _ = self.made[decision_id]
            day = utc_day(made.at)
            days[day] = days.get(day, Decimal(0)) + (made.value or 0)
        assert all(value <= DAILY_CAP for value in days.values())
        today = utc_day(self.clock.now)
        used = self.ledger.usage("bot", self.clock.now).daily_value.get("HKD", Decimal(0))
        assert used == sum((value for day, value in days.items() if day >= today), Decimal(0))

    @invariant()
    def what_is_open_is_what_may_still_work(self) -> None:
        book = self.ledger._book
        working = [entry for entry in book if entry.state.counts_in_daily_value and entry.ended is None]
        assert self.ledger.open_orders("bot") == len(working)
        assert set(book.open.of_account(ACCOUNT)) == set(working)
        assert book.open.units(ACCOUNT, "HK.00700") == units([each.reservation for each in working], "HK.00700")

    @invariant()
    def the_unsettled_are_those_nobody_has_told_about(self) -> None:
        assert {made.decision_id for made in self.ledger.doubts.unsettled(ACCOUNT)} <= set(self.made)


TestTrading = Trading.TestCase
TestTrading.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
