"""OpenD as doctor finds it: well, away, logged out, without accounts, encrypted, and with another idea of the time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live import LiveSandbox, Stage, new_rsa_key

from sidecar.doctor import opend
from sidecar.doctor.check import Check, Verdict
from sidecar.doctor.line import Line
from sidecar.doctor.opend import opend_checks
from sidecar.settings import Settings, Upstream
from sidecar.wire import catalog
from sidecar.wire.messages import message_class


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSandbox]:
    with Stage(tmp_path_factory.mktemp("opend")) as stage:
        yield stage.sandbox(tick_interval=0)


async def looked(port: int, **upstream: Any) -> dict[str, Check]:
    settings = Settings(upstream=Upstream(host="127.0.0.1", port=port, connect_timeout=2.0, **upstream))
    return {check.name: check async for check in opend_checks(settings)}


class Told(Line):
    """A line whose OpenD says what a test wants of its state and accounts."""

    def __init__(self, *, quotes: bool = True, trading: bool = True, ahead: float = 0, ret_type: int = 0) -> None:
        super().__init__()
        self.session = type(
            "S", (), {"init_reply": message_class("InitConnect.Response")(), "close": lambda self: None}
        )()  # type: ignore[assignment]
        self._state = quotes, trading, ahead, ret_type

    async def ask(self, proto_id: int, request: Any, *, timeout: float = 5.0) -> Any:
        quotes, trading, ahead, ret_type = self._state
        if proto_id == catalog.GET_ACC_LIST:
            return message_class("Trd_GetAccList.Response")(retType=ret_type, retMsg="try later")
        reply: Any = message_class("GetGlobalState.Response")(retType=ret_type, retMsg="try later")
        reply.s2c.qotLogined, reply.s2c.trdLogined, reply.s2c.time = quotes, trading, int(time.time() + ahead)
        return reply


async def told(monkeypatch: pytest.MonkeyPatch, **state: Any) -> dict[str, Check]:
    async def opened(upstream: Upstream) -> Line:
        return Told(**state)

    monkeypatch.setattr(opend.Line, "opened", opened)
    return await looked(1)


async def test_a_well_opend_is_all_green(sandbox: LiveSandbox) -> None:
    found = await looked(sandbox.port)
    assert {name: check.verdict for name, check in found.items()} == dict.fromkeys(
        ("opend", "opend_login", "clock", "accounts"), Verdict.GOOD
    )
    assert "8 paper, 2 real" in found["accounts"].text and "in clear" in found["opend"].text


async def test_an_opend_behind_rsa_is_asked_with_the_key(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        key = new_rsa_key(tmp_path / "rsa.pem")
        port = stage.sandbox(tick_interval=0, rsa_key=key).port
        found = await looked(port, rsa_key=key)
        assert found["accounts"].verdict is Verdict.GOOD and "encrypted" in found["opend"].text


async def test_an_opend_that_is_away_or_is_none_is_wrong(sandbox: LiveSandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        assert "did not answer" in (await looked(port))["opend"].text
    found = await looked(port)
    assert list(found) == ["opend"] and found["opend"].verdict is Verdict.BAD
    assert "cannot be reached" in found["opend"].text and str(port) in found["opend"].remedy
    missing = await looked(sandbox.port, rsa_key=tmp_path / "missing.pem")
    assert missing["opend"].verdict is Verdict.BAD and "missing.pem" in missing["opend"].text


@pytest.mark.parametrize(
    ("state", "what"),
    [({"quotes": False}, "quotes"), ({"trading": False}, "trading"), ({"quotes": False, "trading": False}, "quotes and trading")],
)  # fmt: skip
async def test_an_opend_that_is_not_logged_in_is_wrong(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, bool], what: str
) -> None:
    check = (await told(monkeypatch, **state))["opend_login"]
    assert check.verdict is Verdict.BAD and f"not logged in for {what}" in check.text


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [(0, Verdict.GOOD), (-2, Verdict.GOOD), (-12, Verdict.DOUBT), (12, Verdict.DOUBT), (3600, Verdict.BAD), (-3600, Verdict.BAD)],
)  # fmt: skip
async def test_a_clock_that_is_off_is_told_by_how_much(
    monkeypatch: pytest.MonkeyPatch, ahead: float, verdict: Verdict
) -> None:
    check = (await told(monkeypatch, ahead=ahead))["clock"]
    assert check.verdict is verdict
    assert verdict is Verdict.GOOD or ("ahead of" if ahead < 0 else "behind") in check.text


async def test_an_opend_that_refuses_to_tell_is_wrong_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await told(monkeypatch, ret_type=-1)
    assert "try later" in found["opend_login"].text and found["opend_login"].verdict is Verdict.BAD
    assert "try later" in found["accounts"].text and found["accounts"].verdict is Verdict.BAD


async def test_an_opend_without_accounts_is_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await told(monkeypatch))["accounts"].verdict is Verdict.DOUBT


async def test_an_opend_that_falls_silent_is_wrong(sandbox: LiveSandbox) -> None:
    sandbox.set_faults("disconnect:1002@1")
    try:
        found = await looked(sandbox.port)
    finally:
        sandbox.set_faults()
    assert found["opend"].verdict is Verdict.BAD
