"""The alerts of a real Prometheus that watches a real sidecar while one thing after the other goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from live import LiveSandbox, LiveSidecar, Stage, eventually
from prometheus_server import Prometheus
from raw_client import PLACE_ORDER, RawClient

pytestmark = [pytest.mark.real_part, pytest.mark.timeout(240)]

REAL = 281756455000000001
IN_A_ROW = 3


class BadDay:
    def __init__(self, stage: Stage, prometheus_folder: Path) -> None:
        soon = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        self.keys = stage.keys
        self.full = stage.keys.add("full", "trade:simulate", max_open_orders=2)
        self.looping = stage.keys.add("looping", "trade:simulate")
        self.real = stage.keys.add("real", "trade:real", expires_at=soon)
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port, breakers={"identical_orders": IN_A_ROW})
        self.prometheus = Prometheus(prometheus_folder, f"127.0.0.1:{self.sidecar.admin_port}")

    def place(self, key: str, *, price: float = 4) -> int:
        """The retType of one order, OpenD's or ours; that of the key `real` is one in a real account."""
        bot = RawClient(self.sidecar.port, key)
        request = bot.order_request(price=price)
        if key == self.real:
            request.c2s.header.trdEnv, request.c2s.header.accID = 1, REAL
        answer = bot.ask(PLACE_ORDER, request)
        bot.close()
        return int(answer.retType)

    def raised(self) -> set[tuple[str, str]]:
        """Alerts that fire, or would if it stays so, with their key."""
        found = set()
        for name, rule in self.prometheus.rules().items():
            assert rule["health"] == "ok", rule
            found |= {(name, alert["labels"].get("key_id", "")) for alert in rule["alerts"]}
        return found

    def wait_for(self, name: str, key_id: str = "") -> None:
        eventually(lambda: (name, key_id) in self.raised(), 20, f"the alert {name} {key_id}")


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadDay]:
    folder = tmp_path_factory.mktemp("bad-day")
    with Stage(folder) as stage:
        made = BadDay(stage, folder)
        with made.prometheus:
            eventually(lambda: made.prometheus.query("count_over_time(up[1m]) > 1"), 30, "the first scrapes")
            yield made


def test_before_anything_happens_only_what_is_written_in_keys_json_is_told(day: BadDay) -> None:
    day.wait_for("KeyExpiresSoon", "real")
    assert day.raised() == {("KeyExpiresSoon", "real")}


def test_a_real_order_that_a_locked_opend_refuses(day: BadDay) -> None:
    assert day.place(day.real) != 0
    assert day.sandbox.orders(), "it was OpenD that refused it"
    day.wait_for("OpenDLocked")


def test_a_bot_in_a_loop_that_a_breaker_stops_for_the_first_time(day: BadDay) -> None:
    for _ in range(IN_A_ROW):
        day.place(day.looping)
    day.wait_for("BreakerTripped", "looping")
    day.wait_for("KeyHalted", "looping")


def test_a_key_that_has_used_up_its_open_orders(day: BadDay) -> None:
    assert day.place(day.full) == 0
    assert day.place(day.full, price=4.2) == 0
    day.wait_for("HeadroomLow", "full")


def test_a_broken_keys_json_and_its_mending(day: BadDay) -> None:
    good = day.keys.path.read_text()
    day.keys.write_text("{")
    day.wait_for("KeysReloadFailed")
    day.keys.write_text(good)
    eventually(lambda: ("KeysReloadFailed", "") not in day.raised(), 20, "the end of the alert")


def test_a_halt_of_all_trading(day: BadDay) -> None:
    (day.sidecar.folder / "state/HALT").touch()
    day.wait_for("TradingHalted")


def test_an_opend_that_is_away_and_then_the_sidecar_too(day: BadDay) -> None:
    day.sandbox.stop()
    day.wait_for("OpenDDown")
    day.sidecar.kill()
    day.wait_for("SidecarDown")
