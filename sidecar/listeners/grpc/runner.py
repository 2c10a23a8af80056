"""Runs the gRPC calls of one connection: which method, what deadline, what status. Judges no request.

grpclib's own runner is not used: it prints a traceback for what clients send wrong, and leaves some calls without an
answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import structlog
from grpclib.const import Cardinality, Handler, Status
from grpclib.metadata import decode_metadata
from grpclib.protocol import AbstractHandler
from grpclib.protocol import Stream as H2Stream
from h2.exceptions import ProtocolError

from sidecar.asked import Refused
from sidecar.border import shown
from sidecar.listeners.grpc.call import Call, Denied, InHand, Unreadable
from sidecar.listeners.grpc.guard import GuardedConnection
from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Code, Refusal

log = structlog.get_logger()

Headers = list[tuple[str, str]]
Spawn = Callable[..., asyncio.Task[Any]]

_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_CONTENT_TYPE = re.compile(r"application/grpc(\+proto)?(;.*)?", re.DOTALL)

_UNKNOWN_METHOD = "unknown_method"
_NOT_GRPC = "not_grpc"
"""What the audit has for an endpoint where the client names none of ours."""

_LATE = "the call's deadline has passed; if it was an order, look at the order list before you repeat it"


class Front(Protocol):
    """Who records what could not even be understood."""

    def turn_away(self, call: Call, refusal: Refusal, endpoint: str) -> Refused:
        """The refusal as this client may read it: one without a good key is told that, and no more."""

    def refuse_anyone(self, address: str, refusal: Refusal, endpoint: str) -> Refused:
        """As `turn_away`, where no key is asked for."""


class Calls(AbstractHandler):
    """The calls of one connection."""

    def __init__(
        self, connection: GuardedConnection, methods: Mapping[str, Handler], front: Front, spawn: Spawn,
        patience: float, in_hand: int,
    ) -> None:  # fmt: skip
        """`patience` with clients without a key, in seconds; `in_hand`: bytes of large messages at one time."""
        self._connection = connection
        self._methods = methods
        self._front = front
        self._spawn = spawn
        self._patience = patience
        self._in_hand = InHand(in_hand)
        self._tasks: dict[H2Stream, asyncio.Task[Any]] = {}

    # -- AbstractHandler ------------------------------------------------------------------------------------------

    def accept(self, stream: H2Stream, headers: Headers, release_stream: Callable[[], None]) -> None:
        task = self._tasks[stream] = self._spawn(self._carry_out(stream, headers))
        self._connection.calls_open += 1
        # a task that is cancelled before it began runs no `finally` of its own
        task.add_done_callback(partial(self._ended, stream, release_stream))

    def cancel(self, stream: H2Stream) -> None:
        task = self._tasks.get(stream)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in tuple(self._tasks.values()):
            task.cancel()

    def _ended(self, stream: H2Stream, release_stream: Callable[[], None], _task: asyncio.Task[Any]) -> None:
        self._tasks.pop(stream, None)
        with contextlib.suppress(ProtocolError):
            release_stream()
        self._connection.calls_open -= 1
        self._connection.call_ended()

    # -- one call -------------------------------------------------------------------------------------------------

    async def _carry_out(self, stream: H2Stream, headers: Headers) -> None:
        fields = dict(headers)
        path = fields.get(":path", "")
        method = self._methods.get(path)
        call = Call(
            stream,
            path,
            method or _NO_METHOD,
            decode_metadata(_readable(headers)),
            self._connection,
            self._in_hand,
            self._patience,
        )
        try:
            if not await self._is_grpc(call, stream, fields):
                return
            if method is None:
                unknown = Refusal(Code.UNKNOWN_REQUEST, f"{shown(path)} is not a method of this server")
                raise Denied(self._front.turn_away(call, unknown, _UNKNOWN_METHOD))
            await self._within_deadline(call, path, method, fields.get("grpc-timeout"))
        except Unreadable as error:
            refused = self._front.refuse_anyone(call.address, error.refusal, path)
            await self._last_word(call, refused, error.status or NATIVE[refused.code].grpc)
        except Denied as denied:
            await self._last_word(call, denied.refused, denied.status)
        except Exception as error:
            if self._is_over(stream, error):
                return
            log.exception("a gRPC call failed", method=path)
            with contextlib.suppress(Exception):
                await call.end(Status.INTERNAL, "the sidecar failed; its log says how")
        finally:
            call.forget()

    async def _within_deadline(self, call: Call, path: str, method: Handler, timeout: str | None) -> None:
        seconds = None
        if timeout is not None:
            match = _TIMEOUT.fullmatch(timeout)
            if match is None:
                malformed = Refusal(Code.MALFORMED_REQUEST, f"{shown(timeout)} is not a grpc-timeout")
                raise Denied(self._front.turn_away(call, malformed, path))
            seconds = int(match[1]) * _UNITS[match[2]]
        try:
            async with asyncio.timeout(seconds) as deadline:
                await method.func(call)
                await call.end(Status.OK, None)
        except TimeoutError:
            if not deadline.expired():
                raise
            await call.end(Status.DEADLINE_EXCEEDED, _LATE)

    async def _is_grpc(self, call: Call, stream: H2Stream, fields: dict[str, str]) -> bool:
        if fields.get(":method") != "POST":
            status, text = 405, "gRPC calls are POST requests"
        elif not _CONTENT_TYPE.fullmatch(fields.get("content-type", "")):
            status, text = 415, "the content type of gRPC is `application/grpc`"
        else:
            return True
        refused = self._front.turn_away(call, Refusal(Code.MALFORMED_REQUEST, text), _NOT_GRPC)
        grpc_status = str(NATIVE[refused.code].grpc.value)
        answer = [(":status", str(status)), ("grpc-status", grpc_status), ("grpc-message", _ascii(refused.text))]
        await stream.send_headers(answer, end_stream=True)
        if stream.closable:
            stream.reset_nowait()
        return False

    async def _last_word(self, call: Call, refused: Refused, status: Status) -> None:
        try:
            await call.deny(refused, status)
        except Exception as error:
            if not self._is_over(call._stream, error):
                raise

    def _is_over(self, stream: H2Stream, error: Exception) -> bool:
        """Whether it failed because the client has left, which is nobody's fault."""
        return isinstance(error, ProtocolError) or stream.connection.is_closing() or not stream.closable


async def _nothing(_call: Any) -> None: ...


_NO_METHOD = Handler(_nothing, Cardinality.UNARY_STREAM, None, None)


def _readable(headers: Headers) -> Headers:
    """SECURITY: binary metadata is not ours, and grpclib raises where it is not base64."""
    return [(name, value) for name, value in headers if not name.endswith("-bin")]


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
