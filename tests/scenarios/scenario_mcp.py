"""The MCP door: calls of tools over streamable HTTP, as a model's client makes them once it is connected."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, ClassVar

import aiohttp
from scenarios.scenario_doors import DOORS, Answer, Client, ClientGone, understood
from scenarios.scenario_table import Ask

PATIENCE = aiohttp.ClientTimeout(total=10)
_SEC_PREFIX = {1: "HK", 2: "US"}
_QOT_PREFIX = {1: "HK", 11: "US"}
Arguments = dict[str, Any]


def _account(c2s: dict[str, Any]) -> Arguments:
    header = c2s["header"]
    return {"acc_id": str(header["accID"]), "trd_env": header["trdEnv"], "market": header["trdMarket"]}


def _place(c2s: dict[str, Any]) -> tuple[str, Arguments]:
    names = {
        "trdSide": "side", "orderType": "order_type", "qty": "qty", "price": "price", "remark": "remark",
        "timeInForce": "time_in_force", "session": "session", "fillOutsideRTH": "fill_outside_rth",
        "auxPrice": "aux_price",
    }  # fmt: skip
    market = c2s.get("secMarket", c2s["header"]["trdMarket"])
    symbol = f"{_SEC_PREFIX[market]}.{c2s['code']}"
    return "futu_place_order", {**_account(c2s), "symbol": symbol, **_renamed(c2s, names)}


def _change(c2s: dict[str, Any]) -> tuple[str, Arguments]:
    names = {"orderID": "order_id", "orderIDEx": "order_id_ex", "qty": "qty", "price": "price"}
    c2s = {name: value for name, value in c2s.items() if (name, value) != ("orderID", 0)}
    if c2s["modifyOrderOp"] != 2:
        return "futu_modify_order", {**_account(c2s), "op": c2s["modifyOrderOp"], **_renamed(c2s, names)}
    if c2s.get("forAll"):
        return "futu_cancel_all_order", _account(c2s)
    return "futu_cancel_order", {**_account(c2s), **_renamed(c2s, names)}


def _renamed(c2s: dict[str, Any], names: dict[str, str]) -> Arguments:
    return {names[name]: value for name, value in c2s.items() if name in names}


def _symbols(c2s: dict[str, Any]) -> list[str]:
    return [f"{_QOT_PREFIX[one['market']]}.{one['code']}" for one in c2s["securityList"]]


_TOOLS: dict[str, Callable[[dict[str, Any]], tuple[str, Arguments]]] = {
    "GetGlobalState": lambda c2s: ("futu_ping", {}),
    "Qot_GetSecuritySnapshot": lambda c2s: ("futu_get_snapshot", {"symbols": _symbols(c2s)}),
    "Qot_Sub": lambda c2s: ("futu_subscribe", {"symbols": _symbols(c2s), "sub_types": c2s["subTypeList"]}),
    "Qot_GetSubInfo": lambda c2s: ("futu_query_subscription", {}),
    "Trd_GetAccList": lambda c2s: ("futu_list_accounts", {}),
    "Trd_GetFunds": lambda c2s: ("futu_get_funds", _account(c2s)),
    "Trd_GetPositionList": lambda c2s: ("futu_get_positions", _account(c2s)),
    "Trd_GetOrderList": lambda c2s: ("futu_get_orders", _account(c2s)),
    "Trd_GetOrderFillList": lambda c2s: ("futu_get_deals", _account(c2s)),
    "Trd_UnlockTrade": lambda c2s: ("futu_unlock_trade", {"unlock": c2s["unlock"]}),
    "Trd_PlaceOrder": _place,
    "Trd_ModifyOrder": _change,
}


class McpClient:
    refused: Answer | None = None

    def __init__(self, port: int, key: str | None) -> None:
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE)
        self._ids = count(1)

    async def ask(self, ask: Ask) -> Answer:
        if ask.known:
            tool, arguments = _TOOLS[ask.name](ask.c2s)
        else:
            tool, arguments = "futu_no_such_tool", {}
        if ask.extras.get("unknown_field"):
            arguments["odd"] = 1
        if "idempotency_key" in ask.extras:
            arguments["idempotency_key"] = ask.extras["idempotency_key"]
        if ask.extras.get("dry_run"):
            arguments["dry_run"] = True
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": "tools/call", "params": params}
        body = json.dumps(message).encode()
        if ask.extras.get("garbage"):
            params["arguments"]["qty"] = {"not": "a number"}
            body = json.dumps(message).encode()
        body += b" " * int(ask.extras.get("padding", 0))
        try:
            async with self._session.post("/mcp", data=body) as reply:
                return _answer(reply.status, json.loads(await reply.read()))
        except (aiohttp.ClientConnectionError, RuntimeError) as error:
            raise ClientGone(str(error)) from None

    async def leave(self) -> None:
        await self._session.close()

    async def close(self) -> None:
        await self._session.close()


def _answer(status: int, reply: dict[str, Any]) -> Answer:
    if "error" in reply:
        error = reply["error"]
        code, message, decision_id = understood(error["message"])
        assert code == error["data"]["code"], reply
        return Answer(code, message, decision_id, native=status, retry_after=error["data"]["retry_after"])
    result = reply["result"]
    said = result["structuredContent"]
    assert [json.loads(part["text"]) for part in result["content"]] == [said], "for clients that read text alone"
    if said.get("dry_run"):
        return Answer(
            said["code"], said["message"] or "", response=SimpleNamespace(retType=0, tree=said), native=status
        )
    if not result.get("isError"):
        tree = {name: value for name, value in said.items() if name not in ("status", "decision_id", "replayed")}
        return Answer(None, "", response=SimpleNamespace(retType=0, tree=tree), native=status)
    if said["code"] == "opend":
        return Answer(None, said["error"], response=SimpleNamespace(retType=said["ret_type"], tree={}), native=status)
    code, message, decision_id = understood(said["error"])
    assert (code, decision_id) == (said["code"], said["decision_id"])
    return Answer(code, message, decision_id, native=status, retry_after=said["retry_after"])


@DOORS.add
class Mcp:
    name: ClassVar[str] = "mcp"
    listener: ClassVar[str] = "mcp"
    iface: ClassVar[str] = "mcp"

    async def connect(self, port: int, key: str | None) -> Client:
        return McpClient(port, key)
