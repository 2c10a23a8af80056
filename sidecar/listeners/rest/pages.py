"""The pages of the REST door that ask for no key: health, readiness, metrics, documentation. They tell nothing of any request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from aiohttp import web

from sidecar.listener_settings import RestListener as Settings
from sidecar.listeners.admin import Problem
from sidecar.listeners.door import Handler
from sidecar.listeners.http_guard import address_here, addressed_to_us, from_another_site
from sidecar.listeners.openapi.page import docs_routes
from sidecar.listeners.rest.reply import HEADERS, of_error
from sidecar.metrics import Metrics


class PublicPages:
    """`readiness` is empty when orders can be served."""

    def __init__(
        self, metrics: Metrics, readiness: Callable[[], Sequence[Problem]], allowed_origins: Collection[str]
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._allowed_origins = allowed_origins

    def by_path(self, settings: Settings) -> dict[str, Handler]:
        """Those that are on. Raises ConfigError when what `/docs` needs is not installed."""
        pages: dict[str, Handler] = {"/health": self._health, "/readyz": self._ready}
        if settings.metrics:
            pages["/metrics"] = self._scrape
        if settings.docs:
            pages |= {page.path: page.handler for page in docs_routes(metrics=settings.metrics)}
        return pages

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok", headers=HEADERS)

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        """What fails, in one word each; why is for the operator's own port."""
        if self._is_foreign(request):
            return _for_others()
        problems = sorted({problem.component for problem in self._readiness()})
        content = {"ready": not problems, "problems": problems}
        return web.json_response(content, status=503 if problems else 200, headers=HEADERS)

    async def _scrape(self, request: web.Request) -> web.StreamResponse:
        if self._is_foreign(request):
            return _for_others()
        body, content_type = self._metrics.exposition(request.headers.get("Accept"))
        return web.Response(body=body, headers={**HEADERS, "Content-Type": content_type})

    def _is_foreign(self, request: web.Request) -> bool:
        """SECURITY: what needs no key can be read by every page in the owner's browser, unless it is refused here. On a
        loopback address a page under a name of its own counts, too; elsewhere names are how a scraper finds us."""
        here = address_here(request)
        if here is not None and here.is_loopback and not addressed_to_us(request):
            return True
        return from_another_site(request, self._allowed_origins)


def _for_others() -> web.Response:
    return of_error(403, "web pages of other sites may not read this")
