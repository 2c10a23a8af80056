"""Whether a file is mounted by itself, as containers do with `-v keys.json:…`. Reads no key and changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def mounted_alone(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether `path` is itself a mount point (Linux; elsewhere always False, as where that cannot be told).

    Such a name cannot be given to another file, and keeps the old file after its name outside was given to a new one.
    """
    name = str(path.resolve())
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    # proc(5): the fifth field is the mount point, in which blanks and backslashes are written as octal numbers
    fields = (line.split(" ", 5) for line in lines)
    return any(_plain(one[4]) == name for one in fields if len(one) > 4)


def _plain(field: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 8)), field)
