"""keys.json as people write it: what loads, and what every refusal says."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import BodyError, ConfigError
from sidecar.intents.markets import security_of_order
from sidecar.intents.model import OrderType, Side
from sidecar.keys import fields
from sidecar.keys.file import LARGEST_FILE, load
from sidecar.keys.secret import hash_of, ws_hash_of
from sidecar.policy.key import HoursWindow, Key, Scope

HASH = hash_of("fc_" + "a" * 64)
UTC_ZONE = ZoneInfo("UTC")


def record(**fields: Any) -> dict[str, Any]:
    return {"id": "bot", "hash": HASH, "scopes": ["qot:read"], **fields}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "keys.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(0o600)
    return path


def file_of(*records: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "keys": list(records)}


def key_of(tmp_path: Path, **fields: Any) -> Key:
    return load(written(tmp_path, file_of(record(**fields))), UTC_ZONE).records[0].key


def refusal(tmp_path: Path, content: object, zone: ZoneInfo | None = UTC_ZONE) -> str:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, content), zone)
    return str(refused.value)


def refused(tmp_path: Path, **fields: Any) -> str:
    return refusal(tmp_path, file_of(record(**fields)))


# -- what loads --------------------------------------------------------------------------------------------------


def test_the_shortest_record_has_no_limits(tmp_path: Path) -> None:
    assert key_of(tmp_path) == Key(id="bot", scopes=frozenset({Scope.QOT_READ}))


def test_a_record_in_the_form_another_gateway_writes_loads(tmp_path: Path) -> None:
    key = key_of(
        tmp_path,
        hash=f"sha256:{HASH}",
        scopes=["trade:simulate", "acc:read", "qot:read"],
        allowed_markets=["US", "HK"],
        max_order_value=100000.0,
        max_daily_value=500000.0,
        hours_window="09:00-16:30",
        max_orders_per_minute=10,
        created_at="2026-04-22T12:12:39.277030927Z",
        expires_at=None,
        note="...",
    )
    assert key.max_order_value == Decimal("100000.0")
    assert key.hours_window == (HoursWindow(time(9, 0), time(16, 30)),)
    assert key.created_at is not None
    assert key.created_at.replace(microsecond=0) == datetime(2026, 4, 22, 12, 12, 39, tzinfo=UTC)


LIMITS: dict[str, Any] = {
    "allowed_markets": ["HK", "CN"],
    "allowed_symbols": ["US.AAPL", "US.*", "US.AAPL@options", "SH.600519", "HK.00700"],
    "allowed_trd_sides": ["BUY", "SELL_SHORT"],
    "allowed_acc_ids": [281756455983234027],
    "max_order_value": 2500.5,
    "max_daily_value": 10000,
    "max_position_value": 20000.25,
    "cap_currency": "HKD",
    "max_orders_per_minute": 5,
    "max_open_orders": 3,
    "allowed_order_types": ["NORMAL", "STOP_LIMIT"],
    "max_order_qty": 0.5,
    "price_collar_pct": 2.5,
    "duplicate_window_s": 10,
    "trading_hours": True,
    "extended_hours": False,
    "allow_short": False,
    "cancel_on_disconnect": 60,
    "hours_window": ["09:30-12:00", "22:00-04:00"],
    "timezone": "Asia/Hong_Kong",
}


def trader_of(tmp_path: Path, **fields: Any) -> Key:
    return key_of(tmp_path, **{"scopes": ["trade:simulate"], **fields})


def test_flat_and_nested_limits_mean_the_same(tmp_path: Path) -> None:
    flat = trader_of(tmp_path, **LIMITS)
    assert trader_of(tmp_path, limits=LIMITS) == flat
    assert flat.allowed_trd_sides == frozenset({Side.BUY, Side.SELL_SHORT})
    assert flat.zone == ZoneInfo("Asia/Hong_Kong")
    assert flat.allowed_order_types == frozenset({OrderType.NORMAL, OrderType.STOP_LIMIT})
    assert (flat.max_order_qty, flat.price_collar_pct) == (Decimal("0.5"), Decimal("2.5"))
    assert (flat.duplicate_window_s, flat.extended_hours, flat.allow_short) == (10, False, False)
    assert (flat.max_position_value, flat.cap_currency, flat.max_open_orders) == (Decimal("20000.25"), "HKD", 3)
    assert (flat.trading_hours, flat.cancel_on_disconnect) == (True, 60)


@pytest.mark.parametrize(("written", "read"), [(True, 30), (15, 15), (3600, 3600), (False, None), (None, None)])
def test_how_long_a_client_may_be_gone_is_30_seconds_unless_it_is_said(
    tmp_path: Path, written: object, read: int | None
) -> None:
    assert trader_of(tmp_path, cancel_on_disconnect=written).cancel_on_disconnect == read


@pytest.mark.parametrize("scopes", [["qot:read", "acc:read", "admin"], ["trade:cancel"], ["trade:unlock"]])
def test_a_key_without_orders_has_none_to_cancel_when_its_client_is_gone(tmp_path: Path, scopes: list[str]) -> None:
    said = "field `cancel_on_disconnect`: cancels the key's own orders, and a key without a trade scope has none; remove it"
    assert said in refused(tmp_path, scopes=scopes, cancel_on_disconnect=True)
    assert key_of(tmp_path, scopes=scopes, cancel_on_disconnect=False).cancel_on_disconnect is None


@pytest.mark.parametrize("code", ["HKD", "USD", "CNH", "JPY", "SGD", "AUD", "CAD", "MYR", "NZD"])
def test_caps_may_be_in_any_currency_of_opend(tmp_path: Path, code: str) -> None:
    assert key_of(tmp_path, cap_currency=code).cap_currency == code


@pytest.mark.parametrize("limit", ["max_order_value", "max_daily_value", "max_position_value"])
def test_under_any_amount_an_order_is_valued(limit: str) -> None:
    assert Key("bot", frozenset(), **{limit: Decimal(1)}).value_capped
    assert not Key("bot", frozenset(), max_order_qty=Decimal(1), max_open_orders=1, cap_currency="HKD").value_capped


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_may_stand_on_either_side_of_the_others(tmp_path: Path, name: str) -> None:
    rest = {other: value for other, value in LIMITS.items() if other != name}
    whole = trader_of(tmp_path, **LIMITS)
    assert trader_of(tmp_path, limits={name: LIMITS[name]}, **rest) == whole
    assert trader_of(tmp_path, limits=rest, **{name: LIMITS[name]}) == whole


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_written_in_both_layouts_is_refused(tmp_path: Path, name: str) -> None:
    text = refused(tmp_path, limits={name: LIMITS[name]}, **{name: None})
    assert f"key `bot`, field `{name}`: stands both on the record and in `limits`; keep one of them" in text


def test_null_means_absent_for_every_optional_field(tmp_path: Path) -> None:
    optional = [*LIMITS, "ws_hash", "created_at", "expires_at", "note", "allowed_machines", "allowed_ips", "limits"]
    assert key_of(tmp_path, **dict.fromkeys(optional)) == key_of(tmp_path)


def test_amounts_are_kept_exactly_as_written(tmp_path: Path) -> None:
    text = json.dumps(file_of(record())).replace('"scopes"', '"max_order_value": 0.1000000000000000055, "scopes"')
    key = load(written(tmp_path, text), None).records[0].key
    assert key.max_order_value == Decimal("0.1000000000000000055")


@given(st.decimals(min_value="0.01", max_value="1e15", places=2))
def test_any_sensible_cap_survives_the_file_without_rounding(
    tmp_path_factory: pytest.TempPathFactory, cap: Decimal
) -> None:
    text = json.dumps(file_of(record())).replace('"scopes"', f'"max_daily_value": {cap:f}, "scopes"')
    key = load(written(tmp_path_factory.mktemp("keys"), text), None).records[0].key
    assert key.max_daily_value == cap


def test_an_empty_list_of_machines_is_a_frozen_key(tmp_path: Path) -> None:
    assert key_of(tmp_path, allowed_machines=[]).frozen


def test_the_revision_is_the_hash_of_the_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, file_of(record()))
    first = load(path, None).revision
    path.write_text(path.read_text() + "\n")
    assert len(first) == 64
    assert load(path, None).revision != first


def test_a_file_without_keys_loads(tmp_path: Path) -> None:
    assert load(written(tmp_path, file_of()), None).records == ()


def test_24_00_ends_a_day(tmp_path: Path) -> None:
    assert key_of(tmp_path, hours_window="09:30-24:00").hours_window == (HoursWindow(time(9, 30), time(0, 0)),)


def test_addresses_are_normalised(tmp_path: Path) -> None:
    key = key_of(tmp_path, allowed_ips=["127.0.0.1", "10.0.0.0/24", "FD00::/8", "127.0.0.1/32"])
    assert key.allowed_ips == ("127.0.0.1/32", "10.0.0.0/24", "fd00::/8")


# -- zones -------------------------------------------------------------------------------------------------------


def test_hours_are_read_in_the_zone_of_the_record(tmp_path: Path) -> None:
    assert key_of(tmp_path, hours_window="09:30-16:00", timezone="America/New_York").zone == ZoneInfo(
        "America/New_York"
    )


def test_hours_without_a_zone_take_the_default_and_warn(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, file_of(record(hours_window="09:30-16:00"))), ZoneInfo("Asia/Tokyo"))
    assert loaded.records[0].key.zone == ZoneInfo("Asia/Tokyo")
    assert "hours_window but no timezone" in loaded.warnings[0]
    assert "Asia/Tokyo" in loaded.warnings[0]


def test_hours_that_nobody_can_place_are_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, file_of(record(hours_window="09:30-16:00")), zone=None)
    assert "key `bot`, field `hours_window`: hours in which zone?" in text


def test_no_zone_is_needed_without_hours(tmp_path: Path) -> None:
    assert load(written(tmp_path, file_of(record())), None).records[0].key.zone is None


# -- what is refused ---------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_order_valeu": 1}, "field `max_order_valeu`: unknown field; did you mean `max_order_value`?"),
    ({"xyzzy": 1}, "field `xyzzy`: unknown field; remove it"),
    (
        {"limits": {"max_order_valu": 1}},
        "field `limits.max_order_valu`: unknown field; did you mean `max_order_value`?",
    ),
    ({"limits": {"allowed_machines": []}}, "field `limits.allowed_machines`: does not belong into `limits`"),
    ({"limits": [1]}, "field `limits`: `[...]` is not an object"),
    ({"require_signature": True}, "field `require_signature`: is a rule this version does not enforce yet; remove it"),
    ({"allowed_card_nums": ["1234"]}, "field `allowed_card_nums`: is not supported; use allowed_acc_ids"),
    ({"id": ""}, "field `id`"),
    ({"id": "a b"}, "`a b` is not a usable id"),
    ({"id": 5}, "`5` is not text"),
    ({"note": "half \ud800"}, "holds half a character"),
    ({"hash": "abc"}, "field `hash`: is not 64 hex digits"),
    ({"hash": None}, "field `hash`: must be text"),
    ({"scopes": []}, "field `scopes`: the list is empty: it would allow nothing"),
    ({"scopes": "qot:read"}, "field `scopes`: `qot:read` is not a list"),
    ({"scopes": ["qot:reed"]}, "unknown scope `qot:reed` (valid: qot:read, acc:read, trade:simulate, trade:real,"),
    ({"scopes": ["trade:reel"]}, "did you mean `trade:real`?"),
    ({"scopes": [True]}, "`true` is not text"),
    ({"allowed_markets": []}, "the list is empty: would it allow nothing, or everything? ambiguous: remove the field"),
    ({"allowed_symbols": []}, "the list is empty"),
    ({"allowed_trd_sides": []}, "the list is empty"),
    ({"allowed_acc_ids": []}, "the list is empty"),
    ({"allowed_ips": []}, "the list is empty"),
    ({"hours_window": []}, "the list is empty"),
    ({"limits": {"allowed_markets": []}}, "field `allowed_markets`: the list is empty"),
    ({"allowed_markets": ["hk"]}, "unknown market `hk` (valid: HK, US, CN, HKCC"),
    ({"allowed_markets": ["SH"]}, "write `CN`"),
    ({"allowed_markets": "HK"}, "`HK` is not a list"),
    ({"allowed_symbols": ["AAPL"]}, "symbol `AAPL` has no market"),
    ({"allowed_symbols": ["*"]}, "symbol `*` has no market"),
    ({"allowed_symbols": ["US.AA*"]}, "has a `*` that does not stand alone; write `US.*`"),
    ({"allowed_symbols": ["US.*@options"]}, "has a `*` that does not stand alone"),
    ({"allowed_symbols": ["US.AAPL@option"]}, "only `@options` exists"),
    ({"allowed_symbols": ["us.AAPL"]}, "write `US.AAPL`"),
    ({"allowed_symbols": ["US.aapl"]}, "write `US.AAPL`"),
    ({"allowed_symbols": ["US."]}, "has no usable code"),
    ({"allowed_symbols": ["US.AAPL "]}, "has no usable code"),
    ({"allowed_symbols": ["HK.700"]}, "write `HK.00700`"),
    ({"allowed_symbols": ["HK.000700"]}, "stocks have 5 digits"),
    ({"allowed_symbols": ["CN.600519"]}, "write `SH.600519` or `SZ.600519`"),
    ({"allowed_symbols": ["HKCC.600519"]}, "write `SH.600519` or `SZ.600519`"),
    ({"allowed_symbols": ["SH.60051"]}, "they have 6 digits"),
    ({"allowed_symbols": ["SZ.٠٠٠٠٠١"]}, "has no usable code"),
    (
        {"allowed_trd_sides": ["buy"]},
        "unknown side `buy` (valid: BUY, SELL, SELL_SHORT, BUY_BACK); did you mean `BUY`?",
    ),
    ({"allowed_acc_ids": [True]}, "`true` is not an account id"),
    ({"allowed_acc_ids": ["123"]}, "write whole numbers without quotes"),
    ({"allowed_acc_ids": [0]}, "`0` is not an account id"),
    ({"allowed_acc_ids": [1.5]}, "`1.5` is not an account id"),
    ({"allowed_acc_ids": [2**64]}, "between 1 and 2^64 - 1"),
    ({"max_order_value": 0}, "`0` is not over 0"),
    ({"max_order_value": -1}, "`-1` is not over 0"),
    ({"max_order_value": True}, "`true` is not a number"),
    ({"max_order_value": "100"}, "`100` is not a number"),
    ({"max_daily_value": 1e16}, "is absurd"),
    ({"max_daily_value": 1e-9}, "is absurd"),
    ({"max_orders_per_minute": 0}, "`0` is not between 1 and"),
    ({"max_orders_per_minute": 1.5}, "`1.5` is not a whole number"),
    ({"max_orders_per_minute": True}, "`true` is not a whole number"),
    ({"allowed_order_types": []}, "the list is empty"),
    ({"allowed_order_types": ["LIMIT"]}, "unknown order type `LIMIT` (valid: NORMAL, MARKET,"),
    ({"allowed_order_types": ["LIMIT"]}, "a plain limit order is `NORMAL`"),
    ({"allowed_order_types": ["market"]}, "did you mean `MARKET`?"),
    ({"allowed_order_types": [2]}, "`2` is not text"),
    ({"allowed_order_types": "MARKET"}, "`MARKET` is not a list"),
    ({"max_order_qty": 0}, "`0` is not over 0"),
    ({"max_order_qty": "100"}, "write a quantity like 100 or 0.5"),
    ({"max_order_qty": True}, "`true` is not a number"),
    ({"price_collar_pct": 0}, "`0` is not a percentage over 0 and up to 100"),
    ({"price_collar_pct": 100.01}, "`100.01` is not a percentage over 0 and up to 100"),
    ({"price_collar_pct": "5%"}, "write a percentage like 5 or 2.5"),
    ({"duplicate_window_s": 0}, "`0` is not between 1 and 86400 seconds"),
    ({"duplicate_window_s": 86401}, "`86401` is not between 1 and 86400 seconds"),
    ({"duplicate_window_s": 1.5}, "`1.5` is not a whole number of seconds"),
    ({"duplicate_window_s": True}, "`true` is not a whole number of seconds"),
    ({"max_open_orders": 0}, "`0` is not between 1 and 100000; remove the field for no limit, or freeze the key"),
    ({"max_open_orders": 100001}, "`100001` is not between 1 and 100000"),
    ({"max_open_orders": 2.0}, "`2.0` is not a whole number"),
    ({"max_open_orders": True}, "`true` is not a whole number"),
    ({"max_position_value": 0}, "`0` is not over 0"),
    ({"max_position_value": "1000"}, "`1000` is not a number"),
    (
        {"cap_currency": "CNY"},
        "unknown currency `CNY` (valid: HKD, USD, CNH, JPY, SGD, AUD, CAD, MYR, NZD); write `CNH`",
    ),
    ({"cap_currency": "rmb"}, "write `CNH`"),
    ({"cap_currency": "usd"}, "write `USD`"),
    ({"cap_currency": "HDK"}, "did you mean `HKD`?"),
    ({"cap_currency": ""}, "unknown currency ``"),
    ({"cap_currency": 1}, "`1` is not text"),
    ({"cap_currency": ["HKD"]}, "is not text"),
    ({"trading_hours": "yes"}, "`yes` is neither true nor false"),
    ({"trading_hours": 1}, "`1` is neither true nor false"),
    ({"cancel_on_disconnect": 14}, "`14` is not between 15 and 3600 seconds; SDKs take 6 s to come back"),
    ({"cancel_on_disconnect": 3601}, "`3601` is not between 15 and 3600 seconds"),
    ({"cancel_on_disconnect": 0}, "`0` is not between 15 and 3600 seconds"),
    ({"cancel_on_disconnect": 30.5}, "`30.5` is neither true, false nor a whole number of seconds; write e.g. 30"),
    ({"cancel_on_disconnect": "30"}, "`30` is neither true, false nor a whole number of seconds"),
    ({"allow_short": "no"}, "`no` is neither true nor false"),
    ({"extended_hours": 0}, "`0` is neither true nor false"),
    ({"extended_hours": "false"}, "`false` is neither true nor false"),
    ({"hours_window": "9:30-16:00"}, "`9:30-16:00` is not a window of hours; write `HH:MM-HH:MM`"),
    ({"hours_window": "09:30-12:00,13:00-16:00"}, "write several windows as a list"),
    ({"hours_window": "09:30-24:01"}, "is not a window of hours"),
    ({"hours_window": "09:30-09:30"}, "begins where it ends"),
    ({"hours_window": ["09:30-16:00", 5]}, "`5` is not text"),
    ({"timezone": "Mars/Olympus"}, "unknown time zone `Mars/Olympus`"),
    ({"timezone": "America"}, "unknown time zone `America`"),
    ({"timezone": "../../etc/passwd"}, "unknown time zone"),
    ({"created_at": "2026-01-01T00:00:00"}, "does not say its zone; add `Z`"),
    ({"expires_at": "2026-13-01T00:00:00Z"}, "is not a date and time"),
    ({"expires_at": "tomorrow"}, "is not a date and time"),
    ({"expires_at": 1767225600}, "is not text"),
    ({"allowed_machines": "abc"}, "`abc` is not a list"),
    ({"allowed_machines": [""]}, "is not a fingerprint"),
    ({"allowed_ips": ["10.0.0.5/24"]}, "write `10.0.0.0/24` or `10.0.0.5`"),
    ({"allowed_ips": ["10.0.0"]}, "is not an IP address or network"),
    ({"allowed_ips": ["::ffff:10.0.0.0/104"]}, "write `10.0.0.0/8`"),
    ({"note": 5}, "`5` is not text"),
    ({"note": "x" * 1001}, "has 1001 characters"),
]


@pytest.mark.parametrize(
    ("fields", "said"), WRONG, ids=[f"{number}-{next(iter(one))}" for number, (one, _) in enumerate(WRONG)]
)
def test_a_wrong_field_is_refused_and_says_what_to_do(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    text = refused(tmp_path, **fields)
    assert said in text
    assert "has 1 problem:" in text


@pytest.mark.parametrize("name", ["id", "hash", "scopes"])
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    raw = record()
    del raw[name]
    assert f"field `{name}`: is missing" in refusal(tmp_path, file_of(raw))


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    first = record(id="one", scopes=["nope"], max_order_value=-1, allowed_symbols=["AAPL", "HK.700"])
    second = {"id": "two", "hash": HASH, "scopes": ["qot:read"], "nots": "x"}
    text = refusal(tmp_path, {"version": 2, "keys": [first, second, "three"]})
    for part in (
        "field `version`: `2`", "key `one`, field `scopes`", "key `one`, field `max_order_value`", "`AAPL`", "`HK.700`",
        "key `two`, field `nots`", "key `two`, field `hash`: is also that of key `one`", "key number 3: `three`",
    ):  # fmt: skip
        assert part in text
    assert "has 7 problems:" in text


def test_two_records_with_one_id_are_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, file_of(record(), record(hash=hash_of("fc_other"))))
    assert "key `bot`, field `id`: two records have this id" in text


def test_two_records_with_one_secret_are_refused_in_any_spelling(tmp_path: Path) -> None:
    text = refusal(tmp_path, file_of(record(), record(id="twin", hash=f"sha256:{HASH.upper()}")))
    assert "key `twin`, field `hash`: is also that of key `bot`" in text


def test_two_records_with_one_ws_hash_are_refused(tmp_path: Path) -> None:
    ws_hash = ws_hash_of("fc_x")
    text = refusal(tmp_path, file_of(record(ws_hash=ws_hash), record(id="twin", hash=hash_of("fc_y"), ws_hash=ws_hash)))
    assert "key `twin`, field `ws_hash`" in text


def test_a_plaintext_key_in_place_of_its_hash_is_never_quoted(tmp_path: Path) -> None:
    plaintext = "fc_" + "7" * 64
    for wrong in ({"hash": plaintext}, {"id": plaintext}, {"scopes": [plaintext]}, {plaintext: 1}):
        text = refused(tmp_path, **wrong)
        assert "7" * 8 not in text
    assert "take that key as leaked" in refused(tmp_path, hash=plaintext)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"{", "is not JSON: line 1, column 2"),
        (b"\xff\xfe", "is not UTF-8 (byte 0)"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        ("[]", "is not an object"),
        ('{"keys": []}', "field `version`: is missing"),
        ('{"version": true, "keys": []}', "field `version`: `true`"),
        ('{"version": 1.0, "keys": []}', "field `version`: `1.0`"),
        ('{"version": 1}', "field `keys`: must be the list of key records"),
        ('{"version": 1, "keys": {}}', "field `keys`: must be the list of key records"),
        ('{"version": 1, "keys": [], "key": 1}', "field `key`: unknown field; did you mean `keys`?"),
        ('{"version": 1, "keys": [], "keys": []}', "field `keys`: is written more than once"),
        ("[" * 100_000, "nested too deeply"),
        ('{"version": 1, "keys": [{"max_order_value": NaN}]}', "holds a number that cannot be used: `NaN`"),
        ('{"version": 1, "keys": [{"max_order_value": -Infinity}]}', "`-Infinity`"),
        ('{"version": 1, "keys": [{"max_order_value": 1e99999999999999999999}]}', "holds a number that cannot be used"),
        ('{"version": 1, "keys": [{"max_order_value": ' + "9" * 5000 + "}]}", "holds a number that cannot be used"),
        (b" " * (LARGEST_FILE + 1), "is over 4 MiB"),
    ],
    ids=range(18),
)  # fmt: skip
def test_a_file_that_is_no_keys_file_is_refused(tmp_path: Path, content: object, said: str) -> None:
    assert said in refusal(tmp_path, content)


def test_a_field_written_twice_is_refused_rather_than_the_last_one_taken(tmp_path: Path) -> None:
    text = json.dumps(file_of(record(max_order_value=5))).replace('"scopes"', '"max_order_value": 5000000, "scopes"')
    assert "key `bot`, field `max_order_value`: is written more than once" in refusal(tmp_path, text)
    nested = json.dumps(file_of(record(limits={"max_order_value": 5}))).replace("5}", '5, "max_order_value": 9}')
    assert "field `limits.max_order_value`: is written more than once" in refusal(tmp_path, nested)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from([*LIMITS, "limits", "id", "hash", "scopes", "expires_at", "allowed_ips", "note"]), json_values)
def test_whatever_a_field_holds_it_loads_or_is_refused_in_prose(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    path = written(tmp_path_factory.mktemp("keys"), file_of(record(**{name: value})))
    try:
        key = load(path, UTC_ZONE).records[0].key
    except ConfigError as error:
        assert f"`{path}`" in str(error)
    else:
        whitelists = (
            key.allowed_markets,
            key.allowed_symbols,
            key.allowed_trd_sides,
            key.allowed_acc_ids,
            key.allowed_ips,
            key.allowed_order_types,
        )
        assert all(one is None or one for one in whitelists)


@given(
    st.sampled_from(
        [(1, 1), (2, 2), (3, 31), (4, 32), (6, 41), (7, 101), (8, 61), (15, 51), (17, 111), (111, 71), (112, 81)]
    ),
    st.from_regex(r"[0-9]{5,6}|[A-Z0-9._/-]{1,20}(?:main|current|next)?", fullmatch=True),
)
def test_every_symbol_an_order_can_carry_can_be_whitelisted(markets: tuple[int, int], code: str) -> None:
    try:
        security, _ = security_of_order(*markets, code)
    except BodyError:
        return
    assert fields.symbol(security.symbol) == security.symbol
    assert fields.market(security.market) == security.market


# -- the file itself ---------------------------------------------------------------------------------------------


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; make a first key with"):
        load(tmp_path / "none.json", None)


@pytest.mark.parametrize(
    ("mode", "said"),
    [(0o620, "may be written by others"), (0o602, "may be written by others"), (0o604, "may be read by everybody")],
)
def test_a_file_open_to_others_is_refused_and_says_which_mode(tmp_path: Path, mode: int, said: str) -> None:
    path = written(tmp_path, file_of())
    path.chmod(mode)
    with pytest.raises(ConfigError) as refused_:
        load(path, None)
    assert said in str(refused_.value)
    assert f"mode {mode:04o}" in str(refused_.value)
    assert f"chmod 600 {path}" in str(refused_.value)


def test_a_file_its_group_may_read_loads_with_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path, file_of())
    path.chmod(0o640)
    assert "may be read by its group" in load(path, None).warnings[0]


def test_a_folder_or_a_pipe_is_no_keys_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keys file"):
        load(tmp_path, None)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="is not a regular file"):  # and does not wait for a writer
        load(tmp_path / "pipe", None)


def test_a_mounted_file_that_was_replaced_outside_counts_as_missing(tmp_path: Path) -> None:
    path = written(tmp_path, file_of())
    with path.open("rb") as file:
        path.unlink()
        with pytest.raises(ConfigError, match="mount its folder instead"):  # the open file stands for the mount
            load(Path(f"/proc/self/fd/{file.fileno()}"), None)


def test_a_hash_is_never_printed_with_its_record(tmp_path: Path) -> None:
    assert HASH[:12] not in repr(load(written(tmp_path, file_of(record())), None)).replace("\\x", "")
    assert "hash" not in repr(load(written(tmp_path, file_of(record())), None).records[0])


def test_the_example_file_of_the_project_loads(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "config" / "keys.example.json"
    loaded = load(written(tmp_path, example.read_bytes()), None)
    assert [one.key.id for one in loaded.records] == ["research", "sim-bot", "real-bot", "frozen-bot"]
    assert loaded.warnings == ()
