"""Numbers as people read them, and arithmetic that is exact or none."""

from __future__ import annotations

from decimal import Decimal, Inexact

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.exact import EXACT, plain


@pytest.mark.parametrize(
    ("number", "read"),
    [
        ("100000", "100000"),
        ("1E+5", "100000"),
        ("0.050", "0.05"),
        ("100.000", "100"),
        ("1200", "1200"),
        ("-0.10", "-0.1"),
        ("0", "0"),
        ("0.00", "0"),
        ("1E+40", "1" + "0" * 40),
        ("1E+41", "1E+41"),
        ("1E-40", "0." + "0" * 39 + "1"),
        ("1E-41", "1E-41"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
    ],
)
def test_a_number_is_read_in_digits_unless_they_would_fill_the_line(number: str, read: str) -> None:
    assert plain(Decimal(number)) == read


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_what_is_read_is_the_number_itself(number: Decimal) -> None:
    assert Decimal(plain(number)) == number


def test_what_cannot_be_exact_is_no_amount() -> None:
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))
    with pytest.raises(Inexact):
        EXACT.add(Decimal("1E+150"), Decimal("1E-150"))
