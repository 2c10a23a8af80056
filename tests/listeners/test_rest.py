"""The REST door over real HTTP, in front of a whole sidecar: what is asked in every form it takes, and what comes back."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import pytest
from live import LiveApp, LiveSandbox, Stage, eventually
from rest_client import RestClient, header, order

from sidecar.desks import Reply
from sidecar.listeners.rest import listener as rest
from sidecar.listeners.rest import reply as rest_reply
from sidecar.listeners.rest.routes import ROUTES, by_id
from sidecar.wire import catalog
from sidecar.wire.catalog import CATALOG, Direction
from sidecar.wire.messages import message_class

TRADER = ("qot:read", "acc:read", "trade:simulate")


class Scene:
    """A sandbox, a sidecar, and a client for each of its keys."""

    def __init__(self, stage: Stage) -> None:
        keys = {
            "trader": stage.keys.add("trader", *TRADER, max_order_value=100000, max_daily_value=3_000_000),
            "research": stage.keys.add("research", "qot:read"),
            "hasty": stage.keys.add("hasty", *TRADER, max_orders_per_minute=1),
            "spent": stage.keys.add("spent", *TRADER, max_daily_value=1),
            "expired": stage.keys.add("expired", "qot:read", expires_at="2020-01-01T00:00:00Z"),
        }
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        rest = {"port": 0, "allowed_origins": ["https://app.example.com"]}
        self.app: LiveApp = stage.app(
            self.sandbox.port, listeners={"rest": rest, "websocket": "off", "grpc": "off", "mcp": "off"}
        )
        self.port = self.app.doors["rest"]
        self.clients = {name: RestClient(self.port, key) for name, key in keys.items()}
        self.keys = keys

    def __getattr__(self, name: str) -> RestClient:
        return self.clients[name]

    @property
    def nobody(self) -> RestClient:
        return RestClient(self.port)

    def arrived(self, remark: str) -> int:
        """How many orders with this remark came to the sandbox."""
        return sum(one.get("remark") == remark for one in self.sandbox.orders())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("rest")) as stage:
        yield Scene(stage)


# -- routes -----------------------------------------------------------------------------------------------------------


def test_every_route_is_served_and_says_what_is_missing_not_that_it_is_unknown(scene: Scene) -> None:
    for route in ROUTES.values():
        answer = scene.trader.post(route.path, {"no_such_field": 1})
        expected = {"scope"} if CATALOG[route.proto_id].permission is catalog.Permission.ADMIN else {"unknown_field"}
        if route.proto_id == catalog.UNLOCK_TRADE:
            expected = {"scope"}
        assert answer.code in expected, (route.path, answer.raw)


@pytest.mark.parametrize("path", ["/api/ping", "/api/global-state", "/api/accounts", "/api/sub-info"])
def test_what_needs_no_fields_can_be_asked_with_get_and_with_post(scene: Scene, path: str) -> None:
    got, posted = scene.trader.get(path), scene.trader.post(path)
    assert set(got.s2c) == set(posted.s2c)
    assert scene.trader.request("POST", path).s2c.keys() == posted.s2c.keys()


def test_a_get_takes_its_fields_as_query_parameters(scene: Scene) -> None:
    assert scene.research.get("/api/sub-info?is_req_all_conn=false").status == 200
    all_connections = scene.research.get("/api/sub-info?is_req_all_conn=true")
    assert (all_connections.status, all_connections.code) == (403, "scope") or all_connections.status == 200
    unknown = scene.research.get("/api/sub-info?is_req_all=false")
    assert (unknown.status, unknown.code) == (400, "unknown_field")
    assert "is_req_all_conn" in unknown.json["ret_msg"]
    assert scene.research.get("/api/sub-info?is_req_all_conn=1&is_req_all_conn=0").code == "malformed_request"


@pytest.mark.parametrize("name", ["1002", "GetGlobalState", "getglobalstate", "get_global_state"])
def test_every_request_is_reachable_by_its_id_and_by_its_name(scene: Scene, name: str) -> None:
    assert scene.research.post(f"/api/proto/{name}").s2c["qot_logined"] is True


@pytest.mark.parametrize("name", ["2202", "Trd_PlaceOrder", "trd_place_order", "place_order", "placeorder"])
def test_an_order_by_its_id_is_the_same_order_with_the_same_endpoint_in_the_audit(scene: Scene, name: str) -> None:
    refused = scene.trader.post(f"/api/proto/{name}", order(qty=400))
    assert (refused.status, refused.code) == (403, "order_value")
    line = scene.app.wait_audit(decision_id=refused.json["decision_id"])
    assert line["endpoint"] == "/api/proto/Trd_PlaceOrder"


@pytest.mark.parametrize(
    "name", ["0", "9999", "2208", "Trd_UpdateOrder", "1001", "InitConnect", "nonsense", "-2202", "２２０２"]
)
def test_what_is_no_request_of_a_client_is_not_found_by_its_id_either(scene: Scene, name: str) -> None:
    answer = scene.trader.post(f"/api/proto/{quote(name)}")
    assert (answer.status, answer.code) == (404, "unknown_request")


def test_no_two_requests_share_a_name() -> None:
    for row in CATALOG.values():
        route = by_id(row.name)
        assert (None if route is None else route.proto_id) == (row.id if row.direction is Direction.REQUEST else None)


def test_an_unknown_route_is_a_404_that_names_the_closest_one_and_is_audited(scene: Scene) -> None:
    answer = scene.research.post("/api/snapshots", {})
    assert (answer.status, answer.code) == (404, "unknown_request")
    assert "did you mean `/api/snapshot`?" in answer.json["ret_msg"]
    line = scene.app.wait_audit(decision_id=answer.json["decision_id"])
    assert (line["endpoint"], line["key_id"], line["reason"]) == ("/api/snapshots", "research", "unknown_request")


def test_a_wrong_method_is_a_405_that_says_which_are_right(scene: Scene) -> None:
    answer = scene.trader.get("/api/order")
    assert (answer.status, answer.headers["allow"], answer.code) == (405, "POST", "malformed_request")
    assert scene.app.wait_audit(decision_id=answer.json["decision_id"])["endpoint"] == "/api/order"
    assert scene.trader.request("DELETE", "/api/accounts").headers["allow"] == "GET, HEAD, POST"
    assert scene.trader.post("/health", {}).status == 405


def test_head_is_answered_like_get_without_a_body(scene: Scene) -> None:
    for client, path in ((scene.nobody, "/health"), (scene.trader, "/api/accounts")):
        answer = client.request("HEAD", path)
        assert (answer.status, answer.raw) == (200, b"")


# -- the key ----------------------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_told_but_that_one_is_needed(scene: Scene) -> None:
    for path in ("/api/order", "/api/nope", "/nope", "/api/proto/2202", "/api/key"):
        answer = scene.nobody.request("POST", path, {})
        assert (answer.status, answer.code) == (401, "key_missing"), path
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_wrong_key_is_told_only_that(scene: Scene) -> None:
    stranger = RestClient(scene.port, "fc_" + "0" * 64)
    for path in ("/api/order", "/api/nope", "/api/key"):
        answer = stranger.request("POST" if path != "/api/key" else "GET", path, {} if path != "/api/key" else None)
        assert (answer.status, answer.code) == (401, "key_unknown"), path
        assert "invalid_token" in answer.headers["www-authenticate"]
    assert scene.expired.post("/api/global-state").code == "key_expired"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_scheme_may_be_written_in_any_case(scene: Scene, scheme: str) -> None:
    answer = scene.nobody.get("/api/global-state", Authorization=f"{scheme} {scene.keys['research']}")
    assert answer.status == 200


def test_two_authorization_headers_are_refused_even_if_both_are_the_same(scene: Scene) -> None:
    line = f"Authorization: Bearer {scene.keys['research']}\r\n"
    request = f"GET /api/global-state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}{line}\r\n"
    answer = scene.nobody.raw(request.encode())
    assert (answer.status, answer.code) == (400, "malformed_request")


@pytest.mark.parametrize("name", ["token", "key", "api_key", "Token", "other"])
def test_a_key_in_the_url_is_refused_whatever_it_is_called_and_is_not_written_down(scene: Scene, name: str) -> None:
    key = scene.keys["research"]
    for client in (scene.nobody, scene.research):
        answer = client.get(f"/api/global-state?{name}={key}")
        assert (answer.status, answer.code) == (400, "malformed_request")
        assert "logged" in answer.json["ret_msg"]
        assert key not in answer.raw.decode()
    scene.app.wait_audit(decision_id=answer.json["decision_id"])
    scene.app.wait_audit(key_id="<invalid>", reason="malformed_request")
    assert key not in scene.app.audit_file.read_text()


def test_a_key_in_the_path_is_not_written_down(scene: Scene) -> None:
    key = scene.keys["research"]
    answer = scene.research.get(f"/api/{key.upper()}/x")
    assert answer.status == 404
    scene.app.wait_audit(decision_id=answer.json["decision_id"])
    assert key.upper()[8:40] not in scene.app.audit_file.read_text() + answer.raw.decode()


def test_a_key_is_told_what_it_may_do_and_has_left(scene: Scene) -> None:
    told = scene.trader.get("/api/key").s2c
    assert told["key_id"] == "trader"
    assert told["max_order_value"] == "100000"
    assert set(told["scopes"]) == set(TRADER)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_of_opend_comes_in_the_peers_envelope_with_the_id_of_its_decision(scene: Scene) -> None:
    answer = scene.trader.post("/api/order", order(remark="fine"))
    assert list(answer.json) == ["ret_type", "ret_msg", "err_code", "s2c"]
    assert answer.s2c["order_id"].isdigit()
    assert len(answer.headers["x-decision-id"]) == 26
    assert scene.arrived("fine") == 1
    line = scene.app.wait_audit(decision_id=answer.headers["x-decision-id"], outcome="success")
    assert (line["iface"], line["endpoint"], line["key_id"]) == ("rest", "/api/order", "trader")


def test_opends_own_no_is_a_200_with_its_ret_type(scene: Scene) -> None:
    answer = scene.trader.post("/api/orders", {"header": header(market=2)})
    assert answer.status == 200
    assert answer.json["ret_type"] != 0
    assert answer.json["ret_msg"]


def test_a_refusal_has_its_code_its_words_and_its_decision(scene: Scene) -> None:
    answer = scene.trader.post("/api/order", order(qty=400, remark="too big"))
    assert answer.status == 403
    assert answer.json["ret_type"] == -1
    assert answer.json["s2c"] is None
    assert "order value 120000 HKD is over the limit of 100000 HKD" in answer.json["ret_msg"]
    assert answer.json["decision_id"] == answer.headers["x-decision-id"]
    assert answer.json["decision_id"] in answer.json["ret_msg"]
    line = scene.app.wait_audit(decision_id=answer.json["decision_id"])
    assert (line["outcome"], line["reason"], line["endpoint"]) == ("reject", "order_value", "/api/order")
    assert scene.arrived("too big") == 0


def test_every_429_says_when_to_come_back(scene: Scene) -> None:
    scene.hasty.post("/api/order", order())
    rate = scene.hasty.post("/api/order", order())
    assert (rate.status, rate.code) == (429, "rate")
    assert 0 < int(rate.headers["retry-after"]) <= 60
    daily = scene.spent.post("/api/order", order())
    assert (daily.status, daily.code) == (429, "daily_value")
    assert int(daily.headers["retry-after"]) > 0


def test_a_key_without_the_scope_is_refused_before_its_body_is_read(scene: Scene) -> None:
    answer = scene.research.post("/api/order", b"this is no json")
    assert (answer.status, answer.code) == (403, "scope")


# -- dry runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/order", "/api/proto/2202"])
@pytest.mark.parametrize("form", ["flat", "in c2s", "beside c2s"])
def test_a_dry_run_tells_every_check_and_sends_nothing(scene: Scene, path: str, form: str) -> None:
    fields = order(qty=160, remark=f"dry {form}")
    body: dict[str, Any] = {
        "flat": {**fields, "dry_run": True},
        "in c2s": {"c2s": {**fields, "dry_run": True}},
        "beside c2s": {"c2s": fields, "dry_run": True},
    }[form]
    found = scene.trader.post(path, body).s2c
    assert (found["dry_run"], found["allowed"], found["code"]) == (True, True, None)
    assert (found["value"], found["currency"]) == ("48000", "HKD")
    assert all(check["passed"] for check in found["checks"])
    assert {"check", "passed", "detail"} == set(found["checks"][0])
    assert scene.arrived(f"dry {form}") == 0


def test_a_dry_run_of_what_would_be_refused_is_a_200_that_says_so(scene: Scene) -> None:
    found = scene.trader.post("/api/order", order(qty=400, dry_run=True)).s2c
    assert (found["allowed"], found["code"], found["value"]) == (False, "order_value", "120000")
    assert "over the limit" in found["message"]
    assert [check["passed"] for check in found["checks"]].count(False) == 1


def test_dry_run_false_places_the_order(scene: Scene) -> None:
    scene.trader.post("/api/order", order(remark="wet", dry_run=False))
    assert scene.arrived("wet") == 1


@pytest.mark.parametrize("value", ["true", 1, None, {}])
def test_dry_run_is_true_or_false_and_nothing_else(scene: Scene, value: object) -> None:
    answer = scene.trader.post("/api/order", order(remark="neither", dry_run=value))
    assert (answer.status, answer.code) == (400, "malformed_request")
    twice = scene.trader.post("/api/order", {"c2s": order(remark="neither", dry_run=False), "dry_run": True})
    assert (twice.status, twice.code) == (400, "malformed_request")
    assert scene.arrived("neither") == 0


def test_dry_run_is_an_unknown_field_where_nothing_is_decided(scene: Scene) -> None:
    assert scene.trader.post("/api/orders", {"header": header(), "dry_run": True}).code == "unknown_field"
    assert (
        scene.trader.post("/api/cancel-order", {"header": header(), "order_id": "1", "dry_run": True}).code
        == "unknown_field"
    )


# -- the sidecar's own mistakes ---------------------------------------------------------------------------------------


def test_a_mistake_of_the_sidecars_own_is_told_to_the_operator_and_not_to_the_client(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(scene.app.app.gate, "usage", broken)
    monkeypatch.setattr(rest.log, "exception", lambda said, **_: logged.append(said), raising=False)
    answer = scene.trader.get("/api/key")
    assert answer.status == 500
    assert b"secret detail" not in answer.raw
    assert logged == ["a REST request failed"]


async def test_a_long_answer_is_made_in_a_thread_and_is_the_same() -> None:
    row = CATALOG[catalog.GET_STATIC_INFO]
    response = cast(Any, message_class(row.response or "")())
    response.retType = 0
    for number in range(5000):
        basic = response.s2c.staticInfoList.add().basic
        basic.security.market, basic.security.code, basic.id, basic.lotSize = 1, f"{number:05d}", 2**60 + number, 100
        basic.secType, basic.name, basic.listTime = 3, "a name" * 5, "2020-01-01"
    body = response.SerializeToString()
    assert len(body) > 256 * 1024
    reply = await rest_reply.of_reply(Reply(row, body, "01J"))
    assert isinstance(reply.body, bytes)
    listed = json.loads(reply.body)["s2c"]["static_info_list"]
    assert (len(listed), listed[-1]["basic"]["id"]) == (5000, str(2**60 + 4999))


# -- idempotency keys -------------------------------------------------------------------------------------------------


def test_a_repeat_is_answered_with_the_first_outcome_and_says_so(scene: Scene) -> None:
    first = scene.trader.post("/api/order", order(remark="once"), **{"Idempotency-Key": "once-1"})
    again = scene.trader.post("/api/order", order(remark="once"), **{"Idempotency-Key": "once-1"})
    assert first.s2c == again.s2c
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-decision-id"] == first.headers["x-decision-id"]
    assert scene.arrived("once") == 1


def test_another_order_under_the_same_idempotency_key_is_a_conflict(scene: Scene) -> None:
    scene.trader.post("/api/order", order(remark="c1"), **{"Idempotency-Key": "conflict"})
    other = scene.trader.post("/api/order", order(remark="c2"), **{"Idempotency-Key": "conflict"})
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert scene.arrived("c2") == 0


def test_two_idempotency_keys_in_one_request_are_refused(scene: Scene) -> None:
    body = json.dumps(order(remark="two tokens")).encode()
    head = (
        f"POST /api/order HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.keys['trader']}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = scene.nobody.raw(head.encode() + body)
    assert (answer.status, answer.code) == (400, "malformed_request")
    assert scene.arrived("two tokens") == 0


def test_reads_do_not_mind_an_idempotency_key(scene: Scene) -> None:
    for _ in range(2):
        answer = scene.trader.post("/api/orders", {"header": header()}, **{"Idempotency-Key": "a read"})
        assert answer.status == 200
        assert "idempotency-replayed" not in answer.headers


# -- a client that leaves ---------------------------------------------------------------------------------------------


def test_an_order_whose_client_has_gone_is_not_sent(scene: Scene) -> None:
    scene.sandbox.delays[catalog.GET_SECURITY_SNAPSHOT] = 0.8
    scene.sandbox.delays[catalog.GET_STATIC_INFO] = 0.8
    try:
        connection = http.client.HTTPConnection("127.0.0.1", scene.port)
        fields = order(code="09988", price=80, remark="left")
        connection.request(
            "POST", "/api/order", json.dumps(fields),
            {"Content-Type": "application/json", "Authorization": f"Bearer {scene.keys['trader']}"},
        )  # fmt: skip
        threading.Event().wait(0.2)
        connection.close()
        line = scene.app.wait_audit(reason="client_gone")
    finally:
        scene.sandbox.delays.clear()
    assert (line["key_id"], line["symbol"]) == ("trader", "HK.09988")
    assert scene.arrived("left") == 0


# -- pages without a key ----------------------------------------------------------------------------------------------


def test_health_and_metrics_ask_for_no_key(scene: Scene) -> None:
    assert scene.nobody.get("/health").raw == b"ok"
    assert json.loads(scene.nobody.get("/readyz").raw) == {"ready": True, "problems": []}
    scene.trader.get("/api/key")
    metrics = scene.nobody.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert b'futu_auth_events_total{iface="rest",key_id="trader",outcome="allow"}' in metrics.raw
    openmetrics = scene.nobody.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in openmetrics.headers["content-type"]


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example:22222"}],
    ids=lambda each: next(iter(each)),
)
def test_web_pages_of_others_cannot_read_what_needs_no_key(scene: Scene, headers: dict[str, str]) -> None:
    for path in ("/metrics", "/readyz"):
        answer = scene.nobody.get(path, **headers)
        assert answer.status == 403
        assert b"futu" not in answer.raw


def test_metrics_can_be_off(stage: Stage, scene: Scene) -> None:
    stage.keys.add("any", "qot:read")
    off = {"rest": {"port": 0, "metrics": False}, "websocket": "off", "grpc": "off", "mcp": "off"}
    app = stage.app(scene.sandbox.port, listeners=off)
    assert RestClient(app.doors["rest"]).get("/metrics").status == 401  # as every unknown route without a key


# -- web pages --------------------------------------------------------------------------------------------------------


def test_a_page_that_is_allowed_may_ask_and_read(scene: Scene) -> None:
    origin = "https://app.example.com"
    preflight = scene.nobody.request(
        "OPTIONS", "/api/order",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"},
    )  # fmt: skip
    assert (preflight.status, preflight.raw) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["vary"] == "Origin"
    answer = scene.research.get("/api/global-state", Origin=origin)
    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in answer.headers


def test_a_page_that_is_not_allowed_gets_no_leave_to_read(scene: Scene) -> None:
    preflight = scene.nobody.request(
        "OPTIONS", "/api/order", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status == 401
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    answer = scene.research.get("/api/global-state", Origin="https://evil.example")
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


# -- connections ------------------------------------------------------------------------------------------------------


def test_a_connection_serves_many_requests_also_when_they_come_at_once(scene: Scene) -> None:
    head = f"GET /api/global-state HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.keys['research']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", scene.port), 5) as line:
        line.sendall(head.encode() * 20)
        seen = b""
        while seen.count(b"HTTP/1.1 200") < 20:
            seen += line.recv(65536)
    assert b"Server:" not in seen


def test_the_counters_of_the_door_are_those_of_the_gate(scene: Scene) -> None:
    def count(outcome: str) -> float:
        return scene.app.metric("futu_auth_events_total", iface="rest", outcome=outcome, key_id="research")

    allowed, rejected = count("allow"), count("reject")
    scene.research.post("/api/global-state")
    scene.research.post("/api/order", order())
    eventually(lambda: (count("allow"), count("reject")) == (allowed + 1, rejected + 1))
