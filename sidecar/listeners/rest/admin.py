"""The owner's switch over REST: halt, resume and status for keys with the scope `admin`. It decides nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from sidecar.asked import Refused
from sidecar.errors import BodyError
from sidecar.grants import Caller
from sidecar.listeners.door import Handler
from sidecar.listeners.rest import reply as rest_reply
from sidecar.listeners.rest.request import Rejected, body_of, malformed
from sidecar.policy.decision import Code, Refusal
from sidecar.switch import Done, Switch, Wanted, Who, wanted_of
from sidecar.wire import dialect
from sidecar.wire.catalog import Row

HALT, RESUME, STATUS = "/api/admin/halt", "/api/admin/resume", "/api/admin/status"
LARGEST_BODY = 16 * 1024

Act = Callable[[Who, Wanted], Awaitable[Done | Refusal]]


class AdminRoutes:
    """`caller` and `reject` are the door's: who asks, and a no of its own as a response."""

    def __init__(
        self, switch: Switch, *, caller: Callable[[web.Request, str], Caller | web.Response],
        reject: Callable[[Caller, Row | None, Rejected], web.Response], body_patience: float,
    ) -> None:  # fmt: skip
        self._switch = switch
        self._caller = caller
        self._reject = reject
        self._body_patience = body_patience

    def posts(self) -> dict[str, Handler]:
        return {
            HALT: partial(self._change, HALT, self._switch.halt),
            RESUME: partial(self._change, RESUME, self._switch.resume),
        }

    async def status(self, request: web.Request) -> web.StreamResponse:
        admitted = self._admit(request, STATUS)
        if isinstance(admitted, web.Response):
            return admitted
        return rest_reply.of_content(self._switch.status())

    async def _change(self, path: str, act: Act, request: web.Request) -> web.StreamResponse:
        admitted = self._admit(request, path)
        if isinstance(admitted, web.Response):
            return admitted
        caller, who = admitted
        raw = await body_of(request, LARGEST_BODY, self._body_patience)
        if isinstance(raw, Rejected):
            return self._reject(caller, None, raw)
        try:
            wanted = wanted_of(dialect.tree_of(raw, LARGEST_BODY) if raw else {})
        except BodyError as error:
            return self._reject(caller, None, Rejected(Refusal(Code(error.code), str(error))))
        except ValueError as error:
            return self._reject(caller, None, malformed(str(error)))
        done = await act(who, wanted)
        if isinstance(done, Refusal):
            return self._reject(caller, None, Rejected(done))
        return rest_reply.of_content(done.tree())

    def _admit(self, request: web.Request, path: str) -> tuple[Caller, Who] | web.Response:
        caller = self._caller(request, path)
        if isinstance(caller, web.Response):
            return caller
        who = self._switch.admit(caller)
        return rest_reply.of_refusal(who) if isinstance(who, Refused) else (caller, who)
