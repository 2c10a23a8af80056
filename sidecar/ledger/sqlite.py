"""The ledger's file: rows in SQLite, durable when `commit` returns. Counts nothing, and knows nothing of the audit
but its head.

Two connections: `commit` and the other writing calls belong to one thread, `find_*` and `load` to the event loop's.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Iterable
from decimal import Decimal
from os import O_CREAT, O_RDWR, close, open
from pathlib import Path
from typing import Any

from sidecar.errors import ConfigError, RecordError
from sidecar.intents.model import OrderType, Side, TrdEnv
from sidecar.ledger.attempts import DEFAULT_KEPT, Attempt, AttemptDropped
from sidecar.ledger.reservation import DEFAULT_RETENTION_DAYS, Change, Dropped, LegUnits, Reservation, Row, State

FILE_NAME = "ledger.db"
SCHEMA_VERSION = 3
_DAY_US = 86_400 * 1_000_000

# Ids are text because OpenD's are unsigned 64-bit and SQLite's integers signed; money is text because it is exact.
_SCHEMA_1 = """
CREATE TABLE reservations (
  decision_id TEXT PRIMARY KEY,
  key_id TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  kind TEXT NOT NULL,
  acc_id TEXT NOT NULL,
  env INTEGER NOT NULL,
  market TEXT NOT NULL,
  symbol TEXT NOT NULL,
  side TEXT,
  order_type INTEGER NOT NULL,
  qty TEXT NOT NULL,
  price TEXT,
  value TEXT,
  currency TEXT,
  remark TEXT NOT NULL,
  conn TEXT NOT NULL,
  named_id TEXT NOT NULL,
  named_id_ex TEXT NOT NULL,
  state TEXT NOT NULL,
  order_id TEXT NOT NULL,
  order_id_ex TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_time ON reservations (at_us);
CREATE INDEX by_order ON reservations (acc_id, order_id) WHERE order_id <> '0';
CREATE INDEX by_order_ex ON reservations (acc_id, order_id_ex) WHERE order_id_ex <> '';
CREATE INDEX unsettled ON reservations (at_us) WHERE state IN ('reserved', 'forwarded');
CREATE TABLE audit_head (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  seq INTEGER NOT NULL,
  hash TEXT NOT NULL,
  closed INTEGER NOT NULL
);
"""
_SCHEMA_2 = """
CREATE TABLE attempts (
  key_id TEXT NOT NULL,
  token TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  decision_id TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  outcome BLOB,
  PRIMARY KEY (key_id, token)
) WITHOUT ROWID;
CREATE INDEX attempts_by_time ON attempts (at_us);
"""
# An order of an earlier version may still work; the first order list tells.
_SCHEMA_3 = """
ALTER TABLE reservations ADD COLUMN adds TEXT;
ALTER TABLE reservations ADD COLUMN legs TEXT NOT NULL DEFAULT '[]';
ALTER TABLE reservations ADD COLUMN ended_us INTEGER;
CREATE INDEX open_orders ON reservations (at_us) WHERE state = 'accepted' AND ended_us IS NULL;
"""
_MIGRATIONS = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3)
"""What makes each version out of the one before it."""
_COLUMNS = (
    "decision_id, key_id, at_us, kind, acc_id, env, market, symbol, side, order_type, qty, price, value, currency, "
    "remark, conn, named_id, named_id_ex, state, order_id, order_id_ex, adds, legs, ended_us"
)
_SAVE = f"INSERT OR REPLACE INTO reservations ({_COLUMNS}) VALUES ({', '.join('?' * 24)})"  # noqa: S608 constants only
_DROP = "DELETE FROM reservations WHERE decision_id = ?"
_SAVE_HEAD = "INSERT OR REPLACE INTO audit_head (one, seq, hash, closed) VALUES (1, ?, ?, ?)"
_SELECT = f"SELECT {_COLUMNS} FROM reservations"  # noqa: S608 constants only
_SAVE_ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)"
_DROP_ATTEMPT = "DELETE FROM attempts WHERE key_id = ? AND token = ?"
_SELECT_ATTEMPT = "SELECT key_id, token, request_hash, decision_id, at_us, outcome FROM attempts"


class SqliteStore:
    """One ledger file. `attempts_kept`: seconds for which `forget_before` keeps idempotency keys.

    `open` raises ConfigError if the file is damaged, from a newer version or cannot be written; `commit` raises
    RecordError (`ledger_unavailable`) and has then written nothing; what it was given can be given again.
    """

    def __init__(
        self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection, attempts_kept: float
    ) -> None:
        self.path = path
        self._attempts_kept = attempts_kept
        self._writer: sqlite3.Connection | None = writer
        self._reader = reader
        self._inode = path.stat().st_ino
        self._syncs = True
        """Whether a commit of the writing connection waits for the disk."""

    @classmethod
    def open(cls, state_dir: Path, *, attempts_kept: float = DEFAULT_KEPT) -> SqliteStore:
        path = state_dir / FILE_NAME
        try:
            close(open(path, O_RDWR | O_CREAT, 0o600))
        except OSError as error:
            raise ConfigError(f"ledger `{path}` cannot be written: {error.strerror}") from error
        try:
            writer = _connect(path)
            _prepare(writer, path)
            _stretch_log(writer)
            reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            reader.execute("PRAGMA busy_timeout = 1000")
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.OperationalError):
                raise ConfigError(f"ledger `{path}` cannot be opened: {error}") from error
            raise ConfigError(_damaged(path, str(error))) from error
        return cls(path, writer, reader, attempts_kept)

    # The event loop's side

    def load(self, days: int) -> list[Row]:
        recent = "at_us >= (SELECT MAX(at_us) FROM reservations) - ?"
        working = "state IN ('reserved', 'forwarded') OR (state = 'accepted' AND ended_us IS NULL)"
        sql = f"{_SELECT} WHERE {working} OR {recent} ORDER BY at_us"
        return self._rows(sql, (days * _DAY_US,))

    def find_decision(self, decision_id: str) -> Row | None:
        rows = self._rows(f"{_SELECT} WHERE decision_id = ?", (decision_id,))
        return rows[0] if rows else None

    def find_order(self, acc_id: int, order_id: int, order_id_ex: str) -> list[Row]:
        rows: dict[str, Row] = {}
        if order_id:
            sql = f"{_SELECT} WHERE acc_id = ? AND order_id = ? AND order_id <> '0'"
            rows.update((row.reservation.decision_id, row) for row in self._rows(sql, (str(acc_id), str(order_id))))
        if order_id_ex:
            sql = f"{_SELECT} WHERE acc_id = ? AND order_id_ex = ? AND order_id_ex <> ''"
            rows.update((row.reservation.decision_id, row) for row in self._rows(sql, (str(acc_id), order_id_ex)))
        return sorted(rows.values(), key=lambda row: row.reservation.at)

    def load_attempts(self, since: float, most: int) -> list[Attempt]:
        sql = f"{_SELECT_ATTEMPT} WHERE at_us >= ? ORDER BY at_us DESC LIMIT ?"
        return [_attempt(found) for found in reversed(self._read(sql, (round(since * 1_000_000), most)))]

    def find_attempt(self, key_id: str, token: str) -> Attempt | None:
        found = self._read(f"{_SELECT_ATTEMPT} WHERE key_id = ? AND token = ?", (key_id, token))
        return _attempt(found[0]) if found else None

    def audit_head(self) -> tuple[int, str, bool] | None:
        """Sequence and hash of the last audit record known to be on disk, and whether the audit was closed in order
        after it."""
        try:
            return _head(self._reader)
        except sqlite3.Error as error:
            raise RecordError("ledger_unavailable", f"the ledger cannot be read: {error}") from error

    # The writer thread's side

    def commit(
        self, changes: Iterable[Change], head: tuple[int, str] | None = None, closed: bool = False, *, sync: bool = True
    ) -> None:
        """Write all of it in one transaction. With `sync` it is on disk before this returns; without, it survives the end
        of the process, and a loss of power once a later commit with `sync` has returned."""
        try:
            if self._writer is None:
                self._writer, self._syncs = _connect(self.path), True
            writer = self._writer
            if sync is not self._syncs:
                writer.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
                self._syncs = sync
            writer.execute("BEGIN IMMEDIATE")
            for sql, values in _statements(changes).items():
                writer.executemany(sql, values)
            if head is not None:
                writer.execute(_SAVE_HEAD, (*head, int(closed)))
            writer.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._abandon()
            raise RecordError("ledger_unavailable", f"the ledger cannot be written: {error}") from error

    def check(self) -> None:
        """Raises RecordError if the file at the ledger's path is no longer the one that is written to."""
        try:
            if self.path.stat().st_ino == self._inode:
                return
        except OSError:
            pass
        raise RecordError(
            "ledger_unavailable", f"the ledger `{self.path}` was removed or replaced; restart the sidecar"
        )

    def forget_before(self, now: float | None = None, days: int = DEFAULT_RETENTION_DAYS) -> None:
        """Delete reservations older than `days` days before `now`, and idempotency keys past their time. Raises
        RecordError."""
        now_us = round((time.time() if now is None else now) * 1_000_000)
        try:
            if self._writer is not None:
                self._writer.execute("DELETE FROM reservations WHERE at_us < ?", (now_us - days * _DAY_US,))
                kept_us = round(self._attempts_kept * 1_000_000)
                self._writer.execute("DELETE FROM attempts WHERE at_us < ?", (now_us - kept_us,))
        except sqlite3.Error as error:
            self._abandon()
            raise RecordError("ledger_unavailable", f"the ledger cannot be written: {error}") from error

    def close(self) -> None:
        # The writer last: only it can fold the write-ahead log back into the file.
        self._reader.close()
        self._abandon()

    def _abandon(self) -> None:
        """Close the writing connection, undoing what is open on it; the next commit opens another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(sqlite3.Error):
                writer.close()

    def _rows(self, sql: str, values: tuple[object, ...]) -> list[Row]:
        return [_row(found) for found in self._read(sql, values)]

    def _read(self, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise RecordError("ledger_unavailable", f"the ledger cannot be read: {error}") from error


def read_audit_head(state_dir: Path) -> tuple[int, str, bool] | None:
    """What the ledger of that directory knows of the audit, read without touching anything; None if it has no ledger
    or no head.

    Raises ConfigError if the ledger cannot be read.
    """
    path = state_dir / FILE_NAME
    if not path.exists():
        return None
    try:
        reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            return _head(reader)
        finally:
            reader.close()
    except sqlite3.Error as error:
        raise ConfigError(f"ledger `{path}` cannot be read: {error}") from error


def _head(connection: sqlite3.Connection) -> tuple[int, str, bool] | None:
    found = connection.execute("SELECT seq, hash, closed FROM audit_head WHERE one = 1").fetchone()
    return None if found is None else (found[0], found[1], bool(found[2]))


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a ledger that has vanished must be an error here, not a new empty one that has forgotten every limit.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA busy_timeout = 1000")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise sqlite3.OperationalError("its file system does not support write-ahead logging; use a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":
        connection.execute("PRAGMA fullfsync = 1")
    return connection


def _stretch_log(connection: sqlite3.Connection) -> None:
    """Let the write-ahead log reach, once, the size at which SQLite begins to reuse it.

    A commit that overwrites the log costs half of one that makes it longer (measured: 150 µs and 300 µs), because a longer
    file is a change to the file system too.
    """
    connection.execute("BEGIN")
    # A process that was killed right here last time has left the table behind.
    connection.execute("CREATE TABLE IF NOT EXISTS stretch (filler BLOB)")
    connection.execute("INSERT INTO stretch VALUES (zeroblob(4000000))")
    connection.execute("COMMIT")
    connection.execute("DROP TABLE stretch")
    connection.execute("PRAGMA wal_checkpoint(RESTART)")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"ledger `{path}` was written by a newer version (schema {version}, known is {SCHEMA_VERSION})"
        )
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise ConfigError(_damaged(path, problem))
    if version < SCHEMA_VERSION:
        steps = "".join(_MIGRATIONS[version:])
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _damaged(path: Path, problem: str) -> str:
    return (
        f"ledger `{path}` is damaged ({problem}); restore it from a backup, or move it aside: "
        "limits then count from zero and orders placed before belong to no key"
    )


def _statements(changes: Iterable[Change]) -> dict[str, list[tuple[Any, ...]]]:
    """What each statement is executed with."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for change in changes:
        match change:
            case Row():
                found.setdefault(_SAVE, []).append(_values(change))
            case Dropped(decision_id):
                found.setdefault(_DROP, []).append((decision_id,))
            case Attempt():
                at_us = round(change.at * 1_000_000)
                values = (*change.key, change.request_hash, change.decision_id, at_us, change.outcome)
                found.setdefault(_SAVE_ATTEMPT, []).append(values)
            case AttemptDropped(key_id, token):
                found.setdefault(_DROP_ATTEMPT, []).append((key_id, token))
    return found


def _attempt(found: tuple[Any, ...]) -> Attempt:
    key_id, token, request_hash, decision_id, at_us, outcome = found
    return Attempt(key_id, token, request_hash, decision_id, at_us / 1_000_000, outcome)


def _values(row: Row) -> tuple[Any, ...]:
    made = row.reservation
    return (
        made.decision_id,
        made.key_id,
        round(made.at * 1_000_000),
        made.kind,
        str(made.acc_id),
        int(made.env),
        made.market,
        made.symbol,
        None if made.side is None else made.side.value,
        int(made.order_type),
        str(made.qty),
        None if made.price is None else str(made.price),
        None if made.value is None else str(made.value),
        made.currency,
        made.remark,
        made.conn,
        str(made.order_id),
        made.order_id_ex,
        row.state.value,
        str(row.order_id),
        row.order_id_ex,
        None if made.adds is None else str(made.adds),
        json.dumps([(leg.symbol, leg.side.value, str(leg.qty)) for leg in made.legs]) if made.legs else "[]",
        None if row.ended is None else round(row.ended * 1_000_000),
    )


def _row(found: tuple[Any, ...]) -> Row:
    reservation = Reservation(
        decision_id=found[0],
        key_id=found[1],
        at=found[2] / 1_000_000,
        kind=found[3],
        acc_id=int(found[4]),
        env=TrdEnv(found[5]),
        market=found[6],
        symbol=found[7],
        side=None if found[8] is None else Side(found[8]),
        order_type=OrderType(found[9]),
        qty=Decimal(found[10]),
        price=None if found[11] is None else Decimal(found[11]),
        value=None if found[12] is None else Decimal(found[12]),
        currency=found[13],
        remark=found[14],
        conn=found[15],
        order_id=int(found[16]),
        order_id_ex=found[17],
        adds=None if found[21] is None else Decimal(found[21]),
        legs=tuple(LegUnits(symbol, Side(side), Decimal(qty)) for symbol, side, qty in json.loads(found[22])),
    )
    ended = None if found[23] is None else found[23] / 1_000_000
    return Row(reservation, State(found[18]), int(found[19]), found[20], ended)
