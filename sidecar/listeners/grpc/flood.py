"""Floods of HTTP/2 frames that carry nothing: counted here, by what each may cost. Ends no connection; its guard does."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, cast

from h2.events import (
    DataReceived,
    Event,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    UnknownFrameReceived,
    WindowUpdated,
)

_IDLE_TALK = (200, 50)
"""Dropped calls, pings, settings, priorities, unknown frames: so many at once, and so many more a second. Clients cancel
calls by the dozen when a deadline passes; none has reason to drop hundreds."""
_WINDOWS = (20_000, 10_000)
"""Clients open their window with every answer, and more than once."""
_CRUMBS, _CRUMB = 64, 256
"""Frames of one call's data that may be of any size; beyond them they have so many bytes on average."""
_REMEMBERED = 200
"""Calls whose frames are counted before those that have ended are forgotten."""

_IDLE_KINDS = (StreamReset, PingReceived, RemoteSettingsChanged, UnknownFrameReceived)


class Allowance:
    """A bucket of `most` that fills up again with `rate` a second."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, most: float, rate: float, now: float) -> None:
        self._most = self._left = most
        self._rate = rate
        self._at = now

    def take(self, count: int, now: float) -> bool:
        """False when there is not enough left."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate) - count
        self._at = now
        return self._left >= 0


class Flood:
    """What one connection has sent that carries nothing."""

    def __init__(self, now: float) -> None:
        self._idle_talk = Allowance(*_IDLE_TALK, now)
        self._windows = Allowance(*_WINDOWS, now)
        self._frames: dict[int, list[int]] = {}

    def tolerates(self, events: Iterable[Event], open_streams: Container[int], now: float) -> bool:
        """Whether the connection may go on after these."""
        idle_talk = windows = 0
        with_request: Any = None
        for event in events:
            kind = type(event)
            if kind is DataReceived:
                if not self._is_worth_it(cast(DataReceived, event), open_streams):
                    return False
            elif kind is WindowUpdated:
                windows += 1
            elif kind is RequestReceived:
                with_request = cast(RequestReceived, event).priority_updated
            elif kind is PriorityUpdated:
                idle_talk += event is not with_request  # some clients give one with every call
            elif kind in _IDLE_KINDS:
                idle_talk += 1
        return self._idle_talk.take(idle_talk, now) and self._windows.take(windows, now)

    def _is_worth_it(self, event: DataReceived, open_streams: Container[int]) -> bool:
        """SECURITY: a frame takes far more memory than the byte it may carry."""
        seen = self._frames.get(event.stream_id)
        if seen is None:
            if len(self._frames) >= _REMEMBERED:
                self._frames = {number: kept for number, kept in self._frames.items() if number in open_streams}
            seen = self._frames[event.stream_id] = [0, 0]
        seen[0] += 1
        seen[1] += len(event.data)
        return seen[0] <= _CRUMBS + seen[1] // _CRUMB
