"""A guarded HTTP/2 connection fed by hand: no sequence of frames raises, and no call is left behind."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import structlog
from grpclib.protocol import AbstractHandler
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.listeners.grpc.guard import Bounds, GuardedConnection
from sidecar.listeners.grpc.runner import Calls
from sidecar.metrics import Metrics
from sidecar.tasks import Tasks

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
REQUEST = [
    (":method", "POST"), (":scheme", "http"), (":path", "/x/y"), (":authority", "x"), ("te", "trailers"),
    ("content-type", "application/grpc"),
]  # fmt: skip


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent = bytearray()
        self.closing = False

    def write(self, data: Any) -> None:
        assert not self.closing, "written to after it was closed"
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...


class Front:
    def turn_away(self, *_: Any) -> Any:
        from sidecar.gate import Refused
        from sidecar.policy.decision import Code

        return Refused(Code.UNKNOWN_REQUEST, "no")

    refuse_anyone = turn_away


class Fed:
    """A connection on a transport that keeps what is sent."""

    def __init__(self, *, bounds: Bounds | None = None) -> None:
        self.metrics = Metrics()
        self.tasks = Tasks()
        self.transport = FakeTransport()
        self.gone: list[GuardedConnection] = []
        self.connection = GuardedConnection(
            bounds or Bounds(1.0, 1024 * 1024, 1.0), self.metrics, admit=lambda _: True, gone=self.gone.append,
            calls=self._calls,
        )  # fmt: skip
        self.connection.connection_made(self.transport)

    def _calls(self, connection: GuardedConnection) -> AbstractHandler:
        return Calls(connection, {}, Front(), self.tasks.spawn, 1.0, 1024)

    def cuts(self, reason: str) -> float | None:
        return self.metrics.registry.get_sample_value("sidecar_clients_cut_total", {"reason": reason})


def a_call(encoder: Encoder, stream: int, *, end: bool = False, more: list[tuple[str, str]] | None = None) -> Frame:
    frame = HeadersFrame(stream)
    frame.data = encoder.encode([*REQUEST, *(more or [])])
    frame.flags.add("END_HEADERS")
    if end:
        frame.flags.add("END_STREAM")
    return frame


STREAMS = st.sampled_from([0, 1, 2, 3, 5, 7, 9, 2**31 - 1])
ACTIONS = st.one_of(
    st.tuples(st.just("call"), STREAMS, st.booleans()),
    st.tuples(st.just("data"), STREAMS, st.binary(max_size=30)),
    st.tuples(st.just("end"), STREAMS, st.binary(max_size=3)),
    st.tuples(st.just("rst"), STREAMS, st.integers(0, 20)),
    st.tuples(st.just("window"), STREAMS, st.sampled_from([1, 65_535, 2**31 - 1])),
    st.tuples(
        st.just("settings"), st.integers(0, 9), st.sampled_from([0, 1, 100, 16_384, 2**24, 2**31 - 1, 2**32 - 1])
    ),
    st.tuples(st.just("ping"), STREAMS, st.booleans()),
    st.tuples(st.just("goaway"), STREAMS, st.integers(0, 20)),
    st.tuples(st.just("priority"), STREAMS, STREAMS),
    st.tuples(st.just("continuation"), STREAMS, st.binary(max_size=20)),
    st.tuples(st.just("push"), STREAMS, STREAMS),
    st.tuples(st.just("unknown"), STREAMS, st.binary(max_size=20)),
    st.tuples(st.just("trailers"), STREAMS, st.booleans()),
    st.tuples(st.just("bytes"), STREAMS, st.binary(min_size=1, max_size=40)),
)


def frame_of(encoder: Encoder, action: tuple[str, int, Any]) -> bytes:
    kind, stream, what = action
    frame: Any
    if kind == "bytes":
        return bytes(what)
    if kind == "call":
        if not stream:
            return b""
        frame = a_call(encoder, stream, end=what)
    elif kind in ("data", "end"):
        frame = DataFrame(stream or 1, data=what)
        if kind == "end":
            frame.flags.add("END_STREAM")
    elif kind == "rst":
        frame = RstStreamFrame(stream or 1, error_code=what)
    elif kind == "window":
        frame = WindowUpdateFrame(stream, window_increment=what)
    elif kind == "settings":
        frame = SettingsFrame(0, settings={stream: what})
    elif kind == "ping":
        frame = PingFrame(0, opaque_data=b"12345678")
        if what:
            frame.flags.add("ACK")
    elif kind == "goaway":
        frame = GoAwayFrame(0, last_stream_id=stream, error_code=what)
    elif kind == "priority":
        frame = PriorityFrame(stream or 1, depends_on=what, stream_weight=1)
    elif kind == "continuation":
        frame = ContinuationFrame(stream or 1, data=what)
    elif kind == "push":
        frame = PushPromiseFrame(stream or 1, promised_stream_id=what or 2, data=b"")
        frame.flags.add("END_HEADERS")
    elif kind == "trailers":
        frame = HeadersFrame(stream or 1)
        frame.data = encoder.encode([("x-trailer", "1")])
        frame.flags.add("END_HEADERS")
        if what:
            frame.flags.add("END_STREAM")
    else:
        frame = ExtensionFrame(0xFE, stream, 0, what)
        frame.body_len = len(what)
    return bytes(frame.serialize())


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=14), st.lists(st.integers(0, 400), max_size=4))
def test_no_sequence_of_frames_raises_or_leaves_a_call_behind(
    actions: list[tuple[str, int, Any]], cuts: list[int]
) -> None:
    async def feed() -> None:
        raised: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        fed, encoder = Fed(), Encoder()
        said = PREFACE + b"".join(frame_of(encoder, action) for action in actions)
        places = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
        for start, stop in itertools.pairwise(places):
            fed.connection.data_received(said[start:stop])
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        fed.connection.tick(asyncio.get_running_loop().time())
        fed.connection.connection_lost(None)
        await fed.tasks.drain(1.0)
        await asyncio.sleep(0)
        assert not raised, raised
        assert fed.connection.calls_open == 0
        assert fed.gone

    with structlog.testing.capture_logs() as log:
        asyncio.run(feed())
    assert not [line for line in log if line["log_level"] == "error"], log


async def test_a_client_that_answers_no_pings_is_let_go() -> None:
    fed = Fed()
    fed.connection.data_received(PREFACE)
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(0)
    fed.transport.sent.clear()
    fed.connection.tick(now + 30)
    await asyncio.sleep(0)
    assert not fed.transport.sent
    fed.connection.tick(now + 61)
    await asyncio.sleep(0)
    assert PingFrame(0, opaque_data=b"sidecar?").serialize() in bytes(fed.transport.sent)
    fed.connection.tick(now + 80)
    assert not fed.transport.closing
    fed.connection.tick(now + 82)
    assert fed.transport.closing
    assert fed.cuts("idle") == 1


async def test_a_client_that_answers_pings_is_kept() -> None:
    fed = Fed()
    fed.connection.data_received(PREFACE)
    now = asyncio.get_running_loop().time()
    fed.connection.tick(now + 61)
    pong = PingFrame(0, opaque_data=b"sidecar?")
    pong.flags.add("ACK")
    fed.connection.data_received(pong.serialize())
    fed.connection.tick(now + 59)
    assert not fed.transport.closing


async def test_a_client_that_reads_nothing_is_let_go_after_its_patience() -> None:
    fed = Fed()
    fed.connection.data_received(PREFACE)
    now = asyncio.get_running_loop().time()
    fed.connection.pause_writing()
    fed.connection.tick(now + 0.5)
    assert not fed.transport.closing
    fed.connection.resume_writing()
    fed.connection.tick(now + 2)
    assert not fed.transport.closing
    fed.connection.pause_writing()
    fed.connection.tick(now + 3)
    assert fed.transport.closing
    assert fed.cuts("slow_client") == 1


async def test_a_client_that_leaves_much_unsent_is_let_go_at_once() -> None:
    fed = Fed()
    fed.connection.data_received(PREFACE)
    fed.transport.get_write_buffer_size = lambda: 1024 * 1024 + 1  # type: ignore[method-assign]
    fed.connection.data_received(PingFrame(0, opaque_data=b"12345678").serialize())
    assert fed.transport.closing
    assert fed.cuts("slow_client") == 1


async def test_answers_of_one_moment_go_out_in_one_write() -> None:
    fed, encoder = Fed(), Encoder()
    await asyncio.sleep(0)
    writes: list[bytes] = []
    fed.transport.write = lambda data: writes.append(bytes(data))  # type: ignore[method-assign]
    fed.connection.data_received(PREFACE + b"".join(a_call(encoder, n, end=True).serialize() for n in (1, 3, 5, 7)))
    while fed.connection.calls_open:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(writes) <= 2, writes
