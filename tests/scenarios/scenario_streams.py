"""Who listens to pushes through each streaming door: what arrived, and when and why it ended. Expects nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from grpclib.exceptions import GRPCError, StreamTerminatedError
from live import LiveApp, LiveSidecar
from scenarios.scenario_clients import Clients, at_every_door
from scenarios.scenario_frames import Conversation
from scenarios.scenario_grpc import GrpcClient
from scenarios.scenario_messages import SubscribePushRequest
from scenarios.scenario_websocket import WebSocketClient

from sidecar.wire.catalog import CATALOG
from sidecar.wire.messages import message_class

STREAMING = ("tcp", "ws-frames", "ws-js", "rest", "grpc")
ORDER, FILL, QUOTE = 2208, 2218, 3005


@dataclass
class Ear:
    """One stream. `pushes`: (proto id, Response, time.monotonic when it came)."""

    door: str
    pushes: list[tuple[int, Any, float]] = field(default_factory=list)
    ended_at: float | None = None
    reason: str = ""

    def heard(self, proto_id: int, body: bytes) -> None:
        message = message_class(CATALOG[proto_id].response or "").FromString(body)
        self.pushes.append((proto_id, message, time.monotonic()))

    def ended(self, reason: str) -> None:
        if self.ended_at is None:
            self.ended_at, self.reason = time.monotonic(), reason

    # -- what it heard --------------------------------------------------------------------------------------------

    def of(self, *proto_ids: int) -> list[Any]:
        return [message for proto_id, message, _ in self.pushes if proto_id in proto_ids]

    def accounts(self) -> set[int]:
        return {message.s2c.header.accID for message in self.of(ORDER, FILL)}

    def orders(self) -> set[str]:
        return {message.s2c.order.orderIDEx for message in self.of(ORDER)}

    def filled(self) -> set[str]:
        return {message.s2c.orderFill.orderIDEx for message in self.of(FILL)}

    def quoted(self) -> set[str]:
        return {one.security.code for message in self.of(QUOTE) for one in message.s2c.basicQotList}


@dataclass
class Listening:
    """A key's clients at every door, and its ears at the streaming ones."""

    clients: Clients
    ears: dict[str, Ear]


@contextlib.asynccontextmanager
async def listening(sidecar: LiveSidecar | LiveApp, key: str) -> AsyncIterator[Listening]:
    async with contextlib.AsyncExitStack() as ends, at_every_door(sidecar, key) as clients:
        ears = {door: Ear(door) for door in STREAMING}
        group = await ends.enter_async_context(_ending())
        for door in ("tcp", "ws-frames", "ws-js"):
            conversation = clients[door]
            assert isinstance(conversation, Conversation)
            group.append(_follow(conversation, ears[door]))
        group.append(await _follow_rest(sidecar.doors["rest"], key, ears["rest"], ends))
        grpc = clients["grpc"]
        assert isinstance(grpc, GrpcClient)
        group.append(await _follow_grpc(grpc, ears["grpc"], ends))
        yield Listening(clients, ears)


@contextlib.asynccontextmanager
async def _ending() -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def _follow(conversation: Conversation, ear: Ear) -> asyncio.Task[None]:
    conversation.on_push = ear.heard

    async def until_it_ends() -> None:
        await conversation.ended.wait()
        closed = conversation.closed_with if isinstance(conversation, WebSocketClient) else None
        ear.ended(closed[1] if closed is not None else "")

    return asyncio.get_running_loop().create_task(until_it_ends())


async def _follow_rest(port: int, key: str, ear: Ear, ends: contextlib.AsyncExitStack) -> asyncio.Task[None]:
    session = await ends.enter_async_context(aiohttp.ClientSession())
    socket = await session.ws_connect(f"ws://127.0.0.1:{port}/ws", headers={"Authorization": f"Bearer {key}"})

    async def read() -> None:
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                ear.ended(str(message.extra or ""))
                return
            push = json.loads(message.data)
            ear.heard(push["proto_id"], base64.b64decode(push["body_b64"]))

    return asyncio.get_running_loop().create_task(read())


async def _follow_grpc(client: GrpcClient, ear: Ear, ends: contextlib.AsyncExitStack) -> asyncio.Task[None]:
    begun = asyncio.Event()

    async def read() -> None:
        try:
            async with client.pushes.open(metadata=client.metadata) as stream:
                await stream.send_message(SubscribePushRequest(), end=True)
                await stream.recv_initial_metadata()
                begun.set()
                async for event in stream:
                    ear.heard(event.proto_id, event.body)
            ear.ended("")
        except GRPCError as error:
            ear.ended(error.message or "")
        except StreamTerminatedError as error:
            ear.ended(str(error))

    task = asyncio.get_running_loop().create_task(read())
    waiting = asyncio.get_running_loop().create_task(begun.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    waiting.cancel()
    assert begun.is_set(), f"the stream of gRPC did not begin: {ear.reason}"
    return task
