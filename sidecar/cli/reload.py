"""`reload`: lets the running sidecar read its files again, and says what is in force now. Reads no settings for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import click

from sidecar.cli.command import Command, json_option, settings_from
from sidecar.cli.owner import ask
from sidecar.cli.trading import where
from sidecar.errors import ConfigError

PATH = "/api/admin/reload"
BROKEN, RESTART = 1, 3
"""Exit codes: something cannot be used, so what was before stays in force; all is well, but some settings need a restart."""


@click.command(
    "reload",
    cls=Command,
    exits={
        0: "all of it is in force",
        BROKEN: "something cannot be used, so what was before stays in force; or no sidecar answers",
        RESTART: "all is well, and some settings hold only after a restart",
    },
    examples="""
opend-sidecar check-config --running     # first, what it would change
opend-sidecar reload
""",
)
@json_option()
@where
def reload(as_json: bool, config: Path | None, state_dir: Path | None) -> None:
    """Let the running sidecar read its files again.

    It reads keys.json, settings and certificates, and opens the audit file anew, without a restart, as SIGHUP does. It notices
    changes of these files by itself as well; this says what became of them.

    Settings are read from the file that the running sidecar was started with; its flags still win over it. --config only
    tells where that sidecar is found.
    """
    # with a state directory the file is not needed, which may be the one that is broken
    folder = settings_from(config, {}).state_dir if state_dir is None else state_dir.expanduser()
    told = answer_of(folder, "POST")
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(_lines(told)))
    settings, keys = told["settings"], told["keys"]
    if settings["problem"] or not keys["ok"] or told["certificates"]["problems"]:
        raise SystemExit(BROKEN)
    if settings["needs_restart"]:
        raise SystemExit(RESTART)


def answer_of(folder: Path, method: Literal["GET", "POST"]) -> dict[str, Any]:
    """What a reload did (POST) or would do to the settings (GET). Raises ConfigError."""
    told = ask(folder, method, PATH)
    if told is None:
        raise ConfigError(
            f"no sidecar runs with the state directory `{folder}`; name it with --state-dir, or --config as `run` got it"
        )
    return told


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    keys = told["keys"]
    yield f"{'✓' if keys['ok'] else '✗'} keys.json: {keys['message']}"
    yield from (f"! {text}" for text in keys["warnings"])
    yield from settings_lines(told["settings"], "changed")
    problems = told["certificates"]["problems"]
    yield from (f"✗ {text}" for text in problems)
    if not problems:
        yield "✓ certificates: read again"
    yield "✓ audit: the file is opened anew"


def settings_lines(settings: Mapping[str, Any], changed: str) -> Iterator[str]:
    """What became of the settings, or would; `changed` says which. ✓ ✗ ! as `check-config` has them."""
    file = settings["file"]
    if file is None:
        yield "✓ settings: it was started without a file, so there are none to read again"
        return
    if settings["problem"]:
        yield f"✗ {settings['problem']}"
        yield "  the settings before stay in force"
        return
    count = len(settings["changed"])
    yield f"✓ settings `{file}`: {f'{count} {changed}' if count else 'nothing ' + changed}"
    yield from _changes(settings["changed"])
    if settings["needs_restart"]:
        yield "! these need a restart; until then what stands first is in force"
        yield from _changes(settings["needs_restart"])
    yield from (f"! {text}" for text in settings["warnings"])


def _changes(found: Iterable[Mapping[str, str]]) -> Iterator[str]:
    for one in found:
        yield f"    {one['setting']}: {one['from']} → {one['to']}"
