"""`opend-sidecar mcp-stdio` as a process: what it says on its pipes when the client, the key or the sidecar is not as it should be."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import PROJECT, LiveSidecar, Stage, eventually
from mcp_client import BUY, bridge_command, bridge_environment

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


class BridgeProcess:
    """One running bridge, spoken to line by line."""

    def __init__(self, port: int, *more: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            bridge_command(port, *more), cwd=PROJECT, env=bridge_environment(**environment),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, message: Any) -> None:
        self.write(json.dumps(message).encode())

    def answer(self, timeout: float = 10.0) -> dict[str, Any]:
        """The next line; it is JSON-RPC, whatever was sent."""
        message: dict[str, Any] = json.loads(self._lines.get(timeout=timeout))
        assert message["jsonrpc"] == "2.0"
        return message

    def silent(self, seconds: float = 0.3) -> bool:
        try:
            self._lines.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def ask(self, method: str, number: int | str = 1, **params: Any) -> dict[str, Any]:
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": {"_meta": META, **params}})
        return self.answer()

    def end(self) -> int:
        """Close its stdin; the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(10)

    def said(self) -> str:
        """All of stderr, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


Start = Callable[..., BridgeProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[BridgeProcess] = []

    def begin(port: int, *more: str, **environment: str) -> BridgeProcess:
        started.append(BridgeProcess(port, *more, **environment))
        return started[-1]

    yield begin
    for bridge in started:
        if bridge.process.poll() is None:
            bridge.process.kill()
        bridge.process.wait()


@pytest.fixture(scope="module")
def stage_and_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, LiveSidecar, str]]:
    with Stage(tmp_path_factory.mktemp("stdio")) as stage:
        key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate", max_orders_per_minute=1)
        sandbox = stage.sandbox(tick_interval=0)
        yield stage, stage.sidecar(sandbox.port), key


@pytest.fixture(scope="module")
def sidecar(stage_and_key: tuple[Stage, LiveSidecar, str]) -> LiveSidecar:
    return stage_and_key[1]


@pytest.fixture(scope="module")
def key(stage_and_key: tuple[Stage, LiveSidecar, str]) -> str:
    return stage_and_key[2]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_lines_that_are_no_messages_are_answered_and_the_bridge_goes_on(
    sidecar: LiveSidecar, key: str, start: Start
) -> None:
    bridge = start(sidecar.doors["mcp"], OPEND_SIDECAR_KEY=key)
    for line, code in [
        (b"this is not JSON", -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method"', -32700),
        (b'{"x": "\xff\xfe"}', -32700),
        (b"[1, 2]", -32700),
        (b"[" * 100_000, -32700),
        (b'{"a": "' + b"x" * 1_100_000 + b'"}', -32700),
        (b'{"jsonrpc": "2.0", "id": 1}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600),
    ]:
        bridge.write(line)
        answer = bridge.answer()
        assert (answer["id"], answer["error"]["code"]) == (None, code), line[:60]
    bridge.write(b"")
    bridge.write(b"   ")
    bridge.write(b'{"jsonrpc": "2.0", "id": 7, "result": {}}')
    assert bridge.silent()
    assert bridge.ask("tools/list", "after")["result"]["tools"]
    assert bridge.end() == 0
    assert bridge.said() == ""


def test_what_the_sidecar_cannot_read_it_refuses_under_the_id_of_the_request(
    sidecar: LiveSidecar, key: str, start: Start
) -> None:
    bridge = start(sidecar.doors["mcp"], OPEND_SIDECAR_KEY=key)
    answer = bridge.ask("tools/call", 5, name="futu_get_quote", arguments=[1])
    assert (answer["id"], answer["error"]["data"]["code"]) == (5, "malformed_request")
    answer = bridge.ask("tools/call", "s", name="futu_get_quote", arguments={"symbols": ["x" * 300_000]})
    assert (answer["id"], answer["error"]["data"]["code"]) == ("s", "body_too_large")
    answer = bridge.ask("no/such/method", 6)
    assert (answer["id"], answer["error"]["code"]) == (6, -32601)
    answer = bridge.ask("tools/call", 8, name="futu\ud800\u00e9 ", arguments={})
    assert answer["id"] == 8
    assert bridge.ask("tools/list", 9)["result"]["tools"]


def test_a_sidecar_that_is_away_is_an_error_until_it_is_back(
    stage_and_key: tuple[Stage, LiveSidecar, str], key: str, start: Start
) -> None:
    stage, _, _ = stage_and_key
    late = stage.sidecar(stage.sandbox(tick_interval=0).port, start=False)
    late.settings["listeners"]["mcp"]["port"] = free_port()
    bridge = start(late.settings["listeners"]["mcp"]["port"], OPEND_SIDECAR_KEY=key)
    answer = bridge.ask("tools/list", 1)
    assert answer["error"]["code"] == -32000
    assert "cannot be reached (connection refused); nothing was sent" in answer["error"]["message"]
    late.start()
    assert bridge.ask("tools/list", 2)["result"]["tools"]
    late.stop()
    assert "cannot be reached" in bridge.ask("tools/list", 3)["error"]["message"]


def test_what_answers_but_is_no_sidecar_is_said_so(key: str, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        bridge = start(server.getsockname()[1], OPEND_SIDECAR_KEY=key)
        bridge.send({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        client, _ = server.accept()
        client.recv(65536)
        client.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nhi")
        assert "HTTP status 302 is not a sidecar's MCP door" in bridge.answer()["error"]["message"]
        client.close()
        bridge.send({"jsonrpc": "2.0", "id": 2, "method": "ping"})
        client, _ = server.accept()
        client.recv(65536)
        client.close()
        assert "whether this was done is unknown" in bridge.answer()["error"]["message"]


def test_a_request_that_is_cancelled_gets_no_answer_and_hangs_up(key: str, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        bridge = start(server.getsockname()[1], OPEND_SIDECAR_KEY=key)
        bridge.send({"jsonrpc": "2.0", "id": "slow", "method": "tools/list"})
        client, _ = server.accept()
        assert client.recv(65536).startswith(b"POST /mcp ")
        bridge.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "slow"}})
        client.settimeout(5)
        rest = b"x"
        while rest:
            rest = client.recv(65536)
        client.close()
        assert bridge.silent()


def test_counters_are_the_sidecars_and_shared_by_two_bridges(sidecar: LiveSidecar, key: str, start: Start) -> None:
    one = start(sidecar.doors["mcp"], OPEND_SIDECAR_KEY=key)
    two = start(sidecar.doors["mcp"], FUTU_MCP_API_KEY=key)
    first = one.ask("tools/call", name="futu_place_order", arguments=BUY)["result"]
    second = two.ask("tools/call", name="futu_place_order", arguments=BUY)["result"]
    assert first["structuredContent"]["status"] == "ok"
    assert second["isError"] is True
    assert second["structuredContent"]["code"] == "rate"


def test_the_key_file_must_be_the_owners_alone(sidecar: LiveSidecar, key: str, start: Start, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(key + "\n")
    path.chmod(0o644)
    bridge = start(sidecar.doors["mcp"], "--key-file", str(path))
    assert bridge.process.wait(10) == 1
    assert "can be read by others; `chmod 600" in bridge.said()
    path.chmod(0o600)
    bridge = start(sidecar.doors["mcp"], "--key-file", str(path), OPEND_SIDECAR_KEY="fc_wrong")
    assert bridge.ask("tools/list")["result"]["tools"]


def test_no_key_a_wrong_one_and_a_bad_url_are_said_in_one_line_without_the_key(
    sidecar: LiveSidecar, start: Start
) -> None:
    bridge = start(sidecar.doors["mcp"])
    assert bridge.process.wait(10) == 1
    assert bridge.said() == "opend-sidecar: no key was given; set OPEND_SIDECAR_KEY, or name its file with --key-file\n"
    bridge = start(sidecar.doors["mcp"], OPEND_SIDECAR_KEY="fc_secret\nHost: evil")
    assert bridge.process.wait(10) == 1
    assert "fc_secret" not in bridge.said()
    bridge = start(sidecar.doors["mcp"], "--url", "ftp://127.0.0.1/mcp", OPEND_SIDECAR_KEY="fc_x")
    assert bridge.process.wait(10) == 2
    assert "is not a URL" in bridge.said()
    wrong = "fc_" + "1" * 64
    bridge = start(sidecar.doors["mcp"], OPEND_SIDECAR_KEY=wrong)
    answer = bridge.ask("tools/list", 3)
    assert (answer["id"], answer["error"]["data"]["code"]) == (3, "key_unknown")
    assert wrong not in json.dumps(answer)


def test_it_ends_quietly_when_the_client_goes_or_it_is_told_to(sidecar: LiveSidecar, key: str, start: Start) -> None:
    bridge = start(sidecar.doors["mcp"], OPEND_SIDECAR_KEY=key)
    bridge.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}})
    assert bridge.end() == 0
    assert bridge.answer()["result"]["tools"], "what was asked before the end is answered"
    bridge = start(sidecar.doors["mcp"], OPEND_SIDECAR_KEY=key)
    bridge.ask("tools/list")
    os.kill(bridge.process.pid, signal.SIGINT)
    eventually(lambda: bridge.process.poll() is not None, 5)
    assert "Traceback" not in bridge.said()
