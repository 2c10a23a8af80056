"""The dashboard: as its code writes it, about metrics that there are, and each of its queries answered by a real Prometheus
that asks a real sidecar. A Grafana that draws it is not among the tests."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from certificates import Authority
from live import LiveSidecar, Stage, eventually
from prometheus_server import Prometheus
from raw_client import MODIFY_ORDER, PLACE_ORDER, RawClient
from real_parts import PROJECT
from scenarios.scenario_clients import PAPER_HK, account_pushes, add_key, at_every_door, order, quote_pushes
from shown_metrics import unknown_in

FILE = PROJECT / "deploy/grafana/provisioning/dashboards/opend-sidecar.json"
SOURCE = PROJECT / "deploy/grafana/dashboard.py"
ROUNDS = 6
QUIET = {
    # nothing of the kind happens under the load, and 0 is what should be shown
    "OpenD's lock", "Orders without an answer", "Breakers", "Cancelled by the sidecar", "OpenD lost and found",
    "Audit and ledger behind", "Audit records waiting", "Trading state of each key", "Keys that may not trade freely",
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str, str]]:
    """Panel, expression and legend of every query."""
    return [(panel["title"], one["expr"], one["legendFormat"]) for panel in panels() for one in panel["targets"]]


def test_the_file_is_what_its_code_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SOURCE.parent))
    assert importlib.import_module(SOURCE.stem).text() == FILE.read_text(), "run `make dashboard`"


@pytest.mark.parametrize(("title", "expr", "legend"), queries())
def test_a_panel_asks_for_metrics_and_labels_that_there_are(title: str, expr: str, legend: str) -> None:
    assert unknown_in(expr) == set()


def test_panels_have_names_and_places_of_their_own_and_say_what_they_show() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"], panel["title"]


def test_every_panel_asks_the_data_source_that_is_chosen_and_only_the_variables_there_are() -> None:
    variables = {one["name"] for one in dashboard()["templating"]["list"]}
    for panel in panels():
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval"}, target["expr"]


# -- a real Prometheus ------------------------------------------------------------------------------------------------


def chosen(expr: str) -> str:
    """As Grafana asks it with everything chosen."""
    return expr.replace("$instance", ".*").replace("$key", ".*").replace("$__rate_interval", "10s")


async def load(sidecar: LiveSidecar, keys: dict[str, str]) -> None:
    """Orders, cancels, refusals, reads and pushes of several keys, through every door, for some seconds."""
    async with at_every_door(sidecar, keys["trader"]) as traders, at_every_door(sidecar, keys["other"]) as others:
        await others["tcp"].ask(account_pushes(PAPER_HK))
        await traders["tcp"].ask(account_pushes(PAPER_HK))
        await traders["tcp"].ask(quote_pushes())
        for _ in range(ROUNDS):
            for client in traders.values():
                await client.ask(order())
                assert (await client.ask(order(qty=100_000))).code == "order_value"
                odd_lot = await client.ask(order(qty=101))
                assert odd_lot.response.retType != 0
            await traders["rest"].ask(order(trdSide=2))  # what it counts at takes a quote
            await asyncio.to_thread(place_and_cancel, sidecar, keys["trader"])
            await asyncio.to_thread(knock, sidecar)
            sidecar.hangup()
            await asyncio.sleep(1.0)


def place_and_cancel(sidecar: LiveSidecar, key: str) -> None:
    bot = RawClient(sidecar.port, key)
    placed = bot.ask(PLACE_ORDER, bot.order_request(price=4))
    assert bot.ask(MODIFY_ORDER, bot.cancel_request(placed.s2c.orderIDEx)).retType == 0
    assert bot.ask(MODIFY_ORDER, bot.cancel_request("no such order")).retType != 0
    bot.close()


def knock(sidecar: LiveSidecar) -> None:
    """Somebody without a key; something that speaks no gRPC, and something that speaks no TLS."""
    assert sidecar.get("/readyz")[0] == 200
    RawClient(sidecar.port, "fc_" + "0" * 64).close()
    for port in (sidecar.doors["grpc"], sidecar.ports[1]):
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            line.sendall(b"GET / HTTP/1.1\r\n\r\n")
            line.settimeout(5)
            while line.recv(4096):
                pass


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has watched a sidecar under load, and has seen all trading halted in the end."""
    folder = tmp_path_factory.mktemp("monitored")
    with Stage(folder) as stage:
        limits = {"max_order_value": 100_000, "max_daily_value": 1_000_000, "max_open_orders": 1000}
        expires = (datetime.now(UTC) + timedelta(days=20)).isoformat()
        keys = {
            "trader": add_key(
                stage.keys, "trader", "qot:read", "acc:read", "trade:simulate",
                max_orders_per_minute=1000, expires_at=expires, **limits,
            ),
            "other": add_key(stage.keys, "other", "trade:simulate"),
        }  # fmt: skip
        tls = Authority(folder / "ca").issue("server").tls()
        sandbox = stage.sandbox()
        sidecar = stage.sidecar(sandbox.port, listeners={"tcp": [{"port": 0}, {"port": 0, "tls": tls}]})
        with Prometheus(folder, f"127.0.0.1:{sidecar.admin_port}") as made:
            eventually(lambda: made.query("count_over_time(up[1m]) > 1"), 30, "the first scrapes")
            asyncio.run(load(sidecar, keys))
            (sidecar.folder / "state/HALT").touch()
            firing = 'count_over_time(ALERTS{alertstate="firing"}[1m]) > 1'
            eventually(lambda: made.query(firing), 20, "the alert that trading is halted")
            yield made


@pytest.mark.real_part
@pytest.mark.timeout(240)
def test_every_query_of_every_panel_is_answered(prometheus: Prometheus) -> None:
    empty, unlabelled, flat = [], [], []
    for title, expr, legend in queries():
        samples = prometheus.query(chosen(expr))
        if not samples:
            empty.append((title, expr))
        wanted = set(re.findall(r"{{(\w+)}}", legend))
        if any(wanted - set(labels) for labels, _ in samples):
            unlabelled.append((title, legend, samples[0]))
        highest = prometheus.query(f"max_over_time(({chosen(expr)})[2m:1s])")
        if title not in QUIET and not any(value > 0 for _, value in highest):
            flat.append((title, expr, highest))
    assert (empty, unlabelled, flat) == ([], [], [])


@pytest.mark.real_part
@pytest.mark.timeout(240)
def test_the_panels_that_matter_most_show_what_the_load_was(prometheus: Prometheus) -> None:
    def shown(title: str) -> list[tuple[dict[str, str], float]]:
        return [sample for name, expr, _ in queries() if name == title for sample in prometheus.query(chosen(expr))]

    assert {labels["iface"] for labels, _ in shown("By listener")} == {"tcp", "ws", "rest", "grpc", "mcp"}
    refused = {(labels["key_id"], labels["code"]) for labels, _ in shown("Refusals since the start")}
    assert {("trader", "order_value"), ("<invalid>", "key_unknown")} <= refused
    orders = {labels["outcome"]: value for labels, value in shown("Orders by what came of them")}
    assert orders["allowed"] > 0
    assert orders["refused"] > 0
    assert orders["accepted"] + orders["failed"] == pytest.approx(orders["allowed"])
    assert {labels["stage"] for labels, _ in shown("Median by stage")} == {"facts", "decide", "record", "upstream"}
    assert {labels["key_id"] for labels, _ in shown("How much of each limit is used")} == {"trader"}
    assert {labels["alertname"] for labels, _ in shown("Alerts")} >= {"TradingHalted"}


@pytest.mark.real_part
@pytest.mark.timeout(240)
def test_a_prometheus_runs_all_the_rules_and_only_what_is_the_case_fires(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert {name for name, rule in rules.items() if rule["health"] != "ok"} == set()
    assert {name for name, rule in rules.items() if rule["state"] == "firing"} <= {"TradingHalted", "RefusalsSpike"}
