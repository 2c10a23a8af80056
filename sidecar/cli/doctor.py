"""`doctor`: tries everything a sidecar depends on, says what is well and what is not, and what to do. Changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sidecar.cli.command import Command, WrongUsage, json_option, settings_from
from sidecar.cli.owner import NoAnswer, ask
from sidecar.doctor.around import around_checks
from sidecar.doctor.check import Check, Verdict, bad, doubt, good
from sidecar.doctor.machine import disk_checks, keys_checks, port_checks, settings_checks, state_checks
from sidecar.doctor.opend import opend_checks
from sidecar.doctor.paper_order import paper_checks
from sidecar.doctor.probe import probe_checks, shareable
from sidecar.doctor.unasked import unasked_checks
from sidecar.errors import ConfigError, UpstreamError
from sidecar.settings import Settings

_SIGNS = {
    Verdict.GOOD: ("✓", "green"),
    Verdict.DOUBT: ("!", "yellow"),
    Verdict.BAD: ("✗", "red"),
    Verdict.UNASKED: ("–", "blue"),
}


@click.command(
    "doctor",
    cls=Command,
    exits={
        0: "nothing is wrong (✓), though there may be doubts (!)",
        1: "something is wrong (✗); what to do stands below it",
    },
    examples="""
opend-sidecar doctor --config sidecar.yaml
sudo opend-sidecar doctor --config sidecar.yaml     # once: root sees more
opend-sidecar doctor --json | jq '.checks[] | select(.verdict == "bad")'
""",
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.  [default: the defaults]")
@click.option("--keys-file", type=click.Path(path_type=Path), help="keys.json, if another than the settings name.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="If another than the settings name.")
@click.option("--upstream", metavar="HOST:PORT", help="OpenD, if another than the settings name.")
@click.option("--probe", is_flag=True, help="Also try on OpenD, by reading, what its description leaves open.")
@click.option(
    "--paper", is_flag=True, help="--probe, and one paper order far from the market, which is cancelled at once."
)
@json_option()
def doctor(
    config: Path | None, keys_file: Path | None, state_dir: Path | None, upstream: str | None, probe: bool, paper: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Try everything the sidecar depends on, and say what to do.

    OpenD, keys, clock, ports, disk, and whether OpenD can be reached around the sidecar: run it before the first start, and
    whenever something is odd. It only looks: nothing is changed, and without --paper no order is sent. What --probe and
    --paper tell is a report that may be shared: no account, user or address is in it. Run it as the sidecar's user; run it
    as root once to see also what only root sees (OpenD's other ports, and what other users reach).
    """
    settings: Settings | None = None
    flags = {"keys_file": keys_file, "state_dir": state_dir, "upstream": upstream}
    checks: list[Check] = []
    probed: list[Check] = []
    try:
        settings = settings_from(config, flags)
    except WrongUsage:
        raise  # what was typed wrong is no finding
    except ConfigError as error:
        checks.append(bad("settings", str(error), "mend the settings; all else is looked at once they load"))
    if settings is not None:
        checks.append(good("settings", f"`{config}`" if config is not None else "none given, the defaults hold"))
        checks += _of(settings)
        if probe or paper:
            probed += asyncio.run(_probed(settings, paper=paper))
    if as_json:
        click.echo(json.dumps(_tree(checks, probed), indent=2))
    else:
        click.echo("\n".join(_lines(checks)))
        if probed:
            click.echo("\nreport to share, without accounts, users and addresses:")
            click.echo("\n".join(_lines(probed)))
    if not _ok(*checks, *probed):
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


async def _probed(settings: Settings, *, paper: bool) -> list[Check]:
    found = [check async for check in probe_checks(settings)]
    if paper:
        try:
            found += [check async for check in paper_checks(settings)]
        except (UpstreamError, ConfigError) as error:
            found.append(doubt("paper.order", f"no paper order was sent: {error}", "try again"))
    found += unasked_checks(settings, paper=paper)
    return [shareable(check, settings) for check in found]


def _ok(*checks: Check) -> bool:
    return not any(check.verdict is Verdict.BAD for check in checks)


def _tree(checks: list[Check], probed: list[Check]) -> dict[str, Any]:
    return {"ok": _ok(*checks, *probed), "checks": [*map(_one, checks)], "probe": [*map(_one, probed)] or None}


def _one(check: Check) -> dict[str, Any]:
    return {"check": check.name, "verdict": check.verdict.value, "text": check.text, "remedy": check.remedy or None}


def _lines(checks: list[Check]) -> Iterator[str]:
    for check in checks:
        sign, colour = _SIGNS[check.verdict]
        yield f"{click.style(sign, fg=colour)} {check.name}: {check.text}"
        if check.remedy:
            yield f"    → {check.remedy}"
    count = {verdict: sum(check.verdict is verdict for check in checks) for verdict in Verdict}
    left = f", {count[Verdict.UNASKED]} not asked" if count[Verdict.UNASKED] else ""
    yield f"{count[Verdict.GOOD]} well, {count[Verdict.DOUBT]} in doubt, {count[Verdict.BAD]} wrong{left}"
