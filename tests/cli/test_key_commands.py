"""The commands about keys, as an owner types them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from certificates import Authority
from click.testing import CliRunner, Result

from sidecar.cli.keys import bind_key, gen_key, list_keys, machine_id, revoke_key
from sidecar.errors import ConfigError
from sidecar.keys.file import edit, load
from sidecar.keys.machine import fingerprint
from sidecar.keys.ring import Ring
from sidecar.keys.secret import hash_of
from sidecar.policy.key import Key

NOBODY = ("--admin", "127.0.0.1:1")
"""An admin address at which nothing listens."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "futu" / "keys.json"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "machine-id").write_text("this-machine\n")
    monkeypatch.setenv("SIDECAR_MACHINE_ID_FILE", str(tmp_path / "machine-id"))
    monkeypatch.setenv("TZ", "Asia/Hong_Kong")
    return "this-machine"


def call(command: click.Command, *arguments: object) -> Result:
    """Runs a command. An error it expects is a ConfigError, which the group of all commands turns into one line."""
    result = CliRunner().invoke(command, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, (ConfigError, SystemExit)):
        raise result.exception
    return result


def done(command: click.Command, *arguments: object) -> str:
    result = call(command, *arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.output


def refused(command: click.Command, *arguments: object) -> str:
    result = call(command, *arguments)
    assert isinstance(result.exception, ConfigError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def made(path: Path, *arguments: object) -> Key:
    done(gen_key, "--id", "bot", "--scopes", "qot:read", "--keys-file", path, *arguments)
    return load(path, None).records[-1].key


def raw(path: Path, key_id: str = "bot") -> dict[str, Any]:
    return next(one for one in json.loads(path.read_text())["keys"] if one["id"] == key_id)


def refused_key(path: Path, *arguments: object) -> str:
    text = refused(gen_key, "--id", "bot", "--scopes", "qot:read", "--keys-file", path, *arguments)
    assert not path.exists()
    return text


# -- gen-key -----------------------------------------------------------------------------------------------------


def test_a_new_key_is_shown_once_and_stored_as_hashes_only(path: Path) -> None:
    output = done(gen_key, "--id", "research", "--scopes", "qot:read", "--keys-file", path)
    (plaintext,) = re.findall(r"^plaintext: (fc_[0-9a-f]{64})$", output, re.MULTILINE)
    assert output.count(plaintext) == 1
    assert plaintext not in path.read_text()
    records = load(path, None).records
    ring = Ring(records, "")
    assert ring.find(plaintext) == records[0].key
    assert ring.find_ws(hashlib.md5(plaintext.encode()).hexdigest()) == records[0].key
    assert 'SysConfig.set_client_info("fc_...", 300)' in output
    assert str(path) in output
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_trading_key_of_the_setup_guide_gets_all_its_limits(path: Path) -> None:
    done(
        gen_key, "--id", "sim-bot", "--scopes", "qot:read,acc:read,trade:simulate", "--allowed-markets", "HK,US",
        "--allowed-trd-sides", "SELL", "--max-order-value", "100000", "--max-daily-value", "500000",
        "--max-orders-per-minute", "5", "--hours-window", "09:30-16:00", "--expires", "30d", "--keys-file", path,
    )  # fmt: skip
    record = raw(path, "sim-bot")
    created, expires = (datetime.fromisoformat(record.pop(name)) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=30)
    assert abs(created - datetime.now(UTC)) < timedelta(minutes=1)
    assert {name: value for name, value in record.items() if "hash" not in name} == {
        "id": "sim-bot",
        "scopes": ["qot:read", "acc:read", "trade:simulate"],
        "allowed_markets": ["HK", "US"],
        "allowed_trd_sides": ["SELL"],
        "max_order_value": 100000,
        "max_daily_value": 500000,
        "max_orders_per_minute": 5,
        "allow_short": False,
        "hours_window": "09:30-16:00",
        "timezone": "Asia/Hong_Kong",
    }


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        (("--scopes", "qot:read,acc:read"), None),
        (("--scopes", "trade:cancel"), None),
        (("--scopes", "trade:simulate"), False),
        (("--scopes", "trade:real"), False),
        (("--scopes", "trade:real", "--allow-short"), True),
    ],
)
def test_a_new_key_that_trades_sells_only_what_is_held_unless_told_otherwise(
    path: Path, flags: tuple[str, ...], written: bool | None
) -> None:
    done(gen_key, "--id", "bot", "--keys-file", path, *flags)
    assert raw(path).get("allow_short") is written
    shown = {None: "-", False: "no-short", True: "short"}[written]
    assert f" {shown} " in done(list_keys, "--keys-file", path)


def test_every_other_limit_has_its_flag(path: Path) -> None:
    made(
        path, "--note", "a note", "--allowed-symbols", "US.AAPL, HK.00700,US.AAPL", "--allowed-acc-ids", "1, 2,1",
        "--hours-window", "09:30-12:00", "--hours-window", "13:00-16:00", "--timezone", "America/New_York",
        "--allowed-ips", "127.0.0.1,10.0.0.0/24", "--max-order-value", "2500.50", "--expires", "2099-01-31T00:00:00+08:00",
        "--bind-this-machine", "--bind-machines", "a" * 64, "--allowed-order-types", "NORMAL, MARKET",
        "--max-order-qty", "0.5", "--price-collar-pct", "2.5", "--duplicate-window-s", "10", "--no-extended-hours",
        "--max-position-value", "9000.75", "--cap-currency", "USD", "--max-open-orders", "4", "--trading-hours",
        "--cancel-on-disconnect", "45", "--scopes", "trade:simulate",
    )  # fmt: skip
    record = raw(path)
    assert (record["max_position_value"], record["cap_currency"], record["max_open_orders"]) == (9000.75, "USD", 4)
    assert (record["trading_hours"], record["cancel_on_disconnect"]) == (True, 45)
    assert record["note"] == "a note"
    assert record["allowed_symbols"] == ["US.AAPL", "HK.00700"]
    assert record["allowed_acc_ids"] == [1, 2]
    assert record["hours_window"] == ["09:30-12:00", "13:00-16:00"]
    assert record["timezone"] == "America/New_York"
    assert record["allowed_ips"] == ["127.0.0.1", "10.0.0.0/24"]
    assert record["expires_at"] == "2099-01-31T00:00:00+08:00"
    assert record["allowed_order_types"] == ["NORMAL", "MARKET"]
    assert (record["max_order_qty"], record["price_collar_pct"]) == (0.5, 2.5)
    assert (record["duplicate_window_s"], record["extended_hours"]) == (10, False)
    assert record["allowed_machines"] == ["a" * 64, fingerprint("bot", "this-machine")]
    assert '"max_order_value": 2500.50' in path.read_text()


def test_a_key_whose_orders_are_cancelled_when_its_client_is_gone_needs_no_number_of_seconds(path: Path) -> None:
    made(path, "--cancel-on-disconnect", "--scopes", "trade:simulate")
    assert raw(path)["cancel_on_disconnect"] is True
    assert "no-short,gone=30s" in done(list_keys, "--keys-file", path)


def test_client_certificates_are_named_by_file_or_by_fingerprint(path: Path, tmp_path: Path) -> None:
    bot = Authority(tmp_path / "ca").issue("bot", client=True)
    colons = ":".join(["AB"] * 32)
    made(path, "--client-certs", f"{bot.cert}, {colons},{'ab' * 32}")
    assert raw(path)["client_certs"] == [bot.fingerprint, "ab" * 32]
    assert "*, 2 certificate(s)" in done(list_keys, "--keys-file", path)


def test_a_client_certificate_that_is_none_is_refused(path: Path, tmp_path: Path) -> None:
    assert "`none.pem` is neither the SHA-256 of a certificate" in refused_key(path, "--client-certs", "none.pem")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    assert "holds no certificate in PEM form" in refused_key(path, "--client-certs", tmp_path / "key.pem")


def test_a_key_without_hours_needs_no_zone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "HKT-8")  # which says no zone by name
    made(path)
    assert "timezone" not in raw(path)
    text = refused(gen_key, "--id", "two", "--scopes", "qot:read", "--keys-file", path, "--hours-window", "09:30-16:00")
    assert "in which zone? add --timezone" in text


def test_a_key_is_not_made_twice(path: Path) -> None:
    made(path)
    before = path.read_text()
    text = refused(gen_key, "--id", "bot", "--scopes", "qot:read", "--keys-file", path)
    assert "there is a key `bot` already" in text
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--allowed-acc-ids", ""), "--allowed-acc-ids `` has an empty entry"),
        (("--allowed-markets", "HK,,US"), "--allowed-markets `HK,,US` has an empty entry"),
        (("--bind-machines", ""), "--bind-machines `` has an empty entry"),
        (("--allowed-acc-ids", "12x"), "--allowed-acc-ids `12x` is not an account id"),
        (("--allowed-acc-ids", "-5"), "--allowed-acc-ids `-5` is not an account id"),
        (("--allowed-markets", "XX"), "--allowed-markets unknown market `XX`"),
        (("--allowed-symbols", "AAPL"), "--allowed-symbols symbol `AAPL` has no market"),
        (("--allowed-trd-sides", "buy"), "did you mean `BUY`?"),
        (("--max-order-value", "50k"), "--max-order-value `50k` is not an amount; write plain digits"),
        (("--max-order-value", "1e5"), "--max-order-value `1e5` is not an amount"),
        (("--max-order-value", "NaN"), "--max-order-value `NaN` is not an amount"),
        (("--max-daily-value", "0"), "--max-daily-value `0` is not over 0"),
        (("--max-orders-per-minute", "x"), "--max-orders-per-minute `x` is not a whole number"),
        (("--max-orders-per-minute", "0"), "--max-orders-per-minute `0` is not between 1 and"),
        (("--allowed-order-types", "LIMIT"), "--allowed-order-types unknown order type `LIMIT`"),
        (("--max-order-qty", "-1"), "--max-order-qty `-1` is not an amount"),
        (("--max-order-qty", "0"), "--max-order-qty `0` is not over 0"),
        (("--price-collar-pct", "5%"), "--price-collar-pct `5%` is not an amount"),
        (("--price-collar-pct", "200"), "--price-collar-pct `200` is not a percentage"),
        (("--duplicate-window-s", "0.5"), "--duplicate-window-s `0.5` is not a whole number"),
        (("--duplicate-window-s", "90000"), "--duplicate-window-s `90000` is not between 1 and"),
        (("--max-open-orders", "0"), "--max-open-orders `0` is not between 1 and"),
        (("--max-position-value", "5k"), "--max-position-value `5k` is not an amount"),
        (("--cap-currency", "RMB"), "--cap-currency unknown currency `RMB`"),
        (("--cancel-on-disconnect", "5"), "--cancel-on-disconnect `5` is not between 15 and 3600 seconds"),
        (("--cancel-on-disconnect", "soon"), "--cancel-on-disconnect `soon` is not a whole number"),
        (("--cancel-on-disconnect",), "--cancel-on-disconnect cancels the key's own orders, and a key without"),
        (("--hours-window", "9-16"), "--hours-window `9-16` is not a window of hours"),
        (("--timezone", "Asia/Tokyo"), "--timezone says where --hours-window is read"),
        (("--hours-window", "09:30-16:00", "--timezone", "Tokyo"), "--timezone unknown time zone `Tokyo`"),
        (("--expires", "30"), "--expires `30` is not a date and time"),
        (("--expires", "0d"), "--expires `0d` is not a duration"),
        (("--expires", "999999999d"), "--expires `999999999d` is too far away"),
        (("--expires", "2020-01-01T00:00:00Z"), "is in the past"),
        (("--expires", "2099-01-01T00:00:00"), "does not say its zone"),
        (("--expires", ""), "is not a date and time"),
        (("--allowed-ips", "localhost"), "--allowed-ips `localhost` is not an IP address"),
        (("--note", "\udcff"), "half a character"),
    ],
)
def test_a_flag_that_makes_no_sense_makes_no_key(path: Path, flags: tuple[str, ...], said: str) -> None:
    assert said in refused_key(path, *flags)


@pytest.mark.parametrize(
    ("key_id", "scopes", "said"),
    [
        ("bot", "qot:reed", "--scopes unknown scope `qot:reed`"),
        ("bot", "", "--scopes `` has an empty entry"),
        ("a b", "qot:read", "--id `a b` is not a usable id"),
        ("<missing>", "qot:read", "is not a usable id"),
    ],
)
def test_an_id_or_scope_that_makes_no_sense_makes_no_key(path: Path, key_id: str, scopes: str, said: str) -> None:
    assert said in refused(gen_key, "--id", key_id, "--scopes", scopes, "--keys-file", path)
    assert not path.exists()


def test_a_paper_bot_that_could_read_the_real_account_is_warned_about(path: Path) -> None:
    def warning(key_id: str, *flags: str) -> str:
        return call(gen_key, "--id", key_id, "--keys-file", path, *flags).stderr

    assert "real ones included" in warning("a", "--scopes", "acc:read,trade:simulate")
    assert warning("b", "--scopes", "acc:read,trade:simulate", "--allowed-acc-ids", "7") == ""
    assert warning("c", "--scopes", "trade:simulate") == ""
    assert warning("d", "--scopes", "acc:read,trade:real,trade:simulate") == ""


def test_the_settings_name_the_keys_file_and_a_flag_wins(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yaml"
    config.write_text(f"keys: {{file: {path}, timezone: Asia/Tokyo}}\n")
    done(gen_key, "--id", "a", "--scopes", "qot:read", "--config", config, "--hours-window", "09:00-15:00")
    assert raw(path, "a")["timezone"] == "Asia/Tokyo"
    done(gen_key, "--id", "b", "--scopes", "qot:read", "--config", config, "--keys-file", tmp_path / "other.json")
    assert raw(tmp_path / "other.json", "b")["id"] == "b"


def test_concurrent_processes_that_make_keys_lose_none(path: Path) -> None:
    code = "import sys; from sidecar.cli.keys import gen_key; gen_key()"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, "--id", f"k{number}", "--scopes", "qot:read", "--keys-file", str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for number in range(8)
    ]
    plaintexts = []
    for process in running:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        plaintexts += re.findall(r"fc_[0-9a-f]{64}", output.decode())
    ring = Ring(load(path, None).records, "")
    found = [ring.find(plaintext) for plaintext in plaintexts]
    assert {key.id for key in found if key is not None} == {f"k{number}" for number in range(8)}


# -- list-keys ---------------------------------------------------------------------------------------------------


def test_the_list_shows_every_key_in_few_words_and_no_hash(path: Path) -> None:
    made(path, "--max-orders-per-minute", "3", "--allowed-trd-sides", "SELL", "--max-order-value", "50000")
    named = ("--note", "[red]x\x1b[31m", "--bind-machines", "f" * 64)
    done(gen_key, "--id", "two", "--scopes", "acc:read", "--keys-file", path, *named)
    done(bind_key, "bot", "--freeze", "--keys-file", path, *NOBODY)
    output = done(list_keys, "--keys-file", path)
    lines = output.splitlines()
    bot, two = next(line for line in lines if "bot" in line), next(line for line in lines if "two" in line)
    assert bot.split() == ["bot", "qot:read", "rate=3/m,sell,ord=50k", "FROZEN", "never"]
    assert two.split() == ["two", "acc:read", "-", "1", "machine(s)", "never", "[red]x�[31m"]
    assert raw(path)["hash"][7:20] not in output


def test_the_list_shows_the_limits_on_the_order_itself(path: Path) -> None:
    made(
        path, "--allowed-order-types", "NORMAL,MARKET", "--max-order-qty", "1000", "--price-collar-pct", "2.5",
        "--duplicate-window-s", "10", "--no-extended-hours",
    )  # fmt: skip
    done(gen_key, "--id", "two", "--scopes", "acc:read", "--keys-file", path, "--extended-hours")
    edit(
        path,
        lambda document: document["keys"][0].update(
            trading_hours=True, max_position_value=2_000_000, max_open_orders=7
        ),
        None,
    )
    bot, two = (line for line in done(list_keys, "--keys-file", path).splitlines() if "read" in line)
    assert "type=market+normal,pos=2M,open=7,qty=1k,collar=2.5%,dup=10s,trading-hours,regular-hours" in bot
    assert two.split()[:3] == ["two", "acc:read", "-"], "what it may do anyway is no limit"


def test_an_expired_key_is_listed_as_expired(path: Path) -> None:
    made(path)
    edit(path, lambda document: document["keys"][0].update(expires_at="2026-01-01T00:00:00Z"), None)
    assert "2026-01-01 00:00Z EXPIRED" in done(list_keys, "--keys-file", path)


def test_a_missing_file_is_no_empty_list(path: Path) -> None:
    assert "does not exist; make a first key with" in refused(list_keys, "--keys-file", path)


# -- bind-key ----------------------------------------------------------------------------------------------------


def bound(path: Path, *flags: object) -> Any:
    done(bind_key, "bot", *flags, "--keys-file", path, *NOBODY)
    return raw(path).get("allowed_machines")


def test_machines_are_added_replaced_cleared_and_frozen(path: Path) -> None:
    made(path)
    here, a, b = fingerprint("bot", "this-machine"), "a" * 64, "b" * 64
    secret = raw(path)["hash"]
    assert bound(path, "--this-machine") == [here]
    assert bound(path, "--machines", f"{a},{here},{a.upper()}") == [here, a]
    assert bound(path, "--replace", "--machines", b) == [b]
    assert bound(path, "--replace", "--this-machine", "--machines", b) == [b, here]
    assert bound(path, "--freeze") == []
    assert bound(path, "--machines", a) == [a]
    assert bound(path, "--clear") is None
    assert raw(path)["hash"] == secret


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--clear", "--freeze"),
        ("--clear", "--this-machine"),
        ("--freeze", "--machines", "a"),
        ("--replace",),
        ("--replace", "--freeze"),
        ("--replace", "--clear"),
        ("--machines", ""),
    ],
)
def test_wishes_that_exclude_each_other_change_nothing(path: Path, flags: tuple[str, ...]) -> None:
    made(path)
    before = path.read_bytes()
    refused(bind_key, "bot", *flags, "--keys-file", path, *NOBODY)
    assert path.read_bytes() == before


def test_a_fingerprint_no_machine_can_have_is_taken_with_a_warning(path: Path) -> None:
    made(path)
    result = call(bind_key, "bot", "--replace", "--machines", "fp_abc123,fp_def456", "--keys-file", path, *NOBODY)
    assert result.exit_code == 0
    assert "allows `fp_abc123`, `fp_def456`, which no machine can have" in result.stderr


def test_a_key_that_does_not_exist_is_neither_bound_nor_revoked(path: Path) -> None:
    made(path)
    for command, flags in ((bind_key, ("--freeze",)), (revoke_key, ())):
        text = refused(command, "bto", *flags, "--keys-file", path, *NOBODY)
        assert "there is no key `bto` in" in text


# -- machine-id --------------------------------------------------------------------------------------------------


def test_the_machine_id_is_shown_raw_or_as_the_fingerprint_of_one_key(machine: str) -> None:
    assert done(machine_id) == f"{machine}\n"
    assert done(machine_id, "--for-key", "bot") == f"{fingerprint('bot', machine)}\n"
    assert "--for-key `a b` is not a usable id" in refused(machine_id, "--for-key", "a b")


# -- revoke-key, and what the running sidecar says ---------------------------------------------------------------


class Sidecar:
    """Stands for a running sidecar: its admin listener answers with `revisions`, the last one for ever."""

    def __init__(self) -> None:
        self.revisions: list[Any] = []
        self.status = 200
        self.hosts: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hosts.append(self.headers["Host"])
                revision = outer.revisions.pop(0) if len(outer.revisions) > 1 else outer.revisions[0]
                body = json.dumps({"revision": revision() if callable(revision) else revision}).encode()
                self.send_response(outer.status if self.path == "/api/revision" else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    made = Sidecar()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def revision(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_revoke_returns_when_the_running_sidecar_has_the_new_keys(path: Path, sidecar: Sidecar) -> None:
    made(path)
    sidecar.revisions = [revision(path), revision(path), lambda: revision(path)]
    output = done(revoke_key, "bot", "--keys-file", path, "--admin", sidecar.address)
    assert json.loads(path.read_text())["keys"] == []
    assert output.splitlines() == [
        "revoked key `bot`",
        f"in force: the running sidecar at {sidecar.address} has revision {revision(path)[:12]}",
    ]
    assert len(sidecar.hosts) == 3


def test_bind_returns_when_the_running_sidecar_has_the_new_keys(path: Path, sidecar: Sidecar) -> None:
    made(path)
    sidecar.revisions = [lambda: revision(path)]
    assert "in force" in done(bind_key, "bot", "--freeze", "--keys-file", path, "--admin", sidecar.address)


def test_a_sidecar_that_keeps_the_old_keys_is_an_error(
    path: Path, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path)
    sidecar.revisions = ["0" * 64]
    monkeypatch.setattr("sidecar.cli.running.wait_until_in_force.__defaults__", (0.3,))
    text = refused(revoke_key, "bot", "--keys-file", path, "--admin", sidecar.address)
    assert f"the change is saved, but the one running at {sidecar.address} still has 000000000000, not" in text
    assert json.loads(path.read_text())["keys"] == []


def test_a_later_edit_by_somebody_else_also_counts_as_in_force(path: Path, sidecar: Sidecar) -> None:
    made(path)

    def another_edit() -> str:
        edit(
            path,
            lambda document: document["keys"].append({"id": "z", "hash": hash_of("z"), "scopes": ["acc:read"]}),
            None,
        )
        return revision(path)

    sidecar.revisions = ["old", another_edit, lambda: revision(path)]
    assert "in force" in done(revoke_key, "bot", "--keys-file", path, "--admin", sidecar.address)


def test_without_a_running_sidecar_revoke_says_so(path: Path) -> None:
    made(path)
    output = done(revoke_key, "bot", "--keys-file", path, *NOBODY)
    assert "no running sidecar answers at 127.0.0.1:1" in output


def test_the_admin_listener_is_found_through_the_settings(path: Path, tmp_path: Path, sidecar: Sidecar) -> None:
    made(path)
    sidecar.revisions = [lambda: revision(path)]
    config = tmp_path / "sidecar.yaml"
    port = sidecar.address.rpartition(":")[2]
    config.write_text(f"keys: {{file: {path}}}\nlisteners: {{admin: {{bind: 0.0.0.0, port: {port}}}}}\n")
    assert "in force" in done(revoke_key, "bot", "--config", config)
    assert sidecar.hosts == [sidecar.address]
    config.write_text(f"keys: {{file: {path}}}\nlisteners: {{admin: off}}\n")
    made(path)
    assert "the settings name no admin listener" in done(revoke_key, "bot", "--config", config)


@pytest.mark.parametrize(("status", "said"), [(500, "status 500"), (403, "status 403")])
def test_something_else_at_the_admin_address_confirms_nothing(
    path: Path, sidecar: Sidecar, status: int, said: str
) -> None:
    made(path)
    sidecar.revisions, sidecar.status = ["x"], status
    text = refused(revoke_key, "bot", "--keys-file", path, "--admin", sidecar.address)
    assert "does not say which keys are in force" in text
    assert said in text


def test_an_admin_address_that_is_none_is_refused_before_anything_is_changed(path: Path) -> None:
    made(path)
    before = path.read_bytes()
    assert "--admin `nowhere` is not HOST:PORT" in refused(revoke_key, "bot", "--keys-file", path, "--admin", "nowhere")
    assert path.read_bytes() == before
