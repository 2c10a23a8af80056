"""The one writer: makes reservations and audit records durable, many at a time, and tells those who wait. Decides and
counts nothing.

A thread does the writing. A commit costs one hop to it, one SQLite commit and one sync of the audit; everything that
came while it was busy shares the next round.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import structlog

from sidecar.audit.chain import Head
from sidecar.audit.flood import FloodControl
from sidecar.audit.log import AuditLog
from sidecar.audit.record import AuditRecord
from sidecar.errors import RecordError
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.sqlite import SqliteStore
from sidecar.writer import Batch, Waiter, Writer

NOTE_DELAY = 0.05
"""Seconds that a record nobody waits for may wait for company."""
SWITCH_INTERVAL = 0.0002
"""Seconds after which a busy event loop must let the writer have the interpreter. With Python's own 5 ms a loop that is
busy all the time can keep the writer out for seconds, because every wake-up of the writer starts the wait anew."""
MOST_WAITING = 20_000
"""Records that may wait in memory; of the essential ones five times as many."""


class Recorder:
    """Owns the writer thread, the store's writing side and the audit file, from `start` to `stop`.

    `timeout` is the seconds a commit may take before it is given up.

    INVARIANT: when `commit` returns, every change staged in the ledger before it and the record are on disk, the
    ledger's part first. When it raises, nothing may be forwarded; the record may still be found in the audit later,
    so the caller notes the refusal.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: SqliteStore,
        log: AuditLog,
        *,
        timeout: float = 5.0,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._log = log
        self._timeout = timeout
        self._flood = FloodControl()
        self._queue: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next = Batch()
        self._now_handle: asyncio.Handle | None = None
        self._later_handle: asyncio.TimerHandle | None = None
        self._flood_handle: asyncio.TimerHandle | None = None
        self._in_flight: deque[Batch] = deque()
        self._writer = Writer(store, log, self._queue, self._report)
        self._dropped = 0
        self._stopped = False
        self._operator = structlog.get_logger("sidecar.recorder")

    # Life

    def start(self) -> None:
        """Open the audit, settle what a crash left behind, and begin to write; from inside the running loop.

        Raises ConfigError if the audit cannot be opened, RecordError if the ledger cannot be read or written.
        """
        self._loop = asyncio.get_running_loop()
        stored = self._store.audit_head()
        known, closed = (None, False) if stored is None else (Head(stored[0], stored[1]), stored[2])
        found = self._log.open(known, closed)
        if not any(record.reason != "audit_torn" for record in found):
            found += self._release_never_sent()
        self._store.commit(self._ledger.take().values(), self._log.synced)
        self._store.forget_before()
        if found:
            self._log.append(found, sync=True)
        self._ledger.on_staged = self._soon
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
        self._thread = threading.Thread(target=self._writer.run, name="recorder", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Write everything that waits, note in the ledger that the audit was closed in order, and end the thread.

        Gives up after `timeout` on a disk that hangs; what could not be written is in the operator's log.
        """
        if self._thread is None or self._stopped:
            return
        self._stopped = True
        self._ledger.on_staged = None
        for handle in (self._later_handle, self._flood_handle):
            if handle is not None:
                handle.cancel()
        for record in self._flood.drain():
            self._next.records.append((record, None))
        self._next.last = True
        self._dispatch()
        await asyncio.to_thread(self._thread.join, self._timeout)
        if self._thread.is_alive():
            self._operator.error("the writer did not end in time", waiting=self.records_waiting)
            return
        self._log.close()
        self._store.close()

    def reopen(self) -> None:
        """Open the audit file anew with the next write (SIGHUP)."""
        self._log.reopen()

    # Writing

    async def commit(self, record: AuditRecord) -> None:
        """Ledger and this record durable, in this order. Raises RecordError: forward nothing, release the
        reservation."""
        error = self._refusal()
        if error is not None:
            raise error
        waiter = self._waiter()
        # What is forwarded is recorded, however little room is left.
        self._next.records.append((record if record.essential else replace(record, essential=True), waiter))
        self._now()
        await waiter

    async def flush_ledger(self) -> None:
        """Everything staged in the ledger so far is written when this returns: it outlives the process, and within about
        100 ms also a loss of power. Raises RecordError."""
        if not self._ledger.has_staged and not self._in_flight and self._now_handle is None:
            return
        error = self._refusal(audit=False)
        if error is not None:
            raise error
        waiter = self._waiter()
        self._next.flushes.append(waiter)
        self._now()
        await waiter

    def note(self, record: AuditRecord) -> None:
        """Record it soon, without waiting and without a sync of its own; repeats of refusals are summed.

        While the audit cannot be written, essential records wait in memory and go to the operator's log at once.
        """
        admitted = self._flood.admit(record, time.monotonic())
        self._flood_later()
        if not admitted:
            return
        waiting = self.records_waiting
        if waiting >= MOST_WAITING * (5 if record.essential else 1):
            self._dropped += 1
            if record.essential:
                self._operator.error("an audit record is lost, because too many wait", record=record.line())
            return
        if record.essential and self.seconds_behind > self._timeout:
            # A writer that hangs cannot say it itself.
            self._operator.warning("an audit record waits in memory", record=record.line())
        self._next.records.append((record, None))
        self._soon()

    # Health

    @property
    def ledger_ok(self) -> bool:
        return self._writer.ledger_error is None and not self._hangs_in("ledger")

    @property
    def audit_ok(self) -> bool:
        return self._writer.audit_error is None and not self._hangs_in("audit")

    @property
    def records_waiting(self) -> int:
        """Audit records that are not in the file yet."""
        return len(self._next.records) + sum(len(batch.records) for batch in self._in_flight) + len(self._writer.kept)

    @property
    def seconds_behind(self) -> float:
        """Age of the oldest work that is not done."""
        return time.monotonic() - self._in_flight[0].since if self._in_flight else 0.0

    # The loop's side

    def _refusal(self, *, audit: bool = True) -> RecordError | None:
        """Why there is no point in waiting; a new error each time, because it is raised."""
        if self._thread is None or self._stopped:
            return RecordError("ledger_unavailable", "the recorder is not running")
        known = self._writer.ledger_error or (self._writer.audit_error if audit else None)
        if known is not None:
            return RecordError(known.code, str(known))
        for phase in ("ledger", "audit"):
            if self._hangs_in(phase):
                return self._too_slow()
        return None

    def _hangs_in(self, phase: str) -> bool:
        return self._writer.phase == phase and self.seconds_behind > self._timeout

    def _too_slow(self) -> RecordError:
        phase = self._writer.phase
        return RecordError(f"{phase}_unavailable", f"the {phase} did not reach the disk within {self._timeout:g} s")

    def _waiter(self) -> Waiter:
        assert self._loop is not None, "start() comes first, and _refusal has seen to that"
        return self._loop.create_future()

    def _now(self) -> None:
        """Hand over at the end of this turn of the loop, so that everything of one turn goes together."""
        if self._now_handle is None and self._loop is not None:
            self._now_handle = self._loop.call_soon(self._dispatch)

    def _soon(self) -> None:
        if self._now_handle is None and self._later_handle is None and self._loop is not None and not self._stopped:
            self._later_handle = self._loop.call_later(NOTE_DELAY, self._dispatch)

    def _dispatch(self) -> None:
        for handle in (self._now_handle, self._later_handle):
            if handle is not None:
                handle.cancel()
        self._now_handle = self._later_handle = None
        if self._dropped and self.audit_ok:
            text = f"{self._dropped} records were lost: more came than could be kept in memory"
            self._next.records.append((self._log.about("audit_lost", "failure", text, count=self._dropped), None))
            self._dropped = 0
        batch, self._next = self._next, Batch()
        # While the ledger cannot be written its changes stay there, and a release takes a reservation back unseen.
        if self._writer.ledger_error is None or batch.last:
            batch.changes = self._ledger.take()
        if not (batch.changes or batch.records or batch.flushes or batch.last):
            return
        batch.since = time.monotonic()
        if self._loop is not None and batch.waiters():
            batch.deadline = self._loop.call_later(self._timeout, self._expire, batch)
        self._in_flight.append(batch)
        self._queue.put(batch)

    def _expire(self, batch: Batch) -> None:
        for waiter in batch.waiters():
            if not waiter.done():
                waiter.set_exception(self._too_slow())

    def _report(self, waiters: Sequence[Waiter], error: RecordError | None, batches: int) -> None:
        """Called from the writer's thread."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._resolve, waiters, error, batches)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._operator.debug("the writer outlived the event loop")

    def _resolve(self, waiters: Sequence[Waiter], error: RecordError | None, batches: int) -> None:
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(RecordError(error.code, str(error)))
        for _ in range(batches):
            batch = self._in_flight.popleft()
            if batch.deadline is not None:
                batch.deadline.cancel()
        if (self._ledger.has_staged and self._writer.ledger_error is None) or (self._dropped and self.audit_ok):
            self._soon()

    def _flood_later(self) -> None:
        due = self._flood.next_due
        if due is not None and self._flood_handle is None and self._loop is not None and not self._stopped:
            self._flood_handle = self._loop.call_later(max(NOTE_DELAY, due - time.monotonic()), self._write_sums)

    def _write_sums(self) -> None:
        self._flood_handle = None
        sums = self._flood.due(time.monotonic())
        if sums:
            self._next.records.extend((record, None) for record in sums)
            self._soon()
        self._flood_later()

    def _release_never_sent(self) -> list[AuditRecord]:
        """After a crash: what was reserved but never recorded was never sent, because recording comes first."""
        doubtful = {made.decision_id: made for made in self._ledger.doubts.never_forwarded()}
        recorded = self._log.holds(set(doubtful)) if doubtful else set()
        records: list[AuditRecord] = []
        for decision_id, made in doubtful.items():
            if decision_id not in recorded:
                self._ledger.release(decision_id)
                text = f"{made.kind} of {made.qty} {made.symbol} was reserved but not recorded before the process ended"
                records.append(
                    self._log.about("never_forwarded", "reject", text, decision_id=decision_id, key_id=made.key_id)
                )
        return records
