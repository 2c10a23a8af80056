"""Which entries belong to which order of OpenD, by either of its ids, as far as they are in memory; asks no store."""

from __future__ import annotations

from sidecar.ledger.use import Entry

MOST_ABSENT = 50_000
"""Orders remembered not to be in the store, so that long lists of other people's orders are not looked up again."""

OrderKey = tuple[int, int | str]
"""Account, and one of the order's two ids."""


def order_keys(acc_id: int, order_id: int, order_id_ex: str) -> list[OrderKey]:
    """0 and "" mean not given."""
    keys: list[OrderKey] = []
    if order_id:
        keys.append((acc_id, order_id))
    if order_id_ex:
        keys.append((acc_id, order_id_ex))
    return keys


def placed_by(entries: list[Entry]) -> Entry | None:
    """The entry that placed the order; the others changed it."""
    return next((entry for entry in reversed(entries) if entry.reservation.kind == "place"), None)


class OrderMap:
    """Entries by order. An entry is linked under the ids it has; unlink it before they change."""

    def __init__(self) -> None:
        self._entries: dict[OrderKey, list[Entry]] = {}
        self._absent: set[OrderKey] = set()

    def link(self, entry: Entry) -> None:
        for key in order_keys(entry.reservation.acc_id, entry.order_id, entry.order_id_ex):
            self._entries.setdefault(key, []).append(entry)
            self._absent.discard(key)

    def unlink(self, entry: Entry) -> None:
        for key in order_keys(entry.reservation.acc_id, entry.order_id, entry.order_id_ex):
            entries = self._entries[key]
            entries.remove(entry)
            if not entries:
                del self._entries[key]

    def entries(self, keys: list[OrderKey]) -> list[Entry]:
        """Those of the first key under which the order was placed, else of the first under which there are any."""
        known = [self._entries[key] for key in keys if key in self._entries]
        return next((entries for entries in known if placed_by(entries) is not None), known[0] if known else [])

    def entries_of_all(self, keys: list[OrderKey]) -> list[Entry]:
        """Those under any of the keys, each once: what OpenD says of an order is said of all that is known of it."""
        found = {id(entry): entry for key in keys for entry in self._entries.get(key, ())}
        return list(found.values())

    def absent(self, keys: list[OrderKey]) -> bool:
        """Whether the store is known to have none of them."""
        return self._absent.issuperset(keys)

    def note_absent(self, keys: list[OrderKey]) -> None:
        """Linking one of them ends it."""
        if len(self._absent) >= MOST_ABSENT:
            self._absent.clear()
        self._absent.update(keys)
