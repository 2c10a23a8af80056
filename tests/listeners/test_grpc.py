"""The gRPC door met by grpclib's own client, and its parts by themselves. The sidecar runs on asyncio's own loop here."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpcio_client import GLOBAL_STATE, PLACE_ORDER, PROTO, SUBSCRIBE, global_state, order, subscription
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from live import LiveApp, LiveSandbox, Stage, eventually
from real_parts import need

from sidecar.app import App
from sidecar.asked import Refused
from sidecar.desks import Desks
from sidecar.listeners.grpc.call import InHand
from sidecar.listeners.grpc.flood import Allowance
from sidecar.listeners.grpc.messages import POOL, FutuRequest, FutuResponse, PushEvent, SubscribePushRequest
from sidecar.policy.decision import Code
from sidecar.wire.messages import message_class

HERE = {"websocket": "off", "rest": "off", "mcp": "off"}


class World:
    def __init__(self, stage: Stage) -> None:
        self.key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate", max_order_value=50_000)
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.live: LiveApp = stage.app(self.sandbox.port, listeners=HERE)

    @property
    def app(self) -> App:
        return self.live.app

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        channel = Channel("127.0.0.1", self.live.doors["grpc"])
        try:
            yield channel
        finally:
            channel.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Stage(tmp_path_factory.mktemp("grpc")) as stage:
        yield World(stage)


def request_method(channel: Channel) -> Any:
    return UnaryUnaryMethod(channel, "/futu.service.FutuOpenD/Request", FutuRequest, FutuResponse)


def push_method(channel: Channel) -> Any:
    return UnaryStreamMethod(channel, "/futu.service.FutuOpenD/SubscribePush", SubscribePushRequest, PushEvent)


def asking(proto_id: int, message: Any) -> Any:
    return FutuRequest(proto_id=proto_id, body=message.SerializePartialToString())


async def test_a_read_an_order_and_a_refusal(world: World) -> None:
    async with world.channel() as channel:
        ask = request_method(channel)
        state = await ask(asking(GLOBAL_STATE, global_state()), metadata=world.headers)
        assert (state.ret_type, state.proto_id) == (0, GLOBAL_STATE)
        assert message_class("GetGlobalState.Response").FromString(state.body).s2c.qotLogined  # type: ignore[attr-defined]
        placed = await ask(asking(PLACE_ORDER, order()), metadata=world.headers)
        assert placed.ret_type == 0
        with pytest.raises(GRPCError) as refused:
            await ask(asking(PLACE_ORDER, order(qty=300)), metadata=world.headers)
    assert refused.value.status is Status.PERMISSION_DENIED
    assert str(refused.value.message).startswith("[sidecar:order_value]")


async def test_pushes_come_while_calls_are_made_on_the_same_connection(world: World) -> None:
    async with world.channel() as channel, push_method(channel).open(metadata=world.headers) as stream:
        await stream.send_message(SubscribePushRequest(), end=True)
        await stream.recv_initial_metadata()
        await request_method(channel)(asking(SUBSCRIBE, subscription()), metadata=world.headers)
        event = await asyncio.wait_for(stream.recv_message(), 5)
        assert (event.event_type, event.sec_key, event.sub_type) == ("quote", "HK.00700", 1)
        await stream.cancel()
    eventually(lambda: not any(desk.streams for desk in world.app.desks._desks.values()), 5, "the stream to be gone")


async def test_every_kind_of_refusal_has_the_status_of_its_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = {
        Code.KEY_REVOKED: Status.UNAUTHENTICATED,
        Code.UNKNOWN_REQUEST: Status.UNIMPLEMENTED,
        Code.UNKNOWN_FIELD: Status.INVALID_ARGUMENT,
        Code.IDEMPOTENCY_CONFLICT: Status.INVALID_ARGUMENT,
        Code.SCOPE: Status.PERMISSION_DENIED,
        Code.NOT_OWN_ORDER: Status.PERMISSION_DENIED,
        Code.HOURS: Status.PERMISSION_DENIED,
        Code.PRICE_UNAVAILABLE: Status.FAILED_PRECONDITION,
        Code.DAILY_VALUE: Status.RESOURCE_EXHAUSTED,
        Code.CLOCK: Status.UNAVAILABLE,
        Code.UPSTREAM_FULL: Status.UNAVAILABLE,
    }
    async with world.channel() as channel:
        ask = request_method(channel)
        for code, status in statuses.items():
            refused = Refused(code, f"[sidecar:{code.value}] täxt\n100 %", retry_after=7, decision_id="D1")

            async def answer(*_: Any, refused: Refused = refused, **__: Any) -> Refused:
                return refused

            monkeypatch.setattr(world.app.desks, "ask", answer)
            async with ask.open(metadata=world.headers) as call:
                await call.send_message(asking(GLOBAL_STATE, global_state()), end=True)
                with pytest.raises(GRPCError) as failed:
                    await call.recv_initial_metadata()
            assert failed.value.status is status, code
            assert failed.value.message == refused.text
            assert call.trailing_metadata["sidecar-code"] == code.value
            assert call.trailing_metadata["sidecar-decision-id"] == "D1"
            assert call.trailing_metadata["retry-after"] == "7"


async def test_of_an_order_whose_outcome_is_unknown_no_repeat_is_suggested(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: Any, **__: Any) -> Refused:
        return Refused(Code.UPSTREAM_UNAVAILABLE, "gone", retry_after=7, unknown=True)

    monkeypatch.setattr(world.app.desks, "ask", answer)
    async with world.channel() as channel, request_method(channel).open(metadata=world.headers) as call:
        await call.send_message(asking(GLOBAL_STATE, global_state()), end=True)
        with pytest.raises(GRPCError):
            await call.recv_initial_metadata()
        assert "retry-after" not in call.trailing_metadata


async def test_a_mistake_of_our_own_is_internal_and_says_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a secret detail")

    monkeypatch.setattr(world.app.desks, "ask", broken)
    async with world.channel() as channel:
        with pytest.raises(GRPCError) as failed:
            await request_method(channel)(asking(GLOBAL_STATE, global_state()), metadata=world.headers)
    assert failed.value.status is Status.INTERNAL
    assert "secret" not in str(failed.value.message)


async def test_the_stream_of_a_key_that_has_too_many_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any, **__: Any) -> Refused:
        return Refused(Code.UPSTREAM_FULL, "[sidecar:upstream_full] close some")

    monkeypatch.setattr(Desks, "listen", full)
    async with world.channel() as channel:
        with pytest.raises(GRPCError) as failed:
            await push_method(channel)(SubscribePushRequest(), metadata=world.headers)
    assert failed.value.status is Status.UNAVAILABLE


def test_the_messages_are_those_of_the_shipped_file(tmp_path: Any) -> None:
    need("grpcio", importlib.util.find_spec("grpc_tools") is not None)
    from grpc_tools import protoc

    out = tmp_path / "set"
    assert protoc.main(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={out}", PROTO.name]) == 0
    compiled = FileDescriptorSet.FromString(out.read_bytes()).file[0]
    ours = type(compiled).FromString(POOL.FindFileByName("futu_service.proto").serialized_pb)
    for message in (*compiled.message_type, *ours.message_type):
        for field in message.field:
            field.ClearField("json_name")
    assert ours == compiled


def test_an_allowance_fills_up_again_but_not_over_its_most() -> None:
    allowance = Allowance(10, 5, 0.0)
    assert allowance.take(10, 0.0)
    assert not allowance.take(1, 0.1)
    assert allowance.take(4, 1.0)
    assert allowance.take(10, 100.0)
    assert not allowance.take(1, 100.0)


async def test_large_messages_wait_for_room_and_a_waiter_who_leaves_is_passed_over() -> None:
    in_hand = InHand(100)
    await in_hand.take(250)  # alone, one of any size may come in
    entered: list[str] = []

    async def enter(name: str, size: int) -> None:
        await in_hand.take(size)
        entered.append(name)

    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(enter("leaving", 10))
        first = group.create_task(enter("first", 60))
        group.create_task(enter("second", 60))
        await asyncio.sleep(0)
        leaving.cancel()
        in_hand.give_back(250)
        await first
        await asyncio.sleep(0)
        assert entered == ["first"]
        in_hand.give_back(60)
    assert entered == ["first", "second"]
