"""`GET /ws` of the REST door: the pushes of a key's session as JSON messages, from the sidecar to the client only."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import orjson
import structlog
from aiohttp import WSMsgType, web
from google.protobuf.message import DecodeError

from sidecar.asked import Refused
from sidecar.desk import Stream
from sidecar.desks import Desks
from sidecar.errors import BodyError
from sidecar.grants import Caller, Grant
from sidecar.listeners.bearer import bearer
from sidecar.listeners.entrance import certificate_of
from sidecar.listeners.outbox import Outbox
from sidecar.listeners.push_event import describe
from sidecar.listeners.rest import reply as rest_reply
from sidecar.listeners.rest.request import Rejected, malformed, printable
from sidecar.policy.decision import Code, Refusal
from sidecar.settings import Limits
from sidecar.wire import dialect
from sidecar.wire.catalog import Row
from sidecar.wire.messages import message_class

log = structlog.get_logger()

PATH = "/ws"
HEARTBEAT = 30.0
"""Seconds between pings; a client that does not answer one within half of that has gone."""

_IFACE = "rest"
_GOODBYE = 1.0
"""Seconds for the closing handshake."""
_LONGEST_REASON = 123
"""Bytes: what a close frame has room for."""
_GOING_AWAY, _NOT_ALLOWED = 1001, 1008
_MOST_HEARD = 1024
"""Bytes of one message from a client, which has nothing to say."""


class PushStreams:
    """Every open `/ws`. Serves on the event loop."""

    def __init__(self, desks: Desks, limits: Limits, allowed_origins: Collection[str]) -> None:
        self._desks = desks
        self._limits = limits
        self._allowed_origins = frozenset(allowed_origins)
        self._lines: set[_Line] = set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        gate = self._desks.gate
        address, certificate = request.remote or "local", certificate_of(request.transport)
        caller = Caller(_IFACE, None, address, endpoint=PATH, certificate=certificate)
        shown = _secret_of(request, certified=certificate is not None)
        if isinstance(shown, str):
            caller = replace(gate.grants.identify(_IFACE, shown, address, certificate), endpoint=PATH)
        elif certificate is not None and shown is None:
            caller = replace(gate.grants.identify_certificate(_IFACE, certificate, address), endpoint=PATH)
        wrong = self._wrong_with(request) or (shown if isinstance(shown, Rejected) else None)
        if wrong is not None:
            return rest_reply.of_refusal(gate.refuse(caller, None, 0, wrong.refusal), wrong.status)
        socket = web.WebSocketResponse(timeout=_GOODBYE, heartbeat=HEARTBEAT, compress=False, max_msg_size=_MOST_HEARD)
        if not socket.can_prepare(request) and isinstance(gate.grants.of(caller), Grant):
            no_upgrade = malformed("this is a WebSocket; ask for it with an upgrade")
            return rest_reply.of_refusal(gate.refuse(caller, None, 0, no_upgrade.refusal))
        line = _Line(request, socket, self._limits, as_tree=request.query.get("body") == "json")
        stream = await self._desks.listen(caller, line.show, line.end)
        if isinstance(stream, Refused):
            return rest_reply.of_refusal(stream)
        await self._follow(line, stream)
        return socket

    async def _follow(self, line: _Line, stream: Stream) -> None:
        metrics = self._desks.gate.metrics
        self._lines.add(line)
        metrics.clients(_IFACE, +1)
        try:
            await line.run(metrics.pushes(_IFACE))
        finally:
            self._lines.discard(line)
            stream.close()
            metrics.clients(_IFACE, -1)
            if line.too_slow:
                metrics.client_cut("slow_client")
                log.warning("a client reads too slowly and was cut", address=stream.caller.address, door="/ws")

    def close(self) -> None:
        """The sidecar stops."""
        for line in tuple(self._lines):
            line.end("the sidecar is stopping")

    def _wrong_with(self, request: web.Request) -> Rejected | None:
        """SECURITY: browsers connect to any address for any page; which page asks is only said by its Origin."""
        origins = request.headers.getall("Origin", [])
        if any(origin.lower() not in self._allowed_origins for origin in origins):
            said = (
                f"pages of `{printable(origins[0])}` may not connect; `listeners.rest.allowed_origins` says which may"
            )
            return malformed(said, 403)
        for name in request.query:
            if name not in ("token", "body"):
                return malformed(f"unknown query parameter `{printable(name)}`; there are `token` and `body`")
        if request.query.getall("body", ["base64"]) not in (["base64"], ["json"]):
            return malformed("the query parameter `body` is `base64` or `json`")
        return None


def _secret_of(request: web.Request, *, certified: bool) -> str | Rejected | None:
    """The one key that is shown: in the header, as `?token=`, or the same in both; None where only a certificate is."""
    tokens, headers = request.query.getall("token", []), request.headers.getall("Authorization", [])
    if len(tokens) > 1:
        return malformed("there are two query parameters `token`; send one")
    if not headers:
        if tokens and tokens[0]:
            return tokens[0]
        if certified and not tokens:
            return None
        return Rejected(Refusal(Code.KEY_MISSING, "no key was given; send it as `?token=` or as a Bearer header"))
    shown = bearer(headers)
    if isinstance(shown, Refusal):
        return Rejected(shown)
    if tokens and not hmac.compare_digest(
        tokens[0].encode(errors="surrogatepass"), shown.encode(errors="surrogatepass")
    ):
        return malformed("the key in `?token=` and the one in the Authorization header differ; send one")
    return shown


class _Line:
    """One client: what waits for it, and its end."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, limits: Limits, *, as_tree: bool) -> None:
        self.too_slow = False
        self._request = request
        self._socket = socket
        self._stall = limits.client_stall
        self._as_tree = as_tree
        self._outbox: Outbox[bytes] = Outbox(limits.client_buffer)
        self._code, self._reason = 1000, ""

    def show(self, row: Row, body: bytes) -> None:
        message = message_of(row, body, as_tree=self._as_tree)
        if not self._outbox.put(message, len(message)):
            self._cut()

    def end(self, reason: str) -> None:
        """SECURITY: what waits is dropped: the key may not see it any more."""
        if not self._outbox.closed:
            self._code = _NOT_ALLOWED if reason.startswith("[sidecar:") else _GOING_AWAY
            self._reason = reason
            self._outbox.close(discard=True)

    async def run(self, sent: Any) -> None:
        """Until the client or the stream ends. `sent`: the counter of pushes passed on."""
        await self._socket.prepare(self._request)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(sent))
            async for message in self._socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    self.end("[sidecar:malformed_request] nothing can be sent here, it is a stream of pushes")
            self._outbox.close(discard=True)

    async def _send(self, sent: Any) -> None:
        with contextlib.suppress(ConnectionError):
            while taken := await self._outbox.take():
                for message in taken:
                    if self._outbox.closed:
                        break
                    try:
                        async with asyncio.timeout(self._stall):
                            await self._socket.send_frame(message, WSMsgType.TEXT)
                    except TimeoutError:
                        self._cut()
                        return
                sent.inc(len(taken))
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._socket.close(code=self._code, message=_cut_to(self._reason, _LONGEST_REASON))
        except TimeoutError:
            self._abort()

    def _cut(self) -> None:
        self.too_slow = True
        self._outbox.close(discard=True)
        self._abort()

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def message_of(row: Row, body: bytes, *, as_tree: bool) -> bytes:
    """One push as JSON: its labels, and the whole protobuf Response in base64 or, `as_tree`, its s2c."""
    info = describe(row, body)
    content: dict[str, Any] = {"type": info.type, "proto_id": row.id}
    for name in ("sec_key", "sub_type", "rehab_type", "acc_id", "trd_market"):
        value = getattr(info, name)
        if value is not None:
            content[name] = str(value) if name == "acc_id" else value
    if as_tree:
        # what cannot be read is passed on as it came
        with contextlib.suppress(DecodeError, BodyError):
            content["s2c"] = dialect.envelope(message_class(row.response or "").FromString(body))["s2c"]
    if "s2c" not in content:
        content["body_b64"] = base64.b64encode(body).decode("ascii")
    return orjson.dumps(content)


def _cut_to(text: str, size: int) -> bytes:
    return text.encode()[:size].decode(errors="ignore").encode()
