"""Everything that is looked up at OpenD to judge an order, put together from the settings. Asks nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidecar.facts import contracts, market_states
from sidecar.facts.asking import House
from sidecar.facts.contracts import Contracts
from sidecar.facts.instruments import Instruments
from sidecar.facts.market_states import MarketStates
from sidecar.facts.orders import Orders
from sidecar.facts.positions import Positions
from sidecar.facts.quotes import Quotes
from sidecar.facts.shares import Shares
from sidecar.settings import Policy, Upstream
from sidecar.tasks import Tasks
from sidecar.wire import catalog


@dataclass(frozen=True, slots=True)
class LookUps:
    instruments: Instruments
    quotes: Quotes
    positions: Positions
    orders: Orders
    market_states: MarketStates
    contracts: Contracts

    def forget(self) -> None:
        """Drop what is remembered; for when OpenD was away."""
        for each in (self.instruments, self.quotes, self.positions, self.market_states, self.contracts):
            each.forget()


def shares_of(upstream: Upstream) -> Shares:
    """Of the requests that OpenD limits for all clients together, those that are kept for judging orders."""
    return Shares({
        catalog.GET_SECURITY_SNAPSHOT: upstream.snapshots_kept,
        catalog.GET_MARKET_STATE: market_states.KEPT,
        catalog.GET_FUTURE_INFO: contracts.KEPT,
    })  # fmt: skip


def look_ups(
    house: House, tasks: Tasks, shares: Shares, policy: Policy, sequence_before: Callable[[float], int]
) -> LookUps:
    """`sequence_before`: the ledger's."""
    bound: dict[str, Any] = {"timeout": policy.facts_timeout}
    return LookUps(
        instruments=Instruments(house, tasks, max_age=policy.instrument_max_age, **bound),
        quotes=Quotes(house, tasks, shares.of(catalog.GET_SECURITY_SNAPSHOT), max_age=policy.quote_max_age, **bound),
        positions=Positions(
            house, tasks, sequence_before, max_age=policy.position_max_age, lag=policy.position_lag, **bound
        ),
        orders=Orders(house, tasks, **bound),
        market_states=MarketStates(house, tasks, shares.of(catalog.GET_MARKET_STATE), **bound),
        contracts=Contracts(house, tasks, shares.of(catalog.GET_FUTURE_INFO), **bound),
    )
