"""What a caller may do right now, as far as a frame's header tells: the key looked up afresh, its scopes as sets of ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sidecar.intents.model import TrdEnv
from sidecar.keys.ring import KeyStore, standing
from sidecar.keys.secret import digest_of, ws_digest_of
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.key import Key, Scope
from sidecar.policy.permission import permits
from sidecar.wire.catalog import CATALOG, Direction, Permission, Row

OWNERS = "admin"
"""The `iface` of the owner's own socket."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who speaks on one connection: the listener's name, the key's id (None when it showed none), the client's address.

    `digest` of the secret it showed: the id may have got a new secret since. None for listeners bound to a key, and where the
    client's certificate says who it is.
    """

    iface: str
    key_id: str | None
    address: str
    digest: bytes | None = None
    by_md5: bool = False
    """Whether `digest` is that of the secret's MD5, which is all that the official JavaScript SDK sends."""
    endpoint: str = ""
    """The route or tool it came by, as the audit names it; "" where proto ids are spoken and the id says it."""
    certificate: bytes | None = None
    """SHA-256 of the certificate it showed in its TLS handshake, which no key need list."""
    by_certificate: bool = False
    """Whether nothing but `certificate` says whose key it is."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A key in good standing at this moment. The sets hold proto ids."""

    key: Key
    permitted: frozenset[int]
    """Requests its scopes permit."""
    passable: frozenset[int]
    """Those of them that need no look at their contents, and are not counted one by one."""
    pushes: frozenset[int]
    """Pushes it may receive unread."""

    @property
    def reads_accounts(self) -> bool:
        return Scope.ACC_READ in self.key.scopes

    def may_see(self, acc_id: int, env: TrdEnv) -> bool:
        """Whether the account exists for this key: its whitelist, and without acc:read only environments it trades in."""
        key = self.key
        if key.allowed_acc_ids is not None and acc_id not in key.allowed_acc_ids:
            return False
        if Scope.ACC_READ in key.scopes or Scope.TRADE_CANCEL in key.scopes:
            return True
        if env is TrdEnv.REAL:  # the SDK unlocks only where it sees a real account
            return Scope.TRADE_REAL in key.scopes or Scope.TRADE_UNLOCK in key.scopes
        return Scope.TRADE_SIMULATE in key.scopes


_TWO_KEYS = Refusal(Code.KEY_UNKNOWN, "the client certificate is that of another key than the one shown")


def _with_certificate(caller: Caller, shown: Key | None, named: Key | None) -> Key | Refusal | None:
    """The key of a client that showed a certificate, which is that of `named`; `shown`: what else it showed is that one's."""
    if not caller.by_certificate:
        # SECURITY: a client that shows both is one key or none. The same answer whether or not the secret is good
        return shown if named is None or named is shown else _TWO_KEYS
    if caller.key_id is not None:
        return named if named is not None and named.id == caller.key_id else None
    if named is None and caller.certificate is not None:
        text = f"no key lists the client certificate with the SHA-256 {caller.certificate.hex()} in client_certs"
        return Refusal(Code.KEY_UNKNOWN, f"{text}, and no key was shown")
    return named


class Grants:
    """Looks keys up at every request and every push; only the sets of ids are remembered, per key record.

    `audit_reads` makes no request passable, so that each is seen and recorded.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        machine_id: str | None,
        audit_reads: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._machine_id = machine_id
        self.audits_reads = audit_reads
        self._clock = clock
        self._known: dict[str, Grant] = {}

    def audit_reads(self, wanted: bool) -> None:
        """From the next request on, of every key."""
        self.audits_reads = wanted
        self._known.clear()

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return self._clock()

    @property
    def key_ids(self) -> frozenset[str]:
        """The keys there are, good or not."""
        return frozenset(key.id for key in self._keys.ring.keys())  # noqa: SIM118 a ring is no mapping

    @property
    def revision(self) -> str:
        return self._keys.ring.revision

    def identify(self, iface: str, plaintext: str, address: str, certificate: bytes | None = None) -> Caller:
        """The caller who showed this secret; its `key_id` is None when no key has it."""
        key = self._keys.ring.find(plaintext)
        return Caller(iface, None if key is None else key.id, address, digest_of(plaintext), certificate=certificate)

    def identify_md5(self, iface: str, md5_hex: str, address: str, certificate: bytes | None = None) -> Caller:
        """As `identify`, by the MD5 (hex) of the secret. What is no MD5 belongs to no key."""
        digest = ws_digest_of(md5_hex) or b""
        key = self._keys.ring.find_ws_digest(digest)
        key_id = None if key is None else key.id
        return Caller(iface, key_id, address, digest, by_md5=True, certificate=certificate)

    def identify_certificate(self, iface: str, certificate: bytes, address: str) -> Caller:
        """As `identify`, for a client that shows a certificate (its SHA-256) and no secret."""
        key = self._keys.ring.find_certificate(certificate)
        key_id = None if key is None else key.id
        return Caller(iface, key_id, address, certificate=certificate, by_certificate=True)

    def of(self, caller: Caller) -> Grant | Refusal:
        """INVARIANT: asked for every request and every push, so that a reload holds from the next one on."""
        ring = self._keys.ring
        if caller.digest is not None:
            key = ring.find_ws_digest(caller.digest) if caller.by_md5 else ring.find_digest(caller.digest)
            if key is not None and caller.key_id is not None and key.id != caller.key_id:
                key = None
        else:
            key = None if caller.key_id is None else ring.get(caller.key_id)
        if caller.certificate is not None:
            certified = _with_certificate(caller, key, ring.find_certificate(caller.certificate))
            if isinstance(certified, Refusal):
                return certified
            key = certified
        absent = (
            Code.KEY_REVOKED
            if caller.key_id is not None
            else Code.KEY_MISSING
            if caller.digest is None
            else Code.KEY_UNKNOWN
        )
        refusal = standing(key, now=self._clock(), address=caller.address, machine_id=self._machine_id, absent=absent)
        if refusal is not None:
            return refusal
        assert key is not None  # standing refuses a missing key
        grant = self._known.get(key.id)
        if grant is None or grant.key is not key:
            grant = self._known[key.id] = self._read(key)
        return grant

    def _read(self, key: Key) -> Grant:
        permitted = {row.id for row in CATALOG.values() if permits(key.scopes, row.permission.value)}
        # SECURITY: what makes a connection is the listener's; passed on, a second InitConnect would carry a key to OpenD
        requests = {
            number
            for number in permitted
            if CATALOG[number].direction is Direction.REQUEST
            and CATALOG[number].permission is not Permission.CONNECTION
        }
        return Grant(
            key=key,
            permitted=frozenset(requests),
            passable=frozenset() if self.audits_reads else frozenset(n for n in requests if _passes(CATALOG[n])),
            pushes=frozenset(n for n in permitted if CATALOG[n].direction is Direction.PUSH and not CATALOG[n].judged),
        )


def _passes(row: Row) -> bool:
    return not row.judged and row.shared_limit is None
