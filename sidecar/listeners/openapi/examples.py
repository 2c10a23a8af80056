"""A body to begin with for every request: what must be filled in, with values that mean something. No account of anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sidecar.wire.catalog import Row
from sidecar.wire.dialect.enums import enum_of, short_names
from sidecar.wire.dialect.names import PACKET_ID, SECURITY, TRADE_HEADER, is_list, is_required, names
from sidecar.wire.messages import message_class

ACCOUNT = "281756455000000"
SYMBOL = "HK.00700"
_HEADER = {"trd_env": "Simulate", "acc_id": ACCOUNT, "trd_market": "HK"}

_VALUES: Mapping[str, object] = {
    "begin": 0,
    "begin_date": "2026-01-05",
    "begin_time": "2026-01-05",
    "clearing_date": "2026-01-05",
    "code": SYMBOL,
    "date": "2026-01-05",
    "end_time": "2026-01-30",
    "group_name": "All",
    "keyword": "Tencent",
    "max_ret_num": 10,
    "num": 10,
    "order_type": "Normal",
    "price": 300,
    "qty": 100,
    "req_num": 10,
    "short_name": "MA",
    "unlock": True,
}
"""By the field's name, wherever it is required; else what its type suggests."""

_MORE: Mapping[str, Mapping[str, object]] = {
    "Qot_Sub": {"sub_type_list": ["Basic", "KL_Day"], "is_sub_or_un_sub": True, "is_reg_or_un_reg_push": True},
    "Qot_RegQotPush": {"sub_type_list": ["Basic"], "is_reg_or_un_reg": True},
    "Qot_GetKL": {"rehab_type": "Forward", "kl_type": "Day"},
    "Qot_RequestHistoryKL": {"rehab_type": "Forward", "kl_type": "Day", "max_ack_kl_num": 10},
    "Qot_RequestTradeDate": {"market": "HK"},
    "Qot_GetStaticInfo": {"security_list": [SYMBOL]},
    "Qot_GetPlateSecurity": {"plate": "HK.HSI Constituent"},
    "Trd_PlaceOrder": {"trd_side": "Buy", "price": 300},
    "Trd_ModifyOrder": {"modify_order_op": "Cancel", "order_id": "1234567890"},
    "Trd_ReconfirmOrder": {"order_id": "1234567890"},
    "Trd_GetOrderFee": {"order_id_ex_list": ["20260105_1234567890"]},
    "Trd_SubAccPush": {"acc_id_list": [ACCOUNT]},
    "Trd_GetHistoryOrderList": {"filter_conditions": {"begin_time": "2026-01-05", "end_time": "2026-01-30"}},
    "Trd_GetHistoryOrderFillList": {"filter_conditions": {"begin_time": "2026-01-05", "end_time": "2026-01-30"}},
}
"""By the request: fields that its meaning asks for, and better values than the others."""


def example_of(row: Row) -> dict[str, Any]:
    """The fields of the request's c2s (of the request, where it has none), its header in it, in snake_case."""
    descriptor: Any = message_class(row.request or "").DESCRIPTOR
    c2s = descriptor.fields_by_name.get("c2s")
    return _message(descriptor if c2s is None else c2s.message_type) | dict(_MORE.get(row.name, {}))


def _message(descriptor: Descriptor) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in names(descriptor):
        kind = None if name.field.message_type is None else name.field.message_type.full_name
        if kind == PACKET_ID:
            continue
        if is_list(name.field):
            if kind == SECURITY and name.snake == "security_list":  # never required by the message, always by OpenD
                made[name.snake] = [SYMBOL]
        elif is_required(name.field):
            made[name.snake] = _value(name.snake, name.field)
    return made


def _value(name: str, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        if field.message_type.full_name == SECURITY:
            return SYMBOL
        return dict(_HEADER) if field.message_type.full_name == TRADE_HEADER else _message(field.message_type)
    if name in _VALUES:
        return _VALUES[name]
    enum = enum_of(field)
    if enum is not None:
        # the first is mostly "unknown"
        return next((each for each, number in short_names(enum).items() if number != 0), 0)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "text" if field.type != FieldDescriptor.TYPE_BYTES else ""
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return False
    return 1
