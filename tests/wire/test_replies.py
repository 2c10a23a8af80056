"""The replies we make ourselves are right for every request of the catalog, in both formats, and never empty."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import body, replies
from sidecar.wire.catalog import CATALOG
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.messages import message_class

RESPONSES = sorted({row.response for row in CATALOG.values() if row.response})
TEXT = "[sidecar:order_value] order value 120000 HKD is over the limit of 100000 HKD (decision 01J)"


@pytest.mark.parametrize("name", RESPONSES)
def test_one_refusal_is_right_for_every_reply_of_the_catalog(name: str) -> None:
    for fmt in (PROTOBUF, JSON):
        reply: Any = body.parse(name, fmt, replies.refusal(fmt, TEXT, 7), strict=True)
        assert (reply.retType, reply.retMsg, reply.errCode) == (-1, TEXT, 7)
        assert "s2c" not in reply.DESCRIPTOR.fields_by_name or not reply.HasField("s2c")


def test_a_refusal_is_the_bytes_the_sdks_were_tested_with() -> None:
    assert replies.refusal(PROTOBUF, "no") == bytes.fromhex("08ffffffffffffffffff01 12 02") + b"no"
    assert json.loads(replies.refusal(JSON, "no")) == {"retType": -1, "retMsg": "no", "errCode": 0}


@given(
    text=st.text(max_size=3000) | st.text(alphabet="é漢🙂", max_size=2000),
    code=st.integers(-(2**31), 2**31 - 1),
)
def test_any_text_arrives_whole_or_cut_between_characters(text: str, code: int) -> None:
    for fmt in (PROTOBUF, JSON):
        reply: Any = body.parse("Trd_PlaceOrder.Response", fmt, replies.refusal(fmt, text, code), strict=True)
        assert text.startswith(reply.retMsg)
        assert reply.errCode == code
        size = len(reply.retMsg.encode())
        assert (
            reply.retMsg == text if len(text.encode()) <= replies.MAX_TEXT_BYTES else size > replies.MAX_TEXT_BYTES - 4
        )
        assert size <= replies.MAX_TEXT_BYTES


@pytest.mark.parametrize("character", ["é", "漢", "🙂"])
@pytest.mark.parametrize("before", [1020, 1021, 1022, 1023, 1024])
def test_a_long_text_is_cut_before_the_character_that_no_longer_fits(character: str, before: int) -> None:
    room = (replies.MAX_TEXT_BYTES - before) // len(character.encode())
    expected = "a" * before + character * room
    for fmt in (PROTOBUF, JSON):
        raw = replies.refusal(fmt, "a" * before + character * 9)
        reply: Any = body.parse("Trd_PlaceOrder.Response", fmt, raw, strict=True)
        assert reply.retMsg == expected


def test_text_with_half_a_character_still_becomes_a_reply() -> None:
    for fmt in (PROTOBUF, JSON):
        reply: Any = body.parse("Notify.Response", fmt, replies.refusal(fmt, "a\ud800b"), strict=True)
        assert reply.retMsg == "a?b"


def test_no_reply_is_empty() -> None:
    for fmt in (PROTOBUF, JSON):
        assert replies.refusal(fmt, "")
        assert replies.success("Trd_UnlockTrade.Response", fmt)


def succeeds(name: str) -> bool:
    try:
        replies.success(name, PROTOBUF)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("fmt", [PROTOBUF, JSON], ids=["protobuf", "json"])
@pytest.mark.parametrize("name", ["Trd_UnlockTrade.Response", "Trd_SubAccPush.Response", "Qot_Sub.Response"])
def test_a_success_says_so_and_has_an_empty_s2c(name: str, fmt: int) -> None:
    reply: Any = body.parse(name, fmt, replies.success(name, fmt), strict=True)
    assert (reply.retType, reply.retMsg, reply.errCode) == (0, "", 0)
    assert reply.HasField("s2c")
    assert reply.s2c == message_class(name.replace("Response", "S2C"))()


def test_a_success_that_would_have_to_say_something_is_not_made_up() -> None:
    with pytest.raises(ValueError, match=r"Trd_PlaceOrder\.Response.*`s2c\.header`"):
        replies.success("Trd_PlaceOrder.Response", PROTOBUF)


@pytest.mark.parametrize("name", RESPONSES)
def test_every_success_that_is_made_is_a_whole_message(name: str) -> None:
    if succeeds(name):
        reply: Any = body.parse(name, PROTOBUF, replies.success(name, PROTOBUF), strict=True)
        assert reply.retType == 0
    else:
        required = message_class(name)()
        required.s2c.SetInParent()  # type: ignore[attr-defined]  # only replies with an s2c get here
        required.retType = 0  # type: ignore[attr-defined]  # every reply has it
        assert not required.IsInitialized()
