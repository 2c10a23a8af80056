"""What `explain` tells of every case of the tables, as text for people to read: tests/cases/told/*.txt.

`python tests/policy/told.py` writes the files anew; their change is then looked at as any other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from case_tables import FOLDER, Row, rows

from sidecar.gathering import judged
from sidecar.intents.model import PlaceOrder
from sidecar.policy.decide import explain, needs, needs_holding, screen
from sidecar.policy.exact import plain
from sidecar.policy.usage import Facts

TOLD = FOLDER / "told"


def tables() -> list[str]:
    """The names of the tables, without their ending."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def text_of(table: str, of: Iterable[Row]) -> str:
    """Of each case of the table its name, what is asked of OpenD, a line for every check, and what the order counts as."""
    names = ((row.name.partition(": "), row) for row in of)
    return "\n".join("\n".join([name, *_lines(row), ""]) for (stem, _, name), row in names if stem == table)


def _asked(row: Row) -> str:
    """What a decision of this order is looked up for, and of which securities the holding too, where there is no quote."""
    order = judged(row.intent, row.facts)
    if order is None:
        return ""
    bare = replace(row.facts, position=None, legs=tuple(replace(leg, position=None) for leg in row.facts.legs))
    named = [order.security] if isinstance(order, PlaceOrder) else [leg.security for leg in order.legs]
    wanted = zip(named, needs_holding(row.key, order, bare), strict=True)
    holdings = [f"holding of {security.symbol}" for security, asks in wanted if asks]
    return ", ".join([*sorted(needs(row.key, order, row.facts.trading)), *holdings])


def _lines(row: Row) -> Iterator[str]:
    known = row.facts
    remembered = Facts(
        known.account, order_owner=known.order_owner, trading=known.trading, locked_since=known.locked_since
    )
    screened = screen(row.key, row.intent, remembered, row.now).refusal
    if screened is not None:
        yield f"  refused before anything is asked: {screened.code.value}"
    elif asked := _asked(row):
        yield f"  asked of OpenD: {asked}"
    decision = explain(row.key, row.intent, row.facts, row.usage, row.now, row.terms)
    for finding in decision.findings:
        if finding.refusal is None:
            yield f"  ✓ {finding.rule}: {finding.detail}"
            continue
        wait = "" if finding.refusal.retry_after is None else f", again in {finding.refusal.retry_after} s"
        yield f"  ✗ {finding.rule}: {finding.detail} [{finding.refusal.code.value}{wait}]"
        if finding.detail != finding.refusal.message:
            yield f"    the client reads: {finding.refusal.message}"
    if decision.worth is not None:
        yield f"  worth: {decision.worth.explanation}"
        if decision.counts != decision.worth.value:
            yield f"  counts today: {'nothing that can be told' if decision.counts is None else plain(decision.counts)}"


if __name__ == "__main__":
    TOLD.mkdir(exist_ok=True)
    for gone in TOLD.glob("*.txt"):
        gone.unlink()
    cases = list(rows())
    for name in tables():
        (TOLD / f"{name}.txt").write_text(text_of(name, cases), encoding="utf-8")
