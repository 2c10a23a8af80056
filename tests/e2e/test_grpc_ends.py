"""How gRPC calls and streams end: OpenD goes, the sidecar stops, the port is taken."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from grpcio_client import (
    GLOBAL_STATE,
    PLACE_ORDER,
    SUBSCRIBE,
    Answer,
    GrpcioClient,
    No,
    global_state,
    order,
    stubs,
    subscription,
)
from live import PROJECT, LiveSandbox, Stage, eventually

TRADER = ("qot:read", "acc:read", "trade:simulate")
HERE = {"websocket": "off", "rest": "off", "mcp": "off"}


@pytest.fixture(autouse=True)
def grpcio() -> None:
    stubs()


def test_streams_end_when_opend_goes_and_a_new_one_brings_pushes_when_it_is_back(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, listeners=HERE)
    with GrpcioClient(sidecar.doors["grpc"], key) as client:
        stream = client.pushes()
        sandbox.stop()
        ended = client.end_of(stream)
        assert (ended.status, ended.code) == ("UNAVAILABLE", "upstream_unavailable")
        assert ended.text
        eventually(lambda: sidecar.get("/readyz")[0] == 503)
        refused = client.ask(GLOBAL_STATE, global_state())
        assert isinstance(refused, No)
        assert (refused.status, refused.code) == ("UNAVAILABLE", "upstream_unavailable")
        again = client.end_of(client.stub.SubscribePush(client.pb.SubscribePushRequest(), metadata=client.metadata))
        assert (again.status, again.code) == ("UNAVAILABLE", "upstream_unavailable")
        sandbox.start()
        eventually(lambda: sidecar.get("/readyz")[0] == 200, 10)
        stream = client.pushes()
        answer = client.ask(SUBSCRIBE, subscription())
        assert isinstance(answer, Answer), answer
        assert next(stream).sec_key == "HK.00700"
    assert "Traceback" not in sidecar.log_text()


def test_the_order_of_a_call_under_way_is_answered_while_the_sidecar_stops_and_streams_are_told(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=1e9)
    sidecar = stage.sidecar(sandbox.port, listeners=HERE)
    with GrpcioClient(sidecar.doors["grpc"], key) as client:
        stream = client.pushes()
        sandbox.delays[3202] = 0.7
        waiting = client.start(PLACE_ORDER, order().SerializePartialToString())
        eventually(lambda: sandbox.received(3202), 3, "the look-up")
        stopping = threading.Thread(target=sidecar.stop)
        started = time.monotonic()
        stopping.start()
        assert waiting.result().ret_type == 0
        ended = client.end_of(stream)
        stopping.join(10)
        assert time.monotonic() - started < 5
    assert (ended.status, ended.text) == ("UNAVAILABLE", "the sidecar is stopping")
    assert len(sandbox.orders()) == 1
    assert not sidecar.running()
    assert "Traceback" not in sidecar.log_text()


def test_with_clients_and_streams_open_it_ends_at_once(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, listeners=HERE)
    with GrpcioClient(sidecar.doors["grpc"], key) as client, GrpcioClient(sidecar.doors["grpc"], key) as other:
        client.pushes()
        other.ask(GLOBAL_STATE, global_state())
        silent = socket.create_connection(("127.0.0.1", sidecar.doors["grpc"]), 2)
        started = time.monotonic()
        assert sidecar.stop() == 0
        assert time.monotonic() - started < 4
        silent.close()
    assert "Traceback" not in sidecar.log_text()


def test_a_port_that_is_taken_is_named_with_its_option(stage: Stage, sandbox: LiveSandbox) -> None:
    stage.keys.add("bot", *TRADER)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "sidecar.cli.main", "run", "--upstream", f"127.0.0.1:{sandbox.port}"]
        command += ["--keys-file", str(stage.keys.path), "--state-dir", str(stage.folder / "s"), "--tcp-port", "0"]
        command += ["--ws-port", "off", "--rest-port", "off", "--mcp-port", "off", "--admin-port", "0"]
        run = subprocess.run(
            [*command, "--grpc-port", str(port)], cwd=PROJECT, capture_output=True, text=True, timeout=20
        )
    assert run.returncode == 1
    assert f"127.0.0.1:{port}" in run.stderr
    assert "--grpc-port" in run.stderr
    assert "Traceback" not in run.stderr


def test_reflection_can_be_turned_off(stage: Stage, sandbox: LiveSandbox) -> None:
    from h2_client import H2Client

    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, listeners={**HERE, "grpc": {"port": 0, "reflection": False}})
    with H2Client(sidecar.doors["grpc"]) as client:
        path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        assert client.call(key, b"\x3a\x01*", path=path)["grpc-status"] == "12"
