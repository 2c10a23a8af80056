"""OpenD's lock on real trading (2005): what is known of it, and who opens it. Also the lock that a client puts on its own key.
It decides nothing about an order.

Modes (settings `unlock.mode`). `owner`: the owner unlocks OpenD, nothing is ever sent. `sidecar`: OpenD is unlocked over the
house connection when a real order, or the cancel of one, is about to be forwarded, and locked again after some idle time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from sidecar.errors import ConfigError, UpstreamError
from sidecar.facts.asking import House, new
from sidecar.facts.lookup import RequestBudget
from sidecar.policy.decision import Code, Refusal
from sidecar.settings import Unlock
from sidecar.wire.catalog import UNLOCK_TRADE

REQUESTS, PERIOD = 10, 30.0
"""What OpenD takes of 2005, per login (protocol facts, section 8). Clients' requests never reach it."""
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0
"""Seconds until a refused unlock is tried again; doubling. A broker may block an account after a few wrong passwords."""
_LARGEST_FILE = 1024
_SPEAKS_OF_THE_LOCK = re.compile(r"unlock|解锁|解鎖|trad\w* is locked", re.IGNORECASE)
"""OpenD's refusal of an order while it is locked, in the languages it speaks (seen: `没有解锁交易，请先解锁交易`, `Not unlock
trade, please unlock first`). What none of its words match leaves the lock unknown."""

log = structlog.get_logger()


class Lock(StrEnum):
    """What is known of OpenD's lock."""

    UNKNOWN = "unknown"
    LOCKED = "locked"
    UNLOCKED = "unlocked"


@dataclass(frozen=True, slots=True)
class TradePassword:
    """SECURITY: as good as the trade password itself, so no printed form shows it."""

    md5: str = field(repr=False)


def trade_password(unlock: Unlock, environment: Mapping[str, str] = os.environ) -> TradePassword | None:
    """From the file or the environment variable that the settings name; None in the mode `owner`. Raises ConfigError."""
    if unlock.mode == "owner":
        return None
    if unlock.password_file is not None:
        text = _from_file(unlock.password_file)
    else:
        text = environment.get(unlock.password_env or "", "")
        if not text:
            raise ConfigError(
                f"setting `unlock.password_env`: the environment variable `{unlock.password_env}` is not set"
            )
    return TradePassword(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())


def _from_file(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            data = file.read(_LARGEST_FILE + 1) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"setting `unlock.password_file`: `{path}` cannot be read: {reason}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"setting `unlock.password_file`: `{path}` is not a regular file")
    if os.name == "posix" and found.st_mode & 0o077:
        # SECURITY: whoever reads it can trade every account, without the sidecar
        raise ConfigError(
            f"setting `unlock.password_file`: others may use `{path}` (mode {stat.S_IMODE(found.st_mode):04o});"
            f" run `chmod 600 {path}`"
        )
    try:
        text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > _LARGEST_FILE or "\n" in text:
        raise ConfigError(f"setting `unlock.password_file`: `{path}` must hold one line, the trade password")
    return text


class Unlocking:
    """Of one OpenD. All methods run on the event loop.

    `firm_of` gives the securities firm of an account (2001; 0: not told), which OpenD wants to be named; it unlocks the
    accounts of one firm at a time; `firms` are all that there are. `idle`: seconds without a real order after which OpenD is
    locked again, whoever unlocked it, None: never.
    """

    def __init__(
        self,
        house: House,
        *,
        password: TradePassword | None,
        firm_of: Callable[[int], int],
        firms: Callable[[], Iterable[int]],
        spawn: Callable[..., asyncio.Task[Any]],
        idle: float | None = None,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._house = house
        self._password = password
        self._firm_of = firm_of
        self._firms = firms
        self._spawn = spawn
        self._idle = idle
        self._timeout = timeout
        self._clock = clock
        self._now = now
        self._budget = RequestBudget(REQUESTS, PERIOD, clock)
        self._known: dict[int, Lock] = {}
        """By firm; what is not in it is not known."""
        self._under_way: dict[int, asyncio.Task[Refusal | None]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._refused: Refusal | None = None
        self._not_before = 0.0
        self._wait = FIRST_WAIT
        self._used = clock()
        self._locking = False
        self._lock_again_at = 0.0
        """After a lock that failed; 0: none did."""
        self._opened: set[int] = set()
        """The firms for which it was the sidecar that unlocked OpenD, and has not locked it since."""
        self._own: dict[str, datetime] = {}

    # -- of OpenD -------------------------------------------------------------------------------------------------

    @property
    def lock(self) -> Lock:
        """Of several firms the one that stops more is told."""
        for lock in (Lock.LOCKED, Lock.UNLOCKED):
            if lock in self._known.values():
                return lock
        return Lock.UNKNOWN

    def must_open(self, acc_id: int) -> bool:
        """Whether what is to be done in this real account first takes an unlock, as far as is known."""
        return self._password is not None and (
            self._locking or self._known.get(self._firm_of(acc_id)) is not Lock.UNLOCKED
        )

    async def open(self, acc_id: int) -> Refusal | None:
        """Unlock OpenD for this real account where that is the sidecar's to do. Why it could not be; None: go on.

        Whoever comes while it is under way waits for the same attempt. Ends within twice the timeout.
        """
        if self._password is None:
            return None
        self._used = self._clock()
        if not self.must_open(acc_id):
            return None
        firm = self._firm_of(acc_id)
        attempt = self._under_way.get(firm)
        if attempt is None:
            attempt = self._under_way[firm] = self._spawn(self._unlock(firm, self._password))
            attempt.add_done_callback(lambda _: self._under_way.pop(firm, None))
        await asyncio.wait({attempt})
        if attempt.cancelled():
            return Refusal(Code.UPSTREAM_UNAVAILABLE, "the sidecar is stopping")
        return attempt.result()

    async def _unlock(self, firm: int, password: TradePassword) -> Refusal | None:
        """Never raises."""
        async with self._one_at_a_time:
            if self._known.get(firm) is Lock.UNLOCKED:
                return None
            wait = self._not_before - self._clock()
            if self._refused is not None and wait > 0:
                return Refusal(self._refused.code, self._refused.message, round(wait) + 1)
            delay = self._budget.delay()
            if delay > 0:
                text = f"OpenD takes {REQUESTS} unlock requests in {PERIOD:g} s, and they are used up"
                return Refusal(Code.UPSTREAM_UNAVAILABLE, text, round(delay) + 1)
            request = new("Trd_UnlockTrade.Request")
            request.c2s.unlock, request.c2s.pwdMD5 = True, password.md5
            refusal = await self._ask(firm, request)
            if refusal is not None:
                return refusal
            self._known[firm], self._refused, self._wait = Lock.UNLOCKED, None, FIRST_WAIT
            self._opened.add(firm)
            log.info("OpenD is unlocked for real trading", firm=firm)
            return None

    async def _ask(self, firm: int, request: Any) -> Refusal | None:
        if firm:
            request.c2s.securityFirm = firm
        self._budget.spend()
        try:
            reply: Any = await self._house.ask(UNLOCK_TRADE, request, timeout=self._timeout)
        except UpstreamError as error:
            self._known.pop(firm, None)
            return Refusal(Code.UPSTREAM_UNAVAILABLE, f"OpenD could not be unlocked: {error}")
        if reply.retType == 0:
            return None
        self._not_before, wait = self._clock() + self._wait, self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        said = str(reply.retMsg) or f"retType {reply.retType}"
        log.error("OpenD refuses to be unlocked", said=said, firm=firm, tried_again_in=wait)
        self._known[firm] = Lock.LOCKED
        self._refused = Refusal(
            Code.UPSTREAM_UNAVAILABLE, f"OpenD is locked and refuses to be unlocked: {said}", round(wait) + 1
        )
        return self._refused

    def tick(self) -> None:
        """About every second: lock OpenD again where it was idle for long, or was left unlocked by a sidecar before."""
        idle = self._clock() - self._used
        if self._password is None or self._idle is None or self._locking or idle < self._idle:
            return
        open_yet = [firm for firm in sorted(self._firms()) if self._known.get(firm) is not Lock.LOCKED]
        if open_yet and self._clock() >= self._lock_again_at:
            self._locking = True
            self._spawn(self._lock_all(open_yet))

    async def close(self) -> None:
        """Lock OpenD again, where it is the sidecar that unlocked it. Never raises."""
        await self._lock_all(sorted(self._opened))

    async def _lock_all(self, firms: Iterable[int]) -> None:
        self._locking = True
        try:
            async with self._one_at_a_time:
                for firm in firms:
                    await self._lock(firm)
        finally:
            self._locking = False

    async def _lock(self, firm: int) -> None:
        if self._budget.delay() > 0:
            return
        before, self._lock_again_at = self._lock_again_at, self._clock() + FIRST_WAIT
        request = new("Trd_UnlockTrade.Request")
        request.c2s.unlock = False
        if firm:
            request.c2s.securityFirm = firm
        self._budget.spend()
        try:
            reply: Any = await self._house.ask(UNLOCK_TRADE, request, timeout=self._timeout)
        except UpstreamError as error:
            self._known.pop(firm, None)
            if not before:
                log.warning("whether OpenD is locked again is not known; it is tried again", problem=str(error))
            return
        if reply.retType != 0:
            if not before:
                log.warning("OpenD could not be locked again; it is tried again", said=str(reply.retMsg))
            return
        self._known[firm], self._lock_again_at = Lock.LOCKED, 0.0
        self._opened.discard(firm)
        log.info("OpenD is locked again", firm=firm)

    def told(self, acc_id: int, *, accepted: bool, said: str) -> None:
        """What OpenD's answer to an order in a real account says about its lock."""
        firm = self._firm_of(acc_id)
        if accepted:
            self._known[firm] = Lock.UNLOCKED
        elif _SPEAKS_OF_THE_LOCK.search(said):
            if self._known.get(firm) is not Lock.LOCKED:
                who = "the owner must unlock it" if self._password is None else "it is unlocked for the next order"
                log.warning(f"OpenD is locked and takes no real orders; {who}", said=said, firm=firm)
            self._known[firm] = Lock.LOCKED

    def forget(self) -> None:
        """OpenD was away: after a start it is locked. A refused password stays refused for as long as it was."""
        self._known.clear()

    # -- of a key -------------------------------------------------------------------------------------------------

    def asked(self, key_id: str, *, unlock: bool) -> None:
        """A client's own unlock or lock. INVARIANT: it holds for its own key alone, whatever it does to OpenD elsewhere."""
        if unlock:
            self._own.pop(key_id, None)
        else:
            self._own.setdefault(key_id, self._now())

    def locked_by_client(self, key_id: str) -> datetime | None:
        """Since when real trading under the key is locked by one of its clients; None: it is not."""
        return self._own.get(key_id)
