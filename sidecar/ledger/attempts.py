"""Writes that were sent under an idempotency key, and how they ended. Counts nothing and knows no rule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """The first write of one API key under one idempotency key (`token`). `at` is unix seconds."""

    key_id: str
    token: str
    request_hash: str
    decision_id: str
    at: float
    outcome: bytes | None = None
    """OpenD's whole protobuf Response, once it answered."""
