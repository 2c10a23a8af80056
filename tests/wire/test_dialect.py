"""JSON bodies of REST and MCP: what is read from them, and what is said of those that cannot be read."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from google.protobuf import json_format

from sidecar.errors import BodyError
from sidecar.wire import dialect, packet_id
from sidecar.wire.catalog import (
    CATALOG,
    GET_HISTORY_ORDER_LIST,
    GET_MAX_TRD_QTYS,
    GET_ORDER_BOOK,
    GET_SUB_INFO,
    MODIFY_ORDER,
    PLACE_COMBO_ORDER,
    PLACE_ORDER,
    QOT_SUB,
    REQUEST_HISTORY_KL,
    SUB_ACC_PUSH,
)
from sidecar.wire.messages import message_class

HEADER = {"trd_env": 0, "acc_id": 281756475296104250, "trd_market": 1}
ORDER: dict[str, Any] = {
    "header": HEADER,
    "trd_side": 1,
    "order_type": 1,
    "code": "00700",
    "qty": 100,
    "price": 320.5,
    "sec_market": 1,
}


def read(proto_id: int, tree: object, **more: Any) -> Any:
    """The c2s of the request."""
    message: Any = dialect.read(CATALOG[proto_id], tree, packet_id.lend, **more)
    return message.c2s if "c2s" in message.DESCRIPTOR.fields_by_name else message


def refused(proto_id: int, tree: object, code: str = "malformed_request", **more: Any) -> str:
    with pytest.raises(BodyError) as caught:
        read(proto_id, tree, **more)
    assert caught.value.code == code
    return str(caught.value)


def malformed(raw: bytes, limit: int = 10_000) -> str:
    with pytest.raises(BodyError) as caught:
        dialect.tree_of(raw, limit)
    assert caught.value.code == "malformed_request"
    return str(caught.value)


# the form of the body


def test_an_order_is_read_from_snake_case() -> None:
    order = read(PLACE_ORDER, {"c2s": ORDER})
    assert order.header.accID == 281756475296104250
    assert (order.code, order.qty, order.price, order.secMarket) == ("00700", 100.0, 320.5, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"c2s": ORDER},
        ORDER,
        {**{name: value for name, value in ORDER.items() if name != "header"}, **HEADER},
        {"c2s": {**{name: value for name, value in ORDER.items() if name != "header"}, **HEADER}},
        {**ORDER, "header": {"trd_env": 0}, "acc_id": 281756475296104250, "trdMarket": 1},
    ],
)
def test_c2s_may_be_left_out_and_the_header_opened(body: dict[str, Any]) -> None:
    assert read(PLACE_ORDER, body) == read(PLACE_ORDER, {"c2s": ORDER})


def test_a_field_of_the_header_given_inside_and_beside_it_is_refused() -> None:
    assert refused(PLACE_ORDER, ORDER | {"accID": 1}) == "`accID` and `header.acc_id` are one field, given twice"


@pytest.mark.parametrize(("header", "named"), [([], "[]"), ("HK", "HK"), (0, "0")])
def test_a_header_that_is_no_object_is_named_and_not_the_fields_beside_it(header: object, named: str) -> None:
    assert refused(PLACE_ORDER, {**HEADER, "header": header}) == f"`header` must be an object, not `{named}`"


def test_a_field_of_the_header_given_beside_it_in_two_spellings_is_refused() -> None:
    body = {"accID": 1, "acc_id": 1}
    assert refused(PLACE_ORDER, body) == "`accID` and `acc_id` are one field of `c2s.header`, given twice"


def test_the_market_of_a_change_is_the_headers_without_a_header_and_its_own_beside_one() -> None:
    flat = read(MODIFY_ORDER, {**HEADER, "order_id": 1, "modify_order_op": 2, "trd_market": 2})
    assert flat.header.trdMarket == 2
    assert not flat.HasField("trdMarket")
    beside = read(MODIFY_ORDER, {"header": HEADER, "order_id": 1, "modify_order_op": 2, "trd_market": 2})
    assert (beside.header.trdMarket, beside.trdMarket) == (1, 2)


def test_what_stands_beside_c2s_is_refused() -> None:
    said = refused(PLACE_ORDER, {"c2s": ORDER, "price": 1}, "unknown_field")
    assert said == "unknown field `price` beside `c2s`; put it into `c2s`"


@pytest.mark.parametrize("tree", [None, {}, {"c2s": None}, {"c2s": {}}])
def test_no_body_is_an_empty_one(tree: object) -> None:
    assert read(GET_SUB_INFO, tree) == message_class("Qot_GetSubInfo.C2S")()


@pytest.mark.parametrize("tree", [[], "x", 1, True, {"c2s": []}, {"c2s": "x"}])
def test_a_body_that_is_no_object_is_refused(tree: object) -> None:
    assert "must be" in refused(GET_SUB_INFO, tree)
    assert "object, not" in refused(GET_SUB_INFO, tree)


def test_the_requests_without_a_c2s_are_read_by_themselves() -> None:
    assert read(3801, {"stockSymbol": "AAPL", "time_range": 7}).stock_symbol == "AAPL"
    assert "`c2s`" in refused(3801, {"c2s": {"stock_symbol": "AAPL"}}, "unknown_field")


def test_a_request_whose_messages_are_not_published_cannot_be_read() -> None:
    assert "Qot_GetTradeDate" in refused(3200, {}, "unknown_request")


# names


@pytest.mark.parametrize("spelling", ["orderIDEx", "order_id_ex"])
def test_a_field_is_read_as_opend_and_as_python_spell_it(spelling: str) -> None:
    change = read(MODIFY_ORDER, {**HEADER, "order_id": 0, "modify_order_op": 2, spelling: "FA1"})
    assert change.orderIDEx == "FA1"


def test_one_field_in_two_spellings_is_refused_with_both() -> None:
    said = refused(MODIFY_ORDER, {"order_id_ex": "a", "orderIDEx": "a"})
    assert said == "`order_id_ex` and `orderIDEx` are one field of `c2s`, given twice"


@pytest.mark.parametrize(
    ("proto_id", "tree", "said"),
    [
        (PLACE_ORDER, {"prise": 1}, "unknown field `prise` in `c2s`; did you mean `price`?"),
        (PLACE_ORDER, {"header": {"accid": 1}}, "unknown field `accid` in `c2s.header`; did you mean `acc_id`?"),
        (
            QOT_SUB,
            {"securityList": ["HK.00700", {"market": 1, "kode": "1"}]},
            "unknown field `kode` in `c2s.security_list[1]`; did you mean `code`?",
        ),
        (PLACE_ORDER, {"acc_idd": 1}, "unknown field `acc_idd` in `c2s`; did you mean `acc_id`?"),
        (GET_SUB_INFO, {"zzzzzz": 1}, "unknown field `zzzzzz` in `c2s`"),
        (3801, {"stock_simbol": 1}, "unknown field `stock_simbol`; did you mean `stock_symbol`?"),
    ],
)
def test_an_unknown_field_is_refused_with_its_place_and_the_closest_known_one(
    proto_id: int, tree: object, said: str
) -> None:
    assert refused(proto_id, tree, "unknown_field") == said


def test_an_unknown_field_is_refused_even_as_null() -> None:
    refused(PLACE_ORDER, {"prise": None}, "unknown_field")


@pytest.mark.parametrize("name", ["packet_id", "packetID"])
def test_a_packet_id_is_not_the_clients_to_give(name: str) -> None:
    said = refused(PLACE_ORDER, {**ORDER, name: {"conn_id": 1, "serial_no": 1}}, "unknown_field")
    assert said == "`c2s.packet_id` is filled in by the sidecar; leave it out"


def test_nobody_is_led_to_a_packet_id() -> None:
    assert refused(PLACE_ORDER, ORDER | {"packetId": {}}, "unknown_field") == "unknown field `packetId` in `c2s`"


def test_every_missing_field_is_named_with_its_place() -> None:
    said = refused(PLACE_ORDER, {"acc_id": 1, "trd_side": 1, "code": "00700", "qty": 1})
    assert said == ("required fields are missing: `c2s.header.trd_env`, `c2s.header.trd_market`, `c2s.order_type`")
    assert "`c2s.header.acc_id`" in refused(PLACE_ORDER, {})
    assert "`c2s.combo_legs[1].security.market`" in refused(
        PLACE_COMBO_ORDER,
        {**HEADER, "order_type": 1, "qty": 1, "combo_legs": [
            {"security": "US.AAPL", "side": 1, "qty_ratio": 1}, {"side": 1, "qty_ratio": 1},
        ]},
    )  # fmt: skip


def test_null_is_absent() -> None:
    assert not read(PLACE_ORDER, ORDER | {"remark": None}).HasField("remark")
    assert "`c2s.qty`" in refused(PLACE_ORDER, ORDER | {"qty": None})


# what a route sets and assumes


def test_what_a_route_sets_is_set_and_refused_from_the_client() -> None:
    fixed = {"modifyOrderOp": 2, "forAll": True, "orderID": 0}
    change = read(MODIFY_ORDER, HEADER, fixed=fixed)
    assert (change.modifyOrderOp, change.forAll, change.orderID) == (2, True, 0)
    said = refused(MODIFY_ORDER, HEADER | {"modifyOrderOp": 2}, "unknown_field", fixed=fixed)
    assert said == "`modify_order_op` is set by this route; leave it out"


def test_a_list_that_a_route_sets_empty_is_empty() -> None:
    assert list(read(SUB_ACC_PUSH, {}, fixed={"accIDList": ()}).accIDList) == []
    refused(SUB_ACC_PUSH, {"acc_id_list": [1]}, "unknown_field", fixed={"accIDList": ()})


def test_what_a_route_assumes_gives_way_to_the_client() -> None:
    body = HEADER | {"modify_order_op": 2}
    assert read(MODIFY_ORDER, body, assumed={"orderID": 0}).orderID == 0
    assert read(MODIFY_ORDER, body | {"order_id": None}, assumed={"orderID": 0}).HasField("orderID")
    assert read(MODIFY_ORDER, body | {"order_id": "7"}, assumed={"orderID": 0}).orderID == 7


# symbols


@pytest.mark.parametrize(
    ("symbol", "market", "code"),
    [
        ("HK.00700", 1, "00700"),
        ("US.AAPL", 11, "AAPL"),
        ("SH.600519", 21, "600519"),
        ("SZ.000001", 22, "000001"),
        ("US.BRK.B", 11, "BRK.B"),
        ("US..DJI", 11, ".DJI"),
        ("HK_FUTURE.999010", 2, "999010"),
    ],
)
def test_a_symbol_may_stand_for_a_security(symbol: str, market: int, code: str) -> None:
    security = read(GET_ORDER_BOOK, {"security": symbol, "num": 10}).security
    assert (security.market, security.code) == (market, code)


@pytest.mark.parametrize("symbol", ["00700", "XX.1", "hk.00700", "HK.", ".00700", "", "HK 00700"])
def test_a_symbol_without_a_known_market_is_refused_with_the_known_ones(symbol: str) -> None:
    said = refused(QOT_SUB, {"security_list": ["HK.00700", symbol]})
    assert said.startswith("`c2s.security_list[1]` must be a symbol like `HK.00700` that begins with `HK`, `US`, `SH`")
    assert said.endswith(f"or `HK_FUTURE`, not `{symbol}`")


def test_a_security_is_also_read_as_market_and_code() -> None:
    body = {"security": {"market": "HK", "code": "00700"}, "num": "10"}
    assert read(GET_ORDER_BOOK, body) == read(GET_ORDER_BOOK, {"security": "HK.00700", "num": 10})


@pytest.mark.parametrize("proto_id", [PLACE_ORDER, GET_MAX_TRD_QTYS])
def test_the_code_of_an_order_may_name_its_market(proto_id: int) -> None:
    body = {name: value for name, value in ORDER.items() if name not in ("sec_market", "trd_side")}
    body |= {"code": "SH.600519"} | ({"trd_side": 1} if proto_id == PLACE_ORDER else {})
    if proto_id == GET_MAX_TRD_QTYS:
        del body["qty"]
    order = read(proto_id, body)
    assert (order.code, order.secMarket) == ("600519", 31)
    assert read(proto_id, body | {"sec_market": "SH"}) == order


def test_a_code_whose_market_is_not_the_orders_is_refused() -> None:
    said = refused(PLACE_ORDER, ORDER | {"code": "US.AAPL"})
    assert said == "the code `US.AAPL` is of the market US (`sec_market` 2), but `sec_market` is `1`"


def test_a_code_with_a_dot_of_its_own_stays_whole() -> None:
    assert read(PLACE_ORDER, ORDER | {"code": "BRK.B", "sec_market": 2}).code == "BRK.B"


# enums


@pytest.mark.parametrize("side", [2, "2", "TrdSide_Sell", "Sell", "SELL", "sell", "TRDSIDE_SELL"])
def test_an_enum_is_read_by_number_and_by_name(side: object) -> None:
    assert read(PLACE_ORDER, ORDER | {"trd_side": side}).trdSide == 2


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("trd_side", "SELL_SHORT", 3),
        ("order_type", "NORMAL", 1),
        ("order_type", "ABSOLUTE_LIMIT", 5),
        ("order_type", "MARKET_IF_TOUCHED", 12),
        ("sec_market", "HK", 1),
        ("time_in_force", "GTC", 1),
        ("session", "RTH", 1),
    ],
)
def test_the_official_sdks_names_of_an_order_are_known(name: str, value: str, number: int) -> None:
    field = {
        "trd_side": "trdSide",
        "order_type": "orderType",
        "sec_market": "secMarket",
        "time_in_force": "timeInForce",
    }
    assert getattr(read(PLACE_ORDER, ORDER | {name: value}), field.get(name, name)) == number


def test_names_are_read_in_the_header_and_in_lists() -> None:
    body = {"trd_env": "SIMULATE", "acc_id": 1, "trd_market": "HKCC", "filter_conditions": {}}
    orders = read(GET_HISTORY_ORDER_LIST, body | {"filter_status_list": ["FILLED_ALL", 15]})
    assert (orders.header.trdEnv, orders.header.trdMarket, list(orders.filterStatusList)) == (0, 4, [11, 15])
    subscription = {"security_list": ["HK.00700"], "sub_type_list": ["QUOTE", "K_DAY", "OrderBook", "KL_1Min"]}
    assert list(read(QOT_SUB, subscription, assumed={"isSubOrUnSub": True}).subTypeList) == [1, 6, 2, 11]


def test_a_name_that_the_enum_does_not_have_is_refused_with_those_it_has() -> None:
    assert refused(PLACE_ORDER, ORDER | {"trd_side": "BUYY"}) == (
        "`c2s.trd_side` must be a name or number of TrdSide (`Unknown`, `Buy`, `Sell`, `SellShort`, `BuyBack`; "
        "did you mean `Buy`?), not `BUYY`"
    )
    refused(PLACE_ORDER, ORDER | {"trd_side": ""})


def test_a_number_that_the_enum_does_not_have_is_passed_on() -> None:
    assert read(PLACE_ORDER, ORDER | {"trd_side": 99}).trdSide == 99


def test_a_number_that_the_message_itself_could_not_hold_is_refused() -> None:
    body = {"security": "HK.00700", "statement_type": 99}
    assert "FinancialStatementsType" in refused(3227, body)
    assert read(3227, body | {"statement_type": "Income"}).statementType == 1


# values


@pytest.mark.parametrize("value", [7, "7"])
def test_a_whole_number_is_read_from_a_number_and_from_digits(value: object) -> None:
    assert read(MODIFY_ORDER, HEADER | {"order_id": value, "modify_order_op": 2}).orderID == 7


@pytest.mark.parametrize("value", [2**64 - 1, str(2**64 - 1)])
def test_the_largest_order_id_keeps_all_its_digits(value: object) -> None:
    assert read(MODIFY_ORDER, HEADER | {"order_id": value, "modify_order_op": 2}).orderID == 2**64 - 1


@pytest.mark.parametrize("value", [True, False, "", " 7", "7 ", "+7", "07", "0x7", "1e3", "7.0", "٧", [], {}, "7" * 30])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    said = refused(MODIFY_ORDER, HEADER | {"order_id": value, "modify_order_op": 2})
    assert said.startswith("`c2s.order_id` must be a whole number, not `")


@pytest.mark.parametrize("value", [1.0, 1.5, 1e18, math.inf, math.nan])
def test_a_number_with_a_decimal_point_is_no_whole_number(value: float) -> None:
    said = refused(MODIFY_ORDER, HEADER | {"order_id": value, "modify_order_op": 2})
    assert said == f"`c2s.order_id` must be a whole number, written without a decimal point, not `{value}`"


@pytest.mark.parametrize("value", [-1, 2**64, "-1", str(2**64)])
def test_a_whole_number_out_of_range_is_refused_with_the_range(value: object) -> None:
    said = refused(MODIFY_ORDER, HEADER | {"order_id": value, "modify_order_op": 2})
    assert said == f"`c2s.order_id` must be a whole number from 0 to 18446744073709551615, not `{value}`"


def test_an_endless_number_is_refused_in_a_short_sentence() -> None:
    for name in ("order_id", "qty", "modify_order_op"):
        assert len(refused(MODIFY_ORDER, HEADER | {name: 10**4000})) < 400


@pytest.mark.parametrize(
    ("value", "number"), [(100, 100.0), (0.1, 0.1), ("320.55", 320.55), ("-1e-3", -0.001), ("0", 0.0)]
)
def test_a_decimal_is_read_from_a_number_and_from_its_text(value: object, number: float) -> None:
    assert read(PLACE_ORDER, ORDER | {"price": value}).price == number


@pytest.mark.parametrize(
    "value", [True, "", " 1", "1,5", ".5", "1.", "nan", "NaN", "inf", "-Infinity", "1e999", "0x1", "1_0", [], {}, math.nan, math.inf]
)  # fmt: skip
def test_what_is_no_number_is_refused(value: object) -> None:
    assert refused(PLACE_ORDER, ORDER | {"price": value}).startswith("`c2s.price` must be a number, not `")


@pytest.mark.parametrize("value", [1, 0, "true", "false", "", []])
def test_only_true_and_false_are_true_or_false(value: object) -> None:
    assert refused(PLACE_ORDER, ORDER | {"adjust_price": value}).startswith("`c2s.adjust_price` must be true or false")
    assert read(PLACE_ORDER, ORDER | {"adjust_price": False}).HasField("adjustPrice")


@pytest.mark.parametrize("value", [700, True, 1.5, [], {}])
def test_only_a_text_is_a_text(value: object) -> None:
    assert refused(PLACE_ORDER, ORDER | {"code": value}).startswith("`c2s.code` must be a text, not `")


@pytest.mark.parametrize("value", ["HK.00700", {"market": 1, "code": "00700"}, 1, True])
def test_one_thing_is_not_a_list(value: object) -> None:
    assert refused(QOT_SUB, {"security_list": value}).startswith("`c2s.security_list` must be a list, not `")
    assert "must be a whole number" in refused(MODIFY_ORDER, {"order_id": [1]})


def test_a_list_holds_no_null() -> None:
    assert refused(SUB_ACC_PUSH, {"acc_id_list": [1, None]}).startswith("`c2s.acc_id_list[1]` must not be null")


def test_bytes_are_base64() -> None:
    body = {
        "rehab_type": "None",
        "kl_type": "K_DAY",
        "security": "HK.00700",
        "begin_time": "2026-01-01",
        "end_time": "2026-02-01",
    }
    for text in ("AP8_", "AP8/"):
        assert read(REQUEST_HISTORY_KL, body | {"next_req_key": text}).nextReqKey == b"\x00\xff\x3f"
    assert "base64" in refused(REQUEST_HISTORY_KL, body | {"next_req_key": "*"})
    assert "base64" in refused(REQUEST_HISTORY_KL, body | {"next_req_key": "é"})


def test_half_a_character_is_refused_wherever_it_came_from() -> None:
    assert refused(PLACE_ORDER, ORDER | {"remark": "\ud800"}) == "`c2s.remark` holds half a character"


def test_what_a_client_wrote_is_quoted_short_on_one_line_and_without_keys() -> None:
    key = "fc_" + "0" * 64
    for tree in ({key: 1}, ORDER | {"qty": key}, ORDER | {"trd_side": key}):
        with pytest.raises(BodyError) as caught:
            read(PLACE_ORDER, tree)
        assert key not in str(caught.value)
    for tree in ({"x\n\x1b[2J" * 1000: 1}, ORDER | {"qty": "\n" * 10_000}, ORDER | {"code": ["x" * 10_000]}):
        with pytest.raises(BodyError) as caught:
            read(PLACE_ORDER, tree)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 250


# the text


def test_a_text_is_its_tree() -> None:
    assert dialect.tree_of(b'{"a": [1, 2.5, "\\u6f22", null, true]}', 100) == {"a": [1, 2.5, "漢", None, True]}


@pytest.mark.parametrize("raw", [b"", b" \r\n"])
def test_an_empty_text_is_an_empty_object(raw: bytes) -> None:
    assert dialect.tree_of(raw, 100) == {}


def test_a_text_over_the_limit_is_refused_with_both_sizes() -> None:
    assert dialect.tree_of(b"[1]", 3) == [1]
    with pytest.raises(BodyError) as caught:
        dialect.tree_of(b"[1] ", 3)
    assert caught.value.code == "body_too_large"
    assert str(caught.value) == "the body is 4 bytes long, the limit is 3"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "the body is not valid JSON: expecting property name enclosed in double quotes (line 1, column 2)"),
        (b'{"a": 1} x', "the body is not valid JSON: extra data (line 1, column 10)"),
        (b"\xff", "the body is not valid UTF-8"),
        (b'"\\ud800"', "the body is not valid UTF-8"),
        (b'{"\\udc00": 1}', "the body is not valid UTF-8"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the field `c` is given twice"),
        (b'{"a": 1, "\\u0061": 1}', "the field `a` is given twice"),
        (b'{"a": NaN}', "`NaN` is not a JSON number"),
        (b'{"a": -Infinity}', "`-Infinity` is not a JSON number"),
        (b'{"a": 1e999}', "the number `1e999` is too large"),
        (b"1" * 5000, "the body is not valid JSON: a number has too many digits"),
        (b"[" * 33 + b"]" * 33, "the body is nested deeper than 32 levels"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "the body is nested deeper than 32 levels"),
        (b"[" * 100_000, "the body is nested deeper than 32 levels"),
    ],
)
def test_a_text_that_is_not_plain_json_is_refused(raw: bytes, said: str) -> None:
    assert malformed(raw, 1_000_000) == said


def test_brackets_in_texts_and_in_a_row_are_not_nesting() -> None:
    dialect.tree_of(json.dumps({"a": "[" * 100, "b": [[] for _ in range(100)]}).encode(), 10_000)
    dialect.tree_of(b"[" * 32 + b"]" * 32, 10_000)


# replies


def test_a_reply_is_written_in_snake_case_with_long_numbers_as_texts() -> None:
    reply: Any = message_class("Trd_PlaceOrder.Response")(
        retType=0, retMsg="", errCode=0,
        s2c={"header": {"trdEnv": 0, "accID": 2**64 - 1, "trdMarket": 1}, "orderID": 2**53 + 1, "orderIDEx": "FA1"},
    )  # fmt: skip
    assert dialect.envelope(reply) == {
        "ret_type": 0,
        "ret_msg": "",
        "err_code": 0,
        "s2c": {
            "header": {"trd_env": 0, "acc_id": "18446744073709551615", "trd_market": 1},
            "order_id": "9007199254740993",
            "order_id_ex": "FA1",
        },
    }


def test_a_no_of_opend_has_no_s2c() -> None:
    reply: Any = message_class("Trd_PlaceOrder.Response")(retType=-1, retMsg="no")
    assert dialect.envelope(reply) == {"ret_type": -1, "ret_msg": "no", "err_code": None, "s2c": None}


def test_an_empty_s2c_is_an_empty_object() -> None:
    reply: Any = message_class("Qot_Sub.Response")(retType=0, s2c={})
    assert dialect.envelope(reply)["s2c"] == {}


def test_a_reply_without_an_s2c_of_its_own_has_its_contents_there() -> None:
    said: Any = message_class("SkillWrapAPI.TechnicalUnusualRsp")
    assert dialect.envelope(said(retType=0, content="x"))["s2c"] == {"content": "x"}
    assert dialect.envelope(said(retType=-1, retMsg="no"))["s2c"] is None


def test_what_json_has_no_word_for_is_null_and_what_is_not_set_is_absent() -> None:
    level: Any = message_class("Qot_Common.OrderBook")(price=math.nan, volume=5, orederCount=0)
    assert dialect.write(level) == {"price": None, "volume": "5", "oreder_count": 0}


def test_text_that_is_not_utf8_is_written_as_far_as_it_can_be_read() -> None:
    broken = message_class("SkillWrapAPI.TechnicalUnusualReq").FromString(b"\x0a\x03a\xffb")
    assert dialect.write(broken) == {"stock_symbol": "a\ufffdb"}


# speed


def test_an_order_is_read_and_an_order_book_written_faster_than_protobufs_own_json_is() -> None:
    row, cls = CATALOG[PLACE_ORDER], message_class("Trd_PlaceOrder.Request")
    whole = dialect.read(row, ORDER, packet_id.lend)
    theirs = json_format.MessageToDict(whole)
    level = {"price": 320.5, "volume": 100, "orederCount": 3}
    book: Any = message_class("Qot_GetOrderBook.Response")(
        retType=0, s2c={"security": {"market": 1, "code": "00700"}, "orderBookAskList": [level] * 10, "orderBookBidList": [level] * 10}
    )  # fmt: skip

    def seconds(work: Any) -> float:
        """Of the processor, not of the clock, which others use too."""
        spent = []
        for _ in range(30):
            start = time.thread_time()
            for _ in range(20):
                work()
            spent.append(time.thread_time() - start)
        return min(spent)

    read_here = seconds(lambda: dialect.read(row, ORDER, packet_id.lend))
    assert read_here < seconds(lambda: json_format.ParseDict(theirs, cls())) * 0.8
    assert seconds(lambda: dialect.write(book)) < seconds(lambda: json_format.MessageToDict(book)) * 0.8
