"""What the owner is shown of a running sidecar: one tree over the socket, over REST and on the page; as lines and tables for people."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from live import PROJECT, LiveApp, Stage
from raw_client import RawClient
from rest_client import RestClient, order
from rich.console import Console

from sidecar.cli.main import main
from sidecar.cli.status_view import tables
from sidecar.listeners.openapi.document import document

TRADER = ("qot:read", "acc:read", "trade:simulate")


class Scene:
    def __init__(self, stage: Stage) -> None:
        sandbox = stage.sandbox(tick_interval=0)
        self.ops = stage.keys.add("ops", "admin")
        self.bot = stage.keys.add(
            "bot", *TRADER, max_orders_per_minute=4, max_daily_value=100000, max_order_value=50000, max_open_orders=5
        )
        stage.keys.add("frozen", "qot:read", allowed_machines=[], note="\x1b[31mred")
        stage.keys.add("late", "qot:read", expires_at="2020-01-01T00:00:00Z")
        self.sidecar: LiveApp = stage.app(sandbox.port, breakers={"refusals_in_a_row": 50})
        self.client = RawClient(self.sidecar.port, self.bot)
        self.rest = RestClient(self.sidecar.doors["rest"], self.bot)
        assert self.rest.post("/api/order", order(price=300)).code is None
        for _ in range(3):
            assert self.rest.post("/api/order", order(price=900)).code == "order_value"

    def tree(self) -> dict[str, Any]:
        found: dict[str, Any] = RestClient(self.sidecar.doors["rest"], self.ops).get("/api/admin/status").s2c
        return found

    def command(self, *words: str) -> str:
        done = CliRunner().invoke(main, ["status", *words, "--config", str(self.sidecar.config_file)])
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("status")) as stage:
        yield Scene(stage)


def test_every_key_is_told_with_what_it_has_left(scene: Scene) -> None:
    keys = {one["key"]: one for one in scene.tree()["headroom"]}
    assert list(keys) == ["bot", "frozen", "late", "ops"]
    bot = keys["bot"]
    assert (bot["state"], bot["unusable"], bot["connections"]) == ("ACTIVE", None, 1)
    assert {name: bot["orders_per_minute"][name] for name in ("limit", "used", "left")} == {
        "limit": 4,
        "used": 1,
        "left": 3,
    }
    assert bot["open_orders"] == {"limit": 5, "used": 1, "left": 4}
    assert bot["daily_value"]["limit"] == "100000" and float(bot["daily_value"]["left"]["HKD"]) == 70000
    assert (keys["frozen"]["unusable"], keys["late"]["unusable"]) == ("frozen", "expired")


def test_connections_breakers_records_and_the_last_refusals_are_told(scene: Scene) -> None:
    tree = scene.tree()
    assert tree["clients"]["tcp"] == 1
    assert tree["upstream"]["up"] and 2 <= tree["upstream"]["connections"] <= tree["upstream"]["max_connections"] == 100
    assert tree["breakers"] == {"refusals_in_a_row": "50", "identical_orders": None, "daily_loss": None}
    assert tree["records"]["audit_ok"] and tree["records"]["ledger_ok"]
    refusal = next(one for one in tree["refusals"] if one["key"] == "bot")
    assert (refusal["code"], refusal["times"], refusal["symbol"], refusal["price"]) == (
        "order_value",
        3,
        "HK.00700",
        "900",
    )
    assert scene.sidecar.wait_audit(decision_id=refusal["decision_id"])["reason"] == "order_value"


def test_the_tree_is_as_the_openapi_document_says(scene: Scene) -> None:
    schemas = document("0", metrics=True)["components"]["schemas"]
    schema = {**schemas["Status"], "components": {"schemas": schemas}}
    tree = scene.tree()
    assert set(tree) == set(schema["properties"])
    assert [error.message for error in Draft202012Validator(schema).iter_errors(tree)] == []
    for name in ("headroom", "refusals"):
        assert set(tree[name][0]) == set(schema["properties"][name]["items"]["properties"])


def test_no_secret_and_no_hash_is_in_it(scene: Scene) -> None:
    text = json.dumps(scene.tree())
    assert scene.bot not in text and scene.ops not in text and "hash" not in text


def test_people_read_lines_and_tables(scene: Scene) -> None:
    shown = scene.command()
    assert "all trading is active" in shown and "clients    tcp 1" in shown and "refusals_in_a_row 50" in shown
    bot = next(line for line in shown.splitlines() if line.strip().startswith("bot "))
    assert "1 of 4" in bot and "1 of 5" in bot and "30000 of 100000 HKD" in bot
    assert "(3×)" in shown and "order value 90000 HKD is over the limit of 50000 HKD" in shown
    assert "frozen" in shown and "expired" in shown and "\x1b" not in shown


def test_on_a_terminal_of_80_columns_the_ids_of_keys_stay_whole(scene: Scene) -> None:
    paper = StringIO()
    console = Console(width=80, file=paper)
    for table in tables(scene.tree(), 80):
        console.print(table)
    shown = paper.getvalue()
    bot = next(line for line in shown.splitlines() if line.strip().startswith("bot "))
    assert "1 of 4" in bot and "30000 of 100000 HKD" in bot
    assert any(line.strip().startswith("frozen ") for line in shown.splitlines())


def test_programs_read_the_same_tree_over_the_socket(scene: Scene) -> None:
    told = json.loads(scene.command("--json"))
    over_rest = scene.tree()
    assert {name: told[name] for name in ("trading", "headroom", "refusals", "breakers", "revision", "pid")} == {
        name: over_rest[name] for name in ("trading", "headroom", "refusals", "breakers", "revision", "pid")
    }


def test_watch_tells_it_every_second_until_it_is_interrupted(scene: Scene) -> None:
    command = [
        sys.executable,
        "-m",
        "sidecar.cli.main",
        "status",
        "--watch",
        "--json",
        "--config",
        str(scene.sidecar.config_file),
    ]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as watching:
        assert watching.stdout is not None
        seen = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    assert [one["pid"] for one in seen] == [os.getpid()] * 3


def test_without_a_sidecar_the_tree_has_the_same_names(scene: Scene, tmp_path: Any) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    done = CliRunner().invoke(main, ["status", "--json", "--state-dir", str(folder)])
    assert done.exit_code == 1
    assert set(json.loads(done.stdout)) == set(scene.tree())
