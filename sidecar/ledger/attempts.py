"""Writes that were sent under an idempotency key, and how they ended: in memory, the older ones in the store. Counts
nothing, writes nothing itself, and knows no rule."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

DEFAULT_KEPT = 86_400.0
"""Seconds for which an idempotency key is remembered."""
MOST_IN_MEMORY = 20_000
SURELY_WRITTEN = 60.0
"""Seconds after which a change that was handed to the writer is looked for in the store: longer than any write takes
before it is given up."""

AttemptKey = tuple[str, str]
"""The API key's id, and its idempotency key."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The first write of one API key under one idempotency key (`token`). `at` is unix seconds."""

    key_id: str
    token: str
    request_hash: str
    decision_id: str
    at: float
    outcome: bytes | None = None
    """OpenD's whole protobuf Response, once it answered."""

    @property
    def key(self) -> AttemptKey:
        return self.key_id, self.token


@dataclass(frozen=True, slots=True)
class AttemptDropped:
    """A write that was never sent: it leaves no row."""

    key_id: str
    token: str


AttemptChange = Attempt | AttemptDropped


class AttemptStore(Protocol):
    """Where attempts are found again; called from the event loop's thread. Both raise RecordError."""

    def load_attempts(self, since: float, most: int) -> list[Attempt]:
        """The newest `most` of those begun since then (unix seconds), oldest first."""

    def find_attempt(self, key_id: str, token: str) -> Attempt | None: ...


@dataclass(slots=True)
class _Held:
    attempt: Attempt | None
    """None: it was never sent, which the store may not know yet."""
    begun: float
    """On the clock that never goes back."""
    own: bool
    """Begun by this process, which knows that it was sent."""
    staged: bool = False
    """Whether it was ever handed over to be written."""


class Attempts:
    """What is remembered for `kept` seconds. `now` is the unix time and `elapsed()` the elapsed time of one moment.

    `stage` is given what is to be written; `unstage` takes it back and says whether it was still there.
    `was_reserved` says whether a decision's order is in the ledger, and raises RecordError where that cannot be told.

    INVARIANT: an order's attempt that may have been sent is never forgotten before its time: what is not in memory is
    asked of the store, and where the store cannot answer nobody is told that there was none.
    """

    def __init__(
        self,
        store: AttemptStore,
        *,
        kept: float,
        now: float,
        elapsed: Callable[[], float],
        stage: Callable[[AttemptKey, AttemptChange], None],
        unstage: Callable[[AttemptKey], bool],
        was_reserved: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._kept = kept
        self._elapsed = elapsed
        self._stage = stage
        self._unstage = unstage
        self._was_reserved = was_reserved
        self._held: OrderedDict[AttemptKey, _Held] = OrderedDict()
        """Oldest first."""
        self._started = now, elapsed()
        self._missing_until = 0.0
        """Elapsed time from which on nothing that is remembered is in the store alone."""
        found = store.load_attempts(now - kept, MOST_IN_MEMORY)
        for attempt in found:
            self._held[attempt.key] = _Held(attempt, self._begun(attempt), own=False)
        if len(found) >= MOST_IN_MEMORY:
            self._missing_until = self._begun(found[0]) + kept

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key_id: str, token: str, *, look_up: bool = True) -> Attempt | None:
        """The first write of this key under this idempotency key, None if there was none that may have been sent.

        Raises RecordError where only the store could tell and cannot be read. Without `look_up` it is told from memory
        alone, and an older one may be missed: right for what does no harm when it is sent twice.
        """
        held = self._held.get((key_id, token))
        if held is None and look_up:
            held = self._recall(key_id, token)
        if held is None or held.attempt is None or self._elapsed() - held.begun > self._kept:
            return None
        attempt = held.attempt
        if attempt.outcome is None and not held.own and look_up:
            # An order of an earlier process. It was reserved before it was sent, and what was reserved but not sent is
            # released: then, or at the next start. (Cancels are only written with their outcome.)
            return attempt if self._was_reserved(attempt.decision_id) else None
        return attempt

    def begun(self, attempt: Attempt, *, write: bool) -> None:
        """`write`: it is an order, and is on disk when the reservation made next is. Else it need not outlive the process
        as long as it has no outcome."""
        self._held[attempt.key] = _Held(attempt, self._elapsed(), own=True, staged=write)
        self._held.move_to_end(attempt.key)
        if write:
            self._stage(attempt.key, attempt)
        self._forget_old()

    def ended(self, attempt: Attempt, outcome: bytes) -> None:
        """OpenD answered it, with this whole protobuf Response."""
        held = self._held.get(attempt.key)
        if held is not None:
            if (
                held.attempt is None
                or held.attempt.decision_id != attempt.decision_id
                or held.attempt.outcome == outcome
            ):
                return
            held.attempt = replace(held.attempt, outcome=outcome)
            held.staged = True
        self._stage(attempt.key, replace(attempt, outcome=outcome))

    def dropped(self, attempt: Attempt) -> None:
        """It was never sent: its idempotency key is free again."""
        held = self._held.get(attempt.key)
        if held is None or held.attempt != attempt:
            return
        if not held.staged or self._unstage(attempt.key):
            del self._held[attempt.key]
            return
        held.attempt = None
        self._stage(attempt.key, AttemptDropped(attempt.key_id, attempt.token))

    def _recall(self, key_id: str, token: str) -> _Held | None:
        if self._elapsed() >= self._missing_until:
            return None
        attempt = self._store.find_attempt(key_id, token)
        return None if attempt is None else _Held(attempt, self._begun(attempt), own=False)

    def _begun(self, attempt: Attempt) -> float:
        """What is dated after now was written before the clock went back: it counts as begun just now."""
        now, at = self._started
        return min(at + (attempt.at - now), self._elapsed())

    def _forget_old(self) -> None:
        """A few at a time, so that no single order pays for many."""
        at = self._elapsed()
        for _ in range(3):
            key, oldest = next(iter(self._held.items()))
            age = at - oldest.begun
            if age <= self._kept and (len(self._held) <= MOST_IN_MEMORY or age <= SURELY_WRITTEN):
                return
            del self._held[key]
            if age <= self._kept:
                self._missing_until = max(self._missing_until, oldest.begun + self._kept)
