"""What would be decided of an order that the owner describes, under any key, with every check told. It forwards, reserves, counts
and records nothing, and holds no rule: the gate decides.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from google.protobuf.message import Message

from sidecar.allowance import rehearsal
from sidecar.asked import Asked
from sidecar.border import closest, shown
from sidecar.decision_id import new_decision_id
from sidecar.errors import BodyError
from sidecar.gate import Gate
from sidecar.grants import OWNERS, Caller
from sidecar.intents.model import CancelOrder, Intent
from sidecar.intents.read import read
from sidecar.policy.decision import Code, Decision, Finding, Refusal
from sidecar.policy.key import Key
from sidecar.wire import dialect, packet_id
from sidecar.wire.catalog import Permission, Row, by_name

LOOPBACK = "127.0.0.1"
_FIELDS = ("key", "request", "body", "from")
_STOPS = {
    "upstream": Code.UPSTREAM_UNAVAILABLE,
    "ledger": Code.LEDGER_UNAVAILABLE,
    "audit": Code.AUDIT_UNAVAILABLE,
}
"""What is the matter with the sidecar, by component, and how an order is refused for it."""


@dataclass(frozen=True, slots=True)
class Described:
    """A request as its client would make it: of the key with that id, from that address (None: one it may come from)."""

    key_id: str
    row: Row
    message: Message
    intent: Intent
    address: str | None = None


class _Problem(Protocol):
    @property
    def component(self) -> str: ...
    @property
    def message(self) -> str: ...


def described(tree: Any) -> Described | Refusal:
    """What a tree of JSON values describes: `{"key": id, "request": "Trd_PlaceOrder", "body": {...}, "from": address}`, the body
    as REST takes it. It is read as a client's request is, so it may be refused as one. Raises ValueError with prose."""
    if not isinstance(tree, dict) or not isinstance(tree.get("body"), dict):
        raise ValueError('it must be an object, e.g. {"key": "bot", "request": "Trd_PlaceOrder", "body": {...}}')
    for name in tree:
        if name not in _FIELDS:
            raise ValueError(f"{shown(name)} is not a field{closest(str(name), _FIELDS)}")
    key_id, name, address = tree.get("key"), tree.get("request"), tree.get("from")
    if not isinstance(key_id, str) or not key_id:
        raise ValueError("`key` must be the id of a key")
    address = None if address is None else _address(address)
    row = by_name(name) if isinstance(name, str) else None
    if row is None or row.permission is not Permission.TRADE:
        raise ValueError(
            f"{shown(name)} is no order, change or cancel: write Trd_PlaceOrder, Trd_PlaceComboOrder or Trd_ModifyOrder"
        )
    try:
        message = dialect.read(row, tree["body"], packet_id.lend)
        intent = read(row.id, message)
    except BodyError as error:
        return Refusal(Code(error.code), str(error))
    return Described(key_id, row, message, intent, address)


def as_from(key: Key | None, address: str | None) -> str:
    """The client's address that is taken for granted where none is given: one from which the key may be used."""
    if address is not None or key is None or not key.allowed_ips:
        return address or LOOPBACK
    return str(ipaddress.ip_network(key.allowed_ips[0]).network_address)


def told(
    key_id: str, found: Decision | Refusal, now: datetime, address: str | None = None, *, running: bool
) -> dict[str, Any]:
    """The answer as a tree of JSON values. `running`: by a running sidecar, at this moment."""
    if isinstance(found, Refusal):
        found = Decision((Finding(found.code.value, found.message, found),))
    tree = rehearsal(found)
    del tree["dry_run"]
    for check, finding in zip(tree["checks"], found.findings, strict=True):
        check["code"] = None if finding.refusal is None else finding.refusal.code.value
    return {"key": key_id, "running": running, "at": now.isoformat(timespec="seconds"), "from": address, **tree}


class Explaining:
    """Of one running sidecar. `readiness` is empty when orders can be served."""

    def __init__(
        self, gate: Gate, readiness: Callable[[], Sequence[_Problem]], keys: Callable[[str], Key | None]
    ) -> None:
        self._gate = gate
        self._readiness = readiness
        self._keys = keys

    async def explain(self, tree: Any) -> dict[str, Any]:
        """As `told`, for what `described` reads. Raises ValueError with prose."""
        grants = self._gate.grants
        wanted = described(tree)
        key_id = tree["key"]
        if key_id not in grants.key_ids:
            raise ValueError(f"there is no key {shown(key_id)}{closest(key_id, grants.key_ids)}")
        address = as_from(self._keys(key_id), tree.get("from"))
        caller = Caller(OWNERS, key_id, address)
        good = grants.of(caller)
        if isinstance(good, Refusal):
            return told(key_id, good, grants.now(), address, running=True)
        if isinstance(wanted, Refusal):
            return told(key_id, wanted, grants.now(), address, running=True)
        asked = Asked(
            caller, wanted.row, wanted.message, wanted.intent, new_decision_id(), time.perf_counter(), rehearsal=True
        )
        found = await self._gate.explain(asked)
        if isinstance(found, Decision):
            found = self._as_things_are(found, wanted.intent)
        return told(key_id, found, grants.now(), address, running=True)

    def _as_things_are(self, decision: Decision, intent: Intent) -> Decision:
        """With what would stop it whatever the rules say. A cancel needs neither ledger nor audit."""
        known = [(_STOPS.get(problem.component), problem.message) for problem in self._readiness()]
        found = [Finding(code.value, text, Refusal(code, text)) for code, text in known if code is not None]
        first = [one for one in found if one.rule == Code.UPSTREAM_UNAVAILABLE]
        last = [one for one in found if one not in first and not isinstance(intent, CancelOrder)]
        return replace(decision, findings=(*first, *decision.findings, *last))


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{shown(value)} is not an IP address") from None
