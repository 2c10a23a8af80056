"""The commands halt and resume: to the running sidecar, or where none runs to what the next one will find."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sidecar.border import closest, shown
from sidecar.cli.cancel_progress import all_cancelled, follow, show
from sidecar.cli.command import NOT_DONE, Command, WrongUsage, json_option, settings_from
from sidecar.cli.owner import NoAnswer, ask
from sidecar.errors import ConfigError
from sidecar.keys.file import load
from sidecar.keys.machine import default_zone
from sidecar.ledger import states_file
from sidecar.ledger.state_dir import StateDir
from sidecar.ledger.states import BY_FILE, States
from sidecar.ledger.states_file import HALT_NAME, Change
from sidecar.policy.trading import Standing, TradingState
from sidecar.settings import Settings
from sidecar.switch import OWNER, Wanted, stricter_already, tree_of, wanted_of

_IS = {"ACTIVE": "is resumed", "REDUCING": "may only shrink positions", "HALTED": "is halted"}
_WAS = {"ACTIVE": "was not halted", "REDUCING": "could only shrink positions already", "HALTED": "was halted already"}
_NONE_RUNS = "no sidecar runs with this state directory"


def where(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which a command finds the running sidecar."""
    command = click.option("--config", type=click.Path(path_type=Path), help="Settings that name the state directory.")(
        command
    )
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path),
        help="Of the running sidecar  [default: ~/.local/state/opend-sidecar]",
    )(command)


def _what(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--reason", required=True, help="Why; whoever is refused reads it, and the audit keeps it.")(
        command
    )
    return click.option("--key", "key_id", metavar="ID", help="One key only  [default: all trading]")(command)


@click.command(
    "halt",
    cls=Command,
    exits={
        0: "it holds, in memory and on disk; with --cancel-orders all is cancelled",
        1: "it does not hold in both, is not confirmed, or an order was not cancelled",
    },
    examples="""
opend-sidecar halt --reason "fat finger"
opend-sidecar halt --key bot --reason "runaway loop"
opend-sidecar halt --cancel-orders --reason "get me out"
""",
)
@_what
@click.option("--reduce-only", is_flag=True, help="Let orders pass that shrink a position, and nothing else.")
@click.option("--cancel-orders", is_flag=True, help="Cancel all working orders too, or those of the key; waits for it.")
@json_option()
@where
def halt(
    key_id: str | None, reason: str, reduce_only: bool, cancel_orders: bool, as_json: bool, config: Path | None,
    state_dir: Path | None,
) -> None:  # fmt: skip
    """Refuse every new order and change at once; cancels go on.

    It holds until `resume`, over restarts too. Where no sidecar runs, the next one starts halted. A file HALT in the
    state directory does the same without this command; with a line `cancel-orders` in it also that.
    """
    settings, folder = folder_of(config, state_dir)
    wanted = _wanted(key_id, reason, reduce_only=reduce_only, cancel_orders=cancel_orders)
    try:
        done = ask(folder, "POST", "/api/admin/halt", _body(wanted))
    except NoAnswer as error:
        _halt_by_file(folder, wanted, error, as_json=as_json)
        return
    if done is not None:
        _halted(folder, {**done, "running": True}, as_json=as_json)
        return
    try:
        state = StateDir.acquire(folder)
    except ConfigError as error:
        _halt_by_file(folder, wanted, error, as_json=as_json)
        return
    with state:
        _known(wanted.key_id, settings)
        states = States(folder)
        to = wanted.state or TradingState.HALTED
        before = states.overall if wanted.key_id is None else states.keys.get(wanted.key_id, Standing())
        standing = states.halt(wanted.key_id, wanted.reason, OWNER.by, state=to)
        if standing.state > to:
            raise ConfigError(stricter_already(standing))
        if wanted.cancel_orders:
            states.to_be_cancelled(wanted.key_id)
        _save(states, standing, wanted)
    left = "NOTHING is cancelled yet: the next sidecar that runs begins with it once it reaches OpenD"
    if as_json:
        told = _on_disk(standing, changed=before.state is not standing.state)
        click.echo(json.dumps({**told, **({"error": left} if wanted.cancel_orders else {})}, indent=2))
    else:
        click.echo(f"{_whose(wanted.key_id)} {_IS[standing.state.name]}: {wanted.reason}")
        click.echo(f"on disk only: {_NONE_RUNS}; the next one starts with it")
    if wanted.cancel_orders:
        click.echo(f"opend-sidecar: {left}", err=True)
        raise SystemExit(NOT_DONE)


def _on_disk(standing: Standing, *, changed: bool, still: Iterable[Standing] = ()) -> dict[str, Any]:
    """What a running sidecar answers, of a change where none runs."""
    return {
        **tree_of(standing), "changed": changed, "saved": True, "problem": None,
        "still_halted": [tree_of(one) for one in still], "cancelling": None, "running": False,
    }  # fmt: skip


def _halted(folder: Path, done: dict[str, Any], *, as_json: bool) -> None:
    """It holds in the running sidecar; where orders are cancelled, wait until that is over."""
    run = done["cancelling"]
    failed = None
    if not as_json:
        try:
            _say_done(done, "halted")
        except ConfigError as error:
            if run is None:
                raise
            failed = error  # the orders first
            click.echo(str(error), err=True)
    if run is not None:
        # what is read by a program has its progress beside it
        console = Console(stderr=as_json)
        try:
            run = done["cancelling"] = follow(folder, run, console)
        except ConfigError as error:
            if not as_json:
                raise
            done["error"] = str(error)
            click.echo(f"opend-sidecar: {error}", err=True)
        if not as_json:
            show(run, console)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    if failed is not None or not done["saved"] or "error" in done or (run is not None and not all_cancelled(run)):
        raise SystemExit(NOT_DONE)


@click.command(
    "resume",
    cls=Command,
    exits={
        0: "it holds, in memory and on disk",
        1: "it could not be done, or holds in memory and not on disk",
    },
    examples="""
opend-sidecar resume --reason "it was a drill"
opend-sidecar resume --key bot --reason "mended"
opend-sidecar resume --reduce-only --reason "get flat first"
""",
)
@_what
@click.option(
    "--reduce-only", is_flag=True, help="Not whole: let orders pass that shrink a position, and nothing else."
)
@json_option()
@where
def resume(
    key_id: str | None, reason: str, reduce_only: bool, as_json: bool, config: Path | None, state_dir: Path | None
) -> None:
    """End a halt: of all trading, or of one key.

    A key that was halted by itself stays halted when all trading is resumed, and the other way round; what is still halted is
    told. A file HALT in the state directory is removed with the halt of all trading. What a breaker halted is resumed the same way.
    """
    _, folder = folder_of(config, state_dir)
    wanted = _wanted(key_id, reason, reduce_only=reduce_only)
    done = ask(folder, "POST", "/api/admin/resume", _body(wanted))
    if done is not None:
        if not as_json:
            _say_done(done, "resumed")
            return
        click.echo(json.dumps({**done, "running": True}, indent=2))
        if not done["saved"]:
            raise SystemExit(NOT_DONE)
        return
    with StateDir.acquire(folder):
        states = States(folder)
        try:
            before = states.resume(wanted.key_id)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                f"the file `{folder / HALT_NAME}` cannot be removed ({reason}), so trading stays halted"
            ) from None
        after = Standing(key_id=wanted.key_id)
        if wanted.state is not None:
            after = states.halt(wanted.key_id, wanted.reason, OWNER.by, state=wanted.state)
        _save(states, after, wanted)
        all_states = [states.overall, *states.keys.values()] if wanted.state is None else []
    still = [one for one in all_states if one.state is not TradingState.ACTIVE]
    changed = before.state is not after.state
    if as_json:
        click.echo(json.dumps(_on_disk(after, changed=changed, still=still), indent=2))
        return
    what = (_IS if changed else _WAS)[after.state.name]
    click.echo(f"{_whose(wanted.key_id)} {what}: {wanted.reason}")
    click.echo(f"on disk only: {_NONE_RUNS}")
    _say_still([tree_of(one) for one in still])


# -- where -----------------------------------------------------------------------------------------------------------


def folder_of(config: Path | None, state_dir: Path | None) -> tuple[Settings, Path]:
    """The settings, and the state directory of the running sidecar. Raises ConfigError where there is none."""
    settings = settings_from(config, {"state_dir": state_dir})
    folder = settings.state_dir.expanduser()
    if not folder.is_dir():
        # SECURITY: a halt in a folder that no sidecar uses would halt nothing, and say that it did
        raise ConfigError(
            f"there is no state directory `{folder}`; name that of the sidecar with --state-dir or --config"
        )
    return settings, folder


def _wanted(key_id: str | None, reason: str, *, reduce_only: bool = False, cancel_orders: bool = False) -> Wanted:
    state = TradingState.REDUCING.name if reduce_only else None
    try:
        return wanted_of({"key": key_id, "reason": reason, "cancel_orders": cancel_orders, "state": state})
    except ValueError as error:
        raise WrongUsage(str(error)) from None


def _body(wanted: Wanted) -> dict[str, Any]:
    body: dict[str, Any] = {"reason": wanted.reason}
    if wanted.key_id is not None:
        body["key"] = wanted.key_id
    if wanted.cancel_orders:
        body["cancel_orders"] = True
    if wanted.state is not None:
        body["state"] = wanted.state.name
    return body


def _known(key_id: str | None, settings: Settings) -> None:
    """A key that keys.json does not have is most likely misspelt."""
    if key_id is None:
        return
    known = {record.key.id for record in load(settings.keys.file, default_zone(settings.keys.timezone)).records}
    if key_id not in known:
        raise ConfigError(f"there is no key {shown(key_id)} in `{settings.keys.file}`{closest(key_id, known)}")


# -- without a running sidecar ---------------------------------------------------------------------------------------


def _halt_by_file(folder: Path, wanted: Wanted, error: ConfigError, *, as_json: bool) -> None:
    """The last resort: one runs and does not answer, but looks for the file HALT all the same."""
    if wanted.key_id is not None:
        raise ConfigError(f"{error}; to halt all trading, run this without --key")
    if wanted.state is not None:
        raise ConfigError(f"{error}; to halt all trading, run this without --reduce-only")
    try:
        states_file.make_halt_file(folder, wanted.reason, cancel_orders=wanted.cancel_orders)
    except OSError as failure:
        reason = (failure.strerror or str(failure)).lower()
        raise ConfigError(
            f"{error}; and `{folder / HALT_NAME}` cannot be written: {reason}. Trading is NOT halted"
        ) from None
    if as_json:
        click.echo(json.dumps({"halt_file": str(folder / HALT_NAME), "error": f"not confirmed: {error}"}, indent=2))
    else:
        click.echo(
            f"made `{folder / HALT_NAME}`: a sidecar that runs halts within a second, one that starts later at once"
        )
        if wanted.cancel_orders:
            click.echo("it then cancels all working orders as well; its log tells how far it has come")
    click.echo(f"opend-sidecar: not confirmed: {error}", err=True)
    raise SystemExit(NOT_DONE)


def _save(states: States, standing: Standing, wanted: Wanted) -> None:
    change = Change(standing.state, wanted.key_id, datetime.now(UTC), wanted.reason, OWNER.by)
    states.to_be_recorded(change)
    if not states.save_now():
        raise ConfigError(f"nothing is changed: {states.problem}")


def from_disk(folder: Path) -> dict[str, Any]:
    """The status where no sidecar runs: what the next one starts with. Raises ConfigError where that cannot be read."""
    try:
        found = states_file.read(folder) or states_file.Document()
    except ValueError as error:
        raise ConfigError(
            f"{_NONE_RUNS}, and `{states_file.FILE_NAME}` there cannot be read ({error}): one that starts halts"
        ) from None
    overall = found.overall
    wanted = states_file.halt_wanted(folder)
    if overall.state is TradingState.ACTIVE and wanted is not None:
        overall = Standing(TradingState.HALTED, None, None, wanted.reason, BY_FILE)
    return {
        "trading": tree_of(overall),
        "keys": [tree_of(one) for _, one in sorted(found.keys.items())],
        "saved": True,
        "save_problem": None,
        "cancelling": [],
        "ready": False,
        "problems": [{"component": "sidecar", "message": _NONE_RUNS}],
        "revision": None,
        "pid": None,
        "version": None,
        "began": None,
        "upstream": None,
        "clients": {},
        "headroom": [],
        "breakers": {},
        "records": None,
        "refusals": [],
    }


# -- words -----------------------------------------------------------------------------------------------------------


def _say_done(done: dict[str, Any], verb: str) -> None:
    what = (_IS if done["changed"] else _WAS)[done["state"]]
    click.echo(f"{_whose(done['key'])} {what}" + (f": {done['reason']}" if done["reason"] else ""))
    _say_still(done["still_halted"])
    if not done["saved"]:
        after = "runs" if verb == "halted" else "is halted"
        raise ConfigError(
            f"it holds in memory, but NOT on disk: {done['problem']}. A sidecar that is started again {after}"
        )
    click.echo("it holds in memory and on disk")


def _say_still(still: list[dict[str, Any]]) -> None:
    for one in still:
        click.echo(f"still halted: {standing_line(one)}")


def standing_line(one: dict[str, Any]) -> str:
    """`key `bot` is HALTED since 2026-01-05 10:41:00 UTC, by the command line: runaway loop`."""
    if one["state"] == TradingState.ACTIVE.name:
        return f"{_whose(one['key'])} is active"
    since = "" if one["since"] is None else f" since {one['since'].replace('T', ' ').replace('+00:00', ' UTC')}"
    return f"{_whose(one['key'])} is {one['state']}{since}, by {one['by']}: {one['reason']}"


def _whose(key_id: str | None) -> str:
    return "all trading" if key_id is None else f"key `{key_id}`"
