"""Settings: the documented file is the defaults, flags win, and every mistake says what to do."""

from __future__ import annotations

import dataclasses
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import load_settings, warnings_of
from sidecar.errors import ConfigError
from sidecar.listener_settings import AdminListener, TcpListener, Tls
from sidecar.settings import Settings, surface

EXAMPLE = Path(__file__).parents[1] / "config" / "sidecar.yaml"


def read(tmp_path: Path, text: str, **flags: object) -> Settings:
    path = tmp_path / "sidecar.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, flags)


def refusal(tmp_path: Path, text: str, **flags: object) -> str:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text, **flags)
    return str(refused.value)


# -- the documented file -----------------------------------------------------------------------------------------


def test_the_documented_file_is_the_defaults() -> None:
    assert load_settings(EXAMPLE, {}) == Settings() == load_settings(None, {})


def _without_lists(tree: Any) -> Any:
    if isinstance(tree, list):
        return _without_lists(tree[0]) if tree and isinstance(tree[0], dict) else None
    return {name: _without_lists(one) for name, one in tree.items()} if isinstance(tree, dict) and tree else None


def test_every_setting_stands_in_the_documented_file_in_the_order_of_the_code() -> None:
    assert str(_without_lists(yaml.safe_load(EXAMPLE.read_text()))) == str(surface())


def test_every_setting_of_the_documented_file_is_explained() -> None:
    lines = [line.strip() for line in EXAMPLE.read_text().splitlines()]
    assert [line for line in lines if line and "#" not in line] == []


def test_the_names_of_all_settings_are_known_to_the_surface() -> None:
    def names(value: Any) -> Any:
        if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            return names(value[0])
        if not dataclasses.is_dataclass(value):
            return None
        return {field.name: names(getattr(value, field.name)) for field in dataclasses.fields(value)}

    assert names(Settings()) == surface()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().upstream.port = 1  # type: ignore[misc]  # the point of the test


# -- values ------------------------------------------------------------------------------------------------------


def test_values_are_read_in_the_units_people_write(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        upstream: {host: opend.lan, port: 22222, connect_timeout: 2.5}
        keys: {file: ~/k.json, timezone: Asia/Hong_Kong}
        audit: {min_free: 1 GiB}
        limits: {client_buffer: 512 KiB, request_body: 2048}
        policy: {day_rolls_at: "17:30", day_zone: America/New_York}
        """,
    )
    assert (settings.upstream.host, settings.upstream.port, settings.upstream.connect_timeout) == (
        "opend.lan",
        22222,
        2.5,
    )
    assert settings.keys.file == Path.home() / "k.json"
    assert settings.keys.timezone == "Asia/Hong_Kong"
    assert settings.audit.min_free == 1024**3
    assert (settings.limits.client_buffer, settings.limits.request_body) == (512 * 1024, 2048)
    assert (settings.policy.day_rolls_at, settings.policy.day_zone) == (time(17, 30), ZoneInfo("America/New_York"))


def test_rates_of_exchange_are_read_as_they_are_written(tmp_path: Path) -> None:
    fx = read(
        tmp_path,
        """
        policy:
          fx:
            as_of: 2026-11-20
            base: HKD
            rates: {USD: 7.78, JPY: 0.000051, CNH: 1, SGD: "6.1234567890123456789"}
            max_age_days: 0
        """,
    ).policy.fx
    assert (fx.as_of, fx.base, fx.max_age_days) == (date(2026, 11, 20), "HKD", 0)
    rates = {"USD": "7.78", "JPY": "0.000051", "CNH": "1", "SGD": "6.1234567890123456789"}
    assert {currency: str(rate) for currency, rate in fx.rates} == {
        name: str(Decimal(text)) for name, text in rates.items()
    }
    assert read(tmp_path, 'policy: {fx: {as_of: "2026-11-20", base: HKD, rates: {USD: 8}}}').policy.fx.as_of == fx.as_of


def test_the_audit_file_is_in_the_state_directory_unless_it_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, "state_dir: /srv/state").audit_file == Path("/srv/state/audit.jsonl")
    assert read(tmp_path, "state_dir: /srv/state\naudit: {file: /log/a.jsonl}").audit_file == Path("/log/a.jsonl")


def test_an_empty_file_and_empty_sections_are_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Settings()
    assert read(tmp_path, "upstream:\nlisteners:\n  tcp:\n  admin:\nlog:\n") == Settings()


def test_a_listener_is_as_long_as_it_must_be(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        listeners:
          tcp:
            - port: 0
            - {bind: "::1", port: 2, key: bot, rsa_key: /k.pem}
            - {bind: 0.0.0.0, port: 3, key: bot, allowed_ips: [10.0.0.5, 10.1.0.0/16]}
            - {bind: 0.0.0.0, port: 4, rsa_keys: {one: /one.pem, two: ~/two.pem}}
        """,
    )
    assert settings.listeners.tcp == (
        TcpListener(port=0),
        TcpListener(bind="::1", port=2, key="bot", rsa_key=Path("/k.pem")),
        TcpListener(bind="0.0.0.0", port=3, key="bot", allowed_ips=("10.0.0.5/32", "10.1.0.0/16")),
        TcpListener(bind="0.0.0.0", port=4, rsa_keys={"one": "/one.pem", "two": "~/two.pem"}),  # type: ignore[arg-type]  # as the file has it
    )
    assert settings.listeners.tcp[3].rsa_keys == (("one", Path("/one.pem")), ("two", Path.home() / "two.pem"))


@pytest.mark.parametrize("text", ["off", "OFF", '"off"', "false"])
def test_off_closes_a_listener(tmp_path: Path, text: str) -> None:
    closed = read(tmp_path, f"listeners: {{tcp: {text}, admin: {text}}}").listeners
    assert (closed.tcp, closed.admin) == ((), None)
    closed = read(tmp_path, f"listeners: {{tcp: [{{port: {text}}}, {{port: 5}}], admin: {{port: {text}}}}}").listeners
    assert (closed.tcp, closed.admin) == ((TcpListener(port=5),), None)


# -- flags -------------------------------------------------------------------------------------------------------


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    text = "upstream: {host: a, port: 1, connect_timeout: 9}\nkeys: {file: /a}\nlisteners: {tcp: [{port: 1, key: bot}]}"
    settings = read(
        tmp_path,
        text,
        upstream="[::1]:2",
        keys_file=Path("/b"),
        state_dir="/c",
        audit_log="/d",
        bind="127.0.0.2",
        tcp_port="3",
        admin_port="off",
        **{"policy.facts_timeout": 1.5},
    )
    assert (settings.upstream.host, settings.upstream.port, settings.upstream.connect_timeout) == ("::1", 2, 9)
    assert (settings.keys.file, settings.state_dir, settings.audit_file) == (Path("/b"), Path("/c"), Path("/d"))
    assert settings.listeners.tcp == (TcpListener(bind="127.0.0.2", port=3, key="bot"),)
    assert settings.listeners.admin is None
    assert settings.policy.facts_timeout == 1.5


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    assert load_settings(None, {"upstream": None, "tcp_port": None, "policy.facts_timeout": None}) == Settings()


def test_a_port_flag_opens_what_the_file_closed_and_closes_what_it_opened(tmp_path: Path) -> None:
    assert read(
        tmp_path, "listeners: {tcp: off, admin: off}", tcp_port=0, admin_port=7
    ).listeners.admin == AdminListener(port=7)
    assert read(tmp_path, "listeners: {tcp: off}", tcp_port="0").listeners.tcp == (TcpListener(port=0),)
    assert read(tmp_path, "listeners: {tcp: [{port: 1}, {port: 2}]}", tcp_port="off").listeners.tcp == ()


def test_the_bind_flag_leaves_the_admin_listener_where_it_is() -> None:
    listeners = load_settings(None, {"bind": "0.0.0.0"}).listeners
    assert listeners.tcp == (TcpListener(bind="0.0.0.0"),)
    assert listeners.admin == AdminListener()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"upstream": "127.0.0.1"}, "--upstream `127.0.0.1` is not HOST:PORT"),
        ({"upstream": "h:x"}, "--upstream `h:x` is not HOST:PORT"),
        ({"tcp_port": "x"}, "--tcp-port `x` is not a port"),
        ({"admin_port": "65536"}, "--admin-port `65536` is not a port; write a number up to 65535, or `off`"),
        ({"bind": "nowhere"}, "`nowhere` is not an IP address to listen on"),
        ({"policy.facts_timeot": 1}, "setting `policy.facts_timeot`: unknown setting; did you mean `facts_timeout`?"),
    ],
)
def test_a_wrong_flag_is_refused(flags: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(None, flags)
    assert said in str(refused.value)


def test_a_port_flag_that_could_mean_several_listeners_is_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, "listeners: {tcp: [{port: 1}, {port: 2}]}", tcp_port="3")
    assert "--tcp-port `3` could mean any of 2 listeners" in text


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upstrem: {}", "setting `upstrem`: unknown setting; did you mean `upstream`?"),
        ("upstream: {hots: a}", "setting `upstream.hots`: unknown setting; did you mean `host`?"),
        ("facts_timeout: 1", "setting `facts_timeout`: unknown setting; did you mean `policy.facts_timeout`?"),
        ("listeners: {tcp: [{alowed_ips: [a]}]}", "setting `listeners.tcp[0].alowed_ips`: unknown setting; did you mean `allowed_ips`?"),
        ("xyzzy: 1", "setting `xyzzy`: unknown setting; remove it"),
        ("1: 2", "setting `1`: unknown setting"),
        ("upstream: 5", "setting `upstream`: `5` is not a group of settings"),
        ("upstream: {port: 0}", "setting `upstream.port`: `0` must be greater than or equal to 1"),
        ("upstream: {port: true}", "`true` is not a whole number"),
        ("upstream: {port: '1'}", "`1` is not a whole number"),
        ("upstream: {port: 1.0}", "`1.0` is not a whole number"),
        ("upstream: {host: 'a:1'}", "`a:1` is not a host name or an IP address; the port is a setting of its own"),
        ("upstream: {host: 'http://a'}", "is not a host name"),
        ("upstream: {host: ''}", "is not text"),
        ("upstream: {connect_timeout: 0}", "must be greater than 0"),
        ("upstream: {connect_timeout: .nan}", "must be a finite number"),
        ("upstream: {connect_timeout: true}", "`true` is not a number"),
        ("upstream: {connect_timeout: '5'}", "`5` is not a number"),
        ("upstream: {max_connections: 100001}", "must be less than or equal to 100000"),
        ("keys: {timezone: HKT}", "setting `keys.timezone`: unknown time zone `HKT`"),
        ("keys: {stale_keys_max: -1}", "must be greater than or equal to 0"),
        ("policy: {facts_timeout: 11}", "must be less than or equal to 10"),
        ("policy: {price_buffer_pct: -1}", "`-1` is not a percentage from 0 to 100"),
        ("policy: {price_buffer_pct: 100.1}", "`100.1` is not a percentage from 0 to 100"),
        ("policy: {price_buffer_pct: .nan}", "`nan` is not a percentage from 0 to 100"),
        ("policy: {price_buffer_pct: true}", "`true` is not a percentage from 0 to 100"),
        ("policy: {price_buffer_pct: 5 %}", "`5 %` is not a percentage from 0 to 100; write e.g. 5 or 2.5"),
        ("policy: {fx: {as_of: 2026-11-20, base: HKD}}", "setting `policy.fx`: `rates` is missing; rates of exchange need as_of, base"),
        ("policy: {fx: {rates: {USD: 7.78}}}", "setting `policy.fx`: `as_of` is missing"),
        ("policy: {fx: {as_of: 2026-11-20, rates: {USD: 7.78}}}", "setting `policy.fx`: `base` is missing"),
        ("policy: {fx: {as_of: 2026-11-20, base: HKD, rates: {HKD: 1}}}", "`HKD` is the base and needs no rate"),
        ("policy: {fx: {as_of: 2026-11-20T00:00:00Z}}", "`2026-11-20 00:00:00+00:00` is not a day; write e.g. 2026-11-20"),
        ("policy: {fx: {as_of: 20.11.2026}}", "`20.11.2026` is not a day"),
        ("policy: {fx: {as_of: 2026}}", "`2026` is not a day"),
        ("policy: {fx: {base: CNY}}", "unknown currency `CNY` (valid: HKD, USD, CNH, JPY, SGD, AUD, CAD, MYR, NZD); write `CNH`"),
        ("policy: {fx: {rates: {usd: 7.78}}}", "unknown currency `usd` (valid: HKD, USD, CNH, JPY, SGD, AUD, CAD, MYR, NZD); write `USD`"),
        ("policy: {fx: {rates: {USDD: 7.78}}}", "did you mean `USD`?"),
        ("policy: {fx: {rates: [7.78]}}", "`[...]` is not a mapping; write currencies and rates"),
        ("policy: {fx: {rates: {USD: 0}}}", "`0` is not a rate of exchange; write e.g. 7.78"),
        ("policy: {fx: {rates: {USD: -7.78}}}", "`-7.78` is not a rate of exchange"),
        ("policy: {fx: {rates: {USD: .inf}}}", "`inf` is not a rate of exchange"),
        ("policy: {fx: {rates: {USD: .nan}}}", "`nan` is not a rate of exchange"),
        ("policy: {fx: {rates: {USD: '7,78'}}}", "`7,78` is not a rate of exchange"),
        ("policy: {fx: {rates: {USD: true}}}", "`true` is not a rate of exchange"),
        ("policy: {fx: {rates: {USD: [7.78]}}}", "`[...]` is not a rate of exchange"),
        ("policy: {fx: {rates: {USD: 1e7}}}", "is not a rate of exchange"),
        ("policy: {fx: {rates: {USD: 7.712345678901234}}}", "`7.712345678901234` has 16 digits; write up to 15, or in quotes up to 28"),
        ("policy: {fx: {max_age_days: -1}}", "must be greater than or equal to 0"),
        ("policy: {fx: {max_age_days: 1.5}}", "`1.5` is not a whole number"),
        ("policy: {tag_orders: 1}", "`1` is not a yes or no; write true or false"),
        ("policy: {day_rolls_at: 17:30}", "`1050` is not a time of day; write it in quotes"),
        ("policy: {day_rolls_at: '24:00'}", "`24:00` is not a time of day"),
        ("policy: {day_zone: Nowhere}", "unknown time zone `Nowhere`"),
        ("limits: {client_buffer: 5 MB}", "`5 MB` is not a size; write bytes, or e.g. `512 KiB`"),
        ("limits: {client_buffer: 1}", "is not between 1 KiB and"),
        ("limits: {client_buffer: true}", "`true` is not a size"),
        ("limits: {max_clients: 0}", "must be greater than or equal to 1"),
        ("unlock: {mode: never}", "`never` is not one of 'owner' or 'sidecar'"),
        ("unlock: {mode: sidecar}", "takes the trade password from `password_file` or `password_env`; set one"),
        ("unlock: {mode: sidecar, password_file: /a, password_env: A}", "set one"),
        ("unlock: {password_file: /a}", "in mode `owner` the sidecar holds no trade password"),
        ("unlock: {mode: sidecar, password_env: 123 456}", "is not the name of an environment variable"),
        ("unlock: {mode: sidecar, password_env: A, relock_idle: 5}", "must be greater than or equal to 10"),
        ("breakers: {refusals_in_a_row: 1}", "must be greater than or equal to 2"),
        ("breakers: {identical_orders: 2.5}", "`2.5` is not a whole number"),
        ("breakers: {identical_window: 0}", "must be greater than or equal to 1"),
        ("breakers: {daily_loss: 5000}", "`daily_loss_currency` is missing"),
        ("breakers: {daily_loss_currency: HKD}", "`daily_loss` is missing"),
        ("breakers: {daily_loss: -5, daily_loss_currency: HKD}", "`-5` is not an amount above 0"),
        ("breakers: {daily_loss: 5000, daily_loss_currency: HKX}", "HKX"),
        ("log: {level: loud}", "`loud` is not one of 'debug', 'info', 'warning' or 'error'"),
        ("listeners: {tcp: 5}", "setting `listeners.tcp`: `5` is not a list"),
        ("listeners: {tcp: {port: 1}}", "setting `listeners.tcp`: `{...}` is not a list"),
        ("listeners: {tcp: [{port: 65536}]}", "setting `listeners.tcp[0].port`: `65536` must be less than or equal to 65535"),
        ("listeners: {tcp: [{bind: localhost}]}", "`localhost` is not an IP address to listen on"),
        ("listeners: {tcp: [{allowed_ips: []}]}", "the list is empty"),
        ("listeners: {tcp: [{allowed_ips: [10.0.0.5/24]}]}", "write `10.0.0.0/24` or `10.0.0.5`"),
        ("listeners: {tcp: [{port: 5}, {port: 5}]}", "two listeners have the address 127.0.0.1:5"),
        ("listeners: {tcp: [{port: 5}], admin: {port: 5}}", "two listeners have the address 127.0.0.1:5"),
        ("listeners: {tcp: [{key: a, rsa_keys: {b: /b}}]}", "`rsa_keys` tells keys apart, `key` does not; use two listeners"),
        ("listeners: {tcp: [{rsa_key: /a, rsa_keys: {b: /b}}]}", "`rsa_keys` tells keys apart, `rsa_key` does not"),
        ("listeners: {tcp: [{rsa_keys: [/a]}]}", "`[...]` is not a mapping"),
        ("listeners: {tcp: [{key: bot, bind: 0.0.0.0}]}", "`0.0.0.0` gives key `bot` to whoever connects; add `allowed_ips`"),
        ("a: 1\na: 2", "line 2: `a` is written twice"),
        ("upstream:\n  port: 1\n  host: a\n  port: 2", "line 4: `port` is written twice"),
        ("a: [1", "are not YAML: line 1"),
        ("- 1", "must be `name: value` lines"),
        ("a: !!python/object/apply:os.system ['true']", "are not YAML"),
        ("\x00", "are not YAML"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_with_its_name_its_value_and_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in refusal(tmp_path, text)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = refusal(tmp_path, "upstrem: 1\nupstream: {port: 0, host: 'a b'}\nquarantine: x\nunlock: {mode: x}")
    assert "have 5 problems:" in text
    assert len(text.splitlines()) == 6


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"settings `.*none.yaml` cannot be read: no such file"):
        load_settings(tmp_path / "none.yaml", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listeners: {tcp: [{key: fc_aaaabbbbccccdddd}]}", "holds a plaintext key; write the key's id"),
        ("listeners: {tcp: [{rsa_keys: {fc_aaaabbbbccccdddd: /a}}]}", "holds a plaintext key"),
        ("upstream: {rsa_key: '-----BEGIN RSA PRIVATE KEY----- aaaabbbbccccdddd'}", "holds a private key itself"),
        ("fc_aaaabbbbccccdddd: 1", "unknown setting"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str, said: str) -> None:
    told = refusal(tmp_path, text)
    assert said in told
    assert "aaaabbbb" not in told


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(surface())), yaml_values)
def test_whatever_a_setting_holds_it_loads_or_is_refused_in_prose(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    path = tmp_path_factory.mktemp("config") / "sidecar.yaml"
    path.write_text(yaml.safe_dump({name: value}), encoding="utf-8")
    try:
        load_settings(path, {})
    except ConfigError as error:
        assert str(path) in str(error) or f"setting `{name}`" in str(error)


# -- warnings ----------------------------------------------------------------------------------------------------


def test_keys_in_clear_over_the_network_are_warned_about(tmp_path: Path) -> None:
    assert warnings_of(Settings()) == ()
    (warning,) = warnings_of(read(tmp_path, "listeners: {tcp: [{bind: 0.0.0.0}]}"))
    assert "listener 0.0.0.0:11110 takes keys in clear from the network" in warning
    assert warnings_of(read(tmp_path, "listeners: {tcp: [{bind: 0.0.0.0, rsa_keys: {a: /a}}]}")) == ()


def test_an_admin_listener_on_the_network_is_warned_about(tmp_path: Path) -> None:
    (warning,) = warnings_of(read(tmp_path, "listeners: {admin: {bind: 10.0.0.1}}"))
    assert "admin listener 10.0.0.1:11180 asks for no key" in warning


# -- TLS and unix sockets ----------------------------------------------------------------------------------------


def test_tls_of_a_listener_is_four_settings(tmp_path: Path) -> None:
    rest = read(
        tmp_path,
        'listeners: {rest: {tls: {cert: ~/c.pem, key: /k.pem, client_ca: /ca.pem, min_version: "1.3"}}}',
    ).listeners.rest
    assert rest is not None
    assert rest.tls == Tls(Path.home() / "c.pem", Path("/k.pem"), Path("/ca.pem"), "1.3")
    assert rest.tls.on
    (tcp,) = read(tmp_path, "listeners: {tcp: [{tls: {cert: /c, key: /k, min_version: 1.3}}]}").listeners.tcp
    assert tcp.tls.min_version == "1.3"
    assert not Tls().on


def test_one_tls_may_be_written_once_for_all_listeners(tmp_path: Path) -> None:
    listeners = read(
        tmp_path,
        """
        listeners:
          tcp: [{tls: &tls {cert: /c.pem, key: /k.pem}}]
          rest: {tls: *tls}
          admin: {tls: *tls}
        """,
    ).listeners
    assert listeners.rest is not None
    assert listeners.admin is not None
    assert listeners.tcp[0].tls == listeners.rest.tls == listeners.admin.tls == Tls(Path("/c.pem"), Path("/k.pem"))


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("{cert: /c.pem}", "`key` is missing; TLS needs a certificate and its private key"),
        ("{key: /k.pem}", "`cert` is missing; TLS needs"),
        ("{client_ca: /ca.pem}", "`client_ca` asks clients for certificates, which needs `cert` and `key` of our own"),
        ('{cert: /c, key: /k, min_version: "1.1"}', "`1.1` is not one of '1.2' or '1.3'"),
        ("{cert: /c, kye: /k}", "setting `listeners.rest.tls.kye`: unknown setting; did you mean `key`?"),
        ('{cert: /c, key: "-----BEGIN PRIVATE KEY-----\\nMI"}', "holds a private key itself"),
        ("on", "is not a group of settings"),
    ],
)
def test_a_mistake_in_tls_says_what_to_do(tmp_path: Path, tls: str, said: str) -> None:
    text = refusal(tmp_path, f"listeners: {{rest: {{tls: {tls}}}}}")
    assert said in text
    assert "listeners.rest.tls" in text
    assert "MI" not in text


def test_a_listener_behind_tls_needs_no_warning(tmp_path: Path) -> None:
    tls = "bind: 0.0.0.0, tls: {cert: /c, key: /k}"
    doors = ", ".join(f"{name}: {{{tls}}}" for name in ("websocket", "rest", "grpc", "mcp"))
    assert warnings_of(read(tmp_path, f"listeners: {{tcp: [{{{tls}}}], {doors}}}")) == ()
    (warning,) = warnings_of(read(tmp_path, f"listeners: {{admin: {{{tls}}}}}"))
    assert "asks for no key; keep it on a private network" in warning
    assert (
        warnings_of(read(tmp_path, "listeners: {admin: {bind: '::', tls: {cert: /c, key: /k, client_ca: /a}}}")) == ()
    )


def test_a_client_ca_guards_a_listener_that_has_a_key(tmp_path: Path) -> None:
    open_to_all = "listeners: {tcp: [{bind: 0.0.0.0, key: bot, tls: {cert: /c, key: /k%s}}]}"
    assert "gives key `bot` to whoever connects" in refusal(tmp_path, open_to_all % "")
    assert read(tmp_path, open_to_all % ", client_ca: /a").listeners.tcp[0].key == "bot"


def test_tcp_and_admin_can_be_unix_sockets(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        'listeners: {tcp: [{bind: "unix:/run/x/tcp.sock", key: bot, socket_mode: "0600"}], admin: {bind: "unix:~/a.sock"}}',
        bind="0.0.0.0",
    )
    (tcp,), admin = settings.listeners.tcp, settings.listeners.admin
    assert (tcp.bind, tcp.socket_mode) == ("unix:/run/x/tcp.sock", 0o600), "--bind moves no socket"
    assert admin is not None
    assert (admin.bind, admin.socket_mode) == (f"unix:{Path.home()}/a.sock", 0o660)
    assert not [text for text in warnings_of(settings) if "unix:" in text]


@pytest.mark.parametrize(
    ("listeners", "said"),
    [
        ('rest: {bind: "unix:/r.sock"}', "only the listeners tcp and admin can be unix sockets"),
        ('tcp: [{bind: "unix:r.sock"}]', "is not the path of a socket; write e.g. `unix:/run/opend-sidecar/tcp.sock`"),
        ('tcp: [{bind: "unix:"}]', "is not the path of a socket"),
        ("tcp: [{socket_mode: 0660}]", 'is not the mode of a file; write it in quotes, e.g. "0660"'),
        ('tcp: [{socket_mode: "rw"}]', "is not the mode of a file"),
        ('tcp: [{bind: "unix:/t", allowed_ips: [127.0.0.1]}]', "a unix socket has no client addresses"),
        ('tcp: [{bind: "unix:/t", tls: {cert: /c, key: /k}}]', "a unix socket needs no TLS"),
        ('admin: {bind: "unix:/t", tls: {cert: /c, key: /k}}', "a unix socket needs no TLS"),
        ('tcp: [{bind: "unix:/t", key: bot, socket_mode: "0666"}]', "gives key `bot` to every user of this machine"),
        (
            'tcp: [{bind: "unix:/t"}, {bind: "unix:/t"}]',
            "two listeners have the address unix:/t; give each its own path",
        ),
        ('tcp: [{bind: "unix:/t"}], admin: {bind: "unix:/t"}', "two listeners have the address unix:/t"),
    ],
)
def test_a_mistake_with_a_socket_says_what_to_do(tmp_path: Path, listeners: str, said: str) -> None:
    assert said in refusal(tmp_path, f"listeners: {{{listeners}}}")


def test_a_socket_for_every_user_is_doubted(tmp_path: Path) -> None:
    settings = read(tmp_path, 'listeners: {admin: {bind: "unix:/a", socket_mode: "0666"}}')
    assert warnings_of(settings) == ("every user of this machine may connect to unix:/a (socket_mode 0666)",)
