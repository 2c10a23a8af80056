"""The messages of every scenario, built once as finished frames. Opens no socket, measures nothing."""

from __future__ import annotations

import struct
import time
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from sidecar.wire.frame import build
from sidecar.wire.messages import message_class

INIT_CONNECT = 1001
GLOBAL_STATE = 1002
KEEP_ALIVE = 1004
ACCOUNTS = 2001
FUNDS = 2101
POSITIONS = 2102
PUSH_ACCOUNTS = 2008
OPEN_ORDERS = 2201
PLACE_ORDER = 2202
ORDER_PUSH = 2208
FILLS = 2211
SUBSCRIBE = 3001
REGISTER_PUSH = 3002
BASIC_QUOTE = 3004
QUOTE_PUSH = 3005
STATIC_INFO = 3202
SNAPSHOT = 3203

ACCOUNT = 9_001
"""A paper account."""
REAL_ACCOUNT = 281_756_000_000_001

US_QUOTES = 11
US_TRADES = 2
SYMBOLS = ("AAPL", "MSFT", "NVDA", "TSLA", "AMZN")
PRICE = 180.25
ORDER_PRICE = 10.0
ORDER_QTY = 100.0

SERIAL_AT = 8
"""Where the serial stands in a frame."""
serial_bytes = struct.Struct("<I").pack


def filled(full_name: str) -> Any:
    """An empty message of that class; untyped, as the generated classes are made at run time."""
    return message_class(full_name)()


def request(proto_id: int, serial: int, message: Message) -> bytes:
    return build(proto_id, serial, message.SerializeToString())


def init_connect(serial: int, client_id: str) -> bytes:
    message = filled("InitConnect.Request")
    message.c2s.clientVer = 300
    message.c2s.clientID = client_id
    message.c2s.recvNotify = True
    message.c2s.packetEncAlgo = -1
    message.c2s.pushProtoFmt = 0
    message.c2s.programmingLanguage = "Python"
    return request(INIT_CONNECT, serial, message)


def quote_request(serial: int = 0) -> bytes:
    """3004 of one symbol."""
    message = filled("Qot_GetBasicQot.Request")
    security = message.c2s.securityList.add()
    security.market, security.code = US_QUOTES, SYMBOLS[0]
    return request(BASIC_QUOTE, serial, message)


def subscribe_request(serial: int) -> bytes:
    """3001: quotes of every symbol, pushed on this connection."""
    message = filled("Qot_Sub.Request")
    for code in SYMBOLS:
        security = message.c2s.securityList.add()
        security.market, security.code = US_QUOTES, code
    message.c2s.subTypeList.append(1)
    message.c2s.isSubOrUnSub = True
    message.c2s.isRegOrUnRegPush = True
    return request(SUBSCRIBE, serial, message)


class OrderRequests:
    """2202 frames of one connection: a paper limit buy, alike but for packetID and serial."""

    def __init__(self, conn_id: int) -> None:
        message = filled("Trd_PlaceOrder.Request")
        c2s = message.c2s
        c2s.packetID.connID = conn_id
        c2s.packetID.serialNo = 0
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, ACCOUNT, US_TRADES
        c2s.trdSide, c2s.orderType = 1, 1
        c2s.code, c2s.secMarket = SYMBOLS[0], US_TRADES
        c2s.qty, c2s.price = ORDER_QTY, ORDER_PRICE
        c2s.timeInForce = 0
        self._message = message

    def frame(self, serial: int) -> bytes:
        self._message.c2s.packetID.serialNo = serial
        return build(PLACE_ORDER, serial, self._message.SerializeToString())


def _basic_quotes(message: Any, codes: tuple[str, ...]) -> None:
    for code in codes:
        quote = message.s2c.basicQotList.add()
        quote.security.market, quote.security.code = US_QUOTES, code
        quote.name = f"{code} Incorporated"
        quote.isSuspended = False
        quote.listTime = "1980-12-12"
        quote.updateTime = "2025-01-02 10:31:07.482"
        quote.priceSpread = 0.01
        quote.highPrice, quote.openPrice, quote.lowPrice = PRICE + 1.5, PRICE - 0.4, PRICE - 2.25
        quote.curPrice, quote.lastClosePrice = PRICE, PRICE - 0.75
        quote.volume, quote.turnover = 48_213_307, 8_690_447_211.5
        quote.turnoverRate, quote.amplitude = 0.317, 2.09
        quote.listTimestamp, quote.updateTimestamp = 345_398_400.0, 1_735_831_867.482
        quote.darkStatus, quote.secStatus = 0, 1
        for session in (quote.preMarket, quote.afterMarket):
            session.price, session.highPrice, session.lowPrice = PRICE, PRICE + 0.5, PRICE - 0.5
            session.volume, session.turnover = 913_442, 164_648_000.25
            session.changeVal, session.changeRate, session.amplitude = 0.35, 0.19, 0.55


def quote_reply() -> bytes:
    """The 3004 reply, about 370 bytes; the serial is to be patched."""
    message = filled("Qot_GetBasicQot.Response")
    message.retType = 0
    message.retMsg = ""
    _basic_quotes(message, SYMBOLS[:1])
    return request(BASIC_QUOTE, 0, message)


def quote_push() -> bytes:
    """One 3005 push of about 1 KB."""
    message = filled("Qot_UpdateBasicQot.Response")
    message.retType = 0
    _basic_quotes(message, SYMBOLS[:3])
    return request(QUOTE_PUSH, 0, message)


def init_reply(serial: int, conn_id: int) -> bytes:
    message = filled("InitConnect.Response")
    message.retType = 0
    s2c = message.s2c
    s2c.serverVer, s2c.loginUserID, s2c.connID = 1011, 7_700_001, conn_id
    s2c.connAESKey, s2c.aesCBCiv = "0123456789ABCDEF", "FEDCBA9876543210"
    s2c.keepAliveInterval = 10
    s2c.userAttribution = 1
    return request(INIT_CONNECT, serial, message)


def _keep_alive(message: Any) -> None:
    message.s2c.time = int(time.time())


def _global_state(message: Any) -> None:
    s2c = message.s2c
    for name in ("marketHK", "marketUS", "marketSH", "marketSZ", "marketHKFuture"):
        setattr(s2c, name, 3)
    s2c.qotLogined = s2c.trdLogined = True
    s2c.serverVer, s2c.serverBuildNo, s2c.time = 1011, 7108, int(time.time())


def _accounts(message: Any) -> None:
    for env, number, kind in ((0, ACCOUNT, 2), (1, REAL_ACCOUNT, 2)):
        account = message.s2c.accList.add()
        account.trdEnv, account.accID, account.accType = env, number, kind
        account.trdMarketAuthList.extend((1, US_TRADES))
        account.securityFirm = 1
        account.accStatus = 0
        if env == 0:
            account.simAccType = 1


def _static_info(message: Any, asked: Any) -> None:
    for security in asked.c2s.securityList:
        basic = message.s2c.staticInfoList.add().basic
        basic.security.CopyFrom(security)
        basic.id, basic.lotSize, basic.secType = 205_189, 1, 3
        basic.name, basic.listTime = security.code, "1980-12-12"
        basic.delisting, basic.exchType = False, 5


def _snapshot(message: Any, asked: Any) -> None:
    stamp = time.time()
    for security in asked.c2s.securityList:
        basic = message.s2c.snapshotList.add().basic
        basic.security.CopyFrom(security)
        basic.name, basic.type, basic.isSuspend = security.code, 3, False
        basic.listTime, basic.lotSize, basic.priceSpread = "1980-12-12", 1, 0.01
        basic.updateTime, basic.updateTimestamp = datetime.fromtimestamp(stamp).strftime("%Y-%m-%d %H:%M:%S"), stamp
        basic.highPrice, basic.openPrice, basic.lowPrice = PRICE + 1.5, PRICE - 0.4, PRICE - 2.25
        basic.lastClosePrice, basic.curPrice = PRICE - 0.75, PRICE
        basic.askPrice, basic.bidPrice, basic.askVol, basic.bidVol = PRICE + 0.01, PRICE - 0.01, 400, 300
        basic.volume, basic.turnover, basic.turnoverRate = 48_213_307, 8_690_447_211.5, 0.317
        basic.secStatus = 1


_CLASS_OF = {
    KEEP_ALIVE: "KeepAlive",
    GLOBAL_STATE: "GetGlobalState",
    ACCOUNTS: "Trd_GetAccList",
    PUSH_ACCOUNTS: "Trd_SubAccPush",
    POSITIONS: "Trd_GetPositionList",
    OPEN_ORDERS: "Trd_GetOrderList",
    FILLS: "Trd_GetOrderFillList",
    SUBSCRIBE: "Qot_Sub",
    REGISTER_PUSH: "Qot_RegQotPush",
    STATIC_INFO: "Qot_GetStaticInfo",
    SNAPSHOT: "Qot_GetSecuritySnapshot",
}


def other_reply(proto_id: int, serial: int, body: bytes) -> bytes:
    """The reply to what no load is made of; an id that is not answered here gets retType -1."""
    module = _CLASS_OF.get(proto_id)
    if module is None:
        message = filled("KeepAlive.Response")  # every Response begins with the same three fields
        message.retType, message.retMsg = -1, f"the bench upstream does not answer {proto_id}"
        return request(proto_id, serial, message)
    asked, message = filled(f"{module}.Request"), filled(f"{module}.Response")
    asked.ParseFromString(body)
    message.retType = 0
    message.s2c.SetInParent()
    if proto_id == KEEP_ALIVE:
        _keep_alive(message)
    elif proto_id == GLOBAL_STATE:
        _global_state(message)
    elif proto_id == ACCOUNTS:
        _accounts(message)
    elif proto_id == STATIC_INFO:
        _static_info(message, asked)
    elif proto_id == SNAPSHOT:
        _snapshot(message, asked)
    elif proto_id in (POSITIONS, OPEN_ORDERS, FILLS):
        message.s2c.header.CopyFrom(asked.c2s.header)
    return request(proto_id, serial, message)


class OrderReplies:
    """Answers 2202 with a fresh order id, and makes the 2208 push that tells of it."""

    def __init__(self) -> None:
        self._next = 7_000_000_000_001
        self._asked = filled("Trd_PlaceOrder.Request")
        self._reply = filled("Trd_PlaceOrder.Response")
        self._reply.retType = 0
        self._push = filled("Trd_UpdateOrder.Response")
        self._push.retType = 0
        order = self._push.s2c.order
        order.trdSide, order.orderType, order.orderStatus = 1, 1, 5
        order.code, order.name, order.secMarket = SYMBOLS[0], SYMBOLS[0], US_TRADES
        order.createTime = order.updateTime = "2025-01-02 10:31:07.482"
        order.fillQty, order.fillAvgPrice = 0.0, 0.0

    def answer(self, serial: int, body: bytes) -> tuple[bytes, bytes]:
        """The reply and the push (order status 5, Submitted)."""
        self._asked.ParseFromString(body)
        asked, order_id = self._asked.c2s, self._next
        self._next += 1
        self._reply.s2c.header.CopyFrom(asked.header)
        self._reply.s2c.orderID, self._reply.s2c.orderIDEx = order_id, f"FA{order_id}"
        self._push.s2c.header.CopyFrom(asked.header)
        order = self._push.s2c.order
        order.orderID, order.orderIDEx = order_id, f"FA{order_id}"
        order.qty, order.price, order.remark = asked.qty, asked.price, asked.remark
        return request(PLACE_ORDER, serial, self._reply), request(ORDER_PUSH, 0, self._push)
