"""Who is logged in at the operator's page: a cookie for each browser, a token for each form, and for how long. Knows no HTTP."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from sidecar.grants import Caller

LASTS = 1800.0
"""Seconds after the login, whatever is done in them: a page that looks again by itself would never end."""
MOST = 64
"""Sessions at one time; for one more the oldest ends."""
TOLD_FOR = 20.0
"""Seconds for which the page says what came of the last click."""


@dataclass(slots=True)
class Session:
    """One login. SECURITY: the key itself is not kept; `caller` has its digest, and is admitted anew at every request."""

    caller: Caller | None
    """None: whoever runs the sidecar, over a unix socket."""
    ends: float
    """On the sessions' clock."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """What each form of the page must bring along: another site can have the cookie sent, and cannot read this."""
    _told: tuple[float, str, bool] | None = None

    def owns(self, token: str) -> bool:
        return hmac.compare_digest(self.token.encode(), token.encode("utf-8", "replace"))

    def tell(self, now: float, text: str, *, good: bool) -> None:
        self._told = now, text, good

    def told(self, now: float) -> tuple[str, bool] | None:
        """What came of the last click, and whether it was what was wanted."""
        if self._told is None or now - self._told[0] > TOLD_FOR:
            return None
        return self._told[1:]


class Sessions:
    """In memory only: a restart ends them all. SECURITY: kept by the cookie's hash, which no look-up time tells."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def now(self) -> float:
        return self._clock()

    def begin(self, caller: Caller | None) -> tuple[str, Session]:
        """The value of the cookie, and the session."""
        self._forget()
        while len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        cookie = secrets.token_urlsafe(32)
        made = self._open[_name(cookie)] = Session(caller, self._clock() + LASTS)
        return cookie, made

    def of(self, cookie: str | None, address: str) -> Session | None:
        """The session of a browser at this address. SECURITY: a cookie that was carried elsewhere is none."""
        found = None if cookie is None else self._open.get(_name(cookie))
        if found is None or self._clock() >= found.ends:
            return None
        return found if found.caller is None or found.caller.address == address else None

    def end(self, cookie: str | None) -> None:
        if cookie is not None:
            self._open.pop(_name(cookie), None)

    def _forget(self) -> None:
        now = self._clock()
        for name in [name for name, session in self._open.items() if now >= session.ends]:
            del self._open[name]


def _name(cookie: str) -> bytes:
    return sha256(cookie.encode("utf-8", "replace")).digest()
