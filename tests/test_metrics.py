"""What a scrape shows: names, values, and that no client can make it grow."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from sidecar.breakers import Breaker
from sidecar.cancelling.canceller import Why
from sidecar.metrics import BREAKERS, IFACES, LIMITS, STAGE_BUCKETS, Headroom, KeyExpiry, KeyLimit, Metrics
from sidecar.policy.decision import Code
from sidecar.policy.key import Key
from sidecar.wire.catalog import Permission


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics()
    made.set_keys(["research", "sim-bot"], "rev1")
    return made


def test_an_approval_is_counted_by_entrance_and_key(metrics: Metrics) -> None:
    metrics.allowed("rest", "research").inc(3)
    metrics.allowed("rest", "research").inc()
    assert value(metrics, "futu_auth_events_total", iface="rest", outcome="allow", key_id="research") == 4
    assert metrics.allowed("rest", "research") is metrics.allowed("rest", "research")


def test_a_refusal_is_counted_in_all_three_families_by_one_call(metrics: Metrics) -> None:
    metrics.refused("grpc", "rate", "sim-bot")
    assert value(metrics, "futu_auth_events_total", iface="grpc", outcome="reject", key_id="sim-bot") == 1
    assert value(metrics, "futu_auth_limit_rejects_total", iface="grpc", key_id="sim-bot", reason="rate") == 1
    assert value(metrics, "sidecar_refusals_total", iface="grpc", code="rate", key_id="sim-bot") == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("order_value", "per_order"),
        ("daily_value", "daily"),
        ("rate", "rate"),
        ("market", "market"),
        ("symbol", "symbol"),
        ("side", "side"),
        ("hours", "hours"),
        ("scope", "other"),
        ("key_unknown", "other"),
        ("price_unavailable", "other"),
    ],
)
def test_a_limit_has_the_word_existing_dashboards_use(metrics: Metrics, code: str, reason: str) -> None:
    metrics.refused("tcp", code, "sim-bot")
    assert value(metrics, "futu_auth_limit_rejects_total", iface="tcp", key_id="sim-bot", reason=reason) == 1


def test_every_code_keeps_its_own_series(metrics: Metrics) -> None:
    for code in Code:
        metrics.refused("tcp", code.value, "sim-bot")
    for code in Code:
        assert value(metrics, "sidecar_refusals_total", iface="tcp", code=code.value, key_id="sim-bot") == 1


@pytest.mark.parametrize(
    ("given_id", "label"),
    [
        ("research", "research"),
        ("", "<missing>"),
        ("<missing>", "<missing>"),
        ("<invalid>", "<invalid>"),
        ("x", "<invalid>"),
    ],
)
def test_only_ids_of_known_keys_become_labels(metrics: Metrics, given_id: str, label: str) -> None:
    metrics.refused("tcp", "key_unknown", given_id)
    assert value(metrics, "futu_auth_events_total", iface="tcp", outcome="reject", key_id=label) == 1


@pytest.mark.parametrize(
    ("word", "scope"),
    [
        (Permission.QUOTES.value, "qot:read"),
        (Permission.ACCOUNT.value, "acc:read"),
        ("acc:read", "acc:read"),
        ("x", "other"),
    ],
)
def test_a_filtered_push_names_the_scope_it_needed(metrics: Metrics, word: str, scope: str) -> None:
    metrics.filtered_push(word, "research")
    metrics.filtered_push(word, "research", 2)
    assert value(metrics, "futu_ws_filtered_pushes_total", required_scope=scope, key_id="research") == 3


def test_a_removed_key_loses_its_series_and_the_others_keep_theirs(metrics: Metrics) -> None:
    kept_child = metrics.allowed("tcp", "sim-bot")
    for key_id in ("research", "sim-bot"):
        metrics.allowed("tcp", key_id).inc()
        metrics.refused("tcp", "rate", key_id)
        metrics.filtered_push("quotes", key_id)
    metrics.refused("tcp", "key_unknown", "<invalid>")
    metrics.set_keys(["research"], "rev2")
    text = metrics.exposition(None)[0].decode()
    assert "sim-bot" not in text
    assert value(metrics, "futu_auth_events_total", iface="tcp", outcome="allow", key_id="research") == 1
    assert value(metrics, "futu_auth_events_total", iface="tcp", outcome="reject", key_id="<invalid>") == 1
    kept_child.inc()  # a late count of a key that is gone is lost, not an error
    metrics.allowed("tcp", "sim-bot").inc()
    assert "sim-bot" not in metrics.exposition(None)[0].decode()
    metrics.set_keys(["research", "sim-bot"], "rev3")
    metrics.allowed("tcp", "sim-bot").inc()
    assert value(metrics, "futu_auth_events_total", iface="tcp", outcome="allow", key_id="sim-bot") == 1


def test_only_the_revision_in_force_is_shown(metrics: Metrics) -> None:
    metrics.set_keys(["research"], "rev2")
    metrics.set_keys(["research"], "rev2")
    assert value(metrics, "sidecar_keys_revision_info", revision="rev2") == 1
    assert value(metrics, "sidecar_keys_revision_info", revision="rev1") is None


def test_reloads_are_counted_by_result(metrics: Metrics) -> None:
    metrics.keys_reloaded(True)
    metrics.keys_reloaded(False)
    metrics.keys_reloaded(False)
    assert value(metrics, "sidecar_keys_reload_total", result="ok") == 1
    assert value(metrics, "sidecar_keys_reload_total", result="failed") == 2


def test_stages_are_timed_and_the_buckets_reach_from_microseconds_to_seconds(metrics: Metrics) -> None:
    with metrics.stage("decide"):
        pass
    metrics.stage_seconds("upstream", 0.3)
    assert value(metrics, "sidecar_stage_seconds_count", stage="decide") == 1
    assert value(metrics, "sidecar_stage_seconds_sum", stage="upstream") == pytest.approx(0.3)
    assert value(metrics, "sidecar_stage_seconds_bucket", stage="upstream", le="0.25") == 0
    assert value(metrics, "sidecar_stage_seconds_bucket", stage="upstream", le="0.5") == 1
    assert (STAGE_BUCKETS[0], STAGE_BUCKETS[-1]) == (0.00005, 5.0)


def test_connections_pushes_cuts_and_look_ups_are_counted(metrics: Metrics) -> None:
    metrics.clients("ws", +1)
    metrics.clients("ws", +1)
    metrics.clients("ws", -1)
    metrics.pushes("ws").inc(40)
    metrics.client_cut("slow_reader")
    metrics.house_request("Qot_GetSecuritySnapshot", "ok")
    assert value(metrics, "sidecar_client_connections", iface="ws") == 1
    assert value(metrics, "sidecar_pushes_total", iface="ws") == 40
    assert value(metrics, "sidecar_clients_cut_total", reason="slow_reader") == 1
    assert value(metrics, "sidecar_house_requests_total", proto="Qot_GetSecuritySnapshot", outcome="ok") == 1


def test_headroom_is_read_at_the_scrape_for_known_keys_and_shows_the_least(metrics: Metrics) -> None:
    rows = [Headroom("research", "max_daily_value", 500.0), Headroom("stranger", "max_daily_value", 1.0)]
    metrics.read_headroom_at_scrape(lambda: rows)
    assert value(metrics, "sidecar_ledger_headroom", key_id="research", limit="max_daily_value") == 500
    rows.append(Headroom("research", "max_daily_value", 20.0))  # another currency
    assert value(metrics, "sidecar_ledger_headroom", key_id="research", limit="max_daily_value") == 20
    assert value(metrics, "sidecar_ledger_headroom", key_id="stranger", limit="max_daily_value") is None


def test_limits_and_expiries_are_shown_for_known_keys(metrics: Metrics) -> None:
    metrics.read_limits_at_scrape(
        lambda: [KeyLimit("research", "max_daily_value", 500.0), KeyLimit("stranger", "max_daily_value", 1.0)]
    )
    metrics.read_expiries_at_scrape(lambda: [KeyExpiry("sim-bot", 1_900_000_000.0), KeyExpiry("stranger", 1.0)])
    assert value(metrics, "sidecar_key_limit", key_id="research", limit="max_daily_value") == 500
    assert value(metrics, "sidecar_key_limit", key_id="stranger", limit="max_daily_value") is None
    assert value(metrics, "sidecar_key_expires_timestamp_seconds", key_id="sim-bot") == 1_900_000_000
    assert value(metrics, "sidecar_key_expires_timestamp_seconds", key_id="stranger") is None


def test_an_order_is_counted_by_our_word_and_by_opends(metrics: Metrics) -> None:
    metrics.order("order", "REAL", "allowed", "sim-bot")
    metrics.order("order", "REAL", "accepted", "sim-bot")
    metrics.order("cancel", None, "refused", "nobody's")
    real = {"action": "order", "env": "real", "key_id": "sim-bot"}
    assert value(metrics, "sidecar_orders_total", outcome="allowed", **real) == 1
    assert value(metrics, "sidecar_orders_total", outcome="accepted", **real) == 1
    other = {"action": "cancel", "env": "other", "key_id": "<invalid>"}
    assert value(metrics, "sidecar_orders_total", outcome="refused", **other) == 1


def test_the_value_of_orders_is_summed_by_currency_where_it_is_known(metrics: Metrics) -> None:
    metrics.order_value(Decimal("30000"), "HKD", "sim-bot")
    metrics.order_value(Decimal("0.5"), "HKD", "sim-bot")
    metrics.order_value(None, "HKD", "sim-bot")
    metrics.order_value(Decimal(1), None, "sim-bot")
    assert value(metrics, "sidecar_order_value_total", currency="HKD", key_id="sim-bot") == 30000.5


def test_what_an_alert_waits_for_is_0_before_it_happens(metrics: Metrics) -> None:
    """Prometheus sees no increase in a series that begins at 1."""
    for breaker in BREAKERS:
        assert value(metrics, "sidecar_breaker_trips_total", breaker=breaker, key_id="sim-bot") == 0
    for why in Why:
        assert value(metrics, "sidecar_cancel_runs_total", why=why.value, result="incomplete") == 0
        assert value(metrics, "sidecar_own_cancels_total", why=why.value, outcome="left") == 0
    assert value(metrics, "sidecar_keys_reload_total", result="failed") == 0
    assert value(metrics, "sidecar_tls_reload_total", result="failed") == 0


def test_the_words_of_labels_are_those_of_the_settings_and_of_keys() -> None:
    assert set(BREAKERS) == {breaker.value for breaker in Breaker}
    fields = {field.name for field in dataclasses.fields(Key)}
    assert set(LIMITS) <= fields
    numbers = {name for name in fields if name.startswith("max_")}
    assert numbers == set(LIMITS), "every limit that is a number is shown"


def test_a_reading_that_fails_does_not_cost_the_others(metrics: Metrics) -> None:
    def broken() -> float:
        raise OSError("the disk is gone")

    def broken_rows() -> list[Headroom]:
        raise OSError("the disk is gone")

    metrics.read_at_scrape(metrics.audit_lag_seconds, broken)
    metrics.read_at_scrape(metrics.audit_lag_records, lambda: 7)
    metrics.read_headroom_at_scrape(broken_rows)
    text = metrics.exposition(None)[0].decode()
    assert "sidecar_audit_lag_records 7.0" in text
    lag = value(metrics, "sidecar_audit_lag_seconds")
    assert lag is not None
    assert math.isnan(lag)


def test_two_sidecars_in_one_process_do_not_share_counts() -> None:
    first, second = Metrics(), Metrics()
    first.client_cut("idle")
    assert value(first, "sidecar_clients_cut_total", reason="idle") == 1
    assert value(second, "sidecar_clients_cut_total", reason="idle") is None


def test_both_text_formats_parse_and_carry_the_process(metrics: Metrics) -> None:
    metrics.refused("tcp", "rate", "sim-bot")
    plain, plain_type = metrics.exposition("text/plain;version=0.0.4")
    open_text, open_type = metrics.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse(plain.decode())}
    assert names >= {"futu_auth_events", "sidecar_refusals", "python_gc_collections"}
    if Path("/proc/self/stat").exists():
        assert "process_open_fds" in names
    assert {family.name for family in parse_openmetrics(open_text.decode())} >= {"futu_auth_events", "sidecar_audit_ok"}


anything = st.text(max_size=20)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(anything, anything, anything), max_size=30))
def test_whatever_is_counted_the_labels_stay_closed_sets(calls: list[tuple[str, str, str]]) -> None:
    metrics = Metrics()
    metrics.set_keys(["known"], "r")
    for iface, key_id, word in calls:
        metrics.refused(iface, "rate", key_id)
        metrics.allowed(iface, key_id).inc()
        metrics.filtered_push(word, key_id)
        metrics.clients(iface, 1)
        metrics.pushes(iface).inc()
        metrics.order("order", word, "allowed", key_id)
        metrics.order_value(Decimal(1), "HKD", key_id)
    for family in metrics.registry.collect():
        for sample in family.samples:
            assert sample.labels.get("key_id", "known") in {"known", "<missing>", "<invalid>"}
            assert sample.labels.get("env", "real") in {"real", "simulate", "other"}
            assert sample.labels.get("iface", "tcp") in {*IFACES, "other"}
            assert sample.labels.get("required_scope", "other") in {"qot:read", "acc:read", "other"}


def test_a_flood_of_words_ends_as_other() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.client_cut(f"reason{number}")
        metrics.house_request(f"proto{number}", "ok")
        metrics.refused("tcp", f"code{number}", "")
    assert value(metrics, "sidecar_clients_cut_total", reason="other") == 1000 - 64
    assert value(metrics, "sidecar_house_requests_total", proto="other", outcome="ok") == 1000 - 64
    assert value(metrics, "sidecar_refusals_total", iface="tcp", code="other", key_id="<missing>") == 1000 - 64
