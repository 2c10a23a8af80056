"""The REST routes, each the name of one request of the catalog; everything else is reachable by its id. Serves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Literal

from sidecar.wire import catalog

Group = Literal["system", "quotes", "accounts", "trading"]
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """`/api/...` for one proto id. Field names are OpenD's own, of c2s."""

    path: str
    proto_id: int
    group: Group
    get: bool = False
    """Also answers GET: the request has no field that a client must fill."""
    fixed: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    """Fields that make the route what it is; a client that gives them is refused, as with an unknown field."""
    assumed: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    """Required fields of OpenD that a client may leave out."""


BY_ID = "/api/proto/{name}"
"""POST: any request of the catalog, by its id (`2202`) or name (`Trd_PlaceOrder`)."""
_BY_IDS = BY_ID.partition("{")[0]

_NOBODY: Mapping[str, object] = {"userID": 0}
_ONE_ORDER: Mapping[str, object] = {"orderID": 0}

_ROUTES = (
    Route("/api/ping", catalog.KEEP_ALIVE, "system", get=True, assumed={"time": 0}),
    Route("/api/global-state", catalog.GET_GLOBAL_STATE, "system", get=True, assumed=_NOBODY),
    Route("/api/user-info", catalog.GET_USER_INFO, "system", get=True),
    Route("/api/delay-statistics", catalog.GET_DELAY_STATISTICS, "system", get=True),
    Route("/api/subscribe", catalog.QOT_SUB, "quotes", fixed={"isSubOrUnSub": True}),
    Route("/api/unsubscribe", catalog.QOT_SUB, "quotes", fixed={"isSubOrUnSub": False}),
    Route("/api/register-push", catalog.REG_QOT_PUSH, "quotes"),
    Route("/api/sub-info", catalog.GET_SUB_INFO, "quotes", get=True),
    Route("/api/query-subscription", catalog.GET_SUB_INFO, "quotes", get=True),
    Route("/api/used-quota", catalog.GET_SUB_INFO, "quotes", get=True),
    Route("/api/quote", catalog.GET_BASIC_QOT, "quotes"),
    Route("/api/kline", catalog.GET_KL, "quotes"),
    Route("/api/orderbook", catalog.GET_ORDER_BOOK, "quotes"),
    Route("/api/broker", catalog.GET_BROKER, "quotes"),
    Route("/api/ticker", catalog.GET_TICKER, "quotes"),
    Route("/api/rt", catalog.GET_RT, "quotes"),
    Route("/api/snapshot", catalog.GET_SECURITY_SNAPSHOT, "quotes"),
    Route("/api/static-info", catalog.GET_STATIC_INFO, "quotes"),
    Route("/api/plate-set", catalog.GET_PLATE_SET, "quotes"),
    Route("/api/list-plates", catalog.GET_PLATE_SET, "quotes"),
    Route("/api/plate-security", catalog.GET_PLATE_SECURITY, "quotes"),
    Route("/api/reference", 3206, "quotes"),
    Route("/api/get-reference", 3206, "quotes"),
    Route("/api/owner-plate", 3207, "quotes"),
    Route("/api/option-chain", catalog.GET_OPTION_CHAIN, "quotes"),
    Route("/api/warrant", 3210, "quotes"),
    Route("/api/capital-flow", 3211, "quotes"),
    Route("/api/capital-distribution", 3212, "quotes"),
    Route("/api/user-security", 3213, "quotes"),
    Route("/api/stock-filter", 3215, "quotes"),
    Route("/api/ipo-list", 3217, "quotes"),
    Route("/api/future-info", catalog.GET_FUTURE_INFO, "quotes"),
    Route("/api/market-state", catalog.GET_MARKET_STATE, "quotes"),
    Route("/api/history-kline", catalog.REQUEST_HISTORY_KL, "quotes"),
    Route("/api/history-kline-quota", catalog.REQUEST_HISTORY_KL_QUOTA, "quotes"),
    Route("/api/trading-days", catalog.REQUEST_TRADE_DATE, "quotes"),
    Route("/api/rehab", 3105, "quotes"),
    Route("/api/accounts", catalog.GET_ACC_LIST, "accounts", get=True, assumed=_NOBODY),
    Route("/api/list-accounts", catalog.GET_ACC_LIST, "accounts", get=True, assumed=_NOBODY),
    Route("/api/sub-acc-push", catalog.SUB_ACC_PUSH, "accounts"),
    Route("/api/unsub-acc-push", catalog.SUB_ACC_PUSH, "accounts", fixed={"accIDList": ()}),
    Route("/api/funds", catalog.GET_FUNDS, "accounts"),
    Route("/api/positions", catalog.GET_POSITION_LIST, "accounts"),
    Route("/api/orders", catalog.GET_ORDER_LIST, "accounts"),
    Route("/api/order-fills", catalog.GET_ORDER_FILL_LIST, "accounts"),
    Route("/api/max-trd-qtys", catalog.GET_MAX_TRD_QTYS, "accounts"),
    Route("/api/history-orders", catalog.GET_HISTORY_ORDER_LIST, "accounts"),
    Route("/api/history-order-fills", catalog.GET_HISTORY_ORDER_FILL_LIST, "accounts"),
    Route("/api/margin-ratio", catalog.GET_MARGIN_RATIO, "accounts"),
    Route("/api/order-fee", catalog.GET_ORDER_FEE, "accounts"),
    Route("/api/flow-summary", catalog.FLOW_SUMMARY, "accounts"),
    Route("/api/acc-cash-flow", catalog.FLOW_SUMMARY, "accounts"),
    Route("/api/order", catalog.PLACE_ORDER, "trading"),
    Route("/api/combo-order", catalog.PLACE_COMBO_ORDER, "trading"),
    Route("/api/modify-order", catalog.MODIFY_ORDER, "trading", assumed=_ONE_ORDER),
    Route("/api/cancel-order", catalog.MODIFY_ORDER, "trading", fixed={"modifyOrderOp": 2}, assumed=_ONE_ORDER),
    Route(
        "/api/cancel-all-order",
        catalog.MODIFY_ORDER,
        "trading",
        fixed={"modifyOrderOp": 2, "forAll": True, "orderID": 0},
    ),
    Route("/api/reconfirm-order", catalog.RECONFIRM_ORDER, "trading"),
    Route("/api/unlock-trade", catalog.UNLOCK_TRADE, "trading"),
)

ROUTES: Mapping[str, Route] = MappingProxyType({route.path: route for route in _ROUTES})
"""By path."""


_ASSUMED: Mapping[int, Mapping[str, object]] = MappingProxyType(
    {route.proto_id: route.assumed for route in reversed(_ROUTES) if route.assumed}
)


def by_id(name: str) -> Route | None:
    """The route of `BY_ID` for an id or a name of the catalog, as `2202`, `Trd_PlaceOrder`, `trd_place_order` or
    `place_order`; None where no request has it. Which of them a client may ask for is the gate's to say."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) <= 9 else _names().get(_plain(name), 0)
    row = catalog.CATALOG.get(number)
    if row is None or row.direction is not catalog.Direction.REQUEST:
        return None
    return Route(BY_ID.format(name=row.name), row.id, "system", assumed=_ASSUMED.get(row.id, _NOTHING))


@lru_cache(maxsize=256)
def resembling(path: str) -> str | None:
    """The route that was perhaps meant."""
    close = get_close_matches(path[:80], _by_ids() if path.startswith(_BY_IDS) else ROUTES, n=1, cutoff=0.75)
    return close[0] if close else None


@cache
def _by_ids() -> tuple[str, ...]:
    requests = (row for row in catalog.CATALOG.values() if row.direction is catalog.Direction.REQUEST)
    return tuple(BY_ID.format(name=row.name) for row in requests)


@cache
def _names() -> Mapping[str, int]:
    """Every spelling of a request's name → its id; a short name that two requests share is none."""
    requests = [row for row in catalog.CATALOG.values() if row.direction is catalog.Direction.REQUEST]
    short = Counter(_short(row.name) for row in requests)
    names = {_short(row.name): row.id for row in requests if short[_short(row.name)] == 1}
    return names | {_plain(row.name): row.id for row in requests}


def _short(name: str) -> str:
    return _plain(name.partition("_")[2] or name)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
