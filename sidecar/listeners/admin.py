"""The operator's port: liveness, readiness, metrics, revision of the keys, and the operator's page. Whatever asks for no key
is read-only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import structlog
from aiohttp import web

from sidecar.listeners.certificate import Certificate
from sidecar.listeners.door import Handler, HttpPort, wait_with_the_body
from sidecar.listeners.entrance import Place
from sidecar.listeners.http_guard import addressed_to_us, from_another_site, host_of
from sidecar.listeners.operator.page import LARGEST_BODY, OperatorPage
from sidecar.metrics import Metrics
from sidecar.policy.decision import Refusal

DEFAULT_BIND = "127.0.0.1"
DEFAULT_PORT = 11180

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_log = structlog.get_logger("sidecar.admin")


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why orders would be refused now: where it is, and in the operator's words what to do about it."""

    component: Literal["upstream", "keys", "ledger", "audit", "settings", "certificate"]
    message: str


class AdminListener:
    """HTTP on a loopback port or a unix socket: `/healthz`, `/readyz`, `/metrics`, `/api/revision`, and the page at `/`.

    SECURITY: but for the page it asks for no key, so it answers only requests addressed to this machine: the Host must be a loopback
    name, the very address the connection came in on, or one of `allowed_hosts`. A web page that makes its own name
    resolve to 127.0.0.1 still sends that name. Requests that a browser makes for another site are refused as well.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        readiness: Callable[[], Sequence[Problem]],
        revision: Callable[[], str],
        halted: Callable[[], str | None] = lambda: None,
        lock: Callable[[], str] = lambda: "unknown",
        bind: str = DEFAULT_BIND,
        port: int = DEFAULT_PORT,
        socket_mode: int = 0o660,
        certificate: Certificate | None = None,
        page: OperatorPage | None = None,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        """`readiness` is empty when orders can be served; `halted` says that the owner has halted all trading, which is no
        problem: cancels are served; `lock` what is known of OpenD's lock. `allowed_hosts` are further names, with or without a port."""
        self._metrics = metrics
        self._readiness = readiness
        self._revision = revision
        self._halted = halted
        self._lock = lock
        remedy = "`--admin-port` (`off` for none) or the setting `listeners.admin`"
        self._place = Place(bind, port, remedy, socket_mode, certificate)
        self._page = page
        self._allowed_hosts = frozenset(name for name in map(host_of, allowed_hosts) if name is not None)
        self._http: HttpPort | None = None

    async def start(self) -> int | str:
        """Listen; the port bound, or `unix:/path`. Raises ConfigError when the place cannot be had."""
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST_BODY)
        gets: dict[str, Handler] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._scrape,
            "/api/revision": self._revision_of_keys,
        }
        posts: dict[str, Handler] = {}
        if self._page is not None:
            gets |= self._page.gets()
            posts |= self._page.posts()
        for path, page in gets.items():
            app.router.add_get(path, page, expect_handler=wait_with_the_body)
            app.router.add_route("*", path, _only("GET", "HEAD"), expect_handler=wait_with_the_body)
        for path, page in posts.items():
            app.router.add_post(path, page, expect_handler=wait_with_the_body)
            app.router.add_route("*", path, _only("POST"), expect_handler=wait_with_the_body)
        app.router.add_route("*", "/{any:.*}", _no_such_page, expect_handler=wait_with_the_body)
        self._http = HttpPort(app, self._place, failed=self._handshake_failed)
        return await self._http.start()

    def _handshake_failed(self, address: str, word: str, refusal: Refusal | None) -> None:
        self._metrics.handshake_failed("admin", word)
        if refusal is not None:
            _log.info("a TLS handshake of the admin listener failed", address=address, problem=refusal.message)

    async def stop(self) -> None:
        """Stop listening; does nothing when it was never started."""
        if self._http is not None:
            await self._http.stop()

    # -- the pages ------------------------------------------------------------------------------------------------

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok", headers=_HEADERS)

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        problems = self._readiness()
        shown = [{"component": problem.component, "message": problem.message} for problem in problems]
        halted = self._halted()
        content: dict[str, Any] = {"ready": not problems, "problems": shown}
        if halted:
            content["halted"] = halted
        lock = self._lock()
        if lock != "unknown":
            content["opend_lock"] = lock
        return _json(content, status=503 if problems else 200)

    async def _scrape(self, request: web.Request) -> web.StreamResponse:
        body, content_type = self._metrics.exposition(request.headers.get("Accept"))
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def _revision_of_keys(self, _request: web.Request) -> web.StreamResponse:
        return _json({"revision": self._revision(), "pid": os.getpid()})

    # -- the guard ------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not addressed_to_us(request, self._allowed_hosts) or from_another_site(request):
            return _json({"error": "forbidden"}, status=403)
        try:
            return await handler(request)
        except web.HTTPException as refused:
            return _json({"error": refused.reason.lower()}, status=refused.status, allow=refused.headers.get("Allow"))
        except Exception:
            # the operator finds the traceback in the log; a reply never carries one
            _log.exception("an admin request failed", path=request.path)
            return _json({"error": "internal error"}, status=500)


def _only(*methods: str) -> Handler:
    async def refused(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, methods)

    return refused


async def _no_such_page(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


def _json(content: object, *, status: int = 200, allow: str | None = None) -> web.Response:
    headers = {**_HEADERS, "Allow": allow} if allow else _HEADERS
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json", headers=headers)
