"""The archive's transfer: mirrors in order, resumed where cut, left where slow; no endless wait."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from bundle.dataset import request
from bundle.dataset.archive import Archive, md5_of


@dataclass(frozen=True)
class Limits:
    """When a mirror is given up, and how often progress is told."""

    connect_s: float = 6.0  # three mirrors that do not answer stay under 20 s; also a silent read
    slow_bytes_s: float = 600_000.0  # a mirror below this rate ...
    slow_s: float = 20.0  # ... over so many seconds is left for the next
    reconnects: int = 20  # to one mirror after cut connections
    report_s: float = 10.0  # between two lines where there is no terminal


LIMITS = Limits()
Say = Callable[[str], object]  # takes a line for the user
Show = Callable[[int, str], None]  # takes the bytes done and the host they come from


class TransferError(Exception):
    """Why the archive did not come: no mirror works, or none in the time given."""


class _LeftError(Exception):
    """Why a mirror was left, with the bytes per second it gave where it was only slow."""

    def __init__(self, reason: str, rate: float = 0.0) -> None:
        super().__init__(reason)
        self.rate = rate


def complete(
    partial: Path, archive: Archive, mirrors: Sequence[str], limits: Limits, end: float, say: Say
) -> None:
    """Complete the partial file from the mirrors, its MD5 right, until `end` (monotonic seconds).

    Raises TransferError; what came by then stays, and the next call goes on from it.
    """
    if _is_whole(partial, archive):
        return
    with _progress(archive.size, _size(partial), say, limits.report_s) as show:
        _Transfer(partial, archive, limits, end, say, show).run(mirrors)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_whole(partial: Path, archive: Archive) -> bool:
    """Say whether the partial is the archive; delete it where it is as long but not the same."""
    if _size(partial) < archive.size:
        return False
    if _size(partial) == archive.size and md5_of(partial) == archive.md5:
        return True
    partial.unlink()
    return False


@dataclass
class _Meter:
    """Raises _LeftError once `window_s` seconds stayed under `floor` bytes per second."""

    floor: float
    window_s: float
    since: float | None = None
    count: int = 0

    def add(self, length: int) -> None:
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        self.count += length
        if now - self.since < self.window_s:
            return
        rate = self.count / (now - self.since)
        self.since, self.count = now, 0
        if rate < self.floor:
            raise _LeftError(f"only {rate / 1e3:.0f} kB/s", rate)


@dataclass
class _Transfer:
    partial: Path
    archive: Archive
    limits: Limits
    end: float
    say: Say
    show: Show
    left: dict[str, _LeftError] = field(default_factory=dict)  # mirror -> why

    def run(self, mirrors: Sequence[str]) -> None:
        """Try the mirrors in order, then those that were only slow, the fastest first."""
        if any(self._completes(mirror, self.limits.slow_bytes_s) for mirror in mirrors):
            return
        rates = {mirror: error.rate for mirror, error in self.left.items() if error.rate}
        for mirror in sorted(rates, key=rates.__getitem__, reverse=True):
            if (self.archive.size - _size(self.partial)) / rates[
                mirror
            ] > self.end - time.monotonic():
                raise self._late()
            if self._completes(mirror, 0.0):
                return
        why = "; ".join(f"{_host(mirror)}: {error}" for mirror, error in self.left.items())
        raise TransferError(f"offline, or no mirror works ({why or 'none given'})")

    def _late(self) -> TransferError:
        got = f"{_size(self.partial) / 1e6:.1f} of {self.archive.size / 1e6:.1f} MB"
        return TransferError(
            f"only {got} came in the time given (they are kept, `make data` goes on from there)"
        )

    def _completes(self, mirror: str, floor: float) -> bool:
        """Say whether the mirror, at `floor` bytes per second at least, completes the partial."""
        try:
            self._ask_repeatedly(mirror, _Meter(floor, self.limits.slow_s))
        except _LeftError as error:
            self.say(f"{_host(mirror)}: {error}")
            self.left[mirror] = error
            return False
        return True

    def _ask_repeatedly(self, mirror: str, meter: _Meter) -> None:
        """Complete the partial from a mirror, reconnecting while that helps; raises _LeftError."""
        pure = _size(self.partial) == 0  # whether every byte of the partial is this mirror's own
        for _ in range(self.limits.reconnects):
            before, reason = _size(self.partial), "connection cut"
            try:
                self._stream(mirror, before, meter)
            except request.CutError as error:
                reason = str(error)
            if _size(self.partial) >= self.archive.size:
                if _is_whole(self.partial, self.archive):
                    return
                if pure:
                    raise _LeftError("its file has the wrong MD5")
                pure = True
            elif _size(self.partial) == before:
                raise _LeftError(reason)
        raise _LeftError("connection cut too often")

    def _stream(self, mirror: str, offset: int, meter: _Meter) -> None:
        """Write what a request from byte `offset` on brings; if the server ignores it, restart."""
        if (left_s := self.end - time.monotonic()) <= 0:
            raise self._late()
        answer = request.ask(mirror, offset, min(self.limits.connect_s, left_s))
        if answer is None:
            self.partial.unlink()
            return
        with closing(answer):
            _check_length(answer, offset, self.archive.size)
            with self.partial.open("ab" if answer.status == 206 else "wb") as file:
                while chunk := request.read(answer):
                    if file.tell() + len(chunk) > self.archive.size:
                        raise _LeftError("sends more than the archive")
                    file.write(chunk)
                    self.show(file.tell(), _host(mirror))
                    if time.monotonic() > self.end:
                        raise self._late()
                    meter.add(len(chunk))


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _check_length(answer: HTTPResponse, offset: int, size: int) -> None:
    """Leave a mirror whose answer is something else (a login page), before any of it is written."""
    if answer.status == 206:
        span, _, total = answer.headers.get("Content-Range", "").partition("/")
        if not span.startswith(f"bytes {offset}-") or total not in (str(size), "*"):
            raise _LeftError(f"sends another range ({answer.headers.get('Content-Range')})")
    elif answer.headers.get("Content-Length", str(size)) != str(size):
        raise _LeftError(f"sends {answer.headers['Content-Length']} bytes, not {size}")


@contextmanager
def _progress(total: int, start: int, say: Say, every_s: float) -> Iterator[Show]:
    """Yield `show(bytes done, host)`: a bar on a terminal, else a line every `every_s` seconds."""
    if not sys.stdout.isatty():
        yield _lines(total, start, say, every_s)
        return
    from rich import progress  # here, since it takes longer to import than the rest of this module

    columns = (
        progress.TextColumn("CIFAR-10"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[host]}"),
    )
    with progress.Progress(*columns) as bar:
        task = bar.add_task("", total=total, completed=start, host="")
        yield lambda done, host: bar.update(task, completed=done, host=host)


def _lines(total: int, start: int, say: Say, every_s: float) -> Show:
    told_at, told = time.monotonic(), start

    def show(done: int, host: str) -> None:
        nonlocal told_at, told
        elapsed = time.monotonic() - told_at
        if elapsed < every_s:
            return
        rate = max(done - told, 1) / elapsed
        say(
            f"CIFAR-10: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {rate / 1e6:.2f} MB/s, "
            f"{(total - done) / rate:.0f} s left ({host})"
        )
        told_at, told = time.monotonic(), done

    return show
