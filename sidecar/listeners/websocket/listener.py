"""The WebSocket door: whom it lets through its upgrade, and with which key. What is said then is `client`'s business.

One port, any path, two framings told apart by a connection's first message: the official JavaScript SDK's, which logs in
with its first message, and frames of OpenD's TCP protocol, whose key is shown at the upgrade.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from aiohttp import WSCloseCode, web
from aiohttp.abc import AbstractStreamWriter

from sidecar.border import shown
from sidecar.gate import Gate
from sidecar.grants import Caller
from sidecar.listener_settings import WebSocketListener as Settings
from sidecar.listeners.certificate import Certificate
from sidecar.listeners.door import Bounds, HttpPort, wait_with_the_body
from sidecar.listeners.entrance import Place, certificate_of
from sidecar.listeners.handshake import handshake_failed
from sidecar.listeners.refusals import NATIVE
from sidecar.listeners.room import Room, notice_when_gone
from sidecar.listeners.websocket.client import LAST_WORDS, Backing, WsClient
from sidecar.listeners.websocket.login import IFACE, shown_at_upgrade
from sidecar.policy.decision import Code, Refusal
from sidecar.relay.relay import RelaySettings
from sidecar.returns import Returns
from sidecar.settings import Limits
from sidecar.upstream.pool import Pool
from sidecar.wire.frame import HEADER_SIZE

log = structlog.get_logger()

MAX_STRANGERS = 100
"""Clients that have connected and not introduced themselves. SECURITY: each may have a whole message of its own in memory."""
_AT_THE_DOOR = 64
"""Connections beyond those of `max_clients`: they are there to be let in, or to be told why not."""
_UPGRADE = "upgrade"
"""The endpoint of what is refused before there is a WebSocket."""


class WebSocketListener:
    """Accepts clients on one port. `start` returns the port bound; raises ConfigError when it is taken."""

    def __init__(
        self, settings: Settings, limits: Limits, *, gate: Gate, returns: Returns, pool: Pool, relay: RelaySettings,
        spawn: Callable[..., asyncio.Task[Any]], certificate: Certificate | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._backing = Backing(gate, returns, pool, relay, limits, spawn)
        self._gate = gate
        self.clients: Room[WsClient] = Room(IFACE, limits.max_clients, gate.metrics, most_strangers=MAX_STRANGERS)
        self._next_sweep = 0.0
        self._stopping = False
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self._knock, expect_handler=wait_with_the_body)
        place = Place(
            settings.bind, settings.port, "`--ws-port` or the setting `listeners.websocket`",
            certificate=certificate, patience=limits.handshake_timeout,
        )  # fmt: skip
        self._http = HttpPort(
            app, place,
            bounds=Bounds(limits.max_clients + _AT_THE_DOOR, limits.handshake_timeout), turned_away=self._no_room,
            stalled=self._does_not_read, failed=partial(handshake_failed, gate, IFACE),
        )  # fmt: skip

    # -- Door -----------------------------------------------------------------------------------------------------

    async def start(self) -> int | str:
        return await self._http.start()

    def stop_accepting(self) -> None:
        self._stopping = True
        self._http.stop_accepting()

    def close_clients(self) -> None:
        for client in self.clients:
            client.stop("the sidecar is stopping")

    async def stop(self) -> None:
        await self._http.stop()

    def keys_changed(self) -> None:
        """After a reload: whose key is not good any more is let go at once."""
        for client in self.clients:
            client.look_again()

    def tick(self) -> None:
        """Every second: end clients that are too slow to log in or to read, and those whose key has expired."""
        self._http.tick()
        now = asyncio.get_running_loop().time()
        sweep = now >= self._next_sweep
        if sweep:
            self._next_sweep = now + self._backing.relay.request_timeout / 2
        for client in self.clients:
            client.tick(now)
            if sweep:
                client.sweep()

    # -- the upgrade ----------------------------------------------------------------------------------------------

    async def _knock(self, request: web.Request) -> web.StreamResponse:
        """Every request of the port, whatever its path."""
        address = _address(request)
        try:
            upgraded = self._admit(request, address)
            if isinstance(upgraded, web.Response):
                return upgraded
            socket = web.WebSocketResponse(
                # SECURITY: nothing is ever decompressed; a compressed frame is an error of the protocol
                compress=False, timeout=LAST_WORDS, max_msg_size=self._backing.limits.request_body + HEADER_SIZE + 1,
            )  # fmt: skip
            writer = await socket.prepare(request)
            assert writer is not None, "it is not prepared twice"
            await self._serve(request, socket, writer, address, upgraded)
            return socket
        except ConnectionError:
            return _closing(web.Response(status=400))  # nobody is there to read it

    async def _serve(
        self, request: web.Request, socket: web.WebSocketResponse, writer: AbstractStreamWriter, address: str,
        upgraded: Caller | None,
    ) -> None:  # fmt: skip
        transport = request.transport
        if transport is None:
            return  # it has gone already
        notice_when_gone(transport)
        client = WsClient(socket, writer, transport, address, upgraded, backing=self._backing, room=self.clients)
        self.clients.enter(client)
        try:
            await client.serve()
        except Exception:
            log.exception("a WebSocket connection failed", address=address)
            await socket.close(code=WSCloseCode.INTERNAL_ERROR)
        finally:
            self.clients.leave(client)

    def _admit(self, request: web.Request, address: str) -> Caller | web.Response | None:
        """Who connects, None where no key was shown yet; or the answer that turns them away."""
        nobody = Caller(IFACE, None, address, certificate=certificate_of(request.transport))
        if request.method != "GET" or not web.WebSocketResponse().can_prepare(request).ok:
            refusal = Refusal(
                Code.MALFORMED_REQUEST, "this port speaks WebSocket (version 13), this is another request"
            )
            response = self._turn_away(nobody, refusal, 426)
            response.headers.update({"Upgrade": "websocket", "Sec-WebSocket-Version": "13"})
            return response
        origins = request.headers.getall("Origin", [])
        if origins and (len(origins) > 1 or not self._allows(origins[0])):
            text = f"web pages of {shown(origins[0])} may not connect; list it in `listeners.websocket.allowed_origins`"
            return self._turn_away(nobody, Refusal(Code.MALFORMED_REQUEST, text), 403)
        tokens = request.query.getall("token", [])
        caller = shown_at_upgrade(self._gate.grants, request.headers.getall("Authorization", []), tokens, nobody)
        if isinstance(caller, Refusal):
            return self._turn_away(nobody, caller)
        if caller is not None:
            standing = self._gate.grants.of(caller)
            if isinstance(standing, Refusal):
                return self._turn_away(caller, standing)
        if self._stopping:
            return self._turn_away(caller or nobody, Refusal(Code.UPSTREAM_UNAVAILABLE, "the sidecar is stopping"))
        if not self.clients.has_place():
            return self._turn_away(caller or nobody, Refusal(Code.UPSTREAM_FULL, "the connection was not accepted"))
        return caller

    def _allows(self, origin: str) -> bool:
        return origin.lower().rstrip("/") in self._settings.allowed_origins

    def _turn_away(self, caller: Caller, refusal: Refusal, status: int | None = None) -> web.Response:
        refused = self._gate.refuse(replace(caller, endpoint=_UPGRADE), None, 0, refusal)
        response = web.Response(status=status or NATIVE[refusal.code].http, text=refused.text)
        if response.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        elif response.status == 503:
            response.headers["Retry-After"] = "5"
        return _closing(response)

    def _no_room(self, address: str) -> str:
        """What a connection reads for which there is not even room at the door."""
        nobody = Caller(IFACE, None, address, endpoint=_UPGRADE)
        refusal = Refusal(Code.UPSTREAM_FULL, "the connection was not accepted")
        return self._gate.refuse(nobody, None, 0, refusal).text

    def _does_not_read(self, address: str) -> None:
        log.warning("a client reads nothing and was cut", address=address)
        self._gate.metrics.client_cut("slow_client")


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response


def _address(request: web.Request) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else "local"
