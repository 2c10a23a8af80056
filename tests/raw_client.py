"""A client of OpenD's protocol without the SDK: for what the SDK would not send, or not that fast. In clear, protobuf."""

from __future__ import annotations

import socket
from itertools import count
from typing import Any

from sidecar.wire.catalog import CATALOG, PUSH_IDS
from sidecar.wire.frame import HEADER_SIZE, FrameReader, build
from sidecar.wire.messages import message_class

PLACE_ORDER, MODIFY_ORDER, KEEP_ALIVE, GLOBAL_STATE, INIT_CONNECT = 2202, 2205, 1004, 1002, 1001
PAPER_HK = 1001001

_packet_serials = count(1)
"""packetID.serialNo is a number of its own; all that matters is that it is used once on a connection."""


class RawClient:
    """One connection, past its InitConnect. `send` and `write` do not wait; `reply` does."""

    def __init__(self, port: int, key: str, *, timeout: float = 10.0, opened: socket.socket | None = None) -> None:
        """`opened`: a connection that stands already, by another way than TCP in clear."""
        if opened is None:
            opened = socket.create_connection(("127.0.0.1", port), timeout)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = opened
        self._reader = FrameReader(64 * 1024 * 1024)
        self._serials = count(1)
        self._replies: dict[int, Any] = {}
        self.order: list[int] = []
        """Serials of the replies, as they came."""
        self.pushes: list[tuple[int, Any]] = []
        request: Any = message_class("InitConnect.Request")()
        request.c2s.clientVer, request.c2s.clientID, request.c2s.recvNotify = 300, key, True
        request.c2s.packetEncAlgo = -1
        self.conn_id = int(self.ask(INIT_CONNECT, request).s2c.connID)

    def frame(self, proto_id: int, request: Any) -> tuple[int, bytes]:
        """The next serial and the frame that carries it."""
        serial = next(self._serials)
        return serial, build(proto_id, serial, request.SerializeToString())

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send(self, proto_id: int, request: Any) -> int:
        serial, data = self.frame(proto_id, request)
        self.write(data)
        return serial

    def ask(self, proto_id: int, request: Any) -> Any:
        return self.reply(self.send(proto_id, request))

    def reply(self, serial: int) -> Any:
        """The response to a serial; raises TimeoutError, and ConnectionError when the connection has ended."""
        while serial not in self._replies:
            self._receive()
        return self._replies[serial]

    def _receive(self) -> None:
        data = self._socket.recv(256 * 1024)
        if not data:
            raise ConnectionError("the connection has ended")
        chunk, heads = self._reader.receive(data)
        for head in heads:
            message = message_class(CATALOG[head.proto_id].response or "").FromString(
                chunk[head.start + HEADER_SIZE : head.stop]
            )
            if head.proto_id in PUSH_IDS:
                self.pushes.append((head.proto_id, message))
            else:
                self.order.append(head.serial)
                self._replies[head.serial] = message

    def closed(self) -> bool:
        """Whether the other side has ended the connection by now; what arrived before is kept."""
        self._socket.setblocking(False)
        try:
            while True:
                self._receive()
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._socket.setblocking(True)

    def close(self) -> None:
        self._socket.close()

    # -- requests -------------------------------------------------------------------------------------------------

    def order_request(
        self, *, price: float = 400, qty: float = 100, side: int = 1, code: str = "00700", acc_id: int = PAPER_HK,
        remark: str | None = None, order_type: int = 1,
    ) -> Any:  # fmt: skip
        """A 2202 for a Hong Kong stock in a paper account."""
        request: Any = message_class("Trd_PlaceOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = self.conn_id, next(_packet_serials)
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, acc_id, 1
        c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = side, order_type, code, qty, price, 1
        if remark is not None:
            c2s.remark = remark
        return request

    def cancel_request(self, order_id_ex: str, *, acc_id: int = PAPER_HK) -> Any:
        request: Any = message_class("Trd_ModifyOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = self.conn_id, next(_packet_serials)
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, acc_id, 1
        c2s.orderID, c2s.orderIDEx, c2s.modifyOrderOp = 0, order_id_ex, 2
        return request

    def change_request(self, order_id_ex: str, *, op: int = 1, acc_id: int = PAPER_HK, **fields: float) -> Any:
        """A 2205 that says what is in `fields` (`qty`, `price`, ...) and leaves the rest as it is."""
        request = self.cancel_request(order_id_ex, acc_id=acc_id)
        request.c2s.modifyOrderOp = op
        for name, value in fields.items():
            setattr(request.c2s, name, value)
        return request


def state_request() -> Any:
    """A 1002, the cheapest read there is."""
    request: Any = message_class("GetGlobalState.Request")()
    request.c2s.userID = 0
    return request


def code_of(reply: Any) -> str | None:
    """The sidecar's code in a reply; None where it is no refusal of the sidecar."""
    text: str = reply.retMsg
    return text[len("[sidecar:") :].partition("]")[0] if reply.retType == -1 and text.startswith("[sidecar:") else None
