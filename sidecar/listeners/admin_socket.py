"""The owner's socket in the state directory: halt, resume, status, explain and reload for the commands of the same names. It asks for no
key: who may open the socket is the owner.

SECURITY: the admin port stays read-only, because any process of any user of the machine may connect to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import web

from sidecar.explaining import Explaining
from sidecar.ledger import admin_socket
from sidecar.listeners.door import Handler
from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Refusal
from sidecar.switch import OWNER, Done, Switch, wanted_of

LARGEST_BODY = 16 * 1024
HALT, RESUME, STATUS = "/api/admin/halt", "/api/admin/resume", "/api/admin/status"
EXPLAIN, RELOAD = "/api/admin/explain", "/api/admin/reload"

log = structlog.get_logger()


class Reload(Protocol):
    """Reads again what a running sidecar reads again; both give JSON values."""

    async def reload_all(self) -> dict[str, Any]: ...

    async def rehearse_reload(self) -> dict[str, Any]: ...


class AdminSocket:
    """HTTP with JSON on a unix socket, of mode 0600."""

    def __init__(self, folder: Path, switch: Switch, explaining: Explaining, reload: Reload) -> None:
        self._folder = folder
        self._switch = switch
        self._explaining = explaining
        self._reload = reload
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises ConfigError when the socket cannot be made."""
        listening = admin_socket.bound(self._folder)
        app = web.Application(middlewares=[_guard], client_max_size=LARGEST_BODY)
        app.router.add_post(HALT, self._halt)
        app.router.add_post(RESUME, self._resume)
        app.router.add_get(STATUS, self._status)
        app.router.add_post(EXPLAIN, self._explain)
        app.router.add_post(RELOAD, self._reload_all)
        app.router.add_get(RELOAD, self._rehearse_reload, allow_head=False)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None, "setup made it"
        self._server = await asyncio.get_running_loop().create_unix_server(self._runner.server, sock=listening)

    async def stop(self) -> None:
        """Stop listening and remove the socket; does nothing when it was never started."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        with contextlib.suppress(OSError):
            (self._folder / admin_socket.NAME).unlink()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _halt(self, request: web.Request) -> web.StreamResponse:
        return _told(await self._switch.halt(OWNER, wanted_of(await _tree(request))))

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        return _told(await self._switch.resume(OWNER, wanted_of(await _tree(request))))

    async def _status(self, _request: web.Request) -> web.StreamResponse:
        return _json(self._switch.status())

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._explaining.explain(await _tree(request)))

    async def _reload_all(self, _request: web.Request) -> web.StreamResponse:
        return _json(await self._reload.reload_all())

    async def _rehearse_reload(self, _request: web.Request) -> web.StreamResponse:
        return _json(await self._reload.rehearse_reload())


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ValueError as error:
        return _json({"error": str(error)}, 400)
    except web.HTTPException as refused:
        return _json({"error": refused.reason.lower()}, refused.status)
    except Exception:
        # the operator finds the traceback in the log; a reply never carries one
        log.exception("a request on the admin socket failed", path=request.path)
        return _json({"error": "internal error; the log has it"}, 500)


async def _tree(request: web.Request) -> Any:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise ValueError("the body is not JSON") from None


def _told(answer: Done | Refusal) -> web.Response:
    if isinstance(answer, Refusal):
        return _json({"error": answer.message}, NATIVE[answer.code].http)
    return _json(answer.tree())


def _json(content: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")
