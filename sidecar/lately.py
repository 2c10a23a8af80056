"""The last refusals, for the owner to look at. A few, in memory only: the audit has them all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sidecar.audit.record import AuditRecord, timestamp
from sidecar.policy.exact import plain

KEPT = 50
"""Refusals of keys."""
KEPT_OF_STRANGERS = 10
"""Refusals of whoever showed no good key. SECURITY: apart, so that nobody can knock until the others are forgotten."""


@dataclass(slots=True)
class _Seen:
    record: AuditRecord
    times: int = 1
    """In a row, of the same key, reason and address: a bot that tries over and over is one line."""


class Lately:
    """What was refused, the latest first. `note` is called on the event loop, for every refusal."""

    def __init__(self) -> None:
        self._keys: deque[_Seen] = deque(maxlen=KEPT)
        self._strangers: deque[_Seen] = deque(maxlen=KEPT_OF_STRANGERS)

    def note(self, record: AuditRecord) -> None:
        """A refusal as it is recorded."""
        seen = self._keys if record.has_valid_key else self._strangers
        if seen and _alike(seen[-1].record, record):
            seen[-1].record, seen[-1].times = record, seen[-1].times + 1
        else:
            seen.append(_Seen(record))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """As trees of JSON values; quantities and prices as text, because they are exact."""
        for seen in sorted((*self._keys, *self._strangers), key=lambda one: one.record.at, reverse=True):
            yield _tree(seen)


def _alike(one: AuditRecord, other: AuditRecord) -> bool:
    return _terms(one) == _terms(other)


def _terms(record: AuditRecord) -> tuple[object, ...]:
    return record.key_id, record.reason, record.iface, record.endpoint, record.address, record.symbol, record.side


def _tree(seen: _Seen) -> dict[str, Any]:
    record = seen.record
    return {
        "at": timestamp(record.at),
        "key": record.key_id,
        "iface": record.iface,
        "endpoint": record.endpoint,
        "address": record.address,
        "code": record.reason,
        "message": record.message,
        "decision_id": record.decision_id,
        "side": record.side,
        "qty": None if record.qty is None else plain(record.qty),
        "symbol": record.symbol,
        "price": None if record.price is None else plain(record.price),
        "times": seen.times,
    }
