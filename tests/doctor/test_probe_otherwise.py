"""What doctor tells of an OpenD that is otherwise than the sidecar's authors inferred, point by point, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live import LiveSandbox, Stage, new_rsa_key

from sidecar.doctor import aes_ecb, paper_changes, probe_accounts
from sidecar.doctor.check import Check, Verdict
from sidecar.doctor.paper_order import paper_checks
from sidecar.doctor.probe import probe_checks
from sidecar.doctor.unasked import unasked_checks
from sidecar.sandbox.otherwise import Otherwise
from sidecar.settings import Limits, Settings, Upstream


@contextmanager
def opend(folder: Path, *otherwise: Otherwise, rsa: bool = False) -> Iterator[tuple[LiveSandbox, Settings]]:
    key = new_rsa_key(folder / "rsa.pem") if rsa else None
    with Stage(folder) as stage:
        made = stage.sandbox(tick_interval=0, otherwise=frozenset(otherwise), rsa_key=key)
        yield made, Settings(upstream=Upstream(host="127.0.0.1", port=made.port, rsa_key=key))
        assert made.working() == [], "no test leaves an order"


async def probed(settings: Settings) -> dict[str, Check]:
    return {check.name: check async for check in probe_checks(settings)}


async def ordered(settings: Settings) -> dict[str, Check]:
    return {check.name: check async for check in paper_checks(settings)}


def doubted(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.verdict in (Verdict.DOUBT, Verdict.BAD)}


# -- by reading alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("otherwise", "name", "told", "usual"),
    [
        (Otherwise.SERIALS_ANYHOW, "serial_goes_back", "answers a serial", "refuses a serial"),
        (Otherwise.SERIALS_UNANSWERED, "serial_goes_back", "does not answer a serial", "refuses a serial"),
        (Otherwise.UNKNOWN_FIELDS_REFUSED, "unknown_field", "refuses a field", "passes over a field"),
        (Otherwise.SEC_MARKET_NEEDED, "sec_market", "wants secMarket", "finds a security without secMarket"),
    ],
)
async def test_what_nothing_rests_on_is_told_as_it_is(
    tmp_path: Path, otherwise: Otherwise, name: str, told: str, usual: str
) -> None:
    for choice, text in ((otherwise, told), (None, usual)):
        with opend(tmp_path, *filter(None, [choice])) as (_, settings):
            found = (await probed(settings))[f"probe.{name}"]
            assert found.verdict is Verdict.GOOD and text in found.text, (choice, found)
            assert "the sidecar" in found.text, "and what that means"


async def test_a_price_that_is_no_number_is_asked_about_without_an_order(tmp_path: Path) -> None:
    with opend(tmp_path) as (made, settings):
        assert "refuses a price" in (await probe_accounts.numbers(settings)).text
        made.set_faults("disconnect:2111")
        assert "does not answer a price" in (await probe_accounts.numbers(settings)).text
        assert made.orders() == []


async def test_without_a_paper_account_nothing_is_asked_of_a_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(line: Any) -> None:
        return None

    monkeypatch.setattr(probe_accounts, "paper_account", none)
    with opend(tmp_path) as (made, settings):
        found = await probed(settings)
        assert {name for name, one in found.items() if one.verdict is Verdict.UNASKED} == {
            "probe.aes_ecb", "probe.sec_market", "probe.numbers",
        }  # fmt: skip
        assert made.received(2111) == []


# -- with an RSA key --------------------------------------------------------------------------------------------------


async def test_an_opend_with_a_key_that_takes_clear_connections_too_needs_a_firewall(tmp_path: Path) -> None:
    with opend(tmp_path, rsa=True) as (_, settings):
        check = (await probed(settings))["probe.clear_connection"]
        assert check.verdict is Verdict.DOUBT and "keeps nobody out" in check.text and "firewall" in check.remedy
    with opend(tmp_path, Otherwise.CLEAR_REFUSED, rsa=True) as (_, settings):
        found = await probed(settings)
        assert doubted(found) == set() and "no connection in clear" in found["probe.clear_connection"].text


async def test_the_padding_of_aes_ecb_is_compared_with_the_sidecars(tmp_path: Path) -> None:
    with opend(tmp_path, rsa=True) as (_, settings):
        check = await aes_ecb.aes_ecb(settings)
        assert check.verdict is Verdict.GOOD and "with PKCS#7" in check.text
    with opend(tmp_path, Otherwise.ECB_IN_FUTUS_FORM, rsa=True) as (_, settings):
        check = (await probed(settings))["probe.aes_ecb"]
        assert check.verdict is Verdict.DOUBT and "packetEncAlgo 2" in check.remedy


async def test_without_a_key_the_padding_of_aes_ecb_is_not_asked_and_says_why(tmp_path: Path) -> None:
    with opend(tmp_path) as (_, settings):
        check = await aes_ecb.aes_ecb(settings)
    assert check.verdict is Verdict.UNASKED and "`upstream.rsa_key`" in check.text


async def test_an_opend_that_falls_silent_under_aes_ecb_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aes_ecb, "_PATIENCE", 0.3)
    with opend(tmp_path, rsa=True) as (made, settings):
        made.set_faults("drop:1002")
        assert "does not answer" in (await aes_ecb.aes_ecb(settings)).text
        made.set_faults("refuse:1002")
        assert "refuses" in (await aes_ecb.aes_ecb(settings)).text


# -- with a paper order -----------------------------------------------------------------------------------------------


async def test_an_opend_that_takes_a_packet_twice_names_the_limit_that_stands_in_for_it(tmp_path: Path) -> None:
    with opend(tmp_path, Otherwise.PACKETS_ANYHOW) as (_, settings):
        found = await ordered(settings)
    assert doubted(found) == {"paper.packet_twice"}
    assert "`duplicate_window_s`" in found["paper.packet_twice"].remedy
    assert "takes a packetID that names another connection" in found["paper.packet_of_another"].text


async def test_which_of_two_order_ids_counts_and_who_is_pushed_to_is_told(tmp_path: Path) -> None:
    with opend(tmp_path, Otherwise.BOTH_ORDER_IDS, Otherwise.PUSHED_UNASKED) as (_, settings):
        found = await ordered(settings)
    assert doubted(found) == set()
    assert "takes an orderIDEx beside an orderID" in found["paper.both_order_ids"].text
    assert "it was also pushed" in found["paper.push_unasked"].text


async def test_every_change_is_of_the_one_paper_order_and_leads_away_from_the_market(tmp_path: Path) -> None:
    with opend(tmp_path, Otherwise.PACKETS_ANYHOW, Otherwise.BOTH_ORDER_IDS) as (made, settings):
        await ordered(settings)
        (order,) = made.orders()
        changes = [one.c2s for one in made.received(2205)]
    assert len(changes) == 5 and {one["orderIDEx"] for one in changes} == {changes[0]["orderIDEx"]}
    prices = [float(one["price"]) for one in changes if one["modifyOrderOp"] == 1]
    assert prices == [order["price"] - steps for steps in (1, 2, 3, 4)]
    assert changes[-1]["modifyOrderOp"] == 2 and all(one["header"]["trdEnv"] == 0 for one in changes)


async def test_a_change_that_gets_no_answer_is_told_as_that_and_the_order_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_changes, "_PATIENCE", 0.3)
    with opend(tmp_path) as (made, settings):
        made.set_faults("drop:2205@2")
        found = await ordered(settings)
    assert "does not answer a packetID for a second time" in found["paper.packet_twice"].text
    assert found["paper.cancel"].verdict is Verdict.GOOD


async def test_without_a_price_worth_the_name_no_order_is_sent(tmp_path: Path) -> None:
    with opend(tmp_path) as (made, settings):
        made.set_price("HK.00700", "12")
        found = await ordered(settings)
        assert list(found) == ["paper.order"] and found["paper.order"].verdict is Verdict.DOUBT
        assert made.orders() == []


# -- left alone -------------------------------------------------------------------------------------------------------


def test_what_is_left_alone_is_named_with_the_reason_and_never_makes_a_report_red() -> None:
    settings = Settings(upstream=Upstream(max_connections=77), limits=Limits(reply_body=8 * 1024**2))
    found = {check.name: check for check in unasked_checks(settings, paper=True)}
    assert all(check.verdict is Verdict.UNASKED for check in found.values())
    assert "the sidecar uses 77 at most" in found["unasked.connections"].text
    assert "`upstream.max_connections`" in found["unasked.connections"].remedy
    assert "up to 8 MiB" in found["unasked.reply_size"].text
    more = {check.name: check for check in unasked_checks(settings, paper=False)}
    assert set(more) - set(found) == {"unasked.paper"} and "--paper" in more["unasked.paper"].remedy
