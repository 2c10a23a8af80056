"""What every door can be told by the application; how it speaks is its own business."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError

from sidecar.listeners.entrance import Entrance, Failed, Place

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LINGERING = 2.0
"""Seconds for which the rest of a body that was refused is read and dropped, so that its sender reads why."""


class Door(Protocol):
    """One listener. All methods run on the event loop."""

    async def start(self) -> int | str | None:
        """Listen; the port bound, or `unix:/path`, None when it stays closed for a reason it has logged. Raises
        ConfigError when the place cannot be had."""

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


async def wait_with_the_body(_request: web.Request) -> None:
    """The `expect_handler` of every route: whoever expects `100 Continue` gets it when the body is wanted, and a request
    that is refused needs none. (aiohttp's own fails where the header is no text.)"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the clients of an HTTP port may cost. Times in seconds."""

    max_clients: int
    """Connections at one time. For one more the longest of those gives way that have asked nothing yet; where there is none
    it is answered 503 and closed."""
    first_request: float
    """How long a new connection may take over the head of its first request."""
    idle: float = 75.0
    """How long a connection may be without a request, and take over the head of a later one."""
    stall: float = 30.0
    """How long a client may read nothing of what waits for it."""


class HttpPort:
    """An aiohttp application at one place. SECURITY: bodies are never decompressed, so that none can be a bomb.

    A request whose client has gone is cancelled in its handler.
    """

    def __init__(
        self, app: web.Application, place: Place, *, bounds: Bounds | None = None,
        turned_away: Callable[[str], str] = lambda address: "too many connections",
        stalled: Callable[[str], None] = lambda address: None,
        failed: Failed = lambda address, word, refusal: None,
    ) -> None:  # fmt: skip
        """`turned_away` is told the address of a client for which there is no room, and says what the client reads;
        `stalled` that of one that was cut because it does not read; `failed`: as of the entrance."""
        self._app = app
        self._entrance = Entrance(place, failed)
        self._bounds = bounds
        self._turned_away = turned_away
        self._stalled = stalled
        self._runner: web.AppRunner | None = None
        self._silent: dict[web.RequestHandler, float] = {}
        """Connections whose first request has not come, and until when it must; in the order in which they came."""
        self._coming: set[web.RequestHandler] = set()
        """Connections that were accepted just now. Of a burst all are accepted before the first is made, and counted."""
        self._unread: dict[web.RequestHandler, tuple[int, float]] = {}
        """Connections that did not read all they were sent: the bytes that wait, and since when they are as many."""

    async def start(self) -> int | str:
        self._app.on_response_prepare.append(_say_nothing_of_the_server)
        settings: dict[str, Any] = {
            "access_log": None, "auto_decompress": False, "lingering_time": _LINGERING, "logger": _quiet_logger(),
        }  # fmt: skip
        if self._bounds is not None:
            self._app.middlewares.insert(0, self._spoke)
            settings["keepalive_timeout"] = self._bounds.idle
        runner = web.AppRunner(self._app, shutdown_timeout=1.0, handler_cancellation=True, **settings)
        await runner.setup()
        assert runner.server is not None, "setup made it"
        try:
            loop = asyncio.get_running_loop()
            accept = partial(self._accept, runner.server, partial(_Connection, runner.server, loop=loop, **settings))
            opened = await self._entrance.open(accept)
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        return opened

    def stop_accepting(self) -> None:
        self._entrance.close()

    async def stop(self) -> None:
        """Stop listening and close what is open, after a second at most. Does nothing when it was never started."""
        self.stop_accepting()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def tick(self) -> None:
        """Every second: let go of who connected and asked nothing, and of who does not read."""
        now = asyncio.get_running_loop().time()
        for connection, until in list(self._silent.items()):
            if connection not in self._coming and (connection.transport is None or now > until):
                self._silent.pop(connection)
                connection.force_close()
        if self._bounds is None or self._runner is None or self._runner.server is None:
            return
        before, self._unread = self._unread, {}
        for connection in self._runner.server.connections:
            transport = connection.transport
            unread = 0 if transport is None else transport.get_write_buffer_size()
            if transport is None or not unread:
                continue
            as_many, since = before.get(connection, (0, now))
            if unread != as_many:
                since = now
            self._unread[connection] = unread, since
            if now - since > self._bounds.stall:
                peer = transport.get_extra_info("peername")
                transport.abort()
                self._stalled(peer[0] if isinstance(peer, tuple) else "local")

    def _accept(self, server: web.Server, connect: Callable[[], web.RequestHandler]) -> asyncio.Protocol:
        if self._bounds is None:
            return connect()
        unmade = sum(connection.transport is None for connection in self._coming)
        if len(server.connections) + unmade >= self._bounds.max_clients and not self._make_room():
            return _TurnedAway(self._turned_away)
        connection, loop = connect(), asyncio.get_running_loop()
        self._coming.add(connection)
        loop.call_soon(self._coming.discard, connection)  # the loop calls `connection_made` next, if it has not by then
        self._silent[connection] = loop.time() + self._bounds.first_request
        return connection

    def _make_room(self) -> bool:
        """SECURITY: who connects and says nothing must not keep out who has something to ask."""
        while self._silent:
            connection = next(iter(self._silent))
            del self._silent[connection]
            if connection.transport is not None:
                connection.force_close()
                return True
            if connection in self._coming:
                self._coming.discard(connection)
                asyncio.get_running_loop().call_soon(connection.force_close)  # after its `connection_made`
                return True
        return False

    @web.middleware
    async def _spoke(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._silent.pop(request.protocol, None)
        return await handler(request)


class _Connection(web.RequestHandler):
    """aiohttp's, but for the words in which it refuses what is not HTTP.

    SECURITY: they quote what came, the Authorization header too, and whoever asked writes them into its log.
    """

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError):
            message = "the request is not well-formed HTTP/1.1, or its head is too long\n"
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = "opend-sidecar"  # aiohttp would name its version and Python's
        return response


class _TurnedAway(asyncio.Protocol):
    """A client for which there is no room: told so, and closed."""

    def __init__(self, words: Callable[[str], str]) -> None:
        self._words = words

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        out = cast(asyncio.Transport, transport)  # uvloop's, behind TLS, is none by type
        peer = transport.get_extra_info("peername")
        text = self._words(peer[0] if isinstance(peer, tuple) else "local").encode()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}"
        out.write(head.encode() + b"\r\nRetry-After: 5\r\nConnection: close\r\n\r\n" + text)
        out.close()


class _NoTraceback(logging.Handler):
    """What aiohttp reports by itself. SECURITY: bytes that are not HTTP are no news for the operator, and may hold a key."""

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[1] if record.exc_info else None
        if failure is None or isinstance(failure, HttpProcessingError):
            log.debug("a client does not speak HTTP", kind=type(failure).__name__)
        else:
            log.error("an HTTP connection failed", exc_info=failure)


def _quiet_logger() -> logging.Logger:
    # SECURITY: aiohttp warns of subprotocols it does not know, among which browsers' programs put their tokens
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    logger = logging.getLogger("sidecar.http")
    logger.propagate = False
    logger.handlers = [_NoTraceback()]
    return logger


async def _say_nothing_of_the_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
