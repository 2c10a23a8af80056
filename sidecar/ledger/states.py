"""The trading states in force: in memory for every decision, on disk for the next start. Tells nobody of a change, and knows
neither audit nor clients.

INVARIANT: what is not known is halted. Only `resume` ever makes a state less strict; whatever else is found on disk can
only make it stricter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import structlog

from sidecar.ledger import states_file
from sidecar.ledger.states_file import FILE_NAME, Change, Document
from sidecar.policy.trading import ACTIVE, Standing, TradingState, strictest

BY_FILE = "the file HALT"
BY_ITSELF = "the sidecar"


class States:
    """Of one state directory, whose lock the process holds. All methods but `write` run on one thread."""

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Reads what is on disk. Never raises: a file that cannot be read halts all trading."""
        self.folder = folder
        self._now = now
        self._log = structlog.get_logger("sidecar.states")
        self._overall = ACTIVE
        self._keys: dict[str, Standing] = {}
        self._unrecorded: tuple[Change, ...] = ()
        self._cancels: frozenset[str | None] = frozenset()
        self._halt_mark: states_file.Mark | None = None
        """Of the file HALT that was carried out last."""
        self._version = 0
        self._saved = -1
        """The version on disk. -1: none, so that the first save writes the file even where nothing is halted."""
        self._seen: states_file.Mark | None = None
        """The file as this process left or found it; None: there is none, or it is not known."""
        self._saving = asyncio.Lock()
        self.problem: str | None = None
        """Why what holds in memory is not on disk, as far as the last attempt told."""
        self._read()

    # -- what holds -----------------------------------------------------------------------------------------------

    @property
    def overall(self) -> Standing:
        return self._overall

    @property
    def keys(self) -> Mapping[str, Standing]:
        """Of the keys that are not ACTIVE, whether or not there still are such keys."""
        return MappingProxyType(self._keys)

    def of(self, key_id: str) -> Standing:
        """The strictest that holds for a key."""
        return strictest(self._overall, self._keys.get(key_id, ACTIVE))

    @property
    def saved(self) -> bool:
        """Whether the next start would find what holds now."""
        return self._saved == self._version

    # -- changes --------------------------------------------------------------------------------------------------

    def halt(
        self, key_id: str | None, reason: str, by: str, *, state: TradingState = TradingState.HALTED, breaker: str = ""
    ) -> Standing:
        """At once, in memory; `save` makes it durable. Of what is halted already the beginning stays, the reason is new.
        What is stricter already stays as it is, and is what holds then: only `resume` makes anything less strict."""
        before = self._overall if key_id is None else self._keys.get(key_id, ACTIVE)
        if before.state > state:
            return before
        since = before.since if before.state is state else None
        standing = Standing(state, key_id, since or self._now(), reason, by, breaker)
        self._put(standing)
        return standing

    def resume(self, key_id: str | None) -> Standing:
        """What held before. For all trading the file HALT is removed first. Raises OSError: it could not be, nothing is changed."""
        if key_id is None:
            states_file.remove_halt_file(self.folder)
            before = self._overall
        else:
            before = self._keys.get(key_id, ACTIVE)
        self._cancels -= {key_id}
        self._put(Standing(key_id=key_id))
        return before

    def look(self) -> Standing | None:
        """Halts all trading where there is a file HALT, or `states.json` was damaged; what was halted by that, None where
        nothing was. Also takes over what somebody else wrote there, as far as it is stricter."""
        before = self._overall.state
        self._look_at_the_file()
        self._look_for_halt()
        return self._overall if self._overall.state > before else None

    def _look_for_halt(self) -> None:
        halted = self._overall.state is TradingState.HALTED
        if halted and states_file.halt_mark(self.folder) == self._halt_mark:
            return
        found = states_file.halt_wanted(self.folder)
        if found is not None and not halted:
            self.halt(None, found.reason, BY_FILE)
        mark = None if found is None else found.mark
        if mark == self._halt_mark:
            return
        # what it wants is done once for each time it appears or is changed, not at every start again
        self._halt_mark = mark
        self._version += 1
        if found is not None and found.cancel_orders:
            self.to_be_cancelled(None)

    def _look_at_the_file(self) -> None:
        if self._saving.locked() or not self.saved:
            return
        mark = states_file.mark(self.folder)
        if mark == self._seen:
            return
        self._seen = mark
        self._log.error("somebody else changed the trading states; only what is stricter is taken over", file=FILE_NAME)
        try:
            found = states_file.read(self.folder)
        except ValueError as error:
            self.halt(None, f"{FILE_NAME} was damaged ({error})", BY_ITSELF)
            return
        for one in () if found is None else (found.overall, *found.keys.values()):
            if one.state > (self._overall if one.key_id is None else self._keys.get(one.key_id, ACTIVE)).state:
                self._put(one)
        self._version += 1  # so that it is written again

    def _put(self, standing: Standing) -> None:
        if standing.key_id is None:
            self._overall = standing
        elif standing.state is TradingState.ACTIVE:
            self._keys.pop(standing.key_id, None)
        else:
            self._keys[standing.key_id] = standing
        self._version += 1

    # -- whose orders are to be cancelled -------------------------------------------------------------------------

    @property
    def cancels(self) -> frozenset[str | None]:
        """The keys whose working orders are still to be cancelled; None in it means everybody's. Outlives a restart."""
        return self._cancels

    def to_be_cancelled(self, key_id: str | None) -> None:
        self._cancels |= {key_id}
        self._version += 1

    def cancelled(self, key_id: str | None) -> None:
        """As far as they could be."""
        if key_id in self._cancels:
            self._cancels -= {key_id}
            self._version += 1

    # -- what the audit does not know yet -------------------------------------------------------------------------

    @property
    def unrecorded(self) -> tuple[Change, ...]:
        """Changes made while no sidecar ran, oldest first."""
        return self._unrecorded

    def to_be_recorded(self, change: Change) -> None:
        """For a process that has no audit: whoever runs next has."""
        self._unrecorded = (*self._unrecorded, change)
        self._version += 1

    def recorded(self) -> None:
        if self._unrecorded:
            self._unrecorded = ()
            self._version += 1

    # -- the disk -------------------------------------------------------------------------------------------------

    async def save(self, patience: float, spawn: Callable[..., asyncio.Task[None]]) -> bool:
        """Whether what holds now is on disk, after at most `patience` seconds; `problem` says why it is not. Never raises.

        In a thread: a disk that hangs holds up no cancel.
        """
        wanted = self._version
        work = spawn(self._save())
        await asyncio.wait({work}, timeout=patience)
        if not work.done():
            self.problem = f"the disk did not answer within {patience:g} s"
        return self._saved >= wanted  # what somebody else has changed meanwhile is saved with his own call

    async def _save(self) -> None:
        async with self._saving:
            if self.saved:
                return
            version, document = self._version, self._document()
            try:
                await asyncio.to_thread(states_file.write, self.folder, document)
            except OSError as error:
                self._failed(error)
            else:
                self._saved, self.problem = version, None
                self._seen = states_file.mark(self.folder)

    def save_now(self) -> bool:
        """As `save`, for a process that does nothing else meanwhile."""
        try:
            states_file.write(self.folder, self._document())
        except OSError as error:
            self._failed(error)
        else:
            self._saved, self.problem = self._version, None
        return self.saved

    def _failed(self, error: OSError) -> None:
        self.problem = f"{FILE_NAME} cannot be written: {(error.strerror or str(error)).lower()}"

    def _document(self) -> Document:
        keys = MappingProxyType(dict(self._keys))
        return Document(self._overall, keys, self._unrecorded, self._cancels, self._halt_mark)

    def _read(self) -> None:
        try:
            found = states_file.read(self.folder)
        except ValueError as error:
            aside = f"{FILE_NAME}.damaged-{self._now():%Y%m%dT%H%M%S}"
            kept = states_file.set_aside(self.folder, aside)
            self._log.error(
                "trading is halted, because the trading states cannot be read; which single keys were halted is lost",
                file=str(self.folder / FILE_NAME), problem=str(error), kept_as=aside if kept else None,
            )  # fmt: skip
            self.halt(None, f"{FILE_NAME} could not be read at the start ({error})", BY_ITSELF)
        else:
            if found is not None:
                self._overall, self._unrecorded = found.overall, found.unrecorded
                self._cancels, self._halt_mark = found.cancels, found.halt_mark
                self._keys = {name: one for name, one in found.keys.items() if one.state is not TradingState.ACTIVE}
                self._saved, self._seen = self._version, states_file.mark(self.folder)
        self.look()
