"""Puts the parts of a running sidecar behind the gauges that are asked at every scrape. What is counted as it happens is counted by
whoever does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from sidecar.grants import Grants
from sidecar.keys.ring import KeyStore
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.states import States
from sidecar.listeners.certificate import Certificates
from sidecar.metrics import LIMITS, Headroom, KeyExpiry, KeyLimit, Metrics, StateReading
from sidecar.policy.caps import day_used
from sidecar.policy.currency import exchange
from sidecar.policy.usage import Terms
from sidecar.recorder import Recorder
from sidecar.unlocking import Lock, Unlocking
from sidecar.upstream.house import House
from sidecar.upstream.pool import Pool

_LOCKED = {Lock.UNKNOWN: math.nan, Lock.LOCKED: 1.0, Lock.UNLOCKED: 0.0}


def show_opend(metrics: Metrics, house: House, pool: Pool, unlocking: Unlocking, *, max_connections: int) -> None:
    metrics.read_at_scrape(metrics.upstream_up, lambda: float(house.up))
    metrics.read_at_scrape(metrics.upstream_locked, lambda: _LOCKED[unlocking.lock])
    metrics.read_at_scrape(metrics.upstream_connections, lambda: float(pool.count))
    metrics.upstream_connections_max.set(max_connections)


def show_records(metrics: Metrics, recorder: Recorder, ledger: Ledger) -> None:
    metrics.read_at_scrape(metrics.ledger_ok, lambda: float(recorder.ledger_ok))
    metrics.read_at_scrape(metrics.audit_ok, lambda: float(recorder.audit_ok))
    metrics.read_at_scrape(metrics.audit_lag_records, lambda: float(recorder.records_waiting))
    metrics.read_at_scrape(metrics.audit_lag_seconds, lambda: recorder.seconds_behind)
    metrics.read_at_scrape(metrics.orders_unsettled, lambda: float(ledger.doubts.unsettled_since(time.time() - 60)))


def show_certificates(metrics: Metrics, certificates: Certificates) -> None:
    for certificate in certificates:
        expires = metrics.certificate_expires.labels(certificate.name.removeprefix("listeners."))
        metrics.read_at_scrape(expires, certificate.expires)


def show_keys(metrics: Metrics, keys: KeyStore, grants: Grants, ledger: Ledger, terms: Callable[[], Terms]) -> None:
    """`terms`: those in force, for what was used in other currencies."""

    def headroom() -> Iterable[Headroom]:
        now = time.time()
        for key in (record.key for record in keys.ring.records()):
            usage = ledger.usage(key.id, now)
            if key.max_orders_per_minute is not None:
                left = key.max_orders_per_minute - usage.orders_last_minute
                yield Headroom(key.id, "max_orders_per_minute", float(left))
            if key.max_open_orders is not None:
                yield Headroom(key.id, "max_open_orders", float(key.max_open_orders - usage.open_orders))
            if key.max_daily_value is not None:
                used = day_used(usage, exchange(key.cap_currency, terms().rates, grants.now()))
                if used is not None:
                    value = key.max_daily_value - max(used.values(), default=0)
                    yield Headroom(key.id, "max_daily_value", float(value))

    def limits() -> Iterable[KeyLimit]:
        for key in (record.key for record in keys.ring.records()):
            for limit in LIMITS:
                amount = getattr(key, limit)
                if amount is not None:
                    yield KeyLimit(key.id, limit, float(amount))

    def expiries() -> Iterable[KeyExpiry]:
        for key in (record.key for record in keys.ring.records()):
            if key.expires_at is not None:
                yield KeyExpiry(key.id, key.expires_at.timestamp())

    metrics.read_at_scrape(metrics.keys_ok, lambda: float(keys.broken_since is None))
    metrics.read_headroom_at_scrape(headroom)
    metrics.read_limits_at_scrape(limits)
    metrics.read_expiries_at_scrape(expiries)


def show_states(metrics: Metrics, states: States, grants: Grants) -> None:
    def readings() -> Iterable[StateReading]:
        yield StateReading("", states.overall.state)
        for key_id in grants.key_ids:
            standing = states.keys.get(key_id)
            yield StateReading(key_id, 0 if standing is None else standing.state)

    metrics.read_at_scrape(metrics.states_saved, lambda: float(states.saved))
    metrics.read_states_at_scrape(readings)
