"""What the owner may ask to be explained, and how it is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.explaining import Described, as_from, described, told
from sidecar.intents.model import CancelOrder, PlaceOrder
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.key import Key

ORDER = {
    "trd_env": "SIMULATE",
    "acc_id": "1",
    "trd_market": "HK",
    "code": "HK.00700",
    "trd_side": "BUY",
    "order_type": "NORMAL",
    "qty": 100,
    "price": 4,
}
CANCEL = {"header": {"trdEnv": 0, "accID": 1, "trdMarket": 1}, "orderID": 7, "modifyOrderOp": 2}


def asked(**changes: Any) -> dict[str, Any]:
    return {"key": "bot", "request": "Trd_PlaceOrder", "body": ORDER, **changes}


def test_an_order_is_read_as_rest_takes_it() -> None:
    wanted = described(asked())
    assert isinstance(wanted, Described)
    assert isinstance(wanted.intent, PlaceOrder)
    assert wanted.intent.security.symbol == "HK.00700"


def test_the_names_of_opend_are_read_too() -> None:
    wanted = described(asked(request="Trd_ModifyOrder", body={"c2s": CANCEL}))
    assert isinstance(wanted, Described)
    assert isinstance(wanted.intent, CancelOrder)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**ORDER, "qty": 0}, Code.MALFORMED_REQUEST),
        ({**ORDER, "quantity": 1}, Code.UNKNOWN_FIELD),
        ({**ORDER, "code": "HK.700"}, Code.MALFORMED_REQUEST),
        ({}, Code.MALFORMED_REQUEST),
    ],
)
def test_what_a_client_would_be_refused_for_as_it_is_read_is_a_refusal(body: dict[str, Any], code: Code) -> None:
    refusal = described(asked(body=body))
    assert isinstance(refusal, Refusal)
    assert refusal.code is code


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ([], "must be an object"),
        (asked(body=[]), "must be an object"),
        (asked(key=""), "`key` must be the id of a key"),
        (asked(kye="x"), "did you mean `key`"),
        (asked(request="Trd_GetFunds"), "is no order, change or cancel"),
        (asked(request=7), "is no order, change or cancel"),
        (asked(**{"from": "home"}), "`home` is not an IP address"),
        (asked(**{"from": ["10.0.0.1"]}), "is not an IP address"),
    ],
)
def test_what_cannot_be_explained_says_what_can(tree: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        described(tree)


def test_the_address_is_one_the_key_may_come_from_unless_another_is_named() -> None:
    bound = Key(id="bot", scopes=frozenset(), allowed_ips=("10.1.0.0/16", "10.9.0.1/32"))
    assert as_from(bound, None) == "10.1.0.0"
    assert as_from(bound, "10.9.0.1") == "10.9.0.1"
    assert as_from(Key(id="bot", scopes=frozenset()), None) == "127.0.0.1"


def test_a_refusal_alone_is_told_as_the_one_check_there_was() -> None:

    tree = told("bot", Refusal(Code.KEY_EXPIRED, "the key has expired"), datetime(2026, 3, 2, tzinfo=UTC), running=True)
    assert (tree["allowed"], tree["code"], tree["running"]) == (False, "key_expired", True)
    assert tree["checks"] == [
        {"check": "key_expired", "passed": False, "detail": "the key has expired", "code": "key_expired"}
    ]
