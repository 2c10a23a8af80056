"""The REST door."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

from sidecar.desk import Desks
from sidecar.listeners.admin import Problem
from sidecar.listeners.door import HttpPort
from sidecar.settings import Limits
from sidecar.settings import RestListener as Settings


class RestListener:
    def __init__(
        self, settings: Settings, limits: Limits, *, desks: Desks, readiness: Callable[[], Sequence[Problem]]
    ) -> None:
        self._http = HttpPort(
            web.Application(), settings.bind, settings.port, "`--rest-port` or the setting `listeners.rest`"
        )

    async def start(self) -> int:
        return await self._http.start()

    def stop_accepting(self) -> None:
        self._http.stop_accepting()

    def close_clients(self) -> None: ...

    async def stop(self) -> None:
        await self._http.stop()

    def keys_changed(self) -> None: ...

    def tick(self) -> None: ...
