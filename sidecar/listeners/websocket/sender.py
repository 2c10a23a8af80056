"""What goes to one WebSocket client: messages in order, as many as fit together, and the close frame as the last. Whether the
client reads in time is seen here; what follows from it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from sidecar.listeners.outbox import Outbox
from sidecar.wire import ws_frame

_REASON_BYTES = 123
"""The room of a close frame for its reason (RFC 6455, section 5.5)."""

_ONE_READ = 256 * 1024
"""Bytes that a socket hands over at once: so many may still come from OpenD after `pace(False)`."""


class Sender:
    """`writer` is what `socket.prepare` gave. `buffer`: unsent bytes beyond which the client is too slow.

    `pace(False)` is called when an eighth of them is unsent, `pace(True)` when the client caught up; `too_slow` with the
    reason when there are too many.
    """

    def __init__(
        self, socket: web.WebSocketResponse, writer: AbstractStreamWriter, transport: asyncio.Transport, buffer: int, *,
        pace: Callable[[bool], None], too_slow: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._socket = socket
        self._writer = writer
        self._transport = transport
        self._outbox: Outbox[bytes] = Outbox(buffer + _ONE_READ)
        self._behind_at = buffer // 8
        self._pace = pace
        self._too_slow = too_slow
        self._loop = asyncio.get_running_loop()
        self._behind_since = 0.0
        self._code = 1000
        self._reason = ""

    def put(self, message: bytes) -> None:
        """Send a message; never waits."""
        if not self._outbox.put(message, len(message)):
            self._too_slow(f"{self._outbox.unsent} bytes are unsent")
        elif not self._behind_since and self._outbox.unsent > self._behind_at:
            self._behind_since = self._loop.time()
            self._pace(False)

    def behind(self, now: float) -> float:
        """For how many seconds the client has left an eighth of the buffer unread."""
        return now - self._behind_since if self._behind_since else 0.0

    def close(self, code: int, reason: str) -> None:
        """Close the connection once what was put has gone out."""
        self._code, self._reason = code, reason
        self._outbox.close()

    def discard(self) -> None:
        """Nobody is there any more."""
        self._outbox.close(discard=True)

    async def run(self) -> None:
        """Send until `close` or `discard`, or until the client has gone."""
        try:
            while messages := await self._outbox.take():
                if self._socket.closed:
                    return
                # aiohttp writes each message by itself, which costs more than all the rest of its way
                self._transport.write(b"".join(part for one in messages for part in (ws_frame.binary_header(one), one)))
                await self._writer.drain()
                waiting = self._outbox.unsent - sum(map(len, messages))
                if self._behind_since and waiting <= self._behind_at:
                    self._behind_since = 0.0
                    self._pace(True)
            await self._socket.close(code=self._code, message=_short(self._reason))
        except ConnectionError:
            self.discard()  # whoever reads from it notices


def _short(reason: str) -> bytes:
    """As much of a reason as a close frame holds."""
    encoded = reason.encode("utf-8", "replace")
    return encoded if len(encoded) <= _REASON_BYTES else encoded[:_REASON_BYTES].decode("utf-8", "ignore").encode()
