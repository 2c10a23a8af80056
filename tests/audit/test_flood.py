"""Nobody can fill the disk with refusals, and none goes uncounted."""

from __future__ import annotations

import pytest
from audit_making import record, refusal
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit import flood
from sidecar.audit.flood import SINGLY, FloodControl
from sidecar.audit.record import KEY_INVALID, KEY_MISSING, AuditRecord


def unknown(address: str = "10.0.0.7", reason: str = "key_unknown") -> AuditRecord:
    return refusal(key_id=KEY_INVALID, address=address, reason=reason)


def test_the_first_refusals_are_written_at_once_and_further_repeats_are_summed() -> None:
    control = FloodControl()
    written = [control.admit(refusal(), 0.04 * number) for number in range(SINGLY + 9)]
    assert written == [True] * SINGLY + [False] * 9
    assert control.due(0.99) == []
    (summed,) = control.due(1.0)
    assert (summed.count, summed.key_id, summed.reason, summed.outcome) == (9, "sim-bot", "order_value", "reject")
    assert summed.decision_id is None


def test_while_it_goes_on_there_is_one_record_a_second() -> None:
    control = FloodControl()
    written = 0
    counted = 0
    for number in range(10_000):
        now = number / 1_000
        written += control.admit(unknown(), now)
        sums = control.due(now)
        written += len(sums)
        counted += sum(each.count or 0 for each in sums)
    counted += sum(each.count or 0 for each in control.drain())
    assert written <= 11
    assert counted + 1 == 10_000


def test_after_a_quiet_second_the_next_one_is_written_at_once_again() -> None:
    control = FloodControl()
    assert control.admit(refusal(), 0.0)
    assert control.due(1.0) == []
    assert control.next_due is None
    assert control.admit(refusal(), 1.0)


def test_without_a_valid_key_the_address_is_what_counts() -> None:
    control = FloodControl()
    assert control.admit(unknown(), 0.0)
    assert not control.admit(refusal(key_id=KEY_MISSING, reason="key_missing"), 0.0)
    assert control.admit(unknown("10.0.0.8"), 0.0)


def test_with_a_key_every_code_counts_for_itself() -> None:
    control = FloodControl()
    for _ in range(SINGLY):
        assert control.admit(refusal(reason="rate"), 0.0)
    assert not control.admit(refusal(reason="rate"), 0.0)
    assert control.admit(refusal(), 0.0)
    assert control.admit(refusal(key_id="other", reason="rate"), 0.0)


def test_what_is_essential_is_never_held_back() -> None:
    control = FloodControl()
    assert all(control.admit(record(essential=True), 0.0) for _ in range(10_000))
    assert all(control.admit(record(outcome="success", essential=True), 0.0) for _ in range(10_000))


def test_many_addresses_share_one_sum_and_leave_room_for_those_with_a_key() -> None:
    control = FloodControl()
    written = sum(control.admit(unknown(f"10.0.{number // 256}.{number % 256}"), 0.5) for number in range(5_000))
    assert written == flood.MOST_WITHOUT_KEY
    assert control.admit(refusal(), 0.5)
    sums = control.due(1.5)
    assert sum(each.count or 0 for each in sums) == 5_000 - written
    assert [each.reason for each in sums] == ["flood"]
    assert sums[0].address is None


def test_memory_is_bounded_however_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood, "MOST_WITHOUT_KEY", 10**9)
    control = FloodControl()
    for number in range(5_000):
        control.admit(unknown(str(number)), 0.0)
    assert len(control._sums) <= flood.MOST_SOURCES + 2


def test_recorded_reads_are_bounded_too() -> None:
    control = FloodControl()
    read = record(endpoint="get_kl proto_id=3006")
    assert sum(control.admit(read, 0.0) for _ in range(1_000)) == flood.MOST_WITH_KEY
    assert [each.count for each in control.due(1.0)] == [1_000 - flood.MOST_WITH_KEY]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.7),
            st.sampled_from(["10.0.0.1", "10.0.0.2", None]),
            st.sampled_from(["sim-bot", "other", KEY_INVALID, KEY_MISSING]),
            st.sampled_from(["rate", "order_value"]),
        ),
        max_size=200,
    )
)
def test_every_refusal_is_either_written_or_counted(steps: list[tuple[float, str | None, str, str]]) -> None:
    control = FloodControl()
    now = 100.0
    written = counted = 0
    for seconds, address, key_id, reason in steps:
        now += seconds
        counted += sum(each.count or 0 for each in control.due(now))
        written += control.admit(refusal(address=address, key_id=key_id, reason=reason), now)
    counted += sum(each.count or 0 for each in control.drain())
    assert written + counted == len(steps)
