"""The keys in force: looked up by secret or id, and whether one may be used here and now. Watches no file."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sidecar.errors import ConfigError
from sidecar.keys.file import load
from sidecar.keys.machine import fingerprint
from sidecar.keys.record import StoredKey
from sidecar.keys.secret import digest_of, ws_digest_of
from sidecar.keys.sight import Sight, sight
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.key import Key

_WITHOUT_KEY: Final = MappingProxyType(
    {
        Code.KEY_MISSING: Refusal(Code.KEY_MISSING, "no key was given"),
        Code.KEY_UNKNOWN: Refusal(Code.KEY_UNKNOWN, "the key is not known"),
        Code.KEY_REVOKED: Refusal(Code.KEY_REVOKED, "the key is no longer valid"),
    }
)
_EXPIRED: Final = Refusal(Code.KEY_EXPIRED, "the key has expired")
_FROZEN: Final = Refusal(Code.KEY_FROZEN, "the key is frozen")
_WRONG_MACHINE: Final = Refusal(Code.MACHINE_NOT_ALLOWED, "the key may not be used on this machine")
_WRONG_ADDRESS: Final = Refusal(Code.IP_NOT_ALLOWED, "the key may not be used from this address")


class Ring:
    """One revision of the keys; never changes. A new file makes a new ring."""

    __slots__ = ("_by_certificate", "_by_hash", "_by_id", "_by_ws_hash", "revision")

    def __init__(self, records: Iterable[StoredKey], revision: str) -> None:
        self.revision: Final = revision
        """SHA-256 (hex) of the file's bytes."""
        self._by_id = {record.key.id: record for record in records}
        self._by_hash = {record.hash: record for record in self._by_id.values()}
        self._by_ws_hash = {record.ws_hash: record for record in self._by_id.values() if record.ws_hash is not None}
        self._by_certificate = {digest: record.key for record in self._by_id.values() for digest in record.client_certs}

    def find(self, plaintext: str) -> Key | None:
        """The key a client presented. Whether it may be used is `standing`'s to say."""
        return self.find_digest(digest_of(plaintext))

    def find_digest(self, digest: bytes) -> Key | None:
        """As `find`, by `secret.digest_of(plaintext)`: what a connection keeps, to look its key up at every request."""
        record = self._by_hash.get(digest)
        # SECURITY: the table is searched by digest, never by plaintext, and the comparison takes constant time.
        return record.key if record is not None and hmac.compare_digest(record.hash, digest) else None

    def find_ws(self, md5_hex: str) -> Key | None:
        """The key whose MD5 (hex) the JavaScript SDK presented. Records without ws_hash are not found this way."""
        digest = ws_digest_of(md5_hex)
        return None if digest is None else self.find_ws_digest(digest)

    def find_ws_digest(self, digest: bytes) -> Key | None:
        """As `find_ws`, by `secret.ws_digest_of(md5_hex)`."""
        record = self._by_ws_hash.get(digest)
        if record is None or record.ws_hash is None or not hmac.compare_digest(record.ws_hash, digest):
            return None
        return record.key

    def find_certificate(self, digest: bytes) -> Key | None:
        """The key that lists the client certificate with this SHA-256. A fingerprint is no secret: the TLS handshake has proven
        that the client has the certificate's private key."""
        return self._by_certificate.get(digest)

    def get(self, key_id: str) -> Key | None:
        """The key of that id, for listeners bound to one.

        SECURITY: a connection that presented a secret is looked up by its digest: the id may have a new secret since.
        """
        record = self._by_id.get(key_id)
        return None if record is None else record.key

    def records(self) -> tuple[StoredKey, ...]:
        """All records, in the order of the file."""
        return tuple(self._by_id.values())

    def keys(self) -> tuple[Key, ...]:
        """All keys, in the order of the file."""
        return tuple(record.key for record in self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)


def standing(
    key: Key | None, *, now: datetime, address: str, machine_id: str | None, absent: Code = Code.KEY_UNKNOWN
) -> Refusal | None:
    """Check 1: why the key may not be used now, from there, on this machine; None = it may. Called for every request.

    `now` is aware; `address` the client's IP as the socket says it (what is none is refused where allowed_ips is set);
    `machine_id` the raw id of this machine or None; `absent` the code for no key (KEY_MISSING, KEY_REVOKED, ...).
    SECURITY: the messages hold nothing of the record; whoever reads them has no valid key.
    """
    if key is None:
        return _WITHOUT_KEY[absent]
    if key.expires_at is not None and now >= key.expires_at:
        return _EXPIRED
    if key.allowed_machines is not None:
        if not key.allowed_machines:
            return _FROZEN
        if machine_id is None or fingerprint(key.id, machine_id) not in key.allowed_machines:
            return _WRONG_MACHINE
    if key.allowed_ips is not None and not _address_allowed(key.allowed_ips, address):
        return _WRONG_ADDRESS
    return None


@lru_cache(maxsize=8192)
def _address_allowed(networks: tuple[str, ...], address: str) -> bool:
    return address_in(networks, address)


def address_in(networks: tuple[str, ...], address: str) -> bool:
    """Whether an address lies in one of the networks. IPv4 inside IPv6 is IPv4; what is no address lies in none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if found.version == 6 and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in _networks(networks))


@lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload did. When `ok` is False nothing changed, and `revision` is the one still in force."""

    ok: bool
    message: str
    revision: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class KeyStore:
    """Holds the ring in force and replaces it by better ones only. `clock` is monotonic seconds.

    Raises ConfigError when the first load fails: without readable keys nothing starts.
    """

    def __init__(
        self, path: Path, default_zone: tzinfo | None, stale_keys_max: float, clock: Callable[[], float],
        *, connections: bool = True,
    ) -> None:  # fmt: skip
        """`connections`: as of `file.load`."""
        self.path: Final = path
        self._connections = connections
        self._default_zone = default_zone
        self.stale_keys_max = stale_keys_max
        """Seconds; may be set while it is in use."""
        self._clock = clock
        self._listeners: list[Callable[[ReloadResult], None]] = []
        self.broken_since: float | None = None
        """On `clock`, when reloading began to fail; None while the file is good."""
        self._seen: Sight | None = sight(path)
        loaded = load(path, default_zone, connections=connections)
        self.warnings: tuple[str, ...] = loaded.warnings
        self.ring: Ring = Ring(loaded.records, loaded.revision)

    def reload(self) -> ReloadResult:
        """Loads the file again. A broken or missing one keeps the ring (`ok` False); a good one ends `broken_since`."""
        self._seen = sight(self.path)  # before it is read: what happens to it meanwhile is a change
        try:
            loaded = load(self.path, self._default_zone, connections=self._connections)
        except ConfigError as error:
            if self.broken_since is None:
                self.broken_since = self._clock()
            return ReloadResult(
                False, f"the keys of revision {self.ring.revision[:12]} stay in force: {error}", self.ring.revision
            )
        self.broken_since = None
        self.warnings = loaded.warnings
        previous = self.ring
        if loaded.revision == previous.revision:
            return ReloadResult(True, "the keys are unchanged", previous.revision, warnings=loaded.warnings)
        self.ring = Ring(loaded.records, loaded.revision)
        result = _difference(previous, self.ring, loaded.warnings)
        self._tell(result)
        return result

    def changed(self) -> bool:
        """Whether the file is not the one that was loaded last, or no longer as it was: replaced, written over, gone, or come
        back; by itself, by its folder, or by a link on the way to it. May wait for the file system."""
        return sight(self.path) != self._seen

    def stale(self, now_monotonic: float) -> bool:
        """Whether the file has been broken for so long that the keys in memory are not to be trusted with orders."""
        return self.broken_since is not None and now_monotonic - self.broken_since > self.stale_keys_max

    def on_change(self, callback: Callable[[ReloadResult], None]) -> None:
        """`callback` is called after every reload that put a new ring in force; `ring` is the new one by then."""
        self._listeners.append(callback)

    def _tell(self, result: ReloadResult) -> None:
        """Every listener hears of it, whatever another one raises: one may be closing connections of revoked keys."""
        failures: list[Exception] = []
        for listener in tuple(self._listeners):
            try:
                listener(result)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("listeners to a change of keys failed", failures)


def _difference(old: Ring, new: Ring, warnings: tuple[str, ...]) -> ReloadResult:
    before = {record.key.id: record for record in old.records()}
    after = {record.key.id: record for record in new.records()}
    added = tuple(key_id for key_id in after if key_id not in before)
    removed = tuple(key_id for key_id in before if key_id not in after)
    changed = tuple(key_id for key_id, record in after.items() if key_id in before and before[key_id] != record)
    count = "1 key" if len(after) == 1 else f"{len(after)} keys"
    message = f"{count} loaded: {len(added)} added, {len(removed)} removed, {len(changed)} changed"
    return ReloadResult(True, message, new.revision, added, removed, changed, warnings)
