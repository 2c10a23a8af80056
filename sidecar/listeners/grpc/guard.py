"""One client's HTTP/2 connection, kept within bounds: what it may open, send, and leave unread. Knows no call and no key.

grpclib and h2 speak the protocol; what is added is what they leave out: floods of frames that carry nothing (rapid
reset, pings, settings, data in crumbs), clients that say nothing, and clients that do not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RemoteSettingsChanged
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from sidecar.listeners.entrance import certificate_of
from sidecar.listeners.grpc.flood import Flood
from sidecar.listeners.unix_socket import peer_of
from sidecar.metrics import Metrics

log = structlog.get_logger()

IFACE = "grpc"
MAX_STREAMS = 100
"""Calls one connection may have open."""
MAX_HEADERS = 16 * 1024
"""Bytes of one call's headers, uncompressed."""
STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 512 * 1024
"""Bytes that a client may send before its call reads them."""

_HEADER_TABLE = 4096
_SLICE = 8 * 1024
"""SECURITY: what came is looked at in slices, so that a flood is seen before h2 has worked through all of it."""
_IDLE_PING = 60.0
_PING_PATIENCE = 20.0
_LAST_WORDS = 1.0
"""Seconds."""

_H2 = H2Configuration(
    client_side=False,
    header_encoding="latin-1",  # every byte is one character: odd headers are refused, they do not raise
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of every connection of a door; seconds and bytes."""

    handshake_timeout: float
    client_buffer: int
    client_stall: float


class _Gathered:
    """A transport whose writes go out together, once the loop has done what it is at: many answers, one system call."""

    _MOST = 64 * 1024

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._call_soon = asyncio.get_running_loop().call_soon
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._MOST:
            self.flush()

    def flush(self) -> None:
        if self._parts:
            data, self._parts, self._size = b"".join(self._parts), [], 0
            if not self._transport.is_closing():  # asyncio warns of every write to a connection that broke
                self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def get_extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name)


class _Events(EventsProcessor):
    """grpclib's, but for events that it does not expect."""

    def process(self, event: Event) -> None:
        if isinstance(event, DataReceived) and not event.flow_controlled_length:
            return  # grpclib takes one for the end of the data
        if type(event) in getattr(self, "processors", ()):  # gone once the connection is closed
            super().process(event)


class GuardedConnection(asyncio.Protocol):
    """`calls` is asked for the handler of this connection's calls."""

    def __init__(
        self,
        bounds: Bounds,
        metrics: Metrics,
        *,
        admit: Callable[[GuardedConnection], bool],
        gone: Callable[[GuardedConnection], None],
        calls: Callable[[GuardedConnection], AbstractHandler],
    ) -> None:
        self._bounds = bounds
        self._metrics = metrics
        self._admit = admit
        self._gone = gone
        self._make_calls = calls
        self._transport: asyncio.Transport | None = None
        self._admitted = False
        self._ended = False
        self._finishing = False
        self._introduced = False
        self._stalled_since = 0.0
        self._ping_sent = 0.0
        self.address = ""
        self.certificate: bytes | None = None
        """SHA-256 of the certificate it showed in its TLS handshake."""
        self.calls_open = 0
        self.is_stranger = True
        """Until it has shown a good key."""

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = peer_of(transport)
        self.certificate = certificate_of(transport)
        if not self._admit(self):
            self._ended = True
            self._transport.abort()
            return
        self._admitted = True
        now = self._began = self._heard = asyncio.get_running_loop().time()
        self._flood = Flood(now)
        self._h2 = h2 = H2Connection(config=_H2)
        h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            },
        )
        h2.decoder.max_header_list_size = MAX_HEADERS
        h2.initiate_connection()
        h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self._transport.set_write_buffer_limits(high=self._bounds.client_buffer // 8)
        self._out = _Gathered(self._transport)
        self._connection = Connection(h2, cast(asyncio.Transport, self._out), config=Configuration().__for_server__())
        self._calls = self._make_calls(self)
        self._events = _Events(self._calls, self._connection)
        self._connection.flush()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._heard = asyncio.get_running_loop().time()
        self._ping_sent = 0.0
        for start in range(0, len(data), _SLICE):
            if not self._receive(data[start : start + _SLICE]):
                return
        if self._unsent > self._bounds.client_buffer:
            self.cut("slow_client", f"{self._unsent} bytes are unsent")

    def pause_writing(self) -> None:
        self._stalled_since = asyncio.get_running_loop().time()
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self._admitted:
            self._events.close("the connection was lost")
        self._gone(self)

    # -- what came ------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> bool:
        """False when it was the end of the connection."""
        try:
            events = self._connection.feed(data)
        except ProtocolError as error:
            # h2 has written down why (GOAWAY); it may well be HTTP/1 or no HTTP at all
            log.debug("a client does not speak HTTP/2", address=self.address, error=str(error))
            self._metrics.client_cut("protocol")
            self._connection.flush()
            self.close()
            return False
        except Exception as error:
            # SECURITY: whatever bytes make h2 raise, they end their own connection and print nothing
            self.cut("protocol", f"{type(error).__name__} in HTTP/2")
            return False
        if not self._flood.tolerates(events, self._h2.streams, self._heard):
            self._calm_down()
            return False
        for event in events:
            self._introduced = self._introduced or isinstance(event, RemoteSettingsChanged)
            self._events.process(event)
        if self._h2.encoder.header_table_size > _HEADER_TABLE:
            # SECURITY: a client may ask for a table of gigabytes, which is filled and searched through with every answer
            self._h2.encoder.header_table_size = _HEADER_TABLE
        if self._connection.is_closing():
            self._ended = True  # it said goodbye itself
        else:
            self._connection.flush()
        return not self._ended

    # -- time and ends --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        if self._ended or self._transport is None:
            return
        if not self._introduced:
            if now - self._began > self._bounds.handshake_timeout:
                self.cut("handshake", "it did not begin to speak HTTP/2 in time")
        elif self._stalled_since and now - self._stalled_since > self._bounds.client_stall:
            self.cut("slow_client", f"it has read nothing for more than {self._bounds.client_stall:g} s")
        elif self._ping_sent:
            if now - self._ping_sent > _PING_PATIENCE:
                self.cut("idle", "it does not answer pings")
        elif now - self._heard > _IDLE_PING:
            self._ping_sent = now
            self._h2.ping(b"sidecar?")
            self._connection.flush()

    def cut(self, reason: str, why: str) -> None:
        """End it at once for what it did; `reason` is the word that metrics know."""
        if not self._ended:
            log.warning("a gRPC client was cut", address=self.address, why=why)
            self._metrics.client_cut(reason)
            self.drop()

    def _calm_down(self) -> None:
        """End it for a flood, with words. What h2 would answer to the flood is not sent."""
        log.warning("a gRPC client was cut", address=self.address, why="it floods the connection with idle frames")
        self._metrics.client_cut("flood")
        self._say_goodbye(error_code=0xB)  # ENHANCE_YOUR_CALM
        self._ended = True
        self._gone(self)
        self._calls.close()
        if self._transport is not None and not self._transport.is_closing():
            self._out.flush()
            # closed now, with more of the flood unread, the connection would be reset and the words be lost
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_LAST_WORDS, self._transport.abort)

    def finish(self) -> None:
        """Let it go as soon as its open calls have been answered."""
        if self._ended or self._finishing or self._transport is None:
            return
        self._finishing = True
        self._say_goodbye(error_code=0)
        self.call_ended()

    def call_ended(self) -> None:
        if self._finishing and not self.calls_open:
            self.close()

    def close(self) -> None:
        """End it; what was written goes out, for a second at most."""
        if self._ended or self._transport is None:
            return
        self._ended = True
        self._events.close("the connection was closed")
        asyncio.get_running_loop().call_later(_LAST_WORDS, self._transport.abort)

    def drop(self) -> None:
        """End it at once, whatever is unsent."""
        self._ended = True
        self._gone(self)
        if self._transport is not None:
            self._transport.abort()

    @property
    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _say_goodbye(self, *, error_code: int) -> None:
        """GOAWAY. h2's own would forbid answering the calls that are open."""
        if self._transport is None or self._transport.is_closing():
            return
        frame = GoAwayFrame(0, last_stream_id=self._h2.highest_inbound_stream_id, error_code=error_code)
        self._out.write(frame.serialize())
