"""What the owner sees of a running sidecar: its keys and what they have left, its connections, its last refusals. Changes nothing;
what is halted is the switch's to tell.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sidecar.allowance import headroom
from sidecar.breakers import Breaker, Breakers
from sidecar.gate import Gate
from sidecar.keys.ring import KeyStore
from sidecar.ledger.ledger import Ledger
from sidecar.metrics import Metrics
from sidecar.policy.key import Key
from sidecar.recorder import Recorder
from sidecar.unlocking import Unlocking
from sidecar.upstream.house import House
from sidecar.upstream.pool import Pool


class Overview:
    """Asked on the event loop."""

    def __init__(
        self, *, gate: Gate, keys: KeyStore, ledger: Ledger, recorder: Recorder, metrics: Metrics, house: House, pool: Pool,
        unlocking: Unlocking, breakers: Breakers, max_connections: int,
    ) -> None:  # fmt: skip
        """`max_connections`: to OpenD, the house's included."""
        self._gate = gate
        self._keys = keys
        self._ledger = ledger
        self._recorder = recorder
        self._metrics = metrics
        self._house = house
        self._pool = pool
        self._unlocking = unlocking
        self._breakers = breakers
        self._max_connections = max_connections
        self._began = datetime.now(UTC)

    def tree(self) -> dict[str, Any]:
        """As JSON values. Money and quantities are text, because they are exact; null: not limited, or not known."""
        return {
            "version": _version(),
            "began": self._began.isoformat(timespec="seconds"),
            "upstream": {
                "address": self._pool.address,
                "up": self._house.up,
                "lock": self._unlocking.lock.value,
                "connections": self._pool.count,
                "max_connections": self._max_connections,
            },
            "clients": self._metrics.clients_now(),
            "headroom": list(self._keys_now()),
            "breakers": {breaker.value: _text(getattr(self._breakers.settings, breaker.value)) for breaker in Breaker},
            "records": {
                "audit_ok": self._recorder.audit_ok,
                "ledger_ok": self._recorder.ledger_ok,
                "waiting": self._recorder.records_waiting,
                "seconds_behind": round(self._recorder.seconds_behind, 3),
            },
            "refusals": list(self._gate.lately),
        }

    def _keys_now(self) -> Iterator[dict[str, Any]]:
        at, now = time.time(), self._gate.grants.now()
        for key in sorted((record.key for record in self._keys.ring.records()), key=lambda key: key.id):
            yield {
                "key": key.id,
                "note": key.note,
                "state": self._gate.trading(key.id).state.name,
                "unusable": _unusable(key, now),
                "expires_at": None if key.expires_at is None else key.expires_at.isoformat(timespec="seconds"),
                "connections": self._gate.presence.count(key.id),
                "cap_currency": key.cap_currency,
                **headroom(key, self._ledger.usage(key.id, at), now, self._gate.terms),
            }


def _unusable(key: Key, now: datetime) -> str | None:
    """Why nobody can use the key, in one word."""
    if key.frozen:
        return "frozen"
    return "expired" if key.expires_at is not None and now >= key.expires_at else None


def _text(limit: object) -> str | None:
    return None if limit is None else str(limit)


def _version() -> str:
    try:
        return importlib.metadata.version("opend-sidecar")
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "unknown"
