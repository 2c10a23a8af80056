"""Who receives which quotes, and the quota that costs. Builds no message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sidecar.sandbox.answers import Failure
from sidecar.sandbox.instruments import Instrument, Kind
from sidecar.sandbox.session import Session

BASIC, ORDER_BOOK, TICKER, RT, BROKER, ODD_BOOK = 1, 2, 4, 5, 14, 22
KL_TYPE = {6: 2, 7: 6, 8: 7, 9: 8, 10: 9, 11: 1, 12: 3, 13: 4, 15: 11, 16: 5, 17: 10, 18: 12, 19: 13, 20: 14, 21: 15}
"""KLType of a K-line SubType."""
SUB_TYPES = frozenset({BASIC, ORDER_BOOK, TICKER, RT, BROKER, ODD_BOOK, *KL_TYPE})

HOLD_SECONDS = 60.0
"""A subscription lasts at least this long (protocol facts, section 8; documented)."""

Topic = tuple[Instrument, int]
"""An instrument and a SubType: one unit of quota."""


@dataclass(slots=True)
class _Topic:
    since: dict[Session, float] = field(default_factory=dict)
    """Subscribed sessions and when they began."""
    pushed: set[Session] = field(default_factory=set)
    """Those of them that also receive pushes."""


class Subscriptions:
    """All subscriptions of all connections.

    A topic counts once, however many connections share it (documented); it is freed when the last one leaves.
    """

    def __init__(self, quota: int, enforced: bool) -> None:
        self.quota = quota
        self._enforced = enforced
        self._topics: dict[Topic, _Topic] = {}
        self._held: dict[Topic, float] = {}
        """Topics whose connection closed within the first minute keep their quota until it has passed (documented)."""

    def subscribe(self, session: Session, topics: list[Topic], pushed: bool, now: float) -> Failure | None:
        fresh = {topic for topic in topics if topic not in self._topics and topic not in self._held}
        if self._enforced and self.used(now) + len(fresh) > self.quota:
            return Failure(
                f"Insufficient subscription quota: {len(fresh)} needed, {max(self.quota - self.used(now), 0)} of {self.quota} left"
            )
        for topic in topics:
            self._held.pop(topic, None)
            entry = self._topics.setdefault(topic, _Topic())
            entry.since.setdefault(session, now)
            if pushed:
                entry.pushed.add(session)
        return None

    def unsubscribe(self, session: Session, topics: Iterable[Topic], now: float) -> Failure | None:
        owned = [topic for topic in topics if topic in self._topics and session in self._topics[topic].since]
        if self._enforced and any(now - self._topics[topic].since[session] < HOLD_SECONDS for topic in owned):
            return Failure("Unsubscribing is possible one minute after subscribing")
        for topic in owned:
            self._leave(session, topic)
        return None

    def register(self, session: Session, topics: list[Topic], pushed: bool) -> Failure | None:
        """Start or stop pushes of what is already subscribed."""
        for topic in topics:
            if not self.has(session, topic):
                return Failure(f"Please subscribe to {topic[0].symbol} first")
        for topic in topics:
            (self._topics[topic].pushed.add if pushed else self._topics[topic].pushed.discard)(session)
        return None

    def drop(self, session: Session, now: float) -> None:
        """The connection is gone."""
        for topic in self.topics_of(session):
            since = self._topics[topic].since[session]
            self._leave(session, topic)
            if topic not in self._topics and now - since < HOLD_SECONDS:
                self._held[topic] = since + HOLD_SECONDS

    def _leave(self, session: Session, topic: Topic) -> None:
        entry = self._topics[topic]
        entry.pushed.discard(session)
        del entry.since[session]
        if not entry.since:
            del self._topics[topic]

    def has(self, session: Session, topic: Topic) -> bool:
        entry = self._topics.get(topic)
        return entry is not None and session in entry.since

    def listeners(self, topic: Topic) -> set[Session]:
        entry = self._topics.get(topic)
        return entry.pushed if entry is not None else set()

    def pushed_types(self) -> dict[Instrument, list[int]]:
        """SubTypes that somebody listens to, by instrument."""
        wanted: dict[Instrument, list[int]] = {}
        for (instrument, sub_type), entry in self._topics.items():
            if entry.pushed:
                wanted.setdefault(instrument, []).append(sub_type)
        return wanted

    def topics_of(self, session: Session) -> list[Topic]:
        return [topic for topic, entry in self._topics.items() if session in entry.since]

    def sessions(self) -> Iterator[Session]:
        """Every session with a subscription, each once."""
        yield from dict.fromkeys(session for entry in self._topics.values() for session in entry.since)

    def used(self, now: float) -> int:
        self._held = {topic: until for topic, until in self._held.items() if until > now}
        return len(self._topics) + len(self._held)

    def options_used(self) -> int:
        return sum(1 for instrument, _ in self._topics if instrument.kind is Kind.OPTION)
