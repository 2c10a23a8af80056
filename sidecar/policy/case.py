"""What every rule is handed, and the two things it can answer; holds no rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from sidecar.intents.model import Intent, ModifyOrder, PlaceCombo, PlaceOrder, ReconfirmOrder
from sidecar.policy.decision import Code, Finding, Refusal, Worth
from sidecar.policy.key import Key
from sidecar.policy.usage import Facts, Terms, Usage

NEW_ORDER = (PlaceOrder, PlaceCombo, ModifyOrder, ReconfirmOrder)
"""The intents that can add to what is at stake."""


class Case(NamedTuple):
    """Everything one decision is made of. `worth` is None where no value cap asks for it or it cannot be told."""

    key: Key
    intent: Intent
    facts: Facts
    usage: Usage
    now: datetime
    worth: Worth | None = None
    terms: Terms = Terms()


Check = Callable[[Case], Finding | None]
"""A rule: None where it does not apply, else a finding, with a refusal where it says no."""


def passed(rule: str, detail: str) -> Finding:
    return Finding(rule, detail)


def refused(rule: str, code: Code, message: str, retry_after: int | None = None) -> Finding:
    """`retry_after` in seconds: when the same request may pass, where that is known."""
    return Finding(rule, message, Refusal(code, message, retry_after))
