"""OpenD as the sidecar needs it: reached, logged in, with accounts, and of the same mind about what time it is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from sidecar.doctor.check import Check, bad, doubt, good
from sidecar.doctor.line import Line
from sidecar.errors import ConfigError, UpstreamError
from sidecar.settings import Settings
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

OFF_A_LITTLE, OFF = 3.0, 30.0
"""Seconds between the clocks; OpenD tells its own in whole ones."""
_ENVS = {0: "paper", 1: "real"}


async def opend_checks(settings: Settings) -> AsyncIterator[Check]:
    upstream = settings.upstream
    address = f"{upstream.host}:{upstream.port}"
    began = time.perf_counter()
    try:
        line = await Line.opened(upstream)
    except (UpstreamError, ConfigError) as error:
        yield bad("opend", str(error), f"start OpenD and let it listen at {address} (api_port), or change `upstream`")
        return
    try:
        took = (time.perf_counter() - began) * 1000
        assert line.session is not None
        every = line.session.init_reply.s2c.keepAliveInterval
        how = "encrypted" if upstream.rsa_key else "in clear"
        yield good("opend", f"{address} answers in {took:.0f} ms, {how}, KeepAlive every {every} s")
        async for check in _state(line):
            yield check
        yield await _accounts(line)
    except UpstreamError as error:
        yield bad("opend", str(error), "look into OpenD's own log and restart it")
    finally:
        line.close()


async def _state(line: Line) -> AsyncIterator[Check]:
    request: Any = message_class("GetGlobalState.Request")()
    request.c2s.userID = 0
    reply = await line.ask(catalog.GET_GLOBAL_STATE, request)
    if reply.retType != 0:
        yield bad("opend_login", f"OpenD does not tell its state: {reply.retMsg}", "look into OpenD's own log")
        return
    state = reply.s2c
    missing = [what for what, there in (("quotes", state.qotLogined), ("trading", state.trdLogined)) if not there]
    if missing:
        yield bad(
            "opend_login", f"OpenD is not logged in for {' and '.join(missing)}", "log in at OpenD; it may want a code"
        )
    else:
        yield good(
            "opend_login", f"OpenD {state.serverVer} (build {state.serverBuildNo}) is logged in for quotes and trading"
        )
    yield _clock(float(state.time), time.time())


def _clock(theirs: float, ours: float) -> Check:
    """What OpenD tells is up to a second old."""
    off = ours - theirs
    text = f"this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} OpenD's"
    remedy = "set the clock (NTP): hours, days and expiries of keys go by it"
    if abs(off) > OFF:
        return bad("clock", text, remedy)
    if abs(off) > OFF_A_LITTLE:
        return doubt("clock", text, remedy)
    return good("clock", "this machine's clock agrees with OpenD's")


async def _accounts(line: Line) -> Check:
    request: Any = message_class("Trd_GetAccList.Request")()
    request.c2s.userID = 0
    reply = await line.ask(catalog.GET_ACC_LIST, request)
    if reply.retType != 0:
        return bad("accounts", f"OpenD does not list its accounts: {reply.retMsg}", "look into OpenD's own log")
    count: dict[str, int] = {}
    for account in reply.s2c.accList:
        env = _ENVS.get(account.trdEnv, "other")
        count[env] = count.get(env, 0) + 1
    if not count:
        return doubt("accounts", "OpenD has no account, so nothing can be traded", "log in at OpenD with one that has")
    return good("accounts", "accounts: " + ", ".join(f"{number} {env}" for env, number in sorted(count.items())))
