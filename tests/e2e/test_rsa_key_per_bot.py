"""One RSA private key per API key: it encrypts a bot's connections and tells whose they are; no secret is sent at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from live import LiveSandbox, LiveSidecar, Stage, new_rsa_key

TRADER = ("qot:read", "acc:read", "trade:simulate")


@dataclass(frozen=True)
class Office:
    stage: Stage
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    secrets: dict[str, str]
    rsa: dict[str, Path]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Stage(tmp_path_factory.mktemp("rsa")) as stage:
        secrets = {
            "left": stage.keys.add("left", *TRADER),
            "right": stage.keys.add("right", *TRADER, allowed_trd_sides=["SELL"]),
        }
        rsa = {name: new_rsa_key(stage.folder / f"{name}.pem") for name in ("left", "right", "stranger")}
        sandbox = stage.sandbox(tick_interval=0)
        door = {"port": 0, "rsa_keys": {name: str(rsa[name]) for name in secrets}}
        yield Office(stage, sandbox, stage.sidecar(sandbox.port, listeners={"tcp": [door]}), secrets, rsa)


def test_the_rsa_key_alone_says_whose_connection_it_is(office: Office) -> None:
    left = office.stage.sdk(office.sidecar.port, None, rsa=office.rsa["left"])
    right = office.stage.sdk(office.sidecar.port, None, rsa=office.rsa["right"])
    left.open("trade", "trade")
    right.open("trade", "trade")
    assert left.place("HK.00700", 400, 100).ok
    assert right.place("HK.00700", 400, 100).code() == "side"
    assert office.sidecar.wait_audit(key_id="left", outcome="success")
    assert office.sidecar.wait_audit(key_id="right", outcome="reject")["reason"] == "side"


def test_another_keys_secret_under_ones_own_rsa_key_is_no_key(office: Office) -> None:
    bot = office.stage.sdk(office.sidecar.port, office.secrets["left"], rsa=office.rsa["right"])
    bot.open("trade", "trade")
    assert bot.call("trade", "get_acc_list").code() == "key_unknown"


def test_the_rsa_key_and_the_secret_of_one_bot_go_together(office: Office) -> None:
    bot = office.stage.sdk(office.sidecar.port, office.secrets["left"], rsa=office.rsa["left"])
    bot.open("trade", "trade")
    assert bot.call("trade", "get_acc_list").ok


def test_rsa_for_the_introduction_only_leaves_the_rest_in_clear_as_the_sdk_expects(office: Office) -> None:
    bot = office.stage.sdk(office.sidecar.port, None, rsa=office.rsa["left"], encrypt=False)
    bot.open("trade", "trade")
    assert bot.call("trade", "get_acc_list").ok


def test_a_strangers_rsa_key_gets_nowhere(office: Office) -> None:
    before = len(office.sandbox.asked_by_clients())
    bot = office.stage.sdk(office.sidecar.port, None, rsa=office.rsa["stranger"])
    opening = bot.begin("open", name="trade", kind="trade")
    line = office.sidecar.wait_audit(reason="malformed_request", timeout=5)
    assert "RSA" in line["message"]
    assert not opening.done()
    assert office.sandbox.asked_by_clients()[before:] == []
