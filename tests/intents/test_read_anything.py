"""Whatever a client sends: it is read, or refused as malformed. Nothing else ever happens."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_requests import change, combo, place

from sidecar.errors import BodyError
from sidecar.intents.model import PlaceOrder
from sidecar.intents.read import read
from sidecar.wire import body
from sidecar.wire.catalog import CATALOG, MODIFY_ORDER, PLACE_COMBO_ORDER, PLACE_ORDER, Direction

SEEDS = {
    PLACE_ORDER: ("Trd_PlaceOrder.Request", place),
    PLACE_COMBO_ORDER: ("Trd_PlaceComboOrder.Request", combo),
    MODIFY_ORDER: ("Trd_ModifyOrder.Request", change),
}
JUDGED = [row for row in CATALOG.values() if row.judged and row.direction is Direction.REQUEST and row.request]


def outcome(proto_id: int, name: str, raw: bytes) -> object:
    """The intent, or None where it was refused; any exception but BodyError fails the test."""
    try:
        return read(proto_id, body.parse(name, 0, raw, strict=True))
    except BodyError as error:
        assert str(error).isprintable()
        return None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_an_order_with_any_bytes_changed_is_read_or_refused(proto_id: int, data: st.DataObject) -> None:
    name, build = SEEDS[proto_id]
    raw = bytearray(build().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    outcome(proto_id, name, bytes(raw[:cut]))


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "qty": st.floats(),
            "price": st.floats(),
            "auxPrice": st.floats(),
            "adjustSideAndLimit": st.floats(),
            "trailValue": st.floats(),
            "amount": st.floats(),
            "code": st.text(max_size=70),
            "remark": st.text(max_size=70),
            "expireTime": st.text(max_size=200),
            "trdSide": st.integers(-2, 6),
            "orderType": st.integers(-2, 22),
            "secMarket": st.integers(-2, 120),
            "timeInForce": st.integers(-2, 6),
            "header_trdMarket": st.integers(-2, 130),
            "header_trdEnv": st.integers(-2, 3),
            "header_accID": st.integers(0, 2**64 - 1),
        },
    )
)
def test_an_order_with_any_values_is_read_exactly_or_refused(values: dict[str, Any]) -> None:
    values = {name: value for name, value in values.items() if not isinstance(value, str) or _encodable(value)}
    request = place(**values)
    try:
        intent = read(PLACE_ORDER, request)
    except BodyError as error:
        assert error.code == "malformed_request"
        assert str(error).isprintable()
        return
    assert isinstance(intent, PlaceOrder)
    assert float(intent.qty) == request.c2s.qty > 0
    assert intent.price is None or float(intent.price) == request.c2s.price
    assert (intent.price is None) is not intent.order_type.priced
    assert math.isfinite(intent.qty)
    assert request.c2s.secMarket != 0
    assert intent.account.acc_id == request.c2s.header.accID
    assert read(PLACE_ORDER, request) == intent, "what is forwarded reads as what was judged"


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("row", JUDGED, ids=lambda row: row.name)
@given(raw=st.binary(max_size=60))
def test_any_bytes_for_any_judged_request_are_read_or_refused(row: Any, raw: bytes) -> None:
    outcome(row.id, row.request, raw)


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)
