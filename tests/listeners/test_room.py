from __future__ import annotations

from prometheus_client import generate_latest

from sidecar.listeners.room import Room
from sidecar.metrics import Metrics


class Guest:
    def __init__(self, room: Room[Guest], *, stranger: bool = True) -> None:
        self.is_stranger = stranger
        self.dropped = False
        self._room = room
        room.enter(self)

    def drop(self) -> None:
        self.dropped = True
        self._room.leave(self)


def a_room(most: int, most_strangers: int | None = None) -> Room[Guest]:
    return Room("ws", most, Metrics(), most_strangers=most_strangers)


def test_there_is_room_for_as_many_as_were_said() -> None:
    room = a_room(2)
    for _ in range(2):
        assert room.has_place()
        Guest(room, stranger=False)
    assert not room.has_place()


def test_the_stranger_that_was_here_longest_gives_way() -> None:
    room = a_room(3)
    known, first, second = Guest(room, stranger=False), Guest(room), Guest(room)
    assert room.has_place()
    assert (known.dropped, first.dropped, second.dropped) == (False, True, False)
    assert len(room) == 2


def test_who_became_known_does_not_give_way() -> None:
    room = a_room(2)
    guest, stranger = Guest(room), Guest(room)
    guest.is_stranger = False
    assert room.has_place()
    assert (guest.dropped, stranger.dropped) == (False, True)
    Guest(room, stranger=False)
    assert not room.has_place()
    assert not guest.dropped


def test_strangers_have_a_bound_of_their_own() -> None:
    room = a_room(100, most_strangers=2)
    known = [Guest(room, stranger=False) for _ in range(5)]
    first, second = Guest(room), Guest(room)
    assert room.has_place()
    assert (first.dropped, second.dropped) == (True, False)
    assert not any(one.dropped for one in known)


def test_those_who_leave_twice_are_counted_once() -> None:
    metrics = Metrics()
    room: Room[Guest] = Room("ws", 5, metrics)
    guest, _ = Guest(room), Guest(room)
    room.leave(guest)
    room.leave(guest)
    assert len(room) == 1
    assert 'sidecar_client_connections{iface="ws"} 1.0' in generate_latest(metrics.registry).decode()


def test_guests_may_leave_while_they_are_looked_at() -> None:
    room = a_room(5)
    guests = [Guest(room) for _ in range(3)]
    for guest in room:
        guest.drop()
    assert len(room) == 0
    assert all(guest.dropped for guest in guests)
