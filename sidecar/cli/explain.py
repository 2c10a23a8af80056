"""The command explain: what would be decided of an order, and why, check by check. It changes nothing."""

from __future__ import annotations

import ipaddress
import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from sidecar.border import closest, shown
from sidecar.cli.command import Command, WrongUsage, json_option, settings_from
from sidecar.cli.described import Description, amount, description, options
from sidecar.cli.offline import Given, decided
from sidecar.cli.owner import ask
from sidecar.errors import ConfigError
from sidecar.explaining import as_from, described, told
from sidecar.keys.file import load
from sidecar.keys.machine import default_zone
from sidecar.policy.decision import Refusal
from sidecar.policy.key import Key
from sidecar.policy.market_state import MarketState, Session
from sidecar.policy.usage import Instrument, InstrumentKind
from sidecar.settings import Settings

REFUSED = 3
"""The exit code where the order would be refused."""
_PATH = "/api/admin/explain"
_SESSIONS = {session.name.lower(): session for session in Session}
_UNIT = frozenset({InstrumentKind.STOCK, InstrumentKind.ETF, InstrumentKind.WARRANT})
"""What is traded by the unit, so that no multiplier needs to be given."""


@click.command(
    "explain",
    cls=Command,
    short_help="Say what would be decided of an order, and why.",
    sections={
        "The order": (
            "buy", "sell", "sell_short", "buy_back", "qty", "price", "order_type", "aux_price", "market", "session",
            "outside_rth",
        ),
        "Or the change of one": ("modify", "cancel", "enable", "disable", "delete", "cancel_all"),
        "Or the request itself": ("body", "request"),
        "Whose it would be": ("key_id", "acc_id", "real", "address"),
        "Facts, where no sidecar runs": ("offline", "quote", "instrument", "held", "market_state", "keys_file"),
    },
    exits={0: "it would be allowed", 1: "it could not be told; a line on stderr says why", REFUSED: "it would be refused"},
    examples="""
opend-sidecar explain --key bot --buy HK.00700 --qty 100 --price 350
opend-sidecar explain --key bot --modify 6666 --qty 200 --price 351
opend-sidecar explain --key bot --cancel 6666
opend-sidecar explain --key bot --sell US.AAPL --qty 10 --price 200 \\
    --offline --instrument stock,USD --quote 199 --held 50
""",
)  # fmt: skip
@click.option("--key", "key_id", metavar="ID", required=True, help="The key it would be sent under.")
@options
@click.option(
    "--from", "address", metavar="ADDRESS", help="The client's address.  [default: one the key may come from]"
)
@click.option("--offline", is_flag=True, help="Do not ask the running sidecar; take facts from the flags below.")
@click.option("--quote", type=amount, help="Offline: the live price.")
@click.option("--instrument", metavar="KIND[,UNIT],CURRENCY", help="Offline: e.g. stock,HKD or option,100,USD.")
@click.option("--held", type=amount, help="Offline: what the account holds of it, below 0 where it is short.")
@click.option("--market-state", type=click.Choice(list(_SESSIONS)), help="Offline: what the market is doing.")
@json_option()
@click.option(
    "--keys-file", type=click.Path(path_type=Path), help="Offline: keys.json, if another than the settings name."
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file, which names keys and state directory.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="Of the running sidecar  [default: as the settings say]"
)
def explain(
    key_id: str, address: str | None, offline: bool, quote: Decimal | None, instrument: str | None, held: Decimal | None,
    market_state: str | None, as_json: bool, keys_file: Path | None, config: Path | None, state_dir: Path | None,
    **flags: Any,
) -> None:  # fmt: skip
    """Say what would be decided of an order now, and why: every check with its numbers.

    The running sidecar is asked, which decides as it would for the client itself: with the facts OpenD tells, what the key
    has used, halts and the clock. Nothing is sent, reserved, counted or recorded, and the key itself is not needed. Where
    no sidecar runs (or with --offline) keys.json and the ledger on disk are read, and the facts are those you give; a
    check whose fact is not given fails, as it does when OpenD does not tell. The first line says which of the two it was.
    """
    settings = settings_from(config, {"keys_file": keys_file, "state_dir": state_dir})
    _require_address(address)
    given = Given(_instrument(instrument), quote, held, _state(market_state))
    wanted = _wanted(settings, key_id, flags)
    tree: dict[str, Any] = {"key": key_id, "request": wanted.request, "body": wanted.body}
    if address is not None:
        tree["from"] = address
    answer = None if offline else ask(settings.state_dir.expanduser(), "POST", _PATH, tree)
    if answer is not None and given != Given():
        raise ConfigError("a sidecar runs and asks OpenD itself; facts can be given with --offline only")
    if answer is None:
        answer = _offline(settings, tree, given)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        show(answer, wanted, Console(width=None if sys.stdout.isatty() else 1000, highlight=False, soft_wrap=True))
    if not answer["allowed"]:
        raise SystemExit(REFUSED)


def _wanted(settings: Settings, key_id: str, flags: dict[str, Any]) -> Description:
    """The key says what the flags leave open. A keys.json that cannot be read is for the decision to complain of."""
    try:
        keys = _keys(settings)
    except ConfigError:
        return description(None, flags)
    return description(_key(keys, key_id, settings), flags)


def _keys(settings: Settings) -> dict[str, Key]:
    return {one.key.id: one.key for one in load(settings.keys.file, default_zone(settings.keys.timezone)).records}


def _key(keys: dict[str, Key], key_id: str, settings: Settings) -> Key:
    if key_id not in keys:
        raise ConfigError(f"there is no key {shown(key_id)} in `{settings.keys.file}`{closest(key_id, keys)}")
    return keys[key_id]


def _offline(settings: Settings, tree: dict[str, Any], given: Given) -> dict[str, Any]:
    key, now = _key(_keys(settings), tree["key"], settings), datetime.now(UTC)
    try:
        wanted = described(tree)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if isinstance(wanted, Refusal):
        return told(key.id, wanted, now, running=False)
    address = as_from(key, wanted.address)
    return told(key.id, decided(key, wanted, address, given, settings, now), now, address, running=False)


def _require_address(text: str | None) -> None:
    try:
        ipaddress.ip_address("127.0.0.1" if text is None else text)
    except ValueError:
        raise WrongUsage(f"--from {shown(text)} is not an IP address; write e.g. `10.0.0.5`") from None


def _instrument(text: str | None) -> Instrument | None:
    """`stock,HKD`, `option,100,USD`, or with the symbol an option is on: `option,100,USD,US.AAPL`."""
    if text is None:
        return None
    kind, *rest = (part.strip() for part in text.split(","))
    try:
        known = InstrumentKind(kind.lower())
    except ValueError:
        kinds = ", ".join(InstrumentKind)
        raise WrongUsage(f"--instrument `{text}`: `{kind}` is not a kind; there are {kinds}") from None
    multiplier = Decimal(1) if known in _UNIT else None
    try:
        if rest and not rest[0].isalpha():
            multiplier = amount(rest.pop(0))
    except ValueError:
        raise WrongUsage(f"--instrument `{text}`: the unit is not a number; write e.g. `option,100,USD`") from None
    if not rest or multiplier is None:
        raise WrongUsage(
            f"--instrument `{text}` must say kind, unit and currency, e.g. `option,100,USD` or `stock,HKD`"
        )
    return Instrument(known, multiplier, rest[0].upper(), rest[1] if len(rest) > 1 else None)


def _state(name: str | None) -> MarketState | None:
    return None if name is None else MarketState(_SESSIONS[name], name.upper())


# -- words -----------------------------------------------------------------------------------------------------------


def show(answer: dict[str, Any], wanted: Description, console: Console) -> None:
    """For people; a refusal's code in brackets."""
    if answer["running"]:
        source = "as the running sidecar decides now"
    else:
        source = "offline: by keys.json, the ledger on disk and the facts given; OpenD is not asked, the account is taken to be there"
    whose = f"key {answer['key']}" + (f", as from {answer['from']}" if answer["from"] else "")
    console.print(Text(_printable(f"{wanted.words}  ({whose})")))
    console.print(Text(source, "dim"))
    for check in answer["checks"]:
        line = Text("  ✓ " if check["passed"] else "  ✗ ", "green" if check["passed"] else "red")
        name = (
            check["check"]
            if check["passed"] or check["check"] == check["code"]
            else f"{check['check']} [{check['code']}]"
        )
        line.append(_printable(f"{name}: {check['detail']}"), None if check["passed"] else "red")
        console.print(line)
    if answer["allowed"]:
        worth = "" if answer["value"] is None else f", it counts as {answer['value']} {answer['currency']}"
        console.print(Text(f"would be allowed{worth}", "bold green"))
    else:
        console.print(Text(_printable(f"would be refused: [sidecar:{answer['code']}] {answer['message']}"), "bold red"))


def _printable(text: str) -> str:
    # SECURITY: reasons and symbols come from outside; escape sequences in them must not reach the terminal
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
