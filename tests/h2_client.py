"""An HTTP/2 client that does what well-behaved ones do not: frames by hand over a plain socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from hyperframe.frame import Frame

PATH = "/futu.service.FutuOpenD/Request"


class H2Client:
    """One connection past its preface. What came is in `events`; sending waits for nothing."""

    def __init__(self, port: int, *, window: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # what it sends is wrong on purpose, and is not checked
        config = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        if window is not None:
            self.h2.local_settings = h2.settings.Settings(
                client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.closed = False
        self.flush()
        self.until(lambda: any(isinstance(event, h2.events.RemoteSettingsChanged) for event in self.events))

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, *failure: object) -> None:
        self.socket.close()

    # -- sending --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        self.write(self.h2.data_to_send())

    def write(self, data: bytes) -> None:
        """Raw bytes; that the other side has closed shows in `closed`."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def frames(self, *frames: Frame) -> None:
        self.write(b"".join(frame.serialize() for frame in frames))

    def open(self, key: str | None, *more: tuple[str, str], path: str = PATH, **replaced: str) -> int:
        """The headers of a call; its stream."""
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
        fields |= {"te": "trailers", "content-type": "application/grpc"}
        fields |= {name.replace("__", ":").replace("_", "-"): value for name, value in replaced.items()}
        headers = [(name, value) for name, value in fields.items() if value]
        if key is not None:
            headers.append(("authorization", f"Bearer {key}"))
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [*headers, *more])
        self.flush()
        return stream

    def data(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Raw bytes of a call, in frames as large as may be; no further than the other side's window."""
        while True:
            size = min(len(data), self.h2.max_outbound_frame_size)
            part, data = data[:size], data[size:]
            if size:
                self.until(lambda: self.h2.local_flow_control_window(stream) >= size)  # noqa: B023
            self.h2.send_data(stream, part, end_stream=end and not data)
            self.flush()
            if not data:
                return

    def call(self, key: str | None, message: bytes, *more: tuple[str, str], **replaced: str) -> dict[str, str]:
        """One whole call; its trailers."""
        stream = self.open(key, *more, **replaced)
        self.data(stream, framed(message))
        return self.trailers(stream)

    # -- receiving ------------------------------------------------------------------------------------------------

    def receive(self, timeout: float) -> None:
        """What comes next; `closed` is set when it is the end."""
        self.socket.settimeout(max(timeout, 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        found = self.h2.receive_data(data)
        for event in found:
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                with contextlib.suppress(Exception):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.events += found
        self.flush()

    def until(self, holds: Callable[[], Any], timeout: float = 5.0) -> float:
        """Receive until something is true, and for how long that was; fails when it is not in time."""
        started = time.monotonic()
        while not holds():
            left = started + timeout - time.monotonic()
            assert left > 0, f"not within {timeout:g} s; came: {self.events[-5:]}"
            assert not self.closed, f"closed; came: {self.events[-5:]}"
            self.receive(left)
        return time.monotonic() - started

    def until_closed(self, timeout: float = 5.0) -> float:
        """The seconds until the other side closed the connection; fails when it does not."""
        started = time.monotonic()
        while not self.closed:
            left = started + timeout - time.monotonic()
            assert left > 0, f"still open after {timeout:g} s; came: {self.events[-5:]}"
            self.receive(left)
        return time.monotonic() - started

    def trailers(self, stream: int, timeout: float = 5.0) -> dict[str, str]:
        """The last headers of a call: its status."""

        def found() -> dict[str, str] | None:
            for event in self.events:
                kinds = (h2.events.TrailersReceived, h2.events.ResponseReceived)
                if isinstance(event, kinds) and event.stream_id == stream:
                    headers = dict(event.headers)
                    if "grpc-status" in headers:
                        return headers
            return None

        self.until(found, timeout)
        headers = found()
        assert headers is not None
        return headers

    @property
    def goaway(self) -> int | None:
        """The error code of the GOAWAY that came."""
        for event in self.events:
            if isinstance(event, h2.events.ConnectionTerminated):
                return int(event.error_code)
        return None

    @property
    def pongs(self) -> int:
        return sum(isinstance(event, h2.events.PingAckReceived) for event in self.events)


def framed(message: bytes, *, compressed: bool = False, size: int | None = None) -> bytes:
    """A gRPC message on the wire, with whatever size it claims."""
    return struct.pack(">BI", compressed, len(message) if size is None else size) + message


def envelope(proto_id: int, body: bytes) -> bytes:
    """A FutuRequest."""
    return b"\x08" + _varint(proto_id) + b"\x12" + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])
