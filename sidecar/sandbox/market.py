"""The moving market: last price, best bid and ask of every instrument, by a seeded random walk. Knows no subscriber, no order."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from sidecar.sandbox.instruments import Instrument, Kind
from sidecar.sandbox.listing import Listing

_MOVE_CHANCE = 0.6
_RANGE = Decimal("0.04")
"""How far from its base a price wanders."""


class Quote:
    """The state of one instrument now. Prices are exact; `version` changes whenever anything here does."""

    __slots__ = (
        "ask", "ask_volume", "bid", "bid_volume", "cache", "direction", "high", "instrument", "last", "last_volume", "low",
        "open", "previous_close", "sequence", "step", "turnover", "updated", "version", "volume",
    )  # fmt: skip

    def __init__(
        self, instrument: Instrument, price: Decimal, previous_close: Decimal, opened: Decimal, now: float
    ) -> None:
        self.instrument = instrument
        self.step = instrument.step(price)
        self.bid = price
        self.ask = price + self.step
        self.last = price
        self.previous_close = previous_close
        self.open = opened
        self.high = max(price, opened)
        self.low = min(price, opened)
        unit = max(instrument.quantity_step, 1)
        self.volume = unit * (2_000 + instrument.number % 997) if instrument.kind is not Kind.INDEX else 0
        self.turnover = price * self.volume * instrument.multiplier
        self.bid_volume = self.ask_volume = unit * 20
        self.last_volume = unit
        self.direction = 3
        self.sequence = 0
        self.updated = now
        self.version = 0
        self.cache: dict[str, tuple[int, bytes]] = {}
        """Serialised messages by name, each with the version it was made from."""

    def trade_at(self, bid: Decimal, last_is_ask: bool, volume: int, now: float) -> None:
        """A trade of `volume` happened, the best bid now being `bid`."""
        self.step = self.instrument.step(bid)
        self.bid = bid
        self.ask = bid + self.step
        self.last = self.ask if last_is_ask else bid
        self.direction = 1 if last_is_ask else 2
        if self.last > self.high:
            self.high = self.last
        if self.last < self.low:
            self.low = self.last
        self.last_volume = volume
        self.volume += volume
        self.turnover += self.last * (volume * self.instrument.multiplier)
        self.sequence += 1
        self.updated = now
        self.version += 1

    def take(self, buy: bool, quantity: Decimal) -> None:
        """Take `quantity` from what the touch offers: from the ask for a buyer."""
        if buy:
            self.ask_volume -= int(quantity)
        else:
            self.bid_volume -= int(quantity)
        self.version += 1

    def level_volume(self, level: int, bids: bool) -> int:
        """Volume shown `level` steps behind the touch, in shares or contracts."""
        if level == 0:
            return self.bid_volume if bids else self.ask_volume
        unit = max(self.instrument.quantity_step, 1)
        return unit * (5 + (self.sequence * 31 + level * 17 + self.instrument.number + bids * 7) % 40)


class Market:
    """Every quote of a listing. `tick` moves them; between ticks nothing changes by itself."""

    def __init__(self, listing: Listing, seed: int, now: float) -> None:
        self.listing = listing
        self._random = Random(f"market {seed}")  # noqa: S311 - a seed must give the same again
        self.quotes: dict[Instrument, Quote] = {}
        self._walking: list[Quote] = []
        self._derived: list[Quote] = []
        for instrument in listing:
            base = self._fair(instrument) if _is_derived(instrument) else instrument.base
            close = instrument.rounded(base * self._near(0.02))
            quote = Quote(
                instrument, instrument.rounded(base), close, instrument.rounded(close * self._near(0.005)), now
            )
            self.quotes[instrument] = quote
            (self._derived if _is_derived(instrument) else self._walking).append(quote)

    def _near(self, width: float) -> Decimal:
        return Decimal(1) + Decimal(round(self._random.uniform(-width, width), 5))

    def quote(self, instrument: Instrument) -> Quote:
        return self.quotes[instrument]

    def tick(self, now: float) -> list[Quote]:
        """Move the market once; the quotes that changed."""
        chance, choice = self._random.random, self._random.randrange
        moved: list[Quote] = []
        for quote in self._walking:
            if chance() > _MOVE_CHANCE:
                continue
            base = quote.instrument.base
            shift = choice(-1, 2)
            if quote.bid > base * (1 + _RANGE):
                shift = -1
            elif quote.bid < base * (1 - _RANGE):
                shift = 1
            bid = quote.bid + quote.step * shift if quote.bid + quote.step * shift > 0 else quote.bid
            self._trade(quote, bid, now)
            moved.append(quote)
        leaders = set(moved)
        for quote in self._derived:
            owner = quote.instrument.owner
            if owner is not None and self.quotes[owner] in leaders:
                self._trade(quote, quote.instrument.rounded(self._fair(quote.instrument)), now)
                moved.append(quote)
        return moved

    def _trade(self, quote: Quote, bid: Decimal, now: float) -> None:
        choice = self._random.randrange
        unit = max(quote.instrument.quantity_step, 1)
        quote.bid_volume = unit * choice(3, 60)
        quote.ask_volume = unit * choice(3, 60)
        quote.trade_at(bid, choice(2) == 1, unit * choice(1, 12), now)

    def set_price(self, symbol: str, price: Decimal | str, now: float, volume: int | None = None) -> Quote:
        """Put the best bid of `HK.00700` at `price` (the ask is one step above) with `volume` on both sides. For tests.

        Raises KeyError for an unknown symbol.
        """
        instrument = self.listing.find_symbol(symbol)
        if instrument is None:
            raise KeyError(symbol)
        quote = self.quotes[instrument]
        if volume is not None:
            quote.bid_volume = quote.ask_volume = volume
        quote.trade_at(Decimal(price), False, max(instrument.quantity_step, 1), now)
        return quote

    def _fair(self, instrument: Instrument) -> Decimal:
        """The price an option or a main contract takes from what stands behind it."""
        owner = instrument.owner
        if owner is None:
            return instrument.base
        behind = self.quotes[owner].bid
        if instrument.main:
            return behind
        intrinsic = behind - instrument.strike if instrument.side == 1 else instrument.strike - behind
        distance = abs(behind - instrument.strike) / behind
        time_value = behind * Decimal("0.035") / (1 + distance * 25)
        return max(intrinsic, Decimal(0)) + time_value


def _is_derived(instrument: Instrument) -> bool:
    return instrument.kind is Kind.OPTION or instrument.main
