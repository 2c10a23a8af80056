"""`futu.service.FutuOpenD`: OpenD's requests and pushes as gRPC messages. Judges nothing itself; the desks do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from grpclib.const import Cardinality, Handler, Status

from sidecar.asked import Refused
from sidecar.desks import Desks, Reply
from sidecar.errors import BodyError
from sidecar.grants import Caller
from sidecar.listeners.bearer import identified
from sidecar.listeners.grpc.call import Call, Denied, Unreadable
from sidecar.listeners.grpc.guard import IFACE
from sidecar.listeners.grpc.messages import SERVICE, FutuRequest, FutuResponse, PushEvent, SubscribePushRequest
from sidecar.listeners.outbox import Outbox
from sidecar.listeners.push_event import describe
from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Code, Decision, Refusal
from sidecar.settings import Limits
from sidecar.wire import body, replies
from sidecar.wire.body import Prepare
from sidecar.wire.catalog import CATALOG, Row
from sidecar.wire.frame import PROTOBUF
from sidecar.wire.messages import message_class

log = structlog.get_logger()

_ENVELOPE = 64
"""Bytes of a PushEvent around the push itself, roughly."""


class FutuOpenD:
    def __init__(self, desks: Desks, limits: Limits) -> None:
        self._desks = desks
        self._gate = desks.gate
        self._limits = limits

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            f"/{SERVICE}/Request": Handler(self._request, Cardinality.UNARY_UNARY, FutuRequest, FutuResponse),
            f"/{SERVICE}/SubscribePush": Handler(
                self._subscribe_push, Cardinality.UNARY_STREAM, SubscribePushRequest, PushEvent
            ),
        }

    # -- Front ----------------------------------------------------------------------------------------------------

    def turn_away(self, call: Call, refusal: Refusal, endpoint: str) -> Refused:
        """The refusal as this client may read it: one without a good key is told that, and no more."""
        caller, bad_key = self._identify(call, endpoint)
        return self._gate.refuse(caller, None, 0, bad_key or refusal)

    def refuse_anyone(self, address: str, refusal: Refusal, endpoint: str) -> Refused:
        """As `turn_away`, where no key is asked for."""
        return self._gate.refuse(Caller(IFACE, None, address, endpoint=endpoint), None, 0, refusal)

    def _identify(self, call: Call, endpoint: str = "") -> tuple[Caller, Refusal | None]:
        """Who calls, and why its key is not good."""
        nobody = Caller(IFACE, None, call.address, endpoint=endpoint, certificate=call.connection.certificate)
        caller, none_shown = identified(self._gate.grants, nobody, call.texts("authorization"))
        if none_shown is not None:
            return caller, none_shown
        grant = self._gate.grants.of(caller)
        return caller, grant if isinstance(grant, Refusal) else None

    # -- Request --------------------------------------------------------------------------------------------------

    async def _request(self, call: Call) -> None:
        caller, bad_key = self._identify(call)
        if bad_key is not None:
            proto_id = await _asked_for(call)
            raise Denied(self._gate.refuse(caller, CATALOG.get(proto_id), proto_id, bad_key))
        request = await self._message(call, caller)
        proto_id = request.proto_id
        token = self._single(call, caller, proto_id, "idempotency-key")
        dry_run = self._single(call, caller, proto_id, "dry-run")
        read_body = partial(_read_body, request.body)
        if dry_run is not None:
            if dry_run != "true":
                raise self._malformed(caller, proto_id, "the metadata `dry-run` is `true` or absent")
            decision = await self._desks.rehearse(caller, proto_id, read_body)
            if isinstance(decision, Refused):
                raise Denied(decision)
            await self._answer(call, _rehearsed(proto_id, decision), {})
            return
        reply = await self._desks.ask(caller, proto_id, read_body, idempotency_key=token)
        if isinstance(reply, Refused):
            raise Denied(reply)
        metadata = {"sidecar-decision-id": reply.decision_id}
        if reply.replayed:
            metadata["idempotency-replayed"] = "true"
        await self._answer(call, _response(reply), metadata)

    async def _message(self, call: Call, caller: Caller) -> Any:
        """What a caller with a good key sends."""
        call.connection.is_stranger = False
        call.largest = self._limits.request_body + _ENVELOPE
        call.patience = self._limits.frame_timeout
        try:
            request = await call.recv_message()
        except Unreadable as error:
            raise Denied(self._gate.refuse(caller, None, 0, error.refusal), error.status) from None
        unknown = UnknownFieldSet(request)
        if len(unknown):
            # it may mean something to its sender, such as that nothing is to be done
            text = f"unknown field number `{unknown[0].field_number}` in `{request.DESCRIPTOR.full_name}`"
            raise Denied(self._gate.refuse(caller, None, 0, Refusal(Code.UNKNOWN_FIELD, text)))
        return request

    def _single(self, call: Call, caller: Caller, proto_id: int, name: str) -> str | None:
        """The metadata of this name, which a client must not give twice."""
        values = call.texts(name)
        if len(values) > 1:
            raise self._malformed(caller, proto_id, f"the metadata `{name}` is given twice")
        return values[0] if values else None

    def _malformed(self, caller: Caller, proto_id: int, text: str) -> Denied:
        refusal = Refusal(Code.MALFORMED_REQUEST, text)
        return Denied(self._gate.refuse(caller, CATALOG.get(proto_id), proto_id, refusal))

    async def _answer(self, call: Call, response: Any, metadata: dict[str, str]) -> None:
        try:
            async with asyncio.timeout(self._limits.frame_timeout):
                await call.send_initial_metadata(metadata=metadata)
                await call.send_message(response)
        except TimeoutError:
            await self._cut(call, f"the answer was not read within {self._limits.frame_timeout:g} s")

    # -- SubscribePush --------------------------------------------------------------------------------------------

    async def _subscribe_push(self, call: Call) -> None:
        caller, bad_key = self._identify(call, "SubscribePush")
        if bad_key is not None:
            raise Denied(self._gate.refuse(caller, None, 0, bad_key))
        call.connection.is_stranger = False
        try:
            await call.recv_message()
        except Unreadable as error:
            raise Denied(self._gate.refuse(caller, None, 0, error.refusal), error.status) from None
        feed = _Feed(self._limits.client_buffer, self._gate.metrics.pushes(IFACE))
        stream = await self._desks.listen(caller, feed.show, feed.end)
        if isinstance(stream, Refused):
            raise Denied(stream)
        try:
            await feed.send_all(call)
        finally:
            stream.close()
        if feed.too_slow:
            await self._cut(call, f"{self._limits.client_buffer} bytes of pushes are unread")
            return
        grant = self._gate.grants.of(caller)
        code = grant.code if isinstance(grant, Refusal) else Code.UPSTREAM_UNAVAILABLE
        await call.end(NATIVE[code].grpc, feed.reason, {"sidecar-code": code.value})

    async def _cut(self, call: Call, why: str) -> None:
        log.warning("a client reads too slowly and was cut", address=call.address, why=why)
        self._gate.metrics.client_cut("slow_client")
        await call.end(Status.RESOURCE_EXHAUSTED, f"[sidecar:slow_client] {why}", {"sidecar-code": "slow_client"})


class _Feed:
    """The pushes of one stream on their way to its client."""

    def __init__(self, bound: int, counter: Any) -> None:
        self._outbox: Outbox[Any] = Outbox(bound)
        self._counter = counter
        self._sending: asyncio.Timeout | None = None
        self.too_slow = False
        self.reason = ""

    def show(self, row: Row, response: bytes) -> None:
        if not self._outbox.put(_event(row, response), len(response) + _ENVELOPE):
            self.too_slow = True
            self._stop()

    def end(self, reason: str) -> None:
        self.reason = reason
        self._stop()

    def _stop(self) -> None:
        self._outbox.close(discard=True)
        if self._sending is not None and not self._sending.expired():
            self._sending.reschedule(0)  # now: the sender may hang over a client that does not read

    async def send_all(self, call: Call) -> None:
        """Until the end of the stream."""
        try:
            async with asyncio.timeout(None) as self._sending:
                if self._outbox.closed:
                    return
                await call.send_initial_metadata()
                while waiting := await self._outbox.take():
                    for event in waiting:
                        await call.send_message(event)
                    self._counter.inc(len(waiting))
        except TimeoutError:
            pass
        finally:
            self._sending = None
            self._outbox.close(discard=True)


async def _asked_for(call: Call) -> int:
    """The number of what a client without a good key asks for, which only the audit wants to know; 0 where it says none."""
    try:
        return int((await call.recv_message()).proto_id)
    except Unreadable:
        return 0


def _read_body(raw: bytes, row: Row, prepare: Prepare) -> Message:
    message = body.parse_request(row, PROTOBUF, raw, prepare)
    if not message.IsInitialized():
        # what is not judged is not checked for it: over TCP OpenD itself answers
        missing = ", ".join(f"`{path}`" for path in message.FindInitializationErrors()[:5])  # type: ignore[attr-defined]
        text = f"the body is not a whole `{row.request}`: required fields are missing: {missing}"
        raise BodyError("malformed_request", text)
    if not row.judged and _is_another(message):
        raise BodyError("malformed_request", f"the body is not a `{row.request}`: its fields have other types")
    return message


def _is_another(message: Message) -> bool:
    """Whether a body is another message than the one it was read as: it has fields of the right number and a wrong type.

    Unknown numbers say nothing: the client's futu-api may be newer than ours. What is judged must have neither.
    """
    numbers = message.DESCRIPTOR.fields_by_number
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        if unknown[index].field_number in numbers:
            return True
    for field, value in message.ListFields():
        if field.message_type is not None:
            parts = (value,) if isinstance(value, Message) else value
            if any(_is_another(part) for part in parts if isinstance(part, Message)):
                return True
    return False


def _response(reply: Reply) -> Any:
    """SkillWrapAPI's and every other response begin with the same two fields."""
    said: Any = message_class(reply.row.response or "KeepAlive.Response").FromString(reply.body)
    return FutuResponse(ret_type=said.retType, ret_msg=said.retMsg, proto_id=reply.row.id, body=reply.body)


def _rehearsed(proto_id: int, decision: Decision) -> Any:
    refusal, worth = decision.refusal, decision.worth
    if refusal is not None:
        text = f"[sidecar:{refusal.code.value}] {refusal.message} (dry run)"
        return FutuResponse(ret_type=replies.FAILED, ret_msg=text, proto_id=proto_id)
    counts = "" if worth is None else f": {worth.explanation}"
    return FutuResponse(ret_type=0, ret_msg=f"this would be allowed{counts} (dry run)", proto_id=proto_id)


def _event(row: Row, response: bytes) -> Any:
    info = describe(row, response)
    return PushEvent(
        proto_id=row.id, sec_key=info.sec_key or "", sub_type=info.sub_type or 0, body=response, event_type=info.type,
        acc_id=info.acc_id or 0,
    )  # fmt: skip
