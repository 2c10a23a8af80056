"""What a door does about a TLS handshake that came to nothing: it is counted, and recorded like any other refusal."""

from __future__ import annotations

from sidecar.gate import Gate
from sidecar.grants import Caller
from sidecar.policy.decision import Refusal

ENDPOINT = "tls"
"""Of what is refused before a byte of any protocol."""


def handshake_failed(gate: Gate, iface: str, address: str, word: str, refusal: Refusal | None) -> None:
    """See `entrance.Failed`. The gate sees to it that nobody fills the audit with them."""
    gate.metrics.handshake_failed(iface, word)
    if refusal is not None:
        gate.refuse(Caller(iface, None, address, endpoint=ENDPOINT), None, 0, refusal)
