"""Every word that `explain` says of the cases is as it was when somebody last read it."""

from __future__ import annotations

import pytest
from case_tables import rows
from told import TOLD, tables, text_of

from sidecar.policy.decide import decide, explain, screen

CASES = list(rows())


@pytest.mark.parametrize("table", tables())
def test_every_check_of_every_case_is_told_as_it_was_read(table: str) -> None:
    path = TOLD / f"{table}.txt"
    assert path.exists(), "a new table: `python tests/policy/told.py` writes what is told of its cases; read it"
    wanted = "if it is meant: `python tests/policy/told.py`, and read what changed"
    assert text_of(table, CASES) == path.read_text(encoding="utf-8"), wanted


@pytest.mark.parametrize("table", tables())
def test_a_decision_is_told_as_far_as_its_first_refusal(table: str) -> None:
    for row in CASES:
        if row.name.partition(": ")[0] != table:
            continue
        decided = decide(row.key, row.intent, row.facts, row.usage, row.now, row.terms)
        explained = explain(row.key, row.intent, row.facts, row.usage, row.now, row.terms)
        assert decided.findings == explained.findings[: len(decided.findings)]
        assert decided.refusal == explained.refusal
        screened = screen(row.key, row.intent, row.facts, row.now)
        for decision in (decided, screened):
            assert all(finding.refusal is None for finding in decision.findings[:-1])


def test_nothing_is_told_of_tables_that_are_gone() -> None:
    assert sorted(path.stem for path in TOLD.glob("*.txt")) == tables()
