"""Order pushes of one caller that wait until it is known whose order they are about. Judges nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.grants import Caller
from sidecar.returns import Returns, Sight
from sidecar.wire.catalog import CATALOG, Row


class HeldPushes:
    """A push may come before the reply that names its order. It is kept for `patience` seconds, then hidden.

    `show(row, body)` passes one on. In the order in which they came, as far as their owners become known together.
    """

    def __init__(self, caller: Caller, returns: Returns, show: Callable[[Row, bytes], None], patience: float) -> None:
        self._caller = caller
        self._returns = returns
        self._show = show
        self._patience = patience
        self._held: list[tuple[int, bytes]] = []
        self._looking = False
        returns.on_owner_known.add(self._look_again)

    def hold(self, proto_id: int, body: bytes) -> None:
        held = (proto_id, body)
        self._held.append(held)
        asyncio.get_running_loop().call_later(self._patience, self._give_up, held)

    def close(self) -> None:
        """The client has gone: nothing is shown any more."""
        self._held.clear()
        self._returns.on_owner_known.discard(self._look_again)

    def _look_again(self) -> None:
        if self._looking:
            return  # looking at one push can make another order's owner known
        self._looking = True
        try:
            for held in tuple(self._held):
                sight = self._returns.judge_push(self._caller, *held)
                if sight is Sight.WAIT:
                    continue
                self._held.remove(held)
                self._let_go(held, shown=sight is Sight.SHOW)
        finally:
            self._looking = False

    def _give_up(self, held: tuple[int, bytes]) -> None:
        if held in self._held:
            self._held.remove(held)
            self._let_go(held, shown=False)

    def _let_go(self, held: tuple[int, bytes], *, shown: bool) -> None:
        row = CATALOG[held[0]]
        if shown:
            self._show(row, held[1])
        else:
            self._returns.hidden(self._caller, row)
