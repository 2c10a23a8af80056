"""The metrics that a sidecar shows, and those that an expression in PromQL names; with their labels."""

from __future__ import annotations

import re

from prometheus_client import Histogram

from sidecar.metrics import Headroom, KeyExpiry, KeyLimit, Metrics, StateReading

OF_PROMETHEUS = {"instance", "job"}
"""Labels that it adds to whatever it scrapes."""
_NAME = r"\b((?:sidecar|futu|process|python)_[a-z_]+|up|ALERTS)\b"
_SELECTED = re.compile(_NAME + r"(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')


def shown() -> dict[str, set[str]]:
    """Names of series as they are scraped → the names of their labels."""
    metrics = Metrics()
    metrics.set_keys(["a"], "r")
    metrics.read_headroom_at_scrape(lambda: [Headroom("a", "max_daily_value", 1.0)])
    metrics.read_limits_at_scrape(lambda: [KeyLimit("a", "max_daily_value", 1.0)])
    metrics.read_expiries_at_scrape(lambda: [KeyExpiry("a", 1.0)])
    metrics.read_states_at_scrape(lambda: [StateReading("", 0), StateReading("a", 0)])
    found: dict[str, set[str]] = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
    for collector, names in metrics.registry._collector_to_names.items():
        declared = getattr(collector, "_labelnames", None)
        for name in names:
            if name.endswith("_created") or {f"{name}_total", f"{name}_bucket"} & set(names):
                continue  # a family's name is no series
            found[name] = set(declared or ())
        if isinstance(collector, Histogram):
            found[f"{collector._name}_bucket"].add("le")
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue  # no rule or panel is to lean on those
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def selected(expr: str) -> list[tuple[str, set[str]]]:
    """The metrics an expression names, each with the labels it is selected by."""
    return [(name, set(_MATCHER.findall(labels))) for name, labels in _SELECTED.findall(expr)]


def grouped(expr: str) -> set[str]:
    """The labels by which an expression sums or joins."""
    return {label.strip() for labels in _GROUPED.findall(expr) for label in labels.split(",")}


def unknown_in(expr: str) -> set[str]:
    """Metrics that no sidecar shows, and labels that those named in `expr` have not; empty where all is well."""
    known = shown()
    named = selected(expr)
    wrong = {name for name, _ in named if name not in known}
    for name, labels in named:
        wrong |= {f"{name}{{{label}}}" for label in labels - known.get(name, set()) - OF_PROMETHEUS}
    labels_of_all = set().union(*(known.get(name, set()) for name, _ in named)) | OF_PROMETHEUS
    return wrong | {f"by {label}" for label in grouped(expr) - labels_of_all}
