"""`doctor`: tries everything a sidecar depends on, says what is well and what is not, and what to do. Changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sidecar.cli.owner import NoAnswer, ask
from sidecar.config import load_settings
from sidecar.doctor.around import around_checks
from sidecar.doctor.check import Check, Verdict, bad, good
from sidecar.doctor.machine import disk_checks, keys_checks, port_checks, settings_checks, state_checks
from sidecar.doctor.opend import opend_checks
from sidecar.errors import ConfigError
from sidecar.settings import Settings

_SIGNS = {Verdict.GOOD: ("✓", "green"), Verdict.DOUBT: ("!", "yellow"), Verdict.BAD: ("✗", "red")}


@click.command("doctor")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.  [default: the defaults]")
@click.option("--keys-file", type=click.Path(path_type=Path), help="keys.json, if another than the settings name.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="If another than the settings name.")
@click.option("--upstream", metavar="HOST:PORT", help="OpenD, if another than the settings name.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def doctor(
    config: Path | None, keys_file: Path | None, state_dir: Path | None, upstream: str | None, as_json: bool
) -> None:
    """Try OpenD, keys, clock, ports, disk, and whether OpenD can be reached around the sidecar.

    It only looks: nothing is changed and no order is sent. Run it as the sidecar's user; run it as root once to see also what
    only root sees (OpenD's other ports, and what other users reach).

    \b
    Exit codes:
      0  nothing is wrong (✓), though there may be doubts (!)
      1  something is wrong (✗); what to do stands below it
    """
    settings: Settings | None = None
    flags = {"keys_file": keys_file, "state_dir": state_dir, "upstream": upstream}
    checks: list[Check] = []
    try:
        settings = load_settings(config, flags)
    except ConfigError as error:
        checks.append(bad("settings", str(error), "mend the settings; all else is looked at once they load"))
    if settings is not None:
        checks.append(good("settings", f"`{config}`" if config is not None else "none given, the defaults hold"))
        checks += _of(settings)
    wrong = any(check.verdict is Verdict.BAD for check in checks)
    click.echo(json.dumps(_tree(checks), indent=2) if as_json else "\n".join(_lines(checks)))
    if wrong:
        raise SystemExit(1)


def _of(settings: Settings) -> Iterator[Check]:
    yield from settings_checks(settings)
    try:
        running = ask(settings.state_dir.expanduser(), "GET", "/api/admin/status")
    except NoAnswer as error:
        running = None
        yield bad("running", str(error), "run doctor as the sidecar's user; if it hangs, its log may say why")
    yield from keys_checks(settings, running)
    yield from state_checks(settings, running)
    yield from disk_checks(settings)
    yield from port_checks(settings, running)
    yield from asyncio.run(_asked(settings))
    yield from around_checks(settings, None if running is None else running["pid"])


async def _asked(settings: Settings) -> list[Check]:
    return [check async for check in opend_checks(settings)]


def _tree(checks: list[Check]) -> dict[str, Any]:
    return {
        "ok": not any(check.verdict is Verdict.BAD for check in checks),
        "checks": [
            {"check": one.name, "verdict": one.verdict.value, "text": one.text, "remedy": one.remedy or None}
            for one in checks
        ],
    }


def _lines(checks: list[Check]) -> Iterator[str]:
    for check in checks:
        sign, colour = _SIGNS[check.verdict]
        yield f"{click.style(sign, fg=colour)} {check.name}: {check.text}"
        if check.remedy:
            yield f"    → {check.remedy}"
    count = {verdict: sum(check.verdict is verdict for check in checks) for verdict in Verdict}
    yield f"{count[Verdict.GOOD]} well, {count[Verdict.DOUBT]} in doubt, {count[Verdict.BAD]} wrong"
