"""How settings differ, and which of the differences can hold while the sidecar runs."""

from __future__ import annotations

import dataclasses
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import load_settings
from sidecar.listener_settings import Listeners, RestListener, TcpListener
from sidecar.setting_changes import CHANGEABLE, changeable, changes, taken_over
from sidecar.settings import Audit, Breakers, Fx, Keys, Log, Policy, Settings, Upstream, surface

RATES = Fx(date(2026, 11, 20), "HKD", {"USD": 7.78})  # type: ignore[arg-type]  # as the file has it


def told(before: Settings, after: Settings) -> list[str]:
    return [str(one) for one in changes(before, after)]


def test_settings_that_are_the_same_differ_in_nothing() -> None:
    assert changes(Settings(), load_settings(None, {})) == ()


def test_a_difference_is_named_as_the_file_names_it_with_both_values() -> None:
    after = Settings(
        upstream=Upstream(rsa_key=Path("/k.pem")),
        policy=Policy(fx=RATES, day_rolls_at=time(17, 30), tag_orders=False, price_buffer_pct=Decimal("2.5")),
    )
    assert told(Settings(), after) == [
        "upstream.rsa_key: null → /k.pem",
        "policy.price_buffer_pct: 5 → 2.5",
        "policy.fx.as_of: null → 2026-11-20",
        "policy.fx.base: null → HKD",
        "policy.fx.rates: [] → {USD: 7.78}",
        "policy.day_rolls_at: 00:00 → 17:30",
        "policy.tag_orders: true → false",
    ]


def test_listeners_are_told_one_by_one() -> None:
    before = Settings(listeners=Listeners(tcp=(TcpListener(), TcpListener(port=2)), mcp=None))
    after = Settings(listeners=Listeners(tcp=(TcpListener(), TcpListener(port=3)), rest=None))
    assert told(before, after) == [
        "listeners.tcp[1].port: 2 → 3",
        "listeners.rest: open → off",
        "listeners.mcp: off → open",
    ]
    fewer = Settings(listeners=Listeners(tcp=(TcpListener(),), mcp=None))
    assert told(before, fewer) == ["listeners.tcp: 2 open → 1 open"]
    assert told(fewer, Settings(listeners=Listeners(tcp=(), mcp=None))) == ["listeners.tcp: 1 open → off"]


def test_what_can_change_is_taken_over_and_the_rest_stays() -> None:
    wanted = Settings(
        keys=Keys(file=Path("/other.json"), stale_keys_max=1),
        audit=Audit(reads=True, min_free="1 GiB", file=Path("/a")),  # type: ignore[arg-type]  # as the file has it
        listeners=Listeners(rest=RestListener(port=1)),
        policy=Policy(fx=RATES, quote_max_age=1, tag_orders=False),
        breakers=Breakers(refusals_in_a_row=5),
        drain=1,
        log=Log(level="debug", json=True),
    )
    after = taken_over(Settings(), wanted)
    assert [one.setting for one in changes(Settings(), after)] == [
        "keys.stale_keys_max",
        "audit.min_free",
        "audit.reads",
        "policy.fx.as_of",
        "policy.fx.base",
        "policy.fx.rates",
        "policy.tag_orders",
        "drain",
        "breakers.refusals_in_a_row",
        "log.level",
    ]
    assert [one.setting for one in changes(after, wanted)] == [
        "keys.file",
        "audit.file",
        "listeners.rest.port",
        "policy.quote_max_age",
        "log.json",
    ]


def test_every_changeable_setting_exists() -> None:
    known = surface()
    for section, names in CHANGEABLE.items():
        assert set(names) <= set(known[section] if section else known)
    assert changeable("policy.fx.rates")
    assert changeable("breakers.daily_loss")
    assert changeable("drain")
    for name in ("policy.day_zone", "listeners.tcp[0].port", "upstream.port", "quarantine", "drain.x", "fx", "policy"):
        assert not changeable(name), name


def some(section: type[Any], **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=values).map(lambda given: section(**given))


SETTINGS = some(
    Settings,
    upstream=some(Upstream, port=st.integers(1, 9), max_connections=st.integers(8, 10)),
    keys=some(Keys, stale_keys_max=st.sampled_from([0.0, 5.0])),
    audit=some(Audit, reads=st.booleans(), min_free=st.integers(1024, 1026)),
    listeners=some(Listeners, rest=st.none(), tcp=st.sampled_from([(), (TcpListener(port=1),)])),
    policy=some(Policy, fx=st.sampled_from([Fx(), RATES]), tag_orders=st.booleans(), quote_max_age=st.sampled_from([1.0, 2.0])),
    breakers=some(Breakers, refusals_in_a_row=st.integers(2, 3), identical_window=st.sampled_from([1.0, 2.0])),
    drain=st.sampled_from([0.0, 1.0]),
    log=some(Log, level=st.sampled_from(["info", "error"]), json=st.booleans()),
)  # fmt: skip


@given(SETTINGS, SETTINGS)
def test_every_difference_holds_at_once_or_needs_a_restart_and_none_is_both(
    running: Settings, wanted: Settings
) -> None:
    after = taken_over(running, wanted)
    assert all(changeable(one.setting) for one in changes(running, after))
    assert not any(changeable(one.setting) for one in changes(after, wanted))
    assert {one.setting for one in changes(running, wanted)} == {
        one.setting for one in (*changes(running, after), *changes(after, wanted))
    }
    assert taken_over(after, wanted) == after


def test_a_plaintext_key_that_got_into_a_setting_is_not_told() -> None:
    secret = "fc_" + "a1" * 16
    after = dataclasses.replace(Settings(), state_dir=Path(f"/srv/{secret}"))
    assert secret not in told(Settings(), after)[0]
