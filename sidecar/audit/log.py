"""The audit file: appends chained lines, makes them durable, rotates, and comes back by itself after a full disk.
Decides nothing.

Everything but `reopen` belongs to the one thread that writes.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import structlog

from sidecar.audit.chain import GENESIS, Head, link
from sidecar.audit.continuity import discrepancy, end_of_rotated, ends_an_audit
from sidecar.audit.files import contains, read_tail, rotated_files, rotated_name
from sidecar.audit.record import NO_KEY, AuditRecord, Outcome
from sidecar.errors import ConfigError, RecordError

DEFAULT_MIN_FREE = 256 * 1024 * 1024
"""Bytes; with less room than this only essential records are written."""
_LOOK_EVERY = 1.0
_DAY = 86_400

if sys.platform == "darwin":
    import fcntl

    def _to_disk(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

elif sys.platform == "win32":
    _to_disk = os.fsync
else:
    _to_disk = os.fdatasync


class AuditLog:
    """Appends to `path`. `open` first; then `append`, which raises RecordError (`audit_unavailable`) and has then
    written nothing.

    INVARIANT: the chain goes on across files, restarts and failed writes; a line is either whole or taken back.
    `rotate=False` leaves rotation to another program, which sends SIGHUP.
    """

    def __init__(
        self,
        path: Path,
        *,
        min_free: int = DEFAULT_MIN_FREE,
        rotate: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path.expanduser().resolve()
        self.head = GENESIS
        """The last line written."""
        self.synced = GENESIS
        """The last line known to be on disk."""
        self.min_free = min_free
        """Bytes; may be set while it is in use."""
        self._rotates = rotate
        self._clock = clock
        self._fd = -1
        self._size = 0
        self._synced_size = 0
        self._unsynced: list[AuditRecord] = []
        self._again: list[AuditRecord] = []
        self._spoilt = False
        self._day = 0
        self._looked = 0.0
        self._room = True
        self._skipped = 0
        self._reopen = False
        self._log = structlog.get_logger("sidecar.audit")

    # Opening

    def open(self, known: Head | None, closed: bool) -> list[AuditRecord]:
        """Open the file and find the end of the chain; `known` and `closed` are what the ledger says of it.

        Returns records of what was found out of order, to be appended; they are logged as well. Raises ConfigError if
        the file cannot be written or is something else.
        """
        found: list[AuditRecord] = []
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"folder `{self.path.parent}` of the audit cannot be made: {error.strerror}") from error
        try:
            if self.path.exists() and not ends_an_audit(self.path):
                raise ConfigError(
                    f"`{self.path}` has no sound audit record at its end; if it is the audit, "
                    "run `opend-sidecar audit verify` on it, then move it aside"
                )
            self._fd = self._open_file()
            tail = read_tail(self.path)
            if tail.size > tail.sound_size:
                found.append(self._move_torn_aside(tail.sound_size, tail.size))
            self._size = self._synced_size = tail.sound_size
            head = tail.links[0].head if tail.links else end_of_rotated(self.path)
            if tail.last_line:
                self._day = _day_of(orjson.loads(tail.last_line)["timestamp"])
            damage = discrepancy(self.path, head, known, closed)
        except OSError as error:
            raise ConfigError(f"audit file `{self.path}` cannot be written: {error.strerror or error}") from error
        if damage is not None:
            found.append(self.about(damage.reason, "failure", damage.text))
            if known is not None:
                # The break stays visible: the next line hangs on what the ledger knows, not on what the file now says.
                head = Head(max(head.seq, known.seq), known.hash)
        self.head = self.synced = head
        for record in found:
            self._log.error(record.message, reason=record.reason, path=str(self.path))
        return found

    def holds(self, decision_ids: set[str]) -> set[str]:
        """Which of the decisions have a record, in the current file or the newest rotated one. Raises ConfigError."""
        found: set[str] = set()
        try:
            for path in [self.path, *reversed(rotated_files(self.path)[-1:])]:
                if decision_ids - found:
                    found |= contains(path, decision_ids - found)
        except OSError as error:
            raise ConfigError(f"audit file `{self.path}` cannot be read: {error.strerror or error}") from error
        return found

    # Writing

    def append(self, records: Sequence[AuditRecord], *, sync: bool) -> None:
        """Write the records in this order; with `sync` they and all before them are on disk when this returns.

        Below `min_free` those that are not essential are left out and counted. Raises RecordError: none of them was
        written, or they were taken back; what earlier calls had written without `sync` is written again with the next
        call that succeeds.
        """
        try:
            self._restore()
            self._look()
            chosen = [record for record in records if record.essential or self._room]
            if self._skipped and self._room:
                text = f"{self._skipped} records were left out while the disk was nearly full"
                chosen.append(self.about("audit_skipped", "failure", text, count=self._skipped))
            if chosen or self._again:
                self._rotate_if_due(self._clock())
                self._write(self._again + chosen)
        except OSError as error:
            raise _unavailable(error) from error
        earlier = self._unsynced[: len(self._unsynced) - len(chosen)]
        self._again = []
        if sync:
            try:
                self.sync()
            except OSError as error:
                self._again = earlier
                raise _unavailable(error) from error
        self._skipped = 0 if self._room else self._skipped + len(records) - len(chosen)

    def sync(self) -> None:
        """Put on disk what is written. Raises OSError; then what was not on disk has been taken back, to be written
        again."""
        if self.synced == self.head and not self._spoilt:
            return
        try:
            _to_disk(self._fd)
        except OSError:
            # After a failed sync nobody knows what is on disk, and a second sync would say yes without having done it.
            self._again = self._unsynced + self._again
            self._unsynced = []
            self.head = self.synced
            self._size = self._synced_size
            self._spoilt = True
            raise
        self.synced = self.head
        self._synced_size = self._size
        self._unsynced = []

    def reopen(self) -> None:
        """Open the file anew with the next write, because another program has moved it; may be called from any
        thread."""
        self._reopen = True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def about(
        self,
        reason: str,
        outcome: Outcome,
        message: str,
        *,
        count: int | None = None,
        decision_id: str | None = None,
        key_id: str = NO_KEY,
    ) -> AuditRecord:
        """A record about the audit itself."""
        return AuditRecord(
            at=self._clock(),
            iface="sidecar",
            endpoint="audit",
            key_id=key_id,
            outcome=outcome,
            reason=reason,
            message=message,
            decision_id=decision_id,
            count=count,
            essential=True,
        )

    # Inside

    def _open_file(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        fd = os.open(self.path, flags, 0o600)
        if sys.platform != "win32":
            os.fchmod(fd, 0o600)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return fd

    def _move_torn_aside(self, sound_size: int, size: int) -> AuditRecord:
        aside = self.path.with_name(
            f"{self.path.name}.torn-{datetime.fromtimestamp(self._clock(), UTC):%Y%m%dT%H%M%S%f}Z"
        )
        with self.path.open("rb") as file:
            file.seek(sound_size)
            torn = file.read()
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(fd, torn)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.ftruncate(self._fd, sound_size)
        _to_disk(self._fd)
        message = f"the last {size - sound_size} bytes were not a whole record and were moved to `{aside.name}`"
        return self.about("audit_torn", "failure", message)

    def _restore(self) -> None:
        """Take back what a failed write or sync may have left; raises OSError as long as that fails."""
        if self._spoilt:
            os.ftruncate(self._fd, self._size)
            self._spoilt = False

    def _look(self) -> None:
        """Once a second, or when asked to reopen: is the file still at its path, still as long as we left it, and is
        there room?"""
        now = time.monotonic()
        if not self._reopen and now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        asked, self._reopen = self._reopen, False
        self._look_at_room()
        if not self._is_in_place():
            self.sync()
            fd = self._open_file()
            os.close(self._fd)
            self._fd = fd
            self._size = self._synced_size = os.fstat(fd).st_size
            self._end_foreign_line()
            if not asked:
                text = "the file was moved or deleted by another program, and a new one was begun"
                self._again.append(self.about("audit_moved", "unknown", text))
        elif os.fstat(self._fd).st_size != self._size:
            self._size = self._synced_size = os.fstat(self._fd).st_size
            self._again.append(
                self.about("audit_changed", "failure", "the file was changed by another program while it was open")
            )
            self._end_foreign_line()

    def _end_foreign_line(self) -> None:
        """End what another program may have left unfinished, so that our next line begins a line."""
        if self._size and sys.platform != "win32" and os.pread(self._fd, 1, self._size - 1) != b"\n":
            _write_all(self._fd, b"\n")
            self._size += 1

    def _is_in_place(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._fd)
        return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)

    def _look_at_room(self) -> None:
        if not self.min_free:
            return
        room = shutil.disk_usage(self.path.parent).free >= self.min_free
        if room != self._room:
            self._room = room
            if not room:
                self._log.error(
                    "little room is left on the audit's disk: only orders and cancels are recorded", path=str(self.path)
                )

    def _rotate_if_due(self, at: float) -> None:
        day = int(at // _DAY)
        if day <= self._day or not self._rotates or not self._size:
            self._day = max(day, self._day)
            return
        self.sync()
        try:
            self.path.rename(rotated_name(self.path, self._day * _DAY))
        except OSError as error:
            self._log.warning("the audit file cannot be rotated and goes on", path=str(self.path), error=str(error))
            self._day = day
            return
        fd = self._open_file()
        os.close(self._fd)
        self._fd = fd
        self._size = self._synced_size = 0
        self._day = day

    def _write(self, records: list[AuditRecord]) -> None:
        head = self.head
        lines: list[bytes] = []
        for record in records:
            line, head = link(record.fields(), head)
            lines.append(line)
        data = b"".join(lines)
        try:
            _write_all(self._fd, data)
        except OSError:
            self._spoilt = True
            raise
        self._size += len(data)
        self.head = head
        self._unsynced += records


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _unavailable(error: OSError) -> RecordError:
    return RecordError("audit_unavailable", f"the audit cannot be written: {error.strerror or error}")


def _day_of(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() // _DAY)
