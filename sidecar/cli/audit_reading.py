"""Reads records out of the files of an audit: which files, which records, from when to when. Judges no record and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from sidecar.audit.files import open_audit, rotated_files
from sidecar.audit.record import timestamp
from sidecar.border import seconds
from sidecar.cli.command import WrongUsage, settings_from
from sidecar.cli.decision_line import Record, record_of
from sidecar.errors import ConfigError

WORTH_A_BAR = 20 * 1024 * 1024
_STEP = 256 * 1024
"""Bytes after which the bar moves."""
_AGO = re.compile(r"[0-9]+[mhd]")


@dataclass(slots=True)
class Wanted:
    """Which records; None: whatever it is. Texts are compared whole, times as records write them."""

    key: str | None = None
    code: str | None = None
    symbol: str | None = None
    order: str | None = None
    decision: str | None = None
    outcome: str | None = None
    since: str | None = None
    until: str | None = None
    needles: list[bytes] = field(default_factory=list, init=False)
    """What a line must hold somewhere, to be worth reading."""

    def __post_init__(self) -> None:
        if self.decision is not None:  # the remark of a tagged order has it after a #
            self.decision = self.decision.strip().removeprefix("#")
        texts = (self.key, self.code, self.symbol, self.order, self.decision, self.outcome)
        # what the terminal gave that is not UTF-8 is in no record
        readable = (text.encode("utf-8", "replace").decode() for text in texts if text is not None)
        self.needles = [orjson.dumps(text)[1:-1] for text in readable]

    def worth_reading(self, line: bytes) -> bool:
        return all(needle in line for needle in self.needles)

    def has(self, record: Record) -> bool:
        at = record.get("timestamp", "")
        asked = (
            (self.key, "key_id"), (self.code, "reason"), (self.decision, "decision_id"), (self.outcome, "outcome"),
        )  # fmt: skip
        if any(text is not None and record.get(name) != text for text, name in asked):
            return False
        if self.symbol is not None and self.symbol not in str(record.get("symbol", "")).split(" "):
            return False
        if self.order is not None and self.order not in (record.get("order_id"), record.get("order_id_ex")):
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def in_line(self, line: bytes) -> bool:
        """Whether a raw line is one; what cannot be read is none."""
        if not self.worth_reading(line):
            return False
        record = record_of(line)
        return record is not None and self.has(record)


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `Wanted`, but for the times."""
    options = (
        click.option("--key", metavar="ID", help="Of this key."),
        click.option("--code", metavar="CODE", help="Refused with this code, e.g. order_value."),
        click.option("--symbol", metavar="SYMBOL", help="About this symbol, e.g. HK.00700; also as a leg of a combo."),
        click.option("--order", metavar="ID", help="About the order with this id of OpenD's."),
        click.option("--decision", metavar="ID", help="Of this decision: what was decided, and what came of it."),
        click.option("--outcome", type=click.Choice(["allow", "reject", "success", "failure", "unknown"]),
                     help="With this outcome: allow and reject are the sidecar's, the others OpenD's."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def times(command: Callable[..., None]) -> Callable[..., None]:
    shapes = "`2026-11-21`, `2026-11-21T09:30`, `09:30` (today), or an age: `90m`, `12h`, `7d`"
    command = click.option("--until", metavar="TIME", help="Before then.")(command)
    return click.option("--since", metavar="TIME", help=f"From then on: {shapes}, by this machine's clock.")(command)


def where(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--config", type=click.Path(path_type=Path), help="Settings file, which names the audit.")(
        command
    )
    return click.argument("file", type=click.Path(path_type=Path), required=False)(command)


def moment(option: str, text: str | None, now: datetime | None = None) -> str | None:
    """A time as people write it, as records have it. Raises WrongUsage."""
    if text is None:
        return None
    now = datetime.now().astimezone() if now is None else now
    try:
        if _AGO.fullmatch(text):
            return timestamp((now - timedelta(seconds=seconds(text))).timestamp())
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
            at = datetime.combine(now.date(), time.fromisoformat(text.zfill(5) if len(text) < 6 else text))
        else:
            at = datetime.fromisoformat(text)
        return timestamp(at.astimezone().timestamp())
    except (ValueError, OverflowError, OSError):
        raise WrongUsage(
            f"{option} `{text}` is not a time; write e.g. `2026-11-21T09:30`, `09:30` for today, or an age like `12h`"
        ) from None


def day_of(option: str, text: str) -> tuple[str, str]:
    """A whole day of this machine's clock, as two times of records. Raises WrongUsage."""
    try:
        day = date.fromisoformat(text)
        start, end = (datetime.combine(one, time(0)).astimezone().timestamp() for one in (day, day + timedelta(days=1)))
        return timestamp(start), timestamp(end)
    except (ValueError, OverflowError, OSError):  # the latter two at the ends of the calendar
        raise WrongUsage(f"{option} `{text}` is not a day; write e.g. `2026-11-21`") from None


def audit_file(file: Path | None, config: Path | None) -> Path:
    """The one named, else that of the settings."""
    return (settings_from(config, {}).audit_file if file is None else file).expanduser().resolve()


def files_of(file: Path) -> list[Path]:
    """The file and the rotated ones beside it, oldest first. Raises ConfigError where there is none."""
    if file.is_dir():
        raise ConfigError(f"`{file}` is a folder; give the path of the audit file in it")
    files = [*rotated_files(file), *([file] if file.exists() else [])]
    if not files:
        raise ConfigError(f"there is no audit at `{file}`; give its path")
    return files


class Reading:
    """All wanted records of some files, in order, with a bar on stderr where it takes long. `unreadable` counts lines that are
    no record."""

    def __init__(self, files: list[Path], wanted: Wanted | None = None) -> None:
        self._files = files
        self._wanted = wanted or Wanted()
        self.unreadable = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises ConfigError where a file cannot be read."""
        total = sum(path.stat().st_size for path in self._files)
        columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=total < WORTH_A_BAR) as bar:
            task = bar.add_task("reading", total=total)
            for path in self._files:
                try:
                    yield from self._records(path, lambda size: bar.advance(task, size))
                except OSError as error:
                    raise ConfigError(f"the audit `{path}` cannot be read: {error}") from None

    def _records(self, path: Path, advance: Callable[[int], object]) -> Iterator[dict[str, Any]]:
        packed = path.suffix == ".gz"  # how far into it we are is not known
        with open_audit(path) as lines:
            read = 0
            for line in lines:
                read += len(line)
                if read >= _STEP and not packed:
                    advance(read)
                    read = 0
                if not self._wanted.worth_reading(line):
                    continue
                record = record_of(line)
                if record is None:
                    self.unreadable += bool(line.strip())
                elif self._wanted.has(record):
                    yield record
        advance(path.stat().st_size if packed else read)
