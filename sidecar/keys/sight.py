"""What a file looks like from outside, to tell that it was changed. Reads none of it, and waits for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sight:
    """The file that a name led to, through links, at one moment."""

    device: int
    inode: int
    links: int
    """0: the name outside now belongs to another file, and this one is only still mounted."""
    size: int
    modified_ns: int
    changed_ns: int
    """Also moves when the mode or the owner does, and when the file is renamed."""


def sight(path: Path) -> Sight | None:
    """None where there is no such file, or it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Sight(
        found.st_dev, found.st_ino, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    )  # fmt: skip
