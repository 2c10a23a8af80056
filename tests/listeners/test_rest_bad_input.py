"""What no well-meaning client sends to the REST door: each gets a clear native error, nothing goes upstream, others are served."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Iterator

import pytest
from live import LiveApp, LiveSandbox, Stage, eventually
from rest_client import Answer, RestClient, order, read_answer

from sidecar.listeners.rest import listener as rest

LIMIT = 64 * 1024
PATIENCE = 1.0
MOST = 12


class Scene:
    """A sidecar with narrow limits, one key, and what its OpenD received before a test."""

    def __init__(self, stage: Stage) -> None:
        self.key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate")
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.app: LiveApp = stage.app(
            self.sandbox.port,
            listeners={"websocket": "off", "grpc": "off", "mcp": "off"},
            limits={
                "request_body": LIMIT, "handshake_timeout": PATIENCE, "frame_timeout": PATIENCE, "max_clients": MOST,
                "client_stall": PATIENCE,
            },
        )  # fmt: skip
        self.port = self.app.doors["rest"]
        self.bot = RestClient(self.port, self.key)

    def head(self, *lines: str, path: str = "/api/order", method: str = "POST") -> bytes:
        own = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.key}", "Connection: close"]
        return "\r\n".join([*own, *lines, "", ""]).encode()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("rest-bad")) as stage:
        yield Scene(stage)


@pytest.fixture
def scene(running: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """INVARIANT of every test here: nothing that could move money reached OpenD, nothing was raised, others are served."""
    before = len(running.sandbox.orders())
    raised: list[object] = []
    monkeypatch.setattr(rest.log, "exception", lambda *said, **more: raised.append((said, more)), raising=False)
    running.app.do(lambda: asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context)))
    yield running
    assert not raised
    assert len(running.sandbox.orders()) == before
    assert RestClient(running.port, running.key).get("/api/global-state").status == 200


def no(answer: Answer, status: int, code: str = "malformed_request") -> None:
    assert (answer.status, answer.code) == (status, code), answer.raw
    assert "Traceback" not in answer.raw.decode()


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_a_413_however_it_comes(scene: Scene) -> None:
    big = b'{"remark":"' + b"x" * LIMIT + b'"}'
    no(scene.bot.post("/api/order", big), 413, "body_too_large")
    chunk = b"%x\r\n%s\r\n" % (4096, b"y" * 4096)
    chunked = scene.head("Content-Type: application/json", "Transfer-Encoding: chunked") + chunk * 20 + b"0\r\n\r\n"
    no(scene.bot.raw(chunked), 413, "body_too_large")


def test_a_body_that_only_says_it_is_over_the_limit_is_refused_before_it_is_sent(scene: Scene) -> None:
    started = time.monotonic()
    with scene.connect() as line:
        line.sendall(scene.head("Content-Type: application/json", f"Content-Length: {10**12}"))
        no(read_answer(line), 413, "body_too_large")
    assert time.monotonic() - started < 0.5


def test_an_endless_body_ends_soon(scene: Scene) -> None:
    started = time.monotonic()
    with scene.connect() as line:
        line.sendall(scene.head("Content-Type: application/json", "Transfer-Encoding: chunked"))
        with pytest.raises(OSError):
            while time.monotonic() - started < 8:
                line.sendall(b"%x\r\n%s\r\n" % (65536, b"z" * 65536))
    assert time.monotonic() - started < 6


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"{",
        b'{"qty":1,}',
        b'{"qty":NaN}',
        b'{"qty":Infinity}',
        b"\xff\xfe{}",
        b"[]",
        b'"text"',
        b"1",
        b"null1",
    ],
)
def test_what_is_not_a_json_object_is_a_400(scene: Scene, body: bytes) -> None:
    no(scene.bot.post("/api/order", body), 400)


@pytest.mark.parametrize("depth", [40, 1000, 30000])
@pytest.mark.parametrize("shape", ["lists", "objects"])
def test_deep_nesting_is_a_400(scene: Scene, depth: int, shape: str) -> None:
    opening, closing = (b"[", b"]") if shape == "lists" else (b'{"a":', b"}")
    depth = min(depth, (LIMIT - 100) // (len(opening) + 1))
    no(scene.bot.post("/api/order", b'{"remark":' + opening * depth + b"1" + closing * depth + b"}"), 400)


def test_one_field_given_twice_is_a_400_that_names_it(scene: Scene) -> None:
    text = json.dumps(order())[:-1] + ', "qty": 999}'
    answer = scene.bot.post("/api/order", text.encode())
    no(answer, 400)
    assert "`qty`" in answer.json["ret_msg"]
    spelt_twice = scene.bot.post("/api/order", {**order(), "trdSide": 2})
    no(spelt_twice, 400)


def test_an_unknown_field_is_a_400_that_names_it_and_the_closest_known_one(scene: Scene) -> None:
    answer = scene.bot.post("/api/order", {**order(), "order_typ": 1})
    no(answer, 400, "unknown_field")
    assert "`order_typ`" in answer.json["ret_msg"]
    assert "`order_type`" in answer.json["ret_msg"]


def test_a_field_that_the_route_itself_sets_is_refused(scene: Scene) -> None:
    cancel = {"header": order()["header"], "order_id": "1", "modify_order_op": 4}
    no(scene.bot.post("/api/cancel-order", cancel), 400, "unknown_field")


@pytest.mark.parametrize(
    "fields",
    [{"qty": "many"}, {"qty": True}, {"header": 1}, {"trd_side": "UP"}, {"code": 700}, {"price": [1]}, {"qty": None}],
    ids=lambda each: json.dumps(each),
)
def test_a_value_of_the_wrong_type_is_a_400(scene: Scene, fields: dict[str, object]) -> None:
    no(scene.bot.post("/api/order", {**order(), **fields}), 400)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=utf-16", ""],
)
def test_another_content_type_is_a_415_that_says_which_is_right(scene: Scene, kind: str) -> None:
    answer = scene.bot.request("POST", "/api/order", json.dumps(order()).encode(), headers={"Content-Type": kind})
    no(answer, 415)
    assert "application/json" in answer.json["ret_msg"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
def test_a_compressed_body_is_refused_and_never_unpacked(scene: Scene, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    no(
        scene.bot.request(
            "POST", "/api/order", bomb, headers={"Content-Encoding": encoding, "Content-Type": "application/json"}
        ),
        415,
    )


def test_an_identity_encoding_is_no_encoding(scene: Scene) -> None:
    answer = scene.bot.request(
        "POST", "/api/orders", {"header": order()["header"]}, headers={"Content-Encoding": "identity"}
    )
    assert answer.status == 200


def test_fields_in_the_query_of_a_post_are_refused(scene: Scene) -> None:
    no(scene.bot.post("/api/order?qty=1", order()), 400, "unknown_field")


def test_a_get_with_a_body_is_refused(scene: Scene) -> None:
    no(scene.bot.request("GET", "/api/accounts", {"user_id": 0}), 400)


def test_text_that_is_no_text_in_a_query_is_a_400(scene: Scene) -> None:
    for query in ("is_req_all_conn=%ff%fe", "%ff=1", "is_req_all_conn=%00", "&&&=", "=="):
        assert scene.bot.get(f"/api/sub-info?{query}").status in (200, 400), query


@pytest.mark.parametrize(
    "field",
    [
        "Authorization: Bearer \xff\xfe", "Authorization: \xff", "Authorization: Bearer", "Authorization:", "Content-Type: \xff",
        "Content-Encoding: \xff", "Idempotency-Key: \xff", "Idempotency-Key: " + "x" * 300, "Origin: \xff", "Host: \xff",
        "Accept: \xff;q=\xff", "Sec-Fetch-Site: \xff", "Cookie: \xff", "X-HTTP-Method-Override: DELETE",
        "Content-Type: application/json; charset=\xff", "Content-Type: application/json;;;===", "Expect: \xff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/order", "/metrics", "/ws?token=%ff", "/api/proto/\xff", "/api/\xff%fe%00"])
def test_header_fields_and_paths_that_are_no_text_are_no_trouble(scene: Scene, field: str, path: str) -> None:
    own = [] if field.startswith("Authorization") else [f"Authorization: Bearer {scene.key}"]
    host = [] if field.startswith("Host") else ["Host: x"]
    kind = [] if field.startswith("Content-Type") else ["Content-Type: application/json"]
    method = "POST" if path.startswith("/api/") else "GET"
    lines = [f"{method} {path} HTTP/1.1", *host, *own, *kind, field, "Connection: close", "Content-Length: 2", "", "{}"]
    answer = scene.bot.raw("\r\n".join(lines).encode("latin-1"))
    assert 400 <= answer.status < 500 or path == "/metrics", answer.raw


# -- slow, and not HTTP at all ------------------------------------------------------------------------------------------


def test_a_body_that_does_not_come_is_a_408(scene: Scene) -> None:
    with scene.connect() as line:
        line.sendall(scene.head("Content-Type: application/json", "Content-Length: 100") + b'{"qty"')
        started = time.monotonic()
        no(read_answer(line), 408)
        assert time.monotonic() - started < PATIENCE + 1


def test_a_body_that_trickles_in_is_a_408_too(scene: Scene) -> None:
    with scene.connect() as line:
        line.sendall(scene.head("Content-Type: application/json", "Content-Length: 60000"))
        line.settimeout(0.1)
        seen = b""
        until = time.monotonic() + 4
        while not seen and time.monotonic() < until:
            try:
                line.sendall(b" ")
                seen = line.recv(100)
            except TimeoutError:
                continue
        assert b" 408 " in seen


@pytest.mark.parametrize(("method", "target"), [("CONNECT", "evil.example:443"), ("OPTIONS", "*")])
def test_a_target_that_is_no_path_is_an_unknown_route_like_any_other(scene: Scene, method: str, target: str) -> None:
    no(scene.bot.raw(scene.head(method=method, path=target)), 404, "unknown_request")
    no(scene.bot.raw(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()), 401, "key_missing")


@pytest.mark.parametrize(
    "head",
    ["GET /api/key HTTP/1.1\nAuthorization: Bearer {key}\n\n", "GET /api/key HTTP/1.1\r\nAuthorization: Bearer {key}\x00\r\n\r\n"],
    ids=["lines end without a carriage return", "a null character"],
)  # fmt: skip
def test_what_is_not_http_is_refused_without_repeating_the_key_that_came_with_it(scene: Scene, head: str) -> None:
    answer = scene.bot.raw(head.format(key=scene.key).encode())
    assert answer.status == 400
    assert b"not well-formed HTTP" in answer.raw
    assert scene.key.encode() not in answer.raw
    assert answer.headers["server"] == "opend-sidecar"


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "half a line", "half a head"],
)
def test_whoever_connects_and_does_not_ask_is_let_go(scene: Scene, sent: bytes) -> None:
    with scene.connect() as line:
        line.sendall(sent)
        started = time.monotonic()
        assert line.recv(100) == b""
        assert time.monotonic() - started < PATIENCE + 3


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"FT" + bytes(42),
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 20000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/order HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/order HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/order HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /health HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
    ],
    ids=["tls", "opend", "words", "version", "long header", "many headers", "long path", "two lengths", "negative", "lengths", "header"],
)  # fmt: skip
def test_what_is_not_http_is_a_short_400_and_no_news_for_the_operator(
    scene: Scene, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = scene.bot.raw(data)
    assert answer.status == 400
    assert len(answer.raw) < 2000
    assert b"Traceback" not in answer.raw
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_chunk_that_is_none_is_a_400(scene: Scene) -> None:
    data = scene.head("Content-Type: application/json", "Transfer-Encoding: chunked") + b"nonsense\r\n{}\r\n0\r\n\r\n"
    assert scene.bot.raw(data).status == 400


def test_a_body_that_ends_in_the_middle_is_an_order_never_seen(scene: Scene) -> None:
    with scene.connect() as line:
        line.sendall(scene.head("Content-Type: application/json", "Content-Length: 500") + json.dumps(order()).encode())


def test_when_there_is_no_room_one_more_is_told_and_the_others_are_served_on(scene: Scene) -> None:
    request = scene.head(path="/api/global-state", method="GET").replace(b"Connection: close\r\n", b"")
    kept = [scene.connect() for _ in range(MOST)]
    try:
        for line in kept:
            line.sendall(request)
            assert read_answer(line).status == 200
        with scene.connect() as line:
            answer = read_answer(line)
        assert answer.status == 503
        assert b"upstream_full" in answer.raw
        assert int(answer.headers["retry-after"]) > 0
        for line in kept:
            line.sendall(request)
            assert read_answer(line).status == 200
    finally:
        for line in kept:
            line.close()
    eventually(lambda: scene.bot.get("/health").status == 200)


def test_who_connects_and_says_nothing_gives_way_to_who_asks(scene: Scene) -> None:
    silent = [scene.connect() for _ in range(MOST + 3)]
    try:
        for _ in range(5):
            assert scene.bot.get("/api/global-state").status == 200
    finally:
        for line in silent:
            line.close()


@pytest.mark.parametrize("path", ["/api/global-state", "/health", "/api/nope?token=x"])
def test_who_shows_no_good_key_keeps_no_connection(scene: Scene, path: str) -> None:
    with scene.connect() as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = read_answer(line)
        assert answer.headers["connection"] == "close"
        assert line.recv(10) == b""


def test_a_client_that_does_not_read_its_answers_is_cut(scene: Scene) -> None:
    before = scene.app.metric("sidecar_clients_cut_total", reason="slow_client")
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", scene.port))
        head = f"GET /api/key HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.key}\r\n\r\n".encode()
        line.setblocking(False)
        started = time.monotonic()
        while scene.app.metric("sidecar_clients_cut_total", reason="slow_client") == before:
            assert time.monotonic() - started < 20
            with contextlib.suppress(BlockingIOError, ConnectionError):
                for _ in range(200):
                    line.send(head * 20)


def test_many_who_ask_without_a_key_cost_the_others_nothing(scene: Scene) -> None:
    stranger = RestClient(scene.port)
    for _ in range(200):
        assert stranger.post("/api/order", order()).status == 401
    started = time.monotonic()
    assert scene.bot.get("/api/global-state").status == 200
    assert time.monotonic() - started < 0.5


def test_whoever_waits_for_leave_to_send_a_body_gets_it_when_the_body_is_wanted(scene: Scene) -> None:
    expecting = ("Content-Type: application/json", "Expect: 100-continue")
    with scene.connect() as line:
        line.sendall(scene.head(*expecting, "Content-Length: 2", path="/api/global-state"))
        assert line.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"{}")
        assert read_answer(line).status == 200
    for path, length, status in (("/api/order", 10**9, 413), ("/api/user-info", 2, 403), ("/api/nope", 2, 404)):
        with scene.connect() as line:
            line.sendall(scene.head(*expecting, f"Content-Length: {length}", path=path))
            assert read_answer(line).status == status
