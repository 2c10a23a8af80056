"""The messages that doors speak besides OpenD's own, written down here a second time so that the tests own their side."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {
    "int32": 5, "int64": 3, "uint32": 13, "uint64": 4, "string": 9, "bytes": 12,
}  # fmt: skip

_MESSAGES: dict[str, str] = {
    # the official JavaScript SDK's login (protocol facts, section 3)
    "LoginC2S": "string websocketKey=4, string programmingLanguage=6",
    "LoginRequest": "LoginC2S c2s=1",
    "LoginS2C": "int64 serverTime=1, uint64 connID=2",
    "LoginResponse": "int32 retType=1, string retMsg=2, int32 errCode=3, LoginS2C s2c=4",
    # futu.service.FutuOpenD
    "FutuRequest": "uint32 proto_id=1, bytes body=2",
    "FutuResponse": "int32 ret_type=1, string ret_msg=2, uint32 proto_id=3, bytes body=4",
    "SubscribePushRequest": "",
    "PushEvent": "uint32 proto_id=1, string sec_key=2, int32 sub_type=3, bytes body=4, string event_type=5, uint64 acc_id=6",
}


def _made() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="scenarios.proto", package="scenarios", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(", ")):
            kind, _, rest = text.partition(" ")
            field, _, number = rest.partition("=")
            made = message.field.add(name=field, number=int(number), label=1)
            if kind in _TYPES:
                made.type = _TYPES[kind]
            else:
                made.type, made.type_name = 11, f".scenarios.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"scenarios.{name}")) for name in _MESSAGES
    }


_CLASSES = _made()
LoginRequest: Any = _CLASSES["LoginRequest"]
LoginResponse: Any = _CLASSES["LoginResponse"]
FutuRequest: Any = _CLASSES["FutuRequest"]
FutuResponse: Any = _CLASSES["FutuResponse"]
SubscribePushRequest: Any = _CLASSES["SubscribePushRequest"]
PushEvent: Any = _CLASSES["PushEvent"]
