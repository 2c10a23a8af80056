"""docker-compose.yml as it is, by podman-compose: sandbox and sidecar, the official SDK on the host, signals, keys, a restart."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from engine import IMAGE, OWNER, Container, Engine, owned, plaintext_in, seconds_until, status_of
from live import LiveSandbox, eventually
from official_sdk import SdkProcess
from real_parts import need_program

pytestmark = [pytest.mark.real_part, pytest.mark.timeout(900)]

SOON = 1.0
"""Seconds within which a changed keys.json holds."""
PORTS = ("TCP_PORT", "WS_PORT", "REST_PORT", "GRPC_PORT", "MCP_PORT", "ADMIN_PORT")
STATE = "/home/sidecar/.local/state/opend-sidecar"


def free_ports(count: int) -> list[int]:
    """Below those that the system gives to connections, which might take them in the meantime."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15000, 30000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


@dataclass
class Composed:
    """The services of one compose file."""

    engine: Engine
    file: str
    keys: Path
    environ: dict[str, str]
    project: str
    ports: dict[str, int]

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["--in-pod=false", "-p", self.project, "-f", self.file, "--profile", "sandbox", *arguments]
        return self.engine.run(*command, program=need_program("podman-compose"), **self.environ)

    def up(self, *services: str) -> float:
        """Start services; the seconds until the sidecar can serve orders."""
        started = time.monotonic()
        self.compose("up", "-d", "--no-build", *services)
        try:
            self.wait_ready()
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.sidecar.logs()}") from None
        return time.monotonic() - started

    def wait_ready(self) -> None:
        eventually(lambda: status_of(self.ports["ADMIN_PORT"], "/readyz") == 200, 30, "the sidecar to be ready")

    @property
    def sidecar(self) -> Container:
        return Container(self.engine, f"{self.project}_sidecar_1")

    @property
    def sandbox(self) -> Container:
        return Container(self.engine, f"{self.project}_sandbox_1")

    def on_host(self, *command: str) -> str:
        """A command of the sidecar on the machine, with the same keys.json."""
        done = subprocess.run(
            [sys.executable, "-m", "sidecar.cli.main", *command, "--keys-file", str(self.keys / "keys.json")],
            capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(self.keys.parent)},
        )  # fmt: skip
        return done.stdout + done.stderr


def composed(engine: Engine, folder: Path, file: str, **environ: str) -> Composed:
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    keys = owned(folder / "keys")
    environ = {
        "SIDECAR_IMAGE": IMAGE, "SIDECAR_KEYS": str(keys), "SIDECAR_UID": str(OWNER), "SIDECAR_GID": str(OWNER),
        **{name: str(port) for name, port in ports.items()}, **environ,
    }  # fmt: skip
    return Composed(engine, file, keys, environ, f"sidecartest{uuid4().hex[:8]}", ports)


@pytest.fixture(scope="module")
def services(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """As the quickstart has it: a key is made by a container of its own, then everything starts."""
    made = composed(engine, tmp_path_factory.mktemp("composed"), "docker-compose.yml")
    try:
        made.compose("run", "--rm", "--no-deps", "sidecar", "gen-key", "--id", "first", "--scopes", "qot:read")
        print(f"ready {made.up('sandbox', 'sidecar'):.1f} s after `up`")
        yield made
    finally:
        made.compose("down", "--volumes")


def new_key(services: Composed, key_id: str, *flags: str) -> str:
    made = services.sidecar.exec(
        "opend-sidecar", "gen-key", "--id", key_id, "--scopes", "qot:read,acc:read,trade:simulate", *flags
    )
    return plaintext_in(made.stdout)


def test_it_is_process_1_of_the_owner_of_the_keys_and_can_write_nowhere_but_its_state(services: Composed) -> None:
    look = "import json, os; print(json.dumps([open('/proc/1/cmdline').read().split(chr(0))[1:3], os.stat('/proc/1').st_uid, os.getuid()]))"
    assert json.loads(services.sidecar.exec("python3", "-c", look).stdout) == [
        ["/opt/opend-sidecar/bin/opend-sidecar", "run"],
        OWNER,
        OWNER,
    ]
    for path in ("/file", "/etc/opend-sidecar/file", "/home/sidecar/file", "/opt/opend-sidecar/file", "/usr/bin/file"):
        refused = services.sidecar.exec("touch", path, check=False)
        assert refused.returncode != 0, path
    capabilities = services.sidecar.exec("grep", "-E", "CapEff|CapBnd|NoNewPrivs", "/proc/1/status").stdout.split()
    assert capabilities[1::2] == ["0" * 16, "0" * 16, "1"]
    file = services.keys / "keys.json"
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (OWNER, 0o600)


def test_the_official_sdk_on_the_machine_trades_through_it(services: Composed, tmp_path: Path) -> None:
    bot = SdkProcess(
        services.ports["TCP_PORT"], new_key(services, "trader", "--max-order-value", "100000"), tmp_path / "sdk"
    )
    try:
        bot.open("quotes", "quote")
        bot.open("trade", "trade")
        assert bot.call("quotes", "get_market_snapshot", ["HK.00700"]).ok
        placed = bot.place("HK.00700", 300, 100)
        assert placed.ok, placed.data
        order_id = placed.data[0]["order_id"]
        bot.wait_push("order", lambda data: data[0][0]["order_id"] == order_id)
        assert bot.cancel(order_id).ok
        assert bot.place("HK.00700", 300, 400).code() == "order_value"
    finally:
        bot.end()


def test_opend_is_reached_by_nobody_but_the_sidecar(services: Composed) -> None:
    assert services.engine.run("port", services.sandbox.name).stdout == ""
    networks = services.engine.inspect(services.sandbox.name)["NetworkSettings"]["Networks"]
    assert list(networks) == [f"{services.project}_private"]


def test_prometheus_is_answered_under_the_name_it_asks_for(services: Composed) -> None:
    scrape = "import urllib.request as u; print(u.urlopen('http://sidecar:11180/metrics', timeout=5).read().decode())"
    assert "sidecar_upstream_up 1.0" in services.sandbox.exec("python3", "-c", scrape).stdout


def test_keys_made_and_revoked_on_the_machine_hold_within_a_second(services: Composed) -> None:
    key = plaintext_in(services.on_host("gen-key", "--id", "outside", "--scopes", "qot:read"))
    assert seconds_until(services.ports["REST_PORT"], key, 200) < SOON
    told = services.on_host("revoke-key", "outside", "--admin", f"127.0.0.1:{services.ports['ADMIN_PORT']}")
    assert "in force" in told
    assert seconds_until(services.ports["REST_PORT"], key, 401) < SOON
    assert (services.keys / "keys.json").stat().st_uid == OWNER, "an edit by root leaves it to its owner"


def test_keys_made_and_revoked_in_the_container_hold_within_a_second(services: Composed) -> None:
    key = new_key(services, "inside")
    assert seconds_until(services.ports["REST_PORT"], key, 200) < SOON
    told = services.sidecar.exec("opend-sidecar", "revoke-key", "inside")
    assert "in force" in told.stdout + told.stderr
    assert seconds_until(services.ports["REST_PORT"], key, 401) < SOON
    assert "inside" not in (services.keys / "keys.json").read_text()


def test_commands_in_the_container_need_no_flags_to_find_the_sidecar(services: Composed) -> None:
    ask = services.sidecar.exec
    assert "first" in ask("opend-sidecar", "list-keys").stdout
    assert ask("opend-sidecar", "halt", "--reason", "a test").returncode == 0
    assert "a test" in ask("opend-sidecar", "status").stdout
    assert ask("opend-sidecar", "resume", "--reason", "it is over").returncode == 0
    assert ask("opend-sidecar", "audit", "verify").returncode == 0
    assert ask("opend-sidecar", "check-config", "--config", "/etc/opend-sidecar/sidecar.yaml").returncode == 0


def test_sighup_reads_the_keys_again_and_opens_the_audit_anew(services: Composed) -> None:
    sidecar = services.sidecar
    said = sidecar.logs().count("keys.json was read again")
    sidecar.exec("mv", f"{STATE}/audit.jsonl", f"{STATE}/audit.jsonl.moved")
    sidecar.signal("HUP")
    sidecar.wait_log("keys.json was read again", said + 1)
    status_of(services.ports["REST_PORT"], "/api/key", "fc_" + "0" * 64)  # something to write down
    eventually(
        lambda: sidecar.exec("test", "-e", f"{STATE}/audit.jsonl", check=False).returncode == 0, 5, "a new audit file"
    )
    assert sidecar.state()["Running"]


def test_it_stays_healthy_while_opend_is_away_and_says_that_it_is(services: Composed) -> None:
    assert services.sidecar.healthy()
    services.engine.run("stop", "--time", "5", services.sandbox.name)
    eventually(lambda: status_of(services.ports["ADMIN_PORT"], "/readyz") == 503, 5, "the loss to be noticed")
    assert services.sidecar.healthy(), "a new start would not bring OpenD back"
    services.engine.run("start", services.sandbox.name)
    services.wait_ready()


def test_sigterm_ends_it_cleanly_and_what_was_used_is_still_used_after_the_next_start(
    services: Composed, tmp_path: Path
) -> None:
    key = new_key(services, "spender", "--max-daily-value", "50000")
    bot = SdkProcess(services.ports["TCP_PORT"], key, tmp_path / "sdk")
    try:
        bot.open("trade", "trade")
        assert bot.place("HK.00700", 300, 100).ok
        started = time.monotonic()
        services.engine.run("stop", "--time", "25", services.sidecar.name)
        assert time.monotonic() - started < 20, "it was not killed"
        assert services.sidecar.state()["ExitCode"] == 0
        services.engine.run("start", services.sidecar.name)
        services.wait_ready()
        again = eventually(
            lambda: answer if (answer := bot.place("HK.00700", 300, 100)).code() == "daily_value" else None, 20
        )
        assert "60000" in again.data
    finally:
        bot.end()


def test_on_the_machines_own_network_it_reaches_an_opend_on_127_0_0_1(engine: Engine, tmp_path: Path) -> None:
    sandbox = LiveSandbox(tick_interval=0)
    services = composed(engine, tmp_path, "docker-compose.host.yml", OPEND=f"127.0.0.1:{sandbox.port}")
    doors = dict(zip(("tcp", "websocket", "rest", "grpc", "mcp", "admin"), services.ports.values(), strict=True))
    listeners = {name: [{"port": port}] if name == "tcp" else {"port": port} for name, port in doors.items()}
    settings = tmp_path / "sidecar.yaml"
    settings.write_text(json.dumps({"listeners": listeners}))
    settings.chmod(0o644)
    services.environ["SIDECAR_CONFIG"] = str(settings)
    try:
        key = plaintext_in(
            services.on_host(
                "gen-key", "--id", "bot", "--scopes", "qot:read,acc:read,trade:simulate", "--bind-this-machine"
            )
        )
        os.chown(services.keys / "keys.json", OWNER, OWNER)
        services.up("sidecar")
        bot = SdkProcess(services.ports["TCP_PORT"], key, tmp_path / "sdk")
        try:
            bot.open("trade", "trade")
            assert bot.place("HK.00700", 300, 100).ok, "and its machine is this one"
        finally:
            bot.end()
        assert {one.client_id for one in sandbox.everything()} == {"opend-sidecar"}
    finally:
        services.compose("down", "--volumes")
        sandbox.close()
