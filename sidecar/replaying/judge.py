"""What a key would decide of a recorded order, by what the record says: allowed, refused, or not to be told. Holds no rule; knows
which of the policy's rules need what no record has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sidecar.intents.model import PlaceCombo, PlaceOrder
from sidecar.keys.ring import standing
from sidecar.policy.currency import exchange
from sidecar.policy.decide import explain
from sidecar.policy.decision import Code, Decision, Finding, Worth
from sidecar.policy.exact import EXACT
from sidecar.policy.key import Key
from sidecar.policy.usage import Facts, Terms, Usage
from sidecar.replaying.recorded import Recorded

NEAR = 0.01
"""Seconds by which the moment of a record and that of its decision may differ."""
_WINDOW = 60.0
_VALUED = ("price", "instrument", "rates of exchange")
"""Rules that ask for what a value is made of; where the value itself is recorded they need not be asked."""
_FACTS = frozenset(
    {
        Code.PRICE_UNAVAILABLE,
        Code.INSTRUMENT_UNKNOWN,
        Code.FX_UNAVAILABLE,
        Code.POSITION_UNKNOWN,
        Code.POSITION_VALUE,
        Code.MARKET_CLOSED,
        Code.ORDER_UNKNOWN,
        Code.OPEN_ORDERS,
    }
)
"""Codes with which rules refuse for want of a fact that is in no record: quotes, holdings, sessions, what was filled."""
_NO_VALUE = "the value was not recorded, or not in a currency of which there is a rate"
_AMOUNTS = frozenset({Code.ORDER_VALUE, Code.DAILY_VALUE})
USED = {Code.RATE: "max_orders_per_minute", Code.DAILY_VALUE: "max_daily_value", Code.DUPLICATE: "duplicate_window_s"}
"""Limits on what was used before."""
_CURRENCIES = {"HK": "HKD", "US": "USD", "CN": "CNH", "SG": "SGD", "JP": "JPY", "AU": "AUD", "CA": "CAD", "MY": "MYR"}


class Answer(StrEnum):
    ALLOWED = "allowed"
    REFUSED = "refused"
    UNTOLD = "cannot be told"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` and `text` of a refusal; of what cannot be told what would have to be known."""

    answer: Answer
    code: Code | None = None
    text: str = ""
    decision: Decision | None = None


def judged(
    key: Key, recorded: Recorded, facts: Facts, usage: Usage, terms: Terms, worth: Worth | None, machine_id: str | None
) -> Verdict:
    """By every rule that the record lets be asked. Of rules that cannot, the first is told, unless another refuses."""
    bad = standing(key, now=recorded.at, address=recorded.address, machine_id=machine_id)
    if bad is not None and bad.code is not Code.MACHINE_NOT_ALLOWED:
        return Verdict(Answer.REFUSED, bad.code, bad.message)
    assert recorded.intent is not None
    decision = explain(key, recorded.intent, facts, usage, recorded.at, terms, worth)
    untold = [] if bad is None else ["on which machine it was"]
    for finding in decision.findings:
        if finding.refusal is None or (worth is not None and finding.rule in _VALUED):
            continue
        lacking = _lacking(finding, decision, key, recorded, usage, worth)
        if lacking is None:
            return Verdict(Answer.REFUSED, finding.refusal.code, finding.refusal.message, decision)
        untold.append(lacking)
    if untold:
        return Verdict(Answer.UNTOLD, None, untold[0], decision)
    return Verdict(Answer.ALLOWED, decision=decision)


def _lacking(
    finding: Finding, decision: Decision, key: Key, recorded: Recorded, usage: Usage, worth: Worth | None
) -> str | None:
    """What would have to be known to believe a refusal; None where it stands."""
    assert finding.refusal is not None
    code = finding.refusal.code
    if finding.rule in _VALUED:
        return _NO_VALUE
    if code in _FACTS:
        return f"{code.value}: no record says it"
    if code in _AMOUNTS:
        lacks_rates = any(one.refusal and one.refusal.code is Code.FX_UNAVAILABLE for one in decision.findings)
        if worth is None or lacks_rates:
            return _NO_VALUE
    if code is Code.MARKET and "HKCC" in (key.allowed_markets or ()) and _by_connect(recorded):
        return "market: no record says by which route"
    if code is Code.RATE and usage.oldest_order_age > _WINDOW - 2 * NEAR:
        return "rate: it was within a hair of the window's end"
    window, age = key.duplicate_window_s, usage.same_order_age
    if code is Code.DUPLICATE and window is not None and age is not None and window - age < 2 * NEAR:
        return "duplicate: it was within a hair of the window's end"
    return None


def _by_connect(recorded: Recorded) -> bool:
    order = recorded.order
    if isinstance(order, PlaceOrder):
        return order.security.market == "CN"
    return isinstance(order, PlaceCombo) and any(leg.security.market == "CN" for leg in order.legs)


def worth_of(key: Key, recorded: Recorded, terms: Terms, *, at_limit: bool) -> Worth | None:
    """What the order counts as under the key, in the currency in which it was recorded or converted from it; None where it is
    not recorded. `at_limit`: then quantity × limit, in the currency of its market."""
    value, currency, basis = recorded.value, recorded.currency, "as recorded"
    if value is None and at_limit and isinstance(recorded.order, PlaceOrder) and recorded.order.price is not None:
        currency = _CURRENCIES.get(recorded.order.security.market)
        value, basis = EXACT.multiply(recorded.order.qty, recorded.order.price), "quantity × limit"
    if value is None or currency is None:
        return None
    into = exchange(key.cap_currency, terms.rates, recorded.at)
    converted = value if into is None else into.convert(value, currency)
    if converted is None:
        return None
    return Worth(converted, currency if into is None else into.into, basis)
