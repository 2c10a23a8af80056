"""audit tail, search and report, as people and programs run them."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.audit.chain import GENESIS, Head, link
from sidecar.audit.files import rotated_files
from sidecar.audit.record import AuditRecord
from sidecar.cli.audit_reading import moment
from sidecar.cli.audit_report import bar
from sidecar.cli.main import main
from sidecar.errors import ConfigError

NINE = datetime(2026, 3, 2, 9, 0).astimezone().timestamp()
HOUR, DAY = 3600.0, 86_400.0


def record(at: float = NINE, **changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {
        "at": at, "iface": "tcp", "endpoint": "place_order proto_id=2202", "key_id": "bot", "outcome": "allow",
        "decision_id": f"D{at:.0f}", "symbol": "HK.00700", "side": "BUY", "order_type": "NORMAL", "qty": Decimal(100),
        "price": Decimal("350.10"), "value": Decimal(35010), "currency": "HKD",
    }  # fmt: skip
    return AuditRecord(**{**fields, **changes})


def refused(at: float, reason: str = "order_value", **changes: Any) -> AuditRecord:
    return record(at, outcome="reject", reason=reason, message="no", **changes)


def write(path: Path, records: list[AuditRecord], head: Head = GENESIS) -> Head:
    lines = []
    for each in records:
        line, head = link(each.fields(), head)
        lines.append(line)
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return head


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Of two days, the first of them rotated and compressed."""
    path = tmp_path / "audit.jsonl"
    before = [record(NINE - DAY), refused(NINE - DAY + 1, "rate"), refused(NINE - DAY + 2, key_id="other")]
    head = write(tmp_path / "audit.2026-03-01.jsonl.gz", before)
    today = [
        record(NINE),
        record(NINE, outcome="success", order_id=6666),
        record(NINE + HOUR, symbol="US.AAPL", value=Decimal("10.5"), currency="USD"),
        refused(NINE + HOUR + 1),
        refused(NINE + HOUR + 2, count=7),
        record(NINE + 2 * HOUR, decision_id="gone"),
        refused(NINE + 2 * HOUR, "client_gone", decision_id="gone"),
        record(NINE + 3 * HOUR, decision_id="no"),
        record(NINE + 3 * HOUR, decision_id="no", outcome="failure", ret_type=-1, message="no money"),
        record(NINE + 4 * HOUR, op="modify", order_id=6666, decision_id="m"),
        record(NINE + 4 * HOUR, op="cancel", order_id=6666, decision_id="c", symbol=None, value=None),
        record(NINE + 5 * HOUR, value=None, currency=None, decision_id="u"),
        record(NINE + 5 * HOUR, message="a repeat, answered with the outcome of decision D", decision_id="r"),
        record(
            NINE + 5 * HOUR, iface="admin", key_id="<none>", endpoint="halt", symbol=None, message="trading is halted"
        ),
    ]
    write(path, today, head)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, words)])


def found(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (("--key", "other"), 1),
        (("--code", "rate"), 1),
        (("--code", "order_value"), 3),
        (("--symbol", "US.AAPL"), 1),
        (("--order", "6666"), 3),
        (("--decision", "no"), 2),
        (("--decision", "#no"), 2),
        (("--outcome", "failure"), 1),
        (("--key", "bot", "--outcome", "reject", "--since", "2026-03-02"), 3),
        (("--until", "2026-03-02"), 3),
        (("--since", "2026-03-02T10:00", "--until", "2026-03-02T11:00"), 3),
    ],
)
def test_records_are_found_by_key_code_symbol_order_decision_outcome_and_time(
    audit: Path, asked: tuple[str, ...], count: int
) -> None:
    result = run("search", audit, *asked, "--json")
    assert result.exit_code == 0, result.output
    assert len(found(result)) == count


def test_what_is_found_is_shown_as_it_was_written_and_oldest_first(audit: Path) -> None:
    result = run("search", audit, "--key", "bot", "--json")
    records = found(result)
    assert [one["seq"] for one in records] == sorted(one["seq"] for one in records)
    assert '"price":350.10,' in result.stdout, "numbers keep their digits"


def test_people_are_shown_a_line_with_the_day_and_the_reason(audit: Path) -> None:
    line = run("search", audit, "--code", "rate").stdout.splitlines()[0]
    assert line == "2026-03-01 09:00:01 ✗ bot place_order HK.00700 BUY 100 × 350.1 = 35010 HKD → rate: no"


def test_what_is_not_there_is_said_and_ends_with_1(audit: Path) -> None:
    result = run("search", audit, "--key", "nobody")
    assert result.exit_code == 1
    assert "no record is like that" in result.output


def test_a_word_inside_another_is_no_match(audit: Path) -> None:
    assert run("search", audit, "--symbol", "HK.0070").exit_code == 1


def test_the_last_records_are_those_of_the_current_file(audit: Path) -> None:
    assert [one["decision_id"] for one in found(run("tail", audit, "-n", 2, "--json"))] == [
        "r",
        f"D{NINE + 5 * HOUR:.0f}",
    ]
    assert len(found(run("tail", audit, "-n", 100, "--json"))) == 14


def test_the_last_records_of_a_kind_are_not_crowded_out_by_others(audit: Path) -> None:
    assert [one["reason"] for one in found(run("tail", audit, "-n", 1, "--outcome", "reject", "--json"))] == [
        "client_gone"
    ]


def test_what_comes_is_shown_as_it_comes_across_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    head = write(path, [record(NINE)])
    command = [sys.executable, "-m", "sidecar.cli.main", "audit", "tail", str(path), "-f", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert json.loads(next(lines))["seq"] == 1
        line, head = link(record(NINE + 1).fields(), head)
        with path.open("ab") as file:
            file.write(line[:40])
            file.flush()
            time.sleep(0.3)  # half a record is none
            file.write(line[40:])
        assert json.loads(next(lines))["seq"] == 2
        path.rename(tmp_path / "audit.2026-03-02.jsonl")
        write(path, [record(NINE + 2)], head)
        assert json.loads(next(lines))["seq"] == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_the_report_of_a_day_sums_up_each_key(audit: Path) -> None:
    told = json.loads(run("report", audit, "--json").stdout)
    (bot,) = told["keys"].values()
    assert bot == {
        "orders": 3,
        "changes": 1,
        "cancels": 1,
        "failed_at_opend": 1,
        "orders_without_value": 1,
        "value": {"HKD": "35010", "USD": "10.5"},
        "value_by_hour": {"HKD": {"09": "35010"}, "USD": {"10": "10.5"}},
        "refused": {"order_value": 8, "client_gone": 1},
    }


def test_the_report_for_people_has_a_table_and_a_chart_of_the_value(audit: Path) -> None:
    result = run("report", audit)
    assert result.exit_code == 0, result.output
    assert "from 2026-03-02 00:00 to 2026-03-03 00:00" in result.output
    assert "8 order_value" in result.output
    assert "1 not valued" in result.output
    assert f"  09:00 {'█' * 50} 35010" in result.output


def test_another_day_or_key_is_reported_when_asked_for(audit: Path) -> None:
    told = json.loads(run("report", audit, "--day", "2026-03-01", "--json").stdout)
    assert set(told["keys"]) == {"bot", "other"}
    assert set(
        json.loads(run("report", audit, "--since", "2026-03-01", "--key", "other", "--json").stdout)["keys"]
    ) == {"other"}


def test_a_day_without_records_says_so(audit: Path) -> None:
    result = run("report", audit, "--day", "2025-01-01")
    assert result.exit_code == 1
    assert "there is no record from 20" in result.output


def test_lines_that_are_no_records_are_counted_not_hidden(audit: Path) -> None:
    with audit.open("ab") as file:
        file.write(b'{"torn\n')
    result = run("report", audit, "--day", "2026-03-02")
    assert "1 line is no record; `audit verify` says where" in result.stderr


@pytest.mark.parametrize("command", ["tail", "search", "report"])
def test_no_audit_there_is_one_line_for_people(tmp_path: Path, command: str) -> None:
    result = run(command, tmp_path / "none.jsonl")
    assert result.exit_code == 1
    assert "there is no audit at" in result.output


@pytest.mark.parametrize("text", ["yesterday", "25:00", "2026-13-01", "12x"])
def test_a_time_that_is_none_says_how_times_are_written(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write e\.g\."):
        moment("--since", text)


def test_times_are_this_machines_and_an_age_counts_from_now() -> None:
    now = datetime(2026, 3, 2, 12, 0).astimezone()
    assert moment("--since", "2h", now) == moment("--since", "10:00", now) == moment("--since", "2026-03-02T10:00", now)
    assert moment("--since", "1d", now) == moment("--since", (now - timedelta(days=1)).isoformat(), now)


@pytest.mark.parametrize(("value", "length"), [("0", 0), ("0.001", 1), ("50", 25), ("100", 50)])
def test_a_bar_is_as_long_as_its_value_and_what_there_is_is_seen(value: str, length: int) -> None:
    assert len(bar(Decimal(value), Decimal(100))) == length


def test_escape_sequences_in_a_record_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, [refused(NINE, "order_value\x1b[2J", key_id="bot\x1b[2J")])
    for words in (("tail", path), ("search", path), ("report", path)):
        assert "\x1b[2J" not in run(*words).output


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "today"])
def test_a_day_that_is_none_and_the_ends_of_the_calendar_are_one_line_for_people(audit: Path, day: str) -> None:
    result = run("report", audit, "--day", day)
    assert result.exit_code == 2
    assert f"--day `{day}` is not a day" in result.output


def test_what_is_no_record_is_counted_and_passed_over(audit: Path) -> None:
    before = run("search", audit).output
    with audit.open("ab") as file:
        file.write(b"[" * 100_000 + b'\n{"outcome":"allow","timestamp":5}\n')
    for words in (("tail", audit), ("search", audit), ("report", audit)):
        assert run(*words).exit_code == 0
    assert "2 lines are no records" in run("search", audit).output
    assert before.splitlines()[0] in run("search", audit).output


@pytest.mark.parametrize("command", ["search", "report", "verify"])
@pytest.mark.parametrize("damage", ["cut short", "overwritten"])
def test_a_packed_file_that_is_damaged_is_one_line_for_people(tmp_path: Path, command: str, damage: str) -> None:
    packed = tmp_path / "audit.2026-03-01.jsonl.gz"
    write(tmp_path / "audit.jsonl", [record()], write(packed, [record(NINE - DAY + at) for at in range(2000)]))
    data = packed.read_bytes()
    half = len(data) // 2
    packed.write_bytes(data[:half] if damage == "cut short" else data[:half] + b"\xff" * 200 + data[half + 200 :])
    since = ("--since", "2026-03-01") if command == "report" else ()
    result = run(command, tmp_path / "audit.jsonl", *since)
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_a_packed_file_of_which_nothing_can_be_read_is_none_of_the_audit(audit: Path) -> None:
    packed = audit.with_name("audit.2026-03-01.jsonl.gz")
    data = bytearray(packed.read_bytes())
    data[12:40] = b"\xff" * 28
    packed.write_bytes(data)
    assert rotated_files(audit) == []


def test_a_filter_that_is_not_utf_8_finds_nothing(audit: Path) -> None:
    assert run("search", audit, "--key", "\udcff").exit_code == 1
