"""The command replay: a recorded load under the same keys and under others; what it shows, and its exit codes."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from live import Stage, eventually
from raw_client import MODIFY_ORDER, PLACE_ORDER, RawClient
from test_audit_commands import NINE, record, refused, write

from sidecar.audit.record import AuditRecord
from sidecar.cli.main import main

SIM: dict[str, Any] = {"acc_id": 1001001, "trd_env": "SIMULATE", "market": "HK"}


def keys_file(path: Path, **limits: Any) -> Path:
    key = {"id": "bot", "hash": "0" * 64, "scopes": ["trade:simulate"], **limits}
    path.write_text(json.dumps({"version": 1, "keys": [key]}))
    path.chmod(0o600)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, words)])


def told(result: Result) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(result.stdout)
    return tree


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Two orders of yesterday in a rotated file, three of today."""
    path = tmp_path / "audit.jsonl"
    before: list[AuditRecord] = [record(NINE - 86_400, **SIM), refused(NINE - 86_399, "side", **SIM)]
    head = write(tmp_path / "audit.2026-03-01.jsonl", before)
    today = [
        record(NINE, **SIM), refused(NINE + 1, "trading_halted", **SIM), record(NINE + 2, **{**SIM, "side": "SELL", "qty": Decimal(7)})
    ]  # fmt: skip
    write(path, today, head)
    return path


def test_nothing_differs_under_keys_that_let_all_of_it_through(audit: Path, tmp_path: Path) -> None:
    keys = keys_file(tmp_path / "keys.json", allowed_trd_sides=["BUY_BACK", "BUY", "SELL"], max_order_value=35010)
    result = run(audit, "--keys", keys, "--json")
    assert told(result)["decisions"] == 5, "the rotated file is read too"
    assert [one["was"] for one in told(result)["differences"]] == ["side"]


def test_what_differs_is_a_table_with_the_reason_and_exit_code_1(audit: Path, tmp_path: Path) -> None:
    result = run(audit, "--keys", keys_file(tmp_path / "keys.json", allowed_trd_sides=["SELL"], allow_short=False))
    assert result.exit_code == 1
    assert "2026-03-02 09:00:00" in result.output
    assert "BUY 100 HK.00700 at 350.1" in result.output
    assert "side BUY is not allowed, this key has SELL" in result.output
    assert "? 1 cannot be told, position_unknown: no record says it" in result.output


def test_no_difference_is_said_and_ends_with_0(audit: Path, tmp_path: Path) -> None:
    result = run(audit, "--keys", keys_file(tmp_path / "keys.json"))
    assert result.exit_code == 1, "the refused side would pass"
    narrow = run(audit.with_name("audit.jsonl"), audit, "--keys", keys_file(tmp_path / "keys.json"), "--json")
    assert told(narrow)["from_the_start"] is False, "of several files just those are read"


def test_one_file_alone_that_passes_says_so(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    write(path, [record(NINE, **SIM)])
    result = run(path, "--keys", keys_file(tmp_path / "keys.json"))
    assert (result.exit_code, "✓ no difference in 1 decisions" in result.output) == (0, True)


def test_long_tables_are_cut_unless_all_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    write(path, [record(NINE + number, **SIM) for number in range(60)])
    keys = keys_file(tmp_path / "keys.json", max_order_value=1)
    assert "and 10 more; --all shows them" in run(path, "--keys", keys).output
    assert "more; --all" not in run(path, "--keys", keys, "--all").output


@pytest.mark.parametrize("broken", ["keys", "audit"])
def test_what_cannot_be_read_is_one_line_for_people(audit: Path, tmp_path: Path, broken: str) -> None:
    keys = keys_file(tmp_path / "keys.json")
    words = (audit, "--keys", tmp_path / "none") if broken == "keys" else (tmp_path / "none", "--keys", keys)
    result = run(*words)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "none`" in result.output


def test_a_recorded_load_of_several_keys_is_decided_the_same_by_the_same_keys(tmp_path: Path) -> None:
    """Orders at random, changed and cancelled, against every limit that counts; more than one client a key at a time."""
    dice = random.Random(7)
    limits: dict[str, dict[str, Any]] = {
        "rate": {"max_orders_per_minute": 9},
        "day": {"max_daily_value": 9000, "max_order_value": 2500},
        "twice": {"duplicate_window_s": 3600, "max_order_qty": 400},
        "lists": {"allowed_symbols": ["HK.00700"], "allowed_trd_sides": ["BUY"], "max_daily_value": 10_000_000},
    }
    with Stage(tmp_path) as stage:
        secrets = {key_id: stage.keys.add(key_id, "trade:simulate", **limit) for key_id, limit in limits.items()}
        app = stage.app(stage.sandbox(tick_interval=0, relaxed_paper=True).port)
        clients = [(key_id, RawClient(app.port, secret)) for key_id, secret in secrets.items() for _ in range(2)]
        orders: dict[str, list[str]] = {key_id: [] for key_id in limits}
        for _ in range(25):
            sent = []
            for key_id, client in clients:
                if orders[key_id] and dice.random() < 0.3:
                    named = dice.choice(orders[key_id])
                    change = client.change_request(named, qty=dice.choice([100, 200, 600]), price=4.0)
                    request = client.cancel_request(named) if dice.random() < 0.3 else change
                    sent.append((key_id, client, client.send(MODIFY_ORDER, request)))
                else:
                    request = client.order_request(
                        qty=100 * dice.randint(1, 8),
                        price=dice.choice([3.0, 4.0, 5.0]),
                        code=dice.choice(["00700", "00005"]),
                    )
                    sent.append((key_id, client, client.send(PLACE_ORDER, request)))
            for key_id, client, serial in sent:
                reply = client.reply(serial)
                if reply.retType == 0:
                    orders[key_id].append(reply.s2c.orderIDEx)
        for _, client in clients:
            client.close()
        eventually(lambda: app.app.recorder.records_waiting == 0, what="the audit to be written")
        app.write_settings()
        same = tmp_path / "same.json"
        same.write_text(json.dumps({"version": 1, "keys": stage.keys.records}, indent=2))
        same.chmod(0o600)
        found = told(run("--keys", same, "--config", app.config_file, "--json"))
        stage.keys.change("day", max_daily_value=4000)
        tighter = told(run("--keys", stage.keys.path, "--config", app.config_file, "--json"))
    assert found["differences"] == []
    assert found["decisions"] > 150
    assert found["cannot_be_told"].keys() <= {"one record stands for several refusals"}
    assert {one["key"] for one in tighter["differences"]} == {"day"}
    assert {one["now"] for one in tighter["differences"]} >= {"daily_value"}
