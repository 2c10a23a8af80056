"""Hears the signals of the operating system while a block runs. What they mean is the app's to say."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def signals(*, stop: Callable[[], object], reload: Callable[[], object]) -> Iterator[None]:
    """`stop` on SIGTERM and SIGINT, `reload` on SIGHUP. Where the loop hears none (Windows, or not the main thread) nothing is done."""
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, getattr(signal, "SIGHUP", None): reload}
    taken = []
    for number, handler in handlers.items():
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError, TypeError):
            loop.add_signal_handler(number, handler)  # type: ignore[arg-type]  # None, where there is no SIGHUP, raises TypeError
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)  # type: ignore[arg-type]  # as above; None was not taken
