"""What one look came to, and what to do about it. Looks at nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    GOOD = "good"
    DOUBT = "doubt"
    """It may be meant, or could not be seen."""
    BAD = "bad"
    UNASKED = "unasked"
    """Left alone on purpose; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """`name` is stable, for programs; `text` and `remedy` are for people, a remedy only where there is something to do."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def good(name: str, text: str) -> Check:
    return Check(name, Verdict.GOOD, text)


def doubt(name: str, text: str, remedy: str = "") -> Check:
    return Check(name, Verdict.DOUBT, text, remedy)


def bad(name: str, text: str, remedy: str) -> Check:
    return Check(name, Verdict.BAD, text, remedy)


def unasked(name: str, text: str, remedy: str = "") -> Check:
    return Check(name, Verdict.UNASKED, text, remedy)
