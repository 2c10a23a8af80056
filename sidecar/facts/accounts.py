"""Which accounts this OpenD has (2001), in memory. Decides nothing: an account that is not here is simply not known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from sidecar.errors import UpstreamError
from sidecar.facts.asking import House, new
from sidecar.intents.model import TrdEnv
from sidecar.policy.usage import Account
from sidecar.wire.catalog import GET_ACC_LIST

CATEGORIES = (None, 1, 2, 3)
"""Trd_Common.TrdCategory: not said, securities, futures, crypto. Each lists different accounts."""

_log = structlog.get_logger("sidecar.facts")


class Accounts:
    """The accounts of OpenD, merged over everything a client may ask 2001 for.

    The list is one object that is replaced as a whole, so `get` never sees half a refresh. When a refresh fails the
    last good list stays: accounts do not vanish because OpenD was slow, and without OpenD nothing is forwarded anyway.
    """

    def __init__(
        self,
        house: House,
        max_age: float = 300.0,
        *,
        timeout: float = 2.0,
        retry_after: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Seconds: `max_age` until `stale`, `timeout` of a whole refresh, `retry_after` between those of `ensure`."""
        self._house = house
        self._max_age = max_age
        self._timeout = timeout
        self._retry_after = retry_after
        self._clock = clock
        self._accounts: dict[int, Account] = {}
        self._firms: dict[int, int] = {}
        self._refreshed: float | None = None
        self._not_before: float | None = None
        self._lock = asyncio.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the list was ever had from OpenD."""
        return self._refreshed is not None

    @property
    def stale(self) -> bool:
        """Whether the list was never had, or is older than `max_age`; time to refresh."""
        return self._refreshed is None or self._clock() - self._refreshed >= self._max_age

    def get(self, acc_id: int) -> Account | None:
        return self._accounts.get(acc_id)

    def firm_of(self, acc_id: int) -> int:
        """The securities firm of an account (Trd_Common.SecurityFirm); 0 where OpenD did not name one."""
        return self._firms.get(acc_id, 0)

    def firms(self) -> frozenset[int]:
        """The securities firms of the real accounts; 0 for those of which OpenD named none."""
        real = (acc_id for acc_id, account in self._accounts.items() if account.env is TrdEnv.REAL)
        return frozenset(self.firm_of(acc_id) for acc_id in real)

    def all_ids(self) -> frozenset[int]:
        return frozenset(self._accounts)

    async def refresh(self) -> None:
        """Ask OpenD for the whole list. Raises UpstreamError when it is away, slow, or answers no list at all."""
        async with self._lock:
            await self._refresh()

    async def ensure(self, acc_id: int) -> Account | None:
        """The account, after one refresh where it is unknown; None when OpenD does not have it or cannot be asked.

        Callers that come together share one refresh, and there is none within `retry_after` seconds of the last one,
        so naming unknown accounts costs OpenD nothing.
        """
        known = self._accounts.get(acc_id)
        if known is not None:
            return known
        async with self._lock:
            if acc_id not in self._accounts and (self._not_before is None or self._clock() >= self._not_before):
                try:
                    await self._refresh()
                except UpstreamError as error:
                    _log.warning("the account list could not be refreshed", error=str(error))
        return self._accounts.get(acc_id)

    async def _refresh(self) -> None:
        self._not_before = self._clock() + self._retry_after
        try:
            async with asyncio.timeout(self._timeout):
                listed, complete = await self._ask_all()
        except TimeoutError:
            raise UpstreamError(f"OpenD did not answer the account list within {self._timeout:g} s") from None
        merged, unclear = _merge(listed)
        if not complete:
            # a category OpenD would not list this time takes no account away
            kept = {acc_id: account for acc_id, account in self._accounts.items() if acc_id not in unclear}
            merged = kept | merged
        self._accounts = merged
        self._firms |= {int(one.accID): int(one.securityFirm) for one in listed if one.securityFirm > 0}
        self._refreshed = self._clock()

    async def _ask_all(self) -> tuple[list[Any], bool]:
        """Every TrdAcc of every way to ask, and whether all of them were answered."""
        listed: list[Any] = []
        refusals: list[str] = []
        asked = 0
        for general in (True, False):
            for category in CATEGORIES:
                request = new("Trd_GetAccList.Request")
                request.c2s.userID = 0
                request.c2s.needGeneralSecAccount = general
                if category is not None:
                    request.c2s.trdCategory = category
                asked += 1
                reply: Any = await self._house.ask(GET_ACC_LIST, request, timeout=self._timeout)
                if reply.retType == 0:  # a success without a body lists nothing
                    listed += reply.s2c.accList
                else:
                    refusals.append(str(reply.retMsg) or f"retType {reply.retType}")
                    _log.info("OpenD refused an account list", category=category, message=refusals[-1])
        if len(refusals) == asked:
            raise UpstreamError(f"OpenD lists no accounts: {refusals[0]}")
        return listed, not refusals


def _merge(listed: list[Any]) -> tuple[dict[int, Account], set[int]]:
    """One Account an id, markets joined; and the ids left out.

    SECURITY: an id that is reported both as paper and as real is dropped: which scope it needs cannot be told.
    """
    merged: dict[int, Account] = {}
    dropped: set[int] = set()
    for reported in listed:
        acc_id = int(reported.accID)
        if acc_id in dropped:
            continue
        known = merged.get(acc_id)
        valid = acc_id != 0 and reported.trdEnv in (TrdEnv.SIMULATE, TrdEnv.REAL)
        if not valid or (known is not None and known.env != reported.trdEnv):
            dropped.add(acc_id)
            merged.pop(acc_id, None)
            _log.warning("an account is left out: its environment is not clear", acc_id=acc_id, trd_env=reported.trdEnv)
            continue
        markets = frozenset(reported.trdMarketAuthList) | (known.markets if known is not None else frozenset())
        merged[acc_id] = Account(acc_id, TrdEnv(reported.trdEnv), markets)
    return merged, dropped
