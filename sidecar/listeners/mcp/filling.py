"""How arguments fill a request: those that many tools share, and what takes more than one of them. Knows no tool."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.errors import BodyError
from sidecar.listeners.mcp import arguments as a
from sidecar.listeners.mcp import words as w
from sidecar.listeners.mcp.arguments import Argument
from sidecar.listeners.mcp.tool import Tree, Values, put


def account_of_symbol(values: Values, c2s: Tree) -> None:
    """An order names the market of its account, which the symbol mostly tells."""
    if "market" in values:
        return
    prefix = values["symbol"].partition(".")[0]
    choices = w.TRADED_IN.get(prefix, ())
    if len(choices) != 1:
        which = " or ".join(f"`{one}`" for one in choices) or "the account's"
        said = f"argument `market` is missing: a symbol with `{prefix}.` leaves it open; give {which}"
        raise BodyError("malformed_request", said)
    put(c2s, "header.trdMarket", w.TRD_MARKET[choices[0]])


def one_order(values: Values, c2s: Tree) -> None:
    if "order_id" not in values and "order_id_ex" not in values:
        raise BodyError("malformed_request", "argument `order_id` is missing; give it, or `order_id_ex`")


def some_codes(values: Values, c2s: Tree) -> None:
    """OpenD filters by bare codes."""
    if "symbols" in values:
        codes = [symbol.partition(".")[2] for symbol in values["symbols"]]
        c2s.setdefault("filterConditions", {})["codeList"] = codes


def all_or_some(values: Values, c2s: Tree) -> None:
    if values.get("all"):
        if "symbols" in values or "sub_types" in values:
            raise BodyError("malformed_request", "argument `all` ends every subscription; give no others beside it")
    elif "symbols" not in values or "sub_types" not in values:
        raise BodyError("malformed_request", "argument `symbols` or `sub_types` is missing; give both, or `all`: true")


def listed_or_market(values: Values, c2s: Tree) -> None:
    if ("symbols" in values) == ("market" in values):
        raise BodyError("malformed_request", "give either `symbols`, or `market` and `sec_type`")


def sub(name: str) -> Callable[[Values], int]:
    return lambda values: w.SUB_TYPE[name]


def sub_of_kline(values: Values) -> int:
    name = next(name for name, number in w.KL_TYPE.items() if number == values["kl_type"])
    return w.SUB_TYPE[name]


SYMBOL = Argument("symbol", a.Symbol, "security", "Market and code, e.g. `HK.00700`, `US.AAPL`, `SH.600519`.")
SYMBOLS = Argument("symbols", a.Symbols, "securityList", 'Market and code of each, e.g. ["HK.00700", "US.AAPL"].')
ONE = (SYMBOL,)
SEVERAL = (SYMBOLS,)
BEGIN = Argument("begin", a.Date, "beginTime", "First day, `YYYY-MM-DD`, in the market's time.")
END = Argument("end", a.Date, "endTime", "Last day, `YYYY-MM-DD`, in the market's time.")
KL_TYPE = Argument("kl_type", a.word(w.KL_TYPE), "klType", "What one bar covers, e.g. `K_DAY`, `K_1M` (a minute).")
REHAB = Argument(
    "rehab_type", a.word(w.REHAB_TYPE), "rehabType",
    "Price adjustment: `NONE`, `QFQ` (forward, the default), `HFQ` (backward).", required=False,
)  # fmt: skip
QOT_MARKET = Argument("market", a.word(w.QOT_MARKET), "market", "Market of the securities, e.g. `HK`, `US`, `SH`.")

ACC_ID = Argument(
    "acc_id",
    a.BigId,
    "header.accID",
    "Account id as text, from `futu_list_accounts` (`acc_id`): it has up to 20 digits.",
)
TRD_ENV = Argument(
    "trd_env", a.word(w.TRD_ENV), "header.trdEnv", "`SIMULATE` for paper accounts, `REAL` for real money. Not guessed.",
    aliases=("env",),
)  # fmt: skip
MARKET = Argument(
    "market", a.word(w.TRD_MARKET), "header.trdMarket",
    "Trading market of the account, one of its `trd_market_auth_list`, e.g. `HK`, `US`, `HKCC` (Stock Connect).",
)  # fmt: skip
MARKET_OF_SYMBOL = Argument(
    "market", a.word(w.TRD_MARKET), "header.trdMarket",
    "Trading market of the account. Left out, the symbol tells it; `SH.` and `SZ.` need it (`CN` or `HKCC`), futures too.",
    required=False,
)  # fmt: skip
ACCOUNT = (ACC_ID, TRD_ENV, MARKET)
REFRESH = Argument("refresh_cache", a.Flag, "refreshCache", "true asks the broker anew; rarely needed.", required=False)
CODES = Argument("symbols", a.Symbols, "", "Only these securities.", required=False)
STATUSES = Argument(
    "statuses", a.words(w.ORDER_STATUS), "filterStatusList", 'Only orders in these states, e.g. ["SUBMITTED"].',
    required=False,
)  # fmt: skip
ORDER_BEGIN = Argument("begin", a.Date, "filterConditions.beginTime", "From, in the market's time.")
ORDER_END = Argument("end", a.Date, "filterConditions.endTime", "Until, in the market's time.")

ORDERED_SYMBOL = Argument("symbol", a.Symbol, "code", "Market and code, e.g. `HK.00700`.")
PRICE_SAYS = "Price of one unit in the security's currency. Order types without a price need none."
PRICE = Argument("price", a.Number, "price", PRICE_SAYS, required=False)
AUX_PRICE = Argument("aux_price", a.Number, "auxPrice", "Trigger price of stop and if-touched orders.", required=False)
TRAILS = (
    Argument(
        "trail_type", a.word(w.TRAIL_TYPE), "trailType", "Of trailing stops: `RATIO` or `AMOUNT`.", required=False
    ),
    Argument("trail_value", a.Number, "trailValue", "Of trailing stops: percent, or money per unit.", required=False),
    Argument("trail_spread", a.Number, "trailSpread", "Of trailing stop limits: the limit's distance.", required=False),
)
ORDER_ID = Argument(
    "order_id", a.BigId, "orderID", "The order, as `order_id` of `futu_get_orders` tells it.", required=False
)
ORDER_ID_EX = Argument("order_id_ex", a.Text, "orderIDEx", "The order by its other id, `order_id_ex`.", required=False)
DRY_RUN = Argument(
    "dry_run", a.Flag, "", "true: decide and tell every check, but send nothing and use nothing up.", required=False
)
IDEMPOTENCY_KEY = Argument(
    "idempotency_key", a.Text, "",
    "Your own name for this one request, up to 255 characters without spaces. Repeated with the same name it is not sent "
    "again, but answered as the first time: use it when you may have to repeat.",
    required=False,
)  # fmt: skip

ANSWERED_ON_SUBSCRIPTION = " Subscribes the security where needed, which uses the account's subscription quota."


def count(name: str, into: str, most: int, of_what: str, usual: int) -> Argument:
    return Argument(name, a.whole(1, most), into, f"{of_what}, 1 to {most}; {usual} if left out.", required=False)
