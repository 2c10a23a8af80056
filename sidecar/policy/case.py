"""What every rule is handed, and the two things it can answer; holds no rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from sidecar.intents.model import Intent, ModifyOrder, PlaceCombo, PlaceOrder, ReconfirmOrder
from sidecar.policy.change import added_by, raises_the_stake, would_become
from sidecar.policy.decision import Code, Finding, Refusal, Worth
from sidecar.policy.key import Key
from sidecar.policy.legs import Leg, legs_of
from sidecar.policy.usage import Facts, Terms, Usage

NEW_ORDER = (PlaceOrder, PlaceCombo, ModifyOrder, ReconfirmOrder)
"""The intents that can add to what is at stake."""


_USUAL = Terms()


class Case(NamedTuple):
    """Everything one decision is made of; made by `case_of`."""

    key: Key
    intent: Intent
    facts: Facts
    usage: Usage
    now: datetime
    terms: Terms = _USUAL
    order: PlaceOrder | None = None
    """The plain order that would be on the market afterwards: the one placed, or the one changed as it would become."""
    combo: PlaceCombo | None = None
    """The same, where it is a combo."""
    legs: tuple[Leg, ...] = ()
    """Every security the request trades; empty where it names none, or it is not known."""
    worth: Worth | None = None
    """None where no value cap asks for it or it cannot be told."""
    counts: Decimal | None = None
    """What of `worth` counts against the day's value."""


def case_of(key: Key, intent: Intent, facts: Facts, usage: Usage, now: datetime, terms: Terms = _USUAL) -> Case:
    """Without the worth."""
    if isinstance(intent, PlaceOrder | PlaceCombo):
        judged: PlaceOrder | PlaceCombo | None = intent
        whole, added = intent, intent.qty
    elif isinstance(intent, ModifyOrder) and facts.resting is not None:
        known = facts.approved
        whole = would_become(intent, facts.resting)
        added = added_by(intent, facts.resting, None if known is None else known.qty)
        judged = whole if raises_the_stake(intent) else None
    else:
        return Case(key, intent, facts, usage, now, terms)
    return Case(
        key, intent, facts, usage, now, terms,
        order=judged if isinstance(judged, PlaceOrder) else None,
        combo=judged if isinstance(judged, PlaceCombo) else None,
        legs=legs_of(whole, facts, added),
    )  # fmt: skip


Check = Callable[[Case], Finding | None]
"""A rule: None where it does not apply, else a finding, with a refusal where it says no."""


def passed(rule: str, detail: str) -> Finding:
    return Finding(rule, detail)


def refused(rule: str, code: Code, message: str, retry_after: int | None = None) -> Finding:
    """`retry_after` in seconds: when the same request may pass, where that is known."""
    return Finding(rule, message, Refusal(code, message, retry_after))
