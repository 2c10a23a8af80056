"""Keeps refusals from filling the disk: repeats are counted into summed records; nothing else is ever held back.
Writes nothing itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sidecar.audit.record import KEY_INVALID, AuditRecord

PERIOD = 1.0
"""Seconds for which repeats are summed."""
SINGLY = 10
"""Refusals of one key and code within a second that are recorded one by one: a bot that tries several orders at once."""
MOST_SOURCES = 1_000
"""Addresses and key-and-code pairs told apart at one time; what comes on top shares one sum."""
MOST_WITHOUT_KEY = 50
"""Records a second without a valid key; what comes on top shares the same sum."""
MOST_WITH_KEY = 200
"""Records a second of all other kinds that are not essential."""

OTHERS = "<others>"

_Source = tuple[str, str]


@dataclass(slots=True)
class _Sum:
    until: float
    latest: AuditRecord
    count: int = 0
    singly: int = 1
    """How many of this second were written one by one."""


class FloodControl:
    """Says of each record whether it is written now.

    The first of a kind are written at once (`SINGLY`; without a valid key one), repeats within the second are summed into
    one record whose `count` says how many it stands for besides those. While repeats go on there is one a second.
    A kind is: the address, for refusals without a valid key; key and code, for the others.
    """

    def __init__(self) -> None:
        self._sums: dict[_Source, _Sum] = {}
        self._second = 0.0
        self._written = {True: 0, False: 0}

    def admit(self, record: AuditRecord, now: float) -> bool:
        """Whether to write it now; if not, it is counted and comes out of `due`. `now` must not go back; any unit of
        seconds."""
        if record.essential:
            return True
        if now - self._second >= PERIOD or now < self._second:
            self._second = now
            self._written = {True: 0, False: 0}
        keyed = record.has_valid_key
        source: _Source | None = None
        if record.outcome == "reject":
            source = (record.key_id, record.reason or "") if keyed else ("", record.address or "")
            known = self._sums.get(source)
            if known is not None and keyed and known.singly < SINGLY and self._written[keyed] < MOST_WITH_KEY:
                known.singly += 1
                self._written[keyed] += 1
                return True
            if known is not None:
                known.latest = record
                known.count += 1
                return False
        if self._written[keyed] >= (MOST_WITH_KEY if keyed else MOST_WITHOUT_KEY):
            self._overflow(record, now)
            return False
        if source is not None:
            if len(self._sums) >= MOST_SOURCES:
                self._overflow(record, now)
                return False
            self._sums[source] = _Sum(now + PERIOD, record)
        self._written[keyed] += 1
        return True

    def due(self, now: float) -> list[AuditRecord]:
        """The sums whose second is over."""
        return self._collect(now, everything=False)

    def drain(self) -> list[AuditRecord]:
        """All sums, whatever their time."""
        return self._collect(0.0, everything=True)

    @property
    def next_due(self) -> float | None:
        """When the next second of a sum is over; None when nothing is counted."""
        return next(iter(self._sums.values())).until if self._sums else None

    def _overflow(self, record: AuditRecord, now: float) -> None:
        source = (OTHERS, "keyed" if record.has_valid_key else "")
        known = self._sums.get(source)
        if known is None:
            known = self._sums[source] = _Sum(now + PERIOD, record)
        known.latest = record
        known.count += 1

    def _collect(self, now: float, everything: bool) -> list[AuditRecord]:
        over: list[tuple[_Source, _Sum]] = []
        for source, known in self._sums.items():
            if not everything and now < known.until:
                break  # each lasts equally long, so the first entry is the first that is due
            over.append((source, known))
        records: list[AuditRecord] = []
        for source, known in over:
            del self._sums[source]
            if not known.count:
                continue
            records.append(_summed(source, known))
            if not everything:
                self._sums[source] = _Sum(now + PERIOD, known.latest, singly=SINGLY)
        return records


def _summed(source: _Source, known: _Sum) -> AuditRecord:
    """The latest of its kind stands for all; what only the latest one has is left out."""
    latest = known.latest
    record = AuditRecord(
        at=latest.at,
        iface=latest.iface,
        endpoint=latest.endpoint,
        key_id=latest.key_id,
        outcome=latest.outcome,
        reason=latest.reason,
        message=f"{known.count} more of the same kind, of which this is the latest",
        address=latest.address,
        policy=latest.policy,
        count=known.count,
    )
    if source[0] != OTHERS:
        return record
    return replace(
        record,
        key_id=OTHERS if latest.has_valid_key else KEY_INVALID,
        address=None,
        endpoint=OTHERS,
        reason="flood",
        message=f"{known.count} more requests were refused or read than are recorded one by one",
    )
