"""What the ledger's tests are made of: reservations, a store in memory, and a clock that is moved by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sidecar.intents.model import OrderType, Side, TrdEnv
from sidecar.ledger.attempts import Attempt, AttemptDropped, AttemptKey
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.reservation import Change, ChangeKey, Reservation, Row, State

NOON = 1_750_000_000.0 // 86_400 * 86_400 + 43_200
ACCOUNT = 281_756_455_998_014_447
_numbers = itertools.count(1)


@dataclass
class Clock:
    """Wall and elapsed time; `pass_` moves both, `jump` only the wall clock."""

    now: float = NOON
    elapsed: float = 1_000.0

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.elapsed += seconds

    def jump(self, seconds: float) -> None:
        self.now += seconds


class MemoryStore:
    """Rows in a dict; `unreadable` makes it fail as a broken disk does."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.asked = 0
        self.error: Exception | None = None

    def commit(self, changes: dict[ChangeKey, Change]) -> None:
        for change in changes.values():
            if isinstance(change, Row):
                self.rows[change.reservation.decision_id] = change
            elif isinstance(change, Attempt):
                self.attempts[change.key] = change
            elif isinstance(change, AttemptDropped):
                self.attempts.pop((change.key_id, change.token), None)
            else:
                self.rows.pop(change.decision_id, None)

    def load_attempts(self, since: float, most: int) -> list[Attempt]:
        return sorted((each for each in self.attempts.values() if each.at >= since), key=lambda each: each.at)[-most:]

    def find_attempt(self, key_id: str, token: str) -> Attempt | None:
        self._ask()
        return self.attempts.get((key_id, token))

    def load(self, days: int) -> list[Row]:
        newest = max((row.reservation.at for row in self.rows.values()), default=0.0)
        rows = [
            row
            for row in self.rows.values()
            if not row.state.settled
            or (row.state is State.ACCEPTED and row.ended is None)
            or row.reservation.at >= newest - days * 86_400
        ]
        return sorted(rows, key=lambda row: row.reservation.at)

    def find_decision(self, decision_id: str) -> Row | None:
        self._ask()
        return self.rows.get(decision_id)

    def find_order(self, acc_id: int, order_id: int, order_id_ex: str) -> list[Row]:
        self._ask()
        return [
            row
            for row in self.rows.values()
            if row.reservation.acc_id == acc_id
            and ((order_id and row.order_id == order_id) or (order_id_ex and row.order_id_ex == order_id_ex))
        ]

    def _ask(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


def utc_day(now: float) -> float:
    return now // 86_400 * 86_400


def open_ledger(
    store: MemoryStore | None = None,
    clock: Clock | None = None,
    day_start: Callable[[float], float] = utc_day,
    attempts_kept: float = 86_400.0,
) -> Ledger:
    clock = clock or Clock()
    return Ledger(
        store or MemoryStore(),
        day_start,
        now=clock.now,
        elapsed=lambda: clock.elapsed,
        attempts_kept=attempts_kept,
    )


def reservation(at: float = NOON, **changes: Any) -> Reservation:
    decision_id = changes.pop("decision_id", None) or f"01J{next(_numbers):023d}"
    value = changes.pop("value", Decimal(1000))
    fields: dict[str, Any] = {
        "decision_id": decision_id,
        "key_id": "bot",
        "at": at,
        "kind": "place",
        "acc_id": ACCOUNT,
        "env": TrdEnv.REAL,
        "market": "HK",
        "symbol": "HK.00700",
        "side": Side.BUY,
        "order_type": OrderType.NORMAL,
        "qty": Decimal(10),
        "price": Decimal(100),
        "value": value,
        "currency": None if value is None else "HKD",
        "remark": f"#{decision_id}",
    }
    return Reservation(**{**fields, **changes})


__all__ = ["ACCOUNT", "NOON", "Clock", "MemoryStore", "State", "open_ledger", "reservation", "utc_day"]
