"""`opend-sidecar demo`: a sandbox OpenD, the sidecar in front of it, fresh keys, and every decision as it is made.

Holds no rule and makes no decision: what it shows, it reads from the audit.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sidecar.app import App
from sidecar.audit.record import to_json
from sidecar.cli.command import Command, WrongUsage, json_option
from sidecar.cli.decision_line import Following, line_of
from sidecar.cli.key_table import limits
from sidecar.cli.run import loop_factory
from sidecar.errors import ConfigError
from sidecar.keys.file import edit
from sidecar.keys.secret import hash_of, new_plaintext, ws_hash_of
from sidecar.listener_settings import (
    AdminListener,
    GrpcListener,
    Listeners,
    McpListener,
    RestListener,
    TcpListener,
    WebSocketListener,
)
from sidecar.operator_log import configure_log
from sidecar.policy.key import Key
from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.settings import Audit, Keys, Log, Settings, Upstream

HOST = "127.0.0.1"
LOOK_EVERY = 0.1
"""Seconds between two looks at the audit."""
PATIENCE = 10.0
"""Seconds until the sidecar must have found the sandbox."""

_SNIPPET = """\
{python} - <<'EOF'
from futu import *

def buy(trade, qty):
    ret, answer = trade.place_order(price=300, qty=qty, code="HK.00700", trd_side=TrdSide.BUY, trd_env=TrdEnv.SIMULATE)
    print(f"{{qty}} x 300 HKD:", f"accepted, order {{answer['order_id'][0]}}" if ret == RET_OK else answer)

SysConfig.set_client_info("{bot}", 300)  # sim-bot
trade = OpenSecTradeContext(filter_trdmarket=TrdMarket.HK, host="{host}", port={port})
buy(trade, 100)
buy(trade, 400)
trade.close()

SysConfig.set_client_info("{reader}", 300)  # research
trade = OpenSecTradeContext(filter_trdmarket=TrdMarket.HK, host="{host}", port={port})
buy(trade, 100)
trade.close()
quotes = OpenQuoteContext(host="{host}", port={port})
print("HK.00700 is at", quotes.get_market_snapshot(["HK.00700"])[1]["last_price"][0])
quotes.close()
EOF"""

_INTRODUCTION = """
A paper OpenD on {host}:{opend_port}, the sidecar in front of it on {host}:{port}. No order leaves this machine.

{keys}

Paste this into another terminal. It is a bot written for OpenD, but for the port and the line with the key:

{snippet}

The same bot, without the SDK:

{curl}

every call   http://{host}:{rest_port}/docs
WebSocket    ws://{host}:{ws_port} (the JavaScript SDK)    gRPC  {host}:{grpc_port}{mcp}
ready?       curl -s http://{host}:{admin_port}/readyz
metrics      curl -s http://{host}:{admin_port}/metrics | grep ^futu_auth
audit        {audit}
take a key   {program} revoke-key sim-bot --keys-file {keys_file} --admin {host}:{admin_port}

Decisions, as they are made. Ctrl-C ends the demo and deletes its keys and its audit.
"""
_CURL = """\
curl -s http://{host}:{rest_port}/api/order -H 'Authorization: Bearer {bot}' -H 'Content-Type: application/json' \\
  -d '{{"trd_env": "SIMULATE", "acc_id": {acc_id}, "trd_market": "HK", "code": "HK.00700", "trd_side": "BUY",
       "order_type": "NORMAL", "qty": 100, "price": 300}}'"""

_PORTS = {"tcp": 11110, "ws": 44444, "rest": 22222, "grpc": 33333, "mcp": 38765, "admin": 11180}
_LISTENERS = {"ws": "websocket"}
"""Where the settings call a listener otherwise than the flags do."""
_ENDED = "\nended: the sidecar and the paper OpenD are stopped, the temporary files deleted"


def _with_ports(command: Any) -> Any:
    for door, port in reversed(_PORTS.items()):
        which = "health and metrics" if door == "admin" else door
        command = click.option(
            f"--{door}-port", type=click.IntRange(0, 65535), metavar="PORT", help=f"Port for {which} (default {port})."
        )(command)
    return command


@click.command(
    "demo",
    cls=Command,
    short_help="See it work: a paper OpenD, the sidecar, two keys.",
    sections={"Ports": tuple(f"{door}_port" for door in _PORTS)},
    exits={0: "it was told to end, and has tidied up", 1: "a port is in use, or it could not start"},
    examples="""
opend-sidecar demo
opend-sidecar demo --any-ports
opend-sidecar demo --any-ports --json | jq .
""",
)
@_with_ports
@click.option("--any-ports", is_flag=True, help="Take free ports wherever none is given.")
@json_option("One JSON object a line: first addresses and keys, then each record of the audit.")
def demo(any_ports: bool, as_json: bool, **given: int | None) -> None:
    """See it work: a paper OpenD, the sidecar in front of it, fresh keys, decisions as they are made.

    It prints a bot to paste into another terminal; no account and no OpenD is needed. Everything is kept in a temporary directory
    and deleted in the end, with Ctrl-C. Port 0 takes any free port.
    """
    ports: dict[str, int] = {}
    for door, usual in _PORTS.items():
        port = given[f"{door}_port"]
        ports[door] = port if port is not None else 0 if any_ports else usual
        twin = next((other for other, taken in ports.items() if other != door and taken == ports[door] != 0), None)
        if twin is not None:
            raise WrongUsage(f"--{twin}-port and --{door}-port are both {ports[door]}; give each its own port")
        _require_free(ports[door], f"--{door}-port")
    configure_log(Log(level="warning"))
    terminal = _Terminal()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_demo(terminal, ports, as_json=as_json))
    if not as_json:
        terminal.print(_ENDED)


def _require_free(port: int, option: str) -> None:
    """Asked before anything starts, so that the answer can name this command's option. Raises ConfigError."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # elsewhere it lets two programs have one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "is in use" if taken else f"cannot be had ({(error.strerror or str(error)).lower()})"
            raise ConfigError(
                f"port {port} {reason}; choose another with `{option}`, or say `--any-ports` to take free ones"
            ) from None


async def _demo(terminal: _Terminal, ports: dict[str, int], *, as_json: bool) -> None:
    this = asyncio.current_task()
    assert this is not None, "a coroutine runs in a task"
    _on_signal(this.cancel)  # until the sidecar itself listens
    with tempfile.TemporaryDirectory(prefix="opend-sidecar-demo-") as folder:
        try:
            async with Sandbox(SandboxSettings(host=HOST, port=0)) as sandbox:
                await _serve(terminal, Path(folder), sandbox.port, ports, as_json=as_json)
        except asyncio.CancelledError:
            return  # told to end before it had quite begun


def _on_signal(action: Callable[[], object]) -> None:
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, action)


async def _serve(terminal: _Terminal, folder: Path, opend_port: int, ports: dict[str, int], *, as_json: bool) -> None:
    reader, bot = _make_keys(folder / "keys.json")
    app = App(
        Settings(
            upstream=Upstream(host=HOST, port=opend_port),
            keys=Keys(file=folder / "keys.json"),
            state_dir=folder / "state",
            audit=Audit(file=folder / "audit.jsonl"),
            listeners=Listeners(
                tcp=(TcpListener(bind=HOST, port=ports["tcp"]),),
                websocket=WebSocketListener(bind=HOST, port=ports["ws"]),
                rest=RestListener(bind=HOST, port=ports["rest"]),
                grpc=GrpcListener(bind=HOST, port=ports["grpc"]),
                mcp=McpListener(bind=HOST, port=ports["mcp"]),
                admin=AdminListener(bind=HOST, port=ports["admin"]),
            ),
            drain=2.0,
        )
    )
    screen = _Screen(terminal, app, as_json=as_json)
    showing = asyncio.get_running_loop().create_task(screen.show(reader, bot))
    try:
        await app.run()
    finally:
        _on_signal(lambda: None)  # it is ending already, and cleans up after itself
        showing.cancel()
        await asyncio.wait([showing])
    if not showing.cancelled() and (error := showing.exception()) is not None:
        raise error
    screen.finish()


def _make_keys(path: Path) -> tuple[str, str]:
    """Writes keys.json: a key that reads quotes, and one that trades on paper within caps. Their plaintexts."""
    reader, bot = new_plaintext(), new_plaintext()
    records: list[dict[str, Any]] = [
        {"id": "research", **_secret(reader), "scopes": ["qot:read"]},
        {
            "id": "sim-bot",
            **_secret(bot),
            "scopes": ["qot:read", "acc:read", "trade:simulate"],
            "allowed_markets": ["HK", "US"],
            "max_order_value": 100_000,
            "max_daily_value": 500_000,
            "max_orders_per_minute": 5,
        },
    ]
    edit(path, lambda document: document["keys"].extend(records), None, create=True)
    return reader, bot


def _secret(plaintext: str) -> dict[str, str]:
    return {"hash": f"sha256:{hash_of(plaintext)}", "ws_hash": f"sha256:{ws_hash_of(plaintext)}"}


class _Terminal(Console):
    """A console whose reader may leave (`| head`): then it is told once, and nothing more is printed."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ is no reason to stop
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.on_gone: Callable[[], None] = lambda: None

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered has to go somewhere
        self.on_gone()


class _Screen:
    """What the demo prints: how to try it, then a line for each decision."""

    def __init__(self, terminal: _Terminal, app: App, *, as_json: bool) -> None:
        self._app = app
        self._terminal = terminal
        self._as_json = as_json
        terminal.on_gone = app.stop
        self._audit = Following(app.settings.audit_file)

    async def show(self, reader: str, bot: str) -> None:
        """Goes on until cancelled; when it fails, the sidecar stops. Raises ConfigError if the sandbox is not found."""
        try:
            await self._ready()
            self._introduce(reader, bot)
            while True:
                self._decisions()
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self._app.stop()

    def finish(self) -> None:
        """What was decided last."""
        self._decisions()
        self._audit.close()

    async def _ready(self) -> None:
        await self._app.started.wait()
        for _ in range(round(PATIENCE / LOOK_EVERY)):
            if not self._app.readiness.problems():
                return
            await asyncio.sleep(LOOK_EVERY)
        problems = "; ".join(problem.message for problem in self._app.readiness.problems())
        raise ConfigError(f"the sidecar was not ready within {PATIENCE:g} s: {problems}")

    def _introduce(self, reader: str, bot: str) -> None:
        settings = self._app.settings
        bound = {door: self._app.doors.ports.get(_LISTENERS.get(door, door), [0])[0] for door in _PORTS}
        if self._as_json:
            told = {
                "host": HOST, "ports": bound, "opend_port": settings.upstream.port,
                "keys": {"sim-bot": bot, "research": reader}, "keys_file": str(settings.keys.file),
                "audit": str(settings.audit_file),
            }  # fmt: skip
            self._terminal.print(json.dumps(told))
            return
        at = {"host": HOST, "port": bound["tcp"], **{f"{door}_port": port for door, port in bound.items()}}
        program = Path(sys.executable).with_name("opend-sidecar")
        text = _INTRODUCTION.format(
            **at,
            opend_port=settings.upstream.port,
            mcp=f"    MCP  http://{HOST}:{bound['mcp']}/mcp" if bound["mcp"] else "",
            curl=_CURL.format(**at, bot=bot, acc_id=min(self._app.accounts.all_ids())),
            keys="\n".join(_told(record.key) for record in self._app.keys.ring.records()),
            snippet=_SNIPPET.format(**at, python=shlex.quote(sys.executable), bot=bot, reader=reader),
            audit=settings.audit_file,
            program=shlex.quote(str(program)) if program.exists() else "opend-sidecar",
            keys_file=shlex.quote(str(settings.keys.file)),
        )
        self._terminal.print(text)

    def _decisions(self) -> None:
        for record in self._audit.new():
            self._terminal.print(to_json(dict(record)) if self._as_json else line_of(record))


def _told(key: Key) -> str:
    held = limits(key)
    return f"key {key.id:<9} {','.join(sorted(key.scopes))}{'' if held == '-' else f'; {held}'}"
