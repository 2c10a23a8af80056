"""`opend-sidecar demo`: a sandbox OpenD, the sidecar in front of it, fresh keys, and every decision as it is made.

Holds no rule and makes no decision: what it shows, it reads from the audit.
"""

from __future__ import annotations

import asyncio
import errno
import io
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
from sidecar.cli.decision_line import Following, line_of
from sidecar.cli.key_table import limits
from sidecar.cli.run import configure_log, loop_factory
from sidecar.errors import ConfigError
from sidecar.keys.file import edit
from sidecar.keys.secret import hash_of, new_plaintext, ws_hash_of
from sidecar.policy.key import Key
from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.settings import AdminListener, Audit, Keys, Listeners, Log, Settings, TcpListener, Upstream

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

ready?       curl -s http://{host}:{admin_port}/readyz
metrics      curl -s http://{host}:{admin_port}/metrics | grep ^futu_auth
audit        {audit}
take a key   {program} revoke-key sim-bot --keys-file {keys_file} --admin {host}:{admin_port}

Decisions, as they are made. Ctrl-C ends the demo and deletes its keys and its audit.
"""
_ENDED = "\nended: the sidecar and the paper OpenD are stopped, the temporary files deleted"


@click.command()
@click.option("--tcp-port", default=11110, show_default=True, type=click.IntRange(0, 65535), help="Port for bots.")
@click.option("--admin-port", default=11180, show_default=True, type=click.IntRange(0, 65535), help="Health, metrics.")
def demo(tcp_port: int, admin_port: int) -> None:
    """See it work: a paper OpenD, the sidecar in front of it, fresh keys, decisions as they are made.

    Everything is kept in a temporary directory and deleted in the end. Port 0 takes any free port.
    """
    if tcp_port == admin_port != 0:
        raise ConfigError(f"--tcp-port and --admin-port are both {tcp_port}; give each its own port")
    _require_free(tcp_port, "--tcp-port")
    _require_free(admin_port, "--admin-port")
    configure_log(Log(level="warning"))
    terminal = _Terminal()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_demo(terminal, tcp_port, admin_port))
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
                f"port {port} {reason}; choose another with `{option}`, e.g. `{option} 0` for any free one"
            ) from None


async def _demo(terminal: _Terminal, tcp_port: int, admin_port: int) -> None:
    this = asyncio.current_task()
    assert this is not None, "a coroutine runs in a task"
    _on_signal(this.cancel)  # until the sidecar itself listens
    with tempfile.TemporaryDirectory(prefix="opend-sidecar-demo-") as folder:
        try:
            async with Sandbox(SandboxSettings(host=HOST, port=0)) as sandbox:
                await _serve(terminal, Path(folder), sandbox.port, tcp_port, admin_port)
        except asyncio.CancelledError:
            return  # told to end before it had quite begun


def _on_signal(action: Callable[[], object]) -> None:
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, action)


async def _serve(terminal: _Terminal, folder: Path, opend_port: int, tcp_port: int, admin_port: int) -> None:
    reader, bot = _make_keys(folder / "keys.json")
    app = App(
        Settings(
            upstream=Upstream(host=HOST, port=opend_port),
            keys=Keys(file=folder / "keys.json"),
            state_dir=folder / "state",
            audit=Audit(file=folder / "audit.jsonl"),
            listeners=Listeners(
                tcp=(TcpListener(bind=HOST, port=tcp_port),),
                admin=AdminListener(bind=HOST, port=admin_port),
                websocket=None,
                rest=None,
                grpc=None,
                mcp=None,
            ),
            drain=2.0,
        )
    )
    screen = _Screen(terminal, app)
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

    def __init__(self, terminal: _Terminal, app: App) -> None:
        self._app = app
        self._terminal = terminal
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
            if not self._app.problems():
                return
            await asyncio.sleep(LOOK_EVERY)
        problems = "; ".join(problem.message for problem in self._app.problems())
        raise ConfigError(f"the sidecar was not ready within {PATIENCE:g} s: {problems}")

    def _introduce(self, reader: str, bot: str) -> None:
        settings = self._app.settings
        at = {"host": HOST, "port": self._app.ports["tcp"][0]}
        program = Path(sys.executable).with_name("opend-sidecar")
        text = _INTRODUCTION.format(
            **at,
            opend_port=settings.upstream.port,
            admin_port=self._app.ports["admin"][0],
            keys="\n".join(_told(record.key) for record in self._app.keys.ring.records()),
            snippet=_SNIPPET.format(**at, python=shlex.quote(sys.executable), bot=bot, reader=reader),
            audit=settings.audit_file,
            program=shlex.quote(str(program)) if program.exists() else "opend-sidecar",
            keys_file=shlex.quote(str(settings.keys.file)),
        )
        self._terminal.print(text)

    def _decisions(self) -> None:
        for record in self._audit.new():
            self._terminal.print(line_of(record))


def _told(key: Key) -> str:
    held = limits(key)
    return f"key {key.id:<9} {','.join(sorted(key.scopes))}{'' if held == '-' else f'; {held}'}"
