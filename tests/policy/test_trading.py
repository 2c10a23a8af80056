"""Trading states: the strictest holds, and its words tell a key's holder what is meant for him."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sidecar.policy.trading import ACTIVE, Standing, TradingState, locked_told, strictest

SINCE = datetime(2026, 11, 20, 2, 41, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize("overall", TradingState)
@pytest.mark.parametrize("own", TradingState)
def test_the_strictest_holds_and_of_two_alike_that_of_all_trading_is_told(
    overall: TradingState, own: TradingState
) -> None:
    of_all, of_key = Standing(overall, None), Standing(own, "bot")
    found = strictest(of_all, of_key)
    assert found.state is max(overall, own)
    assert found is (of_key if own > overall else of_all)


def test_the_states_are_ordered_by_what_they_forbid() -> None:
    assert TradingState.ACTIVE < TradingState.REDUCING < TradingState.HALTED
    assert Standing(TradingState.ACTIVE, None, None, "", "") == ACTIVE


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        (
            Standing(TradingState.HALTED, None, SINCE, "fat finger", "key `ops`"),
            "trading is halted since 02:41 UTC: fat finger; only the owner can resume it, cancels still work",
        ),
        (
            Standing(TradingState.REDUCING, "bot", SINCE, "winding down", "the owner"),
            "trading under this key may only shrink positions since 02:41 UTC: winding down; "
            "only the owner can resume it, cancels still work",
        ),
        (
            Standing(TradingState.HALTED, "bot", None, "20 refusals in a row", "", "refusals"),
            "trading under this key is halted by the breaker refusals: 20 refusals in a row; "
            "only the owner can resume it, cancels still work",
        ),
    ],
)
def test_a_state_is_told_with_whose_it_is_since_when_and_why(standing: Standing, told: str) -> None:
    assert standing.told(NOW) == told


def test_what_holds_since_another_day_is_told_with_its_date_in_utc() -> None:
    since = datetime(2026, 11, 20, 2, 41, tzinfo=timezone(timedelta(hours=8)))  # the 19th in UTC
    told = Standing(TradingState.HALTED, None, since, "x").told(NOW)
    assert told.startswith("trading is halted since 2026-11-19 18:41 UTC: x;")


def test_the_day_of_now_is_that_of_utc_as_well() -> None:
    now = datetime(2026, 11, 21, 1, 0, tzinfo=timezone(timedelta(hours=8)))
    assert " since 02:41 UTC" in Standing(TradingState.HALTED, None, SINCE, "x").told(now)


def test_a_lock_of_a_client_of_its_own_is_told_with_the_way_out() -> None:
    assert locked_told(SINCE, NOW) == (
        "real trading under this key was locked by one of its own clients since 02:41 UTC;"
        " unlock it again to go on, cancels still work"
    )
