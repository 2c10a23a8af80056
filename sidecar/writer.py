"""The thread behind the recorder: takes batches, writes the ledger, then the audit, and reports. Knows no event loop
and no rule."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from sidecar.audit.log import AuditLog
from sidecar.audit.record import AuditRecord
from sidecar.errors import RecordError
from sidecar.ledger.reservation import Change, ChangeKey
from sidecar.ledger.sqlite import SqliteStore

IDLE_DELAY = 0.1
"""Seconds without work after which everything is put on disk and the ledger learns the audit's head."""
RETRY_DELAY = 0.5
"""Seconds between attempts while ledger or audit cannot be written."""
_LOOK_EVERY = 1.0
_FORGET_EVERY = 3_600.0

Waiter = asyncio.Future[None]
"""Belongs to the loop's thread; here it is only passed through."""
Report = Callable[[Sequence[Waiter], RecordError | None, int], None]
"""Waiters that are done, with which error, and how many batches are done with them; called from the writer's thread.
Called with nothing when ledger or audit can be written again."""


@dataclass(slots=True, eq=False)
class Batch:
    """What one turn of the event loop hands over, in the order in which it came."""

    changes: dict[ChangeKey, Change] = field(default_factory=dict)
    records: list[tuple[AuditRecord, Waiter | None]] = field(default_factory=list)
    flushes: list[Waiter] = field(default_factory=list)
    last: bool = False
    since: float = 0.0
    """When it was handed over, `time.monotonic`."""
    deadline: asyncio.TimerHandle | None = None

    def waiters(self) -> list[Waiter]:
        return [*self.flushes, *(waiter for _, waiter in self.records if waiter is not None)]


class Writer:
    """`run` is the thread's body; the attributes may be read from any thread."""

    def __init__(self, store: SqliteStore, log: AuditLog, batches: queue.SimpleQueue[Batch], report: Report) -> None:
        self.ledger_error: RecordError | None = None
        """Why the last attempt failed; None when it did not."""
        self.audit_error: RecordError | None = None
        self.phase: Literal["ledger", "audit"] = "ledger"
        """What is being written, or was last."""
        self.kept: list[AuditRecord] = []
        """Records nobody waits for that could not be written yet."""
        self._store = store
        self._log = log
        self._batches = batches
        self._report = report
        self._unwritten: dict[ChangeKey, Change] = {}
        self._stored_head = log.synced
        self._unsynced = False
        """Whether the ledger holds changes that a loss of power could take back."""
        self._audit_failed_at = 0.0
        self._looked = 0.0
        self._forgot = time.monotonic()
        self._operator = structlog.get_logger("sidecar.recorder")

    def run(self) -> None:
        self._stored_head = self._log.synced
        last = False
        while not last:
            batches = self._take()
            last = any(batch.last for batch in batches)
            try:
                self._write(batches)
                if last or not batches:
                    self._settle(closed=last)
            except Exception as error:  # the thread must live: without it every order hangs until its time is out
                self._operator.exception("the writer failed")
                self.ledger_error = RecordError("ledger_unavailable", f"the writer failed: {error}")
                self._report(
                    [waiter for batch in batches for waiter in batch.waiters()], self.ledger_error, len(batches)
                )

    def _take(self) -> list[Batch]:
        """Everything that waits; nothing, when there is something to do without it."""
        wait: float | None = None
        if self.failing:
            wait = RETRY_DELAY
        elif self._stored_head != self._log.head or self._unsynced:
            wait = IDLE_DELAY
        batches: list[Batch] = []
        with contextlib.suppress(queue.Empty):
            batches.append(self._batches.get(timeout=wait))
            while True:
                batches.append(self._batches.get_nowait())
        return batches

    def _write(self, batches: list[Batch]) -> None:
        failing = self.failing
        flushes = [waiter for batch in batches for waiter in batch.flushes]
        records = [pair for batch in batches for pair in batch.records]
        orders = [waiter for _, waiter in records if waiter is not None]
        failed = self._write_ledger(batches, sync=bool(orders))
        if flushes:
            self._report(flushes, failed, 0)
        if failed is not None:
            # INVARIANT: no reservation on disk, no record of an approval, nothing forwarded.
            self._report(orders, failed, 0)
            records = [pair for pair in records if pair[1] is None]
            orders = []
        failed = self._write_audit(records, sync=bool(orders))
        if batches or (failing and not self.failing):
            self._report(orders, failed, len(batches))

    @property
    def failing(self) -> bool:
        return self.ledger_error is not None or self.audit_error is not None

    def _write_ledger(self, batches: list[Batch], *, sync: bool) -> RecordError | None:
        """`sync` where a reservation is waited for: what becomes of it later (whose order, what it gives back) has to
        outlive the process at once, and a loss of power as soon as the writer is idle."""
        for batch in batches:
            self._unwritten.update(batch.changes)
        if not self._unwritten and self.ledger_error is None:
            return None
        self.phase = "ledger"
        head = self._log.synced
        try:
            now = time.monotonic()
            if now - self._looked >= _LOOK_EVERY or self.ledger_error is not None:
                self._looked = now
                self._store.check()
            self._store.commit(self._unwritten.values(), head, sync=sync)
        except RecordError as error:
            if self.ledger_error is None:
                self._operator.error("the ledger cannot be written: orders are refused until it can", error=str(error))
            self.ledger_error = error
            return error
        self._unwritten = {}
        self._unsynced = not sync
        self._stored_head = head
        if self.ledger_error is not None:
            self._operator.warning("the ledger can be written again")
            self.ledger_error = None
        return None

    def _write_audit(self, records: list[tuple[AuditRecord, Waiter | None]], *, sync: bool) -> RecordError | None:
        wanted = self.kept + [record for record, _ in records]
        if self.audit_error is not None:
            seconds = time.monotonic() - self._audit_failed_at
            text = f"the audit could not be written for {seconds:.1f} s"
            wanted = [*self.kept, self._log.about("audit_restored", "success", text), *wanted[len(self.kept) :]]
        if not wanted:
            return None
        self.phase = "audit"
        try:
            self._log.append(wanted, sync=sync or self.audit_error is not None)
        except RecordError as error:
            new = [record for record, waiter in records if waiter is None]
            self.kept = self.kept + new
            if self.audit_error is None:
                self._audit_failed_at = time.monotonic()
                self._operator.error("the audit cannot be written: orders are refused until it can", error=str(error))
            for record in new:
                if record.essential:
                    self._operator.warning("an audit record waits in memory", record=record.line())
            self.audit_error = error
            return error
        self.kept = []
        if self.audit_error is not None:
            self._operator.warning("the audit can be written again")
            self.audit_error = None
        return None

    def _settle(self, *, closed: bool) -> None:
        """With nothing else to do: the audit on disk, its head in the ledger, and what is too old out of it."""
        if self.audit_error is None:
            self.phase = "audit"
            try:
                self._log.sync()
            except OSError as error:
                self._audit_failed_at = time.monotonic()
                self.audit_error = RecordError(
                    "audit_unavailable", f"the audit cannot be written: {error.strerror or error}"
                )
                self._operator.error("the audit cannot be written: orders are refused until it can", error=str(error))
        if self.ledger_error is None:
            self.phase = "ledger"
            head = self._log.synced
            try:
                if closed or head != self._stored_head or self._unsynced:
                    self._store.commit((), head, closed=closed and self.audit_error is None)
                    self._stored_head = head
                    self._unsynced = False
                if time.monotonic() - self._forgot >= _FORGET_EVERY:
                    self._forgot = time.monotonic()
                    self._store.forget_before()
            except RecordError as error:
                self.ledger_error = error
                self._operator.error("the ledger cannot be written: orders are refused until it can", error=str(error))
