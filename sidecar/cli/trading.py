"""The commands halt, resume and status: to the running sidecar, or where none runs to what the next one will find."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sidecar.border import closest, shown
from sidecar.cli.owner import NoAnswer, ask
from sidecar.config import load_settings
from sidecar.errors import ConfigError
from sidecar.keys.file import load
from sidecar.keys.machine import default_zone
from sidecar.ledger import states_file
from sidecar.ledger.state_dir import StateDir
from sidecar.ledger.states import States
from sidecar.ledger.states_file import HALT_NAME, Change
from sidecar.policy.trading import Standing, TradingState
from sidecar.settings import Settings
from sidecar.switch import OWNER, Wanted, tree_of, wanted_of

_NONE_RUNS = "no sidecar runs with this state directory"


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which the commands find the running sidecar."""
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


@click.command("halt")
@_what
@_where
def halt(key_id: str | None, reason: str, config: Path | None, state_dir: Path | None) -> None:
    """Refuse every new order and change at once; cancels go on.

    It holds until `resume`, over restarts too. Where no sidecar runs, the next one starts halted. A file HALT in the
    state directory does the same without this command. Exit code 1 if it does not hold both in memory and on disk.
    """
    settings, folder = _folder(config, state_dir)
    wanted = _wanted(key_id, reason)
    try:
        done = ask(folder, "POST", "/api/admin/halt", _body(wanted))
    except NoAnswer as error:
        _halt_by_file(folder, wanted, error)
        return
    if done is not None:
        _say_done(done, "halted")
        return
    try:
        state = StateDir.acquire(folder)
    except ConfigError as error:
        _halt_by_file(folder, wanted, error)
        return
    with state:
        _known(wanted.key_id, settings)
        states = States(folder)
        standing = states.halt(wanted.key_id, wanted.reason, OWNER.by)
        _save(states, standing, wanted)
    click.echo(f"{_whose(wanted.key_id)} is halted: {wanted.reason}")
    click.echo(f"on disk only: {_NONE_RUNS}; the next one starts with it")


@click.command("resume")
@_what
@_where
def resume(key_id: str | None, reason: str, config: Path | None, state_dir: Path | None) -> None:
    """End a halt; of all trading also that of a file HALT, which is removed."""
    _, folder = _folder(config, state_dir)
    wanted = _wanted(key_id, reason)
    done = ask(folder, "POST", "/api/admin/resume", _body(wanted))
    if done is not None:
        _say_done(done, "resumed")
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
        _save(states, Standing(key_id=wanted.key_id), wanted)
        still = [states.overall, *states.keys.values()]
    changed = before.state is not TradingState.ACTIVE
    click.echo(f"{_whose(wanted.key_id)} {'is resumed' if changed else 'was not halted'}: {wanted.reason}")
    click.echo(f"on disk only: {_NONE_RUNS}")
    _say_still([tree_of(one) for one in still if one.state is not TradingState.ACTIVE])


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@_where
def status(as_json: bool, config: Path | None, state_dir: Path | None) -> None:
    """Show what is halted, and whether the sidecar and OpenD are well. Exit code 1 if no sidecar answers."""
    _, folder = _folder(config, state_dir)
    told = ask(folder, "GET", "/api/admin/status")
    if told is None:
        told = _from_disk(folder)
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(_lines(told)))
    if told["pid"] is None:
        raise SystemExit(1)


# -- where -----------------------------------------------------------------------------------------------------------


def _folder(config: Path | None, state_dir: Path | None) -> tuple[Settings, Path]:
    settings = load_settings(config, {"state_dir": state_dir})
    folder = settings.state_dir.expanduser()
    if not folder.is_dir():
        # SECURITY: a halt in a folder that no sidecar uses would halt nothing, and say that it did
        raise ConfigError(
            f"there is no state directory `{folder}`; name that of the sidecar with --state-dir or --config"
        )
    return settings, folder


def _wanted(key_id: str | None, reason: str) -> Wanted:
    try:
        return wanted_of({"key": key_id, "reason": reason})
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _body(wanted: Wanted) -> dict[str, Any]:
    return {"reason": wanted.reason, **({} if wanted.key_id is None else {"key": wanted.key_id})}


def _known(key_id: str | None, settings: Settings) -> None:
    """A key that keys.json does not have is most likely misspelt."""
    if key_id is None:
        return
    known = {record.key.id for record in load(settings.keys.file, default_zone(settings.keys.timezone)).records}
    if key_id not in known:
        raise ConfigError(f"there is no key {shown(key_id)} in `{settings.keys.file}`{closest(key_id, known)}")


# -- without a running sidecar ---------------------------------------------------------------------------------------


def _halt_by_file(folder: Path, wanted: Wanted, error: ConfigError) -> None:
    """The last resort: one runs and does not answer, but looks for the file HALT all the same."""
    if wanted.key_id is not None:
        raise ConfigError(f"{error}; to halt all trading, run this without --key")
    try:
        states_file.make_halt_file(folder, wanted.reason)
    except OSError as failure:
        reason = (failure.strerror or str(failure)).lower()
        raise ConfigError(
            f"{error}; and `{folder / HALT_NAME}` cannot be written: {reason}. Trading is NOT halted"
        ) from None
    click.echo(f"made `{folder / HALT_NAME}`: a sidecar that runs halts within a second, one that starts later at once")
    raise ConfigError(f"not confirmed: {error}")


def _save(states: States, standing: Standing, wanted: Wanted) -> None:
    change = Change(standing.state, wanted.key_id, datetime.now(UTC), wanted.reason, OWNER.by)
    states.to_be_recorded(change)
    if not states.save_now():
        raise ConfigError(f"nothing is changed: {states.problem}")


def _from_disk(folder: Path) -> dict[str, Any]:
    try:
        found = states_file.read(folder) or states_file.Document()
    except ValueError as error:
        raise ConfigError(
            f"{_NONE_RUNS}, and `{states_file.FILE_NAME}` there cannot be read ({error}): one that starts halts"
        ) from None
    overall = found.overall
    reason = states_file.halt_wanted(folder)
    if overall.state is TradingState.ACTIVE and reason is not None:
        overall = Standing(TradingState.HALTED, None, None, reason, "the file HALT")
    return {
        "trading": tree_of(overall),
        "keys": [tree_of(one) for _, one in sorted(found.keys.items())],
        "saved": True,
        "save_problem": None,
        "ready": False,
        "problems": [{"component": "sidecar", "message": _NONE_RUNS}],
        "upstream": None,
        "revision": None,
        "pid": None,
    }


# -- words -----------------------------------------------------------------------------------------------------------


def _say_done(done: dict[str, Any], verb: str) -> None:
    what = f"is {verb}" if done["changed"] else f"was {'halted already' if verb == 'halted' else 'not halted'}"
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
        click.echo(f"still halted: {_standing(one)}")


def _lines(told: dict[str, Any]) -> list[str]:
    trading, upstream = told["trading"], told["upstream"]
    lines = [f"trading    {_standing(trading)}"]
    lines += [f"           {_standing(one)}" for one in told["keys"]]
    if not told["saved"]:
        lines.append(f"           NOT ON DISK, a restart would not know this: {told['save_problem']}")
    lines.append(f"ready      {'yes' if told['ready'] else 'no'}")
    lines += [f"           {one['component']}: {one['message']}" for one in told["problems"]]
    if upstream is not None:
        lines.append(f"OpenD      {upstream['address']}, {'connected' if upstream['up'] else 'not connected'}")
    if told["revision"] is not None:
        lines.append(f"keys       revision {told['revision'][:12]}")
    if told["pid"] is not None:
        lines.append(f"process    {told['pid']}")
    return lines


def _standing(one: dict[str, Any]) -> str:
    if one["state"] == TradingState.ACTIVE.name:
        return f"{_whose(one['key'])} is active"
    since = "" if one["since"] is None else f" since {one['since'].replace('T', ' ').replace('+00:00', ' UTC')}"
    return f"{_whose(one['key'])} is {one['state']}{since}, by {one['by']}: {one['reason']}"


def _whose(key_id: str | None) -> str:
    return "all trading" if key_id is None else f"key `{key_id}`"
