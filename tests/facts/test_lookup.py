"""Joining, remembering, bounding: the generic look-up, with a clock and a loader made for the test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from facts_house import own_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import UpstreamError
from sidecar.facts.asking import Rejected
from sidecar.facts.lookup import BatchedLookup, Pace, RequestBudget
from sidecar.tasks import Tasks


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Loader:
    """Answers `known`; refuses every batch that holds a key of `poison`."""

    def __init__(self, known: dict[int, str] | None = None) -> None:
        self.known = known if known is not None else {n: f"v{n}" for n in range(10_000)}
        self.batches: list[tuple[int, ...]] = []
        self.poison: set[int] = set()
        self.delay = 0.0
        self.error: Exception | None = None

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, str] | Rejected:
        self.batches.append(tuple(keys))
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        if self.poison & set(keys):
            return Rejected("unknown stock")
        return {key: self.known[key] for key in keys if key in self.known}


def pace(**changes: float) -> Pace:
    settings_: dict[str, float] = {
        "max_batch": 200, "max_age": 60.0, "negative_age": 5.0, "timeout": 0.5, "late": 5.0, **changes
    }  # fmt: skip
    return Pace(**settings_)  # type: ignore[arg-type]  # max_batch and max_entries are whole in every call


async def test_look_ups_of_one_moment_become_one_request() -> None:
    loader = Loader()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace())
        values = await asyncio.gather(*(lookup.get(key) for key in [1, 2, 3, 2, 1]))
    assert values == ["v1", "v2", "v3", "v2", "v1"]
    assert loader.batches == [(1, 2, 3)]


async def test_more_keys_than_one_request_carries_become_several_and_none_is_lost() -> None:
    loader = Loader()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(max_batch=4))
        values = await asyncio.gather(*(lookup.get(key) for key in range(10)))
    assert values == [f"v{key}" for key in range(10)]
    assert [len(batch) for batch in loader.batches] == [4, 4, 2]


async def test_a_key_under_way_is_joined_not_asked_again() -> None:
    loader = Loader()
    loader.delay = 0.05
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace())
        first = tasks.spawn(lookup.get(7))
        await asyncio.sleep(0.02)
        assert await lookup.get(7) == "v7"
        assert await first == "v7"
    assert loader.batches == [(7,)]


async def test_an_answer_is_good_for_its_age_counted_from_when_it_was_asked_for() -> None:
    loader, clock = Loader(), Clock()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(max_age=10.0), clock=clock)

        async def slow(keys: Sequence[int]) -> Mapping[int, str]:
            clock.now += 4.0  # the reply took four seconds
            return dict.fromkeys(keys, "v")

        slow_lookup = BatchedLookup(slow, tasks, pace(max_age=10.0), clock=clock)
        await lookup.get(1)
        clock.now = 9.9
        await lookup.get(1)
        assert len(loader.batches) == 1
        clock.now = 10.0
        await lookup.get(1)
        assert len(loader.batches) == 2

        clock.now = 100.0
        await slow_lookup.get(1)
        clock.now = 109.9
        await slow_lookup.get(1)
        assert clock.now == 109.9
        clock.now = 110.0
        await slow_lookup.get(1)
        assert clock.now == 114.0


async def test_that_there_is_none_is_remembered_only_briefly() -> None:
    loader, clock = Loader(known={}), Clock()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(), clock=clock)
        assert await lookup.get(1) is None
        clock.now = 4.9
        assert await lookup.get(1) is None
        assert len(loader.batches) == 1
        loader.known = {1: "new"}
        clock.now = 5.0
        assert await lookup.get(1) == "new"


async def test_a_slow_answer_is_none_in_time_and_fills_the_memory_when_it_comes() -> None:
    loader = Loader()
    loader.delay = 0.1
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(timeout=0.02))
        started = asyncio.get_running_loop().time()
        assert await lookup.get(1) is None
        assert asyncio.get_running_loop().time() - started < 0.09
        await asyncio.sleep(0.12)
        assert await lookup.get(1) == "v1"
    assert len(loader.batches) == 1


@pytest.mark.parametrize("error", [UpstreamError("away"), ValueError("a reply nobody expected")])
async def test_a_failed_request_is_none_at_once_and_not_remembered(error: Exception) -> None:
    loader = Loader()
    loader.error = error
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(timeout=5.0))
        async with asyncio.timeout(1.0):
            assert await lookup.get(1) is None
        loader.error = None
        assert await lookup.get(1) == "v1"


async def test_one_unknown_key_does_not_take_the_others_answers_with_it() -> None:
    loader = Loader()
    loader.poison = {3}
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace())
        values = await asyncio.gather(*(lookup.get(key) for key in range(8)))
        assert values == ["v0", "v1", "v2", None, "v4", "v5", "v6", "v7"]
        asked = len(loader.batches)
        assert await lookup.get(3) is None
        assert len(loader.batches) == asked


async def test_a_refusal_of_everything_stops_being_asked_when_the_callers_are_gone() -> None:
    loader = Loader()
    loader.poison = set(range(10_000))
    async with own_tasks() as tasks:
        lookup = BatchedLookup(
            loader,
            tasks,
            pace(timeout=0.05, max_batch=400),
            budget=RequestBudget(20, 30.0, asyncio.get_running_loop().time),
        )
        assert set(await asyncio.gather(*(lookup.get(key) for key in range(400)))) == {None}
        await asyncio.sleep(0.1)
        assert len(loader.batches) == 20
    # and with the block all tasks have ended: nothing keeps asking


async def test_a_cancelled_caller_takes_nothing_from_the_others() -> None:
    loader = Loader()
    loader.delay = 0.03
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace())
        first = asyncio.ensure_future(lookup.get(1))
        second = asyncio.ensure_future(lookup.get(1))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == "v1"
    assert loader.batches == [(1,)]


async def test_what_nobody_waits_for_any_longer_is_not_sent() -> None:
    loader, clock = Loader(), Clock()
    budget = RequestBudget(1, 30.0, clock)
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(timeout=0.05), budget=budget, clock=clock)
        assert await lookup.get(1) == "v1"
        assert await asyncio.gather(*(lookup.get(key) for key in range(2, 50))) == [None] * 48
        clock.now = 31.0
        assert await lookup.get(99) == "v99"
    assert loader.batches == [(1,), (99,)]


async def test_a_caller_waits_for_the_budget_inside_its_timeout() -> None:
    loader, clock = Loader(), Clock()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(timeout=1.0), budget=RequestBudget(1, 30.0, clock), clock=clock)
        assert await lookup.get(1) == "v1"
        waiting = tasks.spawn(lookup.get(2))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        clock.now = 30.0
        assert await waiting == "v2"


async def test_the_memory_is_bounded_and_keeps_what_is_used() -> None:
    loader = Loader()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace(max_entries=3))
        for key in [1, 2, 3, 1, 4]:  # 2 is the least recently used
            await lookup.get(key)
        asked = len(loader.batches)
        for key in [1, 3, 4]:
            await lookup.get(key)
        assert len(loader.batches) == asked
        await lookup.get(2)
        assert len(loader.batches) == asked + 1


async def test_forgetting_makes_it_ask_again() -> None:
    loader = Loader()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(loader, tasks, pace())
        await lookup.get(1)
        lookup.forget()
        await lookup.get(1)
    assert len(loader.batches) == 2


async def test_a_look_up_cut_off_by_the_end_of_the_process_is_none_and_does_not_hang() -> None:
    loader = Loader()
    loader.delay = 5.0
    tasks = Tasks()
    lookup = BatchedLookup(loader, tasks, pace(timeout=10.0))
    waiting = asyncio.ensure_future(lookup.get(1))
    await asyncio.sleep(0.02)
    await tasks.drain(0.0)
    async with asyncio.timeout(1.0):
        assert await waiting is None


@settings(max_examples=40, deadline=None)
@given(
    keys=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    known=st.sets(st.integers(0, 30)),
    poison=st.sets(st.integers(0, 30), max_size=4),
    max_batch=st.integers(1, 20),
)
def test_whatever_is_asked_together_every_caller_gets_its_own_answer(
    keys: list[int], known: set[int], poison: set[int], max_batch: int
) -> None:
    async def scenario() -> None:
        loader = Loader({key: f"v{key}" for key in known})
        loader.poison = poison
        async with own_tasks() as tasks:
            lookup = BatchedLookup(loader, tasks, pace(timeout=5.0, max_batch=max_batch, window=0.0))
            answers = await asyncio.gather(*(lookup.get(key) for key in keys))
        assert answers == [f"v{key}" if key in known - poison else None for key in keys]
        assert all(len(batch) <= max_batch and len(set(batch)) == len(batch) for batch in loader.batches)
        if not poison & set(keys):
            assert sum(len(batch) for batch in loader.batches) == len(set(keys))

    asyncio.run(scenario())


@given(st.lists(st.integers(0, 20), max_size=80), st.integers(1, 5))
def test_no_window_of_the_period_ever_holds_more_requests_than_the_budget(steps: list[int], requests: int) -> None:
    clock = Clock()
    budget = RequestBudget(requests, 30.0, clock)
    sent: list[float] = []
    for step in steps:
        clock.now += step
        if (delay := budget.delay()) == 0.0:
            budget.spend()
            sent.append(clock.now)
        else:
            assert sent[-requests] + 30.0 == clock.now + delay
    for start in sent:
        assert sum(1 for moment in sent if start <= moment < start + 30.0) <= requests


async def test_memory_has_what_get_would_answer_with_at_once_and_nothing_else() -> None:
    clock = Clock()
    async with own_tasks() as tasks:
        lookup = BatchedLookup(Loader({1: "v1"}), tasks, pace(max_age=60.0, negative_age=5.0), clock=clock)
        assert not lookup.has(1)
        await asyncio.gather(lookup.get(1), lookup.get(2))
        assert lookup.has(1)
        assert not lookup.has(2)  # remembered as not there: that is no value
        clock.now = 60.0
        assert not lookup.has(1)
        await lookup.get(1)
        assert lookup.has(1)
        lookup.forget()
        assert not lookup.has(1)
