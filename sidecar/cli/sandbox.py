"""`opend-sidecar sandbox`: a paper OpenD to try everything against. Only reads its options and waits for the end."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress

import click

from sidecar.errors import SidecarError
from sidecar.sandbox import Sandbox, SandboxSettings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=11111, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same prices and order ids.")
@click.option("--rsa-key", metavar="FILE", help="1024-bit RSA key (PKCS#1) shared with the clients; encrypts.")
@click.option("--relaxed-paper", is_flag=True, help="Lift the documented restrictions of paper accounts.")
@click.option("--no-limits", is_flag=True, help="Lift request frequencies and quotas.")
@click.option("--trade-password", default="123456", show_default=True, help="What 2005 unlocks real accounts with.")
@click.option("--log", metavar="FILE", help="Append everything received as JSON Lines.")
@click.option("--unlocked", is_flag=True, help="Let real accounts trade without an unlock.")
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
) -> None:
    """Run a paper OpenD: made-up prices that move, paper and `real` accounts, nothing leaves this machine."""
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
    )
    try:
        with suppress(KeyboardInterrupt):
            _run(settings)
    except SidecarError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _run(settings: SandboxSettings) -> None:
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(_serve(settings))
    else:
        uvloop.run(_serve(settings))


async def _serve(settings: SandboxSettings) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
            loop.add_signal_handler(number, ended.set)
    async with Sandbox(settings) as running:
        encrypted = ", InitConnect may be encrypted" if settings.rsa_key else ""
        click.echo(f"sandbox listens on {settings.host}:{running.port} (seed {settings.seed}{encrypted})")
        await ended.wait()


if __name__ == "__main__":
    sandbox()
