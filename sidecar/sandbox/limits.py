"""How often OpenD lets a request be made: the documented frequency limits. Quotas of subscriptions live with the subscriptions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from sidecar.sandbox.answers import Failure


@dataclass(frozen=True, slots=True)
class Frequency:
    """At most `calls` in `seconds`, at least `gap` seconds apart; counted per account or per user."""

    calls: int
    per_account: bool
    seconds: float = 30.0
    gap: float = 0.0
    only: str = ""
    """`refresh`: counts requests with refreshCache. `first_page`: counts requests without nextReqKey."""


FREQUENCIES: dict[int, Frequency] = {
    2005: Frequency(10, per_account=False),
    2101: Frequency(10, per_account=True, only="refresh"),
    2102: Frequency(10, per_account=True, only="refresh"),
    2111: Frequency(10, per_account=True),
    2201: Frequency(10, per_account=True, only="refresh"),
    2202: Frequency(15, per_account=True, gap=0.02),
    2205: Frequency(20, per_account=True, gap=0.04),
    2211: Frequency(10, per_account=True, only="refresh"),
    2221: Frequency(10, per_account=True),
    2222: Frequency(10, per_account=True),
    2223: Frequency(10, per_account=False),
    2225: Frequency(10, per_account=True),
    2226: Frequency(20, per_account=True),
    3103: Frequency(60, per_account=False, only="first_page"),
    3203: Frequency(60, per_account=False),
    3218: Frequency(30, per_account=False),
    3223: Frequency(10, per_account=False),
}
"""By proto id (protocol facts, section 8; documented)."""


class FrequencyLimits:
    """Counts requests over all connections, as OpenD does. What is refused is not counted (inferred)."""

    def __init__(self) -> None:
        self._calls: dict[tuple[int, int], deque[float]] = {}

    def refusal(self, proto_id: int, c2s: Any, now: float) -> Failure | None:
        """Count a request made at `now` (seconds of any steady clock), or say why it comes too soon."""
        frequency = FREQUENCIES.get(proto_id)
        if frequency is None:
            return None
        if frequency.only == "refresh" and not c2s.refreshCache:
            return None
        if frequency.only == "first_page" and c2s.HasField("nextReqKey"):
            return None
        key = (proto_id, c2s.header.accID if frequency.per_account else 0)
        calls = self._calls.setdefault(key, deque())
        while calls and now - calls[0] >= frequency.seconds:
            calls.popleft()
        if len(calls) >= frequency.calls:
            return Failure(
                f"This request is too frequent: at most {frequency.calls} requests in {frequency.seconds:.0f} seconds"
                f"{' for one account' if frequency.per_account else ''}"
            )
        if calls and now - calls[-1] < frequency.gap:
            return Failure(f"This request is too frequent: requests must be {frequency.gap} seconds apart")
        calls.append(now)
        return None
