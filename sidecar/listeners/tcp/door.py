"""What is set of one TCP door: where it is, which keys it gives, and how long and how much it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.listeners.certificate import Certificate
from sidecar.wire import frame
from sidecar.wire.encryption import RsaKey


@dataclass(frozen=True, slots=True)
class TcpDoor:
    """One TCP listener's settings. Times in seconds, sizes in bytes."""

    bind: str
    port: int
    key_id: str | None = None
    """The key of every client that shows none of its own."""
    shared_rsa: RsaKey | None = None
    rsa_keys: Mapping[str, RsaKey] = field(default_factory=dict)
    """Key id → the RSA key that is its credential."""
    allowed_ips: tuple[str, ...] | None = None
    request_cap: int = frame.DEFAULT_REQUEST_CAP
    client_buffer: int = 8 * 1024 * 1024
    """Unsent bytes beyond which a client is cut; from an eighth of it on nothing more is read from OpenD for it."""
    client_stall: float = 5.0
    """How long a client may leave that eighth unread."""
    max_clients: int = 1100
    handshake_timeout: float = 10.0
    frame_timeout: float = 30.0
    quarantine: float = 600.0
    socket_mode: int = 0o660
    """Of a unix socket."""
    certificate: Certificate | None = None
