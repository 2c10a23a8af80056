"""Makes decision ids: ULIDs, 26 characters that sort by time (48 bits of milliseconds, 80 random bits, Crockford's base 32)."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)


def new_decision_id() -> str:
    """A new id; unguessable enough that nobody can tag an order with another's."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])
