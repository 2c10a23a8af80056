"""keys.json changed under a running sidecar: by SIGHUP and by itself, on open connections too, and never by half."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from live import KeysFile, LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import SdkProcess
from raw_client import GLOBAL_STATE, RawClient, state_request

TRADER = ("qot:read", "acc:read", "trade:simulate")
SOON = 1.0
"""Seconds within which a changed keys.json holds."""


@dataclass(frozen=True)
class Running:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    keys: KeysFile
    bot: SdkProcess
    by: str

    def reload(self) -> float:
        """Make the change hold as this test does it; the seconds that took."""
        started = time.monotonic()
        if self.by == "SIGHUP":
            self.sidecar.hangup()
        self.sidecar.wait_keys(SOON)
        return time.monotonic() - started


@pytest.fixture(params=["SIGHUP", "the watch", "the watch, by a link"])
def running(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Running]:
    """A bot with open connections. By a link: keys.json leads to a file elsewhere, and it is that one which changes."""
    link = stage.folder / "keys.json"
    if request.param == "the watch, by a link":
        elsewhere = stage.folder / "elsewhere"
        elsewhere.mkdir()
        stage.keys.path.unlink()
        stage.keys.path.symlink_to(elsewhere / "keys.json")
        stage.keys.path = elsewhere / "keys.json"
    key = stage.keys.add("bot", *TRADER)
    stage.keys.add("other", "qot:read")
    sandbox = stage.sandbox()
    sidecar = stage.sidecar(sandbox.port, keys={"file": str(link)})
    bot = stage.sdk(sidecar.port, key)
    bot.open("quotes", "quote")
    bot.open("trade", "trade")
    assert bot.call("quotes", "subscribe", ["HK.00700"], ["QUOTE"]).ok
    bot.wait_push("quote")
    yield Running(sandbox, sidecar, stage.keys, bot, request.param)


def test_a_new_key_works_within_a_second(running: Running) -> None:
    key = running.keys.add("new", "qot:read")
    assert running.reload() < SOON
    client = RawClient(running.sidecar.port, key)
    assert client.ask(GLOBAL_STATE, state_request()).retType == 0


def test_sighup_reads_a_file_again_that_did_not_change(running: Running) -> None:
    before = running.sidecar.metric("sidecar_keys_reload_total", result="ok")
    running.sidecar.hangup()
    eventually(lambda: running.sidecar.metric("sidecar_keys_reload_total", result="ok") > before, SOON)
    time.sleep(0.5)
    assert running.sidecar.metric("sidecar_keys_reload_total", result="ok") == before + 1, "and only then"


def test_a_revoked_key_fails_within_a_second_on_open_connections_and_gets_no_more_pushes(running: Running) -> None:
    bot, sidecar = running.bot, running.sidecar
    running.keys.remove("bot")
    assert running.reload() < SOON

    refused = bot.call("quotes", "get_market_snapshot", ["HK.00700"])
    assert refused.code() == "key_revoked", refused.data
    assert bot.place("HK.00700", 400, 100).code() == "key_revoked"
    bot.forget_pushes()
    time.sleep(1.0)
    assert bot.pushes() == []
    eventually(
        lambda: sidecar.metric("futu_ws_filtered_pushes_total", required_scope="qot:read"), what="filtered pushes"
    )
    assert running.sandbox.orders() == []
    refusal = sidecar.wait_audit(reason="key_revoked")
    assert refusal["key_id"] == "bot"


def test_narrowed_limits_hold_for_the_next_order_of_an_open_connection(running: Running) -> None:
    bot = running.bot
    assert bot.place("HK.00700", 400, 100).ok
    running.keys.change("bot", max_order_value=1000)
    assert running.reload() < SOON
    assert bot.place("HK.00700", 400, 100).code() == "order_value"
    running.keys.change("bot", max_order_value=100000)
    assert running.reload() < SOON
    assert bot.place("HK.00700", 400, 100).ok


BROKEN: dict[str, str | None] = {
    "cut off": '{"version": 1, "keys": [',
    "with an unknown field": '{"version": 1, "keys": [{"id": "bot", "hash": "%s", "scopes": ["qot:read"], "max_order_valeu": 1}]}'
    % ("0" * 64),
    "with an empty whitelist": '{"version": 1, "keys": [{"id": "bot", "hash": "%s", "scopes": ["qot:read"], "allowed_markets": []}]}'
    % ("0" * 64),
    "that is empty": "",
    "that is gone": None,
}


def test_a_broken_or_missing_file_keeps_the_last_good_keys_and_says_so(running: Running) -> None:
    bot, sidecar = running.bot, running.sidecar
    revision = sidecar.revision()

    def failed() -> float:
        return sidecar.metric("sidecar_keys_reload_total", result="failed")

    def errors() -> list[str]:
        return [str(one["problem"]) for one in sidecar.log() if one["event"] == "keys.json cannot be used"]

    for how, text in BROKEN.items():
        before, said = failed(), len(errors())
        if text is None:
            running.keys.path.unlink()
        else:
            running.keys.write_text(text)
        if running.by == "SIGHUP":
            sidecar.hangup()
        eventually(lambda: failed() > before, SOON, f"the failed reload of a file {how}")  # noqa: B023
        assert "keys.json" in eventually(lambda: errors()[said:], 2, f"words about a file {how}")[0]  # noqa: B023
        assert sidecar.revision() == revision, how
        assert sidecar.get("/readyz")[0] == 503, how
        assert bot.call("quotes", "get_global_state").ok, how
    assert bot.place("HK.00700", 400, 100).ok, "the last good keys are in force"
    bot.forget_pushes()
    bot.wait_push("quote")

    running.keys.write()
    assert running.reload() < SOON
    eventually(lambda: sidecar.get("/readyz")[0] == 200, 2, "the sidecar to be ready")


def test_a_client_that_waits_with_a_key_not_made_yet_works_by_itself_once_it_is(stage: Stage) -> None:
    """Its SDK is held in quarantine, told why, and let go when the key is there; the SDK connects anew after 6 s."""
    sandbox = stage.sandbox()
    stage.keys.add("other", "qot:read")
    sidecar = stage.sidecar(sandbox.port)
    key = stage.keys.add("late", *TRADER)
    late = stage.keys.records.pop()
    stage.keys.write()
    sidecar.wait_keys()
    bot = stage.sdk(sidecar.port, key)
    bot.open("quotes", "quote")
    told = bot.call("quotes", "get_market_snapshot", ["HK.00700"])
    assert told.code() == "key_unknown"
    assert told.seconds < 1
    assert sandbox.received(3203) == []

    stage.keys.records.append(late)
    stage.keys.write()
    sidecar.wait_keys(SOON)
    answer = bot.call("quotes", "get_market_snapshot", ["HK.00700"], timeout=12)
    assert answer.ok, answer.data


@pytest.mark.parametrize(("shown", "code"), [(None, "key_missing"), ("fc_" + "0" * 64, "key_unknown")])
def test_without_a_good_key_the_sdk_connects_and_every_request_says_why_not(
    shown: str | None, code: str, stage: Stage, sandbox: LiveSandbox
) -> None:
    stage.keys.add("other", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    before = len(sandbox.asked_by_clients())
    bot = stage.sdk(sidecar.port, shown)
    bot.open("quotes", "quote")
    bot.open("trade", "trade")
    for answer in (
        bot.call("quotes", "get_market_snapshot", ["HK.00700"]),
        bot.call("quotes", "subscribe", ["HK.00700"], ["QUOTE"]),
        bot.call("trade", "get_acc_list"),
        bot.place("HK.00700", 400, 100),
    ):
        assert answer.code() == code, answer.data
        assert answer.seconds < 1
    line = sidecar.wait_audit(reason=code)
    assert line["key_id"] == ("<missing>" if shown is None else "<invalid>")
    assert sandbox.asked_by_clients()[before:] == []
    assert shown is None or shown not in sidecar.audit_file.read_text() + sidecar.log_text()
