"""The operator's log: where it goes, how it looks, and from which level on. What is said in it is everybody's own; the audit is apart
from it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from sidecar.settings import Log

_LEVELS = logging.getLevelNamesMapping()


class _Unfailing:
    """INVARIANT: a log that cannot be written (full disk, closed pipe) stops no cancel: what is said is lost, and no more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Threshold:
    """Drops what is below a level, which can change: loggers keep the class they began with, so it cannot be theirs."""

    def __init__(self) -> None:
        self.level = logging.INFO

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if _LEVELS[method.upper()] < self.level:
            raise structlog.DropEvent
        return event


_THRESHOLD = _Threshold()


def configure_log(settings: Log) -> None:
    """On stderr, for people or as JSON. Call once, before anything is said."""
    use_level(settings.level)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            _THRESHOLD,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def use_level(level: str) -> None:
    """From now on, for every logger of this process: a name as in the setting `log.level`."""
    _THRESHOLD.level = _LEVELS[level.upper()]
