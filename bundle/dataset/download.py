"""One file from the first mirror that has it: resumed where cut, verified, left where slow."""

import hashlib
import queue
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lib.errors import one_line

if TYPE_CHECKING:
    from requests import Response

Say = Callable[[str], object]  # takes a line for the user


@dataclass(frozen=True)
class Limits:
    """When a mirror is given up, and how often progress is told."""

    connect_s: float = 4.5  # four mirrors that do not answer stay under 20 s; also a silent read
    slow_bytes_s: float = 600_000.0  # a mirror below this rate ...
    slow_s: float = 20.0  # ... over so many seconds is left for the next
    reconnects: int = 20  # to one mirror after cut connections
    report_s: float = 10.0  # between two lines where there is no terminal


class TransferError(Exception):
    """Why the file did not come: no mirror works, or none in the time given."""


class _LeftError(Exception):
    """Why a mirror was left, with the bytes per second it gave where it was only slow."""

    def __init__(self, reason: str, rate: float = 0.0) -> None:
        super().__init__(one_line(reason, 200))  # a mirror's own words may stand in it
        self.rate = rate


def md5_of(path: Path) -> str:
    """Return the MD5 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@dataclass
class Transfer:
    """Completes `partial` until it has `size` bytes and the MD5, before `end` (monotonic seconds).

    What came by then stays in it, and the next transfer goes on from there.
    """

    partial: Path
    size: int  # bytes
    md5: str
    limits: Limits
    end: float
    say: Say
    # Why mirrors were left: told when the next one gives something, else by the error, once.
    untold: list[str] = field(default_factory=list)

    def run(self, mirrors: Sequence[str]) -> None:
        """Try the mirrors in order, then the slow ones, fastest first; raises TransferError."""
        if self._is_whole():
            return
        reasons: dict[str, str] = {}  # of the mirrors that were left
        rates: dict[str, float] = {}
        with _progress(self.size, self._length(), self.say, self.limits.report_s) as self.show:
            for floor in (self.limits.slow_bytes_s, 0.0):
                for mirror in mirrors:
                    self._require_time(rates.get(mirror))
                    try:
                        return self._ask_repeatedly(mirror, _Meter(floor, self.limits.slow_s))
                    except _LeftError as error:
                        reasons[mirror], rates[mirror] = f"{_host(mirror)}: {error}", error.rate
                        self.untold.append(reasons[mirror])
                mirrors = sorted(filter(rates.get, rates), key=rates.__getitem__, reverse=True)
        why = "; ".join(reasons.values()) or "none given"
        raise TransferError(f"offline, or no mirror works ({why})")

    def _require_time(self, rate: float | None) -> None:
        """Raise TransferError where the time given is over, or too short at this rate (bytes/s)."""
        needed_s = (self.size - self._length()) / rate if rate else 0.0
        if needed_s < self.end - time.monotonic():
            return
        length = f"{self._length() / 1e6:.1f} of {self.size / 1e6:.1f} MB"
        kept = "(they are kept, `make data` goes on from there)"
        raise TransferError(f"only {length} came in the time given {kept}")

    def _tell(self) -> None:
        for reason in self.untold:
            self.say(reason)
        self.untold.clear()

    def _length(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _is_whole(self) -> bool:
        """Whether the file is complete; one that is long enough but not the same is deleted."""
        length = self._length()
        if length < self.size:
            return False
        if length == self.size and md5_of(self.partial) == self.md5:
            return True
        self.partial.unlink()
        return False

    def _ask_repeatedly(self, mirror: str, meter: "_Meter") -> None:
        """Complete the file from a mirror, reconnecting while that helps; raises _LeftError."""
        pure = self._length() == 0  # whether every byte of the file is this mirror's own
        for _ in range(self.limits.reconnects):
            before, reason = self._length(), "connection cut"
            try:
                self._stream(mirror, before, meter)
            except ConnectionError as error:
                reason = str(error)
            if self._length() >= self.size:
                if self._is_whole():
                    return
                if pure:
                    raise _LeftError("its file has the wrong MD5")
                pure = True
            elif self._length() == before:
                raise _LeftError(reason)
        raise _LeftError("connection cut too often")

    def _stream(self, mirror: str, offset: int, meter: "_Meter") -> None:
        """Write what a request from byte `offset` on brings; if the server ignores it, restart."""
        self._require_time(None)
        timeout_s = min(self.limits.connect_s, max(self.end - time.monotonic(), 0.01))
        with _ask(mirror, offset, timeout_s) as answer:
            if answer.status_code == 416 and offset:  # nothing follows this byte
                self.partial.unlink()
                return
            _check(answer, offset, self.size)
            with self.partial.open("ab" if answer.status_code == 206 else "wb") as file:
                while chunk := _read(answer):
                    self._tell()
                    if file.tell() + len(chunk) > self.size:
                        raise _LeftError("sends more than the archive")
                    file.write(chunk)
                    self.show(file.tell(), _host(mirror))
                    self._require_time(None)
                    meter.add(len(chunk))


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


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _ask(url: str, offset: int, timeout_s: float) -> "Response":
    """Return the server's answer without its body; raises ConnectionError.

    In a thread, since no time-out of a library covers a name server that does not answer.
    """
    import requests  # late: only a download needs it

    headers = {"User-Agent": "bundle.dataset", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={offset}-"} if offset else {}
    # The system's certificates, which may hold a company's own; None: those of requests.
    options: dict[str, Any] = {"verify": ssl.get_default_verify_paths().cafile}
    options |= {"headers": headers, "stream": True, "timeout": timeout_s}
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(requests.get(url, **options))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise ConnectionError(f"no answer within {timeout_s:.0f} s") from None
    if isinstance(answer, Exception):
        raise ConnectionError(_reason(answer)) from answer
    return answer


def _check(answer: "Response", offset: int, size: int) -> None:
    """Leave a mirror whose answer is something else (a login page), before any of it is written."""
    status, headers = answer.status_code, answer.headers
    if status not in (200, 206):
        raise ConnectionError(f"HTTP {status}")
    if status == 206:
        span, _, total = headers.get("Content-Range", "").partition("/")
        if not span.startswith(f"bytes {offset}-") or total not in (str(size), "*"):
            raise _LeftError(f"sends another range ({headers.get('Content-Range')})")
    elif (length := headers.get("Content-Length", str(size))) != str(size):
        raise _LeftError(f"sends {length} bytes, not {size}")


def _read(answer: "Response") -> bytes:
    """Return what has arrived (up to 256 KiB): a slow server is noticed; raises ConnectionError."""
    try:
        return answer.raw.read1(1 << 18)
    except Exception as error:  # the operating system's or one of urllib3's
        raise ConnectionError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """Return the first cause as a line: the system's words, without what libraries wrap around."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]


@contextmanager
def _progress(total: int, start: int, say: Say, every_s: float) -> Iterator[Callable]:
    """Yield `show(bytes done, host)`: a bar on a terminal, else a line every `every_s` seconds."""
    from rich import progress  # late: only a download needs it

    terminal, told_at = sys.stdout.isatty(), time.monotonic()
    with progress.Progress(*_columns(progress), disable=not terminal) as bar:
        bar.add_task("CIFAR-10", total=total, completed=start, host="")
        (task,) = bar.tasks

        def show(done: int, host: str) -> None:
            nonlocal told_at
            bar.update(task.id, completed=done, host=host)
            if terminal or not task.speed or time.monotonic() - told_at < every_s:
                return
            told_at = time.monotonic()
            say(
                f"CIFAR-10: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {task.speed / 1e6:.2f} MB/s, "
                f"{task.time_remaining:.0f} s left ({host})"
            )

        try:
            yield show
        except BaseException:
            bar.live.transient = True  # a bar that leads nowhere does not stay
            raise


def _columns(progress: Any) -> tuple:
    return (
        *progress.Progress.get_default_columns(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[host]}"),
    )
