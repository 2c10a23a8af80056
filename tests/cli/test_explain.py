"""The command explain: asks the running sidecar, or decides by what is on disk and what it is given; what it shows and returns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from live import Stage
from raw_client import PLACE_ORDER, RawClient

from sidecar.cli.explain import REFUSED
from sidecar.cli.main import main

ACCOUNT = "1001001"
BUY = ("--buy", "HK.00700", "--qty", "100", "--price", "4")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("explain")) as stage:
        yield stage


@pytest.fixture(scope="module")
def running(stage: Stage) -> Iterator[Any]:
    stage.secret = stage.keys.add(  # type: ignore[attr-defined]
        "bot", "trade:simulate", max_order_value=400, allowed_acc_ids=[1001001], max_orders_per_minute=2
    )
    stage.keys.add("both", "trade:simulate", "trade:real")
    stage.capped = stage.keys.add("capped", "trade:simulate", max_order_value=400)  # type: ignore[attr-defined]
    stage.keys.add("far", "trade:simulate", allowed_ips=["10.1.0.0/16"])
    app = stage.app(stage.sandbox(tick_interval=0).port)
    app.write_settings()
    yield app


@pytest.fixture
def explain(running: Any) -> Run:
    return lambda *words: _explain("--config", str(running.config_file), *words)


@pytest.fixture
def folder(tmp_path: Path, stage: Stage, running: Any) -> Path:
    """Of settings whose sidecar does not run."""
    path = tmp_path / "sidecar.yaml"
    path.write_text(json.dumps({"state_dir": str(tmp_path / "state"), "keys": {"file": str(stage.keys.path)}}))
    return tmp_path


def _explain(*words: str) -> Result:
    return CliRunner().invoke(main, ["explain", *words])


def test_an_order_that_passes_shows_every_check_with_its_numbers_and_ends_with_0(explain: Run) -> None:
    result = explain("--key", "bot", *BUY)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"BUY 100 HK.00700 at 4, NORMAL, in paper account {ACCOUNT}  (key bot, as from 127.0.0.1)"
    assert lines[1] == "as the running sidecar decides now"
    assert "  ✓ order value: 100 × 4 (limit) × 1 = 400 HKD, the limit is 400 HKD" in lines
    assert lines[-1] == "would be allowed, it counts as 400 HKD"


def test_an_order_that_is_refused_shows_which_checks_fail_and_ends_with_3(explain: Run) -> None:
    result = explain("--key", "bot", "--buy", "HK.00700", "--qty", "200", "--price", "4")
    assert result.exit_code == REFUSED
    told = "order value 800 HKD is over the limit of 400 HKD"
    assert f"  ✗ order value [order_value]: {told}" in result.output
    assert "  ✓ rate: 1 in 60 s, the limit is 2" in result.output, "the checks after it are told too"
    assert result.output.splitlines()[-1] == f"would be refused: [sidecar:order_value] {told}"


def test_explaining_uses_nothing_up(explain: Run) -> None:
    for _ in range(4):
        assert explain("--key", "bot", *BUY).exit_code == 0


def test_what_is_explained_in_vain_takes_no_look_ups_from_the_key(explain: Run, stage: Stage, running: Any) -> None:
    unknown = ("--buy", "HK.09999", "--qty", "100", "--price", "4", "--acc-id", ACCOUNT)
    for _ in range(25):
        assert "instrument_unknown" in explain("--key", "capped", *unknown).output
    client = RawClient(running.port, stage.capped)  # type: ignore[attr-defined]
    assert client.ask(PLACE_ORDER, client.order_request(qty=100, price=4.0)).retType == 0
    client.close()


def test_json_says_the_same_for_programs(explain: Run) -> None:
    result = explain("--key", "bot", "--buy", "HK.00700", "--qty", "200", "--price", "4", "--json")
    told = json.loads(result.output)
    assert (told["running"], told["allowed"], told["code"], told["value"]) == (True, False, "order_value", "800")
    failed = [check for check in told["checks"] if not check["passed"]]
    assert [check["code"] for check in failed] == ["order_value"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--cancel", "6666"), "cancel order 6666, in paper account 1001001"),
        (("--cancel", "FT-6666"), "cancel order FT-6666, in paper account 1001001"),
        (("--modify", "6666", "--qty", "5", "--price", "4"), "modify order 6666 to 5 at 4, in paper account 1001001"),
        (("--cancel-all",), "cancel every order, in paper account 1001001"),
        (("--sell", "HK.00700", "--qty", "1", "--type", "market"), "SELL 1 HK.00700, MARKET, in paper account 1001001"),
    ],
)
def test_cancels_changes_and_other_types_are_described_by_flags(explain: Run, words: Any, expected: str) -> None:
    assert explain("--key", "bot", *words).output.startswith(expected)


def test_what_the_flags_cannot_say_is_taken_as_rest_takes_it(explain: Run, tmp_path: Path) -> None:
    legs = [
        {"security": {"market": 11, "code": "AAPL"}, "side": "BUY", "qty_ratio": 1},
        {"security": {"market": 11, "code": "MSFT"}, "side": "SELL", "qty_ratio": 1},
    ]
    order = {"trd_env": "SIMULATE", "acc_id": "1001002", "trd_market": "US", "combo_legs": legs, "qty": 1, "price": 3}
    body = tmp_path / "combo.json"
    body.write_text(json.dumps({**order, "order_type": "NORMAL"}))
    result = explain("--key", "both", "--body", str(body), "--request", "Trd_PlaceComboOrder")
    assert result.exit_code == 0, result.output


def test_a_key_that_trades_in_two_environments_needs_to_be_told_which(explain: Run) -> None:
    result = explain("--key", "both", *BUY, "--acc-id", ACCOUNT)
    assert result.exit_code == 2
    assert "say --real or --paper" in result.output


def test_a_key_limited_to_addresses_is_taken_to_come_from_one_of_them_unless_told_otherwise(explain: Run) -> None:
    assert "as from 10.1.0.0)" in explain("--key", "far", *BUY, "--acc-id", ACCOUNT).output
    elsewhere = explain("--key", "far", *BUY, "--acc-id", ACCOUNT, "--from", "10.2.0.1")
    assert elsewhere.exit_code == REFUSED
    assert "[sidecar:ip_not_allowed]" in elsewhere.output


def test_a_misspelt_key_is_told_the_closest_one(explain: Run) -> None:
    result = explain("--key", "bto", *BUY)
    assert result.exit_code == 1
    assert "did you mean `bot`?" in result.output


def test_one_thing_is_explained_at_a_time(explain: Run) -> None:
    result = explain("--key", "bot", *BUY, "--cancel", "1")
    assert result.exit_code == 2
    assert "say one thing to explain" in result.output


def test_facts_are_not_given_to_a_sidecar_that_asks_opend_itself(explain: Run) -> None:
    result = explain("--key", "bot", *BUY, "--quote", "4")
    assert result.exit_code == 1
    assert "--offline" in result.output


def test_where_none_runs_the_files_and_the_facts_given_decide_and_that_is_said(folder: Path) -> None:
    words = ("--config", str(folder / "sidecar.yaml"), "--key", "bot", *BUY)
    lacking = _explain(*words)
    assert lacking.exit_code == REFUSED
    assert "offline: by keys.json" in lacking.output
    assert "[instrument_unknown]" in lacking.output, "a fact that is not given fails, as where OpenD does not tell it"
    told = _explain(*words, "--instrument", "stock,HKD")
    assert told.exit_code == 0, told.output
    assert "= 400 HKD, the limit is 400 HKD" in told.output


def test_offline_what_the_ledger_has_counts(explain: Run, stage: Stage, running: Any) -> None:
    """The state of a sidecar that runs, looked at without asking it."""
    client = RawClient(running.port, stage.secret)  # type: ignore[attr-defined]
    for _ in range(2):
        assert client.ask(PLACE_ORDER, client.order_request(qty=100, price=4.0)).retType == 0
    client.close()
    result = explain("--key", "bot", *BUY, "--offline", "--instrument", "stock,HKD")
    assert result.exit_code == REFUSED, result.output
    assert "[sidecar:rate] 3 orders in 60 s, the limit is 2" in result.output


def test_offline_a_halt_on_disk_holds(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "HALT").write_text("fat finger\n")
    result = _explain("--config", str(folder / "sidecar.yaml"), "--key", "bot", *BUY, "--instrument", "stock,HKD")
    assert result.exit_code == REFUSED
    assert "[sidecar:trading_halted] trading is halted: fat finger" in result.output


@pytest.mark.parametrize("text", ["stock", "thing,HKD", "option,USD", "option,x1,USD"])
def test_an_instrument_that_cannot_be_read_says_how_it_is_written(folder: Path, text: str) -> None:
    result = _explain("--config", str(folder / "sidecar.yaml"), "--key", "bot", *BUY, "--instrument", text)
    assert result.exit_code == 2
    assert "--instrument" in result.output


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "1" * 70, "0e999999999"])
def test_an_amount_that_no_order_could_have_is_wrong_usage(folder: Path, text: str) -> None:
    result = _explain("--config", str(folder / "sidecar.yaml"), "--key", "bot", "--buy", "HK.00700", "--qty", text)
    assert result.exit_code == 2
    assert "digits before or after the point" in result.output


def test_a_body_that_is_nested_without_end_is_one_line_for_people(folder: Path) -> None:
    body = folder / "body.json"
    body.write_text("[" * 100_000)
    result = _explain("--config", str(folder / "sidecar.yaml"), "--key", "bot", "--body", str(body))
    assert result.exit_code == 1
    assert "is nested too deeply" in result.output
