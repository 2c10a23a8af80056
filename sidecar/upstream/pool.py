"""Opens sessions to one OpenD, bounds their number and keeps them alive. Holds no request and no rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.errors import UpstreamError, WireError
from sidecar.upstream.session import InitChoices, Session, SessionOwner
from sidecar.wire.encryption import RsaKey

TICK = 2.0
"""Seconds between two looks at the sessions."""
KEEP_ALIVE_TICKS = 4
"""A session that sent nothing for this many ticks sends a KeepAlive; OpenD asks for one every 10 s."""
KEPT_FOR_CANCELS = 4
"""Places that only a session opened for a cancel may take."""
DEAD_TICKS = 17
"""A session that heard nothing for this many ticks is lost; the official SDK waits 33 s."""


class Pool:
    """All sessions of this process to `host`:`port`.

    `max_connections` bounds them, the house connection included; `max_per_key` those of one holder (None = no bound).
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        max_connections: int,
        max_per_key: int | None = None,
        connect_timeout: float,
        reply_cap: int,
        rsa: RsaKey | None = None,
        on_count: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._host = host
        self._port = port
        self._max = max_connections
        self._max_per_key = max_per_key
        self._holders: dict[Session, str] = {}
        self._timeout = connect_timeout
        self._reply_cap = reply_cap
        self._rsa = rsa
        self._sessions: dict[Session, int] = {}
        """Open and opening sessions, with the ticks since each last heard something."""
        self._on_count = on_count

    @property
    def address(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def count(self) -> int:
        return len(self._sessions)

    async def open(
        self,
        owner: SessionOwner,
        choices: InitChoices,
        first_serial: int = 1,
        *,
        holder: str | None = None,
        for_cancel: bool = False,
    ) -> Session:
        """A session past its InitConnect, held by a key's id; `holder` None is the house, for which one place is kept.

        `for_cancel` may take one of the places kept for cancels, whatever else its key holds: keys that only read could
        otherwise hold all connections, and nobody could get out.

        Raises UpstreamError: `upstream_full` when the bound is reached, `upstream_unavailable` when OpenD cannot be
        reached, refuses, or does not answer within `connect_timeout`.
        """
        held = sum(each == holder for each in self._holders.values())
        if holder is not None and self._max_per_key is not None and held >= self._max_per_key and not for_cancel:
            raise UpstreamError(
                f"this key holds {held} connections, the limit is {self._max_per_key}; "
                "close some or raise `upstream.max_connections_per_key`",
                "upstream_full",
            )
        if holder is not None and len(self._holders) >= self._max - 1 - (0 if for_cancel else KEPT_FOR_CANCELS):
            raise UpstreamError(
                f"all {self._max} connections to OpenD that the sidecar may use are taken or kept for cancels, "
                "close some or raise `upstream.max_connections`",
                "upstream_full",
            )
        session = Session(owner, choices, self._rsa, self._reply_cap, first_serial)
        self._sessions[session] = 0
        if holder is not None:
            self._holders[session] = holder
        self._on_count(len(self._sessions))
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.get_running_loop().create_connection(lambda: session, self._host, self._port)
                await session.initialise()
            if not session.ready:
                raise UpstreamError(f"OpenD at {self.address} closed the connection at once")
        except TimeoutError:
            self._forget_failed(session)
            raise UpstreamError(f"OpenD at {self.address} did not answer within {self._timeout:g} s") from None
        except OSError as error:
            self._forget_failed(session)
            raise UpstreamError(f"OpenD at {self.address} cannot be reached: {error.strerror or error}") from None
        except WireError as error:
            self._forget_failed(session)
            raise UpstreamError(str(error)) from None
        except BaseException:
            self._forget_failed(session)
            raise
        return session

    def _forget_failed(self, session: Session) -> None:
        session.close()
        self.forget(session)

    def forget(self, session: Session) -> None:
        """The session has ended; its place is free again. Safe to call twice."""
        self._holders.pop(session, None)
        if self._sessions.pop(session, None) is not None:
            self._on_count(len(self._sessions))

    async def run(self) -> None:
        """Keep the sessions alive, and end those on which OpenD fell silent; runs until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            for session, silent in list(self._sessions.items()):
                if not session.ready:
                    continue
                silent = 0 if session.heard else silent + 1
                self._sessions[session] = silent
                session.heard = False
                session.quiet_ticks = 0 if session.sent else session.quiet_ticks + 1
                session.sent = False
                if silent >= DEAD_TICKS:
                    session.fail(f"OpenD sent nothing for {DEAD_TICKS * TICK:g} s")
                elif session.quiet_ticks >= KEEP_ALIVE_TICKS:
                    session.quiet_ticks = 0
                    session.keep_alive()
