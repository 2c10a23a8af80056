"""Every metric of the sidecar, declared once, with closed sets of label values. Opens no port and decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import product
from typing import Literal, NamedTuple, get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.context_managers import Timer
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from sidecar.metric_families import OTHER, AtScrape, KeyFamily, Words

Stage = Literal["facts", "decide", "record", "upstream"]
Action = Literal["order", "cancel"]
Came = Literal["allowed", "refused", "accepted", "failed", "unknown"]
"""Of an order or a cancel: the first two are ours, the others OpenD's answer or its absence."""
CancelRun = Literal["clean", "incomplete", "stopped"]

IFACES = ("tcp", "ws", "rest", "grpc", "mcp")
STAGES: tuple[Stage, ...] = ("facts", "decide", "record", "upstream")
ENVS = ("real", "simulate")
BREAKERS = ("refusals_in_a_row", "identical_orders", "daily_loss")
LIMITS = (
    "max_order_value", "max_daily_value", "max_position_value", "max_order_qty", "max_orders_per_minute", "max_open_orders"
)  # fmt: skip
"""The limits of a key that are shown, by their names in keys.json."""
_WHYS: tuple[Literal["halt", "disconnect"], ...] = ("halt", "disconnect")

STAGE_BUCKETS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0
)  # fmt: skip
"""Seconds."""

MISSING = "<missing>"
"""The `key_id` of a request without a key; the empty string counts as this."""
INVALID = "<invalid>"
"""The `key_id` of a request whose key is not one of keys.json."""

_LIMIT_REASONS = {
    "order_value": "per_order",
    "daily_value": "daily",
    "rate": "rate",
    "market": "market",
    "symbol": "symbol",
    "side": "side",
    "hours": "hours",
}
"""Our code → the `reason` word of futu_auth_limit_rejects_total; every other code of a limit is `other`."""

_REQUIRED_SCOPES = {
    "qot:read": "qot:read",
    "acc:read": "acc:read",
    "quotes": "qot:read",
    "account": "acc:read",
    "own_orders": "acc:read",
    "personal": "acc:read",
}
"""What a push needs, as a scope or in the catalog's words → the `required_scope` of futu_ws_filtered_pushes_total."""

_log = structlog.get_logger("sidecar.metrics")


class Headroom(NamedTuple):
    """What a key has left of one limit (`limit` is the limit's name in keys.json, `left` in its own unit)."""

    key_id: str
    limit: str
    left: float


class KeyLimit(NamedTuple):
    """A limit of a key as it is set, in its own unit; `limit` is its name in keys.json."""

    key_id: str
    limit: str
    amount: float


class KeyExpiry(NamedTuple):
    """When a key expires, in unix seconds."""

    key_id: str
    at: float


class StateReading(NamedTuple):
    """A trading state as a number, of all trading (`key_id` "") or of one key."""

    key_id: str
    state: int


class Metrics:
    """The metrics of one sidecar, in a registry of its own. Safe from every thread: prometheus_client locks its values.

    SECURITY: a `key_id` label is an id of `set_keys`, `<missing>` or `<invalid>`, never what a client sent, so no
    client can add series or put text of its own into the operator's dashboards.

    Ask for a counter each time it is counted (a dictionary look-up): one that was kept across a reload may belong to a
    key that is gone, and counts nothing any more.
    """

    def __init__(self) -> None:
        self._key_ids: frozenset[str] = frozenset()
        self._revision: str | None = None
        self._codes = Words()
        self._protos = Words()
        self._cut_reasons = Words()
        self._currencies = Words()
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(name, what, labels, registry=registry)

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(name, what, labels, registry=registry)

        self._auth_events = KeyFamily(
            counter("futu_auth_events", "Decisions by entrance, outcome and key", "iface", "outcome", "key_id")
        )
        self._limit_rejects = KeyFamily(
            counter("futu_auth_limit_rejects", "Refusals by limit or whitelist", "iface", "reason", "key_id")
        )
        self._filtered_pushes = KeyFamily(
            counter("futu_ws_filtered_pushes", "Pushes a key may not see", "required_scope", "key_id")
        )
        self._refusals = KeyFamily(counter("sidecar_refusals", "Refusals by our code", "iface", "code", "key_id"))
        self._orders = KeyFamily(
            counter(
                "sidecar_orders",
                "Orders, changes and cancels by what came of them",
                "action",
                "env",
                "outcome",
                "key_id",
            )
        )
        self._order_value = KeyFamily(
            counter("sidecar_order_value", "What allowed orders add to the day's value of a key", "currency", "key_id")
        )
        self._breaker_trips = KeyFamily(
            counter("sidecar_breaker_trips", "Times a breaker halted a key", "breaker", "key_id")
        )
        stages = Histogram(
            "sidecar_stage_seconds", "Time of an order in a stage", ["stage"], buckets=STAGE_BUCKETS, registry=registry
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        pushes = counter("sidecar_pushes", "Pushes passed on to clients", "iface")
        self._pushes = {iface: pushes.labels(iface) for iface in (*IFACES, OTHER)}
        clients = gauge("sidecar_client_connections", "Open client connections", "iface")
        self._clients = {iface: clients.labels(iface) for iface in (*IFACES, OTHER)}
        self._cuts = counter("sidecar_clients_cut", "Client connections ended by the sidecar", "reason")
        reloads = counter("sidecar_keys_reload", "Attempts to read keys.json again", "result")
        self._reloads = {loaded: reloads.labels(result) for loaded, result in ((True, "ok"), (False, "failed"))}
        settings_reloads = counter("sidecar_config_reloads", "Attempts to read the settings again", "result")
        self._settings_reloads = {ok: settings_reloads.labels(word) for ok, word in ((True, "ok"), (False, "failed"))}
        self._restart_needed = gauge(
            "sidecar_config_restart_needed", "Settings in the file that hold only after a restart"
        )
        self._house_requests = counter(
            "sidecar_house_requests", "The sidecar's own look-ups at OpenD", "proto", "outcome"
        )
        self._own_cancels = counter(
            "sidecar_own_cancels", "Orders the sidecar was to cancel by itself", "why", "outcome"
        )
        self._cancel_runs = counter(
            "sidecar_cancel_runs", "Times the sidecar cancelled orders by itself", "why", "result"
        )
        for why in _WHYS:  # from the start: what begins at 1 is no increase to Prometheus
            for outcome in ("cancelled", "left"):
                self._own_cancels.labels(why, outcome)
            for result in get_args(CancelRun):
                self._cancel_runs.labels(why, result)
        self._handshakes = counter("sidecar_tls_handshakes_failed", "TLS handshakes that failed", "iface", "reason")
        tls_reloads = counter("sidecar_tls_reload", "Attempts to read a listener's certificate again", "result")
        self._tls_reloads = {loaded: tls_reloads.labels(result) for loaded, result in ((True, "ok"), (False, "failed"))}
        self.certificate_expires = gauge(
            "sidecar_tls_certificate_expires_timestamp_seconds", "When a listener's certificate expires", "listener"
        )
        self._revision_info = gauge("sidecar_keys_revision_info", "The revision of keys.json in force", "revision")

        self.upstream_up = gauge("sidecar_upstream_up", "1 while the house connection to OpenD stands")
        self.upstream_locked = gauge(
            "sidecar_upstream_locked", "1 while OpenD is known to be locked for real trading, 0 unlocked, NaN not known"
        )
        self.upstream_connections = gauge("sidecar_upstream_connections", "Connections to OpenD, the house's included")
        self.upstream_connections_max = gauge("sidecar_upstream_connections_max", "Connections to OpenD there may be")
        self.audit_lag_records = gauge("sidecar_audit_lag_records", "Audit records not on disk yet")
        self.audit_lag_seconds = gauge("sidecar_audit_lag_seconds", "Age of the oldest audit record not on disk yet")
        self.audit_ok = gauge("sidecar_audit_ok", "1 while audit records can be written")
        self.states_saved = gauge("sidecar_trading_states_saved", "1 while a restart would know the trading states")
        self.losses_unknown = gauge(
            "sidecar_daily_loss_unknown_accounts",
            "Accounts whose loss of the day a breaker is to judge and is not told",
        )
        self.ledger_ok = gauge("sidecar_ledger_ok", "1 while the ledger can be written")
        self.orders_unsettled = gauge(
            "sidecar_orders_unsettled",
            "Orders and changes of more than a minute ago of which OpenD has not said whether it took them",
        )
        self.keys_ok = gauge("sidecar_keys_ok", "1 while keys.json could be read when it was last looked at")

    # -- decisions ------------------------------------------------------------------------------------------------

    def allowed(self, iface: str, key_id: str) -> Counter:
        """The counter of approved requests; `.inc(n)` it."""
        return self._auth_events.child(_iface(iface), "allow", self._key_label(key_id))

    def refused(self, iface: str, code: str, key_id: str) -> None:
        """Count one refusal, by its stable code, in every family that knows it."""
        iface, key_label = _iface(iface), self._key_label(key_id)
        self._auth_events.child(iface, "reject", key_label).inc()
        self._limit_rejects.child(iface, _LIMIT_REASONS.get(code, OTHER), key_label).inc()
        self._refusals.child(iface, self._codes(code), key_label).inc()

    def order(self, action: Action, env: str | None, outcome: Came, key_id: str) -> None:
        """Count one order, change or cancel, once for our word and once for OpenD's; `env` by its name."""
        env = env.lower() if env else OTHER
        self._orders.child(action, env if env in ENVS else OTHER, outcome, self._key_label(key_id)).inc()

    def order_value(self, value: Decimal | None, currency: str | None, key_id: str) -> None:
        """Count what an allowed order adds to its key's day; None where no limit of the key asks what it is worth."""
        if value is not None and currency is not None:
            self._order_value.child(self._currencies(currency), self._key_label(key_id)).inc(float(value))

    def breaker_tripped(self, breaker: str, key_id: str) -> None:
        """Count one halt of a key by a breaker; `breaker` is its name in the settings."""
        self._breaker_trips.child(breaker, self._key_label(key_id)).inc()

    def filtered_push(self, required_scope: str, key_id: str, count: int = 1) -> None:
        """Count pushes that were not passed on; `required_scope` is a scope or the catalog's word for it."""
        scope = _REQUIRED_SCOPES.get(required_scope, OTHER)
        self._filtered_pushes.child(scope, self._key_label(key_id)).inc(count)

    def stage(self, stage: Stage) -> Timer:
        """Times its `with` block as one stage of an order."""
        return self._stages[stage].time()

    def stage_seconds(self, stage: Stage, seconds: float) -> None:
        """Note a stage that was timed elsewhere."""
        self._stages[stage].observe(seconds)

    # -- connections ----------------------------------------------------------------------------------------------

    def pushes(self, iface: str) -> Counter:
        """The counter of pushes passed on; `.inc(n)` it once a chunk."""
        return self._pushes[_iface(iface)]

    def clients(self, iface: str, change: int) -> None:
        """+1 when a client connects, -1 when it is gone."""
        self._clients[_iface(iface)].inc(change)

    def clients_now(self) -> dict[str, int]:
        """Open client connections, by entrance. Those whose clients come and go by the request have none."""
        now = {iface: next(iter(gauge.collect())).samples[0].value for iface, gauge in self._clients.items()}
        return {iface: int(count) for iface, count in now.items() if iface != OTHER or count}

    def client_cut(self, reason: str) -> None:
        """Count a client connection that the sidecar ended; `reason` is one word of the code's own."""
        self._cuts.labels(self._cut_reasons(reason)).inc()

    def handshake_failed(self, iface: str, reason: str) -> None:
        """Count one TLS handshake that came to nothing; `reason` is one word of the code's own."""
        self._handshakes.labels(_iface(iface), self._cut_reasons(reason)).inc()

    def certificates_reloaded(self, ok: bool) -> None:
        """Count one attempt to read the certificate of a listener again."""
        self._tls_reloads[ok].inc()

    def house_request(self, proto: str, outcome: Literal["ok", "refused", "failed"]) -> None:
        """Count one look-up of our own; `proto` is the catalog's name of the request."""
        self._house_requests.labels(self._protos(proto), outcome).inc()

    def cancelled(self, why: Literal["halt", "disconnect"], *, cancelled: int, left: int) -> None:
        """Count what became of orders that the owner, or the end of a key's connections, wanted cancelled."""
        for outcome, orders in (("cancelled", cancelled), ("left", left)):
            self._own_cancels.labels(why, outcome).inc(orders)

    def cancel_run(self, why: Literal["halt", "disconnect"], result: CancelRun) -> None:
        """Count one run of cancels: `clean` when nothing that was meant can still be working."""
        self._cancel_runs.labels(why, result).inc()

    # -- keys -----------------------------------------------------------------------------------------------------

    def set_keys(self, key_ids: Iterable[str], revision: str) -> None:
        """The keys now in force: others lose their series. `revision` is that of keys.json."""
        self._key_ids = frozenset(key_ids)
        kept = self._key_ids | {MISSING, INVALID}
        for family in (
            self._auth_events, self._limit_rejects, self._filtered_pushes, self._refusals, self._breaker_trips,
            self._orders, self._order_value,
        ):  # fmt: skip
            family.keep(kept)
        for key_id in self._key_ids:  # from the start: what begins at 1 is no increase to Prometheus
            for breaker in BREAKERS:
                self._breaker_trips.child(breaker, key_id)
            for labels in product(get_args(Action), ENVS, get_args(Came)):
                self._orders.child(*labels, key_id)
        if self._revision is not None:
            self._revision_info.remove(self._revision)
        self._revision = revision
        self._revision_info.labels(revision).set(1)

    def keys_reloaded(self, ok: bool) -> None:
        """Count one attempt to read keys.json again."""
        self._reloads[ok].inc()

    def settings_reloaded(self, ok: bool, *, needs_restart: int) -> None:
        """Count one attempt to read the settings again; `needs_restart` of them differ from those in force."""
        self._settings_reloads[ok].inc()
        self._restart_needed.set(needs_restart)

    # -- the scrape -----------------------------------------------------------------------------------------------

    def read_at_scrape(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Let `gauge` ask `read` at every scrape; a `read` that raises shows as NaN and is logged."""

        def reading() -> float:
            try:
                return float(read())
            except Exception:
                _log.exception("a metric could not be read")
                return math.nan

        gauge.set_function(reading)

    def read_headroom_at_scrape(self, read: Callable[[], Iterable[Headroom]]) -> None:
        """Ask `read` for what every key has left; of several amounts for one limit the smallest is shown. Call once."""
        what = "What a key has left of a limit, in the limit's unit"
        self._by_key("sidecar_ledger_headroom", what, ("key_id", "limit"), lambda: (
            (one.key_id, (one.key_id, one.limit), one.left) for one in read()
        ))  # fmt: skip

    def read_limits_at_scrape(self, read: Callable[[], Iterable[KeyLimit]]) -> None:
        """Ask `read` for the limits of every key that are numbers. Call once."""
        self._by_key("sidecar_key_limit", "A limit of a key, in its own unit", ("key_id", "limit"), lambda: (
            (one.key_id, (one.key_id, one.limit), one.amount) for one in read()
        ))  # fmt: skip

    def read_expiries_at_scrape(self, read: Callable[[], Iterable[KeyExpiry]]) -> None:
        """Ask `read` when those keys expire that do. Call once."""
        self._by_key("sidecar_key_expires_timestamp_seconds", "When a key expires", ("key_id",), lambda: (
            (one.key_id, (one.key_id,), one.at) for one in read()
        ))  # fmt: skip

    def read_states_at_scrape(self, read: Callable[[], Iterable[StateReading]]) -> None:
        """Ask `read` for the state of all trading and of each key. Call once."""
        what = "Trading state: 0 active, 1 reducing, 2 halted"
        self._by_key("sidecar_trading_state", what, ("scope", "key_id"), lambda: (
            (one.key_id, ("key" if one.key_id else "global", one.key_id), float(one.state)) for one in read()
        ))  # fmt: skip

    def _by_key(
        self, name: str, what: str, labels: tuple[str, ...], read: Callable[[], Iterable[tuple[str, tuple[str, ...], float]]]
    ) -> None:  # fmt: skip
        self.registry.register(AtScrape(name, what, labels, read=read, known=lambda: self._key_ids))

    def exposition(self, accept: str | None) -> tuple[bytes, str]:
        """The text of a scrape and its content type: OpenMetrics where `accept` (the HTTP header) asks for it."""
        encode, content_type = choose_encoder(accept or "")
        return encode(self.registry), content_type

    def _key_label(self, key_id: str) -> str:
        if key_id in self._key_ids:
            return key_id
        return INVALID if key_id and key_id != MISSING else MISSING


def _iface(iface: str) -> str:
    return iface if iface in IFACES else OTHER
