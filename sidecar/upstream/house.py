"""The sidecar's own connection to OpenD: look-ups for decisions, and order pushes of all accounts. No client ever uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

import structlog
from google.protobuf.message import DecodeError, Message

from sidecar.errors import UpstreamError, WireError
from sidecar.upstream.pool import Pool
from sidecar.upstream.session import InitChoices, Session
from sidecar.wire import packet_id
from sidecar.wire.catalog import CATALOG, Direction
from sidecar.wire.frame import Head, Run
from sidecar.wire.messages import message_class

log = structlog.get_logger()

AskOutcome = Literal["ok", "refused", "failed"]
RETRY_FIRST = 0.25
RETRY_MOST = 2.0
"""Seconds between attempts to reach OpenD: doubling from the first to the most."""


class House:
    """Asks OpenD on the sidecar's own behalf, and reconnects for ever.

    `on_ready` runs after each (re)connection, before `up` turns true; `on_push(proto_id, body)` hears order pushes;
    `on_asked(name, outcome)` every look-up: `ok`, `refused` or `failed`; `on_lost` that the connection ended.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        on_push: Callable[[int, bytes], None],
        on_ready: Callable[[], Awaitable[None]],
        on_asked: Callable[[str, AskOutcome], None] = lambda name, outcome: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._on_push = on_push
        self._on_ready = on_ready
        self._on_asked = on_asked
        self._on_lost = on_lost
        self._session: Session | None = None
        self._pending: dict[int, tuple[int, asyncio.Future[Message]]] = {}
        self._ended: asyncio.Event = asyncio.Event()
        self.up = False
        self.trouble = f"not connected to OpenD at {pool.address} yet"

    async def run(self) -> None:
        """Stay connected; runs until cancelled."""
        wait = RETRY_FIRST
        while True:
            try:
                self._ended.clear()
                self._session = await self._pool.open(self, InitChoices())
                await self._on_ready()
            except UpstreamError as error:
                self._down(str(error))
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_MOST)
                continue
            self.up, self.trouble, wait = True, "", RETRY_FIRST
            log.info("connected to OpenD", address=self._pool.address)
            await self._ended.wait()

    async def ask(self, proto_id: int, request: Message, *, timeout: float) -> Message:
        """OpenD's Response to one request (its retType may be other than 0); where it has a packetID, that is filled in here.
        Raises UpstreamError."""
        name = CATALOG[proto_id].name
        session = self._session
        if session is None or not session.ready:
            self._on_asked(name, "failed")
            raise UpstreamError(self.trouble or "not connected to OpenD")
        packet_id.number(request, session.conn_id, session.last_serial + 1)
        serial = session.send(proto_id, request.SerializeToString())
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[serial] = (proto_id, answer)
        try:
            async with asyncio.timeout(timeout):
                response: Any = await answer
        except TimeoutError:
            self._on_asked(name, "failed")
            raise UpstreamError(f"OpenD did not answer {name} within {timeout:g} s") from None
        except UpstreamError:
            self._on_asked(name, "failed")
            raise
        finally:
            self._pending.pop(serial, None)
        self._on_asked(name, "ok" if response.retType == 0 else "refused")
        return cast(Message, response)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._pool.forget(self._session)
            self._session = None

    # -- SessionOwner ---------------------------------------------------------------------------------------------

    def unread_pushes(self) -> frozenset[int]:
        return frozenset()  # it subscribes to no quotes

    def upstream_received(self, chunk: bytes, heads: list[Head | Run]) -> None:
        session = self._session
        if session is None:
            return
        for head in heads:
            if isinstance(head, Run):
                continue
            row = CATALOG.get(head.proto_id)
            try:
                if row is not None and row.direction is Direction.PUSH:
                    if row.judged:
                        self._on_push(head.proto_id, session.plain_body(chunk, head))
                    continue
                proto_id, answer = self._pending.pop(head.serial, (0, None))
                if answer is None or answer.done() or proto_id != head.proto_id or row is None or row.response is None:
                    continue
                try:
                    answer.set_result(message_class(row.response).FromString(session.plain_body(chunk, head)))
                except (WireError, DecodeError) as error:
                    answer.set_exception(UpstreamError(f"OpenD's answer to {row.name} could not be read: {error}"))
            except (WireError, DecodeError) as error:
                log.warning("a push of OpenD could not be read", proto_id=head.proto_id, error=str(error))

    def upstream_lost(self, reason: str) -> None:
        self._down(reason)
        self._on_lost()
        self._ended.set()

    def upstream_writable(self, writable: bool) -> None:
        pass  # look-ups are few and bounded by their timeouts

    def _down(self, reason: str) -> None:
        if self.up or reason != self.trouble:
            log.warning("OpenD is away", reason=reason)
        self.up, self.trouble = False, reason
        if self._session is not None:
            self._session.close()
            self._pool.forget(self._session)
            self._session = None
        waiting, self._pending = self._pending, {}
        for _, answer in waiting.values():
            if not answer.done():
                answer.set_exception(UpstreamError(reason))
