"""Logins at the operator's page: how long they last, where they hold, and how many there may be; and the words of the page."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.grants import Caller
from sidecar.listeners.operator import view
from sidecar.listeners.operator.sessions import LASTS, MOST, TOLD_FOR, Sessions

OPS = Caller("admin", "ops", "127.0.0.1", b"digest")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(clock)


def test_a_session_ends_after_its_time_however_often_it_is_used(sessions: Sessions, clock: Clock) -> None:
    cookie, made = sessions.begin(OPS)
    for _ in range(10):
        clock.now += LASTS / 10 - 0.1
        assert sessions.of(cookie, "127.0.0.1") is made
    clock.now += 1.1
    assert sessions.of(cookie, "127.0.0.1") is None


def test_a_cookie_at_another_address_is_none(sessions: Sessions) -> None:
    cookie, _ = sessions.begin(OPS)
    assert sessions.of(cookie, "10.0.0.9") is None
    assert sessions.of(cookie, "127.0.0.1") is not None


@pytest.mark.parametrize("cookie", [None, "", "x", "ops", "\udcff"])
def test_a_cookie_that_was_never_given_is_none(sessions: Sessions, cookie: str | None) -> None:
    sessions.begin(OPS)
    assert sessions.of(cookie, "127.0.0.1") is None


def test_every_session_has_a_cookie_and_a_token_of_its_own(sessions: Sessions) -> None:
    begun = [sessions.begin(OPS) for _ in range(20)]
    assert len({cookie for cookie, _ in begun} | {made.token for _, made in begun}) == 40
    (_, one), (_, other) = begun[:2]
    assert one.owns(one.token) and not one.owns(other.token) and not one.owns("") and not one.owns("\udcff")


def test_the_oldest_gives_way_and_those_that_ended_take_no_place(sessions: Sessions, clock: Clock) -> None:
    first, _ = sessions.begin(OPS)
    cookies = [sessions.begin(OPS)[0] for _ in range(MOST)]
    assert len(sessions) == MOST
    assert sessions.of(first, "127.0.0.1") is None and sessions.of(cookies[-1], "127.0.0.1") is not None
    clock.now += LASTS
    sessions.begin(OPS)
    assert len(sessions) == 1


def test_an_ended_session_is_gone_at_once(sessions: Sessions) -> None:
    cookie, _ = sessions.begin(OPS)
    sessions.end(cookie)
    sessions.end(cookie)
    sessions.end(None)
    assert sessions.of(cookie, "127.0.0.1") is None


def test_what_came_of_a_click_is_told_for_a_while(sessions: Sessions, clock: Clock) -> None:
    _, made = sessions.begin(OPS)
    assert made.told(clock.now) is None
    made.tell(clock.now, "all trading is HALTED", good=True)
    assert made.told(clock.now + TOLD_FOR) == ("all trading is HALTED", True)
    assert made.told(clock.now + TOLD_FOR + 1) is None


# -- the words --------------------------------------------------------------------------------------------------------


def key(
    *, orders: tuple[int, int | None] = (0, None), used: dict[str, str] | None = None, limit: str | None = None
) -> Any:
    return {
        "cap_currency": None,
        "orders_per_minute": {"used": orders[0], "limit": orders[1]},
        "open_orders": {"used": 2, "limit": None},
        "daily_value": {"used": used or {}, "limit": limit},
    }


@pytest.mark.parametrize(
    ("used", "limit", "percent", "level"),
    [(0, 5, 0, "low"), (3, 5, 60, "low"), (4, 5, 80, "high"), (5, 5, 100, "full"), (9, 5, 100, "full"), (1, 0, 100, "full"),
     (1, None, None, "none")],
)  # fmt: skip
def test_a_bar_shows_how_much_of_a_limit_is_used(used: int, limit: int | None, percent: int | None, level: str) -> None:
    bar = next(view.bars(key(orders=(used, limit))))
    assert (bar.percent, bar.level) == (percent, level)


def test_the_value_of_the_day_has_a_bar_for_each_currency() -> None:
    found = list(view.bars(key(used={"HKD": "89900.00", "USD": "1500.50"}, limit="200000")))[2:]
    assert [(bar.text, bar.percent) for bar in found] == [("89,900 of 200,000 HKD", 44), ("1,500.5 of 200,000 USD", 0)]


def test_a_key_that_used_nothing_shows_its_limit_all_the_same() -> None:
    assert [bar.text for bar in view.bars(key(limit="200000"))][2:] == ["0 of 200,000"]
    assert [bar.text for bar in view.bars(key())] == ["0", "2", "0"]


def test_a_refused_order_is_told_in_short() -> None:
    refusal = {"side": "BUY", "qty": "100", "symbol": "HK.00700", "price": "300"}
    assert view.order_of(refusal) == "BUY 100 HK.00700 at 300"
    assert view.order_of({**refusal, "price": None}) == "BUY 100 HK.00700"
    assert view.order_of({**refusal, "symbol": None}) == ""
