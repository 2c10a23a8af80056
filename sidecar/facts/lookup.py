"""Look-ups that many want at once: few requests, answers remembered for a while. Knows no protocol and no money."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from sidecar.errors import UpstreamError
from sidecar.facts.asking import Rejected
from sidecar.tasks import Tasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Clock = Callable[[], float]
"""Monotonic seconds."""

_BUDGET_POLL = 0.05
"""How often, in seconds, an exhausted budget is looked at again while somebody still waits."""

_log = structlog.get_logger("sidecar.facts")


class RequestBudget:
    """At most `requests` in any `period` seconds: a sliding window, so that no boundary lets twice as many through.

    `even` of them go out evenly over the period, the rest whenever they are asked for. SECURITY: whoever has one security
    after the other looked up uses up the rest, and still nobody waits longer than `period / even`: a request takes along all
    who wait. 0: all of them are the rest.
    """

    __slots__ = ("_at_once", "_clock", "_gap", "_next_even", "_period", "_requests", "_rest", "_spent")

    def __init__(self, requests: int, period: float, clock: Clock = time.monotonic, *, even: int = 0) -> None:
        self._requests = requests
        self._rest = requests - even
        self._period = period
        self._gap = period / even if even else math.inf
        self._clock = clock
        self._next_even = -math.inf if even else math.inf
        self._spent: deque[float] = deque()
        self._at_once: deque[float] = deque()
        """Those of `_spent` that are of the rest."""

    def delay(self) -> float:
        """Seconds until the next request may be sent; 0.0 when it may be now."""
        evenly = max(0.0, self._next_even - self._clock())
        return max(self._until_fewer(self._spent, self._requests), min(evenly, self._delay_of_rest()))

    def spend(self) -> None:
        now = self._clock()
        if now >= self._next_even:
            self._next_even = now + self._gap
            self._spent.append(now)
        else:
            self._spend_of_rest()

    def _delay_of_rest(self) -> float:
        return self._until_fewer(self._at_once, self._rest)

    def _spend_of_rest(self) -> None:
        now = self._clock()
        self._at_once.append(now)
        self._spent.append(now)

    def _until_fewer(self, spent: deque[float], most: int) -> float:
        """Seconds until less than `most` of them still count."""
        now = self._clock()
        while spent and now - spent[0] >= self._period:
            spent.popleft()
        if len(spent) < most:
            return 0.0
        return self._period - (now - spent[0]) if spent else math.inf


@dataclass(frozen=True, slots=True)
class Pace:
    """How a look-up behaves; times in seconds.

    max_batch: keys one request may carry. window: how long the first key waits for company. timeout: how long a caller
    waits. late: how long OpenD has; an answer between the two still fills the memory. max_age: how long an answer is
    good, counted from when its request was *sent*. negative_age: how long "there is none" is remembered.
    max_entries: answers remembered, least recently used go first.
    """

    max_batch: int
    max_age: float
    negative_age: float
    timeout: float
    late: float
    window: float = 0.001
    max_entries: int = 10_000


class _Asked(Generic[V]):
    """A key that is waiting or under way, and how many callers still want it."""

    __slots__ = ("answer", "waiters")

    def __init__(self, answer: asyncio.Future[V | None]) -> None:
        self.answer = answer
        self.waiters = 0


class BatchedLookup(Generic[K, V]):
    """`get(key)` for many callers over `load(keys)`, one request for all who ask at about the same time.

    `load` gets at most `max_batch` distinct keys and returns what was found (a key left out means: there is none), or
    Rejected when OpenD refused the request as a whole, or raises UpstreamError. A refused batch is asked again in
    halves, so that one unknown code cannot take the others' answers with it.

    INVARIANT: `get` ends after `timeout` seconds at the latest, with None where there is no answer; None refuses.
    The requests run in `tasks`, not in a caller: one that gives up takes nothing from the others.
    """

    def __init__(
        self,
        load: Callable[[Sequence[K]], Awaitable[Mapping[K, V] | Rejected]],
        tasks: Tasks,
        pace: Pace,
        *,
        budget: RequestBudget | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._load = load
        self._tasks = tasks
        self._pace = pace
        self._budget = budget
        self._clock = clock
        self._memory: OrderedDict[K, tuple[V | None, float]] = OrderedDict()
        self._asked: dict[K, _Asked[V]] = {}
        self._queue: dict[K, None] = {}
        self._halves: deque[tuple[K, ...]] = deque()
        self._dispatching = False

    async def get(self, key: K) -> V | None:
        """The answer for `key`, from memory or from OpenD; None when there is none to be had in time."""
        remembered = self._memory.get(key)
        if remembered is not None and self._clock() < remembered[1]:
            self._memory.move_to_end(key)
            return remembered[0]
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = _Asked(asyncio.get_running_loop().create_future())
            self._queue[key] = None
            self._wake()
        asked.waiters += 1
        try:
            await asyncio.wait((asked.answer,), timeout=self._pace.timeout)
        finally:
            asked.waiters -= 1
            if not asked.waiters and key in self._queue:
                # nobody is left who wants it and it was not sent: what waits is bounded by who waits
                del self._queue[key]
                self._settle(key, None)
        return asked.answer.result() if asked.answer.done() else None

    def has(self, key: K) -> bool:
        """Whether `get` has a value for `key` at once, from memory."""
        remembered = self._memory.get(key)
        return remembered is not None and remembered[0] is not None and self._clock() < remembered[1]

    def forget(self) -> None:
        """Drop everything remembered; for when OpenD was away and may have another login or another day."""
        self._memory.clear()

    def _wake(self) -> None:
        if not self._dispatching:
            self._dispatching = True
            self._tasks.spawn(self._dispatch())

    async def _dispatch(self) -> None:
        try:
            while self._queue or self._halves:
                if not self._halves and len(self._queue) < self._pace.max_batch:
                    await asyncio.sleep(self._pace.window)
                if self._budget is not None and (delay := self._budget.delay()) > 0:
                    await asyncio.sleep(min(delay, _BUDGET_POLL))
                    self._halves = deque(wanted for half in self._halves if (wanted := self._still_wanted(half)))
                    continue
                if batch := self._next_batch():
                    if self._budget is not None:
                        self._budget.spend()
                    self._tasks.spawn(self._ask(batch))
        finally:
            self._dispatching = False

    def _next_batch(self) -> tuple[K, ...]:
        """The keys of the next request; those of a refused one first."""
        if self._halves:
            return self._still_wanted(self._halves.popleft())
        batch = tuple(self._queue)[: self._pace.max_batch]
        for key in batch:
            del self._queue[key]
        return batch

    def _still_wanted(self, half: tuple[K, ...]) -> tuple[K, ...]:
        """Without the keys nobody waits for any longer; a batch that keeps being refused ends with its callers."""
        wanted = tuple(key for key in half if self._asked[key].waiters)
        for key in half:
            if not self._asked[key].waiters:
                self._settle(key, None)
        return wanted

    async def _ask(self, batch: tuple[K, ...]) -> None:
        sent = self._clock()
        found: Mapping[K, V] | Rejected | None = None
        try:
            found = await self._load(batch)
        except UpstreamError as error:
            _log.warning("look-up got no answer", keys=len(batch), error=str(error))
        except Exception:
            # a reply this code cannot read must refuse the orders that need it, not end the process
            _log.exception("look-up failed", keys=len(batch))
        finally:
            if isinstance(found, Rejected) and len(batch) > 1:
                middle = len(batch) // 2
                self._halves += (batch[:middle], batch[middle:])
                self._wake()
            else:
                self._take(batch, found, sent)

    def _take(self, batch: tuple[K, ...], found: Mapping[K, V] | Rejected | None, sent: float) -> None:
        if isinstance(found, Rejected):
            _log.info("OpenD refused a look-up", key=str(batch[0]), message=found.message)
            found = {}
        for key in batch:
            value = None if found is None else found.get(key)
            if found is not None:
                pace = self._pace
                expires = self._clock() + pace.negative_age if value is None else sent + pace.max_age
                self._memory[key] = (value, expires)
                self._memory.move_to_end(key)
            self._settle(key, value)
        while len(self._memory) > self._pace.max_entries:
            self._memory.popitem(last=False)

    def _settle(self, key: K, value: V | None) -> None:
        asked = self._asked.pop(key)
        if not asked.answer.done():
            asked.answer.set_result(value)
