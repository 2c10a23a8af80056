"""The dashboard as code: what is shown, by which query. Writes provisioning/dashboards/opend-sidecar.json; asks nothing.

    python deploy/grafana/dashboard.py      # or `make dashboard`; a test fails while the file is not what this writes

Every series is narrowed by the variables above the dashboard: `$instance` (sidecars) and `$key` (keys of keys.json).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).parent / "provisioning/dashboards/opend-sidecar.json"
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

Shape = Literal["chart", "stacked", "state", "bars", "table"]
GREEN, YELLOW, RED, GRAY = "green", "yellow", "red", "gray"


@dataclass(frozen=True)
class Query:
    """`expr` in PromQL; `I` stands for the chosen sidecars, `K` for the chosen keys as well."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """`words`: what the numbers of a state mean, each with its colour."""

    title: str
    what: str
    queries: tuple[Query, ...]
    shape: Shape = "chart"
    unit: str = "short"
    width: int = 8
    height: int = 8
    words: tuple[tuple[str, str, str], ...] = ()


def one(expr: str, legend: str = "") -> tuple[Query, ...]:
    return (Query(expr, legend),)


STAGES = "facts: asking OpenD; decide: the rules; record: ledger and audit on disk; upstream: until OpenD has answered."
WORKS = (("1", "works", GREEN), ("0", "fails", RED))
STATES = (("0", "active", GREEN), ("1", "shrinking only", YELLOW), ("2", "halted", RED))


def state(title: str, what: str, expr: str, words: tuple[tuple[str, str, str], ...] = WORKS) -> Panel:
    return Panel(title, what, one(expr), "state", width=3, height=4, words=words)


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("State", (
        state("Sidecar", "Whether Prometheus is answered.", 'min(up{job="opend-sidecar", instance=~"$instance"})', (
            ("1", "up", GREEN), ("0", "down", RED)
        )),
        state("OpenD", "Whether the house connection stands.", "min(sidecar_upstream_up{I})", (
            ("1", "connected", GREEN), ("0", "away", RED)
        )),
        state("OpenD's lock", "Of real trading, as far as OpenD's answers tell.", "max(sidecar_upstream_locked{I})", (
            ("0", "unlocked", GREEN), ("1", "locked", YELLOW), ("nan", "not known", GRAY)
        )),
        state("Trading", "The state of all trading.", 'max(sidecar_trading_state{I, scope="global"})', STATES),
        state("keys.json", "Whether it could be read when it was last looked at.", "min(sidecar_keys_ok{I})", (
            ("1", "in force", GREEN), ("0", "broken", RED)
        )),
        state("Ledger", "Whether it can be written; else orders are refused.", "min(sidecar_ledger_ok{I})"),
        state("Audit", "Whether it can be written; else orders are refused.", "min(sidecar_audit_ok{I})"),
        state("Keys that may not trade freely", "Halted, or only to shrink.",
              'count(sidecar_trading_state{K, scope="key"} > 0) or vector(0)', (("0", "none", GREEN),)),
        Panel("Alerts", "What Prometheus would wake you for.", one(
            'ALERTS{alertstate="firing", instance=~"$instance"}'), "table", width=12, height=6),
        Panel("Trading state of each key", "0 active, 1 shrinking only, 2 halted.", one(
            'sidecar_trading_state{K, scope="key"}', "{{key_id}}"), width=12, height=6),
    )),
    ("Decisions", (
        Panel("By outcome", "Requests a second, reads included.", one(
            "sum by (outcome) (rate(futu_auth_events_total{K}[$__rate_interval]))", "{{outcome}}"), "stacked", "reqps"),
        Panel("By listener", "Requests a second.", one(
            "sum by (iface, outcome) (rate(futu_auth_events_total{K}[$__rate_interval]))", "{{iface}} {{outcome}}"),
            "stacked", "reqps"),
        Panel("By key", "Requests a second; <missing> and <invalid> are those without a good key.", one(
            "sum by (key_id, outcome) (rate(futu_auth_events_total{K}[$__rate_interval]))", "{{key_id}} {{outcome}}"),
            "stacked", "reqps"),
        Panel("Refusals by reason", "In the last 5 minutes, by code. The first of a kind shows only in the table beside.", one(
            "sum by (code) (increase(sidecar_refusals_total{K}[5m]))", "{{code}}"), "stacked", width=12),
        Panel("Refusals since the start", "By key and code; docs/refusals.md says what a code means.", one(
            "sort_desc(sum by (key_id, code) (sidecar_refusals_total{K}))"), "table", width=12),
    )),
    ("Orders", (
        Panel("Orders by what came of them", "In 5 minutes: allowed and refused by the sidecar; accepted, failed or unknown at OpenD.", one(
            'sum by (outcome) (increase(sidecar_orders_total{K, action="order"}[5m]))', "{{outcome}}")),
        Panel("Cancels by what came of them", "In 5 minutes, those of clients.", one(
            'sum by (outcome) (increase(sidecar_orders_total{K, action="cancel"}[5m]))', "{{outcome}}")),
        Panel("Orders allowed, by key", "In 5 minutes.", one(
            'sum by (key_id, env) (increase(sidecar_orders_total{K, action="order", outcome="allowed"}[5m]))',
            "{{key_id}} {{env}}"), "stacked"),
        Panel("Value of allowed orders", "In an hour, of keys with a limit on value; what adds to their day.", one(
            "sum by (key_id, currency) (increase(sidecar_order_value_total{K}[1h]))", "{{key_id}} {{currency}}"), "stacked"),
        Panel("Day's value against the limit", "Used and allowed, of each key with max_daily_value, in its currency.", (
            Query('sidecar_key_limit{K, limit="max_daily_value"} - sidecar_ledger_headroom', "{{key_id}} used"),
            Query('sidecar_key_limit{K, limit="max_daily_value"}', "{{key_id}} limit"),
        )),
        Panel("How much of each limit is used", "Of the day's value, open orders and orders a minute.", one(
            "1 - sidecar_ledger_headroom{K} / sidecar_key_limit", "{{key_id}} {{limit}}"), "bars", "percentunit"),
        Panel("Orders without an answer", "Sent over a minute ago; they count as used.", one(
            "sidecar_orders_unsettled{I}", "{{instance}}")),
        Panel("Breakers", "Times each has halted a key, since the start.", one(
            "sum by (breaker, key_id) (sidecar_breaker_trips_total{K})", "{{breaker}} {{key_id}}")),
        Panel("Cancelled by the sidecar", "Orders, since the start, after a halt or when a key's connections had gone.", one(
            "sum by (why, outcome) (sidecar_own_cancels_total{I})", "{{why}}: {{outcome}}")),
    )),
    ("Latency", (
        Panel("Median by stage", STAGES, one(
            "histogram_quantile(0.5, sum by (le, stage) (rate(sidecar_stage_seconds_bucket{I}[$__rate_interval])))",
            "{{stage}}"), unit="s", width=12),
        Panel("99th percentile by stage", STAGES, one(
            "histogram_quantile(0.99, sum by (le, stage) (rate(sidecar_stage_seconds_bucket{I}[$__rate_interval])))",
            "{{stage}}"), unit="s", width=12),
    )),
    ("OpenD, pushes and connections", (
        Panel("Connections to OpenD", "It serves 128 in all.", (
            Query("sidecar_upstream_connections{I}", "open"), Query("sidecar_upstream_connections_max{I}", "most"))),
        Panel("The sidecar's own questions to OpenD", "A second, by outcome.", one(
            "sum by (proto, outcome) (rate(sidecar_house_requests_total{I}[$__rate_interval]))", "{{proto}} {{outcome}}"), unit="reqps"),
        Panel("OpenD lost and found", "Changes in an hour; each loss cuts every bot off.", one(
            "changes(sidecar_upstream_up{I}[1h])", "{{instance}}")),
        Panel("Pushes passed on", "A second, by listener.", one(
            "sum by (iface) (rate(sidecar_pushes_total{I}[$__rate_interval]))", "{{iface}}"), unit="cps"),
        Panel("Pushes withheld", "In 5 minutes: what a key may not see, by the scope it would take.", one(
            "sum by (required_scope, key_id) (increase(futu_ws_filtered_pushes_total{K}[5m]))", "{{key_id}} {{required_scope}}")),
        Panel("Clients", "Open connections, by listener.", one(
            "sum by (iface) (sidecar_client_connections{I})", "{{iface}}"), "stacked"),
        Panel("Clients the sidecar has cut off", "In 5 minutes, by reason; slow_client reads its pushes too slowly.", one(
            "sum by (reason) (increase(sidecar_clients_cut_total{I}[5m]))", "{{reason}}")),
        Panel("Failed TLS handshakes", "In 5 minutes, by listener and reason.", one(
            "sum by (iface, reason) (increase(sidecar_tls_handshakes_failed_total{I}[5m]))", "{{iface}} {{reason}}")),
        Panel("Certificates and keys expire in", "Of listeners with TLS, and of keys that expire.", (
            Query("sidecar_tls_certificate_expires_timestamp_seconds{I} - time()", "certificate of {{listener}}"),
            Query("sidecar_key_expires_timestamp_seconds{K} - time()", "key {{key_id}}")), unit="s"),
    )),
    ("Disk and process", (
        Panel("Audit and ledger behind", "Age of the oldest work that is not on disk.", one(
            "sidecar_audit_lag_seconds{I}", "{{instance}}"), unit="s"),
        Panel("Audit records waiting", "Not on disk yet.", one("sidecar_audit_lag_records{I}", "{{instance}}")),
        Panel("Reloads", "Since the start, of keys.json, settings and certificates.", (
            Query("sidecar_keys_reload_total{I}", "keys.json {{result}}"),
            Query("sidecar_config_reloads_total{I}", "settings {{result}}"),
            Query("sidecar_tls_reload_total{I}", "certificates {{result}}"))),
        Panel("Memory", "Resident.", one('process_resident_memory_bytes{job="opend-sidecar", instance=~"$instance"}', "{{instance}}"),
              unit="bytes"),
        Panel("Processor", "Cores in use; the event loop has one.", one(
            'rate(process_cpu_seconds_total{job="opend-sidecar", instance=~"$instance"}[$__rate_interval])', "{{instance}}")),
        Panel("Open files", "Connections, and what is on disk.", one(
            'process_open_fds{job="opend-sidecar", instance=~"$instance"}', "{{instance}}")),
    )),
)  # fmt: skip


def written_out(expr: str) -> str:
    """With the selectors for which `I` and `K` stand."""
    return expr.replace("{I", '{instance=~"$instance"').replace("{K", '{instance=~"$instance", key_id=~"$key"')


def targets(panel: Panel) -> Iterator[prometheus.Dataquery]:
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        made = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(written_out(query.expr))
        made.legend_format(query.legend or "__auto")
        if panel.shape == "table":
            made.format(PromQueryFormat.TABLE)
        if panel.shape in ("chart", "stacked"):
            made.range()
        else:
            made.instant()
        yield made


def chart(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST)
    made = (
        timeseries.Panel()
        .min(0)
        .fill_opacity(10)
        .legend(legend.placement(looks.LegendPlacement.BOTTOM).show_legend(True))
    )
    made.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    if panel.shape == "stacked":
        made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL)).fill_opacity(40)
    return made


def words(panel: Panel) -> stat.Panel:
    mappings: list[model.ValueMapping] = []
    for index, (value, text, color) in enumerate(panel.words):
        result = model.ValueMappingResult(text=text, color=color, index=index)
        if value == "nan":
            options = model.DashboardSpecialValueMapOptions(match=model.SpecialValueMatch.NULL_AND_NAN, result=result)
            mappings.append(model.SpecialValueMap(options=options))
        else:
            mappings.append(model.ValueMap(options={value: result}))
    made = (
        stat.Panel()
        .color_mode(looks.BigValueColorMode.BACKGROUND)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .mappings(mappings)
    )
    # the last value, null or not: a lock that is not known is one of the words
    made.reduce_options(common.ReduceDataOptions().calcs(["last"]))
    return made.thresholds(steps((None, YELLOW)))  # of a number without a word


def bars(_panel: Panel) -> bargauge.Panel:
    made = bargauge.Panel().min(0).max(1).orientation(looks.VizOrientation.HORIZONTAL)
    return made.thresholds(steps((None, GREEN), (0.7, YELLOW), (0.9, RED)))


def cells(_panel: Panel) -> table.Panel:
    noise = ("Time", "__name__", "job", "alertstate", "revision")
    exclude = model.DataTransformerConfig(id_val="organize", options={"excludeByName": dict.fromkeys(noise, True)})
    return table.Panel().with_transformation(exclude)


def steps(*of: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    made = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    return made.steps([model.Threshold(value=value, color=color) for value, color in of])


SHAPES: dict[Shape, Callable[[Panel], timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel]] = {
    "chart": chart,
    "stacked": chart,
    "state": words,
    "bars": bars,
    "table": cells,
}


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    made = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query).multi(True).include_all(True)
    made.all_value(".*").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    return made.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))


def build() -> model.Dashboard:
    made = dashboard.Dashboard("opend-sidecar").uid("opend-sidecar").tags(["opend-sidecar"]).readonly()
    made.description("What the keys of opend-sidecar do, what they are refused, and how OpenD is.")
    made.refresh("10s").time("now-3h", "now").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    made.with_variable(variable("instance", "Sidecar", "label_values(sidecar_upstream_up, instance)"))
    made.with_variable(variable("key", "Key", 'label_values(futu_auth_events_total{instance=~"$instance"}, key_id)'))
    ids = itertools.count(1)
    for title, panels in ROWS:
        made.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            shown = SHAPES[panel.shape](panel).id(next(ids))
            shown.title(panel.title).description(panel.what).unit(panel.unit).datasource(SOURCE)
            for target in targets(panel):
                shown.with_target(target)
            made.with_panel(shown.span(panel.width).height(panel.height))
    return made.build()


def text() -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    sys.stdout.write(f"written: {FILE}\n")
