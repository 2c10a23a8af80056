"""`opend-sidecar sandbox`: a paper OpenD to try everything against. Only reads its options and waits for the end."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress

import click

from sidecar.cli.command import Command, WrongUsage, json_option
from sidecar.errors import ConfigError
from sidecar.sandbox import Fault, Sandbox, SandboxSettings
from sidecar.sandbox.sessions import parse_states

_BAD_DAYS = """
Bad days (--fault, as often as you like):

\b
  delay:2202=3     orders are answered 3 s later: a slow OpenD
  drop:2205@1      the first change or cancel is lost, and not answered
  refuse@%5        5 % of all requests are refused: the server is busy
  twice:2202       orders are answered two times, handled once
  late:2202=15     orders are handled, and answered when the bot has given up
  silent:2202@2    the second order is handled and never answered
  disconnect:2202  orders are handled, then the connection is gone

A fault is KIND[:PROTO_ID][=SECONDS][@N or @%P]. Without a proto id it strikes every request but InitConnect and KeepAlive;
@N strikes only the Nth, @%P so many of a hundred, the same ones with the same seed. 2202 places an order, 2227 a combo, 2205
changes or cancels, 2201 lists orders, 2005 unlocks, 3203 is a snapshot.
"""


@click.command(
    "sandbox",
    cls=Command,
    short_help="Run a paper OpenD.",
    epilog=_BAD_DAYS,
    sections={
        "How it behaves": (
            "seed", "relaxed_paper", "no_limits", "trade_password", "unlocked", "partial_fills", "rejections",
            "exchange_hours", "market_state", "faults",
        ),
    },
    exits={0: "it was told to end", 1: "the port is in use, or a file cannot be used; a line on stderr says which"},
    examples="""
opend-sidecar sandbox
opend-sidecar sandbox --port 0 --json | head -1
opend-sidecar sandbox --seed 7 --fault silent:2202@2 --market-state HK=CLOSED
""",
)  # fmt: skip
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=11111, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option(
    "--seed",
    metavar="N",
    type=int,
    default=1,
    show_default=True,
    help="The same seed gives the same prices and order ids.",
)
@click.option("--rsa-key", metavar="FILE", help="1024-bit RSA key (PKCS#1) shared with the clients; encrypts.")
@click.option("--relaxed-paper", is_flag=True, help="Lift the documented restrictions of paper accounts.")
@click.option("--no-limits", is_flag=True, help="Lift request frequencies and quotas.")
@click.option(
    "--trade-password",
    metavar="TEXT",
    default="123456",
    show_default=True,
    help="What 2005 unlocks real accounts with.",
)
@click.option("--log", metavar="FILE", help="Append everything received as JSON Lines.")
@click.option("--unlocked", is_flag=True, help="Let real accounts trade without an unlock.")
@click.option("--partial-fills", is_flag=True, help="Fill every order in several parts, as the market moves.")
@click.option(
    "--rejections",
    metavar="PERCENT",
    default=0.0,
    type=click.FloatRange(0, 100),
    help="Reject so many of a hundred orders after they were taken.",
)
@click.option("--exchange-hours", is_flag=True, help="Open and close markets as the exchanges do; else always open.")
@click.option(
    "--market-state",
    metavar="HK=CLOSED,...",
    help="Hold markets in a state (MarketState), HK_FUTURES their futures.",
)
@click.option("--fault", "faults", metavar="FAULT", multiple=True, help="A bad day to try a bot against; see below.")
@json_option("What it listens on as JSON, in one line.")
def sandbox(
    host: str,
    port: int,
    seed: int,
    rsa_key: str | None,
    relaxed_paper: bool,
    no_limits: bool,
    trade_password: str,
    log: str | None,
    unlocked: bool,
    partial_fills: bool,
    rejections: float,
    exchange_hours: bool,
    market_state: str | None,
    faults: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run a paper OpenD: made-up prices that move, paper and `real` accounts, nothing leaves this machine.

    Try a bot, limits, or the sidecar's settings against it; official SDKs take it for OpenD. The same seed gives the same day again.
    """
    try:
        states = parse_states(market_state) if market_state else {}
        bad_days = tuple(Fault.parse(fault) for fault in faults)
    except ConfigError as error:
        raise WrongUsage(str(error)) from None
    settings = SandboxSettings(
        host=host,
        port=port,
        seed=seed,
        rsa_key=rsa_key,
        relaxed_paper=relaxed_paper,
        limits=not no_limits,
        trade_password=trade_password,
        log=log,
        unlocked=unlocked,
        partial_fills=partial_fills,
        rejections=rejections,
        exchange_hours=exchange_hours,
        market_states=states,
        faults=bad_days,
    )
    with suppress(KeyboardInterrupt):
        _run(settings, as_json=as_json)


def _run(settings: SandboxSettings, *, as_json: bool) -> None:
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(_serve(settings, as_json=as_json))
    else:
        uvloop.run(_serve(settings, as_json=as_json))


async def _serve(settings: SandboxSettings, *, as_json: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
            loop.add_signal_handler(number, ended.set)
    async with Sandbox(settings) as running:
        if as_json:
            bad_days = [str(fault) for fault in settings.faults]
            told = {"host": settings.host, "port": running.port, "seed": settings.seed, "faults": bad_days}
            click.echo(json.dumps({**told, "encrypted": settings.rsa_key is not None}))
            await ended.wait()
            return
        encrypted = ", InitConnect may be encrypted" if settings.rsa_key else ""
        click.echo(f"sandbox listens on {settings.host}:{running.port} (seed {settings.seed}{encrypted})")
        if settings.faults:
            click.echo(f"bad day: {', '.join(str(fault) for fault in settings.faults)}")
        running.tell = lambda text: click.echo(f"{time.strftime('%H:%M:%S')} {text}")
        await ended.wait()
