"""The commands about keys: gen-key, list-keys, revoke-key, bind-key, machine-id. They hold no rule about records."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console

from sidecar.border import shown
from sidecar.cli.command import NOT_DONE, Command, WrongUsage, json_option, settings_from
from sidecar.cli.key_table import table, tree
from sidecar.cli.new_record import listed, new_record
from sidecar.cli.running import Admin, admin_of, wait_until_in_force
from sidecar.errors import ConfigError
from sidecar.keys import fields
from sidecar.keys.advice import advice_on_new
from sidecar.keys.file import edit, load
from sidecar.keys.machine import default_zone, fingerprint
from sidecar.keys.machine import machine_id as raw_machine_id
from sidecar.keys.record import read_record
from sidecar.keys.secret import new_plaintext
from sidecar.settings import Settings


@dataclass(frozen=True, slots=True)
class _Place:
    """Which keys file is meant, and what the settings say around it."""

    file: Path
    settings: Settings
    zone: ZoneInfo | None


def _place(keys_file: Path | None, config: Path | None) -> _Place:
    settings = settings_from(config, {"keys_file": keys_file})
    return _Place(settings.keys.file, settings, default_zone(settings.keys.timezone))


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The two options by which every command finds its keys file."""
    command = click.option("--config", type=click.Path(path_type=Path), help="Settings that name the keys file.")(
        command
    )
    return click.option(
        "--keys-file", type=click.Path(path_type=Path), help="keys.json  [default: ~/.config/futu/keys.json]"
    )(command)


def _admin(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--admin", metavar="HOST:PORT|unix:PATH", help="Admin listener of the running sidecar.")(
        command
    )


@click.command(
    "gen-key",
    cls=Command,
    sections={
        "What it may do and trade": (
            "scopes", "allowed_markets", "allowed_symbols", "allowed_trd_sides", "allowed_order_types", "allow_short",
            "allowed_acc_ids",
        ),
        "How much, at what price, how often": (
            "max_order_value", "max_daily_value", "max_position_value", "cap_currency", "max_order_qty",
            "price_collar_pct", "max_orders_per_minute", "max_open_orders", "duplicate_window_s",
        ),
        "When": (
            "expires", "hours_window", "timezone", "trading_hours", "extended_hours", "cancel_on_disconnect",
        ),
        "From where": ("allowed_ips", "client_certs", "bind_this_machine", "bind_machines"),
    },
    exits={1: "no key was made; a line on stderr says why"},
    examples="""
opend-sidecar gen-key --id research --scopes qot:read
opend-sidecar gen-key --id bot --scopes qot:read,acc:read,trade:simulate \\
    --allowed-markets HK,US --max-order-value 100000 --expires 30d
opend-sidecar gen-key --id ci --scopes qot:read --json | jq -r .plaintext
""",
)  # fmt: skip
@click.option("--id", "key_id", required=True, metavar="ID", help="Name of the key, as audit and metrics show it.")
@click.option("--scopes", metavar="LIST", required=True, help="What it may do, e.g. qot:read,acc:read,trade:simulate")
@click.option("--expires", metavar="WHEN", help="30d, 12h, 45m or a date like 2027-01-31T00:00:00Z  [default: never]")
@click.option("--note", metavar="TEXT", help="Anything you want to remember.")
@click.option("--allowed-markets", metavar="LIST", help="Markets it may trade, e.g. HK,US")
@click.option("--allowed-symbols", metavar="LIST", help="Symbols it may trade, e.g. US.AAPL,HK.00700,US.AAPL@options")
@click.option("--allowed-trd-sides", metavar="LIST", help="BUY, SELL, SELL_SHORT, BUY_BACK")
@click.option("--allowed-acc-ids", metavar="LIST", help="Accounts it may see and trade, as OpenD numbers them.")
@click.option(
    "--allowed-order-types", metavar="LIST", help="Order types it may use, as OpenD names them, e.g. NORMAL,MARKET"
)
@click.option("--max-order-value", metavar="AMOUNT", help="Most one order may be worth, in the order's currency.")
@click.option("--max-daily-value", metavar="AMOUNT", help="Most all orders of a day may be worth, per currency.")
@click.option(
    "--max-position-value", metavar="AMOUNT", help="Most it may hold of one security, orders on the market included."
)
@click.option(
    "--cap-currency", metavar="CODE", help="Currency of these amounts, e.g. HKD  [default: that of each order]"
)
@click.option("--max-orders-per-minute", metavar="N", help="Most orders in any 60 s.")
@click.option("--max-open-orders", metavar="N", help="Most orders on the market at one time.")
@click.option("--max-order-qty", metavar="AMOUNT", help="Most shares, contracts or coins of one order.")
@click.option(
    "--price-collar-pct", metavar="PERCENT", help="Most per cent a limit may be off the quote, on the side that hurts."
)
@click.option("--duplicate-window-s", metavar="SECONDS", help="Seconds in which the same order may not come again.")
@click.option("--trading-hours", is_flag=True, help="Orders only while the market trades, as OpenD reports it.")
@click.option("--extended-hours/--no-extended-hours", default=None, help="Orders outside regular trading hours.")
@click.option("--allow-short", is_flag=True, help="It may sell what is not held  [default for keys that trade: no]")
@click.option(
    "--cancel-on-disconnect",
    is_flag=False,
    flag_value="true",
    metavar="[SECONDS]",
    help="Cancel its orders so long after its last connection ended  [without a number: 30]",
)
@click.option("--hours-window", multiple=True, metavar="HH:MM-HH:MM", help="When it may trade; may be repeated.")
@click.option(
    "--timezone", metavar="ZONE", help="Zone of --hours-window, e.g. Asia/Hong_Kong  [default: this machine's]"
)
@click.option("--allowed-ips", metavar="LIST", help="Client addresses, e.g. 127.0.0.1,10.0.0.0/24")
@click.option(
    "--client-certs",
    metavar="SHA256|FILE,...",
    help="TLS client certificates that show this key as its secret does, as files or by fingerprint.",
)
@click.option("--bind-this-machine", is_flag=True, help="The key works only where the sidecar runs on this machine.")
@click.option(
    "--bind-machines", metavar="LIST", help="The same, for machines by fingerprint (machine-id --for-key ID)."
)
@_where
@json_option()
def gen_key(keys_file: Path | None, config: Path | None, key_id: str, as_json: bool, **given: Any) -> None:
    """Make a key and print it, once.

    Give each bot a key of its own, with no more than it needs: what is left out below is not limited. keys.json is made where there
    is none; it holds the key's hash, never the key. A running sidecar takes a new key within a second.
    """
    place = _place(keys_file, config)
    plaintext = new_plaintext()
    record = new_record(key_id, plaintext, given, place.zone)
    stored, problems, warnings = read_record(record, 1, place.zone)
    if stored is None:
        raise WrongUsage("; ".join(f"--{problem.field.replace('_', '-')} {problem.text}" for problem in problems))

    def add(document: dict[str, Any]) -> None:
        if any(one["id"] == key_id for one in document["keys"]):
            raise ConfigError(f"there is a key `{key_id}` already; choose another --id, or `revoke-key {key_id}` first")
        document["keys"].append(record)

    edit(place.file, add, place.zone, create=True)
    doors, warnings = place.settings.listeners.tcp, [*warnings, *advice_on_new(stored.key)]
    if as_json:
        made = {"key": tree(stored), "plaintext": plaintext, "file": str(place.file)}
        click.echo(json.dumps({**made, "tcp_port": doors[0].port if doors else None, "warnings": warnings}, indent=2))
        return
    click.echo(f'generated key "{key_id}"')
    click.echo(f"plaintext: {plaintext}")
    click.echo(f"stored in: {place.file} (only its hash: this is the one time the key is shown)")
    click.echo('python: SysConfig.set_client_info("fc_...", 300) with the whole key, before the first context,')
    click.echo(f"        and port {doors[0].port if doors else 11110} instead of OpenD's")
    click.echo("a running sidecar notices the new key by itself")
    _warn(warnings)


@click.command(
    "list-keys",
    cls=Command,
    exits={0: "they are shown", 1: "keys.json cannot be used; a line on stderr says why"},
    examples="""
opend-sidecar list-keys
opend-sidecar list-keys --json | jq -r '.keys[] | select(.expired) | .id'
""",
)
@_where
@json_option("The keys as JSON, for programs.")
def list_keys(keys_file: Path | None, config: Path | None, as_json: bool) -> None:
    """Show all keys with their limits; never a key itself.

    These are the keys of the file. Which ones the running sidecar has, and what each has left, is what `status` shows.
    """
    place = _place(keys_file, config)
    loaded, now = load(place.file, place.zone), datetime.now(UTC)
    if as_json:
        keys = [tree(record, now) for record in loaded.records]
        told = {"file": str(place.file), "revision": loaded.revision, "keys": keys, "warnings": list(loaded.warnings)}
        click.echo(json.dumps(told, indent=2))
        return
    # Into a pipe nothing is cut to the width of a screen.
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    certificates = {record.key.id: len(record.client_certs) for record in loaded.records}
    console.print(table([record.key for record in loaded.records], now, certificates))
    _warn(loaded.warnings)


@click.command(
    "revoke-key",
    cls=Command,
    short_help="Delete a key; returns when it is out of force.",
    exits={
        0: "the key is deleted, and a running sidecar that could be asked no longer takes it",
        1: "there is no such key, or it is not known to be out of force; stderr says which",
    },
    examples="""
opend-sidecar revoke-key bot
opend-sidecar revoke-key bot --admin unix:/run/opend-sidecar/admin.sock
""",
)
@click.argument("key_id", metavar="ID")
@_where
@_admin
@json_option()
def revoke_key(key_id: str, keys_file: Path | None, config: Path | None, admin: str | None, as_json: bool) -> None:
    """Delete a key, and return when the running sidecar no longer takes it.

    Open connections of the key are refused from then on as well. Its orders stay at the market: `halt --key ID --cancel-orders`
    before this cancels them.
    """
    place = _place(keys_file, config)
    running = admin_of(admin, place.settings)

    def remove(document: dict[str, Any]) -> None:
        document["keys"].remove(_record_of(document, key_id, place.file))

    edit(place.file, remove, place.zone)
    _changed(place.file, running, {"key": key_id}, f"revoked key `{key_id}`", as_json=as_json)


@click.command(
    "bind-key",
    cls=Command,
    short_help="Change on which machines a key works.",
    exits={
        0: "it is changed, also in a running sidecar that could be asked",
        1: "there is no such key, or the change is not known to be in force; stderr says which",
    },
    examples="""
opend-sidecar bind-key bot --this-machine
opend-sidecar bind-key bot --machines FP1,FP2 --replace
opend-sidecar bind-key bot --freeze
""",
)
@click.argument("key_id", metavar="ID")
@click.option("--this-machine", is_flag=True, help="Allow the machine this runs on.")
@click.option("--machines", metavar="FP1,FP2", help="Allow machines by fingerprint (machine-id --for-key ID).")
@click.option("--replace", is_flag=True, help="Allow only the machines named now, forget those allowed before.")
@click.option("--clear", is_flag=True, help="Allow every machine.")
@click.option("--freeze", is_flag=True, help="Allow none: the key stops working until it is bound or cleared again.")
@_where
@_admin
@json_option()
def bind_key(
    key_id: str,
    this_machine: bool,
    machines: str | None,
    replace: bool,
    clear: bool,
    freeze: bool,
    keys_file: Path | None,
    config: Path | None,
    admin: str | None,
    as_json: bool,
) -> None:
    """Change on which machines a key works; the key itself stays the same.

    Say one of --freeze, --clear, or machines to allow, which are added to those allowed before. A machine's fingerprint for a
    key is what `machine-id --for-key ID` prints there.
    """
    naming = this_machine or machines is not None
    if clear + freeze + naming != 1:
        raise WrongUsage("say one of --freeze, --clear, or machines to allow (--this-machine, --machines)")
    if replace and not naming:
        raise WrongUsage("--replace needs the machines to allow instead: --this-machine or --machines")
    place = _place(keys_file, config)
    running = admin_of(admin, place.settings)
    named = [one.lower() for one in listed("--machines", machines) or []]
    if this_machine:
        named.append(fingerprint(key_id, raw_machine_id()))
    outcome: list[str] = []

    def bind(document: dict[str, Any]) -> None:
        record = _record_of(document, key_id, place.file)
        if clear:
            record.pop("allowed_machines", None)
            outcome.append("works on every machine")
            return
        before = [] if freeze or replace else [one.lower() for one in record.get("allowed_machines") or []]
        record["allowed_machines"] = list(dict.fromkeys((*before, *named)))
        outcome.append("is frozen" if freeze else f"works on {len(record['allowed_machines'])} machine(s)")

    changed = edit(place.file, bind, place.zone)
    (bound,) = (record.key for record in changed.records if record.key.id == key_id)
    allowed = None if bound.allowed_machines is None else sorted(bound.allowed_machines)
    warnings = [one for one in changed.warnings if f"`{key_id}`" in one]
    told = {"key": key_id, "allowed_machines": allowed, "warnings": warnings}
    _changed(place.file, running, told, f"key `{key_id}` {outcome[-1]}", as_json=as_json)


@click.command(
    "machine-id",
    cls=Command,
    exits={0: "it is shown", 1: "this machine has none that can be read; a line on stderr says why"},
    examples="""
opend-sidecar machine-id
opend-sidecar machine-id --for-key bot
""",
)
@click.option("--for-key", metavar="ID", help="Show this machine's fingerprint for that key.")
@json_option()
def machine_id(for_key: str | None, as_json: bool) -> None:
    """Show this machine's id, or its fingerprint for one key.

    A fingerprint is what `bind-key --machines` and `gen-key --bind-machines` take, of the machine on which the sidecar runs.
    """
    try:
        key_id = None if for_key is None else fields.key_id(for_key)
    except ValueError as error:
        raise WrongUsage(f"--for-key {error}") from None
    raw = raw_machine_id()
    shown_id = raw if key_id is None else fingerprint(key_id, raw)
    if not as_json:
        click.echo(shown_id)
    elif key_id is None:
        click.echo(json.dumps({"machine_id": raw}))
    else:
        click.echo(json.dumps({"key": key_id, "fingerprint": shown_id}))


def _changed(file: Path, running: Admin | None, told: dict[str, Any], words: str, *, as_json: bool) -> None:
    """Tells of a saved change, and whether the running sidecar has it. Raises ConfigError for people where that is not known."""
    if not as_json:
        click.echo(words)
        _warn(told.get("warnings", ()))
    try:
        found = wait_until_in_force(running, lambda: _revision(file))
    except ConfigError as error:
        if not as_json:
            raise
        told = {**told, "saved": True, "in_force": False, "error": str(error)}
        click.echo(json.dumps(told, indent=2))
        click.echo(f"opend-sidecar: {error}", err=True)
        raise SystemExit(NOT_DONE) from None
    if as_json:
        in_force = True if found.known else None
        click.echo(json.dumps({**told, "saved": True, "in_force": in_force, "message": found.text}, indent=2))
    else:
        click.echo(found.text)


def _record_of(document: dict[str, Any], key_id: str, file: Path) -> dict[str, Any]:
    record: dict[str, Any] | None = next((one for one in document["keys"] if one["id"] == key_id), None)
    if record is None:
        raise ConfigError(f"there is no key {shown(key_id)} in `{file}`; `list-keys` shows what there is")
    return record


def _revision(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"keys file `{file}` cannot be read: {(error.strerror or str(error)).lower()}") from None


def _warn(texts: Any) -> None:
    for text in texts:
        click.echo(f"warning: {text}", err=True)
