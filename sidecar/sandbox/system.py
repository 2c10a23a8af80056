"""The state of the sandbox itself: global state, keep-alive, user. InitConnect belongs to the connection."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sidecar.sandbox.answers import Answer, Handler, response
from sidecar.sandbox.instruments import PREFIX, Instrument, Kind
from sidecar.sandbox.session import Session

SERVER_VERSION = 1011
SERVER_BUILD = 7108
USER_ID = 900_100_200

MORNING, DAY_OPEN = 3, 15


class SystemDesk:
    """Handlers of 1002 and 1004."""

    def __init__(self, market_states: Mapping[str, int]) -> None:
        self._states = market_states

    def handlers(self) -> dict[int, Handler]:
        return {1002: self.global_state, 1004: self.keep_alive}

    def state_of(self, instrument: Instrument) -> int:
        """QotMarketState of the instrument's market: trading, unless the settings say otherwise."""
        prefix = PREFIX[instrument.market]
        return self._states.get(prefix, DAY_OPEN if instrument.kind is Kind.FUTURE else MORNING)

    def global_state(self, session: Session, c2s: Any) -> Answer:
        now = time.time()
        answer = response("GetGlobalState")
        s2c = answer.s2c
        s2c.marketHK, s2c.marketUS = self._state("HK", MORNING), self._state("US", MORNING)
        s2c.marketSH, s2c.marketSZ = self._state("SH", MORNING), self._state("SZ", MORNING)
        s2c.marketHKFuture, s2c.marketUSFuture = self._state("HK", DAY_OPEN), self._state("US", DAY_OPEN)
        s2c.marketSGFuture, s2c.marketJPFuture = self._state("SG", DAY_OPEN), self._state("JP", DAY_OPEN)
        s2c.marketSG, s2c.marketJP = self._state("SG", MORNING), self._state("JP", MORNING)
        s2c.qotLogined = s2c.trdLogined = True
        s2c.serverVer, s2c.serverBuildNo = SERVER_VERSION, SERVER_BUILD
        s2c.time, s2c.localTime = int(now), now
        s2c.programStatus.type = 10
        s2c.qotSvrIpAddr = s2c.trdSvrIpAddr = "127.0.0.1:0"
        s2c.connID = session.conn_id
        return answer

    def _state(self, prefix: str, otherwise: int) -> int:
        return self._states.get(prefix, otherwise)

    def keep_alive(self, session: Session, c2s: Any) -> Answer:
        answer = response("KeepAlive")
        answer.s2c.time = int(time.time())
        return answer
