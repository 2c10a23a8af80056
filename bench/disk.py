"""What one fdatasync of an appended record costs on the disk that holds the ledger and the audit. Nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

RECORD = b"x" * 511 + b"\n"
MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")


def fdatasync_us(folder: Path, count: int = 200) -> list[float]:
    """Microseconds of `count` times append 512 bytes and fdatasync, one after another."""
    path = folder / "fdatasync.probe"
    taken: list[float] = []
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            start = time.perf_counter_ns()
            os.write(handle, RECORD)
            os.fdatasync(handle)
            taken.append((time.perf_counter_ns() - start) / 1000)
    finally:
        os.close(handle)
        path.unlink()
    return taken


def memory_filesystem(folder: Path) -> str | None:
    """The filesystem's name when the folder is in memory, where a sync costs nothing and proves nothing."""
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        here = str(folder.resolve())
        if (here == mount or here.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, name
    return kind if kind in MEMORY_FILESYSTEMS else None
