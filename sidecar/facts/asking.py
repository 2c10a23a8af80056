"""How facts are asked from OpenD: the one call they need, and its refusals. Opens no connection, keeps nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from sidecar.policy.usage import Account
from sidecar.wire.messages import message_class


class House(Protocol):
    """The house connection as the facts see it."""

    async def ask(self, proto_id: int, request: Message, *, timeout: float) -> Message:
        """Send one request and return the parsed Response, whose retType may say no.

        `timeout` is in seconds. Raises UpstreamError when OpenD is away, full, or did not answer in that time.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rejected:
    """OpenD answered, and the answer is no (retType other than 0). `message` is OpenD's own text."""

    message: str


async def ask_about(
    house: House, account: Account, proto_id: int, request: Any, *, timeout: float, trd_market: int = 0
) -> Any | Rejected:
    """OpenD's whole answer to a request about one account, which is addressed here; Rejected where it says no, or speaks of
    another account. Raises UpstreamError. Any: as `new`.
    """
    if not trd_market and not account.markets:
        return Rejected("the account has no market")
    address(request.c2s.header, account, trd_market)
    reply: Any = await house.ask(proto_id, request, timeout=timeout)
    if (refused := rejection(reply)) is not None:
        return refused
    told = reply.s2c.header
    if told.accID != account.acc_id or told.trdEnv != int(account.env):
        return Rejected(f"the answer is about account {told.accID}")
    return reply


def address(header: Any, account: Account, trd_market: int = 0) -> None:
    """Fill in a TrdHeader. As the SDKs write it, the account's first market, which there must be, stands for all of them."""
    header.trdEnv, header.accID = int(account.env), account.acc_id
    header.trdMarket = trd_market or min(account.markets)


def new(full_name: str) -> Any:
    """An empty message by name (`Qot_GetStaticInfo.Request`). Any: the generated classes carry no usable types."""
    return message_class(full_name)()


def rejection(reply: Any) -> Rejected | None:
    """None when the reply is a success with a body (protocol facts, section 6)."""
    if reply.retType == 0 and reply.HasField("s2c"):
        return None
    return Rejected(str(reply.retMsg) or f"retType {reply.retType}")
