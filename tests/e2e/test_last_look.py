"""What changes while an order waits, for a fact or for the disk, still stops it: frozen, revoked, client or OpenD gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from live import PROJECT, LiveApp, LiveSandbox, Stage, eventually
from raw_client import PLACE_ORDER, RawClient, code_of

TRADER = ("qot:read", "acc:read", "trade:simulate")
STATIC_INFO, SNAPSHOT = 3202, 3203
ONE_ORDER = {"max_orders_per_minute": 1, "max_daily_value": 40000}
"""Limits that one order of 100 at 400 uses up: a second one passes only if the first left nothing behind."""
WAITS = 1.0
"""Seconds the sandbox takes over a fact."""

CHANGES: dict[str, tuple[Callable[[Stage], None], str]] = {
    "frozen": (lambda stage: stage.keys.change("bot", allowed_machines=[]), "key_frozen"),
    "revoked": (lambda stage: stage.keys.remove("bot"), "key_revoked"),
    "narrowed": (lambda stage: stage.keys.change("bot", allowed_trd_sides=["SELL"]), "side"),
    "without its scope": (lambda stage: stage.keys.change("bot", scopes=["qot:read", "acc:read"]), "scope"),
}


def change_back(stage: Stage, record: dict[str, Any]) -> None:
    stage.keys.records = [record]
    stage.keys.write()


class SlowDisk:
    """Holds every commit of a sidecar back after it is on disk, until `release`."""

    def __init__(self, sidecar: LiveApp) -> None:
        self.waiting = threading.Event()
        self._go = threading.Event()
        recorder = sidecar.app.recorder
        commit = recorder.commit

        async def slowly(record: Any) -> None:
            await commit(record)
            self.waiting.set()
            while not self._go.is_set():
                await asyncio.sleep(0.01)

        recorder.commit = slowly  # type: ignore[method-assign]

    def release(self) -> None:
        self._go.set()


@pytest.mark.parametrize("change", CHANGES)
def test_an_order_that_waits_for_a_fact_is_stopped_by_what_changes_meanwhile(
    change: str, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, **ONE_ORDER)
    record = dict(stage.keys.records[0])
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    sandbox.delays[STATIC_INFO] = WAITS
    serial = client.send(PLACE_ORDER, client.order_request())
    eventually(lambda: sandbox.received(STATIC_INFO), 3, "the look-up")

    act, code = CHANGES[change]
    act(stage)
    sidecar.wait_keys(WAITS)

    assert code_of(client.reply(serial)) == code
    assert sandbox.orders() == []
    assert sidecar.wait_audit(outcome="reject", reason=code)["endpoint"] == "place_order proto_id=2202"
    assert sidecar.audit(outcome="allow") == []
    change_back(stage, record)
    sidecar.wait_keys()
    assert client.ask(PLACE_ORDER, client.order_request()).retType == 0, "nothing of its caps was used"


def test_a_sale_that_waits_for_a_quote_is_stopped_by_a_freeze(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_daily_value=100000)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    sandbox.delays[SNAPSHOT] = WAITS
    serial = client.send(PLACE_ORDER, client.order_request(side=2, price=600))
    eventually(lambda: sandbox.received(SNAPSHOT), 3, "the look-up")
    stage.keys.change("bot", allowed_machines=[])
    sidecar.wait_keys(WAITS)
    assert code_of(client.reply(serial)) == "key_frozen"
    assert sandbox.orders() == []


def test_the_command_bind_key_freeze_returns_when_waiting_orders_can_no_longer_pass(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, **ONE_ORDER)
    sidecar = stage.sidecar(sandbox.port, policy={"facts_timeout": 10.0})
    client = RawClient(sidecar.port, key)
    sandbox.delays[STATIC_INFO] = 4.0
    serial = client.send(PLACE_ORDER, client.order_request())
    eventually(lambda: sandbox.received(STATIC_INFO), 3, "the look-up")

    frozen = subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", "bind-key", "bot", "--freeze", "--keys-file", str(stage.keys.path),
         "--admin", f"127.0.0.1:{sidecar.admin_port}"],
        cwd=PROJECT, capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip

    assert "in force" in frozen.stdout
    assert code_of(client.ask(PLACE_ORDER, client.order_request())) == "key_frozen"
    assert code_of(client.reply(serial)) == "key_frozen"
    assert sandbox.orders() == []


@pytest.mark.parametrize("change", CHANGES)
def test_an_order_that_waits_for_the_disk_is_stopped_and_both_the_yes_and_the_no_are_on_record(
    change: str, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, **ONE_ORDER)
    record = dict(stage.keys.records[0])
    sidecar = stage.app(sandbox.port)
    client = RawClient(sidecar.port, key)
    disk = SlowDisk(sidecar)
    serial = client.send(PLACE_ORDER, client.order_request())
    assert disk.waiting.wait(5)
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_daily_value") == 0

    act, code = CHANGES[change]
    act(stage)
    sidecar.wait_keys()
    disk.release()

    assert code_of(client.reply(serial)) == code
    assert sandbox.orders() == []
    refused = sidecar.wait_audit(outcome="reject", reason=code)
    approved = sidecar.wait_audit(outcome="allow", decision_id=refused["decision_id"])
    assert approved["seq"] < refused["seq"]
    change_back(stage, record)
    sidecar.wait_keys()
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_daily_value") == 40000
    assert client.ask(PLACE_ORDER, client.order_request()).retType == 0, "the reservation was given back"


def test_an_order_whose_client_went_while_it_waited_for_the_disk_is_not_sent(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, **ONE_ORDER)
    sidecar = stage.app(sandbox.port)
    client = RawClient(sidecar.port, key)
    disk = SlowDisk(sidecar)
    client.send(PLACE_ORDER, client.order_request())
    assert disk.waiting.wait(5)
    client.close()
    eventually(lambda: sidecar.metric("sidecar_client_connections", iface="tcp") == 0, 5, "the client to be gone")
    disk.release()
    sidecar.wait_audit(outcome="reject", reason="client_gone")
    assert sandbox.orders() == []
    again = RawClient(sidecar.port, key)
    assert again.ask(PLACE_ORDER, again.order_request()).retType == 0, "the reservation was given back"


def test_an_order_that_waited_for_the_disk_while_opend_went_is_not_sent_later(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, **ONE_ORDER)
    sidecar = stage.app(sandbox.port)
    client = RawClient(sidecar.port, key)
    disk = SlowDisk(sidecar)
    serial = client.send(PLACE_ORDER, client.order_request())
    assert disk.waiting.wait(5)
    sandbox.stop()
    assert code_of(client.reply(serial)) == "upstream_unavailable"
    eventually(lambda: sidecar.metric("sidecar_upstream_up") == 0, 5, "the sidecar to notice")
    disk.release()
    sidecar.wait_audit(outcome="reject", endpoint="place_order proto_id=2202", reason="upstream_unavailable")
    sandbox.start()
    eventually(lambda: sidecar.metric("sidecar_upstream_up") == 1, 10, "OpenD to be back")
    assert sandbox.orders() == []
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_daily_value") == 40000
