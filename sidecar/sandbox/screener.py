"""The stock filter, request 3215: made-up properties of stocks, filtered and sorted. Other screeners are not imitated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sidecar.sandbox.answers import Answer, Failure, response
from sidecar.sandbox.instruments import Instrument, Kind
from sidecar.sandbox.listing import PLATE_MEMBERS
from sidecar.sandbox.market import Market
from sidecar.sandbox.quote_messages import security
from sidecar.sandbox.session import Session

_MAX = 200
_CURRENT_PRICE = 3
_DESCENDING = 2

_Value = Callable[[Instrument], float]


class StockFilter:
    """Answers 3215. Only the current price is the market's; every other property is a number drawn from the code."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def answer(self, session: Session, c2s: Any) -> Answer:
        if not 0 < c2s.num <= _MAX or c2s.begin < 0:
            return Failure(f"num must be 1 to {_MAX}, begin not negative")
        found = self._market.listing.of(c2s.market, Kind.STOCK)
        if c2s.HasField("plate"):
            members = PLATE_MEMBERS.get(c2s.plate.code, ())
            found = [instrument for instrument in found if instrument.code in members]
        for wanted, value in self._criteria(c2s):
            if not wanted.isNoFilter:
                found = [
                    instrument
                    for instrument in found
                    if not (wanted.HasField("filterMin") and value(instrument) < wanted.filterMin)
                    and not (wanted.HasField("filterMax") and value(instrument) > wanted.filterMax)
                ]
            if wanted.sortDir:
                found.sort(key=value, reverse=wanted.sortDir == _DESCENDING)
        page = found[c2s.begin : c2s.begin + c2s.num]
        reply = response("Qot_StockFilter")
        reply.s2c.lastPage = c2s.begin + c2s.num >= len(found)
        reply.s2c.allCount = len(found)
        for instrument in page:
            self._fill(reply.s2c.dataList.add(), instrument, c2s)
        return reply

    def _criteria(self, c2s: Any) -> list[tuple[Any, _Value]]:
        """Every filter by a range, with how its value is found. Patterns and indicators let everything through."""
        return [
            *((wanted, self._base(wanted.fieldName)) for wanted in c2s.baseFilterList),
            *((wanted, _drawn("accumulated", wanted.fieldName, -5, 5)) for wanted in c2s.accumulateFilterList),
            *((wanted, _drawn("financial", wanted.fieldName, 0.6, 48)) for wanted in c2s.financialFilterList),
        ]

    def _base(self, name: int) -> _Value:
        if name == _CURRENT_PRICE:
            return lambda instrument: float(self._market.quotes[instrument].last)
        return _drawn("base", name, 1, 60)

    def _fill(self, data: Any, instrument: Instrument, c2s: Any) -> None:
        data.security.CopyFrom(security(instrument))
        data.name = instrument.name
        for wanted in c2s.baseFilterList:
            data.baseDataList.add(fieldName=wanted.fieldName, value=self._base(wanted.fieldName)(instrument))
        for wanted in c2s.accumulateFilterList:
            value = _drawn("accumulated", wanted.fieldName, -5, 5)(instrument)
            data.accumulateDataList.add(fieldName=wanted.fieldName, value=value, days=wanted.days)
        for wanted in c2s.financialFilterList:
            value = _drawn("financial", wanted.fieldName, 0.6, 48)(instrument)
            data.financialDataList.add(fieldName=wanted.fieldName, value=value, quarter=wanted.quarter)
        for wanted in c2s.customIndicatorFilterList:
            for name, parameters in (
                (wanted.firstFieldName, wanted.firstFieldParaList),
                (wanted.secondFieldName, wanted.secondFieldParaList),
            ):
                data.customIndicatorDataList.add(
                    fieldName=name,
                    klType=wanted.klType,
                    fieldParaList=parameters,
                    value=_drawn("indicator", name, 1, 99)(instrument),
                )


def _drawn(family: str, name: int, low: float, high: float) -> _Value:
    """A fixed number between `low` and `high` for every instrument."""

    def value(instrument: Instrument) -> float:
        drawn = (instrument.number * 2_654_435_761 + name * 40_503 + len(family) * 9_176) % 10_007
        return round(low + (high - low) * drawn / 10_007, 3)

    return value
