"""The account list: what is asked, how answers are merged, and when it is asked again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from facts_house import FakeClock, FakeHouse

from sidecar.errors import UpstreamError
from sidecar.facts.accounts import Accounts
from sidecar.intents.model import TrdEnv
from sidecar.policy.usage import Account

Row = tuple[int, int, tuple[int, ...]]


class AccountHouse(FakeHouse):
    """`rows[(general, category)]`: (acc_id, env, markets); `refused` ways to ask are refused."""

    def __init__(self, rows: dict[tuple[bool, int | None], list[Row]]) -> None:
        super().__init__(self._fill)
        self.rows = rows
        self.refused: set[tuple[bool, int | None]] = set()

    @staticmethod
    def way(request: Any) -> tuple[bool, int | None]:
        c2s = request.c2s
        return c2s.needGeneralSecAccount, c2s.trdCategory if c2s.HasField("trdCategory") else None

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        self.refuse_all = "not opened" if self.way(request) in self.refused else None
        return await super().ask(proto_id, request, timeout=timeout)

    def _fill(self, _proto_id: int, request: Any, s2c: Any) -> None:
        for acc_id, env, markets in self.rows.get(self.way(request), []):
            s2c.accList.add(trdEnv=env, accID=acc_id, trdMarketAuthList=markets)


BIG = 281_756_455_988_247_915


def house() -> AccountHouse:
    return AccountHouse(
        {
            (True, None): [(BIG, 1, (1,))],
            (True, 1): [(BIG, 1, (1, 2)), (11, 0, (1,))],
            (True, 2): [(22, 0, (10,))],
            (True, 3): [(33, 1, (7,))],
            (False, 1): [(44, 1, (2,))],
        }
    )


async def test_the_list_holds_every_account_any_way_of_asking_shows_with_its_markets_joined() -> None:
    accounts = Accounts(house())
    assert not accounts.loaded
    await accounts.refresh()
    assert accounts.loaded
    assert accounts.all_ids() == {BIG, 11, 22, 33, 44}
    assert accounts.get(BIG) == Account(BIG, TrdEnv.REAL, frozenset({1, 2}))
    assert accounts.get(11) == Account(11, TrdEnv.SIMULATE, frozenset({1}))
    assert accounts.get(5) is None


async def test_it_asks_for_every_category_with_and_without_general_accounts() -> None:
    asked = house()
    await Accounts(asked).refresh()
    assert {asked.way(request) for request in asked.requests} == {
        (general, category) for general in (True, False) for category in (None, 1, 2, 3)
    }


@pytest.mark.parametrize("env", [2, -1])
async def test_an_account_of_an_environment_nobody_knows_is_left_out(env: int) -> None:
    asked = house()
    asked.rows[(True, 1)].append((99, env, (1,)))
    accounts = Accounts(asked)
    await accounts.refresh()
    assert accounts.get(99) is None


@pytest.mark.parametrize("first", [0, 1])
async def test_an_account_reported_as_paper_and_as_real_is_left_out(first: int) -> None:
    asked = house()
    asked.rows[(True, 2)].append((99, first, (1,)))
    asked.rows[(True, 3)].append((99, 1 - first, (1,)))
    asked.rows[(False, 3)] = [(99, first, (1,))]  # a third report does not bring it back
    accounts = Accounts(asked)
    await accounts.refresh()
    assert accounts.get(99) is None
    assert accounts.get(33) is not None


async def test_a_category_that_is_refused_once_takes_no_known_account_away() -> None:
    asked = house()
    accounts = Accounts(asked)
    await accounts.refresh()
    asked.refused = {(True, 3)}
    await accounts.refresh()
    assert 33 in accounts.all_ids()
    asked.refused = set()
    asked.rows[(True, 3)] = []
    await accounts.refresh()
    assert 33 not in accounts.all_ids()


async def test_an_account_that_became_unclear_is_left_out_even_when_the_list_is_incomplete() -> None:
    asked = house()
    accounts = Accounts(asked)
    await accounts.refresh()
    asked.refused = {(True, 3)}
    asked.rows[(True, 2)].append((11, 1, (1,)))
    await accounts.refresh()
    assert accounts.get(11) is None


async def test_when_every_way_is_refused_the_refresh_fails_and_the_last_list_stays() -> None:
    asked = house()
    accounts = Accounts(asked)
    await accounts.refresh()
    asked.refused = {(general, category) for general in (True, False) for category in (None, 1, 2, 3)}
    with pytest.raises(UpstreamError, match="not opened"):
        await accounts.refresh()
    assert accounts.get(11) is not None


async def test_a_slow_opend_fails_the_refresh_in_time() -> None:
    asked = house()
    asked.delay = 0.02
    accounts = Accounts(asked, timeout=0.05)
    started = asyncio.get_running_loop().time()
    with pytest.raises(UpstreamError):
        await accounts.refresh()
    assert asyncio.get_running_loop().time() - started < 0.5
    assert not accounts.loaded


async def test_the_list_becomes_stale_with_age() -> None:
    clock = FakeClock()
    accounts = Accounts(house(), max_age=300.0, clock=clock)
    assert accounts.stale
    await accounts.refresh()
    clock.now += 299.0
    assert not accounts.stale
    clock.now += 1.0
    assert accounts.stale
    assert accounts.get(11) is not None


async def test_unknown_ids_asked_for_together_share_one_refresh() -> None:
    asked = house()
    asked.delay = 0.001
    accounts = Accounts(asked, clock=FakeClock())
    found = await asyncio.gather(*(accounts.ensure(acc_id) for acc_id in (11, 22, 5, 6, 7)))
    assert [account is not None for account in found] == [True, True, False, False, False]
    assert len(asked.asked) == 8


async def test_naming_unknown_accounts_again_and_again_asks_opend_once_in_a_while() -> None:
    asked, clock = house(), FakeClock()
    accounts = Accounts(asked, retry_after=5.0, clock=clock)
    for acc_id in range(1000, 1050):
        assert await accounts.ensure(acc_id) is None
    assert len(asked.asked) == 8
    asked.rows[(True, 1)].append((1000, 0, (1,)))
    assert await accounts.ensure(1000) is None
    clock.now += 5.0
    assert await accounts.ensure(1000) is not None
    assert len(asked.asked) == 16


async def test_a_known_account_is_never_asked_for() -> None:
    asked, clock = house(), FakeClock()
    accounts = Accounts(asked, clock=clock)
    await accounts.refresh()
    clock.now += 10_000.0
    assert await accounts.ensure(11) is not None
    assert len(asked.asked) == 8


async def test_an_unknown_account_is_none_when_opend_is_away() -> None:
    asked = house()
    asked.away = True
    assert await Accounts(asked).ensure(11) is None
