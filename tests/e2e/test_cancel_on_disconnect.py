"""A bot that dies leaves no orders behind, if its key says so: its own, not another's, and not if it comes back in time."""

from __future__ import annotations

import asyncio
import time

import pytest
from live import LiveSandbox, Stage, eventually
from raw_client import PAPER_HK, PLACE_ORDER, RawClient
from websocket_client import FrameClient

from sidecar.cli.main import main

TRADER = ("qot:read", "acc:read", "trade:simulate")


@pytest.fixture
def sandbox(stage: Stage) -> LiveSandbox:
    made = stage.sandbox(tick_interval=0)
    made.limit()
    return made


def test_a_script_that_dies_loses_its_orders_after_the_grace_and_nobody_else_does(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    dying = stage.keys.add("dying", *TRADER, cancel_on_disconnect=15)
    staying, plain = stage.keys.add("staying", *TRADER, cancel_on_disconnect=15), stage.keys.add("plain", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    sdks = [stage.sdk(sidecar.port, key) for key in (dying, staying, plain)]
    for number, sdk in enumerate(sdks):
        sdk.open("trade", "trade")
        assert sdk.place("HK.00700", 300 + number, 100).ok
    assert sdks[0].place("HK.00700", 310, 100).ok
    sdks[0]._process.kill()
    sdks[2].end()
    gone = time.monotonic()
    eventually(lambda: len(sandbox.working()) == 2, 25, "the orders of the one that died to be cancelled")
    assert 14 <= time.monotonic() - gone < 20
    assert sorted(int(order.price) for order in sandbox.working()) == [301, 302]
    begun, ended = eventually(lambda: len(sidecar.audit(endpoint="cancel_orders")) == 2, 5) and sidecar.audit(
        endpoint="cancel_orders"
    )
    assert begun["message"] == (
        "the orders of key `dying`, by cancel_on_disconnect, with no connection for 15 s: cancelling begins"
    )
    assert (ended["outcome"], ended["message"]) == ("success", "the orders of key `dying`: 2 of 2 cancelled")
    assert sidecar.metric("sidecar_own_cancels_total", why="disconnect", outcome="cancelled") == 2
    assert sidecar.metric("sidecar_trading_state", scope="key", key_id="dying") == 0, "its trading is not halted"


async def connected_for(seconds: float, port: int, key: str) -> None:
    async with FrameClient(port, key=key) as client:
        await client.introduce()
        await asyncio.sleep(seconds)


def test_who_comes_back_in_time_keeps_its_orders_by_websocket_too(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, cancel_on_disconnect=15)
    sidecar = stage.app(sandbox.port)
    sidecar.app.disconnects.grace_of = lambda key: 2.0
    client = RawClient(sidecar.port, key)
    assert client.ask(PLACE_ORDER, client.order_request(price=300)).retType == 0
    client.close()
    time.sleep(1.0)
    asyncio.run(connected_for(3.5, sidecar.doors["websocket"], key))
    assert len(sandbox.working()) == 1
    eventually(lambda: not sandbox.working(), 6, "its order to be cancelled")


def test_after_a_restart_the_grace_begins_anew_and_what_was_left_is_cancelled(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, cancel_on_disconnect=15)
    first = stage.app(sandbox.port)
    client = RawClient(first.port, key)
    assert client.ask(PLACE_ORDER, client.order_request(price=300)).retType == 0
    first.stop()
    assert len(sandbox.working(PAPER_HK)) == 1
    again = stage.app(sandbox.port, state_dir=first.settings["state_dir"])
    again.app.disconnects.grace_of = lambda key: 2.0
    time.sleep(1.0)
    assert len(sandbox.working(PAPER_HK)) == 1
    eventually(lambda: not sandbox.working(PAPER_HK), 6, "its order to be cancelled")


def test_it_is_refused_where_no_door_has_connections(
    stage: Stage, sandbox: LiveSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.keys.add("bot", *TRADER, cancel_on_disconnect=15)
    sidecar = stage.sidecar(sandbox.port, start=False, listeners={"tcp": "off", "websocket": "off"})
    sidecar.write_settings()
    for command in (["check-config"], ["run"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--config", str(sidecar.config_file)])
        assert ended.value.code == 1
        assert "cancel_on_disconnect of `bot` waits for the end of connections" in capsys.readouterr().err
