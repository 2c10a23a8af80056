"""How symbols begin: the prefixes of the official Python SDK, each with its two market numbers. Judges no code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Markets(NamedTuple):
    """The numbers of one prefix: Qot_Common.QotMarket, under which quotes are asked for, and Trd_Common.TrdSecMarket."""

    qot: int
    sec: int


PREFIXES: Mapping[str, Markets] = MappingProxyType(
    {
        "HK": Markets(1, 1),
        "US": Markets(11, 2),
        "SH": Markets(21, 31),
        "SZ": Markets(22, 32),
        "SG": Markets(31, 41),
        "JP": Markets(41, 51),
        "AU": Markets(51, 61),
        "MY": Markets(61, 71),
        "CA": Markets(71, 81),
        "CC": Markets(91, 101),
        "EC": Markets(101, 111),
        "FX": Markets(81, 91),
        "HK_FUTURE": Markets(2, 1),
    }
)
"""`HK` of `HK.00700`. Of two prefixes with one TrdSecMarket the first is the one in use."""


def split(symbol: str) -> tuple[Markets, str] | None:
    """`HK.00700` to its markets and the bare code; None where no known prefix and a code are joined by a dot.

    Only the first dot counts: `US..DJI` and `US.BRK.B` are codes with dots of their own.
    """
    prefix, _, code = symbol.partition(".")
    markets = PREFIXES.get(prefix)
    return (markets, code) if markets is not None and code else None
