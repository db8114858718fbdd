"""Files that are whole at every moment, and held against their digests when they are read back.

They are written atomically, or exchanged as whole folders. What is read back later is sealed: its
SHA-256 stands in the file SHA256SUMS of its folder (`sha256sum -c` reads it), written as the last
step. Files that nobody sealed, of older versions or a user's own, are taken as they are.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bundle import paths
from lib.errors import UserError

SUMS = "SHA256SUMS"
SETTLE_SECONDS = 0.1


class Damaged(UserError):
    """A file is not as it was written; the message is a line that names it and the remedy."""


class Busy(UserError):
    """Another command is at work in a folder; the message is the line to show."""


def exchange(fresh: Path, target: Path) -> None:
    """Move the folder `fresh` to `target`; what is there goes only when the new one is in place."""
    old = fresh.with_name(f"{fresh.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def staged(stage: Path, target: Path) -> Iterator[None]:
    """Let `stage` be filled, seal it and move it to `target`; an error leaves that as it was."""
    shutil.rmtree(stage, ignore_errors=True)
    try:
        yield
        seal_folder(stage)
        exchange(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that always, also after a power cut, the old or the new one is whole."""
    # Of this process alone: two that finish at a time both write the index over all runs.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.writing")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:  # on a full disk what is left of it would take the last room
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; UserError for a number that is not finite."""
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except ValueError as error:
        what = "a number in it is not finite, which JSON cannot hold"
        raise UserError(f"{paths.shown(path)}: {what} ({error}); nothing was written") from error
    write_atomically(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, {} where there is no file; Damaged if it is damaged."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(read_sealed(path))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{paths.shown(path)}: damaged ({error}); delete it and run again") from error
    if not isinstance(value, dict):
        raise Damaged(f"{paths.shown(path)}: damaged (it holds no object); delete it and run again")
    return value


def read_intact(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, {} where there is none or it is damaged: for a hint."""
    try:
        return read_json(path)
    except Damaged:
        return {}


# Seals


def sums(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of the sealed files below a folder, {} without a sound manifest."""
    return _listed(folder) or {}


def _listed(folder: Path) -> dict[str, str] | None:
    """Return what a manifest lists, {} where there is none, None where it is damaged."""
    if not (folder / SUMS).is_file():
        return {}
    *lines, last = (folder / SUMS).read_text("utf-8", errors="replace").splitlines() or [""]
    if last != _last_line(lines):
        return None
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _last_line(lines: list[str]) -> str:
    """Return the comment that ends a manifest: what is cut off or changed in it is seen."""
    return f"# {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()} of the lines above"


def seal(folder: Path, *names: str, void: str = "") -> None:
    """Record the digests of files below `folder`, once they are written; drop those of files gone.

    And of `void`, which is about to be replaced. Where the manifest was damaged it begins anew.
    """
    listed = sums(folder).items()
    known = {name: old for name, old in listed if name != void and (folder / name).is_file()}
    written = [name for name in names if (folder / name).is_file()]
    known |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in written}
    lines = [f"{digest}  {name}" for name, digest in sorted(known.items())]
    text = "\n".join([*lines, _last_line(lines)]) + "\n"
    if not (folder / SUMS).is_file() or (folder / SUMS).read_bytes() != text.encode():
        write_atomically(folder / SUMS, text.encode())


def write_sealed(path: Path, data: bytes) -> None:
    """Write a file atomically, then seal it in its folder."""
    write_atomically(path, data)
    seal(path.parent, path.name)


def digest_of(path: Path) -> str:
    """Return the SHA-256 that was recorded for a file, "" where none was."""
    # In its folder or in one of the two above: metrics/NN.json stands in that of the run.
    for folder in [*path.parents][:3]:
        if digest := sums(folder).get(path.relative_to(folder).as_posix()):
            return digest
    return ""


def read_sealed(path: Path) -> bytes:
    """Return what is in a file; Damaged where it is not what was sealed."""
    for wait_s in (SETTLE_SECONDS, 0):
        content, digest = path.read_bytes(), digest_of(path)
        if digest in ("", hashlib.sha256(content).hexdigest()):
            return content
        time.sleep(wait_s)  # another process may be between writing a file and sealing it
    raise Damaged(f"{paths.shown(path)}: not as it was written; {remedy(path)}")


def intact(path: Path) -> bool:
    """Whether a file is as it was written, as far as that is known; one that is not there is."""
    try:
        return not path.is_file() or read_sealed(path) is not None
    except Damaged:
        return False


def is_sealed(path: Path) -> bool:
    """Whether a file is there and as its seal says."""
    return path.is_file() and bool(digest_of(path)) and intact(path)


def damaged(folder: Path) -> list[Path]:
    """Return the files that are not as a folder's manifest has them, or the manifest itself."""
    if (listed := _listed(folder)) is None:
        return [folder / SUMS]
    return [folder / name for name in listed if not intact(folder / name)]


def seal_folder(folder: Path) -> Path:
    """Seal every file below a folder, as it is now; return the manifest."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    (folder / SUMS).unlink(missing_ok=True)
    seal(folder, *(path.as_posix() for path in found if path.name != SUMS))
    return folder / SUMS


def check_folder(folder: Path) -> None:
    """Raise Damaged for the first file of a folder that is not as it was sealed."""
    for path in damaged(folder):
        raise Damaged(f"{paths.shown(path)}: not as it was written; {remedy(path)}")


def remedy(path: Path) -> str:
    """Return what mends a damaged file: for the line that names it."""
    inside = path.is_relative_to(paths.RESULTS)
    top, *rest = path.relative_to(paths.RESULTS).parts if inside else ("", path.name)
    if top == "released":
        return "restore it with git, or release it again"
    if top == "studies" and rest:
        tiny = " TINY=1" if rest[0].endswith("-tiny") else ""
        return f"make study PLAN={rest[0].removesuffix('-tiny')}{tiny} writes it again"
    if rest and rest[-1].startswith("study."):
        return "make study does this job again"
    return f"{run_again(top)} mends it"


def run_again(name: str) -> str:
    """Return the call that goes on with the run of a folder below results/."""
    run, _, seed = name.partition("-seed")
    if any(paths.PARAMS.rglob(f"{run}.yaml")) and re.fullmatch(r"\d*", seed):
        return f"make run-all RUN={run}{f' SEED={seed}' if seed else ''}"
    return "make run-all with the RUN and SET of this run"


class Failed(Exception):
    """Something failed; the message is the line to show. Exit code 1, bad input and busy: 2."""


@contextmanager
def held(
    path: Path, wait_s: float, busy: Exception, waiting: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Hold the lock file `path`; the system gives it back however this process ends.

    Where another process has it, calls `waiting`, and raises `busy` after `wait_s` seconds.
    """
    from filelock import FileLock, Timeout  # late: most commands lock nothing

    # No soft lock where a file system has no locks: a killed process would leave it behind.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            holder = lock.acquire(timeout=0)
        except Timeout:
            waiting()
            holder = lock.acquire(timeout=max(wait_s, 0))
    except Timeout:
        raise busy from None
    with holder:
        yield


def clear(folder: Path, kept: Collection[str]) -> None:
    """Delete what lies in a folder, except `kept`, and say it; Busy where a command is at work."""
    inside = [path for path in sorted(folder.glob("*")) if path.name not in kept]
    with ExitStack() as locks:
        for lock in (lock for path in inside if path.is_dir() for lock in path.rglob(".lock")):
            locks.enter_context(locked(lock.parent, lock.parent.relative_to(folder).as_posix()))
        for path in inside:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            print(f"removed {paths.shown(path)}")


def locked(folder: Path, name: str, wait_s: float = 0.0) -> AbstractContextManager[None]:
    """Hold a run's lock; Busy where another process still has it after `wait_s` seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another command is working on results/{name}; wait for it or stop it"
    return held(folder / ".lock", wait_s, Busy(busy))
