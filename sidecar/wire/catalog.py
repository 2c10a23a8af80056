"""Every proto id of OpenD, one row an id: its messages, who may use it, where account, market and symbol live.

INVARIANT: one table. An id that is not in it is refused, and no other list of ids exists. Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType


class Direction(Enum):
    REQUEST = "request"
    PUSH = "push"


class Permission(StrEnum):
    """What a key needs for an id, in the words of the policy; which scopes that takes is the policy's business."""

    ANY_KEY = "any_key"
    """Every valid key: global state, notifications, heartbeat."""
    QUOTES = "quotes"
    """`qot:read`."""
    ACCOUNT = "account"
    """`acc:read`; the request or push names one account."""
    ACCOUNT_LIST = "account_list"
    """`acc:read`, or a trade scope for the accounts of its environment; what is listed is narrowed to the key."""
    OWN_ORDERS = "own_orders"
    """`acc:read`, or a trade scope and then narrowed to the key's own orders."""
    TRADE = "trade"
    """The trade scope of the order's environment."""
    UNLOCK = "unlock"
    ADMIN = "admin"
    """`admin`: internals of OpenD, and what changes the user's own lists in the cloud."""
    PERSONAL = "personal"
    """`qot:read` and `acc:read`: watch-lists and alerts of the person behind the account."""
    CONNECTION = "connection"
    """Part of making a connection: answered by the listener, never forwarded as a request."""


_JUDGED = frozenset({Permission.ACCOUNT_LIST, Permission.OWN_ORDERS, Permission.TRADE, Permission.UNLOCK})


@dataclass(frozen=True, slots=True)
class Row:
    """One id. Paths are field names from the message's root, `[]` marks a list, e.g. `c2s.comboLegs[].security`.

    They are paths in `request`, for a push in `response`. `request` and `response` are full message names for
    `messages.message_class`; None where there is none, or none published.
    """

    id: int
    name: str
    direction: Direction
    permission: Permission
    request: str | None
    response: str | None
    env_path: str | None = None
    """TrdEnv of the account, 0 simulate, 1 real."""
    acc_id_path: str | None = None
    trd_market_paths: tuple[str, ...] = ()
    """Trd_Common.TrdMarket: the account's market, or a filter by it. Not the security's."""
    market_paths: tuple[str, ...] = ()
    """Markets as bare numbers: Qot_Common.QotMarket, in orders `secMarket` (Trd_Common.TrdSecMarket)."""
    security_paths: tuple[str, ...] = ()
    """Each leads to a Qot_Common.Security (market and code)."""
    code_paths: tuple[str, ...] = ()
    """Codes as bare text, without a market."""
    order_id_paths: tuple[str, ...] = ()
    """Orders of the account, `orderID` or `orderIDEx`; not positions, not orders in a public order book."""
    all_connections_path: str | None = None
    """A flag by which a request reaches beyond its own connection."""
    shared_limit: tuple[int, int] | None = None
    """Requests and seconds: how many of them OpenD takes in so much time from all its clients together. Only where the
    sidecar asks the same of OpenD; every other limit of OpenD's is left to it."""
    note: str = ""

    @property
    def judged(self) -> bool:
        """Whether the contents must be read before forwarding; else the header is enough."""
        return self.acc_id_path is not None or self.all_connections_path is not None or self.permission in _JUDGED


# The ids that code asks for by name: OpenD's names without their family, but for QOT_SUB.
INIT_WEBSOCKET = 1
WEBSOCKET_OPEND_LOST = 2
INIT_CONNECT = 1001
GET_GLOBAL_STATE = 1002
NOTIFY = 1003
KEEP_ALIVE = 1004
GET_USER_INFO = 1005
GET_DELAY_STATISTICS = 1007
GET_ACC_LIST = 2001
UNLOCK_TRADE = 2005
SUB_ACC_PUSH = 2008
GET_FUNDS = 2101
GET_POSITION_LIST = 2102
GET_MAX_TRD_QTYS = 2111
GET_COMBO_MAX_TRD_QTYS = 2112
GET_ORDER_LIST = 2201
PLACE_ORDER = 2202
MODIFY_ORDER = 2205
TRD_NOTIFY = 2207
UPDATE_ORDER = 2208
RECONFIRM_ORDER = 2209
GET_ORDER_FILL_LIST = 2211
UPDATE_ORDER_FILL = 2218
GET_HISTORY_ORDER_LIST = 2221
GET_HISTORY_ORDER_FILL_LIST = 2222
GET_MARGIN_RATIO = 2223
GET_ORDER_FEE = 2225
FLOW_SUMMARY = 2226
PLACE_COMBO_ORDER = 2227
QOT_SUB = 3001
REG_QOT_PUSH = 3002
GET_SUB_INFO = 3003
GET_BASIC_QOT = 3004
UPDATE_BASIC_QOT = 3005
GET_KL = 3006
UPDATE_KL = 3007
GET_RT = 3008
UPDATE_RT = 3009
GET_TICKER = 3010
UPDATE_TICKER = 3011
GET_ORDER_BOOK = 3012
UPDATE_ORDER_BOOK = 3013
GET_BROKER = 3014
UPDATE_BROKER = 3015
UPDATE_PRICE_REMINDER = 3019
REQUEST_HISTORY_KL = 3103
REQUEST_HISTORY_KL_QUOTA = 3104
GET_STATIC_INFO = 3202
GET_SECURITY_SNAPSHOT = 3203
GET_PLATE_SET = 3204
GET_PLATE_SECURITY = 3205
GET_OPTION_CHAIN = 3209
GET_FUTURE_INFO = 3218
REQUEST_TRADE_DATE = 3219
GET_MARKET_STATE = 3223
SUB_EVENT_CONTRACT = 3455


def _system(proto_id: int, name: str, permission: Permission, note: str = "") -> Row:
    return Row(proto_id, name, Direction.REQUEST, permission, f"{name}.Request", f"{name}.Response", note=note)


def _account(
    proto_id: int,
    name: str,
    permission: Permission = Permission.ACCOUNT,
    *,
    trd_markets: tuple[str, ...] = (),
    market: str | None = None,
    security: str | None = None,
    code: str | None = None,
    orders: tuple[str, ...] = (),
    note: str = "",
) -> Row:
    """A request whose c2s.header is a Trd_Common.TrdHeader."""
    return Row(
        proto_id,
        name,
        Direction.REQUEST,
        permission,
        f"{name}.Request",
        f"{name}.Response",
        env_path="c2s.header.trdEnv",
        acc_id_path="c2s.header.accID",
        trd_market_paths=("c2s.header.trdMarket", *trd_markets),
        market_paths=() if market is None else (market,),
        security_paths=() if security is None else (security,),
        code_paths=() if code is None else (code,),
        order_id_paths=orders,
        note=note,
    )


def _filtered(proto_id: int, name: str, permission: Permission = Permission.ACCOUNT, *, ids: bool = False) -> Row:
    """A list of an account, narrowed by Trd_Common.TrdFilterConditions.

    `ids`: its idList names orders; in the lists of fills and positions it names those.
    """
    by_server_id = "c2s.filterConditions.orderIDExList[]"
    return _account(
        proto_id,
        name,
        permission,
        trd_markets=("c2s.filterConditions.filterMarket",),
        code="c2s.filterConditions.codeList[]",
        orders=("c2s.filterConditions.idList[]", by_server_id) if ids else (by_server_id,),
    )


def _account_push(
    proto_id: int, name: str, permission: Permission, part: str | None, security: str | None = None
) -> Row:
    """A push about one account; `part` is the order or fill in it."""
    return Row(
        proto_id,
        name,
        Direction.PUSH,
        permission,
        None,
        f"{name}.Response",
        env_path="s2c.header.trdEnv",
        acc_id_path="s2c.header.accID",
        trd_market_paths=("s2c.header.trdMarket", f"{part}.trdMarket") if part else ("s2c.header.trdMarket",),
        market_paths=(f"{part}.secMarket",) if part else (),
        security_paths=() if security is None else (security,),
        code_paths=(f"{part}.code",) if part else (),
        order_id_paths=(f"{part}.orderID", f"{part}.orderIDEx") if part else (),
    )


def _quote(
    proto_id: int,
    name: str,
    *securities: str,
    market: str | None = None,
    permission: Permission = Permission.QUOTES,
    shared_limit: tuple[int, int] | None = None,
    note: str = "",
) -> Row:
    return Row(
        proto_id,
        name,
        Direction.REQUEST,
        permission,
        f"{name}.Request",
        f"{name}.Response",
        market_paths=() if market is None else (market,),
        security_paths=securities,
        shared_limit=shared_limit,
        note=note,
    )


def _quote_push(
    proto_id: int, name: str, *securities: str, permission: Permission = Permission.QUOTES, note: str = ""
) -> Row:
    return Row(
        proto_id, name, Direction.PUSH, permission, None, f"{name}.Response", security_paths=securities, note=note
    )


def _skill(proto_id: int, name: str) -> Row:
    """The analyses of SkillWrapAPI: requests without a c2s, the symbol is free text."""
    return Row(
        proto_id,
        f"SkillWrap_{name}",
        Direction.REQUEST,
        Permission.QUOTES,
        f"SkillWrapAPI.{name}Req",
        f"SkillWrapAPI.{name}Rsp",
        code_paths=("stock_symbol",),
    )


_ROWS: tuple[Row, ...] = (
    # the WebSocket transit's own commands; their messages are not in the Python package
    Row(INIT_WEBSOCKET, "InitWebSocket", Direction.REQUEST, Permission.CONNECTION, None, None),
    Row(WEBSOCKET_OPEND_LOST, "WS_OpenDDisconnect", Direction.PUSH, Permission.CONNECTION, None, None),
    # system
    _system(INIT_CONNECT, "InitConnect", Permission.CONNECTION),
    _system(GET_GLOBAL_STATE, "GetGlobalState", Permission.ANY_KEY),
    Row(NOTIFY, "Notify", Direction.PUSH, Permission.ANY_KEY, None, "Notify.Response"),
    _system(KEEP_ALIVE, "KeepAlive", Permission.ANY_KEY),
    _system(GET_USER_INFO, "GetUserInfo", Permission.ADMIN, "who the user is"),
    _system(1006, "Verification", Permission.ADMIN, "answers the login's verification code"),
    _system(GET_DELAY_STATISTICS, "GetDelayStatistics", Permission.ADMIN),
    _system(1008, "TestCmd", Permission.ADMIN, "an internal command in free form"),
    Row(
        1009, "InitQuantMode", Direction.REQUEST, Permission.ADMIN, None, None, note="internal; messages not published"
    ),
    # accounts and orders
    _system(GET_ACC_LIST, "Trd_GetAccList", Permission.ACCOUNT_LIST),
    _system(
        UNLOCK_TRADE, "Trd_UnlockTrade", Permission.UNLOCK, "unlocks or locks trading for every connection of OpenD"
    ),
    Row(
        SUB_ACC_PUSH,
        "Trd_SubAccPush",
        Direction.REQUEST,
        Permission.ACCOUNT_LIST,
        "Trd_SubAccPush.Request",
        "Trd_SubAccPush.Response",
        acc_id_path="c2s.accIDList[]",
        note="replaces the list of accounts whose pushes this connection receives",
    ),
    _account(GET_FUNDS, "Trd_GetFunds"),
    _filtered(GET_POSITION_LIST, "Trd_GetPositionList"),
    _account(
        GET_MAX_TRD_QTYS,
        "Trd_GetMaxTrdQtys",
        market="c2s.secMarket",
        code="c2s.code",
        orders=("c2s.orderID", "c2s.orderIDEx"),
    ),
    _account(
        GET_COMBO_MAX_TRD_QTYS, "Trd_GetComboMaxTrdQtys", security="c2s.comboLegs[].security", orders=("c2s.orderIDEx",)
    ),
    _filtered(GET_ORDER_LIST, "Trd_GetOrderList", Permission.OWN_ORDERS, ids=True),
    _account(
        PLACE_ORDER, "Trd_PlaceOrder", Permission.TRADE, market="c2s.secMarket", code="c2s.code", note="places an order"
    ),
    _account(
        MODIFY_ORDER,
        "Trd_ModifyOrder",
        Permission.TRADE,
        trd_markets=("c2s.trdMarket",),
        orders=("c2s.orderID", "c2s.orderIDEx"),
        note="changes, cancels, disables, enables or deletes one order or all",
    ),
    _account_push(TRD_NOTIFY, "Trd_Notify", Permission.OWN_ORDERS, None),
    _account_push(
        UPDATE_ORDER, "Trd_UpdateOrder", Permission.OWN_ORDERS, "s2c.order", "s2c.order.comboLegs[].security"
    ),
    _account(RECONFIRM_ORDER, "Trd_ReconfirmOrder", Permission.ADMIN, orders=("c2s.orderID",), note="legacy"),
    _filtered(GET_ORDER_FILL_LIST, "Trd_GetOrderFillList", Permission.OWN_ORDERS),
    _account_push(UPDATE_ORDER_FILL, "Trd_UpdateOrderFill", Permission.OWN_ORDERS, "s2c.orderFill"),
    _filtered(GET_HISTORY_ORDER_LIST, "Trd_GetHistoryOrderList", ids=True),
    _filtered(GET_HISTORY_ORDER_FILL_LIST, "Trd_GetHistoryOrderFillList"),
    _account(GET_MARGIN_RATIO, "Trd_GetMarginRatio", security="c2s.securityList[]"),
    _account(GET_ORDER_FEE, "Trd_GetOrderFee", orders=("c2s.orderIdExList[]",)),
    _account(FLOW_SUMMARY, "Trd_FlowSummary"),
    _account(
        PLACE_COMBO_ORDER,
        "Trd_PlaceComboOrder",
        Permission.TRADE,
        security="c2s.comboLegs[].security",
        note="places an order over several legs",
    ),
    # quotes
    _quote(
        QOT_SUB,
        "Qot_Sub",
        "c2s.securityList[]",
        note="uses subscription quota, shared by all of the user's connections",
    ),
    _quote(REG_QOT_PUSH, "Qot_RegQotPush", "c2s.securityList[]", note="registers pushes on this connection"),
    Row(
        GET_SUB_INFO,
        "Qot_GetSubInfo",
        Direction.REQUEST,
        Permission.QUOTES,
        "Qot_GetSubInfo.Request",
        "Qot_GetSubInfo.Response",
        all_connections_path="c2s.isReqAllConn",
        note="with isReqAllConn shows the subscriptions of every connection",
    ),
    _quote(GET_BASIC_QOT, "Qot_GetBasicQot", "c2s.securityList[]"),
    _quote_push(UPDATE_BASIC_QOT, "Qot_UpdateBasicQot", "s2c.basicQotList[].security"),
    _quote(GET_KL, "Qot_GetKL", "c2s.security"),
    _quote_push(UPDATE_KL, "Qot_UpdateKL", "s2c.security"),
    _quote(GET_RT, "Qot_GetRT", "c2s.security"),
    _quote_push(UPDATE_RT, "Qot_UpdateRT", "s2c.security"),
    _quote(GET_TICKER, "Qot_GetTicker", "c2s.security"),
    _quote_push(UPDATE_TICKER, "Qot_UpdateTicker", "s2c.security"),
    _quote(GET_ORDER_BOOK, "Qot_GetOrderBook", "c2s.security"),
    _quote_push(UPDATE_ORDER_BOOK, "Qot_UpdateOrderBook", "s2c.security"),
    _quote(GET_BROKER, "Qot_GetBroker", "c2s.security"),
    _quote_push(UPDATE_BROKER, "Qot_UpdateBroker", "s2c.security"),
    _quote_push(
        UPDATE_PRICE_REMINDER,
        "Qot_UpdatePriceReminder",
        "s2c.security",
        permission=Permission.PERSONAL,
        note="a price reminder of the user fired",
    ),
    _quote(3100, "Qot_GetHistoryKL", "c2s.security"),
    _quote(3101, "Qot_GetHistoryKLPoints", "c2s.securityList[]"),
    _quote(3102, "Qot_GetRehab", "c2s.securityList[]"),
    _quote(REQUEST_HISTORY_KL, "Qot_RequestHistoryKL", "c2s.security", note="uses the history quota"),
    _quote(REQUEST_HISTORY_KL_QUOTA, "Qot_RequestHistoryKLQuota"),
    _quote(3105, "Qot_RequestRehab", "c2s.security"),
    Row(
        3200,
        "Qot_GetTradeDate",
        Direction.REQUEST,
        Permission.QUOTES,
        None,
        None,
        note="its messages are not published",
    ),
    _quote(3201, "Qot_GetSuspend", "c2s.securityList[]"),
    _quote(GET_STATIC_INFO, "Qot_GetStaticInfo", "c2s.securityList[]", market="c2s.market"),
    _quote(GET_SECURITY_SNAPSHOT, "Qot_GetSecuritySnapshot", "c2s.securityList[]", shared_limit=(60, 30)),
    _quote(GET_PLATE_SET, "Qot_GetPlateSet", market="c2s.market"),
    _quote(GET_PLATE_SECURITY, "Qot_GetPlateSecurity", "c2s.plate"),
    _quote(3206, "Qot_GetReference", "c2s.security"),
    _quote(3207, "Qot_GetOwnerPlate", "c2s.securityList[]"),
    _quote(3208, "Qot_GetHoldingChangeList", "c2s.security"),
    _quote(GET_OPTION_CHAIN, "Qot_GetOptionChain", "c2s.owner"),
    _quote(3210, "Qot_GetWarrant", "c2s.owner"),
    _quote(3211, "Qot_GetCapitalFlow", "c2s.security"),
    _quote(3212, "Qot_GetCapitalDistribution", "c2s.security"),
    _quote(3213, "Qot_GetUserSecurity", permission=Permission.PERSONAL, note="the user's watch-list"),
    _quote(
        3214,
        "Qot_ModifyUserSecurity",
        "c2s.securityList[]",
        permission=Permission.ADMIN,
        note="changes the user's watch-list in the cloud",
    ),
    _quote(3215, "Qot_StockFilter", "c2s.plate", market="c2s.market"),
    _quote(3216, "Qot_GetCodeChange", "c2s.securityList[]"),
    _quote(3217, "Qot_GetIpoList", market="c2s.market"),
    _quote(GET_FUTURE_INFO, "Qot_GetFutureInfo", "c2s.securityList[]", shared_limit=(30, 30)),
    _quote(REQUEST_TRADE_DATE, "Qot_RequestTradeDate", "c2s.security", market="c2s.market"),
    _quote(
        3220,
        "Qot_SetPriceReminder",
        "c2s.security",
        permission=Permission.ADMIN,
        note="sets or deletes price reminders in the cloud",
    ),
    _quote(
        3221,
        "Qot_GetPriceReminder",
        "c2s.security",
        market="c2s.market",
        permission=Permission.PERSONAL,
        note="the user's price reminders",
    ),
    _quote(3222, "Qot_GetUserSecurityGroup", permission=Permission.PERSONAL, note="the user's watch-list groups"),
    _quote(GET_MARKET_STATE, "Qot_GetMarketState", "c2s.securityList[]", shared_limit=(10, 30)),
    _quote(3224, "Qot_GetOptionExpirationDate", "c2s.owner"),
    _quote(3225, "Qot_GetFinancialsEarningsPriceMove", "c2s.security"),
    _quote(3226, "Qot_GetFinancialsEarningsPriceHistory", "c2s.security"),
    _quote(3227, "Qot_GetFinancialsStatements", "c2s.security"),
    _quote(3228, "Qot_GetFinancialsRevenueBreakdown", "c2s.security"),
    _quote(3229, "Qot_GetResearchAnalystConsensus", "c2s.security"),
    _quote(3230, "Qot_GetResearchRatingSummary", "c2s.security"),
    _quote(3231, "Qot_GetResearchMorningstarReport", "c2s.security"),
    _quote(3232, "Qot_GetValuationDetail", "c2s.security"),
    _quote(3233, "Qot_GetValuationPlateStockList", "c2s.security", "c2s.filterSecurity"),
    _quote(3234, "Qot_GetCorporateActionsDividends", "c2s.security"),
    _quote(3235, "Qot_GetCorporateActionsBuybacks", "c2s.security"),
    _quote(3236, "Qot_GetCorporateActionsStockSplits", "c2s.security"),
    _quote(3237, "Qot_GetShareholdersOverview", "c2s.security"),
    _quote(3238, "Qot_GetShareholdersHoldingChanges", "c2s.security"),
    _quote(3239, "Qot_GetShareholdersHolderDetail", "c2s.security"),
    _quote(3240, "Qot_GetShareholdersInstitutional", "c2s.security"),
    _quote(3241, "Qot_GetInsiderHolderList", "c2s.security"),
    _quote(3242, "Qot_GetInsiderTradeList", "c2s.security"),
    _quote(3243, "Qot_GetCompanyProfile", "c2s.security"),
    _quote(3244, "Qot_GetCompanyExecutives", "c2s.security"),
    _quote(3245, "Qot_GetCompanyExecutiveBackground", "c2s.security"),
    _quote(3246, "Qot_GetCompanyOperationalEfficiency", "c2s.security"),
    _quote(3247, "Qot_GetTopTenBuySellBrokers", "c2s.security"),
    _quote(3248, "Qot_GetDailyShortVolume", "c2s.security"),
    _quote(3249, "Qot_GetShortInterest", "c2s.security"),
    _quote(3250, "Qot_GetOptionVolatility", "c2s.security"),
    _quote(3251, "Qot_GetOptionExerciseProbability", "c2s.security"),
    _quote(3252, "Qot_StockScreen"),
    _quote(3253, "Qot_OptionScreen"),
    _quote(3254, "Qot_WarrantScreen"),
    _quote(3255, "Qot_GetOptionQuote", "c2s.multi_legs[].security"),
    _quote(3256, "Qot_GetOptionStrategy", "c2s.owner"),
    _quote(3257, "Qot_GetOptionStrategyAnalysis", "c2s.multi_legs[].security"),
    _quote(3258, "Qot_GetOptionStrategySpread", "c2s.owner"),
    _quote(3259, "Qot_GetIndicatorList"),
    _quote(3260, "Qot_RequestIndicatorCalc", "c2s.data.security", note="starts a job whose result comes as push 3261"),
    _quote_push(3261, "Qot_PushIndicatorCalc"),
    _quote(3262, "Qot_GetSearchQuote"),
    _quote(3263, "Qot_GetSearchNews"),
    _quote(3301, "Qot_GetOptionMarketStatistic"),
    _quote(3302, "Qot_GetOptionUnderlyingHisStatistic", "c2s.owner"),
    _quote(3303, "Qot_GetOptionUnderlyingOverview", "c2s.ownerList[]"),
    _quote(3304, "Qot_GetOptionUnderlyingHisVolatility", "c2s.owner"),
    _quote(3305, "Qot_GetOptionUnderlyingRank", "c2s.filterList[].indicatorValue.securityList[]"),
    _quote(3306, "Qot_GetOptionRank", "c2s.filterList[].indicatorValue.securityList[]"),
    _quote(3307, "Qot_GetOptionEvent", "c2s.filterList[].indicatorValue.securityList[]"),
    _quote(3308, "Qot_GetOptionEventAlert", permission=Permission.PERSONAL, note="the user's option alerts"),
    _quote(
        3309,
        "Qot_SetOptionEventAlert",
        "c2s.alertList[].underlying",
        permission=Permission.ADMIN,
        note="changes option alerts in the cloud",
    ),
    _quote_push(3310, "Qot_UpdateOptionEvent", "s2c.owner", "s2c.option"),
    _quote(3311, "Qot_GetOptionZeroDteScreener", "c2s.filterList[].indicatorValue.securityList[]"),
    _quote(
        3312,
        "Qot_GetOptionZeroDteContract",
        "c2s.owner",
        "c2s.chainInfo.underlying",
        "c2s.filterList[].indicatorValue.securityList[]",
    ),
    _quote(3313, "Qot_GetOptionEarningsScreener", "c2s.filterList[].indicatorValue.securityList[]"),
    _quote(3314, "Qot_GetOptionSellerScreener", "c2s.filterList[].indicatorValue.securityList[]"),
    _quote(3401, "Qot_GetEarningsCalendar", "c2s.filterList[].indicatorValue.securityList[]", market="c2s.market"),
    _quote(3402, "Qot_GetMacroIndicatorList"),
    _quote(3403, "Qot_GetMacroIndicatorHistory"),
    _quote(3404, "Qot_GetFedWatchTargetRate"),
    _quote(3405, "Qot_GetFedWatchDotPlot"),
    _quote(3406, "Qot_GetEarningsBeatRank", market="c2s.market"),
    _quote(3407, "Qot_GetDividendRank", "c2s.filterList[].indicatorValue.securityList[]", market="c2s.market"),
    _quote(3408, "Qot_GetDividendCalendar", market="c2s.market"),
    _quote(3409, "Qot_GetEconomicCalendar", market="c2s.marketList[]"),
    _quote(3410, "Qot_GetUSPreMarketRank"),
    _quote(3411, "Qot_GetUSAfterHoursRank"),
    _quote(3412, "Qot_GetUSOvernightRank"),
    _quote(3413, "Qot_GetTopMoversRank", market="c2s.market"),
    _quote(3414, "Qot_GetHotList", market="c2s.market"),
    _quote(3415, "Qot_GetShortSellingRank", "c2s.plateList[]", market="c2s.market"),
    _quote(3416, "Qot_GetPeriodChangeRank", market="c2s.market"),
    _quote(3417, "Qot_GetHighDividendSOERank"),
    _quote(3418, "Qot_GetInstitutionList", market="c2s.market"),
    _quote(3419, "Qot_GetInstitutionProfile", market="c2s.market"),
    _quote(3420, "Qot_GetInstitutionDistribution", market="c2s.market"),
    _quote(3421, "Qot_GetInstitutionHoldingChange", market="c2s.market"),
    _quote(3422, "Qot_GetInstitutionHoldingList", market="c2s.market"),
    _quote(3423, "Qot_GetArkFundHolding"),
    _quote(3424, "Qot_GetArkStockDynamic", "c2s.security"),
    _quote(3425, "Qot_GetArkActiveTransaction"),
    _quote(3426, "Qot_GetRatingChange", market="c2s.market"),
    _quote(3427, "Qot_GetIndustrialChainList", market="c2s.market"),
    _quote(3428, "Qot_GetIndustrialChainDetail"),
    _quote(3429, "Qot_GetIndustrialChainByPlate"),
    _quote(3430, "Qot_GetIndustrialPlateInfo"),
    _quote(3431, "Qot_GetIndustrialPlateStock", market="c2s.marketList[]"),
    _quote(3432, "Qot_GetHeatMapData", market="c2s.market"),
    _quote(3433, "Qot_GetRiseFallDistribution", "c2s.security", market="c2s.market"),
    _quote(3434, "Qot_GetEventContractCategory"),
    _quote(3435, "Qot_FilterCompetition"),
    _quote(3436, "Qot_GetEventContractSeriesList"),
    _quote(3437, "Qot_GetEventContractEventList", "c2s.series"),
    _quote(3438, "Qot_GetEventContract", "c2s.event"),
    _quote(3439, "Qot_GetEventContractMilestoneList", "c2s.relatedEvent"),
    _quote(3445, "Qot_GetEventContractSnapshot", "c2s.securityList[]"),
    _quote(3446, "Qot_GetEventContractOrderBook", "c2s.security"),
    _quote(3447, "Qot_GetEventContractKline", "c2s.security"),
    _quote(3448, "Qot_GetEventContractTicker", "c2s.security"),
    _quote_push(3450, "Qot_UpdateEventContractOrderBook", "s2c.orderBookList[].code"),
    _quote_push(3451, "Qot_UpdateEventContractKline", "s2c.klineList[].code"),
    _quote_push(3452, "Qot_UpdateEventContractTicker", "s2c.tickerList[].code"),
    _quote(3453, "Qot_GetEventContractComboList", "c2s.series"),
    _quote(
        3454,
        "Qot_GetEventContractComboRfq",
        "c2s.comboLegList[].security",
        note="asks the market for a combo quote, whose quoteID 2227 may use",
    ),
    _quote(SUB_EVENT_CONTRACT, "Qot_SubEventContract", "c2s.securityList[]", note="uses subscription quota"),
    _quote(3456, "Qot_RequestHistoryEventContractKL", "c2s.security", note="may use the history quota"),
    _skill(3801, "TechnicalUnusual"),
    _skill(3802, "FinancialUnusual"),
    _skill(3803, "DerivativeUnusual"),
)

CATALOG: Mapping[int, Row] = MappingProxyType({row.id: row for row in _ROWS})

PUSH_IDS = frozenset(row.id for row in _ROWS if row.direction is Direction.PUSH)
"""For paths that look at every header."""

_BY_NAME = {row.name: row for row in _ROWS}


def by_name(name: str) -> Row | None:
    """The row of e.g. `Trd_PlaceOrder`; None for a name that is not in the table."""
    return _BY_NAME.get(name)
