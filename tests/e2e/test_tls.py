"""Every listener behind TLS, with the clients people use: they trust its CA, and nothing else about them is changed."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from certificates import Authority
from grpcio_client import Answer, GrpcioClient, No, global_state, order
from live import PROJECT, Stage, eventually
from mcp_client import BUY, over_http
from official_js_sdk import JsSdk
from raw_client import PLACE_ORDER, RawClient, code_of
from tls_world import TlsWorld, forwarded, s_client
from websocket_client import FrameClient, JsClient
from websocket_client import global_state as ws_global_state

GLOBAL_STATE = 1002


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsWorld]:
    with Stage(tmp_path_factory.mktemp("tls")) as stage:
        yield TlsWorld(stage, limits={"handshake_timeout": 2.0})


# -- REST --------------------------------------------------------------------------------------------------------


def test_curl_trades_over_https(world: TlsWorld) -> None:
    body = '{"acc_id": "1001001", "trd_env": "SIMULATE"}'
    found = world.curl("/api/key", world.key)
    assert (found.exit, found.status, found.json["s2c"]["key_id"]) == (0, 200, "bot"), body
    assert world.curl("/health").body == "ok"


def test_a_client_that_trusts_another_ca_does_not_send_its_key(world: TlsWorld) -> None:
    strange = Authority(world.stage.folder / "strange", "another CA")
    said = "the client ended the TLS handshake (tlsv1 alert unknown ca); does it trust the CA of this listener's certificate?"

    def ask() -> None:
        refused = world.curl("/api/key", world.key, trust=strange.cert)
        assert refused.exit == 60, refused  # curl: the peer's certificate cannot be authenticated

    assert world.recorded(ask, endpoint="tls", iface="rest", message=said)["reason"] == "malformed_request"


def test_a_client_in_clear_is_told_nothing_and_the_owner_why(world: TlsWorld) -> None:
    def ask() -> None:
        with socket.create_connection(("127.0.0.1", world.sidecar.doors["rest"]), 5) as plain:
            plain.sendall(f"GET /api/key HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.key}\r\n\r\n".encode())
            assert plain.recv(1000) == b""

    said = "the client does not speak TLS, and this listener speaks nothing else"
    assert world.recorded(ask, endpoint="tls", iface="rest", message=said)["reason"] == "malformed_request"
    assert world.key not in world.sidecar.audit_file.read_text()


async def test_pushes_come_over_wss_at_the_rest_door(world: TlsWorld) -> None:
    url = f"wss://127.0.0.1:{world.sidecar.doors['rest']}/ws"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=world.context(), headers={"Authorization": f"Bearer {world.key}"}) as socket_,
    ):
        assert not socket_.closed


# -- versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["tcp", "websocket", "rest", "grpc", "mcp"])
def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(world: TlsWorld, door: str) -> None:
    port = world.sidecar.ports[0] if door == "tcp" else world.sidecar.doors[door]
    trust = ("-CAfile", str(world.authority.cert), "-verify_return_error")
    assert "Verify return code: 0 (ok)" in s_client(port, "-tls1_3", *trust)
    assert "Protocol  : TLSv1.2" in s_client(port, "-tls1_2", *trust)
    old = s_client(port, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert "Cipher is (NONE)" in old


def test_the_client_cannot_renegotiate(world: TlsWorld) -> None:
    said = s_client(world.sidecar.ports[0], "-tls1_2", said=b"R\n")
    assert "no renegotiation" in said


def test_grpc_is_agreed_as_h2_and_http_as_1_1(world: TlsWorld) -> None:
    assert "ALPN protocol: h2" in s_client(world.sidecar.doors["grpc"], "-alpn", "h2,http/1.1")
    assert "ALPN protocol: http/1.1" in s_client(world.sidecar.doors["rest"], "-alpn", "h2,http/1.1")


def test_a_listener_may_ask_for_tls_1_3(stage: Stage) -> None:
    world = TlsWorld(stage, min_version="1.3")
    assert "New, TLSv1.3" in s_client(world.sidecar.doors["rest"], "-tls1_3")
    assert "Cipher is (NONE)" in s_client(world.sidecar.doors["rest"], "-tls1_2")
    assert world.curl("/health").status == 200
    line = world.sidecar.wait_audit(endpoint="tls", iface="rest")
    assert line["message"] == "the client speaks only versions of TLS that this listener does not take"


# -- the other doors ---------------------------------------------------------------------------------------------


def test_grpcio_trades_over_tls(world: TlsWorld) -> None:
    with GrpcioClient(world.sidecar.doors["grpc"], world.key, tls=world.grpc()) as bot:
        assert isinstance(bot.ask(GLOBAL_STATE, global_state()), Answer)
        placed = bot.ask(PLACE_ORDER, order())
        assert isinstance(placed, Answer)
        assert placed.ret_type == 0, placed


def test_grpcio_in_clear_finds_no_service(world: TlsWorld) -> None:
    with GrpcioClient(world.sidecar.doors["grpc"], world.key) as bot:
        answer = bot.ask(GLOBAL_STATE, global_state(), timeout=3)
        assert isinstance(answer, No)
        assert answer.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


async def test_the_mcp_sdk_trades_over_https(world: TlsWorld) -> None:
    async with over_http(world.sidecar.doors["mcp"], world.key, tls=world.context()) as bot:
        assert "order_id" in await bot.ask("futu_place_order", **BUY)


def test_the_mcp_bridge_trusts_what_the_system_trusts(world: TlsWorld) -> None:
    """SSL_CERT_FILE is how a CA of one's own is told to it."""
    first = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}\n'
    url = f"https://localhost:{world.sidecar.doors['mcp']}/mcp"
    ran = subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", "mcp-stdio", "--url", url],
        input=first, capture_output=True, timeout=30, cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "OPEND_SIDECAR_KEY": world.key, "PYTHONPATH": str(PROJECT),
             "SSL_CERT_FILE": str(world.authority.cert)},
    )  # fmt: skip
    assert b"place_order" in ran.stdout, ran


def test_the_official_javascript_sdk_logs_in_with_ssl_true(world: TlsWorld) -> None:
    with JsSdk(trust=world.authority.cert) as sdk:
        sdk.start(world.sidecar.doors["websocket"], world.key, ssl=True)
        sdk.logged_in()
        assert sdk.call("GetGlobalState", {"userID": 0}).ok


def test_the_official_javascript_sdk_does_not_log_in_where_it_trusts_no_ca_of_ours(world: TlsWorld) -> None:
    with JsSdk() as sdk:
        sdk.start(world.sidecar.doors["websocket"], world.key, ssl=True)
        sdk.wait("closed")
        assert not any(event["ok"] for event in sdk.of("login"))


@pytest.mark.parametrize("client", [FrameClient, JsClient])
async def test_both_framings_come_over_wss(world: TlsWorld, client: Any) -> None:
    how = {"key": world.key} if client is FrameClient else {}
    async with client(world.sidecar.doors["websocket"], tls=world.context(), **how) as bot:
        await (bot.introduce() if client is FrameClient else bot.login(world.key))
        assert (await bot.ask(GLOBAL_STATE, ws_global_state())).retType == 0


def test_raw_frames_come_over_tls(world: TlsWorld) -> None:
    bot = world.raw(world.key)
    reply = bot.ask(PLACE_ORDER, bot.order_request(price=300))
    assert reply.retType == 0, reply.retMsg
    assert world.sidecar.audit(iface="tcp", key_id="bot", outcome="allow")
    bot.close()


def test_the_official_python_sdk_comes_through_a_program_that_speaks_tls_for_it(world: TlsWorld) -> None:
    with forwarded(lambda: world.connect(world.sidecar.ports[0])) as port:
        bot = world.stage.sdk(port, world.key)
        bot.open("trade", "trade")
        placed = bot.place("HK.00700", 300, 100)
        assert placed.ok, placed.data
        assert bot.cancel(placed.data[0]["order_id"]).ok
        bot.close("trade")


def test_large_answers_arrive_whole(world: TlsWorld) -> None:
    page = world.curl("/openapi.json")
    assert page.status == 200
    assert page.json["openapi"].startswith("3.")


# -- who does not go on ------------------------------------------------------------------------------------------


def test_whoever_connects_and_says_nothing_is_let_go(world: TlsWorld) -> None:
    with socket.create_connection(("127.0.0.1", world.sidecar.doors["rest"]), 8) as silent:
        began = time.monotonic()
        assert silent.recv(1) == b""
        assert 1.5 < time.monotonic() - began < 5
    assert world.sidecar.metric("sidecar_tls_handshakes_failed_total", iface="rest", reason="timeout") >= 1


def test_any_number_of_silent_connections_keeps_nobody_out(world: TlsWorld) -> None:
    port = world.sidecar.doors["rest"]
    silent = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(300)]
    try:
        assert world.curl("/api/key", world.key).status == 200
    finally:
        for each in silent:
            each.close()


def test_a_slow_handshake_is_waited_for_and_costs_no_place_at_the_door(world: TlsWorld) -> None:
    """A second between hello and key: longer than the door's own ticks."""
    made = world.context().wrap_bio(
        incoming := ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname="localhost"
    )
    with socket.create_connection(("127.0.0.1", world.sidecar.doors["rest"]), 5) as slow:
        for pause in (1.3, 0.0, 0.0):
            try:
                made.do_handshake()
                break
            except ssl.SSLWantReadError:
                slow.sendall(outgoing.read())
                time.sleep(pause)
                incoming.write(slow.recv(65536))
        slow.sendall(outgoing.read())
        made.write(f"GET /api/key HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.key}\r\n\r\n".encode())
        slow.sendall(outgoing.read())
        answer = b""
        while b"bot" not in answer:
            data = slow.recv(65536)
            assert data, answer
            incoming.write(data)
            try:
                answer += made.read(65536)
            except ssl.SSLWantReadError:
                continue
        assert answer.startswith(b"HTTP/1.1 200")


def test_noise_ends_its_own_connection_and_no_traceback_is_written(world: TlsWorld) -> None:
    import random

    noise = random.Random(1)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", world.sidecar.ports[0]), 5) as strange:
            strange.sendall(b"\x16\x03\x01" + noise.randbytes(noise.randrange(1, 600)))
            strange.shutdown(socket.SHUT_WR)
    assert world.curl("/api/key", world.key).status == 200
    assert "Traceback" not in world.sidecar.log_text()


def test_a_client_that_reads_nothing_is_cut(stage: Stage) -> None:
    """Behind TLS, too, what waits for it is bounded."""
    world = TlsWorld(stage, limits={"client_buffer": "256 KiB", "client_stall": 1.0})
    bot: RawClient = world.raw(world.key)
    state = ws_global_state()
    frames = b"".join(bot.frame(GLOBAL_STATE, state)[1] for _ in range(2000))
    bot._socket.settimeout(20)

    def flood() -> None:
        try:
            for _ in range(60):
                bot.write(frames)
        except OSError:
            pass

    writing = threading.Thread(target=flood, daemon=True)
    writing.start()
    eventually(lambda: world.sidecar.metric("sidecar_clients_cut_total", reason="slow_client") >= 1, 20, "the cut")
    assert code_of(world.raw(world.other).ask(GLOBAL_STATE, state)) is None


# -- the admin listener ------------------------------------------------------------------------------------------


class Guarded(TlsWorld):
    """Its admin listener speaks TLS as well."""

    def __init__(self, stage: Stage, **more: object) -> None:
        server = Authority(stage.folder / "admin").issue("server")
        super().__init__(stage)
        self.admin = server
        self.sidecar.stop()
        self.sidecar.settings["listeners"]["admin"]["tls"] = server.tls(**more)
        self.sidecar.start(ready=False)

    def revoke(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sidecar.cli.main", "revoke-key", "bot", "--config"]
        self.sidecar.write_settings()
        return subprocess.run(
            [*command, str(self.sidecar.config_file)], cwd=PROJECT, capture_output=True, text=True, timeout=30
        )


def test_the_admin_pages_are_read_over_https(stage: Stage) -> None:
    world = Guarded(stage)
    trust = stage.folder / "admin" / "ca.pem"
    assert world.curl("/healthz", door="admin", trust=trust).body == "ok"
    assert world.curl("/healthz", None, None, "-H", "Host: evil.example", door="admin", trust=trust).status == 403
    assert (
        world.curl("/healthz", None, None, "-H", "Origin: https://evil.example", door="admin", trust=trust).status
        == 403
    )


def test_commands_take_the_certificate_of_the_settings_for_the_running_sidecars(stage: Stage) -> None:
    world = Guarded(stage)
    said = world.revoke()
    assert f"in force: the running sidecar at 127.0.0.1:{world.sidecar.admin_port} has revision" in said.stdout, said


def test_commands_believe_nobody_with_another_certificate(stage: Stage) -> None:
    world = Guarded(stage)
    impostor = Authority(stage.folder / "impostor").issue("server")
    world.sidecar.settings["listeners"]["admin"]["tls"]["cert"] = str(impostor.cert)
    said = world.revoke()
    assert said.returncode == 1
    assert "does not say which keys are in force" in said.stderr
    assert "it shows another certificate than" in said.stderr


def test_an_admin_listener_that_asks_for_client_certificates_is_not_asked_by_commands(stage: Stage) -> None:
    world = Guarded(stage, client_ca=stage.folder / "admin" / "ca.pem")
    said = world.revoke()
    assert said.returncode == 0
    assert "not known whether a running sidecar has the change" in said.stdout


# -- at a start --------------------------------------------------------------------------------------------------


@pytest.fixture
def refused_start(stage: Stage) -> Any:
    """Runs a sidecar with a pair of files that `spoil` has had in its hands; what it says on stderr."""

    def run(spoil: Any, port: int = 0) -> str:
        pair = Authority(stage.folder / "ca").issue("server")
        spoil(pair)
        made = stage.sidecar(1, start=False, listeners={"rest": {"port": port, "tls": pair.tls()}})
        made.write_settings()
        command = [sys.executable, "-m", "sidecar.cli.main", "run", "--config", str(made.config_file)]
        said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30)
        assert said.returncode == 1
        assert "Traceback" not in said.stderr
        return said.stderr

    return run


def test_a_private_key_that_others_may_read_does_not_start(refused_start: Any) -> None:
    said = refused_start(lambda pair: pair.key.chmod(0o644))
    assert "setting `listeners.rest.tls`: others may use the private key" in said
    assert "run `chmod 600" in said


def test_a_certificate_that_is_not_there_does_not_start(refused_start: Any) -> None:
    assert "cannot be read: no such file or directory" in refused_start(lambda pair: pair.cert.unlink())


def test_a_port_that_is_taken_is_told_behind_tls_too(refused_start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused_start(lambda pair: None, port)
    assert f"cannot listen on 127.0.0.1:{port} (address already in use); choose another port with `--rest-port`" in said


def test_where_there_is_no_room_it_is_said_behind_tls_too(stage: Stage) -> None:
    world = TlsWorld(stage, limits={"max_clients": 1})
    request = f"GET /api/key HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.key}\r\n\r\n".encode()
    with world.connect(world.sidecar.doors["rest"]) as first:
        first.sendall(request)
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
        refused = world.curl("/api/key", world.key)
        assert (refused.status, "upstream_full" in refused.body) == (503, True), refused
    eventually(lambda: world.curl("/api/key", world.key).status == 200, 5)
    first_raw = world.raw(world.key)
    with pytest.raises(OSError):
        world.raw(world.key)
    first_raw.close()
    assert "Traceback" not in world.sidecar.log_text()


@pytest.mark.parametrize("door", ["tcp", "websocket", "rest", "grpc", "mcp"])
def test_whoever_says_nothing_after_the_handshake_is_let_go_too(world: TlsWorld, door: str) -> None:
    port = world.sidecar.ports[0] if door == "tcp" else world.sidecar.doors[door]
    with world.connect(port) as silent:
        silent.settimeout(8)
        while silent.recv(1000):  # gRPC greets
            pass


def test_who_reads_nothing_of_a_long_answer_costs_the_others_nothing(world: TlsWorld) -> None:
    """A page of a megabyte, asked for over and over and never read."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lazy = [world.connect(world.sidecar.doors["rest"]) for _ in range(20)]
    for each in lazy:
        each.sendall(request)
    began = time.monotonic()
    assert world.curl("/api/key", world.key).status == 200
    assert time.monotonic() - began < 3
    for each in lazy:
        each.close()
