"""An order, a change or a cancel out of flags, as a REST client would write it. Judges nothing, and asks nobody."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from sidecar.cli.command import WrongUsage
from sidecar.errors import ConfigError
from sidecar.intents.model import TrdEnv
from sidecar.policy.key import Key, Scope
from sidecar.wire.symbols import split

PLACE, COMBO, CHANGE = "Trd_PlaceOrder", "Trd_PlaceComboOrder", "Trd_ModifyOrder"
MARKETS = {
    "HK": 1, "US": 2, "SH": 3, "SZ": 3, "SG": 6, "CC": 7, "AU": 8, "JP": 15, "EC": 17, "MY": 111, "CA": 112,
}  # fmt: skip
"""TrdMarket in which a symbol is usually traded, by its prefix."""
_OTHER_MARKETS = {"CN": 3, "HKCC": 4, "FUTURES": 5}
_PAPER_FUTURES = {"HK": 10, "US": 11, "SG": 12, "JP": 13}
"""TrdMarket of paper futures, by the symbol's prefix."""
_OPS = {"modify": 1, "cancel": 2, "disable": 3, "enable": 4, "delete": 5}
_SIDES = ("buy", "sell", "sell_short", "buy_back")
_ANY_MARKET = 1
"""What the header of a change says of its market is not the order's: nobody reads it."""
_MOST_DIGITS = 30
"""Before and after the point of an amount."""


def amount(text: str) -> Decimal:
    """A decimal number, as a click type. Raises ValueError."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"`{text}` is not a number")
    # an exponent stands for so many zeros when the number is written out
    if abs(number.adjusted()) > _MOST_DIGITS or len(number.as_tuple().digits) > 2 * _MOST_DIGITS:
        raise ValueError(f"`{text}` has over {_MOST_DIGITS} digits before or after the point")
    return number


@dataclass(frozen=True, slots=True)
class Description:
    """`request` as OpenD names it, and its `body`; `words` say it in one line."""

    request: str
    body: dict[str, Any]
    words: str


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The flags that describe an order, as keyword arguments of `description`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
    *(click.option(f"--{side.replace('_', '-')}", side, metavar="SYMBOL", help=f"An order to {words}, e.g. HK.00700.")
      for side, words in zip(_SIDES, ("buy", "sell", "sell short", "buy back"), strict=True)),
    *(click.option(f"--{op}", op, metavar="ORDER", help=f"{words} the order with this id.")
      for op, words in (("modify", "Change"), ("cancel", "Cancel"), ("enable", "Enable"), ("disable", "Disable"), ("delete", "Delete"))),
    click.option("--cancel-all", is_flag=True, help="Cancel every order of the account."),
    click.option("--body", type=click.Path(allow_dash=True, path_type=Path), metavar="FILE",
                 help="The request as REST takes it, JSON; for what the flags cannot say. - reads standard input."),
    click.option("--request", type=click.Choice([PLACE, COMBO, CHANGE]), help=f"What --body is.  [default: {PLACE}]"),
    click.option("--qty", type=amount, help="Shares, contracts or coins; of a change the new total."),
    click.option("--price", type=amount, help="The limit."),
    click.option("--type", "order_type", metavar="TYPE", default="NORMAL", show_default=True,
                 help="NORMAL, MARKET, STOP, ... as the SDK's OrderType."),
    click.option("--aux-price", type=amount, help="The trigger of a stop."),
    click.option("--acc-id", type=int, help="Account.  [default: the key's only one]"),
    click.option("--real/--paper", "real", default=None, help="Environment.  [default: the key's only one]"),
    click.option("--market", metavar="NAME", help="Trade market, e.g. HKCC or FUTURES.  [default: the symbol's own]"),
    click.option("--session", metavar="NAME", help="RTH, ETH, ALL or OVERNIGHT."),
    click.option("--outside-rth", is_flag=True, help="May fill outside regular trading hours."),
]  # fmt: skip


def description(key: Key | None, given: dict[str, Any]) -> Description:
    """What the flags describe; accounts and environments are those of the key where it has only one.

    Raises WrongUsage, and ConfigError where --body cannot be read.
    """
    if given["body"] is not None:
        request, tree = given["request"] or PLACE, _read(given["body"])
        return Description(request, tree, f"{request} {json.dumps(tree)}")
    ways = [name for name in (*_SIDES, *_OPS) if given[name] is not None] + ["cancel_all"] * given["cancel_all"]
    if len(ways) != 1:
        raise WrongUsage(
            "say one thing to explain: --buy SYMBOL, --sell SYMBOL, --modify ORDER, --cancel ORDER or another of its kind"
        )
    (way,) = ways
    env, acc_id = _env(key, given["real"]), _account(key, given["acc_id"])
    body: dict[str, Any] = {"trd_env": env.name, "acc_id": str(acc_id)}
    where = f"in {'real' if env is TrdEnv.REAL else 'paper'} account {acc_id}"
    if way in _SIDES:
        placed = _placed(way, given[way], env, given)
        what = f"{placed['trd_side']} {given['qty']:f} {given[way]}{_terms(given)}, {placed['order_type']}"
        return Description(PLACE, {**body, **placed}, f"{what}, {where}")
    what = "cancel every order" if way == "cancel_all" else f"{way} order {given[way]}{_terms(given, qty=True)}"
    return Description(CHANGE, {**body, **_changed(way, given)}, f"{what}, {where}")


def _terms(given: dict[str, Any], *, qty: bool = False) -> str:
    told = f" to {given['qty']:f}" if qty and given["qty"] is not None else ""
    told += f" at {given['price']:f}" if given["price"] is not None else ""
    return told + (f" triggered at {given['aux_price']:f}" if given["aux_price"] is not None else "")


def _placed(side: str, symbol: str, env: TrdEnv, given: dict[str, Any]) -> dict[str, Any]:
    if split(symbol) is None:
        raise WrongUsage(f"`{symbol}` is not a symbol; write market and code, e.g. `HK.00700` or `US.AAPL`")
    if given["qty"] is None:
        raise WrongUsage("--qty is missing: how much is to be traded")
    body: dict[str, Any] = {
        "trd_market": _market(symbol, env, given["market"]),
        "code": symbol,
        "trd_side": side.upper(),
        "order_type": given["order_type"].upper(),
        "qty": float(given["qty"]),
    }
    for name in ("price", "aux_price"):
        if given[name] is not None:
            body[name] = float(given[name])
    if given["session"] is not None:
        body["session"] = given["session"].upper()
    if given["outside_rth"]:
        body["fill_outside_rth"] = True
    return body


def _changed(way: str, given: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "trd_market": _ANY_MARKET,
        "modify_order_op": _OPS["cancel" if way == "cancel_all" else way],
    }
    if way == "cancel_all":
        return {**body, "order_id": "0", "for_all": True}
    order = given[way]
    if order.isascii() and order.isdigit():
        body["order_id"] = order
    else:
        body.update(order_id="0", order_id_ex=order)
    for name in ("qty", "price", "aux_price"):
        if given[name] is not None:
            body[name] = float(given[name])
    return body


def _market(symbol: str, env: TrdEnv, named: str | None) -> int:
    prefix, _, code = symbol.partition(".")
    known = {**MARKETS, **_OTHER_MARKETS}
    if named is not None and named.upper() not in known:
        raise WrongUsage(f"--market `{named}` is not known; there are {', '.join(known)}")
    futures = code.endswith(("main", "current", "next")) if named is None else named.upper() == "FUTURES"
    if futures:
        return _PAPER_FUTURES.get(prefix, 5) if env is TrdEnv.SIMULATE else 5
    market = known.get(prefix if named is None else named.upper())
    if market is None:
        raise WrongUsage(f"no order can be placed in the market of `{symbol}`; name another with --market")
    return market


def _env(key: Key | None, real: bool | None) -> TrdEnv:
    if real is not None:
        return TrdEnv.REAL if real else TrdEnv.SIMULATE
    scopes = frozenset() if key is None else key.scopes
    trades = {TrdEnv.REAL: Scope.TRADE_REAL in scopes, TrdEnv.SIMULATE: Scope.TRADE_SIMULATE in scopes}
    able = [env for env, can in trades.items() if can]
    if len(able) != 1:
        raise WrongUsage("say --real or --paper: the key does not trade in exactly one of the two")
    return able[0]


def _account(key: Key | None, acc_id: int | None) -> int:
    if acc_id is not None:
        return acc_id
    allowed = None if key is None else key.allowed_acc_ids
    if allowed is None or len(allowed) != 1:
        raise WrongUsage("--acc-id is missing: the key is not limited to one account")
    return next(iter(allowed))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        tree = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--body `{path}` cannot be read: {error}") from None
    except RecursionError:
        raise ConfigError(f"--body `{path}` is nested too deeply") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"--body `{path}` must be a JSON object, as REST takes it")
    return tree
