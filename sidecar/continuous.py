"""Continuous futures codes (`HSImain`) become the contract they stand for, in the request itself, before it is judged.

OpenD would do the same after the decision: then a whitelist, a cap or a holding would have looked at something else than
what is traded. Where the contract is not known the request stays as it is, and is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from sidecar.errors import BodyError
from sidecar.intents.model import Intent, PlaceCombo, PlaceOrder, Security
from sidecar.intents.read import read

ContractOf = Callable[[Security], Awaitable[Security | None]]


def is_continuous(intent: Intent | None) -> bool:
    """Whether it places an order in what is not a contract yet."""
    return any(security.continuous for security in _securities(intent))


async def with_contracts(
    proto_id: int, message: Message, intent: Intent, contract_of: ContractOf
) -> tuple[Message, Intent]:
    """The request as it is to be judged and forwarded.

    INVARIANT: what is judged is read from what is forwarded: the intent is that of the new message, read anew.
    """
    contracts = [await contract_of(security) if security.continuous else security for security in _securities(intent)]
    named: Any = type(message)()
    named.CopyFrom(message)
    codes = [named.c2s] if isinstance(intent, PlaceOrder) else [leg.security for leg in named.c2s.comboLegs]
    for holder, contract in zip(codes, contracts, strict=True):
        if contract is None:
            return message, intent
        holder.code = contract.code
    try:
        return named, read(proto_id, named)
    except BodyError:  # two legs that name one contract by two names
        return message, intent


def _securities(intent: Intent | None) -> tuple[Security, ...]:
    if isinstance(intent, PlaceOrder):
        return (intent.security,)
    return tuple(leg.security for leg in intent.legs) if isinstance(intent, PlaceCombo) else ()
