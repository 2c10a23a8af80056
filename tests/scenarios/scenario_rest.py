"""The REST door: routes where there is one, else the request by its name; bodies in snake_case."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, ClassVar

import aiohttp
from scenarios.scenario_doors import DOORS, Answer, Client, ClientGone, understood
from scenarios.scenario_table import Ask

from sidecar.listeners.rest.routes import ROUTES, Route
from sidecar.wire.dialect import snake

PATIENCE = aiohttp.ClientTimeout(total=10)


def route_of(ask: Ask) -> Route | None:
    """The route that says most by itself: `/api/cancel-order` for a cancel."""
    fitting = [
        route
        for route in ROUTES.values()
        if route.proto_id == ask.proto_id and all(ask.c2s.get(name, ()) == value for name, value in route.fixed.items())
    ]
    return max(fitting, key=lambda route: len(route.fixed), default=None)


def path_of(ask: Ask, route: Route | None) -> str:
    if route is not None:
        return route.path
    return "/api/no-such-thing" if ask.proto_id == 0 else f"/api/proto/{ask.name}"


def snaked(value: Any) -> Any:
    if isinstance(value, dict):
        return {snake(name): snaked(part) for name, part in value.items()}
    return [snaked(part) for part in value] if isinstance(value, list) else value


class RestClient:
    refused: Answer | None = None

    def __init__(self, port: int, key: str | None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._session = aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE)

    async def ask(self, ask: Ask) -> Answer:
        route = route_of(ask)
        c2s = {name: value for name, value in ask.c2s.items() if route is None or name not in route.fixed}
        if ask.extras.get("unknown_field"):
            c2s["odd"] = 1
        dry_run = {"dry_run": True} if ask.extras.get("dry_run") else {}
        body = json.dumps({**dry_run, "c2s": snaked(c2s)}).encode()
        if ask.extras.get("garbage"):
            body = b'{"c2s": not a body'
        body += b" " * int(ask.extras.get("padding", 0))
        headers = {"Content-Type": "application/json"}
        if "idempotency_key" in ask.extras:
            headers["Idempotency-Key"] = ask.extras["idempotency_key"]
        try:
            async with self._session.post(path_of(ask, route), data=body, headers=headers) as reply:
                content = json.loads(await reply.read())
                return _answer(reply, content)
        except (aiohttp.ClientConnectionError, RuntimeError) as error:
            raise ClientGone(str(error)) from None

    async def leave(self) -> None:
        await self._session.close()

    async def close(self) -> None:
        await self._session.close()


def _answer(reply: aiohttp.ClientResponse, content: dict[str, Any]) -> Answer:
    if reply.status == 200 and (content["s2c"] or {}).get("dry_run"):
        found = content["s2c"]
        return Answer(
            found["code"], found["message"] or "", response=SimpleNamespace(retType=0, tree=found), native=200
        )
    if reply.status == 200:
        response = SimpleNamespace(retType=content["ret_type"], tree=content["s2c"] or {})
        return Answer(None, content["ret_msg"] or "", response=response, native=200)
    code, message, decision_id = understood(content["ret_msg"])
    assert code == content["code"], "the code by itself and the one in the text are the same"
    assert reply.headers.get("X-Decision-Id") == content["decision_id"]
    if decision_id is not None:
        assert content["decision_id"] == decision_id
    wait = reply.headers.get("Retry-After")
    return Answer(code, message, decision_id, native=reply.status, retry_after=None if wait is None else int(wait))


@DOORS.add
class Rest:
    name: ClassVar[str] = "rest"
    listener: ClassVar[str] = "rest"
    iface: ClassVar[str] = "rest"

    async def connect(self, port: int, key: str | None) -> Client:
        return RestClient(port, key)
