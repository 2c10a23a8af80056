"""Where the chain stands at start, and whether that is where the ledger knows it to be; changes no file."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import NamedTuple

from sidecar.audit.chain import GENESIS, Head
from sidecar.audit.files import read_links, read_tail, rotated_files

_FIRST_LINE = b'{"timestamp":'
_LONGEST_FIRST_LINE = 65_536


class Discrepancy(NamedTuple):
    """What is out of order: a code for the record, and prose."""

    reason: str
    text: str


def ends_an_audit(path: Path) -> bool:
    """Whether the file may be appended to: it is empty, has a sound record near its end, or is nothing but a torn
    first line."""
    tail = read_tail(path)
    if tail.links or not tail.size:
        return True
    if tail.size > _LONGEST_FIRST_LINE:
        return False
    data = path.read_bytes()
    begins = data.startswith(_FIRST_LINE) or _FIRST_LINE.startswith(data) or not data.strip(b"\0")
    return begins and b"\n" not in data


def end_of_rotated(path: Path) -> Head:
    """The end of the newest rotated file that has a sound record; where a new chain begins if there is none."""
    for other in reversed(rotated_files(path)):
        links = read_links(other) if other.suffix == ".gz" else reversed(read_tail(other).links)
        last = deque(links, maxlen=1)
        if last:
            return last[0].head
    return GENESIS


def discrepancy(path: Path, head: Head, known: Head | None, closed: bool) -> Discrepancy | None:
    """Compare the end of the files with what the ledger knows. Raises OSError.

    After a crash the files may be ahead of the ledger, which hears of a record only after it is on disk; never behind
    it, and after an orderly end (`closed`) not ahead either.
    """
    if known is None:
        if head == GENESIS:
            return None
        text = f"the ledger does not know this audit, which ends at seq {head.seq}: earlier use is not counted"
        return Discrepancy("ledger_missing", text)
    if head == GENESIS and known != GENESIS:
        text = f"there is no record, the ledger knows of seq {known.seq}: the audit was removed, or its path is new"
        return Discrepancy("audit_missing", text)
    if head.seq < known.seq:
        text = f"the audit ends at seq {head.seq}, the ledger knows of seq {known.seq}: records were removed"
        return Discrepancy("audit_truncated", text)
    if head.seq > known.seq and closed:
        text = f"the audit ends at seq {head.seq}, but was closed at seq {known.seq}: records were added"
        return Discrepancy("audit_changed", text)
    if head != known and _hash_at(path, known.seq) != known.hash:
        text = f"seq {known.seq} of the audit is not the record the ledger knows: records were changed"
        return Discrepancy("audit_changed", text)
    return None


def _hash_at(path: Path, seq: int) -> str | None:
    """The hash of that record, from itself or from the one after it; None if neither is there."""
    if seq == 0:
        return GENESIS.hash
    for file in [path, *reversed(rotated_files(path))]:
        near = read_tail(file).links if file.suffix != ".gz" else ()
        for found in near:
            if found.seq == seq:
                return found.hash
        for found in read_links(file):
            if found.seq == seq:
                return found.hash
            if found.seq == seq + 1:
                return found.prev
            if found.seq > seq:
                break
    return None
