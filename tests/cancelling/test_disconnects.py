"""cancel_on_disconnect: when the time of a key that has gone is over, and when it is not counted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.cancelling.canceller import Why, Wish
from sidecar.cancelling.disconnects import Disconnects
from sidecar.errors import ConfigError
from sidecar.keys.file import load
from sidecar.keys.ring import KeyStore
from sidecar.keys.secret import hash_of
from sidecar.presence import Presence


class World:
    """Time is told by the test; what the canceller is told is noted."""

    def __init__(self, folder: Path, *, started: bool = True, **fields: Any) -> None:
        self.now = 1000.0
        self.up = True
        self.cancelled: list[str | None] = []
        self.stopped: list[str | None] = []
        self.running_wish: Wish | None = None
        self.path = folder / "keys.json"
        self.write(**{"cancel_on_disconnect": 30, **fields})
        self.keys = KeyStore(self.path, None, 600.0, lambda: self.now)
        self.presence = Presence()
        self.disconnects = Disconnects(
            presence=self.presence,
            keys=self.keys,
            canceller=self,  # type: ignore[arg-type]
            opend_up=lambda: self.up,
            clock=lambda: self.now,
        )
        if started:
            self.disconnects.start()

    def write(self, **fields: Any) -> None:
        records = [
            {"id": key_id, "hash": hash_of("fc_" + digit * 64), "scopes": ["trade:simulate"], **more}
            for key_id, digit, more in (("bot", "1", fields), ("plain", "2", {}))
        ]
        self.path.write_text(json.dumps({"version": 1, "keys": records}))
        self.path.chmod(0o600)

    # -- the canceller, as it is seen

    def start(self, wish: Wish) -> None:
        assert wish.why is Why.DISCONNECT
        self.cancelled.append(wish.key_id)

    def running(self, key_id: str | None) -> Any:
        return None if self.running_wish is None else SimpleNamespace(wish=self.running_wish)

    def stop(self, key_id: str | None, reason: str) -> None:
        self.stopped.append(key_id)

    # -- time

    def passes(self, seconds: int) -> World:
        for _ in range(seconds):
            self.now += 1
            self.disconnects.tick()
        return self


def test_orders_are_cancelled_once_when_the_last_connection_has_been_gone_for_the_grace(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.presence.arrived("bot")
    world.presence.arrived("bot")
    world.presence.left("bot")
    assert world.passes(100).cancelled == []
    world.presence.left("bot")
    assert world.passes(29).cancelled == []
    assert world.passes(1).cancelled == ["bot"]
    assert world.passes(300).cancelled == ["bot"]


def test_a_new_connection_in_that_time_prevents_it_and_the_next_end_counts_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.presence.arrived("bot")
    world.presence.left("bot")
    world.passes(29)
    world.presence.arrived("bot")
    assert world.passes(100).cancelled == []
    world.presence.left("bot")
    assert world.passes(29).cancelled == []
    assert world.passes(1).cancelled == ["bot"]


def test_a_connection_shorter_than_a_look_counts(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.passes(30).cancelled == ["bot"]
    world.presence.arrived("bot")
    world.presence.left("bot")
    assert world.passes(30).cancelled == ["bot", "bot"]


def test_a_key_without_the_field_loses_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.presence.arrived("bot")
    world.presence.arrived("plain")
    world.presence.left("plain")
    assert world.passes(100).cancelled == []


def test_after_a_restart_every_key_that_has_it_is_counted_from_the_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.passes(29).cancelled == []
    assert world.passes(1).cancelled == ["bot"]


def test_while_opend_is_away_nothing_is_due_and_who_lost_it_with_opend_counts_from_its_return(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.presence.arrived("bot")
    world.passes(1)
    world.up = False
    world.presence.left("bot")
    assert world.passes(300).cancelled == []
    world.up = True
    assert world.passes(30).cancelled == []
    assert world.passes(1).cancelled == ["bot"]


def test_a_connection_that_ended_just_before_opend_was_seen_to_be_away_ended_with_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.presence.arrived("bot")
    world.passes(1)
    world.presence.left("bot")
    world.now += 0.5
    world.up = False
    world.passes(100)
    world.up = True
    assert world.passes(30).cancelled == []
    assert world.passes(1).cancelled == ["bot"]


def test_who_had_gone_before_opend_did_is_cancelled_as_soon_as_opend_is_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.presence.arrived("bot")
    world.presence.left("bot")
    world.passes(20)
    world.up = False
    world.passes(100)
    world.up = True
    assert world.passes(1).cancelled == ["bot"]


def test_an_opend_that_comes_and_goes_does_not_put_it_off_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.presence.arrived("bot")
    world.presence.left("bot")
    for _ in range(6):
        world.up = True
        world.passes(10)
        world.up = False
        world.passes(10)
    assert world.cancelled == ["bot"]


def test_a_sidecar_that_starts_without_opend_counts_from_when_it_is_there(tmp_path: Path) -> None:
    world = World(tmp_path, started=False)
    world.up = False
    world.disconnects.start()
    world.passes(300)
    world.up = True
    assert world.passes(30).cancelled == []
    assert world.passes(1).cancelled == ["bot"]


def test_a_reload_that_takes_the_field_away_ends_it_and_a_longer_grace_holds_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.passes(20)
    world.write(cancel_on_disconnect=60)
    world.keys.reload()
    assert world.passes(39).cancelled == []
    world.write()
    world.keys.reload()
    assert world.passes(100).cancelled == []


def test_who_comes_back_while_the_orders_are_cancelled_keeps_what_is_left(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.running_wish = Wish("bot", Why.DISCONNECT, "")
    world.presence.arrived("bot")
    assert world.stopped == ["bot"]
    world.running_wish = Wish("bot", Why.HALT, "the owner")
    world.presence.arrived("bot")
    assert world.stopped == ["bot"], "what the owner wants goes on"


def test_a_key_that_waits_for_the_end_of_connections_is_refused_where_it_can_have_none(tmp_path: Path) -> None:
    path = World(tmp_path).path
    assert load(path, None).records
    with pytest.raises(ConfigError, match="cancel_on_disconnect of `bot` waits for the end of connections"):
        load(path, None, connections=False)
    store = KeyStore(path, None, 600.0, lambda: 0.0)
    store._connections = False
    path.write_text(path.read_text() + " ")
    assert not store.reload().ok
