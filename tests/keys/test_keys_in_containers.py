"""keys.json as containers see it: mounted alone, behind links that lead elsewhere, changed from both sides."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_parts import need

from sidecar.errors import ConfigError
from sidecar.keys.file import edit, load
from sidecar.keys.lock import exclusive
from sidecar.keys.mounted import mounted_alone
from sidecar.keys.ring import KeyStore
from sidecar.keys.secret import hash_of


def written(path: Path, *key_ids: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    records = [{"id": one, "hash": hash_of(one), "scopes": ["qot:read"]} for one in key_ids]
    path.write_text(json.dumps({"version": 1, "keys": records}))
    path.chmod(0o600)
    return path


def adding(key_id: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["keys"].append({"id": key_id, "hash": hash_of(key_id), "scopes": ["qot:read"]})


def ids(path: Path) -> list[str]:
    return [record.key.id for record in load(path, None).records]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """The file on the host."""
    return written(tmp_path / "outside" / "keys.json", "first")


@pytest.fixture
def inside(outside: Path, tmp_path: Path) -> Iterator[Path]:
    """The same file, mounted by itself."""
    path = written(tmp_path / "in side" / "keys.json")
    mounted = subprocess.run(["mount", "--bind", str(outside), str(path)], capture_output=True, check=False)
    need("small disk", mounted.returncode == 0)
    yield path
    subprocess.run(["umount", str(path)], check=True)


# -- mounted alone -----------------------------------------------------------------------------------------------


def test_a_file_mounted_alone_is_told_from_one_in_a_mounted_folder(inside: Path, outside: Path) -> None:
    assert mounted_alone(inside)
    assert not mounted_alone(outside)
    assert not mounted_alone(inside.parent)
    link = outside.with_name("link")
    link.symlink_to(inside)
    assert mounted_alone(link), "what it leads to is"


def test_where_mounts_are_not_listed_no_file_is_taken_for_one(outside: Path) -> None:
    assert not mounted_alone(outside, outside.with_name("no such list"))


def test_a_file_mounted_alone_warns_when_it_is_loaded(inside: Path, outside: Path) -> None:
    [warning] = load(inside, None).warnings
    assert f"`{inside}` is mounted as a single file" in warning
    assert "mount its folder instead" in warning
    assert load(outside, None).warnings == ()


def test_an_edit_inside_is_written_in_place_and_seen_outside(inside: Path, outside: Path) -> None:
    before = outside.stat().st_ino
    edit(inside, adding("second"), None)
    assert ids(outside) == ids(inside) == ["first", "second"]
    assert outside.stat().st_ino == before
    edit(inside, lambda document: document["keys"].pop(), None)
    assert ids(outside) == ["first"], "a shorter text leaves nothing of the longer one"
    assert [one.name for one in inside.parent.iterdir()] == ["keys.json"], "no lock, no rest of a write"


def test_an_edit_inside_that_fails_half_way_leaves_the_old_text(
    inside: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = outside.read_bytes()
    pwrite, calls = os.pwrite, []

    def full(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 1:
            return pwrite(descriptor, data[:20], offset)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ConfigError, match="cannot be written: no space left on device"):
        edit(inside, adding("second"), None)
    assert outside.read_bytes() == before


def test_once_replaced_outside_the_old_file_is_missing_and_cannot_be_edited(inside: Path, outside: Path) -> None:
    edit(outside, lambda document: document["keys"].clear(), None)
    assert ids(outside) == []
    with pytest.raises(ConfigError, match="is missing: it was replaced outside"):
        load(inside, None)
    with pytest.raises(ConfigError, match="is missing: it was replaced outside"):
        edit(inside, adding("second"), None)


def test_edits_inside_and_outside_wait_for_each_other(inside: Path, outside: Path) -> None:
    """The folder's lock is not seen inside, so both lock the file itself."""
    began, done = threading.Event(), threading.Event()

    def slowly(document: dict[str, Any]) -> None:
        began.set()
        time.sleep(0.3)
        adding("outside")(document)

    def inside_edit() -> None:
        assert began.wait(5)
        with pytest.raises(ConfigError, match="replaced outside"):
            edit(inside, adding("inside"), None)
        done.set()

    other = threading.Thread(target=inside_edit)
    other.start()
    edit(outside, slowly, None)
    other.join(5)
    assert done.is_set(), "it saw the file that was replaced while it waited, not the one before"
    assert ids(outside) == ["first", "outside"]

    os.link(outside, outside.with_name("other name"))
    second = exclusive(outside.with_name("other name"), 0.1, create=False)
    with exclusive(outside, create=False), pytest.raises(ConfigError, match="held the lock"), second:
        pass


# -- what counts as a change -------------------------------------------------------------------------------------


def atomically(path: Path, *key_ids: str) -> None:
    written(path.with_name("new"), *key_ids).replace(path)


def gone(path: Path) -> None:
    path.unlink()


def shut(path: Path) -> None:
    path.chmod(0o644)


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced": lambda path: atomically(path, "second"),
    "replaced by the same text": lambda path: atomically(path, "first"),
    "written over": lambda path: written(path, "another"),
    "gone": gone,
    "readable by everybody": shut,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_the_file_is_noticed_once(outside: Path, change: str) -> None:
    store = KeyStore(outside, None, 600, time.monotonic)
    assert not store.changed()
    time.sleep(0.02)  # the clock of files ticks more slowly than ours
    CHANGES[change](outside)
    assert store.changed()
    store.reload()
    assert not store.changed()


def test_a_file_that_comes_back_is_noticed(outside: Path) -> None:
    store = KeyStore(outside, None, 600, time.monotonic)
    outside.unlink()
    assert not store.reload().ok
    written(outside, "back")
    assert store.changed()
    assert store.reload().ok
    assert store.ring.get("back")


def test_kubernetes_way_of_changing_a_mounted_secret_is_noticed(tmp_path: Path) -> None:
    """keys.json leads to ..data/keys.json, and ..data to the folder of a date; only ..data is replaced."""
    written(tmp_path / "..2026_11_20" / "keys.json", "first")
    written(tmp_path / "..2026_11_21" / "keys.json", "second")
    (tmp_path / "..data").symlink_to("..2026_11_20")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    store = KeyStore(tmp_path / "keys.json", None, 600, time.monotonic)
    assert store.ring.get("first")
    (tmp_path / "..data_tmp").symlink_to("..2026_11_21")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert store.changed()
    assert store.reload().ok
    assert store.ring.get("first") is None
    assert store.ring.get("second")


def test_a_mounted_file_whose_name_was_given_to_another_is_noticed_and_keeps_the_keys_as_a_missing_one_does(
    inside: Path, outside: Path
) -> None:
    now = 0.0
    store = KeyStore(inside, None, 600, lambda: now)
    edit(outside, lambda document: document["keys"].clear(), None)
    assert store.changed(), "though not a byte of what is mounted is another"
    result = store.reload()
    assert not result.ok
    assert "replaced outside" in result.message
    assert store.ring.get("first"), "the last good keys stay for a while, loudly"
    assert store.broken_since == 0.0
    now = 601.0
    assert store.stale(now)
