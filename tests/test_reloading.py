"""Settings read again while the sidecar runs: whole or not at all, and what became of them is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar import reloading
from sidecar.reloading import Reloading, Source
from sidecar.setting_changes import Change
from sidecar.settings import Settings


class World:
    def __init__(self, folder: Path, text: str = "policy: {tag_orders: true}", **flags: object) -> None:
        self.path = folder / "sidecar.yaml"
        self.write(text)
        source = Source(self.path, flags)
        self.applied: list[tuple[Settings, tuple[Change, ...]]] = []
        self.counted: list[bool] = []
        self.reloading = Reloading(
            source.read(), source, apply=lambda *given: self.applied.append(given), counted=self.counted.append
        )

    def write(self, text: str) -> None:
        """In one step, as one should."""
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.path)

    async def reload(self, text: str) -> reloading.Reloaded:
        self.write(text)
        return await self.reloading.reload()


async def until(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not look():
            await asyncio.sleep(0.01)


async def test_what_can_change_is_put_in_force_once_and_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    found = await world.reload("policy: {tag_orders: false}")
    assert [str(one) for one in found.changed] == ["policy.tag_orders: true → false"]
    assert (found.problem, found.needs_restart) == (None, ())
    ((settings, changed),) = world.applied
    assert not settings.policy.tag_orders
    assert changed == found.changed
    assert world.reloading.running is settings
    assert not (await world.reloading.reload()).changed
    assert len(world.applied) == 1
    assert world.counted == [True, True]


async def test_what_needs_a_restart_is_named_and_not_put_in_force(tmp_path: Path) -> None:
    world = World(tmp_path)
    found = await world.reload("upstream: {port: 2}\nbreakers: {identical_orders: 9}")
    assert [str(one) for one in found.needs_restart] == ["upstream.port: 11111 → 2"]
    assert [str(one) for one in found.changed] == ["breakers.identical_orders: null → 9"]
    assert world.reloading.running.upstream.port == 11111
    assert world.reloading.needs_restart == found.needs_restart
    again = await world.reloading.reload()
    assert (again.changed, again.needs_restart) == ((), found.needs_restart), "it still does"
    assert not (await world.reload("breakers: {identical_orders: 9}")).needs_restart


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: {tag_orders: maybe, fx: {base: HKD}}", "policy.tag_orders"),
        ("policy: {tag_orders: false}\nupstrem: 1", "unknown setting"),
        ("policy: [", "not YAML"),
        ("", "are empty"),
        ("# nothing but words\n", "are empty"),
        (None, "cannot be read"),
    ],
)
async def test_a_broken_file_changes_nothing_and_says_so_until_it_is_mended(
    text: str | None, said: str, tmp_path: Path
) -> None:
    world = World(tmp_path)
    before = world.reloading.running
    if text is None:
        world.path.unlink()
        found = await world.reloading.reload()
    else:
        found = await world.reload(text)
    assert said in (found.problem or "")
    assert world.reloading.problem == found.problem
    assert (world.applied, world.counted) == ([], [False])
    assert world.reloading.running is before
    await world.reload("policy: {tag_orders: false}")
    assert world.reloading.problem is None
    assert len(world.applied) == 1


async def test_a_mounted_file_that_was_replaced_outside_is_not_taken_for_the_present_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    seen = reloading.sight(world.path)
    assert seen is not None
    monkeypatch.setattr(reloading, "sight", lambda path: replace(seen, links=0))
    found = await world.reloading.reload()
    assert "were replaced outside" in (found.problem or "")


async def test_even_a_fault_of_our_own_in_reading_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)

    def breaks(*_: object, **__: object) -> Settings:
        raise RuntimeError("broken")

    monkeypatch.setattr(reloading, "load_settings", breaks)
    found = await world.reload("policy: {tag_orders: false}")
    assert "the log has why" in (found.problem or "")
    assert (world.applied, world.counted) == ([], [False])


async def test_a_rehearsal_tells_the_same_and_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write("policy: {tag_orders: false}\nupstream: {port: 2}")
    rehearsed = await world.reloading.rehearse()
    assert (world.applied, world.counted, world.reloading.needs_restart) == ([], [], ())
    assert await world.reloading.reload() == rehearsed
    world.write("upstrem: 1")
    assert (await world.reloading.rehearse()).problem is not None
    assert world.reloading.problem is None


async def test_flags_still_win_over_the_file(tmp_path: Path) -> None:
    world = World(tmp_path, upstream="127.0.0.1:5")
    found = await world.reload("upstream: {port: 2}\npolicy: {tag_orders: false}")
    assert [one.setting for one in found.changed] == ["policy.tag_orders"]
    assert found.needs_restart == ()


async def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    counted: list[bool] = []
    none = Reloading(Settings(), Source(), apply=lambda *given: pytest.fail("applied"), counted=counted.append)
    assert (await none.reload()).file is None
    await none.watch()
    assert counted == []


async def test_two_reloads_at_once_put_a_change_in_force_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write("policy: {tag_orders: false}")
    await asyncio.gather(world.reloading.reload(), world.reloading.reload())
    assert len(world.applied) == 1
    assert world.counted == [True, True]


@pytest.mark.parametrize("by_link", [False, True])
async def test_a_changed_file_is_noticed_by_itself_also_behind_a_link(
    by_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "LOOK_EVERY", 0.01)
    world = World(tmp_path)
    if by_link:
        other = tmp_path / "other.yaml"
        other.write_text("policy: {tag_orders: true}")
        world.path.unlink()
        world.path.symlink_to(other)
        await world.reloading.reload()
    watching = asyncio.ensure_future(world.reloading.watch())
    try:
        await asyncio.sleep(0.05)
        counted = len(world.counted)
        if by_link:
            newer = tmp_path / "newer.yaml"
            newer.write_text("policy: {tag_orders: false}")
            link = tmp_path / "link"
            link.symlink_to(newer)
            link.replace(world.path)
        else:
            world.write("policy: {tag_orders: false}")
        await until(lambda: world.applied)
        await asyncio.sleep(0.05)
        assert len(world.counted) == counted + 1, "and only then"
    finally:
        watching.cancel()


async def test_a_file_written_over_in_two_steps_is_read_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "LOOK_EVERY", 0.01)
    world = World(tmp_path, "breakers: {identical_orders: 5}\npolicy: {tag_orders: true}")
    watching = asyncio.ensure_future(world.reloading.watch())
    try:
        with world.path.open("w") as file:
            file.write("policy: {tag_orders: false}\n")
            file.flush()
            await asyncio.sleep(0.03)
            file.write("breakers: {identical_orders: 5}\n")
        await until(lambda: world.applied)
        assert [[one.setting for one in changed] for _, changed in world.applied] == [["policy.tag_orders"]]
    finally:
        watching.cancel()
