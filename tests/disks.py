"""A small disk of its own, for tests that fill it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from real_parts import need


@contextlib.contextmanager
def tmpfs(where: Path, size: str) -> Iterator[Path]:
    """A disk of its own, small enough to fill."""
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], capture_output=True, check=False
    )
    if made.returncode:
        need("small disk", False)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=False)


def fill(where: Path) -> Path:
    """Take the rest of a disk."""
    path = where / "filler"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 512, 64, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return path
