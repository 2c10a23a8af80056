"""The ledger's file: what comes back, what is refused, and what a failed write leaves."""

from __future__ import annotations

import os
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_making import ACCOUNT, NOON, reservation

from sidecar.errors import ConfigError, RecordError
from sidecar.intents.model import OrderType, Side, TrdEnv
from sidecar.ledger.attempts import Attempt, AttemptDropped
from sidecar.ledger.reservation import Dropped, Row, State
from sidecar.ledger.sqlite import FILE_NAME, SCHEMA_VERSION, SqliteStore, read_audit_head

amounts = st.decimals(allow_nan=False, allow_infinity=False, places=None)
texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    rows=st.lists(
        st.builds(
            lambda made, state, order_id, ex: Row(made, state, order_id, ex),
            st.builds(
                reservation,
                at=st.integers(0, 4_000_000_000_000_000).map(lambda us: us / 1_000_000),
                key_id=texts,
                kind=st.sampled_from(["place", "modify", "enable"]),
                acc_id=st.integers(0, 2**64 - 1),
                env=st.sampled_from(TrdEnv),
                symbol=texts,
                side=st.none() | st.sampled_from(Side),
                order_type=st.sampled_from(OrderType),
                qty=amounts,
                price=st.none() | amounts,
                value=st.none() | amounts,
                remark=texts,
                conn=texts,
                order_id=st.integers(0, 2**64 - 1),
                order_id_ex=texts,
            ),
            st.sampled_from(State),
            st.integers(0, 2**64 - 1),
            texts,
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_comes_back_the_same_to_the_last_digit(tmp_path: Path, rows: list[Row]) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit(rows)
    for row in rows:
        found = store.find_decision(row.reservation.decision_id)
        assert found == row
        assert found is not None
        assert str(found.reservation.qty) == str(row.reservation.qty)
        if row.order_id:
            assert row in store.find_order(row.reservation.acc_id, row.order_id, "")
        if row.order_id_ex:
            assert row in store.find_order(row.reservation.acc_id, 0, row.order_id_ex)
    store.close()


def test_a_row_is_replaced_and_a_dropped_one_is_gone(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    made, gone = reservation(), reservation()
    store.commit([Row(made, State.RESERVED), Row(gone, State.RESERVED)])
    store.commit([Row(made, State.ACCEPTED, 7, "EX7"), Dropped(gone.decision_id), Dropped("01JUNKNOWN")])
    assert store.load(8) == [Row(made, State.ACCEPTED, 7, "EX7")]
    store.close()


def test_load_gives_the_recent_the_unsettled_and_those_that_may_still_work(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    old_waiting = Row(reservation(NOON - 86_400 * 30), State.FORWARDED)
    old_working = Row(reservation(NOON - 86_400 * 29), State.ACCEPTED, 3, "")
    old_done = Row(reservation(NOON - 86_400 * 30), State.ACCEPTED, 1, "", ended=NOON - 86_400 * 29.5)
    recent = Row(reservation(NOON - 86_400 * 7), State.ACCEPTED, 2, "")
    newest = Row(reservation(NOON), State.REFUSED)
    store.commit([newest, recent, old_done, old_working, old_waiting])
    assert store.load(8) == [old_waiting, old_working, recent, newest]
    assert store.find_order(old_done.reservation.acc_id, 1, "") == [old_done]
    store.close()


def test_rows_that_are_too_old_are_deleted(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    kept = Row(reservation(NOON - 86_400 * 119), State.ACCEPTED)
    store.commit([kept, Row(reservation(NOON - 86_400 * 121), State.ACCEPTED)])
    store.forget_before(NOON)
    assert store.load(1_000) == [kept]
    store.close()


def test_the_audit_head_is_kept_and_can_be_read_from_outside(tmp_path: Path) -> None:
    assert read_audit_head(tmp_path) is None
    store = SqliteStore.open(tmp_path)
    assert store.audit_head() is None
    store.commit([], (7, "ab"))
    assert read_audit_head(tmp_path) == (7, "ab", False)
    store.commit([], (8, "cd"), closed=True)
    store.close()
    store = SqliteStore.open(tmp_path)
    assert store.audit_head() == (8, "cd", True)
    store.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit([Row(reservation(), State.RESERVED)])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    store.close()


def test_money_and_ids_are_stored_as_text(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit([Row(reservation(value=Decimal("0.1"), acc_id=2**64 - 1), State.ACCEPTED, 2**64 - 1, "EX")])
    store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        types = "typeof(value), typeof(qty), typeof(price), typeof(acc_id), typeof(order_id)"
        assert connection.execute(f"SELECT {types} FROM reservations").fetchone() == ("text",) * 5
    connection.close()


def test_commits_are_synced_and_logged_ahead(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    assert store._writer is not None
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


@pytest.mark.parametrize("content", [b"this is no database" * 300, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_ledger_refuses_to_open_and_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ConfigError, match="damaged") as caught:
        SqliteStore.open(tmp_path)
    assert "move it aside" in str(caught.value)


def test_a_ledger_with_an_overwritten_page_refuses_to_open(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit([Row(reservation(), State.ACCEPTED, number, f"EX{number}") for number in range(1, 500)])
    store.close()
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    data[8192:12288] = os.urandom(4096)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        SqliteStore.open(tmp_path)


def test_being_killed_while_it_opens_does_no_harm(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("CREATE TABLE stretch (filler BLOB)")
    connection.close()
    SqliteStore.open(tmp_path).close()
    SqliteStore.open(tmp_path).close()


def test_a_ledger_of_a_newer_version_refuses_to_open(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(ConfigError, match="newer version"):
        SqliteStore.open(tmp_path)


def test_a_failed_commit_writes_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store._writer is not None
    store._writer.execute("PRAGMA busy_timeout = 10")
    row = Row(reservation(), State.RESERVED)
    with pytest.raises(RecordError) as caught:
        store.commit([row])
    assert caught.value.code == "ledger_unavailable"
    other.execute("ROLLBACK")
    other.close()
    assert store.load(8) == []
    store.commit([row])
    assert store.load(8) == [row]
    store.close()


def test_a_ledger_that_vanished_is_noticed_and_never_begun_anew(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.check()
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(RecordError, match="removed or replaced"):
        store.check()
    store._abandon()
    with pytest.raises(RecordError):
        store.commit([Row(reservation(), State.RESERVED)])
    assert not (tmp_path / FILE_NAME).exists()
    store.close()


def test_unknown_orders_are_found_nowhere(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit([Row(reservation(), State.RESERVED)])
    assert store.find_order(ACCOUNT, 0, "") == []
    assert store.find_order(ACCOUNT, 5, "EX5") == []
    assert store.find_decision("01J") is None
    store.close()


# Idempotency keys


def attempt(token: str = "t", at: float = NOON, outcome: bytes | None = None) -> Attempt:
    return Attempt("bot", token, "hash", "01J", at, outcome)


@given(
    made=st.builds(
        Attempt,
        key_id=texts,
        token=st.text("!~azAZ09-_", min_size=1, max_size=255),
        request_hash=texts,
        decision_id=texts,
        at=st.integers(0, 4_000_000_000_000_000).map(lambda us: us / 1_000_000),
        outcome=st.none() | st.binary(max_size=200),
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_attempt_comes_back_as_it_was_written(tmp_path: Path, made: Attempt) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit([made])
    assert store.find_attempt(made.key_id, made.token) == made
    store.close()


def test_an_attempt_is_replaced_and_a_dropped_one_is_gone(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit([attempt(), attempt("gone")])
    store.commit([attempt(outcome=b"\x08\x00"), AttemptDropped("bot", "gone"), AttemptDropped("bot", "unknown")])
    assert store.load_attempts(0, 10) == [attempt(outcome=b"\x08\x00")]
    assert store.find_attempt("bot", "gone") is None
    assert store.find_attempt("other", "t") is None
    store.close()


def test_the_newest_attempts_are_loaded_oldest_first(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    made = [attempt(str(number), NOON + number) for number in range(10)]
    store.commit(reversed(made))
    assert store.load_attempts(NOON + 3, 100) == made[3:]
    assert store.load_attempts(NOON, 4) == made[6:]
    store.close()


def test_attempts_past_their_time_are_deleted(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path, attempts_kept=100)
    store.commit([attempt("old", NOON - 101), attempt("new", NOON - 99)])
    store.forget_before(NOON)
    assert store.load_attempts(0, 10) == [attempt("new", NOON - 99)]
    store.close()


def test_a_reservation_and_its_attempt_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
    other.close()
    with pytest.raises(RecordError):
        store.commit([Row(reservation(), State.RESERVED), attempt()])
    assert store.load(8) == []
    store.close()


def test_a_ledger_of_the_first_version_is_brought_forward_with_all_it_holds(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    row = Row(reservation(), State.ACCEPTED, 7, "EX7")
    store.commit([row], (7, "ab"))
    store.close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.executescript(
        "DROP TABLE attempts; DROP INDEX open_orders; ALTER TABLE reservations DROP COLUMN adds;"
        "ALTER TABLE reservations DROP COLUMN legs; ALTER TABLE reservations DROP COLUMN ended_us; PRAGMA user_version = 1;"
    )
    connection.close()
    store = SqliteStore.open(tmp_path)
    store.commit([attempt()])
    assert store.load(8) == [row]
    assert store.audit_head() == (7, "ab", False)
    assert store.load_attempts(0, 10) == [attempt()]
    store.close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()
    SqliteStore.open(tmp_path).close()
