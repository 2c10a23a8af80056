"""A gRPC client that nobody here wrote: grpcio, with stubs that grpcio-tools compiles from the shipped .proto file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from real_parts import need

from sidecar.wire.catalog import CATALOG
from sidecar.wire.messages import message_class

PROTO = Path(__file__).resolve().parent.parent / "sidecar/listeners/grpc/futu_service.proto"
_PARTS = ("grpc", "grpc_tools", "grpc_reflection", "grpc_health")

GLOBAL_STATE, PLACE_ORDER, SUBSCRIBE, REGISTER_PUSH, SUB_ACC_PUSH = 1002, 2202, 3001, 3002, 2008
PAPER_HK = 1001001


@cache
def stubs() -> tuple[Any, Any]:
    """The modules `futu_service_pb2` and `futu_service_pb2_grpc`; skips where grpcio is not there."""
    need("grpcio", all(importlib.util.find_spec(part) for part in _PARTS))
    from grpc_tools import protoc

    folder = mkdtemp(prefix="futu_service")
    said = protoc.main(
        ["protoc", f"-I{PROTO.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", PROTO.name]
    )
    assert said == 0
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("futu_service_pb2"), importlib.import_module("futu_service_pb2_grpc")
    finally:
        sys.path.remove(folder)


@dataclass(frozen=True)
class Answer:
    """OpenD's answer: `message` is its Response."""

    ret_type: int
    ret_msg: str
    message: Any
    initial: dict[str, str]


@dataclass(frozen=True)
class No:
    """The call's status where it is not OK."""

    status: str
    text: str
    trailing: dict[str, str]

    @property
    def code(self) -> str | None:
        return self.trailing.get("sidecar-code")


class GrpcioClient:
    """One channel. `key` None: no authorization is sent. `tls`: what `grpc.ssl_channel_credentials` takes."""

    def __init__(
        self, port: int, key: str | None = None, *, tls: dict[str, bytes] | None = None, **options: Any
    ) -> None:
        import grpc

        self.grpc = grpc
        self.pb, services = stubs()
        # grpcio keeps one connection for all channels to one address; a test wants its own
        arguments = [("grpc.use_local_subchannel_pool", 1), *options.pop("arguments", ())]
        if tls is None:
            self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=arguments, **options)
        else:
            credentials = grpc.ssl_channel_credentials(**tls)
            self.channel = grpc.secure_channel(f"localhost:{port}", credentials, options=arguments, **options)
        self.stub = services.FutuOpenDStub(self.channel)
        self.metadata = [] if key is None else [("authorization", f"Bearer {key}")]

    def __enter__(self) -> GrpcioClient:
        return self

    def __exit__(self, *failure: object) -> None:
        self.channel.close()

    def send(self, proto_id: int, body: bytes, *metadata: tuple[str, str], timeout: float | None = 10) -> Answer | No:
        call = self.start(proto_id, body, *metadata, timeout=timeout)
        try:
            reply = call.result()
        except self.grpc.RpcError:
            return No(call.code().name, call.details(), dict(call.trailing_metadata()))
        response = CATALOG[reply.proto_id].response
        message = message_class(response).FromString(reply.body) if response and reply.body else None
        return Answer(reply.ret_type, reply.ret_msg, message, dict(call.initial_metadata()))

    def start(self, proto_id: int, body: bytes, *metadata: tuple[str, str], timeout: float | None = 10) -> Any:
        request = self.pb.FutuRequest(proto_id=proto_id, body=body)
        return self.stub.Request.future(request, metadata=[*self.metadata, *metadata], timeout=timeout)

    def ask(self, proto_id: int, request: Any, *metadata: tuple[str, str], timeout: float | None = 10) -> Answer | No:
        return self.send(proto_id, request.SerializePartialToString(), *metadata, timeout=timeout)

    def pushes(self, timeout: float | None = 30) -> Any:
        """A stream of PushEvents that stands: what is caused from now on comes through it."""
        stream = self.stub.SubscribePush(self.pb.SubscribePushRequest(), metadata=self.metadata, timeout=timeout)
        stream.initial_metadata()
        return stream

    def end_of(self, stream: Any) -> No:
        """The status that a stream of pushes ends with; what still comes before is passed over."""
        try:
            for _ in stream:
                pass
        except self.grpc.RpcError:
            pass
        return No(stream.code().name, stream.details(), dict(stream.trailing_metadata()))


def request_of(proto_id: int, **c2s: Any) -> Any:
    """A request of the catalog with these fields of c2s, lists and messages included as they are."""
    name = CATALOG[proto_id].request
    assert name is not None
    request: Any = message_class(name)()
    request.c2s.SetInParent()
    for field, value in c2s.items():
        if isinstance(value, list):
            getattr(request.c2s, field).extend(value)
        else:
            setattr(request.c2s, field, value)
    return request


def global_state() -> Any:
    return request_of(GLOBAL_STATE, userID=0)


def order(price: float = 400.0, qty: float = 100.0, *, code: str = "00700", acc_id: int = PAPER_HK) -> Any:
    """A limit order to buy Tencent on the paper account, without a packetID."""
    request = request_of(PLACE_ORDER, trdSide=1, orderType=1, code=code, qty=qty, price=price, secMarket=1)
    header = request.c2s.header
    header.trdEnv, header.accID, header.trdMarket = 0, acc_id, 1
    return request


def subscription(code: str = "00700", sub_type: int = 1) -> Any:
    request = request_of(SUBSCRIBE, subTypeList=[sub_type], isSubOrUnSub=True, isRegOrUnRegPush=True, isFirstPush=True)
    security = request.c2s.securityList.add()
    security.market, security.code = 1, code
    return request
