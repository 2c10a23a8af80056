"""Whether orders can be served now, in the operator's words. Mends nothing."""

from __future__ import annotations

import time

from sidecar.keys.ring import KeyStore
from sidecar.listeners.admin import Problem
from sidecar.listeners.certificate import Certificates
from sidecar.recorder import Recorder
from sidecar.reloading import Reloading
from sidecar.upstream.house import House


class Readiness:
    def __init__(
        self, house: House, keys: KeyStore, recorder: Recorder, settings: Reloading, certificates: Certificates
    ) -> None:
        self._house = house
        self._keys = keys
        self._recorder = recorder
        self._settings = settings
        self._certificates = certificates

    def problems(self) -> list[Problem]:
        """Why orders would be refused now, or will be; empty when ready."""
        found = []
        if not self._house.up:
            found.append(Problem("upstream", self._house.trouble))
        if self._keys.broken_since is not None:
            stale = "orders are refused" if self._keys.stale(time.monotonic()) else "the last good keys are in force"
            found.append(Problem("keys", f"keys.json cannot be read; {stale}"))
        if not self._recorder.ledger_ok:
            found.append(Problem("ledger", "the ledger cannot be written; orders are refused"))
        if not self._recorder.audit_ok:
            found.append(Problem("audit", "the audit cannot be written; orders are refused"))
        if self._settings.problem is not None:
            text = " ".join(self._settings.problem.split())
            found.append(Problem("settings", f"they cannot be used, the ones before stay in force: {text}"))
        found += [Problem("certificate", text) for text in self._certificates.problems()]
        return found
