"""Where a door listens: an address or a unix socket, in clear or behind TLS. Says nothing and judges no key.

A door's protocols are made when there is somebody to talk to: in clear at once, behind TLS after the handshake. Until then
a client costs a place here, and none in the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import structlog

from sidecar.errors import ConfigError
from sidecar.listeners.certificate import Certificate
from sidecar.listeners.unix_socket import BoundSocket
from sidecar.policy.decision import Code, Refusal
from sidecar.setting_values import socket_path
from sidecar.tasks import Tasks

log = structlog.get_logger()

MOST_HANDSHAKES = 200
"""Handshakes under way at one entrance. SECURITY: for one more the longest waiting gives way, so that whoever connects and
says nothing keeps nobody out."""
_BACKLOG = 1024
_LAST_WORDS = 5.0
"""Seconds in which a client may answer our goodbye."""
_AFTER_FAILURE = 1.0
"""Seconds without accepting where the system has no more open files for us."""

Make = Callable[[], asyncio.BaseProtocol]
Failed = Callable[[str, str, Refusal | None], None]
"""A handshake that came to nothing: the client's address, why in one word (`WORDS`), and what to record; None where the client
has merely gone."""

WORDS = ("client_certificate", "protocol", "timeout", "gone")


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen. `remedy` says in words how to change it."""

    bind: str
    """An IP address, or `unix:/path`."""
    port: int
    remedy: str
    socket_mode: int = 0o660
    certificate: Certificate | None = None
    patience: float = 10.0
    """Seconds for a TLS handshake."""


class Entrance:
    """One place to listen. All methods run on the event loop."""

    def __init__(self, place: Place, failed: Failed = lambda address, word, refusal: None) -> None:
        self._place = place
        self._failed = failed
        self._server: asyncio.Server | None = None
        self._bound: BoundSocket | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}
        """In the order in which they began."""
        self._accepting: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    async def open(self, make: Make) -> int | str:
        """Listen; the port bound, or `unix:/path`. Raises ConfigError where the place cannot be had."""
        place, loop = self._place, asyncio.get_running_loop()
        path = socket_path(place.bind)
        if path is not None:
            self._bound = BoundSocket(path, place.socket_mode, place.remedy)
            self._server = await loop.create_unix_server(make, sock=self._bound.socket, backlog=_BACKLOG)
            return place.bind
        try:
            if place.certificate is None:
                self._server = await loop.create_server(make, place.bind, place.port, backlog=_BACKLOG)
                port: int = self._server.sockets[0].getsockname()[1]
                return port
            family = socket.AF_INET6 if ":" in place.bind else socket.AF_INET
            listening = socket.create_server((place.bind, place.port), family=family, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            raise cannot_listen(place.bind, place.port, error, place.remedy) from None
        listening.setblocking(False)
        port = listening.getsockname()[1]
        self._accepting = self._tasks.spawn(self._accept(listening, make, place.certificate))
        return port

    def close(self) -> None:
        """Let nobody new in, those in the midst of a handshake included. Does nothing when it was never opened."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        if self._bound is not None:
            self._bound.remove()
        for task in (self._accepting, *self._handshakes):
            if task is not None:
                task.cancel()

    # -- TLS ------------------------------------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket, make: Make, certificate: Certificate) -> None:
        """asyncio's own server has one certificate for all its life, and is silent about handshakes that fail."""
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(listening)
                except OSError as error:
                    log.warning("a connection could not be accepted", problem=str(error))
                    await asyncio.sleep(_AFTER_FAILURE)
                    continue
                if len(self._handshakes) >= MOST_HANDSHAKES:
                    longest = next(iter(self._handshakes))
                    del self._handshakes[longest]
                    longest.cancel()
                task = self._tasks.spawn(self._shake_hands(accepted, make, certificate.context))
                self._handshakes[task] = None
                task.add_done_callback(lambda ended: self._handshakes.pop(ended, None))

    async def _shake_hands(self, accepted: socket.socket, make: Make, context: ssl.SSLContext) -> None:
        address = _address(accepted)
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: _Arrival(make), accepted, ssl=context,
                ssl_handshake_timeout=self._place.patience, ssl_shutdown_timeout=_LAST_WORDS,
            )  # fmt: skip
        except OSError as error:
            self._failed(address, *_why(error))


def cannot_listen(bind: str, port: int, error: OSError | OverflowError, remedy: str) -> ConfigError:
    """The address is taken or not ours. `remedy`: e.g. "`--rest-port` or the setting `listeners.rest`"."""
    number = getattr(error, "errno", None)  # asyncio puts a sentence of its own into strerror
    reason = os.strerror(number).lower() if number and number > 0 else str(error)
    return ConfigError(f"cannot listen on {bind}:{port} ({reason}); choose another port with {remedy}")


class _Arrival(asyncio.Protocol):
    """Behind its handshake a client meets the door."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        behind = self._make()
        transport.set_protocol(behind)
        behind.connection_made(transport)


def _why(error: OSError) -> tuple[str, Refusal | None]:
    """Why a handshake failed: one of `WORDS`, and what to record."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message or str(error)
        return "client_certificate", Refusal(Code.KEY_UNKNOWN, f"the client certificate is not accepted: {said}")
    if not isinstance(error, ssl.SSLError):
        return ("timeout" if isinstance(error, ConnectionAbortedError | TimeoutError) else "gone"), None
    reason = error.reason or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "client_certificate", Refusal(
            Code.KEY_MISSING, "no client certificate was shown; this listener asks for one"
        )
    if "ALERT" in reason:
        text = f"the client ended the TLS handshake ({_plain(reason)}); does it trust the CA of this listener's certificate?"
    elif reason in (
        "HTTP_REQUEST",
        "WRONG_VERSION_NUMBER",
        "UNKNOWN_PROTOCOL",
        "UNEXPECTED_MESSAGE",
        "HTTPS_PROXY_REQUEST",
    ):
        text = "the client does not speak TLS, and this listener speaks nothing else"
    elif reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"):
        text = "the client speaks only versions of TLS that this listener does not take"
    else:
        text = f"the TLS handshake failed: {_plain(reason) or 'no reason was given'}"
    return "protocol", Refusal(Code.MALFORMED_REQUEST, text)


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _address(accepted: socket.socket) -> str:
    with contextlib.suppress(OSError):
        return str(accepted.getpeername()[0])
    return "unknown"


def certificate_of(transport: asyncio.BaseTransport | None) -> bytes | None:
    """The SHA-256 of the certificate a client showed, as it was verified in the handshake; None where it showed none."""
    shown = None if transport is None else transport.get_extra_info("ssl_object")
    der = None if shown is None else cast(ssl.SSLObject, shown).getpeercert(binary_form=True)
    return None if der is None else hashlib.sha256(der).digest()
