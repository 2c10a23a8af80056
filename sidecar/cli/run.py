"""`opend-sidecar run`: settings from file and flags, then the sidecar until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import click
import structlog

from sidecar.app import App
from sidecar.reloading import Source
from sidecar.settings import Log, Settings


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings; flags win over it")
@click.option("--upstream", metavar="HOST:PORT", help="where OpenD listens (default 127.0.0.1:11111)")
@click.option("--keys-file", help="keys.json (default ~/.config/futu/keys.json)")
@click.option("--state-dir", help="what must survive a restart (default ~/.local/state/opend-sidecar)")
@click.option("--audit-log", help="the audit, JSON Lines (default audit.jsonl in the state directory)")
@click.option("--bind", help="address to listen on (default 127.0.0.1)")
@click.option("--tcp-port", help="port of the raw TCP listener, or `off` (default 11110)")
@click.option("--ws-port", help="port of the WebSocket listener, or `off` (default 44444)")
@click.option("--rest-port", help="port of the REST listener, or `off` (default 22222)")
@click.option("--grpc-port", help="port of the gRPC listener, or `off` (default 33333)")
@click.option("--mcp-port", help="port of the MCP listener, or `off` (default 38765)")
@click.option("--admin-port", help="port for health and metrics, or `off` (default 11180)")
def run(config: Path | None, **flags: Any) -> None:
    """Start the sidecar in front of OpenD."""
    source = Source(config, {name: value for name, value in flags.items() if value is not None})
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


class _Unfailing:
    """INVARIANT: a log that cannot be written (full disk, closed pipe) stops no cancel: what is said is lost, and no more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_log(settings: Log) -> None:
    """The operator's log: on stderr, for people or as JSON."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
