"""The terms of every decision, out of the settings. Which of them a key's limits need is the policy's to know."""

from __future__ import annotations

from sidecar.policy.currency import Rates
from sidecar.policy.usage import Terms
from sidecar.settings import Policy


def terms_of(policy: Policy) -> Terms:
    """What every decision is given."""
    fx = policy.fx
    rates = Rates(fx.base, fx.as_of, fx.max_age_days, dict(fx.rates)) if fx.base and fx.as_of else None
    return Terms(price_buffer_pct=policy.price_buffer_pct, rates=rates)
