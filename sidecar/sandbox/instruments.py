"""What an instrument is and how its price steps. Holds no list of instruments (`listing`) and no prices (`market`)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from enum import IntEnum

ZERO = Decimal(0)

HK, US, SH, SZ, SG, JP = 1, 11, 21, 22, 31, 41
"""The QotMarkets of the sandbox."""

PREFIX = {HK: "HK", US: "US", SH: "SH", SZ: "SZ", SG: "SG", JP: "JP"}
TRADE_MARKET = {HK: 1, US: 2, SH: 31, SZ: 32, SG: 41, JP: 51}
"""TrdSecMarket of a QotMarket."""


class Kind(IntEnum):
    """Qot_Common.SecurityType."""

    BOND = 1
    STOCK = 3
    ETF = 4
    WARRANT = 5
    INDEX = 6
    PLATE = 7
    OPTION = 8
    FUTURE = 10


class Currency(IntEnum):
    """Trd_Common.Currency."""

    HKD = 1
    USD = 2
    CNH = 3
    JPY = 4
    SGD = 5


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One security or contract; compared by identity, there is one object per listing."""

    market: int
    code: str
    name: str
    kind: Kind
    lot_size: int
    """Shares per board lot; for options and futures the contract multiplier, as 3202 has it."""
    base: Decimal
    """Around this price it moves."""
    currency: Currency
    number: int
    listed: str = "2010-01-04"
    shares: int = 0
    tick: Decimal | None = None
    """A fixed price step; None follows the ladder of the market."""
    owner: Instrument | None = None
    """The underlying of an option or warrant; the actual contract behind a futures main code."""
    strike: Decimal = ZERO
    expiry: str = ""
    """Last trading day, `2026-12-30`."""
    side: int = 0
    """OptionType of an option (1 call, 2 put), WarrantType of a warrant."""
    main: bool = False

    @property
    def symbol(self) -> str:
        return f"{PREFIX[self.market]}.{self.code}"

    @property
    def multiplier(self) -> int:
        """Units of the underlying per unit of quantity."""
        return self.lot_size if self.kind in (Kind.OPTION, Kind.FUTURE) else 1

    @property
    def quantity_step(self) -> int:
        """Orders are multiples of this: the board lot in Hong Kong and China, single shares and contracts elsewhere."""
        return self.lot_size if self.market in (HK, SH, SZ) and self.multiplier == 1 else 1

    @property
    def tradable(self) -> bool:
        return self.kind not in (Kind.INDEX, Kind.PLATE)

    def step(self, price: Decimal) -> Decimal:
        """The smallest price difference at `price`."""
        if self.tick is not None:
            return self.tick
        if self.market == HK:
            for floor, step in _HONG_KONG_LADDER:
                if price >= floor:
                    return step
        if self.market == US and price < 1:
            return Decimal("0.0001")
        return Decimal("0.01")

    def rounded(self, price: Decimal) -> Decimal:
        """`price` moved down to a whole step, never below one step."""
        step = self.step(price)
        steps = (price / step).to_integral_value(ROUND_FLOOR)
        return max(step * steps, step)


_HONG_KONG_LADDER = tuple(
    (Decimal(floor), Decimal(step))
    for floor, step in (
        ("5000", "5"),
        ("2000", "2"),
        ("1000", "1"),
        ("500", "0.5"),
        ("200", "0.2"),
        ("100", "0.1"),
        ("20", "0.05"),
        ("10", "0.02"),
        ("0.5", "0.01"),
        ("0.25", "0.005"),
        ("0", "0.001"),
    )
)
