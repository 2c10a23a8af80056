"""`opend-sidecar run`: settings from file and flags, then the sidecar until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import structlog

from sidecar.app import App
from sidecar.cli.command import Command, json_option, settings_from
from sidecar.operator_log import configure_log
from sidecar.reloading import Source
from sidecar.settings import Settings


@click.command(
    "run",
    cls=Command,
    sections={
        "Listeners": ("bind", "tcp_port", "ws_port", "rest_port", "grpc_port", "mcp_port", "admin_port"),
    },
    exits={0: "it was told to end, and did", 1: "it could not start, or could not go on; a line on stderr says why"},
    examples="""
opend-sidecar run --upstream 127.0.0.1:11111
opend-sidecar run --config sidecar.yaml
opend-sidecar run --config sidecar.yaml --grpc-port off --json 2>>sidecar.log
""",
)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings; flags win over it.")
@click.option("--upstream", metavar="HOST:PORT", help="Where OpenD listens.  [default: 127.0.0.1:11111]")
@click.option("--keys-file", metavar="PATH", help="keys.json  [default: ~/.config/futu/keys.json]")
@click.option(
    "--state-dir", metavar="PATH", help="What must survive a restart.  [default: ~/.local/state/opend-sidecar]"
)
@click.option(
    "--audit-log", metavar="PATH", help="The audit, JSON Lines.  [default: audit.jsonl in the state directory]"
)
@click.option("--bind", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--tcp-port", metavar="PORT", help="For the official SDKs, or `off`.  [default: 11110]")
@click.option("--ws-port", metavar="PORT", help="WebSocket, or `off`.  [default: 44444]")
@click.option("--rest-port", metavar="PORT", help="REST, or `off`.  [default: 22222]")
@click.option("--grpc-port", metavar="PORT", help="gRPC, or `off`.  [default: 33333]")
@click.option("--mcp-port", metavar="PORT", help="MCP, or `off`.  [default: 38765]")
@click.option("--admin-port", metavar="PORT", help="Health, metrics and the page, or `off`.  [default: 11180]")
@json_option("The log on stderr as JSON, one object a line.")
def run(config: Path | None, as_json: bool, **flags: Any) -> None:
    """Start the sidecar in front of OpenD.

    One process in the foreground, until Ctrl-C or SIGTERM: it then answers what is in flight, and ends. SIGHUP lets it read its
    files again. `check-config` says beforehand whether it would start.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if as_json:
        given["log.json"] = True
    settings_from(config, given)  # what was typed wrong is told apart from what the file has
    source = Source(config, given)
    settings = source.read()
    configure_log(settings.log)
    serve(settings, source)


def serve(settings: Settings, source: Source) -> None:
    """Run one sidecar on the fastest event loop there is."""
    _allow_files(
        sum(settings.limits.max_clients for _ in settings.listeners.tcp) + settings.upstream.max_connections + 64
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(settings, source))


def _allow_files(wanted: int) -> None:
    """Every connection is an open file; take as many as may be needed, and say so where the system allows fewer."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        structlog.get_logger().warning(
            "too few open files are allowed for all connections; raise `ulimit -n` or lower `limits.max_clients`",
            allowed=allowed,
            wanted=wanted,
        )


async def _run(settings: Settings, source: Source) -> None:
    await App(settings, source).run()


def loop_factory() -> Any:
    """uvloop's where it exists; Windows has asyncio's own."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
