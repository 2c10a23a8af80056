"""The MCP door: streamable HTTP at `/mcp`. Reads key, Host and body of each request; the rest is the MCP SDK's and the desks'.

The SDK is optional (`pip install 'opend-sidecar[mcp]'`) and loaded when the door opens; without it the door stays shut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from aiohttp import web

from sidecar.desk import Desks
from sidecar.errors import BodyError
from sidecar.gate import Refused
from sidecar.grants import Caller
from sidecar.listeners.bearer import bearer
from sidecar.listeners.door import Bounds, HttpPort
from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Code, Refusal
from sidecar.settings import Limits
from sidecar.settings import McpListener as Settings
from sidecar.wire.body import MAX_JSON
from sidecar.wire.rest_json import tree_of

if TYPE_CHECKING:
    from sidecar.listeners.mcp_server import McpServer

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

    def __init__(self, settings: Settings, limits: Limits, *, desks: Desks) -> None:
        self._settings = settings
        self._limits = limits
        self._desks = desks
        self._body_limit = min(limits.request_body, MAX_JSON)
        """SECURITY: while JSON is read nothing else moves, and no call of a tool is longer."""
        self._server: McpServer | None = None
        app = web.Application(client_max_size=self._body_limit)
        app.router.add_route("*", "/{any:.*}", self._serve, expect_handler=_wait_with_the_body)
        self._http = HttpPort(
            app,
            settings.bind,
            settings.port,
            "`--mcp-port` or the setting `listeners.mcp`",
            bounds=Bounds(limits.max_clients, limits.handshake_timeout, stall=limits.client_stall),
            turned_away=self._turned_away,
            stalled=self._stalled,
        )

    async def start(self) -> int | None:
        try:
            from sidecar.listeners.mcp_server import McpServer
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
        allowed = _allowed_origin(request, self._settings.allowed_origins)
        if request.method == "OPTIONS" and "Origin" in request.headers:
            # a browser asks, without the key, whether a page may send it
            return web.Response(status=204 if allowed else 403, headers=allowed and {**allowed, **_CORS})
        response = await self._answered(request)
        response.headers.update(allowed or {})
        if response.status == 401:
            response.force_close()  # SECURITY: strangers must not keep the places of clients with a key
        return response

    async def _answered(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        if isinstance(caller, web.Response):
            return caller
        try:
            return await self._known(request, caller)
        except BodyError as error:
            return self._no(caller, Refusal(Code(error.code), str(error)), _PARSE_ERROR)
        except Exception:
            log.exception("a request of the MCP door failed")
            return _rpc_error(500, -32603, "the sidecar failed at this request")

    def _caller(self, request: web.Request) -> Caller | web.Response:
        """Who asks, or how it is told that its key is no good."""
        gate, address = self._desks.gate, request.remote or "local"
        stranger = Caller(_IFACE, None, address, endpoint=PATH)
        secret = bearer(request.headers.getall("Authorization", []))
        if isinstance(secret, Refusal):
            return self._no(stranger, secret)
        caller = replace(gate.grants.identify(_IFACE, secret, address), endpoint=PATH)
        grant = gate.grants.of(caller)
        return self._no(caller, grant) if isinstance(grant, Refusal) else caller

    async def _known(self, request: web.Request, caller: Caller) -> web.Response:
        assert self._server is not None, "the door is open only with it"
        if request.path != PATH:
            said = f"there is only `{PATH}` here"
            return self._no(caller, Refusal(Code.UNKNOWN_REQUEST, said), _NOT_FOUND)
        if request.method != "POST":
            # of the streams that GET would open, and DELETE end, there are none: every answer comes with its request
            said = f"`{request.method[:20]}` is not for `{PATH}`; send POST"
            return self._no(caller, Refusal(Code.MALFORMED_REQUEST, said), status=405, headers={"Allow": "POST"})
        scope = _scope(request)
        refused = 421 if len(request.headers.getall("Host", [])) != 1 else await self._server.not_for_us(scope)
        if refused is not None:
            wrong, setting = ("Host", "allowed_hosts") if refused == 421 else ("Origin", "allowed_origins")
            said = f"this {wrong} is not allowed here; the owner can list it in `listeners.mcp.{setting}`"
            return self._no(caller, Refusal(Code.MALFORMED_REQUEST, said), status=refused)
        body = await self._body(request)
        unfit = _unfit(tree_of(body, self._body_limit))
        if unfit is not None:
            return self._no(caller, Refusal(Code.MALFORMED_REQUEST, unfit))
        answer = await self._server.answer(scope, body, caller)
        kept = {name: value for name, value in answer.headers if name.lower() != "content-length"}
        return web.Response(status=answer.status, headers=kept, body=answer.body)

    async def _body(self, request: web.Request) -> bytes:
        """The whole body. Raises BodyError."""
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise BodyError("malformed_request", "compressed bodies are not taken; send it as it is")
        if request.content_type != "application/json":
            raise BodyError("malformed_request", "the Content-Type must be `application/json`")
        try:
            async with asyncio.timeout(self._limits.frame_timeout):
                if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
                    request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return await request.read()
        except TimeoutError:
            raise BodyError("malformed_request", "the body did not come in time") from None
        except web.HTTPRequestEntityTooLarge:
            raise BodyError("body_too_large", f"the body is longer than {self._body_limit} bytes") from None
        except (web.HTTPException, web.PayloadAccessError, ValueError):
            raise BodyError("malformed_request", "the body could not be read") from None

    # -- saying no ------------------------------------------------------------------------------------------------

    def _no(
        self, caller: Caller, refusal: Refusal, number: int = _INVALID_REQUEST, *, status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:  # fmt: skip
        refused = self._desks.gate.refuse(caller, None, 0, refusal)
        http = NATIVE[refused.code].http
        if http == 401:
            # plain Bearer and no `resource_metadata`: a client with a fixed key must not go looking for an OAuth server
            headers, number = {"WWW-Authenticate": 'Bearer realm="opend-sidecar"'}, _DENIED
        return _rpc_error(status or http, number, refused.text, refused, headers)

    def _turned_away(self, address: str) -> str:
        said = f"this door has {self._limits.max_clients} connections already"
        caller = Caller(_IFACE, None, address, endpoint=PATH)
        return self._desks.gate.refuse(caller, None, 0, Refusal(Code.UPSTREAM_FULL, said)).text

    def _stalled(self, address: str) -> None:
        log.warning("a client of the MCP door does not read and was cut", address=address)
        self._desks.gate.metrics.client_cut("slow_client")


async def _wait_with_the_body(request: web.Request) -> None:
    """Whoever expects `100 Continue` gets it when the body is wanted: a request that is refused needs none."""


def _rpc_error(
    status: int, number: int, text: str, refused: Refused | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON-RPC's own form of an error, which clients show; `id` null, since the request was not looked at."""
    error: dict[str, Any] = {"code": number, "message": text}
    if refused is not None:
        error["data"] = {"code": refused.code.value, "retry_after": refused.retry_after}
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _scope(request: web.Request) -> dict[str, Any]:
    """The request as ASGI has it, without its body."""
    headers = [(name.lower(), value) for name, value in request.raw_headers]
    headers = [(name, value.lower() if name == b"host" else value) for name, value in headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": (request.remote or "local", 0),
        "server": None,
        "state": {},
    }


def _unfit(message: object) -> str | None:
    """Why it is no message the SDK could carry out; said here, since what the SDK refuses by itself is not audited."""
    if not isinstance(message, dict) or not message:
        return "the body must be one JSON-RPC message, an object"
    if message.get("method") != "tools/call":
        return None
    params = message.get("params")
    if not isinstance(params, dict) or not isinstance(params.get("name"), str):
        return "tools/call needs `params` with a `name`"
    if not isinstance(params.get("arguments", {}), dict | None):
        return "`arguments` of tools/call must be an object"
    return None


def _allowed_origin(request: web.Request, allowed: tuple[str, ...]) -> dict[str, str] | None:
    """What a browser must read before a page of this origin may see the answer."""
    origin = request.headers.get("Origin")
    if origin is None or origin not in allowed:
        return None
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
