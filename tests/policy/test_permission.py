"""Which scopes open which permission, before any contents are read."""

from __future__ import annotations

from itertools import combinations

import pytest

from sidecar.policy.key import Scope
from sidecar.policy.permission import SCOPES, permits
from sidecar.wire.catalog import CATALOG, Permission


def test_every_permission_of_the_catalog_has_its_scopes_and_no_other_exists() -> None:
    assert set(SCOPES) == {permission.value for permission in Permission}


def test_an_unknown_permission_is_refused_to_every_key() -> None:
    assert not permits(frozenset(Scope), "everything")


@pytest.mark.parametrize("scope", [Scope.TRADE_SIMULATE, Scope.TRADE_REAL, Scope.TRADE_CANCEL])
def test_every_trade_scope_opens_what_the_sdk_does_around_an_order(scope: Scope) -> None:
    held = frozenset({scope})
    assert {one for one in SCOPES if permits(held, one)} >= {"any_key", "account_list", "own_orders", "trade"}
    assert not permits(held, "account")
    assert not permits(held, "quotes")


def test_admin_alone_trades_reads_and_unlocks_nothing() -> None:
    assert {one for one in SCOPES if permits(frozenset({Scope.ADMIN}), one)} == {"any_key", "connection", "admin"}


def test_only_admin_opens_what_is_for_admins() -> None:
    assert not permits(frozenset(Scope) - {Scope.ADMIN}, "admin")


def test_what_is_personal_takes_both_reading_scopes() -> None:
    assert permits(frozenset({Scope.QOT_READ, Scope.ACC_READ}), "personal")
    assert not permits(frozenset({Scope.QOT_READ}), "personal")
    assert not permits(frozenset(Scope) - {Scope.QOT_READ}, "personal")


def test_a_key_without_scopes_gets_only_what_every_key_gets() -> None:
    assert {one for one in SCOPES if permits(frozenset(), one)} == {"any_key", "connection"}


def test_one_more_scope_never_closes_anything() -> None:
    every = list(Scope)
    for size in range(len(every)):
        for held in map(frozenset, combinations(every, size)):
            for scope in every:
                for permission in SCOPES:
                    assert permits(held | {scope}, permission) or not permits(held, permission)


def test_a_quote_key_can_ask_for_nothing_that_names_an_account() -> None:
    open_to_it = [row for row in CATALOG.values() if permits(frozenset({Scope.QOT_READ}), row.permission.value)]
    assert all(row.acc_id_path is None for row in open_to_it)
