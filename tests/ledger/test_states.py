"""Trading states: only a resume makes one less strict, whatever becomes of the disk."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.ledger import states_file
from sidecar.ledger.states import BY_FILE, BY_ITSELF, States
from sidecar.ledger.states_file import Change, Document
from sidecar.policy.trading import ACTIVE, Standing, TradingState, strictest

HALTED = TradingState.HALTED
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def opened(folder: Path) -> States:
    return States(folder, now=lambda: NOON)


def saved(folder: Path) -> States:
    made = opened(folder)
    assert made.save_now()
    return made


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def spawn(work: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


# -- what holds -------------------------------------------------------------------------------------------------------


def test_in_a_new_state_directory_everything_is_active(tmp_path: Path) -> None:
    assert opened(tmp_path).of("bot") == ACTIVE


def test_a_halt_of_all_trading_holds_for_every_key(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt(None, "fat finger", "the owner")
    assert states.of("bot") == states.of("other") == Standing(HALTED, None, NOON, "fat finger", "the owner")


def test_a_halt_of_one_key_holds_for_that_key_alone(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt("bot", "runaway", "the owner")
    assert states.of("bot").state is HALTED
    assert states.of("other") == ACTIVE


def test_ending_one_of_two_halts_leaves_the_other(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt(None, "fat finger", "the owner")
    states.halt("bot", "runaway", "the owner")
    states.resume(None)
    assert states.of("bot").reason == "runaway"
    states.halt(None, "again", "the owner")
    states.resume("bot")
    assert states.of("bot").reason == "again"


def test_of_what_is_halted_again_the_beginning_stays_and_the_reason_is_new(tmp_path: Path) -> None:
    times = iter([NOON, datetime(2026, 1, 5, 13, 0, tzinfo=UTC)])
    states = States(tmp_path, now=lambda: next(times))
    states.halt(None, "first", "the owner")
    assert states.halt(None, "second", "somebody") == Standing(HALTED, None, NOON, "second", "somebody")


@given(st.sampled_from(TradingState), st.sampled_from(TradingState))
def test_of_two_states_the_stricter_one_holds(overall: TradingState, own: TradingState) -> None:
    assert strictest(Standing(overall), Standing(own, "bot")).state == max(overall, own)


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_found_again(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt(None, "fat finger", "the owner")
    states.halt("bot", "runaway", "key `ops`")
    assert not states.saved
    assert states.save_now() and states.saved
    again = opened(tmp_path)
    assert again.overall == states.overall
    assert again.keys == states.keys
    assert again.saved


def test_what_was_not_saved_is_not_found_again(tmp_path: Path) -> None:
    """The reason why the owner is told whether the disk has it."""
    saved(tmp_path).halt(None, "fat finger", "the owner")
    assert opened(tmp_path).overall == ACTIVE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.none() | st.sampled_from(["a", "b"]), st.text(min_size=1)), max_size=12))
def test_after_any_halts_and_resumes_the_next_start_finds_what_held(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[bool, str | None, str]]
) -> None:
    folder = tmp_path_factory.mktemp("states")
    states = saved(folder)
    for halts, key_id, reason in acts:
        if halts:
            states.halt(key_id, states_file.reason_of(reason), "the owner")
        else:
            states.resume(key_id)
        assert states.save_now()
    again = opened(folder)
    assert (again.overall.state, dict(again.keys)) == (states.overall.state, dict(states.keys))


def test_the_file_is_for_its_owner_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    saved(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["states.json"]
    assert (tmp_path / "states.json").stat().st_mode & 0o777 == 0o600


async def test_with_a_full_disk_a_halt_holds_in_memory_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = saved(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(states_file, "write", no_space)
        states.halt(None, "fat finger", "the owner")
        assert not await states.save(1.0, spawn)
        assert states.problem == "states.json cannot be written: no space left on device"
        assert states.of("bot").state is HALTED
    assert await states.save(1.0, spawn), "and it is saved once there is room"
    assert states.problem is None
    assert opened(tmp_path).overall.state is HALTED


async def test_a_disk_that_hangs_holds_nobody_up_and_the_last_state_gets_there_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = saved(tmp_path)
    go = threading.Event()
    write = states_file.write

    def slowly(folder: Path, document: Document) -> None:
        go.wait(5)
        write(folder, document)

    monkeypatch.setattr(states_file, "write", slowly)
    states.halt("bot", "runaway", "the owner")
    assert not await states.save(0.05, spawn)
    assert states.problem is not None and "did not answer" in states.problem
    states.halt(None, "fat finger", "the owner")
    go.set()
    assert await states.save(5.0, spawn)
    again = opened(tmp_path)
    assert (again.overall.reason, again.keys["bot"].reason) == ("fat finger", "runaway")


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = opened(tmp_path)
    states.halt("bot", "runaway", "the owner")
    assert states.save_now()
    monkeypatch.setattr(os, "fsync", no_space)
    states.resume("bot")
    assert not states.save_now()
    assert opened(tmp_path).of("bot").state is HALTED
    assert [one.name for one in tmp_path.iterdir()] == ["states.json"]


# -- a file that cannot be used ---------------------------------------------------------------------------------------


DAMAGED = {
    "empty": b"",
    "torn": b'{"version": 1, "all": {"state": "ACT',
    "no object": b"[]",
    "no state": b'{"version": 1, "all": {}, "keys": {}}',
    "a state of a later version": b'{"version": 1, "all": {"state": "SLEEPY", "since": null, "reason": "", "by": ""}, "keys": {}}',
    "a field of a later version": b'{"version": 1, "all": {"state": "ACTIVE", "since": null, "reason": "", "by": ""}, "keys": {}, "x": 1}',
    "a later version": b'{"version": 2, "all": {"state": "ACTIVE", "since": null, "reason": "", "by": ""}, "keys": {}}',
    "a time without a zone": b'{"version": 1, "all": {"state": "ACTIVE", "since": "2026-01-05T10:41", "reason": "", "by": ""}, "keys": {}}',
    "no text": b'{"version": 1, "all": {"state": "ACTIVE", "since": null, "reason": 5, "by": ""}, "keys": {}}',
    "not UTF-8": b"\xff\xfe\x00",
    "too large": b" " * (1024 * 1024 + 1),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_halts_and_is_kept_for_the_owner_to_look_into(damage: str, tmp_path: Path) -> None:
    (tmp_path / "states.json").write_bytes(DAMAGED[damage])
    states = opened(tmp_path)
    assert states.of("bot").state is HALTED
    assert states.overall.by == BY_ITSELF
    assert "states.json could not be read at the start" in states.overall.reason
    assert (tmp_path / "states.json.damaged-20260105T120000").read_bytes() == DAMAGED[damage]
    assert states.save_now()
    assert opened(tmp_path).overall == states.overall, "a second start does not forget"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 60))
def test_whatever_happens_to_the_file_of_a_halt_it_never_reads_as_less(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, gone: int
) -> None:
    folder = tmp_path_factory.mktemp("states")
    states = opened(folder)
    states.halt(None, "fat finger", "the owner")
    states.save_now()
    data = (folder / "states.json").read_bytes()
    changed = data[:at] + junk + data[at + gone :]
    if b'"ACTIVE"' in changed:
        return
    (folder / "states.json").write_bytes(changed)
    assert opened(folder).of("bot").state is HALTED


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_what_is_no_file_is_not_followed_nor_waited_for(what: str, tmp_path: Path) -> None:
    place = tmp_path / "states.json"
    if what == "folder":
        place.mkdir()
    elif what == "pipe":
        os.mkfifo(place)
    else:
        (tmp_path / "elsewhere").write_text("{}")
        place.symlink_to(tmp_path / "elsewhere")
    assert opened(tmp_path).overall.state is HALTED


def test_a_file_that_is_damaged_while_it_runs_halts_and_is_written_again(tmp_path: Path) -> None:
    states = saved(tmp_path)
    (tmp_path / "states.json").write_text("{")
    halted = states.look()
    assert halted is not None and "was damaged" in halted.reason
    assert states.save_now()
    assert opened(tmp_path).overall.state is HALTED


def test_what_somebody_else_writes_into_it_can_halt_but_never_resume(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt("bot", "runaway", "the owner")
    states.save_now()
    theirs = Document(ACTIVE, {"other": Standing(HALTED, "other", NOON, "by hand", "somebody")})
    states_file.write(tmp_path, theirs)
    states.look()
    assert states.of("bot").reason == "runaway"
    assert states.of("other").reason == "by hand"
    assert not states.saved, "so that it is written again"
    states.save_now()
    assert states.look() is None


def test_a_file_that_is_deleted_while_it_runs_is_written_again(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt(None, "fat finger", "the owner")
    states.save_now()
    (tmp_path / "states.json").unlink()
    states.look()
    states.save_now()
    assert opened(tmp_path).overall.reason == "fat finger"


# -- the file HALT ----------------------------------------------------------------------------------------------------


def test_the_file_halt_halts_at_the_start_and_its_first_line_is_the_reason(tmp_path: Path) -> None:
    (tmp_path / "HALT").write_text("gone fishing\nback on Monday\n")
    states = opened(tmp_path)
    assert states.overall == Standing(HALTED, None, NOON, "gone fishing", BY_FILE)


def test_the_file_halt_is_noticed_at_the_next_look(tmp_path: Path) -> None:
    states = saved(tmp_path)
    assert states.look() is None
    (tmp_path / "HALT").touch()
    halted = states.look()
    assert halted is not None and halted.reason == "there is a file HALT in the state directory"
    assert states.look() is None, "it is told once"


def test_removing_the_file_halt_does_not_resume(tmp_path: Path) -> None:
    (tmp_path / "HALT").touch()
    states = saved(tmp_path)
    (tmp_path / "HALT").unlink()
    assert states.look() is None
    assert states.overall.state is HALTED
    assert opened(tmp_path).overall.state is HALTED


def test_resuming_removes_the_file_halt(tmp_path: Path) -> None:
    (tmp_path / "HALT").touch()
    states = saved(tmp_path)
    states.resume(None)
    assert not (tmp_path / "HALT").exists()
    assert states.look() is None
    assert states.of("bot") == ACTIVE


def test_while_the_file_halt_cannot_be_removed_trading_stays_halted(tmp_path: Path) -> None:
    (tmp_path / "HALT").mkdir()
    states = opened(tmp_path)
    with pytest.raises(OSError):
        states.resume(None)
    assert states.overall.state is HALTED


def test_resuming_one_key_leaves_the_file_halt(tmp_path: Path) -> None:
    (tmp_path / "HALT").touch()
    states = opened(tmp_path)
    states.resume("bot")
    assert (tmp_path / "HALT").exists()
    assert states.of("bot").state is HALTED


@pytest.mark.parametrize("what", ["folder", "broken link", "pipe", "binary", "long"])
def test_whatever_is_called_halt_halts(what: str, tmp_path: Path) -> None:
    place = tmp_path / "HALT"
    if what == "folder":
        place.mkdir()
    elif what == "broken link":
        place.symlink_to(tmp_path / "nowhere")
    elif what == "pipe":
        os.mkfifo(place)
    else:
        place.write_bytes(b"\x00\x1b[31m\xff" if what == "binary" else b"x" * 100_000)
    states = opened(tmp_path)
    assert states.of("bot").state is HALTED
    assert 0 < len(states.overall.reason) <= states_file.LONGEST_REASON
    assert states.overall.reason.isprintable()


def test_a_folder_that_cannot_be_looked_into_halts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = saved(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "lstat", refuse)
    halted = states.look()
    assert halted is not None


def test_a_key_in_the_reason_is_left_out(tmp_path: Path) -> None:
    secret = "fc_" + "ab" * 32
    (tmp_path / "HALT").write_text(f"leaked {secret}")
    assert secret not in opened(tmp_path).overall.reason


# -- what the audit does not know yet ---------------------------------------------------------------------------------


def test_changes_made_while_no_sidecar_runs_wait_in_the_file_for_one_that_has_an_audit(tmp_path: Path) -> None:
    change = Change(HALTED, "bot", NOON, "runaway", "the command line")
    states = opened(tmp_path)
    states.halt("bot", "runaway", "the command line")
    states.to_be_recorded(change)
    states.save_now()
    again = opened(tmp_path)
    assert again.unrecorded == (change,)
    again.recorded()
    assert not again.saved
    again.save_now()
    assert opened(tmp_path).unrecorded == ()


def test_the_file_can_be_read_by_a_person(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt("bot", "runaway", "the command line")
    states.save_now()
    assert json.loads((tmp_path / "states.json").read_text())["keys"]["bot"] == {
        "state": "HALTED", "since": "2026-01-05T12:00:00+00:00", "reason": "runaway", "by": "the command line"
    }  # fmt: skip


# -- the file HALT that wants orders cancelled ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason", "cancels"),
    [
        ("gone fishing\ncancel-orders\n", "gone fishing", True),
        ("cancel-orders\n", "there is a file HALT in the state directory", True),
        ("cancel-orders\nfat finger\n", "fat finger", True),
        ("x\n\n  --Cancel_Orders  \n", "x", True),
        ("CANCEL ORDERS", "there is a file HALT in the state directory", True),
        ("gone fishing\n", "gone fishing", False),
        ("please cancel-orders of the bot\n", "please cancel-orders of the bot", False),
        ("", "there is a file HALT in the state directory", False),
        ("x\ncancel-orders-not\n", "x", False),
    ],
)
def test_a_line_of_the_file_halt_wants_orders_cancelled_wherever_it_is_and_however_it_is_written(
    content: str, reason: str, cancels: bool, tmp_path: Path
) -> None:
    (tmp_path / "HALT").write_text(content)
    found = states_file.halt_wanted(tmp_path)
    assert found is not None and (found.reason, found.cancel_orders) == (reason, cancels)
    states = opened(tmp_path)
    assert states.overall.reason == reason
    assert states.cancels == (frozenset([None]) if cancels else frozenset())


def test_what_is_to_be_cancelled_outlives_a_restart_until_it_is_done(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt("bot", "x", "the owner")
    states.to_be_cancelled("bot")
    states.to_be_cancelled(None)
    assert states.save_now()
    again = opened(tmp_path)
    assert again.cancels == {"bot", None} and again.saved
    again.cancelled("bot")
    assert not again.saved and again.save_now()
    assert opened(tmp_path).cancels == {None}


def test_a_resume_ends_what_is_to_be_cancelled_of_the_same_and_of_no_other(tmp_path: Path) -> None:
    states = opened(tmp_path)
    for key_id in ("bot", None):
        states.halt(key_id, "x", "the owner")
        states.to_be_cancelled(key_id)
    states.resume(None)
    assert states.cancels == {"bot"}


def test_one_file_halt_wants_it_once_a_changed_one_and_a_new_one_again(tmp_path: Path) -> None:
    file = tmp_path / "HALT"
    file.write_text("x\ncancel-orders\n")
    states = opened(tmp_path)
    assert states.cancels == {None}
    states.cancelled(None)
    states.look()
    assert states.cancels == frozenset() and states.save_now()
    again = opened(tmp_path)
    again.look()
    assert again.cancels == frozenset(), "a restart is no new wish"
    os.utime(file, ns=(1, 1))
    again.look()
    assert again.cancels == {None}
    again.cancelled(None)
    file.unlink()
    again.look()
    file.write_text("y\ncancel-orders\n")
    os.utime(file, ns=(1, 1))
    again.look()
    assert again.cancels == {None}


def test_the_line_is_heeded_in_a_file_that_appears_while_trading_is_halted_already(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt(None, "by hand", "the owner")
    (tmp_path / "HALT").write_text("x\n")
    assert states.look() is None and states.cancels == frozenset()
    with (tmp_path / "HALT").open("a") as file:
        file.write("cancel-orders\n")
    states.look()
    assert states.cancels == {None}
    assert states.overall.reason == "by hand"


def test_a_folder_named_halt_halts_and_cancels_nothing(tmp_path: Path) -> None:
    (tmp_path / "HALT").mkdir()
    states = opened(tmp_path)
    assert states.overall.state is HALTED and states.cancels == frozenset()


@pytest.mark.parametrize("cancel", [5, {"all": 1}, {"keys": []}, {"all": True, "keys": 5}])
def test_damage_in_what_is_to_be_cancelled_halts(cancel: object, tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / states_file.FILE_NAME
    file.write_text(json.dumps({**json.loads(file.read_text()), "cancel": cancel}))
    assert opened(tmp_path).overall.state is HALTED


def test_a_file_of_the_first_version_without_these_fields_is_read(tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / states_file.FILE_NAME
    tree = json.loads(file.read_text())
    del tree["cancel"], tree["halt_file"]
    file.write_text(json.dumps(tree))
    assert opened(tmp_path).overall.state is TradingState.ACTIVE


# -- shrinking only, and breakers -------------------------------------------------------------------------------------

REDUCING = TradingState.REDUCING


def test_of_shrinking_only_and_a_halt_the_stricter_holds_whoever_came_first(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt(None, "after the close", "the owner", state=REDUCING)
    states.halt("bot", "loop", "the owner")
    assert (states.of("bot").state, states.of("other").state) == (HALTED, REDUCING)
    states.halt(None, "fat finger", "the owner")
    assert states.of("other").reason == "fat finger"
    assert states.halt(None, "laxer", "the owner", state=REDUCING).state is HALTED, "only a resume makes it laxer"
    assert states.overall.reason == "fat finger"


def test_the_time_since_when_begins_anew_with_a_stricter_state_and_not_with_the_same(tmp_path: Path) -> None:
    times = iter([NOON, NOON.replace(hour=13), NOON.replace(hour=14), NOON.replace(hour=15)])
    states = States(tmp_path, now=lambda: next(times))
    states.halt("bot", "one", "the owner", state=REDUCING)
    states.halt("bot", "two", "the owner", state=REDUCING)
    assert (states.of("bot").since, states.of("bot").reason) == (NOON, "two")
    assert states.halt("bot", "three", "the owner").since == NOON.replace(hour=13)


def test_shrinking_only_and_a_breaker_are_durable_and_the_file_halt_is_stricter(tmp_path: Path) -> None:
    states = opened(tmp_path)
    states.halt(None, "after the close", "the owner", state=REDUCING)
    states.halt("bot", "loop", "the breaker identical_orders", breaker="identical_orders")
    assert states.save_now()
    again = opened(tmp_path)
    assert again.overall == Standing(REDUCING, None, NOON, "after the close", "the owner")
    assert again.of("bot") == Standing(HALTED, "bot", NOON, "loop", "the breaker identical_orders", "identical_orders")
    (tmp_path / "HALT").write_text("now\n")
    assert again.look() == Standing(HALTED, None, NOON, "now", BY_FILE)


@pytest.mark.parametrize("wrong", [7, ["x"], None, {}])
def test_a_breaker_that_is_no_text_damages_the_file(tmp_path: Path, wrong: Any) -> None:
    states = opened(tmp_path)
    states.halt("bot", "loop", "the breaker", breaker="identical_orders")
    assert states.save_now()
    path = tmp_path / states_file.FILE_NAME
    tree = json.loads(path.read_text())
    tree["keys"]["bot"]["breaker"] = wrong
    path.write_text(json.dumps(tree))
    assert opened(tmp_path).overall.state is HALTED


async def test_two_halts_at_the_same_time_are_each_told_that_they_are_on_disk(tmp_path: Path) -> None:
    states = saved(tmp_path)
    write = states_file.write

    def changes_meanwhile(folder: Path, document: Document) -> None:
        write(folder, document)
        if not states.keys.get("two"):
            states.halt("two", "x", "the owner")

    states.halt("one", "x", "the owner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states_file, "write", changes_meanwhile)
        assert await states.save(5.0, spawn)
        assert not states.saved
        assert await states.save(5.0, spawn)
    assert opened(tmp_path).keys.keys() == {"one", "two"}
