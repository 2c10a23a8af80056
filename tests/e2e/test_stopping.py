"""SIGTERM: nothing new is taken, what is under way is finished, and the process ends with 0."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from live import PROJECT, LiveSandbox, Stage, eventually
from raw_client import PLACE_ORDER, RawClient

TRADER = ("qot:read", "acc:read", "trade:simulate")


def test_with_clients_connected_it_ends_at_once(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    started = time.monotonic()
    assert sidecar.stop() == 0
    assert time.monotonic() - started < 5
    assert client.closed()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", sidecar.port), 2)
    assert "Traceback" not in sidecar.log_text()


def test_an_order_being_decided_is_sent_and_its_outcome_recorded(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100000)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    sandbox.delays[3202] = 0.7
    client.send(PLACE_ORDER, client.order_request())
    eventually(lambda: sandbox.received(3202), 3, "the look-up")
    stopping = threading.Thread(target=sidecar.stop)
    stopping.start()
    eventually(sandbox.orders, 5, "the order")
    stopping.join(30)
    assert not sidecar.running()
    assert len(sandbox.orders()) == 1
    assert [line["outcome"] for line in sidecar.audit(key_id="bot")] == ["allow", "success"]


def test_a_second_sidecar_on_the_same_state_refuses_to_start_and_names_the_first(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    second = subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", "run", "--upstream", f"127.0.0.1:{sandbox.port}",
         "--keys-file", str(stage.keys.path), "--state-dir", str(sidecar.folder / "state"), "--tcp-port", "0",
         "--admin-port", "0"],
        cwd=PROJECT, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert second.returncode == 1
    assert str(sidecar.pid) in second.stderr
    assert "Traceback" not in second.stderr


def test_without_a_readable_keys_file_it_refuses_to_start(stage: Stage, sandbox: LiveSandbox) -> None:
    missing = stage.folder / "nowhere.json"
    refused = subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", "run", "--upstream", f"127.0.0.1:{sandbox.port}",
         "--keys-file", str(missing), "--state-dir", str(stage.folder / "state"), "--tcp-port", "0", "--admin-port", "0"],
        cwd=PROJECT, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert refused.returncode == 1
    assert str(missing) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_order_already_at_opend_is_waited_for(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    sandbox.delays[PLACE_ORDER] = 1.0
    serial = client.send(PLACE_ORDER, client.order_request())
    eventually(sandbox.orders, 5, "the order")
    stopping = threading.Thread(target=sidecar.stop)
    stopping.start()
    assert client.reply(serial).retType == 0
    stopping.join(30)
    assert not sidecar.running()
    assert [line["outcome"] for line in sidecar.audit(key_id="bot")] == ["allow", "success"]
