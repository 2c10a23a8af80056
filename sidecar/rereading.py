"""Reads again what a running sidecar reads again: keys.json, the settings, certificates; and has the audit file opened anew.
How settings are put in force is the app's to know, how each file is read its own module's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from sidecar.keys.ring import KeyStore, ReloadResult
from sidecar.listeners.certificate import Certificates
from sidecar.metrics import Metrics
from sidecar.recorder import Recorder
from sidecar.reloading import Reloaded, Reloading, settled

LOOK_EVERY = 0.2
"""Seconds between two looks at keys.json; one takes microseconds."""

log = structlog.get_logger()


class Rereading:
    """Lives on the event loop."""

    def __init__(
        self, *, keys: KeyStore, settings: Reloading, certificates: Certificates, recorder: Recorder, metrics: Metrics,
        spawn: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:  # fmt: skip
        """`spawn` starts what nobody waits for."""
        self._keys = keys
        self._settings = settings
        self._certificates = certificates
        self._recorder = recorder
        self._metrics = metrics
        self._spawn = spawn

    def reload(self) -> ReloadResult:
        """SIGHUP: read keys.json again, and open the audit file anew; settings and certificates follow in a moment."""
        self._recorder.reopen()
        result = self._reload_keys()
        self._spawn(self._reload_files())
        return result

    async def reload_all(self) -> dict[str, Any]:
        """As SIGHUP does, and what became of it, as JSON values."""
        self._recorder.reopen()
        keys = self._reload_keys()
        settings, problems = await self._reload_files()
        told = {
            name: getattr(keys, name)
            for name in ("ok", "message", "revision", "added", "removed", "changed", "warnings")
        }
        return {"keys": told, "settings": settings.tree(), "certificates": {"problems": list(problems)}}

    async def rehearse_reload(self) -> dict[str, Any]:
        """What `reload_all` would do to the settings."""
        return {"settings": (await self._settings.rehearse()).tree()}

    async def watch_keys(self) -> None:
        """Notice a changed keys.json by itself. It is looked at, over and over: no notification tells of a link that leads elsewhere
        now, of a mounted file whose name outside was given to another one, or of changes on some mounted file systems.
        Does not return."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if await asyncio.to_thread(self._keys.changed):
                await settled(self._keys.path)
                self._reload_keys()

    async def _reload_files(self) -> tuple[Reloaded, tuple[str, ...]]:
        return await self._settings.reload(), await self._certificates.reload()

    def _reload_keys(self) -> ReloadResult:
        result = self._keys.reload()
        self._metrics.keys_reloaded(result.ok)
        if result.ok:
            log.info(
                "keys.json was read again",
                result=result.message,
                added=result.added,
                removed=result.removed,
                changed=result.changed,
            )
        else:
            log.error("keys.json cannot be used", problem=result.message)
        return result
