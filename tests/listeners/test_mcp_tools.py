"""The table of tools against what it stands for: OpenD's messages, their enums, the catalog, and JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import BodyError
from sidecar.listeners.mcp import words as mcp_words
from sidecar.listeners.mcp.tool import Tool
from sidecar.listeners.mcp.tools import TOOLS
from sidecar.wire import dialect, packet_id
from sidecar.wire.catalog import CATALOG, Permission
from sidecar.wire.dialect.enums import enum_of, number_of
from sidecar.wire.messages import message_class

NAMES = sorted(TOOLS)
ASKING = [name for name in NAMES if TOOLS[name].proto_id]


def c2s_field(tool: Tool, path: str) -> FieldDescriptor:
    """The field that a dotted path of a tool's c2s leads to."""
    message: Any = message_class(CATALOG[tool.proto_id].request or "").DESCRIPTOR
    message = message.fields_by_name["c2s"].message_type
    *parents, name = path.split(".")
    for parent in parents:
        message = message.fields_by_name[parent].message_type
    field: FieldDescriptor = message.fields_by_name[name]
    return field


def vocabulary(schema: dict[str, Any]) -> dict[str, int]:
    """The words of an argument and their numbers, as `word` reads them; empty where it has none."""
    words = [each for each in schema.get("enum", schema.get("items", {}).get("enum", ())) if isinstance(each, str)]
    tables = [table for table in vars(mcp_words).values() if isinstance(table, dict)]
    found = next((table for table in tables if words and list(table) == words), {})
    assert bool(found) == bool(words)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_tools_schema_is_json_schema_closed_and_takes_no_key(name: str) -> None:
    schema = TOOLS[name].schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    for argument, its in schema["properties"].items():
        assert not any(secret in argument for secret in ("api_key", "token", "password", "pwd"))
        assert len(its["description"]) > 3


@pytest.mark.parametrize("name", ASKING)
def test_a_tools_arguments_fill_fields_that_its_request_has(name: str) -> None:
    tool = TOOLS[name]
    row = CATALOG[tool.proto_id]
    assert row.permission is not Permission.CONNECTION
    for argument in tool.arguments:
        if argument.into:
            c2s_field(tool, argument.into)
    for path in (*tool.fixed, *tool.assumed):
        c2s_field(tool, path)


@pytest.mark.parametrize("name", ASKING)
def test_words_mean_the_numbers_of_the_proto_files(name: str) -> None:
    tool = TOOLS[name]
    for argument in tool.arguments:
        words = vocabulary(argument.schema)
        if not words or not argument.into:
            continue
        field = c2s_field(tool, argument.into)
        enum = enum_of(field)
        assert enum is not None, f"{argument.name}: {field.full_name} has no enum"
        for word, number in words.items():
            assert number in {value.number for value in enum.values}, f"{argument.name} {word}"
            known = number_of(enum, word)
            assert known is None or known == number, f"{argument.name} {word} is {known} elsewhere"


def test_every_kline_type_has_the_subscription_its_bars_come_by() -> None:
    tool = TOOLS["futu_get_kline"]
    assert tool.sub_type is not None
    for word, number in mcp_words.KL_TYPE.items():
        assert tool.sub_type({"kl_type": number}) == mcp_words.SUB_TYPE[word]


EXAMPLES: dict[str, object] = {
    "symbol": "HK.00700", "symbols": ["HK.00700"], "plate": "HK.BK1001", "acc_id": "1", "trd_env": "SIMULATE", "market": "HK",
    "side": "BUY", "qty": 1, "price": 1, "begin": "2026-01-01", "end": "2026-01-02", "kl_type": "K_DAY",
    "sub_types": ["QUOTE"], "reference_type": "WARRANT", "order_id_exs": ["x"], "clearing_date": "2026-01-01", "unlock": True,
}  # fmt: skip
OWN = {
    "futu_get_static": {"symbols": ["HK.00700"]}, "futu_unsubscribe": {"all": True}, "futu_modify_order": {"order_id": 5},
    "futu_cancel_order": {"order_id_ex": "x"},
}  # fmt: skip


@pytest.mark.parametrize("name", ASKING)
def test_the_required_arguments_make_a_whole_request(name: str) -> None:
    tool = TOOLS[name]
    arguments: dict[str, Any] = {each.name: EXAMPLES[each.name] for each in tool.arguments if each.required}
    arguments |= OWN.get(name, {})
    jsonschema.validate(arguments, tool.schema())
    tree = {"c2s": tool.c2s(tool.read(arguments))}
    message = dialect.read(
        CATALOG[tool.proto_id], tree, packet_id.lend, fixed=tool.fixed, assumed=tool.assumed
    )  # fmt: skip
    assert message.IsInitialized()


def test_an_order_is_written_as_opend_reads_it() -> None:
    tool = TOOLS["futu_place_order"]
    arguments = {
        "acc_id": 281756455983234027, "env": "REAL", "symbol": "US.AAPL", "side": "SELL_SHORT", "qty": 10, "price": 180.5,
        "order_type": "STOP_LIMIT", "aux_price": 181, "time_in_force": "GTC", "session": "ETH", "remark": None,
    }  # fmt: skip
    tree = {"c2s": tool.c2s(tool.read(arguments))}
    message: Any = dialect.read(CATALOG[2202], tree, packet_id.lend, fixed=tool.fixed, assumed=tool.assumed)
    c2s = message.c2s
    assert (c2s.header.accID, c2s.header.trdEnv, c2s.header.trdMarket) == (281756455983234027, 1, 2)
    assert (c2s.code, c2s.secMarket, c2s.trdSide, c2s.orderType) == ("AAPL", 2, 3, 11)
    assert (c2s.qty, c2s.price, c2s.auxPrice, c2s.timeInForce, c2s.session) == (10, 180.5, 181, 1, 2)
    assert not c2s.HasField("remark")


def test_of_one_argument_under_two_names_neither_is_taken() -> None:
    with pytest.raises(BodyError, match="`trd_env` is given twice, once as `env`"):
        TOOLS["futu_get_funds"].read({"acc_id": 1, "trd_env": "SIMULATE", "env": "REAL", "market": "HK"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_arguments_make_a_request_or_are_refused_with_a_code(data: st.DataObject) -> None:
    tool = TOOLS[data.draw(st.sampled_from(ASKING))]
    likely = st.sampled_from([each.name for each in tool.arguments] or ["x"])
    values = st.one_of(json_values, st.sampled_from(list(EXAMPLES.values())))
    arguments = data.draw(st.dictionaries(likely | st.text(max_size=8), values, max_size=8))
    required = {each.name: EXAMPLES[each.name] for each in tool.arguments if each.required}
    if data.draw(st.booleans()):
        arguments = {**required, **arguments}
    try:
        tree = {"c2s": tool.c2s(tool.read(arguments))}
        dialect.read(CATALOG[tool.proto_id], tree, packet_id.lend, fixed=tool.fixed, assumed=tool.assumed)
    except BodyError as error:
        assert error.code in ("malformed_request", "unknown_field")
        assert str(error).isprintable()
