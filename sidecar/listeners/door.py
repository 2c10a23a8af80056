"""What every door can be told by the application; how it speaks is its own business."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from aiohttp import web

from sidecar.errors import ConfigError


class Door(Protocol):
    """One listener. All methods run on the event loop."""

    async def start(self) -> int:
        """Listen; the port bound. Raises ConfigError when the address cannot be had."""

    def stop_accepting(self) -> None:
        """Let nobody new in; who is in is served on."""

    def close_clients(self) -> None:
        """Let go of who is still in; what was written to them goes out."""

    async def stop(self) -> None:
        """The end: every connection is closed. Does nothing when it was never started."""

    def keys_changed(self) -> None:
        """keys.json was read again."""

    def tick(self) -> None:
        """Called every second."""


def cannot_listen(bind: str, port: int, error: OSError | OverflowError, remedy: str) -> ConfigError:
    """The address is taken or not ours. `remedy`: e.g. "`--rest-port` or the setting `listeners.rest`"."""
    number = getattr(error, "errno", None)  # asyncio puts a sentence of its own into strerror
    reason = os.strerror(number).lower() if number and number > 0 else str(error)
    return ConfigError(f"cannot listen on {bind}:{port} ({reason}); choose another port with {remedy}")


class HttpPort:
    """An aiohttp application on one port. SECURITY: bodies are never decompressed, so that none can be a bomb."""

    def __init__(self, app: web.Application, bind: str, port: int, remedy: str) -> None:
        self._app = app
        self._bind = bind
        self._port = port
        self._remedy = remedy
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._app.on_response_prepare.append(_say_nothing_of_the_server)
        runner = web.AppRunner(self._app, access_log=None, auto_decompress=False, shutdown_timeout=1.0)
        await runner.setup()
        assert runner.server is not None, "setup made it"
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(runner.server, self._bind, self._port, backlog=1024)
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            raise cannot_listen(self._bind, self._port, error, self._remedy) from None
        self._runner = runner
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Stop listening and close what is open, after a second at most. Does nothing when it was never started."""
        self.stop_accepting()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


async def _say_nothing_of_the_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
