"""What more than one of doctor's probes asks of OpenD: accounts, a known symbol, headers. Judges no answer."""

from __future__ import annotations

from typing import Any

from sidecar.doctor.line import Line
from sidecar.errors import UpstreamError
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

KNOWN_SYMBOLS = {"HK": (1, "00700"), "US": (11, "AAPL"), "SH": (21, "600519")}
"""Market → QotMarket and a code that is always traded there."""
SIMULATE = 0
"""TrdEnv of paper accounts."""
KNOWN_MARKETS = {1: ("HK", 1), 2: ("US", 2)}
"""TrdMarket → the market of a known symbol, and its TrdSecMarket."""


def state_request() -> Any:
    request: Any = message_class("GetGlobalState.Request")()
    request.c2s.userID = 0
    return request


async def accounts(line: Line) -> list[Any]:
    """OpenD's own (Trd_Common.TrdAcc). Raises UpstreamError."""
    request: Any = message_class("Trd_GetAccList.Request")()
    request.c2s.userID = 0
    reply = await line.ask(catalog.GET_ACC_LIST, request)
    if reply.retType != 0:
        raise UpstreamError(f"OpenD does not list its accounts: {reply.retMsg}")
    return [account for account in reply.s2c.accList if account.trdMarketAuthList]


async def paper_account(line: Line) -> Any:
    """One that trades a known symbol; None where there is none. Raises UpstreamError."""
    for account in await accounts(line):
        if account.trdEnv == SIMULATE and known_market(account) is not None:
            return account
    return None


def known_market(account: Any) -> int | None:
    """The first TrdMarket of an account that has a known symbol."""
    return next((market for market in account.trdMarketAuthList if market in KNOWN_MARKETS), None)


def fill_header(request: Any, account: Any, market: int | None = None) -> None:
    header = request.c2s.header
    header.trdEnv, header.accID = account.trdEnv, account.accID
    header.trdMarket = account.trdMarketAuthList[0] if market is None else market


async def snapshot(line: Line, market: str) -> Any:
    """Of the market's known symbol. Raises UpstreamError."""
    request: Any = message_class("Qot_GetSecuritySnapshot.Request")()
    security = request.c2s.securityList.add()
    security.market, security.code = KNOWN_SYMBOLS[market]
    reply = await line.ask(catalog.GET_SECURITY_SNAPSHOT, request)
    if reply.retType != 0 or not reply.s2c.snapshotList:
        raise UpstreamError(reply.retMsg or "OpenD tells nothing of it")
    return reply.s2c.snapshotList[0].basic
