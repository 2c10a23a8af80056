"""Arithmetic with money, and its numbers as people read them."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow])
"""INVARIANT: money is never rounded; an amount too long even for this refuses instead."""

_LONGEST = 40


def plain(number: Decimal) -> str:
    """A number in digits, without exponent and trailing zeros: 100000, 0.05."""
    digits = str(number)
    if "E" in digits or len(digits) > _LONGEST:
        if not number.is_finite() or abs(number.adjusted()) > _LONGEST:
            return digits
        digits = format(number, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
