"""TCP and admin listeners on unix sockets: who may, who it was, and what a kill leaves behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from live import LiveSidecar, Stage, eventually
from raw_client import PLACE_ORDER, RawClient, code_of
from real_parts import need, need_program
from tls_world import forwarded

TRADER = ("qot:read", "acc:read", "trade:simulate")
CLOSED = {"websocket": "off", "rest": "off", "grpc": "off", "mcp": "off"}


class World:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.key = stage.keys.add("bot", *TRADER)
        self.sandbox = stage.sandbox(tick_interval=0)
        self.tcp, self.admin = stage.folder / "tcp.sock", stage.folder / "admin.sock"
        listeners = {
            **CLOSED, "tcp": [{"bind": f"unix:{self.tcp}"}],
            "admin": {"bind": f"unix:{self.admin}", "socket_mode": "0600"},
        }  # fmt: skip
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port, start=False, listeners=listeners)
        self.start()

    def start(self) -> None:
        self.sidecar.start(ready=False)
        eventually(lambda: self.get("/readyz").startswith('{"ready":true'), 10, "the sidecar to be ready")

    def connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(10)
        made.connect(str(self.tcp))
        return made

    def bot(self, key: str | None = None) -> RawClient:
        return RawClient(0, key or self.key, opened=self.connect())

    def get(self, path: str, *more: str) -> str:
        command = [need_program("curl"), "-sS", "--unix-socket", str(self.admin), *more, f"http://localhost{path}"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sidecar.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.fixture
def world(stage: Stage) -> World:
    return World(stage)


def order(bot: RawClient) -> str | None:
    """The code of the refusal; None where OpenD took it."""
    reply = bot.ask(PLACE_ORDER, bot.order_request(price=300))
    assert reply.retType == 0 or code_of(reply)
    return code_of(reply)


def test_a_bot_trades_over_a_socket_and_the_audit_has_its_user(world: World) -> None:
    bot = world.bot()
    assert order(bot) is None
    line = world.sidecar.wait_audit(key_id="bot", outcome="allow")
    assert line["address"] == f"unix:{os.getuid()}"
    (connected,) = [one for one in world.sidecar.log() if one["event"] == "a client connected to a unix socket"]
    assert (connected["uid"], connected["gid"], connected["pid"]) == (os.getuid(), os.getgid(), os.getpid())
    bot.close()


def test_the_sockets_have_their_modes(world: World) -> None:
    assert world.tcp.stat().st_mode & 0o777 == 0o660
    assert world.admin.stat().st_mode & 0o777 == 0o600


def test_the_official_python_sdk_comes_through_a_forwarder(world: World) -> None:
    """It knows no sockets; `socat TCP-LISTEN:…,bind=127.0.0.1,fork UNIX-CONNECT:…` gives it a port."""
    with forwarded(world.connect) as port:
        bot = world.stage.sdk(port, world.key)
        bot.open("trade", "trade")
        placed = bot.place("HK.00700", 300, 100)
        assert placed.ok, placed.data
        bot.close("trade")


def test_a_wrong_key_is_told_so_and_counted_by_user(world: World) -> None:
    assert order(world.bot("fc_" + "0" * 64)) == "key_unknown"
    assert world.sidecar.wait_audit(reason="key_unknown")["address"] == f"unix:{os.getuid()}"


def test_a_key_with_allowed_ips_cannot_be_used_over_a_socket(world: World) -> None:
    """It has no address, and what is missing is not allowed."""
    key = world.stage.keys.add("local", *TRADER, allowed_ips=["127.0.0.1"])
    eventually(lambda: '"revision":' in world.get("/api/revision"))
    eventually(lambda: order(world.bot(key)) == "ip_not_allowed", 5)


def test_the_admin_pages_are_read_over_the_socket_and_a_strange_host_is_refused(world: World) -> None:
    assert world.get("/healthz") == "ok"
    assert "sidecar_upstream_up 1.0" in world.get("/metrics")
    assert world.get("/healthz", "-H", "Host: evil.example") == '{"error":"forbidden"}'


def test_commands_find_the_admin_socket_by_the_settings(world: World) -> None:
    config = str(world.sidecar.config_file)
    said = world.command("revoke-key", "bot", "--config", config)
    assert f"in force: the running sidecar at unix:{world.admin} has revision" in said.stdout, said
    said = world.command("revoke-key", "nobody", "--config", config)
    assert said.returncode == 1


def test_commands_find_the_admin_socket_by_their_flag(world: World) -> None:
    keys = str(world.stage.keys.path)
    said = world.command("revoke-key", "bot", "--keys-file", keys, "--admin", f"unix:{world.admin}")
    assert f"in force: the running sidecar at unix:{world.admin}" in said.stdout, said


def test_without_a_running_sidecar_commands_say_so(world: World) -> None:
    world.sidecar.stop()
    said = world.command("revoke-key", "bot", "--config", str(world.sidecar.config_file))
    assert f"no running sidecar answers at unix:{world.admin}" in said.stdout, said


def test_a_stop_takes_the_sockets_away(world: World) -> None:
    assert world.sidecar.stop() == 0
    assert not world.tcp.exists()
    assert not world.admin.exists()


def test_after_a_kill_the_dead_sockets_are_taken_over(world: World) -> None:
    world.sidecar.kill()
    assert world.tcp.is_socket()
    world.start()
    assert order(world.bot()) is None


def test_a_socket_on_which_another_one_listens_is_not_taken_over(world: World, stage: Stage) -> None:
    second = stage.sidecar(
        world.sandbox.port, start=False, listeners={**CLOSED, "tcp": [{"bind": f"unix:{world.tcp}"}]}
    )
    second.write_settings()
    said = world.command("run", "--config", str(second.config_file))
    assert said.returncode == 1
    assert f"cannot listen on `{world.tcp}`: another program does already" in said.stderr
    assert "Traceback" not in said.stderr
    assert order(world.bot()) is None


def test_who_may_not_open_the_socket_does_not_get_in(world: World) -> None:
    need("root", os.getuid() == 0)
    for parent in world.tcp.parents:
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    ask = f"import os,socket; os.setgid(65534); os.setuid(65534); socket.socket(socket.AF_UNIX).connect({str(world.tcp)!r})"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=10)
    assert "PermissionError" in said.stderr, said


def test_a_listener_of_a_key_needs_no_other_credential_than_the_socket(world: World) -> None:
    world.sidecar.stop()
    world.sidecar.settings["listeners"]["tcp"][0]["key"] = "bot"
    world.start()
    assert order(world.bot("PyNormal")) is None
