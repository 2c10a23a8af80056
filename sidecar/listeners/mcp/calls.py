"""Carries out one call of a tool for one caller: through the desks like every request, and told so that a model can act on it.

Knows neither HTTP nor the MCP SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message

from sidecar.allowance import allowance, rehearsal
from sidecar.asked import Refused
from sidecar.border import closest, shown
from sidecar.desks import Desks, Reply
from sidecar.grants import Caller, Grant
from sidecar.listeners.mcp.filling import DRY_RUN, IDEMPOTENCY_KEY
from sidecar.listeners.mcp.tool import Tool
from sidecar.listeners.mcp.tools import MY_LIMITS, TOOLS
from sidecar.listeners.refusals import NATIVE, retry_after
from sidecar.policy.decision import Code, Decision, Refusal
from sidecar.wire import catalog, dialect
from sidecar.wire.body import Prepare
from sidecar.wire.catalog import Row
from sidecar.wire.messages import message_class

Tree = dict[str, Any]

OPEND = "opend"
"""The `code` of what OpenD itself refused."""

_UNKNOWN_TOOL = "tools/call"
_LARGE = 256 * 1024
"""Bytes of an answer above which it is taken apart in a thread, so that the other clients go on meanwhile."""
_WRITES = frozenset({"order", "cancel"})


@dataclass(frozen=True, slots=True)
class Result:
    """What a call came to, as a tree of JSON values."""

    tree: Tree
    is_error: bool = False


def visible(grant: Grant) -> list[Tool]:
    """The tools a key may use, as far as its scopes tell; what it may do with them is decided call by call."""
    return [tool for tool in TOOLS.values() if not tool.proto_id or tool.proto_id in grant.permitted]


async def call(desks: Desks, caller: Caller, name: str, arguments: Mapping[str, Any]) -> Result:
    """Carry out one call. Whatever the model wrote is answered with a Result, never with an exception."""
    tool = TOOLS.get(name)
    if tool is None:
        stranger = replace(caller, endpoint=_UNKNOWN_TOOL)  # what the model wrote is no name for the audit
        said = f"{shown(name)} is not a tool{closest(name[:80], TOOLS)}; tools/list names those there are"
        return refused(desks.gate.refuse(stranger, None, 0, Refusal(Code.UNKNOWN_REQUEST, said)))
    caller = replace(caller, endpoint=name)
    if tool is MY_LIMITS:
        return _my_limits(desks, caller, arguments)
    reading = _Reading(tool, arguments)
    if arguments.get(DRY_RUN.name) is True and tool.effect == "order":
        decision = await desks.rehearse(caller, tool.proto_id, reading.request)
        return refused(decision) if isinstance(decision, Refused) else _rehearsed(decision)
    # what is no text is refused by the reading of the arguments, before anything is sent
    token = arguments.get(IDEMPOTENCY_KEY.name) if tool.effect in _WRITES else None
    once = token if isinstance(token, str) else None
    answer = await desks.ask(caller, tool.proto_id, reading.request, idempotency_key=once)
    if tool.sub_type is not None and isinstance(answer, Reply) and not _succeeded(answer):
        # OpenD's words for "subscribe first" are in the user's language, so any no of its is taken for it, once
        subscribed = await desks.ask(caller, catalog.QOT_SUB, reading.subscription)
        if isinstance(subscribed, Refused) or not _succeeded(subscribed):
            return await _told(tool, subscribed)
        answer = await desks.ask(caller, tool.proto_id, reading.request)
    return await _told(tool, answer)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The arguments of one call, read where the desk asks for it: after the key and its scopes were looked at."""

    tool: Tool
    arguments: Mapping[str, Any]

    def request(self, row: Row, prepare: Prepare) -> Message:
        tool = self.tool
        tree = {"c2s": tool.c2s(tool.read(self.arguments))}
        return dialect.read(row, tree, prepare, fixed=tool.fixed, assumed=tool.assumed)

    def subscription(self, row: Row, prepare: Prepare) -> Message:
        """Qot_Sub of what the tool reads. It says nothing of pushes: those of the key's other clients stay as they are."""
        values = self.tool.read(self.arguments)
        assert self.tool.sub_type is not None
        securities = values["symbols"] if "symbols" in values else [values["symbol"]]
        c2s = {
            "securityList": securities,
            "subTypeList": [self.tool.sub_type(values)],
            "isSubOrUnSub": True,
        }
        return dialect.read(row, {"c2s": c2s}, prepare)


# -- how it is told ---------------------------------------------------------------------------------------------------


async def _told(tool: Tool, answer: Reply | Refused) -> Result:
    if isinstance(answer, Refused):
        return refused(answer)
    if len(answer.body) > _LARGE:
        envelope = await asyncio.get_running_loop().run_in_executor(None, _envelope, answer)
    else:
        envelope = _envelope(answer)
    if envelope["ret_type"] != 0:
        said = envelope["ret_msg"] or f"it failed (retType {envelope['ret_type']}) and was not said why"
        more = {name: envelope[name] for name in ("ret_type", "err_code")}
        return _error(f"OpenD: {said}", OPEND, decision_id=answer.decision_id, **more)
    tree: Tree = dict(envelope["s2c"] or {})
    if tool.effect != "read":
        tree["status"] = "ok"
        tree["decision_id"] = answer.decision_id
        if answer.replayed:
            tree["replayed"] = True
    return Result(tree)


def _envelope(reply: Reply) -> Tree:
    return dialect.envelope(_response(reply))


def _response(reply: Reply) -> Message:
    return message_class(reply.row.response or "").FromString(reply.body)


def _succeeded(reply: Reply) -> bool:
    response: Any = _response(reply)
    return bool(response.retType == 0)


def refused(refusal: Refused) -> Result:
    """A no of the sidecar: what is not allowed, whether to try again, and when."""
    return _error(
        f"{refusal.text}; {_advice(refusal)}",
        refusal.code.value,
        retry_after=retry_after(refusal),
        decision_id=refusal.decision_id,
    )


def _advice(refusal: Refused) -> str:
    if refusal.unknown:
        return "futu_get_orders shows the orders"
    if refusal.retry_after is not None:
        return f"the same request may pass in {refusal.retry_after} s"
    if refusal.code in _ADVICE:
        return _ADVICE[refusal.code]
    match NATIVE[refusal.code].http:
        case 401:
            return "only the owner of the keys can change that"
        case 400 | 404 | 409 | 413:
            return "correct it and call again"
        case 503:
            return "it may pass later"
    return "repeating it does not help, my_limits tells what is allowed"


_ADVICE: Mapping[Code, str] = {
    Code.HOURS: "it may pass within the hours that my_limits tells",
    Code.MARKET_CLOSED: "it may pass once the market is open",
    Code.SHORT_SALE: "it may pass at a smaller quantity; what was cancelled is free a few seconds later",
    Code.POSITION_UNKNOWN: "it may pass a little later",
    Code.PRICE_COLLAR: "it may pass at a price nearer to the market's",
    Code.DAILY_VALUE: "it may pass when the next day begins, or at a smaller value",
    Code.TRADING_HALTED: "it may pass when the owner resumes trading; cancels still work",
    Code.REDUCE_ONLY: "only orders that sell what is held or buy back what is short pass now; cancels still work",
    Code.BREAKER: "stop and tell your user: the key was halted by itself; only the owner can resume it, cancels still work",
    Code.KEYS_STALE: "it may pass when the owner has mended the keys",
    Code.SCOPE: "repeating it does not help: only the owner can give this key more",
}


def _error(text: str, code: str, **more: Any) -> Result:
    return Result({"error": text, "code": code, "retry_after": None, "status": "error", **more}, is_error=True)


def _rehearsed(decision: Decision) -> Result:
    """A dry run is answered, not refused, whatever it found."""
    return Result(rehearsal(decision))


def _my_limits(desks: Desks, caller: Caller, arguments: Mapping[str, Any]) -> Result:
    if arguments:
        said = f"my_limits takes no arguments, {shown(next(iter(arguments)))} was given"
        return refused(desks.gate.refuse(caller, None, 0, Refusal(Code.UNKNOWN_FIELD, said)))
    found = desks.gate.usage(caller)
    if isinstance(found, Refused):
        return refused(found)
    grant, usage = found
    gate = desks.gate
    return Result(allowance(grant, usage, gate.grants.now(), gate.trading(grant.key.id), gate.terms))
