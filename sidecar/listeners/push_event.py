"""What a push is about, in the words of the doors that label their pushes: gRPC's PushEvent, REST's `/ws`. Judges nothing.

`sec_key`, `sub_type` and the three types are those of the peer gateway (peer facts, sections 3 and 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from google.protobuf.message import DecodeError

from sidecar.intents.markets import security_of_report, symbol_of_quote
from sidecar.wire import catalog
from sidecar.wire.catalog import Permission, Row
from sidecar.wire.messages import message_class, module

PushType = Literal["quote", "trade", "notify"]


@dataclass(frozen=True, slots=True)
class PushInfo:
    """None where a push does not say it, or says more than one."""

    type: PushType
    sec_key: str | None = None
    """E.g. `HK.00700`; for trades the security of the order or fill."""
    sub_type: int | None = None
    """Qot_Common.SubType: the subscription that brought it."""
    rehab_type: int | None = None
    """Qot_Common.RehabType of candles."""
    acc_id: int | None = None
    trd_market: int | None = None
    """Trd_Common.TrdMarket of the account."""


def describe(row: Row, response: bytes) -> PushInfo:
    """The labels of a push; `response` is a whole protobuf Response of the catalog's row.

    Never raises: a push that cannot be read is labelled with its type alone. Parses the body once (microseconds).
    """
    kind: PushType = (
        "trade" if row.acc_id_path is not None else "notify" if row.permission is Permission.ANY_KEY else "quote"
    )
    if row.response is None:
        return PushInfo(kind)
    try:
        message = message_class(row.response).FromString(response)
    except DecodeError:
        return PushInfo(kind)
    if kind == "trade":
        return _trade(row, message)
    if kind == "notify":
        return PushInfo(kind)
    candles = row.id == catalog.UPDATE_KL
    return PushInfo(
        kind,
        sec_key=_quoted(row, message),
        sub_type=_sub_type(row, message),
        rehab_type=_one(message, "s2c.rehabType") if candles else None,
    )


def _trade(row: Row, message: Any) -> PushInfo:
    trd_market = _one(message, row.trd_market_paths[0]) if row.trd_market_paths else None
    sec_key = None
    if row.market_paths and row.code_paths:
        security = security_of_report(
            trd_market or 0, _one(message, row.market_paths[0]) or 0, _one(message, row.code_paths[0])
        )
        sec_key = None if security is None else security.symbol
    acc_id = None if row.acc_id_path is None else _one(message, row.acc_id_path)
    return PushInfo("trade", sec_key=sec_key, acc_id=acc_id, trd_market=trd_market)


def _quoted(row: Row, message: Any) -> str | None:
    """The security of a quote; None where one push brings several, as a list of basic quotes may."""
    if not row.security_paths:
        return None
    found = {symbol_of_quote(security.market, security.code) for security in _path(row.security_paths[0])(message)}
    return found.pop() if len(found) == 1 else None


def _sub_type(row: Row, message: Any) -> int | None:
    if row.id == catalog.UPDATE_KL:
        return _candles().get(message.s2c.klType)
    number = _sub_types().get(row.id)
    if row.id == catalog.UPDATE_ORDER_BOOK:
        common: Any = module("Qot_Common")
        if getattr(message.s2c, "orderBookType", None) == common.OrderBookType_Odd:
            return int(common.SubType_OrderBook_Odd)
    return number


@cache
def _sub_types() -> dict[int, int]:
    common: Any = module("Qot_Common")
    return {
        catalog.UPDATE_BASIC_QOT: common.SubType_Basic,
        catalog.UPDATE_ORDER_BOOK: common.SubType_OrderBook,
        catalog.UPDATE_TICKER: common.SubType_Ticker,
        catalog.UPDATE_RT: common.SubType_RT,
        catalog.UPDATE_BROKER: common.SubType_Broker,
    }


@cache
def _candles() -> dict[int, int]:
    """KLType → SubType: two numberings of the same names (the quarter is misspelt in one)."""
    common: Any = module("Qot_Common")
    sub_types: dict[str, int] = {name.removeprefix("SubType_"): number for name, number in common.SubType.items()}
    sub_types["KL_Quarter"] = common.SubType_KL_Qurater
    return {
        number: sub_types[spelt]
        for name, number in common.KLType.items()
        if (spelt := name.replace("KLType_", "KL_")) in sub_types
    }


def _one(message: Any, path: str) -> Any:
    """The single value at a path; None where nothing is set."""
    return next(iter(_path(path)(message)), None)


@cache
def _path(path: str) -> Callable[[Any], Iterator[Any]]:
    """A reader of every value that is set at a path of the catalog."""
    steps = [(step.removesuffix("[]"), step.endswith("[]")) for step in path.split(".")]

    def read(message: Any, depth: int = 0) -> Iterator[Any]:
        if depth == len(steps):
            yield message
            return
        name, is_list = steps[depth]
        if is_list:
            for part in getattr(message, name):
                yield from read(part, depth + 1)
        elif message.HasField(name):
            yield from read(getattr(message, name), depth + 1)

    return read
