"""The MCP SDK's server with our tools, and one HTTP request of a known caller through it. The only module that imports it.

INVARIANT: nothing is kept between two requests: no session, so no request can be carried out as another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import mcp_types as types
import orjson
import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request

from sidecar.desks import Desks
from sidecar.grants import Caller
from sidecar.listeners.mcp import calls
from sidecar.listeners.mcp.calls import Result
from sidecar.listeners.mcp.tool import Tool
from sidecar.listeners.mcp.tools import TOOLS
from sidecar.policy.decision import Refusal

log = structlog.get_logger()

_CALLER = "sidecar.caller"
"""Where a request's scope holds who sent it: the key was read from its headers, and from nowhere else."""

_INSTRUCTIONS = (
    "Quotes and trading of Futu/moomoo accounts through a sidecar that allows this key only some of it. "
    "Call my_limits to learn what. Symbols are market and code, as HK.00700 or US.AAPL. Begin with futu_list_accounts "
    "for accounts; trd_env SIMULATE is paper money, REAL is real. A refused call says why and whether to try again."
)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class McpServer:
    """`start` before, `stop` after. All methods run on the event loop."""

    def __init__(
        self, desks: Desks, *, allowed_hosts: Iterable[str], allowed_origins: Iterable[str], body_limit: int
    ) -> None:
        self._desks = desks
        _quiet()
        hosts = [*_LOOPBACK, *allowed_hosts]
        # a host without a port stands for every port
        any_port = [f"{host}:*" for host in hosts if ":" not in host.rpartition("]")[2]]
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[*hosts, *any_port],
            allowed_origins=list(allowed_origins),
        )
        self._security = TransportSecurityMiddleware(security)
        self._server: Server[Any] = Server(
            "opend-sidecar",
            version=_version(),
            title="opend-sidecar",
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            get_tool_input_schema=_input_schema,
        )
        self._manager = StreamableHTTPSessionManager(
            self._server,
            json_response=True,
            stateless=True,
            security_settings=security,
            max_request_body_size=body_limit,
        )
        self._running: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def start(self) -> None:
        ready = asyncio.Event()
        # a task of its own: the SDK's cancel scopes must be left by the task that entered them
        self._running = asyncio.get_running_loop().create_task(self._run(ready), name="mcp")
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait((self._running, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._running.done():
            self._running.result()

    async def stop(self) -> None:
        """Ends what is still being answered."""
        self._end.set()
        if self._running is not None:
            with contextlib.suppress(Exception):
                await self._running

    async def _run(self, ready: asyncio.Event) -> None:
        async with self._manager.run():
            ready.set()
            await self._end.wait()

    # -- one request ----------------------------------------------------------------------------------------------

    async def not_for_us(self, scope: dict[str, Any]) -> int | None:
        """The status with which the SDK's transport security refuses a request's Host or Origin; None when they are fine."""
        refusal = await self._security.validate_request(Request(scope))
        return None if refusal is None else refusal.status_code

    async def answer(self, scope: dict[str, Any], body: bytes, caller: Caller) -> Answer:
        """The answer to a POST whose key, Host and size were looked at."""
        begun: MutableMapping[str, Any] = {}
        chunks: list[bytes] = []
        unread = [body]

        async def receive() -> MutableMapping[str, Any]:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            # a client that leaves cancels this whole request
            await asyncio.get_running_loop().create_future()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))

        await self._manager.handle_request({**scope, _CALLER: caller}, receive, send)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in begun.get("headers", ())]
        return Answer(begun.get("status", 500), headers, b"".join(chunks))

    # -- what it is asked -----------------------------------------------------------------------------------------

    async def _list_tools(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        caller = _caller_of(context)
        grant = self._desks.gate.grants.of(caller)  # as it is now: a reload holds from the next look on
        if isinstance(grant, Refusal):
            self._desks.gate.refuse(caller, None, 0, grant)
            return types.ListToolsResult(tools=[])
        return types.ListToolsResult(tools=[_shown(tool) for tool in calls.visible(grant)])

    async def _call_tool(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        try:
            result = await calls.call(self._desks, _caller_of(context), params.name, params.arguments or {})
        except Exception:
            log.exception("a call of a tool failed", tool=params.name if params.name in TOOLS else "unknown")
            text = "the sidecar failed at this call; if it was an order, look at futu_get_orders before you repeat it"
            result = Result({"error": text, "code": "internal", "retry_after": None, "status": "error"}, is_error=True)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=orjson.dumps(result.tree).decode())],
            structured_content=result.tree,
            is_error=result.is_error,
        )


def _caller_of(context: ServerRequestContext[Any]) -> Caller:
    assert context.request is not None, "every request comes over HTTP"
    caller: Caller = context.request.scope[_CALLER]
    return caller


def _shown(tool: Tool) -> types.Tool:
    reads = tool.effect == "read"
    return types.Tool(
        name=tool.name,
        description=tool.says,
        input_schema=tool.schema(),
        annotations=types.ToolAnnotations(
            read_only_hint=reads,
            destructive_hint=False if reads else tool.effect in ("order", "cancel"),
            idempotent_hint=True if reads else tool.effect != "order",
            open_world_hint=bool(tool.proto_id),
        ),
    )


def _input_schema(name: str) -> dict[str, Any] | None:
    tool = TOOLS.get(name)
    return None if tool is None else tool.schema()


def _version() -> str:
    try:
        return version("opend-sidecar")
    except PackageNotFoundError:
        return "0"


class _OperatorsLog(logging.Handler):
    """What the SDK reports by itself. SECURITY: its warnings quote what clients wrote; only its failures are news."""

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[1] if record.exc_info else None
        if failure is not None:
            log.error("the MCP SDK failed", where=record.name, exc_info=failure)


def _quiet() -> None:
    logger = logging.getLogger("mcp")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.handlers = [_OperatorsLog()]
