"""Settings changed under a running sidecar: by itself, by SIGHUP and by command; open connections trade on by the new ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import SdkProcess
from raw_client import GLOBAL_STATE, PLACE_ORDER, RawClient, code_of, state_request

from sidecar.cli.main import main

TRADER = ("qot:read", "acc:read", "trade:simulate")
SOON = 2.0
"""Seconds within which a changed file holds."""


def rates(usd: float, days_old: int = 0) -> dict[str, Any]:
    day = datetime.now(UTC).date() - timedelta(days=days_old)
    return {"fx": {"as_of": day.isoformat(), "base": "HKD", "rates": {"USD": usd}}}


def write(sidecar: LiveSidecar, **sections: Any) -> None:
    """The file as it was with these sections over it, replaced in one step."""
    tree = json.loads(sidecar.config_file.read_text())
    write_text(sidecar.config_file, json.dumps({**tree, **sections}))


def write_text(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def reloads(sidecar: LiveSidecar, result: str = "ok") -> float:
    return sidecar.metric("sidecar_config_reloads_total", result=result)


@dataclass(frozen=True)
class Told:
    returncode: int
    stdout: str
    stderr: str


def command(sidecar: LiveSidecar, *words: str) -> Told:
    done = CliRunner().invoke(main, [*words, "--state-dir", str(sidecar.folder / "state")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Told(done.exit_code, done.stdout, done.stderr)


def buy_apple(bot: SdkProcess) -> Any:
    return bot.call("US", "place_order", price=120, qty=100, code="US.AAPL", trd_side="BUY", trd_env="SIMULATE")


@pytest.mark.parametrize("by", ["itself", "SIGHUP", "reload"])
def test_rates_of_exchange_renewed_every_day_hold_without_a_restart(
    by: str, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100_000, cap_currency="HKD")
    sidecar = stage.sidecar(sandbox.port, policy=rates(7.78, days_old=8))
    bot = stage.sdk(sidecar.port, key)
    bot.open("US", "trade", filter_trdmarket="US")
    assert buy_apple(bot).code() == "fx_unavailable", "the rates are too old"

    def renew(usd: float) -> None:
        before = reloads(sidecar)
        write(sidecar, policy=rates(usd))
        if by == "SIGHUP":
            sidecar.hangup()
        if by == "reload":
            assert command(sidecar, "reload").returncode == 0
        eventually(lambda: reloads(sidecar) > before, SOON, "the new rates")

    renew(7.78)
    assert buy_apple(bot).ok
    renew(8.5)
    dearer = buy_apple(bot)
    assert dearer.code() == "order_value"
    assert "order value 102000 HKD is over the limit of 100000 HKD" in dearer.data
    renew(7.8)
    assert buy_apple(bot).ok
    values = [line["value"] for line in sidecar.audit(outcome="allow", symbol="US.AAPL")]
    assert values == [93_360, 93_600]
    records = [line["message"] for line in sidecar.audit(endpoint="reload")]
    assert records[-1] == "settings: policy.fx.rates: {USD: 8.5} → {USD: 7.8}"


BROKEN: dict[str, str | None] = {
    "that is no YAML": "policy: [",
    "with an unknown setting": "policy: {tag_ordrs: true}",
    "with a value that is none": "breakers: {identical_orders: many}",
    "with rates that lack their day": "policy: {fx: {base: HKD, rates: {USD: 7.8}}}",
    "that is empty": "",
    "that is gone": None,
}


def test_a_broken_file_leaves_the_settings_before_in_force_and_says_so_until_it_is_mended(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100_000, cap_currency="HKD")
    sidecar = stage.sidecar(sandbox.port, policy=rates(7.78))
    good = sidecar.config_file.read_text()
    bot = stage.sdk(sidecar.port, key)
    bot.open("US", "trade", filter_trdmarket="US")
    for how, text in BROKEN.items():
        before = reloads(sidecar, "failed")
        if text is None:
            sidecar.config_file.unlink()
        else:
            write_text(sidecar.config_file, text)
        eventually(lambda: reloads(sidecar, "failed") > before, SOON, f"the failed reload of a file {how}")  # noqa: B023
        assert sidecar.get("/readyz")[0] == 503, how
        assert buy_apple(bot).ok, how
        told = command(sidecar, "reload")
        assert told.returncode == 1, how
        assert "the settings before stay in force" in told.stdout, how
        assert "✓ keys.json" in told.stdout, "the rest is read all the same"
    told = command(sidecar, "status")
    assert "settings" in told.stdout
    assert "cannot be used" in told.stdout
    errors = [line for line in sidecar.log() if line["event"].startswith("the settings cannot be used")]
    assert len(errors) >= len(BROKEN)
    write_text(sidecar.config_file, good)
    eventually(lambda: sidecar.get("/readyz")[0] == 200, SOON, "the sidecar to be ready")
    assert buy_apple(bot).ok


def test_what_needs_a_restart_is_named_by_reload_by_check_config_and_in_the_log(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    upstream = {"host": "127.0.0.1", "port": sandbox.port, "max_connections": 50}
    tree = json.loads(sidecar.config_file.read_text())
    waiting = "upstream.max_connections: 100 → 50"

    # before it is read again, as the running one would
    other = sidecar.folder / "beside.yaml"
    write_text(other, json.dumps(tree))
    asked = CliRunner().invoke(main, ["check-config", "--config", str(other), "--running"])
    assert asked.exit_code == 0, asked.output
    assert "nothing would change" in asked.stdout

    write(sidecar, upstream=upstream, drain=5)
    told = command(sidecar, "reload")
    assert told.returncode == 3, told
    assert waiting in told.stdout
    assert eventually(lambda: sidecar.metric("sidecar_config_restart_needed"), SOON) == 1
    assert sidecar.metric("sidecar_upstream_connections_max") == 100
    warned = [line["needs_restart"] for line in sidecar.log() if "needs_restart" in line]
    assert warned
    assert warned[0] == [waiting]
    asked = CliRunner().invoke(main, ["check-config", "--config", str(sidecar.config_file), "--running"])
    assert asked.exit_code == 0, asked.output
    assert waiting in asked.stdout
    assert sidecar.get("/readyz")[0] == 200, "it is the owner's to choose when"

    write(sidecar, upstream=tree["upstream"], drain=5)
    told = command(sidecar, "reload", "--json")
    assert told.returncode == 0
    assert json.loads(told.stdout)["settings"] == {
        "file": str(sidecar.config_file), "problem": None, "changed": [], "needs_restart": [], "warnings": [],
    }  # fmt: skip
    assert sidecar.metric("sidecar_config_restart_needed") == 0


def test_reload_reads_keys_and_opens_the_audit_anew_too_and_says_so(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    rotated = sidecar.folder / "rotated.jsonl"
    sidecar.audit_file.rename(rotated) if sidecar.audit_file.exists() else None
    stage.keys.add("new", "qot:read")
    told = command(sidecar, "reload")
    assert told.returncode == 0, told
    assert [line[0] for line in told.stdout.splitlines()] == ["✓", "✓", "✓", "✓"]
    assert RawClient(sidecar.port, key).ask(GLOBAL_STATE, state_request()).retType == 0
    stage.keys.write_text("{")
    told = command(sidecar, "reload")
    assert told.returncode == 1
    assert "✗ keys.json" in told.stdout


def test_reload_says_where_no_sidecar_runs(stage: Stage, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["reload", "--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert f"no sidecar runs with the state directory `{tmp_path}`" in done.stderr


def test_breakers_and_the_audit_of_reads_are_switched_on_and_off_while_it_runs(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=1000)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)

    def place() -> str | None:
        reply = client.ask(PLACE_ORDER, client.order_request(price=300))
        return None if reply.retType == 0 else code_of(reply)

    def now(**sections: Any) -> None:
        write(sidecar, **sections)
        assert command(sidecar, "reload").returncode == 0

    assert [place() for _ in range(4)] == ["order_value"] * 4
    now(breakers={"refusals_in_a_row": 3})
    assert [place() for _ in range(4)] == ["order_value"] * 3 + ["breaker"], "those before do not count"
    status = json.loads(command(sidecar, "status", "--json").stdout)
    assert status["breakers"]["refusals_in_a_row"] == "3"
    now(breakers={})
    assert place() == "breaker", "what is halted stays halted"

    audit = {"file": str(sidecar.audit_file)}
    reads = len(sidecar.audit(key_id="bot", outcome="allow"))
    client.ask(GLOBAL_STATE, state_request())
    now(audit={**audit, "reads": True})
    client.ask(GLOBAL_STATE, state_request())
    eventually(lambda: len(sidecar.audit(key_id="bot", outcome="allow")) == reads + 1, 3, "one read on record")
    now(audit=audit)
    client.ask(GLOBAL_STATE, state_request())
    assert place() == "breaker"
    eventually(lambda: len(sidecar.audit(reason="breaker", outcome="reject")) >= 3, 3)
    assert len(sidecar.audit(key_id="bot", outcome="allow")) == reads + 1


def test_the_level_of_the_log_changes_while_it_runs(stage: Stage, sandbox: LiveSandbox) -> None:
    sidecar = stage.sidecar(sandbox.port)

    def told(level: str) -> list[str]:
        """What the log tells of two reloads, the first of which puts `level` in force."""
        begun = sidecar.log_file.stat().st_size
        write(sidecar, log={"json": True, "level": level})
        for _ in range(2):
            assert command(sidecar, "reload").returncode == 0, level
        return [line["event"] for line in sidecar.log(begun)]

    told("warning")
    assert told("error") == []
    assert "the settings were read again" in told("info")
    sidecar.wait_audit(endpoint="reload", message="settings: log.level: error → info")
