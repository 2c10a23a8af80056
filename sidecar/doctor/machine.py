"""Files, disks and ports of this machine, as a sidecar with these settings would find them or has them. Knows no OpenD."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidecar.config import warnings_of
from sidecar.doctor.check import Check, bad, doubt, good
from sidecar.doctor.sockets import named, processes, tcp_sockets
from sidecar.errors import ConfigError
from sidecar.keys.advice import advice
from sidecar.keys.container import address_advice, in_bridge
from sidecar.keys.file import load
from sidecar.keys.machine import default_zone
from sidecar.listener_settings import Listener, address_of
from sidecar.setting_values import socket_path
from sidecar.settings import Settings

_ROOMY = 4
"""Times the space that must stay free from which on a disk is no worry."""
_PATIENCE = 2.0


def settings_checks(settings: Settings) -> Iterator[Check]:
    for text in warnings_of(settings):
        yield doubt("settings", text)


def keys_checks(settings: Settings, running: dict[str, Any] | None, *, bridged: bool | None = None) -> Iterator[Check]:
    """`running`: the status of the one that runs. `bridged`: whether this is a container with a network of its own."""
    try:
        loaded = load(
            settings.keys.file, default_zone(settings.keys.timezone), connections=settings.listeners.connections
        )
    except ConfigError as error:
        yield bad("keys", str(error), "mend the file; `check-config` says more")
        return
    count = len(loaded.records)
    if not count:
        yield doubt("keys", f"`{settings.keys.file}` has no key yet, so nobody can use the sidecar", "gen-key")
    else:
        yield good("keys", f"`{settings.keys.file}`: {count} key{'' if count == 1 else 's'}")
    for text in loaded.warnings:
        yield doubt("keys", text)
    now = datetime.now(UTC)
    for record in loaded.records:
        for text in advice(record, now):
            yield doubt("keys", text)
    for text in address_advice([record.key for record in loaded.records], in_bridge() if bridged is None else bridged):
        yield doubt("allowed_ips", text)
    if running is not None and running["revision"] != loaded.revision:
        text = f"the running sidecar has other keys in force than `{settings.keys.file}`"
        yield bad("keys_in_force", text, "look at its log; it may use another file, or could not read this one")


def state_checks(settings: Settings, running: dict[str, Any] | None) -> Iterator[Check]:
    yield _state_dir(settings.state_dir.expanduser())
    if running is None:
        yield doubt("running", "no sidecar runs with this state directory", "`run`, when the rest is well")
        return
    yield good("running", f"process {running['pid']}, version {running['version']}, since {running['began']}")
    trading = running["trading"]
    if trading["state"] != "ACTIVE":
        yield doubt("trading", f"all trading is {trading['state']}: {trading['reason']}", "resume, when you are sure")
    for one in running["problems"]:
        yield bad("ready", f"{one['component']}: {one['message']}", "until this is mended orders are refused")


def _state_dir(folder: Path) -> Check:
    name = "state_dir"
    if not folder.exists():
        parent = next(each for each in folder.parents if each.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return good(name, f"`{folder}` will be made at the start")
        text = f"`{folder}` cannot be made in `{parent}` by this user"
        return bad(name, text, "give it write access, or name another with --state-dir")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        text = f"`{folder}` cannot be written by this user"
        return bad(name, text, "run as the sidecar's user, or give this one write access")
    mode = folder.stat().st_mode & 0o777
    if sys.platform != "win32" and mode & 0o022:
        text = f"others may write into `{folder}` (mode {mode:04o}), and so change what counts as used"
        return bad(name, text, f"chmod 700 {folder}")
    return good(name, f"`{folder}`")


def disk_checks(settings: Settings) -> Iterator[Check]:
    seen: set[int] = set()
    for place in (settings.state_dir.expanduser(), settings.audit_file.expanduser().parent):
        there = next(each for each in (place, *place.parents) if each.exists())
        device = there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free, least = shutil.disk_usage(there).free, settings.audit.min_free
        text = f"{free // 1024**2:,} MiB are free at `{there}`, {least // 1024**2:,} are kept (audit.min_free)"
        if free <= least:
            yield bad("disk", text, "make room: with less, orders are refused")
        elif free <= least * _ROOMY:
            yield doubt("disk", text, "make room soon: with less than that, orders are refused")
        else:
            yield good("disk", text)


def port_checks(settings: Settings, running: dict[str, Any] | None) -> Iterator[Check]:
    """While a sidecar runs its doors must answer, otherwise they must be free."""
    for name, door in settings.listeners.named():
        label = name.removeprefix("listeners.")
        path = socket_path(door.bind)
        if path is not None:
            yield from _socket_check(label, path, running)
        elif door.port:
            yield _answers(label, door) if running is not None else _free(label, door)


def _socket_check(label: str, path: Path, running: dict[str, Any] | None) -> Iterator[Check]:
    if running is not None and not path.is_socket():
        yield bad("port", f"{label}: there is no socket `{path}`, though a sidecar runs", "was it removed? restart")
    elif running is None and not path.parent.is_dir():
        yield bad("port", f"{label}: there is no folder `{path.parent}` for the socket", f"mkdir {path.parent}")
    else:
        yield good("port", f"{label}: {path}")


def _answers(label: str, door: Listener) -> Check:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(door.bind, door.bind)  # noqa: S104 where to ask, not where to listen
    try:
        socket.create_connection((host, door.port), _PATIENCE).close()
    except OSError as error:
        text = f"{label}: nobody answers at {address_of(door)} ({_words(error)}), though a sidecar runs"
        return bad("port", text, "it may run with other settings, or not have been restarted since they changed")
    return good("port", f"{label}: {address_of(door)} answers")


def _free(label: str, door: Listener) -> Check:
    family = socket.AF_INET6 if ":" in door.bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((door.bind, door.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                text = f"{label}: {address_of(door)} is in use{_by_whom(door.port)}"
                return bad("port", text, f"end that, or give {label} another port")
            text = f"{label}: {address_of(door)} cannot be had ({_words(error)})"
            return bad("port", text, f"change `bind` or `port` of {label}")
    return good("port", f"{label}: {address_of(door)} is free")


def _by_whom(port: int) -> str:
    holder = next((one.inode for one in tcp_sockets() or () if one.listening and one.port == port), None)
    pid = None if holder is None else processes().get(holder)
    return "" if pid is None else f" by {named(pid)}"


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
