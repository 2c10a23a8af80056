"""What one fdatasync of an appended record costs on the disk that holds the ledger and the audit, and how to make it
cost more. Run as a program it prints the samples, so that it can be run under the slowed sync as the sidecar is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

RECORD = b"x" * 511 + b"\n"
MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")
SAMPLES = 200
_SOURCE = Path(__file__).with_name("slow_sync.c")


class DiskError(Exception):
    """The disk could not be probed or slowed; the message says why."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder on the disk that is judged. `slowed_ms` is what every sync takes on top of the disk's own time."""

    folder: Path
    slowed_ms: float = 0.0
    library: Path | None = None

    @classmethod
    def slowed(cls, folder: Path, by_ms: float) -> Disk:
        """Raises DiskError when there is no C compiler to build the slowed sync with."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise DiskError("a slowed sync is compiled when asked for, and no C compiler is installed")
        library = folder.resolve() / "slow_sync.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DiskError(f"the slowed sync does not compile:\n{done.stderr}")
        return cls(folder, by_ms, library)

    def environment(self) -> dict[str, str]:
        """The environment of a process that is to feel this disk."""
        if self.library is None:
            return dict(os.environ)
        return dict(os.environ) | {
            "LD_PRELOAD": str(self.library),
            "BENCH_SYNC_US": str(round(self.slowed_ms * 1000)),
        }

    def fdatasync_us(self) -> list[float]:
        """Microseconds of a few hundred times append 512 bytes and fdatasync, one after another."""
        count = SAMPLES if self.library is None else max(10, round(400 / self.slowed_ms))
        command = [sys.executable, "-m", "bench.disk", str(self.folder), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment(), check=False)
        if done.returncode:
            raise DiskError(f"the disk could not be probed:\n{done.stderr}")
        taken: list[float] = json.loads(done.stdout)
        return taken

    def memory_filesystem(self) -> str | None:
        """The filesystem's name when the folder is in memory, where a sync costs nothing and proves nothing."""
        here, best, kind = str(self.folder.resolve()), "", ""
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, name, *_ = line.split()
            if (here == mount or here.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
                best, kind = mount, name
        return kind if kind in MEMORY_FILESYSTEMS else None


def probe(folder: Path, count: int) -> list[float]:
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


if __name__ == "__main__":
    print(json.dumps(probe(Path(sys.argv[1]), int(sys.argv[2]))))
