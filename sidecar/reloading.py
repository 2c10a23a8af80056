"""Reads a running sidecar's settings again: what can change holds at once, the rest is named, broken ones change nothing.
What it takes to put settings in force is the app's to know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from sidecar.config import load_settings, warnings_of
from sidecar.errors import ConfigError
from sidecar.keys.sight import Sight, sight
from sidecar.setting_changes import Change, changes, taken_over
from sidecar.settings import Settings

LOOK_EVERY = 0.5
"""Seconds between two looks at the settings file."""
SETTLE = 0.05
"""Seconds without a change after which a changed file is read; it is read anyway after LOOKS of them."""
LOOKS = 8

log = structlog.get_logger()


async def settled(path: Path) -> None:
    """Whoever writes over a file in place gets a moment to finish."""
    before = None
    for _ in range(LOOKS):
        now = await asyncio.to_thread(sight, path)
        if now == before:
            return
        before = now
        await asyncio.sleep(SETTLE)


@dataclass(frozen=True, slots=True)
class Source:
    """Where settings come from: a file, and flags that win over it (as of `load_settings`)."""

    path: Path | None = None
    flags: Mapping[str, object] = field(default_factory=dict)

    def read(self) -> Settings:
        """As at the start. Raises ConfigError."""
        return load_settings(self.path, self.flags)

    def read_again(self) -> Settings:
        """As `read`, but a file that has become empty is a broken one. Raises ConfigError."""
        return load_settings(self.path, self.flags, empty=False)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of one reading. With a `problem` nothing changed."""

    file: str | None
    problem: str | None = None
    changed: tuple[Change, ...] = ()
    """In force now; of a rehearsal: what a reload would change."""
    needs_restart: tuple[Change, ...] = ()
    """In the file, but not in force until a restart, with the value in force first."""
    warnings: tuple[str, ...] = ()

    def tree(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "problem": self.problem,
            "changed": [one.tree() for one in self.changed],
            "needs_restart": [one.tree() for one in self.needs_restart],
            "warnings": list(self.warnings),
        }


class Reloading:
    """Of one running sidecar. Lives on the event loop.

    INVARIANT: settings hold whole or not at all: a file with a problem leaves the ones before in force.
    """

    def __init__(
        self, running: Settings, source: Source, *, apply: Callable[[Settings, tuple[Change, ...]], None],
        counted: Callable[[bool], None] = lambda ok: None,
    ) -> None:  # fmt: skip
        """`apply` puts settings in force that differ from those before in `changes`, which are of the changeable ones;
        `counted` is told the outcome of each reload."""
        self._source = source
        self._apply = apply
        self._counted = counted
        self.running = running
        """In force."""
        self.problem: str | None = None
        """Why the file cannot be used; None while it can."""
        self.needs_restart: tuple[Change, ...] = ()
        """In the file, but not in force."""
        self._seen = self._look()
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """Read the file again. A sidecar that was started without one has nothing to read."""
        async with self._one_at_a_time:
            self._seen = self._look()  # before it is read: what happens to it meanwhile is a change
            settings, found = await asyncio.to_thread(self._read)  # YAML takes its time
            if self._source.path is not None:
                self._take_over(settings, found)
            return found

    def _take_over(self, settings: Settings, found: Reloaded) -> None:
        if found.problem is not None:
            log.error("the settings cannot be used; the ones before stay in force", problem=found.problem)
        else:
            if found.changed:
                self._apply(settings, found.changed)
            self.running, self.needs_restart = settings, found.needs_restart
            self._say(found)
        self.problem = found.problem
        self._counted(found.problem is None)

    async def rehearse(self) -> Reloaded:
        """What `reload` would do. Changes nothing."""
        return (await asyncio.to_thread(self._read))[1]

    async def watch(self) -> None:
        """Notice a changed file by itself, also behind links that lead elsewhere. Does not return."""
        path = self._source.path
        while path is not None:
            await asyncio.sleep(LOOK_EVERY)
            if await asyncio.to_thread(self._look) != self._seen:
                await settled(path)
                await self.reload()

    def _read(self) -> tuple[Settings, Reloaded]:
        """The settings that can be in force now, and how they differ from those that are."""
        path = self._source.path
        if path is None:
            return self.running, Reloaded(None)
        try:
            if (seen := self._look()) is not None and seen.links == 0:
                raise ConfigError(
                    f"settings `{path}` were replaced outside, where only this file is mounted; start the container again"
                )
            wanted = self._source.read_again()
            settings = taken_over(self.running, wanted)
        except ConfigError as error:
            return self.running, Reloaded(str(path), problem=str(error))
        except Exception:
            # INVARIANT: whatever is in the file, it does not end a sidecar that runs
            log.exception("reading the settings again failed", file=str(path))
            return self.running, Reloaded(str(path), problem=f"settings `{path}` cannot be read; the log has why")
        found = Reloaded(
            str(path),
            changed=changes(self.running, settings),
            needs_restart=changes(settings, wanted),
            warnings=warnings_of(wanted),
        )
        return settings, found

    def _say(self, found: Reloaded) -> None:
        log.info("the settings were read again", changed=[str(one) for one in found.changed])
        if found.needs_restart:
            waiting = [str(one) for one in found.needs_restart]
            log.warning("these settings need a restart; the ones before stay in force", needs_restart=waiting)
        for text in found.warnings:
            log.warning(text)

    def _look(self) -> Sight | None:
        return None if self._source.path is None else sight(self._source.path.expanduser())
