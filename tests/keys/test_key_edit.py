"""Changing keys.json: nobody's change is lost, nothing untouched is altered, nothing broken is ever written."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from real_parts import need

from sidecar.errors import ConfigError
from sidecar.keys import lock
from sidecar.keys.file import edit, load
from sidecar.keys.lock import exclusive
from sidecar.keys.secret import hash_of

MIXED = """{"keys": [
  {"note": "\\u00e9crit à la main", "scopes": ["qot:read"], "id": "nested", "hash": "HASH-1",
   "limits": {"max_order_value": 100000.0, "max_daily_value": 1E5}},
  {"id": "flat", "hash": "sha256:HASH-2", "scopes": ["acc:read"], "expires_at": null, "max_order_value": 2500.50}
], "version": 1}
""".replace("HASH-1", hash_of("one")).replace("HASH-2", hash_of("two"))


def fresh(key_id: str) -> dict[str, Any]:
    return {"id": key_id, "hash": hash_of(key_id), "scopes": ["qot:read"]}


def adding(key_id: str) -> Any:
    return lambda document: document["keys"].append(fresh(key_id))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "keys.json"
    made.write_text(MIXED, encoding="utf-8")
    made.chmod(0o600)
    return made


def test_untouched_records_keep_their_layout_order_and_numbers(path: Path) -> None:
    edit(path, adding("new"), None)
    text = path.read_text(encoding="utf-8")
    before, after = json.loads(MIXED), json.loads(text)
    assert after["keys"][:2] == before["keys"]
    assert [list(one) for one in after["keys"][:2]] == [list(one) for one in before["keys"]]
    assert list(after) == ["keys", "version"]
    for literal in ("100000.0", "1E5", "2500.50", "écrit à la main"):
        assert literal in text


def test_an_amount_is_written_exactly(path: Path) -> None:
    def cap(document: dict[str, Any]) -> None:
        document["keys"][1]["max_order_value"] = Decimal("0.10")

    assert edit(path, cap, None).records[1].key.max_order_value == Decimal("0.10")
    assert '"max_order_value": 0.10' in path.read_text()


def test_an_edit_returns_what_a_load_would(path: Path) -> None:
    assert edit(path, adding("new"), None) == load(path, None)


def test_a_change_that_would_not_load_is_not_written(path: Path) -> None:
    with pytest.raises(ConfigError, match="field `scopes`"):
        edit(path, lambda document: document["keys"][0].update(scopes=[]), None)
    assert path.read_text(encoding="utf-8") == MIXED


def test_a_change_that_fails_leaves_the_file_and_the_lock_free(path: Path) -> None:
    def fails(document: dict[str, Any]) -> None:
        document["keys"].clear()
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        edit(path, fails, None)
    assert path.read_text(encoding="utf-8") == MIXED
    edit(path, adding("new"), None)


def test_a_broken_file_is_not_edited(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        edit(path, adding("new"), None)
    assert path.read_text() == "{"


def test_nothing_is_left_beside_the_file_but_its_lock(path: Path) -> None:
    edit(path, adding("new"), None)
    assert sorted(one.name for one in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: no space left on device"):
        edit(path, adding("new"), None)
    assert path.read_text(encoding="utf-8") == MIXED
    assert sorted(one.name for one in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_the_file_is_on_disk_before_it_takes_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    edit(path, adding("new"), None)
    assert events == ["file", "rename", "folder"]


def test_a_new_file_is_private_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "keys.json"
    previous = os.umask(0)
    try:
        edit(path, adding("first"), None, create=True)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {"version": 1, "keys": [fresh("first")]}


def test_a_missing_file_is_made_only_where_that_is_meant(tmp_path: Path) -> None:
    for path in (tmp_path / "keys.json", tmp_path / "nowhere" / "keys.json"):
        with pytest.raises(ConfigError, match="does not exist"):
            edit(path, adding("first"), None)
    assert not (tmp_path / "nowhere").exists()


def test_a_group_that_could_read_the_file_still_can(path: Path) -> None:
    path.chmod(0o640)
    edit(path, adding("new"), None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_edit_by_root_leaves_the_file_to_its_owner(path: Path) -> None:
    need("root", os.geteuid() == 0)
    os.chown(path, 12345, 23456)
    edit(path, adding("new"), None)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_link_to_the_file_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "keys.json"
    link.symlink_to(path)
    edit(link, adding("new"), None)
    assert link.is_symlink()
    assert load(path, None).records[-1].key.id == "new"
    assert not (tmp_path / "elsewhere" / "keys.json.lock").exists()  # one lock, whichever way one comes


def test_a_lock_that_another_holds_is_waited_for_and_then_named(path: Path) -> None:
    held = path.with_name("keys.json.lock")
    said = r"another process has held the lock .*keys\.json\.lock"
    with exclusive(held), pytest.raises(ConfigError, match=said), exclusive(held, patience=0.05):
        pass
    with exclusive(held, patience=0.05):
        pass


def test_a_lock_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.json.lock").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError, match="lock file"):
        edit(path, adding("new"), None)
    assert not (tmp_path / "target").exists()


def test_a_file_replaced_while_it_is_opened_is_opened_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def overtaken(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        descriptor = opened(name, flags, *rest, **more)
        monkeypatch.setattr(os, "open", opened)
        edit(path, adding("new"), None)
        return descriptor

    monkeypatch.setattr(os, "open", overtaken)
    assert [record.key.id for record in load(path, None).records] == ["nested", "flat", "new"]


def _add_several(path: Path, name: str, count: int) -> None:
    for number in range(count):
        edit(path, adding(f"{name}-{number}"), None, create=True)


def test_concurrent_edits_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    processes = [
        multiprocessing.get_context("fork").Process(target=_add_several, args=(path, f"p{number}", 10))
        for number in range(5)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    ids = {record.key.id for record in load(path, None).records}
    assert ids == {f"p{number}-{one}" for number in range(5) for one in range(10)}


def test_without_the_lock_the_concurrency_test_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the lock is what keeps both changes: here it is taken away, and one is lost."""
    path = tmp_path / "keys.json"
    edit(path, adding("first"), None, create=True)
    monkeypatch.setattr(lock, "_taken", lambda descriptor: True)

    def meanwhile(document: dict[str, Any]) -> None:
        edit(path, adding("second"), None)
        document["keys"].append(fresh("third"))

    edit(path, meanwhile, None)
    assert {record.key.id for record in load(path, None).records} == {"first", "third"}


def test_the_owner_may_edit_a_file_that_is_read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.chmod(0o400)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as it is for owners who are not root
    edit(path, adding("new"), None)
    assert [record.key.id for record in load(path, None).records][-1] == "new"
