"""What doctor tries on OpenD: all well on a paper OpenD, and on one that is otherwise the setting that helps; no paper order is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from live import LiveSandbox, Stage

from sidecar.doctor import paper_order
from sidecar.doctor.check import Check, Verdict, good
from sidecar.doctor.line import Line
from sidecar.doctor.paper_order import REMARK, paper_checks
from sidecar.doctor.probe import probe_checks, shareable
from sidecar.errors import UpstreamError
from sidecar.settings import Policy, Settings, Upstream


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSandbox]:
    with Stage(tmp_path_factory.mktemp("probe")) as stage:
        yield stage.sandbox(tick_interval=0)


@pytest.fixture(autouse=True)
def well_again(sandbox: LiveSandbox) -> Iterator[None]:
    yield
    sandbox.set_faults()
    sandbox.delays.clear()
    assert sandbox.working() == [], "no test leaves an order"


def settings_for(sandbox: LiveSandbox, **policy: Any) -> Settings:
    return Settings(upstream=Upstream(host="127.0.0.1", port=sandbox.port), policy=Policy(**policy))


async def probed(settings: Settings) -> dict[str, Check]:
    return {check.name: check async for check in probe_checks(settings)}


async def ordered(settings: Settings) -> dict[str, Check]:
    return {check.name: check async for check in paper_checks(settings)}


def doubts(found: dict[str, Check]) -> dict[str, Check]:
    return {name: check for name, check in found.items() if check.verdict in (Verdict.DOUBT, Verdict.BAD)}


# -- by reading alone -------------------------------------------------------------------------------------------------


async def test_on_a_paper_opend_all_is_as_the_sidecar_takes_it(sandbox: LiveSandbox) -> None:
    before = len(sandbox.orders())
    found = await probed(settings_for(sandbox))
    assert doubts(found) == {}
    assert len(found) == 14
    assert len(sandbox.orders()) == before, "it only reads"


async def test_a_market_without_a_quote_right_is_told_with_what_that_means(sandbox: LiveSandbox) -> None:
    sandbox.set_faults("refuse:3203")
    found = doubts(await probed(settings_for(sandbox)))
    assert set(found) == {"probe.quote_hk", "probe.quote_us", "probe.quote_sh"}
    assert "price_unavailable" in found["probe.quote_us"].text and "quote right" in found["probe.quote_us"].remedy


async def test_lists_that_are_slow_name_the_setting_that_waits_for_them(sandbox: LiveSandbox) -> None:
    sandbox.delays[2102] = 0.3
    found = doubts(await probed(settings_for(sandbox, facts_timeout=0.5)))
    assert set(found) == {"probe.holdings"}
    assert found["probe.holdings"].remedy == "`policy.facts_timeout: 1`"


async def test_lists_that_are_refused_are_told_in_opends_words(sandbox: LiveSandbox) -> None:
    sandbox.set_faults("refuse:2201")
    (check,) = doubts(await probed(settings_for(sandbox))).values()
    assert check.name == "probe.order_lists" and "of 8 accounts are refused" in check.text


async def test_an_opend_that_takes_smaller_requests_names_the_limit(
    sandbox: LiveSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_raw = Line.ask_raw

    async def picky(line: Line, proto_id: int, body: bytes, *, timeout: float = 5.0) -> Any:
        if len(body) > 1024**2:
            raise UpstreamError("OpenD closed the connection")
        return await ask_raw(line, proto_id, body, timeout=timeout)

    monkeypatch.setattr(Line, "ask_raw", picky)
    (check,) = doubts(await probed(settings_for(sandbox))).values()
    assert (check.name, check.remedy) == ("probe.body_size", "`limits.request_body: 1024 KiB`")


async def test_what_could_not_be_tried_is_a_doubt_and_the_rest_goes_on(sandbox: LiveSandbox) -> None:
    sandbox.set_faults("disconnect:1004")
    found = await probed(settings_for(sandbox))
    assert set(doubts(found)) == {"probe.keep_alive"}
    assert "could not be tried" in found["probe.keep_alive"].text


# -- with a paper order -----------------------------------------------------------------------------------------------


async def test_a_paper_order_is_placed_seen_and_cancelled(sandbox: LiveSandbox) -> None:
    before = len(sandbox.orders())
    found = await ordered(settings_for(sandbox))
    assert doubts(found) == {}
    assert set(found) == {
        f"paper.{name}" for name in (
            "order", "listed", "remark", "push", "push_unasked", "change", "packet_twice", "packet_of_another",
            "both_order_ids", "cancel",
        )
    }  # fmt: skip
    (order,) = sandbox.orders()[before:]
    assert order["header"]["trdEnv"] == 0 and order["remark"] == REMARK
    assert float(order["price"]) <= 340, "far below the market's 480"


async def test_an_order_that_opend_refuses_is_a_doubt_and_leaves_nothing(sandbox: LiveSandbox) -> None:
    sandbox.set_faults("refuse:2202")
    found = await ordered(settings_for(sandbox))
    assert list(found) == ["paper.order"] and found["paper.order"].verdict is Verdict.DOUBT


async def test_an_order_without_an_answer_is_wrong_and_says_what_to_look_for(
    sandbox: LiveSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_order, "_PATIENCE", 0.5)
    sandbox.set_faults("drop:2202@1")
    found = await ordered(settings_for(sandbox))
    assert found["paper.order"].verdict is Verdict.BAD and REMARK in found["paper.order"].remedy


async def test_an_order_that_is_not_cancelled_is_wrong_and_is_named(sandbox: LiveSandbox) -> None:
    sandbox.set_faults("refuse:2205")
    before = len(sandbox.received(2205))
    check = (await ordered(settings_for(sandbox)))["paper.cancel"]
    (left,) = sandbox.working()
    assert len(sandbox.received(2205)) == before + 2, "one change, which was refused, and the cancel"
    assert check.verdict is Verdict.BAD and left.text_id in check.text and check.remedy == "cancel it by hand"
    assert shareable(check, settings_for(sandbox)).text == check.text
    sandbox.set_faults()
    line = await Line.opened(settings_for(sandbox).upstream)
    account = type("Account", (), {"trdEnv": 0, "accID": left.acc_id})
    assert (await paper_order._cancelled(line, account, 1, left.text_id)).verdict is Verdict.GOOD
    line.close()


async def test_an_order_is_cancelled_on_another_connection_where_the_first_was_lost(sandbox: LiveSandbox) -> None:
    sandbox.set_faults("disconnect:2201@1")
    found = await ordered(settings_for(sandbox))
    assert found["paper.seen"].verdict is Verdict.DOUBT
    assert found["paper.cancel"].verdict is Verdict.GOOD


# -- the report -------------------------------------------------------------------------------------------------------


async def test_no_account_and_no_address_is_in_what_is_shared(sandbox: LiveSandbox) -> None:
    settings = settings_for(sandbox)
    found = [*(await probed(settings)).values(), *(await ordered(settings)).values()]
    text = "".join(f"{check.text}{check.remedy}" for check in (shareable(each, settings) for each in found))
    for acc_id in sandbox.do(lambda: list(sandbox.sandbox.accounts)):
        assert str(acc_id) not in text
    assert "127.0.0.1" not in text and str(sandbox.port) not in text
    assert "HK.00700" in text and "SH.600519" in text


def test_opends_own_words_are_stripped_of_numbers_and_addresses() -> None:
    settings = Settings(upstream=Upstream(host="10.1.2.3", port=11111))
    check = good("probe.x", "OpenD at 10.1.2.3:11111 says: Nonexisting acc_id 281756455983234027 on 10.1.2.3")
    assert shareable(check, settings).text == "OpenD at its address says: Nonexisting acc_id … on its address"
