"""How many changes of orders (2205: change, cancel, enable, disable, delete) each account may still send. Sends none itself.

OpenD takes so many of them in so much time for each account, whoever sends them. A part is kept for cancels: whoever
changes orders all the time must not shut the way out, for himself or for the others of the account. Of that part the last
are for cancels of orders that are known to be working, and for one cancel of all: nobody can make those up.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sidecar.intents.model import CancelOrder, Intent, ModifyOrder
from sidecar.policy.decision import Code, Refusal

AGAIN = 3.0
"""Seconds after which the answer to a cancel must have come, and another may be tried."""
ALL = "all orders"
_CLOSE = 0.02
"""Seconds added to OpenD's own period and gap: what leaves here in order arrives a little closer together, or later."""


@dataclass(frozen=True, slots=True)
class ChangeLimit:
    """OpenD's limit (protocol facts, section 8; documented): `most` in `period` seconds for each account, `gap` seconds
    apart at least. `kept`, less than `most`: how many of them only cancels may use."""

    most: int = 20
    period: float = 30.0
    gap: float = 0.04
    kept: int = 5

    @property
    def kept_for_known(self) -> int:
        """How many of those kept are only for cancels of orders known to be working: room for one cancel of everything."""
        return min(2, self.kept)


class ChangeBudget:
    """One sliding window for each account. Plain calls on the event loop: who looks and counts in one step, has it."""

    def __init__(self, limit: ChangeLimit | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that never go back."""
        self.limit = limit or ChangeLimit()
        self._clock = clock
        self._sent: dict[int, deque[tuple[float, str]]] = {}
        """By account: when, and which known order's cancel it was."""
        self._runs: Counter[int] = Counter()
        """Accounts in which the sidecar cancels orders."""
        self._cancelled_for: Counter[tuple[int, str | None]] = Counter()
        """Those of them, and the key whose orders these are; None for every order."""

    # -- clients --------------------------------------------------------------------------------------------------

    def refusal(self, intent: Intent | None, key_id: str = "", *, known: str = "") -> Refusal | None:
        """Why a change of the key's client cannot go upstream now; None for everything that is no change of an order.

        A cancel may use everything if it is of a `known` order (its name, however the request names it; ALL for all of
        the account's) and not one more of many. SECURITY: ids can be made up, and cancels repeated, without
        end; those leave some to others and to the owner. While the sidecar cancels the key's orders, or every order, its
        clients' cancels have no more than the kept part.
        """
        if isinstance(intent, ModifyOrder):
            acc_id = intent.account.acc_id
            if self._runs[acc_id]:
                return _full("the sidecar is cancelling orders of this account, which comes first", self.wait(acc_id))
            if self.wait(acc_id, kept=self.limit.kept) > 0:
                return self._used_up(acc_id, self.limit.kept, "cancels")
        elif isinstance(intent, CancelOrder):
            acc_id = intent.account.acc_id
            if len(self._window(acc_id)) >= self.limit.kept and (whose := self._whose(acc_id, key_id)):
                return _full(
                    f"the sidecar is cancelling {whose} of this account, this one with them", self.wait(acc_id)
                )
            if self.wait(acc_id, kept=self.limit.kept_for_known) > 0 and not (known and self._is_new(acc_id, known)):
                return self._used_up(
                    acc_id, self.limit.kept_for_known, "the first cancels of orders known to be working"
                )
        return None

    def note(self, intent: Intent | None, *, known: str = "") -> None:
        """A client's request goes upstream now."""
        if isinstance(intent, ModifyOrder | CancelOrder):
            self._count(intent.account.acc_id, known)

    def _is_new(self, acc_id: int, known: str) -> bool:
        """Whether no other cancel of it still counts; that of one order may be tried once more when the first must have been
        answered."""
        tries = [at for at, name in self._window(acc_id) if name == known]
        return not tries or (known != ALL and len(tries) == 1 and tries[0] <= self._clock() - AGAIN)

    def _whose(self, acc_id: int, key_id: str) -> str:
        """The orders of the key that are being cancelled anyway, in words; "" where they are not."""
        if self._cancelled_for[acc_id, None]:
            return "every order"
        return "this key's orders" if self._cancelled_for[acc_id, key_id] else ""

    def _used_up(self, acc_id: int, kept: int, whom: str) -> Refusal:
        limit = self.limit
        return _full(
            f"OpenD takes {limit.most} changes of orders in {limit.period:g} s for an account, "
            f"{len(self._window(acc_id))} were sent, and the last {kept} are kept for {whom}",
            self.wait(acc_id, kept=kept),
        )

    # -- runs of the sidecar --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reserved(self, acc_id: int, key_id: str | None) -> Iterator[None]:
        """While the sidecar cancels the key's orders in the account; None: every order."""
        self._runs[acc_id] += 1
        self._cancelled_for[acc_id, key_id] += 1
        try:
            yield
        finally:
            self._runs[acc_id] -= 1
            self._cancelled_for[acc_id, key_id] -= 1

    def take(self, acc_id: int, *, kept: int = 0) -> float:
        """Count one change that goes upstream now, and 0; or the seconds after which to ask again, and nothing is counted.

        `kept`: leave so many for others.
        """
        wait = max(self.wait(acc_id, kept=kept), self._gap_left(acc_id))
        if wait <= 0:
            self._count(acc_id)
        return wait

    def wait(self, acc_id: int, *, count: int = 1, kept: int = 0) -> float:
        """Seconds until `count` changes can have been sent, if nobody else sends any; 0 where they can be sent now."""
        now, most = self._clock(), self.limit.most - kept
        times = [at for at, _ in self._window(acc_id)]
        for _ in range(count):
            times.append(now if len(times) < most else max(now, times[-most] + self.limit.period + _CLOSE))
        return times[-1] - now

    def _gap_left(self, acc_id: int) -> float:
        window = self._window(acc_id)
        return window[-1][0] + self.limit.gap + _CLOSE - self._clock() if window else 0.0

    def _count(self, acc_id: int, known: str = "") -> None:
        self._sent.setdefault(acc_id, deque()).append((self._clock(), known))

    def _window(self, acc_id: int) -> Sequence[tuple[float, str]]:
        """Those that still count, oldest first."""
        window = self._sent.get(acc_id)
        while window and self._clock() - window[0][0] >= self.limit.period + _CLOSE:
            window.popleft()
        return window or ()


def _full(message: str, seconds: float) -> Refusal:
    return Refusal(Code.UPSTREAM_FULL, message, retry_after=max(1, math.ceil(seconds)))
