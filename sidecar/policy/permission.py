"""Which scopes cover which permission of the catalog, by a request's header alone; knows no ids and no contents."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sidecar.policy.key import Scope

_READ = frozenset({Scope.ACC_READ})
_TRADING = (frozenset({Scope.TRADE_SIMULATE}), frozenset({Scope.TRADE_REAL}), frozenset({Scope.TRADE_CANCEL}))

SCOPES: Mapping[str, tuple[frozenset[Scope], ...]] = MappingProxyType(
    {
        "any_key": (frozenset(),),
        "connection": (frozenset(),),
        "quotes": (frozenset({Scope.QOT_READ}),),
        "account": (_READ,),
        # the official SDK lists the accounts before it unlocks, before it trades and whenever it connects
        "account_list": (_READ, *_TRADING, frozenset({Scope.TRADE_UNLOCK})),
        "own_orders": (_READ, *_TRADING),
        "trade": _TRADING,
        "unlock": (frozenset({Scope.TRADE_REAL}), frozenset({Scope.TRADE_UNLOCK})),
        "admin": (frozenset({Scope.ADMIN}),),
        "personal": (frozenset({Scope.QOT_READ, Scope.ACC_READ}),),
    }
)
"""Permission → the sets of scopes of which one must be held whole. `admin` and `trade:unlock` trade nothing."""


def permits(scopes: frozenset[Scope], permission: str) -> bool:
    """Whether a key with these scopes may send (or be pushed) what needs `permission`, as far as the header tells.

    A necessary check, not a sufficient one: environment, account and contents are `decide`'s. An unknown permission
    is refused.
    """
    return any(needed <= scopes for needed in SCOPES.get(permission, ()))
