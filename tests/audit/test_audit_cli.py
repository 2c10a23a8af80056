"""`audit verify` as people run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from audit_making import chain, write_chain
from click.testing import CliRunner, Result

from sidecar.cli.main import main
from sidecar.ledger.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["audit", "verify", *map(str, arguments)])


def keep_head(state_dir: Path, seq: int, digest: str, closed: bool = False) -> None:
    store = SqliteStore.open(state_dir)
    store.commit([], (seq, digest), closed)
    store.close()


def test_a_whole_chain_is_said_to_be_whole(tmp_path: Path, path: Path) -> None:
    head = write_chain(path, 12)
    keep_head(tmp_path, *head)
    result = run(path, "--state-dir", tmp_path)
    assert result.exit_code == 0
    assert "12 records in `audit.jsonl`, seq 1 to 12" in result.output
    assert "✓ the chain is whole" in result.output


def test_damage_is_shown_with_line_and_seq_and_ends_with_1(path: Path) -> None:
    lines, _ = chain(12)
    lines[4] = lines[4].replace(b"allow", b"alloW")
    path.write_bytes(b"".join(lines))
    result = run(path)
    assert result.exit_code == 1
    assert "✗ audit.jsonl line 5, seq 5: the record was changed, or is none" in result.output
    assert "✓" not in result.output


def test_without_the_ledger_it_says_what_it_cannot_see(path: Path) -> None:
    write_chain(path, 3)
    result = run(path)
    assert result.exit_code == 0
    assert "without --state-dir, last records that were cut off are not noticed" in result.output


def test_a_cut_off_end_is_found_with_the_ledger(tmp_path: Path, path: Path) -> None:
    lines, head = chain(12)
    path.write_bytes(b"".join(lines[:9]))
    keep_head(tmp_path, *head)
    result = run(path, "--state-dir", tmp_path)
    assert result.exit_code == 1
    assert "ends at seq 9, the ledger knows of seq 12" in result.output


def test_much_damage_is_not_listed_without_end(path: Path) -> None:
    path.write_bytes(b"rubbish\n" * 200)
    result = run(path)
    assert result.exit_code == 1
    assert "✗ and 150 more" in result.output


def test_no_audit_is_an_error_in_plain_words(tmp_path: Path) -> None:
    result = run(tmp_path / "none.jsonl")
    assert result.exit_code == 1
    assert "there is no audit at" in result.output


def test_without_a_file_it_is_the_one_of_the_settings(tmp_path: Path, path: Path) -> None:
    lines, head = chain(12)
    path.write_bytes(b"".join(lines[:9]))
    keep_head(tmp_path, *head)
    result = run("--state-dir", tmp_path)
    assert result.exit_code == 1
    assert "9 records in `audit.jsonl`" in result.output
    assert "the ledger knows of seq 12" in result.output
    config = tmp_path / "sidecar.yaml"
    config.write_text(f"state_dir: {tmp_path}\n")
    assert run("--config", config).output == result.output


def test_a_damaged_ledger_is_an_error_in_plain_words(tmp_path: Path, path: Path) -> None:
    write_chain(path, 3)
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    result = run(path, "--state-dir", tmp_path)
    assert result.exit_code == 1
    assert "cannot be read" in result.output
    assert "Traceback" not in result.output


def test_the_help_says_what_is_not_excluded() -> None:
    assert "ship the audit to another" in run("--help").output


def test_programs_read_the_same_as_json(tmp_path: Path, path: Path) -> None:
    head = write_chain(path, 12)
    keep_head(tmp_path, *head)
    whole = json.loads(run(path, "--state-dir", tmp_path, "--json").output)
    assert (whole["whole"], whole["records"], whole["last_seq"], whole["compared_with_ledger"]) == (True, 12, 12, True)
    lines, _ = chain(12)
    path.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    result = run(path, "--json")
    broken = json.loads(result.output)
    assert (result.exit_code, broken["whole"], broken["compared_with_ledger"]) == (1, False, False)
    assert broken["damage"][0]["line"] == 5
