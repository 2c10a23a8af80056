"""What the machine says about itself: its id (for keys bound to machines) and its zone. Decides nothing about keys."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from sidecar.errors import ConfigError
from sidecar.keys.fields import zone_named

ID_FILE_VARIABLE = "SIDECAR_MACHINE_ID_FILE"
_LINUX_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_IOREG = re.compile(r'"IOPlatformUUID"\s*=\s*"([^"]+)"')


def machine_id(environ: Mapping[str, str] = os.environ) -> str:
    """The raw id: the file named by SIDECAR_MACHINE_ID_FILE, else /etc/machine-id (Linux) or IOPlatformUUID (macOS).

    Raises ConfigError when there is none. SECURITY: print fingerprints, not this.
    """
    override = environ.get(ID_FILE_VARIABLE)
    if override:
        found = _id_in(Path(override))
        if found is None:
            raise ConfigError(
                f"{ID_FILE_VARIABLE} names `{override}`, which holds no machine id; write one line of text into it"
            )
        return found
    if sys.platform == "darwin":
        found = _id_of_mac()
    else:
        found = next((one for one in map(_id_in, _LINUX_FILES) if one is not None), None)
    if found is None:
        raise ConfigError(
            f"this machine has no id (/etc/machine-id); point {ID_FILE_VARIABLE} at a file that holds one"
        )
    return found


@lru_cache(maxsize=4096)
def fingerprint(key_id: str, raw: str) -> str:
    """The machine's fingerprint for one key, 64 hex digits; with the key id in it, so that keys do not correlate."""
    return hashlib.sha256(f"futu-machine-bind:v1:{key_id}:{raw}".encode()).hexdigest()


def default_zone(
    name: str | None, environ: Mapping[str, str] = os.environ, localtime: Path = Path("/etc/localtime")
) -> ZoneInfo | None:
    """The zone of records that name none: `name` (the setting keys.timezone), else TZ, else /etc/localtime, else None.

    Raises ConfigError for a `name` that is no zone. A TZ that is no IANA name gives None: guessing moves the hours.
    """
    if name is not None:
        try:
            return zone_named(name)
        except ValueError as error:
            raise ConfigError(f"setting `keys.timezone`: {error}") from None
    from_environment = environ.get("TZ")
    if from_environment:
        try:
            return zone_named(from_environment.removeprefix(":"))
        except ValueError:
            return None
    return _zone_at(localtime)


def _id_in(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    # systemd writes `uninitialized` into images whose id is still to be made.
    return text if text and text != "uninitialized" and "\n" not in text and len(text) <= 256 else None


def _id_of_mac() -> str | None:
    try:
        shown = subprocess.run(
            ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _IOREG.search(shown)
    return match.group(1) if match else None


def _zone_at(localtime: Path) -> ZoneInfo | None:
    try:
        _, found, name = str(localtime.resolve(strict=True)).partition("zoneinfo/")
        if found:
            return zone_named(name)
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file, key="local")
    except (OSError, ValueError):
        return None
