"""The names of the JSON dialect against what futu-api itself says: its definitions, their comments, and its Python SDK."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sidecar.wire.catalog import CATALOG, Direction
from sidecar.wire.dialect import enum_of, flat_header, names, snake
from sidecar.wire.dialect.enums import number_of, short_names
from sidecar.wire.messages import message_class, module, pb_folder
from sidecar.wire.symbols import PREFIXES, Markets, split


@cache
def definitions() -> dict[str, Any]:
    """Every message of the catalog and every message in one of them, by full name."""
    found: dict[str, Any] = {}

    def add(descriptor: Any) -> None:
        if descriptor.full_name not in found:
            found[descriptor.full_name] = descriptor
            for field in descriptor.fields:
                if field.message_type is not None:
                    add(field.message_type)

    for row in CATALOG.values():
        for name in (row.request, row.response):
            if name is not None:
                add(message_class(name).DESCRIPTOR)
    return found


def fields() -> Iterator[Any]:
    return (field for descriptor in definitions().values() for field in descriptor.fields)


def field(name: str) -> Any:
    message, _, own = name.rpartition(".")
    return definitions()[message].fields_by_name[own]


# fields


@pytest.mark.parametrize(
    ("opend", "ours"),
    [
        ("accID", "acc_id"),
        ("trdEnv", "trd_env"),
        ("orderID", "order_id"),
        ("orderIDEx", "order_id_ex"),
        ("orderIDExList", "order_id_ex_list"),
        ("orderIdExList", "order_id_ex_list"),
        ("packetID", "packet_id"),
        ("connID", "conn_id"),
        ("userID", "user_id"),
        ("codeList", "code_list"),
        ("securityList", "security_list"),
        ("subTypeList", "sub_type_list"),
        ("isFirstPush", "is_first_push"),
        ("isSubOrUnSub", "is_sub_or_un_sub"),
        ("isRegOrUnRegPush", "is_reg_or_un_reg_push"),
        ("trdMarketAuthList", "trd_market_auth_list"),
        ("rehabType", "rehab_type"),
        ("klType", "kl_type"),
        ("fillOutsideRTH", "fill_outside_rth"),
        ("pwdMD5", "pwd_md5"),
        ("usCBOEFutureQotRight", "us_cboe_future_qot_right"),
        ("unrealizedPL", "unrealized_pl"),
        ("td_plVal", "td_pl_val"),
        ("volume_24h", "volume_24h"),
        ("SecuritySuspendList", "security_suspend_list"),
        ("IV", "iv"),
        ("s2c", "s2c"),
        ("multi_legs", "multi_legs"),
    ],
)
def test_opends_names_become_the_ones_people_know(opend: str, ours: str) -> None:
    assert snake(opend) == ours


def test_no_two_fields_of_a_message_share_a_spelling() -> None:
    for descriptor in definitions().values():
        spellings = [spelling for name in names(descriptor) for spelling in name.spellings]
        assert len(spellings) == len(set(spellings)), descriptor.full_name


def test_every_name_is_in_snake_case_and_stays_what_it_is() -> None:
    for one in fields():
        name = snake(one.name)
        assert re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", name), one.full_name
        assert snake(name) == name


def test_no_message_contains_itself() -> None:
    def depth(descriptor: Any, above: tuple[str, ...]) -> int:
        assert descriptor.full_name not in above
        inner = [one.message_type for one in descriptor.fields if one.message_type is not None]
        return 1 + max((depth(one, (*above, descriptor.full_name)) for one in inner), default=0)

    assert max(depth(descriptor, ()) for descriptor in definitions().values()) < 10


def test_the_only_name_that_a_header_shares_with_its_request_is_the_market_of_a_change() -> None:
    shared = {
        (descriptor.full_name, name.field.name)
        for descriptor in definitions().values()
        for name in flat_header(descriptor)
        if name.field.name in descriptor.fields_by_name and descriptor.full_name.endswith(".C2S")
    }
    assert shared == {("Trd_ModifyOrder.C2S", "trdMarket")}


def test_no_c2s_has_a_c2s_and_only_the_sidecars_field_is_filled_here() -> None:
    filled = set()
    for row in CATALOG.values():
        if row.request is None or row.direction is not Direction.REQUEST:
            continue
        root: Any = message_class(row.request).DESCRIPTOR
        if "c2s" in root.fields_by_name:
            assert [one.name for one in root.fields] == ["c2s"]
            assert "c2s" not in root.fields_by_name["c2s"].message_type.fields_by_name
            filled |= {name.snake for name in names(root.fields_by_name["c2s"].message_type) if name.filled_here}
    assert filled == {"packet_id"}


# enums

SHARED = ("Qot_Common", "Trd_Common", "Common", "Qot_OptionCommon")
BIT_SETS = {"GetUserInfo.C2S.flag"}
"""Their comment names an enum, but they hold a sum of its numbers."""
UNNAMED = {
    "Qot_Sub.C2S.session": "Session",
    "Trd_ModifyOrder.C2S.trdMarket": "TrdMarket",
    "Trd_GetOrderList.C2S.filterStatusList": "OrderStatus",
    "Trd_GetHistoryOrderList.C2S.filterStatusList": "OrderStatus",
    "Trd_FlowSummary.FlowSummaryInfo.currency": "Currency",
    "Qot_GetOptionEventAlert.EventAlertItem.optionType": "OptionType",
    "InitConnect.S2C.userAttribution": "UserAttribution",
    "Notify.S2C.type": "NotifyType",
}
"""Their comment does not name the enum, but says what it is."""


@cache
def comments() -> dict[str, str]:
    """The comment behind every field, by its full name."""
    found = {}
    for path in pb_folder().glob("*.proto"):
        package, inside = "", []
        for line in path.read_text("utf-8-sig").splitlines():
            code, _, comment = line.partition("//")
            if match := re.match(r"\s*package\s+(\w+)", code):
                package = match[1]
            if match := re.match(r"\s*(?:message|enum)\s+(\w+)", code):
                inside.append(match[1])
            if match := re.match(r"\s*(?:required|optional|repeated)\s+[\w.]+\s+(\w+)\s*=", code):
                found[".".join([package, *inside, match[1]])] = comment
            if "}" in code and inside:
                inside.pop()
    return found


@cache
def enums() -> dict[str, Any]:
    files = {path.stem.removesuffix("_pb2") for path in pb_folder().glob("*_pb2.py")}
    return {enum.full_name: enum for file in files for enum in module(file).DESCRIPTOR.enum_types_by_name.values()}


def enums_named_in(comment: str, own: str) -> list[str]:
    found = []
    for word in re.findall(r"[A-Za-z]\w*(?:(?:\.|::)[A-Za-z]\w*)*", comment, re.ASCII):
        *file, name = re.split(r"\.|::", word.replace("TrdCommon_", ""))
        found += [f"{place}.{name}" for place in (*file[-1:], own, *SHARED) if f"{place}.{name}" in enums()][:1]
    return found


def test_the_enums_of_fields_are_those_that_the_comments_name() -> None:
    assert len(comments()) > 2000
    compared = 0
    for one in fields():
        if one.cpp_type != one.CPPTYPE_INT32 or one.name == "retType" or one.full_name in BIT_SETS:
            continue
        known = enum_of(one)
        named = enums_named_in(comments().get(one.full_name, ""), one.full_name.partition(".")[0])
        if one.full_name in UNNAMED:
            assert known is not None, one.full_name
            assert known.name == UNNAMED[one.full_name], one.full_name
        elif one.full_name.endswith(("EventAlertItem.sideTypeList", "EventItem.orderTypeList")):
            # the comment names an enum by a name that two files have, and means the one about options
            assert known is not None
            assert known.full_name.startswith("Qot_GetOptionEvent.")
        elif named:
            assert known is not None, one.full_name
            assert known.full_name == named[0], one.full_name
            compared += 1
        else:
            assert known is None, one.full_name
    assert compared > 350


def test_a_field_declared_with_its_enum_has_that_one() -> None:
    declared = [one for one in fields() if one.enum_type is not None]
    assert len(declared) > 40
    assert all(enum_of(one) is one.enum_type for one in declared)


def test_numbers_that_count_have_no_enum() -> None:
    for name in (
        "Trd_PlaceOrder.C2S.qty",
        "Qot_GetKL.C2S.reqNum",
        "Trd_Common.TrdHeader.accID",
        "GetUserInfo.C2S.flag",
    ):
        assert enum_of(field(name)) is None


def test_no_two_values_of_an_enum_share_a_name_in_any_spelling() -> None:
    assert len(enums()) > 200
    for enum in enums().values():
        for value in enum.values:
            assert number_of(enum, value.name) == value.number, value.name
            assert number_of(enum, value.name.upper()) == value.number
        for name, number in short_names(enum).items():
            assert number_of(enum, name) == number
            assert number_of(enum, name.lower()) == number


def test_no_name_of_an_enum_looks_like_a_number() -> None:
    for enum in enums().values():
        assert not [name for name in short_names(enum) if re.fullmatch(r"[-+]?[0-9]+", name)]


SDK_ENUMS = {
    "SubType": "Qot_Common.SubType",
    "KLType": "Qot_Common.KLType",
    "AuType": "Qot_Common.RehabType",
    "Market": "Qot_Common.QotMarket",
    "SecurityType": "Qot_Common.SecurityType",
    "Plate": "Qot_Common.PlateSetType",
    "TradeDateMarket": "Qot_Common.TradeDateMarket",
    "PeriodType": "Qot_Common.PeriodType",
    "OrderBookType": "Qot_Common.OrderBookType",
    "TrdEnv": "Trd_Common.TrdEnv",
    "TrdMarket": "Trd_Common.TrdMarket",
    "TrdSide": "Trd_Common.TrdSide",
    "OrderType": "Trd_Common.OrderType",
    "OrderStatus": "Trd_Common.OrderStatus",
    "ModifyOrderOp": "Trd_Common.ModifyOrderOp",
    "TimeInForce": "Trd_Common.TimeInForce",
    "TrailType": "Trd_Common.TrailType",
    "Currency": "Trd_Common.Currency",
    "SecurityFirm": "Trd_Common.SecurityFirm",
    "TrdCategory": "Trd_Common.TrdCategory",
    "AssetCategory": "Trd_Common.TrdAssetCategory",
    "SubAccType": "Trd_Common.TrdSubAccType",
    "Session": "Common.Session",
    "PredSide": "Common.PredSide",
}
ASK_THE_SDK = """
import json, sys
from futu.common import constant
tables = {name: {str(k): v for k, v in getattr(constant, name)().load_dic().items()} for name in sys.argv[1].split(",")}
tables["secMarkets"] = {str(k): v for k, v in constant.QOT_MARKET_TO_TRD_SEC_MARKET_MAP.items()}
print("\\n" + json.dumps(tables))
"""


@pytest.fixture(scope="module")
def sdk_tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """What the official Python SDK calls the values of its enums, and which TrdSecMarket belongs to a QotMarket."""
    home: Path = tmp_path_factory.mktemp("sdk")
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    said = subprocess.run(
        [sys.executable, "-c", ASK_THE_SDK, ",".join(SDK_ENUMS)],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    tables: dict[str, dict[str, int]] = json.loads(said.splitlines()[-1])
    return tables


def test_the_official_sdks_name_of_a_value_is_read_as_that_value(sdk_tables: dict[str, dict[str, int]]) -> None:
    for ours, theirs in SDK_ENUMS.items():
        enum = enums()[theirs]
        for name, number in sdk_tables[ours].items():
            if name != "N/A":
                assert number_of(enum, name) == number, f"{ours} {name}"


def test_the_prefixes_of_symbols_are_the_official_sdks(sdk_tables: dict[str, dict[str, int]]) -> None:
    theirs = {
        prefix: Markets(number, sdk_tables["secMarkets"][str(number)])
        for prefix, number in sdk_tables["Market"].items()
        if prefix != "N/A"
    }
    assert dict(PREFIXES) == theirs


def test_a_symbol_is_split_at_its_first_dot_alone() -> None:
    assert split("US.BRK.B") == (Markets(11, 2), "BRK.B")
    assert split("US..DJI") == (Markets(11, 2), ".DJI")
    assert [split(text) for text in ("", ".", "US", "US.", "us.AAPL", "XX.1", " US.AAPL")] == [None] * 7
