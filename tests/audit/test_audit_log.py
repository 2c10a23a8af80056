"""The file: appended whole or not at all, rotated without a break, mended at start, and honest about what it found."""

from __future__ import annotations

import errno
import json
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from audit_making import NOON, chain, open_log, record, refusal, write_chain

from sidecar.audit import log as log_module
from sidecar.audit.chain import Head
from sidecar.audit.files import rotated_files
from sidecar.audit.verify import Report, verify
from sidecar.errors import ConfigError, RecordError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def check(path: Path, known: Head | None = None) -> Report:
    return verify([*rotated_files(path), path], known)


def test_records_are_appended_in_order_and_chained(path: Path) -> None:
    log, found = open_log(path)
    log.append([record(message="a"), record(message="b")], sync=True)
    log.append([record(message="c")], sync=False)
    assert found == []
    assert [line["message"] for line in read(path)] == ["a", "b", "c"]
    assert (log.synced.seq, log.head.seq) == (2, 3)
    log.sync()
    assert log.synced == log.head
    assert check(path, log.head).damage == ()


def test_the_file_is_for_its_owner_only_even_if_it_was_not_before(path: Path) -> None:
    path.touch(mode=0o644)
    open_log(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_folder_is_made_if_it_is_not_there(tmp_path: Path) -> None:
    log, _ = open_log(tmp_path / "new" / "deep" / "audit.jsonl")
    assert log.path.exists()
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_an_error_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"folder .*file` of the audit cannot be made"):
        open_log(tmp_path / "file" / "audit.jsonl")


def test_the_chain_goes_on_after_a_restart(path: Path) -> None:
    head = write_chain(path, 5)
    log, found = open_log(path, head, closed=True)
    log.append([record()], sync=True)
    assert found == []
    assert check(path, log.head) == Report(6, 1, log.head, ())


# What may be wrong at start


def test_a_torn_last_line_is_moved_aside_and_recorded(path: Path) -> None:
    head = write_chain(path, 5)
    with path.open("ab") as file:
        file.write(b'{"timestamp":"2026-11-')
    log, found = open_log(path, head)
    assert found == ["audit_torn"]
    (aside,) = path.parent.glob("audit.jsonl.torn-*")
    assert aside.read_bytes() == b'{"timestamp":"2026-11-'
    assert aside.stat().st_mode & 0o777 == 0o600
    assert "22 bytes" in read(path)[-1]["message"]
    assert check(path, log.head).damage == ()


def test_zeros_left_by_a_power_cut_are_moved_aside_with_what_follows(path: Path) -> None:
    head = write_chain(path, 5)
    with path.open("ab") as file:
        file.write(bytes(300) + b"\n" + bytes(50))
    log, found = open_log(path, head)
    assert found == ["audit_torn"]
    assert check(path, log.head).damage == ()


def test_a_first_line_that_was_torn_is_moved_aside(path: Path) -> None:
    path.write_bytes(b'{"timestamp":"2026')
    log, found = open_log(path)
    assert found == ["audit_torn"]
    assert check(path, log.head).damage == ()


def test_some_other_file_is_refused_and_left_alone(path: Path) -> None:
    for content in (b"my diary\n", b"my diary", b'{"timestamp": 1}\n'):
        path.write_bytes(content)
        path.chmod(0o644)
        with pytest.raises(ConfigError, match="move it aside"):
            open_log(path)
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == 0o644


def test_records_removed_at_the_end_are_recorded_and_the_gap_stays(path: Path) -> None:
    lines, head = chain(10)
    path.write_bytes(b"".join(lines[:7]))
    log, found = open_log(path, head)
    assert found == ["audit_truncated"]
    log.append([record()], sync=True)
    assert "3 records before it are missing" in check(path, log.head).damage[0].what


def test_an_audit_that_is_gone_is_recorded(path: Path) -> None:
    _, head = chain(10)
    log, found = open_log(path, head)
    assert found == ["audit_missing"]
    report = check(path, log.head)
    assert report.first == 11
    assert "audit_missing" in report.damage[0].what


def test_another_chain_in_its_place_is_recorded_and_the_break_stays(path: Path) -> None:
    _, head = chain(10)
    write_chain(path, 12, Head(0, "a" * 64))
    log, found = open_log(path, head)
    assert found == ["audit_changed"]
    log.append([record()], sync=True)
    lines = [each.line for each in check(path, log.head).damage]
    assert lines[0] == 1
    assert 13 in lines


def test_records_added_after_an_orderly_end_are_recorded(path: Path) -> None:
    lines, head = chain(10)
    more, _ = chain(1, head)
    path.write_bytes(b"".join(lines + more))
    assert open_log(path, head, closed=True)[1] == ["audit_changed"]


def test_after_a_crash_the_file_may_be_ahead_of_the_ledger(path: Path) -> None:
    lines, head = chain(10)
    more, _ = chain(3, head)
    path.write_bytes(b"".join(lines + more))
    assert open_log(path, head)[1] == []


def test_after_a_crash_right_after_rotation_all_is_well(tmp_path: Path, path: Path) -> None:
    head = write_chain(tmp_path / "audit.2025-06-14.jsonl", 10)
    path.touch()
    log, found = open_log(path, head)
    assert found == []
    log.append([record()], sync=True)
    log.close()
    assert open_log(path, head)[1] == []
    assert check(path).damage == ()


def test_an_audit_without_its_ledger_is_recorded(path: Path) -> None:
    head = write_chain(path, 5)
    log, found = open_log(path, None)
    assert found == ["ledger_missing"]
    assert log.head.seq == head.seq + 1
    assert check(path, log.head).damage == ()


# Rotation


def test_at_midnight_the_file_gets_its_date_and_the_chain_goes_on(path: Path) -> None:
    now = NOON
    log, _ = open_log(path, clock=lambda: now)
    log.append([record()], sync=False)
    now += 86_400
    log.append([record()], sync=True)
    now += 86_400 * 3
    log.append([record()], sync=True)
    assert [file.name for file in rotated_files(path)] == ["audit.2025-06-15.jsonl", "audit.2025-06-16.jsonl"]
    assert check(path, log.head) == Report(3, 1, log.head, ())
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in path.parent.iterdir())


def test_a_restart_on_the_next_day_rotates_too(path: Path) -> None:
    now = NOON
    log, _ = open_log(path, clock=lambda: now)
    log.append([record(at=now)], sync=True)
    log.close()
    now += 86_400
    log, _ = open_log(path, log.head, True, clock=lambda: now)
    log.append([record(at=now)], sync=True)
    assert [file.name for file in rotated_files(path)] == ["audit.2025-06-15.jsonl"]
    assert check(path, log.head).damage == ()


def test_a_taken_name_is_numbered(path: Path) -> None:
    path.with_name("audit.2025-06-15.jsonl").touch()
    path.with_name("audit.2025-06-15.1.jsonl.gz").touch()
    now = NOON
    log, _ = open_log(path, clock=lambda: now)
    log.append([record()], sync=True)
    now += 86_400
    log.append([record()], sync=True)
    assert path.with_name("audit.2025-06-15.2.jsonl").exists()


def test_without_rotation_the_file_goes_on(path: Path) -> None:
    now = NOON
    log, _ = open_log(path, rotate=False, clock=lambda: now)
    log.append([record()], sync=True)
    now += 86_400
    log.append([record()], sync=True)
    assert len(read(path)) == 2


def test_another_program_may_move_the_file_and_ask_to_reopen(path: Path) -> None:
    log, _ = open_log(path)
    log.append([record(message="before")], sync=False)
    path.rename(path.with_name("audit.jsonl.1"))
    log.reopen()
    log.append([record(message="after")], sync=True)
    assert [line["message"] for line in read(path)] == ["after"]
    assert check(path, log.head) == Report(2, 1, log.head, ())


def test_a_file_that_was_moved_or_deleted_is_begun_anew_within_a_second(path: Path) -> None:
    log, _ = open_log(path)
    log.append([record()], sync=True)
    path.unlink()
    log._looked = 0.0
    log.append([record()], sync=True)
    assert [(line["seq"], line.get("reason")) for line in read(path)] == [(2, "audit_moved"), (3, None)]


def test_a_file_changed_while_it_is_open_is_recorded(path: Path) -> None:
    log, _ = open_log(path)
    log.append([record()], sync=True)
    with path.open("ab") as file:
        file.write(b"graffiti")
    log._looked = 0.0
    log.append([record()], sync=True)
    report = check(path, log.head)
    assert [(each.line, each.seq) for each in report.damage] == [(2, 2), (3, 2), (3, 2)]
    assert "audit_changed" in report.damage[2].what


# When it cannot be written


class Failing:
    """Stands in for a system call that fails; a write first writes a part, as a full disk does."""

    def __init__(self, real: Any, part: int = 0) -> None:
        self.real = real
        self.part = part
        self.on = True

    def __call__(self, fd: int, *args: Any) -> Any:
        if not self.on:
            return self.real(fd, *args)
        if self.part:
            part, self.part = self.part, 0
            return self.real(fd, bytes(args[0])[:part])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_written_in_part_is_taken_back_and_nothing_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = open_log(path)
    log.append([record(message="before")], sync=True)
    failing = Failing(os.write, part=100)
    monkeypatch.setattr(log_module.os, "write", failing)
    with pytest.raises(RecordError, match="No space left") as caught:
        log.append([record(message="lost")], sync=True)
    assert caught.value.code == "audit_unavailable"
    with pytest.raises(RecordError):
        log.append([record(message="lost too")], sync=True)
    failing.on = False
    log.append([record(message="after")], sync=True)
    assert [line["message"] for line in read(path)] == ["before", "after"]
    assert check(path, log.head).damage == ()


def test_after_a_failed_sync_everything_since_the_last_good_one_is_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = open_log(path)
    log.append([record(message="on disk")], sync=True)
    log.append([record(message="not yet")], sync=False)
    failing = Failing(log_module._to_disk)
    monkeypatch.setattr(log_module, "_to_disk", failing)
    with pytest.raises(RecordError):
        log.append([record(message="refused")], sync=True)
    assert log.head == log.synced
    with pytest.raises(RecordError):
        log.append([record(message="refused too")], sync=True)
    failing.on = False
    log.append([record(message="after")], sync=True)
    assert [line["message"] for line in read(path)] == ["on disk", "not yet", "after"]
    assert check(path, log.head).damage == ()


def test_little_room_is_kept_for_orders_and_cancels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    free = 10
    monkeypatch.setattr(log_module.shutil, "disk_usage", lambda where: usage(100, 100 - free, free))
    log, _ = open_log(path, min_free=50)
    log.append([record(essential=True, message="order"), refusal(message="refusal")], sync=True)
    log.append([refusal(), refusal()], sync=False)
    assert [line["message"] for line in read(path)] == ["order"]
    free = 60
    log._looked = 0.0
    log.append([refusal(message="again")], sync=True)
    assert [line["message"] for line in read(path)][1:] == [
        "again",
        "3 records were left out while the disk was nearly full",
    ]
    assert read(path)[-1]["count"] == 3
    assert check(path, log.head).damage == ()


def test_decisions_are_found_in_the_current_and_the_newest_rotated_file(path: Path) -> None:
    now = NOON
    log, _ = open_log(path, clock=lambda: now)
    log.append([record(decision_id="01JOLD")], sync=True)
    now += 86_400
    log.append([record(decision_id="01JNEW")], sync=True)
    assert log.holds({"01JOLD", "01JNEW", "01JNEVER"}) == {"01JOLD", "01JNEW"}
    assert log.holds(set()) == set()


def test_a_decision_is_found_across_the_seam_of_two_chunks(path: Path) -> None:
    log, _ = open_log(path)
    log.append([record(message="x" * 1000) for _ in range(1500)], sync=True)
    wanted = {f"01J{number:03d}" for number in range(600)}
    log.append([record(decision_id=each) for each in sorted(wanted)], sync=True)
    assert path.stat().st_size > 2 * 1024 * 1024
    assert log.holds(wanted | {"01JNEVER"}) == wanted


def test_a_link_in_its_place_is_followed_once_and_not_swapped_later(tmp_path: Path) -> None:
    real = tmp_path / "real.jsonl"
    link = tmp_path / "link.jsonl"
    real.touch()
    link.symlink_to(real)
    log, _ = open_log(link)
    assert log.path == real
    real.unlink()
    real.symlink_to(tmp_path / "victim")
    log._looked = 0.0
    with pytest.raises(RecordError):
        log.append([record()], sync=True)
    assert not (tmp_path / "victim").exists()
