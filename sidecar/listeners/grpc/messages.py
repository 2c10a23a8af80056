"""The messages of `futu_service.proto`, made when this is imported: generated code would be bound to one protobuf version.

They live in a pool of their own, beside those of the health service, so that a program which has compiled the .proto
file itself can import both.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpclib.health.v1 import health_pb2

PACKAGE = "futu.service"
SERVICE = f"{PACKAGE}.FutuOpenD"

_UINT32, _INT32, _UINT64, _TEXT, _BYTES = (
    FieldDescriptorProto.TYPE_UINT32,
    FieldDescriptorProto.TYPE_INT32,
    FieldDescriptorProto.TYPE_UINT64,
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BYTES,
)

_MESSAGES: dict[str, tuple[tuple[str, FieldDescriptorProto.Type.ValueType], ...]] = {
    "FutuRequest": (("proto_id", _UINT32), ("body", _BYTES)),
    "FutuResponse": (("ret_type", _INT32), ("ret_msg", _TEXT), ("proto_id", _UINT32), ("body", _BYTES)),
    "SubscribePushRequest": (),
    "PushEvent": (
        ("proto_id", _UINT32),
        ("sec_key", _TEXT),
        ("sub_type", _INT32),
        ("body", _BYTES),
        ("event_type", _TEXT),
        ("acc_id", _UINT64),
    ),
}
"""Fields are numbered in this order, from 1."""

_METHODS = (
    ("Request", "FutuRequest", "FutuResponse", False),
    ("SubscribePush", "SubscribePushRequest", "PushEvent", True),
)


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="futu_service.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    service = file.service.add(name="FutuOpenD")
    for name, takes, gives, streams in _METHODS:
        method = service.method.add(name=name, input_type=f".{PACKAGE}.{takes}", output_type=f".{PACKAGE}.{gives}")
        if streams:
            method.server_streaming = True
    return file


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    return pool


POOL = _pool()
"""What server reflection tells."""


def _class(name: str) -> Any:
    made: type[Message] = GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    return made


# Their fields are only known at run time.
FutuRequest: Any = _class("FutuRequest")
FutuResponse: Any = _class("FutuResponse")
SubscribePushRequest: Any = _class("SubscribePushRequest")
PushEvent: Any = _class("PushEvent")
