"""What an account has gained or lost today, as OpenD tells it with its holdings (2102). Adds up; converts and judges nothing.

`td_plVal` is the one number that OpenD gives for a day: for each holding, what was closed today included, in the holding's
own currency, of securities and futures alike. The funds (2101) have no such number: their `unrealizedPL` and `realizedPL` are
of futures only and of no day, and a difference of `totalAssets` takes a deposit for a gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from sidecar.facts.asking import House, Rejected, ask_about, new
from sidecar.policy.exact import EXACT
from sidecar.policy.usage import Account
from sidecar.wire.catalog import GET_POSITION_LIST

_CURRENCIES: Mapping[int, str] = MappingProxyType(
    {1: "HKD", 2: "USD", 3: "CNH", 4: "JPY", 5: "SGD", 6: "AUD", 7: "CAD", 8: "MYR", 9: "NZD"}
)
"""Trd_Common.Currency."""


async def day_profit(house: House, account: Account, timeout: float) -> Mapping[str, Decimal] | Rejected:
    """Amounts by currency, below 0 where it lost; Rejected where OpenD does not say it of every holding.

    Of OpenD's cache, which follows the broker by itself: a list that refreshes it is limited to 10 in 30 seconds for all
    clients, so that one of them could keep the answer away. Raises UpstreamError.
    """
    request = new("Trd_GetPositionList.Request")
    reply = await ask_about(house, account, GET_POSITION_LIST, request, timeout=timeout)
    return reply if isinstance(reply, Rejected) else added_up(reply.s2c.positionList)


def added_up(positions: Iterable[Any]) -> Mapping[str, Decimal] | Rejected:
    """INVARIANT: a holding that does not say it makes the whole not known."""
    sums: dict[str, Decimal] = {}
    for one in positions:
        currency = _CURRENCIES.get(one.currency)
        if not one.HasField("td_plVal") or not math.isfinite(one.td_plVal) or currency is None:
            return Rejected(f"OpenD does not say what `{one.code}` gained or lost today")
        sums[currency] = EXACT.add(sums.get(currency, Decimal(0)), Decimal(repr(one.td_plVal)))
    return sums
