"""The tools of the MCP door: name, request, arguments, and how these fill the request. Asks nobody, decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from sidecar.border import closest, shown
from sidecar.errors import BodyError
from sidecar.listeners import mcp_arguments as a
from sidecar.listeners.mcp_arguments import Argument
from sidecar.wire import catalog

Values = dict[str, Any]
Tree = dict[str, Any]
Effect = Literal["read", "subscription", "order", "cancel", "unlock"]

_NOTHING: Mapping[str, object] = MappingProxyType({})

DRY_RUN, IDEMPOTENCY_KEY = "dry_run", "idempotency_key"


def _nothing_more(values: Values, c2s: Tree) -> None:
    """Most arguments fill one field each."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `proto_id` 0: it is answered without a request to OpenD."""

    name: str
    proto_id: int
    says: str
    """What the model is told of it."""
    arguments: tuple[Argument, ...] = ()
    effect: Effect = "read"
    fixed: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    """Fields of c2s that make it what it is."""
    assumed: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    """Fields of c2s that it has where no argument fills them."""
    complete: Callable[[Values, Tree], None] = _nothing_more
    """Fills what takes more than one argument to know. Raises BodyError."""
    sub_type: Callable[[Values], int] | None = None
    """The Qot_Common.SubType its data come by: OpenD answers only what the connection has subscribed."""

    def schema(self) -> a.Schema:
        """The JSON Schema of its arguments."""
        return {
            "type": "object",
            "properties": {each.name: each.schema for each in self.arguments},
            "required": [each.name for each in self.arguments if each.required],
            "additionalProperties": False,
        }

    def read(self, arguments: Mapping[str, Any]) -> Values:
        """The arguments by name, each as the request has it; null is as good as absent. Raises BodyError."""
        known = {spelling: each for each in self.arguments for spelling in (each.name, *each.aliases)}
        values: Values = {}
        for name, value in arguments.items():
            argument = known.get(name)
            if argument is None:
                said = f"unknown argument {shown(name)}{closest(name, known)}; {self._takes()}"
                raise BodyError("unknown_field", said)
            if value is None:
                continue
            if argument.name in values:
                raise BodyError("malformed_request", f"argument `{argument.name}` is given twice, once as `{name}`")
            values[argument.name] = argument.read(value)
        missing = [each.name for each in self.arguments if each.required and each.name not in values]
        if missing:
            raise BodyError("malformed_request", f"argument {_listed(missing)} is missing; {self._takes()}")
        return values

    def c2s(self, values: Values) -> Tree:
        """The request's c2s as a tree of JSON values. Raises BodyError."""
        tree: Tree = {}
        for argument in self.arguments:
            if argument.into and argument.name in values:
                _put(tree, argument.into, values[argument.name])
        self.complete(values, tree)
        return tree

    def _takes(self) -> str:
        if not self.arguments:
            return f"{self.name} takes none"
        return f"{self.name} takes {_listed(each.name for each in self.arguments)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _put(tree: Tree, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


# -- what takes more than one argument -------------------------------------------------------------------------------


def _account_of_symbol(values: Values, c2s: Tree) -> None:
    """An order names the market of its account, which the symbol mostly tells."""
    if "market" in values:
        return
    prefix = values["symbol"].partition(".")[0]
    choices = a.TRADED_IN.get(prefix, ())
    if len(choices) != 1:
        which = " or ".join(f"`{one}`" for one in choices) or "the account's"
        said = f"argument `market` is missing: a symbol with `{prefix}.` leaves it open; give {which}"
        raise BodyError("malformed_request", said)
    _put(c2s, "header.trdMarket", a.TRD_MARKET[choices[0]])


def _one_order(values: Values, c2s: Tree) -> None:
    if "order_id" not in values and "order_id_ex" not in values:
        raise BodyError("malformed_request", "argument `order_id` is missing; give it, or `order_id_ex`")


def _some_codes(values: Values, c2s: Tree) -> None:
    """OpenD filters by bare codes."""
    if "symbols" in values:
        codes = [symbol.partition(".")[2] for symbol in values["symbols"]]
        c2s.setdefault("filterConditions", {})["codeList"] = codes


def _all_or_some(values: Values, c2s: Tree) -> None:
    if values.get("all"):
        if "symbols" in values or "sub_types" in values:
            raise BodyError("malformed_request", "argument `all` ends every subscription; give no others beside it")
    elif "symbols" not in values or "sub_types" not in values:
        raise BodyError("malformed_request", "argument `symbols` or `sub_types` is missing; give both, or `all`: true")


def _listed_or_market(values: Values, c2s: Tree) -> None:
    if ("symbols" in values) == ("market" in values):
        raise BodyError("malformed_request", "give either `symbols`, or `market` and `sec_type`")


def _sub(name: str) -> Callable[[Values], int]:
    return lambda values: a.SUB_TYPE[name]


def _sub_of_kline(values: Values) -> int:
    name = next(name for name, number in a.KL_TYPE.items() if number == values["kl_type"])
    return a.SUB_TYPE[name]


# -- arguments that many share ---------------------------------------------------------------------------------------

_SYMBOL = Argument("symbol", a.Symbol, "security", "Market and code, e.g. `HK.00700`, `US.AAPL`, `SH.600519`.")
_SYMBOLS = Argument("symbols", a.Symbols, "securityList", 'Market and code of each, e.g. ["HK.00700", "US.AAPL"].')
_ONE = (_SYMBOL,)
_SEVERAL = (_SYMBOLS,)
_BEGIN = Argument("begin", a.Date, "beginTime", "First day, `YYYY-MM-DD`, in the market's time.")
_END = Argument("end", a.Date, "endTime", "Last day, `YYYY-MM-DD`, in the market's time.")
_KL_TYPE = Argument("kl_type", a.word(a.KL_TYPE), "klType", "What one bar covers, e.g. `K_DAY`, `K_1M` (a minute).")
_REHAB = Argument(
    "rehab_type", a.word(a.REHAB_TYPE), "rehabType",
    "Price adjustment: `NONE`, `QFQ` (forward, the default), `HFQ` (backward).", required=False,
)  # fmt: skip
_QOT_MARKET = Argument("market", a.word(a.QOT_MARKET), "market", "Market of the securities, e.g. `HK`, `US`, `SH`.")

_ACC_ID = Argument(
    "acc_id",
    a.BigId,
    "header.accID",
    "Account id as text, from `futu_list_accounts` (`acc_id`): it has up to 20 digits.",
)
_TRD_ENV = Argument(
    "trd_env", a.word(a.TRD_ENV), "header.trdEnv", "`SIMULATE` for paper accounts, `REAL` for real money. Not guessed.",
    aliases=("env",),
)  # fmt: skip
_MARKET = Argument(
    "market", a.word(a.TRD_MARKET), "header.trdMarket",
    "Trading market of the account, one of its `trd_market_auth_list`, e.g. `HK`, `US`, `HKCC` (Stock Connect).",
)  # fmt: skip
_MARKET_OF_SYMBOL = Argument(
    "market", a.word(a.TRD_MARKET), "header.trdMarket",
    "Trading market of the account. Left out, the symbol tells it; `SH.` and `SZ.` need it (`CN` or `HKCC`), futures too.",
    required=False,
)  # fmt: skip
_ACCOUNT = (_ACC_ID, _TRD_ENV, _MARKET)
_REFRESH = Argument(
    "refresh_cache", a.Flag, "refreshCache", "true asks the broker anew; rarely needed.", required=False
)
_CODES = Argument("symbols", a.Symbols, "", "Only these securities.", required=False)
_STATUSES = Argument(
    "statuses", a.words(a.ORDER_STATUS), "filterStatusList", 'Only orders in these states, e.g. ["SUBMITTED"].',
    required=False,
)  # fmt: skip
_ORDER_BEGIN = Argument("begin", a.Date, "filterConditions.beginTime", "From, in the market's time.")
_ORDER_END = Argument("end", a.Date, "filterConditions.endTime", "Until, in the market's time.")

_ORDERED_SYMBOL = Argument("symbol", a.Symbol, "code", "Market and code, e.g. `HK.00700`.")
_PRICE_SAYS = "Price of one unit in the security's currency. Order types without a price need none."
_PRICE = Argument("price", a.Number, "price", _PRICE_SAYS, required=False)
_AUX_PRICE = Argument("aux_price", a.Number, "auxPrice", "Trigger price of stop and if-touched orders.", required=False)
_TRAILS = (
    Argument(
        "trail_type", a.word(a.TRAIL_TYPE), "trailType", "Of trailing stops: `RATIO` or `AMOUNT`.", required=False
    ),
    Argument("trail_value", a.Number, "trailValue", "Of trailing stops: percent, or money per unit.", required=False),
    Argument("trail_spread", a.Number, "trailSpread", "Of trailing stop limits: the limit's distance.", required=False),
)
_ORDER_ID = Argument(
    "order_id", a.BigId, "orderID", "The order, as `order_id` of `futu_get_orders` tells it.", required=False
)
_ORDER_ID_EX = Argument("order_id_ex", a.Text, "orderIDEx", "The order by its other id, `order_id_ex`.", required=False)
_DRY_RUN = Argument(
    DRY_RUN, a.Flag, "", "true: decide and tell every check, but send nothing and use nothing up.", required=False
)
_ONCE = Argument(
    IDEMPOTENCY_KEY, a.Text, "",
    "Your own name for this one request, up to 255 characters without spaces. Repeated with the same name it is not sent "
    "again, but answered as the first time: use it when you may have to repeat.",
    required=False,
)  # fmt: skip

_ANSWERED_ON_SUBSCRIPTION = " Subscribes the security where needed, which uses the account's subscription quota."


def _count(name: str, into: str, most: int, of_what: str, usual: int) -> Argument:
    return Argument(name, a.whole(1, most), into, f"{of_what}, 1 to {most}; {usual} if left out.", required=False)


_QUOTES = (
    Tool("futu_ping", catalog.GET_GLOBAL_STATE, "Whether OpenD is logged in, its time, and the state of each market.",
         fixed={"userID": 0}),
    Tool("futu_get_quote", catalog.GET_BASIC_QOT,
         "Latest price, day's range, volume and turnover of up to 400 securities." + _ANSWERED_ON_SUBSCRIPTION,
         _SEVERAL, sub_type=_sub("QUOTE")),
    Tool("futu_get_snapshot", catalog.GET_SECURITY_SNAPSHOT,
         "Snapshot of up to 400 securities with valuation figures; needs no subscription.", _SEVERAL),
    Tool("futu_get_kline", catalog.GET_KL,
         "The latest candlesticks of one security, the newest last." + _ANSWERED_ON_SUBSCRIPTION,
         (_SYMBOL, _KL_TYPE, _count("num", "reqNum", 1000, "Number of bars", 100), _REHAB),
         assumed={"rehabType": 1, "reqNum": 100}, sub_type=_sub_of_kline),
    Tool("futu_get_history_kline", catalog.REQUEST_HISTORY_KL,
         "Candlesticks of a span of time; needs no subscription, but uses the account's quota of historical securities.",
         (_SYMBOL, _KL_TYPE, _BEGIN, _END, _REHAB, _count("max_num", "maxAckKLNum", 1000, "Most bars", 1000),
          Argument("next_req_key", a.Text, "nextReqKey", "From the last answer, for the bars after it.", required=False),
          Argument("extended_time", a.Flag, "extendedTime", "US: with the time before and after the session.", required=False),
          Argument("session", a.word(a.SESSION), "session", "US: part of the trading day.", required=False)),
         assumed={"rehabType": 1, "maxAckKLNum": 1000}),
    Tool("futu_get_orderbook", catalog.GET_ORDER_BOOK,
         "Bids and asks of one security, best first." + _ANSWERED_ON_SUBSCRIPTION,
         (_SYMBOL, _count("num", "num", 60, "Number of price levels", 10)), assumed={"num": 10},
         sub_type=_sub("ORDER_BOOK")),
    Tool("futu_get_ticker", catalog.GET_TICKER,
         "The latest single trades of one security." + _ANSWERED_ON_SUBSCRIPTION,
         (_SYMBOL, _count("num", "maxRetNum", 1000, "Number of trades", 100)), assumed={"maxRetNum": 100},
         sub_type=_sub("TICKER")),
    Tool("futu_get_rt", catalog.GET_RT,
         "Today's price and volume of one security, minute by minute." + _ANSWERED_ON_SUBSCRIPTION,
         _ONE, sub_type=_sub("RT_DATA")),
    Tool("futu_get_static", catalog.GET_STATIC_INFO,
         "Name, type, lot size and listing date: of the securities named, or of all of one type in one market.",
         (Argument("symbols", a.Symbols, "securityList", _SYMBOLS.description, required=False),
          Argument("market", a.word(a.QOT_MARKET), "market", "All securities of this market, with `sec_type`.", required=False),
          Argument("sec_type", a.word(a.SECURITY_TYPE), "secType", "Type of security, e.g. `STOCK`, `ETF`.", required=False)),
         complete=_listed_or_market),
    Tool("futu_get_broker", catalog.GET_BROKER,
         "Broker queue of one Hong Kong security." + _ANSWERED_ON_SUBSCRIPTION, _ONE, sub_type=_sub("BROKER")),
    Tool("futu_list_plates", catalog.GET_PLATE_SET, "Industry, concept or regional groups (plates) of a market.",
         (_QOT_MARKET,
          Argument("plate_type", a.word(a.PLATE_SET), "plateSetType", "`ALL` if left out.", required=False)),
         assumed={"plateSetType": 0}),
    Tool("futu_plate_stocks", catalog.GET_PLATE_SECURITY, "The securities of one plate.",
         (Argument("plate", a.Symbol, "plate", "The plate, e.g. `HK.BK1001`, from `futu_list_plates`."),)),
    Tool("futu_get_market_state", catalog.GET_MARKET_STATE, "Whether the market of each security is open.", _SEVERAL),
    Tool("futu_trading_days", catalog.REQUEST_TRADE_DATE, "Trading days of a market between two days.",
         (Argument("market", a.word(a.TRADE_DATE_MARKET), "market", "Market, e.g. `HK`, `US`, `CN`."), _BEGIN, _END,
          Argument("symbol", a.Symbol, "security", "Trading days of this security instead.", required=False))),
    Tool("futu_get_option_chain", catalog.GET_OPTION_CHAIN, "Options of one underlying that expire in a span of at most 30 days.",
         (Argument("symbol", a.Symbol, "owner", "The underlying, e.g. `US.AAPL`."),
          Argument("begin", a.Date, "beginTime", "First day of expiry, `YYYY-MM-DD`."),
          Argument("end", a.Date, "endTime", "Last day of expiry, `YYYY-MM-DD`."),
          Argument("option_type", a.word(a.OPTION_TYPE), "type", "`CALL`, `PUT` or `ALL`.", required=False),
          Argument("condition", a.word(a.OPTION_CONDITION), "condition", "`WITHIN` (in the money) or `OUTSIDE`.", required=False))),
    Tool("futu_get_capital_flow", 3211, "Money that flowed into and out of one security.",
         (_SYMBOL,
          Argument("period", a.word(a.PERIOD), "periodType", "`INTRADAY` if left out.", required=False),
          Argument("begin", a.Date, "beginTime", "First day, not with `INTRADAY`.", required=False),
          Argument("end", a.Date, "endTime", "Last day, not with `INTRADAY`.", required=False))),
    Tool("futu_get_capital_distribution", 3212,
         "Today's flow of money into one security by size of order.", _ONE),
    Tool("futu_get_owner_plate", 3207, "The plates that each security belongs to.", _SEVERAL),
    Tool("futu_get_reference", 3206, "Securities related to one: its warrants or its futures.",
         (_SYMBOL, Argument("reference_type", a.word(a.REFERENCE), "referenceType", "`WARRANT` or `FUTURE`."))),
    Tool("futu_get_warrant", 3210, "Hong Kong warrants, sorted and page by page.",
         (Argument("symbol", a.Symbol, "owner", "Only warrants on this underlying.", required=False),
          Argument("begin", a.whole(0, 100_000), "begin", "Number of the first, from 0.", required=False),
          _count("num", "num", 200, "Most warrants", 50),
          Argument("sort_by", a.word(a.WARRANT_ORDER), "sortField", "`CODE` if left out.", required=False),
          Argument("ascending", a.Flag, "ascend", "true if left out.", required=False),
          Argument("types", a.words(a.WARRANT_TYPE), "typeList", 'Only these, e.g. ["CALL"].', required=False)),
         assumed={"begin": 0, "num": 50, "sortField": 1, "ascend": True}),
    Tool("futu_get_ipo_list", 3217, "New listings of a market.", (_QOT_MARKET,)),
    Tool("futu_get_future_info", catalog.GET_FUTURE_INFO, "Contract terms of futures.", _SEVERAL),
    Tool("futu_subscribe", catalog.QOT_SUB,
         "Keep real-time data of securities at hand. Reading tools subscribe by themselves, so this is seldom needed. "
         "Each pair of security and type uses one of the account's quota for at least a minute.",
         (_SYMBOLS, Argument("sub_types", a.words(a.SUB_TYPE), "subTypeList", 'E.g. ["QUOTE", "K_DAY"].')),
         effect="subscription", fixed={"isSubOrUnSub": True}),
    Tool("futu_unsubscribe", catalog.QOT_SUB, "End subscriptions of this key, at least a minute after they began.",
         (Argument("symbols", a.Symbols, "securityList", _SYMBOLS.description, required=False),
          Argument("sub_types", a.words(a.SUB_TYPE), "subTypeList", 'E.g. ["QUOTE", "K_DAY"].', required=False),
          Argument("all", a.Flag, "isUnsubAll", "true: end all subscriptions of this key.", required=False)),
         effect="subscription", fixed={"isSubOrUnSub": False}, complete=_all_or_some),
    Tool("futu_query_subscription", catalog.GET_SUB_INFO, "Subscriptions of this key, and the quota that is left.",
         fixed={"isReqAllConn": False}),
)  # fmt: skip

_ACCOUNTS = (
    Tool("futu_list_accounts", catalog.GET_ACC_LIST,
         "The accounts this key may use: id, environment (`trd_env` 0 is paper, 1 is real) and markets. Begin here.",
         fixed={"userID": 0, "needGeneralSecAccount": True}),
    Tool("futu_get_funds", catalog.GET_FUNDS, "Cash, buying power and assets of an account.",
         (*_ACCOUNT, Argument("currency", a.word(a.CURRENCY), "currency", "Currency of the figures.", required=False), _REFRESH)),
    Tool("futu_get_positions", catalog.GET_POSITION_LIST, "Holdings of an account with cost and profit.",
         (*_ACCOUNT, _CODES, _REFRESH), complete=_some_codes),
    Tool("futu_get_orders", catalog.GET_ORDER_LIST, "Today's orders of an account, and older ones that are still open.",
         (*_ACCOUNT, _CODES, _STATUSES, _REFRESH), complete=_some_codes),
    Tool("futu_get_deals", catalog.GET_ORDER_FILL_LIST, "Today's fills of an account.",
         (*_ACCOUNT, _CODES, _REFRESH), complete=_some_codes),
    Tool("futu_get_history_orders", catalog.GET_HISTORY_ORDER_LIST, "Orders of an account in a span of at most 90 days.",
         (*_ACCOUNT, _ORDER_BEGIN, _ORDER_END, _CODES, _STATUSES), complete=_some_codes),
    Tool("futu_get_history_deals", catalog.GET_HISTORY_ORDER_FILL_LIST, "Fills of an account in a span of at most 90 days.",
         (*_ACCOUNT, _ORDER_BEGIN, _ORDER_END, _CODES), complete=_some_codes),
    Tool("futu_get_max_trd_qtys", catalog.GET_MAX_TRD_QTYS, "How much of a security an account could buy or sell at a price.",
         (_ACC_ID, _TRD_ENV, _MARKET_OF_SYMBOL, _ORDERED_SYMBOL,
          Argument("price", a.Number, "price", _PRICE_SAYS),
          Argument("order_type", a.word(a.ORDER_TYPE), "orderType", "`NORMAL` (a limit order) if left out.", required=False),
          Argument("order_id", a.BigId, "orderID", "What this order could be changed to instead.", required=False)),
         assumed={"orderType": 1}, complete=_account_of_symbol),
    Tool("futu_get_margin_ratio", catalog.GET_MARGIN_RATIO, "Margin ratios of securities in an account.", (*_ACCOUNT, _SYMBOLS)),
    Tool("futu_get_order_fee", catalog.GET_ORDER_FEE, "What orders cost in fees.",
         (*_ACCOUNT, Argument("order_id_exs", a.Texts, "orderIdExList", "`order_id_ex` of each order."))),
    Tool("futu_get_acc_cash_flow", catalog.FLOW_SUMMARY, "Money that moved into and out of an account on one day.",
         (*_ACCOUNT, Argument("clearing_date", a.Date, "clearingDate", "The day, `YYYY-MM-DD`."),
          Argument("direction", a.word(a.CASH_FLOW), "cashFlowDirection", "Only `IN` or `OUT`.", required=False))),
)  # fmt: skip


_TRADING = (
    Tool("futu_place_order", catalog.PLACE_ORDER,
         "Place an order. What this key may do: `my_limits`; to try it without sending: `dry_run`. Never repeat an order "
         "whose outcome is unknown before looking at `futu_get_orders`.",
         (_ACC_ID, _TRD_ENV, _ORDERED_SYMBOL,
          Argument("side", a.word(a.TRD_SIDE), "trdSide", "`BUY`, `SELL`, `SELL_SHORT` or `BUY_BACK`."),
          Argument("qty", a.Number, "qty", "Quantity in shares or contracts (not lots)."),
          _PRICE,
          Argument("order_type", a.word(a.ORDER_TYPE), "orderType", "`NORMAL` (a limit order) if left out.", required=False),
          _MARKET_OF_SYMBOL, _AUX_PRICE, *_TRAILS,
          Argument("time_in_force", a.word(a.TIME_IN_FORCE), "timeInForce", "`DAY` if left out.", required=False),
          Argument("expire_time", a.Date, "expireTime", "Until when, with `GTD`.", required=False),
          Argument("session", a.word(a.SESSION), "session", "US: part of the trading day.", required=False),
          Argument("fill_outside_rth", a.Flag, "fillOutsideRTH", "US: may fill before and after the session.", required=False),
          Argument("remark", a.Text, "remark", "A note of up to 64 bytes that stays with the order.", required=False),
          _ONCE, _DRY_RUN),
         effect="order", assumed={"orderType": 1}, complete=_account_of_symbol),
    Tool("futu_modify_order", catalog.MODIFY_ORDER, "Change an open order: its quantity and price, or its state.",
         (*_ACCOUNT, _ORDER_ID, _ORDER_ID_EX,
          Argument("op", a.word(a.MODIFY_OP), "modifyOrderOp", "`NORMAL` (new quantity and price) if left out.", required=False),
          Argument("qty", a.Number, "qty", "New quantity, what was filled included.", required=False),
          _PRICE, _AUX_PRICE, *_TRAILS, _ONCE, _DRY_RUN),
         effect="order", assumed={"orderID": 0, "modifyOrderOp": 1}, complete=_one_order),
    Tool("futu_cancel_order", catalog.MODIFY_ORDER, "Cancel one open order.",
         (*_ACCOUNT, _ORDER_ID, _ORDER_ID_EX, _ONCE), effect="cancel",
         fixed={"modifyOrderOp": 2}, assumed={"orderID": 0}, complete=_one_order),
    Tool("futu_cancel_all_order", catalog.MODIFY_ORDER, "Cancel every open order of an account, those of others included.",
         (*_ACCOUNT, _ONCE), effect="cancel",
         fixed={"modifyOrderOp": 2, "forAll": True, "orderID": 0}),
    Tool("futu_unlock_trade", catalog.UNLOCK_TRADE,
         "Ask for real trading to be unlocked. The owner unlocks OpenD; no password is taken here.",
         (Argument("unlock", a.Flag, "unlock", "true."),
          Argument("security_firm", a.word(a.SECURITY_FIRM), "securityFirm", "The broker.", required=False)),
         effect="unlock"),
)  # fmt: skip

MY_LIMITS = Tool(
    "my_limits", 0,
    "What this key may do and has left: scopes, markets, symbols, sides, accounts, order value, daily value, orders a "
    "minute, hours. Amounts are text, because they are exact; null means not limited.",
)  # fmt: skip

TOOLS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in (MY_LIMITS, *_QUOTES, *_ACCOUNTS, *_TRADING)})
"""By name."""
