"""How many connections of its own (TCP, WebSocket) each key has. The doors whose clients come and go by the request have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Presence:
    """Told by the relays. `on_arrived` is called with the key's id for each connection, `on_left` when the last has gone."""

    def __init__(self) -> None:
        self._connections: Counter[str] = Counter()
        self.on_arrived: Callable[[str], None] = lambda key_id: None
        self.on_left: Callable[[str], None] = lambda key_id: None

    def has(self, key_id: str) -> bool:
        return self._connections[key_id] > 0

    def count(self, key_id: str) -> int:
        return self._connections[key_id]

    def arrived(self, key_id: str) -> None:
        self._connections[key_id] += 1
        self.on_arrived(key_id)

    def left(self, key_id: str) -> None:
        self._connections[key_id] -= 1
        if not self._connections[key_id]:
            del self._connections[key_id]
            self.on_left(key_id)
