"""A bot on grpcio, which knows nothing of the sidecar but the .proto file and its key."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from documents import block
from grpcio_client import (
    GLOBAL_STATE,
    PAPER_HK,
    PLACE_ORDER,
    PROTO,
    SUB_ACC_PUSH,
    SUBSCRIBE,
    Answer,
    GrpcioClient,
    No,
    global_state,
    order,
    request_of,
    stubs,
    subscription,
)
from live import LiveSandbox, LiveSidecar, Stage, eventually

from sidecar.listeners.grpc import messages as grpc_messages
from sidecar.wire.messages import message_class, pb_folder

TRADER = ("qot:read", "acc:read", "trade:simulate")
HERE = {"websocket": "off", "rest": "off", "mcp": "off"}


class World:
    def __init__(self, stage: Stage) -> None:
        self.keys = {
            "trader": stage.keys.add("trader", *TRADER, max_order_value=50_000),
            "once": stage.keys.add("once", *TRADER, max_orders_per_minute=1),
            "reader": stage.keys.add("reader", "qot:read"),
            "quiet": stage.keys.add("quiet", "trade:simulate"),
            "leaving": stage.keys.add("leaving", *TRADER),
        }
        self.stage = stage
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port, listeners=HERE)

    def client(self, key_id: str | None = "trader") -> GrpcioClient:
        key = None if key_id is None else self.keys.get(key_id, key_id)
        return GrpcioClient(self.sidecar.doors["grpc"], key)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    stubs()
    with Stage(tmp_path_factory.mktemp("grpcio")) as stage:
        yield World(stage)


def no(answer: Answer | No) -> No:
    assert isinstance(answer, No), answer
    return answer


def yes(answer: Answer | No) -> Answer:
    assert isinstance(answer, Answer), answer
    return answer


def test_the_shipped_proto_file_says_what_the_door_speaks() -> None:
    pb, _ = stubs()
    for name in ("FutuRequest", "FutuResponse", "SubscribePushRequest", "PushEvent"):
        theirs, ours = pb.DESCRIPTOR.message_types_by_name[name], getattr(grpc_messages, name).DESCRIPTOR
        assert [(f.name, f.number, f.type) for f in theirs.fields] == [(f.name, f.number, f.type) for f in ours.fields]
        assert theirs.full_name == ours.full_name
    theirs = pb.DESCRIPTOR.services_by_name["FutuOpenD"]
    ours = grpc_messages.POOL.FindServiceByName("futu.service.FutuOpenD")
    assert theirs.full_name == ours.full_name

    def methods(service: object) -> list[tuple[str, str, str, bool, bool]]:
        return [
            (m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
            for m in service.methods  # type: ignore[attr-defined]
        ]

    assert methods(theirs) == methods(ours)
    assert PROTO.read_text().startswith("// The gRPC service of opend-sidecar")


def test_a_read_comes_back_as_the_whole_response(world: World) -> None:
    with world.client("reader") as client:
        answer = yes(client.ask(GLOBAL_STATE, global_state()))
    assert (answer.ret_type, answer.ret_msg) == (0, "")
    assert answer.message.s2c.qotLogined and answer.message.s2c.trdLogined
    assert len(answer.initial["sidecar-decision-id"]) == 26


def test_an_allowed_order_is_placed_and_names_itself_in_the_audit_like_any_other(world: World) -> None:
    with world.client() as client:
        answer = yes(client.ask(PLACE_ORDER, order()))
    assert answer.ret_type == 0
    order_id = str(answer.message.s2c.orderID)
    line = world.sidecar.wait_audit(iface="grpc", key_id="trader", outcome="success", order_id=order_id)
    assert line["endpoint"] == "place_order proto_id=2202"
    assert line["decision_id"] == answer.initial["sidecar-decision-id"]
    assert world.sandbox.orders()[-1]["code"] == "00700"


def test_a_refused_order_has_its_status_code_text_and_decision_and_never_reaches_opend(world: World) -> None:
    before = len(world.sandbox.orders())
    with world.client() as client:
        answer = no(client.ask(PLACE_ORDER, order(qty=300)))
    assert answer.status == "PERMISSION_DENIED"
    assert answer.code == "order_value"
    assert answer.text.startswith(
        "[sidecar:order_value] order value 120000 HKD is over the limit of 50000 HKD (decision "
    )
    assert answer.trailing["sidecar-decision-id"] in answer.text
    line = world.sidecar.wait_audit(iface="grpc", decision_id=answer.trailing["sidecar-decision-id"])
    assert (line["outcome"], line["reason"], line["endpoint"]) == ("reject", "order_value", "place_order proto_id=2202")
    assert world.sidecar.metric("sidecar_refusals_total", iface="grpc", code="order_value", key_id="trader") == 1
    assert len(world.sandbox.orders()) == before


def test_an_order_over_the_rate_is_told_when_to_come_back(world: World) -> None:
    with world.client("once") as client:
        yes(client.ask(PLACE_ORDER, order()))
        answer = no(client.ask(PLACE_ORDER, order()))
    assert (answer.status, answer.code) == ("RESOURCE_EXHAUSTED", "rate")
    assert 1 <= int(answer.trailing["retry-after"]) <= 60


def test_opends_own_no_is_an_answer_and_not_a_status(world: World) -> None:
    with world.client() as client:
        answer = yes(client.ask(PLACE_ORDER, order(price=400.0, qty=77)))  # no whole lot
    assert answer.ret_type == -1
    assert answer.ret_msg and answer.message.retMsg == answer.ret_msg
    assert not answer.ret_msg.startswith("[sidecar:")


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        (None, "UNAUTHENTICATED", "key_missing"),
        ("fc_" + "0" * 64, "UNAUTHENTICATED", "key_unknown"),
        ("not even a key", "UNAUTHENTICATED", "key_unknown"),
    ],
)
def test_without_a_good_key_nothing_is_told_but_that(world: World, key: str | None, status: str, code: str) -> None:
    with world.client(key) as client:
        for answer in (client.ask(PLACE_ORDER, order()), client.send(9999, b"\xff"), client.send(PLACE_ORDER, b"\xff")):
            refused = no(answer)
            assert (refused.status, refused.code) == (status, code)
        assert client.end_of(client.stub.SubscribePush(client.pb.SubscribePushRequest(), metadata=client.metadata))
    line = world.sidecar.wait_audit(iface="grpc", reason=code)
    assert line["key_id"] in ("<missing>", "<invalid>")


def test_the_scheme_may_be_written_in_any_case_and_two_keys_are_none(world: World) -> None:
    key = world.keys["reader"]
    with world.client(None) as client:
        yes(client.ask(GLOBAL_STATE, global_state(), ("authorization", f"bEARER {key}")))
        twice = no(
            client.ask(
                GLOBAL_STATE, global_state(), ("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")
            )
        )
        basic = no(client.ask(GLOBAL_STATE, global_state(), ("authorization", f"Basic {key}")))
    assert (twice.status, twice.code) == ("INVALID_ARGUMENT", "malformed_request")
    assert (basic.status, basic.code) == ("UNAUTHENTICATED", "key_missing")


def test_what_the_key_has_no_scope_for_is_denied_before_its_body_is_read(world: World) -> None:
    with world.client("reader") as client:
        for body in (order().SerializePartialToString(), b"\xff\xff"):
            answer = no(client.send(PLACE_ORDER, body))
            assert (answer.status, answer.code) == ("PERMISSION_DENIED", "scope")


@pytest.mark.parametrize("proto_id", [0, 4, 1001, 2208, 9999, 2**32 - 1])
def test_an_id_that_is_no_request_is_unimplemented(world: World, proto_id: int) -> None:
    with world.client() as client:
        answer = no(client.send(proto_id, b""))
    assert (answer.status, answer.code) == ("UNIMPLEMENTED", "unknown_request")


@pytest.mark.parametrize(
    ("proto_id", "body", "says"),
    [
        (GLOBAL_STATE, b"\xff\xff\xff", "not a protobuf `GetGlobalState.Request`"),
        (GLOBAL_STATE, b"", "required fields are missing: `c2s`"),
        (SUBSCRIBE, order().SerializePartialToString(), "not a `Qot_Sub.Request`: its fields have other types"),
        (PLACE_ORDER, subscription().SerializeToString(), "`c2s.header`"),
        (PLACE_ORDER, order().c2s.SerializePartialToString(), ""),  # c2s alone
        (PLACE_ORDER, b"A" * 100, "not a protobuf `Trd_PlaceOrder.Request`"),
    ],
)
def test_a_body_that_is_not_the_message_its_id_names_is_an_invalid_argument(
    world: World, proto_id: int, body: bytes, says: str
) -> None:
    before = len(world.sandbox.asked_by_clients())
    with world.client() as client:
        answer = no(client.send(proto_id, body))
    assert (answer.status, answer.code) == ("INVALID_ARGUMENT", "malformed_request")
    assert says in answer.text
    assert len(world.sandbox.asked_by_clients()) == before


def test_an_unknown_field_in_an_order_is_refused_by_its_number(world: World) -> None:
    with world.client() as client:
        answer = no(client.send(PLACE_ORDER, order().SerializePartialToString() + b"\xf8\x07\x01"))
    assert (answer.status, answer.code) == ("INVALID_ARGUMENT", "unknown_field")
    assert "`127`" in answer.text


def test_a_field_that_the_envelope_does_not_have_is_refused_and_not_ignored(world: World) -> None:
    before = len(world.sandbox.orders())
    with world.client() as client:
        raw = client.channel.unary_unary("/futu.service.FutuOpenD/Request")
        envelope = client.pb.FutuRequest(
            proto_id=PLACE_ORDER, body=order().SerializePartialToString()
        ).SerializeToString()
        with pytest.raises(client.grpc.RpcError) as failed:
            raw(envelope + b"\x18\x01", metadata=client.metadata)
    assert failed.value.code().name == "INVALID_ARGUMENT"
    assert "unknown field number `3` in `futu.service.FutuRequest`" in failed.value.details()
    assert len(world.sandbox.orders()) == before


def test_an_unknown_method_is_unimplemented_and_audited(world: World) -> None:
    with world.client() as client:
        for path in ("/futu.service.FutuOpenD/Nonsense", "/other.Service/Request"):
            with pytest.raises(client.grpc.RpcError) as failed:
                client.channel.unary_unary(path)(b"", metadata=client.metadata)
            assert failed.value.code().name == "UNIMPLEMENTED"
            assert path in failed.value.details()
    line = world.sidecar.wait_audit(iface="grpc", endpoint="unknown_method", key_id="trader")
    assert line["reason"] == "unknown_request"


def test_a_repeated_idempotency_key_is_answered_with_the_first_outcome_and_sent_once(world: World) -> None:
    before = len(world.sandbox.orders())
    with world.client("leaving") as client:
        token = ("idempotency-key", "the-same-order")
        first = yes(client.ask(PLACE_ORDER, order(), token))
        again = yes(client.ask(PLACE_ORDER, order(), token))
        other = no(client.ask(PLACE_ORDER, order(price=399.0), token))
        two = no(client.ask(PLACE_ORDER, order(), token, ("idempotency-key", "another")))
    assert "idempotency-replayed" not in first.initial
    assert again.initial["idempotency-replayed"] == "true"
    assert again.message.s2c.orderID == first.message.s2c.orderID
    assert (other.status, other.code) == ("INVALID_ARGUMENT", "idempotency_conflict")
    assert (two.status, two.code) == ("INVALID_ARGUMENT", "malformed_request")
    assert len(world.sandbox.orders()) == before + 1


def test_a_dry_run_judges_and_sends_nothing(world: World) -> None:
    before = len(world.sandbox.orders())
    with world.client() as client:
        allowed = yes(client.ask(PLACE_ORDER, order(), ("dry-run", "true")))
        refused = yes(client.ask(PLACE_ORDER, order(qty=300), ("dry-run", "true")))
        unclear = no(client.ask(PLACE_ORDER, order(), ("dry-run", "yes")))
        read = no(client.ask(GLOBAL_STATE, global_state(), ("dry-run", "true")))
    assert (allowed.ret_type, allowed.message) == (0, None)
    assert allowed.ret_msg == "this would be allowed: 100 × 400 (limit) × 1 = 40000 HKD (dry run)"
    assert refused.ret_type == -1
    assert refused.ret_msg.startswith("[sidecar:order_value] order value 120000 HKD")
    assert (unclear.status, read.status) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert len(world.sandbox.orders()) == before


def test_a_subscription_brings_quotes_on_the_stream_with_their_labels(world: World) -> None:
    with world.client("reader") as client:
        stream = client.pushes()
        assert yes(client.ask(SUBSCRIBE, subscription())).ret_type == 0
        first = next(stream)
        world.sandbox.set_price("HK.00700", "401.4")
        price = 0.0
        while price != 401.4:
            event = next(stream)
            push = message_class("Qot_UpdateBasicQot.Response").FromString(event.body)
            price = push.s2c.basicQotList[0].curPrice
        for seen in (first, event):
            assert (seen.proto_id, seen.event_type, seen.sec_key, seen.sub_type) == (3005, "quote", "HK.00700", 1)
        stream.cancel()


def order_pushed(event: Any) -> int:
    return int(message_class("Trd_UpdateOrder.Response").FromString(event.body).s2c.order.orderID)  # type: ignore[attr-defined]


def test_orders_show_on_the_stream_of_their_own_key_alone(world: World) -> None:
    with world.client("leaving") as mine, world.client("quiet") as others:
        ours, theirs = mine.pushes(), others.pushes()
        for client in (mine, others):
            yes(client.ask(SUB_ACC_PUSH, request_of(SUB_ACC_PUSH, accIDList=[PAPER_HK])))
        placed = yes(mine.ask(PLACE_ORDER, order())).message.s2c.orderID
        event = next(event for event in ours if event.proto_id == 2208 and order_pushed(event) == placed)
        assert (event.event_type, event.sec_key, event.acc_id) == ("trade", "HK.00700", PAPER_HK)
        # the other key trades on the same account without acc:read: the first it sees is its own
        own = yes(others.ask(PLACE_ORDER, order(price=398.0))).message.s2c.orderID
        assert order_pushed(next(theirs)) == own
        ours.cancel()
        theirs.cancel()


def test_a_deadline_ends_the_call_and_says_to_look_at_the_order_list(world: World) -> None:
    world.sandbox.delays[GLOBAL_STATE] = 2.0
    try:
        with world.client("reader") as client:
            started = time.monotonic()
            answer = no(client.ask(GLOBAL_STATE, global_state(), timeout=0.3))
            assert answer.status == "DEADLINE_EXCEEDED"
            assert time.monotonic() - started < 1.5
    finally:
        world.sandbox.delays.clear()


def test_an_order_that_was_sent_is_settled_though_its_call_met_its_deadline(world: World) -> None:
    world.sandbox.delays[PLACE_ORDER] = 0.6
    try:
        with world.client() as client:
            answer = no(client.ask(PLACE_ORDER, order(price=397.0), timeout=0.3))
        assert answer.status == "DEADLINE_EXCEEDED"
        allowed = world.sidecar.wait_audit(iface="grpc", outcome="allow", price=397)
        world.sidecar.wait_audit(outcome="success", decision_id=allowed["decision_id"])
    finally:
        world.sandbox.delays.clear()


def test_a_client_that_cancels_while_its_order_waits_for_a_price_sends_none(world: World) -> None:
    orders = len(world.sandbox.orders())
    world.sandbox.delays[3203] = world.sandbox.delays[3202] = 1.0
    try:
        with world.client() as client:
            asked = len(world.sandbox.received(3202)) + len(world.sandbox.received(3203))
            selling = order(code="00005", price=60.0, qty=400)
            selling.c2s.trdSide = 2
            call = client.start(PLACE_ORDER, selling.SerializePartialToString())
            eventually(lambda: len(world.sandbox.received(3202)) + len(world.sandbox.received(3203)) > asked)
            call.cancel()
            line = world.sidecar.wait_audit(iface="grpc", reason="client_gone")
            assert line["symbol"] == "HK.00005"
        assert len(world.sandbox.orders()) == orders
    finally:
        world.sandbox.delays.clear()


def test_large_and_compressed_messages_are_refused_by_name(world: World) -> None:
    with world.client() as client:
        # over the limit, though the body would be cut off anyway
        large = no(client.send(GLOBAL_STATE, bytes(4 * 1024 * 1024 + 1000)))
        fits = no(client.send(GLOBAL_STATE, bytes(4 * 1024 * 1024)))
        zipped = client.stub.Request.future(
            client.pb.FutuRequest(proto_id=GLOBAL_STATE, body=bytes(5000)), metadata=client.metadata,
            compression=client.grpc.Compression.Gzip,
        )  # fmt: skip
        assert zipped.code().name == "UNIMPLEMENTED"
        assert "compressed" in zipped.details()
        yes(client.ask(GLOBAL_STATE, global_state()))
    assert large.code == "body_too_large"
    assert "4194368" in large.text
    assert fits.code == "malformed_request"


def test_the_lines_of_the_page_on_grpc_print_a_price_and_then_pushes(world: World) -> None:
    lines = block("docs/listeners/grpc.md", "python")
    lines = lines.replace("127.0.0.1:33333", f"127.0.0.1:{world.sidecar.doors['grpc']}")
    lines = lines.replace("fc_…", world.keys["reader"])
    pb, _ = stubs()
    folders = f"{Path(pb.__file__).parent}{os.pathsep}{pb_folder()}"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", lines],
        env={**os.environ, "PYTHONPATH": folders},
        stdout=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdout is not None
        try:
            assert float(script.stdout.readline()) > 100
            with world.client("reader") as client:
                # the stream of the script may not stand yet: prices move until it has seen one
                yes(client.ask(SUBSCRIBE, subscription()))
                seen = threading.Event()
                mover = threading.Thread(target=move_prices, args=(world, seen))
                mover.start()
                line = script.stdout.readline()
                seen.set()
                mover.join(5)
            assert line == "quote HK.00700\n"
        finally:
            script.kill()


def move_prices(world: World, enough: threading.Event) -> None:
    for number in range(200):
        world.sandbox.set_price("HK.00700", f"{400 + number % 2 * 0.2:.1f}")
        if enough.wait(0.05):
            return


REFLECTION = """
import sys, grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
told = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(sys.argv[1]))
print(*sorted(told.get_services()))
pool = DescriptorPool(told)
service = pool.FindServiceByName("futu.service.FutuOpenD")
print(*(method.name for method in service.methods))
print(*(field.name for field in service.methods[0].input_type.fields))
print(*(method.name for method in pool.FindServiceByName("grpc.health.v1.Health").methods))
"""

HEALTH = """
import sys, grpc
from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc
health = health_pb2_grpc.HealthStub(grpc.insecure_channel(sys.argv[1]))
for service in ("", "futu.service.FutuOpenD"):
    print(pb.HealthCheckResponse.ServingStatus.Name(health.Check(pb.HealthCheckRequest(service=service)).status))
print(pb.HealthCheckResponse.ServingStatus.Name(next(iter(health.Watch(pb.HealthCheckRequest()))).status))
try:
    health.Check(pb.HealthCheckRequest(service="nobody"))
except grpc.RpcError as error:
    print(error.code().name)
"""


def said_by(script: str, world: World) -> list[str]:
    """In a process of its own: grpcio's and grpclib's copies of these protocols do not fit into one."""
    target = f"127.0.0.1:{world.sidecar.doors['grpc']}"
    run = subprocess.run([sys.executable, "-c", script, target], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_reflection_tells_the_service_without_a_key(world: World) -> None:
    assert said_by(REFLECTION, world) == [
        "futu.service.FutuOpenD grpc.health.v1.Health", "Request SubscribePush", "proto_id body", "Check Watch",
    ]  # fmt: skip


def test_health_is_told_without_a_key(world: World) -> None:
    assert said_by(HEALTH, world) == ["SERVING", "SERVING", "SERVING", "NOT_FOUND"]


def test_many_callers_on_one_channel_are_each_answered_with_their_own(world: World) -> None:
    with world.client("reader") as client, ThreadPoolExecutor(32) as pool:

        def ask(number: int) -> bool:
            code = ("00700", "00005", "09988")[number % 3]
            request = request_of(3203)
            security = request.c2s.securityList.add()
            security.market, security.code = 1, code
            answer = yes(client.ask(3203, request))
            return bool(answer.message.s2c.snapshotList[0].basic.security.code == code)

        # OpenD takes 60 snapshots in 30 s from everybody, of which 20 are kept for judging orders
        assert all(pool.map(ask, range(32)))


def test_a_revoked_key_ends_its_stream_within_a_second(world: World) -> None:
    with world.client("leaving") as client:
        stream = client.pushes()
        ended: list[tuple[float, No]] = []
        listener = threading.Thread(target=lambda: ended.append((time.monotonic(), client.end_of(stream))))
        world.stage.keys.change("leaving", allowed_machines=[])
        world.sidecar.hangup()
        started = time.monotonic()
        listener.start()
        listener.join(5)
    (_, answer), took = ended[0], time.monotonic() - started
    assert (answer.status, answer.code) == ("UNAUTHENTICATED", "key_frozen")
    assert answer.text.startswith("[sidecar:key_frozen]")
    assert took < 1.0


def test_nothing_of_all_this_left_a_traceback_or_a_key_in_the_log(world: World) -> None:
    text = world.sidecar.log_text()
    assert "Traceback" not in text
    assert "exception" not in text.lower()
    for key in world.keys.values():
        assert key not in text
        assert key not in world.sidecar.audit_file.read_text()
