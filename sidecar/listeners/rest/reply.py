"""The forms of the REST door's answers: OpenD's reply, a refusal, a dry run, each as an HTTP response. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from sidecar.allowance import rehearsal
from sidecar.asked import Refused
from sidecar.desks import Reply
from sidecar.listeners.refusals import NATIVE, retry_after
from sidecar.policy.decision import Code, Decision
from sidecar.wire import dialect
from sidecar.wire.messages import message_class

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_LARGE = 256 * 1024
"""Bytes of an answer above which it is turned into JSON in a thread, so that the other clients go on meanwhile."""


async def of_reply(reply: Reply) -> web.Response:
    """OpenD's answer; HTTP 200 also where its ret_type is OpenD's own no."""
    if len(reply.body) > _LARGE:
        content = await asyncio.get_running_loop().run_in_executor(None, _as_json, reply)
    else:
        content = _as_json(reply)
    headers = {**HEADERS, "X-Decision-Id": reply.decision_id}
    if reply.replayed:
        headers["Idempotency-Replayed"] = "true"
    return web.Response(body=content, content_type="application/json", headers=headers)


def _as_json(reply: Reply) -> bytes:
    response = message_class(reply.row.response or "").FromString(reply.body)
    return orjson.dumps(dialect.envelope(response))


def of_refusal(refused: Refused, status: int | None = None, headers: Mapping[str, str] | None = None) -> web.Response:
    """A no of the sidecar; `status` in place of the code's own."""
    code = refused.code
    more = {**HEADERS, **(headers or {})}
    found = NATIVE[code].http if status is None else status
    if refused.decision_id is not None:
        more["X-Decision-Id"] = refused.decision_id
    if found == 401:
        more["WWW-Authenticate"] = "Bearer" if code is Code.KEY_MISSING else 'Bearer error="invalid_token"'
    wait = retry_after(refused)
    if wait is not None:
        more["Retry-After"] = str(wait)
    content = {
        "ret_type": -1, "ret_msg": refused.text, "err_code": None, "s2c": None,
        "code": code.value, "decision_id": refused.decision_id,
    }  # fmt: skip
    return web.Response(body=orjson.dumps(content), status=found, content_type="application/json", headers=more)


def of_rehearsal(decision: Decision) -> web.Response:
    """What a dry run found, every check told."""
    return of_content(rehearsal(decision))


def of_content(s2c: Mapping[str, Any]) -> web.Response:
    """An answer of the sidecar's own, in the same form as OpenD's."""
    content = {"ret_type": 0, "ret_msg": None, "err_code": None, "s2c": s2c}
    return web.Response(body=orjson.dumps(content), content_type="application/json", headers=HEADERS)


def of_error(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """What is no decision: a page asked for wrongly, a mistake of the sidecar's own."""
    content = {"ret_type": -1, "ret_msg": text, "err_code": None, "s2c": None, "code": None, "decision_id": None}
    return web.Response(
        body=orjson.dumps(content),
        status=status,
        content_type="application/json",
        headers={**HEADERS, **(headers or {})},
    )
