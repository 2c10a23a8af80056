"""The owner's switch: halts and resumes trading at once, then on disk, puts it on record, and tells what is in force. Whether
an order may pass is the policy's to say.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from sidecar.asked import Refused
from sidecar.audit.record import NO_KEY, AuditRecord
from sidecar.border import closest, shown
from sidecar.cancelling.canceller import Canceller, Run, Why, Wish
from sidecar.decision_id import new_decision_id
from sidecar.gate import Gate
from sidecar.grants import Caller
from sidecar.ledger.states import BY_ITSELF, States
from sidecar.ledger.states_file import HALT_NAME, LONGEST_REASON, Change, reason_of
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.key import Scope
from sidecar.policy.trading import Standing, TradingState
from sidecar.recorder import Recorder

LOOK_EVERY = 0.25
"""Seconds between two looks for the file HALT."""
PATIENCE = 5.0
"""Seconds a disk gets before the owner is told that it did not answer."""
HALT, RESUME = "halt", "resume"
_FIELDS = ("key", "reason", "cancel_orders", "state")
_SAID = {
    TradingState.ACTIVE: "trading is resumed",
    TradingState.REDUCING: "trading may only shrink positions",
    TradingState.HALTED: "trading is halted",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for: of the key, or of all trading where `key_id` is None."""

    key_id: str | None
    reason: str
    cancel_orders: bool = False
    """Of a halt: to cancel the working orders too."""
    state: TradingState | None = None
    """None: all that a halt or a resume may do; REDUCING: orders that shrink a position pass."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: the entrance, the id of an admin key (NO_KEY where none is shown), the address, and all that in words."""

    iface: str
    key_id: str
    address: str
    by: str


OWNER = Who("admin", NO_KEY, "local", "the command line")


@dataclass(frozen=True, slots=True)
class Done:
    """A change that holds. `saved` is whether it is on disk too, `problem` why not."""

    standing: Standing
    changed: bool
    saved: bool
    problem: str | None
    still: tuple[Standing, ...]
    """After a resume: what is halted all the same."""
    cancelling: Run | None = None
    """After a halt that cancels orders too."""

    def tree(self) -> dict[str, Any]:
        return {
            **tree_of(self.standing),
            "changed": self.changed,
            "saved": self.saved,
            "problem": self.problem,
            "still_halted": [tree_of(one) for one in self.still],
            "cancelling": None if self.cancelling is None else self.cancelling.tree(),
        }


class _Problem(Protocol):
    @property
    def component(self) -> str: ...
    @property
    def message(self) -> str: ...


class Switch:
    """Of one running sidecar. All methods run on the event loop."""

    def __init__(
        self, *, states: States, gate: Gate, recorder: Recorder, canceller: Canceller,
        readiness: Callable[[], Sequence[_Problem]],
        overview: Callable[[], Mapping[str, Any]], spawn: Callable[..., asyncio.Task[Any]],
    ) -> None:  # fmt: skip
        """`readiness` is empty when orders can be served, but for a halt; `overview` is the rest of the status."""
        self._states = states
        self._gate = gate
        self._recorder = recorder
        self._canceller = canceller
        canceller.on_finished = self._cancelled
        self._readiness = readiness
        self._overview = overview
        self._spawn = spawn

    # -- its life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Put on record what happened while no sidecar ran and what is in force; once the recorder has started."""
        found_now = not self._states.saved and self._states.overall.state is not TradingState.ACTIVE
        for change in self._states.unrecorded:
            self._record("sidecar", NO_KEY, None, change)
        self._states.recorded()
        for one in (self._states.overall, *self._states.keys.values()):
            if one.state is not TradingState.ACTIVE:
                log.error(f"{_SAID[one.state]} since before the start", **_described(one))
        if found_now:
            self._noticed(self._states.overall)
        self._take_up_cancels()
        if not self._states.saved:
            await self._save()

    async def run(self) -> None:
        """Look for the file HALT, and try again what could not be saved, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                halted = self._states.look()
                if halted is not None:
                    self._noticed(halted)
                self._take_up_cancels()
                if not self._states.saved:
                    await self._save()
            except Exception:
                # INVARIANT: whatever is the matter, the file HALT is looked for again
                log.exception("the look for the file HALT failed")

    def _noticed(self, halted: Standing) -> None:
        log.error(_SAID[halted.state], **_described(halted))
        change = Change(halted.state, halted.key_id, self._gate.grants.now(), halted.reason, halted.by)
        self._record("sidecar", NO_KEY, None, change)

    def _take_up_cancels(self) -> None:
        """What the file HALT wants, and what a sidecar that ended before it was through left to the next one."""
        for key_id in self._states.cancels:
            if self._canceller.running(key_id) is None and self._canceller.running(None) is None:
                standing = self._before(key_id)
                self._canceller.start(Wish(key_id, Why.HALT, standing.by or BY_ITSELF))

    def _cancelled(self, run: Run) -> None:
        """As far as it could be: what is left over is told, not tried for ever."""
        if run.wish.why is Why.HALT:
            for key_id in self._states.cancels if run.wish.key_id is None else (run.wish.key_id,):
                self._states.cancelled(key_id)
            self._spawn(self._save())  # at once: the next start would do it again

    # -- the two commands -----------------------------------------------------------------------------------------

    def admit(self, caller: Caller) -> Who | Refused:
        """Whether the caller's key may use the switch: it takes the scope `admin`."""
        grant = self._gate.grants.of(caller)
        if isinstance(grant, Refusal):
            return self._gate.refuse(caller, None, 0, grant)
        if Scope.ADMIN not in grant.key.scopes:
            having = ", ".join(sorted(grant.key.scopes))
            text = f"halting, resuming and their status need the scope admin, this key has {having}"
            return self._gate.refuse(caller, None, 0, Refusal(Code.SCOPE, text))
        self._gate.metrics.allowed(caller.iface, grant.key.id).inc()
        return Who(caller.iface, grant.key.id, caller.address, f"key `{grant.key.id}`")

    async def halt(self, who: Who, wanted: Wanted) -> Done | Refusal:
        """In memory before this first awaits: from then on no new order is forwarded."""
        refusal = self._unknown(wanted.key_id)
        if refusal is not None and not (wanted.key_id and self._gate.open_orders(wanted.key_id)):
            return refusal  # a key that is gone may have left orders, which are the owner's to cancel
        before = self._before(wanted.key_id)
        state = wanted.state or TradingState.HALTED
        if before.state > state:
            return Refusal(Code.MALFORMED_REQUEST, stricter_already(before))
        standing = self._states.halt(wanted.key_id, wanted.reason, who.by, state=state)
        run = None
        if wanted.cancel_orders:
            self._states.to_be_cancelled(wanted.key_id)
            run = self._canceller.start(Wish(wanted.key_id, Why.HALT, who.by, who.iface, who.key_id, who.address))
        done = await self._done(who, wanted, standing, changed=before.state is not state)
        return replace(done, cancelling=run)

    async def resume(self, who: Who, wanted: Wanted) -> Done | Refusal:
        """Of a key that is gone too, since it may come back. Refused while the file HALT cannot be removed. Orders that are
        being cancelled because of it are left alone from then on."""
        if wanted.cancel_orders:
            return Refusal(Code.MALFORMED_REQUEST, "`cancel_orders` goes with a halt, not with a resume")
        if wanted.key_id is not None and wanted.key_id not in self._states.keys:
            refusal = self._unknown(wanted.key_id)
            if refusal is not None:
                return refusal
        try:
            before = self._states.resume(wanted.key_id)
            if wanted.key_id is not None:
                self._gate.breakers.resumed(wanted.key_id)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            text = (
                f"the file {HALT_NAME} cannot be removed ({reason}), so trading stays halted; remove it and try again"
            )
            return Refusal(Code.LEDGER_UNAVAILABLE, text)
        run = self._canceller.running(wanted.key_id)
        if run is not None and run.wish.why is Why.HALT:
            self._canceller.stop(wanted.key_id, "trading was resumed")
        after = Standing(key_id=wanted.key_id)
        if wanted.state is not None:
            after = self._states.halt(wanted.key_id, wanted.reason, who.by, state=wanted.state)
        return await self._done(who, wanted, after, changed=before.state is not after.state)

    async def _done(self, who: Who, wanted: Wanted, standing: Standing, *, changed: bool) -> Done:
        change = Change(standing.state, wanted.key_id, self._gate.grants.now(), wanted.reason, who.by)
        self._record(who.iface, who.key_id, who.address, change)
        log.warning(_SAID[standing.state], key_id=wanted.key_id, reason=wanted.reason, by=who.by)
        saved = await self._save()
        still = [self._states.overall, *self._states.keys.values()]
        return Done(
            standing, changed, saved, None if saved else self._states.problem,
            tuple(one for one in still if standing.state is TradingState.ACTIVE and one.state is not TradingState.ACTIVE),
        )  # fmt: skip

    async def _save(self) -> bool:
        before = self._states.problem
        saved = await self._states.save(PATIENCE, self._spawn)
        if not saved and self._states.problem != before:
            log.error(
                "the trading states hold in memory only, a restart would not know them", problem=self._states.problem
            )
        return saved

    def _before(self, key_id: str | None) -> Standing:
        return self._states.overall if key_id is None else self._states.keys.get(key_id, Standing(key_id=key_id))

    def _unknown(self, key_id: str | None) -> Refusal | None:
        known = self._gate.grants.key_ids
        if key_id is None or key_id in known:
            return None
        return Refusal(Code.MALFORMED_REQUEST, f"there is no key {shown(key_id)}{closest(key_id, known)}")

    def _record(self, iface: str, key_id: str, address: str | None, change: Change) -> None:
        halted = change.state is not TradingState.ACTIVE
        whose = "all trading" if change.key_id is None else f"key `{change.key_id}`"
        if change.state is TradingState.REDUCING:
            whose += " may only shrink positions"
        self._recorder.note(
            AuditRecord(
                at=change.at.timestamp(),
                iface=iface,
                endpoint=HALT if halted else RESUME,
                key_id=key_id,
                outcome="success",
                message=f"{whose}, by {change.by}: {change.reason}",
                decision_id=new_decision_id(),
                policy=self._gate.grants.revision,
                address=address,
                essential=True,
            )
        )

    # -- what is in force -----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """For the owner, as a tree of JSON values. `keys` are those that are halted by themselves."""
        problems = self._readiness()
        return {
            "trading": tree_of(self._states.overall),
            "keys": [tree_of(one) for _, one in sorted(self._states.keys.items())],
            "saved": self._states.saved,
            "save_problem": None if self._states.saved else self._states.problem,
            "cancelling": [run.tree() for run in self._canceller],
            "ready": not problems,
            "problems": [{"component": one.component, "message": one.message} for one in problems],
            "revision": self._gate.grants.revision,
            "pid": os.getpid(),
            **self._overview(),
        }

    def told(self) -> str | None:
        """That all trading is halted, since when and why; None while it is not."""
        overall = self._states.overall
        return None if overall.state is TradingState.ACTIVE else overall.told(self._gate.grants.now())


def wanted_of(tree: Any) -> Wanted:
    """What the JSON body of a halt or resume asks for: `{"reason": text}`, `key` for one key, `cancel_orders` of a halt, and
    `state` where only orders that shrink a position are to pass. Raises ValueError with prose."""
    if not isinstance(tree, dict):
        raise ValueError('the body must be an object, e.g. {"reason": "fat finger"}')
    for name in tree:
        if name not in _FIELDS:
            raise ValueError(
                f"{shown(name)} is not a field{closest(str(name), _FIELDS)}; there are `key`, `reason`, `state` and `cancel_orders`"
            )
    key_id, reason, cancel_orders = tree.get("key"), tree.get("reason"), tree.get("cancel_orders", False)
    if key_id is not None and not (isinstance(key_id, str) and key_id):
        raise ValueError("`key` must be the id of a key; leave it out for all trading")
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("`reason` is missing: say why, everybody who is refused will read it")
    if len(reason.strip()) > LONGEST_REASON:
        raise ValueError(f"`reason` is over {LONGEST_REASON} characters")
    if not isinstance(cancel_orders, bool):
        raise ValueError("`cancel_orders` must be true or false")
    return Wanted(key_id, reason_of(reason), cancel_orders, _state_of(tree.get("state")))


def _state_of(wanted: object) -> TradingState | None:
    if wanted is None or wanted == TradingState.HALTED.name:
        return None
    if wanted != TradingState.REDUCING.name:
        raise ValueError("`state` must be HALTED or REDUCING; leave it out for a halt of everything, or to end one")
    return TradingState.REDUCING


def stricter_already(standing: Standing) -> str:
    whose = "all trading" if standing.key_id is None else f"key `{standing.key_id}`"
    return (
        f"{whose} is {standing.state.name} already, which is stricter; to let it shrink positions, resume it to REDUCING"
        " (`resume --reduce-only`)"
    )


def tree_of(standing: Standing) -> dict[str, Any]:
    return {
        "key": standing.key_id,
        "state": standing.state.name,
        "since": None if standing.since is None else standing.since.isoformat(timespec="seconds"),
        "reason": standing.reason or None,
        "by": standing.by or None,
        "breaker": standing.breaker or None,
    }


def _described(standing: Standing) -> dict[str, Any]:
    return {"key_id": standing.key_id, "since": str(standing.since), "reason": standing.reason, "by": standing.by}
