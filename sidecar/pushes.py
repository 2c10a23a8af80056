"""The pushes one caller is shown: each judged against its key as it is now. What cannot be told yet waits. Holds no rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.grants import Caller, Grant, Grants
from sidecar.returns import Returns, Sight
from sidecar.wire.catalog import Row


class Pushes:
    """`show(row, body)` passes one on; `body` is a whole protobuf Response.

    An order push may come before the reply that names its order. It is kept for `patience` seconds, then hidden; in the
    order in which they came, as far as their owners become known together.
    """

    def __init__(
        self, caller: Caller, grants: Grants, returns: Returns, show: Callable[[Row, bytes], None], patience: float
    ) -> None:
        self._caller = caller
        self._grants = grants
        self._returns = returns
        self._show = show
        self._patience = patience
        self._held: list[tuple[Row, bytes]] = []
        self._looking = False
        self._closed = False

    def came(self, row: Row, body: bytes) -> None:
        """OpenD pushed this on the caller's session."""
        if self._closed:
            return
        if not row.judged:
            grant = self._grants.of(self._caller)
            self._let_go(row, body, shown=isinstance(grant, Grant) and row.id in grant.pushes)
            return
        sight = self._returns.judge_push(self._caller, row.id, body)
        if sight is Sight.WAIT:
            self._hold(row, body)
        else:
            self._let_go(row, body, shown=sight is Sight.SHOW)

    def close(self) -> None:
        """The client has gone: nothing is shown any more."""
        self._closed = True
        self._held.clear()
        self._returns.on_owner_known.discard(self._look_again)

    def _hold(self, row: Row, body: bytes) -> None:
        held = (row, body)
        self._held.append(held)
        self._returns.on_owner_known.add(self._look_again)
        asyncio.get_running_loop().call_later(self._patience, self._give_up, held)

    def _look_again(self) -> None:
        if self._looking:
            return  # looking at one push can make another order's owner known
        self._looking = True
        try:
            for held in tuple(self._held):
                row, body = held
                sight = self._returns.judge_push(self._caller, row.id, body)
                if sight is Sight.WAIT:
                    continue
                self._held.remove(held)
                self._let_go(row, body, shown=sight is Sight.SHOW)
        finally:
            self._looking = False

    def _give_up(self, held: tuple[Row, bytes]) -> None:
        if held in self._held:
            self._held.remove(held)
            self._let_go(*held, shown=False)

    def _let_go(self, row: Row, body: bytes, *, shown: bool) -> None:
        if shown:
            self._show(row, body)
        else:
            self._returns.hidden(self._caller, row)
