"""One gRPC call as the services see it: its metadata, its messages within their bounds, its end. Judges no request."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from grpclib.const import Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.protocol import Stream as H2Stream
from grpclib.server import Stream

from sidecar.asked import Refused
from sidecar.listeners.grpc.guard import GuardedConnection
from sidecar.listeners.refusals import NATIVE, retry_after
from sidecar.policy.decision import Code, Refusal

SMALL_MESSAGE = 64 * 1024
"""Bytes: the largest message of a client that has shown no good key, and of the services that ask for none."""

_PREFIX = struct.Struct(">BI")
_TEXT_MOST = 1024
_CODEC = ProtoCodec()
_DISPATCH = _DispatchServerEvents()


class Unreadable(Exception):
    """What came cannot be made a request of. `status` where it is not the usual one of the refusal's code."""

    def __init__(self, refusal: Refusal, status: Status | None = None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.status = status


class Denied(Exception):
    """The call ends with a refusal that was recorded."""

    def __init__(self, refused: Refused, status: Status | None = None) -> None:
        super().__init__(refused.text)
        self.refused = refused
        self.status = status or NATIVE[refused.code].grpc


class InHand:
    """Bytes of large messages that one connection may have in hand; whoever finds no room for one waits, unread."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, size: int) -> None:
        while self._used and self._used + size > self._bound:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._used += size

    def give_back(self, size: int) -> None:
        self._used -= size
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)


class Call(Stream[Any, Any]):
    """A call as the services see it. Its messages are bounded by `largest` bytes, and by `patience` seconds each."""

    def __init__(
        self,
        stream: H2Stream,
        method: str,
        handler: Handler,
        metadata: Any,
        connection: GuardedConnection,
        in_hand: InHand,
        patience: float,
    ) -> None:
        super().__init__(
            stream, method, handler.cardinality, handler.request_type, handler.reply_type,
            codec=_CODEC, status_details_codec=None, dispatch=_DISPATCH,
        )  # fmt: skip
        self.metadata = metadata
        self.connection = connection
        self.largest = SMALL_MESSAGE
        self.patience = patience
        self._in_hand = in_hand
        self._held = 0

    @property
    def address(self) -> str:
        return self.connection.address

    def texts(self, name: str) -> list[str]:
        """Every value of the client's metadata of this name."""
        return [] if self.metadata is None else [str(value) for value in self.metadata.getall(name, ())]

    async def recv_message(self) -> Any:
        """The client's next message; None when a stream of them has ended, or goes on too late. Raises Unreadable."""
        begun = False
        try:
            async with asyncio.timeout(self.patience):
                prefix = await self._stream.recv_data(_PREFIX.size)
                if not prefix and self._cardinality.client_streaming:
                    return None
                if not prefix:
                    raise Unreadable(Refusal(Code.MALFORMED_REQUEST, "the call has no message"))
                begun = True
                compressed, size = _PREFIX.unpack(prefix)
                if compressed:
                    text = "the message is compressed, which is not supported; send it as it is"
                    raise Unreadable(Refusal(Code.MALFORMED_REQUEST, text), Status.UNIMPLEMENTED)
                if size > self.largest:
                    # SECURITY: before a byte of it is waited for
                    text = f"the message is {size} bytes long, the limit is {self.largest}"
                    raise Unreadable(Refusal(Code.BODY_TOO_LARGE, text))
                if size > SMALL_MESSAGE:
                    await self._in_hand.take(size)
                    self._held += size
                data = await self._stream.recv_data(size)
        except TimeoutError:
            if self._cardinality.client_streaming and not begun:
                return None
            text = f"the message did not come within {self.patience:g} s"
            raise Unreadable(Refusal(Code.MALFORMED_REQUEST, text), Status.DEADLINE_EXCEEDED) from None
        except AssertionError:  # how grpclib says that the stream ended
            raise Unreadable(Refusal(Code.MALFORMED_REQUEST, "the message ends too early")) from None
        if len(data) != size:
            raise Unreadable(Refusal(Code.MALFORMED_REQUEST, "the message ends too early"))
        try:
            return self._recv_type.FromString(data)
        except DecodeError:
            text = f"the message is not a `{self._recv_type.DESCRIPTOR.full_name}`"
            raise Unreadable(Refusal(Code.MALFORMED_REQUEST, text)) from None

    async def end(self, status: Status, text: str | None, metadata: Mapping[str, str] | None = None) -> None:
        """The status that ends it, unless one has been sent."""
        if not self._send_trailing_metadata_done and not self._cancel_done:
            said = None if text is None else text[:_TEXT_MOST]
            await self.send_trailing_metadata(status=status, status_message=said, metadata=dict(metadata or {}))

    async def deny(self, refused: Refused, status: Status) -> None:
        metadata = {"sidecar-code": refused.code.value}
        if refused.decision_id:
            metadata["sidecar-decision-id"] = refused.decision_id
        wait = retry_after(refused)
        if wait is not None:
            metadata["retry-after"] = str(wait)
        await self.end(status, refused.text, metadata)

    def forget(self) -> None:
        """It is over: what it held is free."""
        if self._held:
            self._in_hand.give_back(self._held)
            self._held = 0
