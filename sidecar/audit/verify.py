"""Reads an audit from its first record to its last and says what is wrong with it and where; repairs nothing.

Finds changed, missing, moved and added records, and, with what the ledger knows of the end, removed last ones.
Somebody who can rewrite both the files and the ledger can make a chain that is sound: ship the audit elsewhere if
that matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.audit.chain import GENESIS, Head, Link, read_link
from sidecar.audit.files import LONGEST_LINE, open_audit

_OWN_FINDING = re.compile(rb'"reason":"(audit_changed|audit_truncated|audit_missing)"')


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong. `line` counts from 1; `seq` is the record's number where it can be told."""

    path: Path
    line: int
    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was read (`first` is the number of the first record, `last` the end of the chain) and what is wrong with
    it."""

    lines: int
    first: int | None
    last: Head | None
    damage: tuple[Damage, ...]


@dataclass(slots=True)
class _Reading:
    known: Head | None
    closed: bool
    lines: int = 0
    first: int | None = None
    head: Head | None = None
    unreadable: int = 0
    """Lines since `head` that could not be read."""
    met_known: bool = False
    damage: list[Damage] = field(default_factory=list)


def verify(
    files: Iterable[Path],
    known: Head | None = None,
    closed: bool = False,
    progress: Callable[[int], None] = lambda size: None,
) -> Report:
    """Read the files, oldest first. `known` is the last record the ledger knows, `closed` that nothing was written
    after it.

    `progress` is called with the bytes read since the last call. Raises OSError if a file cannot be read.
    """
    reading = _Reading(known, closed)
    path, number = Path(), 0
    for path in files:
        with open_audit(path) as file:
            number = 0
            size = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                size += len(line)
                _read_line(reading, path, number, line)
                if size >= LONGEST_LINE:
                    progress(size)
                    size = 0
            progress(size)
    _check_end(reading, path, number)
    return Report(reading.lines, reading.first, reading.head, tuple(reading.damage))


def _read_line(reading: _Reading, path: Path, number: int, line: bytes) -> None:
    reading.lines += 1
    link = read_link(line[:-1]) if line.endswith(b"\n") else None
    if link is None:
        reading.unreadable += 1
        what = "the record was changed, or is none" if line.endswith(b"\n") else "the last record is not whole"
        expected = None if reading.head is None else reading.head.seq + reading.unreadable
        reading.damage.append(Damage(path, number, expected, what))
        return
    what = _place(reading, link)
    if what:
        reading.damage.append(Damage(path, number, link.seq, what))
    own = _OWN_FINDING.search(line)
    if own is not None:
        what = f"the sidecar itself recorded `{own.group(1).decode('ascii')}` here"
        reading.damage.append(Damage(path, number, link.seq, what))
    if reading.known is not None and link.seq == reading.known.seq:
        reading.met_known = True
        if link.hash != reading.known.hash:
            reading.damage.append(Damage(path, number, link.seq, "it is not the record the ledger knows"))
    reading.first = link.seq if reading.first is None else reading.first
    reading.head = link.head
    reading.unreadable = 0


def _place(reading: _Reading, link: Link) -> str:
    """What is wrong with where the record stands; empty if nothing is."""
    head = reading.head
    if head is None:
        return "" if link.seq != 1 or link.prev == GENESIS.hash else "the first record does not begin a chain"
    if link.seq <= head.seq:
        return f"it comes after seq {head.seq}: records were moved, repeated or added"
    missing = link.seq - head.seq - 1 - reading.unreadable
    if missing > 0:
        return f"{missing} records before it are missing"
    if missing < 0:
        return f"{-missing} lines before it were added"
    if not reading.unreadable and link.prev != head.hash:
        return "the record before it was replaced"
    return ""


def _check_end(reading: _Reading, path: Path, number: int) -> None:
    known, head = reading.known, reading.head
    if known is None or known.seq == 0:
        return
    last = 0 if head is None else head.seq
    if last < known.seq:
        what = f"the audit ends at seq {last}, the ledger knows of seq {known.seq}: the last records were removed"
        reading.damage.append(Damage(path, number, known.seq, what))
    elif reading.closed and last > known.seq:
        what = f"the audit was closed at seq {known.seq}: what comes after it was added"
        reading.damage.append(Damage(path, number, last, what))
    elif not reading.met_known and reading.first is not None and reading.first <= known.seq:
        what = f"seq {known.seq}, which the ledger knows, is not there"
        reading.damage.append(Damage(path, number, known.seq, what))
