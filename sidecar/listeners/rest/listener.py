"""The REST door: HTTP with JSON bodies in front of the same gate as every other door. It holds no rule and no counter.

One request: which key (401), which route (404, 405), its scope, then its body (400, 413, 415), then the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from aiohttp import web
from google.protobuf.message import Message

from sidecar.allowance import allowance
from sidecar.asked import Refused
from sidecar.desks import Desks
from sidecar.errors import BodyError
from sidecar.grants import Caller
from sidecar.listener_settings import RestListener as Settings
from sidecar.listeners.admin import Problem
from sidecar.listeners.bearer import identified
from sidecar.listeners.certificate import Certificate
from sidecar.listeners.door import Bounds, Handler, HttpPort, wait_with_the_body
from sidecar.listeners.entrance import Place, certificate_of
from sidecar.listeners.handshake import handshake_failed
from sidecar.listeners.rest import reply as rest_reply
from sidecar.listeners.rest import stream as rest_stream
from sidecar.listeners.rest.admin import STATUS, AdminRoutes
from sidecar.listeners.rest.pages import PublicPages
from sidecar.listeners.rest.request import (
    Rejected,
    body_of,
    idempotency_key,
    key_in_url,
    malformed,
    printable,
    take_dry_run,
    tree_of_query,
)
from sidecar.listeners.rest.routes import BY_ID, ROUTES, Route, by_id, resembling
from sidecar.policy.decision import Code, Refusal
from sidecar.settings import Limits
from sidecar.switch import Switch
from sidecar.wire import catalog, dialect
from sidecar.wire.body import MAX_JSON, Prepare
from sidecar.wire.catalog import Permission, Row

log = structlog.get_logger()

_IFACE = "rest"
_KEY_PAGE = "/api/key"
_REHEARSED = frozenset({catalog.PLACE_ORDER, catalog.PLACE_COMBO_ORDER, catalog.MODIFY_ORDER})

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = "X-Decision-Id, Idempotency-Replayed, Retry-After"


class RestListener:
    """The routes of `routes.py`, every other request by its id, `/ws`, and the pages without a key."""

    def __init__(
        self, settings: Settings, limits: Limits, *, desks: Desks, switch: Switch,
        readiness: Callable[[], Sequence[Problem]], certificate: Certificate | None = None,
    ) -> None:  # fmt: skip
        """`readiness` is empty when orders can be served."""
        self._settings = settings
        self._limits = limits
        self._body_limit = min(limits.request_body, MAX_JSON)
        """SECURITY: while JSON is read nothing else moves."""
        self._desks = desks
        self._gate = desks.gate
        self._pages = PublicPages(self._gate.metrics, readiness, settings.allowed_origins)
        self._streams = rest_stream.PushStreams(desks, limits, settings.allowed_origins)
        self._admin = AdminRoutes(switch, caller=self._caller, reject=self._reject, body_patience=limits.frame_timeout)
        place = Place(
            settings.bind, settings.port, "`--rest-port` or the setting `listeners.rest`",
            certificate=certificate, patience=limits.handshake_timeout,
        )  # fmt: skip
        self._http = HttpPort(
            self._application(), place,
            bounds=Bounds(limits.max_clients, limits.handshake_timeout, stall=limits.client_stall),
            turned_away=self._turned_away, stalled=self._stalled, failed=partial(handshake_failed, self._gate, _IFACE),
        )  # fmt: skip

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._around])
        add_get, add_post = (
            partial(add, expect_handler=wait_with_the_body) for add in (app.router.add_get, app.router.add_post)
        )
        for route in ROUTES.values():
            add_post(route.path, partial(self._post, route))
            if route.get:
                add_get(route.path, partial(self._get, route))
        add_post(BY_ID, self._post_by_id)
        add_get(_KEY_PAGE, self._key)
        add_get(STATUS, self._admin.status)
        for path, act in self._admin.posts().items():
            add_post(path, act)
        add_get(rest_stream.PATH, self._streams.serve, allow_head=False)
        for path, page in self._pages.by_path(self._settings).items():
            add_get(path, page)
        self._known = tuple(app.router.resources())
        app.router.add_route("*", "/{any:.*}", self._no_such_route, expect_handler=wait_with_the_body)
        return app

    async def start(self) -> int | str:
        return await self._http.start()

    def stop_accepting(self) -> None:
        self._http.stop_accepting()

    def close_clients(self) -> None:
        self._streams.close()

    async def stop(self) -> None:
        await self._http.stop()

    def keys_changed(self) -> None:
        """The desks end the streams of keys that are good no more; every other request looks its key up."""

    def tick(self) -> None:
        self._http.tick()

    # -- requests to OpenD ----------------------------------------------------------------------------------------

    async def _post_by_id(self, request: web.Request) -> web.StreamResponse:
        route = by_id(request.match_info["name"])
        if route is None:
            return await self._no_such_route(request)
        return await self._post(route, request)

    async def _post(self, route: Route, request: web.Request) -> web.StreamResponse:
        admitted = self._admit(request, route)
        if isinstance(admitted, web.Response):
            return admitted
        caller, row = admitted
        raw = await body_of(request, self._body_limit, self._limits.frame_timeout)
        if isinstance(raw, Rejected):
            return self._reject(caller, row, raw)
        try:
            tree = dialect.tree_of(raw, self._body_limit) if raw else {}
        except BodyError as error:
            return self._reject(caller, row, Rejected(Refusal(Code(error.code), str(error))))
        dry_run = take_dry_run(tree) if row.id in _REHEARSED and not route.fixed else False
        if isinstance(dry_run, Rejected):
            return self._reject(caller, row, dry_run)
        if dry_run:
            decision = await self._desks.rehearse(caller, row.id, _reader(route, tree))
            return (
                rest_reply.of_refusal(decision) if isinstance(decision, Refused) else rest_reply.of_rehearsal(decision)
            )
        return await self._ask(caller, row, route, tree, request)

    async def _get(self, route: Route, request: web.Request) -> web.StreamResponse:
        admitted = self._admit(request, route)
        if isinstance(admitted, web.Response):
            return admitted
        caller, row = admitted
        tree = tree_of_query(request)
        if isinstance(tree, Rejected):
            return self._reject(caller, row, tree)
        return await self._ask(caller, row, route, tree, request)

    async def _ask(self, caller: Caller, row: Row, route: Route, tree: Any, request: web.Request) -> web.StreamResponse:
        token = idempotency_key(request) if row.permission is Permission.TRADE else None
        if isinstance(token, Rejected):
            return self._reject(caller, row, token)
        answer = await self._desks.ask(caller, row.id, _reader(route, tree), idempotency_key=token)
        return rest_reply.of_refusal(answer) if isinstance(answer, Refused) else await rest_reply.of_reply(answer)

    # -- the key --------------------------------------------------------------------------------------------------

    def _caller(self, request: web.Request, endpoint: str) -> Caller | web.Response:
        """Who asks, whether or not the key is good."""
        nobody = Caller(
            _IFACE, None, _address(request), endpoint=endpoint, certificate=certificate_of(request.transport)
        )
        headers = request.headers.getall("Authorization", [])
        caller, none_shown = identified(self._gate.grants, nobody, headers)
        leaked = key_in_url(request)
        if leaked is not None:
            rejected = self._reject(caller, None, leaked)
            rejected.force_close()
            return rejected
        return caller if none_shown is None else self._reject(caller, None, Rejected(none_shown))

    def _admit(self, request: web.Request, route: Route) -> tuple[Caller, Row] | web.Response:
        """The key and its scope, before anything is read of the body."""
        caller = self._caller(request, route.path)
        if isinstance(caller, web.Response):
            return caller
        row = self._gate.admit(caller, route.proto_id)
        return rest_reply.of_refusal(row) if isinstance(row, Refused) else (caller, row)

    async def _key(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request, _KEY_PAGE)
        if isinstance(caller, web.Response):
            return caller
        found = self._gate.usage(caller)
        if isinstance(found, Refused):
            return rest_reply.of_refusal(found)
        grant, usage = found
        trading = self._gate.trading(grant.key.id)
        return rest_reply.of_content(allowance(grant, usage, self._gate.grants.now(), trading, self._gate.terms))

    # -- what is no answer ----------------------------------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = self._preflight(request) or await self._answer(request, handler)
        if response.prepared:
            return response
        if response.status == 401 or not request.path.startswith("/api/"):
            response.force_close()  # SECURITY: who showed no good key keeps no connection
        if self._settings.allowed_origins:
            response.headers["Vary"] = "Origin"
            origin = self._allowed_origin(request)
            if origin is not None:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as refused:
            if request.match_info.http_exception is not None:
                return await self._no_such_route(request)  # no path at all, as in `CONNECT a:1` or `OPTIONS *`
            return rest_reply.of_error(refused.status, refused.reason.lower())
        except ConnectionError:
            raise  # the client has gone
        except Exception:
            # the operator finds the traceback in the log; a reply never carries one
            log.exception("a REST request failed", path=printable(request.path))
            return rest_reply.of_error(500, "internal error; the operator finds it in the log")

    async def _no_such_route(self, request: web.Request) -> web.StreamResponse:
        path = printable(request.path)
        caller = self._caller(request, path)
        if isinstance(caller, web.Response):
            return caller
        grant = self._gate.grants.of(caller)
        if isinstance(grant, Refusal):
            return self._reject(caller, None, Rejected(grant))
        methods: set[str] = set()
        for resource in self._known:
            methods |= (await resource.resolve(request))[1]
        if methods and request.method not in methods:
            allowed = ", ".join(sorted(methods))
            wrong = malformed(f"{path} takes {allowed}, not {printable(request.method)}", 405)
            return self._reject(caller, None, replace(wrong, headers={"Allow": allowed}))
        close = resembling(request.path)
        hint = f"; did you mean `{close}`?" if close else ""
        return self._reject(caller, None, Rejected(Refusal(Code.UNKNOWN_REQUEST, f"unknown route `{path}`{hint}")))

    def _reject(self, caller: Caller, row: Row | None, why: Rejected) -> web.Response:
        refused = self._gate.refuse(caller, row, 0 if row is None else row.id, why.refusal)
        return rest_reply.of_refusal(refused, why.status, why.headers)

    def _turned_away(self, address: str) -> str:
        nobody = Caller(_IFACE, None, address, endpoint="connect")
        return self._gate.refuse(nobody, None, 0, Refusal(Code.UPSTREAM_FULL, "there are too many connections")).text

    def _stalled(self, address: str) -> None:
        self._gate.metrics.client_cut("slow_client")
        log.warning("a client does not read its answer and was cut", address=address, door=_IFACE)

    # -- CORS -----------------------------------------------------------------------------------------------------

    def _allowed_origin(self, request: web.Request) -> str | None:
        origins = request.headers.getall("Origin", [])
        return origins[0] if len(origins) == 1 and origins[0].lower() in self._settings.allowed_origins else None

    def _preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks, without a key, whether a page may ask."""
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return web.Response(status=204, headers=_PREFLIGHT) if asks and self._allowed_origin(request) else None


def _reader(route: Route, tree: Any) -> Callable[[Row, Prepare], Message]:
    def read_body(row: Row, prepare: Prepare) -> Message:
        return dialect.read(row, tree, prepare, fixed=route.fixed, assumed=route.assumed)

    return read_body


def _address(request: web.Request) -> str:
    return request.remote or "local"
