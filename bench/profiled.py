"""Runs the sidecar's own command under cProfile, every thread of it, and writes one file a thread when it ends.

`python -m bench.profiled FOLDER run …` is `opend-sidecar run …` under the profiler. Times are processor time of the thread, so
that neither waiting nor other programs count. Functions cost more under the profiler than without: read the shares and the
call counts, not the rate.
"""

from __future__ import annotations

import cProfile
import itertools
import runpy
import sys
import threading
import time
from pathlib import Path

_number = itertools.count()


def processor_time_profile() -> cProfile.Profile:
    return cProfile.Profile(time.thread_time_ns, 1e-9)


def profile_threads(folder: Path) -> None:
    """Let every thread started from now on write its own profile when it ends."""
    plain_run = threading.Thread.run

    def run(self: threading.Thread) -> None:
        profile = processor_time_profile()
        try:
            profile.runcall(plain_run, self)
        finally:
            profile.dump_stats(folder / f"{next(_number)}-{self.name.replace('/', '_')}.prof")

    threading.Thread.run = run  # type: ignore[method-assign]  # the one place every thread passes through


def main() -> None:
    folder = Path(sys.argv[1])
    sys.argv = ["opend-sidecar", *sys.argv[2:]]
    profile_threads(folder)
    profile = processor_time_profile()
    try:
        profile.runcall(runpy.run_module, "sidecar.cli.main", run_name="__main__", alter_sys=True)
    finally:
        profile.dump_stats(folder / "main.prof")


if __name__ == "__main__":
    main()
