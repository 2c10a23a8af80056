"""The state of the sandbox itself: global state, keep-alive, user. InitConnect belongs to the connection."""

from __future__ import annotations

import time
from typing import Any

from sidecar.sandbox.answers import Answer, Handler, response
from sidecar.sandbox.instruments import HK, JP, SG, SH, SZ, US, Kind
from sidecar.sandbox.session import Session
from sidecar.sandbox.sessions import Sessions

SERVER_VERSION = 1011
SERVER_BUILD = 7108
USER_ID = 900_100_200


class SystemDesk:
    """Handlers of 1002 and 1004."""

    def __init__(self, sessions: Sessions) -> None:
        self._state = sessions.state

    def handlers(self) -> dict[int, Handler]:
        return {1002: self.global_state, 1004: self.keep_alive}

    def global_state(self, session: Session, c2s: Any) -> Answer:
        now = time.time()
        answer = response("GetGlobalState")
        s2c = answer.s2c
        stock, future = Kind.STOCK, Kind.FUTURE
        s2c.marketHK, s2c.marketUS = self._state(HK, stock), self._state(US, stock)
        s2c.marketSH, s2c.marketSZ = self._state(SH, stock), self._state(SZ, stock)
        s2c.marketHKFuture, s2c.marketUSFuture = self._state(HK, future), self._state(US, future)
        s2c.marketSGFuture, s2c.marketJPFuture = self._state(SG, future), self._state(JP, future)
        s2c.marketSG, s2c.marketJP = self._state(SG, stock), self._state(JP, stock)
        s2c.qotLogined = s2c.trdLogined = True
        s2c.serverVer, s2c.serverBuildNo = SERVER_VERSION, SERVER_BUILD
        s2c.time, s2c.localTime = int(now), now
        s2c.programStatus.type = 10
        s2c.qotSvrIpAddr = s2c.trdSvrIpAddr = "127.0.0.1:0"
        s2c.connID = session.conn_id
        return answer

    def keep_alive(self, session: Session, c2s: Any) -> Answer:
        answer = response("KeepAlive")
        answer.s2c.time = int(time.time())
        return answer
