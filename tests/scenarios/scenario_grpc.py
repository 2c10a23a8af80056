"""The gRPC door: `futu.service.FutuOpenD`, its messages written down a second time (see scenario_messages)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import ClassVar

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError
from scenarios.scenario_doors import DOORS, Answer, Client, ClientGone, answered, protobuf_body, understood
from scenarios.scenario_messages import FutuRequest, FutuResponse, PushEvent, SubscribePushRequest
from scenarios.scenario_table import Ask

SERVICE = "/futu.service.FutuOpenD"


class GrpcClient:
    refused: Answer | None = None

    def __init__(self, port: int, key: str | None) -> None:
        self._channel = Channel("127.0.0.1", port)
        self._metadata = {} if key is None else {"authorization": f"Bearer {key}"}
        self._request = UnaryUnaryMethod(self._channel, f"{SERVICE}/Request", FutuRequest, FutuResponse)
        self.pushes = UnaryStreamMethod(self._channel, f"{SERVICE}/SubscribePush", SubscribePushRequest, PushEvent)

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._metadata)

    async def ask(self, ask: Ask) -> Answer:
        metadata = self.metadata
        if "idempotency_key" in ask.extras:
            metadata["idempotency-key"] = ask.extras["idempotency_key"]
        if ask.extras.get("dry_run"):
            metadata["dry-run"] = "true"
        request = FutuRequest(proto_id=ask.proto_id, body=protobuf_body(ask))
        try:
            reply = await self._request(request, metadata=metadata, timeout=10)
        except GRPCError as error:
            code, message, decision_id = understood(error.message or "")
            return Answer(code, message, decision_id, native=error.status)
        except (StreamTerminatedError, ConnectionError) as error:
            raise ClientGone(str(error)) from None
        if ask.extras.get("dry_run"):
            assert reply.body == b""
            code, message, _ = understood(reply.ret_msg.removesuffix(" (dry run)"))
            return Answer(code, message, response=SimpleNamespace(retType=0, tree={"dry_run": True}))
        answer = answered(reply.proto_id, reply.body, native=None)
        assert (reply.proto_id, reply.ret_type) == (ask.proto_id, answer.response.retType)
        assert answer.code is None, "a refusal of the sidecar is a status"
        return answer

    async def leave(self) -> None:
        self._channel.close()
        await asyncio.sleep(0)

    async def close(self) -> None:
        self._channel.close()


@DOORS.add
class Grpc:
    name: ClassVar[str] = "grpc"
    listener: ClassVar[str] = "grpc"
    iface: ClassVar[str] = "grpc"

    async def connect(self, port: int, key: str | None) -> Client:
        return GrpcClient(port, key)
