"""Bodies: what is judged is what is forwarded, in both formats, and everything doubtful is refused with its name."""

from __future__ import annotations

import json
import math
import subprocess
import time
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from real_parts import json_sdk_python

from sidecar.errors import BodyError
from sidecar.wire import body
from sidecar.wire.catalog import CATALOG
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.messages import message_class

PLACE = "Trd_PlaceOrder.Request"
ACC_ID = 281756475296104250

DOCUMENT: dict[str, Any] = {
    "c2s": {
        "packetID": {"connID": "7", "serialNo": 9},
        "header": {"trdEnv": 1, "accID": str(ACC_ID), "trdMarket": 1},
        "trdSide": 1,
        "orderType": 1,
        "code": "00700",
        "qty": 100.0,
        "price": 350.5,
        "secMarket": 1,
    }
}


def order() -> Any:
    """A whole order of 100 shares at 350.5."""
    message: Any = message_class(PLACE)()
    c2s = message.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 7, 9
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 1, ACC_ID, 1
    c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = 1, 1, "00700", 100, 350.5, 1
    return message


def document(**changes: Any) -> bytes:
    return json.dumps({"c2s": DOCUMENT["c2s"] | changes}).encode()


def refusal(raw: bytes, fmt: int = JSON, *, strict: bool = True, name: str = PLACE) -> BodyError:
    with pytest.raises(BodyError) as caught:
        body.parse(name, fmt, raw, strict=strict)
    return caught.value


both_formats = pytest.mark.parametrize("fmt", [PROTOBUF, JSON], ids=["protobuf", "json"])
strict_or_not = pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])


# --- there and back


@both_formats
@strict_or_not
def test_an_order_survives_being_written_and_read(fmt: int, strict: bool) -> None:
    assert body.parse(PLACE, fmt, body.serialise(order(), fmt), strict=strict) == order()


@given(
    qty=st.floats(allow_nan=False),
    price=st.floats(allow_nan=False),
    code=st.text(max_size=20),
    acc_id=st.integers(0, 2**64 - 1),
    side=st.integers(-(2**31), 2**31 - 1),
)
def test_both_formats_say_the_same(qty: float, price: float, code: str, acc_id: int, side: int) -> None:
    message = order()
    message.c2s.qty, message.c2s.price, message.c2s.code, message.c2s.trdSide = qty, price, code, side
    message.c2s.header.accID = acc_id
    for fmt in (PROTOBUF, JSON):
        assert body.parse(PLACE, fmt, body.serialise(message, fmt), strict=True) == message


def test_json_is_written_as_the_official_sdk_reads_it() -> None:
    assert json.loads(body.serialise(order(), JSON)) == DOCUMENT


def test_fields_set_to_zero_are_written_too() -> None:
    message = order()
    message.c2s.header.trdEnv = 0
    assert json.loads(body.serialise(message, JSON))["c2s"]["header"]["trdEnv"] == 0


def test_lists_of_wide_integers_are_written_as_numbers() -> None:
    request: Any = message_class("Trd_GetOrderList.Request")()
    request.c2s.header.CopyFrom(order().c2s.header)
    request.c2s.filterConditions.idList.extend([2**63, 5])
    written = json.loads(body.serialise(request, JSON))["c2s"]
    assert written["filterConditions"]["idList"] == [2**63, 5]
    assert written["header"]["accID"] == str(ACC_ID)
    assert body.parse("Trd_GetOrderList.Request", JSON, body.serialise(request, JSON), strict=True) == request


def test_names_and_enums_are_written_as_the_proto_file_has_them() -> None:
    request: Any = message_class("SkillWrapAPI.TechnicalUnusualReq")()
    request.stock_symbol = "US.AAPL"
    assert b'"stock_symbol":"US.AAPL"' in body.serialise(request, JSON)
    event: Any = message_class("Qot_GetEventContractEventList.Request")()
    event.c2s.series.market, event.c2s.series.code = 101, "X"
    event.c2s.status = event.c2s.DESCRIPTOR.fields_by_name["status"].enum_type.values[-1].number
    assert json.loads(body.serialise(event, JSON))["c2s"]["status"] == event.c2s.status


@both_formats
def test_a_message_without_a_required_field_is_not_written(fmt: int) -> None:
    message = order()
    message.c2s.ClearField("qty")
    with pytest.raises(BodyError, match=r"`c2s\.qty`"):
        body.serialise(message, fmt)


def test_a_format_that_is_neither_is_refused_by_its_number() -> None:
    assert refusal(b"", 7).code == "malformed_request"
    assert "`7`" in str(refusal(b"", 7))
    with pytest.raises(BodyError, match="`7`"):
        body.serialise(order(), 7)


# --- protobuf


@strict_or_not
def test_a_field_given_twice_on_the_wire_is_one_in_what_is_forwarded(strict: bool) -> None:
    first, second = order(), order()
    first.c2s.qty, second.c2s.qty = 1, 1_000_000
    raw = first.SerializeToString() + second.SerializeToString()  # two c2s: protobuf merges them
    judged: Any = body.parse(PLACE, PROTOBUF, raw, strict=strict)
    forwarded = body.serialise(judged, PROTOBUF)
    assert judged.c2s.qty == 1_000_000
    assert forwarded == second.SerializeToString()
    assert forwarded.count(b"00700") == 1


def test_a_scalar_given_twice_counts_once_with_its_last_value() -> None:
    number = message_class("Trd_PlaceOrder.C2S").DESCRIPTOR.fields_by_name["qty"].number
    inner = order().c2s.SerializeToString() + bytes((number << 3 | 1,)) + bytes(6) + b"\x08\x40"
    raw = b"\x0a" + bytes((len(inner) & 0x7F | 0x80, len(inner) >> 7) if len(inner) > 0x7F else (len(inner),)) + inner
    judged: Any = body.parse(PLACE, PROTOBUF, raw, strict=True)
    assert judged.c2s.qty == 3.0
    expected = order()
    expected.c2s.qty = 3
    assert body.serialise(judged, PROTOBUF) == expected.SerializeToString()


UNKNOWN = b"\x98\x06\x01"  # field 99, varint 1


@pytest.mark.parametrize(
    ("where", "path"),
    [("", "`Trd_PlaceOrder.Request`"), ("c2s", "`c2s`"), ("c2s.header", "`c2s.header`")],
)
def test_an_unknown_field_anywhere_is_refused_with_its_number_and_place(where: str, path: str) -> None:
    message = order()
    part = message
    for step in where.split(".") if where else ():
        part = getattr(part, step)
    part.MergeFromString(UNKNOWN)
    caught = refusal(message.SerializeToString(), PROTOBUF)
    assert caught.code == "unknown_field"
    assert "`99`" in str(caught)
    assert path in str(caught)


def test_an_unknown_field_in_one_element_of_a_list_is_refused_with_its_index() -> None:
    request: Any = message_class("Trd_GetMarginRatio.Request")()
    request.c2s.header.CopyFrom(order().c2s.header)
    for code in ("AAPL", "MSFT"):
        request.c2s.securityList.add(market=11, code=code)
    request.c2s.securityList[1].MergeFromString(UNKNOWN)
    caught = refusal(request.SerializeToString(), PROTOBUF, name="Trd_GetMarginRatio.Request")
    assert "`c2s.securityList[1]`" in str(caught)


def test_an_unknown_field_passes_where_the_contents_are_not_judged() -> None:
    message = order()
    message.MergeFromString(UNKNOWN)
    assert body.parse(PLACE, PROTOBUF, message.SerializeToString(), strict=False) == message


def test_a_known_field_written_in_an_unusual_way_is_no_unknown_field() -> None:
    plain = order().SerializeToString()
    longer = b"\x8a\x00" + plain[1:]  # the same tag of field 1, as a varint one byte longer than it needs to be
    assert body.parse(PLACE, PROTOBUF, longer, strict=True) == order()
    assert body.serialise(body.parse(PLACE, PROTOBUF, longer, strict=True), PROTOBUF) == plain


@both_formats
def test_missing_required_fields_are_named(fmt: int) -> None:
    raw = b"\x0a\x00" if fmt == PROTOBUF else b'{"c2s":{}}'
    caught = refusal(raw, fmt)
    assert caught.code == "malformed_request"
    assert "`c2s.header`" in str(caught)
    assert "`c2s.code`" in str(caught)


def test_an_account_without_its_environment_is_refused() -> None:
    message = order()
    message.c2s.header.ClearField("trdEnv")
    assert "`c2s.header.trdEnv`" in str(refusal(message.SerializePartialToString(), PROTOBUF))


@strict_or_not
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_body_error(strict: bool, raw: bytes) -> None:
    try:
        message = body.parse(PLACE, PROTOBUF, raw, strict=strict)
    except BodyError as error:
        assert error.code in ("malformed_request", "unknown_field")
    else:
        assert not strict or body.parse(PLACE, PROTOBUF, body.serialise(message, PROTOBUF), strict=True) == message


def test_a_strict_reading_of_an_order_costs_microseconds() -> None:
    raw = order().SerializeToString()
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(500):
            body.parse(PLACE, PROTOBUF, raw, strict=True)
        best = min(best, (time.perf_counter() - began) / 500)
    assert best < 15e-6  # measured: 2


# --- JSON


@strict_or_not
@pytest.mark.parametrize(
    "raw",
    [
        b'{"c2s":{"qty":1,"qty":2}}',
        b'{"c2s":{},"c2s":{}}',
        b'{"c2s":{"header":{"accID":1,"trdEnv":0,"accID":2}}}',
        b'{"c2s":{"nobody knows this":{"a":1,"a":2}}}',
        b'{"c2s":{"q\\u0074y":1,"qty":2}}',
    ],
    ids=["scalar", "message", "nested", "inside an unknown field", "escaped"],
)
def test_a_json_key_given_twice_anywhere_is_refused(strict: bool, raw: bytes) -> None:
    caught = refusal(raw, strict=strict)
    assert caught.code == "malformed_request"
    assert "given twice" in str(caught)


@strict_or_not
def test_one_field_under_two_spellings_is_refused(strict: bool) -> None:
    raw = b'{"stock_symbol":"US.AAPL","stockSymbol":"US.MSFT"}'
    caught = refusal(raw, strict=strict, name="SkillWrapAPI.TechnicalUnusualReq")
    assert caught.code == "malformed_request"
    assert "`stock_symbol` and `stockSymbol` are one field" in str(caught)


@pytest.mark.parametrize("name", ["stock_symbol", "stockSymbol"])
def test_either_spelling_alone_is_accepted(name: str) -> None:
    raw = json.dumps({name: "US.AAPL"}).encode()
    message: Any = body.parse("SkillWrapAPI.TechnicalUnusualReq", JSON, raw, strict=False)
    assert message.stock_symbol == "US.AAPL"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (document(pirce=1), "unknown field `pirce` in `c2s`; did you mean `price`?"),
        (document(header={"accId": "1"}), "unknown field `accId` in `c2s.header`; did you mean `accID`?"),
        (b'{"c2s":{},"zzzzzz":1}', "unknown field `zzzzzz`"),
        (b'{"[evil.extension]":1}', "unknown field `[evil.extension]`"),
    ],
)
def test_an_unknown_json_field_is_refused_with_its_place_and_the_closest_known_one(raw: bytes, said: str) -> None:
    caught = refusal(raw)
    assert caught.code == "unknown_field"
    assert str(caught) == said


def test_an_unknown_json_field_is_dropped_where_the_contents_are_not_judged() -> None:
    assert body.parse(PLACE, JSON, document(extra={"a": [1]}), strict=False) == order()


@strict_or_not
@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_is_none_is_refused(strict: bool, literal: bytes) -> None:
    assert refusal(b'{"c2s":{"qty":' + literal + b"}}", strict=strict).code == "malformed_request"


def test_a_number_that_is_none_is_refused_even_where_it_would_be_dropped() -> None:
    assert str(refusal(b'{"extra":NaN}', strict=False)) == "`NaN` is not a JSON number"


@strict_or_not
@pytest.mark.parametrize(
    "raw",
    [b"[" * 50_000, b'{"c2s":' * 9_000, b'{"c2s":{"header":' + b'{"a":' * 900 + b"1" + b"}" * 902],
    ids=["lists", "objects", "unknown objects"],
)
def test_a_depth_bomb_is_refused_quickly(strict: bool, raw: bytes) -> None:
    began = time.process_time()
    try:
        body.parse(PLACE, JSON, raw, strict=strict)
    except BodyError as error:
        assert error.code in ("malformed_request", "unknown_field")
    else:
        assert not strict  # depth inside an unknown field is dropped with it
    assert time.process_time() - began < 1


@strict_or_not
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe{}",
        b'{"c2s":{"code":"\xff"}}',
        "\ufeff{}".encode(),
        '{"c2s":{}}'.encode("utf-16"),
        b"[]",
        b"null",
        b'"text"',
        b"{} {}",
        b'{"c2s":[]}',
        b'{"c2s":[{}]}',
        b'{"c2s":"text"}',
        b'{"c2s":{"code":"\\ud800"}}',
        b'{"c2s":{"code":5}}',
        b'{"c2s":{"trdSide":true}}',
        b'{"c2s":{"trdSide":1.5}}',
        b'{"c2s":{"trdSide":99999999999}}',
        b'{"c2s":{"trdSide":[1]}}',
        b'{"c2s":{"qty":{}}}',
        b'{"c2s":{"qty":true}}',
        b'{"c2s":{"header":{"accID":"-1"}}}',
        b'{"c2s":{"header":{"accID":' + b"9" * 5000 + b"}}}",
        b'{"c2s":{"header":{"accID":" 1"}}}',
    ],
)
def test_json_that_is_not_the_message_is_malformed_and_nothing_else(strict: bool, raw: bytes) -> None:
    caught = refusal(raw, strict=strict)
    assert caught.code == "malformed_request"
    assert len(str(caught)) < 300


def test_a_judged_json_body_has_a_limit_and_says_how_long_it_is() -> None:
    at_limit = document(remark="x" * (body.MAX_JUDGED_JSON - len(document(remark=""))))
    assert len(at_limit) == body.MAX_JUDGED_JSON
    assert body.parse(PLACE, JSON, at_limit, strict=True)
    caught = refusal(at_limit + b" ")
    assert caught.code == "body_too_large"
    assert "65537 bytes long, the limit is 65536" in str(caught)
    assert body.parse(PLACE, JSON, at_limit + b" ", strict=False)


def test_a_list_must_be_a_list() -> None:
    caught = refusal(b'{"c2s":{"securityList":{"market":1,"code":"a"}}}', name="Qot_Sub.Request", strict=False)
    assert "`c2s.securityList` must be a list" in str(caught)


def test_what_a_client_wrote_comes_back_short_and_printable() -> None:
    name = "x\n\x1b[31m" + "y" * 500
    caught = refusal(json.dumps({name: 1}).encode())
    assert caught.code == "unknown_field"
    assert str(caught).isprintable()
    assert len(str(caught)) < 120


NAMES = st.sampled_from(
    ["c2s", "header", "accID", "trdEnv", "qty", "code", "packetID", "connID", "price", "remark", "extra"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@strict_or_not
@given(tree=st.dictionaries(NAMES, values, max_size=3))
def test_any_json_is_a_message_or_a_body_error(strict: bool, tree: dict[str, Any]) -> None:
    try:
        body.parse(PLACE, JSON, json.dumps(tree).encode(), strict=strict)
    except BodyError as error:
        assert error.code in ("malformed_request", "unknown_field")
        assert str(error).isprintable()


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        1e308,
        "",
        "x",
        "1",
        "1.0",
        " 1",
        "0x1",
        "9" * 400,
        "NaN",
        "a===",
        "\ud800",
        "\0",
        [],
        {},
    ]
)


def odd_messages(descriptor: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Trees with a message's own field names and lists, but with any value anywhere."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        right = ODD if field.message_type is None else odd_messages(field.message_type) | ODD
        fields[field.name] = st.lists(right, max_size=2) | ODD if body._is_repeated(field) else right
    return st.fixed_dictionaries({}, optional=fields)


REQUESTS = sorted(row.request for row in CATALOG.values() if row.request)


@strict_or_not
@given(data=st.data())
def test_any_values_in_any_request_are_a_message_or_a_body_error(strict: bool, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(REQUESTS))
    tree = data.draw(odd_messages(message_class(name).DESCRIPTOR))
    try:
        message = body.parse(name, JSON, json.dumps(tree).encode(), strict=strict)
    except BodyError as error:
        assert error.code == "malformed_request"
        assert str(error).isprintable()
    else:
        assert not strict or body.serialise(message, PROTOBUF) is not None


@strict_or_not
def test_half_a_character_is_refused_wherever_it_stands(strict: bool) -> None:
    for raw in (
        document(code="\ud800"),
        document(remark="a\udfffb"),
        b'{"c2s":{"status":"\\ud800"}}',
        b'{"c2s":{"sections":["\\udc00"]}}',
        b'{"\\ud800":1}',
    ):
        caught = refusal(raw, strict=strict, name="Qot_GetEventContractEventList.Request")
        assert str(caught) == "the body is not valid UTF-8"


def test_a_whole_character_in_escapes_is_accepted() -> None:
    judged: Any = body.parse(PLACE, JSON, document(remark="騰訊🙂"), strict=True)
    assert judged.c2s.remark == "騰訊🙂"


def test_whatever_the_json_reader_trips_over_is_a_malformed_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(*_: object, **__: object) -> None:
        raise SystemError("from inside an extension module")

    monkeypatch.setattr("google.protobuf.json_format.ParseDict", trip)
    assert refusal(document()).code == "malformed_request"


@given(changes=st.dictionaries(st.sampled_from(["qty", "price", "code", "trdSide", "remark"]), values, max_size=3))
def test_what_passes_the_strict_reader_is_forwarded_as_it_was_judged(changes: dict[str, Any]) -> None:
    try:
        judged = body.parse(PLACE, JSON, document(**changes), strict=True)
    except BodyError:
        return
    again = body.parse(PLACE, JSON, body.serialise(judged, JSON), strict=True)
    assert again.SerializeToString() == judged.SerializeToString()


# --- what the reader takes for granted about the definitions


def definitions() -> list[Any]:
    found: dict[str, Any] = {}

    def enter(descriptor: Any) -> None:
        if descriptor.full_name not in found:
            found[descriptor.full_name] = descriptor
            for field in descriptor.fields:
                if field.message_type is not None:
                    enter(field.message_type)

    for row in CATALOG.values():
        for name in (row.request, row.response):
            if name:
                enter(message_class(name).DESCRIPTOR)
    return list(found.values())


def test_no_message_has_what_the_json_reader_does_not_expect() -> None:
    for descriptor in definitions():
        assert not descriptor.GetOptions().map_entry
        assert not descriptor.is_extendable
        assert not descriptor.full_name.startswith("google.protobuf.")


def test_no_message_contains_itself_so_known_fields_cannot_nest_without_end() -> None:
    def enter(descriptor: Any, above: tuple[str, ...]) -> None:
        assert descriptor.full_name not in above
        for inner in {field.message_type for field in descriptor.fields if field.message_type is not None}:
            enter(inner, (*above, descriptor.full_name))

    for row in CATALOG.values():
        for name in (row.request, row.response):
            if name:
                enter(message_class(name).DESCRIPTOR, ())


def test_no_name_of_one_field_is_another_spelling_of_the_next() -> None:
    for descriptor in definitions():
        spellings = [{field.name, field.json_name} for field in descriptor.fields]
        assert sum(map(len, spellings)) == len(set().union(*spellings)), descriptor.full_name


def test_lists_are_recognised_under_every_protobuf() -> None:
    class Old:
        label = FieldDescriptor.LABEL_REPEATED if hasattr(FieldDescriptor, "LABEL_REPEATED") else 3

    assert body._is_repeated(Old()) is True  # type: ignore[arg-type]  # stands in for protobuf 5
    fields: Any = message_class("Trd_PlaceComboOrder.C2S").DESCRIPTOR.fields_by_name
    assert body._is_repeated(fields["comboLegs"])
    assert not body._is_repeated(fields["qty"])


# --- against the official SDK's JSON mode, which needs protobuf below 6 and so an environment of its own

SDK = """
import json, sys
from futu.common.pb import Trd_GetOrderList_pb2, Trd_UnlockTrade_pb2, Qot_StockScreen_pb2
from futu.common.pbjson import json2pb
job = json.load(sys.stdin)
kinds = {
    "orders": Trd_GetOrderList_pb2.Response, "unlock": Trd_UnlockTrade_pb2.Response,
    "refusal": Trd_GetOrderList_pb2.Response, "screen": Qot_StockScreen_pb2.Request,
}
print("DONE" + json.dumps({k: json2pb(kinds[k], text).SerializeToString().hex() for k, text in job.items()}))
"""


@pytest.mark.real_part
def test_the_official_sdks_json_mode_reads_what_we_write() -> None:
    python = json_sdk_python()
    from sidecar.wire import replies

    orders: Any = message_class("Trd_GetOrderList.Response")()
    orders.retType = 0
    orders.s2c.header.CopyFrom(order().c2s.header)
    one = orders.s2c.orderList.add(trdSide=1, orderType=1, orderStatus=5, orderID=2**63 + 1, orderIDEx="A1")
    one.code, one.name, one.qty, one.price, one.createTime, one.updateTime = "00700", "騰訊", 100, 350.5, "t", "u"
    screen: Any = message_class("Qot_StockScreen.Request")()
    screen.c2s.watchlistStockIds.extend([2**62, 3])
    for path in screen.FindInitializationErrors():
        setattr(screen.c2s, path.removeprefix("c2s."), 1)
    job = {
        "orders": body.serialise(orders, JSON).decode(),
        "unlock": replies.success("Trd_UnlockTrade.Response", JSON).decode(),
        "refusal": replies.refusal(JSON, "[sidecar:rate] zu viele Aufträge").decode(),
        "screen": body.serialise(screen, JSON).decode(),
    }
    done = subprocess.run([python, "-c", SDK], input=json.dumps(job), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout[done.stdout.index("DONE") + 4 :])
    read = {name: bytes.fromhex(text) for name, text in answer.items()}
    assert message_class("Trd_GetOrderList.Response").FromString(read["orders"]) == orders
    assert message_class("Qot_StockScreen.Request").FromString(read["screen"]) == screen
    refused: Any = message_class("Trd_GetOrderList.Response").FromString(read["refusal"])
    assert (refused.retType, refused.retMsg) == (-1, "[sidecar:rate] zu viele Aufträge")
    unlocked: Any = message_class("Trd_UnlockTrade.Response").FromString(read["unlock"])
    assert unlocked.retType == 0
