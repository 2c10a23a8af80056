"""What was done to an audit is found, and where."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from audit_making import chain, write_chain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.audit.chain import Head, read_link
from sidecar.audit.files import rotated_files
from sidecar.audit.verify import Report, verify

COUNT = 30


def damage(report: Report) -> list[tuple[int, int | None]]:
    return [(each.line, each.seq) for each in report.damage]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_a_sound_audit_has_nothing_to_report(path: Path) -> None:
    head = write_chain(path, COUNT)
    assert verify([path], head) == Report(COUNT, 1, head, ())
    assert verify([path], head, closed=True).damage == ()


def test_an_empty_audit_is_sound_unless_the_ledger_knows_better(path: Path) -> None:
    path.touch()
    assert verify([path]) == Report(0, None, None, ())
    assert "last records were removed" in verify([path], Head(3, "ab")).damage[0].what


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_found_where_it_is(path: Path, data: st.DataObject) -> None:
    lines, _ = chain(5)
    whole = b"".join(lines)
    position = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[position]))
    path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
    report = verify([path])
    assert report.damage
    assert report.damage[0].line == whole[:position].count(b"\n") + 1


def test_a_changed_record_is_one_finding_and_what_follows_is_sound(path: Path) -> None:
    lines, head = chain(COUNT)
    lines[9] = lines[9].replace(b"350.10", b"950.10")
    path.write_bytes(b"".join(lines))
    report = verify([path], head)
    assert damage(report) == [(10, 10)]
    assert "was changed" in report.damage[0].what


def test_a_removed_record_leaves_a_gap(path: Path) -> None:
    lines, head = chain(COUNT)
    path.write_bytes(b"".join(lines[:9] + lines[10:]))
    report = verify([path], head)
    assert damage(report) == [(10, 11)]
    assert "1 records before it are missing" in report.damage[0].what


def test_swapped_records_are_found(path: Path) -> None:
    lines, head = chain(COUNT)
    lines[9], lines[10] = lines[10], lines[9]
    path.write_bytes(b"".join(lines))
    assert damage(verify([path], head)) == [(10, 11), (11, 10), (12, 12)]


def test_a_repeated_record_is_found(path: Path) -> None:
    lines, head = chain(COUNT)
    path.write_bytes(b"".join(lines[:10] + lines[5:6] + lines[10:]))
    assert (11, 6) in damage(verify([path], head))


def test_a_record_written_anew_with_a_right_hash_is_found_by_the_next(path: Path) -> None:
    lines, head = chain(COUNT)
    before = read_link(lines[8][:-1])
    assert before is not None
    forged, _ = chain(1, before.head)
    assert forged[0] != lines[9]
    assert read_link(forged[0][:-1]) is not None
    path.write_bytes(b"".join(lines[:9] + forged + lines[10:]))
    assert damage(verify([path], head)) == [(11, 11)]


@pytest.mark.parametrize("left", [0, 1, COUNT - 1])
def test_records_cut_off_at_the_end_are_found_with_the_ledger(path: Path, left: int) -> None:
    lines, head = chain(COUNT)
    path.write_bytes(b"".join(lines[:left]))
    assert verify([path]).damage == ()
    (found,) = verify([path], head).damage
    assert f"ends at seq {left}" in found.what


def test_a_whole_chain_written_anew_is_found_with_the_ledger(path: Path) -> None:
    _, head = chain(COUNT)
    lines, _ = chain(COUNT, Head(0, "f" * 64))
    path.write_bytes(b"".join(lines))
    assert [each.what for each in verify([path], head).damage] == [
        "the first record does not begin a chain",
        "it is not the record the ledger knows",
    ]


def test_records_added_after_an_orderly_end_are_found(path: Path) -> None:
    lines, head = chain(COUNT)
    more, _ = chain(2, head)
    path.write_bytes(b"".join(lines + more))
    assert verify([path], head).damage == ()
    (found,) = verify([path], head, closed=True).damage
    assert "was added" in found.what


def test_a_line_that_is_not_whole_is_found(path: Path) -> None:
    lines, _ = chain(COUNT)
    path.write_bytes(b"".join(lines)[:-1])
    assert damage(verify([path])) == [(COUNT, COUNT)]


def test_the_chain_is_followed_over_rotated_and_packed_files(tmp_path: Path, path: Path) -> None:
    head = write_chain(tmp_path / "audit.2026-11-20.jsonl", 10)
    packed = tmp_path / "audit.2026-11-19.jsonl.1.gz"
    (tmp_path / "audit.2026-11-20.jsonl").rename(tmp_path / "plain")
    packed.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    head = write_chain(tmp_path / "audit.2026-11-20.jsonl", 10, head)
    head = write_chain(path, 10, head)
    (tmp_path / "audit.jsonl.torn-20261120T000000Z").write_text("torn")
    (tmp_path / "auditors.jsonl").write_text("something else")
    files = [*rotated_files(path), path]
    assert [file.name for file in files] == ["audit.2026-11-19.jsonl.1.gz", "audit.2026-11-20.jsonl", "audit.jsonl"]
    assert verify(files, head) == Report(30, 1, head, ())
    missing = verify([files[0], files[2]], head)
    assert damage(missing) == [(1, 21)]
    assert "10 records before it are missing" in missing.damage[0].what


def test_an_audit_may_begin_later_when_old_files_were_deleted(path: Path) -> None:
    _, middle = chain(10)
    head = write_chain(path, 10, middle)
    assert verify([path], head) == Report(10, 11, head, ())


def test_a_line_without_end_does_not_fill_the_memory(path: Path) -> None:
    path.write_bytes(b"x" * (3 * 1024 * 1024))
    assert verify([path]).damage


def test_progress_adds_up_to_the_size(path: Path) -> None:
    write_chain(path, COUNT)
    sizes: list[int] = []
    verify([path], progress=sizes.append)
    assert sum(sizes) == path.stat().st_size
