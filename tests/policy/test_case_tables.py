"""Every line of tests/cases/*.yaml, through the decision and through its explaining variant."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest
from case_tables import Row, rows

from sidecar.gathering import judged
from sidecar.intents.model import PlaceOrder
from sidecar.policy.decide import decide, explain, needs, needs_holding, screen
from sidecar.policy.usage import Facts, LegFacts, Need

ROWS = list(rows())
_Known = TypeVar("_Known", Facts, LegFacts)
TABLE = pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])


def test_the_tables_are_there() -> None:
    assert len(ROWS) >= 200
    assert len({row.name for row in ROWS}) == len(ROWS)


@TABLE
def test_a_case_is_decided_as_its_table_says(row: Row) -> None:
    refusal = decide(row.key, row.intent, row.facts, row.usage, row.now, row.terms).refusal
    assert (refusal.code.value if refusal else "allowed") == row.expect
    if row.says:
        assert refusal is not None, "only refusals say something"
    for words in row.says:
        assert refusal is not None
        assert words in refusal.message


@TABLE
def test_explaining_comes_to_the_same_end_and_makes_every_check(row: Row) -> None:
    decided = decide(row.key, row.intent, row.facts, row.usage, row.now, row.terms)
    explained = explain(row.key, row.intent, row.facts, row.usage, row.now, row.terms)
    assert explained.refusal == decided.refusal
    assert explained.findings[: len(decided.findings)] == decided.findings
    assert explained.worth == decided.worth
    assert sum(finding.refusal is not None for finding in decided.findings) <= 1


@TABLE
def test_a_value_comes_about_as_the_table_says(row: Row) -> None:
    if row.counts_as is None:
        return
    worth = explain(row.key, row.intent, row.facts, row.usage, row.now, row.terms).worth
    assert worth is not None
    assert worth.explanation == row.counts_as


@TABLE
def test_what_counts_against_the_day_is_as_the_table_says(row: Row) -> None:
    if row.counts_today is not None:
        assert explain(row.key, row.intent, row.facts, row.usage, row.now, row.terms).counts == row.counts_today


@TABLE
def test_the_screen_refuses_nothing_the_decision_allows(row: Row) -> None:
    decided = decide(row.key, row.intent, row.facts, row.usage, row.now, row.terms).refusal
    screened = screen(row.key, row.intent, row.facts, row.now).refusal
    assert screened is None or screened == decided


def _only(known: _Known, wanted: frozenset[Need]) -> _Known:
    return replace(
        known,
        instrument=known.instrument if Need.INSTRUMENT in wanted else None,
        quote=known.quote if Need.QUOTE in wanted else None,
        position=known.position if Need.POSITION in wanted else None,
        market_state=known.market_state if Need.MARKET_STATE in wanted else None,
    )


@TABLE
def test_an_allowed_order_needs_no_fact_that_was_not_asked_for(row: Row) -> None:
    order = judged(row.intent, row.facts)
    wanted = needs(row.key, order, row.facts.trading) if order is not None else frozenset()
    facts = _only(row.facts, wanted)
    facts = replace(facts, legs=tuple(_only(each, wanted) for each in facts.legs))
    later = needs_holding(row.key, order, facts) if order is not None else ()
    if isinstance(order, PlaceOrder) and any(later):
        facts = replace(facts, position=row.facts.position)
    elif facts.legs:
        told = zip(facts.legs, row.facts.legs, later, strict=True)
        facts = replace(facts, legs=tuple(replace(a, position=b.position) if asks else a for a, b, asks in told))
    refusal = decide(row.key, row.intent, facts, row.usage, row.now, row.terms).refusal
    assert (refusal.code.value if refusal else "allowed") == row.expect


@TABLE
def test_a_refusal_reads_as_a_sentence_for_people(row: Row) -> None:
    refusal = decide(row.key, row.intent, row.facts, row.usage, row.now, row.terms).refusal
    if refusal is None:
        return
    message = refusal.message
    assert message and not message.endswith(".")
    assert message[0].islower() or not message[0].isalpha() or message.startswith("OpenD ")
    assert "rival-7" not in message, "a refusal tells nothing of another key"
    assert "E+" not in message and "Decimal" not in message and "None" not in message
