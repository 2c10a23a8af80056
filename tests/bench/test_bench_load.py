"""The bench must fail on a refused or lost request, and make its ratios of the right numbers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bench import paths, prepared
from bench.load import Link, LoadError
from bench.paths import BenchError, Way
from bench.scenarios import BY_NAME, Round
from sidecar.wire.frame import HEADER_SIZE, FrameReader, build


@pytest.fixture
def direct() -> Iterator[Way]:
    with paths.upstream() as up, paths.direct(*up) as way:
        yield way


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A server that takes InitConnect and refuses everything else."""
    door = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = door.accept()
        reader = FrameReader(1 << 20)
        with sock:
            while data := sock.recv(65536):
                _, heads = reader.receive(data)
                for head in heads:
                    if head.proto_id == prepared.INIT_CONNECT:
                        sock.sendall(prepared.init_reply(head.serial, 1))
                    else:
                        answer = prepared.filled("KeepAlive.Response")
                        answer.retType, answer.retMsg = -1, "[sidecar:scope] not yours"
                        sock.sendall(build(head.proto_id, head.serial, answer.SerializeToString()))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield door.getsockname()[1]
    door.close()


@pytest.mark.parametrize(
    "load",
    [
        {"kind": "reads", "connections": 1, "depth": 1},
        {"kind": "reads", "connections": 4, "depth": 3},
        {"kind": "pushes", "connections": 2, "depth": 0},
        {"kind": "orders", "connections": 1, "depth": 1},
        {"kind": "orders", "connections": 4, "depth": 1},
    ],
    ids=lambda load: f"{load['kind']}-{load['connections']}",
)
def test_every_load_counts_something_without_a_proxy(direct: Way, load: dict[str, Any]) -> None:
    result = paths.run_load(direct, load | {"seconds": 0.1}, patience=30)
    assert result["count"] > 0
    assert result["cpu_us_each"].keys() == {"load", "upstream"}


def test_a_refused_read_fails_the_run_instead_of_counting(refusing_port: int) -> None:
    link = Link(refusing_port, "key")
    with pytest.raises(LoadError, match="not yours"):
        link.checked_quote()


def test_a_refused_order_fails_the_run_with_the_reason(refusing_port: int) -> None:
    way = Way("sidecar", refusing_port, "key", {})
    with pytest.raises(BenchError, match="not yours"):
        paths.run_load(way, {"kind": "orders", "connections": 1, "depth": 1, "seconds": 0.1}, patience=30)


def test_order_ids_are_fresh_and_the_push_names_the_same_order() -> None:
    replies, requests = prepared.OrderReplies(), prepared.OrderRequests(conn_id=7)
    seen = set()
    for serial in (1, 2):
        frame, push = replies.answer(serial, requests.frame(serial)[HEADER_SIZE:])
        reply, told = prepared.filled("Trd_PlaceOrder.Response"), prepared.filled("Trd_UpdateOrder.Response")
        reply.ParseFromString(frame[HEADER_SIZE:])
        told.ParseFromString(push[HEADER_SIZE:])
        assert reply.s2c.orderID == told.s2c.order.orderID
        seen.add(reply.s2c.orderID)
    assert len(seen) == 2


def test_a_quote_reply_and_a_push_have_the_sizes_the_report_speaks_of() -> None:
    assert 300 <= len(prepared.quote_reply()) <= 1024
    assert 950 <= len(prepared.quote_push()) <= 1100


def _round(direct: float, haproxy: float, sidecar: float, *, sync: float | None = None) -> Round:
    values = {"direct": direct, "haproxy": haproxy, "sidecar": sidecar}
    return Round({way: {"per_second": at, "latency_us": {"p50": at}} for way, at in values.items()}, sync)


@pytest.mark.parametrize(
    ("name", "of", "ratio", "met"),
    [
        ("reads-64x1", _round(100, 50, 25), 0.5, True),
        ("reads-64x1", _round(100, 50, 20), 0.4, False),
        ("reads-1x1", _round(60, 90, 110), 5 / 3, True),
        ("reads-1x1", _round(60, 90, 130), 7 / 3, False),
        ("orders-1", _round(100, 130, 500, sync=100), 4.0, True),
        ("orders-64", _round(60000, 30000, 2000, sync=5000), 10.0, False),
    ],
)
def test_a_ratio_is_made_of_the_right_numbers(name: str, of: Round, ratio: float, met: bool) -> None:
    found = BY_NAME[name].judge(of)
    assert found == pytest.approx(ratio)
    assert found is not None
    assert BY_NAME[name].met(found) is met


def test_a_round_in_which_haproxy_adds_no_latency_gives_no_ratio() -> None:
    assert BY_NAME["reads-1x1"].judge(_round(90, 90, 100)) is None
