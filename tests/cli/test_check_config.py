"""check-config says what `run` would refuse, and what it would take with doubts."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificates import Authority, Pair
from click.testing import CliRunner, Result

from sidecar.cli.check_config import check_config
from sidecar.keys.file import edit
from sidecar.keys.secret import hash_of, ws_hash_of
from sidecar.wire.encryption import RsaKey


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write(path, {"scopes": ["qot:read"]})
    return path


def write(path: Path, *records: dict[str, object]) -> None:
    def put(document: dict[str, object]) -> None:
        document["keys"] = [
            {"id": f"k{number}", "hash": hash_of(str(number)), "ws_hash": ws_hash_of(str(number)), **one}
            for number, one in enumerate(records)
        ]

    edit(path, put, None, create=True)


def check(*arguments: object) -> Result:
    result = CliRunner().invoke(check_config, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sidecar.yaml"
    path.write_text(text)
    return path


def test_good_files_are_ticked(tmp_path: Path, keys: Path) -> None:
    result = check("--config", settings(tmp_path, f"keys: {{file: {keys}}}"))
    assert result.exit_code == 0
    assert [line[0] for line in result.output.splitlines()] == ["✓", "✓"]
    assert f"keys file `{keys}`: 1 key, revision " in result.output


def test_broken_settings_and_broken_keys_are_both_reported(tmp_path: Path) -> None:
    bad_keys = tmp_path / "bad.json"
    bad_keys.write_text("{")
    bad_keys.chmod(0o600)
    result = check("--config", settings(tmp_path, "upstrem: 1"), "--keys-file", bad_keys)
    assert result.exit_code == 1
    assert "✗ settings" in result.stderr
    assert "did you mean `upstream`?" in result.stderr
    assert f"✗ keys file `{bad_keys}` is not JSON" in result.stderr


def test_a_missing_keys_file_fails(tmp_path: Path) -> None:
    result = check("--keys-file", tmp_path / "none.json")
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


def test_keys_that_do_more_than_meant_are_doubted(tmp_path: Path, keys: Path) -> None:
    write(
        keys,
        {"scopes": ["acc:read", "trade:simulate"], "allow_short": True},
        {"scopes": ["trade:real"], "allow_short": False},
        {"scopes": ["qot:read"], "expires_at": "2020-01-01T00:00:00Z", "ws_hash": None},
        {"scopes": ["acc:read", "trade:real"], "max_order_value": 5, "allow_short": False},
    )
    result = check("--keys-file", keys)
    assert result.exit_code == 0
    doubts = [line for line in result.output.splitlines() if line.startswith("! ")]
    assert ["k0" in doubts[0], "k1" in doubts[1], "k2" in doubts[2], "k2" in doubts[3]] == [True] * 4
    for text in ("real ones included", "without max_order_value and max_daily_value", "expired at", "no ws_hash"):
        assert text in result.output
    assert "k3" not in result.output


def test_keys_that_trade_and_do_not_say_whether_they_may_sell_short_are_doubted(keys: Path) -> None:
    write(keys, {"scopes": ["trade:simulate"]}, {"scopes": ["qot:read", "trade:cancel"]})
    doubts = [line for line in check("--keys-file", keys).output.splitlines() if line.startswith("! ")]
    assert len(doubts) == 1
    assert "key `k0` may sell what is not held, since it does not say allow_short" in doubts[0]


FX = "policy: {fx: {as_of: 2026-11-20, base: HKD, rates: {USD: 7.78}, max_age_days: %d}}"


@pytest.mark.parametrize(
    ("text", "currency", "said"),
    [
        ("", "USD", "key `k0`: policy.fx has no rate of `USD`, so an order in any other currency is refused"),
        (FX % 3660, "JPY", "key `k0`: policy.fx has no rate of `JPY`"),
        (FX.replace("2026", "2016") % 7, "HKD", "policy.fx: the rates are of 2016-11-20, "),
        (FX.replace("2026", "2926") % 7, "HKD", "policy.fx: the rates are of 2926-11-20, which is still to come"),
        (FX % 3660, "USD", None),
        (FX % 3660, "HKD", None),
    ],
)
def test_caps_in_a_currency_without_a_usable_rate_are_doubted(
    tmp_path: Path, keys: Path, text: str, currency: str, said: str | None
) -> None:
    write(keys, {"scopes": ["trade:real"], "max_order_value": 5, "allow_short": False, "cap_currency": currency})
    result = check("--config", settings(tmp_path, f"keys: {{file: {keys}}}\n{text}"))
    assert result.exit_code == 0, result.stderr
    doubts = [line for line in result.output.splitlines() if line.startswith("! ")]
    assert [said in doubt for doubt in doubts if said] == [True] * len(doubts)
    assert len(doubts) == (said is not None)


def test_a_currency_without_an_amount_is_doubted(keys: Path) -> None:
    write(keys, {"scopes": ["qot:read"], "cap_currency": "USD"})
    assert "! key `k0` has cap_currency `USD`, but no amount that would be in it" in check("--keys-file", keys).output


def test_a_listener_bound_to_a_key_that_does_not_exist_fails(tmp_path: Path, keys: Path) -> None:
    text = f"keys: {{file: {keys}}}\nlisteners: {{tcp: [{{key: k0}}, {{port: 5, key: gone}}]}}"
    result = check("--config", settings(tmp_path, text))
    assert result.exit_code == 1
    assert "✗ setting `listeners.tcp[1]`: there is no key `gone`" in result.stderr
    assert "k0" not in result.stderr


def test_private_keys_are_tried(tmp_path: Path, keys: Path) -> None:
    good, bad = tmp_path / "good.pem", tmp_path / "bad.pem"
    good.write_bytes(RsaKey.generate_pem())
    bad.write_text("no key")
    text = f"keys: {{file: {keys}}}\nupstream: {{rsa_key: {good}}}\nlisteners: {{tcp: [{{rsa_keys: {{k0: {bad}}}}}]}}"
    result = check("--config", settings(tmp_path, text))
    assert result.exit_code == 1
    assert "✓ setting `upstream.rsa_key`" in result.output
    assert "✗ setting `listeners.tcp[0].rsa_keys.k0`" in result.stderr


def test_the_trade_password_is_tried_and_not_shown(tmp_path: Path, keys: Path) -> None:
    password = tmp_path / "password"
    password.write_text("654321\n")
    text = f"keys: {{file: {keys}}}\nunlock: {{mode: sidecar, password_file: {password}}}"
    password.chmod(0o644)
    result = check("--config", settings(tmp_path, text))
    assert result.exit_code == 1
    assert f"✗ setting `unlock.password_file`: others may use `{password}` (mode 0644)" in result.stderr
    password.chmod(0o600)
    result = check("--config", settings(tmp_path, text))
    assert result.exit_code == 0
    assert "✓ setting `unlock.mode`: sidecar, and there is a trade password" in result.output
    assert "654321" not in result.output + result.stderr


def test_a_keys_file_without_keys_is_doubted(keys: Path) -> None:
    write(keys)
    result = check("--keys-file", keys)
    assert result.exit_code == 0
    assert "! there is no key yet" in result.output


def test_addresses_open_to_the_network_are_doubted(tmp_path: Path, keys: Path) -> None:
    text = f"keys: {{file: {keys}}}\nlisteners: {{tcp: [{{bind: 0.0.0.0}}]}}"
    assert "! listener 0.0.0.0:11110 takes keys in clear" in check("--config", settings(tmp_path, text)).output


# -- certificates ------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def with_tls(tmp_path: Path, keys: Path, pair: Pair) -> Result:
    tls = f"{{cert: {pair.cert}, key: {pair.key}}}"
    return check("--config", settings(tmp_path, f"keys: {{file: {keys}}}\nlisteners: {{rest: {{tls: {tls}}}}}"))


def test_a_certificate_is_looked_at_before_it_is_needed(tmp_path: Path, keys: Path, authority: Authority) -> None:
    pair = authority.issue("server")
    result = with_tls(tmp_path, keys, pair)
    assert result.exit_code == 0
    assert f"✓ setting `listeners.rest.tls`: `{pair.cert}`, 29 days until it expires" in result.output


def test_a_certificate_that_run_would_refuse_fails(tmp_path: Path, keys: Path, authority: Authority) -> None:
    pair = authority.issue("server")
    pair.key.chmod(0o644)
    result = with_tls(tmp_path, keys, pair)
    assert result.exit_code == 1
    assert f"✗ setting `listeners.rest.tls`: others may use the private key `{pair.key}`" in result.stderr


@pytest.mark.parametrize(
    ("days", "said"), [(5, "4 days until it expires"), (-1, "listeners.rest: the certificate expired at")]
)
def test_a_certificate_that_ends_soon_or_has_ended_is_doubted(
    tmp_path: Path, keys: Path, authority: Authority, days: float, said: str
) -> None:
    result = with_tls(tmp_path, keys, authority.issue("server", days=days, since=20))
    assert result.exit_code == 0
    assert any(line.startswith("! ") and said in line for line in result.output.splitlines())
