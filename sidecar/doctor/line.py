"""One connection of doctor's own to OpenD: asks, waits, and keeps the pushes that come. Judges nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import DecodeError, Message

from sidecar.errors import UpstreamError, WireError
from sidecar.settings import Upstream
from sidecar.upstream.pool import Pool
from sidecar.upstream.session import InitChoices, Session
from sidecar.wire import packet_id
from sidecar.wire.catalog import CATALOG, Direction
from sidecar.wire.encryption import RsaKey
from sidecar.wire.frame import Head, Run
from sidecar.wire.messages import message_class

REPLY_CAP = 64 * 1024 * 1024


class Line:
    """`async with await Line.opened(...)`. `pushes`: (proto id, message) as they came."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.pushes: list[tuple[int, Any]] = []
        self.ended = ""
        self._waiting: dict[int, tuple[int, asyncio.Future[Any]]] = {}

    @classmethod
    async def opened(cls, upstream: Upstream, *, rsa: bool = True, choices: InitChoices | None = None) -> Line:
        """Past its InitConnect. `rsa` False: in clear, whatever the settings say. Raises UpstreamError, ConfigError."""
        key = RsaKey.load(upstream.rsa_key) if rsa and upstream.rsa_key is not None else None
        pool = Pool(
            upstream.host,
            upstream.port,
            max_connections=8,
            connect_timeout=upstream.connect_timeout,
            reply_cap=REPLY_CAP,
            rsa=key,
        )
        made = cls()
        made.session = await pool.open(made, choices or InitChoices())
        return made

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.close()
        await asyncio.sleep(0)

    async def ask(self, proto_id: int, request: Message, *, timeout: float = 5.0) -> Any:
        """OpenD's whole Response, whatever its retType. Raises UpstreamError."""
        session = self.session
        if session is None or not session.ready:
            raise UpstreamError(self.ended or "the connection to OpenD has ended")
        packet_id.number(request, session.conn_id, session.last_serial + 1)
        return await self.ask_raw(proto_id, request.SerializeToString(), timeout=timeout)

    async def ask_raw(self, proto_id: int, body: bytes, *, timeout: float = 5.0) -> Any:
        """As `ask`, with a body as it is."""
        assert self.session is not None
        serial = self.session.send(proto_id, body)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[serial] = proto_id, answer
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            name = CATALOG[proto_id].name
            raise UpstreamError(f"OpenD did not answer {name} within {timeout:g} s") from None
        finally:
            self._waiting.pop(serial, None)

    def close(self) -> None:
        if self.session is not None:
            self.session.close()

    # -- SessionOwner ---------------------------------------------------------------------------------------------

    def unread_pushes(self) -> frozenset[int]:
        return frozenset()

    def upstream_received(self, chunk: bytes, heads: list[Head | Run]) -> None:
        for head in heads:
            row = None if isinstance(head, Run) else CATALOG.get(head.proto_id)
            if isinstance(head, Run) or row is None or row.response is None or self.session is None:
                continue
            try:
                message = message_class(row.response).FromString(self.session.plain_body(chunk, head))
            except (WireError, DecodeError):
                continue
            if row.direction is Direction.PUSH:
                self.pushes.append((head.proto_id, message))
                continue
            proto_id, answer = self._waiting.get(head.serial, (0, None))
            if answer is not None and proto_id == head.proto_id and not answer.done():
                answer.set_result(message)

    def upstream_lost(self, reason: str) -> None:
        self.ended = reason
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(UpstreamError(reason))

    def upstream_writable(self, writable: bool) -> None:
        pass  # it asks one thing at a time
