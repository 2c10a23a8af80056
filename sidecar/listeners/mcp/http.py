"""What an HTTP request says before the MCP SDK sees it, and errors in JSON-RPC's form. Looks no key up, decides nothing."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from sidecar.asked import Refused
from sidecar.listeners.refusals import retry_after


def rpc_error(status: int, number: int, text: str, refused: Refused | None = None) -> web.Response:
    """JSON-RPC's own form of an error, which clients show; `id` null, since the request was not looked at."""
    error: dict[str, Any] = {"code": number, "message": text}
    if refused is not None:
        error["data"] = {"code": refused.code.value, "retry_after": retry_after(refused)}
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error})
    return web.Response(status=status, body=body, content_type="application/json")


def scope_of(request: web.Request) -> dict[str, Any]:
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


def unreadable(request: web.Request) -> str | None:
    """Why its body is not even looked at."""
    encodings = request.headers.getall("Content-Encoding", [])
    if any(encoding.strip().lower() not in ("", "identity") for encoding in encodings):
        return "compressed bodies are not taken; send it as it is"
    if request.content_type != "application/json":
        return "the Content-Type must be `application/json`"
    return None


def unfit(message: object) -> str | None:
    """Why it is no message the SDK could carry out; said here, since what the SDK refuses by itself is not audited."""
    if not isinstance(message, dict) or not message:
        return "the body must be one JSON-RPC message, an object"
    if message.get("jsonrpc") != "2.0":
        return 'a JSON-RPC message has `"jsonrpc": "2.0"`'
    if message.get("method") != "tools/call":
        return None
    if not isinstance(message.get("id"), str) and type(message.get("id")) is not int:
        # the SDK would take it for a notification: accepted, never carried out
        return "tools/call needs an `id`, a text or a whole number"
    params = message.get("params")
    if not isinstance(params, dict) or not isinstance(params.get("name"), str):
        return "tools/call needs `params` with a `name`"
    if not isinstance(params.get("arguments", {}), dict | None):
        return "`arguments` of tools/call must be an object"
    return None


def allowed_origin(request: web.Request, allowed: tuple[str, ...]) -> dict[str, str] | None:
    """What a browser must read before a page of this origin may see the answer."""
    origin = request.headers.get("Origin")
    if origin is None or origin not in allowed:
        return None
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
