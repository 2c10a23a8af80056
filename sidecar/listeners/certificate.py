"""The certificate of a listener: loaded, watched, and replaced by better ones only. Opens no port and knows no key of keys.json.

Existing connections keep the certificate they began with; `Certificate.context` is what the next one is met with.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from sidecar.errors import ConfigError
from sidecar.keys.sight import Sight, sight
from sidecar.listener_settings import Listeners, Tls

log = structlog.get_logger()

HTTP_1, HTTP_2 = ("http/1.1",), ("h2",)
"""What a listener speaks under TLS, in the words of ALPN."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the files. A change is read when the next look finds no further one: a certificate and its key
are two files, and are replaced one after the other."""
_ALPN = {"websocket": HTTP_1, "rest": HTTP_1, "mcp": HTTP_1, "admin": HTTP_1, "grpc": HTTP_2}
_LARGEST_FILE = 1024 * 1024
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Files that belong together. `valid_from` and `expires_at` are those of the listener's own certificate."""

    context: ssl.SSLContext
    valid_from: datetime
    expires_at: datetime
    fingerprint: str
    """SHA-256, hex."""
    warnings: tuple[str, ...]

    def trouble(self, now: datetime) -> str | None:
        """Why clients do not accept it, whatever they trust."""
        if now >= self.expires_at:
            return f"expired at {self.expires_at.isoformat()}"
        if now < self.valid_from:
            return f"is valid from {self.valid_from.isoformat()} on, which is still to come"
        return None


def load_certificate(tls: Tls, alpn: Sequence[str] = ()) -> Loaded:
    """Reads and checks the files of a listener. Raises ConfigError, naming the file and what to do."""
    assert tls.cert is not None, "only where TLS is on"
    assert tls.key is not None, "settings see to it"
    chain, _ = _certificates(tls.cert)
    warnings = _check_key(tls.key, tls.cert, chain[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    # SECURITY: a client that renegotiates makes us work for nothing
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"the certificate `{tls.cert}` cannot be used with `{tls.key}`: {_words(error)}") from None
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if tls.client_ca is not None:
        _ask_clients(context, tls.client_ca)
    own = chain[0]
    return Loaded(
        context, own.not_valid_before_utc, own.not_valid_after_utc,
        hashlib.sha256(own.public_bytes(serialization.Encoding.DER)).hexdigest(), warnings,
    )  # fmt: skip


def _ask_clients(context: ssl.SSLContext, path: Path) -> None:
    _, pem = _certificates(path)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except ssl.SSLError as error:
        raise ConfigError(f"the CAs in `{path}` cannot be used: {_words(error)}") from None
    context.verify_mode = ssl.CERT_REQUIRED
    # SECURITY: a resumed session shows no certificate again, and would outlive its expiry
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def _certificates(path: Path) -> tuple[list[x509.Certificate], bytes]:
    pem, _ = _read(path, "certificate")
    try:
        return x509.load_pem_x509_certificates(pem), pem
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"`{path}` holds no certificate in PEM form (`-----BEGIN CERTIFICATE-----`)") from None


def _check_key(path: Path, cert: Path, own: x509.Certificate) -> tuple[str, ...]:
    pem, mode = _read(path, "private key")
    warnings: tuple[str, ...] = ()
    if os.name == "posix":
        # SECURITY: whoever has it can pass for us, and read the keys that clients show
        if mode & 0o027:
            raise ConfigError(f"others may use the private key `{path}` (mode {mode:04o}); run `chmod 600 {path}`")
        if mode & 0o040:
            warnings = (f"the private key `{path}` may be read by its group (mode {mode:04o}); is that meant?",)
    try:
        # compared only; OpenSSL checks it when it loads it
        private = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        _no_passphrase(path)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"`{path}` holds no private key in PEM form (`-----BEGIN PRIVATE KEY-----`)") from None
    if private.public_key() != own.public_key():
        raise ConfigError(f"the private key `{path}` is not that of the certificate `{cert}`")
    return warnings


def _read(path: Path, what: str) -> tuple[bytes, int]:
    """The bytes and the mode of one file, through one descriptor."""
    try:
        # not blocking: a pipe in its place must be refused, not waited for
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"the {what} `{path}` is not a regular file")
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"the {what} `{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"the {what} `{path}` is over {_LARGEST_FILE // 1024} KiB; is it the right file?")
    return data, stat.S_IMODE(found.st_mode)


def _no_passphrase(path: Path | None = None) -> NoReturn:
    where = "" if path is None else f" `{path}`"
    raise ConfigError(
        f"the private key{where} has a passphrase, which nobody could type at a start; write it without one "
        "(`openssl pkey -in OLD -out NEW`) and `chmod 600` it"
    )


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).replace("_", " ").lower()


class Certificate:
    """Of one listener. `name` is the listener's in the settings. Raises ConfigError when it cannot be loaded at first."""

    def __init__(self, name: str, tls: Tls, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.name = name
        self._tls = tls
        self._now = now
        self._alpn = _ALPN.get(name.rpartition(".")[2], ())
        self._seen = self._glimpsed = self._look()
        self._refused: str | None = None
        try:
            self._loaded = load_certificate(tls, self._alpn)
        except ConfigError as error:
            raise ConfigError(f"setting `{name}.tls`: {error}") from None

    @property
    def context(self) -> ssl.SSLContext:
        return self._loaded.context

    @property
    def expires_at(self) -> datetime:
        return self._loaded.expires_at

    def expires(self) -> float:
        """As seconds since 1970."""
        return self._loaded.expires_at.timestamp()

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"setting `{self.name}.tls`: {text}" for text in self._loaded.warnings)

    def reload(self) -> bool:
        """Reads the files again; the certificate in force stays where they are no better. Says whether all is well."""
        self._seen = self._look()
        before = self._loaded
        try:
            found = load_certificate(self._tls, self._alpn)
            now = self._now()
            trouble = found.trouble(now)
            if trouble is not None and before.trouble(now) is None:
                raise ConfigError(f"the new certificate `{self._tls.cert}` {trouble}")
        except ConfigError as error:
            self._refused = str(error)
            log.error(
                "a new certificate cannot be used; the one before stays in force", listener=self.name,
                problem=str(error), in_force_until=before.expires_at.isoformat(),
            )  # fmt: skip
            return False
        self._refused = None
        self._loaded = found
        if found.fingerprint != before.fingerprint:
            log.info(
                "a new certificate is in force", listener=self.name, expires=found.expires_at.isoformat(),
                sha256=found.fingerprint,
            )  # fmt: skip
        return True

    @property
    def problem(self) -> str | None:
        """What the operator must look after; None where all is well."""
        trouble = self._loaded.trouble(self._now())
        if self._refused is not None:
            return f"{self.name}: a new certificate cannot be used, the one before stays in force: {self._refused}"
        return None if trouble is None else f"{self.name}: the certificate {trouble}; clients do not accept it"

    def settled_change(self) -> bool:
        """Whether the files are other ones than those read last, and the same as when this was asked before. May wait for the
        file system."""
        found = self._look()
        settled = found == self._glimpsed
        self._glimpsed = found
        return settled and found != self._seen

    def _look(self) -> tuple[Sight | None, ...]:
        tls = self._tls
        return tuple(None if path is None else sight(path) for path in (tls.cert, tls.key, tls.client_ca))


class Certificates:
    """Those of all listeners that have one, by the listener's name in the settings (`listeners.rest`, `listeners.tcp[0]`)."""

    def __init__(self, listeners: Listeners, *, reloaded: Callable[[bool], None] = lambda ok: None) -> None:
        """`reloaded` is told the outcome of each reload. Raises ConfigError."""
        self._reloaded = reloaded
        self._all = {name: Certificate(name, door.tls) for name, door in listeners.named() if door.tls.on}

    def of(self, name: str) -> Certificate | None:
        """None for a listener that speaks in clear."""
        return self._all.get(name)

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self._all.values())

    def problems(self) -> tuple[str, ...]:
        """One text for each listener whose certificate needs the operator."""
        return tuple(problem for each in self if (problem := each.problem) is not None)

    def warnings(self) -> tuple[str, ...]:
        return tuple(text for each in self for text in each.warnings)

    async def reload(self) -> tuple[str, ...]:
        """Reads all of them again, changed or not; the `problems` there are now."""
        for each in self:
            self._reloaded(await asyncio.to_thread(each.reload))
        return self.problems()

    async def watch(self) -> None:
        """Notice changed files by themselves, also behind links that lead elsewhere. Does not return."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for each in self:
                if await asyncio.to_thread(each.settled_change):
                    self._reloaded(await asyncio.to_thread(each.reload))
