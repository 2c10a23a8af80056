"""The MCP door: streamable HTTP at `/mcp`. Reads key, Host and body of each request; the rest is the MCP SDK's and the desks'.

The SDK is optional (`pip install 'opend-sidecar[mcp]'`) and loaded when the door opens; without it the door stays shut.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from sidecar.desks import Desks
from sidecar.errors import BodyError
from sidecar.grants import Caller
from sidecar.listener_settings import McpListener as Settings
from sidecar.listeners.bearer import identified
from sidecar.listeners.certificate import Certificate
from sidecar.listeners.door import Bounds, HttpPort, wait_with_the_body
from sidecar.listeners.entrance import Place, certificate_of
from sidecar.listeners.handshake import handshake_failed
from sidecar.listeners.mcp.http import allowed_origin, rpc_error, scope_of, unfit, unreadable
from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Code, Refusal
from sidecar.settings import Limits
from sidecar.wire.body import MAX_JSON
from sidecar.wire.json_text import tree_of

if TYPE_CHECKING:
    from sidecar.listeners.mcp.server import McpServer

log = structlog.get_logger()

PATH = "/mcp"
_IFACE = "mcp"

# JSON-RPC's own numbers, and from -32000 on those that are left to servers
_PARSE_ERROR, _INVALID_REQUEST, _NOT_FOUND, _DENIED = -32700, -32600, -32601, -32001

_CORS = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name",
    "Access-Control-Max-Age": "600",
}


class McpListener:
    """A Door. `start` gives None where the SDK is not installed: a warning says so, and the port stays closed."""

    def __init__(
        self, settings: Settings, limits: Limits, *, desks: Desks, certificate: Certificate | None = None
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._desks = desks
        self._body_limit = min(limits.request_body, MAX_JSON)
        """SECURITY: while JSON is read nothing else moves, and no call of a tool is longer."""
        self._server: McpServer | None = None
        app = web.Application(client_max_size=self._body_limit)
        app.router.add_route("*", "/{any:.*}", self._serve, expect_handler=wait_with_the_body)
        place = Place(
            settings.bind, settings.port, "`--mcp-port` or the setting `listeners.mcp`",
            certificate=certificate, patience=limits.handshake_timeout,
        )  # fmt: skip
        self._http = HttpPort(
            app,
            place,
            bounds=Bounds(limits.max_clients, limits.handshake_timeout, stall=limits.client_stall),
            turned_away=self._turned_away,
            stalled=self._stalled,
            failed=partial(handshake_failed, desks.gate, _IFACE),
        )

    async def start(self) -> int | str | None:
        try:
            from sidecar.listeners.mcp.server import McpServer
        except ImportError as error:
            log.warning(
                "the MCP door stays closed: the package `mcp` (2.3 or newer) is missing; "
                "`pip install 'opend-sidecar[mcp]'`, or close the door with `--mcp-port off`",
                error=str(error),
            )
            return None
        self._server = McpServer(
            self._desks,
            allowed_hosts=self._settings.allowed_hosts,
            allowed_origins=self._settings.allowed_origins,
            body_limit=self._body_limit,
        )
        await self._server.start()
        return await self._http.start()

    def stop_accepting(self) -> None:
        self._http.stop_accepting()

    def close_clients(self) -> None:
        """Every answer is whole and short; `stop` closes the connections."""

    async def stop(self) -> None:
        await self._http.stop()
        if self._server is not None:
            await self._server.stop()

    def keys_changed(self) -> None:
        """Every request looks its key up."""

    def tick(self) -> None:
        self._http.tick()

    # -- one request ----------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """SECURITY: the key first; without a good one nothing else of the request is looked at."""
        allowed = allowed_origin(request, self._settings.allowed_origins)
        if request.method == "OPTIONS" and "Origin" in request.headers:
            # a browser asks, without the key, whether a page may send it
            return web.Response(status=204 if allowed else 403, headers=allowed and {**allowed, **_CORS})
        response = await self._answered(request)
        response.headers.update(allowed or {})
        return response

    async def _answered(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        if isinstance(caller, web.Response):
            caller.force_close()  # SECURITY: strangers must not keep the places of clients with a key
            return caller
        try:
            return await self._known(request, caller)
        except BodyError as error:
            return self._no(caller, Refusal(Code(error.code), str(error)), _PARSE_ERROR)
        except Exception:
            log.exception("a request of the MCP door failed")
            return rpc_error(500, -32603, "the sidecar failed at this request")

    def _caller(self, request: web.Request) -> Caller | web.Response:
        """Who asks, or how it is told that its key is no good."""
        gate, address = self._desks.gate, request.remote or "local"
        stranger = Caller(_IFACE, None, address, endpoint=PATH, certificate=certificate_of(request.transport))
        caller, none_shown = identified(gate.grants, stranger, request.headers.getall("Authorization", []))
        if none_shown is not None:
            return self._no(caller, none_shown)
        grant = gate.grants.of(caller)
        return self._no(caller, grant) if isinstance(grant, Refusal) else caller

    async def _known(self, request: web.Request, caller: Caller) -> web.Response:
        assert self._server is not None, "the door is open only with it"
        scope = scope_of(request)
        astray = await self._astray(request, scope, caller)
        if astray is not None:
            return astray
        body = await self._body(request)
        if body is None:
            said = f"the body was not complete after {self._limits.frame_timeout:g} s"
            return self._malformed(caller, said, 408)
        wrong = unfit(tree_of(body, self._body_limit))
        if wrong is not None:
            return self._malformed(caller, wrong, 400)
        answer = await self._server.answer(scope, body, caller)
        kept = {name: value for name, value in answer.headers if name.lower() != "content-length"}
        return web.Response(status=answer.status, headers=kept, body=answer.body)

    async def _astray(self, request: web.Request, scope: dict[str, Any], caller: Caller) -> web.Response | None:
        """How a request is refused by its head alone."""
        assert self._server is not None
        if request.path != PATH:
            return self._no(caller, Refusal(Code.UNKNOWN_REQUEST, f"there is only `{PATH}` here"), _NOT_FOUND)
        if request.method != "POST":
            # of the streams that GET would open, and DELETE end, there are none: every answer comes with its request
            response = self._malformed(caller, f"`{request.method[:20]}` is not for `{PATH}`; send POST", 405)
            response.headers["Allow"] = "POST"
            return response
        refused = 421 if len(request.headers.getall("Host", [])) != 1 else await self._server.not_for_us(scope)
        if refused is not None:
            what, setting = ("Host", "allowed_hosts") if refused == 421 else ("Origin", "allowed_origins")
            said = f"this {what} is not allowed here; the owner can list it in `listeners.mcp.{setting}`"
            return self._malformed(caller, said, refused)
        strange = unreadable(request)
        return None if strange is None else self._malformed(caller, strange, 415)

    async def _body(self, request: web.Request) -> bytes | None:
        """The whole body; None when it did not come in time. Raises BodyError."""
        if request.content_length is not None and request.content_length > self._body_limit:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._limits.frame_timeout):
                if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
                    request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return await request.read()
        except TimeoutError:
            return None
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large() from None
        except (web.HTTPException, web.PayloadAccessError, ValueError):
            raise BodyError("malformed_request", "the body could not be read") from None

    def _too_large(self) -> BodyError:
        return BodyError("body_too_large", f"the body is longer than {self._body_limit} bytes")

    # -- saying no ------------------------------------------------------------------------------------------------

    def _no(
        self, caller: Caller, refusal: Refusal, number: int = _INVALID_REQUEST, status: int | None = None
    ) -> web.Response:
        refused = self._desks.gate.refuse(caller, None, 0, refusal)
        native = NATIVE[refused.code].http
        if native != 401:
            return rpc_error(status or native, number, refused.text, refused)
        response = rpc_error(401, _DENIED, refused.text, refused)
        # plain Bearer and no `resource_metadata`: a client with a fixed key must not go looking for an OAuth server
        response.headers["WWW-Authenticate"] = 'Bearer realm="opend-sidecar"'
        return response

    def _malformed(self, caller: Caller, text: str, status: int) -> web.Response:
        return self._no(caller, Refusal(Code.MALFORMED_REQUEST, text), status=status)

    def _turned_away(self, address: str) -> str:
        said = f"this door has {self._limits.max_clients} connections already"
        caller = Caller(_IFACE, None, address, endpoint=PATH)
        return self._desks.gate.refuse(caller, None, 0, Refusal(Code.UPSTREAM_FULL, said)).text

    def _stalled(self, address: str) -> None:
        log.warning("a client of the MCP door does not read and was cut", address=address)
        self._desks.gate.metrics.client_cut("slow_client")
