"""Unix sockets of the owner's choosing: their mode, what lies there already, and who connects."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.listeners.entrance import Entrance, Place
from sidecar.listeners.unix_socket import BoundSocket, credentials, peer_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tcp.sock"


class Noting(asyncio.Protocol):
    """Notes who connected."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.seen += [peer_of(transport), credentials(transport)]


def place(path: Path, mode: int = 0o660) -> Place:
    return Place(f"unix:{path}", 0, "the setting `listeners.tcp`", mode)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_socket_has_its_mode_from_the_first_moment_on_and_goes_with_its_listener(path: Path, mode: int) -> None:
    entrance = Entrance(place(path, mode))
    assert await entrance.open(lambda: Noting([])) == f"unix:{path}"
    assert path.stat().st_mode & 0o777 == mode
    entrance.close()
    assert not path.exists()


async def test_who_connects_is_known_by_its_user(path: Path) -> None:
    seen: list[object] = []
    entrance = Entrance(place(path))
    await entrance.open(lambda: Noting(seen))
    _, writer = await asyncio.open_unix_connection(str(path))
    await asyncio.sleep(0.05)
    writer.close()
    entrance.close()
    assert seen[0] == f"unix:{os.getuid()}"
    assert (seen[1].uid, seen[1].gid, seen[1].pid) == (os.getuid(), os.getgid(), os.getpid())  # type: ignore[attr-defined]


async def test_what_a_killed_sidecar_left_behind_is_taken_away(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    entrance = Entrance(place(path))
    await entrance.open(lambda: Noting([]))
    entrance.close()


def test_a_socket_on_which_somebody_listens_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen(1)
        with pytest.raises(ConfigError, match="another program does already; choose another path"):
            BoundSocket(path, 0o660, "the setting `listeners.tcp`")
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("important")
    with pytest.raises(ConfigError, match="it exists and is no socket"):
        BoundSocket(path, 0o660, "the setting `listeners.tcp`")
    assert path.read_text() == "important"


def test_a_folder_that_is_not_there_and_a_path_too_long_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or directory"):
        BoundSocket(tmp_path / "none" / "tcp.sock", 0o660, "x")
    with pytest.raises(ConfigError, match="100 bytes at most"):
        BoundSocket(tmp_path / ("x" * 120), 0o660, "x")


def test_another_programs_socket_at_the_same_path_is_not_removed(path: Path) -> None:
    ours = BoundSocket(path, 0o660, "x")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        ours.remove()
        assert path.is_socket()
    ours.socket.close()
