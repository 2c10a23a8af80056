"""The files an audit consists of: the current one, the rotated ones beside it, and how to read their ends. Changes
none of them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple, cast

from sidecar.audit.chain import Link, read_link

TAIL_SIZE = 4 * 1024 * 1024
LONGEST_LINE = 1024 * 1024


class Tail(NamedTuple):
    """The end of one file. `links` are its sound lines within the tail, newest first; `sound_size` the bytes up to
    the last of them."""

    links: tuple[Link, ...]
    last_line: bytes
    sound_size: int
    size: int


class _Packed(gzip.GzipFile):
    """Raises OSError alone where it is damaged, as a file does: nobody else need know what it was packed with."""

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, zlib.error) as error:
            raise OSError(f"it is not whole: {error}") from None

    def readline(self, size: int | None = -1) -> bytes:
        try:
            return super().readline(size)
        except (EOFError, zlib.error) as error:
            raise OSError(f"it is not whole: {error}") from None


def open_audit(path: Path) -> IO[bytes]:
    """A file of the audit, unpacked if it was compressed after rotation. It and its reads raise OSError."""
    return cast("IO[bytes]", _Packed(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def rotated_name(path: Path, at: float) -> Path:
    """Where the file whose last record is from `at` (unix seconds) goes: the date (UTC) before the suffix, numbered
    if it is taken."""
    date = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
    number = 0
    while True:
        count = f".{number}" if number else ""
        name = path.with_name(f"{path.stem}.{date}{count}{path.suffix}")
        if not name.exists() and not name.with_name(name.name + ".gz").exists():
            return name
        number += 1


def rotated_files(path: Path) -> list[Path]:
    """The other files of the same audit, by the number of their first record, oldest first; also those another
    program rotated."""
    found: list[tuple[int, Path]] = []
    if not path.parent.is_dir():
        return []
    for other in path.parent.iterdir():
        if other == path or ".torn-" in other.name or not other.is_file():
            continue
        if other.name.startswith((path.name + ".", path.stem + ".", path.name + "-", path.stem + "-")):
            first = _first_link(other)
            if first is not None:
                found.append((first.seq, other))
    return [other for _, other in sorted(found)]


def read_tail(path: Path) -> Tail:
    """The end of a file; raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, size - TAIL_SIZE)
        file.seek(start)
        data = file.read(size - start)
    links: list[Link] = []
    last_line = b""
    sound_size = 0
    stop = data.rfind(b"\n")
    while stop >= 0:
        before = data.rfind(b"\n", 0, stop)
        line = data[before + 1 : stop]
        found = read_link(line)
        if found is not None:
            if not links:
                last_line = line
                sound_size = start + stop + 1
            links.append(found)
        if len(links) >= 4096:
            break
        stop = before
    return Tail(tuple(links), last_line, sound_size, size)


def read_links(path: Path) -> Iterator[Link]:
    """Every sound line of a file, from its beginning; raises OSError."""
    with open_audit(path) as file:
        while line := file.readline(LONGEST_LINE):
            found = read_link(line.rstrip(b"\n"))
            if found is not None:
                yield found


def contains(path: Path, words: set[str]) -> set[str]:
    """Which of the words occur anywhere in the file; raises OSError."""
    wanted = {word.encode("utf-8") for word in words}
    longest = max((len(word) for word in wanted), default=0)
    found: set[bytes] = set()
    kept = b""
    with open_audit(path) as file:
        while wanted and (chunk := file.read(1024 * 1024)):
            chunk = kept + chunk
            here = {word for word in wanted if word in chunk}
            found |= here
            wanted -= here
            kept = chunk[-longest:]
    return {word.decode("utf-8") for word in found}


def _first_link(path: Path) -> Link | None:
    """The first sound line, looked for in the first few only."""
    try:
        with open_audit(path) as file:
            for _ in range(20):
                line = file.readline(LONGEST_LINE)
                found = read_link(line.rstrip(b"\n"))
                if found is not None:
                    return found
    except OSError:
        pass
    return None
