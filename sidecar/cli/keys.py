"""The commands about keys: gen-key, list-keys, revoke-key, bind-key, machine-id. They hold no rule about records."""

from __future__ import annotations

import hashlib
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
from sidecar.cli.key_table import table
from sidecar.cli.new_record import listed, new_record
from sidecar.cli.running import admin_of, wait_until_in_force
from sidecar.config import load_settings
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
    settings = load_settings(config, {"keys_file": keys_file})
    return _Place(settings.keys.file, settings, default_zone(settings.keys.timezone))


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The two options by which every command finds its keys file."""
    command = click.option("--config", type=click.Path(path_type=Path), help="Settings that name the keys file.")(
        command
    )
    return click.option("--keys-file", type=click.Path(path_type=Path), help="[default: ~/.config/futu/keys.json]")(
        command
    )


def _admin(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--admin", metavar="HOST:PORT|unix:PATH", help="Admin listener of the running sidecar.")(
        command
    )


@click.command("gen-key")
@click.option("--id", "key_id", required=True, help="Name of the key, as audit and metrics show it.")
@click.option("--scopes", required=True, help="What it may do, e.g. qot:read,acc:read,trade:simulate")
@click.option("--expires", help="30d, 12h, 45m or a date like 2027-01-31T00:00:00Z  [default: never]")
@click.option("--note", help="Anything you want to remember.")
@click.option("--allowed-markets", help="Markets it may trade, e.g. HK,US")
@click.option("--allowed-symbols", help="Symbols it may trade, e.g. US.AAPL,HK.00700,US.AAPL@options")
@click.option("--allowed-trd-sides", help="BUY, SELL, SELL_SHORT, BUY_BACK")
@click.option("--allowed-acc-ids", help="Accounts it may see and trade, as OpenD numbers them.")
@click.option("--allowed-order-types", help="Order types it may use, as OpenD names them, e.g. NORMAL,MARKET")
@click.option("--max-order-value", help="Most one order may be worth, in the order's currency.")
@click.option("--max-daily-value", help="Most all orders of a day may be worth, per currency.")
@click.option("--max-position-value", help="Most it may hold of one security, orders on the market included.")
@click.option("--cap-currency", help="Currency of these amounts, e.g. HKD  [default: that of each order]")
@click.option("--max-orders-per-minute", help="Most orders in any 60 s.")
@click.option("--max-open-orders", help="Most orders on the market at one time.")
@click.option("--max-order-qty", help="Most shares, contracts or coins of one order.")
@click.option("--price-collar-pct", help="Most per cent a limit may be off the quote, on the side that hurts.")
@click.option("--duplicate-window-s", help="Seconds in which the same order may not come again.")
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
@click.option("--timezone", help="Zone of --hours-window, e.g. Asia/Hong_Kong  [default: this machine's]")
@click.option("--allowed-ips", help="Client addresses, e.g. 127.0.0.1,10.0.0.0/24")
@click.option(
    "--client-certs",
    metavar="SHA256|FILE,...",
    help="TLS client certificates that show this key as its secret does, as files or by fingerprint.",
)
@click.option("--bind-this-machine", is_flag=True, help="The key works only where the sidecar runs on this machine.")
@click.option("--bind-machines", help="The same, for machines by fingerprint (machine-id --for-key ID).")
@_where
def gen_key(keys_file: Path | None, config: Path | None, key_id: str, **given: Any) -> None:
    """Make a key and print it, once."""
    place = _place(keys_file, config)
    plaintext = new_plaintext()
    record = new_record(key_id, plaintext, given, place.zone)
    stored, problems, warnings = read_record(record, 1, place.zone)
    if stored is None:
        raise ConfigError("; ".join(f"--{problem.field.replace('_', '-')} {problem.text}" for problem in problems))

    def add(document: dict[str, Any]) -> None:
        if any(one["id"] == key_id for one in document["keys"]):
            raise ConfigError(f"there is a key `{key_id}` already; choose another --id, or `revoke-key {key_id}` first")
        document["keys"].append(record)

    edit(place.file, add, place.zone, create=True)
    click.echo(f'generated key "{key_id}"')
    click.echo(f"plaintext: {plaintext}")
    click.echo(f"stored in: {place.file} (only its hash: this is the one time the key is shown)")
    doors = place.settings.listeners.tcp
    click.echo('python: SysConfig.set_client_info("fc_...", 300) with the whole key, before the first context,')
    click.echo(f"        and port {doors[0].port if doors else 11110} instead of OpenD's")
    click.echo("a running sidecar notices the new key by itself")
    _warn((*warnings, *advice_on_new(stored.key)))


@click.command("list-keys")
@_where
def list_keys(keys_file: Path | None, config: Path | None) -> None:
    """Show all keys with their limits; never a key itself."""
    place = _place(keys_file, config)
    loaded = load(place.file, place.zone)
    # Into a pipe nothing is cut to the width of a screen.
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    certificates = {record.key.id: len(record.client_certs) for record in loaded.records}
    console.print(table([record.key for record in loaded.records], datetime.now(UTC), certificates))
    _warn(loaded.warnings)


@click.command("revoke-key")
@click.argument("key_id", metavar="ID")
@_where
@_admin
def revoke_key(key_id: str, keys_file: Path | None, config: Path | None, admin: str | None) -> None:
    """Delete a key, and return when the running sidecar no longer takes it."""
    place = _place(keys_file, config)
    running = admin_of(admin, place.settings)

    def remove(document: dict[str, Any]) -> None:
        document["keys"].remove(_record_of(document, key_id, place.file))

    edit(place.file, remove, place.zone)
    click.echo(f"revoked key `{key_id}`")
    click.echo(wait_until_in_force(running, lambda: _revision(place.file)))


@click.command("bind-key")
@click.argument("key_id", metavar="ID")
@click.option("--this-machine", is_flag=True, help="Allow the machine this runs on.")
@click.option("--machines", metavar="FP1,FP2", help="Allow machines by fingerprint (machine-id --for-key ID).")
@click.option("--replace", is_flag=True, help="Allow only the machines named now, forget those allowed before.")
@click.option("--clear", is_flag=True, help="Allow every machine.")
@click.option("--freeze", is_flag=True, help="Allow none: the key stops working until it is bound or cleared again.")
@_where
@_admin
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
) -> None:
    """Change on which machines a key works; the key itself stays the same."""
    naming = this_machine or machines is not None
    if clear + freeze + naming != 1:
        raise ConfigError("say one of --freeze, --clear, or machines to allow (--this-machine, --machines)")
    if replace and not naming:
        raise ConfigError("--replace needs the machines to allow instead: --this-machine or --machines")
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
    click.echo(f"key `{key_id}` {outcome[-1]}")
    _warn(one for one in changed.warnings if f"`{key_id}`" in one)
    click.echo(wait_until_in_force(running, lambda: _revision(place.file)))


@click.command("machine-id")
@click.option("--for-key", metavar="ID", help="Show this machine's fingerprint for that key.")
def machine_id(for_key: str | None) -> None:
    """Show this machine's id, or its fingerprint for one key (what bind-key --machines takes)."""
    raw = raw_machine_id()
    if for_key is None:
        click.echo(raw)
        return
    try:
        click.echo(fingerprint(fields.key_id(for_key), raw))
    except ValueError as error:
        raise ConfigError(f"--for-key {error}") from None


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
