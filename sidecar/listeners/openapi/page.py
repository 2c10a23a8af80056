"""The REST door's documentation: `/openapi.json`, and `/docs`, a page to browse and try it with. It asks for no key and tells none.

The page is Swagger UI out of the package `fastapi-offline`, which holds its files; nothing of that package is imported.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import re
import threading
from functools import cache
from pathlib import Path

import orjson
from aiohttp import web

from sidecar.errors import ConfigError
from sidecar.listeners.openapi import document as openapi

_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

# SECURITY: a key is typed into this page. It runs the two scripts below and no other, talks to its own origin alone, and
# is shown in no frame. Swagger UI sets styles on elements, and has its icons as data: URLs.
_PAGE_HEADERS = {
    **_NO_STORE,
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>opend-sidecar: REST</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="stylesheet" href="docs/assets/page.css">
</head>
<body>
<div id="operations"><p class="loading">loading; without JavaScript, read <a href="openapi.json">openapi.json</a></p></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/assets/page.js"></script>
</body>
</html>
"""

# The schemas are shown with the operations that use them: a list of all of them is long and slow.
# The key that was typed in is forgotten with the page.
_SCRIPT = """"use strict";
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#operations",
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  defaultModelsExpandDepth: -1,
  defaultModelExpandDepth: 3,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""

_STYLE = """body { margin: 0; background: #fafafa; }
.loading { font: 16px sans-serif; text-align: center; margin-top: 4em; }
"""

_JAVASCRIPT = "text/javascript; charset=utf-8"
_CSS = "text/css; charset=utf-8"

_OURS = {"page.js": (_SCRIPT, _JAVASCRIPT), "page.css": (_STYLE, _CSS)}
_THEIRS = {"swagger-ui-bundle.js": _JAVASCRIPT, "swagger-ui.css": _CSS}

_ASSET_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
"""A browser may keep them, and asks whether they are still the same."""


def docs_routes(*, metrics: bool = True) -> list[web.RouteDef]:
    """`/openapi.json`, `/docs` and `/docs/assets/...`. `metrics`: whether the door has `/metrics`.

    Raises ConfigError when the package with Swagger UI is not installed.
    """
    folder = _swagger_ui()
    version = _version()

    async def document(_request: web.Request) -> web.StreamResponse:
        # in a thread: it is made once, of a thousand messages, while other doors may have an order waiting
        content = await asyncio.to_thread(_document, version, metrics)
        return web.Response(body=content, content_type="application/json", headers=_NO_STORE)

    async def page(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=_PAGE, content_type="text/html", headers=_PAGE_HEADERS)

    async def to_page(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=308, headers={**_NO_STORE, "Location": "../docs"})

    async def asset(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name in _OURS:
            text, kind = _OURS[name]
            return web.Response(text=text, headers={**_NO_STORE, "Content-Type": kind})
        return web.FileResponse(folder / name, headers={**_ASSET_HEADERS, "Content-Type": _THEIRS[name]})

    names = "|".join(re.escape(name) for name in (*_OURS, *_THEIRS))
    return [
        web.get("/openapi.json", document),
        web.get("/docs", page),
        web.get("/docs/", to_page),
        web.get(f"/docs/assets/{{name:{names}}}", asset),
    ]


def _version() -> str:
    try:
        return importlib.metadata.version("opend-sidecar")
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "unknown"


_making = threading.Lock()


@cache
def _encoded(version: str, metrics: bool) -> bytes:
    return orjson.dumps(openapi.document(version, metrics=metrics))


def _document(version: str, metrics: bool) -> bytes:
    with _making:  # of many who ask at the start, one makes it
        return _encoded(version, metrics)


@cache
def _swagger_ui() -> Path:
    spec = importlib.util.find_spec("fastapi_offline")
    folder = Path(spec.submodule_search_locations[0]) / "static" if spec and spec.submodule_search_locations else None
    if folder is None or not all((folder / name).is_file() for name in _THEIRS):
        raise ConfigError(
            "the package `fastapi-offline`, which holds the files of `/docs`, is not installed; "
            "run `pip install fastapi-offline`, or write `docs: false` under `listeners.rest`"
        )
    return folder
