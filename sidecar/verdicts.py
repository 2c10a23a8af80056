"""Every yes and no of the gate: put on record, counted, and put into words. Decides none of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from sidecar.asked import Asked, Refused
from sidecar.audit.record import KEY_INVALID, KEY_MISSING, AuditRecord, Outcome
from sidecar.breakers import Breakers
from sidecar.decision_id import new_decision_id
from sidecar.grants import Caller, Grant, Grants
from sidecar.intents.model import CancelOrder, ModifyOrder, PlaceCombo, PlaceOrder
from sidecar.lately import Lately
from sidecar.metrics import Action, Metrics
from sidecar.policy.decision import Code, Decision, Refusal
from sidecar.recorder import Recorder
from sidecar.request_record import args_hash, endpoint_of, order_fields
from sidecar.wire.catalog import Row


class Verdicts:
    """What is told of each request, to the audit, the metrics, the breakers and the client."""

    def __init__(
        self,
        *,
        grants: Grants,
        recorder: Recorder,
        metrics: Metrics,
        breakers: Breakers,
        clock: Callable[[], float],
    ) -> None:
        self._grants = grants
        self._recorder = recorder
        self._metrics = metrics
        self._breakers = breakers
        self._clock = clock
        self.lately = Lately()

    def refuse(
        self, caller: Caller, row: Row | None, proto_id: int, refusal: Refusal, *, decision_id: str = "", asked: Asked | None = None,
        decision: Decision | None = None,
    ) -> Refused:  # fmt: skip
        """Every no of the sidecar is made here: recorded, counted, and put into words."""
        decision_id = decision_id or new_decision_id()
        record = AuditRecord(
            at=self._clock(),
            iface=caller.iface,
            endpoint=endpoint_of(caller, row, proto_id),
            key_id=self._known_id(caller, refusal),
            outcome="reject",
            reason=refusal.code.value,
            message=refusal.message,
            decision_id=decision_id,
            policy=self._grants.revision,
            address=caller.address,
        )
        if asked is not None:
            record = replace(record, **order_fields(asked.intent, decision, asked.resting))
        self._recorder.note(record)
        self.lately.note(record)
        self._metrics.refused(caller.iface, refusal.code.value, record.key_id)
        return Refused(refusal.code, refusal.text(decision_id), refusal.retry_after, decision_id=decision_id)

    def refuse_asked(self, asked: Asked, refusal: Refusal, decision: Decision | None = None) -> Refused:
        if asked.is_order and not asked.rehearsal:
            self._breakers.order_refused(asked.caller.key_id or "", refusal.code)
        self.count_order(asked, "refused")
        return self.refuse(
            asked.caller,
            asked.row,
            asked.row.id,
            refusal,
            decision_id=asked.decision_id,
            asked=asked,
            decision=decision,
        )

    def replayed(self, asked: Asked, first: str) -> None:
        """A repeated idempotency key was answered with the outcome of the decision `first`; nothing was sent."""
        self.count_allowed(asked)
        text = f"a repeat, answered with the outcome of decision {first}"
        self._recorder.note(replace(self.record(asked, "allow", None), message=text, essential=False))

    def _known_id(self, caller: Caller, refusal: Refusal) -> str:
        if caller.key_id is not None:
            return caller.key_id
        return KEY_MISSING if refusal.code is Code.KEY_MISSING else KEY_INVALID

    def allow_read(self, asked: Asked, grant: Grant) -> None:
        self.count_allowed(asked)
        if self._grants.audits_reads:
            self._recorder.note(self.record(asked, "allow", None))

    def count_allowed(self, asked: Asked) -> None:
        self._metrics.allowed(asked.caller.iface, asked.caller.key_id or "").inc()

    def count_order(self, asked: Asked, outcome: Literal["allowed", "refused"]) -> None:
        intent = asked.intent
        if asked.rehearsal or not isinstance(intent, PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder):
            return
        action: Action = "cancel" if isinstance(intent, CancelOrder) else "order"
        self._metrics.order(action, intent.account.env.name, outcome, asked.caller.key_id or "")

    def count_value(self, asked: Asked, allowed: AuditRecord) -> None:
        self._metrics.order_value(asked.counts, allowed.currency, allowed.key_id)

    def record(self, asked: Asked, outcome: Outcome, decision: Decision | None) -> AuditRecord:
        caller = asked.caller
        return AuditRecord(
            at=self._clock(),
            iface=caller.iface,
            endpoint=asked.endpoint,
            key_id=caller.key_id or "",
            outcome=outcome,
            scope=asked.row.permission.value,
            decision_id=asked.decision_id,
            policy=self._grants.revision,
            address=caller.address,
            latency_us=round((time.perf_counter() - asked.arrived) * 1_000_000),
            args_hash=asked.args_hash or args_hash(asked.intent, asked.message),
            essential=asked.is_order or isinstance(asked.intent, CancelOrder),
            **order_fields(asked.intent, decision, asked.resting),
        )
