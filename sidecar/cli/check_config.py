"""`check-config`: loads settings and keys as `run` would and says what is wrong or doubtful. Changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sidecar.cli.command import NOT_DONE, Command, json_option
from sidecar.cli.reload import answer_of, settings_lines
from sidecar.config import load_settings, warnings_of
from sidecar.doctor.check import Verdict
from sidecar.errors import ConfigError
from sidecar.keys.advice import advice
from sidecar.keys.container import address_advice, in_bridge
from sidecar.keys.file import KeysFile, load
from sidecar.keys.machine import default_zone, machine_id
from sidecar.listeners.certificate import Certificate
from sidecar.settings import Settings
from sidecar.unlocking import trade_password
from sidecar.wire.encryption import RsaKey

_SIGNS = {Verdict.GOOD: "✓", Verdict.DOUBT: "!", Verdict.BAD: "✗"}
_SOON = 14
"""Days before a certificate expires in which that is worth a word."""


@click.command(
    "check-config",
    cls=Command,
    exits={0: "`run` would take them (✓), though there may be doubts (!)", 1: "`run` would refuse them (✗)"},
    examples="""
opend-sidecar check-config --config sidecar.yaml
opend-sidecar check-config --config sidecar.yaml --running
opend-sidecar check-config --json | jq '.checks[] | select(.verdict == "bad")'
""",
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.  [default: the defaults]")
@click.option("--keys-file", type=click.Path(path_type=Path), help="keys.json, if another than the settings name.")
@click.option(
    "--running",
    is_flag=True,
    help="Also ask the running sidecar what a reload would change there, and what needs a restart.",
)
@json_option()
def check_config(config: Path | None, keys_file: Path | None, running: bool, as_json: bool) -> None:
    """Check settings and keys as `run` would, and change nothing.

    Before the first start, after an edit, and with a new version before it runs. What is taken and may yet be a mistake is
    marked with !. `doctor` looks at the machine around them as well.
    """
    report = _Report(quiet=as_json)
    settings = report.settings(config, keys_file)
    report.keys(settings, keys_file)
    if running:
        report.running(settings)
    if as_json:
        click.echo(json.dumps({"ok": not report.failed, "checks": report.checks, "running": report.told}, indent=2))
    if report.failed:
        raise SystemExit(NOT_DONE)


class _Report:
    """Prints as it goes unless it is quiet, and remembers everything, and whether anything failed."""

    def __init__(self, *, quiet: bool) -> None:
        self.failed = False
        self.checks: list[dict[str, str]] = []
        self.told: dict[str, Any] | None = None
        """What the running sidecar says of a reload."""
        self._quiet = quiet

    def settings(self, config: Path | None, keys_file: Path | None) -> Settings | None:
        try:
            settings = load_settings(config, {"keys_file": keys_file})
        except ConfigError as error:
            self._bad("settings", str(error))
            return None
        self._good(
            "settings", f"settings `{config}`" if config is not None else "settings: none given, the defaults hold"
        )
        for text in warnings_of(settings):
            self._doubt("settings", text)
        self._rsa_keys(settings)
        self._certificates(settings)
        self._trade_password(settings)
        return settings

    def keys(self, settings: Settings | None, keys_file: Path | None) -> None:
        """Keys are looked at even when the settings are broken, so that one run shows everything."""
        known = settings or Settings()
        file = known.keys.file if keys_file is None else keys_file.expanduser()
        try:
            loaded = load(file, default_zone(known.keys.timezone), connections=known.listeners.connections)
        except ConfigError as error:
            self._bad("keys", str(error))
            return
        count = "1 key" if len(loaded.records) == 1 else f"{len(loaded.records)} keys"
        self._good("keys", f"keys file `{file}`: {count}, revision {loaded.revision[:12]}")
        for text in loaded.warnings:
            self._doubt("keys", text)
        if not loaded.records:
            self._doubt("keys", "there is no key yet, so nobody can use the sidecar; make one with `gen-key`")
        for record in loaded.records:
            for text in advice(record, datetime.now(UTC)):
                self._doubt("keys", text)
        for text in address_advice([record.key for record in loaded.records], in_bridge()):
            self._doubt("keys", text)
        self._rates(known, loaded)
        self._bound_listeners(known, loaded)
        self._machine(loaded)

    def running(self, settings: Settings | None) -> None:
        """The running sidecar reads its own file, with the flags it was started with."""
        try:
            told = answer_of((settings or Settings()).state_dir, "GET")
        except ConfigError as error:
            self._bad("running", str(error))
            return
        self.told = told["settings"]
        self.failed |= told["settings"]["problem"] is not None
        if self._quiet:
            return
        click.echo("the running sidecar, at a reload:")
        for line in settings_lines(told["settings"], "would change"):
            click.echo(line)

    def _rsa_keys(self, settings: Settings) -> None:
        named = [("upstream.rsa_key", settings.upstream.rsa_key)]
        for place, door in enumerate(settings.listeners.tcp):
            named.append((f"listeners.tcp[{place}].rsa_key", door.rsa_key))
            named += [(f"listeners.tcp[{place}].rsa_keys.{key_id}", path) for key_id, path in door.rsa_keys]
        for setting, path in named:
            if path is None:
                continue
            try:
                RsaKey.load(path)
            except ConfigError as error:
                self._bad("rsa_keys", f"setting `{setting}`: {error}")
            else:
                self._good("rsa_keys", f"setting `{setting}`: `{path}`")

    def _certificates(self, settings: Settings) -> None:
        for name, door in settings.listeners.named():
            if not door.tls.on:
                continue
            try:
                certificate = Certificate(name, door.tls)
            except ConfigError as error:
                self._bad("certificates", str(error))
                continue
            for text in certificate.warnings:
                self._doubt("certificates", text)
            if certificate.problem is not None:
                self._doubt("certificates", certificate.problem)
                continue
            days = (certificate.expires_at - datetime.now(UTC)).days
            text = f"setting `{name}.tls`: `{door.tls.cert}`, {days} days until it expires"
            (self._good if days >= _SOON else self._doubt)("certificates", text)

    def _rates(self, settings: Settings, loaded: KeysFile) -> None:
        fx, capped = (
            settings.policy.fx,
            [record.key for record in loaded.records if record.key.cap_currency is not None],
        )
        known = {fx.base, *dict(fx.rates)}
        for key in capped:
            if key.cap_currency not in known:
                what = "an order in any other currency is refused"
                self._doubt("rates", f"key `{key.id}`: policy.fx has no rate of `{key.cap_currency}`, so {what}")
        if capped and fx.as_of is not None:
            age = (datetime.now(UTC).date() - fx.as_of).days
            if age > fx.max_age_days:
                self._doubt(
                    "rates",
                    f"policy.fx: the rates are of {fx.as_of}, {age} days old; older than {fx.max_age_days} they are not used",
                )
            if age < -1:  # a day ahead is only another zone
                self._doubt("rates", f"policy.fx: the rates are of {fx.as_of}, which is still to come")

    def _trade_password(self, settings: Settings) -> None:
        try:
            password = trade_password(settings.unlock)
        except ConfigError as error:
            self._bad("trade_password", str(error))
        else:
            if password is not None:
                self._good("trade_password", "setting `unlock.mode`: sidecar, and there is a trade password")

    def _bound_listeners(self, settings: Settings, loaded: KeysFile) -> None:
        known = {record.key.id for record in loaded.records}
        for place, door in enumerate(settings.listeners.tcp):
            for key_id in (*([door.key] if door.key is not None else []), *(one for one, _ in door.rsa_keys)):
                if key_id not in known:
                    advised = f"make it with `gen-key --id {key_id}`"
                    self._bad("listeners", f"setting `listeners.tcp[{place}]`: there is no key `{key_id}`; {advised}")

    def _machine(self, loaded: KeysFile) -> None:
        if not any(record.key.allowed_machines for record in loaded.records):
            return
        try:
            machine_id()
        except ConfigError as error:
            self._doubt("machine", f"keys are bound to machines, but {error}")

    def _good(self, about: str, text: str) -> None:
        self._say(about, Verdict.GOOD, text)

    def _doubt(self, about: str, text: str) -> None:
        self._say(about, Verdict.DOUBT, text)

    def _bad(self, about: str, text: str) -> None:
        self.failed = True
        self._say(about, Verdict.BAD, text)

    def _say(self, about: str, verdict: Verdict, text: str) -> None:
        self.checks.append({"check": about, "verdict": verdict.value, "text": text})
        if not self._quiet:
            click.echo(f"{_SIGNS[verdict]} {text}", err=verdict is Verdict.BAD)
