"""What metrics are made of: labels that stay closed sets, series that go with their key, gauges read at the scrape. Names no metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import structlog
from prometheus_client import Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

OTHER = "other"
"""What a label value outside its closed set becomes."""

_MAX_WORDS = 64
"""Distinct values of a label whose words are the callers' own (codes, names of requests, reasons of a cut)."""

_log = structlog.get_logger("sidecar.metrics")


class Words:
    """The words a label has taken; past `_MAX_WORDS` a new one is `other`, so that no mistake can flood a scrape."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, word: str) -> str:
        if word in self._seen:
            return word
        if len(self._seen) >= _MAX_WORDS:
            return OTHER
        self._seen.add(word)
        return word


class KeyFamily:
    """One counter family whose last label is `key_id`: children are cached, and removed with their key."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._children: dict[tuple[str, ...], Counter] = {}

    def child(self, *labels: str) -> Counter:
        found = self._children.get(labels)
        if found is None:
            found = self._children[labels] = self._counter.labels(*labels)
        return found

    def keep(self, key_ids: frozenset[str]) -> None:
        for labels in [labels for labels in self._children if labels[-1] not in key_ids]:
            del self._children[labels]
            self._counter.remove(*labels)


class AtScrape(Collector):
    """One family of gauges that is read at every scrape. `read` gives (key id, label values, value), with "" for what is of no
    key; rows of keys that are not known are left out, and of several with the same labels the smallest is shown."""

    def __init__(
        self, name: str, what: str, labels: tuple[str, ...], *,
        read: Callable[[], Iterable[tuple[str, tuple[str, ...], float]]], known: Callable[[], frozenset[str]],
    ) -> None:  # fmt: skip
        self._family = name, what, labels
        self._read = read
        self._known = known

    def collect(self) -> Iterator[Metric]:
        name, what, labels = self._family
        least: dict[tuple[str, ...], float] = {}
        try:
            for key_id, values, amount in self._read():
                if not key_id or key_id in self._known():
                    least[values] = min(amount, least.get(values, math.inf))
        except Exception:
            # one reading that fails must not cost the operator all the others
            _log.exception("a metric could not be read", metric=name)
            return
        family = GaugeMetricFamily(name, what, labels=labels)
        for values, amount in least.items():
            family.add_metric(values, amount)
        yield family
