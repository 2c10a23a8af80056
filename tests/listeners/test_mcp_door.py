"""The MCP door below the tools: keys, hosts, bodies of every bad kind, slow and many clients; each told so, none let through."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import LiveApp, LiveSandbox, Stage, eventually
from mcp_client import BUY

from sidecar.listeners.mcp import calls as mcp_calls

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


class World:
    def __init__(self, stage: Stage) -> None:
        self.keys = stage.keys
        self.key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate", max_order_value=100000)
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.live: LiveApp = stage.app(
            self.sandbox.port,
            listeners={
                "mcp": {"port": 0, "allowed_hosts": ["opend.lan", "tls.example.com:443"], "allowed_origins": ["https://good.example"]}
            },
            limits={"max_clients": 8, "handshake_timeout": 1.0, "frame_timeout": 1.0, "client_stall": 1.0},
        )  # fmt: skip

    @property
    def port(self) -> int:
        return self.live.doors["mcp"]

    def post(
        self, body: object = LIST, *, method: str = "POST", path: str = "/mcp", key: str | None = "", **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and tree of one request; `key` "" is the good one."""
        sent = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        if key is not None:
            sent["Authorization"] = f"Bearer {key or self.key}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, data, sent)
            reply = connection.getresponse()
            text = reply.read()
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, json.loads(text) if text else None
        finally:
            connection.close()

    def raw(self, data: bytes, timeout: float = 5.0) -> bytes:
        """What comes back for these very bytes, until the other side closes or nothing comes any more."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as client:
            client.sendall(data)
            client.settimeout(timeout)
            found = b""
            try:
                while chunk := client.recv(65536):
                    found += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            return found

    def call(self, tool: str, **arguments: Any) -> Any:
        message = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        status, _, tree = self.post(message)
        assert status == 200, tree
        return tree["result"]["structuredContent"]

    def works(self) -> None:
        """The next client is served as if nothing had been."""
        status, _, tree = self.post()
        assert status == 200
        assert tree["result"]["tools"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Stage(tmp_path_factory.mktemp("door")) as stage:
        yield World(stage)


def code_of(tree: Any) -> str:
    code: str = tree["error"]["data"]["code"]
    assert f"[sidecar:{code}]" in tree["error"]["message"]
    assert "Traceback" not in str(tree)
    return code


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code", "status"),
    [
        ({}, "key_missing", 401),
        ({"Authorization": "Bearer"}, "key_missing", 401),
        ({"Authorization": "Basic Zm9vOmJhcg=="}, "key_missing", 401),
        ({"Authorization": "Bearer fc_" + "0" * 64}, "key_unknown", 401),
        ({"Authorization": "Bearer a b"}, "key_unknown", 401),
    ],
)
def test_without_a_good_key_everything_is_401_before_anything_else(
    world: World, headers: dict[str, str], code: str, status: int
) -> None:
    for path, method, body in [("/mcp", "POST", LIST), ("/mcp", "GET", b""), ("/else", "POST", b"not JSON")]:
        found, reply, tree = world.post(body, key=None, path=path, method=method, Host="evil.example", **headers)
        assert (found, code_of(tree)) == (status, code)
        assert reply["www-authenticate"] == 'Bearer realm="opend-sidecar"'
        assert "server" not in reply


def test_a_key_is_taken_from_the_header_only(world: World) -> None:
    status, _, tree = world.post(key=None, path=f"/mcp?token={world.key}")
    assert (status, code_of(tree)) == (401, "key_missing")


def test_the_schemes_name_may_be_written_in_any_case(world: World) -> None:
    status, _, _ = world.post(key=None, Authorization=f"bEARER {world.key}")
    assert status == 200


def test_two_authorization_headers_are_refused_even_if_one_is_good(world: World) -> None:
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.key}\r\nAuthorization: Bearer x\r\n"
    reply = world.raw(head.encode() + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}")
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"two Authorization headers" in reply


def test_a_refused_key_is_audited_without_its_text(world: World) -> None:
    secret = "fc_" + "ab" * 32
    _, _, tree = world.post(key=secret)
    line = world.live.wait_audit(reason="key_unknown", endpoint="/mcp")
    assert line["iface"] == "mcp"
    assert secret not in world.live.audit_file.read_text()
    assert secret not in json.dumps(tree)


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer \xff\xfe",
        b"Host: \xff",
        b"Origin: \xff",
        b"Content-Type: \xff",
        b"Mcp-Name: \xff",
        b"Expect: \xff",
    ],
)
def test_headers_that_are_no_text_are_no_trouble(world: World, line: bytes) -> None:
    head = b"POST /mcp%ff HTTP/1.1\r\n" if line.startswith(b"Origin") else b"POST /mcp HTTP/1.1\r\n"
    lines = [line, b"Connection: close", b"Content-Length: 2"]
    if not line.startswith(b"Host"):
        lines.append(b"Host: localhost")
    if not line.startswith(b"Auth"):
        lines.append(b"Authorization: Bearer " + world.key.encode())
    if not line.startswith(b"Content-Type"):
        lines.append(b"Content-Type: application/json")
    reply = world.raw(head + b"\r\n".join(lines) + b"\r\n\r\n{}", 3)
    assert reply.startswith(b"HTTP/1.1 4"), reply[:200]
    world.works()


# -- where it comes from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:9", "opend.lan", "OPEND.lan:5", "tls.example.com:443"]
)
def test_hosts_of_this_machine_and_those_listed_are_served(world: World, host: str) -> None:
    assert world.post(Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:38765", "localhost.evil.example", "opend.lan.evil:5", "tls.example.com:444", ""],
)
def test_a_foreign_host_is_refused_and_audited(world: World, host: str) -> None:
    status, _, tree = world.post(Host=host)
    assert (status, code_of(tree)) == (421, "malformed_request")
    assert "allowed_hosts" in tree["error"]["message"]


def test_pages_of_other_sites_are_refused_and_those_listed_may_read_the_answer(world: World) -> None:
    status, reply, tree = world.post(Origin="https://evil.example")
    assert (status, code_of(tree)) == (403, "malformed_request")
    assert "access-control-allow-origin" not in reply
    status, reply, _ = world.post(Origin="https://good.example")
    assert (status, reply["access-control-allow-origin"]) == (200, "https://good.example")
    status, reply, _ = world.post(b"", method="OPTIONS", key=None, Origin="https://good.example")
    assert status == 204
    assert "authorization" in reply["access-control-allow-headers"]
    status, reply, _ = world.post(b"", method="OPTIONS", key=None, Origin="https://evil.example")
    assert status == 403
    assert "access-control-allow-origin" not in reply


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_there_is_one_path_and_one_method(world: World) -> None:
    status, _, tree = world.post(path="/elsewhere")
    assert (status, code_of(tree)) == (404, "unknown_request")
    for method in ("GET", "DELETE", "PUT", "HEAD"):
        status, reply, _ = world.post(b"", method=method)
        assert (status, reply["allow"]) == (405, "POST")


BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, "malformed_request"),
    ("not JSON", b"hello", 400, "malformed_request"),
    ("half of it", b'{"jsonrpc": "2.0", "id": 1,', 400, "malformed_request"),
    ("not UTF-8", b'{"jsonrpc": "2.0", "id": "\xff"}', 400, "malformed_request"),
    ("deep", b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, "malformed_request"),
    ("very deep", b"[" * 200_000, 400, "malformed_request"),
    ("a name twice", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "method": "tools/call"}', 400, "malformed_request"),
    ("NaN", b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', 400, "malformed_request"),
    ("digits", b'{"jsonrpc": "2.0", "id": ' + b"9" * 5000 + b', "method": "ping"}', 400, "malformed_request"),
    ("no version", b'{"id": 1, "method": "tools/list"}', 400, "malformed_request"),
    ("another version", b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}', 400, "malformed_request"),
    ("a call without an id", b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "x"}}', 400, "malformed_request"),
    ("a call whose id is none", b'{"jsonrpc": "2.0", "id": {}, "method": "tools/call", "params": {"name": "x"}}', 400, "malformed_request"),
    ("a batch", json.dumps([LIST, LIST]).encode(), 400, "malformed_request"),
    ("text", b'"tools/list"', 400, "malformed_request"),
    ("no params", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call"}', 400, "malformed_request"),
    ("no name", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 5}}', 400, "malformed_request"),
    (
        "arguments in a list",
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "futu_ping", "arguments": []}}',
        400, "malformed_request",
    ),
    ("huge", b'{"jsonrpc": "2.0", "x": "' + b"x" * 300_000 + b'"}', 413, "body_too_large"),
    ("huger", b" " * 5_000_000, 413, "body_too_large"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES]
)
def test_a_bad_body_is_a_json_rpc_error_and_nobody_else_notices(
    world: World, body: bytes, status: int, code: str
) -> None:
    before = len(world.sandbox.asked_by_clients())
    found, _, tree = world.post(body)
    assert (found, code_of(tree), tree["id"]) == (status, code, None)
    world.works()
    assert len(world.sandbox.asked_by_clients()) == before
    assert "Traceback" not in world.live.log_text() if world.live.log_file.exists() else True


def test_a_body_in_chunks_is_bounded_too(world: World) -> None:
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.key}\r\nContent-Type: application/json\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    reply = world.raw(head.encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunk * 6, 3)
    assert reply.startswith(b"HTTP/1.1 413 ")


def test_whoever_waits_to_send_its_body_is_told_to_once_it_is_wanted(world: World) -> None:
    body = json.dumps(LIST).encode()
    lines = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
    head = f"{lines}Expect: 100-continue\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    assert world.raw(f"{head}\r\n".encode(), 2).startswith(b"HTTP/1.1 401 ")
    reply = world.raw(f"{head}Authorization: Bearer {world.key}\r\n\r\n".encode() + body, 3)
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def test_compressed_bodies_and_other_types_are_not_taken(world: World) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    for headers in ({"Content_Encoding": "gzip"}, {"Content_Encoding": "br, gzip"}, {"Content_Type": "text/plain"}):
        status, _, tree = world.post(bomb, **headers)
        assert (status, code_of(tree)) == (415, "malformed_request")
    world.works()


@pytest.mark.parametrize(
    "message", [{}, {"jsonrpc": "1.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "id": 1, "method": "nope"}]
)
def test_what_is_json_but_no_request_is_an_error_of_the_protocol(world: World, message: dict[str, Any]) -> None:
    status, _, tree = world.post(message)
    assert status in (200, 400)
    assert tree["error"]["code"] in (-32600, -32601, -32602)
    world.works()


MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)
METHODS = ["initialize", "ping", "tools/list", "tools/call", "resources/list", "subscriptions/listen", "server/discover",
           "logging/setLevel", "notifications/initialized", "notifications/cancelled", "x"]  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_message_makes_the_door_fail(world: World, data: st.DataObject) -> None:
    likely = st.fixed_dictionaries(
        {}, optional={"name": st.sampled_from(["futu_ping", "futu_get_quote", "y"]) | json_values, "arguments": json_values,
                      "cursor": json_values, "protocolVersion": json_values, "_meta": st.just(MODERN) | json_values}
    )  # fmt: skip
    message = data.draw(
        st.fixed_dictionaries(
            {"jsonrpc": st.just("2.0") | json_values, "method": st.sampled_from(METHODS) | json_values},
            optional={"id": st.integers() | st.text(max_size=4) | json_values, "params": likely | json_values},
        )
    )
    headers = {"Mcp-Method": str(message["method"])} if data.draw(st.booleans()) else {}
    version = data.draw(st.sampled_from([None, "2026-07-28", "2025-11-25", "1999-01-01", "x"]))
    if version is not None:
        headers["MCP-Protocol-Version"] = version
    try:
        status, _, tree = world.post(message, **headers)
    except ValueError:
        return  # no header could carry it
    assert status < 500, tree
    assert status < 300 or status in (400, 404, 406), tree


def test_bytes_that_are_not_http_end_their_connection_only(world: World) -> None:
    for data in (
        b"\x00\x01\x02\x03" * 100 + b"\r\n\r\n",
        b"FT" + b"\x00" * 42,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\n" + b"X: y\r\n" * 400 + b"\r\n",
    ):
        world.raw(data, 2.0)
    world.works()


# -- slow, many, and gone ---------------------------------------------------------------------------------------------


def test_a_body_that_does_not_come_is_given_up(world: World) -> None:
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.key}\r\nContent-Type: application/json\r\n"
    reply = world.raw(head.encode() + b'Content-Length: 500\r\n\r\n{"jsonrpc"', 4)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b"was not complete after 1 s" in reply


def test_a_client_that_says_nothing_is_let_go(world: World) -> None:
    started = time.monotonic()
    assert world.raw(b"POST /mcp HTTP/1.1\r\nHost: loc", 6) == b""
    assert time.monotonic() - started < 5
    world.works()


def test_one_client_too_many_is_told_so(world: World) -> None:
    held = [http.client.HTTPConnection("127.0.0.1", world.port, timeout=5) for _ in range(8)]
    for client in held:
        client.request("GET", "/mcp", headers={"Authorization": f"Bearer {world.key}"})
        client.getresponse().read()
    reply = world.raw(b"", 2)
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"[sidecar:upstream_full] this door has 8 connections already" in reply
    for client in held:
        client.close()
    eventually(lambda: not world.raw(b"", 0.1), 5, "room again")
    world.works()


def test_clients_that_say_nothing_keep_nobody_out(world: World) -> None:
    silent = [socket.create_connection(("127.0.0.1", world.port), 5) for _ in range(30)]
    world.works()
    kept = 0
    for client in silent:
        client.settimeout(0.01)
        try:
            client.recv(1)
        except TimeoutError:
            kept += 1
        except ConnectionResetError:
            pass
        client.close()
    assert kept <= 8, "of a burst no more stay than there is room for"


def test_an_order_whose_client_leaves_before_it_is_sent_is_not_sent(world: World) -> None:
    before = len(world.sandbox.orders())
    world.sandbox.delays[3202] = world.sandbox.delays[3203] = 0.7
    try:
        params = {"name": "futu_place_order", "arguments": {**BUY, "symbol": "HK.00883", "price": 18, "qty": 1000}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.key}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client = socket.create_connection(("127.0.0.1", world.port), 5)
        client.sendall(head.encode() + body)
        time.sleep(0.2)
        client.close()
        world.live.wait_audit(reason="client_gone", endpoint="futu_place_order")
    finally:
        world.sandbox.delays.clear()
    assert len(world.sandbox.orders()) == before


def test_a_client_that_does_not_read_its_answers_is_cut(world: World) -> None:
    arguments = {"symbol": "HK.00700", "kl_type": "K_1M", "begin": "2026-01-05", "end": "2026-11-15"}
    params = {"name": "futu_get_history_kline", "arguments": arguments}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.key}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    before = world.live.metric("sidecar_clients_cut_total", reason="slow_client")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", world.port))
        client.sendall((head.encode() + body) * 30)
        eventually(
            lambda: world.live.metric("sidecar_clients_cut_total", reason="slow_client") > before, 15, "to be cut"
        )
    world.works()


def test_an_order_without_an_answer_is_not_to_be_repeated_unseen(stage: Stage) -> None:
    key = stage.keys.add("bot", "trade:simulate")
    sandbox = stage.sandbox(tick_interval=0)
    live = stage.app(sandbox.port, upstream={"request_timeout": 0.5})
    sandbox.delays[2202] = 1.5
    params = {"name": "futu_place_order", "arguments": {**BUY, "idempotency_key": "once"}}
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Accept": "application/json"}

    def place() -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", live.doors["mcp"], timeout=10)
        connection.request("POST", "/mcp", message, headers)
        result = json.loads(connection.getresponse().read())["result"]
        connection.close()
        tree: dict[str, Any] = result["structuredContent"]
        assert result["isError"] == ("error" in tree)
        return tree

    told = place()
    assert (told["code"], told["retry_after"]) == ("upstream_unavailable", None)
    assert "look at the order list before you repeat it" in told["error"]
    assert "futu_get_orders" in told["error"]
    again = eventually(lambda: found if "order_id" in (found := place()) else None, 5, "the late answer")
    assert again["replayed"] is True
    assert len(sandbox.orders()) == 1


def test_a_failure_of_our_own_is_told_without_its_traceback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(mcp_calls, "_told", fail)
    told = world.call("futu_ping")
    assert (told["code"], told["status"]) == ("internal", "error")
    assert "secret detail" not in json.dumps(told)
    monkeypatch.undo()
    assert world.call("futu_ping")["qot_logined"] is True


# -- without the package ----------------------------------------------------------------------------------------------


def test_without_the_package_the_door_stays_closed_and_the_others_open(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sidecar.listeners.mcp.server", None)
    stage.keys.add("bot", "qot:read")
    live = stage.app(stage.sandbox(tick_interval=0).port)
    assert "mcp" not in live.doors
    assert live.doors["rest"]
