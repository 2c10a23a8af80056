"""`cancel_on_disconnect`: when a key's last connection has been gone for its grace, its own working orders are cancelled.
Which orders those are and how they are cancelled is the canceller's business.

A client that closes and one that crashes look alike, and the SDKs come back within seconds, so only time tells. Time in
which the client could not have come back does not count: it begins anew when the sidecar has started, and for those who
lost their connection together with OpenD when OpenD is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sidecar.cancelling.canceller import Canceller, Why, Wish
from sidecar.keys.ring import KeyStore
from sidecar.policy.key import Key
from sidecar.presence import Presence

WITH_OPEND = 5.0
"""Seconds before OpenD's end within which a connection that ended is taken to have ended with it."""


class Disconnects:
    """Call `start` once the keys are loaded and `tick` every second. All methods run on the event loop."""

    def __init__(
        self, *, presence: Presence, keys: KeyStore, canceller: Canceller, opend_up: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._presence = presence
        self._keys = keys
        self._canceller = canceller
        self._opend_up = opend_up
        self._clock = clock
        self._gone: dict[str, float] = {}
        """Key → since when it has no connection; no longer in it once its orders were cancelled."""
        self._gone_with_opend: set[str] = set()
        self._was_up = False
        self.grace_of: Callable[[Key], float | None] = lambda key: key.cancel_on_disconnect
        presence.on_arrived = self._arrived
        presence.on_left = self._left

    def start(self) -> None:
        """Nobody is connected yet, and whoever was when the last sidecar ended may have orders."""
        for record in self._keys.ring.records():
            if self.grace_of(record.key) is not None:
                self._left(record.key.id)

    def _arrived(self, key_id: str) -> None:
        self._gone.pop(key_id, None)
        self._gone_with_opend.discard(key_id)
        run = self._canceller.running(key_id)
        if run is not None and run.wish.why is Why.DISCONNECT:
            self._canceller.stop(key_id, "the key is connected again")

    def _left(self, key_id: str) -> None:
        self._gone[key_id] = self._clock()
        if not self._opend_up():
            self._gone_with_opend.add(key_id)

    def tick(self) -> None:
        now, up = self._clock(), self._opend_up()
        if self._was_up and not up:
            self._gone_with_opend |= {key_id for key_id, since in self._gone.items() if now - since <= WITH_OPEND}
        elif up and self._gone_with_opend:
            self._gone |= dict.fromkeys(self._gone_with_opend, now)
            self._gone_with_opend.clear()
        self._was_up = up
        if up:
            for key_id, since in list(self._gone.items()):
                self._look(key_id, now - since)

    def _look(self, key_id: str, seconds: float) -> None:
        key = self._keys.ring.get(key_id)
        grace = None if key is None else self.grace_of(key)
        if grace is None:
            # with the key its promise is gone; a key that gets the field later is counted from its next connection
            del self._gone[key_id]
        elif seconds >= grace:
            del self._gone[key_id]
            self._canceller.start(
                Wish(key_id, Why.DISCONNECT, f"cancel_on_disconnect, with no connection for {grace:g} s")
            )
