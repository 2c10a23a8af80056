"""Runs the sidecar's own command under cProfile, every thread of it, and writes one file a thread when it ends.

`python -m bench.profiled FOLDER run …` is `opend-sidecar run …` under the profiler. Functions cost more under it than
without: read the shares and the call counts, not the rate.
"""

from __future__ import annotations

import cProfile
import itertools
import runpy
import sys
import threading
from pathlib import Path

_number = itertools.count()


def profile_threads(folder: Path) -> None:
    """Let every thread started from now on write its own profile when it ends."""
    plain_run = threading.Thread.run

    def run(self: threading.Thread) -> None:
        profile = cProfile.Profile()
        try:
            profile.runcall(plain_run, self)
        finally:
            profile.dump_stats(folder / f"{next(_number)}-{self.name.replace('/', '_')}.prof")

    threading.Thread.run = run  # type: ignore[method-assign]  # the one place every thread passes through


def main() -> None:
    folder = Path(sys.argv[1])
    sys.argv = ["opend-sidecar", *sys.argv[2:]]
    profile_threads(folder)
    profile = cProfile.Profile()
    try:
        profile.runcall(runpy.run_module, "sidecar.cli.main", run_name="__main__", alter_sys=True)
    finally:
        profile.dump_stats(folder / "main.prof")


if __name__ == "__main__":
    main()
