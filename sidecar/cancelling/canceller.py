"""Cancels of all working orders, or those of one key: over every account at once, told while they go on, and put on record.
How an account is emptied is `account`'s business.

SECURITY: the way out. It needs the house connection, the account list and the order lists, and nothing else: not the
ledger's disk, not the audit's, no price. What was placed past the sidecar is cancelled too where all orders are meant.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import structlog

from sidecar.audit.record import NO_KEY, AuditRecord, Outcome
from sidecar.cancelling.account import Emptying, Means
from sidecar.cancelling.orders import Listed
from sidecar.decision_id import new_decision_id
from sidecar.errors import UpstreamError
from sidecar.facts.accounts import Accounts
from sidecar.ledger.ledger import Ledger
from sidecar.metrics import Metrics
from sidecar.recorder import Recorder

REMEMBERED = 8
"""Runs that have ended and are still told of."""
TOLD_EVERY = 5.0
"""Seconds between two lines of progress in the operator's log."""
_LOOK_EVERY = 0.25
CANCEL_ORDERS = "cancel_orders"
"""The endpoint of the records."""

log = structlog.get_logger()


class Why(StrEnum):
    HALT = "halt"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be cancelled, and by whose word: the orders of `key_id`, None for every order there is. `by` in words;
    `iface`, `by_key`, `address` as the audit has them."""

    key_id: str | None
    why: Why
    by: str
    iface: str = "sidecar"
    by_key: str = NO_KEY
    address: str | None = None


@dataclass(slots=True)
class Run:
    """One wish as it is carried out."""

    wish: Wish
    id: str = field(default_factory=new_decision_id)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    accounts: list[Emptying] = field(default_factory=list)
    waiting_for: str = ""
    """Why it has not begun, in words."""
    begun: bool = False
    """Whether it is on record: a run that is not sure to find anything is so only once it does."""
    finished: bool = False
    stopped: str = ""
    """Why it ended before its time, in words."""
    task: asyncio.Task[Any] | None = None

    @property
    def total(self) -> int:
        return sum(each.total for each in self.accounts)

    @property
    def done(self) -> int:
        return sum(each.done for each in self.accounts)

    @property
    def clean(self) -> bool:
        """Whether nothing that was meant can still be working."""
        return (
            self.finished and not self.stopped and not any(each.not_cancelled or each.problem for each in self.accounts)
        )

    def tree(self) -> dict[str, Any]:
        """For the owner, as JSON values; account ids as text, which have more digits than a double keeps."""
        waiting = self.waiting_for or next((each.waiting_for for each in self.accounts if each.waiting_for), "")
        return {
            "run": self.id,
            "key": self.wish.key_id,
            "by": self.wish.by,
            "began": self.began.isoformat(timespec="seconds"),
            "finished": self.finished,
            "stopped": self.stopped or None,
            "waiting_for": None if self.finished else waiting or None,
            "total": self.total,
            "done": self.done,
            "seconds_left": math.ceil(max((each.seconds_left for each in self.accounts), default=0.0)),
            "accounts": [
                {
                    "acc_id": str(each.account.acc_id),
                    "trd_env": each.account.env.name,
                    "total": each.total,
                    "done": each.done,
                    "seconds_left": math.ceil(each.seconds_left),
                    "problem": each.problem or None,
                }
                for each in self.accounts
                if each.total or each.problem
            ],
            "not_cancelled": [
                {"acc_id": str(one.acc_id), "order_id": one.order_id, "symbol": one.symbol, "reason": one.reason}
                for each in self.accounts
                for one in each.not_cancelled
            ],
        }


class Canceller:
    """At most one run for each key and one for all orders. All methods run on the event loop."""

    def __init__(
        self, *, means: Means, accounts: Accounts, ledger: Ledger, recorder: Recorder, metrics: Metrics,
        revision: Callable[[], str], kept: int = 0, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`kept`: so many of an account's changes a run leaves to clients where nobody is in a hurry."""
        self._means = means
        self._accounts = accounts
        self._ledger = ledger
        self._recorder = recorder
        self._metrics = metrics
        self._revision = revision
        self._kept = kept
        self._now = now
        self._running: dict[str | None, Run] = {}
        self._ended: deque[Run] = deque(maxlen=REMEMBERED)
        self.on_finished: Callable[[Run], None] = lambda run: None
        """Called when a run ended by itself, not when it was stopped."""

    def __iter__(self) -> Iterator[Run]:
        """What goes on, then what has ended, the latest first."""
        yield from self._running.values()
        yield from reversed(self._ended)

    def running(self, key_id: str | None) -> Run | None:
        return self._running.get(key_id)

    def start(self, wish: Wish) -> Run:
        """At once. One that goes on already for the same is taken up; one for all orders ends those of single keys, and no
        other begins beside it."""
        found = self._running.get(wish.key_id) or self._running.get(None)
        if found is not None:
            return found
        if wish.key_id is None:
            for key_id in tuple(self._running):
                self.stop(key_id, "every order is being cancelled instead")
        run = self._running[wish.key_id] = Run(wish)
        run.task = self._means.spawn(self._carry_out(run))
        return run

    def stop(self, key_id: str | None, reason: str, *, failed: bool = False) -> None:
        """Send no further cancel; what was sent stays sent. `failed`: nobody wanted it stopped."""
        run = self._running.pop(key_id, None)
        if run is None:
            return
        run.finished, run.stopped = True, reason
        self._ended.append(run)
        if run.task is not None:
            run.task.cancel()
        log.warning("the cancelling was stopped", **_described(run), reason=reason)
        self._metrics.cancel_run(run.wish.why.value, "incomplete" if failed else "stopped")
        self._record(run, "unknown", f"{_whose(run)}: stopped after {run.done} of {run.total}, {reason}")

    def close(self) -> None:
        """The sidecar stops."""
        for key_id in tuple(self._running):
            self.stop(key_id, "the sidecar stops")

    # -- one run --------------------------------------------------------------------------------------------------

    async def _carry_out(self, run: Run) -> None:
        telling = self._means.spawn(self._tell(run))
        try:
            if run.wish.why is Why.HALT:
                self._begun(run)
            await self._accounts_known(run)
            run.accounts.extend(self._emptyings(run))
            async with asyncio.TaskGroup() as group:
                for each in run.accounts:
                    group.create_task(_guarded(each))
            self._finished(run)
        except Exception:
            log.exception("cancelling failed", **_described(run))
            self.stop(run.wish.key_id, "an error, which the log tells", failed=True)
        finally:
            telling.cancel()

    def _emptyings(self, run: Run) -> Iterator[Emptying]:
        key_id, why = run.wish.key_id, run.wish.why
        for acc_id in sorted(self._accounts.all_ids()):
            account = self._accounts.get(acc_id)
            if account is None or not account.markets:
                continue  # without a market nothing can be placed or asked for in it
            meant = _everyone if key_id is None else self._owned(key_id, acc_id)
            kept = self._kept if why is Why.DISCONNECT else 0
            yield Emptying(account, self._means, meant, key_id, kept=kept, on_progress=lambda: self._seen(run))

    def _seen(self, run: Run) -> None:
        """Whether there is anything to cancel at all may be known only now."""
        if run.total and not run.begun:
            self._begun(run)

    async def _accounts_known(self, run: Run) -> None:
        """Wait for OpenD, and for its list of accounts where it is not known yet."""
        house = self._means.house
        while not (house.up and self._accounts.loaded):
            run.waiting_for = house.trouble or "the list of accounts"
            if house.up:
                try:
                    await self._accounts.refresh()
                    continue
                except UpstreamError as error:
                    run.waiting_for = str(error)
            await asyncio.sleep(_LOOK_EVERY)
        run.waiting_for = ""

    def _owned(self, key_id: str, acc_id: int) -> Callable[[Listed], bool]:
        def owned(listed: Listed) -> bool:
            owner = self._ledger.orders.owner_of(acc_id, listed.order_id, listed.order_id_ex)
            if owner is None and listed.remark:
                owner = self._ledger.orders.owner_by_remark(listed.remark)  # its reply was never seen
            return owner is not None and owner.key_id == key_id

        return owned

    async def _tell(self, run: Run) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY)
            tree = run.tree()
            log.info(
                "cancelling orders", **_described(run), done=run.done, total=run.total, seconds_left=tree["seconds_left"],
                waiting_for=tree["waiting_for"],
            )  # fmt: skip

    def _begun(self, run: Run) -> None:
        run.begun = True
        log.warning("cancelling begins", **_described(run))
        self._record(run, "allow", f"{_whose(run)}, by {run.wish.by}: cancelling begins")

    def _finished(self, run: Run) -> None:
        wish = run.wish
        run.finished = True
        self._running.pop(wish.key_id, None)
        self._ended.append(run)
        if run.begun or not run.clean:
            self._settle(run)
        self.on_finished(run)

    def _settle(self, run: Run) -> None:
        left = sum(len(each.not_cancelled) for each in run.accounts)
        self._metrics.cancelled(run.wish.why.value, cancelled=run.total - left, left=left)
        self._metrics.cancel_run(run.wish.why.value, "clean" if run.clean else "incomplete")
        say = log.warning if run.clean else log.error
        say("cancelling has ended", **_described(run), cancelled=run.total - left, not_cancelled=left)
        for each in run.accounts:
            if not each.total and not each.problem:
                continue
            done = each.total - len(each.not_cancelled)
            text = f"{_whose(run)}: {done} of {each.total} cancelled" + (f"; {each.problem}" if each.problem else "")
            text += "".join(f"; {one.order_id} {one.symbol}: {one.reason}" for one in each.not_cancelled[:_NAMED])
            if len(each.not_cancelled) > _NAMED:
                text += f"; and {len(each.not_cancelled) - _NAMED} more"
            outcome: Outcome = "failure" if each.not_cancelled or each.problem else "success"
            self._record(run, outcome, text, acc_id=each.account.acc_id, trd_env=each.account.env.name)
        if not run.total and run.clean:
            self._record(run, "success", f"{_whose(run)}: there was nothing to cancel")

    def _record(self, run: Run, outcome: Outcome, text: str, **fields: Any) -> None:
        wish = run.wish
        record = AuditRecord(
            at=self._now(), iface=wish.iface, endpoint=CANCEL_ORDERS, key_id=wish.by_key, outcome=outcome, message=text,
            decision_id=run.id, policy=self._revision(), address=wish.address, essential=True,
        )  # fmt: skip
        self._recorder.note(replace(record, **fields))


_NAMED = 20
"""Orders that a record names; the others are counted. The status names all."""


def _everyone(listed: Listed) -> bool:
    return True


async def _guarded(emptying: Emptying) -> None:
    """INVARIANT: whatever goes wrong in one account, the others are emptied."""
    try:
        await emptying.run()
    except Exception as error:
        log.exception("an account could not be emptied", acc_id=emptying.account.acc_id)
        emptying.fail(f"{type(error).__name__}, which the log tells")


def _whose(run: Run) -> str:
    return "all orders" if run.wish.key_id is None else f"the orders of key `{run.wish.key_id}`"


def _described(run: Run) -> dict[str, Any]:
    return {"run": run.id, "key_id": run.wish.key_id, "by": run.wish.by}
